# SPDX-License-Identifier: Apache-2.0
"""Turns the operators of a float convolutional network into layers, and names at once all that has no integer form.

An operator is handled by one parser in ``PARSERS``. What cannot be handled leaves a gap, whose shape ONNX may still
infer; the search goes on behind it, so that a model is mended in one go.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
import onnx

from hetfab.overlay.errors import ModelStructureError, OperatorsUnsupportedError, counted
from hetfab.overlay.isa.arithmetic import LARGEST_DEGREE
from hetfab.overlay.model.cnn.layers import (
    AveragePool,
    BatchNorm,
    Clip,
    CnnGraph,
    Conv,
    Flatten,
    Layer,
    MaxPool,
    Shape,
)
from hetfab.overlay.model.cnn.names import Array, Names, read_names
from hetfab.overlay.model.cnn.reasons import why_refused
from hetfab.overlay.model.cnn.uses import refused_uses
from hetfab.overlay.model.cnn.window import (
    NO_PADDING,
    AutoPad,
    Padding,
    Pair,
    Window,
    divisors,
    rounded_up,
    same_padding,
)
from hetfab.overlay.model.layers import Add, Dense, FloatArray, Relu, attributes, describe
from hetfab.overlay.model.reader import graph_inputs, opset

_SPATIAL = 3
#: ReduceMean has its axes as an input from this opset on.
_AXES_ARE_INPUT = 18


class ParsedCnn(NamedTuple):
    """A model's layers, and a line for each operator or use of one that has no integer form."""

    graph: CnnGraph
    refused: tuple[str, ...]


class _RefusedError(Exception):
    """An operator cannot be handled: the reason and an alternative. Caught where all are collected."""

    def __init__(self, reason: str, alternative: str) -> None:
        super().__init__(f"{reason}; {alternative}")


class _GapError(Exception):
    """An operator depends on a gap in a way that leaves nothing to check."""


@dataclass
class _Draft:
    """What the parsers fill."""

    names: Names
    uses: Counter[str]
    opset: int
    layers: list[Layer] = field(default_factory=list)
    shapes: dict[str, Shape] = field(default_factory=dict)
    gaps: set[str] = field(default_factory=set)

    def constant(self, name: str) -> Array | None:
        return self.names.constants.get(name)

    def shape(self, name: str) -> Shape:
        """Shape of one sample of a tensor that is computed or given."""
        name = self.names.resolve(name)
        if name in self.names.constants:
            raise _RefusedError(f"it reads the constant '{name}' as samples", "fold what is constant into weights")
        if name in self.gaps:
            found = self.names.shapes.get(name)
            if found is None:
                raise _GapError
            self.shapes[name] = found
        return self.shapes[name]

    def image(self, name: str) -> Shape:
        """Shape of an image: channels, rows and columns."""
        shape = self.shape(name)
        if len(shape) != _SPATIAL:
            raise _RefusedError(
                f"it reads '{name}' with {counted(len(shape) - 1, 'spatial dimension')}",
                "use images of two spatial dimensions; a signal is an image of one row",
            )
        return shape

    def read(self, name: str) -> str:
        return self.names.resolve(name)

    def add(self, layer: Layer, shape: Shape) -> None:
        self.layers.append(layer)
        self.shapes[layer.output] = shape

    def leave_gap(self, node: onnx.NodeProto) -> None:
        self.gaps.update(self.names.resolve(name) for name in node.output)


def parse_cnn(model: onnx.ModelProto) -> CnnGraph:
    """Turns a float convolutional network, or a network of dense layers on samples, into layers.

    Args:
        model: As ``read_model`` returns it; its one input is bound to samples.

    Raises:
        OperatorsUnsupportedError: Operators, their forms or their uses have no integer form; all are named at once.
        ModelStructureError: There is not exactly one input and one output, or an initializer is not finite.
    """
    graph, refused = try_cnn(model)
    if refused:
        raise OperatorsUnsupportedError(
            f"{counted(len(refused), 'operator')} not supported:",
            "convolutions and dense layers with constant weights, pooling, Add, Relu, Clip from 0, BatchNormalization "
            "and Flatten",
            "change the model as each line says",
            refused,
        )
    return graph


