# SPDX-License-Identifier: Apache-2.0
"""Runs layers in numpy with rounded weights and activations, so that many choices of widths are compared quickly.

It rounds where the file does: weights, stored tensors, scores, and what functions and norms read and write. Sums stay
in float32, so the last bits of a logit differ from onnxruntime's on the written file; a chosen file is checked there.
Results are kept by what they depend on: a change of one layer computes only what follows it.
"""

from collections import OrderedDict
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import scipy.sparse

from hetfab.overlay.isa.arithmetic import Q8_BITS
from hetfab.overlay.model.host_operators import run_operator
from hetfab.overlay.model.layers import (
    Add,
    Bias,
    Dense,
    EdgeAggregation,
    EdgeAttention,
    EdgeDot,
    Fusion,
    HostOperator,
    JoinParts,
    Layer,
    LayerGraph,
    LayerNorm,
    PartMean,
    Relu,
    RowSlice,
    SegMean,
    SegSum,
    Stack,
    TokenAttention,
    Unary,
    inputs_of,
)
from hetfab.overlay.model.runtime import Feed
from hetfab.quantize.points import QuantizationPoints
from hetfab.quantize.ranges import ActivationRange
from hetfab.quantize.rewrites import values_of
from hetfab.quantize.row_needs import RowNeeds, Rows
from hetfab.quantize.weights import round_bias
from hetfab.quantize.writer import SCORE_BITS, Numbers

FloatArray: TypeAlias = npt.NDArray[np.float32]
Matrix: TypeAlias = FloatArray | scipy.sparse.csr_matrix
Key: TypeAlias = int

#: Inputs with a smaller share of non-zero values are multiplied as sparse matrices.
_SPARSE = 0.1
_FLOAT = Numbers({}, {}, {})


@dataclass(frozen=True, eq=False)
class Edges:
    """Edges by destination.

    Attributes:
        pointers: First edge of each destination, and behind them the number of edges.
        sources: Source of each edge.
        order: Place of each edge in the feed.
        destinations: Destination of each edge.
        rows: Number of destinations.
    """

    pointers: npt.NDArray[np.int64]
    sources: npt.NDArray[np.int32]
    order: npt.NDArray[np.int64]
    destinations: npt.NDArray[np.int32]
    rows: int

    @property
    def degrees(self) -> npt.NDArray[np.int64]:
        """Edges of each destination."""
        return np.diff(self.pointers)

    def sums(self, weights: npt.NDArray[Any], values: FloatArray) -> FloatArray:
        """Sums of rows of ``values`` times the edges' weights, for each destination."""
        matrix = scipy.sparse.csr_matrix((weights, self.sources, self.pointers), shape=(self.rows, len(values)))
        return np.asarray(matrix @ values, dtype=np.float32)

    def shares(self, logits: FloatArray) -> FloatArray:
        """Softmax of one number per edge over each destination's edges."""
        filled = np.flatnonzero(self.degrees)
        starts, degrees = self.pointers[filled], self.degrees[filled]
        if not len(filled):
            return logits
        largest = np.maximum.reduceat(logits, starts)
        weights = np.exp(logits - np.repeat(largest, degrees))
        return np.asarray(weights / np.repeat(np.add.reduceat(weights, starts), degrees), dtype=np.float32)


