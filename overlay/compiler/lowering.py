# SPDX-License-Identifier: Apache-2.0
"""Lowers a quantized ONNX model to integer layers: what each instruction sequence computes, with all its numbers.

The nodes are interpreted in order; each tensor gets a value that says what is known of it. A ``Quant`` node of a
computed tensor, and the model's output, end a layer. The arithmetic is that of docs/arithmetic.md.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
import onnx

from hetfab.overlay.compiler.layer_ends import (
    Rectified,
    Sum,
    channels_of,
    exported_layer,
)
from hetfab.overlay.compiler.lowered import (
    SCORE_BITS,
    DenseTerm,
    LoweredModel,
    Stored,
)
from hetfab.overlay.compiler.lowering_aggregations import AGGREGATIONS
from hetfab.overlay.compiler.lowering_draft import (
    Draft,
    FloatConstant,
    FloatInput,
    Integers,
    Joined,
    OnHost,
    RefusedError,
    Value,
    Weights,
    Wide,
    check_accumulator,
    constant_of,
    exponent_of,
    rows_of,
    stored_layer,
    to_integers,
)
from hetfab.overlay.compiler.lowering_host import on_host, rounded_on_host
from hetfab.overlay.compiler.lowering_rows import (
    ROWS,
    padded_parts,
    part_of,
    side_by_side,
    stacked_rows,
    wide_arguments,
)
from hetfab.overlay.compiler.repeats import without_repeats
from hetfab.overlay.compiler.row_types import row_types
from hetfab.overlay.errors import (
    HostFallbackError,
    NotQuantizedError,
    OperatorsUnsupportedError,
    counted,
)
from hetfab.overlay.host_nodes import FALLBACK_OFFER, Fallback
from hetfab.overlay.isa.arithmetic import ACCUMULATOR_BITS, ACTIVATION_BITS, Q8_BITS, TERM_BITS, WEIGHT_BITS
from hetfab.overlay.model import hgnn
from hetfab.overlay.model.binding import Binding, Features
from hetfab.overlay.model.layers import attributes, constants_of, describe
from hetfab.overlay.model.reader import graph_inputs, is_quantized, opset
from hetfab.overlay.model.scales import Scales, exact_scales

_BIAS_BITS = ACCUMULATOR_BITS
#: Of weights behind a Quant; one bit is behind a BipolarQuant.
_QUANT_WEIGHT_BITS = WEIGHT_BITS[1:]


def lower(model: onnx.ModelProto, bindings: Mapping[str, Binding], fallback: Fallback = Fallback.NONE) -> LoweredModel:
    """Lowers a quantized model.

    Args:
        model: As ``hetfab quantize`` writes it.
        bindings: Its input binding, with all relations in full.
        fallback: Whether the host runs operators on rows that no layer covers.

    Raises:
        NotQuantizedError: It has no ``Quant`` operator.
        OperatorsUnsupportedError: Operators that no layer covers, all at once.
        HostFallbackError: Nothing would be left for the overlay.
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
    constants: dict[str, Value] = {name: FloatConstant(array) for name, array in constants_of(model).items()}
    name = model.graph.output[0].name
    draft = Draft(bindings, constants, arguments=wide_arguments(model), output=name)
    for value in graph_inputs(model):
        if isinstance(bindings.get(value.name), Features):
            draft.values[value.name] = FloatInput(value.name, value.type.tensor_type.shape.dim[1].dim_value)
    unknown: set[str] = set()
    helped = False
    for node in model.graph.node:
        if any(name in unknown for name in node.input):
            unknown.update(node.output)
            continue
        try:
            draft.values[node.output[0]] = _RULES.get((node.domain, node.op_type), _refuse)(draft, node)
        except RefusedError as error:
            hosted = on_host(draft, node, opset(model))
            if hosted is not None and fallback is Fallback.HOST:
                draft.values[node.output[0]] = hosted
                continue
            helped = helped or hosted is not None
            draft.refused.append(f"{describe(node)}: {error}")
            unknown.update(node.output)
    if draft.refused:
        raise OperatorsUnsupportedError(
            f"{counted(len(draft.refused), 'operator')} cannot be compiled:",
            "the layers that `hetfab quantize` writes",
            "quantize the float model again with this hetfab" + (FALLBACK_OFFER if helped else ""),
            draft.refused,
        )
    output, lsb = _logits(draft)
    _check_layers(draft)
    found = row_types(draft.stored.values(), draft.layers, bindings, draft.parts, draft.stacks.values(), draft.host)
    names = {stack.name for stack in found.stacks}
    fixed = {
        found.types[tensor.name]: len(tensor.values)
        for tensor in draft.stored.values()
        if tensor.values is not None and found.types[tensor.name] not in names
    }
    lowered = LoweredModel(
        found.layers, draft.stored, found.types, fixed, output, lsb, found.stacks, draft.parts, tuple(draft.host)
    )
    return without_repeats(lowered)


