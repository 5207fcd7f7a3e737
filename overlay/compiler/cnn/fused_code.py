# SPDX-License-Identifier: Apache-2.0
"""The instructions of a convolution fused with the depthwise one behind it: its results go to exp_ram alone.

Piece by piece: the cores' steps, VEC's results in exp_ram, then DW. While DW works on a piece, cores and VEC are at the
next one, as far as exp_ram holds it beside the lines that DW still reads.
"""

from collections.abc import Iterator

import numpy as np

from hetfab.overlay.compiler.cnn.chip import Chip
from hetfab.overlay.compiler.cnn.conv import Conv
from hetfab.overlay.compiler.cnn.conv_code import ConvCode, Pixels, Step
from hetfab.overlay.compiler.cnn.depthwise_code import DepthPart, DepthwiseWindows
from hetfab.overlay.compiler.cnn.fusing import Band, FusedPlan, Share, band_tiles, bands, job_of
from hetfab.overlay.compiler.cnn.planning import Chunk
from hetfab.overlay.compiler.cnn.vector import limited


class ExpandCode(ConvCode):
    """Emits one core's part of the convolution, whose results VEC puts into exp_ram.

    Args:
        chip: Stream, buffers and constants.
        conv: The layer.
        plan: How it runs.
        share: What the core computes of a piece.
        found: The bands.
    """

    def __init__(self, chip: Chip, conv: Conv, plan: FusedPlan, share: Share, found: list[Band]) -> None:
        super().__init__(chip, conv, job_of(plan, share, conv, found), alone=len(plan.shares) == 1)
        self._plan = plan
        self._share = share

    @property
    def waits_for_all(self) -> bool:
        """Nothing is pooled between its steps."""
        return True

    def piece(self, band: Band, part: DepthPart, exp: int) -> Iterator[float]:
        """Emits a piece's steps; yields, before each and at the end, the cycles of the core until then.

        Args:
            band: Output lines.
            part: The words of a pixel in the piece.
            exp: First word of the piece in exp_ram.
        """
        cycles = 0.0
        first = (part.first + self._share.first) * 64 // self._conv.target.item_bits
        for chunk in (chunk for chunk in self._job.chunks if chunk.first == first):
            for tile in band_tiles(self._plan, self._share, self._conv, band):
                yield cycles
                step = Step(tile, chunk)
                places = self._load(step, 0)
                acc = self._accumulators(step)
                self._multiply(step, 0, (*places, acc))
                self._requantize(step, acc, (band, part, exp))
                cycles += self._cycles(step)
        yield cycles

    def _requantize(self, step: Step, acc: int, place: tuple[Band, DepthPart, int]) -> None:
        """Puts a tile's results into exp_ram, with zeros behind the last channels."""
        band, part, exp = place
        conv, (tile, chunk) = self._conv, (step.tile, step.chunk)
        first = chunk.first * conv.target.item_bits // 64
        self._chip.configure_pixels(
            conv.index,
            banks=tile.banks - 1,
            packed=int(conv.target.packed),
            signed=int(conv.target.signed),
            res_line_words=0,
            res_pixel_words=0,
            exp_line_words=conv.target.columns * part.words,
            exp_pixel_words=part.words,
        )
        pixel = (tile.segments[0].row - band.lines.start) * conv.target.columns + tile.segments[0].column
        self._chip.emit(
            conv.index,
            "requantize",
            core=int(self._core.on_l),
            acc=acc,
            out=exp + pixel * part.words + first - part.first,
            par=self._load_parameters(chunk),
            rows=tile.pixels,
            groups=-(-(chunk.last - chunk.first) // self._chip.geometry.lanes),
            row_words=self._words(chunk, part),
            shift=conv.shift,
            to_exp=1,
            **limited(conv.finish, conv.target),
        )

    def _words(self, chunk: Chunk, part: DepthPart) -> int:
        """Words of a pixel's part; behind the last channels to the end of the piece."""
        if chunk.last == self._conv.outputs:
            return part.first + part.words - chunk.first * self._conv.target.item_bits // 64
        return (chunk.last - chunk.first) * self._conv.target.item_bits // 64


class FusedCode:
    """Emits both convolutions.

    Args:
        chip: Stream, buffers and constants.
        conv: The first one.
        windows: The second one.
        plan: How they run.
    """

    def __init__(self, chip: Chip, conv: Conv, windows: DepthwiseWindows, plan: FusedPlan) -> None:
        self._chip = chip
        self._windows = windows
        self._plan = plan
        self._bands = bands(plan, windows, chip.geometry)
        self._parts = windows.parts(plan.words)
        self.codes = tuple(ExpandCode(chip, conv, plan, share, self._bands) for share in plan.shares)

    @property
    def target(self) -> str:
        """Name of the tensor that it writes."""
        return self._windows.target.name

    @property
    def band_pieces(self) -> int:
        """Pieces of a band."""
        return len(self._parts)

    def complete(self, bands: int) -> Pixels:
        """Output pixels of the first bands, bool [rows, columns]."""
        target = self._windows.target
        found = np.zeros((target.rows, target.columns), np.bool_)
        for band in self._bands[:bands]:
            for tile in band.windows:
                found[tile.written] = True
        return found

    @property
    def pieces(self) -> list[tuple[Band, DepthPart]]:
        """All pieces in their order."""
        return [(band, part) for band in self._bands for part in self._parts]

    def emit(self, band: Band, part: DepthPart) -> None:
        """Emits a piece."""
        columns = self._windows.source.columns
        lines = band.lines.stop - band.lines.start
        exp = self._chip.buffers["exp_ram"].take(lines * columns * part.words)
        running = [(code.piece(band, part, exp), number) for number, code in enumerate(self.codes)]
        times = [(next(steps), number, steps) for steps, number in running]
        while times:
            _, number, steps = times.pop(times.index(min(times, key=lambda one: one[:2])))
            time = next(steps, None)
            if time is not None:
                times.append((time, number, steps))
        for tile in band.windows:
            pixel = (tile.reads.start - band.lines.start) * columns + tile.pixels.start
            self._windows.emit(tile, part, exp + pixel * part.words, columns)
