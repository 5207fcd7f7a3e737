# SPDX-License-Identifier: Apache-2.0
"""Lowers a quantized ONNX model to integer layers: what each instruction sequence computes, with all its numbers.

The nodes are interpreted in order; each tensor gets a value that says what is known of it. A ``Quant`` node of a
computed tensor, and the model's output, end a layer. The arithmetic is that of docs/arithmetic.md.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import onnx

from hetfab.overlay.compiler.layer_ends import (
    Rectified,
    Sum,
    channels_of,
    exported_layer,
    rounded_layer,
)
from hetfab.overlay.compiler.lowered import (
    Aggregation,
    DenseTerm,
    IntArray,
    LoweredLayer,
    LoweredModel,
    Stored,
)
from hetfab.overlay.compiler.repeats import without_repeats
from hetfab.overlay.compiler.row_types import row_types
from hetfab.overlay.errors import (
    ModelStructureError,
    NotQuantizedError,
    OperatorsUnsupportedError,
    OverflowPossibleError,
    counted,
)
from hetfab.overlay.isa.arithmetic import ACCUMULATOR_BITS, ACTIVATION_BITS, Q8_BITS, TERM_BITS, WEIGHT_BITS
from hetfab.overlay.model import hgnn
from hetfab.overlay.model.binding import Binding, Features
from hetfab.overlay.model.edges import EdgeSet, edge_set
from hetfab.overlay.model.layers import attributes, constants_of, describe
from hetfab.overlay.model.reader import graph_inputs, is_quantized
from hetfab.overlay.model.scales import Scales, exact_scales

_BIAS_BITS = ACCUMULATOR_BITS
#: Of weights behind a Quant; one bit is behind a BipolarQuant.
_QUANT_WEIGHT_BITS = WEIGHT_BITS[1:]


@dataclass(frozen=True, eq=False)
class _FloatInput:
    name: str
    channels: int


@dataclass(frozen=True, eq=False)
class _FloatConstant:
    array: npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class _Integers:
    """A constant after Quant: weights, a bias, or a table of vertices' rows; its reader says which."""

    values: IntArray
    scales: Scales
    bits: int
    signed: bool
    narrow: bool


@dataclass(frozen=True, eq=False)
class _Weights:
    """Weights [K, N] with the scale and the width of each column."""

    values: IntArray
    scales: Scales
    bits: IntArray


_Value: TypeAlias = _FloatInput | _FloatConstant | _Integers | _Weights | Stored | DenseTerm | Sum | Rectified


@dataclass
class _Draft:
    """What the interpretation of the nodes fills."""

    bindings: Mapping[str, Binding]
    values: dict[str, _Value]
    layers: list[LoweredLayer] = field(default_factory=list)
    stored: dict[str, Stored] = field(default_factory=dict)
    refused: list[str] = field(default_factory=list)

    def store(self, tensor: Stored) -> Stored:
        self.stored[tensor.name] = tensor
        return tensor


class _RefusedError(Exception):
    """A node's form is not handled; caught where all are collected."""


def lower(model: onnx.ModelProto, bindings: Mapping[str, Binding]) -> LoweredModel:
    """Lowers a quantized model.

    Args:
        model: As ``hetfab quantize`` writes it.
        bindings: Its input binding, with all relations in full.

    Raises:
        NotQuantizedError: It has no ``Quant`` operator.
        OperatorsUnsupportedError: Operators that no layer covers, all at once.
        OverflowPossibleError: A dense layer's sum could leave 32 bits.
        ModelStructureError: A scale has no form that the overlay applies exactly, scales are too far apart, or rows
            of one tensor are of two types.
    """
    if not is_quantized(model):
        raise NotQuantizedError(
            "the model has no 'Quant' operator",
            "a quantized model, as `hetfab quantize` writes it",
            "run `hetfab quantize MODEL --graph GRAPH -o QUANTIZED` and compile its result",
        )
    draft = _Draft(bindings, {name: _FloatConstant(array) for name, array in constants_of(model).items()})
    for value in graph_inputs(model):
        if isinstance(bindings.get(value.name), Features):
            draft.values[value.name] = _FloatInput(value.name, value.type.tensor_type.shape.dim[1].dim_value)
    unknown: set[str] = set()
    for node in model.graph.node:
        if any(name in unknown for name in node.input):
            unknown.update(node.output)
            continue
        try:
            draft.values[node.output[0]] = _RULES.get((node.domain, node.op_type), _refuse)(draft, node)
        except _RefusedError as error:
            draft.refused.append(f"{describe(node)}: {error}")
            unknown.update(node.output)
    if draft.refused:
        raise OperatorsUnsupportedError(
            f"{counted(len(draft.refused), 'operator')} cannot be compiled:",
            "the layers that `hetfab quantize` writes",
            "quantize the float model again with this hetfab",
            draft.refused,
        )
    name = model.graph.output[0].name
    last, lsb = exported_layer(draft.values.get(name), name)
    draft.layers.append(last)
    output = draft.store(last.output)
    node_types = row_types(draft.stored.values(), draft.layers, bindings)
    fixed = {
        node_types[tensor.name]: len(tensor.values) for tensor in draft.stored.values() if tensor.values is not None
    }
    return without_repeats(LoweredModel(tuple(draft.layers), draft.stored, node_types, fixed, output, lsb))


