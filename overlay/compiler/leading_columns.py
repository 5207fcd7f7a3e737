# SPDX-License-Identifier: Apache-2.0
"""Features whose most frequent columns stand in rows, for the matrix engines, and the others' non-zeros as edges.

Columns of bags of words are uneven: few of them hold most of the non-zeros. The matrix engines multiply those at little
cost, AGG sums the rest at the same time, and VEC adds both before it rounds (docs/planning.md).
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from hetfab.overlay.compiler.lowered import IntArray, LayerKind, LoweredLayer, LoweredModel
from hetfab.overlay.compiler.projection_work import Work

#: What a millisecond of an engine counts beside one of the layer alone; fitted to whole models on public graphs.
_BUSY = 2
#: Of what is taken so far, the cost below which columns lead: less gain is lost where layers meet.
_WORTH = 0.9
#: Numbers of columns that may lead: whole blocks of a row.
_TRIED = (64, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048)


@dataclass(frozen=True, eq=False)
class Joined:
    """The layers that read features of which some columns stand in rows.

    Attributes:
        order: The columns, the most frequent first.
        leading: How many stand in rows.
        works: What each layer takes, by name.
    """

    order: IntArray
    leading: int
    works: Mapping[str, Work]

    @property
    def milliseconds(self) -> float:
        """Modelled time of the layers, each alone."""
        return sum(work.milliseconds for work in self.works.values())

    @property
    def cost(self) -> float:
        """What the layers cost a program."""
        return cost_of(self.works.values())


def cost_of(works: Iterable[Work]) -> float:
    """What layers cost a program, in modelled milliseconds, weighted.

    A layer alone takes as long as its busier engine. In a program the other one is missed by other layers too: each
    millisecond of AGG and of the matrix engines counts.
    """
    return sum(each.milliseconds + _BUSY * (each.agg_milliseconds + each.core_milliseconds) for each in works)


def can_lead(lowered: LoweredModel, features: str) -> bool:
    """Whether columns of features may lead: dense layers that end alone by a requantization are all that reads them."""
    read_otherwise = {tensor.name for layer in lowered.layers for each in layer.aggregations for tensor in each.reads}
    read_otherwise |= {name for step in lowered.host for name in step.inputs}
    read_otherwise |= {*lowered.parts, *(part.whole for part in lowered.parts.values())}
    return features not in read_otherwise and all(_joins(layer) for layer in readers(lowered, features))


def readers(lowered: LoweredModel, features: str) -> list[LoweredLayer]:
    """The layers whose dense term reads a tensor."""
    return [
        layer
        for layer in lowered.layers
        if layer.dense is not None and features in {tensor.name for tensor in layer.dense.reads}
    ]


def _joins(layer: LoweredLayer) -> bool:
    """Whether VEC can add a product and a sum of AGG where it ends this layer."""
    alone = layer.dense is not None and not layer.dense.parts and not layer.aggregations
    return alone and layer.kind is LayerKind.REQUANTIZE


def with_leading(lowered: LoweredModel, features: str, order: IntArray, leading: int) -> LoweredModel:
    """The same layers where the first columns of features in an order stand in rows.

    Args:
        lowered: The layers; those that read these features gather them.
        features: The tensor, whose columns are in the model's order.
        order: All columns.
        leading: How many stand in rows.
    """
    split = replace(lowered.stored[features], order=order, leading=leading)

    def reading(layer: LoweredLayer) -> LoweredLayer:
        dense = layer.dense
        if dense is None or dense.input.name != features:
            return layer
        return replace(layer, dense=replace(dense, input=split, weight=dense.weight[order]))

    layers = tuple(reading(layer) for layer in lowered.layers)
    return replace(lowered, layers=layers, stored={**lowered.stored, features: split})


def best_leading(
    counts: IntArray,
    dense: float,
    by_nonzeros: float,
    taken: Sequence[Work],
    tried: Callable[[IntArray, int], Mapping[str, Work] | None],
) -> Joined | None:
    """How many columns lead where that costs clearly less than what is taken so far, None where it does not.

    Sizes are tried from the one with the least expected cost on, as long as costs fall; where neither it nor its
    neighbours fit the buffers, from the largest below that does.

    Args:
        counts: Non-zeros of each column, [columns].
        dense: Milliseconds of the matrix engines where all columns stand in rows.
        by_nonzeros: Milliseconds of AGG where none does.
        taken: What the layers that read the features take so far.
        tried: What each layer takes with an order of the columns and a number of those that lead, None where a buffer
            is too small.
    """
    order = np.argsort(-counts, kind="stable")
    others = 1 - np.cumsum(counts[order]) / max(counts.sum(), 1)
    sizes = [size for size in _TRIED if size < len(counts)]
    engines = [(by_nonzeros * others[size - 1], dense * size / len(counts)) for size in sizes]
    expected = [max(each) + _BUSY * sum(each) for each in engines]
    if min(expected, default=math.inf) >= cost_of(taken):
        return None
    found: dict[int, Joined | None] = {}

    def cost(place: int) -> float:
        if not 0 <= place < len(sizes):
            return math.inf
        if place not in found:
            works = tried(order, sizes[place])
            found[place] = None if works is None else Joined(order, sizes[place], works)
        joined = found[place]
        return math.inf if joined is None else joined.cost

    best = expected.index(min(expected))
    if all(math.isinf(cost(best + step)) for step in (0, 1, -1)):
        while best > 0 and math.isinf(cost(best)):
            best -= 1
    for step in (1, -1):
        while cost(best + step) < cost(best):
            best += step
    joined = found[best]
    faster = joined is not None and joined.milliseconds < sum(work.milliseconds for work in taken)
    return joined if joined is not None and faster and joined.cost < _WORTH * cost_of(taken) else None