def _logits(draft: Draft) -> tuple[Stored, int]:
    """The model's output, and the exponent of its LSB; a layer writes it, or the host."""
    name = draft.output
    value = draft.values.get(name)
    if isinstance(value, Stored) and value.origin == "output":
        return value, value.exponent
    last, lsb = exported_layer(value, name)
    draft.layers.append(last)
    return draft.store(last.output), lsb


def _check_layers(draft: Draft) -> None:
    if not draft.layers:
        raise HostFallbackError(
            "the host would run every operator of the model: " + ", ".join(step.operator for step in draft.host),
            "at least one layer that the overlay executes",
            "run the model in onnxruntime",
        )


def _refuse(draft: Draft, node: onnx.NodeProto) -> Value:
    raise RefusedError("the operator is not known")


def _quant(draft: Draft, node: onnx.NodeProto) -> Value:
    source, scale_name, zero_name, bits_name = node.input
    flags = attributes(node)
    signed, narrow = bool(flags.get("signed", 1)), bool(flags.get("narrow", 0))
    if np.any(constant_of(draft, zero_name) != 0) or flags.get("rounding_mode", b"ROUND") != b"ROUND":
        raise RefusedError("only zero points of 0 and the rounding mode ROUND are executed")
    bits = int(constant_of(draft, bits_name))
    scales = exact_scales(constant_of(draft, scale_name), node)
    value = draft.values.get(source)
    name = node.output[0]
    if isinstance(value, OnHost):
        return rounded_on_host(draft, value, node, logits=name == draft.output)
    match value:
        case FloatConstant(array):
            integers = to_integers(array, scales, bits, signed=signed, narrow=narrow)
            return Integers(integers, scales, bits, signed, narrow)
        case DenseTerm() as dense if bits == TERM_BITS and signed:
            return Sum(exponent_of(scales, node) + Q8_BITS, dense, ())
        case DenseTerm() | Sum() if name in draft.arguments:
            return Wide(value, bits, signed, exponent_of(scales, node))
        case DenseTerm() | Sum() | Rectified() if bits == SCORE_BITS and signed and not narrow:
            output = Stored(name, channels_of(value), bits, True, exponent_of(scales, node), "computed")
            return stored_layer(draft, value, output)
        case _ if bits not in ACTIVATION_BITS or narrow:
            raise RefusedError(
                f"it rounds to {bits} bits{', narrow' if narrow else ''}; tensors have {ACTIVATION_BITS[0]} to "
                f"{ACTIVATION_BITS[-1]} bits, not narrow, dense terms of a sum {TERM_BITS}"
            )
        case FloatInput(input_name, channels):
            exponent = exponent_of(scales, node)
            return draft.store(Stored(input_name, channels, bits, signed, exponent, "features"))
        case DenseTerm() | Sum() | Rectified():
            output = Stored(name, channels_of(value), bits, signed, exponent_of(scales, node), "computed")
            return stored_layer(draft, value, output)
    raise RefusedError(f"'{source}' is rounded twice, or is nothing that is rounded")


def _bipolar_quant(draft: Draft, node: onnx.NodeProto) -> Value:
    array, scale = (constant_of(draft, name) for name in node.input)
    columns = array.shape[-1]
    signs = np.where(array < 0, -1, 1).astype(np.int64)
    return Weights(signs, exact_scales(scale, node).of_columns(columns), np.ones(columns, np.int64))


def _concat(draft: Draft, node: onnx.NodeProto) -> Value:
    """Rows of several tensors, or weights of several widths, side by side: output channels of one layer."""
    if attributes(node).get("axis") == 0:
        return stacked_rows(draft, node)
    parts = [_weights(draft, name) for name in node.input]
    if attributes(node).get("axis") not in (1, -1):
        raise RefusedError("weights are joined along the output channels, axis 1")
    scales = Scales(
        np.concatenate([part.scales.mantissas for part in parts]),
        np.concatenate([part.scales.exponents for part in parts]),
    )
    values = np.concatenate([part.values for part in parts], axis=1)
    return Weights(values, scales, np.concatenate([part.bits for part in parts]))