def _refuse(draft: _Draft, node: onnx.NodeProto) -> _Value:
    raise _RefusedError("the operator is not known")


def _exponent(scales: Scales, node: onnx.NodeProto) -> int:
    """The exponent of a tensor's one scale."""
    if scales.mantissas.size != 1:
        raise _RefusedError("a tensor has one scale")
    if scales.mantissas[0] != 1:
        raise ModelStructureError(
            f"{describe(node)} has a scale that is not a power of two",
            "scales 2^e of tensors; only weights of less than 4 bits have others",
            "quantize the float model again with this hetfab",
        )
    return int(scales.exponents[0])


def _constant(draft: _Draft, name: str) -> npt.NDArray[Any]:
    value = draft.values.get(name)
    if not isinstance(value, _FloatConstant):
        raise _RefusedError(f"'{name}' is not a constant")
    return value.array


def _quant(draft: _Draft, node: onnx.NodeProto) -> _Value:
    source, scale_name, zero_name, bits_name = node.input
    flags = attributes(node)
    signed, narrow = bool(flags.get("signed", 1)), bool(flags.get("narrow", 0))
    if np.any(_constant(draft, zero_name) != 0) or flags.get("rounding_mode", b"ROUND") != b"ROUND":
        raise _RefusedError("only zero points of 0 and the rounding mode ROUND are executed")
    bits = int(_constant(draft, bits_name))
    scales = exact_scales(_constant(draft, scale_name), node)
    value = draft.values.get(source)
    name = node.output[0]
    match value:
        case _FloatConstant(array):
            integers = _integers(array, scales, bits, signed=signed, narrow=narrow)
            return _Integers(integers, scales, bits, signed, narrow)
        case DenseTerm() as dense if bits == TERM_BITS and signed:
            return Sum(_exponent(scales, node) + Q8_BITS, dense, ())
        case _ if bits not in ACTIVATION_BITS or narrow:
            raise _RefusedError(
                f"it rounds to {bits} bits{', narrow' if narrow else ''}; tensors have {ACTIVATION_BITS[0]} to "
                f"{ACTIVATION_BITS[-1]} bits, not narrow, dense terms of a sum {TERM_BITS}"
            )
        case _FloatInput(input_name, channels):
            exponent = _exponent(scales, node)
            return draft.store(Stored(input_name, channels, bits, signed, exponent, "features"))
        case DenseTerm() | Sum() | Rectified():
            output = draft.store(Stored(name, channels_of(value), bits, signed, _exponent(scales, node), "computed"))
            draft.layers.append(rounded_layer(value, output))
            return output
    raise _RefusedError(f"'{source}' is rounded twice, or is nothing that is rounded")


def _integers(array: npt.NDArray[Any], scales: Scales, bits: int, *, signed: bool, narrow: bool) -> IntArray:
    low = -(1 << (bits - 1)) + narrow if signed else 0
    high = (1 << (bits - 1)) - 1 if signed else (1 << bits) - 1 - narrow
    units = np.ldexp(scales.mantissas.astype(np.float64), scales.exponents)
    steps = array.astype(np.float64) / (units if units.size > 1 else units[0])
    return np.asarray(np.rint(np.clip(steps, low, high)), dtype=np.int64)


def _bipolar_quant(draft: _Draft, node: onnx.NodeProto) -> _Value:
    array, scale = (_constant(draft, name) for name in node.input)
    columns = array.shape[-1]
    signs = np.where(array < 0, -1, 1).astype(np.int64)
    return _Weights(signs, exact_scales(scale, node).of_columns(columns), np.ones(columns, np.int64))


def _concat(draft: _Draft, node: onnx.NodeProto) -> _Value:
    """Weights of several widths, side by side: output channels of one layer."""
    parts = [_weights(draft, name) for name in node.input]
    if attributes(node).get("axis") not in (1, -1):
        raise _RefusedError("weights are joined along the output channels, axis 1")
    scales = Scales(
        np.concatenate([part.scales.mantissas for part in parts]),
        np.concatenate([part.scales.exponents for part in parts]),
    )
    values = np.concatenate([part.values for part in parts], axis=1)
    return _Weights(values, scales, np.concatenate([part.bits for part in parts]))


