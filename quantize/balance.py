# SPDX-License-Identifier: Apache-2.0
"""A rewrite that gives each channel of hidden tensors a power-of-two factor, so that channels have about equal ranges.

A channel's factor goes into the columns of the layer that writes the tensor and, inverted, into the rows of the layers
that read it; ReLU, sums and aggregations let it pass. The float model computes the same, bit for bit, because powers
of two round nothing (Nagel et al., Data-Free Quantization Through Weight Equalization and Bias Correction, ICCV 2019,
section 4.1, with factors of powers of two). An integer tensor has one scale; after this, each channel uses its range.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from hetfab.overlay.model.layers import (
    Add,
    Aggregation,
    Bias,
    Dense,
    EdgeAttention,
    EdgeDot,
    FloatArray,
    Function,
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

#: A channel's range is brought up by at most this power of two: rarely used channels need no finer steps.
_LARGEST_EXPONENT = 6


def balanced(graph: LayerGraph, magnitudes: Mapping[str, FloatArray]) -> LayerGraph:
    """The same model with factors.

    Args:
        graph: The layers, rewritten otherwise.
        magnitudes: Range of each channel of stored tensors, [C]; others may be missing.
    """
    classes = ChannelSets.of(graph, _alike, _fixed_by)
    ranges: dict[str, FloatArray] = {}
    for tensor, found in magnitudes.items():
        root = classes.root(tensor)
        if root not in classes.fixed:
            ranges[root] = np.maximum(ranges[root], found) if root in ranges else found
    factors = {root: _factors(found) for root, found in ranges.items()}

    def factor(tensor: str) -> FloatArray:
        found = factors.get(classes.root(tensor))
        return np.ones(graph.channels[tensor], np.float32) if found is None else found

    producers = {layer.output: layer for layer in graph.layers}
    layers = tuple(_scaled(layer, factor, producers) for layer in graph.layers)
    tables = {name: np.asarray(table / factor(name), np.float32) for name, table in graph.tables.items()}
    return replace(graph, layers=layers, tables=tables)


def _factors(ranges: FloatArray) -> FloatArray:
    """Powers of two of at most 1 that the channels of a tensor are divided by."""
    largest = float(ranges.max(initial=0.0))
    if largest <= 0.0:
        return np.ones(ranges.shape, np.float32)
    exponents = np.ceil(np.log2(np.maximum(ranges, 1e-30) / largest) - 1e-6)
    return np.asarray(np.exp2(np.clip(exponents, -_LARGEST_EXPONENT, 0)), np.float32)


def _scaled(layer: Layer, factor: Callable[[str], FloatArray], producers: Mapping[str, Layer]) -> Layer:
    match layer:
        case Dense() if not is_identity(layer.weight):
            read = producers.get(layer.input)
            rows = np.tile(factor(read.input), read.parts) if isinstance(read, JoinParts) else factor(layer.input)
            columns = factor(layer.output)
            bias = None if layer.bias is None else layer.bias / columns
            return replace(layer, weight=np.asarray(layer.weight * rows[:, None] / columns, np.float32), bias=bias)
        case Bias():
            return replace(layer, values=layer.values / factor(layer.output))
        case LayerNorm():
            columns = factor(layer.output)
            return replace(layer, weight=layer.weight / columns, bias=layer.bias / columns)
    return layer


def _alike(layer: Layer) -> tuple[str, ...]:
    """Tensors that a layer's result has the channels of."""
    match layer:
        case Add() | Relu() | Bias() | Stack() | RowSlice():
            return inputs_of(layer)
        case Dense() if is_identity(layer.weight):
            return (layer.input,)
        case Unary(function=Function.LEAKY_RELU):
            return (layer.input,)
    return (layer.input,) if isinstance(layer, Aggregation) else ()


def _fixed_by(layer: Layer) -> tuple[str, ...]:
    """Tensors whose channels a layer does not treat alike up to a factor."""
    match layer:
        case Unary() if layer.function is not Function.LEAKY_RELU:
            return layer.input, layer.output
        case LayerNorm() | RowNorm():
            return (layer.input,)
        case HostOperator():
            return *layer.inputs, layer.output
        case JoinParts():
            return (layer.output,)
        case EdgeAttention():
            return layer.source_scores, layer.destination_scores
        case Fusion():
            return (layer.weights,)
        case EdgeDot() | TokenAttention():
            return layer.queries, layer.keys
    return ()
