# SPDX-License-Identifier: Apache-2.0
"""Chooses the order in which channels are stored, so that each core gets the output channels that it serves best.

GEMM-L needs a step for each bit of a weight, GEMM-D does not, and a channel's sums may be too wide for GEMM-L: wide
channels belong on GEMM-D, narrow ones on GEMM-L. Tensors that meet in a sum share one order (docs/gemm.md).
"""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from hetfab.overlay.compiler.lowered import DenseTerm, IntArray, LoweredLayer, LoweredModel, Stored
from hetfab.overlay.compiler.operands import GEMM_L
from hetfab.overlay.compiler.planning import PlannedLayer, plan_layers
from hetfab.overlay.compiler.tiling import ColumnRange
from hetfab.overlay.design import Geometry
from hetfab.overlay.model.scales import Scales


def with_best_orders(lowered: LoweredModel, geometry: Geometry, share_on_d: float | None = None) -> LoweredModel:
    """The same layers, channels in other orders where the plan is faster for it.

    Args:
        lowered: The layers.
        geometry: The design's geometry.
        share_on_d: As for ``plan_layers``.

    Raises:
        InputError: As ``plan_layers``.
    """
    given = plan_layers(lowered, geometry, share_on_d)
    if not any(_differ(layer) for layer in given) or _ordered_by_meaning(lowered):
        return lowered
    groups = tensors_in_one_order(lowered)
    orders = _best_alone(plan_layers(lowered, geometry, share_on_d, any_order=True), groups)
    ordered = plan_layers(reordered(lowered, orders), geometry, share_on_d)
    before, after = _row_cycles(given, groups), _row_cycles(ordered, groups)
    faster = {group for group in after if after[group] < before[group]}
    return reordered(lowered, {name: order for name, order in orders.items() if groups[name] in faster})


def tensors_in_one_order(lowered: LoweredModel) -> dict[str, str]:
    """The group of each tensor, named by one of its tensors: a sum has the order of all that it adds."""
    groups = {name: name for name in lowered.stored}
    for layer in lowered.layers:
        for aggregation in layer.aggregations:
            old, new = groups[aggregation.input.name], groups[layer.output.name]
            groups = {name: new if group == old else group for name, group in groups.items()}
    return groups


def reordered(lowered: LoweredModel, orders: Mapping[str, IntArray]) -> LoweredModel:
    """The same layers with channels in other orders.

    Args:
        lowered: The layers.
        orders: Of tensors by name, the channel that comes to each position; all tensors of a group have the same.
    """
    stored = {name: _stored(tensor, orders.get(name)) for name, tensor in lowered.stored.items()}
    layers = tuple(_layer(layer, stored, orders) for layer in lowered.layers)
    return replace(lowered, layers=layers, stored=stored, output=stored[lowered.output.name])


def _stored(tensor: Stored, order: IntArray | None) -> Stored:
    if order is None:
        return tensor
    values = None if tensor.values is None else tensor.values[:, order]
    return replace(tensor, order=order if tensor.order is None else tensor.order[order], values=values)


def _layer(layer: LoweredLayer, stored: Mapping[str, Stored], orders: Mapping[str, IntArray]) -> LoweredLayer:
    columns = orders.get(layer.output.name, np.arange(layer.output.channels))
    return replace(
        layer,
        output=stored[layer.output.name],
        dense=None if layer.dense is None else _dense(layer.dense, stored, orders, columns),
        multiplier=layer.multiplier[columns] if layer.multiplier.size else layer.multiplier,
        aggregations=tuple(each.reading(stored) for each in layer.aggregations),
    )


def _dense(
    dense: DenseTerm, stored: Mapping[str, Stored], orders: Mapping[str, IntArray], columns: IntArray
) -> DenseTerm:
    """A product whose rows of weights follow the order of its input, its columns that of its output."""
    rows = orders.get(dense.input.name, np.arange(dense.input.channels))
    return DenseTerm(
        input=stored[dense.input.name],
        weight=dense.weight[np.ix_(rows, columns)],
        weight_bits=dense.weight_bits[columns],
        bias=dense.bias[columns],
        scales=Scales(dense.scales.mantissas[columns], dense.scales.exponents[columns]),
    )


def _ordered_by_meaning(lowered: LoweredModel) -> bool:
    """Whether places of channels mean something: heads, parts of a row, numbers of a row that are normalized."""
    joined = any(layer.dense is not None and layer.dense.parts for layer in lowered.layers)
    attends = any(each.attention is not None for layer in lowered.layers for each in layer.aggregations)
    return joined or attends or bool(lowered.stacks) or any(layer.normalization is not None for layer in lowered.layers)


def _differ(planned: PlannedLayer) -> bool:
    """Whether output channels take different numbers of planes on GEMM-L, or do not all fit its sums."""
    operands = planned.operands
    return operands is not None and GEMM_L in operands.cores and len(set(operands.planes)) > 1


def _best_alone(planned: tuple[PlannedLayer, ...], groups: Mapping[str, str]) -> dict[str, IntArray]:
    """Of each tensor whose group has layers with differing channels: the order for that with the most weights."""
    mixed: dict[str, list[PlannedLayer]] = defaultdict(list)
    for layer in filter(_differ, planned):
        mixed[groups[layer.layer.output.name]].append(layer)
    orders = {}
    for group, layers in mixed.items():
        layers.sort(key=_weights, reverse=True)
        others = np.sum([np.multiply(_weights(each), _planes(each)) for each in layers], axis=0)
        orders[group] = arranged(_planes(layers[0]), layers[0].tile.passes, others)
    return {name: orders[group] for name, group in groups.items() if group in orders}


def arranged(planes: IntArray, passes: tuple[ColumnRange, ...], others: IntArray) -> IntArray:
    """The order in which GEMM-L gets the channels of the fewest planes, pass by pass, and GEMM-D the rest.

    Args:
        planes: Of each channel on GEMM-L, [N].
        passes: How many channels each core gets.
        others: What decides between channels of as many planes: the lower goes to GEMM-L, [N].
    """
    rising = np.lexsort((others, planes))
    wide = np.sort(rising[sum(one.on_l for one in passes) :])
    parts: list[IntArray] = []
    taken_d = taken_l = 0
    for one in passes:
        narrow = rising[taken_l : taken_l + one.on_l]
        parts += [wide[taken_d : taken_d + one.on_d], np.sort(narrow)]
        taken_d, taken_l = taken_d + one.on_d, taken_l + one.on_l
    return np.concatenate(parts)


def _weights(planned: PlannedLayer) -> int:
    return 0 if planned.layer.dense is None else planned.layer.dense.weight.size


def _planes(planned: PlannedLayer) -> IntArray:
    return np.array(planned.operands.planes if planned.operands else (), np.int64)


def _row_cycles(planned: tuple[PlannedLayer, ...], groups: Mapping[str, str]) -> dict[str, float]:
    """Modelled cycles of a row, by group; how many rows each type has is the graph's."""
    cycles: dict[str, float] = defaultdict(float)
    for layer in planned:
        cycles[groups[layer.layer.output.name]] += layer.tile.row_cycles
    return cycles
