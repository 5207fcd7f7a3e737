# SPDX-License-Identifier: Apache-2.0
"""What a network on samples holds, in words and numbers, float or quantized."""

from collections.abc import Mapping

import numpy as np
import onnx

from hetfab.overlay.errors import OperatorsUnsupportedError
from hetfab.overlay.model.binding import Binding, Samples
from hetfab.overlay.model.cnn.integer import Average, IntegerLayer, Largest, Product, Stored, Sum
from hetfab.overlay.model.cnn.integer_reader import read_integers
from hetfab.overlay.model.cnn.layers import AveragePool, BatchNorm, Clip, CnnGraph, Conv, Layer, MaxPool, inputs_of
from hetfab.overlay.model.cnn.parser import try_cnn
from hetfab.overlay.model.cnn.window import NO_PADDING, Window
from hetfab.overlay.model.layers import Add, Dense
from hetfab.overlay.model.reader import is_quantized
from hetfab.overlay.model.summaries import LayerSummary


def takes_samples(bindings: Mapping[str, Binding]) -> bool:
    """Whether a model reads samples in place of a graph."""
    return any(isinstance(binding, Samples) for binding in bindings.values())


def summarise_cnn(model: onnx.ModelProto) -> tuple[tuple[LayerSummary, ...], tuple[str, ...]]:
    """The layers of a network on samples, and a line for each operator or use of one without an integer form.

    Raises:
        InputError: The model contradicts itself, beyond what is refused.
    """
    if not is_quantized(model):
        graph, refused = try_cnn(model)
        return tuple(_float_layer(layer, graph) for layer in graph.layers), refused
    try:
        return tuple(_integer_layer(layer) for layer in read_integers(model).layers), ()
    except OperatorsUnsupportedError as error:
        return (), error.refused


def _float_layer(layer: Layer, graph: CnnGraph) -> LayerSummary:
    read, written = graph.shapes[inputs_of(layer)[0]], graph.shapes[layer.output]
    weights = 0
    match layer:
        case Conv(weight=weight, bias=bias, window=window):
            kind = ("depthwise " if layer.depthwise else "conv ") + _window(window)
            kind += f", {layer.groups} groups" if layer.groups > 1 and not layer.depthwise else ""
            weights = weight.size + (0 if bias is None else bias.size)
        case Dense(weight=weight, bias=bias):
            kind, weights = "dense", weight.size + (0 if bias is None else bias.size)
        case BatchNorm(factor=factor):
            kind, weights = "batch norm", 2 * factor.size
        case MaxPool(window=window):
            kind = "largest of " + _window(window)
        case AveragePool(window=window):
            kind = "mean of " + _window(window)
        case Add():
            kind = "add"
        case Clip(highest=highest):
            kind = f"clip 0..{highest:g}"
        case _:
            kind = type(layer).__name__.lower()
    return LayerSummary(layer.output, kind, read[0], written[0], weights, shape=_shape(written))


def _integer_layer(layer: IntegerLayer) -> LayerSummary:
    """A layer with all that is done before it is rounded."""
    weights, widths = 0, tuple[int, ...]()
    match layer:
        case Product(window=None):
            kind, read = "dense", layer.input
        case Product(window=Window() as window):
            kind, read = ("depthwise " if layer.depthwise else "conv ") + _window(window), layer.input
        case Average(window=window):
            kind, read = "mean of " + _window(window), layer.input
        case Largest(window=window):
            kind, read = "largest of " + _window(window), layer.input
        case Sum():
            kind, read = "add", layer.left
    if isinstance(layer, Product):
        weights = layer.weight.size + int(layer.bias.any()) * layer.bias.size
        widths = tuple(int(bits) for bits in np.unique(layer.weight_bits))
        kind += " + add" if layer.residual is not None else ""
    if not isinstance(layer, Largest) and layer.finish.rectified:
        limited = layer.finish.highest < layer.output.highest
        kind += f" + clip 0..{layer.finish.highest * layer.output.scale:g}" if limited else " + relu"
    output = layer.output
    shape = _shape((output.shape[-1], *output.shape[:-1]))
    return LayerSummary(
        output.name, kind, _channels(read), output.shape[-1], weights, read.bits, widths, output.bits, shape
    )


def _channels(read: Stored) -> int:
    return read.shape[-1]


def _window(window: Window) -> str:
    parts = [f"{window.kernel[0]} x {window.kernel[1]}"]
    for name, pair in (("stride", window.strides), ("dilation", window.dilations)):
        if pair != (1, 1):
            parts.append(f"{name} {pair[0]}" if pair[0] == pair[1] else f"{name} {pair[0]} x {pair[1]}")
    if window.pads != NO_PADDING:
        same = len(set(window.pads)) == 1
        parts.append(f"pad {window.pads[0]}" if same else "pads " + " ".join(map(str, window.pads)))
    return ", ".join(parts)


def _shape(sizes: tuple[int, ...]) -> str:
    return " x ".join(map(str, sizes))
