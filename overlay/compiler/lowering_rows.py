# SPDX-License-Identifier: Apache-2.0
"""Lowers what rearranges rows or works on each row alone: stacks, slices of them, tables and normalizations."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import onnx

from hetfab.overlay.compiler.layer_ends import Sum, channels_of, normalized_layer, requantized_copy, rounded_layer
from hetfab.overlay.compiler.lowered import (
    SCORE_BITS,
    Additive,
    Aggregation,
    DenseTerm,
    IntArray,
    Normalization,
    Product,
    StackPart,
    Stored,
    Table,
)
from hetfab.overlay.compiler.lowering_draft import (
    Draft,
    FloatConstant,
    Joined,
    RefusedError,
    Value,
    Wide,
    WideParts,
    constant_of,
    exponent_of,
    rows_of,
)
from hetfab.overlay.isa.spec import isa
from hetfab.overlay.model import hgnn
from hetfab.overlay.model.layers import attributes
from hetfab.overlay.model.scales import exact_scales

_TABLE, _NORM = (hgnn.DOMAIN, "QTable"), (hgnn.DOMAIN, "QLayerNorm")


def wide_arguments(model: onnx.ModelProto) -> frozenset[str]:
    """Tensors that tables and normalizations read, directly or stacked: their Quant ends no layer."""
    found = {node.input[0] for node in model.graph.node if (node.domain, node.op_type) in (_TABLE, _NORM)}
    for node in model.graph.node:
        if node.op_type == "Concat" and node.output[0] in found:
            found.update(node.input)
    return frozenset(found)


def stacked_rows(draft: Draft, node: onnx.NodeProto) -> Value:
    """Rows of several tensors, one behind the other: each is written to its place."""
    wide = tuple(value for name in node.input if isinstance(value := draft.values.get(name), Wide))
    if len(wide) == len(node.input):
        return WideParts(wide)
    name, tensors = node.output[0], [rows_of(draft, each, node) for each in node.input]
    first = tensors[0]
    if len(tensors) == 1:
        return first
    forms = {(each.channels, each.item_bytes, each.signed, each.exponent) for each in tensors}
    if len(forms) > 1:
        raise RefusedError("the tensors that it joins differ in channels, bytes, sign or scale")
    # The result of a table counts as 8 bits beside roundings to fewer: parts of a stack are not packed.
    bits = max(each.bits for each in tensors)
    whole = draft.store(replace(first, name=name, bits=bits, origin="computed", values=None))
    for number, tensor in enumerate(tensors):
        placed = tensor
        if tensor.origin != "computed" or tensor.name in draft.parts or number != tensors.index(tensor):
            placed = draft.store(replace(tensor, name=f"{name}, part {number}", origin="computed", values=None))
            draft.layers.append(requantized_copy(tensor, placed))
        draft.parts[placed.name] = StackPart(name, number)
    return whole


def _slice(draft: Draft, node: onnx.NodeProto) -> Value:
    """The first part of a stack: of a stored tensor, or of a sum before it is rounded."""
    starts, _, axes, *steps = (constant_of(draft, name).reshape(-1).tolist() for name in node.input[1:])
    if starts != [0] or axes != [0] or any(step != [1] for step in steps):
        raise RefusedError("it takes other rows than the first")
    match draft.values.get(node.input[0]):
        case Stored() as tensor:
            return part_of(draft, tensor, 0)
        case Sum() as value:
            dense = value.dense and _first_rows(draft, value.dense)
            return replace(
                value, dense=dense, aggregations=tuple(_into_first(draft, each) for each in value.aggregations)
            )
    raise RefusedError("it takes rows of what is neither stored nor a sum")


def _first_rows(draft: Draft, term: DenseTerm) -> DenseTerm:
    """A product of the first parts of the stacks that it reads."""
    parts = tuple(part_of(draft, part, 0) for part in term.parts)
    return replace(term, input=parts[0] if parts else part_of(draft, term.input, 0), parts=parts)


def part_of(draft: Draft, tensor: Stored, number: int) -> Stored:
    """A part of a stacked tensor, a tensor of its own in the same place."""
    place = StackPart(tensor.name, number)
    for name, part in draft.parts.items():
        if part == place:
            return draft.stored[name]
    view = draft.store(replace(tensor, name=f"{tensor.name}, part {number}"))
    draft.parts[view.name] = place
    return view


def _into_first(draft: Draft, aggregation: Aggregation) -> Aggregation:
    """The edges of a stack into its first type."""
    if not aggregation.edges.stacked:
        raise RefusedError("it takes rows of a sum over edges that lead to one type")
    first = draft.stacks[aggregation.edges.source_type].types[0]
    edges = replace(aggregation.edges, name=f"{aggregation.edges.name} into {first}", destination_type=first)
    attention = aggregation.attention
    match attention:
        case Additive(destination=Stored() as scores):
            attention = replace(attention, destination=part_of(draft, scores, 0))
        case Product(queries=queries):
            attention = replace(attention, queries=part_of(draft, queries, 0))
    return replace(aggregation, edges=edges, attention=attention)


def _table(draft: Draft, node: onnx.NodeProto) -> Value:
    """A unary function of a layer's result."""
    argument = draft.values.get(node.input[0])
    if not isinstance(argument, Wide):
        raise RefusedError("its argument is no layer's result behind its Quant")
    exponent = exponent_of(exact_scales(constant_of(draft, node.input[3]), node), node)
    entries = constant_of(draft, node.input[2]).astype(np.int64).reshape(-1)
    signed = bool(attributes(node).get("result_signed", 1))
    if argument.signed:
        # The file has them from the lowest argument on.
        entries = np.roll(entries, len(entries) // 2)
    output = draft.store(Stored(node.output[0], channels_of(argument.value), 8, signed, exponent, "computed"))
    limited = replace(output, bits=argument.bits, signed=argument.signed, exponent=argument.exponent)
    layer = rounded_layer(argument.value, limited)
    draft.layers.append(replace(layer, output=output, table=Table(argument.bits, argument.signed, entries)))
    return output


def _layer_norm(draft: Draft, node: onnx.NodeProto) -> Value:
    """Rows of a layer's result in 16 bits, normalized."""
    argument = draft.values.get(node.input[0])
    parts = argument.parts if isinstance(argument, WideParts) else (argument,)
    wide = [part for part in parts if isinstance(part, Wide) and part.bits == SCORE_BITS and part.signed]
    if len(wide) < len(parts):
        raise RefusedError("its argument is no layer's result of 16 bits")
    gain, offset, epsilon, shift, bits = (constant_of(draft, name) for name in node.input[2:7])
    exponent = exponent_of(exact_scales(constant_of(draft, node.input[7]), node), node)
    signed, channels = bool(attributes(node).get("signed", 1)), channels_of(wide[0].value)
    output = draft.store(Stored(node.output[0], channels, int(bits), signed, exponent, "computed"))
    normalization = Normalization(
        gain.astype(np.int64), offset.astype(np.int64), channels, int(epsilon), True, int(shift)
    )
    outputs = [output] if len(wide) == 1 else [part_of(draft, output, number) for number in range(len(wide))]
    for part, written in zip(wide, outputs, strict=True):
        draft.layers.append(normalized_layer(part.value, part.exponent, written, normalization))
    return output


def _join_parts(draft: Draft, node: onnx.NodeProto) -> Value:
    """The parts of a stack side by side."""
    return Joined(rows_of(draft, node.input[0], node), parts_of(node))


def padded_parts(weight: IntArray, bits: IntArray, parts: int) -> IntArray:
    """Weights of parts that stand side by side, with rows behind each part's up to whole blocks.

    They are zeros, or ones in columns of one bit, which have no zero; the activations that they meet are zeros.
    """
    own = len(weight) // parts
    padding = -own % isa().block_bytes
    behind = np.broadcast_to(bits == 1, (parts, padding, len(bits))).astype(weight.dtype)
    by_part = np.concatenate([weight.reshape(parts, own, -1), behind], axis=1)
    return by_part.reshape(parts * (own + padding), -1)


def side_by_side(left: DenseTerm, right: DenseTerm) -> DenseTerm:
    """The sum of two products as one, of the rows of both side by side."""
    if not left.scales.equal(right.scales):
        raise RefusedError("it adds products of different scales")
    if (left.weight_bits == 1).any() or (right.weight_bits == 1).any():
        raise RefusedError("it adds products of which one has weights of one bit")
    weights = [term.weight if term.parts else padded_parts(term.weight, term.weight_bits, 1) for term in (left, right)]
    return DenseTerm(
        left.reads[0],
        np.concatenate(weights),
        np.maximum(left.weight_bits, right.weight_bits),
        left.bias + right.bias,
        left.scales,
        (*left.reads, *right.reads),
    )


def parts_of(node: onnx.NodeProto) -> int:
    """How many parts an operator's stack has."""
    parts = attributes(node)["parts"]
    assert isinstance(parts, int)
    return parts


def _shape(draft: Draft, node: onnx.NodeProto) -> Value:
    """A number of rows, which bind knows."""
    return FloatConstant(np.zeros(0))


#: (domain, operator) -> rule.
ROWS: dict[tuple[str, str], Callable[[Draft, onnx.NodeProto], Value]] = {
    ("", "Slice"): _slice,
    ("", "Shape"): _shape,
    _TABLE: _table,
    _NORM: _layer_norm,
    (hgnn.DOMAIN, "JoinParts"): _join_parts,
}
