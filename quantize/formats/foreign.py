# SPDX-License-Identifier: Apache-2.0
"""What a quantized model of another tool says: the float model without its roundings, and every rounding.

A reader of a format (``qonnx``, ``qdq``) says what each node stands for; this module takes them out of the graph.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import onnx
import onnx.helper
import onnx.numpy_helper

from hetfab.overlay.errors import OperatorsUnsupportedError, counted
from hetfab.overlay.model.layers import constants_of, describe

Array: TypeAlias = npt.NDArray[Any]


@dataclass(frozen=True)
class Rounding:
    """How a computed tensor is rounded: whole steps of ``scale`` from ``lowest`` to ``highest``."""

    scale: float
    lowest: int
    highest: int

    @property
    def symmetric(self) -> bool:
        """Whether the steps are those of an integer with zero point 0, with or without its most negative value."""
        steps = self.highest + 1
        return steps & (steps - 1) == 0 and self.lowest in (0, -steps, -self.highest)


@dataclass(frozen=True, eq=False)
class RoundedConstant:
    """A constant as integers.

    Attributes:
        integers: Of any shape.
        scales: Broadcast to the same shape.
        bits: Their width.
    """

    integers: Array
    scales: Array
    bits: int

    @property
    def values(self) -> npt.NDArray[np.float32]:
        """What it stands for."""
        return (self.integers * self.scales.astype(np.float64)).astype(np.float32)


@dataclass(frozen=True, eq=False)
class Foreign:
    """A quantized model of another tool.

    Attributes:
        model: The float model whose constants have their rounded values.
        tensors: Roundings of its computed tensors and inputs, by name.
        constants: Rounded constants, by name.
        left_out: Lines on roundings that no integer stands for.
    """

    model: onnx.ModelProto
    tensors: Mapping[str, Rounding]
    constants: Mapping[str, RoundedConstant]
    left_out: tuple[str, ...]

    def with_constants(self, replaced: Callable[[RoundedConstant], Array]) -> onnx.ModelProto:
        """The float model with something else in place of each rounded constant."""
        model = onnx.ModelProto()
        model.CopyFrom(self.model)
        for tensor in model.graph.initializer:
            if tensor.name in self.constants:
                array = np.asarray(replaced(self.constants[tensor.name]), dtype=np.float32)
                tensor.CopyFrom(onnx.numpy_helper.from_array(array, tensor.name))
        return model


class RefusedError(Exception):
    """A node's form is not read; caught where all are collected."""


@dataclass
class Stripper:
    """Takes roundings out of a model, node by node.

    Attributes:
        constants: Constants of the model by name, those that are computed from others included.
    """

    constants: dict[str, Array]
    names: dict[str, str] = field(default_factory=dict)
    tensors: dict[str, Rounding] = field(default_factory=dict)
    rounded: dict[str, RoundedConstant] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)

    def constant(self, name: str) -> Array:
        """A constant."""
        if name not in self.constants:
            raise RefusedError(f"'{name}' is computed; scales, zero points and widths are constants")
        return self.constants[name]

    def name(self, tensor: str) -> str:
        """A tensor's name without roundings."""
        return self.names.get(tensor, tensor)

    def round_constant(self, node: onnx.NodeProto, found: RoundedConstant) -> None:
        """A constant is rounded: its result is a constant."""
        self.rounded[node.output[0]] = found
        self.constants[node.output[0]] = found.values

    def round_tensor(self, node: onnx.NodeProto, found: Rounding) -> None:
        """A computed tensor is rounded; of two roundings in a row the one of fewer steps counts."""
        if found.scale <= 0:
            raise RefusedError(f"a scale of {found.scale:g}; scales of tensors are above 0")
        tensor = self.name(node.input[0])
        self.names[node.output[0]] = tensor
        before = self.tensors.get(tensor)
        if before is not None and before != found:
            self.left_out.append(f"'{tensor}' is rounded twice, to steps of {before.scale:.6g} and {found.scale:.6g}")
            found = min(before, found, key=lambda rounding: rounding.highest - rounding.lowest)
        self.tensors[tensor] = found

    def leave_out(self, node: onnx.NodeProto, why: str) -> None:
        """A rounding that the overlay does not take: its result is what it reads."""
        self.names[node.output[0]] = self.name(node.input[0])
        self.left_out.append(f"{describe(node)}: {why}")

    def join(self, node: onnx.NodeProto, axis: int) -> None:
        """Rounded constants side by side; their widths may differ, and the widest is kept."""
        parts = [self.rounded[name] for name in node.input]
        integers, scales = (
            np.concatenate([getattr(part, kind) for part in parts], axis) for kind in ("integers", "scales")
        )
        self.round_constant(node, RoundedConstant(integers, scales, max(part.bits for part in parts)))