def _weights(draft: Draft, name: str) -> Weights:
    """A constant as a layer's weights."""
    value = draft.values.get(name)
    if isinstance(value, Weights):
        return value
    if not isinstance(value, Integers) or value.values.ndim != 2:
        raise RefusedError(f"'{name}' is not a constant matrix behind its Quant or BipolarQuant")
    if not value.signed or value.bits not in _QUANT_WEIGHT_BITS or not (value.narrow or value.bits == 2):
        raise RefusedError(
            f"the weights '{name}' have {value.bits} bits, {'signed' if value.signed else 'unsigned'}, "
            f"{'narrow' if value.narrow else 'not narrow'}; weights have {_QUANT_WEIGHT_BITS[0]} to "
            f"{_QUANT_WEIGHT_BITS[-1]} bits, signed and, from 3 bits on, narrow; BipolarQuant is 1 bit"
        )
    columns = value.values.shape[1]
    return Weights(value.values, value.scales.of_columns(columns), np.full(columns, value.bits))


def _matmul(draft: Draft, node: onnx.NodeProto) -> Value:
    joined = draft.values.get(node.input[0])
    parts = joined.parts if isinstance(joined, Joined) else 1
    rows = joined.rows if isinstance(joined, Joined) else rows_of(draft, node.input[0], node)
    weights, inputs = _weights(draft, node.input[1]), parts * rows.channels
    if weights.values.shape[0] != inputs:
        raise RefusedError(
            f"it multiplies {counted(inputs, 'channel')} by {counted(weights.values.shape[0], 'row')} of weights"
        )
    bias = np.zeros(weights.values.shape[1], np.int64)
    scales, values = weights.scales.times_power(rows.exponent), weights.values
    places: tuple[Stored, ...] = ()
    if isinstance(joined, Joined):
        values, places = (
            padded_parts(values, weights.bits, parts),
            tuple(part_of(draft, rows, part) for part in range(parts)),
        )
    term = DenseTerm(rows, values, weights.bits, bias, scales, places)
    check_accumulator(term, node.output[0])
    return term


def _add(draft: Draft, node: onnx.NodeProto) -> Value:
    left, right = (draft.values.get(name) for name in node.input)
    if isinstance(left, Integers):
        left, right = right, left
    match left, right:
        case DenseTerm(), DenseTerm():
            term = side_by_side(left, right)
            check_accumulator(term, node.output[0])
            return term
        case DenseTerm(), Integers(values=values, scales=scales, bits=bits, signed=True) if bits == _BIAS_BITS:
            if not scales.of_columns(left.bias.size).equal(left.scales):
                raise RefusedError("the bias does not have the scale of the products")
            term = replace(left, bias=left.bias + values.reshape(-1))
            check_accumulator(term, node.output[0])
            return term
        case Sum(bias=None), Integers(values=values, bits=bits, signed=True) if bits == TERM_BITS:
            if not right.scales.equal(_unit_of(left)):
                raise RefusedError("the bias does not have the step of the sum")
            return replace(left, bias=values.reshape(-1))
        case Sum(exponent, dense, means, bias), Sum(other, other_dense, other_means, other_bias):
            if bias is not None or other_bias is not None:
                raise RefusedError("it adds to a sum with a bias")
            if exponent != other:
                raise RefusedError("its operands have different scales")
            if dense is not None and other_dense is not None:
                raise RefusedError("it adds two dense terms")
            return Sum(exponent, dense or other_dense, means + other_means)
    raise RefusedError("it adds something other than a bias or terms in Q.8")


def _unit_of(value: Sum) -> Scales:
    """The step of a sum."""
    return Scales(np.ones(1, np.int64), np.array([value.exponent - Q8_BITS]))


def _relu(draft: Draft, node: onnx.NodeProto) -> Value:
    match draft.values.get(node.input[0]):
        case FloatConstant(array):
            return FloatConstant(np.maximum(array, 0))
        case (DenseTerm() | Sum()) as value:
            return Rectified(value)
    raise RefusedError("it does not follow a dense layer or a sum")


#: (domain, operator) -> rule.
_RULES: dict[tuple[str, str], Callable[[Draft, onnx.NodeProto], Value]] = {
    (hgnn.QUANT_DOMAIN, "Quant"): _quant,
    (hgnn.QUANT_DOMAIN, "BipolarQuant"): _bipolar_quant,
    ("", "Concat"): _concat,
    ("", "MatMul"): _matmul,
    ("", "Add"): _add,
    ("", "Relu"): _relu,
    **AGGREGATIONS,
    **ROWS,
}
