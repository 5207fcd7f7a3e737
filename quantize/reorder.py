# SPDX-License-Identifier: Apache-2.0
"""Puts the channels of hidden tensors in another order, by which channels with alike weights are beside each other.

The order goes into the columns of the layers that write a tensor and into the rows of those that read it; what works on
each channel alone lets it pass. The float model computes the same, each number at another place (Yuan et al., PTQ-SL,
2021, arXiv 2110.07809: channels are put in an order before a matrix is cut into rectangles of one scale). Here channels
are in falling order of the largest magnitude of the weights that write them.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from hetfab.overlay.model.layers import (
    Add,
    Aggregation,
    Bias,
    Dense,
    EdgeAttention,
    EdgeDot,
    Fusion,
    HostOperator,
    JoinParts,
    Layer,
    LayerGraph,
    LayerNorm,
    Relu,
    RowNorm,
    RowSlice,
    Stack,
    TokenAttention,
    Unary,
    inputs_of,
    is_identity,
)
from hetfab.quantize.channel_sets import ChannelSets

Order = npt.NDArray[np.int64]


def reordered(graph: LayerGraph) -> LayerGraph:
    """The same model with the channels of hidden tensors by falling magnitude of the weights that write them.

    Args:
        graph: The layers, rewritten otherwise.
    """
    sets = ChannelSets.of(graph, _alike, lambda layer: _fixed_by(layer, graph.channels))
    magnitudes: dict[str, npt.NDArray[np.float32]] = {}
    for layer in graph.layers:
        root = sets.root(layer.output)
        if isinstance(layer, Dense) and not is_identity(layer.weight) and root not in sets.fixed:
            found = np.abs(layer.weight).max(axis=0, initial=0.0)
            magnitudes[root] = np.maximum(magnitudes[root], found) if root in magnitudes else found
    orders = {root: np.argsort(-found, kind="stable") for root, found in magnitudes.items()}

    def order(tensor: str) -> Order:
        return orders.get(sets.root(tensor), np.arange(graph.channels[tensor]))

    producers = {layer.output: layer for layer in graph.layers}
    layers = tuple(_moved(layer, order, producers) for layer in graph.layers)
    tables = {name: table[:, order(name)] for name, table in graph.tables.items()}
    return replace(graph, layers=layers, tables=tables)


def _moved(layer: Layer, order: Callable[[str], Order], producers: Mapping[str, Layer]) -> Layer:
    """A layer whose numbers follow the channels."""
    columns = order(layer.output)
    match layer:
        case Dense() if not is_identity(layer.weight):
            bias = None if layer.bias is None else layer.bias[columns]
            return replace(layer, weight=layer.weight[np.ix_(_rows(layer, order, producers), columns)], bias=bias)
        case Dense() if layer.bias is not None:
            return replace(layer, bias=layer.bias[columns])
        case Bias():
            return replace(layer, values=layer.values[columns])
        case LayerNorm():
            return replace(layer, weight=layer.weight[columns], bias=layer.bias[columns])
    return layer


def _rows(layer: Dense, order: Callable[[str], Order], producers: Mapping[str, Layer]) -> Order:
    """Where the rows of a layer's weights come from; parts that are joined each have their order."""
    read = producers.get(layer.input)
    if not isinstance(read, JoinParts):
        return order(layer.input)
    of_part = order(read.input)
    return np.asarray((np.arange(read.parts)[:, None] * len(of_part) + of_part).reshape(-1))


def _alike(layer: Layer) -> tuple[str, ...]:
    """Tensors that a layer's result has the channels of."""
    match layer:
        case Add() | Relu() | Bias() | Stack() | RowSlice() | Unary() | LayerNorm() | RowNorm():
            return inputs_of(layer)
        case Dense() if is_identity(layer.weight):
            return (layer.input,)
    return (layer.input,) if isinstance(layer, Aggregation) else ()


def _fixed_by(layer: Layer, channels: Mapping[str, int]) -> tuple[str, ...]:
    """Tensors whose channels have places of their own: of heads, and of what is joined."""
    match layer:
        case JoinParts():
            return (layer.output,)
        case HostOperator():
            return *layer.inputs, layer.output
        case EdgeAttention():
            heads = channels[layer.source_scores]
            return (layer.source_scores, layer.destination_scores, *((layer.input,) if heads > 1 else ()))
        case Fusion():
            return (layer.weights,)
        case EdgeDot():
            return (layer.queries, layer.keys, *((layer.input,) if layer.heads > 1 else ()))
        case TokenAttention():
            return layer.queries, layer.keys
    return ()
