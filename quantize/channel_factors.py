# SPDX-License-Identifier: Apache-2.0
"""A rewrite that takes factors of channels, as BatchNormalization is read, into the weights around them.

A dense layer with a diagonal matrix D and a bias o gives ``x D + o``. Sums and aggregations let D pass to the dense
layers before them, whose columns take it: ``(a + mean(h W)) D = a D + mean(h (W D))``. Where something else reads
these, dense layers behind it take it into their rows: ``(x D + o) V = x (D V) + o V``. Else it stays a layer.
"""

from dataclasses import replace

import numpy as np

from hetfab.overlay.model.layers import (
    Add,
    Bias,
    Dense,
    FloatArray,
    Layer,
    LayerGraph,
    SegMean,
    SegSum,
    is_diagonal,
    is_identity,
)


def factors_in_products(graph: LayerGraph) -> LayerGraph:
    """The same model, with no diagonal layer where its neighbours can take it."""
    for name in [layer.output for layer in graph.layers]:
        layer = next((each for each in graph.layers if each.output == name), None)
        if isinstance(layer, Dense) and _is_factor(layer):
            graph = _before(graph, layer) or _behind(graph, layer) or graph
    return graph


def _is_factor(layer: Dense) -> bool:
    """Whether a dense layer multiplies channels by numbers, and does more than repeat its input."""
    return (
        len(layer.weight) > 1 and is_diagonal(layer.weight) and not (layer.bias is None and is_identity(layer.weight))
    )


def _before(graph: LayerGraph, norm: Dense) -> LayerGraph | None:
    """The model with the factors before what the layer reads; None where that is not possible."""
    changed = _scaled(graph, norm.input, np.diag(norm.weight))
    if changed is None:
        return None
    # The last layer of the sum takes the place of the norm, behind which its offset is added.
    last = changed[norm.input]
    if norm.bias is None:
        made: list[Layer] = [replace(last, output=norm.output)]
    elif isinstance(last, Dense):
        bias = norm.bias if last.bias is None else last.bias + norm.bias
        made = [replace(last, output=norm.output, bias=bias)]
    else:
        made = [last, Bias(norm.output, norm.input, norm.bias)]
    layers: list[Layer] = []
    for layer in graph.layers:
        if layer.output == norm.input:
            layers += made
        elif layer is not norm:
            layers.append(changed.get(layer.output, layer))
    return replace(graph, layers=tuple(layers))


def _scaled(graph: LayerGraph, tensor: str, factor: FloatArray) -> dict[str, Layer] | None:
    """Layers, by output, with which a tensor is multiplied by factors; None where something else would be, too."""
    layer = next((each for each in graph.layers if each.output == tensor), None)
    if layer is None or tensor == graph.output or len(graph.consumers(tensor)) != 1:
        return None
    match layer:
        case Dense():
            bias = None if layer.bias is None else layer.bias * factor
            return {tensor: replace(layer, weight=np.asarray(layer.weight * factor, np.float32), bias=bias)}
        case Add() if layer.left != layer.right:
            left, right = _scaled(graph, layer.left, factor), _scaled(graph, layer.right, factor)
            return None if left is None or right is None else left | right | {tensor: layer}
        case Bias():
            inner = _scaled(graph, layer.input, factor)
            return None if inner is None else inner | {tensor: replace(layer, values=layer.values * factor)}
        case SegMean() | SegSum():
            inner = _scaled(graph, layer.input, factor)
            return None if inner is None else inner | {tensor: layer}
    return None


def _behind(graph: LayerGraph, norm: Dense) -> LayerGraph | None:
    """The model with the factors in the dense layers that read the layer; None where others read it, too."""
    readers = graph.consumers(norm.output)
    if norm.output == graph.output or not readers or not all(isinstance(reader, Dense) for reader in readers):
        return None
    factor = np.diag(norm.weight)
    layers = [layer for layer in graph.layers if layer is not norm]
    for reader in readers:
        assert isinstance(reader, Dense)
        added = None if norm.bias is None else norm.bias @ reader.weight
        terms = [term for term in (added, reader.bias) if term is not None]
        bias = np.asarray(np.sum(terms, axis=0), np.float32) if terms else None
        weight = np.asarray(reader.weight * factor[:, None], np.float32)
        layers[layers.index(reader)] = replace(reader, input=norm.input, weight=weight, bias=bias)
    return replace(graph, layers=tuple(layers))
