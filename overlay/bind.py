# SPDX-License-Identifier: Apache-2.0
"""Binds a program to a graph: checks the limits, fills counts and offsets, writes the graph's arrays, expands blocks.

Only numpy is needed, so that a board can bind. The result is the bound stream: the bytes that board and emulator
execute, and what belongs into each segment of DRAM.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from hetfab.overlay import layouts
from hetfab.overlay.errors import (
    CountFixedError,
    GraphInvalidError,
    LimitExceededError,
    RelationMissingError,
    counted,
)
from hetfab.overlay.expansion import expand, without_first_waits
from hetfab.overlay.features import (
    FeatureEdges,
    Features,
    check_features,
    feature_edges,
    feature_rows,
    weighted_feature_edges,
)
from hetfab.overlay.host_nodes import refuse_host
from hetfab.overlay.images import image_values
from hetfab.overlay.interleaving import interleave
from hetfab.overlay.isa.arithmetic import Q8_BITS
from hetfab.overlay.isa.codec import Segment
from hetfab.overlay.isa.spec import isa
from hetfab.overlay.order import check_order
from hetfab.overlay.parts import Ids, Parts, PartsMaker, in_parts
from hetfab.overlay.patterns import pattern_edges
from hetfab.overlay.program import Edges, Program, Symbol, SymbolKind, Tensor, Words
from hetfab.overlay.schedules import Schedule, pinned, schedule_arrays

#: Symbols of arrays, and of numbers of edges.
_ARRAYS = (SymbolKind.DESTINATIONS, SymbolKind.IDS, SymbolKind.RUNS, SymbolKind.UNITS)
#: What the numbers of edges count.
_NUMBERED = {
    SymbolKind.EDGES: "edge",
    SymbolKind.PARTS: "part",
    SymbolKind.ID_BYTES: "id byte",
    SymbolKind.UNIT_COUNT: "unit",
}
#: Of the largest degree of a mean, that of a sum.
_TOTAL_SHARE = 4
_OFFSET_LIMIT = 1 << isa().offset_bits


class IncomingEdges(NamedTuple):
    """Edges ordered by destination: indptr [destinations + 1], sources [edges], types or weights [edges] if any."""

    indptr: npt.NDArray[np.integer[Any]]
    sources: npt.NDArray[np.integer[Any]]
    types: npt.NDArray[np.integer[Any]] | None = None
    weights: npt.NDArray[np.floating[Any]] | None = None


@dataclass(frozen=True, eq=False)
class GraphArrays:
    """A graph as plain arrays, named as a program names its parts.

    Attributes:
        counts: Vertices of each node type.
        features: Of each feature tensor, float32 [N, D] or sparse.
        edges: Of each edge set.
        rows: In place of features, rows of a tensor as they lie in DRAM: uint8 [rows, bytes of a row].
    """

    counts: Mapping[str, int]
    features: Mapping[str, Features]
    edges: Mapping[str, IncomingEdges]
    rows: Mapping[str, layouts.Bytes] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class BoundProgram:
    """A program bound to a graph.

    Attributes:
        program: What was bound.
        words: uint64 [n, 2], the bound stream.
        layers: uint16 [n], layer of each instruction.
        contents: uint8 content of each segment that the driver fills; of the others, zeros are not needed.
        sizes: Bytes of every segment.
        offsets: Place of each tensor in its segment.
        counts: Vertices of each node type, the program's stacks among them.
        values: Of each symbol of the program.
    """

    program: Program
    words: Words
    layers: npt.NDArray[np.uint16]
    contents: Mapping[Segment, npt.NDArray[np.uint8]]
    sizes: Mapping[Segment, int]
    offsets: Mapping[str, int]
    counts: Mapping[str, int]
    values: Mapping[Symbol, int]

    def hash(self) -> str:
        """SHA-256 of the bound stream, in hexadecimal."""
        return hashlib.sha256(self.words.tobytes()).hexdigest()

    def logits(self, output: npt.NDArray[np.uint8]) -> npt.NDArray[np.int32]:
        """Takes the logits, int32 [rows, classes], out of the output segment's bytes, classes in the model's order.

        Of a network on samples, [1, *shape of its output].
        """
        if self.program.images:
            return image_values(self.program.image(self.program.output.tensor), output)[None].astype(np.int32)
        tensor = self.program.tensor(self.program.output.tensor)
        rows = self.counts[tensor.node_type]
        whole = output[: rows * tensor.row_bytes].view("<i4").reshape(rows, tensor.row_bytes // 4)
        places = np.argsort(tensor.channel_order) if tensor.channel_order else slice(tensor.channels)
        return whole[:, places].astype(np.int32)


#: Makes a schedule of an edge set: ``indptr``, sources and slots of the scratchpad.
Scheduler: TypeAlias = Callable[[npt.NDArray[np.integer[Any]], npt.NDArray[np.integer[Any]], int], Schedule]


def bind(
    program: Program,
    graph: GraphArrays,
    *,
    scheduler: Scheduler = pinned,
    make_parts: PartsMaker = in_parts,
    side_by_side: bool = False,
) -> BoundProgram:
    """Binds a program to a graph.

    Args:
        program: What is bound.
        graph: The graph.
        scheduler: Makes the schedules of programs that use AGG's scratchpad by schedules.
        make_parts: Puts edges in parts where a program has them so.
        side_by_side: Whether independent layers run side by side (docs/overlap.md), or one after the other.

    Raises:
        RelationMissingError: The graph lacks a node type or an edge set.
        CountFixedError: A node type has another number of nodes than the model was trained for.
        GraphInvalidError: Edges contradict themselves, or lead from nodes that there are not.
        FeaturesMissingError: Features of a tensor are missing.
        FeatureWidthError: Features have another width than the model's.
        FeaturesNotFiniteError: Features contain NaN or infinity.
        LimitExceededError: A degree or a size exceeds what the program is proven for.
        StreamInvalidError: The bound stream could wait for ever.
        HostFallbackError: The program has operators of the host.
    """
    refuse_host(
        program.host_nodes,
        "one stream cannot stop for them",
        "run it with `hetfab run --fallback host`, or HetfabOverlay with `fallback=Fallback.HOST`, layer by layer",
    )
    _check_graph(program, graph)
    graph = replace(graph, counts=program.all_counts(graph.counts))
    edges = _all_edges(program, graph, make_parts)
    _check_degrees(program, edges)
    features, feature_offsets = layouts.pack(
        [
            graph.rows[t.name].reshape(-1)
            if t.name in graph.rows
            else feature_rows(t, check_features(t, graph.features.get(t.name)), graph.counts[t.node_type])
            for t in _tensors(program, "features")
        ]
    )
    schedules = _all_schedules(program, edges, scheduler)
    arrays, places = _graph_segment(program, edges, schedules)
    offsets = dict(zip((t.name for t in _tensors(program, "features")), feature_offsets, strict=True))
    offsets |= {t.name: t.constant_offset for t in _tensors(program, "constants")}
    sizes = dict.fromkeys(Segment, 0)
    for segment in (Segment.ACTIVATIONS, Segment.OUTPUT):
        for tensor in _tensors(program, segment.name.lower()):
            if not tensor.whole:
                offsets[tensor.name] = sizes[segment]
                size = layouts.stored_rows(graph.counts[tensor.node_type]) * tensor.row_bytes
                sizes[segment] += layouts.padded(size, isa().block_bytes)
    offsets |= {tensor.name: _part_offset(program, tensor, graph.counts, offsets) for tensor in _parts(program)}
    values = np.array(
        [_value(s, program, graph.counts, edges, schedules, offsets, places) for s in program.symbols], dtype=np.int64
    )
    if side_by_side:
        starts = {name: np.asarray(found.indptr, np.int64) for name, found in edges.items()}
        stream = interleave(program, graph.counts, values, starts)
    else:
        stream = expand(program, graph.counts, values)
    words, layers = without_first_waits(program, *stream)
    check_order(words)
    contents = {
        Segment.PROGRAM: words.view(np.uint8).reshape(-1),
        Segment.CONSTANTS: program.constants,
        Segment.FEATURES: features,
        Segment.GRAPH: arrays,
    }
    sizes |= {segment: content.size for segment, content in contents.items()}
    for segment, size in sizes.items():
        if size >= _OFFSET_LIMIT:
            raise LimitExceededError(
                f"the segment '{segment.name.lower()}' needs {size} bytes",
                f"less than {_OFFSET_LIMIT} bytes, what a program's offsets can name",
                "use a smaller graph",
            )
    by_symbol = dict(zip(program.symbols, values.tolist(), strict=True))
    return BoundProgram(program, words, layers, contents, sizes, offsets, dict(graph.counts), by_symbol)


class Piece(NamedTuple):
    """Bytes of a segment from an offset on."""

    segment: Segment
    offset: int
    content: layouts.Bytes


def bind_features(
    bound: BoundProgram,
    features: Mapping[str, Features],
    *,
    scheduler: Scheduler = pinned,
    make_parts: PartsMaker = in_parts,
) -> list[Piece]:
    """What other features change of a bound program's memory.

    Args:
        bound: Bound to the same graph.
        features: Of each feature tensor. Where non-zeros are read as edges, those behind the leading columns become as
            many edges as the bound ones, which take as many parts, or units of their schedule; rows hold any values.
        scheduler: As for ``bind``.
        make_parts: As for ``bind``.

    Raises:
        HetfabError: As ``bind``, of features.
        LimitExceededError: Other numbers of edges, parts or units; the stream has the old ones.
    """
    program, counts = bound.program, bound.counts
    given = GraphArrays(counts, features, {})
    pieces = [
        Piece(Segment.FEATURES, bound.offsets[tensor.name], feature_rows(tensor, checked, counts[tensor.node_type]))
        for tensor in _tensors(program, "features")
        for checked in (check_features(tensor, features.get(tensor.name)),)
    ]
    part = replace(
        program,
        edges=tuple(edges for edges in program.edges if edges.features),
        symbols=tuple(symbol for symbol in program.symbols if _is_of_features(symbol, program)),
    )
    edges = _all_edges(part, given, make_parts)
    _check_degrees(part, edges)
    schedules = _all_schedules(part, edges, scheduler)
    for symbol in part.symbols:
        if symbol.kind not in _ARRAYS:
            found = _value(symbol, part, counts, edges, schedules, {}, {})
            _check_as_bound(symbol, found, len(edges[symbol.name].sources), bound)
    return pieces + [
        Piece(Segment.GRAPH, bound.values[symbol] & _OFFSET_LIMIT - 1, content)
        for symbol, content in _graph_pieces(part, edges, schedules).items()
    ]


def _is_of_features(symbol: Symbol, program: Program) -> bool:
    """Whether a symbol is about edges that features become."""
    of_edges = symbol.kind in _ARRAYS or symbol.kind in _NUMBERED
    return of_edges and any(edges.features and edges.name == symbol.name for edges in program.edges)


def _check_as_bound(symbol: Symbol, found: int, edge_count: int, bound: BoundProgram) -> None:
    """Refuses another number of what features become: ``found`` of the symbol's kind, of so many edges."""
    expected = bound.values[symbol]
    if found == expected:
        return
    features = next(each.features for each in bound.program.edges if each.name == symbol.name)
    source = "behind the leading columns of" if bound.program.tensor(features).leading else "of"
    edges = "" if symbol.kind is SymbolKind.EDGES else f"{counted(edge_count, 'edge')}, "
    raise LimitExceededError(
        f"the non-zeros {source} '{features}' make {edges}{counted(found, _NUMBERED[symbol.kind])}",
        f"{counted(expected, _NUMBERED[symbol.kind])}, as in the bound program",
        "bind the program again",
    )


