# SPDX-License-Identifier: Apache-2.0
"""Gradients of a loss of the logits for every tensor of a float model, by the chain rule from the last layer back."""

from collections.abc import Iterator
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import scipy.sparse
from scipy.special import expit, ndtr

from hetfab.overlay.errors import HostFallbackError
from hetfab.overlay.model.layers import (
    Add,
    Bias,
    Dense,
    EdgeAttention,
    EdgeDot,
    Function,
    Fusion,
    HostOperator,
    JoinParts,
    Layer,
    LayerNorm,
    PartMean,
    Relu,
    RowSlice,
    SegMean,
    SegSum,
    Stack,
    TokenAttention,
    Unary,
    describe,
)
from hetfab.quantize.emulation import Edges, Emulation, softmax

FloatArray: TypeAlias = npt.NDArray[np.float32]


def gradients(emulation: Emulation, of_logits: FloatArray) -> dict[str, FloatArray]:
    """Gradients of all tensors that the logits depend on.

    Args:
        emulation: The model on a feed.
        of_logits: Gradient of the logits, [rows, classes].
    """
    found: dict[str, FloatArray] = {emulation.graph.output: of_logits}
    for layer in reversed(emulation.graph.layers):
        behind = found.get(layer.output)
        if behind is None:
            continue
        for name, gradient in _before(layer, behind, emulation):
            found[name] = found[name] + gradient if name in found else gradient
    return found


def _before(layer: Layer, behind: FloatArray, emulation: Emulation) -> Iterator[tuple[str, FloatArray]]:
    match layer:
        case Dense():
            yield layer.input, behind @ layer.weight.T
        case Add():
            yield layer.left, behind
            yield layer.right, behind
        case Bias():
            yield layer.input, behind
        case Relu():
            yield layer.input, behind * (emulation.values(layer.output) > 0)
        case Unary():
            yield layer.input, behind * _slope(layer, emulation.values(layer.input))
        case LayerNorm():
            yield layer.input, _through_norm(layer, behind, emulation)
        case HostOperator():
            raise HostFallbackError(
                f"nothing is known of the gradient of {describe(layer.node)}, which the host runs",
                "layers that the overlay executes",
                "choose widths by another method, or give them yourself",
            )
        case RowSlice():
            whole = np.zeros_like(emulation.values(layer.input))
            whole[layer.first : layer.end] = behind
            yield layer.input, whole
        case Stack():
            ends = np.cumsum([len(emulation.values(name)) for name in layer.inputs])[:-1]
            yield from zip(layer.inputs, np.split(behind, ends), strict=True)
        case JoinParts():
            parts = behind.reshape(len(behind), layer.parts, -1).transpose(1, 0, 2)
            yield layer.input, parts.reshape(-1, parts.shape[2])
        case SegMean() | SegSum() | EdgeAttention() | EdgeDot():
            yield from _through_edges(layer, behind, emulation)
        case PartMean() | Fusion() | TokenAttention():
            yield from _through_parts(layer, behind, emulation)


def _slope(layer: Unary, x: FloatArray) -> FloatArray:
    match layer.function:
        case Function.ELU:
            found = np.where(x > 0, 1, layer.alpha * np.exp(np.minimum(x, 0)))
        case Function.LEAKY_RELU:
            found = np.where(x > 0, 1, layer.alpha)
        case Function.GELU:
            found = ndtr(x) + x * np.exp(-np.square(x) / 2) / np.sqrt(2 * np.pi)
        case Function.SIGMOID:
            found = expit(x) * expit(-x)
        case Function.TANH:
            found = 1 - np.square(np.tanh(x))
    return np.asarray(found, np.float32)


def _through_norm(layer: LayerNorm, behind: FloatArray, emulation: Emulation) -> FloatArray:
    rows = emulation.values(layer.input)
    centred = rows - rows.mean(axis=1, keepdims=True)
    deviation = np.sqrt(np.square(centred).mean(axis=1, keepdims=True) + layer.epsilon)
    unit = centred / deviation
    if layer.relu:
        behind = behind * (emulation.values(layer.output) > 0)
    scaled = behind * layer.weight
    along = scaled.mean(axis=1, keepdims=True) + unit * (scaled * unit).mean(axis=1, keepdims=True)
    return np.asarray((scaled - along) / deviation, np.float32)


