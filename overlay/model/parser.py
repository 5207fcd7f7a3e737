# SPDX-License-Identifier: Apache-2.0
"""Turns the operators of a float model into layers, and names at once all that hetfab does not execute.

An operator is handled by one parser in ``PARSERS``. What cannot be handled leaves a gap; the search goes on behind it,
so that a model is mended in one go.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import onnx

from hetfab.overlay.errors import HostFallbackError, OperatorsUnsupportedError, counted
from hetfab.overlay.host_nodes import FALLBACK_OFFER, Fallback
from hetfab.overlay.model import hgnn
from hetfab.overlay.model.attention_parsers import ATTENTION_PARSERS
from hetfab.overlay.model.batch_norm import parse_batch_norm
from hetfab.overlay.model.commute import products_before_aggregations
from hetfab.overlay.model.draft import UNKNOWN, Draft, GapError, RefusedError
from hetfab.overlay.model.function_parsers import FUNCTION_PARSERS
from hetfab.overlay.model.host_operators import host_operator
from hetfab.overlay.model.layers import (
    Add,
    Aggregation,
    Bias,
    Dense,
    FloatArray,
    HostOperator,
    JoinParts,
    LayerGraph,
    LayerNorm,
    PartMean,
    Relu,
    RowSlice,
    SegMean,
    SegSum,
    Stack,
    Unary,
    attributes,
    constants_of,
    describe,
)
from hetfab.overlay.model.reader import check_one_output, graph_inputs, opset
from hetfab.overlay.model.sums import Gaps, refused_layer, refused_uses, terms_of
from hetfab.overlay.model.view_parsers import VIEW_PARSERS, multiply_tokens

#: What turns logits into shares or classes; predictions are made of the logits themselves.
_AFTER_LOGITS = ("LogSoftmax", "ArgMax")


class ParsedModel(NamedTuple):
    """A model's layers, and a line for each operator or use of one that is not executed.

    With such lines the layers are those that are left.
    """

    graph: LayerGraph
    refused: tuple[str, ...]


def parse_layers(model: onnx.ModelProto, fallback: Fallback = Fallback.NONE) -> LayerGraph:
    """Turns a float model into layers.

    Args:
        model: As ``read_model`` returns it.
        fallback: Whether the host runs operators on rows that no layer stands for.

    Raises:
        OperatorsUnsupportedError: Operators, their forms or their uses are not handled; all are named at once.
        HostFallbackError: Nothing would be left for the overlay.
        ModelStructureError: There is not exactly one output, or an initializer is not finite.
    """
    graph, refused = try_layers(model, fallback)
    if refused:
        helps = fallback is Fallback.NONE and len(try_layers(model, Fallback.HOST).refused) < len(refused)
        raise OperatorsUnsupportedError(
            f"{counted(len(refused), 'operator')} not supported:",
            "MatMul or Gemm with constant weights, Add, Relu, functions of one number, LayerNormalization, the graph "
            "operators of the domain hgnn; sums of aggregations and dense layers",
            "change the model as each line says" + (FALLBACK_OFFER if helps else ""),
            refused,
        )
    hosted = [describe(layer.node) for layer in graph.layers if isinstance(layer, HostOperator)]
    if hosted and len(hosted) == len(graph.layers):
        raise HostFallbackError(
            "the host would run every operator of the model: " + ", ".join(hosted),
            "at least one layer that the overlay executes",
            "run the model in onnxruntime",
        )
    return graph


def try_layers(model: onnx.ModelProto, fallback: Fallback = Fallback.NONE) -> ParsedModel:
    """As ``parse_layers``, but gives what is not handled as lines of text.

    Raises:
        ModelStructureError: As ``parse_layers``.
    """
    check_one_output(model)
    uses = Counter(name for node in model.graph.node for name in node.input)
    draft = Draft(constants_of(model), uses, model.graph.output[0].name)
    for value in graph_inputs(model):
        dims = value.type.tensor_type.shape.dim
        if len(dims) == 2 and dims[1].dim_value:
            draft.channels[value.name] = dims[1].dim_value
    refused = []
    for node in model.graph.node:
        try:
            PARSERS.get((node.domain, node.op_type), _unknown)(draft, node)
        except RefusedError as error:
            if fallback is Fallback.NONE or not _add_on_host(draft, node, opset(model)):
                refused.append(f"{describe(node)}: {error}")
                draft.leave_gap(node)
        except GapError:
            draft.leave_gap(node)
    graph = LayerGraph(tuple(draft.layers), draft.tables, draft.channels, draft.output)
    if fallback is Fallback.HOST:
        graph = _with_uses_on_host(graph, model, draft)
    graph = products_before_aggregations(graph)
    gaps = Gaps(frozenset(draft.written_by_gaps), frozenset(draft.read_by_gaps))
    return ParsedModel(graph, (*refused, *refused_uses(graph, gaps)))


def _add_on_host(draft: Draft, node: onnx.NodeProto, version: int) -> bool:
    """Makes an operator one of the host; whether it may be."""
    for name in node.input:
        # Weights of a product are no rows; a table is.
        is_weight = node.op_type in ("MatMul", "Gemm") and name != node.input[0]
        table = draft.constants.get(name)
        if table is not None and table.ndim == 2 and len(table) > 1 and not is_weight:
            draft.activation(name)
    found = host_operator(node, _row_tensors(draft), draft.constants, version)
    # The output is written once: with the logits' precision.
    if found is None or (node.output[0] == draft.output and draft.uses[draft.output]):
        return False
    draft.add(*found)
    return True


def _row_tensors(draft: Draft) -> dict[str, int]:
    """Channels of the tensors that are known and have a row for each node."""
    others = {each.output for each in draft.layers if isinstance(each, Stack | JoinParts | RowSlice | PartMean)}
    others |= draft.parts.keys() | draft.written_by_gaps
    return {name: count for name, count in draft.channels.items() if count != UNKNOWN and name not in others}


def _with_uses_on_host(graph: LayerGraph, model: onnx.ModelProto, draft: Draft) -> LayerGraph:
    """Lets the host run functions that the overlay executes, but not where they stand."""
    nodes = {name: node for node in model.graph.node for name in node.output}
    rows = _row_tensors(draft)
    for place, layer in enumerate(graph.layers):
        producers = {each.output: each for each in graph.layers}
        if isinstance(layer, Relu | Unary | LayerNorm) and any(refused_layer(layer, graph, producers)):
            node = nodes[layer.output]
            found = host_operator(node, rows, draft.constants, opset(model)) if node.input[0] == layer.input else None
            if found is not None and not (layer.output == draft.output and draft.uses[draft.output]):
                graph = replace(graph, layers=(*graph.layers[:place], found[0], *graph.layers[place + 1 :]))
    return graph


def _unknown(draft: Draft, node: onnx.NodeProto) -> None:
    if node.op_type in ("ScatterElements", "ScatterND"):
        raise RefusedError(
            "edges that the model spells out are not executed", "turn them into graph operators with `hetfab lift`"
        )
    if node.op_type == "SegMax":
        raise RefusedError(
            "the largest of neighbours is not executed, nor edges that the model spells out",
            "use a graph operator of the domain hgnn, such as SegMean or SegSum",
        )
    if node.op_type in _AFTER_LOGITS and draft.output in node.output:
        raise RefusedError("it is the model's output", "leave it out, so that the logits are the output")
    raise RefusedError("the operator is not known", "replace it by MatMul, Gemm, Add or Relu")


def _parse_constant(draft: Draft, node: onnx.NodeProto) -> None:
    if node.output[0] not in draft.constants:
        raise RefusedError("only the attribute 'value' is read", "write the constant as a tensor")


def _parse_matmul(draft: Draft, node: onnx.NodeProto) -> None:
    if node.input[1] not in draft.constants and multiply_tokens(draft, node):
        return
    _add_dense(draft, node, node.input[0], node.input[1], transpose=False, bias=None)


def _parse_gemm(draft: Draft, node: onnx.NodeProto) -> None:
    values = attributes(node)
    if values.get("transA", 0) or values.get("alpha", 1.0) != 1.0 or values.get("beta", 1.0) != 1.0:
        raise RefusedError("transA, alpha or beta is set", "fold them into the weights")
    bias = node.input[2] if len(node.input) > 2 and node.input[2] else None
    _add_dense(draft, node, node.input[0], node.input[1], transpose=bool(values.get("transB", 0)), bias=bias)


def _add_dense(
    draft: Draft, node: onnx.NodeProto, rows: str, weight_name: str, *, transpose: bool, bias: str | None
) -> None:
    if {weight_name, bias} & draft.written_by_gaps:
        raise GapError
    weight = draft.constants.get(weight_name)
    if weight is None or weight.ndim != 2 or (bias is not None and bias not in draft.constants):
        raise RefusedError(
            "its weights or bias are not a constant matrix and vector", "export trained weights as initializers"
        )
    matrix = np.ascontiguousarray(weight.T if transpose else weight, dtype=np.float32)
    vector = None if bias is None else _bias_row(draft.constants[bias], matrix.shape[1])
    channels = draft.activation(rows)
    if channels not in (UNKNOWN, matrix.shape[0]):
        raise RefusedError(
            f"it multiplies {counted(channels, 'channel')} by {counted(matrix.shape[0], 'row')} of weights",
            "export the model again",
        )
    draft.add(Dense(node.output[0], rows, matrix, vector), matrix.shape[1])


def _bias_row(constant: npt.NDArray[np.generic], channels: int) -> FloatArray:
    """A constant as one number per channel."""
    if constant.size not in (1, channels) or constant.ndim > 2 or constant.shape[:-1] not in ((), (1,)):
        raise RefusedError(
            f"its bias has the shape {list(constant.shape)}",
            f"give it one number for each of {counted(channels, 'channel')}",
        )
    return np.broadcast_to(constant.astype(np.float32).reshape(-1), (channels,))


def _parse_add(draft: Draft, node: onnx.NodeProto) -> None:
    left, right = node.input
    for value, constant in ((left, right), (right, left)):
        vector = draft.constants.get(constant)
        if vector is None or (vector.ndim == 2 and vector.shape[0] != 1):
            continue
        if not _fold_bias(draft, node, value, vector) and not _add_bias(draft, node, value, vector):
            raise RefusedError(
                "a constant is added to something without a dense layer of its own", "fold it into a bias"
            )
        return
    widths = {draft.activation(left), draft.activation(right)} - {UNKNOWN}
    if len(widths) > 1:
        raise RefusedError("its operands have different widths", "add tensors of one shape")
    draft.add(Add(node.output[0], left, right), max(widths, default=UNKNOWN))


def _fold_bias(draft: Draft, node: onnx.NodeProto, value: str, constant: npt.NDArray[np.generic]) -> bool:
    """Gives a constant that is added to a dense layer, or to a sum that holds one, to that layer as its bias.

    Every tensor on the way must have no other use, or the bias would reach that use too.
    """
    by_output = {layer.output: position for position, layer in enumerate(draft.layers)}
    target = _dense_within(draft, by_output, value)
    if target is None:
        if _reaches_gap(draft, by_output, value):
            raise GapError
        return False
    position, dense = target
    row = _bias_row(constant, dense.weight.shape[1])
    draft.layers[position] = replace(dense, bias=row if dense.bias is None else dense.bias + row)
    last = by_output[value]
    draft.replace(last, replace(draft.layers[last], output=node.output[0]))
    return True


def _add_bias(draft: Draft, node: onnx.NodeProto, value: str, constant: npt.NDArray[np.generic]) -> bool:
    """Makes a constant that is added to a sum of aggregations alone a layer; whether it is one."""
    producers = {layer.output: layer for layer in draft.layers}
    if not all(isinstance(producers.get(term), Aggregation) for term in terms_of(value, producers)):
        return False
    channels = draft.channels[value]
    draft.add(Bias(node.output[0], value, _bias_row(constant, channels)), channels)
    return True


def _reaches_gap(draft: Draft, by_output: Mapping[str, int], value: str) -> bool:
    """Whether a sum has a term of a gap, which may yet become its dense layer."""
    layer = draft.layers[by_output[value]] if value in by_output else None
    if isinstance(layer, Add):
        return _reaches_gap(draft, by_output, layer.left) or _reaches_gap(draft, by_output, layer.right)
    return layer is None and value in draft.written_by_gaps


def _dense_within(draft: Draft, by_output: Mapping[str, int], value: str) -> tuple[int, Dense] | None:
    """A dense layer, with its position, that alone feeds a tensor, directly or through sums."""
    position = by_output.get(value)
    if position is None or draft.uses[value] != 1:
        return None
    layer = draft.layers[position]
    if isinstance(layer, Add):
        found = _dense_within(draft, by_output, layer.left)
        return _dense_within(draft, by_output, layer.right) if found is None else found
    return (position, layer) if isinstance(layer, Dense) else None


def _parse_relu(draft: Draft, node: onnx.NodeProto) -> None:
    read, written = node.input[0], node.output[0]
    position = draft.position(read)
    if position is not None and draft.uses[read] == 1:
        layer = draft.layers[position]
        if isinstance(layer, LayerNorm) and not layer.relu:
            draft.replace(position, replace(layer, output=written, relu=True))
            return
    draft.add(Relu(written, read), draft.activation(read))


def _parse_seg_mean(draft: Draft, node: onnx.NodeProto) -> None:
    rows, source, destination, count = node.input
    draft.add(SegMean(node.output[0], rows, source, destination, count), draft.activation(rows))


def _parse_seg_sum(draft: Draft, node: onnx.NodeProto) -> None:
    rows, source, destination, *weights, count = node.input
    found = SegSum(node.output[0], rows, source, destination, count, *weights)
    draft.add(found, draft.activation(rows))


#: (domain, operator) -> parser. Adding an operator adds one line and its parser.
PARSERS: dict[tuple[str, str], Callable[[Draft, onnx.NodeProto], None]] = {
    ("", "Constant"): _parse_constant,
    ("", "MatMul"): _parse_matmul,
    ("", "Gemm"): _parse_gemm,
    ("", "Add"): _parse_add,
    ("", "Relu"): _parse_relu,
    ("", "BatchNormalization"): parse_batch_norm,
    (hgnn.DOMAIN, "SegMean"): _parse_seg_mean,
    (hgnn.DOMAIN, "SegSum"): _parse_seg_sum,
    (hgnn.DOMAIN, "SegSumWeighted"): _parse_seg_sum,
    **ATTENTION_PARSERS,
    **FUNCTION_PARSERS,
    **VIEW_PARSERS,
}