def _tensors(program: Program, segment: str) -> list[Tensor]:
    return [tensor for tensor in program.tensors if tensor.segment == segment]


def _parts(program: Program) -> list[Tensor]:
    return [tensor for tensor in program.tensors if tensor.whole]


def _part_offset(program: Program, tensor: Tensor, counts: Mapping[str, int], offsets: Mapping[str, int]) -> int:
    """Where a part of a stacked tensor begins."""
    whole = program.tensor(tensor.whole)
    return offsets[whole.name] + program.stack(whole.node_type).starts(counts)[tensor.part] * tensor.row_bytes


def check_fixed_counts(program: Program, counts: Mapping[str, int]) -> None:
    """Refuses a graph with other nodes than the program has learned rows for.

    Args:
        program: The program.
        counts: Nodes of the graph by type.

    Raises:
        CountFixedError: A number of nodes is another one.
    """
    for node_type, count in program.limits.fixed_counts.items():
        if counts[node_type] != count:
            raise CountFixedError(
                f"the graph has {counted(counts[node_type], 'node')} of type '{node_type}'",
                f"{count}: the model holds a learned row for each of them",
                "use the graph that the model was trained on, or a model without learned tables",
            )


def _check_graph(program: Program, graph: GraphArrays) -> None:
    stacks = {stack.name for stack in program.stacks}
    needed = {tensor.node_type for tensor in program.tensors} | {n for stack in program.stacks for n in stack.types}
    missing = [f"node type '{name}'" for name in sorted(needed - stacks - set(graph.counts))]
    missing += [f"edges '{e.name}'" for e in program.edges if e.of_graph and e.name not in graph.edges]
    if missing:
        raise RelationMissingError(
            "the graph lacks " + ", ".join(missing),
            "every node type and relation that the model reads",
            "use a graph of the kind that the model was made for",
        )
    check_fixed_counts(program, graph.counts)
    counts = program.all_counts(graph.counts)
    for edges in program.edges:
        count = counts[edges.destination_type]
        if edges.of_graph and len(graph.edges[edges.name].indptr) != count + 1:
            raise RelationMissingError(
                f"the edges '{edges.name}' have {len(graph.edges[edges.name].indptr) - 1} destinations",
                f"{count}, the nodes of type '{edges.destination_type}'",
                "build the edges from the same graph as the counts",
            )
        if edges.of_graph:
            _check_edges(edges, graph.edges[edges.name], counts[edges.source_type])


