# SPDX-License-Identifier: Apache-2.0
"""Chooses how a layer is cut: rows of a tile, input channels of a step, output channels of a pass on each core.

All cuts that fit the buffers are compared by the cycles that a row takes in the steady state, where LOAD, both cores,
VEC and STORE overlap and the slowest decides; the cheapest is taken (docs/gemm.md).
"""

import functools
import math
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace

from hetfab.overlay.compiler.lowered import SCORE_BITS
from hetfab.overlay.compiler.operands import GEMM_D, GEMM_L, NOT_ON_L
from hetfab.overlay.compiler.rings import RING_MEMORIES, SLOTS, slot_words
from hetfab.overlay.design import Geometry
from hetfab.overlay.errors import DesignTooSmallError, counted
from hetfab.overlay.isa.spec import isa
from hetfab.overlay.layouts import blocks_of, padded

_BLOCK = isa().block_bytes
_BEAT = 8
_BEATS = _BLOCK // _BEAT
_LARGEST_ROWS = isa().operation("matmul").field("rows").largest
_SUM_GROUPS = isa().operation("combine").field("sum_groups").largest + 1
_PLANE_WORDS = isa().operation("matmul_planes").field("row_words").largest
_ROW_WORDS = isa().operation("combine").field("row_words").largest
#: Rows of a graph that a choice is made for: weights are loaded once for so many rows.
_NOMINAL_ROWS = 4096
#: Of a share of GEMM-D in a layer that one core computes: from here on it is GEMM-D.
_HALF = 0.5
#: Cycles that an instruction costs a core beyond its trips, roughly: issue, decoding, the pipeline's depth.
_INSTRUCTION = 40


@dataclass(frozen=True)
class LayerShape:
    """What the cuts depend on.

    Attributes:
        row_bytes: Bytes of a row of the dense term's input, whole blocks; 0 without a dense term.
        packed: Whether that row holds two channels a byte, and GEMM-D's weights are int4.
        slices: Slices of 4 bits of an activation on GEMM-L.
        planes: Bits of a weight of each output channel on GEMM-L, or ``NOT_ON_L``.
        any_order: Whether output channels may be rearranged, so that GEMM-L gets those of the fewest planes.
        cores: The cores that can serve the layer.
        channels: Output channels.
        aggregated: Whether it has aggregations.
        output_bits: Bits that an output value takes in DRAM: 4, 8, 16 or 32.
        biased: Whether VEC reads bias and multipliers.
        normalized: Whether rows are normalized: their numbers follow bias and multipliers.
        whole: Whether a pass takes all output channels: of rows that one instruction must write.
        one_core: Whether one core computes all of them.
        most_rows: Rows of a tile that a memory within an engine holds.
        part_bytes: Where the parts of a row of the dense term's input are not side by side in DRAM: the longest step
            that ends with each of them, or 0.
        pass_channels: Channels of a pass, where attention says so, or 0.
    """

    row_bytes: int
    packed: bool
    slices: int
    planes: tuple[int, ...]
    any_order: bool
    cores: frozenset[str]
    channels: int
    aggregated: bool
    output_bits: int
    biased: bool
    normalized: bool = False
    whole: bool = False
    one_core: bool = False
    most_rows: int = _LARGEST_ROWS
    part_bytes: int = 0
    pass_channels: int = 0


@dataclass(frozen=True)
class ColumnRange:
    """Output channels of one pass over the rows: the first ``on_d`` on GEMM-D, then ``on_l`` on GEMM-L.

    GEMM-L takes ``planes`` bits of a weight. Without a dense term, ``on_d`` counts the channels of VEC's instruction.
    """

    first: int
    on_d: int
    on_l: int
    planes: int

    @property
    def count(self) -> int:
        """Channels of the pass."""
        return self.on_d + self.on_l


@dataclass(frozen=True)
class Tile:
    """How a layer is cut.

    Attributes:
        rows: Rows of a full tile.
        step_bytes: Bytes of a row in one step over the input channels, whole blocks; 0 without a dense term.
        resident: Whether one step takes all input channels, so that weights are loaded once for all rows.
        passes: The output channels, pass by pass.
        row_cycles: What the choice went by: modelled cycles of the layer per row, in the steady state.
    """

    rows: int
    step_bytes: int
    resident: bool
    passes: tuple[ColumnRange, ...]
    row_cycles: float


