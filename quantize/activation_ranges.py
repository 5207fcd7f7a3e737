# SPDX-License-Identifier: Apache-2.0
"""Ranges of a model's tensors: of those that share a scale at once, and with room for what joins them in sums."""

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from hetfab.overlay.isa.arithmetic import Q8_BITS, TERM_BITS
from hetfab.overlay.model.host_operators import never_negative
from hetfab.overlay.model.layers import (
    Function,
    HostOperator,
    JoinParts,
    Layer,
    LayerGraph,
    LayerNorm,
    Relu,
    Stack,
    Unary,
)
from hetfab.quantize.functions import argument_range, norm_range
from hetfab.quantize.points import QuantizationPoints
from hetfab.quantize.ranges import ActivationRange, Criterion
from hetfab.quantize.weights import LARGEST_SPREAD, LayerWeights

FloatArray: TypeAlias = npt.NDArray[np.float32]
#: Range of tensors that share a scale, by the first of them and whether one of them is signed.
Chooser: TypeAlias = Callable[[str, bool], ActivationRange]


def ranges_of(points: QuantizationPoints, unsigned: frozenset[str], choose: Chooser) -> dict[str, ActivationRange]:
    """Ranges of stored tensors.

    Args:
        points: Where tensors become integers.
        unsigned: Tensors without negative values.
        choose: Gives the range of a family.
    """
    ranges: dict[str, ActivationRange] = {}
    for name in points.stored:
        if name in ranges:
            continue
        family = points.family(name)
        shared = choose(name, not family <= unsigned)
        for member in family:
            ranges[member] = replace(shared, signed=member not in unsigned)
    return ranges


def unsigned_tensors(
    graph: LayerGraph, points: QuantizationPoints, observed: Mapping[str, FloatArray]
) -> frozenset[str]:
    """Stored tensors without negative values: what functions made so, inputs and tables, and stacks of such tensors."""
    computed = {layer.output: layer for layer in graph.layers}
    positive = {name for name in points.stored if _is_positive(computed.get(name), observed[name])}
    return frozenset(name for name in points.stored if points.copies_of(name) - _stacks(graph) <= positive)


def _is_positive(layer: Layer | None, values: FloatArray) -> bool:
    match layer:
        case None:
            return not (values < 0).any()
        case Relu() | LayerNorm(relu=True) | Unary(function=Function.SIGMOID):
            return True
        case HostOperator():
            return never_negative(layer)
    return False


def _stacks(graph: LayerGraph) -> frozenset[str]:
    """Tensors that are made of the rows of others."""
    return frozenset(layer.output for layer in graph.layers if isinstance(layer, Stack | JoinParts))


def inner_ranges(
    graph: LayerGraph, points: QuantizationPoints, observed: Mapping[str, FloatArray], criterion: Criterion
) -> dict[str, ActivationRange]:
    """Ranges of what functions and norms read."""
    ranges = {
        layer.input: argument_range(layer, observed[layer.input], criterion)
        for layer in graph.layers
        if isinstance(layer, Unary)
    }
    for members in points.norms:
        shared = norm_range(np.concatenate([observed[name] for name in sorted(members)]))
        ranges |= dict.fromkeys(members, shared)
    return ranges


def with_room(
    ranges: dict[str, ActivationRange],
    graph: LayerGraph,
    points: QuantizationPoints,
    weights: Mapping[str, LayerWeights],
    largest: Mapping[str, float],
) -> dict[str, ActivationRange]:
    """Makes the scale of a sum so coarse that its dense term fits 24 bits and its multipliers 16 bits.

    Where a dense term is hundreds of times larger than what is aggregated, the aggregated tensors' own scale is too
    fine for it. A coarser scale there changes the scale of other dense terms that read the same tensors.
    """
    rooms = dict(ranges)
    for _ in points.groups:
        for group in points.groups:
            if not group.dense:
                continue
            term, rows = group.product, group.dense[0].input
            magnitude = largest[term] if term in largest else float(np.abs(graph.tables[rows]).max(initial=0.0))
            of_products = [weights[each.output].largest_exponent + rooms[each.input].exponent for each in group.dense]
            needed = max(of_products) - LARGEST_SPREAD + Q8_BITS
            if magnitude > 0.0:
                highest = (1 << (TERM_BITS - 1)) - 1
                needed = max(needed, math.ceil(math.log2(magnitude / highest)) + Q8_BITS)
            for member in points.family(group.aggregations[0].input):
                rooms[member] = replace(rooms[member], exponent=max(rooms[member].exponent, needed))
    return rooms