def _check_edges(edges: Edges, given: IncomingEdges, vertices: int) -> None:
    """Refuses edges beyond their arrays or their sources' nodes: compiled code follows both without a look."""
    indptr, sources = given.indptr, given.sources
    falls = bool(np.any(indptr[1:] < indptr[:-1]))
    if falls or indptr[0] != 0 or indptr[-1] != len(sources):
        raise GraphInvalidError(
            f"the starts of the edges '{edges.name}' go from {indptr[0]} to {indptr[-1]}{' and fall' if falls else ''}",
            f"ascending ones from 0 to {len(sources)}, the number of edges",
            "order the edges by destination, and count those of each",
        )
    least, largest = (sources.min(), sources.max()) if len(sources) else (0, -1)
    if least < 0 or largest >= vertices:
        raise GraphInvalidError(
            f"the edges '{edges.name}' lead from node {least if least < 0 else largest}",
            f"nodes from 0 to below {vertices}, those of type '{edges.source_type}'",
            "build the edges from the same graph as the counts",
        )


@dataclass(frozen=True, eq=False)
class _EdgeArrays:
    """An edge set as AGG reads it.

    Attributes:
        indptr: Where each destination's edges begin.
        sources: Of each edge.
        records: The layout 'destinations'.
        rows: Rows that sources name.
        make_parts: Puts them in parts.
        marks: What ids hold of each edge beside its source, a weight or a type; None where it is the source alone.
        parted: The edges in parts, by rows of a tile and slots.
    """

    indptr: npt.NDArray[np.integer[Any]]
    sources: npt.NDArray[np.integer[Any]]
    records: layouts.Bytes
    rows: int
    make_parts: PartsMaker
    marks: layouts.IntArray | None = None
    parted: dict[tuple[int, int], Parts] = field(default_factory=dict)

    @property
    def id_bytes(self) -> int:
        """Bytes of an id."""
        return layouts.id_bytes(self.rows) if self.marks is None else layouts.MARKED_ID_BYTES

    def destinations(self, symbol: Symbol) -> layouts.Bytes:
        """The layout 'destinations' as a symbol has it."""
        return self.parts(symbol).records(self.records) if symbol.slots else self.records

    def ids(self, symbol: Symbol) -> layouts.Bytes:
        """The layout 'ids' as a symbol has it."""
        return (self.parts(symbol).ids if symbol.slots else self._ids()).view(np.uint8)

    def parts(self, symbol: Symbol) -> Parts:
        """The edges in parts for a tile of the symbol's rows and the scratchpad's slots; found once."""
        key = symbol.tile_rows, symbol.slots
        if key not in self.parted:
            self.parted[key] = self.make_parts(self.indptr, self._ids(), self.rows, symbol.slots, symbol.tile_rows)
        return self.parted[key]

    def _ids(self) -> Ids:
        """The layout 'ids' of the edges in their order, as numbers."""
        if self.marks is None:
            ids = layouts.id_array(self.sources, self.rows)
        else:
            ids = layouts.marked_ids(self.sources, self.marks)
        return ids.view(f"<u{self.id_bytes}")


