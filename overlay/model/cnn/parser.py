# SPDX-License-Identifier: Apache-2.0
"""Turns the operators of a float convolutional network into layers, and names at once all that has no integer form.

An operator is handled by one parser in ``PARSERS``. What cannot be handled leaves a gap, whose shape ONNX may still
infer; the search goes on behind it, so that a model is mended in one go.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import onnx

from hetfab.overlay.errors import ModelStructureError, OperatorsUnsupportedError, counted
from hetfab.overlay.model.batch_norm import factor_and_offset, is_for_training
from hetfab.overlay.model.cnn.draft import Draft, GapError, RefusedError, weights_of
from hetfab.overlay.model.cnn.layers import BatchNorm, Clip, CnnGraph, Conv, Flatten, Shape
from hetfab.overlay.model.cnn.names import Array, read_names
from hetfab.overlay.model.cnn.pooling import (
    parse_average_pool,
    parse_global_average,
    parse_max_pool,
    parse_pad,
    parse_reduce_mean,
    read_window,
)
from hetfab.overlay.model.cnn.reasons import why_refused
from hetfab.overlay.model.cnn.uses import refused_uses
from hetfab.overlay.model.layers import Add, Dense, FloatArray, Relu, attributes, describe
from hetfab.overlay.model.reader import graph_inputs, opset


class ParsedCnn(NamedTuple):
    """A model's layers, and a line for each operator or use of one that has no integer form."""

    graph: CnnGraph
    refused: tuple[str, ...]


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
    draft = Draft(names, uses, opset(model))
    given = names.resolve(inputs[0].name)
    if given not in names.shapes:
        raise ModelStructureError(
            f"the input '{inputs[0].name}' has no fixed sizes of a sample",
            "a batch, and sizes of at least 1 behind it",
            "export the model for samples of one size",
        )
    draft.shapes[given] = names.shapes[given]
    refused = []
    for node in working:
        try:
            PARSERS.get((node.domain, node.op_type), _unknown)(draft, node)
        except RefusedError as error:
            refused.append(f"{describe(node)}: {error}")
            draft.leave_gap(node)
        except GapError:
            draft.leave_gap(node)
    graph = CnnGraph(tuple(draft.layers), draft.shapes, given, names.resolve(outputs[0].name))
    return ParsedCnn(graph, (*refused, *refused_uses(graph, draft.gaps)))


def _unknown(draft: Draft, node: onnx.NodeProto) -> None:
    is_output = any(draft.uses[draft.names.resolve(name)] == 0 for name in node.output)
    raise RefusedError(*why_refused(node, is_output=is_output))


def _parse_constant(draft: Draft, node: onnx.NodeProto) -> None:
    if draft.constant(node.output[0]) is None:
        raise RefusedError("only the attribute 'value' is read", "write the constant as a tensor")


def _parse_conv(draft: Draft, node: onnx.NodeProto) -> None:
    read, around = draft.without_padding(node.input[0])
    shape = draft.image(read)
    weight, bias = (weights_of(draft, name) for name in (node.input[1], node.input[2] if len(node.input) > 2 else ""))
    if weight is None or weight.ndim != 4:
        raise RefusedError("its weights are no constant of four dimensions", "export trained weights of a 2-D Conv")
    values: dict[str, Any] = attributes(node)
    groups = int(values.get("group", 1))
    if weight.shape[1] * groups != shape[0] or weight.shape[0] % groups:
        raise RefusedError(
            f"its weights {list(weight.shape)} in {counted(groups, 'group')} do not fit {counted(shape[0], 'channel')}",
            "export the model again",
        )
    window, _ = read_window(node, shape, (weight.shape[2], weight.shape[3]), pools=False, around=around)
    positions = window.positions((shape[1], shape[2]))
    layer = Conv(draft.read(node.output[0]), draft.read(read), weight, bias, window, groups)
    draft.add(layer, (weight.shape[0], *positions))


def _parse_matmul(draft: Draft, node: onnx.NodeProto) -> None:
    _add_dense(draft, node, weights_of(draft, node.input[1]), None)


def _parse_gemm(draft: Draft, node: onnx.NodeProto) -> None:
    values = attributes(node)
    if values.get("transA", 0) or values.get("alpha", 1.0) != 1.0 or values.get("beta", 1.0) != 1.0:
        raise RefusedError("transA, alpha or beta is set", "fold them into the weights")
    weight = weights_of(draft, node.input[1])
    if weight is not None and values.get("transB", 0):
        weight = np.ascontiguousarray(weight.T)
    _add_dense(draft, node, weight, weights_of(draft, node.input[2] if len(node.input) > 2 else ""))


def _add_dense(draft: Draft, node: onnx.NodeProto, weight: FloatArray | None, bias: FloatArray | None) -> None:
    shape = draft.shape(node.input[0])
    if weight is None or weight.ndim != 2 or len(shape) != 1 or shape[0] != weight.shape[0]:
        found = "nothing" if weight is None else list(weight.shape)
        raise RefusedError(
            f"it multiplies samples of shape {list(shape)} by weights of shape {found}",
            "flatten images first; weights are a matrix with one row for each column",
        )
    vector = None if bias is None else _per_channel(bias, (weight.shape[1],))
    if bias is not None and vector is None:
        raise RefusedError(f"its bias has the shape {list(bias.shape)}", "give one number for each column")
    draft.add(Dense(draft.read(node.output[0]), draft.read(node.input[0]), weight, vector), (weight.shape[1],))