@dataclass
class Emulation:
    """A model on one feed.

    Attributes:
        graph: Its layers, rewritten.
        points: Where tensors become integers.
        feed: Inputs, and the numbers of nodes that layers read.
        looked_at: Rows of the output that are computed, ascending; None for all. Of other tensors what these depend on.
        limit: Bytes of results that are kept.
    """

    graph: LayerGraph
    points: QuantizationPoints
    feed: Feed
    looked_at: Rows | None = None
    limit: int = 1 << 29
    _layers: dict[str, Layer] = field(init=False)
    _summed: dict[str, str] = field(init=False)
    _names: dict[Hashable, Key] = field(init=False, default_factory=dict)
    _kept: "OrderedDict[Key, Matrix]" = field(init=False, default_factory=OrderedDict)
    _held: dict[int, object] = field(init=False, default_factory=dict)
    _size: int = field(init=False, default=0)
    _edges: dict[tuple[str, ...], Edges] = field(init=False, default_factory=dict)
    _needs: RowNeeds | None = field(init=False)

    def __post_init__(self) -> None:
        self._needs = None if self.looked_at is None else RowNeeds.of(self.graph, self.feed, self.looked_at)
        self._layers = {layer.output: layer for layer in self.graph.layers}
        self._summed = {
            term: group.aggregations[0].input
            for group in self.points.groups
            for term in (*(each.output for each in group.aggregations), group.product)
            if term is not None
        }

    def logits(self, numbers: Numbers | None = None) -> FloatArray:
        """The model's output, [rows, classes]; of the float model without numbers."""
        return self.values(self.graph.output, numbers)

    def values(self, tensor: str, numbers: Numbers | None = None) -> FloatArray:
        """A tensor before it is rounded, [rows, channels]."""
        return _dense(_Run(self, numbers or _FLOAT).plain(tensor)[1])

    def rows(self, tensor: str, numbers: Numbers | None = None) -> Matrix:
        """A tensor as layers read it; inputs with few non-zero values are sparse."""
        return _Run(self, numbers or _FLOAT).stored(tensor)[1]

    def edges(self, layer: EdgeAggregation) -> Edges:
        """The edges of a layer by destination; sources and destinations are places in the rows that are computed."""
        ends = (layer.source, layer.destination)
        name = ends if self._needs is None else (*ends, layer.output)
        if name not in self._edges:
            source, destination = (np.asarray(self.feed[end], dtype=np.int32) for end in ends)
            order = np.argsort(destination, kind="stable")
            rows = int(self.feed[layer.count])
            if self._needs is not None:
                order = order[self._needs.keeps(layer)[destination[order]]]
                source, destination = self._needs.renumbered(layer, source, destination)
                rows = len(self._needs.rows[layer.output])
            pointers = np.zeros(rows + 1, np.int64)
            np.cumsum(np.bincount(destination[order], minlength=rows), out=pointers[1:])
            self._edges[name] = Edges(pointers, source[order], order, destination[order], rows)
        return self._edges[name]

    def edge_weights(self, layer: SegSum) -> FloatArray:
        """Weights of a sum's edges."""
        order = self.edges(layer).order
        if layer.weights is None:
            return np.ones(len(order), np.float32)
        return np.asarray(self.feed[layer.weights], np.float32)[order]

    def attention_logits(self, layer: EdgeAttention) -> list[FloatArray]:
        """Logits of the edges in the float model, of each head."""
        scores = (self.values(name) for name in (layer.source_scores, layer.destination_scores))
        return list(self.logits_of(layer, *scores))

    def logits_of(
        self, layer: EdgeAttention, of_sources: FloatArray, of_destinations: FloatArray
    ) -> Iterator[FloatArray]:
        """Logits of the edges, of one head after the other, from scores [nodes, heads]."""
        edges = self.edges(layer)
        types = None if layer.types is None else np.asarray(self.feed[layer.types])[edges.order]
        for head in range(of_sources.shape[1]):
            logits = of_sources[:, head][edges.sources] + of_destinations[:, head][edges.destinations]
            if types is not None and layer.bias is not None:
                logits += layer.bias[:, head].astype(np.float32)[types]
            yield np.where(logits < 0, np.float32(layer.slope) * logits, logits)

    def key(self, *parts: Hashable) -> Key:
        """A number for a combination of a layer, what it reads, and its numbers."""
        return self._names.setdefault(parts, len(self._names))

    def hold(self, numbers: object) -> int:
        """The identity of numbers, which are kept so that it stays theirs."""
        self._held[id(numbers)] = numbers
        return id(numbers)

    def kept(self, key: Key) -> Matrix | None:
        """A result, if it is still there."""
        if key in self._kept:
            self._kept.move_to_end(key)
        return self._kept.get(key)

    def keep(self, key: Key, result: Matrix) -> Matrix:
        """Keeps a result in the place of the longest unused ones."""
        self._kept[key] = result
        self._size += _bytes(result)
        while self._size > self.limit and len(self._kept) > 1:
            self._size -= _bytes(self._kept.popitem(last=False)[1])
        return result


