# SPDX-License-Identifier: Apache-2.0
"""Turns the operators of a float model into layers, and names at once all that hetfab does not execute.

An operator is handled by one parser in ``PARSERS``. What cannot be handled leaves a gap; the search goes on behind it,
so that a model is mended in one go.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import onnx

from hetfab.overlay.errors import ModelStructureError, OperatorsUnsupportedError, counted
from hetfab.overlay.model import hgnn
from hetfab.overlay.model.layers import (
    Add,
    Dense,
    FloatArray,
    Layer,
    LayerGraph,
    Relu,
    SegMean,
    attributes,
    constants_of,
    describe,
)
from hetfab.overlay.model.reader import graph_inputs
from hetfab.overlay.model.sums import Gaps, refused_uses

#: Channels of a tensor that nothing is known of, because of a gap.
_UNKNOWN = 0
#: What turns logits into shares or classes; predictions are made of the logits themselves.
_AFTER_LOGITS = ("Softmax", "LogSoftmax", "Sigmoid", "ArgMax")


class ParsedModel(NamedTuple):
    """A model's layers, and a line for each operator or use of one that is not executed.

    With such lines the layers are those that are left.
    """

    graph: LayerGraph
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

    constants: dict[str, npt.NDArray[np.generic]]
    uses: Counter[str]
    output: str
    layers: list[Layer] = field(default_factory=list)
    tables: dict[str, FloatArray] = field(default_factory=dict)
    channels: dict[str, int] = field(default_factory=dict)
    written_by_gaps: set[str] = field(default_factory=set)
    read_by_gaps: set[str] = field(default_factory=set)

    def activation(self, name: str) -> int:
        """Channels of a tensor that is read as rows of nodes; an initializer becomes a table."""
        if name in self.constants and name not in self.tables:
            table = self.constants[name].astype(np.float32)
            if table.ndim != 2:
                raise _RefusedError(
                    f"it reads rows of nodes from the initializer '{name}' of shape {list(table.shape)}",
                    "export a table of two dimensions, with one row per node",
                )
            self.tables[name] = table
            self.channels[name] = table.shape[1]
        if name not in self.written_by_gaps and not self.channels.get(name):
            raise _RefusedError(
                f"it reads rows of nodes from '{name}', which is no matrix with a fixed number of columns",
                "export the model with fixed feature widths",
            )
        return self.channels.get(name, _UNKNOWN)

    def add(self, layer: Layer, channels: int) -> None:
        """Adds a layer; where its channels are unknown, its output is one of a gap."""
        self.layers.append(layer)
        self.channels[layer.output] = channels
        if channels == _UNKNOWN:
            self.written_by_gaps.add(layer.output)

    def leave_gap(self, node: onnx.NodeProto) -> None:
        """Notes an operator that no layer stands for."""
        self.written_by_gaps.update(node.output)
        if node.op_type != "Add":
            self.read_by_gaps.update(node.input)


def parse_layers(model: onnx.ModelProto) -> LayerGraph:
    """Turns a float model into layers.

    Args:
        model: As ``read_model`` returns it.

    Raises:
        OperatorsUnsupportedError: Operators, their forms or their uses are not handled; all are named at once.
        ModelStructureError: There is not exactly one output, or an initializer is not finite.
    """
    graph, refused = try_layers(model)
    if refused:
        raise OperatorsUnsupportedError(
            f"{counted(len(refused), 'operator')} not supported:",
            "MatMul or Gemm with constant weights, Add, Relu and hgnn::SegMean; "
            "sums of means over relations with at most one dense term",
            "change the model as each line says",
            refused,
        )
    return graph


def try_layers(model: onnx.ModelProto) -> ParsedModel:
    """As ``parse_layers``, but gives what is not handled as lines of text.

    Raises:
        ModelStructureError: As ``parse_layers``.
    """
    if len(model.graph.output) != 1:
        names = ", ".join(output.name for output in model.graph.output)
        raise ModelStructureError(
            f"the model has {len(model.graph.output)} outputs: {names}",
            "one output",
            "export the model with the logits as its only output",
        )
    uses = Counter(name for node in model.graph.node for name in node.input)
    draft = _Draft(constants_of(model), uses, model.graph.output[0].name)
    for value in graph_inputs(model):
        dims = value.type.tensor_type.shape.dim
        if len(dims) == 2 and dims[1].dim_value:
            draft.channels[value.name] = dims[1].dim_value
    refused = []
    for node in model.graph.node:
        try:
            PARSERS.get((node.domain, node.op_type), _unknown)(draft, node)
        except _RefusedError as error:
            refused.append(f"{describe(node)}: {error}")
            draft.leave_gap(node)
        except _GapError:
            draft.leave_gap(node)
    graph = LayerGraph(tuple(draft.layers), draft.tables, draft.channels, draft.output)
    gaps = Gaps(frozenset(draft.written_by_gaps), frozenset(draft.read_by_gaps))
    return ParsedModel(graph, (*refused, *refused_uses(graph, gaps)))


def _unknown(draft: _Draft, node: onnx.NodeProto) -> None:
    if node.domain == hgnn.DOMAIN:
        raise _RefusedError("this graph operator is read but not yet executed", "use SegMean")
    if node.op_type in _AFTER_LOGITS and draft.output in node.output:
        raise _RefusedError("it is the model's output", "leave it out, so that the logits are the output")
    raise _RefusedError("the operator is not known", "replace it by MatMul, Gemm, Add or Relu")


def _parse_constant(draft: _Draft, node: onnx.NodeProto) -> None:
    if node.output[0] not in draft.constants:
        raise _RefusedError("only the attribute 'value' is read", "write the constant as a tensor")


def _parse_matmul(draft: _Draft, node: onnx.NodeProto) -> None:
    _add_dense(draft, node, node.input[0], node.input[1], transpose=False, bias=None)


def _parse_gemm(draft: _Draft, node: onnx.NodeProto) -> None:
    values = attributes(node)
    if values.get("transA", 0) or values.get("alpha", 1.0) != 1.0 or values.get("beta", 1.0) != 1.0:
        raise _RefusedError("transA, alpha or beta is set", "fold them into the weights")
    bias = node.input[2] if len(node.input) > 2 and node.input[2] else None
    _add_dense(draft, node, node.input[0], node.input[1], transpose=bool(values.get("transB", 0)), bias=bias)


def _add_dense(
    draft: _Draft, node: onnx.NodeProto, rows: str, weight_name: str, *, transpose: bool, bias: str | None
) -> None:
    if {weight_name, bias} & draft.written_by_gaps:
        raise _GapError
    weight = draft.constants.get(weight_name)
    if weight is None or weight.ndim != 2 or (bias is not None and bias not in draft.constants):
        raise _RefusedError(
            "its weights or bias are not a constant matrix and vector", "export trained weights as initializers"
        )
    matrix = np.ascontiguousarray(weight.T if transpose else weight, dtype=np.float32)
    vector = None if bias is None else _bias_row(draft.constants[bias], matrix.shape[1])
    channels = draft.activation(rows)
    if channels not in (_UNKNOWN, matrix.shape[0]):
        raise _RefusedError(
            f"it multiplies {counted(channels, 'channel')} by {counted(matrix.shape[0], 'row')} of weights",
            "export the model again",
        )
    draft.add(Dense(node.output[0], rows, matrix, vector), matrix.shape[1])


def _bias_row(constant: npt.NDArray[np.generic], channels: int) -> FloatArray:
    """A constant as one number per channel."""
    if constant.size not in (1, channels) or constant.ndim > 2 or constant.shape[:-1] not in ((), (1,)):
        raise _RefusedError(
            f"its bias has the shape {list(constant.shape)}",
            f"give it one number for each of {counted(channels, 'channel')}",
        )
    return np.broadcast_to(constant.astype(np.float32).reshape(-1), (channels,))


def _parse_add(draft: _Draft, node: onnx.NodeProto) -> None:
    left, right = node.input
    for value, constant in ((left, right), (right, left)):
        vector = draft.constants.get(constant)
        if vector is None or (vector.ndim == 2 and vector.shape[0] != 1):
            continue
        if not _fold_bias(draft, node, value, vector):
            raise _RefusedError(
                "a constant is added to something without a dense layer of its own", "fold it into a bias"
            )
        return
    widths = {draft.activation(left), draft.activation(right)} - {_UNKNOWN}
    if len(widths) > 1:
        raise _RefusedError("its operands have different widths", "add tensors of one shape")
    draft.add(Add(node.output[0], left, right), max(widths, default=_UNKNOWN))


def _fold_bias(draft: _Draft, node: onnx.NodeProto, value: str, constant: npt.NDArray[np.generic]) -> bool:
    """Gives a constant that is added to a dense layer, or to a sum that holds one, to that layer as its bias.

    Every tensor on the way must have no other use, or the bias would reach that use too.
    """
    by_output = {layer.output: position for position, layer in enumerate(draft.layers)}
    target = _dense_within(draft, by_output, value)
    if target is None:
        if _reaches_gap(draft, by_output, value):
            raise _GapError
        return False
    position, dense = target
    row = _bias_row(constant, dense.weight.shape[1])
    draft.layers[position] = replace(dense, bias=row if dense.bias is None else dense.bias + row)
    last = by_output[value]
    draft.layers[last] = replace(draft.layers[last], output=node.output[0])
    draft.channels[node.output[0]] = draft.channels.pop(value)
    return True


def _reaches_gap(draft: _Draft, by_output: Mapping[str, int], value: str) -> bool:
    """Whether a sum has a term of a gap, which may yet become its dense layer."""
    layer = draft.layers[by_output[value]] if value in by_output else None
    if isinstance(layer, Add):
        return _reaches_gap(draft, by_output, layer.left) or _reaches_gap(draft, by_output, layer.right)
    return layer is None and value in draft.written_by_gaps


def _dense_within(draft: _Draft, by_output: Mapping[str, int], value: str) -> tuple[int, Dense] | None:
    """A dense layer, with its position, that alone feeds a tensor, directly or through sums."""
    position = by_output.get(value)
    if position is None or draft.uses[value] != 1:
        return None
    layer = draft.layers[position]
    if isinstance(layer, Add):
        found = _dense_within(draft, by_output, layer.left)
        return _dense_within(draft, by_output, layer.right) if found is None else found
    return (position, layer) if isinstance(layer, Dense) else None


def _parse_relu(draft: _Draft, node: onnx.NodeProto) -> None:
    draft.add(Relu(node.output[0], node.input[0]), draft.activation(node.input[0]))


def _parse_seg_mean(draft: _Draft, node: onnx.NodeProto) -> None:
    rows, source, destination, count = node.input
    draft.add(SegMean(node.output[0], rows, source, destination, count), draft.activation(rows))


#: (domain, operator) -> parser. Adding an operator adds one line and its parser.
PARSERS: dict[tuple[str, str], Callable[[_Draft, onnx.NodeProto], None]] = {
    ("", "Constant"): _parse_constant,
    ("", "MatMul"): _parse_matmul,
    ("", "Gemm"): _parse_gemm,
    ("", "Add"): _parse_add,
    ("", "Relu"): _parse_relu,
    (hgnn.DOMAIN, "SegMean"): _parse_seg_mean,
}