def _through_edges(
    layer: SegMean | SegSum | EdgeAttention | EdgeDot, behind: FloatArray, emulation: Emulation
) -> Iterator[tuple[str, FloatArray]]:
    edges, rows = emulation.edges(layer), emulation.values(layer.input)
    match layer:
        case SegMean():
            shares = np.repeat(1.0 / np.maximum(edges.degrees, 1), edges.degrees).astype(np.float32)
            yield layer.input, _to_sources(edges, shares, behind, len(rows))
        case SegSum():
            yield layer.input, _to_sources(edges, emulation.edge_weights(layer), behind, len(rows))
        case EdgeAttention():
            logits = emulation.attention_logits(layer)
            heads = list(_through_heads(edges, logits, rows, behind))
            yield layer.input, np.concatenate([of_rows for of_rows, _ in heads], axis=1)
            slopes = [np.where(of_head < 0, layer.slope, 1.0) for of_head in logits]
            found = [gradient * slope for (_, gradient), slope in zip(heads, slopes, strict=True)]
            for name, ends in ((layer.source_scores, edges.sources), (layer.destination_scores, edges.destinations)):
                count = len(emulation.values(name))
                yield name, np.stack([np.bincount(ends, each, count) for each in found], axis=1).astype(np.float32)
        case EdgeDot():
            queries, keys = emulation.values(layer.queries), emulation.values(layer.keys)
            of_heads = [np.split(array, layer.heads, axis=1) for array in (queries, keys)]
            logits = [
                np.einsum("ea,ea->e", q[edges.destinations], k[edges.sources]) for q, k in zip(*of_heads, strict=True)
            ]
            heads = list(_through_heads(edges, logits, rows, behind))
            yield layer.input, np.concatenate([of_rows for of_rows, _ in heads], axis=1)
            pairs = list(zip(*of_heads, heads, strict=True))
            of_queries = [edges.sums(gradient.astype(np.float32), key) for _, key, (_, gradient) in pairs]
            of_keys = [_to_sources(edges, gradient, query, len(keys)) for query, _, (_, gradient) in pairs]
            yield layer.queries, np.concatenate(of_queries, axis=1)
            yield layer.keys, np.concatenate(of_keys, axis=1)


def _through_heads(
    edges: Edges, logits: list[FloatArray], rows: FloatArray, behind: FloatArray
) -> Iterator[tuple[FloatArray, FloatArray]]:
    """Of each head, gradients of the rows and of the edges' logits."""
    count = len(logits)
    for logit, values, outer in zip(
        logits, np.split(rows, count, axis=1), np.split(behind, count, axis=1), strict=True
    ):
        shares = edges.shares(logit)
        of_shares = np.einsum("ec,ec->e", outer[edges.destinations], values[edges.sources])
        mean = np.bincount(edges.destinations, shares * of_shares, edges.rows)[edges.destinations]
        yield _to_sources(edges, shares, outer, len(rows)), np.asarray(shares * (of_shares - mean), np.float32)


def _to_sources(edges: Edges, weights: FloatArray, behind: FloatArray, rows: int) -> FloatArray:
    """Sums over the edges out of each source."""
    shape = (edges.rows, rows)
    matrix = scipy.sparse.csr_matrix((weights, edges.sources, edges.pointers), shape=shape)
    return np.asarray(matrix.T @ behind, dtype=np.float32)


def _through_parts(
    layer: PartMean | Fusion | TokenAttention, behind: FloatArray, emulation: Emulation
) -> Iterator[tuple[str, FloatArray]]:
    rows = emulation.values(layer.input)
    stacked = rows.reshape(layer.parts, -1, rows.shape[1])
    match layer:
        case PartMean():
            yield layer.input, np.repeat(behind / stacked.shape[1], stacked.shape[1], axis=0)
        case Fusion():
            shares = softmax(emulation.values(layer.weights).reshape(-1))
            yield layer.input, (shares[:, None, None] * behind).reshape(rows.shape)
            of_shares = np.einsum("mnc,nc->m", stacked, behind)
            yield layer.weights, (shares * (of_shares - shares @ of_shares)).reshape(-1, 1)
        case TokenAttention():
            queries, keys = (emulation.values(name) for name in (layer.queries, layer.keys))
            q, k, outer = (array.reshape(layer.parts, -1, array.shape[1]) for array in (queries, keys, behind))
            shares = softmax(np.einsum("mna,kna->nmk", q, k))
            yield layer.input, np.einsum("nmk,mnc->knc", shares, outer).reshape(rows.shape)
            of_shares = np.einsum("mnc,knc->nmk", outer, stacked)
            of_logits = shares * (of_shares - (shares * of_shares).sum(axis=2, keepdims=True))
            yield layer.queries, np.einsum("nmk,kna->mna", of_logits, k).reshape(queries.shape)
            yield layer.keys, np.einsum("nmk,mna->kna", of_logits, q).reshape(keys.shape)