def _all_edges(program: Program, graph: GraphArrays, make_parts: PartsMaker) -> dict[str, _EdgeArrays]:
    """Arrays of all edge sets by name; features that are read in parts are split once."""
    found: dict[str, _EdgeArrays] = {}
    split: dict[tuple[str, int], list[FeatureEdges]] = {}
    checked: dict[str, Features] = {}
    for edges in program.edges:
        if not edges.features:
            found[edges.name] = _vertex_edges(edges, program, graph, make_parts)
            continue
        tensor = program.tensor(edges.features)
        if tensor.name not in checked:
            checked[tensor.name] = check_features(tensor, graph.features.get(tensor.name))
        features = checked[tensor.name]
        key = edges.features, edges.parts
        weights: layouts.IntArray | None = None
        if edges.weighted:
            indptr, sources, factors, weights = weighted_feature_edges(tensor, features)
        else:
            if key not in split:
                split[key] = feature_edges(tensor, features, edges.parts)
            indptr, sources, factors = split[key][edges.part]
        records = layouts.scaled_records(indptr, factors)
        found[edges.name] = _EdgeArrays(indptr, sources, records, edges.table_rows, make_parts, weights)
    return found


def _vertex_edges(edges: Edges, program: Program, graph: GraphArrays, make_parts: PartsMaker) -> _EdgeArrays:
    """Edges from vertices, of the graph or of a pattern."""
    weights = None
    if edges.of_graph:
        indptr, sources, types, weights = graph.edges[edges.name]
    else:
        starts = program.stack(edges.source_type).starts(graph.counts)
        indptr, sources, types = pattern_edges(edges.pattern, starts)
    rows = graph.counts[edges.source_type]
    marks = np.asarray(types, np.int64) if edges.typed and types is not None else None
    if edges.weighted and weights is not None:
        if np.abs(weights).max(initial=0) > 1:
            raise LimitExceededError(
                f"the edges '{edges.name}' have a weight of {np.abs(weights).max():g}",
                "weights of at most 1 in magnitude, for which the program's sums are proven",
                "divide the weights, and multiply the layer behind them",
            )
        marks, fractions = layouts.edge_weights(indptr, weights)
    if marks is not None and rows > layouts.MARKED_ROWS:
        raise LimitExceededError(
            f"the edges '{edges.name}' have {'weights' if edges.weighted else 'types'} and lead from {rows:,} vertices",
            f"at most {layouts.MARKED_ROWS:,}, what an id beside them can name",
            "use a smaller graph",
        )
    if edges.weighted and weights is not None:
        records = layouts.weighted_records(indptr, fractions)
    elif edges.total:
        records = layouts.scaled_records(indptr, np.full(len(indptr) - 1, 1 << Q8_BITS))
    else:
        records = layouts.destination_records(indptr)
    return _EdgeArrays(indptr, sources, records, rows, make_parts, marks)