def choose_tile(shape: LayerShape, geometry: Geometry, name: str, share: float | None = None) -> Tile:
    """Chooses the cuts.

    Args:
        shape: The layer's shape.
        geometry: The design's geometry.
        name: The layer, named in errors.
        share: Of the output channels, what GEMM-D gets, 0 to 1; None for the fastest split.

    Raises:
        DesignTooSmallError: A buffer cannot hold two tiles of one row, or of one block of input channels.
    """
    best = _fastest(shape, geometry, share)
    if best is None:
        raise _Cutter(shape, geometry, share).too_small(name)
    return best


@functools.cache
def _fastest(shape: LayerShape, geometry: Geometry, share: float | None) -> Tile | None:
    """The cheapest cut, None where no cut fits; the layers of a model have few different shapes."""
    cutter = _Cutter(shape, geometry, share)
    best: Tile | None = None
    for step_bytes in cutter.steps():
        cuts = [cutter.cut(width, on_d, step_bytes) for width in cutter.widths() for on_d in cutter.splits(width)]
        found = min((cut for cut in cuts if cut is not None), key=lambda cut: cut.row_cycles, default=None)
        if found is not None and (best is None or found.row_cycles < best.row_cycles):
            best = found
    return best and replace(best, passes=tuple(cutter.passes(best)))


