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

from hetfab.overlay.errors import (
    CountFixedError,
    FeaturesMissingError,
    FeaturesNotFiniteError,
    FeatureWidthError,
    LimitExceededError,
    RelationMissingError,
    StreamInvalidError,
    counted,
)
from hetfab.overlay.isa.codec import Segment
from hetfab.overlay.isa.spec import isa
from hetfab.overlay.program import Block, Part, Program, Symbol, SymbolKind, Tensor, Words

_BLOCK = isa().block_bytes
_OFFSET_LIMIT = 1 << isa().offset_bits
_SMALL_ID_LIMIT = 1 << 16


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
        """Takes the logits, int32 [rows, classes], out of the output segment's bytes."""
        tensor = self.program.tensor(self.program.output.tensor)
        rows = self.counts[tensor.node_type]
        whole = output[: rows * tensor.row_bytes].view("<i4").reshape(rows, tensor.row_bytes // 4)
        return whole[:, : tensor.channels].astype(np.int32)


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
    features, feature_offsets = _pack([_feature_rows(t, graph) for t in _tensors(program, "features")])
    arrays, places = _graph_segment(program, graph)
    offsets = dict(zip((t.name for t in _tensors(program, "features")), feature_offsets, strict=True))
    offsets |= {t.name: t.constant_offset for t in _tensors(program, "constants")}
    sizes = dict.fromkeys(Segment, 0)
    for segment in (Segment.ACTIVATIONS, Segment.OUTPUT):
        for tensor in _tensors(program, segment.name.lower()):
            offsets[tensor.name] = sizes[segment]
            sizes[segment] += _stored_rows(graph.counts[tensor.node_type]) * tensor.row_bytes
    values = np.array([_value(s, program, graph, offsets, places) for s in program.symbols], dtype=np.int64)
    words, layers = _without_first_waits(program, *_expand(program, graph.counts, values))
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
    low, high = (-128, 127) if tensor.signed else (0, 255)
    kind = np.int8 if tensor.signed else np.uint8
    steps = np.rint(np.clip(data / np.float32(tensor.scale), low, high)).astype(kind)
    stored = np.zeros((_stored_rows(rows), tensor.row_bytes), kind)
    if isinstance(features, np.ndarray):
        stored[:rows, :width] = steps
    else:
        stored[np.repeat(np.arange(rows), np.diff(features.indptr)), features.indices] = steps
    return stored.view(np.uint8).reshape(-1)


def reciprocals(degrees: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Reciprocal round(2^(16+k)/d) and k = ceil(log2 d) of each degree, 0 and 0 for d = 0 (docs/arithmetic.md)."""
    divisors = np.maximum(degrees, 1)
    _, exponents = np.frexp(divisors.astype(np.float64))
    powers = exponents - (divisors == np.left_shift(np.int64(1), exponents - 1))
    rounded = (np.left_shift(np.int64(1), 16 + powers) + divisors // 2) // divisors
    return np.where(degrees > 0, rounded, 0), np.where(degrees > 0, powers, 0)


def _graph_segment(program: Program, graph: GraphArrays) -> tuple[npt.NDArray[np.uint8], dict[tuple[str, str], int]]:
    """Destination and id arrays of all edge sets, and their places by (array, edge set)."""
    pieces, keys = [], []
    for edges in program.edges:
        arrays = graph.edges[edges.name]
        degrees = np.diff(arrays.indptr).astype(np.int64)
        reciprocal, power = reciprocals(degrees)
        table = np.stack([arrays.indptr[:-1], degrees, reciprocal, power], axis=1).astype("<u4")
        ids = arrays.sources.astype("<u2" if _id_bytes(graph, edges.source_type) == 2 else "<u4")
        pieces += [table.view(np.uint8).reshape(-1), ids.view(np.uint8)]
        keys += [("destinations", edges.name), ("ids", edges.name)]
    content, offsets = _pack(pieces)
    return content, dict(zip(keys, offsets, strict=True))


def _id_bytes(graph: GraphArrays, node_type: str) -> int:
    return 2 if graph.counts[node_type] <= _SMALL_ID_LIMIT else 4


def _pack(pieces: list[npt.NDArray[np.uint8]]) -> tuple[npt.NDArray[np.uint8], list[int]]:
    """Puts pieces one behind the other, each at a multiple of the block."""
    offsets, size = [], 0
    for piece in pieces:
        offsets.append(size)
        size += _reserved(piece.size)
    content = np.zeros(size, np.uint8)
    for offset, piece in zip(offsets, pieces, strict=True):
        content[offset : offset + piece.size] = piece
    return content, offsets


def _stored_rows(rows: int) -> int:
    """Rows that a tensor takes, at least one: DISPATCH refuses an address beyond the end of a segment."""
    return max(rows, 1)


def _reserved(size: int) -> int:
    """Whole blocks, at least one: DISPATCH refuses the address of an empty array at the end of a segment."""
    return max(size + -size % _BLOCK, _BLOCK)


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
            return _id_bytes(graph, edges.source_type)
        case SymbolKind.IDS | SymbolKind.DESTINATIONS:
            return Segment.GRAPH << isa().offset_bits | places[symbol.kind.value, symbol.name]


def _expand(
    program: Program, counts: Mapping[str, int], values: npt.NDArray[np.int64]
) -> tuple[Words, npt.NDArray[np.uint16]]:
    """Repeats each block as often as its part says and fills its patched fields."""
    taken = np.zeros(len(program.rings), np.int64)
    pieces: list[Words] = []
    layers: list[npt.NDArray[np.uint16]] = []
    for block in program.blocks:
        iterations = _iterations(block, counts)
        if not len(iterations):
            continue
        words = np.repeat(block.words[None], len(iterations), axis=0)
        uses = np.array(block.ring_uses, np.int64)
        steps = np.arange(len(iterations))
        for patch in block.patches:
            value = patch["constant"] + patch["per_iteration"] * iterations
            if patch["symbol"] >= 0:
                value = value + values[patch["symbol"]]
            if patch["ring"] >= 0:
                ring = program.rings[patch["ring"]]
                use = taken[patch["ring"]] + uses[patch["ring"]] * steps + patch["position"]
                value = value + use % ring.slots * ring.slot_words
            _check_range(program, block, patch, value)
            shifted = np.left_shift(value.astype(np.uint64), np.uint64(patch["shift"]))
            words[:, patch["instruction"], patch["word"]] |= shifted
        taken += uses * len(iterations)
        pieces.append(words.reshape(-1, 2))
        layers.append(np.full(len(pieces[-1]), block.layer, np.uint16))
    if not pieces:
        return np.zeros((0, 2), np.uint64), np.zeros(0, np.uint16)
    return np.concatenate(pieces), np.concatenate(layers)


def _without_first_waits(
    program: Program, words: Words, layers: npt.NDArray[np.uint16]
) -> tuple[Words, npt.NDArray[np.uint16]]:
    """Leaves out the waits for slots that nobody has used yet, and instructions that then do nothing."""
    fields = [isa().header_field(name) for name in ("wait0", "wait1")]
    idle = np.zeros(len(words), np.bool_)
    for ring in program.rings:
        waits = [(words[:, 0] >> np.uint64(f.lsb)) & np.uint64(f.largest) == ring.free for f in fields]
        first = np.flatnonzero(waits[0] | waits[1])[: ring.slots if ring.free else 0]
        for field, waiting in zip(fields, waits, strict=True):
            words[first[waiting[first]], 0] &= ~np.uint64(field.largest << field.lsb)
        # A sync without waits and signals is its engine's id and zeros.
        idle[first] = words[first, 0] <= isa().header_field("engine").largest
    return words[~idle], layers[~idle]


def _iterations(block: Block, counts: Mapping[str, int]) -> npt.NDArray[np.int64]:
    """Loop indices of a block: the tail's is the number of full tiles."""
    if block.part is Part.ONCE:
        return np.zeros(1, np.int64)
    full, tail = divmod(counts[block.node_type], block.tile_rows)
    if block.part is Part.FULL:
        return np.arange(full, dtype=np.int64)
    return np.full(1 if tail else 0, full, np.int64)


def _check_range(program: Program, block: Block, patch: Any, value: npt.NDArray[np.int64]) -> None:
    largest = (1 << int(patch["bits"])) - 1
    if value.size and (int(value.min()) < 0 or int(value.max()) > largest):
        layer = program.layers[block.layer].name
        raise LimitExceededError(
            f"layer '{layer}' needs the value {int(value.max())} in an instruction field of {patch['bits']} bits",
            f"at most {largest}",
            "use a smaller graph",
        )


def check_order(words: Words) -> None:
    """Proves that a bound stream drains at any queue depth.

    If in program order no wait comes before its signal, the oldest instruction that is not retired is always at the
    head of its queue, or next to be fetched, with its waits satisfied. It also checks that each semaphore has one
    signalling and one waiting engine, on which the pairing of the n-th wait with the n-th signal rests.

    Raises:
        StreamInvalidError: One of the two does not hold.
    """
    first = words[:, 0]
    fields = {field.name: (first >> np.uint64(field.lsb)) & np.uint64(field.largest) for field in isa().header}
    for semaphore in range(1, isa().semaphores + 1):
        waits = sum((fields[name] == semaphore).astype(np.int64) for name in ("wait0", "wait1"))
        signals = sum((fields[name] == semaphore).astype(np.int64) for name in ("signal0", "signal1"))
        if not np.any(waits) and not np.any(signals):
            continue
        for role, uses in (("waits for", waits), ("signals", signals)):
            engines = np.unique(fields["engine"][np.asarray(uses) > 0])
            if len(engines) > 1:
                raise _broken(f"more than one engine {role} semaphore {semaphore}: {engines.tolist()}")
        signalled_before = np.cumsum(signals) - signals
        ahead = signalled_before - np.cumsum(waits)
        if np.any(ahead < 0):
            index = int(np.argmax(ahead < 0))
            raise _broken(f"instruction {index} waits for semaphore {semaphore} before it is signalled")


def _broken(found: str) -> StreamInvalidError:
    return StreamInvalidError(
        found,
        "one signalling and one waiting engine per semaphore, every signal before its wait in program order",
        "report this: the compiler wrote a wrong program",
    )