def try_cnn(model: onnx.ModelProto) -> ParsedCnn:
    """As ``parse_cnn``, but gives what is not handled as lines of text.

    Raises:
        ModelStructureError: As ``parse_cnn``.
    """
    inputs, outputs = graph_inputs(model), model.graph.output
    if len(inputs) != 1 or len(outputs) != 1:
        raise ModelStructureError(
            f"the model has {counted(len(inputs), 'input')} and {counted(len(outputs), 'output')}: "
            + ", ".join(value.name for value in (*inputs, *outputs)),
            "one input, the samples, and one output, the logits",
            "export the model again with these alone",
        )
    names = read_names(model)
    working = [node for position, node in enumerate(model.graph.node) if position not in names.idle]
    uses = Counter(names.resolve(name) for node in working for name in node.input)
    draft = _Draft(names, uses, opset(model))
    given = names.resolve(inputs[0].name)
    draft.shapes[given] = names.shapes[given]
    refused = []
    for node in working:
        try:
            PARSERS.get((node.domain, node.op_type), _unknown)(draft, node)
        except _RefusedError as error:
            refused.append(f"{describe(node)}: {error}")
            draft.leave_gap(node)
        except _GapError:
            draft.leave_gap(node)
    graph = CnnGraph(tuple(draft.layers), draft.shapes, given, names.resolve(outputs[0].name))
    return ParsedCnn(graph, (*refused, *refused_uses(graph, draft.gaps)))


def _unknown(draft: _Draft, node: onnx.NodeProto) -> None:
    is_output = any(draft.uses[draft.names.resolve(name)] == 0 for name in node.output)
    raise _RefusedError(*why_refused(node, is_output=is_output))


def _parse_constant(draft: _Draft, node: onnx.NodeProto) -> None:
    if draft.constant(node.output[0]) is None:
        raise _RefusedError("only the attribute 'value' is read", "write the constant as a tensor")


def _pair(values: object, default: Pair = (1, 1)) -> Pair:
    """A list of two numbers."""
    if not isinstance(values, list):
        return default
    first, second = values
    return int(first), int(second)


def _window(node: onnx.NodeProto, shape: Shape, kernel: Pair, *, pools: bool) -> tuple[Window, Padding]:
    """The window of an operator with all its padding, and the padding that the operator itself states."""
    values = attributes(node)
    mode = AutoPad(bytes(values.get("auto_pad", b"NOTSET")).decode())  # type: ignore[call-overload]
    size = shape[1], shape[2]
    window = Window(kernel, _pair(values.get("strides")), _pair(values.get("dilations")))
    if mode is AutoPad.NOTSET:
        pads = values.get("pads")
        above, left, below, right = pads if isinstance(pads, list) else NO_PADDING
        window = replace(window, pads=(above, left, below, right))
    else:
        _check_auto_pad(window, mode, pools=pools)
        window = same_padding(window, size, mode)
    stated = window.pads
    if values.get("ceil_mode", 0):
        if mode is not AutoPad.NOTSET:
            raise _RefusedError("ceil_mode and auto_pad meet", "write the pads as numbers")
        window = rounded_up(window, size)
    if window.dilations[0] != window.dilations[1]:
        raise _RefusedError(
            f"its dilations {list(window.dilations)} differ, and no engine reads such windows",
            "use one dilation for rows and columns",
        )
    if min(window.positions(size)) < 1:
        raise _RefusedError(
            f"its window reaches over {window.reach[0]} x {window.reach[1]} pixels of {size[0]} x {size[1]}",
            "use larger images, or a smaller window",
        )
    return window, stated


def _check_auto_pad(window: Window, mode: AutoPad, *, pools: bool) -> None:
    same = mode in (AutoPad.SAME_UPPER, AutoPad.SAME_LOWER)
    if same and window.dilations != (1, 1):
        raise _RefusedError("onnxruntime does not run auto_pad with dilations", "write the pads as numbers")
    if same and pools and any(stride > taps for stride, taps in zip(window.strides, window.kernel, strict=True)):
        raise _RefusedError("runtimes place auto_pad differently where strides pass the window", "write the pads")