class _Cutter:
    """Enumerates the cuts of one layer and what each costs."""

    def __init__(self, shape: LayerShape, geometry: Geometry, share: float | None) -> None:
        self.shape = shape
        self.geometry = geometry
        self.share = share if len(shape.cores) == 2 else None
        #: Planes in the order in which GEMM-L gets channels, where that is free.
        self.uniform = len(set(shape.planes)) <= 1
        self.rising = sorted(shape.planes) if shape.any_order or self.uniform else None
        #: A part of a row, and a pass, begins with a whole word of out_ram.
        self.unit = geometry.lanes * (2 if shape.output_bits == 4 else 1)
        self.block_channels = 8 * _BLOCK // shape.output_bits
        self.slots = {name: slot_words(geometry, name) for name in RING_MEMORIES}
        self.word_beats = {name: geometry.word_bytes(name) // _BEAT for name in RING_MEMORIES}

    @property
    def aggregated_channels(self) -> int:
        """What a pass can aggregate: its sums are in AGG's registers, VEC's field names the length of their row."""
        return min(self.geometry.agg_groups, _SUM_GROUPS) * self.geometry.lanes

    def steps(self) -> list[int]:
        """Bytes of a row in a step, from all of it to one block, in steps of about equal size.

        GEMM-L's field for the length of a step is the narrowest.
        """
        blocks = (self.shape.part_bytes or self.shape.row_bytes) // _BLOCK
        most = _PLANE_WORDS // self.l_row_words(_BLOCK)
        sizes = dict.fromkeys(-(-blocks // count) for count in range(1, blocks + 1))
        if self.shape.part_bytes:
            sizes = {size: None for size in sizes if blocks % size == 0}
        return [size * _BLOCK for size in sizes if size <= most] or [0]

    def widths(self) -> list[int]:
        """Channels of a pass: whole words of output rows, or all channels."""
        most = min(self.shape.channels, max(len(self.shape.cores), 1) * _ROW_WORDS * self.geometry.lanes)
        if self.shape.aggregated:
            most = min(most, self.aggregated_channels)
        unit = self.block_channels if self.shape.aggregated else self.unit
        if self.shape.pass_channels:
            return [self.shape.pass_channels] if self.shape.pass_channels <= most else []
        if self.shape.whole:
            return [self.shape.channels] if self.shape.channels <= most else []
        whole = range(unit, min(most, self.shape.channels - 1) + 1, unit)
        return [*whole, *([self.shape.channels] if self.shape.channels <= most else [])]

    def splits(self, width: int) -> list[int]:
        """Channels of a pass of this width that GEMM-D may get."""
        if not self.shape.row_bytes or self.shape.cores == {GEMM_D}:
            return [width]
        if self.shape.cores == {GEMM_L}:
            return [0]
        if self.shape.one_core:
            return [0, width] if self.share is None else [width if self.share >= _HALF else 0]
        if self.share is not None:
            exact = self.share * width
            return [width if self.share >= 1 else min(int(exact) // self.unit * self.unit, width)]
        inner = range(0, width, self.unit)
        return [*inner, width]

    def cut(self, width: int, on_d: int, step_bytes: int) -> Tile | None:
        """The cut whose passes are all alike, None where a buffer cannot hold it or GEMM-L's sums its channels."""
        on_l = width - on_d
        rows = self.rows(on_d, on_l, step_bytes)
        if rows < 1:
            return None
        shares = self.shares_of_planes(width, on_d)
        most = max(shares)
        if not self.fits(ColumnRange(0, on_d, on_l, most), step_bytes):
            return None
        chosen = {planes: ColumnRange(0, on_d, on_l, planes) for planes in shares}
        cycles = sum(share * self.pass_cycles(chosen[planes], rows, step_bytes) for planes, share in shares.items())
        resident = step_bytes == self.shape.row_bytes
        return Tile(rows, step_bytes, resident, (chosen[most],), cycles / rows)

    def shares_of_planes(self, width: int, on_d: int) -> dict[int, float]:
        """How many passes have how many planes on GEMM-L; a last, narrower one counts as a part."""
        channels = self.shape.channels
        if self.uniform:
            return {self.planes(0, on_d, width - on_d, 0): channels / width}
        shares: dict[int, float] = defaultdict(float)
        for number, first in enumerate(range(0, channels, width)):
            part = min(width, channels - first)
            taken = min(on_d, part)
            shares[self.planes(first, taken, part - taken, number * (width - on_d))] += part / width
        return shares

    def planes(self, first: int, on_d: int, on_l: int, earlier: int) -> int:
        """Planes of a pass on GEMM-L, 0 where it has no channels there.

        Args:
            first: First channel of the pass.
            on_d: Its channels on GEMM-D.
            on_l: Its channels on GEMM-L.
            earlier: Channels on GEMM-L of the passes before.
        """
        if not on_l:
            return 0
        if self.rising is not None:
            return self.rising[earlier + on_l - 1]
        return max(self.shape.planes[first + on_d : first + on_d + on_l])

    def pass_cycles(self, chosen: ColumnRange, rows: int, step_bytes: int) -> float:
        """Cycles of a tile of a pass when everything overlaps: those of the slowest."""
        shape, geometry = self.shape, self.geometry
        times = [float(self.vector_cycles(rows, chosen.on_d, chosen.on_l))]
        weight_beats = 0
        steps = -(-shape.row_bytes // step_bytes) if step_bytes else 0
        if step_bytes:
            groups_d, groups_l = -(-chosen.on_d // geometry.gemm_d_cols), -(-chosen.on_l // geometry.gemm_l_cols)
            times.append(steps * self.d_cycles(rows, groups_d, step_bytes, steps > 1))
            times.append(steps * self.l_cycles(rows, groups_l, chosen.planes, step_bytes, steps > 1))
            weight_beats = steps * self.d_words(groups_d, step_bytes) * self.word_beats["wgt_d_ram"]
            weight_beats += steps * self.l_words(groups_l, chosen.planes, step_bytes) * self.word_beats["wgt_l_ram"]
        moved = rows * (shape.row_bytes + chosen.count * shape.output_bits // 8) / _BEAT
        moved += weight_beats * (rows / _NOMINAL_ROWS if steps == 1 else 1)
        times.append(moved + 2 * _INSTRUCTION)
        return max(times)

    def d_cycles(self, rows: int, groups: int, step_bytes: int, accumulates: bool) -> float:
        """Cycles of a matmul: two trips a beat, or the drain of a block."""
        if not groups:
            return 0
        array = self.geometry.gemm_d_rows
        drain = array * (2 if accumulates else 1)
        return groups * -(-rows // array) * max(2 * step_bytes // _BEAT, drain) + drain + _INSTRUCTION

    def l_cycles(self, rows: int, groups: int, planes: int, step_bytes: int, accumulates: bool) -> float:
        """Cycles of a matmul_planes: a trip for each slice, word and plane, or the drain of a block."""
        if not groups:
            return 0
        array = self.geometry.gemm_l_rows
        drain = array * (2 if accumulates else 1)
        trips = self.shape.slices * self.l_row_words(step_bytes) * planes
        return groups * -(-rows // array) * max(trips, drain) + drain + _INSTRUCTION

    def l_row_words(self, step_bytes: int) -> int:
        """Words of 32 channels in a step's part of a row."""
        return step_bytes // (16 if self.shape.packed else 32)

    def d_words(self, groups: int, step_bytes: int) -> int:
        """Words of wgt_d_ram of a step."""
        return groups * 2 * step_bytes // _BEAT

    def l_words(self, groups: int, planes: int, step_bytes: int) -> int:
        """Words of wgt_l_ram of a step."""
        return groups * self.l_row_words(step_bytes) * planes

    def vector_cycles(self, rows: int, on_d: int, on_l: int) -> int:
        """Trips of VEC: a group of lanes channels each, four where results are int32."""
        groups = -(-on_d // self.geometry.lanes) + -(-on_l // self.geometry.lanes)
        parts = (on_d > 0) + (on_l > 0)
        return rows * groups * max(1, self.shape.output_bits // 8) + parts * _INSTRUCTION

    def fits(self, chosen: ColumnRange, step_bytes: int) -> bool:
        """Whether GEMM-L's sums hold its channels of a pass, slots its weights and parameters, fields its sizes."""
        geometry, on_d, on_l = self.geometry, chosen.on_d, chosen.on_l
        if chosen.planes == NOT_ON_L or not self.fields_hold(on_d, on_l):
            return False
        needs = {
            "wgt_d_ram": self.d_words(-(-on_d // geometry.gemm_d_cols), step_bytes),
            "wgt_l_ram": self.l_words(-(-on_l // geometry.gemm_l_cols), chosen.planes, step_bytes),
            "par_ram": self.parameter_words(on_d, on_l),
        }
        return all(words <= self.slots[memory] for memory, words in needs.items())

    def parameter_words(self, on_d: int, on_l: int) -> int:
        """Words of par_ram of a pass."""
        groups = -(-on_d // self.geometry.lanes) + -(-on_l // self.geometry.lanes)
        return (2 * groups + 1 if self.shape.normalized else groups) * self.shape.biased

    def fields_hold(self, on_d: int, on_l: int) -> bool:
        """Whether VEC's narrowest field can name what a pass takes, padding included."""
        groups = max(-(-on_d // self.geometry.lanes), -(-on_l // self.geometry.lanes))
        words = groups * max(1, self.shape.output_bits // 8) + _BEATS
        return words <= _ROW_WORDS

    def rows(self, on_d: int, on_l: int, step_bytes: int) -> int:
        """Rows of a tile: what all buffers hold, whole blocks of the cores' arrays where there is room."""
        geometry, most = self.geometry, self.shape.most_rows
        blocks: list[int] = []
        if step_bytes and on_d:
            held = self.slots["act_d_ram"] // (step_bytes // _BEAT) * geometry.gemm_d_rows
            most = min(most, held, self.slots["acc_d_ram"] // -(-on_d // geometry.gemm_d_cols))
            blocks.append(geometry.gemm_d_rows)
        if step_bytes and on_l:
            held = self.slots["act_l_ram"] // (self.shape.slices * self.l_row_words(step_bytes)) * geometry.gemm_l_rows
            most = min(most, held, self.slots["acc_l_ram"] // -(-on_l // geometry.gemm_l_cols))
            blocks.append(geometry.gemm_l_rows)
        if self.shape.aggregated:
            most = min(most, self.slots["sum_ram"] // -(-(on_d + on_l) // geometry.lanes))
        most = min(most, self.slots["out_ram"] // self.out_words(on_d + on_l))
        for block in (math.lcm(*blocks), max(blocks, default=1)):
            if most >= block:
                return most - most % block
        return most

    def out_words(self, width: int) -> int:
        """Words of out_ram that a row of a pass takes; the last pass writes what pads the row too."""
        count = -(-width * self.shape.output_bits // 8)
        if self.shape.output_bits == SCORE_BITS:
            return -(-count // _BEAT)
        between = width < self.shape.channels and count % _BLOCK
        return blocks_of(count + _BLOCK - 1 if between else count) * _BEATS

    def passes(self, tile: Tile) -> Iterator[ColumnRange]:
        """All passes; the last one, which may be narrower, is split anew."""
        model, channels = tile.passes[0], self.shape.channels
        for number, first in enumerate(range(0, channels, model.count)):
            earlier = number * model.on_l
            if first + model.count <= channels:
                yield replace(model, first=first, planes=self.planes(first, model.on_d, model.on_l, earlier))
            else:
                yield self.last_pass(tile, first, earlier)

    def last_pass(self, tile: Tile, first: int, earlier: int) -> ColumnRange:
        """The fastest split of the channels from ``first`` on that holds the tile's rows, or the tile's own split."""
        left = self.shape.channels - first
        choices = [*self.splits(left), min(left, tile.passes[0].on_d)]
        ranges = [ColumnRange(first, d, left - d, self.planes(first, d, left - d, earlier)) for d in choices]
        fitting = [
            one
            for one in ranges[:-1]
            if self.fits(one, tile.step_bytes) and self.rows(one.on_d, one.on_l, tile.step_bytes) >= tile.rows
        ]
        return min(fitting, key=lambda one: self.pass_cycles(one, tile.rows, tile.step_bytes), default=ranges[-1])

    def too_small(self, name: str) -> DesignTooSmallError:
        """Names the first buffer that cannot hold one row of the smallest cut."""
        shape, geometry = self.shape, self.geometry
        width = shape.channels if shape.whole else shape.pass_channels or min(shape.channels, self.block_channels)
        if shape.aggregated and width > self.aggregated_channels:
            groups = -(-width // geometry.lanes)
            return DesignTooSmallError(
                f"layer '{name}' aggregates {counted(width, 'channel')} at once, the design's agg_groups hold "
                f"{self.aggregated_channels}",
                f"agg_groups of at least {groups}",
                "use a design with more accumulators in AGG",
            )
        short = [(memory, need) for memory, need in self.smallest(width).items() if need > self.slots[memory]]
        memory, need = short[0]
        return DesignTooSmallError(
            f"layer '{name}' needs {need} words in each of the {SLOTS} slots of {memory}, which hold "
            f"{self.slots[memory]}",
            f"{memory.replace('_ram', '_words')} of at least {SLOTS * need}",
            "use a design with a larger buffer",
        )

    def smallest(self, width: int) -> dict[str, int]:
        """Words that one row of one block of input channels takes in each buffer's slot."""
        shape, geometry = self.shape, self.geometry
        on_d = self.splits(width)[-1]
        on_l = width - on_d
        needs = {"out_ram": self.out_words(width)}
        if shape.aggregated:
            needs["sum_ram"] = -(-width // geometry.lanes)
        if shape.biased:
            needs["par_ram"] = self.parameter_words(on_d, on_l)
        if not shape.row_bytes:
            return needs
        if on_d:
            groups = -(-on_d // geometry.gemm_d_cols)
            needs |= {"act_d_ram": _BEATS, "acc_d_ram": groups, "wgt_d_ram": self.d_words(groups, _BLOCK)}
        if on_l:
            groups, words = -(-on_l // geometry.gemm_l_cols), self.l_row_words(_BLOCK)
            weights = self.l_words(groups, max(shape.planes), _BLOCK)
            needs |= {"act_l_ram": shape.slices * words, "acc_l_ram": groups, "wgt_l_ram": weights}
        return needs


def stored_row_bytes(channels: int, bits: int) -> int:
    """Bytes of a row of ``channels`` values of 4, 8 or 32 bits each, whole blocks."""
    return padded(-(-channels * bits // 8), _BLOCK)
