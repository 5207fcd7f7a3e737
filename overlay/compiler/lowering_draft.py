# SPDX-License-Identifier: Apache-2.0
"""What lowering knows of a quantized model while it interprets its nodes: a value for each tensor, layers so far."""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import onnx

from hetfab.overlay.compiler.layer_ends import Rectified, Sum, rounded_layer
from hetfab.overlay.compiler.lowered import DenseTerm, HostStep, IntArray, LoweredLayer, StackPart, Stored
from hetfab.overlay.errors import ModelStructureError, OverflowPossibleError
from hetfab.overlay.isa.arithmetic import ACCUMULATOR_BITS, ACTIVATION_BITS
from hetfab.overlay.model.binding import Binding
from hetfab.overlay.model.layers import HostOperator, describe
from hetfab.overlay.model.scales import Scales
from hetfab.overlay.program import Stack


@dataclass(frozen=True, eq=False)
class FloatInput:
    """Features before their Quant."""

    name: str
    channels: int


@dataclass(frozen=True, eq=False)
class FloatConstant:
    """A constant before its Quant."""

    array: npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class Integers:
    """A constant after Quant: weights, a bias, or a table of vertices' rows; its reader says which."""

    values: IntArray
    scales: Scales
    bits: int
    signed: bool
    narrow: bool


@dataclass(frozen=True, eq=False)
class Weights:
    """Weights [K, N] with the scale and the width of each column."""

    values: IntArray
    scales: Scales
    bits: IntArray


@dataclass(frozen=True, eq=False)
class Wide:
    """What is rounded to more bits than a stored tensor has: the argument of a table or a normalization.

    Attributes:
        value: What is rounded.
        bits: Its width, 8 to 12, or 16.
        signed: Whether it is signed.
        exponent: Of its scale.
    """

    value: DenseTerm | Sum
    bits: int
    signed: bool
    exponent: int


@dataclass(frozen=True, eq=False)
class WideParts:
    """The parts of a stack that is normalized, one behind the other."""

    parts: tuple[Wide, ...]


@dataclass(frozen=True, eq=False)
class Joined:
    """The parts of a stack side by side, which only a product reads.

    Attributes:
        rows: The stack.
        parts: How many parts it has.
    """

    rows: Stored
    parts: int


@dataclass(frozen=True, eq=False)
class OnHost:
    """The result of an operator of the host before it is rounded.

    Attributes:
        node: The operator.
        inputs: What it reads, by the names that it reads them by.
        operator: The same with its constants.
        channels: Columns of its result.
    """

    node: onnx.NodeProto
    inputs: Mapping[str, Stored]
    operator: HostOperator
    channels: int


Value: TypeAlias = (
    Wide
    | OnHost
    | WideParts
    | Joined
    | FloatInput
    | FloatConstant
    | Integers
    | Weights
    | Stored
    | DenseTerm
    | Sum
    | Rectified
)


@dataclass
class Draft:
    """What the interpretation of the nodes fills.

    Attributes:
        bindings: Meaning of the model's inputs.
        values: What is known of each tensor.
        layers: Layers so far.
        stored: Tensors in DRAM so far.
        refused: Operators that no layer covers, in words.
        parts: Tensors that are parts of stacked ones.
        stacks: Stacks that edges name.
        arguments: Tensors that are arguments of tables and normalizations.
        host: Operators of the host so far.
        output: The model's output.
    """

    bindings: Mapping[str, Binding]
    values: dict[str, Value]
    layers: list[LoweredLayer] = field(default_factory=list)
    stored: dict[str, Stored] = field(default_factory=dict)
    refused: list[str] = field(default_factory=list)
    parts: dict[str, StackPart] = field(default_factory=dict)
    stacks: dict[str, Stack] = field(default_factory=dict)
    arguments: frozenset[str] = frozenset()
    host: list[HostStep] = field(default_factory=list)
    output: str = ""

    def store(self, tensor: Stored) -> Stored:
        """Notes a tensor in DRAM."""
        self.stored[tensor.name] = tensor
        return tensor


class RefusedError(Exception):
    """A node's form is not handled; caught where all are collected."""


def exponent_of(scales: Scales, node: onnx.NodeProto) -> int:
    """The exponent of a tensor's one scale."""
    if scales.mantissas.size != 1:
        raise RefusedError("a tensor has one scale")
    if scales.mantissas[0] != 1:
        raise ModelStructureError(
            f"{describe(node)} has a scale that is not a power of two",
            "scales 2^e of tensors; only weights of less than 4 bits have others",
            "quantize the float model again with this hetfab",
        )
    return int(scales.exponents[0])


def constant_of(draft: Draft, name: str) -> npt.NDArray[Any]:
    """A constant that is no tensor of a layer, such as a scale."""
    value = draft.values.get(name)
    if not isinstance(value, FloatConstant):
        raise RefusedError(f"'{name}' is not a constant")
    return value.array


def to_integers(array: npt.NDArray[Any], scales: Scales, bits: int, *, signed: bool, narrow: bool) -> IntArray:
    """The integers of a constant behind its Quant."""
    low = -(1 << (bits - 1)) + narrow if signed else 0
    high = (1 << (bits - 1)) - 1 if signed else (1 << bits) - 1 - narrow
    units = np.ldexp(scales.mantissas.astype(np.float64), scales.exponents)
    steps = array.astype(np.float64) / (units if units.size > 1 else units[0])
    return np.asarray(np.rint(np.clip(steps, low, high)), dtype=np.int64)


def rows_of(draft: Draft, name: str, node: onnx.NodeProto, widths: Collection[int] = ACTIVATION_BITS) -> Stored:
    """A stored tensor of one of some widths; a constant that is read as rows becomes one."""
    value = draft.values.get(name)
    if isinstance(value, Integers) and value.values.ndim == 2 and value.bits in widths and not value.narrow:
        exponent = exponent_of(value.scales, node)
        channels = value.values.shape[1]
        value = draft.store(Stored(name, channels, value.bits, value.signed, exponent, "constant", value.values))
        draft.values[name] = value
    if not isinstance(value, Stored) or value.bits not in widths:
        least, most = min(widths), max(widths)
        raise RefusedError(
            f"'{name}' is not a tensor of {least}{f' to {most}' if most > least else ''} bits behind its Quant"
        )
    return value


def check_accumulator(term: DenseTerm, name: str) -> None:
    """Refuses a product whose sums could leave 32 bits."""
    worst = int((term.largest_inputs @ np.abs(term.weight) + np.abs(term.bias)).max(initial=0))
    if worst >= 1 << (ACCUMULATOR_BITS - 1):
        raise OverflowPossibleError(
            f"the sums of '{name}' can reach {worst}, which takes {math.ceil(math.log2(worst)) + 1} bits",
            f"at most {ACCUMULATOR_BITS} bits",
            "quantize with fewer bits or a larger weight scale, or split the layer's input channels into two layers",
        )


def stored_layer(draft: Draft, value: DenseTerm | Sum | Rectified, output: Stored) -> Stored:
    """Ends a layer with the tensor that it writes."""
    draft.layers.append(rounded_layer(value, draft.store(output)))
    return output
