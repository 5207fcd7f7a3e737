# SPDX-License-Identifier: Apache-2.0
"""Chooses how a convolution runs together with the depthwise convolution behind it, its results in exp_ram alone.

The image goes through in bands of output lines, each in pieces of the channels: both cores compute a piece's lines, VEC
puts them into exp_ram, DW makes windows of them. Lines that two bands read are computed twice. Modelled.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from hetfab.overlay.compiler.cnn.chip import depth
from hetfab.overlay.compiler.cnn.conv import Conv
from hetfab.overlay.compiler.cnn.cores import Core, cores_of
from hetfab.overlay.compiler.cnn.depthwise_code import DepthTile, DepthwiseWindows, part_words, runs_on_dw, word_unit
from hetfab.overlay.compiler.cnn.planning import Chunk, Job
from hetfab.overlay.compiler.cnn.strip_lines import Piece, exceeded_field, gathered_beats, line_beats
from hetfab.overlay.compiler.cnn.strips import Segment, Tile
from hetfab.overlay.design import Geometry
from hetfab.overlay.isa.spec import isa
from hetfab.overlay.model.cnn.integer import Ending, IntegerCnn, Product
from hetfab.overlay.model.cnn.interpreter import reads

_BEAT = 8
_WORD_BITS = 8 * _BEAT
_TAPS = isa().size("window_taps")
_LARGEST_ROWS = isa().operation("requantize").field("rows").largest
_DEPTHWISE = isa().operation("depthwise")
_LARGEST_PIXELS = isa().operation("store_middle").field("pixel_stride").largest
#: Cycles of an instruction beside its trips.
_INSTRUCTION = 60
#: Of the cycles of what waits for the other where exp_ram holds one piece only, the share that nothing hides.
_ONE_PLACE = 0.3
#: Instructions of DW for a piece, so that its first lines are stored while the others are made.
_WINDOWS = 2
#: Share of the cycles of what is not the slowest that delays all the same.
_OTHERS = 0.1


@dataclass(frozen=True)
class Share:
    """What a core computes of each piece.

    Attributes:
        core: The core.
        first: First of its words of a pixel.
        last: The word behind its last one.
        turn: Of the strips of these channels, it has the one with this number ...
        turns: ... and every so many behind it.
    """

    core: Core
    first: int
    last: int
    turn: int = 0
    turns: int = 1


@dataclass(frozen=True)
class Band:
    """Output lines of the depthwise convolution, and the lines that they read."""

    windows: tuple[DepthTile, ...]
    lines: slice


@dataclass(frozen=True)
class FusedPlan:
    """How both convolutions run.

    Attributes:
        rows: Output lines of a band.
        words: Of a pixel in a piece.
        shares: What each core computes of a piece.
        height: Lines of a tile: one above the other, each the strip of a bank.
        strip: Pixels of a strip.
        cycles: Of all, modelled.
    """

    rows: int
    words: int
    shares: tuple[Share, ...]
    height: int
    strip: int
    cycles: float


def fused_pairs(model: IntegerCnn, geometry: Geometry) -> Iterator[int]:
    """Convolutions whose results only the depthwise one behind them reads, by their number in the network."""
    readers = [read.name for layer in model.layers for read in reads(layer)]
    for index, (layer, following) in enumerate(zip(model.layers, model.layers[1:], strict=False)):
        if (
            isinstance(layer, Product)
            and not runs_on_dw(layer, geometry)
            and layer.finish.ending is Ending.REQUANTIZE
            and layer.residual is None
            and isinstance(following, Product)
            and runs_on_dw(following, geometry)
            and following.input is layer.output
            and readers.count(layer.output.name) == 1
        ):
            yield index


def plan_fused(conv: Conv, windows: DepthwiseWindows, geometry: Geometry) -> FusedPlan | None:
    """The fastest plan of a convolution and the depthwise one behind it, None where memories hold none."""
    planner = _Planner(conv, windows, geometry)
    return min(planner.plans(), key=lambda plan: plan.cycles, default=None)


def bands(plan: FusedPlan, windows: DepthwiseWindows, geometry: Geometry) -> list[Band]:
    """The bands of a plan, from the first line to the last."""
    target, found = windows.target, []
    out_words = plan.words * target.item_bits // windows.source.item_bits
    for first in range(0, target.rows, plan.rows):
        rows = min(plan.rows, target.rows - first)
        step = _window_rows(rows, target.columns * out_words, depth(geometry, "mid_ram"))
        tiles = tuple(
            windows.tile(row, min(step, first + rows - row), 0, target.columns)
            for row in range(first, first + rows, step)
        )
        found.append(Band(tiles, slice(tiles[0].reads.start, tiles[-1].reads.stop)))
    return found


def job_of(plan: FusedPlan, share: Share, conv: Conv, found: list[Band]) -> Job:
    """What a core does, as the job of a convolution: a range of channels for each piece, the tiles of all bands."""
    channels, pixel = _WORD_BITS // conv.target.item_bits, conv.target.pixel_beats
    chunks = []
    for first in range(0, pixel, plan.words):
        last = min(first + share.last, pixel)
        chunk = Chunk((first + share.first) * channels, min(last * channels, conv.outputs))
        if chunk.first < chunk.last:
            chunks.append(chunk)
    tiles = tuple(tile for band in found for tile in band_tiles(plan, share, conv, band))
    window = Piece((0, conv.lines), (0, conv.taps))
    return Job(share.core, tuple(chunks), tiles, (window,), conv.lines, len(chunks), 1, 0.0, 0.0, 0.0)


def band_tiles(plan: FusedPlan, share: Share, conv: Conv, band: Band) -> list[Tile]:
    """Tiles of a core in a band."""
    columns = conv.target.columns
    tiles = [
        Tile(min(plan.strip, columns - column), (Segment(0, min(plan.height, band.lines.stop - row), row, column),))
        for row in range(band.lines.start, band.lines.stop, plan.height)
        for column in range(0, columns, plan.strip)
    ]
    return tiles[share.turn :: share.turns]


def _even(count: int, most: int) -> int:
    """The size of as few parts as possible that differ little."""
    return -(-count // -(-count // most))


def _window_rows(rows: int, row_words: int, mid_words: int) -> int:
    """Output lines of an instruction of DW: mid_ram holds the results of two."""
    most = min(mid_words // (2 * row_words), _DEPTHWISE.field("lines").largest)
    return _even(rows, min(max(most, 1), max(1, -(-rows // _WINDOWS))))


class _Planner:
    """Enumerates and weighs the plans of one pair."""

    def __init__(self, conv: Conv, windows: DepthwiseWindows, geometry: Geometry) -> None:
        self.conv = conv
        self.windows = windows
        self.geometry = geometry
        self.cores = [core for core in cores_of(geometry) if core.serves(conv)]

    def plans(self) -> Iterator[FusedPlan]:
        """All plans that memories hold."""
        source, target = self.windows.source, self.windows.target
        unit = word_unit(source, target)
        most = part_words(source, target, self.geometry)
        sizes = {_even(source.pixel_beats // unit, size) * unit for size in range(1, source.pixel_beats // unit + 1)}
        rows = {-(-target.rows // parts) for parts in range(1, target.rows + 1)}
        for words in sorted(size for size in sizes if size <= most):
            for shares in self.shares(words):
                for count in sorted(rows):
                    plan = self.weighed(count, words, shares)
                    if plan is not None:
                        yield plan

    def shares(self, words: int) -> Iterator[tuple[Share, ...]]:
        """Ways to give the words of a piece to the cores."""
        for core in self.cores:
            yield (Share(core, 0, words),)
        if len(self.cores) == 2:
            on_d, on_l = self.cores
            for middle in range(1, words):
                yield Share(on_d, 0, middle), Share(on_l, middle, words)
            yield Share(on_d, 0, words, 0, 2), Share(on_l, 0, words, 1, 2)

    def weighed(self, rows: int, words: int, shares: tuple[Share, ...]) -> FusedPlan | None:
        """A plan and what it takes, None where a memory cannot hold it."""
        source, target = self.windows.source, self.windows.target
        stride = self.windows.window.strides[0]
        lines = min((rows - 1) * stride + _TAPS, source.rows)
        exp, region = depth(self.geometry, "exp_ram"), lines * source.columns * words
        height = _even(lines, min(share.core.strips(self.conv) for share in shares))
        strips = [self.strip(share, height) for share in shares]
        if region > exp or not all(strips) or not self.holds(words, shares):
            return None
        strip = _even(source.columns, min(strips))
        count = math.ceil(target.rows / rows)
        all_lines = source.rows + (count - 1) * max(_TAPS - stride, 0)
        pieces = math.ceil(source.pixel_beats / words)
        vec = self.vec_cycles(all_lines, words, shares, height * strip)
        dw = self.dw_cycles(rows, words, count)
        cores = max(self.core_cycles(share, all_lines, height, strip) for share in shares)
        load, store = self.dram_cycles(shares, (all_lines, lines, height, strip), pieces, count)
        hidden = min(vec, dw) * _ONE_PLACE if 2 * region > exp else 0.0
        first = (vec + dw / _WINDOWS) / count
        together = [pieces * vec, pieces * dw, pieces * cores, load, load + store]
        # What is behind reads the last band when DW is done.
        last = store / count
        cycles = max(together) + _OTHERS * sum(together) + pieces * hidden + first + last
        return FusedPlan(rows, words, shares, height, strip, cycles)

    def holds(self, words: int, shares: tuple[Share, ...]) -> bool:
        """Whether fields and mid_ram hold a line of a piece, and each piece and share has channels."""
        source, target = self.windows.source, self.windows.target
        out_row = target.columns * words * target.item_bits // source.item_bits
        # Channels that only pad a pixel are nobody's: a last piece of them alone, or a first share.
        emptiest = max((math.ceil(source.pixel_beats / words) - 1) * words, *(share.first for share in shares))
        return (
            out_row <= min(_LARGEST_PIXELS, depth(self.geometry, "mid_ram"))
            and source.columns <= _DEPTHWISE.field("columns").largest
            and emptiest * _WORD_BITS // source.item_bits < self.conv.outputs
        )

    def strip(self, share: Share, banks: int) -> int:
        """Pixels of the widest strip that a core's memories hold, 0 for none."""
        conv, core, geometry = self.conv, share.core, self.geometry
        groups = self.groups(share)
        window, beats = Piece((0, conv.lines), (0, conv.taps)), core.run_beats(conv, conv.taps)
        planes = int(conv.weight_bits.max())
        operation = isa().operation("matmul_planes_lines" if core.on_l else "matmul_lines")
        weights = groups * conv.lines * core.weight_words(conv, beats, planes)
        if (
            weights > depth(geometry, f"wgt_{core.letter}_ram")
            or core.run(conv, beats) > operation.field("run").largest
            or conv.lines > operation.field("lines").largest
        ):
            return 0
        pixels = min(_LARGEST_ROWS, depth(geometry, f"acc_{core.letter}_ram") // (2 * groups))
        width = min(pixels // banks, conv.target.columns, operation.field("columns").largest)
        act = depth(geometry, f"act_{core.letter}_ram")
        while width and (
            2 * conv.lines * line_beats(core, conv, window, width) // core.line_unit > act
            or gathered_beats(core, conv, width) > geometry.gather_beats
            or exceeded_field(core, conv, window, width) is not None
        ):
            width -= 1
        return width

    def groups(self, share: Share) -> int:
        """Groups of a core's columns in its channels of a piece."""
        return -(-(share.last - share.first) * _WORD_BITS // self.conv.target.item_bits // share.core.columns)

    def vec_cycles(self, lines: int, words: int, shares: tuple[Share, ...], tile: int) -> float:
        """Of VEC for a piece of all bands."""
        source = self.windows.source
        groups = words * _WORD_BITS // source.item_bits // self.geometry.lanes
        tiles = sum(lines * source.columns / (tile * share.turns) for share in shares)
        return lines * source.columns * groups + tiles * _INSTRUCTION

    def dw_cycles(self, rows: int, words: int, count: int) -> float:
        """Of DW for a piece of all bands."""
        source, target = self.windows.source, self.windows.target
        out_row = target.columns * words * target.item_bits // source.item_bits
        steps = math.ceil(rows / _window_rows(rows, out_row, depth(self.geometry, "mid_ram"))) * count
        _, left, _, right = self.windows.window.pads
        slices = 1 if source.packed else 2
        trips = target.rows * (source.columns + left + right) * _TAPS * slices
        parameters = _TAPS * _TAPS + _WORD_BITS // source.item_bits + 2
        return words * (trips + steps * parameters) + steps * _INSTRUCTION

    def core_cycles(self, share: Share, all_lines: int, banks: int, strip: int) -> float:
        """Of a core for a piece of all bands."""
        conv, core = self.conv, share.core
        beats = conv.lines * core.run_beats(conv, conv.taps)
        trips = max(core.steps(conv, beats, int(conv.weight_bits.max())), banks)
        blocks = all_lines / banks * conv.target.columns / share.turns
        return blocks * self.groups(share) * trips + blocks / strip * _INSTRUCTION

    def dram_cycles(
        self, shares: tuple[Share, ...], sizes: tuple[int, int, int, int], pieces: int, count: int
    ) -> tuple[float, float]:
        """Of LOAD for input and weights, and of the results' beats.

        Args:
            shares: What each core computes.
            sizes: Lines of all bands, of one, of a strip, pixels of a strip's line.
            pieces: Of a band.
            count: Bands.
        """
        conv, target, (all_lines, lines, banks, strip) = self.conv, self.windows.target, sizes
        window, load = Piece((0, conv.lines), (0, conv.taps)), 0.0
        for share in shares:
            core = share.core
            beats = conv.lines * core.run_beats(conv, conv.taps)
            words = self.groups(share) * core.weight_words(conv, beats, int(conv.weight_bits.max())) * pieces
            held = words <= depth(self.geometry, f"wgt_{core.letter}_ram")
            load += words * core.columns * 4 / _BEAT * (1 if held else count)
            strips = conv.target.columns / strip / share.turns
            line = strips * line_beats(core, conv, window, strip)
            held = math.ceil(lines / banks) * conv.lines * line / core.line_unit <= depth(
                self.geometry, f"act_{core.letter}_ram"
            )
            tile_lines = (banks - 1) * conv.strides[0] + conv.lines
            load += all_lines / banks * (tile_lines * line + strips * _INSTRUCTION) * (1 if held else pieces)
        return load, float(target.rows * target.columns * target.pixel_beats)