def _per_channel(constant: FloatArray, shape: Shape) -> FloatArray | None:
    """A constant as one number for each channel, where broadcasting to a batch of ``shape`` makes it that."""
    form = (1,) * (1 + len(shape) - constant.ndim) + constant.shape
    if len(form) != 1 + len(shape) or form[1] not in (1, shape[0]) or form[0] != 1 or any(n != 1 for n in form[2:]):
        return None
    return np.ascontiguousarray(np.broadcast_to(constant.reshape(-1), (shape[0],)), dtype=np.float32)


def _parse_add(draft: Draft, node: onnx.NodeProto) -> None:
    for value, other in (node.input, reversed(node.input)):
        constant = draft.constant(other)
        if constant is not None:
            _add_bias(draft, node, value, np.asarray(constant, dtype=np.float32))
            return
    left, right = (draft.shape(name) for name in node.input)
    if left != right:
        raise RefusedError(f"its operands have the shapes {list(left)} and {list(right)}", "add tensors of one shape")
    draft.add(Add(draft.read(node.output[0]), *(draft.read(name) for name in node.input)), left)


def _add_bias(draft: Draft, node: onnx.NodeProto, value: str, constant: FloatArray) -> None:
    """Gives a constant that is added to a layer of its own to that layer as its bias."""
    shape, name = draft.shape(value), draft.read(value)
    if name in draft.gaps:
        raise GapError
    vector = _per_channel(constant, shape)
    position = next((i for i, layer in enumerate(draft.layers) if layer.output == name), None)
    layer = None if position is None else draft.layers[position]
    if vector is None or position is None or not isinstance(layer, Conv | Dense) or draft.uses[name] != 1:
        raise RefusedError(
            f"it adds a constant of shape {list(constant.shape)} to something other than a convolution or dense layer "
            "of its own",
            "fold it into a bias",
        )
    bias = vector if layer.bias is None else layer.bias + vector
    draft.layers[position] = replace(layer, bias=bias, output=draft.read(node.output[0]))
    draft.shapes[draft.read(node.output[0])] = draft.shapes.pop(name)


def _parse_batch_norm(draft: Draft, node: onnx.NodeProto) -> None:
    shape = draft.shape(node.input[0])
    if is_for_training(node):
        raise RefusedError("it is exported for training", "export the model after `model.eval()`")
    parts = [weights_of(draft, name) for name in node.input[1:]]
    factor, offset = factor_and_offset(node, [part for part in parts if part is not None])
    draft.add(BatchNorm(draft.read(node.output[0]), draft.read(node.input[0]), factor, offset), shape)


def _parse_relu(draft: Draft, node: onnx.NodeProto) -> None:
    draft.add(Relu(draft.read(node.output[0]), draft.read(node.input[0])), draft.shape(node.input[0]))


def _parse_clip(draft: Draft, node: onnx.NodeProto) -> None:
    names = [*node.input[1:], "", ""][:2]
    low, high = (_bound(draft.constant(name)) if name else None for name in names)
    if any(name and draft.constant(name) is None for name in names):
        raise RefusedError("its bounds are not constant", "export them as constants")
    if low != 0.0 or (high is not None and high <= 0.0):
        text = ["none" if bound is None else f"{bound:g}" for bound in (low, high)]
        raise RefusedError(f"it limits to {text[0]}..{text[1]}", "use Relu, or Clip from 0, as ReLU6 does")
    output, source, shape = draft.read(node.output[0]), draft.read(node.input[0]), draft.shape(node.input[0])
    draft.add(Relu(output, source) if high is None else Clip(output, source, high), shape)


def _bound(constant: Array | None) -> float | None:
    return None if constant is None else float(np.asarray(constant, dtype=np.float64).reshape(-1)[0])


def _parse_flatten(draft: Draft, node: onnx.NodeProto) -> None:
    """Flatten, and what exporters write for it: Reshape and Squeeze to one row for each sample."""
    shape, output = draft.shape(node.input[0]), draft.read(node.output[0])
    columns = (int(np.prod(shape)),)
    becomes = columns if node.op_type == "Flatten" else draft.names.shapes.get(output)
    if becomes is None:
        raise RefusedError("its result has no shape that ONNX infers", "use Flatten, with axis 1")
    if node.op_type == "Flatten" and attributes(node).get("axis", 1) != 1:
        raise RefusedError(f"it flattens from axis {attributes(node)['axis']}", "flatten samples, from axis 1")
    if becomes not in (columns, shape):
        raise RefusedError(
            f"it makes samples of shape {list(becomes)} from {list(shape)}", "make one row of each sample, as Flatten"
        )
    draft.add(Flatten(output, draft.read(node.input[0])), becomes)


#: (domain, operator) -> parser. Adding an operator adds one line and its parser.
PARSERS: dict[tuple[str, str], Callable[[Draft, onnx.NodeProto], None]] = {
    ("", "Constant"): _parse_constant,
    ("", "Conv"): _parse_conv,
    ("", "MatMul"): _parse_matmul,
    ("", "Gemm"): _parse_gemm,
    ("", "Add"): _parse_add,
    ("", "BatchNormalization"): _parse_batch_norm,
    ("", "Pad"): parse_pad,
    ("", "MaxPool"): parse_max_pool,
    ("", "AveragePool"): parse_average_pool,
    ("", "GlobalAveragePool"): parse_global_average,
    ("", "ReduceMean"): parse_reduce_mean,
    ("", "Relu"): _parse_relu,
    ("", "Clip"): _parse_clip,
    ("", "Flatten"): _parse_flatten,
    ("", "Reshape"): _parse_flatten,
    ("", "Squeeze"): _parse_flatten,
}