def _parse_conv(draft: _Draft, node: onnx.NodeProto) -> None:
    shape = draft.image(node.input[0])
    weight, bias = (_weights(draft, name) for name in (node.input[1], node.input[2] if len(node.input) > 2 else ""))
    if weight is None or weight.ndim != 4:
        raise _RefusedError("its weights are no constant of four dimensions", "export trained weights of a 2-D Conv")
    groups = int(attributes(node).get("group", 1))  # type: ignore[call-overload]
    if weight.shape[1] * groups != shape[0] or weight.shape[0] % groups:
        raise _RefusedError(
            f"its weights {list(weight.shape)} in {counted(groups, 'group')} do not fit {counted(shape[0], 'channel')}",
            "export the model again",
        )
    window, _ = _window(node, shape, (weight.shape[2], weight.shape[3]), pools=False)
    positions = window.positions((shape[1], shape[2]))
    layer = Conv(draft.read(node.output[0]), draft.read(node.input[0]), weight, bias, window, groups)
    draft.add(layer, (weight.shape[0], *positions))


def _weights(draft: _Draft, name: str) -> FloatArray | None:
    """A constant as weights; None without one."""
    if not name:
        return None
    if name in draft.gaps:
        raise _GapError
    found = draft.constant(name)
    if found is None:
        raise _RefusedError(f"'{name}' is computed, not constant", "export trained weights as initializers")
    return np.ascontiguousarray(found, dtype=np.float32)


def _parse_matmul(draft: _Draft, node: onnx.NodeProto) -> None:
    _add_dense(draft, node, _weights(draft, node.input[1]), None)


def _parse_gemm(draft: _Draft, node: onnx.NodeProto) -> None:
    values = attributes(node)
    if values.get("transA", 0) or values.get("alpha", 1.0) != 1.0 or values.get("beta", 1.0) != 1.0:
        raise _RefusedError("transA, alpha or beta is set", "fold them into the weights")
    weight = _weights(draft, node.input[1])
    if weight is not None and values.get("transB", 0):
        weight = np.ascontiguousarray(weight.T)
    _add_dense(draft, node, weight, _weights(draft, node.input[2] if len(node.input) > 2 else ""))


def _add_dense(draft: _Draft, node: onnx.NodeProto, weight: FloatArray | None, bias: FloatArray | None) -> None:
    shape = draft.shape(node.input[0])
    if weight is None or weight.ndim != 2 or len(shape) != 1 or shape[0] != weight.shape[0]:
        found = "nothing" if weight is None else list(weight.shape)
        raise _RefusedError(
            f"it multiplies samples of shape {list(shape)} by weights of shape {found}",
            "flatten images first; weights are a matrix with one row for each column",
        )
    vector = None if bias is None else _per_channel(bias, (weight.shape[1],))
    if bias is not None and vector is None:
        raise _RefusedError(f"its bias has the shape {list(bias.shape)}", "give one number for each column")
    draft.add(Dense(draft.read(node.output[0]), draft.read(node.input[0]), weight, vector), (weight.shape[1],))


def _per_channel(constant: FloatArray, shape: Shape) -> FloatArray | None:
    """A constant as one number for each channel, where broadcasting to a batch of ``shape`` makes it that."""
    form = (1,) * (1 + len(shape) - constant.ndim) + constant.shape
    if len(form) != 1 + len(shape) or form[1] not in (1, shape[0]) or form[0] != 1 or any(n != 1 for n in form[2:]):
        return None
    return np.ascontiguousarray(np.broadcast_to(constant.reshape(-1), (shape[0],)), dtype=np.float32)


def _parse_add(draft: _Draft, node: onnx.NodeProto) -> None:
    for value, other in (node.input, reversed(node.input)):
        constant = draft.constant(other)
        if constant is not None:
            _add_bias(draft, node, value, np.asarray(constant, dtype=np.float32))
            return
    left, right = (draft.shape(name) for name in node.input)
    if left != right:
        raise _RefusedError(f"its operands have the shapes {list(left)} and {list(right)}", "add tensors of one shape")
    draft.add(Add(draft.read(node.output[0]), *(draft.read(name) for name in node.input)), left)


