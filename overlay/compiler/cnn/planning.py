# SPDX-License-Identifier: Apache-2.0
"""Chooses how a convolution runs: which core computes which channels or lines, strips, and what stays on chip.

The estimate takes the slowest of what works at the same time: both cores, LOAD and DRAM, VEC. Modelled.
"""

import functools
import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np

from hetfab.overlay.compiler.cnn.chip import depth
from hetfab.overlay.compiler.cnn.conv import Conv
from hetfab.overlay.compiler.cnn.cores import Core, cores_of
from hetfab.overlay.compiler.cnn.feature_maps import PIXEL_CHANNELS
from hetfab.overlay.compiler.cnn.strip_lines import Piece, exceeded_field, gathered_beats, line_beats
from hetfab.overlay.compiler.cnn.strips import Band, Census, Tile, census
from hetfab.overlay.design import Geometry
from hetfab.overlay.errors import DesignTooSmallError, OverflowPossibleError
from hetfab.overlay.isa.spec import isa

_BEAT = 8
#: Bytes of DRAM a cycle that the estimate reckons with.
_DRAM_RATE = 8.0
#: Cycles of an instruction beside its trips: filling a pipeline, queues, the latency of a first beat.
_INSTRUCTION = 30
#: Share of the cycles of what is not the slowest that delays all the same.
_OTHERS = 0.04
#: Shares of a layer that are tried beside the one that balances the cores.
_SHARES_TRIED = 4
_LARGEST_ROWS = isa().operation("requantize").field("rows").largest
_LARGEST_BEATS = isa().operation("store_runs").field("row_beats").largest
_LARGEST_LINES = isa().operation("matmul_lines").field("lines").largest


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
    """The fastest plan of a convolution; a process keeps the last ones, since networks and searches repeat layers.

    Args:
        conv: The convolution.
        geometry: The design's geometry.
        early: Whether LOAD has time for its weights before it begins.

    Raises:
        DesignTooSmallError: A buffer cannot hold one output pixel.
        OverflowPossibleError: The design has GEMM-L only, whose sums are too narrow for the layer.
    """
    cores = tuple(core for core in cores_of(geometry) if core.serves(conv))
    if not cores:
        raise _too_wide(conv, geometry)
    without_values = replace(conv, weight=np.broadcast_to(np.int64(0), conv.weight.shape))
    return _planned(_Question(conv.shape, cores, geometry, early, without_values))


@dataclass(frozen=True)
class _Question:
    """What a plan depends on.

    Attributes:
        shape: Of the convolution.
        cores: That its sums do not leave.
        geometry: The design's.
        early: As ``plan_conv`` has it.
        conv: A convolution of the shape, with no values of weights, which would be kept with the plan.
    """

    shape: tuple[object, ...]
    cores: tuple[Core, ...]
    geometry: Geometry
    early: bool
    conv: Conv = field(compare=False)


@functools.lru_cache(maxsize=256)
def _planned(asked: _Question) -> ConvPlan:
    cores, planner = list(asked.cores), _Planner(asked.conv, asked.geometry, early=asked.early)
    shared = [(planner.cycles(ways), ways) for ways in planner.splits(cores)]
    cycles, ways = min(shared, key=lambda each: each[0])
    if math.isinf(cycles):
        raise planner.too_small(cores[0])
    return ConvPlan(tuple(way.job() for way in ways if way is not None), cycles)


