# SPDX-License-Identifier: Apache-2.0
"""Lowers a quantized ONNX model to integer layers: what each instruction sequence computes, with all its numbers.

The nodes are interpreted in order; each tensor gets a value that says what is known of it. A ``Quant`` node of a
computed tensor, and the model's output, end a layer. The arithmetic is that of docs/arithmetic.md.
"""

import enum
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import onnx

from hetfab.overlay.errors import (
    ModelStructureError,
    NotQuantizedError,
    OperatorsUnsupportedError,
    OverflowPossibleError,
    counted,
)
from hetfab.overlay.isa.arithmetic import ACCUMULATOR_BITS, Q8_BITS, TERM_BITS
from hetfab.overlay.isa.spec import isa
from hetfab.overlay.model import hgnn
from hetfab.overlay.model.binding import Binding, Features
from hetfab.overlay.model.edges import EdgeSet, edge_set
from hetfab.overlay.model.layers import attributes, constants_of, describe
from hetfab.overlay.model.reader import graph_inputs, is_quantized

IntArray: TypeAlias = npt.NDArray[np.int64]

_LARGEST_LEFT = isa().record("parameter").bits("multiplier") - 1
_LARGEST_SHIFT = isa().operation("combine").field("shift").largest
_LARGEST_POST_LEFT = isa().operation("combine").field("post_left").largest


class LayerKind(enum.Enum):
    """The vector operation that ends a layer; its value is the operation's name in the instruction set."""

    REQUANTIZE = "requantize"
    COMBINE = "combine"
    EXPORT_SUMS = "export_sums"
    EXPORT_ACCUMULATORS = "export_accumulators"


@dataclass(frozen=True, eq=False)
class Stored:
    """An 8-bit tensor, or the logits.

    Attributes:
        name: Name in the model; of a feature tensor, the model input.
        channels: Columns.
        bits: 8, or 32 for logits.
        signed: Whether its integers are signed.
        exponent: The scale is ``2**exponent``.
        origin: "features", "constant", "computed" or "output".
        values: The integers of a constant, [rows, channels].
    """

    name: str
    channels: int
    bits: int
    signed: bool
    exponent: int
    origin: str
    values: IntArray | None = None


@dataclass(frozen=True, eq=False)
class DenseTerm:
    """``input @ weight + bias`` in integers.

    Attributes:
        input: What is multiplied.
        weight: [K, N].
        bias: [N].
        exponents: Of the result's scale, [N].
        weight_bits: Width of the weights.
    """

    input: Stored
    weight: IntArray
    bias: IntArray
    exponents: IntArray
    weight_bits: int


@dataclass(frozen=True, eq=False)
class Aggregation:
    """Mean of a stored tensor's rows over edges."""

    input: Stored
    edges: EdgeSet


@dataclass(frozen=True, eq=False)
class LoweredLayer:
    """One layer of the overlay.

    Attributes:
        kind: How it ends.
        output: What it writes.
        dense: Its dense term, if any.
        multiplier: [N], of the dense term's requantization.
        shift: Of the dense term's requantization.
        aggregations: Its aggregated terms, summed in Q.8.
        post_left: Left shift of the sum before ``post_shift``.
        post_shift: Right shift of the sum.
        relu: Whether negative results become 0.
    """

    kind: LayerKind
    output: Stored
    dense: DenseTerm | None
    multiplier: IntArray
    shift: int
    aggregations: tuple[Aggregation, ...]
    post_left: int
    post_shift: int
    relu: bool


@dataclass(frozen=True, eq=False)
class LoweredModel:
    """Layers in topological order, and whose nodes each tensor's rows are."""

    layers: tuple[LoweredLayer, ...]
    stored: Mapping[str, Stored]
    node_types: Mapping[str, str]
    fixed_counts: Mapping[str, int]
    output: Stored
    lsb_exponent: int


@dataclass(frozen=True, eq=False)
class _FloatInput:
    name: str
    channels: int


@dataclass(frozen=True, eq=False)
class _FloatConstant:
    array: npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class _Integers:
    """A constant after Quant: values, exponents (scalar or per column), width."""

    values: IntArray
    exponents: IntArray
    bits: int
    signed: bool


