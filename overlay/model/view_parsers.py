# SPDX-License-Identifier: Apache-2.0
"""Parsers of what exporters write around tensors of three dimensions: heads, stacked tensors, attention between them.

A tensor [N, M, F] is a stack [M * N, F] in the layers; ``Draft.parts`` has its M. What is no stack and no matrix of
rows is a view, a note of what it is computed from; an operator that makes rows of views makes a layer.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import onnx

from hetfab.overlay.model.attention_parsers import Heads
from hetfab.overlay.model.draft import Draft, GapError, RefusedError
from hetfab.overlay.model.function_parsers import divide_by_length
from hetfab.overlay.model.layers import (
    Aggregation,
    Dense,
    FloatArray,
    Fusion,
    JoinParts,
    PartMean,
    Stack,
    TokenAttention,
    attributes,
)


@dataclass(frozen=True, eq=False)
class _HeadProduct:
    """Heads times a vector [heads, width]."""

    of: Heads
    vector: FloatArray


@dataclass(frozen=True)
class _Part:
    """A matrix [N, F] as [N, 1, F]."""

    tensor: str


@dataclass(frozen=True)
class _Transposed:
    """A stack as [N, F, M]."""

    tensor: str


@dataclass(frozen=True)
class _Products:
    """Queries times keys, [N, M, M], times a factor; shares once a softmax has been taken."""

    queries: str
    keys: str
    factor: float = 1.0
    softmax: bool = False


@dataclass(frozen=True)
class _PartShares:
    """Softmax over the parts of one weight for each, [M, 1]."""

    weights: str


@dataclass(frozen=True)
class _WeightedParts:
    """A stack times its parts' shares."""

    tensor: str
    weights: str


def _view(draft: Draft, name: str) -> object:
    if name in draft.written_by_gaps:
        raise GapError
    return draft.views.get(name)


def _parse_reshape(draft: Draft, node: onnx.NodeProto) -> None:
    name, output = node.input[0], node.output[0]
    shape = draft.constants.get(node.input[1])
    sizes = [] if shape is None else [int(size) for size in shape]
    channels, parts = draft.rows(name), draft.parts.get(name)
    if parts is None and len(sizes) == 3 and (found := _divided(channels, sizes[1], sizes[2])) is not None:
        draft.views[output] = Heads(name, *found)
    elif parts is not None and len(sizes) == 2 and sizes[1] in (-1, parts * channels):
        draft.add(JoinParts(output, name, parts), parts * channels)
    else:
        raise RefusedError(
            f"it brings a tensor to the shape {sizes or 'of another tensor'}",
            "divide columns into heads, or put stacked tensors side by side",
        )


def _divided(channels: int, heads: int, width: int) -> tuple[int, int] | None:
    """Heads and their width, of which one may be -1, if they make up all channels."""
    heads = channels // width if heads == -1 and width > 0 else heads
    width = channels // heads if width == -1 and heads > 0 else width
    return (heads, width) if heads > 0 and heads * width == channels else None


def _parse_mul(draft: Draft, node: onnx.NodeProto) -> None:
    left, right = node.input
    if left in draft.constants:
        left, right = right, left
    constant, view, other = draft.constants.get(right), _view(draft, left), _view(draft, right)
    if isinstance(other, _PartShares) and left in draft.parts:
        draft.views[node.output[0]] = _WeightedParts(left, other.weights)
    elif isinstance(view, Heads) and constant is not None and constant.size == view.heads * view.width:
        vector = constant.astype(np.float32).reshape(view.heads, view.width)
        draft.views[node.output[0]] = _HeadProduct(view, vector)
    elif constant is not None and constant.size == 1:
        _scale(draft, node, left, float(constant.reshape(-1)[0]))
    else:
        raise RefusedError("it multiplies tensors", "multiply by a constant number, or use an attention operator")


def _parse_div(draft: Draft, node: onnx.NodeProto) -> None:
    left, right = node.input
    constant = draft.constants.get(right)
    if left in draft.written_by_gaps:
        raise GapError
    if constant is not None and constant.size == 1:
        _scale(draft, node, left, 1.0 / float(constant.reshape(-1)[0]))
    elif not divide_by_length(draft, node):
        raise RefusedError("it divides tensors", "divide by a constant number, or rows by their own length")


def _scale(draft: Draft, node: onnx.NodeProto, name: str, factor: float) -> None:
    """Multiplies a tensor by a number: in the weights of a dense layer before it, else by a dense layer of its own."""
    view = draft.views.get(name)
    if isinstance(view, _Products) and not view.softmax:
        draft.views[node.output[0]] = replace(view, factor=view.factor * factor)
        return
    position = draft.position(name)
    if position is not None and _scale_producer(draft, name, factor):
        draft.replace(position, replace(draft.layers[position], output=node.output[0]))
        return
    channels = draft.rows(name)
    draft.add(Dense(node.output[0], name, np.eye(channels, dtype=np.float32) * np.float32(factor), None), channels)


def _scale_producer(draft: Draft, name: str, factor: float) -> bool:
    """Scales the dense layer that alone feeds a tensor, directly or through an aggregation; whether there is one."""
    position = draft.position(name)
    if position is None or draft.uses[name] != 1:
        return False
    layer = draft.layers[position]
    if isinstance(layer, Aggregation):
        return _scale_producer(draft, layer.input, factor)
    if not isinstance(layer, Dense):
        return False
    scaled = np.float32(factor)
    bias = None if layer.bias is None else layer.bias * scaled
    draft.layers[position] = replace(layer, weight=layer.weight * scaled, bias=bias)
    return True


