# SPDX-License-Identifier: Apache-2.0
"""What follows a core's products: the residual, VEC's rounding, and the store of finished pixels."""

from collections.abc import Hashable

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
        alone: Whether the other core does nothing of it.
    """

    def __init__(self, chip: Chip, conv: Conv, job: Job, *, alone: bool) -> None:
        self._chip = chip
        self._conv = conv
        self._core = job.core
        # Pixels whose channels are added one part after another are brought once, where no other tiles come between.
        self._whole_pixels = alone and len(job.chunks) > 1

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
        whole = tile.pixels * residual.pixel_beats
        if self._whole_pixels and whole <= self._chip.buffers["res_ram"].words:
            ram = self._load_residual(tile, 0, residual.pixel_beats, key=(conv.index, tile))
            beats, ram = residual.pixel_beats, ram + beat
        else:
            ram = self._load_residual(tile, beat, beats, key=None)
        self._chip.configure_pixels(
            conv.index,
            banks=tile.banks - 1,
            packed=int(residual.packed),
            signed=int(residual.signed),
            res_line_words=tile.columns * beats,
            res_pixel_words=beats,
        )
        return {"res": ram}

    def _load_residual(self, tile: Tile, beat: int, beats: int, *, key: Hashable) -> int:
        """Brings a part of each pixel of a tile, unless it is there; the first word."""
        conv, residual, buffer = self._conv, self._conv.residual, self._chip.buffers["res_ram"]
        assert residual is not None
        found = None if key is None else buffer.find(key)
        if found is not None:
            return found
        line_words, joined = tile.columns * beats, beats == residual.pixel_beats
        ram = buffer.take(tile.banks * line_words, key)
        for segment in tile.segments:
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
        return ram

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