@dataclass(frozen=True, eq=False)
class _Sum:
    """Terms in Q.8 of the scale ``2**exponent`` (of the 8-bit tensor; one step is ``2**(exponent - 8)``)."""

    exponent: int
    dense: DenseTerm | None
    aggregations: tuple[Aggregation, ...]


@dataclass(frozen=True, eq=False)
class _Rectified:
    value: "DenseTerm | _Sum"


_Value: TypeAlias = _FloatInput | _FloatConstant | _Integers | Stored | DenseTerm | _Sum | _Rectified


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
        ModelStructureError: Scales are no powers of two or too far apart, or rows of one tensor are of two types.
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
    output, lsb = _export(draft, model.graph.output[0].name)
    node_types = _node_types(draft)
    fixed = {
        node_types[tensor.name]: len(tensor.values) for tensor in draft.stored.values() if tensor.values is not None
    }
    return LoweredModel(tuple(draft.layers), draft.stored, node_types, fixed, output, lsb)


def _refuse(draft: _Draft, node: onnx.NodeProto) -> _Value:
    raise _RefusedError("the operator is not known")


def _exponents(scale: npt.NDArray[Any], node: onnx.NodeProto) -> IntArray:
    mantissas, exponents = np.frexp(np.asarray(scale, dtype=np.float64).reshape(-1))
    if not np.all(mantissas == 0.5):
        raise ModelStructureError(
            f"{describe(node)} has a scale that is not a power of two",
            "scales 2^e",
            "quantize the float model again with this hetfab",
        )
    return exponents.astype(np.int64) - 1


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
    exponents = _exponents(_constant(draft, scale_name), node)
    value = draft.values.get(source)
    name = node.output[0]
    match value:
        case _FloatConstant(array) if bits == 8 and array.ndim == 2 and exponents.size == 1 and not narrow:
            integers = _integers(array, exponents, bits, signed=signed, narrow=narrow)
            return draft.store(Stored(name, array.shape[1], bits, signed, int(exponents[0]), "constant", integers))
        case _FloatConstant(array):
            integers = _integers(array, exponents, bits, signed=signed, narrow=narrow)
            return _Integers(integers, exponents, bits, signed)
        case _FloatInput(input_name, channels) if bits == 8 and exponents.size == 1 and not narrow:
            return draft.store(Stored(input_name, channels, bits, signed, int(exponents[0]), "features"))
        case DenseTerm() as dense if bits == TERM_BITS and signed and exponents.size == 1:
            return _Sum(int(exponents[0]) + Q8_BITS, dense, ())
        case DenseTerm() | _Sum() | _Rectified() if bits == 8 and exponents.size == 1 and not narrow:
            output = draft.store(Stored(name, _channels(value), bits, signed, int(exponents[0]), "computed"))
            draft.layers.append(_layer(value, output, node))
            return output
    raise _RefusedError(f"{bits} bits of '{source}' are not executed")


def _integers(array: npt.NDArray[Any], exponents: IntArray, bits: int, *, signed: bool, narrow: bool) -> IntArray:
    low = -(1 << (bits - 1)) + narrow if signed else 0
    high = (1 << (bits - 1)) - 1 if signed else (1 << bits) - 1 - narrow
    steps = np.ldexp(array.astype(np.float64), -exponents if exponents.size > 1 else -exponents[0])
    return np.asarray(np.rint(np.clip(steps, low, high)), dtype=np.int64)


def _matmul(draft: _Draft, node: onnx.NodeProto) -> _Value:
    rows, weights = (draft.values.get(name) for name in node.input)
    if not isinstance(rows, Stored) or not isinstance(weights, _Integers) or weights.bits > 8:
        raise _RefusedError("it needs an 8-bit tensor and weights of at most 8 bits, each behind its Quant")
    if weights.values.shape[0] != rows.channels:
        raise _RefusedError(
            f"it multiplies {counted(rows.channels, 'channel')} by {counted(weights.values.shape[0], 'row')} of weights"
        )
    columns = weights.values.shape[1]
    exponents = np.broadcast_to(weights.exponents, columns) + rows.exponent
    term = DenseTerm(rows, weights.values, np.zeros(columns, np.int64), exponents, weights.bits)
    _check_accumulator(term, node.output[0])
    return term


