# SPDX-License-Identifier: Apache-2.0
"""Typed layers of a float model: what ``quantize`` works on and ``inspect`` shows.

An operator is handled by one parser in ``PARSERS``. Operators and forms without one are collected and refused at once.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import onnx
import onnx.helper
import onnx.numpy_helper

from hetfab.overlay.errors import ModelStructureError, OperatorsUnsupportedError
from hetfab.overlay.model import hgnn
from hetfab.overlay.model.reader import graph_inputs

FloatArray: TypeAlias = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Dense:
    """``output = input @ weight + bias``; weight [K, N], bias [N] or None."""

    output: str
    input: str
    weight: FloatArray
    bias: FloatArray | None


@dataclass(frozen=True)
class Relu:
    """``output = max(input, 0)``."""

    output: str
    input: str


@dataclass(frozen=True)
class Add:
    """``output = left + right``, both of the same shape."""

    output: str
    left: str
    right: str


@dataclass(frozen=True)
class SegMean:
    """Mean of the source vertices' rows over the edges into each destination vertex."""

    output: str
    input: str
    source: str
    destination: str
    count: str


Layer: TypeAlias = Dense | Relu | Add | SegMean


@dataclass(frozen=True)
class LayerGraph:
    """A model as layers, in topological order.

    Attributes:
        layers: The layers.
        tables: Initializers that are used as activations (learned tables), [rows, channels].
        channels: Channels of each activation tensor.
        output: Name of the model's one output.
    """

    layers: tuple[Layer, ...]
    tables: Mapping[str, FloatArray]
    channels: Mapping[str, int]
    output: str

    def consumers(self, tensor: str) -> list[Layer]:
        """Layers that read a tensor."""
        return [layer for layer in self.layers if tensor in inputs_of(layer)]


@dataclass
class _Draft:
    """What the parsers fill."""

    constants: dict[str, npt.NDArray[np.generic]]
    uses: Counter[str]
    layers: list[Layer] = field(default_factory=list)
    tables: dict[str, FloatArray] = field(default_factory=dict)
    channels: dict[str, int] = field(default_factory=dict)
    refused: list[str] = field(default_factory=list)
    unknown: set[str] = field(default_factory=set)

    def activation(self, name: str) -> str:
        """Notes that a tensor is read as an activation; an initializer becomes a table."""
        if name in self.constants and name not in self.tables:
            table = self.constants[name].astype(np.float32)
            if table.ndim != 2:
                raise ModelStructureError(
                    f"the initializer '{name}' of shape {list(table.shape)} is used as vertex rows",
                    "a matrix with one row per vertex",
                    "export the model again with a table of two dimensions",
                )
            self.tables[name] = table
            self.channels[name] = table.shape[1]
        if not self.channels.get(name):
            raise ModelStructureError(
                f"'{name}' is used as vertex rows, but it is not a matrix with a fixed number of columns",
                "one row per vertex and a known number of channels",
                "export the model with fixed feature widths",
            )
        return name

    def refuse(self, node: onnx.NodeProto, reason: str, alternative: str) -> None:
        """Notes a node that cannot be handled; what depends on it is passed over."""
        self.refused.append(f"{describe(node)}: {reason}; {alternative}")
        self.unknown.update(node.output)


def inputs_of(layer: Layer) -> tuple[str, ...]:
    """Activation tensors that a layer reads."""
    return (layer.left, layer.right) if isinstance(layer, Add) else (layer.input,)


def describe(node: onnx.NodeProto) -> str:
    """A node's operator and name, or its output where it has no name."""
    domain = f"{node.domain}::" if node.domain else ""
    return f"{domain}{node.op_type} '{node.name or node.output[0]}'"


def attributes(node: onnx.NodeProto) -> dict[str, object]:
    """Attributes of a node as Python values."""
    return {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}


def constants_of(model: onnx.ModelProto) -> dict[str, npt.NDArray[np.generic]]:
    """Initializers and ``Constant`` nodes as arrays.

    Raises:
        ModelStructureError: A floating-point initializer contains NaN or infinity.
    """
    arrays = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Constant" and node.domain == "" and node.attribute[0].name == "value":
            arrays[node.output[0]] = onnx.numpy_helper.to_array(node.attribute[0].t)
    broken = [name for name, array in arrays.items() if array.dtype.kind == "f" and not np.isfinite(array).all()]
    if broken:
        raise ModelStructureError(
            "initializers contain NaN or infinity: " + ", ".join(broken),
            "finite weights",
            "train or export the model again",
        )
    return arrays


def parse_layers(model: onnx.ModelProto) -> LayerGraph:
    """Turns a float model into layers.

    Args:
        model: As ``read_model`` returns it.

    Raises:
        OperatorsUnsupportedError: Operators or forms that are not handled, all at once.
        ModelStructureError: Shapes contradict each other, or there is not exactly one output.
    """
    if len(model.graph.output) != 1:
        names = ", ".join(output.name for output in model.graph.output)
        raise ModelStructureError(
            f"the model has {len(model.graph.output)} outputs: {names}",
            "one output",
            "export the model with the logits as its only output",
        )
    draft = _Draft(constants_of(model), Counter(name for node in model.graph.node for name in node.input))
    for value in graph_inputs(model):
        dims = value.type.tensor_type.shape.dim
        if len(dims) == 2 and dims[1].dim_value:
            draft.channels[value.name] = dims[1].dim_value
    for node in model.graph.node:
        if any(name in draft.unknown for name in node.input):
            draft.unknown.update(node.output)
            _check_known(draft, node)
            continue
        parser = PARSERS.get((node.domain, node.op_type), _unknown)
        parser(draft, node)
    if draft.refused:
        raise OperatorsUnsupportedError(
            f"{len(draft.refused)} nodes are not supported:\n    " + "\n    ".join(draft.refused),
            "MatMul or Gemm with constant weights, Add, Relu and hgnn::SegMean",
            "change the model as each line says",
        )
    output = model.graph.output[0].name
    if output not in draft.channels:
        raise ModelStructureError(
            f"the output '{output}' is not a layer's result", "logits with one row per vertex", "export again"
        )
    return LayerGraph(tuple(draft.layers), draft.tables, draft.channels, output)


