# SPDX-License-Identifier: Apache-2.0
"""Carries out a plan of semantic graphs with the golden operations."""

from collections.abc import Mapping

from hetfab.overlay.semantic.adjacency import Adjacency, compose, transpose
from hetfab.overlay.semantic.plan import Compose, Metapath, Plan, Transpose


def build_semantic_graphs(plan: Plan, relations: Mapping[str, Adjacency]) -> dict[str, Adjacency]:
    """Builds the graphs of a plan.

    Args:
        plan: Its steps.
        relations: Each relation by name, without duplicate edges.

    Returns:
        The semantic graph of each metapath by name.
    """
    graphs: dict[Metapath, Adjacency] = {(name,): graph for name, graph in relations.items()}
    for step in plan.steps:
        if isinstance(step, Compose):
            graphs[step.path] = compose(graphs[step.left], graphs[step.right], step.threshold)
        elif isinstance(step, Transpose):
            graphs[step.path] = transpose(graphs[step.source])
        else:
            del graphs[step.path]
    return {name: graphs[path] for name, path in plan.outputs.items()}