def _add(draft: _Draft, node: onnx.NodeProto) -> _Value:
    left, right = (draft.values.get(name) for name in node.input)
    if isinstance(left, _Integers):
        left, right = right, left
    match left, right:
        case DenseTerm(), _Integers(values, exponents, 32, True):
            if not np.array_equal(np.broadcast_to(exponents, left.exponents.shape), left.exponents):
                raise _RefusedError("the bias does not have the scale of the products")
            term = replace(left, bias=left.bias + values.reshape(-1))
            _check_accumulator(term, node.output[0])
            return term
        case _Sum(exponent, dense, means), _Sum(other, other_dense, other_means):
            if exponent != other:
                raise _RefusedError("its operands have different scales")
            if dense is not None and other_dense is not None:
                raise _RefusedError("it adds two dense terms")
            return _Sum(exponent, dense or other_dense, means + other_means)
    raise _RefusedError("it adds something other than a bias or terms in Q.8")


def _relu(draft: _Draft, node: onnx.NodeProto) -> _Value:
    match draft.values.get(node.input[0]):
        case _FloatConstant(array):
            return _FloatConstant(np.maximum(array, 0))
        case (DenseTerm() | _Sum()) as value:
            return _Rectified(value)
    raise _RefusedError("it does not follow a dense layer or a sum")


def _mean(draft: _Draft, node: onnx.NodeProto) -> _Value:
    rows, source, destination, _, scale = node.input
    value = draft.values.get(rows)
    if not isinstance(value, Stored):
        raise _RefusedError("it does not read an 8-bit tensor behind its Quant")
    exponent = int(_exponents(_constant(draft, scale), node)[0])
    if exponent != value.exponent:
        raise _RefusedError("its scale is not that of its input")
    return _Sum(exponent, None, (Aggregation(value, edge_set(draft.bindings, source, destination)),))


#: (domain, operator) -> rule.
_RULES: dict[tuple[str, str], Callable[[_Draft, onnx.NodeProto], _Value]] = {
    (hgnn.QUANT_DOMAIN, "Quant"): _quant,
    ("", "MatMul"): _matmul,
    ("", "Add"): _add,
    ("", "Relu"): _relu,
    (hgnn.DOMAIN, "QSegMean"): _mean,
}


def _channels(value: DenseTerm | _Sum | _Rectified) -> int:
    match value:
        case _Rectified(inner):
            return _channels(inner)
        case DenseTerm():
            return int(value.weight.shape[1])
        case _Sum(_, dense, means):
            return means[0].input.channels if dense is None else int(dense.weight.shape[1])


def _layer(value: DenseTerm | _Sum | _Rectified, output: Stored, node: onnx.NodeProto) -> LoweredLayer:
    relu = isinstance(value, _Rectified)
    inner = value.value if isinstance(value, _Rectified) else value
    if isinstance(inner, DenseTerm):
        multiplier, shift = _requantization(inner.exponents, output.exponent, node.output[0])
        return LoweredLayer(LayerKind.REQUANTIZE, output, inner, multiplier, shift, (), 0, 0, relu)
    return _sum_layer(LayerKind.COMBINE, inner, output, relu=relu)


def _sum_layer(kind: LayerKind, value: _Sum, output: Stored, *, relu: bool) -> LoweredLayer:
    unit = value.exponent - Q8_BITS
    multiplier, shift = np.zeros(0, np.int64), 0
    if value.dense is not None:
        multiplier, shift = _requantization(value.dense.exponents, unit, output.name)
    distance = output.exponent - unit if kind is LayerKind.COMBINE else 0
    if not -_LARGEST_POST_LEFT <= distance <= _LARGEST_SHIFT:
        raise _too_far(output.name)
    post_left, post_shift = max(0, -distance), max(0, distance)
    return LoweredLayer(kind, output, value.dense, multiplier, shift, value.aggregations, post_left, post_shift, relu)


