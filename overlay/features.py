# SPDX-License-Identifier: Apache-2.0
"""Features of a graph as a program reads them: rows of integers, or the non-zero ones as edges from their columns.

Only numpy is needed, so that a board can bind.
"""

from typing import Any, NamedTuple, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from hetfab.overlay import layouts
from hetfab.overlay.distinct import distinct
from hetfab.overlay.errors import (
    FeaturesMissingError,
    FeaturesNotFiniteError,
    FeatureWidthError,
    counted,
)
from hetfab.overlay.program import Tensor

IntArray: TypeAlias = npt.NDArray[np.int64]
#: Bits that hold the magnitude of an integer of 8 bits.
_STEP_BITS = 8
_LARGEST_WEIGHT = 127
_BLOCK_VALUES = 1 << 16


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


class FeatureEdges(NamedTuple):
    """A part of features' non-zero integers as edges into vertices.

    The integer of an edge's column is the vertex's factor times the number of its edges from there; a negative one has
    its edges from the column ``width`` further.

    Attributes:
        indptr: int64 [vertices + 1].
        ids: int64 [edges], columns.
        factors: int64 [vertices], what the part's integers of a vertex have in common: their greatest divisor, 0
            without any.
    """

    indptr: IntArray
    ids: IntArray
    factors: IntArray


class WeightedEdges(NamedTuple):
    """Features' non-zero integers as edges with weights, -127 to 127; the rest as ``FeatureEdges``.

    The integer of an edge's column is the vertex's factor times the sum of the weights of its edges from there.
    """

    indptr: IntArray
    ids: IntArray
    factors: IntArray
    weights: IntArray


def check_features(tensor: Tensor, features: Features | None) -> Features:
    """Returns features that a tensor can be made of, if they are finite: which is seen where they are rounded.

    Raises:
        FeaturesMissingError: There are none.
        FeatureWidthError: They have another width than the model's.
    """
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
    return features


