# SPDX-License-Identifier: Apache-2.0
"""Rewrites of a float convolutional network that move a rounding; they are visible in the quantized file."""

from dataclasses import replace

import numpy as np

from hetfab.overlay.model.cnn.layers import BatchNorm, CnnGraph, Conv, Layer
from hetfab.overlay.model.cnn.uses import folds
from hetfab.overlay.model.cnn.window import Window
from hetfab.overlay.model.layers import Dense


def fold_batch_norms(graph: CnnGraph) -> CnnGraph:
    """Takes BatchNormalization into the weights and the bias of the layer before it.

    Where another layer reads what it normalises, or no layer with weights computes that, it becomes a depthwise
    convolution of one tap.
    """
    layers: list[Layer] = []
    for layer in graph.layers:
        if not isinstance(layer, BatchNorm):
            layers.append(layer)
        elif folds(layer, graph):
            position = next(i for i, before in enumerate(layers) if before.output == layer.input)
            before = layers[position]
            assert isinstance(before, Conv | Dense)
            layers[position] = _folded(before, layer)
        else:
            weight = layer.factor.reshape(-1, 1, 1, 1)
            layers.append(Conv(layer.output, layer.input, weight, layer.offset, Window((1, 1)), len(layer.factor)))
    return replace(graph, layers=tuple(layers))


def _folded(layer: Conv | Dense, norm: BatchNorm) -> Conv | Dense:
    factor = norm.factor.astype(np.float64)
    across = factor.reshape(-1, 1, 1, 1) if isinstance(layer, Conv) else factor
    bias = norm.offset + (0.0 if layer.bias is None else layer.bias * factor)
    weight = (layer.weight * across).astype(np.float32)
    return replace(layer, output=norm.output, weight=weight, bias=np.asarray(bias, dtype=np.float32))
