# SPDX-License-Identifier: Apache-2.0
"""Plans the semantic graphs of a graph's metapaths. It needs only numpy."""

from hetfab.driver.graph.heterograph import HeteroGraph
from hetfab.driver.graph.summary import reverse_pairs
from hetfab.overlay.model.schema import Relation
from hetfab.overlay.semantic.adjacency import Adjacency, adjacency
from hetfab.overlay.semantic.plan import DEFAULT_LIMIT_BYTES, Plan, plan_semantic_graphs


def adjacencies(graph: HeteroGraph) -> dict[Relation, Adjacency]:
    """Each relation of a graph without duplicate edges."""
    return {
        relation: adjacency(
            edges.source, edges.destination, graph.counts[relation.source], graph.counts[relation.destination]
        )
        for relation, edges in graph.relations.items()
    }


def plan_metapaths(
    graph: HeteroGraph, relations: dict[Relation, Adjacency], limit_bytes: int = DEFAULT_LIMIT_BYTES
) -> Plan:
    """Plans the semantic graphs of all metapaths that a graph names.

    Args:
        graph: The graph.
        relations: As ``adjacencies`` gives them.
        limit_bytes: Memory that semantic graphs may take at once.

    Raises:
        LimitExceededError: The estimate is above the limit.
    """
    return plan_semantic_graphs(graph.metapaths, relations, reverse_pairs(graph), limit_bytes)
