# SPDX-License-Identifier: Apache-2.0
"""What a compiler takes from a graph, or from a workload where the graph cannot be shared, to plan a model."""

import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hetfab.driver.graph.heterograph import HeteroGraph
from hetfab.overlay.archives import LARGEST_JSON_BYTES, read_limited
from hetfab.overlay.compiler.graph_facts import FeatureCounts, GraphFacts, Sources
from hetfab.overlay.compiler.lowered import LoweredModel
from hetfab.overlay.errors import RelationMissingError, WorkloadUnreadableError, why_unreadable
from hetfab.overlay.json_schema import schema_problems
from hetfab.overlay.program import Edges
from hetfab.overlay.versions import WORKLOAD

#: Writes a workload, the path left out.
_REMAKE = ("hetfab", "graph", "GRAPH", "--workload")
_TEXT = {"type": "string"}
_COUNT = {"type": "integer", "minimum": 0}
_END = {"type": "object", "required": ["without_edges"], "properties": {"without_edges": _COUNT}}
_ENDS = {"out": _END, "into": _END}
#: What is read of a workload.
_SCHEMA = {
    "type": "object",
    "required": ["format", "name", "node_types", "relations", "semantic_graphs"],
    "properties": {
        "format": {"type": "string", "enum": [WORKLOAD.mark]},
        "name": _TEXT,
        "node_types": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["name", "count", "features", "width", "nonzeros", "magnitudes", "uniform"],
                "properties": {
                    "name": _TEXT,
                    "count": _COUNT,
                    "features": {"type": ["string", "null"]},
                    "width": _COUNT,
                    "nonzeros": _COUNT,
                    "magnitudes": {"type": "number", "minimum": 0},
                },
            },
        },
        "relations": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["name", "source", "destination", "out", "into"],
                "properties": {"name": _TEXT, "source": _TEXT, "destination": _TEXT, **_ENDS},
            },
        },
        "semantic_graphs": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["relations", "out", "into"],
                "properties": {"relations": {"type": "array", "items": _TEXT}, **_ENDS},
            },
        },
    },
}


def known_graph(graph: HeteroGraph | None, workload: Path | None, lowered: LoweredModel) -> GraphFacts | None:
    """What is known of a graph by itself or else by its workload, None without either."""
    if graph is not None:
        return graph_facts(graph, lowered)
    return None if workload is None else read_workload(workload, lowered)


def graph_facts(graph: HeteroGraph, lowered: LoweredModel) -> GraphFacts:
    """What is known of a graph that is there.

    Args:
        graph: The graph.
        lowered: The layers whose edge sets matter.

    Raises:
        RelationMissingError: The graph lacks a relation that a layer reads.
    """
    sources = {edges: Sources(len(ids), ids) for edges in _edge_sets(lowered) for ids in (_source_ids(graph, edges),)}
    return GraphFacts(graph.name, graph.counts, graph.features, sources)


def read_workload(path: Path, lowered: LoweredModel) -> GraphFacts:
    """What is known of a graph by its workload.

    Args:
        path: A file that ``hetfab graph --workload`` wrote.
        lowered: The layers whose edge sets matter.

    Raises:
        WorkloadUnreadableError: The file is missing or is no workload.
        RelationMissingError: The workload lacks a relation or a semantic graph that a layer reads.
    """
    found = _checked(path)
    types = {entry["name"]: entry for entry in found["node_types"]}
    counts = {name: entry["count"] for name, entry in types.items()}
    features = {
        name: FeatureCounts(entry["width"], entry["nonzeros"], entry["magnitudes"], bool(entry["uniform"]))
        for name, entry in types.items()
        if entry["features"] is not None
    }
    idle = {(entry["source"], entry["name"], entry["destination"]): entry["out"] for entry in found["relations"]}
    paths = {tuple(entry["relations"]): entry["into"] for entry in found["semantic_graphs"]}
    sources = {}
    for edges in _edge_sets(lowered):
        relation = edges.relations[0]
        names = tuple(each.name for each in edges.relations)
        ends = paths.get(names) if edges.metapath else idle.get((relation.source, relation.name, relation.destination))
        if ends is None or edges.source_type not in counts:
            raise RelationMissingError(
                f"the workload '{path}' lacks the edges '{edges.name}'",
                f"the {'semantic graph' if edges.metapath else 'relation'} that the model reads",
                "use the workload of a graph that the model was made for",
            )
        if edges.self_loops:
            sources[edges] = Sources(counts[edges.source_type])
            continue
        sources[edges] = Sources(max(counts[edges.source_type] - ends["without_edges"], 0))
    return GraphFacts(found["name"], counts, features, sources)


def _edge_sets(lowered: LoweredModel) -> list[Edges]:
    """Relations and semantic graphs; edges of stacks are not planned by what is known of them."""
    found = dict.fromkeys(each.edges for layer in lowered.layers for each in layer.aggregations)
    return [edges for edges in found if edges.of_graph and not (edges.stacked or edges.joined)]


def _source_ids(graph: HeteroGraph, edges: Edges) -> npt.NDArray[np.int64]:
    """Vertices that a relation leads from, or that a metapath reaches."""
    missing = [str(relation) for relation in edges.relations if relation not in graph.relations]
    if missing:
        raise RelationMissingError(
            f"the graph '{graph.name}' lacks relations that the model reads: {', '.join(dict.fromkeys(missing))}",
            f"a graph with them; this one has {', '.join(map(str, graph.relations)) or 'none'}",
            "use the graph that the model was made for",
        )
    if edges.self_loops:
        return np.arange(graph.counts[edges.source_type], dtype=np.int64)
    if not edges.metapath:
        return np.unique(graph.relations[edges.relations[0]].source).astype(np.int64)
    reached = np.ones(graph.counts[edges.relations[0].source], bool)
    for relation in edges.relations:
        pairs = graph.relations[relation]
        following = np.zeros(graph.counts[relation.destination], bool)
        following[pairs.destination[reached[pairs.source]]] = True
        reached = following
    return np.flatnonzero(reached)


def _checked(path: Path) -> Mapping[str, Any]:
    try:
        found: Any = json.loads(read_limited(path, LARGEST_JSON_BYTES).decode("utf-8"))
    except (OSError, UnicodeDecodeError, ValueError, RecursionError) as error:
        raise _unreadable(path, why_unreadable(error)) from error
    version = WORKLOAD.stated(found.get("format")) if isinstance(found, dict) else None
    if version is not None:
        found = WORKLOAD.current(found, version, str(path), shlex.join([*_REMAKE, str(path)]))
    for name, value, expected in schema_problems(found, _SCHEMA):
        if version is not None and version < WORKLOAD.version:
            do = f"make it anew: {shlex.join([*_REMAKE, str(path)])}"
            raise WORKLOAD.refused(version, str(path), do)
        raise _unreadable(path, f"{name or 'the file'} is {value}, not {expected}")
    checked: Mapping[str, Any] = found
    return checked


def _unreadable(path: Path, reason: str) -> WorkloadUnreadableError:
    return WorkloadUnreadableError(
        f"cannot read the workload '{path}': {reason}",
        "a file that `hetfab graph GRAPH --workload FILE` writes",
        "write it again",
    )
