# SPDX-License-Identifier: Apache-2.0
"""Computes once what a model states several times: layers of equal numbers over the same input.

A model whose weights belong to node types may spell a type's projection anew for each relation; its vectors are then
shared by all of them.
"""

from dataclasses import replace
from typing import TypeAlias

from hetfab.overlay.compiler.lowered import (
    Additive,
    Aggregation,
    IntArray,
    LoweredLayer,
    LoweredModel,
    Normalization,
    Product,
    Stored,
)

_Key: TypeAlias = tuple[object, ...]


def without_repeats(lowered: LoweredModel) -> LoweredModel:
    """The same model in which layers that compute the same tensor are one."""
    kept: dict[_Key, LoweredLayer] = {}
    placed = set(lowered.parts) | {part.whole for part in lowered.parts.values()}
    stands_for: dict[str, Stored] = {}
    layers = []
    for given in lowered.layers:
        layer = _reading(given, stands_for)
        first = layer if layer.output.name in placed else kept.setdefault(_key(layer), layer)
        if first is layer:
            layers.append(layer)
        else:
            stands_for[layer.output.name] = first.output
    stored = {name: tensor for name, tensor in lowered.stored.items() if name not in stands_for}
    names = {name: tensor.name for name, tensor in stands_for.items()}
    host = tuple(replace(step, inputs=tuple(names.get(name, name) for name in step.inputs)) for step in lowered.host)
    return replace(lowered, layers=tuple(layers), stored=stored, host=host)


def _reading(layer: LoweredLayer, stands_for: dict[str, Stored]) -> LoweredLayer:
    """The layer with the tensors that stand for its inputs."""
    dense = layer.dense
    if dense is not None:
        parts = tuple(stands_for.get(part.name, part) for part in dense.parts)
        dense = replace(dense, input=stands_for.get(dense.input.name, dense.input), parts=parts)
    aggregations = tuple(each.reading(stands_for) for each in layer.aggregations)
    return replace(layer, dense=dense, aggregations=aggregations)


def _key(layer: LoweredLayer) -> _Key:
    """Everything that a layer's result depends on; logits are what they are, so they never stand for another."""
    output, dense = layer.output, layer.dense
    product: _Key = ()
    if dense is not None:
        names = tuple(tensor.name for tensor in dense.reads)
        product = (
            dense.input.name,
            names,
            *map(_content, (dense.weight, dense.weight_bits, dense.bias, layer.multiplier)),
        )
    return (
        layer.kind,
        (output.channels, output.bits, output.signed, output.exponent, output.mantissa),
        output.name if output.origin == "output" else "",
        product,
        tuple(_aggregation(each) for each in layer.aggregations),
        () if layer.table is None else (layer.table.bits, layer.table.signed, _content(layer.table.entries)),
        () if layer.normalization is None else _normalization(layer.normalization),
        () if layer.bias is None else _content(layer.bias),
        (layer.shift, layer.post_left, layer.post_shift, layer.relu),
    )


def _aggregation(aggregation: Aggregation) -> _Key:
    attention = aggregation.attention
    numbers: _Key = ()
    match attention:
        case Additive(slope=slope):
            numbers = (
                slope,
                *(
                    None if score is None else score.name
                    for score in (attention.source, attention.destination, attention.types)
                ),
            )
        case Product(heads=heads, exponent=exponent):
            numbers = (heads, exponent, attention.queries.name, attention.keys.name)
    return aggregation.input.name, aggregation.edges, type(attention), numbers


def _normalization(found: Normalization) -> _Key:
    numbers = found.factor, found.epsilon, found.centred, found.shift
    return *numbers, _content(found.gain), _content(found.offset)


def _content(values: IntArray) -> tuple[tuple[int, ...], bytes]:
    return values.shape, values.tobytes()