def _check_degrees(program: Program, arrays: Mapping[str, _EdgeArrays]) -> None:
    for edges in program.edges:
        degree, most = int(np.diff(arrays[edges.name].indptr).max(initial=0)), program.limits.largest_degree
        if edges.total or (edges.weighted and edges.of_graph):
            # A sum has 8 fraction bits, and other terms join it within 32 bits.
            most //= _TOTAL_SHARE
        if degree > most:
            raise LimitExceededError(
                f"a node of type '{edges.destination_type}' has {counted(degree, 'edge')} of '{edges.name}'",
                f"at most {most:,}, for which the program's sums are proven",
                "compile with --first-projection dense" if edges.features else "remove edges of that node",
            )


def _all_schedules(
    program: Program, edges: Mapping[str, _EdgeArrays], scheduler: Scheduler
) -> dict[tuple[str, int], tuple[layouts.Bytes, layouts.Bytes]]:
    """Runs and units of each schedule, by edge set and slots."""
    return {
        (symbol.name, symbol.slots): schedule_arrays(
            scheduler(arrays.indptr, arrays.sources, symbol.slots), arrays.records, arrays.rows
        )
        for symbol in program.symbols
        if symbol.kind is SymbolKind.RUNS
        for arrays in [edges[symbol.name]]
    }


