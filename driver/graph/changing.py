# SPDX-License-Identifier: Apache-2.0
"""Semantic graphs of a graph whose edges change: only what a change touches is made anew (docs/nodes.md)."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import numpy as np

from hetfab.driver.graph.feeds import SemanticGraphs
from hetfab.driver.graph.heterograph import Edges, HeteroGraph
from hetfab.driver.graph.semantic import adjacencies
from hetfab.overlay.errors import (
    CacheUnwritableError,
    CompilerFailedError,
    CompilerMissingError,
    LimitExceededError,
)
from hetfab.overlay.model.schema import Relation
from hetfab.overlay.semantic.changing import Changes, ChangingGraphs, Ids, Integers
from hetfab.overlay.semantic.plan import DEFAULT_LIMIT_BYTES, Plan, plan_semantic_graphs

if TYPE_CHECKING:
    from hetfab.hls.build.changing import CompiledChangingGraphs


class ChangingSemanticGraphs:
    """Semantic graphs that follow a graph's edges.

    Args:
        graph: The graph.
        paths: Relations along each metapath.
        limit_bytes: Memory that semantic graphs may take at once, by the plan's estimate.

    Raises:
        RelationMissingError: The graph lacks a relation.
        GraphInvalidError: A metapath's types do not chain.
        LimitExceededError: The estimate is above the limit.
    """

    def __init__(
        self, graph: HeteroGraph, paths: Iterable[tuple[Relation, ...]], *, limit_bytes: int = DEFAULT_LIMIT_BYTES
    ) -> None:
        self.graph = graph
        self._names = {path: ", ".join(relation.name for relation in path) for path in paths}
        metapaths = {name: tuple(relation.name for relation in path) for path, name in self._names.items()}
        # A relation that is another's reverse now need not stay so.
        self._plan = plan_semantic_graphs(metapaths, adjacencies(graph), {}, limit_bytes)
        self._graphs = _following(self._plan, graph)

    def update(
        self, added: Mapping[Relation, Edges] | None = None, removed: Mapping[Relation, Edges] | None = None
    ) -> dict[tuple[Relation, ...], Ids]:
        """Changes edges; ``graph`` is then the changed one.

        Args:
            added: As for ``HeteroGraph.with_edges``.
            removed: As for ``HeteroGraph.with_edges``.

        Returns:
            Of each metapath, the rows (destinations) of its semantic graph that changed, int64 in rising order.

        Raises:
            HetfabError: As ``HeteroGraph.with_edges``; nothing has changed.
            LimitExceededError: The counts of paths do not fit into memory; nothing has changed.
        """
        return self.follow(self.graph.with_edges(added, removed), added or {}, removed or {})

    def follow(
        self, changed: HeteroGraph, added: Mapping[Relation, Edges], removed: Mapping[Relation, Edges]
    ) -> dict[tuple[Relation, ...], Ids]:
        """As ``update``, with the changed graph that ``with_edges`` made of these edges."""
        changes = {relation.name: _change(added.get(relation), removed.get(relation)) for relation in changed.relations}
        try:
            rows = self._graphs.update(changes)
        except LimitExceededError:
            # Part of the change may be in them.
            self._graphs = _following(self._plan, self.graph)
            raise
        self.graph = changed
        return {path: rows[name] for path, name in self._names.items()}

    def has(self, path: tuple[Relation, ...]) -> bool:
        """Whether a metapath's semantic graph is among these."""
        return path in self._names

    def rows(self, path: tuple[Relation, ...], rows: Ids) -> tuple[Ids, Integers]:
        """Rows of a semantic graph: where each one's ids begin in the second value, the vertices that it reaches."""
        return self._graphs.rows(self._names[path], rows)

    def edges(self) -> SemanticGraphs:
        """All edges of all semantic graphs, as ``semantic_edges`` gives them, int32 or int64."""
        found = {}
        outputs = self._graphs.outputs()
        for path, name in self._names.items():
            starts, ids = outputs[name]
            found[path] = Edges(ids, np.repeat(np.arange(len(starts) - 1, dtype=ids.dtype), np.diff(starts)))
        return found


def _following(plan: Plan, graph: HeteroGraph) -> "ChangingGraphs | CompiledChangingGraphs":
    """Compiled; a board may lack a compiler that works, or a place for what it makes."""
    from hetfab.hls.build.changing import CompiledChangingGraphs

    edges = {
        relation.name: (
            graph.counts[relation.source],
            graph.counts[relation.destination],
            found.source.astype(np.int64),
            found.destination.astype(np.int64),
        )
        for relation, found in graph.relations.items()
    }
    try:
        return CompiledChangingGraphs(plan, edges)
    except (CompilerMissingError, CompilerFailedError, CacheUnwritableError):
        return ChangingGraphs(plan, edges)


def _change(added: Edges | None, removed: Edges | None) -> Changes:
    """Both ends of edges that go and come, and -1 or 1 for each."""
    none = np.zeros(0, np.int64)
    gone, new = (Edges(none, none) if edges is None else edges for edges in (removed, added))
    source = np.concatenate([gone.source, new.source]).astype(np.int64)
    destination = np.concatenate([gone.destination, new.destination]).astype(np.int64)
    signs = np.repeat(np.array([-1, 1], np.int8), [len(gone.source), len(new.source)])
    return source, destination, signs
