# SPDX-License-Identifier: Apache-2.0
"""Typed layers of a float model: what ``quantize`` works on and ``inspect`` shows."""

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import onnx
import onnx.helper
import onnx.numpy_helper

from hetfab.overlay.errors import ModelStructureError

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


@dataclass(frozen=True, eq=False)
class Bias:
    """``output = input + values``: one number per channel, for sums without a dense term; values [C]."""

    output: str
    input: str
    values: FloatArray


class Function(enum.Enum):
    """A unary function; its value is the ONNX operator."""

    ELU = "Elu"
    LEAKY_RELU = "LeakyRelu"
    GELU = "Gelu"
    SIGMOID = "Sigmoid"
    TANH = "Tanh"


@dataclass(frozen=True)
class Unary:
    """``output = function(input)``; ``alpha`` is the parameter of Elu and LeakyRelu."""

    output: str
    input: str
    function: Function
    alpha: float = 1.0


@dataclass(frozen=True, eq=False)
class LayerNorm:
    """Rows brought to mean 0 and variance 1, times ``weight`` [C], plus ``bias`` [C]; then ReLU if ``relu``."""

    output: str
    input: str
    weight: FloatArray
    bias: FloatArray
    epsilon: float
    relu: bool = False


@dataclass(frozen=True)
class RowNorm:
    """Rows divided by their Euclidean length, or by ``smallest`` where that is larger."""

    output: str
    input: str
    smallest: float


@dataclass(frozen=True, eq=False)
class HostOperator:
    """An operator on rows that onnxruntime runs: each row of ``output`` follows from the same rows of ``inputs``.

    Attributes:
        output: Its result.
        inputs: Tensors with rows of nodes.
        node: The operator of the model; its other inputs are constants.
        constants: Those, by name.
        opset: Version of the standard operators.
    """

    output: str
    inputs: tuple[str, ...]
    node: onnx.NodeProto
    constants: Mapping[str, npt.NDArray[np.generic]]
    opset: int


@dataclass(frozen=True)
class Stack:
    """The rows of all inputs, one tensor after the other: its parts. They have equal widths."""

    output: str
    inputs: tuple[str, ...]


@dataclass(frozen=True)
class JoinParts:
    """The parts of a stack side by side: [parts * N, C] becomes [N, parts * C]."""

    output: str
    input: str
    parts: int


@dataclass(frozen=True)
class RowSlice:
    """Rows ``first`` to ``end - 1``."""

    output: str
    input: str
    first: int
    end: int


@dataclass(frozen=True)
class SegMean:
    """Mean of the source nodes' rows over the edges into each destination node."""

    output: str
    input: str
    source: str
    destination: str
    count: str


@dataclass(frozen=True)
class SegSum:
    """Sum of the source nodes' rows over the edges into each destination node, times ``weights`` [E] if it has some."""

    output: str
    input: str
    source: str
    destination: str
    count: str
    weights: str | None = None


@dataclass(frozen=True, eq=False)
class EdgeAttention:
    """Additive attention: rows of ``input`` [N, heads * D], weighted by a softmax over each destination's edges.

    The logit of an edge and a head is ``LeakyRelu(source_scores[u] + destination_scores[d] + bias[type])``.

    Attributes:
        output: [destinations, heads * D].
        input: Rows of the source nodes.
        source_scores: [sources, heads].
        destination_scores: [destinations, heads].
        source: Input with source ids.
        destination: Input with destination ids.
        count: Input or constant with the number of destinations.
        slope: Of the LeakyRelu.
        types: Input with edge types, None where edges have none.
        bias: [types, heads], None likewise.
    """

    output: str
    input: str
    source_scores: str
    destination_scores: str
    source: str
    destination: str
    count: str
    slope: float
    types: str | None = None
    bias: FloatArray | None = None


@dataclass(frozen=True)
class EdgeDot:
    """Attention whose logit is the product of ``queries[d]`` and ``keys[u]``, each [nodes, heads * A]."""

    output: str
    input: str
    queries: str
    keys: str
    source: str
    destination: str
    count: str
    heads: int


@dataclass(frozen=True)
class TokenAttention:
    """``EdgeDot`` of one head between the parts of a stack: part m of a node attends to all parts of that node.

    All tensors are stacks of ``parts`` parts of N rows; queries and keys [parts * N, A].
    """

    output: str
    input: str
    queries: str
    keys: str
    parts: int


@dataclass(frozen=True)
class Fusion:
    """The parts of a stack weighted by a softmax of ``weights`` [parts, 1] over the parts: [N, C]."""

    output: str
    input: str
    weights: str
    parts: int


@dataclass(frozen=True)
class PartMean:
    """The mean of all rows of each part of a stack: [parts, C]."""

    output: str
    input: str
    parts: int


EdgeAggregation: TypeAlias = SegMean | SegSum | EdgeAttention | EdgeDot
PartAggregation: TypeAlias = TokenAttention | Fusion | PartMean
#: Layers whose result is a sum in Q.8; ``input`` is what they sum.
Aggregation: TypeAlias = EdgeAggregation | PartAggregation
Layer: TypeAlias = (
    Dense | Relu | Add | Bias | Unary | LayerNorm | RowNorm | HostOperator | Stack | JoinParts | RowSlice | Aggregation
)


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


def is_identity(weight: npt.NDArray[np.generic]) -> bool:
    """Whether a matrix leaves what it multiplies as it is."""
    return weight.ndim == 2 and weight.shape[0] == weight.shape[1] and np.array_equal(weight, np.eye(len(weight)))


def is_diagonal(weight: FloatArray) -> bool:
    """Whether a matrix multiplies each channel by a number of its own."""
    return weight.shape[0] == weight.shape[1] and not (weight - np.diag(np.diag(weight))).any()


def inputs_of(layer: Layer) -> tuple[str, ...]:
    """Activation tensors that a layer reads."""
    match layer:
        case Add():
            return layer.left, layer.right
        case Stack() | HostOperator():
            return layer.inputs
        case EdgeAttention():
            return layer.input, layer.source_scores, layer.destination_scores
        case EdgeDot() | TokenAttention():
            return layer.input, layer.queries, layer.keys
        case Fusion():
            return layer.input, layer.weights
    return (layer.input,)


def describe(node: onnx.NodeProto) -> str:
    """An operator of a model and its name, or its output where it has no name."""
    domain = f"{node.domain}::" if node.domain else ""
    return f"{domain}{node.op_type} '{node.name or node.output[0]}'"


def type_name(kind: int) -> str:
    """The type of a tensor by numpy's name; by its number where ONNX has no such type, as in a damaged file."""
    if kind not in onnx.TensorProto.DataType.values():
        return f"type {kind}, which ONNX does not have"
    return "float32" if kind == onnx.TensorProto.FLOAT else str(onnx.TensorProto.DataType.Name(kind)).lower()


def attributes(node: onnx.NodeProto) -> dict[str, object]:
    """Attributes of an operator as Python values."""
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