def feature_rows(tensor: Tensor, features: Features, rows: int) -> layouts.Bytes:
    """Features in the layout 'activations'.

    Args:
        tensor: What they are for.
        features: As ``check_features`` returns them.
        rows: Vertices.
    """
    stored = layouts.activation_rows(rows, 8 * tensor.row_bytes // tensor.stored_bits, tensor.signed)
    order, held = list(tensor.channel_order), tensor.row_channels
    if isinstance(features, np.ndarray):
        for part in _blocks(features):
            chosen = features[part][:, order[:held]] if order else features[part, :held]
            stored[part, :held] = _steps(tensor, chosen)
    else:
        vertices, columns = np.repeat(np.arange(rows), np.diff(features.indptr)), _in_order(tensor, features.indices)
        kept = columns < held
        stored[vertices[kept], columns[kept]] = _steps(tensor, features.data[kept])
    return (layouts.packed_rows(stored) if tensor.packed else stored.view(np.uint8)).reshape(-1)


def feature_edges(tensor: Tensor, features: Features, parts: int) -> list[FeatureEdges]:
    """Features as edges from their columns, in the tensor's order of channels behind the leading ones, to vertices.

    Entries of one magnitude share a part. Each vertex's magnitudes with the largest sums get a part of their own, where
    an entry is one edge; the others share the last part, where it is as many as the common divisor makes it.

    Args:
        tensor: What they are for.
        features: As ``check_features`` returns them.
        parts: At least 1.

    Returns:
        The parts; a vertex's integers are the sums over all of them.
    """
    count, vertices, columns, steps = _nonzeros(tensor, features)
    columns = columns + (tensor.channels - tensor.leading) * (steps < 0)
    magnitudes = np.abs(steps)
    part = _part_of(vertices, magnitudes, parts)
    order = np.argsort(part.astype(np.uint8), kind="stable")
    ends = np.cumsum(np.bincount(part, minlength=parts))[:-1]
    pieces = (np.split(values[order], ends) for values in (vertices, columns, magnitudes))
    return [_edges(count, *piece) for piece in zip(*pieces, strict=True)]


def column_counts(tensor: Tensor, features: Features) -> IntArray:
    """How many integers of each column are not zero, int64 [columns], in the tensor's order.

    Args:
        tensor: What they are for.
        features: As ``check_features`` returns them.
    """
    _, _, columns, _ = _nonzeros(tensor, features)
    return np.bincount(columns, minlength=tensor.channels - tensor.leading)


def weighted_feature_edges(tensor: Tensor, features: Features) -> WeightedEdges:
    """Features as edges with weights, one for each entry whose integer is at most 127 times its vertex's factor.

    Args:
        tensor: What they are for.
        features: As ``check_features`` returns them.
    """
    count, vertices, columns, steps = _nonzeros(tensor, features)
    factors = _factors(count, vertices, steps)
    weights = steps // factors[vertices]
    edges = -(-np.abs(weights) // _LARGEST_WEIGHT)
    last = np.cumsum(edges) - 1
    split = np.repeat(np.sign(weights) * _LARGEST_WEIGHT, edges)
    split[last] = weights - np.sign(weights) * _LARGEST_WEIGHT * (edges - 1)
    return WeightedEdges(_starts(count, vertices, edges), np.repeat(columns, edges), factors, split)


def _nonzeros(tensor: Tensor, features: Features) -> tuple[int, IntArray, IntArray, IntArray]:
    """Vertices; of each non-zero integer behind the leading columns its vertex, its column there, and itself."""
    if isinstance(features, np.ndarray):
        places, vertices = _dense_nonzeros(features)
        columns = places - vertices * features.shape[1]
        steps, count = _steps(tensor, features.reshape(-1)[places]), len(features)
    else:
        count = len(features.indptr) - 1
        vertices, columns = np.repeat(np.arange(count), np.diff(features.indptr)), features.indices
        steps = _steps(tensor, features.data)
    columns = _in_order(tensor, columns) - tensor.leading
    kept = (steps != 0) & (columns >= 0)
    return count, vertices[kept].astype(np.int64), columns[kept].astype(np.int64), steps[kept].astype(np.int64)


def _in_order(tensor: Tensor, columns: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The places of columns in the tensor's order."""
    return np.argsort(tensor.channel_order)[columns] if tensor.channel_order else columns


def _dense_nonzeros(features: npt.NDArray[np.float32]) -> tuple[IntArray, IntArray]:
    """Places of the values that are not zero, row by row, and their rows."""
    # Much faster than numpy's search of two dimensions.
    places = [part.start * features.shape[1] + np.flatnonzero(features[part] != 0) for part in _blocks(features)]
    joined = np.concatenate([np.zeros(0, np.int64), *places])
    starts = np.arange(len(features) + 1) * features.shape[1]
    return joined, np.repeat(np.arange(len(features)), np.diff(np.searchsorted(joined, starts)))


def _blocks(features: npt.NDArray[np.float32]) -> list[slice]:
    """Rows of as many values as stay in a processor's cache while they are worked on."""
    rows = max(1, _BLOCK_VALUES // max(1, features.shape[1]))
    return [slice(first, min(first + rows, len(features))) for first in range(0, len(features), rows)]


def _part_of(vertices: IntArray, magnitudes: IntArray, parts: int) -> IntArray:
    """The part of each entry: the rank of its magnitude in its vertex, by what it adds up to there."""
    if parts == 1:
        return np.zeros(len(vertices), np.int64)
    limit = int(vertices.max(initial=-1)) + 1 << _STEP_BITS
    pairs, _, which, entries = distinct(vertices << _STEP_BITS | magnitudes, limit)
    vertex, sums = pairs >> _STEP_BITS, (pairs & (1 << _STEP_BITS) - 1) * entries
    largest_first = np.lexsort((-sums, vertex))
    starts = np.searchsorted(vertex, vertex)
    rank = np.empty(len(pairs), np.int64)
    rank[largest_first] = np.arange(len(pairs)) - starts
    return np.asarray(np.minimum(rank, parts - 1)[which], np.int64)


def _edges(count: int, vertices: IntArray, columns: IntArray, magnitudes: IntArray) -> FeatureEdges:
    factors = _factors(count, vertices, magnitudes)
    repeats = magnitudes // factors[vertices]
    return FeatureEdges(_starts(count, vertices, repeats), np.repeat(columns, repeats), factors)


def _factors(count: int, vertices: IntArray, steps: IntArray) -> IntArray:
    """The greatest common divisor of each vertex's integers, 0 without any; ``vertices`` ascend."""
    factors = np.zeros(count, np.int64)
    if len(vertices):
        first = np.flatnonzero(np.diff(vertices, prepend=-1))
        factors[vertices[first]] = np.gcd.reduceat(np.abs(steps), first)
    return factors


def _starts(count: int, vertices: IntArray, edges: IntArray) -> IntArray:
    """Where each vertex's edges begin; ``edges`` are those of each entry, vertex by vertex."""
    indptr = np.zeros(count + 1, np.int64)
    np.cumsum(np.bincount(vertices, edges, count), out=indptr[1:])
    return indptr


def _steps(tensor: Tensor, values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """The integers of values, as float32.

    Raises:
        FeaturesNotFiniteError: They contain NaN or infinity.
    """
    if not np.isfinite(values).all():
        raise FeaturesNotFiniteError(
            f"the features of '{tensor.node_type}' contain NaN or infinity",
            "finite values",
            "clean the features where the graph is made",
        )
    half = 1 << (tensor.bits - 1)
    low, high = (-half, half - 1) if tensor.signed else (0, 2 * half - 1)
    steps = np.asarray(values / np.float32(tensor.scale))
    np.clip(steps, low, high, out=steps)
    return np.asarray(np.rint(steps, out=steps))
