# SPDX-License-Identifier: Apache-2.0
"""Parsers of functions of one number, of norms of rows, and of slices of rows."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnx

from hetfab.overlay.model.draft import Draft, GapError, RefusedError
from hetfab.overlay.model.layers import Function, LayerNorm, RowNorm, RowSlice, Unary, attributes

_LARGEST_END = np.iinfo(np.int32).max


@dataclass(frozen=True)
class Length:
    """The Euclidean length of each row of a tensor, at least ``smallest``."""

    tensor: str
    smallest: float = 0.0


def _parse_unary(draft: Draft, node: onnx.NodeProto) -> None:
    function, values = Function(node.op_type), attributes(node)
    if node.output[0] == draft.output:
        raise RefusedError("it is the model's output", "leave it out, so that the logits are the output")
    if function is Function.GELU and values.get("approximate", b"none") != b"none":
        raise RefusedError("it is an approximation", "export the exact function")
    default = {Function.ELU: 1.0, Function.LEAKY_RELU: 0.01}.get(function, 1.0)
    alpha = values.get("alpha", default)
    assert isinstance(alpha, float)
    draft.add(Unary(node.output[0], node.input[0], function, alpha), draft.activation(node.input[0]))


def _parse_layer_norm(draft: Draft, node: onnx.NodeProto) -> None:
    values = attributes(node)
    rank = 3 if node.input[0] in draft.parts else 2
    if values.get("axis", -1) not in (-1, rank - 1) or len(node.output) > 1:
        raise RefusedError("it does not normalise rows", "normalise over the last axis, with one output")
    channels = draft.rows(node.input[0])
    parameters = [draft.constants.get(name) for name in node.input[1:] if name]
    if not parameters or any(constant is None or constant.size != channels for constant in parameters):
        raise RefusedError("its weight or bias is not a constant vector", "export trained weights as initializers")
    weight, bias = (
        np.zeros(channels, np.float32) if constant is None else constant.astype(np.float32).reshape(-1)
        for constant in (*parameters, None)[:2]
    )
    epsilon = values.get("epsilon", 1e-5)
    assert isinstance(epsilon, float)
    draft.add(LayerNorm(node.output[0], node.input[0], weight, bias, epsilon), channels)


def _parse_slice(draft: Draft, node: onnx.NodeProto) -> None:
    arrays = [draft.constants.get(name) for name in node.input[1:]]
    if any(array is None or array.size != 1 for array in arrays) or not 2 <= len(arrays) <= 4:
        raise RefusedError("its limits are not constant", "export the model with fixed limits of rows")
    given = [int(array.reshape(-1)[0]) for array in arrays if array is not None]
    first, end, axis, step = (*given, *(0, 1)[len(given) - 2 :])
    channels = draft.rows(node.input[0])
    if axis != 0 or step != 1 or first < 0 or not 0 < end <= _LARGEST_END or node.input[0] in draft.parts:
        raise RefusedError("it takes other than consecutive rows", "slice rows, from the first one on")
    draft.add(RowSlice(node.output[0], node.input[0], first, end), channels)


def _parse_length(draft: Draft, node: onnx.NodeProto) -> None:
    axes = draft.constants.get(node.input[1]) if len(node.input) > 1 else None
    if axes is None or axes.tolist() not in ([1], [-1]) or attributes(node).get("keepdims", 1) != 1:
        raise RefusedError("it is not the length of rows", "reduce the last axis and keep it")
    draft.rows(node.input[0])
    draft.views[node.output[0]] = Length(node.input[0])


def _parse_clip(draft: Draft, node: onnx.NodeProto) -> None:
    view = draft.views.get(node.input[0])
    smallest = draft.constants.get(node.input[1]) if len(node.input) > 1 else None
    if node.input[0] in draft.written_by_gaps:
        raise GapError
    if not isinstance(view, Length) or smallest is None or any(node.input[2:]):
        raise RefusedError("it limits something other than a length from below", "leave it out")
    draft.views[node.output[0]] = Length(view.tensor, float(smallest))


def divide_by_length(draft: Draft, node: onnx.NodeProto) -> bool:
    """Makes a division of rows by their own length a layer; whether it is one."""
    rows, length = node.input[0], draft.views.get(node.input[1])
    if not isinstance(length, Length) or length.tensor != rows:
        return False
    draft.add(RowNorm(node.output[0], rows, length.smallest), draft.rows(rows))
    return True


#: (domain, operator) -> parser.
FUNCTION_PARSERS: dict[tuple[str, str], Callable[[Draft, onnx.NodeProto], None]] = {
    **{("", function.value): _parse_unary for function in Function},
    ("", "LayerNormalization"): _parse_layer_norm,
    ("", "Slice"): _parse_slice,
    ("", "ReduceL2"): _parse_length,
    ("", "Clip"): _parse_clip,
}
