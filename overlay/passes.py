# SPDX-License-Identifier: Apache-2.0
"""A program's passes over the rows of its layers: their tiles, what they need of other passes, and what these take.

A pass is an entry, which loads what all of its tiles read, and its tiles. Which tensors a tile reads row by row, and
which a pass gathers from, follows from the addresses that its instructions name. Only numpy.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from hetfab.overlay.compiler.semaphores import Semaphore
from hetfab.overlay.costs.attention import dividers
from hetfab.overlay.costs.cycles import COSTS, held_trips
from hetfab.overlay.design import Geometry
from hetfab.overlay.expansion import filled, iterations
from hetfab.overlay.isa.codec import AttendSource, Engine, ReduceSource
from hetfab.overlay.isa.spec import isa
from hetfab.overlay.isa.words import Decoded, decode
from hetfab.overlay.program import Block, Part, Program, SymbolKind, Words
from hetfab.overlay.stages import uses_of, without_uses

Array: TypeAlias = npt.NDArray[Any]

#: Semaphores that say that a pass has ended or a tensor is stored: their places depend on the order of passes.
MILESTONES = (Semaphore.PASS_ENDED, Semaphore.STORED_FOR_LOAD, Semaphore.STORED_FOR_AGG)
_EDGES = (SymbolKind.DESTINATIONS, SymbolKind.RUNS)
#: Cycles of AGG for a ``reduce`` and for an ``attend``, and for each destination's records, roughly: they decide in
#: which order tiles stand, and nothing else.
_REDUCE, _ATTEND, _RECORD = 200.0, 450.0, 3.0
#: Cycles of a tile of products beside its busiest engine's: found so that AGG, whose sums VEC takes in the order of the
#: stream, seldom waits for products that are late.
_PRODUCT_TILE = 300.0
#: Beats of scores that attention reads of an edge, in both of its passes.
_SCORES = 2.0
#: A pass is cut into so many stretches at most, each of so many tiles and times the cycles of its entry at least.
_STRETCHES, _STRETCH_TILES, _STRETCH_ENTRIES = 32, 4, 20.0


@dataclass(frozen=True)
class Rows:
    """Rows of a tensor that stands alone, or of the stack that it is a part of.

    Attributes:
        tensor: Its name, or the stack's.
        first: The first row.
        last: Behind the last one.
    """

    tensor: str
    first: int
    last: int


@dataclass(eq=False)
class Pass:
    """A pass over the rows of a layer, or a stretch of one.

    Attributes:
        layer: The layer's number.
        final: Whether all channels of its rows are computed when it ends.
        first: Its first row.
        rows: Its rows.
        tile_rows: Rows of a full tile.
        reads: Tensors whose row each tile reads for each of its own, and the row that belongs to its first one.
        gathers: Tensors of which any tile may read any row.
        entry: Number of its entry's block, -1 for none.
        tiles: Block of each tile, and the number of the iteration within it.
        cycles: Of each tile, on the engine that it takes longest, roughly.
        entry_cycles: Of its entry, likewise.
        aggregates: Whether AGG works on it.
        claims: Slots of each ring that stay taken until it ends.
        table: Whether it has a table of a function.
    """

    layer: int
    final: bool = True
    first: int = 0
    rows: int = 0
    tile_rows: int = 1
    reads: list[tuple[str, int]] = field(default_factory=list)
    gathers: list[str] = field(default_factory=list)
    entry: int = -1
    tiles: list[tuple[int, int]] = field(default_factory=list)
    cycles: list[float] = field(default_factory=list)
    entry_cycles: float = 0.0
    aggregates: bool = False
    claims: dict[int, int] = field(default_factory=dict)
    table: bool = False

    def needs(self, tile: int) -> list[Rows]:
        """Rows that a tile reads one by one."""
        first = tile * self.tile_rows
        last = min(first + self.tile_rows, self.rows)
        return [Rows(tensor, start + first, start + last) for tensor, start in self.reads]

    def is_beside(self, other: "Pass") -> bool:
        """Whether both are stretches of one pass."""
        return self.layer == other.layer and self.first != other.first

    def stretches(self) -> "list[Pass]":
        """The pass cut into stretches, where their entries take little beside their tiles."""
        enough = int(sum(self.cycles) / (_STRETCH_ENTRIES * max(self.entry_cycles, 1.0)))
        count = max(1, min(_STRETCHES, enough, len(self.tiles) // _STRETCH_TILES))
        ends = [len(self.tiles) * number // count for number in range(count + 1)]
        return [self._stretch(begin, end) for begin, end in pairwise(ends)]

    def _stretch(self, begin: int, end: int) -> "Pass":
        """The tiles from ``begin`` to before ``end`` as a pass."""
        skipped = begin * self.tile_rows
        return replace(
            self,
            first=self.first + skipped,
            rows=min(end * self.tile_rows, self.rows) - skipped,
            reads=[(tensor, start + skipped) for tensor, start in self.reads],
            tiles=self.tiles[begin:end],
            cycles=self.cycles[begin:end],
        )


@dataclass(frozen=True, eq=False)
class Passes:
    """All passes of a bound program.

    Attributes:
        blocks: The program's blocks without milestones.
        passes: In program order.
        writers: Of each tensor that layers write, the passes that end its rows and the first row of each.
    """

    blocks: tuple[Block, ...]
    passes: list[Pass]
    writers: dict[str, list[tuple[Pass, int]]]


def passes_of(program: Program, counts: Mapping[str, int], values: Array, edges: Mapping[str, Array]) -> Passes:
    """The passes of a program on a graph.

    Args:
        program: The program.
        counts: Vertices of each node type.
        values: int64, of each symbol.
        edges: Of each edge set, where each destination's edges begin.
    """
    blocks = tuple(_without_milestones(block) for block in program.blocks)
    reader = _Reader(program, counts, values, edges, blocks)
    for number, block in enumerate(blocks):
        if len(block.words):
            reader.add(number, block)
    for one, following in pairwise(reader.passes):
        one.final = following.layer != one.layer
    writers: dict[str, list[tuple[Pass, int]]] = {}
    for one in reader.passes:
        if one.final:
            tensor, start = reader.place(program.layers[one.layer].name)
            writers.setdefault(tensor, []).append((one, start))
    return Passes(blocks, reader.passes, writers)


def in_stretches(passes: Passes) -> Passes:
    """The same with the passes cut into stretches on which AGG does not work.

    The engines of products can then turn from one layer to the next while AGG is at the rows that all of these read, so
    that what AGG gathers from next is nearly computed when it gets there.
    """
    of_layer = Counter(one.layer for one in passes.passes)
    cut = {
        id(one): [one] if one.aggregates or one.table or of_layer[one.layer] > 1 else one.stretches()
        for one in passes.passes
    }
    writers = {
        tensor: [(part, start + part.first) for one, start in found for part in cut[id(one)]]
        for tensor, found in passes.writers.items()
    }
    return Passes(passes.blocks, [part for one in passes.passes for part in cut[id(one)]], writers)


def _without_milestones(block: Block) -> Block:
    chosen = [use for use in uses_of(block.words) if use[2] in MILESTONES]
    return without_uses(block, [(index, name) for index, name, _ in chosen])


class _Reader:
    """Puts blocks together to passes."""

    def __init__(
        self,
        program: Program,
        counts: Mapping[str, int],
        values: Array,
        edges: Mapping[str, Array],
        blocks: Sequence[Block],
    ) -> None:
        self.passes: list[Pass] = []
        self._program = program
        self._counts = counts
        self._values = values
        self._indptr = edges
        self._blocks = blocks
        self._symbols = list(program.symbols)
        #: The edge set of each context.
        self._contexts: dict[int, str] = {}
        #: Slots of its scratchpad for each vertex that it reads.
        self._slots: dict[int, float] = {}

    def add(self, number: int, block: Block) -> None:
        """The next block."""
        begins = not self.passes or self.passes[-1].layer != block.layer
        ended = bool(self.passes) and bool(self.passes[-1].tiles) and block.part is not Part.TAIL
        if begins or ended:
            self.passes.append(Pass(block.layer))
        one = self.passes[-1]
        steps = iterations(block, self._counts)
        words = filled(self._program, block, steps[:1], self._values)
        decoded = _instructions(words[0]) if len(words) else []
        self._note_tensors(one, block)
        self._note_contexts(block)
        for each in decoded:
            if each.operation.name == "configure_features":
                self._slots[each.fields["slot"]] = (1 << each.fields["slot_bits"]) / max(each.fields["count"], 1)
        one.aggregates |= any(each.operation.engine == "agg" for each in decoded)
        one.table |= any(each.operation.name == "load_function" for each in decoded)
        for ring, uses in enumerate(block.ring_uses):
            if uses and not self._program.rings[ring].free:
                held = 1 if block.part is Part.ONCE else self._program.rings[ring].slots
                one.claims[ring] = max(one.claims.get(ring, 0), held)
        if block.part is Part.ONCE:
            one.entry, one.entry_cycles = number, float(self._cycles(decoded, block, steps)[0])
            return
        one.rows, one.tile_rows = self._counts[block.node_type], block.tile_rows
        one.tiles += [(number, place) for place in range(len(steps))]
        one.cycles += self._cycles(decoded, block, steps).tolist()

    def place(self, name: str) -> tuple[str, int]:
        """What a tensor is rows of, itself or a stack, and its first row there."""
        tensor = self._program.tensor(name)
        if not tensor.whole:
            return name, 0
        stack = self._program.stack(self._program.tensor(tensor.whole).node_type)
        return tensor.whole, stack.starts(self._counts)[tensor.part]

    def _note_tensors(self, one: Pass, block: Block) -> None:
        """Which tensors LOAD reads row by row, and which AGG reads."""
        engines = _engines(block.words)
        for patch in block.patches:
            symbol = self._symbols[patch["symbol"]] if patch["symbol"] >= 0 else None
            if symbol is None or symbol.kind is not SymbolKind.TENSOR:
                continue
            engine, place = engines[patch["instruction"]], self.place(symbol.name)
            if engine == Engine.LOAD and place not in one.reads:
                one.reads.append(place)
            elif engine == Engine.AGG and place[0] not in one.gathers:
                one.gathers.append(place[0])

    def _note_contexts(self, block: Block) -> None:
        """Which edge set each context is of."""
        for patch in block.patches:
            symbol = self._symbols[patch["symbol"]] if patch["symbol"] >= 0 else None
            if symbol is not None and symbol.kind in _EDGES:
                (found,) = _instructions(block.words[patch["instruction"]][None])
                self._contexts[found.fields["slot"]] = symbol.name

    def _cycles(self, decoded: Sequence[Decoded], block: Block, steps: Array) -> Array:
        """Cycles of the busiest engine in each iteration of a block, roughly."""
        others: dict[str, list[Decoded]] = {}
        of_edges = np.zeros(len(steps))
        ends = np.minimum((steps + 1) * block.tile_rows, self._counts.get(block.node_type, 0))
        for each in decoded:
            if each.operation.name in ("reduce", "attend"):
                indptr = self._indptr[self._contexts[each.fields["slot"]]]
                begins = steps * block.tile_rows
                slots = self._slots.get(each.fields["slot"], 0.0)
                of_edges += _agg_cycles(
                    each, ends - begins, indptr[ends] - indptr[begins], slots, self._program.design.geometry
                )
            else:
                others.setdefault(each.operation.name, []).append(each)
        fixed = _fixed_cycles(others, self._program.design.geometry)
        of_products = max(fixed.values(), default=0.0)
        return np.maximum(of_edges, of_products if of_edges.any() else of_products + _PRODUCT_TILE)


def _agg_cycles(found: Decoded, rows: Array, edges: Array, slots: float, geometry: Geometry) -> Array:
    """Cycles of an instruction of AGG by the rows and the edges of its tile, roughly.

    The last row of a destination goes group by group, and so does a row from DRAM. Of the others a share is taken to be
    on chip that is larger than that of the vertices which have slots, as some vertices have most of the edges.
    """
    fields = found.fields
    attends = found.operation.name == "attend"
    groups = fields["heads"] * fields["head_groups"] if attends else fields["groups"]
    by_tags = fields["source"] != (AttendSource.DRAM if attends else ReduceSource.DRAM)
    held = math.sqrt(min(slots, 1.0)) * by_tags
    each = held * float(held_trips(groups, geometry.agg_word_beats, bool(by_tags))) + (1.0 - held) * groups
    last = np.minimum(rows, edges)
    cycles = _RECORD * rows + groups * last + each * (edges - last) + fields["accumulate"] * groups * rows
    if not attends:
        return np.asarray(_REDUCE + cycles)
    quotients = rows * groups * geometry.lanes / dividers(geometry)
    return np.asarray(_ATTEND + cycles + _SCORES * edges + quotients)


def _fixed_cycles(found: Mapping[str, Sequence[Decoded]], geometry: Geometry) -> dict[str, float]:
    """Cycles by engine of instructions, by operation, that no graph matters to."""
    spent: dict[str, float] = {}
    for name, several in found.items():
        fields = {key: np.array([each.fields[key] for each in several]) for key in several[0].fields}
        cycles = COSTS[name](fields, geometry).cycles.tolist()
        for each, own in zip(several, cycles, strict=True):
            engine = isa().engines[each.fields["engine"]].name
            spent[engine] = spent.get(engine, 0.0) + own
    return spent


def _instructions(words: Words) -> list[Decoded]:
    return [decode(low | high << 64) for low, high in words.tolist()]


def _engines(words: Words) -> list[int]:
    return [isa().header_field("engine").get(low) for low in words[:, 0].tolist()]
