# SPDX-License-Identifier: Apache-2.0
"""Chooses how a convolution runs: which core computes which channels or lines, strips, and what stays on chip.

The estimate takes the slowest of what works at the same time: both cores, LOAD and DRAM, VEC. Modelled.
"""

import functools
import math
from collections.abc import Iterator
from dataclasses import dataclass

from hetfab.overlay.compiler.cnn.chip import depth
from hetfab.overlay.compiler.cnn.conv import Conv
from hetfab.overlay.compiler.cnn.cores import Core, cores_of
from hetfab.overlay.compiler.cnn.feature_maps import PIXEL_CHANNELS
from hetfab.overlay.compiler.cnn.strips import Census, Tile, census
from hetfab.overlay.design import Geometry
from hetfab.overlay.errors import DesignTooSmallError, OverflowPossibleError
from hetfab.overlay.isa.spec import isa

_BEAT = 8
#: Bytes of DRAM a cycle that the estimate reckons with.
_DRAM_RATE = 8.0
#: Cycles of an instruction beside its trips: filling a pipeline, queues, the latency of a first beat.
_INSTRUCTION = 30

_OTHERS = 0.04
#: Of weights that both cores bring, the share that nothing hides: they come where a layer begins.
_NOT_HIDDEN = 1.0
#: Shares of a layer that are tried beside the one that balances the cores.
_SHARES_TRIED = 4
_LARGEST_ROWS = isa().operation("requantize").field("rows").largest
_LARGEST_BEATS = isa().operation("store_runs").field("row_beats").largest
_LARGEST_PADDING = isa().operation("load_lines").field("left").largest
_LARGEST_LINES = isa().operation("matmul_lines").field("lines").largest


@dataclass(frozen=True)
class Piece:
    """A part of a window whose weights and activations fit: lines and taps."""

    lines: tuple[int, int]
    taps: tuple[int, int]


@dataclass(frozen=True)
class Chunk:
    """Output channels that one instruction computes, from the first to before the last."""

    first: int
    last: int


@dataclass(frozen=True)
class Job:
    """What a core does of a layer.

    Attributes:
        core: The core.
        chunks: Its output channels, in instructions.
        tiles: Its strips.
        pieces: Parts of the window, one behind the other; more than one only where buffers are too small.
        weight_lines: Lines of a window whose weights are brought at once; the sums of the others are added to theirs.
        chunk_pass: Ranges of output channels whose weights stay while all tiles pass; then the next as many.
        batch: In a pass, tiles whose activations stay while its weights pass; then the next as many.
        cycles: Of the core, modelled.
        dram_bytes: What it moves, modelled.
        weight_beats: Its weights, once.
    """

    core: Core
    chunks: tuple[Chunk, ...]
    tiles: tuple[Tile, ...]
    pieces: tuple[Piece, ...]
    weight_lines: int
    chunk_pass: int
    batch: int
    cycles: float
    dram_bytes: float
    weight_beats: float

    def parts(self, piece: Piece) -> list[Piece]:
        """A piece in parts whose weights are brought at once."""
        first, last = piece.lines
        starts = range(first, last, self.weight_lines)
        return [Piece((line, min(line + self.weight_lines, last)), piece.taps) for line in starts]


@dataclass(frozen=True)
class ConvPlan:
    """How a convolution runs.

    Attributes:
        jobs: Of each core that works on it.
        cycles: Of the layer, modelled.
    """

    jobs: tuple[Job, ...]
    cycles: float


def plan_conv(conv: Conv, geometry: Geometry, *, early: bool = False) -> ConvPlan:
    """The fastest plan of a convolution.

    Args:
        conv: The convolution.
        geometry: The design's geometry.
        early: Whether LOAD has time for its weights before it begins.

    Raises:
        DesignTooSmallError: A buffer cannot hold one output pixel.
        OverflowPossibleError: The design has GEMM-L only, whose sums are too narrow for the layer.
    """
    cores = [core for core in cores_of(geometry) if core.serves(conv)]
    if not cores:
        raise _too_wide(conv, geometry)
    planner = _Planner(conv, geometry, early=early)
    plans = [plan for jobs in planner.splits(cores) if (plan := planner.joined(jobs)) is not None]
    if not plans:
        raise planner.too_small(cores[0])
    return min(plans, key=lambda plan: plan.cycles)