def _add_bias(draft: _Draft, node: onnx.NodeProto, value: str, constant: FloatArray) -> None:
    """Gives a constant that is added to a layer of its own to that layer as its bias."""
    shape, name = draft.shape(value), draft.read(value)
    if name in draft.gaps:
        raise _GapError
    vector = _per_channel(constant, shape)
    position = next((i for i, layer in enumerate(draft.layers) if layer.output == name), None)
    layer = None if position is None else draft.layers[position]
    if vector is None or position is None or not isinstance(layer, Conv | Dense) or draft.uses[name] != 1:
        raise _RefusedError(
            f"it adds a constant of shape {list(constant.shape)} to something other than a convolution or dense layer "
            "of its own",
            "fold it into a bias",
        )
    bias = vector if layer.bias is None else layer.bias + vector
    draft.layers[position] = replace(layer, bias=bias, output=draft.read(node.output[0]))
    draft.shapes[draft.read(node.output[0])] = draft.shapes.pop(name)


def _parse_batch_norm(draft: _Draft, node: onnx.NodeProto) -> None:
    values, shape = attributes(node), draft.shape(node.input[0])
    if values.get("training_mode", 0) or len([name for name in node.output if name]) > 1:
        raise _RefusedError("it is exported for training", "export the model after `model.eval()`")
    parts = [_weights(draft, name) for name in node.input[1:]]
    gamma, beta, mean, variance = (np.asarray(part, dtype=np.float64) for part in parts)
    factor = gamma / np.sqrt(variance + float(values.get("epsilon", 1e-5)))  # type: ignore[arg-type]
    offset = beta - mean * factor
    layer = BatchNorm(
        draft.read(node.output[0]), draft.read(node.input[0]), factor.astype(np.float32), offset.astype(np.float32)
    )
    draft.add(layer, shape)


def _parse_max_pool(draft: _Draft, node: onnx.NodeProto) -> None:
    shape = draft.image(node.input[0])
    if len([name for name in node.output if name]) > 1:
        raise _RefusedError("its second output, the indices, is read", "leave out what reads the indices")
    window, _ = _window(node, shape, _pair(attributes(node)["kernel_shape"]), pools=True)
    _check_pool_padding(window)
    positions = window.positions((shape[1], shape[2]))
    draft.add(MaxPool(draft.read(node.output[0]), draft.read(node.input[0]), window), (shape[0], *positions))


def _check_pool_padding(window: Window) -> None:
    if any(pad >= window.kernel[axis % 2] for axis, pad in enumerate(window.pads)):
        raise _RefusedError(
            f"its pads {list(window.pads)} reach its kernel {list(window.kernel)}, so that windows hold padding alone",
            "use smaller pads",
        )


def _parse_average_pool(draft: _Draft, node: onnx.NodeProto) -> None:
    shape, values = draft.image(node.input[0]), attributes(node)
    window, stated = _window(node, shape, _pair(values["kernel_shape"]), pools=True)
    _check_pool_padding(window)
    _add_average(draft, node, window, stated if values.get("count_include_pad", 0) else NO_PADDING)


def _add_average(draft: _Draft, node: onnx.NodeProto, window: Window, counted_padding: Padding) -> None:
    shape = draft.image(node.input[0])
    if window.taps > LARGEST_DEGREE:
        raise _RefusedError(
            f"it averages {counted(window.taps, 'pixel')}, and at most {LARGEST_DEGREE:,} have a reciprocal",
            "use smaller windows",
        )
    size = shape[1], shape[2]
    numbers = divisors(window, size, counted_padding)
    layer = AveragePool(draft.read(node.output[0]), draft.read(node.input[0]), window, numbers)
    draft.add(layer, (shape[0], *window.positions(size)))


def _parse_global_average(draft: _Draft, node: onnx.NodeProto) -> None:
    shape = draft.image(node.input[0])
    _add_average(draft, node, Window((shape[1], shape[2])), NO_PADDING)