#: Takes a node out of the graph and says so; False where the node stays.
Rule: TypeAlias = Callable[[Stripper, onnx.NodeProto], bool]


def strip(model: onnx.ModelProto, rule: Rule, domains: frozenset[str]) -> Foreign:
    """Takes all roundings out of a model.

    Args:
        model: The quantized model.
        rule: What the format's nodes stand for.
        domains: Operator domains of the format, whose functions and versions go too.

    Raises:
        OperatorsUnsupportedError: Roundings that are not read, all at once.
    """
    stripper = Stripper(dict(constants_of(model)))
    kept: list[onnx.NodeProto] = []
    refused = []
    for node in model.graph.node:
        try:
            if _joins(stripper, node) or rule(stripper, node):
                continue
        except RefusedError as error:
            refused.append(f"{describe(node)}: {error}")
            stripper.names.update(dict.fromkeys(node.output, stripper.name(node.input[0])))
            continue
        except (ValueError, IndexError, OverflowError) as error:
            # numpy's: shapes and axes of the file's constants contradict each other.
            refused.append(f"{describe(node)}: its constants do not fit each other ({error})")
            continue
        kept.append(_renamed(node, stripper))
    if refused:
        raise OperatorsUnsupportedError(
            f"{counted(len(refused), 'rounding')} cannot be deployed:",
            "symmetric roundings to nearest, one scale for a tensor, weights of at most 8 bits",
            "quantize the model again as each line says",
            refused,
        )
    outer = {stripper.name(value.name): value.name for value in model.graph.output}
    for node in kept:
        node.input[:] = [outer.get(name, name) for name in node.input]
        node.output[:] = [outer.get(name, name) for name in node.output]
    tensors = {outer.get(name, name): rounding for name, rounding in stripper.tensors.items()}
    assembled = _assembled(model, kept, stripper, domains)
    return Foreign(assembled, tensors, stripper.rounded, tuple(stripper.left_out))


def _joins(stripper: Stripper, node: onnx.NodeProto) -> bool:
    """Weights of several widths are rounded constants that are joined; Identity and Transpose move them."""
    if node.domain or not node.input or any(name not in stripper.rounded for name in node.input):
        return False
    values = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}
    if node.op_type == "Concat":
        stripper.join(node, values["axis"])
        return True
    if node.op_type in ("Identity", "Transpose"):
        found = stripper.rounded[node.input[0]]
        order = values.get("perm", range(found.integers.ndim)[:: -1 if node.op_type == "Transpose" else 1])
        moved = RoundedConstant(found.integers.transpose(order), found.scales.transpose(order), found.bits)
        stripper.round_constant(node, moved)
        return True
    return False


def _renamed(node: onnx.NodeProto, stripper: Stripper) -> onnx.NodeProto:
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    copy.input[:] = [stripper.name(name) for name in node.input]
    return copy


def _assembled(
    model: onnx.ModelProto, kept: list[onnx.NodeProto], stripper: Stripper, domains: frozenset[str]
) -> onnx.ModelProto:
    """The model of the nodes that stay, with the constants that they read."""
    read = {name for node in kept for name in node.input}
    made = {name for node in kept for name in node.output}
    names = sorted(read & set(stripper.constants) - made)
    initializers = [_tensor(stripper.constants[name], name) for name in names]
    given = {tensor.name for tensor in model.graph.initializer}
    graph = onnx.helper.make_graph(
        kept,
        model.graph.name,
        [value for value in model.graph.input if value.name not in given],
        list(model.graph.output),
        initializers,
    )
    stripped = onnx.helper.make_model(
        graph,
        opset_imports=[entry for entry in model.opset_import if entry.domain not in domains],
        ir_version=model.ir_version,
        functions=[function for function in model.functions if function.domain not in domains],
    )
    stripped.metadata_props.extend(model.metadata_props)
    return stripped


def _tensor(array: Array, name: str) -> onnx.TensorProto:
    """An initializer; a number without dimensions stays one."""
    return onnx.numpy_helper.from_array(np.ascontiguousarray(array).reshape(array.shape), name)