def _requantization(exponents: IntArray, target: int, name: str) -> tuple[IntArray, int]:
    """Multipliers and shift that bring ``2**exponents`` to ``2**target``; left shifts are multipliers 2^j."""
    right = target - exponents
    shift = max(0, int(right.max()))
    left = shift - right
    if shift > _LARGEST_SHIFT or int(left.max()) > _LARGEST_LEFT:
        raise _too_far(name)
    return np.left_shift(np.int64(1), left), shift


def _too_far(name: str) -> ModelStructureError:
    return ModelStructureError(
        f"the scales before and after '{name}' are too far apart for a 16-bit multiplier and a 6-bit shift",
        f"exponents of one layer within {_LARGEST_LEFT} of each other",
        "quantize the float model again with this hetfab",
    )


def _check_accumulator(term: DenseTerm, name: str) -> None:
    largest = 1 << 7 if term.input.signed else (1 << 8) - 1
    worst = int((np.abs(term.weight).sum(axis=0) * largest + np.abs(term.bias)).max(initial=0))
    if worst >= 1 << (ACCUMULATOR_BITS - 1):
        raise OverflowPossibleError(
            f"the sums of '{name}' can reach {worst}, which takes {math.ceil(math.log2(worst)) + 1} bits",
            f"at most {ACCUMULATOR_BITS} bits",
            "quantize with a larger weight scale, or split the layer's input channels into two layers",
        )


def _export(draft: _Draft, name: str) -> tuple[Stored, int]:
    """Ends the layer that computes the logits; the second value is the exponent of their LSB."""
    value = draft.values.get(name)
    match value:
        case _Sum(exponent):
            output = Stored(name, _channels(value), 32, True, exponent - Q8_BITS, "output")
            draft.layers.append(_sum_layer(LayerKind.EXPORT_SUMS, value, output, relu=False))
            lsb = exponent
        case DenseTerm() if np.all(value.exponents == value.exponents[0]):
            output = Stored(name, _channels(value), 32, True, int(value.exponents[0]), "output")
            none = np.zeros(0, np.int64)
            draft.layers.append(LoweredLayer(LayerKind.EXPORT_ACCUMULATORS, output, value, none, 0, (), 0, 0, False))
            lsb = value.input.exponent
        case _:
            raise OperatorsUnsupportedError(
                f"the output '{name}' is neither a sum in Q.8 nor a dense layer with one scale for all classes",
                "logits at one scale",
                "quantize the float model again with this hetfab",
            )
    return draft.store(output), lsb


def _node_types(draft: _Draft) -> dict[str, str]:
    """Whose nodes the rows of each stored tensor are, from features and edges, carried through the layers."""
    types: dict[str, str] = {}

    def note(tensor: Stored, node_type: str) -> None:
        found = types.setdefault(tensor.name, node_type)
        if found != node_type:
            raise ModelStructureError(
                f"the rows of '{tensor.name}' are nodes of type '{found}' and of type '{node_type}'",
                "one node type per tensor",
                "correct the input binding (`--bind FILE`), or the model",
            )

    for tensor in draft.stored.values():
        binding = draft.bindings.get(tensor.name)
        if tensor.origin == "features" and isinstance(binding, Features):
            note(tensor, binding.type)
    for layer in draft.layers:
        for aggregation in layer.aggregations:
            note(aggregation.input, aggregation.edges.source_type)
            note(layer.output, aggregation.edges.destination_type)
    pairs = [(layer.dense.input, layer.output) for layer in draft.layers if layer.dense is not None]
    while True:
        known = len(types)
        for left, right in pairs:
            if left.name in types:
                note(right, types[left.name])
            elif right.name in types:
                note(left, types[right.name])
        if len(types) == known:
            break
    missing = [name for name in draft.stored if name not in types]
    if missing:
        raise ModelStructureError(
            "nothing says whose nodes the rows of these tensors are: " + ", ".join(missing),
            "a path of dense layers to features or to an aggregation",
            "remove the unused layers from the model",
        )
    return types