@dataclass(frozen=True)
class _Way:
    """What becomes a core's job if nothing is faster.

    Attributes:
        core: The core.
        channels: First output channel and behind the last one.
        size: Channels of an instruction.
        census: The strips.
        pieces: Of ``Job``, as all that follow.
    """

    core: Core
    channels: tuple[int, int]
    size: int
    census: Census
    pieces: tuple[Piece, ...]
    weight_lines: int
    chunk_pass: int
    batch: int
    cycles: float
    dram_bytes: float
    weight_beats: float

    @property
    def chunks(self) -> tuple[Chunk, ...]:
        """Its output channels, in instructions."""
        first, last = self.channels
        return tuple(Chunk(one, min(one + self.size, last)) for one in range(first, last, self.size))

    @property
    def spent(self) -> float:
        """Cycles of what takes longer: the core, or DRAM."""
        return max(self.cycles, self.dram_bytes / _DRAM_RATE)

    def job(self) -> Job:
        """The job, with all its tiles."""
        return Job(
            self.core,
            self.chunks,
            self.census.tiles,
            self.pieces,
            self.weight_lines,
            self.chunk_pass,
            self.batch,
            self.cycles,
            self.dram_bytes,
            self.weight_beats,
        )


@dataclass(frozen=True)
class _Window:
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
class _Tiling:
    """A cut of the lines, and what it takes however channels are cut.

    Attributes:
        census: The tiles.
        weight_lines: Lines of a window whose weights are brought at once.
        steps: Cycles of the core's array.
        instructions: For a chunk of channels.
        words: Of a bank that a tile takes, of all pieces.
        weight_beats: All weights, once.
        act_beats: All activations, once.
        out_beats: All results, and what is added to them.
    """

    census: Census
    weight_lines: int
    steps: int
    instructions: int
    words: int
    weight_beats: float
    act_beats: int
    out_beats: float

    def compute(self, chunks: int) -> int:
        """Cycles of the core alone, which waits for nothing."""
        return self.steps + chunks * self.instructions * _INSTRUCTION

    def bound(self, chunks: int) -> float:
        """What no order of steps is faster than: the core alone, all that moves once."""
        return max(self.compute(chunks), self.weight_beats + self.act_beats + self.out_beats)


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
        self.way = functools.cache(self._way)
        self.depth = functools.cache(functools.partial(depth, geometry))
        stored = [conv.target] if conv.residual is None else [conv.target, conv.residual]
        self.halves = len(cores_of(geometry))
        #: Channels that begin a beat of a pixel.
        self.unit = max(8, *(64 // one.item_bits for one in stored))

    def splits(self, cores: list[Core]) -> Iterator[list[_Way | None]]:
        """All ways to share the layer."""
        conv = self.conv
        channels, rows = (0, conv.outputs), (0, conv.target.rows)
        for core in cores:
            yield [self.way(core, channels, rows)]
        if len(cores) < 2:
            return
        on_d, on_l = cores
        whole_d, whole_l = (self.way(core, channels, rows) for core in cores)
        if whole_d is None or whole_l is None:
            return
        share = whole_l.cycles / (whole_d.cycles + whole_l.cycles)
        for middle in _near(share, conv.outputs, self.unit):
            yield [self.way(on_d, (0, middle), rows), self.way(on_l, (middle, conv.outputs), rows)]
        for middle in _near(share, conv.target.rows, 1):
            yield [self.way(on_d, channels, (0, middle)), self.way(on_l, channels, (middle, conv.target.rows))]

    def cycles(self, ways: list[_Way | None]) -> float:
        """Of all cores at the same time, infinite where what one does does not fit."""
        done = [way for way in ways if way is not None]
        if len(done) < len(ways):
            return math.inf
        weights = sum(way.weight_beats for way in done)
        moved = sum(way.dram_bytes for way in done) / _DRAM_RATE - self.early * weights
        groups = sum(way.census.pixels * self.groups(way) for way in done)
        slowest = max(way.cycles for way in done)
        # What is not the slowest still delays, at the beginning, at the end and where it is not even. Nothing hides
        # weights that come where a layer begins.
        start = 0.0 if self.early else weights
        return max(slowest, moved, groups) + _OTHERS * (slowest + moved + groups) + start

    def groups(self, way: _Way) -> int:
        """Groups of lanes channels that VEC makes of a pixel, four trips each where results are int32."""
        lanes = self.geometry.lanes
        trips = 4 if self.conv.target.item_bits == 32 else 1
        return trips * sum(-(-(chunk.last - chunk.first) // lanes) for chunk in way.chunks)

    def _way(self, core: Core, channels: tuple[int, int], rows: tuple[int, int]) -> _Way | None:
        """The fastest way of a core through channels and lines, of equals the first."""
        window = self.window(core, channels)
        if window is None:
            return None
        tilings = self.tilings(core, channels, rows, window)
        ways = [(size, tiling) for size in self.chunk_sizes(core, channels) for tiling in tilings]
        bounds = [tiling.bound(-(-(channels[1] - channels[0]) // size)) for size, tiling in ways]
        best, least = None, (math.inf, 0)
        for number in np.argsort(bounds, kind="stable").tolist():
            if bounds[number] > least[0]:
                break
            way = self.weighed(core, channels, window, *ways[number])
            if way is not None and (way.spent, number) < least:
                best, least = way, (way.spent, number)
        return best

    def window(self, core: Core, channels: tuple[int, int]) -> "_Window | None":
        """The window in its pieces, with what does not depend on how channels and lines are cut."""
        conv, planes, pieces = self.conv, core.planes(self.conv, *channels), self.pieces(core)
        if not pieces:
            return None
        beats = [(p.lines[1] - p.lines[0]) * core.run_beats(conv, p.taps[1] - p.taps[0]) for p in pieces]
        words = [core.weight_words(conv, one, planes) for one in beats]
        groups = -(-(channels[1] - channels[0]) // core.columns)
        weight_beats = groups * sum(words) * core.columns * 4 / _BEAT
        return _Window(pieces, tuple(beats), tuple(words), groups, planes, weight_beats)

    def tilings(
        self, core: Core, channels: tuple[int, int], rows: tuple[int, int], window: "_Window"
    ) -> "list[_Tiling]":
        """Cuts of the lines into tiles that fit, and lines of a window whose weights are brought at once."""
        first, last = window.pieces[0].lines
        cuts = _different_cuts(rows, self.conv.target.columns, core.strips(self.conv))
        return [
            self.tiling(core, channels, window, found, lines)
            for alike in cuts
            for lines in sorted({1, last - first})
            for found in alike
            if self.holds(core, window, found)
        ]

    def tiling(
        self, core: Core, channels: tuple[int, int], window: "_Window", found: Census, weight_lines: int
    ) -> "_Tiling":
        """A cut, with what does not depend on how channels are cut."""
        conv, (first, last) = self.conv, window.pieces[0].lines
        lines = last - first
        times = -(-lines // weight_lines)
        accumulates = 1 + (len(window.pieces) * times > 1)
        trips = [core.steps(conv, one * min(weight_lines, lines) // lines, window.planes) for one in window.beats]
        steps = (
            times
            * window.groups
            * sum(
                alike * width * max(one, accumulates * banks) for (width, banks), alike in found.kinds for one in trips
            )
        )
        out_beats = found.pixels * (channels[1] - channels[0]) * conv.target.item_bits / 64
        return _Tiling(
            census=found,
            weight_lines=weight_lines,
            steps=steps,
            instructions=times * found.count * len(trips),
            words=sum(self.tile_words(core, piece, found.columns) for piece in window.pieces),
            weight_beats=window.weight_beats,
            act_beats=sum(self.loaded_beats(core, found, piece) for piece in window.pieces),
            out_beats=out_beats * (2 if conv.residual is not None else 1),
        )

    def chunk_sizes(self, core: Core, channels: tuple[int, int]) -> list[int]:
        """Channels of an instruction: whole units, from few to all."""
        unit = math.lcm(self.unit, core.columns)
        count = -(-(channels[1] - channels[0]) // unit)
        return [unit * size for size in sorted({-(-count // parts) for parts in range(1, count + 1)})]

    def pieces(self, core: Core) -> tuple[Piece, ...]:
        """The whole window, or where that is too much, its lines one by one, or all taps one by one; or nothing."""
        conv = self.conv
        lines, taps = range(conv.lines), range(conv.taps)
        whole = (Piece((0, conv.lines), (0, conv.taps)),)
        by_line = tuple(Piece((line, line + 1), (0, conv.taps)) for line in lines)
        by_tap = tuple(Piece((line, line + 1), (tap, tap + 1)) for line in lines for tap in taps)
        options = [whole, by_line] if conv.gathered else [whole, by_line, by_tap]
        return next((pieces for pieces in options if self.fits_one(core, pieces[0])), ())

    def fits_one(self, core: Core, piece: Piece) -> bool:
        """Whether a strip of one pixel and the weights of the fewest channels fit buffers and fields."""
        lines = piece.lines[1] - piece.lines[0]
        beats = core.run_beats(self.conv, piece.taps[1] - piece.taps[0])
        operation = isa().operation("matmul_planes_lines" if core.on_l else "matmul_lines")
        unit = math.lcm(self.unit, core.columns) // core.columns
        planes = int(self.conv.weight_bits.max())
        words = unit * core.weight_words(self.conv, beats, planes)
        return (
            lines <= _LARGEST_LINES
            and core.run(self.conv, beats) <= operation.field("run").largest
            and words <= self.depth(f"wgt_{core.letter}_ram")
            and exceeded_field(core, self.conv, piece, 1) is None
            and self.tile_words(core, piece, 1) <= self.depth(f"act_{core.letter}_ram")
        )

    def tile_words(self, core: Core, piece: Piece, columns: int) -> int:
        """Words of a bank that a strip takes."""
        conv, lines = self.conv, piece.lines[1] - piece.lines[0]
        return lines * line_beats(core, conv, piece, columns) // core.line_unit

    def weighed(
        self, core: Core, channels: tuple[int, int], window: "_Window", size: int, tiling: "_Tiling"
    ) -> _Way | None:
        """The fastest order of steps, None where a buffer cannot hold it.

        Args:
            core: The core.
            channels: First and behind the last output channel.
            window: In pieces.
            size: Channels of a chunk.
            tiling: The tiles.
        """
        pieces, weight_lines = window.pieces, tiling.weight_lines
        count, groups = -(-(channels[1] - channels[0]) // size), -(-size // core.columns)
        lines = pieces[0].lines[1] - pieces[0].lines[0]
        part_words = groups * max(window.words) * min(weight_lines, lines) // lines
        if not self.fits(core, tiling.census.largest, size, part_words):
            return None
        compute = tiling.compute(count)
        loads = _Loads(tiling.census.count, count, tiling.words, groups * sum(window.words), part_words)
        options = []
        for order in self.orders(core, loads, alone=len(pieces) > 1):
            moved = order.weight_loads * tiling.weight_beats + order.act_loads * tiling.act_beats
            stalls = order.weight_stalls * tiling.weight_beats + order.act_stalls * tiling.act_beats
            options.append((max(compute + stalls, moved), (moved + tiling.out_beats) * _BEAT, order))
        cycles, moved_bytes, order = min(options, key=lambda option: option[0] + _OTHERS * option[1] / _BEAT)
        steps = pieces, weight_lines, order.chunk_pass, order.batch
        return _Way(core, channels, size, tiling.census, *steps, cycles, moved_bytes, tiling.weight_beats)

    def orders(self, core: Core, loads: "_Loads", *, alone: bool) -> Iterator["_Order"]:
        """Orders of tiles and chunks, and how often and in vain the core waits for what each brings.

        Args:
            core: The core.
            loads: What is brought.
            alone: Whether neither tiles nor weights stay for the next step.
        """
        act, weights = (self.depth(f"{kind}_{core.letter}_ram") for kind in ("act", "wgt"))
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

    def holds(self, core: Core, window: "_Window", found: Census) -> bool:
        """Whether buffers and fields hold the tiles of a cut."""
        pieces, columns = window.pieces, found.columns
        return (
            found.largest <= _LARGEST_ROWS
            and columns <= _most_columns()
            and gathered_beats(core, self.conv, columns) <= self.geometry.gather_beats
            and exceeded_field(core, self.conv, pieces[0], columns) is None
            and max(self.tile_words(core, piece, columns) for piece in pieces) <= self.depth(f"act_{core.letter}_ram")
        )

    def fits(self, core: Core, pixels: int, size: int, chunk_words: int) -> bool:
        """Whether buffers hold a chunk, and a tile's results of it; those between engines hold two."""
        letter, out_words = core.letter, self.out_words(size)
        return (
            out_words <= _LARGEST_BEATS
            and chunk_words <= self.depth(f"wgt_{letter}_ram")
            and pixels * -(-size // core.columns) <= self.depth(f"acc_{letter}_ram") // 2
            and pixels * out_words <= self.depth("out_ram") // self.halves
            and pixels * self.residual_words(size) <= self.depth("res_ram") // self.halves
        )

    def out_words(self, size: int) -> int:
        """Words of a pixel's part in out_ram; the last one reaches to the end of the pixel."""
        target = self.conv.target
        whole = -(-size * target.item_bits // 64)
        return whole if size % PIXEL_CHANNELS == 0 else min(whole + 3, target.pixel_beats)

    def residual_words(self, size: int) -> int:
        """Words of a pixel's part of what is added; 0 where nothing is."""
        residual = self.conv.residual
        return 0 if residual is None else -(-size * residual.item_bits // 64)

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
        need = exceeded_field(core, conv, self.least_piece, 1)
        if need is not None:
            return DesignTooSmallError(
                f"layer '{conv.name}' needs {need.value} in the field '{need.field}' of '{need.operation}' on "
                f"GEMM-{core.letter.upper()}, for windows of {conv.lines} x {conv.taps} pixels of "
                f"{conv.source.pixel_channels} channels",
                f"at most {need.largest}, what the field holds",
                "use a layer with shorter strides, less padding or fewer input channels",
            )
        return DesignTooSmallError(
            f"layer '{conv.name}' does not fit the design: windows of {conv.lines} x {conv.taps} pixels of "
            f"{conv.source.pixel_channels} channels need more of act_{core.letter}_ram, wgt_{core.letter}_ram, "
            f"acc_{core.letter}_ram, out_ram or res_ram than one output pixel and {self.unit} channels leave",
            "buffers for one output pixel",
            "use a design with larger buffers",
        )

    @property
    def least_piece(self) -> Piece:
        """The first of the smallest parts of a window."""
        return Piece((0, 1), (0, self.conv.taps if self.conv.gathered else 1))


@functools.cache
def _different_cuts(rows: tuple[int, int], columns: int, banks: int) -> tuple[tuple[Census, ...], ...]:
    """Cuts of some lines into tiles, each once, by the limit of the width of strips."""
    seen = set[tuple[Band, ...]]()
    found = []
    for widest in sorted({*range(1, min(columns, 16) + 1), *(-(-columns // parts) for parts in range(1, 8))}):
        several = [census(rows, columns, banks, widest, fill=fill) for fill in (True, False)]
        cuts = {each.bands: each for each in several}
        found.append(tuple(each for bands, each in cuts.items() if bands not in seen))
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


def _too_wide(conv: Conv, geometry: Geometry) -> OverflowPossibleError:
    core = cores_of(geometry)[-1]
    largest = core.largest_sum(conv)
    return OverflowPossibleError(
        f"the sums of '{conv.name}' on GEMM-L can reach {largest}, which takes {largest.bit_length() + 1} bits",
        f"at most {core.accumulator_bits} bits, the design's gemm_l_acc_bits",
        "use a design with wider sums or with GEMM-D, or quantize with fewer bits",
    )