def _weights(draft: _Draft, name: str) -> _Weights:
    """A constant as a layer's weights."""
    value = draft.values.get(name)
    if isinstance(value, _Weights):
        return value
    if not isinstance(value, _Integers) or value.values.ndim != 2:
        raise _RefusedError(f"'{name}' is not a constant matrix behind its Quant or BipolarQuant")
    if not value.signed or value.bits not in _QUANT_WEIGHT_BITS or not (value.narrow or value.bits == 2):
        raise _RefusedError(
            f"the weights '{name}' have {value.bits} bits, {'signed' if value.signed else 'unsigned'}, "
            f"{'narrow' if value.narrow else 'not narrow'}; weights have {_QUANT_WEIGHT_BITS[0]} to "
            f"{_QUANT_WEIGHT_BITS[-1]} bits, signed and, from 3 bits on, narrow; BipolarQuant is 1 bit"
        )
    columns = value.values.shape[1]
    return _Weights(value.values, value.scales.of_columns(columns), np.full(columns, value.bits))


def _rows(draft: _Draft, name: str, node: onnx.NodeProto) -> Stored:
    """A stored tensor; a constant that is read as rows becomes one."""
    value = draft.values.get(name)
    if isinstance(value, _Integers) and value.values.ndim == 2 and value.bits in ACTIVATION_BITS and not value.narrow:
        exponent = _exponent(value.scales, node)
        channels = value.values.shape[1]
        value = draft.store(Stored(name, channels, value.bits, value.signed, exponent, "constant", value.values))
        draft.values[name] = value
    if not isinstance(value, Stored):
        raise _RefusedError(
            f"'{name}' is not a tensor of {ACTIVATION_BITS[0]} to {ACTIVATION_BITS[-1]} bits behind its Quant"
        )
    return value


def _matmul(draft: _Draft, node: onnx.NodeProto) -> _Value:
    rows, weights = _rows(draft, node.input[0], node), _weights(draft, node.input[1])
    if weights.values.shape[0] != rows.channels:
        raise _RefusedError(
            f"it multiplies {counted(rows.channels, 'channel')} by {counted(weights.values.shape[0], 'row')} of weights"
        )
    bias = np.zeros(weights.values.shape[1], np.int64)
    term = DenseTerm(rows, weights.values, weights.bits, bias, weights.scales.times_power(rows.exponent))
    _check_accumulator(term, node.output[0])
    return term


def _add(draft: _Draft, node: onnx.NodeProto) -> _Value:
    left, right = (draft.values.get(name) for name in node.input)
    if isinstance(left, _Integers):
        left, right = right, left
    match left, right:
        case DenseTerm(), _Integers(values=values, scales=scales, bits=bits, signed=True) if bits == _BIAS_BITS:
            if not scales.of_columns(left.bias.size).equal(left.scales):
                raise _RefusedError("the bias does not have the scale of the products")
            term = replace(left, bias=left.bias + values.reshape(-1))
            _check_accumulator(term, node.output[0])
            return term
        case Sum(exponent, dense, means), Sum(other, other_dense, other_means):
            if exponent != other:
                raise _RefusedError("its operands have different scales")
            if dense is not None and other_dense is not None:
                raise _RefusedError("it adds two dense terms")
            return Sum(exponent, dense or other_dense, means + other_means)
    raise _RefusedError("it adds something other than a bias or terms in Q.8")


def _relu(draft: _Draft, node: onnx.NodeProto) -> _Value:
    match draft.values.get(node.input[0]):
        case _FloatConstant(array):
            return _FloatConstant(np.maximum(array, 0))
        case (DenseTerm() | Sum()) as value:
            return Rectified(value)
    raise _RefusedError("it does not follow a dense layer or a sum")


def _mean(draft: _Draft, node: onnx.NodeProto) -> _Value:
    rows, source, destination, _, scale = node.input
    value = _rows(draft, rows, node)
    exponent = _exponent(exact_scales(_constant(draft, scale), node), node)
    if exponent != value.exponent:
        raise _RefusedError("its scale is not that of its input")
    edges = edge_set(draft.bindings, source, destination)
    if not isinstance(edges, EdgeSet):
        raise _RefusedError("it averages over the edges of all relations")
    return Sum(exponent, None, (Aggregation(value, edges),))


#: (domain, operator) -> rule.
_RULES: dict[tuple[str, str], Callable[[_Draft, onnx.NodeProto], _Value]] = {
    (hgnn.QUANT_DOMAIN, "Quant"): _quant,
    (hgnn.QUANT_DOMAIN, "BipolarQuant"): _bipolar_quant,
    ("", "Concat"): _concat,
    ("", "MatMul"): _matmul,
    ("", "Add"): _add,
    ("", "Relu"): _relu,
    (hgnn.DOMAIN, "QSegMean"): _mean,
}


def _check_accumulator(term: DenseTerm, name: str) -> None:
    rows = term.input
    largest = 1 << (rows.bits - 1) if rows.signed else (1 << rows.bits) - 1
    worst = int((np.abs(term.weight).sum(axis=0) * largest + np.abs(term.bias)).max(initial=0))
    if worst >= 1 << (ACCUMULATOR_BITS - 1):
        raise OverflowPossibleError(
            f"the sums of '{name}' can reach {worst}, which takes {math.ceil(math.log2(worst)) + 1} bits",
            f"at most {ACCUMULATOR_BITS} bits",
            "quantize with fewer bits or a larger weight scale, or split the layer's input channels into two layers",
        )
