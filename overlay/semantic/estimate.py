# SPDX-License-Identifier: Apache-2.0
"""Estimates degrees of semantic graphs before they are built, from the relations' edges alone.

Along a path of relations the instances (paths, each counted) from and to each vertex follow exactly from one pass over
the edges of each relation. How many of them are distinct edges is estimated as if each instance of a vertex chose its
other end at random, with the probability that the vertex has among all instances. Ends that share few vertices between
have more edges than that, so the number of all edges is at least what rows that are followed exactly suggest.
"""

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from hetfab.overlay.semantic.adjacency import Adjacency

Counts: TypeAlias = npt.NDArray[np.float64]

#: Values that stand for all instance counts of one end; more are put into as many classes.
_CLASSES = 256
#: Rows that are followed exactly.
_FOLLOWED_ROWS = 64


@dataclass(frozen=True, eq=False)
class Degrees:
    """Edges out of each row and into each column of a graph that may not be built yet.

    Attributes:
        out: float64 [rows].
        into: float64 [columns].
        most_edges: The graph cannot have more: a vertex has at most its path instances, or all other ends with some.
        exact: Whether ``out`` and ``into`` are counted, not estimated.
        edges: Edges of the graph, at most ``most_edges``; rounded up where estimated.
    """

    out: Counts
    into: Counts
    most_edges: int
    exact: bool
    edges: int


def counted_degrees(graph: Adjacency) -> Degrees:
    """The degrees of a graph that is there."""
    return Degrees(graph.out_degrees().astype(float), graph.in_degrees().astype(float), graph.edges, True, graph.edges)


def estimated_degrees(path: list[Adjacency]) -> Degrees:
    """The degrees of the composition of graphs that are there, in the order of the path."""
    forward = np.ones(path[0].rows)
    for step in path:
        forward = _spread(step, forward)
    backward = np.ones(path[-1].columns)
    for step in reversed(path):
        backward = _gathered(step, backward)
    out, into = _distinct(backward, forward), _distinct(forward, backward)
    most = min(_most_edges(backward, forward), _most_edges(forward, backward))
    # The two ends are estimated on their own, but an edge has both.
    into *= out.sum() / max(into.sum(), 1.0)
    edges = max(out.sum(), _edges_by_followed_rows(path, backward))
    return Degrees(out, into, most, False, min(int(np.ceil(edges)), most))


def _most_edges(instances: Counts, others: Counts) -> int:
    """No vertex has more edges than instances, or than there are other ends with any."""
    return int(np.minimum(instances, np.count_nonzero(others)).sum())


def _edges_by_followed_rows(path: list[Adjacency], instances: Counts) -> float:
    """Edges if rows have as many as one of them that has about as many instances; exact for few rows."""
    order = np.argsort(instances, kind="stable")
    groups = np.array_split(order, min(_FOLLOWED_ROWS, max(len(order), 1)))
    return float(sum(len(group) * _ends(path, int(group[len(group) // 2])) for group in groups if len(group)))


def _ends(path: list[Adjacency], row: int) -> int:
    """Distinct columns that a row reaches."""
    reached = np.array([row])
    for step in path:
        lengths = step.starts[reached + 1] - step.starts[reached]
        before = np.cumsum(lengths) - lengths
        edges = np.repeat(step.starts[reached] - before, lengths) + np.arange(lengths.sum())
        met = np.zeros(step.columns, bool)
        met[step.ids[edges]] = True
        reached = np.flatnonzero(met)
    return len(reached)


def _spread(step: Adjacency, instances: Counts) -> Counts:
    """Instances that end at each column, from those that end at each row."""
    weights = np.repeat(instances, step.out_degrees())
    return np.bincount(step.ids, weights, minlength=step.columns).astype(float)


def _gathered(step: Adjacency, instances: Counts) -> Counts:
    """Instances that begin at each row, from those that begin at each column."""
    sums = np.concatenate([[0.0], np.cumsum(instances[step.ids])])
    return np.asarray(sums[step.starts[1:]] - sums[step.starts[:-1]])


def _distinct(instances: Counts, others: Counts) -> Counts:
    """Expected number of distinct other ends of each vertex: sum over d of 1 - (1 - p_d)^n."""
    total = max(others.sum(), 1.0)
    vertices, which = _classes(instances)
    ends, of_end = _classes(others)
    missed = np.log1p(-np.minimum(ends / total, 1 - 1e-12))
    hit = (1 - np.exp(vertices[:, np.newaxis] * missed)) @ np.bincount(of_end, minlength=len(ends))
    return np.asarray(np.minimum(hit[which], instances), float)


def _classes(values: Counts) -> tuple[Counts, npt.NDArray[np.int64]]:
    """Few values that stand for all, and which one stands for each: the mean of its class."""
    distinct, which = np.unique(values, return_inverse=True)
    if len(distinct) > _CLASSES:
        which = which * _CLASSES // len(distinct)
        counts = np.bincount(which, minlength=_CLASSES)
        distinct = np.bincount(which, values, minlength=_CLASSES) / np.maximum(counts, 1)
    return distinct, which
