# SPDX-License-Identifier: Apache-2.0
"""Orders the edge sets of each layer so that source vectors which one has loaded stay for the next.

Aggregates are integers, so any order gives the same bits. A vector is one vertex's row of the aggregated tensor.
"""

from dataclasses import dataclass, replace

import numpy as np

from hetfab.overlay.compiler.graph_facts import GraphFacts
from hetfab.overlay.compiler.lowered import Aggregation, LoweredLayer, LoweredModel
from hetfab.overlay.isa.spec import isa
from hetfab.overlay.layouts import blocks_of
from hetfab.overlay.semantic.order import best_order, kept_bytes


@dataclass(frozen=True)
class RelationOrder:
    """The order of a layer's edge sets.

    Attributes:
        layer: Its name.
        edges: Names of the edge sets as they are aggregated.
        loaded_bytes: Bytes of source vectors when each edge set loads its own.
        given_bytes: Bytes that are loaded anew in the model's order, when what fits the buffer stays from one edge
            set to the next.
        bytes: The same in the chosen order.
    """

    layer: str
    edges: tuple[str, ...]
    loaded_bytes: int
    given_bytes: int
    bytes: int


def order_relations(
    lowered: LoweredModel, facts: GraphFacts | None, buffer_bytes: int
) -> tuple[LoweredModel, tuple[RelationOrder, ...]]:
    """The model with each layer's edge sets in the best order, and what that saves; as it is without facts.

    Args:
        lowered: The layers.
        facts: What is known of the graph.
        buffer_bytes: What stays of one edge set's vectors for the next.
    """
    if facts is None:
        return lowered, ()
    layers, orders = [], []
    for layer in lowered.layers:
        if len(layer.aggregations) > 1 and all(each.edges in facts.sources for each in layer.aggregations):
            layer, found = _ordered(layer, facts, buffer_bytes)
            orders.append(found)
        layers.append(layer)
    return replace(lowered, layers=tuple(layers)), tuple(orders)


def _ordered(layer: LoweredLayer, facts: GraphFacts, buffer_bytes: int) -> tuple[LoweredLayer, RelationOrder]:
    given = layer.aggregations
    shared = np.array(
        [
            [0 if one is other else min(_shared_bytes(one, other, facts), buffer_bytes) for other in given]
            for one in given
        ]
    )
    order = best_order(shared)
    loaded = sum(_bytes(each, facts.sources[each.edges].count) for each in given)
    chosen = tuple(given[number] for number in order)
    found = RelationOrder(
        layer.output.name,
        tuple(each.edges.name for each in chosen),
        loaded,
        loaded - kept_bytes(shared, tuple(range(len(given)))),
        loaded - kept_bytes(shared, order),
    )
    return replace(layer, aggregations=chosen), found


def _shared_bytes(one: Aggregation, other: Aggregation, facts: GraphFacts) -> int:
    """Bytes of the vectors that two edge sets both read: none unless they read one tensor."""
    if one.input is not other.input:
        return 0
    vertices = facts.counts[one.edges.source_type]
    return _bytes(one, facts.sources[one.edges].in_common(facts.sources[other.edges], vertices))


def _bytes(aggregation: Aggregation, vectors: int) -> int:
    return vectors * blocks_of(aggregation.input.channels) * isa().block_bytes