@dataclass
class _Run:
    """One model: methods give a tensor's key and its values."""

    home: Emulation
    numbers: Numbers
    _plain: dict[str, tuple[Key, Matrix]] = field(default_factory=dict)
    _rounded: dict[str, tuple[Key, Matrix]] = field(default_factory=dict)

    def plain(self, tensor: str) -> tuple[Key, Matrix]:
        """A tensor as its layer computes it."""
        if tensor not in self._plain:
            layer = self.home._layers.get(tensor)
            self._plain[tensor] = self._given(tensor) if layer is None else self._computed(layer)
        return self._plain[tensor]

    def stored(self, tensor: str) -> tuple[Key, Matrix]:
        """A tensor as dense layers and aggregations read it."""
        if tensor not in self._rounded:
            self._rounded[tensor] = self._stored(tensor)
        return self._rounded[tensor]

    def _given(self, tensor: str) -> tuple[Key, Matrix]:
        key = self.home.key("given", tensor)
        found = self.home.kept(key)
        if found is None:
            array = np.asarray(self.home.graph.tables.get(tensor, self.home.feed.get(tensor)), dtype=np.float32)
            array = array if self.home._needs is None else array[self.home._needs.rows[tensor]]
            sparse = np.count_nonzero(array) < _SPARSE * array.size
            found = self.home.keep(key, scipy.sparse.csr_matrix(array) if sparse else array)
        return key, found

    def _stored(self, tensor: str) -> tuple[Key, Matrix]:
        layer = self.home._layers.get(tensor)
        if isinstance(layer, Stack | JoinParts):
            parts = [self.stored(name) for name in inputs_of(layer)]
            return self._joined("joined", layer, parts)
        chosen = self.numbers.ranges.get(tensor)
        key, values = self.plain(tensor)
        return self._rounding(key, values, chosen) if chosen is not None else (key, values)

    def _rounding(self, key: Key, values: Matrix, chosen: ActivationRange) -> tuple[Key, Matrix]:
        return self._result(("round", key, chosen), lambda: rounded(values, chosen))

    def _scores(self, tensor: str) -> tuple[Key, FloatArray]:
        key, values = self.plain(tensor)
        if not self.numbers.ranges:
            return key, _dense(values)
        key, found = self._rounding(key, values, ActivationRange(SCORE_BITS, True, -Q8_BITS))
        return key, _dense(found)

    def _argument(self, tensor: str) -> tuple[Key, FloatArray]:
        """What a function or a norm reads; of a stack, its parts are rounded."""
        layer = self.home._layers.get(tensor)
        if isinstance(layer, Stack):
            key, found = self._joined("read", layer, [self._argument(name) for name in layer.inputs])
            return key, _dense(found)
        key, values = self.plain(tensor)
        chosen = self.numbers.inner.get(tensor)
        if chosen is not None:
            key, values = self._rounding(key, values, chosen)
        return key, _dense(values)

    def _joined(self, name: str, layer: Stack | JoinParts, parts: Sequence[tuple[Key, Matrix]]) -> tuple[Key, Matrix]:
        """The rows of other tensors as one."""
        key = (name, layer.output, *(key for key, _ in parts))
        return self._result(key, lambda: _joined(layer, self._read(layer, [values for _, values in parts])))

    def _read(self, layer: Layer, operands: Sequence[Matrix]) -> list[Matrix]:
        """Of rows that are computed of a layer's inputs, those that it reads."""
        needs = self.home._needs
        if needs is None:
            return list(operands)
        return [_taken(v, places) for v, places in zip(operands, needs.places[layer.output], strict=True)]

    def _result(self, parts: tuple[Hashable, ...], compute: Any) -> tuple[Key, Matrix]:
        key = self.home.key(*parts)
        found = self.home.kept(key)
        return key, self.home.keep(key, compute()) if found is None else found

    def _computed(self, layer: Layer) -> tuple[Key, Matrix]:
        operands = self._operands(layer)
        weights = self.numbers.weights.get(layer.output)
        numbers = 0 if weights is None else self.home.hold(weights)
        unit = self._unit(layer)
        steps = self.numbers.ranges.get(layer.input) if isinstance(layer, Dense) else None
        parts = (layer.output, numbers, unit, steps, *(key for key, _ in operands))

        def compute() -> FloatArray:
            return _in_steps(self._compute(layer, self._read(layer, [values for _, values in operands])), unit)

        return self._result(parts, compute)

    def _unit(self, layer: Layer) -> float:
        """The step of a sum in Q.8 that a layer is, or is a term of; 0 where there is none."""
        chosen = self.numbers.ranges.get(self.home._summed.get(layer.output, ""))
        return 0.0 if chosen is None else chosen.scale / (1 << Q8_BITS)

    def _operands(self, layer: Layer) -> list[tuple[Key, Matrix]]:
        match layer:
            case Add():
                return [self.plain(layer.left), self.plain(layer.right)]
            case Relu() | Bias() | RowSlice():
                return [self.plain(layer.input)]
            case Stack():
                return [self.plain(name) for name in layer.inputs]
            case Unary() | LayerNorm():
                return [self._argument(layer.input)]
            case HostOperator():
                return [self.stored(name) for name in layer.inputs]
            case EdgeAttention():
                scores = [self._scores(name) for name in (layer.source_scores, layer.destination_scores)]
                return [self.stored(layer.input), *scores]
            case EdgeDot() | TokenAttention():
                return [self.stored(name) for name in (layer.input, layer.queries, layer.keys)]
            case Fusion():
                return [self.stored(layer.input), self._scores(layer.weights)]
        return [self.stored(layer.input)]

    def _compute(self, layer: Layer, operands: Sequence[Matrix]) -> FloatArray:
        if isinstance(layer, Dense):
            return self._products(layer, operands[0])
        arrays = [_dense(values) for values in operands]
        match layer:
            case Add():
                return arrays[0] + arrays[1]
            case Bias():
                return arrays[0] + layer.values
            case Relu():
                return np.maximum(arrays[0], 0)
            case Unary():
                return values_of(layer, arrays[0])
            case LayerNorm():
                return _normalized(layer, arrays[0])
            case HostOperator():
                return run_operator(layer, arrays)
            case RowSlice():
                return arrays[0] if self.home.looked_at is not None else arrays[0][layer.first : layer.end]
            case Stack() | JoinParts():
                return _joined(layer, operands)
            case SegMean() | SegSum() | EdgeAttention() | EdgeDot():
                return self._aggregated(layer, arrays)
            case PartMean() | Fusion() | TokenAttention():
                return _of_parts(layer, arrays)
        raise AssertionError(f"no rule for {type(layer).__name__}")

    def _products(self, layer: Dense, rows: Matrix) -> FloatArray:
        weights = self.numbers.weights.get(layer.output)
        products = rows @ (layer.weight if weights is None else weights.restored)
        bias = layer.bias if weights is None or weights.bias is None else weights.bias
        if bias is not None and weights is not None and layer.input in self.numbers.ranges:
            steps = np.ldexp(weights.scales.astype(np.float64), self.numbers.ranges[layer.input].exponent)
            bias = np.asarray(round_bias(bias, steps) * steps, dtype=np.float32)
        return np.asarray(products if bias is None else products + bias, dtype=np.float32)

    def _aggregated(self, layer: EdgeAggregation, arrays: list[FloatArray]) -> FloatArray:
        edges = self.home.edges(layer)
        match layer:
            case SegMean():
                sums = edges.sums(np.ones(len(edges.sources), np.float32), arrays[0])
                return np.asarray(sums / np.maximum(edges.degrees, 1)[:, None], dtype=np.float32)
            case SegSum():
                return edges.sums(self.home.edge_weights(layer), arrays[0])
            case EdgeAttention():
                return self._attended(layer, edges, arrays)
            case EdgeDot():
                return _dot_attended(layer, edges, arrays)
        raise AssertionError

    def _attended(self, layer: EdgeAttention, edges: Edges, arrays: list[FloatArray]) -> FloatArray:
        rows, of_sources, of_destinations = arrays
        logits = self.home.logits_of(layer, of_sources, of_destinations)
        channels = np.split(rows, of_sources.shape[1], axis=1)
        results = [
            edges.sums(edges.shares(of_head), np.ascontiguousarray(part))
            for of_head, part in zip(logits, channels, strict=True)
        ]
        return np.concatenate(results, axis=1)


