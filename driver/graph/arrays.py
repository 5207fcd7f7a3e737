# SPDX-License-Identifier: Apache-2.0
"""Takes from a graph the plain arrays that binding a program needs. Relations need numpy, metapaths scipy."""

from hetfab.driver.graph.feeds import SemanticGraphs, incoming, semantic_edges
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
    edges = {edges.name: _incoming(edges, graph, semantic or {}) for edges in program.edges if not edges.features}
    return GraphArrays(graph.counts, features, edges)


def _incoming(edges: Edges, graph: HeteroGraph, semantic: SemanticGraphs) -> IncomingEdges:
    if not edges.metapath:
        pairs = graph.relations[edges.relations[0]]
    elif edges.relations in semantic:
        pairs = semantic[edges.relations]
    else:
        pairs = semantic_edges(graph, edges.relations)
    return incoming(pairs, graph.counts[edges.destination_type])


def metapaths_of(program: Program) -> list[tuple[Relation, ...]]:
    """The metapaths whose semantic graphs a program reads."""
    return list(dict.fromkeys(edges.relations for edges in program.edges if edges.metapath))