def _graph_segment(
    program: Program,
    edges: Mapping[str, _EdgeArrays],
    schedules: Mapping[tuple[str, int], tuple[layouts.Bytes, layouts.Bytes]],
) -> tuple[layouts.Bytes, dict[Symbol, int]]:
    """The arrays that AGG reads, and their places."""
    pieces = _graph_pieces(program, edges, schedules)
    content, offsets = layouts.pack(list(pieces.values()))
    return content, dict(zip(pieces, offsets, strict=True))


def _graph_pieces(
    program: Program,
    edges: Mapping[str, _EdgeArrays],
    schedules: Mapping[tuple[str, int], tuple[layouts.Bytes, layouts.Bytes]],
) -> dict[Symbol, layouts.Bytes]:
    """The arrays that AGG reads."""
    pieces: dict[Symbol, layouts.Bytes] = {}
    for symbol in program.symbols:
        match symbol.kind:
            case SymbolKind.DESTINATIONS:
                pieces[symbol] = edges[symbol.name].destinations(symbol)
            case SymbolKind.IDS:
                pieces[symbol] = edges[symbol.name].ids(symbol)
            case SymbolKind.RUNS:
                pieces[symbol] = schedules[symbol.name, symbol.slots][0]
            case SymbolKind.UNITS:
                pieces[symbol] = schedules[symbol.name, symbol.slots][1]
    return pieces


def _value(
    symbol: Symbol,
    program: Program,
    counts: Mapping[str, int],
    edges: Mapping[str, _EdgeArrays],
    schedules: Mapping[tuple[str, int], tuple[layouts.Bytes, layouts.Bytes]],
    offsets: Mapping[str, int],
    places: Mapping[Symbol, int],
) -> int:
    match symbol.kind:
        case SymbolKind.TENSOR:
            segment = Segment[program.tensor(symbol.name).segment.upper()]
            return segment << isa().offset_bits | offsets[symbol.name]
        case SymbolKind.COUNT:
            return counts[symbol.name]
        case SymbolKind.TAIL_ROWS:
            return counts[symbol.name] % symbol.tile_rows
        case SymbolKind.EDGES:
            return len(edges[symbol.name].sources)
        case SymbolKind.ID_BYTES:
            return edges[symbol.name].id_bytes
        case SymbolKind.PARTS:
            return edges[symbol.name].parts(symbol).count - 1
        case SymbolKind.UNIT_COUNT:
            return len(schedules[symbol.name, symbol.slots][1]) // 2
        case _:
            return Segment.GRAPH << isa().offset_bits | places[symbol]
