# SPDX-License-Identifier: Apache-2.0
"""Narrows a program to some rows of its layers: the same instructions for a part of a graph. Only numpy.

The vertices of each type are put in an order in which every layer computes the first so many. Then the loops of each
layer end earlier, and nothing else changes: all tensors of a type have a row for each vertex that is kept.
"""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from hetfab.overlay.bind import IncomingEdges
from hetfab.overlay.isa.spec import isa
from hetfab.overlay.program import Block, Edges, Limits, Part, Program, Symbol, SymbolKind, Tensor
from hetfab.overlay.row_needs import EdgeRows
from hetfab.overlay.stages import Stage, Use, waits_between_layers

Ids: TypeAlias = npt.NDArray[np.int64]
_NO_IDS = np.zeros(0, np.int64)


@dataclass(frozen=True, eq=False)
class KeptVertices:
    """Vertices of a type that are kept.

    Attributes:
        ids: In their order, numbered as in the whole graph.
        sorted_ids: The same in rising order.
        places: Of ``sorted_ids``, their places in ``ids``.
    """

    ids: Ids
    sorted_ids: Ids
    places: Ids

    def places_of(self, ids: Ids) -> Ids:
        """Places of some that are kept."""
        return self.places[np.searchsorted(self.sorted_ids, ids)]


@dataclass(frozen=True, eq=False)
class Subgraph:
    """A narrowed program and what it keeps of a graph.

    Attributes:
        program: The program.
        kept: Vertices of each node type.
        counts: Of each node type, and the rows that each layer computes.
        edges: Of each edge set that the graph gives.
    """

    program: Program
    kept: Mapping[str, KeptVertices]
    counts: Mapping[str, int]
    edges: Mapping[str, IncomingEdges]


def subgraph(
    program: Program,
    stages: Sequence[Stage],
    counts: Mapping[str, int],
    rows: Sequence[Ids],
    edges_into: EdgeRows,
    given: Collection[str],
) -> Subgraph:
    """Narrows a program.

    Args:
        program: The program.
        stages: Its layers.
        counts: Vertices of each node type of the whole graph, the program's stacks among them.
        rows: The rows that each layer has to compute, as ``rows_of_layers`` gives them; none for a layer that is
            left out.
        edges_into: Gives the edges of a set into some destinations.
        given: Tensors that are not computed: their rows are given.

    Returns:
        The result; tables with a row for each vertex and given tensors are to be given as rows.
    """
    return _Narrowing(program, stages, counts, rows, edges_into, given).result()