def _parse_reduce_mean(draft: _Draft, node: onnx.NodeProto) -> None:
    """The mean over rows and columns; without ``keepdims`` the result is a row."""
    values, shape = attributes(node), draft.image(node.input[0])
    axes = values.get("axes")
    if draft.opset >= _AXES_ARE_INPUT:
        found = draft.constant(node.input[1]) if len(node.input) > 1 else None
        axes = None if found is None else [int(axis) for axis in np.asarray(found).reshape(-1)]
    if not isinstance(axes, list) or sorted(axis % 4 for axis in axes) != [2, 3]:
        raise _RefusedError(f"it averages over the axes {axes}", "average over rows and columns, axes 2 and 3")
    if values.get("keepdims", 1):
        _parse_global_average(draft, node)
        return
    output = draft.read(node.output[0])
    mean = AveragePool(
        f"{output}.mean", draft.read(node.input[0]), Window((shape[1], shape[2])), np.full((1, 1), shape[1] * shape[2])
    )
    draft.add(mean, (shape[0], 1, 1))
    draft.add(Flatten(output, mean.output), (shape[0],))


def _parse_relu(draft: _Draft, node: onnx.NodeProto) -> None:
    draft.add(Relu(draft.read(node.output[0]), draft.read(node.input[0])), draft.shape(node.input[0]))


def _parse_clip(draft: _Draft, node: onnx.NodeProto) -> None:
    bounds = [*node.input[1:], "", ""][:2]
    low, high = (None if name == "" else draft.constant(name) for name in bounds)
    if any(name and found is None for name, found in zip(bounds, (low, high), strict=True)):
        raise _RefusedError("its bounds are not constant", "export them as constants")
    if low is None or float(low.reshape(-1)[0]) != 0.0 or (high is not None and float(high.reshape(-1)[0]) <= 0.0):  # type: ignore[arg-type]
        text = ["none" if bound is None else f"{float(bound.reshape(-1)[0]):g}" for bound in (low, high)]  # type: ignore[arg-type]
        raise _RefusedError(f"it limits to {text[0]}..{text[1]}", "use Relu, or Clip from 0, as ReLU6 does")
    output, source, shape = draft.read(node.output[0]), draft.read(node.input[0]), draft.shape(node.input[0])
    if high is None:
        draft.add(Relu(output, source), shape)
    else:
        draft.add(Clip(output, source, float(high.reshape(-1)[0])), shape)  # type: ignore[arg-type]


def _parse_flatten(draft: _Draft, node: onnx.NodeProto) -> None:
    """Flatten, and what exporters write for it: Reshape and Squeeze to one row for each sample."""
    shape, output = draft.shape(node.input[0]), draft.read(node.output[0])
    becomes = draft.names.shapes.get(output)
    columns = (int(np.prod(shape)),)
    if becomes is None:
        raise _RefusedError("its result has no shape that ONNX infers", "use Flatten, with axis 1")
    if becomes not in (columns, shape) or (node.op_type == "Flatten" and attributes(node).get("axis", 1) != 1):
        raise _RefusedError(
            f"it makes samples of shape {list(becomes)} from {list(shape)}", "make one row of each sample, as Flatten"
        )
    draft.add(Flatten(output, draft.read(node.input[0])), becomes)


#: (domain, operator) -> parser. Adding an operator adds one line and its parser.
PARSERS: dict[tuple[str, str], Callable[[_Draft, onnx.NodeProto], None]] = {
    ("", "Constant"): _parse_constant,
    ("", "Conv"): _parse_conv,
    ("", "MatMul"): _parse_matmul,
    ("", "Gemm"): _parse_gemm,
    ("", "Add"): _parse_add,
    ("", "BatchNormalization"): _parse_batch_norm,
    ("", "MaxPool"): _parse_max_pool,
    ("", "AveragePool"): _parse_average_pool,
    ("", "GlobalAveragePool"): _parse_global_average,
    ("", "ReduceMean"): _parse_reduce_mean,
    ("", "Relu"): _parse_relu,
    ("", "Clip"): _parse_clip,
    ("", "Flatten"): _parse_flatten,
    ("", "Reshape"): _parse_flatten,
    ("", "Squeeze"): _parse_flatten,
}