def rounded(values: Matrix, chosen: ActivationRange) -> Matrix:
    """Values as whole steps of a range; a channel's own factor divides its steps."""
    if isinstance(values, scipy.sparse.csr_matrix):
        found = values.copy()
        found.data = _rounded_array(values.data, chosen)
        return found
    return _rounded_array(values, chosen)


def _in_steps(values: FloatArray, unit: float) -> FloatArray:
    """Values in whole steps of a sum in Q.8."""
    if not unit:
        return values
    found = np.asarray(values * np.float32(1 / unit))
    np.rint(found, out=found)
    found *= np.float32(unit)
    return found


def _rounded_array(values: FloatArray, chosen: ActivationRange) -> FloatArray:
    found = np.asarray(chosen.steps(values), dtype=np.float32)
    found *= np.float32(chosen.scale)
    return found


def _dot_attended(layer: EdgeDot, edges: Edges, arrays: list[FloatArray]) -> FloatArray:
    of_heads = zip(*(np.split(array, layer.heads, axis=1) for array in arrays), strict=True)
    results = []
    for rows, queries, keys in of_heads:
        logits = np.einsum("ea,ea->e", queries[edges.destinations], keys[edges.sources])
        results.append(edges.sums(edges.shares(logits), np.ascontiguousarray(rows)))
    return np.concatenate(results, axis=1)


