# SPDX-License-Identifier: Apache-2.0
"""What follows a core's products: the residual, VEC's rounding, and the store of finished pixels."""

from hetfab.overlay.compiler.cnn.chip import Chip
from hetfab.overlay.compiler.cnn.conv import Conv
from hetfab.overlay.compiler.cnn.feature_maps import FeatureMap
from hetfab.overlay.compiler.cnn.planning import Chunk, Job
from hetfab.overlay.compiler.cnn.strips import Tile
from hetfab.overlay.model.cnn.integer import Ending, Finish

#: VEC shifts every sum in Q.8 to the left by this much before it shifts right.
_POST_LEFT = 15


class Finishing:
    """Finishes tiles of one core's part of a convolution.

    Args:
        chip: Stream and buffers.
        conv: The layer.
        job: What the core does of it.
    """

    def __init__(self, chip: Chip, conv: Conv, job: Job) -> None:
        self._chip = chip
        self._conv = conv
        self._core = job.core

    def finish(self, tile: Tile, chunk: Chunk, acc: int, par: int) -> None:
        """Rounds a tile's sums of some output channels and stores them.

        Args:
            tile: The tile.
            chunk: The channels.
            acc: First word of the sums.
            par: First word of the parameters.
        """
        conv, lanes = self._conv, self._chip.geometry.lanes
        words = self._words(chunk)
        out = self._chip.buffers["out_ram"].take(tile.pixels * words)
        fields = {
            "core": int(self._core.on_l),
            "acc": acc,
            "out": out,
            "par": par,
            "rows": tile.pixels,
            "groups": -(-(chunk.last - chunk.first) // lanes),
            "row_words": words,
        }
        if conv.finish.ending is not Ending.EXPORT_ACCUMULATORS:
            fields["shift"] = conv.shift
        if conv.residual is not None:
            fields |= self._residual(tile, chunk) | ended(conv.finish, conv.target)
            self._chip.emit(conv.index, "join", **fields)
        elif conv.finish.ending is Ending.EXPORT_ACCUMULATORS:
            self._chip.emit(conv.index, "export_accumulators", **fields)
        else:
            fields |= limited(conv.finish, conv.target)
            self._chip.emit(conv.index, "requantize", **fields)
        self._store(tile, chunk, out, words)

    def _words(self, chunk: Chunk) -> int:
        """Words of a pixel's part; the last channels' part reaches to the end of the pixel."""
        target = self._conv.target
        if chunk.last == self._conv.outputs:
            return target.pixel_beats - chunk.first * target.item_bits // 64
        return (chunk.last - chunk.first) * target.item_bits // 64

    def _residual(self, tile: Tile, chunk: Chunk) -> dict[str, int]:
        """Brings the stored pixels that are added; their place."""
        conv, residual = self._conv, self._conv.residual
        assert residual is not None
        beat = chunk.first * residual.item_bits // 64
        beats = -(-(chunk.last - chunk.first) * residual.item_bits // 64)
        line_words = tile.columns * beats
        ram = self._chip.buffers["res_ram"].take(tile.banks * line_words)
        for segment in tile.segments:
            joined = beats == residual.pixel_beats
            self._chip.emit(
                conv.index,
                "load_residual",
                ram=ram + segment.bank * line_words,
                rows=segment.banks,
                columns=0 if joined else tile.columns - 1,
                run_stride=residual.pixel_beats,
                run_beats=line_words if joined else beats,
                stride_blocks=residual.row_blocks,
                address=residual.address(segment.row, segment.column, beat),
            )
        self._chip.configure_pixels(
            conv.index,
            banks=tile.banks - 1,
            packed=int(residual.packed),
            signed=int(residual.signed),
            res_line_words=line_words,
            res_pixel_words=beats,
        )
        return {"res": ram}

    def _store(self, tile: Tile, chunk: Chunk, out: int, words: int) -> None:
        conv, target = self._conv, self._conv.target
        for segment in tile.segments:
            self._chip.store(
                conv.index,
                target,
                ram=out + segment.bank * words,
                ram_banks=tile.banks,
                lines=segment.banks,
                columns=tile.columns,
                beats=words,
                place=(segment.row, segment.column, chunk.first * target.item_bits // 64),
            )


def limited(finish: Finish, target: FeatureMap) -> dict[str, int]:
    """Fields of the range of results and of their form."""
    signed = target.signed and not finish.rectified
    return {"signed": int(signed), "packed": int(target.packed), "highest": finish.highest}


def ended(finish: Finish, target: FeatureMap) -> dict[str, int]:
    """Fields of the end of a sum in Q.8: its rounding, or that it leaves as it is."""
    if finish.ending is Ending.EXPORT_SUMS:
        return {"wide": 1}
    return limited(finish, target) | {"post_shift": _POST_LEFT - finish.post_left + finish.post_shift}
