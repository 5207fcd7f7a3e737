# SPDX-License-Identifier: Apache-2.0
"""Binds a program to a graph: checks the limits, fills counts and offsets, writes the graph's arrays, expands blocks.

Only numpy is needed, so that a board can bind. The result is the bound stream: the bytes that board and emulator
execute, and what belongs into each segment of DRAM.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from hetfab.overlay import layouts
from hetfab.overlay.errors import (
    CountFixedError,
    FeaturesMissingError,
    FeaturesNotFiniteError,
    FeatureWidthError,
    LimitExceededError,
    RelationMissingError,
    counted,
)
from hetfab.overlay.expansion import expand, without_first_waits
from hetfab.overlay.images import image_values
from hetfab.overlay.isa.codec import Segment
from hetfab.overlay.isa.spec import isa
from hetfab.overlay.order import check_order
from hetfab.overlay.program import Program, Symbol, SymbolKind, Tensor, Words

_OFFSET_LIMIT = 1 << isa().offset_bits


class SparseRows(Protocol):
    """A sparse matrix by rows: indptr [N + 1], indices and data [nnz], width columns."""

    @property
    def indptr(self) -> npt.NDArray[Any]:
        """Start of each row."""

    @property
    def indices(self) -> npt.NDArray[Any]:
        """Columns, ascending in each row."""

    @property
    def data(self) -> npt.NDArray[np.float32]:
        """Values."""

    @property
    def width(self) -> int:
        """Number of columns."""


Features: TypeAlias = npt.NDArray[np.float32] | SparseRows


class IncomingEdges(NamedTuple):
    """Edges ordered by destination: indptr [destinations + 1], sources [edges]."""

    indptr: npt.NDArray[np.integer[Any]]
    sources: npt.NDArray[np.integer[Any]]


@dataclass(frozen=True, eq=False)
class GraphArrays:
    """A graph as plain arrays, named as a program names its parts.

    Attributes:
        counts: Vertices of each node type.
        features: Of each feature tensor, float32 [N, D] or sparse.
        edges: Of each edge set.
    """

    counts: Mapping[str, int]
    features: Mapping[str, Features]
    edges: Mapping[str, IncomingEdges]


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
        counts: Vertices of each node type.
    """

    program: Program
    words: Words
    layers: npt.NDArray[np.uint16]
    contents: Mapping[Segment, npt.NDArray[np.uint8]]
    sizes: Mapping[Segment, int]
    offsets: Mapping[str, int]
    counts: Mapping[str, int]

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


def bind(program: Program, graph: GraphArrays) -> BoundProgram:
    """Binds a program to a graph.

    Raises:
        RelationMissingError: The graph lacks a node type or an edge set.
        CountFixedError: A node type has another number of nodes than the model was trained for.
        FeaturesMissingError: Features of a tensor are missing.
        FeatureWidthError: Features have another width than the model's.
        FeaturesNotFiniteError: Features contain NaN or infinity.
        LimitExceededError: A degree or a size exceeds what the program is proven for.
        StreamInvalidError: The bound stream could wait for ever.
    """
    _check_graph(program, graph)
    features, feature_offsets = layouts.pack([_feature_rows(t, graph) for t in _tensors(program, "features")])
    arrays, places = _graph_segment(program, graph)
    offsets = dict(zip((t.name for t in _tensors(program, "features")), feature_offsets, strict=True))
    offsets |= {t.name: t.constant_offset for t in _tensors(program, "constants")}
    sizes = dict.fromkeys(Segment, 0)
    for segment in (Segment.ACTIVATIONS, Segment.OUTPUT):
        for tensor in _tensors(program, segment.name.lower()):
            offsets[tensor.name] = sizes[segment]
            sizes[segment] += layouts.stored_rows(graph.counts[tensor.node_type]) * tensor.row_bytes
    values = np.array([_value(s, program, graph, offsets, places) for s in program.symbols], dtype=np.int64)
    words, layers = without_first_waits(program, *expand(program, graph.counts, values))
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
    return BoundProgram(program, words, layers, contents, sizes, offsets, dict(graph.counts))


def _tensors(program: Program, segment: str) -> list[Tensor]:
    return [tensor for tensor in program.tensors if tensor.segment == segment]


