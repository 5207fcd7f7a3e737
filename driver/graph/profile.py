# SPDX-License-Identifier: Apache-2.0
"""What planning needs to know of a graph: counts, degrees and semantic graphs. It can be shared when the graph cannot.

The file ``workload.json`` holds it. Semantic graphs are built on the host, which takes a C++ compiler.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from hetfab.driver.graph.heterograph import HeteroGraph
from hetfab.driver.graph.semantic import adjacencies, plan_metapaths
from hetfab.driver.graph.summary import EndSummary, RelationSummary, TypeSummary, summarise
from hetfab.hls.build.semantic import SemanticGraphBuilder
from hetfab.overlay.files import write_atomic
from hetfab.overlay.semantic.adjacency import Adjacency
from hetfab.overlay.semantic.plan import DEFAULT_LIMIT_BYTES, Compose, Drop, Metapath, Plan, Step
from hetfab.overlay.versions import WORKLOAD


@dataclass(frozen=True)
class SemanticSummary:
    """A semantic graph: its edges, how many the plan expected, edges from a vertex to itself, and its ends."""

    name: str
    relations: Metapath
    edges: int
    estimated_edges: int
    self_loops: int
    out: EndSummary
    into: EndSummary


@dataclass(frozen=True)
class StepSummary:
    """A step of the plan: what it does, the path that it builds or drops, what it reads, its expansions (estimated)."""

    action: str
    builds: Metapath
    reads: tuple[Metapath, ...]
    expansions: int


@dataclass(frozen=True)
class GraphProfile:
    """A graph without its edges.

    Attributes:
        format: Of the file.
        name: Of the graph.
        node_types: Counts, widths and numbers of features.
        relations: Edges and degrees.
        semantic_graphs: Of each metapath.
        steps: How they are built.
        expansions: Work of all steps, counted.
        peak_bytes: Memory of graphs that existed at once, the builder's own included.
    """

    format: str
    name: str
    node_types: tuple[TypeSummary, ...]
    relations: tuple[RelationSummary, ...]
    semantic_graphs: tuple[SemanticSummary, ...]
    steps: tuple[StepSummary, ...]
    expansions: int
    peak_bytes: int


def profile(graph: HeteroGraph, limit_bytes: int = DEFAULT_LIMIT_BYTES) -> GraphProfile:
    """Plans and builds the semantic graphs of a graph's metapaths, and counts what it holds.

    Args:
        graph: The graph.
        limit_bytes: Memory that semantic graphs may take at once.

    Raises:
        LimitExceededError: The estimate is above the limit; nothing has been built.
        CompilerMissingError: No C++ compiler.
    """
    relations = adjacencies(graph)
    by_name = {relation.name: found for relation, found in relations.items()}
    plan = plan_metapaths(graph, relations, limit_bytes)
    builder = SemanticGraphBuilder(plan, by_name)
    totals, built, found = builder.build(), builder.outputs(), summarise(graph)
    return GraphProfile(
        WORKLOAD.mark,
        graph.name,
        found.node_types,
        found.relations,
        tuple(
            _semantic(name, path, built[name], plan, _returns(graph, name)) for name, path in graph.metapaths.items()
        ),
        tuple(_step(step) for step in plan.steps),
        totals.expansions,
        totals.peak_bytes,
    )


def write_profile(path: Path, found: GraphProfile) -> None:
    """Writes ``workload.json``; the file is complete or it is not there.

    Raises:
        OutputUnwritableError: The folder is missing or read-only, or the disk is full.
    """
    text = json.dumps(asdict(found), indent=2) + "\n"

    def write(file: BinaryIO) -> None:
        file.write(text.encode("utf-8"))

    write_atomic(path, write)


def _semantic(name: str, path: Metapath, graph: Adjacency, plan: Plan, same_type: bool) -> SemanticSummary:
    estimates = {step.path: step.edges for step in plan.steps if not isinstance(step, Drop)}
    rows = np.repeat(np.arange(graph.rows), graph.out_degrees())
    loops = int((rows == graph.ids).sum()) if same_type else 0
    out, into = graph.out_degrees(), graph.in_degrees()
    return SemanticSummary(name, path, graph.edges, estimates.get(path, graph.edges), loops, _end(out), _end(into))


def _returns(graph: HeteroGraph, metapath: str) -> bool:
    """Whether a metapath ends at the type where it starts."""
    path = graph.metapath(metapath)
    return path[0].source == path[-1].destination


def _end(degrees: np.ndarray[tuple[int], np.dtype[np.int64]]) -> EndSummary:
    count = max(len(degrees), 1)
    return EndSummary(int(degrees.sum()) / count, int(degrees.max(initial=0)), int((degrees == 0).sum()))


def _step(step: Step) -> StepSummary:
    if isinstance(step, Compose):
        return StepSummary("compose", step.path, (step.left, step.right), step.expansions)
    if isinstance(step, Drop):
        return StepSummary("drop", step.path, (), 0)
    return StepSummary("transpose", step.path, (step.source,), 0)
