# SPDX-License-Identifier: Apache-2.0
"""Typed layers of a float model: what ``quantize`` works on and ``inspect`` shows."""

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


@dataclass(frozen=True)
class SegMean:
    """Mean of the source nodes' rows over the edges into each destination node."""

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


def inputs_of(layer: Layer) -> tuple[str, ...]:
    """Activation tensors that a layer reads."""
    return (layer.left, layer.right) if isinstance(layer, Add) else (layer.input,)


def describe(node: onnx.NodeProto) -> str:
    """An operator of a model and its name, or its output where it has no name."""
    domain = f"{node.domain}::" if node.domain else ""
    return f"{domain}{node.op_type} '{node.name or node.output[0]}'"


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