def _check_graph(program: Program, graph: GraphArrays) -> None:
    needed = {tensor.node_type for tensor in program.tensors}
    missing = [f"node type '{name}'" for name in sorted(needed - set(graph.counts))]
    missing += [f"edges '{edges.name}'" for edges in program.edges if edges.name not in graph.edges]
    if missing:
        raise RelationMissingError(
            "the graph lacks " + ", ".join(missing),
            "every node type and relation that the model reads",
            "use a graph of the kind that the model was made for",
        )
    for node_type, count in program.limits.fixed_counts.items():
        if graph.counts[node_type] != count:
            raise CountFixedError(
                f"the graph has {counted(graph.counts[node_type], 'node')} of type '{node_type}'",
                f"{count}: the model holds a learned row for each of them",
                "use the graph that the model was trained on, or a model without learned tables",
            )
    for edges in program.edges:
        arrays = graph.edges[edges.name]
        if len(arrays.indptr) != graph.counts[edges.destination_type] + 1:
            raise RelationMissingError(
                f"the edges '{edges.name}' have {len(arrays.indptr) - 1} destinations",
                f"{graph.counts[edges.destination_type]}, the nodes of type '{edges.destination_type}'",
                "build the edges from the same graph as the counts",
            )
        degree = int(np.diff(arrays.indptr).max(initial=0))
        if degree > program.limits.largest_degree:
            raise LimitExceededError(
                f"a node of type '{edges.destination_type}' has {counted(degree, 'edge')} of '{edges.name}'",
                f"at most {program.limits.largest_degree:,}, for which the program's sums are proven",
                "remove edges of that node",
            )


def _feature_rows(tensor: Tensor, graph: GraphArrays) -> npt.NDArray[np.uint8]:
    """Quantizes features to the layout 'activations'."""
    features = graph.features.get(tensor.name)
    rows = graph.counts[tensor.node_type]
    if features is None:
        raise FeaturesMissingError(
            f"the graph gives no features for the input '{tensor.name}'",
            f"features of the type '{tensor.node_type}'",
            "use a graph with these features",
        )
    width = features.shape[1] if isinstance(features, np.ndarray) else features.width
    if width != tensor.channels:
        raise FeatureWidthError(
            f"the features of '{tensor.node_type}' have {counted(width, 'column')}",
            f"{tensor.channels}, the width of the model's input '{tensor.name}'",
            "use the features that the model was trained on",
        )
    data = features if isinstance(features, np.ndarray) else features.data
    if not np.isfinite(data).all():
        raise FeaturesNotFiniteError(
            f"the features of '{tensor.node_type}' contain NaN or infinity",
            "finite values",
            "clean the features where the graph is made",
        )
    stored = layouts.activation_rows(rows, 8 * tensor.row_bytes // tensor.stored_bits, tensor.signed)
    half = 1 << (tensor.bits - 1)
    low, high = (-half, half - 1) if tensor.signed else (0, 2 * half - 1)
    steps = np.rint(np.clip(data / np.float32(tensor.scale), low, high)).astype(stored.dtype)
    if isinstance(features, np.ndarray):
        stored[:rows, :width] = steps
    else:
        stored[np.repeat(np.arange(rows), np.diff(features.indptr)), features.indices] = steps
    if tensor.channel_order:
        stored[:rows, :width] = stored[:rows, list(tensor.channel_order)]
    return (layouts.packed_rows(stored) if tensor.packed else stored.view(np.uint8)).reshape(-1)


def _graph_segment(program: Program, graph: GraphArrays) -> tuple[layouts.Bytes, dict[tuple[str, str], int]]:
    """Destination and id arrays of all edge sets, and their places by (array, edge set)."""
    pieces, keys = [], []
    for edges in program.edges:
        arrays = graph.edges[edges.name]
        pieces += [
            layouts.destination_records(arrays.indptr),
            layouts.id_array(arrays.sources, graph.counts[edges.source_type]),
        ]
        keys += [("destinations", edges.name), ("ids", edges.name)]
    content, offsets = layouts.pack(pieces)
    return content, dict(zip(keys, offsets, strict=True))


def _value(
    symbol: Symbol,
    program: Program,
    graph: GraphArrays,
    offsets: Mapping[str, int],
    places: Mapping[tuple[str, str], int],
) -> int:
    match symbol.kind:
        case SymbolKind.TENSOR:
            segment = Segment[program.tensor(symbol.name).segment.upper()]
            return segment << isa().offset_bits | offsets[symbol.name]
        case SymbolKind.COUNT:
            return graph.counts[symbol.name]
        case SymbolKind.TAIL_ROWS:
            return graph.counts[symbol.name] % symbol.tile_rows
        case SymbolKind.EDGES:
            return len(graph.edges[symbol.name].sources)
        case SymbolKind.ID_BYTES:
            edges = next(edges for edges in program.edges if edges.name == symbol.name)
            return layouts.id_bytes(graph.counts[edges.source_type])
        case SymbolKind.IDS | SymbolKind.DESTINATIONS:
            return Segment.GRAPH << isa().offset_bits | places[symbol.kind.value, symbol.name]