def _parse_reduce_sum(draft: Draft, node: onnx.NodeProto) -> None:
    view, axes = _view(draft, node.input[0]), draft.constants.get(node.input[1]) if len(node.input) > 1 else None
    axis = None if axes is None or axes.size != 1 else int(axes.reshape(-1)[0])
    kept = attributes(node).get("keepdims", 1)
    if isinstance(view, _HeadProduct) and axis in (-1, 2) and not kept:
        draft.add(Dense(node.output[0], view.of.tensor, _per_head(view.vector), None), view.of.heads)
    elif isinstance(view, _WeightedParts) and axis in (-2, 1) and not kept:
        layer = Fusion(node.output[0], view.tensor, view.weights, draft.parts[view.tensor])
        draft.add(layer, draft.channels[view.tensor])
    else:
        raise RefusedError("it sums along an axis of something else", "use a dense layer or an attention operator")


def _per_head(vector: FloatArray) -> FloatArray:
    """Weights [heads * width, heads] that multiply each head by its own vector [heads, width]."""
    heads, width = vector.shape
    weight = np.zeros((heads, width, heads), np.float32)
    weight[np.arange(heads), :, np.arange(heads)] = vector
    return weight.reshape(heads * width, heads)


def _parse_reduce_mean(draft: Draft, node: onnx.NodeProto) -> None:
    name, axes = node.input[0], draft.constants.get(node.input[1]) if len(node.input) > 1 else None
    channels = draft.rows(name)
    if axes is None or axes.tolist() != [0] or attributes(node).get("keepdims", 1) or name not in draft.parts:
        raise RefusedError("it is not the mean over the nodes of stacked tensors", "use hgnn::SegMean")
    draft.add(PartMean(node.output[0], name, draft.parts[name]), channels)


def _parse_unsqueeze(draft: Draft, node: onnx.NodeProto) -> None:
    axes = draft.constants.get(node.input[1])
    draft.rows(node.input[0])
    if axes is None or axes.tolist() not in ([1], [-2]) or node.input[0] in draft.parts:
        raise RefusedError("it adds another axis than that of stacked tensors", "stack matrices along axis 1")
    draft.views[node.output[0]] = _Part(node.input[0])


def _parse_concat(draft: Draft, node: onnx.NodeProto) -> None:
    axis, output = attributes(node).get("axis"), node.output[0]
    views = [_view(draft, name) for name in node.input]
    parts = [view.tensor for view in views if isinstance(view, _Part)]
    names = tuple(parts) if len(parts) == len(views) else tuple(node.input)
    if len({draft.rows(name) for name in names}) > 1 or any(name in draft.parts for name in names):
        raise RefusedError("it joins tensors of different widths, or stacks", "join matrices of one width")
    channels = draft.channels[names[0]]
    if axis == 1 and parts and len(parts) == len(views):
        draft.add(Stack(output, names), channels)
        draft.parts[output] = len(names)
    elif axis in (0, -2) and not parts:
        draft.add(Stack(output, names), channels)
    elif axis in (1, -1) and not parts:
        draft.add(Stack(f"{output}.stack", names), channels)
        draft.add(JoinParts(output, f"{output}.stack", len(names)), len(names) * channels)
    else:
        raise RefusedError(f"it joins along axis {axis}", "join matrices along axis 0 or 1")


def _parse_transpose(draft: Draft, node: onnx.NodeProto) -> None:
    name = node.input[0]
    draft.rows(name)
    if name not in draft.parts or attributes(node).get("perm") != [0, 2, 1]:
        raise RefusedError("it transposes something other than keys", "leave it out, or use hgnn::EdgeDot")
    draft.views[node.output[0]] = _Transposed(name)


def _parse_softmax(draft: Draft, node: onnx.NodeProto) -> None:
    name, axis = node.input[0], attributes(node).get("axis", -1)
    if node.output[0] == draft.output:
        raise RefusedError("it is the model's output", "leave it out, so that the logits are the output")
    view, position = _view(draft, name), draft.position(name)
    producer = None if position is None else draft.layers[position]
    if isinstance(view, _Products) and axis in (-1, 2):
        draft.views[node.output[0]] = replace(view, softmax=True)
    elif isinstance(producer, PartMean) and axis in (0, -2) and draft.channels[name] == 1:
        draft.views[node.output[0]] = _PartShares(name)
    else:
        raise RefusedError("it is a softmax over something other than parts or edges", "use an attention operator")


def multiply_tokens(draft: Draft, node: onnx.NodeProto) -> bool:
    """Handles products of stacks with each other: attention between their parts; whether it is one."""
    left, right = node.input
    products, keys = _view(draft, left), draft.views.get(right)
    if left in draft.parts and isinstance(keys, _Transposed):
        draft.views[node.output[0]] = _Products(left, keys.tensor)
        return True
    if not isinstance(products, _Products) or not products.softmax or right not in draft.parts:
        return False
    if products.factor != 1.0 and not _scale_producer(draft, products.keys, products.factor):
        raise RefusedError("its keys are not the result of a dense layer of their own", "fold the factor into weights")
    layer = TokenAttention(node.output[0], right, products.queries, products.keys, draft.parts[right])
    draft.add(layer, draft.channels[right])
    draft.parts[node.output[0]] = layer.parts
    return True


#: (domain, operator) -> parser.
VIEW_PARSERS: dict[tuple[str, str], Callable[[Draft, onnx.NodeProto], None]] = {
    ("", "Reshape"): _parse_reshape,
    ("", "Mul"): _parse_mul,
    ("", "Div"): _parse_div,
    ("", "ReduceSum"): _parse_reduce_sum,
    ("", "ReduceMean"): _parse_reduce_mean,
    ("", "Unsqueeze"): _parse_unsqueeze,
    ("", "Concat"): _parse_concat,
    ("", "Transpose"): _parse_transpose,
    ("", "Softmax"): _parse_softmax,
}