def _of_parts(layer: PartMean | Fusion | TokenAttention, arrays: list[FloatArray]) -> FloatArray:
    stacked = arrays[0].reshape(layer.parts, -1, arrays[0].shape[1])
    match layer:
        case PartMean():
            return np.asarray(stacked.mean(axis=1))
        case Fusion():
            return np.asarray(np.einsum("mnc,m->nc", stacked, softmax(arrays[1].reshape(-1))))
    queries, keys = (array.reshape(layer.parts, -1, array.shape[1]) for array in arrays[1:])
    shares = softmax(np.einsum("mna,kna->nmk", queries, keys))
    return np.asarray(np.einsum("nmk,knc->mnc", shares, stacked).reshape(arrays[0].shape))


def softmax(logits: FloatArray) -> FloatArray:
    """Shares along the last axis."""
    weights = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(weights / weights.sum(axis=-1, keepdims=True), dtype=np.float32)


def _normalized(layer: LayerNorm, rows: FloatArray) -> FloatArray:
    centred = rows - rows.mean(axis=1, keepdims=True)
    found = centred / np.sqrt(np.square(centred).mean(axis=1, keepdims=True) + layer.epsilon)
    found = found * layer.weight + layer.bias
    return np.asarray(np.maximum(found, 0) if layer.relu else found, dtype=np.float32)


def _joined(layer: Stack | JoinParts, parts: Sequence[Matrix]) -> FloatArray:
    arrays = [_dense(values) for values in parts]
    if isinstance(layer, Stack):
        return np.concatenate(arrays)
    stacked = arrays[0].reshape(layer.parts, -1, arrays[0].shape[1])
    return np.asarray(stacked.transpose(1, 0, 2).reshape(stacked.shape[1], -1))


def _taken(values: Matrix, places: Rows | None) -> Matrix:
    return values if places is None else values[places]


def _dense(values: Matrix) -> FloatArray:
    return values.toarray() if isinstance(values, scipy.sparse.csr_matrix) else values


def _bytes(values: Matrix) -> int:
    return int(
        values.data.nbytes + values.indices.nbytes if isinstance(values, scipy.sparse.csr_matrix) else values.nbytes
    )