class _Narrowing:
    def __init__(
        self,
        program: Program,
        stages: Sequence[Stage],
        counts: Mapping[str, int],
        rows: Sequence[Ids],
        edges_into: EdgeRows,
        given: Collection[str],
    ) -> None:
        self._program = program
        self._stages = [stage for stage in stages if len(rows[stage.layer])]
        self._counts = counts
        self._rows = rows
        self._given = given
        self._stacks = {stack.name: stack for stack in program.stacks}
        self._found = self._all_edges(edges_into)
        self._kept = self._kept_vertices()
        self._own_counts = program.all_counts({name: len(kept.ids) for name, kept in self._kept.items()})

    def result(self) -> Subgraph:
        loops = {_loop(stage): self._rows_of(stage) for stage in self._stages}
        edges = {each.name: self._local(each, *found) for each, found in self._found.items()}
        kept_types = {name: len(kept.ids) for name, kept in self._kept.items()}
        return Subgraph(self._narrowed(), self._kept, kept_types | loops, edges)

    def _all_edges(self, edges_into: EdgeRows) -> dict[Edges, tuple[Ids, IncomingEdges]]:
        """Of each edge set that the graph gives: destinations that some layer computes, and the edges into them."""
        wanted: dict[Edges, list[Ids]] = defaultdict(list)
        for stage in self._stages:
            for edges in stage.edges:
                if edges.of_graph:
                    wanted[edges].append(self._rows[stage.layer])
        united = {edges: np.unique(np.concatenate(ids)) for edges, ids in wanted.items()}
        return {edges: (ids, edges_into(edges, ids)) for edges, ids in united.items()}

    def _by_type(self, node_type: str, rows: Ids) -> list[tuple[str, Ids]]:
        """The vertices that rows are of."""
        if node_type not in self._stacks:
            return [(node_type, rows)]
        types = self._stacks[node_type].types
        starts = self._stacks[node_type].starts(self._counts)
        return [
            (name, rows[(rows >= first) & (rows < last)] - first)
            for name, first, last in zip(types, starts[:-1], starts[1:], strict=True)
        ]

    def _kept_vertices(self) -> dict[str, KeptVertices]:
        """All vertices whose rows are read or written, those first that the last layers compute."""
        layers: dict[str, list[tuple[Ids, int]]] = defaultdict(list)
        uses = [(stage.output.node_type, self._rows[stage.layer], stage.layer) for stage in self._stages]
        uses += [(edges.source_type, np.unique(found.sources), -1) for edges, (_, found) in self._found.items()]
        for node_type, rows, layer in uses:
            for name, ids in self._by_type(node_type, rows.astype(np.int64)):
                layers[name].append((ids, layer))
        types = [name for name in self._counts if name not in self._stacks]
        return {name: _in_order(layers.get(name, [])) for name in types}

    def _rows_of(self, stage: Stage) -> int:
        """How many rows a layer computes: of a type the first ones, of a stack all."""
        node_type = stage.output.node_type
        if node_type in self._stacks:
            return self._own_counts[node_type]
        return int(self._kept[node_type].places_of(self._rows[stage.layer]).max()) + 1

    def _local(self, edges: Edges, destinations: Ids, found: IncomingEdges) -> IncomingEdges:
        """Edges between the vertices that are kept; those that no layer reduces have none."""
        places = self._places(edges.destination_type, destinations)
        degrees = np.zeros(self._own_counts[edges.destination_type], np.int64)
        degrees[places] = np.diff(found.indptr)
        indptr = np.concatenate([[0], np.cumsum(degrees)])
        order = np.argsort(places, kind="stable")
        own = np.diff(found.indptr)[order]
        entries = np.repeat(found.indptr[:-1][order] - np.cumsum(own) + own, own) + np.arange(indptr[-1])
        sources = self._places(edges.source_type, found.sources[entries])
        types = None if found.types is None else found.types[entries]
        weights = None if found.weights is None else found.weights[entries]
        return IncomingEdges(indptr, sources, types, weights)

    def _places(self, node_type: str, rows: npt.NDArray[np.integer]) -> Ids:
        """Where rows of a type or a stack are among those that are kept."""
        if node_type not in self._stacks:
            return self._kept[node_type].places_of(rows.astype(np.int64))
        stack = self._stacks[node_type]
        theirs, own = np.array(stack.starts(self._counts)), stack.starts(self._own_counts)
        part = np.searchsorted(theirs, rows, side="right") - 1
        found = np.empty(len(rows), np.int64)
        for number, name in enumerate(stack.types):
            inside = part == number
            found[inside] = self._kept[name].places_of(rows[inside] - theirs[number]) + own[number]
        return found

    def _narrowed(self) -> Program:
        program, layers = self._program, {stage.layer for stage in self._stages}
        edges = {each.name for stage in self._stages for each in stage.edges}
        symbols: dict[Symbol, int] = {}
        blocks = []
        for block in _kept_blocks(program, layers):
            patches = block.patches.copy()
            for index in np.flatnonzero(patches["symbol"] >= 0).tolist():
                symbol = program.symbols[patches["symbol"][index]]
                if symbol.kind is SymbolKind.TAIL_ROWS:
                    symbol = replace(symbol, name=_loop_name(block.layer))
                patches["symbol"][index] = symbols.setdefault(symbol, len(symbols))
            blocks.append(replace(block, node_type=block.node_type and _loop_name(block.layer), patches=patches))
        return replace(
            program,
            blocks=tuple(blocks),
            symbols=tuple(symbols),
            tensors=tuple(self._tensor(tensor) for tensor in program.tensors),
            edges=tuple(each for each in program.edges if each.name in edges),
            limits=Limits(program.limits.largest_degree, {}),
        )

    def _tensor(self, tensor: Tensor) -> Tensor:
        if tensor.name in self._given or is_table(tensor, self._stacks):
            return replace(tensor, segment="features", constant_offset=-1, channel_order=())
        return tensor


def is_table(tensor: Tensor, stacks: Collection[str]) -> bool:
    """Whether a tensor is a constant with a row for each vertex of a type."""
    return tensor.segment == "constants" and tensor.node_type not in stacks


def _loop(stage: Stage) -> str:
    return _loop_name(stage.layer)


def _loop_name(layer: int) -> str:
    """The type whose number of nodes ends the loops of a layer."""
    return f"rows of layer {layer}"


def _in_order(uses: Sequence[tuple[Ids, int]]) -> KeptVertices:
    """Vertices by the last layer that computes them, the later first."""
    sorted_ids = np.unique(np.concatenate([_NO_IDS, *(ids for ids, _ in uses)]))
    last = np.full(len(sorted_ids), -1, np.int64)
    for ids, layer in uses:
        where = np.searchsorted(sorted_ids, ids)
        last[where] = np.maximum(last[where], layer)
    order = np.argsort(-last, kind="stable")
    places = np.empty(len(order), np.int64)
    places[order] = np.arange(len(order))
    return KeptVertices(sorted_ids[order], sorted_ids, places)


def _kept_blocks(program: Program, layers: Collection[int]) -> list[Block]:
    """The blocks of some layers, and of the others the waits and signals that order layers.

    A layer does not wait for what its engine has waited for before, and a signal that a tensor is stored says so of
    all tensors before it: so those of a layer that is left out stay.
    """
    kept: dict[int, list[Use]] = defaultdict(list)
    for pair in waits_between_layers(program):
        for use in pair:
            kept[use.block].append(use)
    found = []
    for number, block in enumerate(program.blocks):
        if block.layer in layers:
            found.append(block)
        elif kept[number]:
            found.append(_ordering(block, kept[number]))
    return found


def _ordering(block: Block, uses: Sequence[Use]) -> Block:
    """A block that only waits and signals."""
    engine = isa().header_field("engine")
    instructions = sorted({use.instruction for use in uses})
    words = np.zeros((len(instructions), 2), np.uint64)
    words[:, 0] = block.words[instructions, 0] & np.uint64(engine.largest << engine.lsb)
    for use in uses:
        field = isa().header_field(use.field)
        semaphore = block.words[use.instruction, 0] & np.uint64(field.largest << field.lsb)
        words[instructions.index(use.instruction), 0] |= semaphore
    return replace(block, part=Part.ONCE, words=words, patches=block.patches[:0], ring_uses=(0,) * len(block.ring_uses))
