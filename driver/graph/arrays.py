# SPDX-License-Identifier: Apache-2.0
"""Takes from a graph the plain arrays that binding a program needs. Relations need numpy, metapaths scipy."""

import numpy as np

from hetfab.driver.graph.feeds import (
    SemanticGraphs,
    edge_types,
    edge_weights,
    in_degree_weights,
    incoming,
    joined_edges,
    looped_edges,
    semantic_edges,
    stacked_edges,
)
from hetfab.driver.graph.heterograph import Edges as GraphEdges
from hetfab.driver.graph.heterograph import HeteroGraph
from hetfab.overlay.bind import GraphArrays, IncomingEdges
from hetfab.overlay.errors import RelationMissingError
from hetfab.overlay.model.schema import Relation
from hetfab.overlay.program import Edges, Program


def graph_arrays(program: Program, graph: HeteroGraph, semantic: SemanticGraphs | None = None) -> GraphArrays:
    """Takes what a program reads from a graph.

    Args:
        program: The program.
        graph: The graph.
        semantic: Semantic graphs that are there already; others are composed.

    Raises:
        RelationMissingError: The graph lacks relations of the program; all are named.
    """
    missing = [
        str(relation) for edges in program.edges for relation in edges.relations if relation not in graph.relations
    ]
    if missing:
        raise RelationMissingError(
            f"the graph '{graph.name}' lacks relations that the program reads: {', '.join(dict.fromkeys(missing))}",
            f"a graph with them; this one has {', '.join(map(str, graph.relations)) or 'none'}",
            "use the graph that the model was made for, or compile a model for this one",
        )
    features = {
        tensor.name: graph.features[tensor.node_type]
        for tensor in program.tensors
        if tensor.segment in ("features", "graph") and tensor.node_type in graph.features
    }
    edges = {e.name: all_incoming(e, program, graph, semantic or {}) for e in program.edges if e.of_graph}
    return GraphArrays(graph.counts, features, edges)


def all_incoming(edges: Edges, program: Program, graph: HeteroGraph, semantic: SemanticGraphs) -> IncomingEdges:
    """The edges of a set of a program into all its destinations; semantic graphs that are not given are composed."""
    if edges.stacked:
        return _incoming_stacked(edges, program, graph)
    if edges.self_loops:
        pairs = looped_edges(graph, edges.relations[0])
    elif edges.joined:
        pairs = joined_edges(graph, edges.relations)
    elif not edges.metapath:
        pairs = graph.relations[edges.relations[0]]
    elif edges.relations in semantic:
        pairs = semantic[edges.relations]
    else:
        pairs = semantic_edges(graph, edges.relations)
    found = incoming(pairs, graph.counts[edges.destination_type])
    if not edges.weighted:
        return found
    order = np.argsort(pairs.destination, kind="stable")
    if edges.by_destination:
        return found._replace(weights=in_degree_weights(pairs, graph.counts[edges.destination_type])[order])
    return found._replace(weights=edge_weights(graph, edges.relations[0])[order])


def _incoming_stacked(edges: Edges, program: Program, graph: HeteroGraph) -> IncomingEdges:
    """Edges of a stack into all its rows, or into those of one type."""
    types = program.stack(edges.source_type).types
    pairs = stacked_edges(graph, types, edges.relations, edges.self_loops)
    kinds = edge_types(graph, types, edges.relations, edges.self_loops)
    starts = program.stack(edges.source_type).starts(graph.counts)
    first, last = 0, starts[-1]
    if edges.destination_type in types:
        part = types.index(edges.destination_type)
        first, last = starts[part], starts[part + 1]
        inside = (pairs.destination >= first) & (pairs.destination < last)
        pairs, kinds = GraphEdges(pairs.source[inside], pairs.destination[inside] - first), kinds[inside]
    found = incoming(pairs, last - first)
    return found._replace(types=kinds[np.argsort(pairs.destination, kind="stable")])


def metapaths_of(program: Program) -> list[tuple[Relation, ...]]:
    """The metapaths whose semantic graphs a program reads."""
    return list(dict.fromkeys(edges.relations for edges in program.edges if edges.metapath))