def _check_known(draft: _Draft, node: onnx.NodeProto) -> None:
    """Names an unsupported operator even where its inputs already come from another one."""
    if (node.domain, node.op_type) not in PARSERS:
        _unknown(draft, node)


def _unknown(draft: _Draft, node: onnx.NodeProto) -> None:
    if node.domain == hgnn.DOMAIN:
        draft.refuse(node, "this graph operator is read but not yet executed", "use SegMean")
    else:
        draft.refuse(node, "the operator is not known", "replace it by MatMul, Gemm, Add or Relu")


def _parse_constant(draft: _Draft, node: onnx.NodeProto) -> None:
    if node.output[0] not in draft.constants:
        draft.refuse(node, "only the attribute 'value' is read", "write the constant as a tensor")


def _parse_matmul(draft: _Draft, node: onnx.NodeProto) -> None:
    _add_dense(draft, node, node.input[0], node.input[1], transpose=False, bias=None)


def _parse_gemm(draft: _Draft, node: onnx.NodeProto) -> None:
    values = attributes(node)
    if values.get("transA", 0) or values.get("alpha", 1.0) != 1.0 or values.get("beta", 1.0) != 1.0:
        draft.refuse(node, "transA, alpha or beta is set", "fold them into the weights")
        return
    bias = node.input[2] if len(node.input) > 2 and node.input[2] else None
    _add_dense(draft, node, node.input[0], node.input[1], transpose=bool(values.get("transB", 0)), bias=bias)


def _add_dense(
    draft: _Draft, node: onnx.NodeProto, rows: str, weight_name: str, *, transpose: bool, bias: str | None
) -> None:
    weight = draft.constants.get(weight_name)
    if weight is None or weight.ndim != 2 or (bias is not None and bias not in draft.constants):
        draft.refuse(
            node, "its weights or bias are not a constant matrix and vector", "export trained weights as initializers"
        )
        return
    matrix = np.ascontiguousarray(weight.T if transpose else weight, dtype=np.float32)
    vector = None if bias is None else np.broadcast_to(draft.constants[bias].astype(np.float32), matrix.shape[1:])
    draft.activation(rows)
    if draft.channels.get(rows, matrix.shape[0]) != matrix.shape[0]:
        raise ModelStructureError(
            f"{describe(node)} multiplies {draft.channels[rows]} channels by {matrix.shape[0]} rows of weights",
            "equal numbers",
            "export the model again",
        )
    draft.layers.append(Dense(node.output[0], rows, matrix, vector))
    draft.channels[node.output[0]] = matrix.shape[1]


def _parse_add(draft: _Draft, node: onnx.NodeProto) -> None:
    left, right = node.input
    for value, constant in ((left, right), (right, left)):
        vector = draft.constants.get(constant)
        if vector is None or (vector.ndim == 2 and vector.shape[0] != 1):
            continue
        if not _fold_bias(draft, node, value, vector.astype(np.float32)):
            draft.refuse(
                node, "a constant is added to something without a dense layer of its own", "fold it into a bias"
            )
        return
    if draft.channels.get(draft.activation(left)) != draft.channels.get(draft.activation(right)):
        draft.refuse(node, "its operands have different widths", "add tensors of one shape")
        return
    draft.layers.append(Add(node.output[0], left, right))
    draft.channels[node.output[0]] = draft.channels[left]


def _fold_bias(draft: _Draft, node: onnx.NodeProto, value: str, vector: FloatArray) -> bool:
    """Gives a constant that is added to a dense layer, or to a sum that holds one, to that layer as its bias.

    Every tensor on the way must have no other use, or the bias would reach that use too.
    """
    by_output = {layer.output: position for position, layer in enumerate(draft.layers)}
    target = _dense_within(draft, by_output, value)
    if target is None:
        return False
    position, dense = target
    row = np.broadcast_to(vector.reshape(-1), dense.weight.shape[1:])
    draft.layers[position] = replace(dense, bias=row if dense.bias is None else dense.bias + row)
    last = by_output[value]
    draft.layers[last] = replace(draft.layers[last], output=node.output[0])
    draft.channels[node.output[0]] = draft.channels.pop(value)
    return True


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
    source = draft.activation(node.input[0])
    draft.layers.append(Relu(node.output[0], source))
    draft.channels[node.output[0]] = draft.channels[source]


def _parse_seg_mean(draft: _Draft, node: onnx.NodeProto) -> None:
    rows, source, destination, count = node.input
    draft.activation(rows)
    draft.layers.append(SegMean(node.output[0], rows, source, destination, count))
    draft.channels[node.output[0]] = draft.channels[rows]


#: (domain, operator) -> parser. Adding an operator adds one line and its parser.
PARSERS: dict[tuple[str, str], Callable[[_Draft, onnx.NodeProto], None]] = {
    ("", "Constant"): _parse_constant,
    ("", "MatMul"): _parse_matmul,
    ("", "Gemm"): _parse_gemm,
    ("", "Add"): _parse_add,
    ("", "Relu"): _parse_relu,
    (hgnn.DOMAIN, "SegMean"): _parse_seg_mean,
}