@dataclass(frozen=True)
class _Windows:
    """A window in pieces.

    Attributes:
        pieces: The pieces.
        beats: Of activations that a window reads, by piece.
        words: Of a group of output channels' weights, by piece.
        groups: Output channels, in columns of the array.
        planes: Bits of the widest weight.
        weight_beats: All weights, once.
    """

    pieces: tuple[Piece, ...]
    beats: tuple[int, ...]
    words: tuple[int, ...]
    groups: int
    planes: int
    weight_beats: float


@dataclass(frozen=True)
class _Loads:
    """What a core's job brings: tiles and chunks, the words of each, and those of weights that are brought at once."""

    tiles: int
    chunks: int
    tile_words: int
    chunk_words: int
    part_words: int


@dataclass(frozen=True)
class _Order:
    """An order of steps: chunks of a pass, tiles of a batch; how often all weights and all activations are brought.

    The last two say how often the core waits for all of them.
    """

    chunk_pass: int
    batch: int
    weight_loads: float
    act_loads: float
    weight_stalls: float
    act_stalls: float


class _Planner:
    """Enumerates and weighs the plans of one convolution."""

    def __init__(self, conv: Conv, geometry: Geometry, *, early: bool) -> None:
        self.conv = conv
        self.early = early
        self.geometry = geometry
        self.job = functools.cache(self._job)
        stored = [conv.target] if conv.residual is None else [conv.target, conv.residual]
        #: Channels that begin a beat of a pixel.
        self.unit = max(8, *(64 // one.item_bits for one in stored))

    def splits(self, cores: list[Core]) -> Iterator[list[Job | None]]:
        """Jobs of all ways to share the layer."""
        conv = self.conv
        channels, rows = (0, conv.outputs), (0, conv.target.rows)
        for core in cores:
            yield [self.job(core, channels, rows)]
        if len(cores) < 2:
            return
        on_d, on_l = cores
        whole_d, whole_l = (self.job(core, channels, rows) for core in cores)
        if whole_d is None or whole_l is None:
            return
        share = whole_l.cycles / (whole_d.cycles + whole_l.cycles)
        for middle in _near(share, conv.outputs, self.unit):
            yield [self.job(on_d, (0, middle), rows), self.job(on_l, (middle, conv.outputs), rows)]
        for middle in _near(share, conv.target.rows, 1):
            yield [self.job(on_d, channels, (0, middle)), self.job(on_l, channels, (middle, conv.target.rows))]

    def joined(self, jobs: list[Job | None]) -> ConvPlan | None:
        """Both jobs at the same time, None where one does not fit."""
        done = [job for job in jobs if job is not None]
        if len(done) < len(jobs):
            return None
        weights = sum(job.weight_beats for job in done)
        moved = sum(job.dram_bytes for job in done) / _DRAM_RATE - self.early * weights
        groups = sum(sum(tile.pixels for tile in job.tiles) * self.groups(job) for job in done)
        slowest = max(job.cycles for job in done)
        # What is not the slowest still delays, at the beginning, at the end and where it is not even.
        start = 0.0 if self.early else _NOT_HIDDEN * weights
        return ConvPlan(tuple(done), max(slowest, moved, groups) + _OTHERS * (slowest + moved + groups) + start)

    def groups(self, job: Job) -> int:
        """Groups of lanes channels that VEC makes of a pixel, four trips each where results are int32."""
        lanes = self.geometry.lanes
        trips = 4 if self.conv.target.item_bits == 32 else 1
        return trips * sum(-(-(chunk.last - chunk.first) // lanes) for chunk in job.chunks)

    def _job(self, core: Core, channels: tuple[int, int], rows: tuple[int, int]) -> Job | None:
        """The fastest way of a core through channels and lines."""
        best, least = None, math.inf
        ways = (
            (window, (groups, lines), found)
            for window in self.windows(core, channels)
            for groups in self.chunk_sizes(core, channels)
            for found, lines in self.tilings(core, rows, window.pieces[0])
        )
        for window, sizes, found in ways:
            job = self.weighed(core, channels, window, sizes, found, least)
            if job is not None and (spent := max(job.cycles, job.dram_bytes / _DRAM_RATE)) < least:
                best, least = job, spent
        return best

    def windows(self, core: Core, channels: tuple[int, int]) -> "Iterator[_Windows]":
        """The window in its pieces, with what does not depend on how channels and lines are cut."""
        conv, planes = self.conv, core.planes(self.conv, *channels)
        for pieces in self.pieces(core):
            beats = [(p.lines[1] - p.lines[0]) * core.run_beats(conv, p.taps[1] - p.taps[0]) for p in pieces]
            words = [core.weight_words(conv, one, planes) for one in beats]
            groups = -(-(channels[1] - channels[0]) // core.columns)
            weight_beats = groups * sum(words) * core.columns * 4 / _BEAT
            yield _Windows(pieces, tuple(beats), tuple(words), groups, planes, weight_beats)

    def tilings(self, core: Core, rows: tuple[int, int], piece: Piece) -> list[tuple[Census, int]]:
        """Cuts of the lines into tiles, and lines of a window whose weights are brought at once."""
        several = sorted({1, piece.lines[1] - piece.lines[0]})
        cuts = _different_cuts(rows, self.conv.target.columns, core.banks)
        return [(found, lines) for alike in cuts for lines in several for found in alike]

    def chunk_sizes(self, core: Core, channels: tuple[int, int]) -> list[int]:
        """Channels of an instruction: whole units, from few to all."""
        unit = math.lcm(self.unit, core.columns)
        count = -(-(channels[1] - channels[0]) // unit)
        return [unit * size for size in sorted({-(-count // parts) for parts in range(1, count + 1)})]

    def pieces(self, core: Core) -> list[tuple[Piece, ...]]:
        """The whole window, or where that is too much, its lines one by one, or all taps one by one."""
        conv = self.conv
        lines, taps = range(conv.lines), range(conv.taps)
        whole = (Piece((0, conv.lines), (0, conv.taps)),)
        by_line = tuple(Piece((line, line + 1), (0, conv.taps)) for line in lines)
        by_tap = tuple(Piece((line, line + 1), (tap, tap + 1)) for line in lines for tap in taps)
        options = [whole, by_line] if conv.gathered else [whole, by_line, by_tap]
        for pieces in options:
            if self.fits_one(core, pieces[0]):
                return [pieces]
        return []

    def fits_one(self, core: Core, piece: Piece) -> bool:
        """Whether a strip of one pixel and the weights of the fewest channels fit buffers and fields."""
        geometry, lines = self.geometry, piece.lines[1] - piece.lines[0]
        beats = core.run_beats(self.conv, piece.taps[1] - piece.taps[0])
        operation = isa().operation("matmul_planes_lines" if core.on_l else "matmul_lines")
        unit = math.lcm(self.unit, core.columns) // core.columns
        planes = int(self.conv.weight_bits.max())
        words = unit * core.weight_words(self.conv, beats, planes)
        return (
            lines <= _LARGEST_LINES
            and core.run(self.conv, beats) <= operation.field("run").largest
            and words <= depth(geometry, f"wgt_{core.letter}_ram")
            and self.padding_beats(piece, 1) <= _LARGEST_PADDING
            and self.tile_words(core, piece, 1) <= depth(geometry, f"act_{core.letter}_ram")
        )

    def tile_words(self, core: Core, piece: Piece, columns: int) -> int:
        """Words of a bank that a strip takes."""
        conv, lines = self.conv, piece.lines[1] - piece.lines[0]
        return lines * line_beats(core, conv, piece, columns) // core.line_unit

    def weighed(
        self,
        core: Core,
        channels: tuple[int, int],
        window: "_Windows",
        sizes: tuple[int, int],
        found: Census,
        least: float,
    ) -> Job | None:
        """A job and what it takes, None where a buffer cannot hold it or it takes no less than another job.

        Args:
            core: The core.
            channels: First and behind the last output channel.
            window: In pieces.
            sizes: Channels of a chunk, lines whose weights are brought at once.
            found: The tiles.
            least: Cycles of the other job.
        """
        conv, pieces, (size, weight_lines) = self.conv, window.pieces, sizes
        count = -(-(channels[1] - channels[0]) // size)
        compute = self.compute_cycles(core, window, weight_lines, found, count)
        if compute >= least:
            return None
        columns, groups = found.columns, -(-size // core.columns)
        largest = max(self.tile_words(core, piece, columns) for piece in pieces)
        lines = pieces[0].lines[1] - pieces[0].lines[0]
        part_words = groups * max(window.words) * min(weight_lines, lines) // lines
        padding = self.padding_beats(pieces[0], columns)
        if padding > _LARGEST_PADDING or not self.fits(core, found.largest, size, largest, part_words, columns):
            return None
        weight_beats = window.weight_beats
        act_beats = sum(self.loaded_beats(core, found, piece) for piece in pieces)
        out_beats = found.pixels * (channels[1] - channels[0]) * conv.target.item_bits / 64
        out_beats *= 2 if conv.residual is not None else 1
        tile_words = sum(self.tile_words(core, piece, columns) for piece in pieces)
        loads = _Loads(len(found.tiles), count, tile_words, groups * sum(window.words), part_words)
        chunks = tuple(Chunk(first, min(first + size, channels[1])) for first in range(channels[0], channels[1], size))
        tiles = found.tiles
        options = []
        for order in self.orders(core, loads, alone=len(pieces) > 1):
            moved = order.weight_loads * weight_beats + order.act_loads * act_beats
            stalls = order.weight_stalls * weight_beats + order.act_stalls * act_beats
            cycles = max(compute + stalls, moved)
            moved_bytes = (moved + out_beats) * _BEAT
            order_of_steps = order.chunk_pass, order.batch
            options.append(
                Job(core, chunks, tiles, pieces, weight_lines, *order_of_steps, cycles, moved_bytes, weight_beats)
            )
        return min(options, key=lambda job: job.cycles + _OTHERS * job.dram_bytes / _BEAT)

    def compute_cycles(self, core: Core, window: "_Windows", weight_lines: int, found: Census, chunks: int) -> int:
        """Cycles of the core alone, which waits for nothing."""
        first, last = window.pieces[0].lines
        lines = last - first
        times = -(-lines // weight_lines)
        accumulates = 1 + (len(window.pieces) * times > 1)
        trips = [core.steps(self.conv, one * min(weight_lines, lines) // lines, window.planes) for one in window.beats]
        return times * sum(
            alike * (width * window.groups * max(one, accumulates * banks) + chunks * _INSTRUCTION)
            for (width, banks), alike in found.kinds
            for one in trips
        )

    def orders(self, core: Core, loads: "_Loads", *, alone: bool) -> Iterator["_Order"]:
        """Orders of tiles and chunks, and how often and in vain the core waits for what each brings.

        Args:
            core: The core.
            loads: What is brought.
            alone: Whether neither tiles nor weights stay for the next step.
        """
        act, weights = (depth(self.geometry, f"{kind}_{core.letter}_ram") for kind in ("act", "wgt"))
        tiles, chunks = loads.tiles, loads.chunks
        if alone:
            yield _Order(chunks, 1, tiles, chunks, 1, 1)
            return
        act_stall = int(2 * loads.tile_words > act and tiles > 1)
        weight_stall = int(2 * loads.part_words > weights)
        held = max(1, act // loads.tile_words)
        if chunks * loads.chunk_words <= weights:
            yield _Order(chunks, 1, 1, 1, 0, act_stall)
            return
        # Some tiles stay while all weights pass, all of them at best; or some weights while all tiles pass. Between
        # two tiles of a batch a chunk's weights stay only as a whole.
        stays = loads.chunk_words <= weights
        for batch in {tiles if held >= tiles else 0, max(1, held // 2)} - {0}:
            times = -(-tiles // batch) * (1 if stays else batch)
            yield _Order(chunks, batch, times, 1, weight_stall * times, int(held < min(2, tiles)))
        for size in range(1, weights // loads.chunk_words + 1):
            passes = -(-chunks // size)
            stall = 0 if size * loads.chunk_words + loads.part_words <= weights else 1
            yield _Order(size, 1, 1, 1 if held >= tiles else passes, stall / passes, act_stall * passes)

    def fits(self, core: Core, pixels: int, size: int, tile_words: int, chunk_words: int, columns: int) -> bool:
        """Whether buffers hold a tile and a chunk; those between engines hold two."""
        geometry, letter = self.geometry, core.letter
        out_words = pixels * self.out_words(size)
        halves = len(cores_of(geometry))
        return (
            pixels <= _LARGEST_ROWS
            and self.out_words(size) <= _LARGEST_BEATS
            and columns <= _most_columns()
            and gathered_beats(core, self.conv, columns) <= geometry.gather_beats
            and tile_words <= depth(geometry, f"act_{letter}_ram")
            and chunk_words <= depth(geometry, f"wgt_{letter}_ram")
            and pixels * -(-size // core.columns) <= depth(geometry, f"acc_{letter}_ram") // 2
            and out_words <= depth(geometry, "out_ram") // halves
            and (self.conv.residual is None or out_words <= depth(geometry, "res_ram") // halves)
        )

    def padding_beats(self, piece: Piece, columns: int) -> int:
        """Beats of padding to the left of a line of the first strip."""
        conv, (first, last) = self.conv, piece.taps
        reach = (columns - 1) * conv.strides[1] + last - first
        return 0 if conv.gathered else min(max(conv.left - first, 0), reach) * conv.source.pixel_beats

    def out_words(self, size: int) -> int:
        """Words of a pixel's part in out_ram; the last one reaches to the end of the pixel."""
        target = self.conv.target
        whole = -(-size * target.item_bits // 64)
        return whole if size % PIXEL_CHANNELS == 0 else min(whole + 3, target.pixel_beats)

    def loaded_beats(self, core: Core, found: Census, piece: Piece) -> int:
        """Beats that LOAD brings for all tiles."""
        conv, lines = self.conv, piece.lines[1] - piece.lines[0]
        return sum(
            ((strips - segments) * conv.strides[0] + segments * lines) * line_beats(core, conv, piece, width)
            + segments * _INSTRUCTION
            for width, segments, strips in found.segments
        )

    def too_small(self, core: Core) -> DesignTooSmallError:
        """The error for a layer of which not even one output pixel fits."""
        conv = self.conv
        return DesignTooSmallError(
            f"layer '{conv.name}' does not fit the design: windows of {conv.lines} x {conv.taps} pixels of "
            f"{conv.source.pixel_channels} channels need more of act_{core.letter}_ram, wgt_{core.letter}_ram, "
            f"acc_{core.letter}_ram, out_ram or res_ram than one output pixel and {self.unit} channels leave",
            "buffers for one output pixel",
            "use a design with larger buffers",
        )


@functools.cache
def _different_cuts(rows: tuple[int, int], columns: int, banks: int) -> tuple[tuple[Census, ...], ...]:
    """Cuts of some lines into tiles, each once, by the limit of the width of strips."""
    seen = set[tuple[Tile, ...]]()
    found = []
    for widest in sorted({*range(1, min(columns, 16) + 1), *(-(-columns // parts) for parts in range(1, 8))}):
        several = [census(rows, columns, banks, widest, fill=fill) for fill in (True, False)]
        cuts = {each.tiles: each for each in several}
        found.append(tuple(each for tiles, each in cuts.items() if tiles not in seen))
        seen |= set(cuts)
    return tuple(found)


@functools.cache
def _most_columns() -> int:
    return isa().operation("matmul_lines").field("columns").largest


def _near(share: float, count: int, unit: int) -> Iterator[int]:
    """Multiples of a unit around a share of a whole, without none and all."""
    middle = round(share * count / unit)
    for size in range(middle - _SHARES_TRIED, middle + _SHARES_TRIED + 1):
        if 0 < size * unit < count:
            yield size * unit


def line_beats(core: Core, conv: Conv, piece: Piece, columns: int) -> int:
    """Beats that a line of a strip takes in a bank."""
    taps = piece.taps[1] - piece.taps[0]
    if conv.gathered:
        return columns * core.run_beats(conv, taps)
    return ((columns - 1) * conv.strides[1] + taps) * conv.source.pixel_beats


def gathered_beats(core: Core, conv: Conv, columns: int) -> int:
    """Beats of a line of samples that LOAD cuts the windows of a strip out of, at most; 0 of other tensors."""
    if not conv.gathered:
        return 0
    return -(-(_BEAT - 1 + (columns - 1) * conv.strides[1] * conv.source.channels) // _BEAT) + core.run_beats(
        conv, conv.taps
    )


def _too_wide(conv: Conv, geometry: Geometry) -> OverflowPossibleError:
    core = cores_of(geometry)[-1]
    largest = core.largest_sum(conv)
    return OverflowPossibleError(
        f"the sums of '{conv.name}' on GEMM-L can reach {largest}, which takes {largest.bit_length() + 1} bits",
        f"at most {core.accumulator_bits} bits, the design's gemm_l_acc_bits",
        "use a design with wider sums or with GEMM-D, or quantize with fewer bits",
    )
