# SPDX-License-Identifier: Apache-2.0
"""What a graph holds, in numbers. It needs only numpy."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hetfab.driver.graph.heterograph import SPLITS, CsrFeatures, Edges, HeteroGraph
from hetfab.overlay.model.schema import Relation


@dataclass(frozen=True)
class TypeSummary:
    """A node type.

    Attributes:
        name: Its name.
        count: Nodes.
        features: "dense", "csr" or None.
        width: Columns of the features.
        nonzeros: Entries of the features that are not zero.
        magnitudes: Sum of their magnitudes, as far as these are finite.
        uniform: Whether all of them have one magnitude.
        labels: "multiclass", "multilabel" or None.
        classes: Number of classes.
        labelled: Nodes with a label.
        class_names: Names of the classes, empty where they have none.
        splits: Nodes of each split.
        ids: Whether nodes have ids of their own.
    """

    name: str
    count: int
    features: str | None
    width: int
    nonzeros: int
    magnitudes: float
    uniform: bool
    labels: str | None
    classes: int
    labelled: int
    class_names: tuple[str, ...]
    splits: Mapping[str, int]
    ids: bool


@dataclass(frozen=True)
class EndSummary:
    """One end of a relation: mean and largest number of edges a node, and nodes without edges."""

    mean_degree: float
    max_degree: int
    without_edges: int


@dataclass(frozen=True)
class RelationSummary:
    """A relation: its edges, those that repeat another one, its ends, and the relation that is its reverse."""

    name: str
    source: str
    destination: str
    edges: int
    duplicates: int
    out: EndSummary
    into: EndSummary
    reverse: str | None


@dataclass(frozen=True)
class GraphSummary:
    """A graph."""

    name: str
    target: str | None
    node_types: tuple[TypeSummary, ...]
    relations: tuple[RelationSummary, ...]
    metapaths: Mapping[str, tuple[str, ...]]


def summarise(graph: HeteroGraph) -> GraphSummary:
    """Counts what a graph holds."""
    reverses = reverse_pairs(graph)
    return GraphSummary(
        name=graph.name,
        target=graph.target,
        node_types=tuple(_type_summary(graph, name) for name in graph.counts),
        relations=tuple(
            RelationSummary(
                *(relation.name, relation.source, relation.destination),
                edges=len(edges.source),
                duplicates=len(edges.source) - len(np.unique(_keys(graph, relation, edges))),
                out=_end(edges.source, graph.counts[relation.source]),
                into=_end(edges.destination, graph.counts[relation.destination]),
                reverse=reverses.get(relation.name),
            )
            for relation, edges in graph.relations.items()
        ),
        metapaths=dict(graph.metapaths),
    )


def reverse_pairs(graph: HeteroGraph) -> dict[str, str]:
    """Names of relations that hold the same edges in the other direction, each with its partner."""
    pairs: dict[str, str] = {}
    for relation, edges in graph.relations.items():
        for other, back in graph.relations.items():
            turned = (other.destination, other.source) == (relation.source, relation.destination)
            free = other != relation and relation.name not in pairs and other.name not in pairs
            if not turned or not free or len(edges.source) != len(back.source):
                continue
            forward = np.sort(_keys(graph, relation, edges))
            if np.array_equal(forward, np.sort(_keys(graph, relation, Edges(back.destination, back.source)))):
                pairs |= {relation.name: other.name, other.name: relation.name}
    return pairs


def _keys(graph: HeteroGraph, relation: Relation, edges: Edges) -> npt.NDArray[np.int64]:
    """One number for each pair of ends."""
    keys: npt.NDArray[np.int64] = edges.source.astype(np.int64) * graph.counts[relation.destination] + edges.destination
    return keys


def _end(ids: npt.NDArray[np.integer], count: int) -> EndSummary:
    degrees = np.bincount(ids, minlength=count)
    return EndSummary(len(ids) / max(count, 1), int(degrees.max(initial=0)), int((degrees == 0).sum()))


def _type_summary(graph: HeteroGraph, name: str) -> TypeSummary:
    table, labels = graph.features.get(name), graph.labels.get(name)
    sparse = isinstance(table, CsrFeatures)
    values = None if table is None else table.data if isinstance(table, CsrFeatures) else table
    entries = np.zeros(0) if values is None else np.abs(values[values != 0].astype(np.float64))
    finite = entries[np.isfinite(entries)]
    classes = graph.classes.get(name, ())
    number = 0 if labels is None else labels.shape[1] if labels.ndim == 2 else int(labels.max(initial=-1)) + 1
    return TypeSummary(
        name=name,
        count=int(graph.counts[name]),
        features=None if table is None else "csr" if sparse else "dense",
        width=graph.schema().feature_widths.get(name, 0),
        nonzeros=len(entries),
        magnitudes=float(finite.sum()),
        uniform=len(np.unique(entries)) <= 1,
        labels=None if labels is None else "multiclass" if labels.ndim == 1 else "multilabel",
        classes=max(number, len(classes)),
        labelled=0 if labels is None else int((labels >= 0).sum()) if labels.ndim == 1 else len(labels),
        class_names=tuple(classes),
        splits={part: len(graph.splits[name][part]) for part in SPLITS if part in graph.splits.get(name, {})},
        ids=name in graph.ids,
    )
