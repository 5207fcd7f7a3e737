# SPDX-License-Identifier: Apache-2.0
"""Rows of what a program reads from a graph: the edges into some vertices, the features of some. Only numpy.

What all rows share, such as edges in order of their destinations, is made when it is first needed and kept: after that
the time of a call grows with the edges that it gives, not with the graph. Rows of semantic graphs are composed for the
vertices that are asked, unless these are many.
"""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from hetfab.driver.graph.arrays import all_incoming
from hetfab.driver.graph.changing import ChangingSemanticGraphs
from hetfab.driver.graph.feeds import SemanticGraphs, incoming
from hetfab.driver.graph.heterograph import CsrFeatures, HeteroGraph
from hetfab.driver.graph.heterograph import Edges as GraphEdges
from hetfab.overlay.bind import GraphArrays, IncomingEdges, check_fixed_counts
from hetfab.overlay.errors import FeaturesMissingError, OverlayStateError, RelationMissingError
from hetfab.overlay.features import Features
from hetfab.overlay.model.schema import Relation
from hetfab.overlay.patterns import pattern_rows
from hetfab.overlay.program import EdgePattern, Edges, Program
from hetfab.overlay.stage_bytes import whole_bytes
from hetfab.overlay.stages import is_features

Ids = npt.NDArray[np.int64]
#: Of the rows of a semantic graph, the share above which all are composed at once.
_SHARE_OF_ROWS = 0.25


class GraphRows:
    """Rows of a graph for a program.

    Args:
        program: The program.
        graph: The graph; its arrays must not change.
        semantic: Semantic graphs that are there already, as ``semantic_edges`` gives them.
        changing: Semantic graphs that follow the graph's edges, in their state of now.

    Raises:
        RelationMissingError: The graph lacks node types or relations of the program; all are named.
    """

    def __init__(
        self,
        program: Program,
        graph: HeteroGraph,
        semantic: SemanticGraphs | None = None,
        changing: ChangingSemanticGraphs | None = None,
    ) -> None:
        self.program = program
        self.graph = graph
        self._semantic: Mapping[tuple[Relation, ...], GraphEdges] = dict(semantic or {})
        self._changing = changing
        self._incoming: dict[str, IncomingEdges] = {}
        self._outgoing: dict[Relation, tuple[Ids, Ids]] = {}
        _check_has_all(program, graph)
        check_fixed_counts(program, graph.counts)
        self.counts = program.all_counts(graph.counts)

    def edges(self, edges: Edges, rows: Ids) -> IncomingEdges:
        """The edges of a set into some of its destinations.

        Args:
            edges: An edge set of the program that is not of features.
            rows: Destinations, int64 [n].

        Returns:
            ``indptr`` [n + 1]; sources, numbered as in the whole graph, and types and weights where there are any, as
            ``graph_arrays`` gives them of the whole graph, in the same order.
        """
        if self._changing is not None and self._changing.graph is not self.graph:
            raise OverlayStateError(
                "the semantic graphs are of another state of the graph",
                "those of the graph that is read",
                "make GraphRows anew of `changing.graph` after each update",
            )
        if edges.pattern is not EdgePattern.NONE:
            starts = self.program.stack(edges.source_type).starts(self.graph.counts)
            return IncomingEdges(*pattern_rows(edges.pattern, starts, rows))
        if edges.metapath and self._changing is not None and self._changing.has(edges.relations):
            return IncomingEdges(*self._changing.rows(edges.relations, rows))
        if edges.name not in self._incoming and edges.metapath and self._is_few(edges, rows):
            return self._composed(edges.relations, rows)
        return edges_into(self._into_all(edges), rows)

    def _into_all(self, edges: Edges) -> IncomingEdges:
        if edges.name not in self._incoming:
            self._incoming[edges.name] = all_incoming(edges, self.program, self.graph, self._semantic)
        return self._incoming[edges.name]

    def arrays(self) -> GraphArrays:
        """The whole graph, as ``graph_arrays`` gives it."""
        features = {
            tensor.name: self.graph.features[tensor.node_type]
            for tensor in self.program.tensors
            if is_features(tensor) and tensor.node_type in self.graph.features
        }
        edges = {each.name: self._into_all(each) for each in self.program.edges if each.of_graph}
        return GraphArrays(self.graph.counts, features, edges)

    def edge_count(self, edges: Edges) -> int:
        """How many edges a set has; of features, their non-zeros. Semantic graphs are composed for it."""
        if edges.features:
            table = self.graph.features.get(edges.destination_type)
            if table is None:
                return 0
            return int(np.count_nonzero(table)) if isinstance(table, np.ndarray) else len(table.data)
        if edges.pattern is not EdgePattern.NONE:
            return int(self.edges(edges, np.arange(self.counts[edges.destination_type])).indptr[-1])
        if edges.metapath:
            return len(self._into_all(edges).sources)
        loops = self.counts[edges.destination_type] if edges.self_loops else 0
        return loops + sum(len(self.graph.relations[relation].source) for relation in edges.relations)

    def whole_bytes(self) -> int:
        """About the device memory that the whole program needs for the graph."""
        edges = {each.name: self.edge_count(each) for each in self.program.edges}
        return whole_bytes(self.program, self.counts, edges)

    def features(self, node_type: str, rows: Ids) -> Features:
        """Features of some vertices of a type.

        Raises:
            FeaturesMissingError: The type has none.
        """
        if node_type not in self.graph.features:
            raise FeaturesMissingError(
                f"the graph gives no features of the type '{node_type}'",
                "features of every type whose features the program reads",
                "use a graph with these features",
            )
        table = self.graph.features[node_type]
        if is_range(rows):
            rows_or_part: Ids | slice = slice(int(rows[0]), int(rows[-1]) + 1)
        else:
            rows_or_part = rows
        if isinstance(table, np.ndarray):
            part: npt.NDArray[np.float32] = table[rows_or_part]
            return part
        indptr, places = entries_of(table.indptr, rows)
        return CsrFeatures(indptr, table.indices[places], table.data[places], table.width)

    def _is_few(self, edges: Edges, rows: Ids) -> bool:
        given = edges.relations in self._semantic
        return not given and len(rows) <= _SHARE_OF_ROWS * self.counts[edges.destination_type]

    def _composed(self, path: tuple[Relation, ...], rows: Ids) -> IncomingEdges:
        """Rows of a semantic graph: which vertices of the last type each one reaches, in rising order."""
        owner, reached = np.arange(len(rows), dtype=np.int64), rows
        for relation in path:
            starts, ids = self._edges_out_of(relation)
            indptr, places = entries_of(starts, reached)
            width = max(self.counts[relation.destination], 1)
            keys = np.unique(np.repeat(owner, np.diff(indptr)) * width + ids[places])
            owner, reached = np.divmod(keys, width)
        indptr = np.zeros(len(rows) + 1, np.int64)
        np.cumsum(np.bincount(owner, minlength=len(rows)), out=indptr[1:])
        return IncomingEdges(indptr, reached)

    def _edges_out_of(self, relation: Relation) -> tuple[Ids, Ids]:
        """Where each vertex's edges of a relation begin, and their destinations."""
        if relation not in self._outgoing:
            pairs = self.graph.relations[relation]
            turned = GraphEdges(pairs.destination, pairs.source)
            indptr, ids, *_ = incoming(turned, self.counts[relation.source])
            self._outgoing[relation] = indptr.astype(np.int64), ids.astype(np.int64)
        return self._outgoing[relation]


def is_range(rows: Ids) -> bool:
    """Whether rows follow each other without a gap."""
    return len(rows) > 0 and bool((np.diff(rows) == 1).all())


def entries_of(indptr: npt.NDArray[np.integer], rows: Ids) -> tuple[Ids, Ids | slice]:
    """The entries of some rows of a CSR array: where each row's begin among them, and their places in the array."""
    if is_range(rows):
        first, last = int(rows[0]), int(rows[-1]) + 1
        own = indptr[first : last + 1].astype(np.int64)
        return own - own[0], slice(int(own[0]), int(own[-1]))
    begins = indptr[rows].astype(np.int64)
    found = np.zeros(len(rows) + 1, np.int64)
    np.cumsum(indptr[rows + 1] - begins, out=found[1:])
    places = np.arange(found[-1]) + np.repeat(begins - found[:-1], np.diff(found))
    return found, places


def edges_into(whole: IncomingEdges, rows: Ids) -> IncomingEdges:
    """The edges into some destinations."""
    indptr, places = entries_of(whole.indptr, rows)
    types = None if whole.types is None else whole.types[places]
    weights = None if whole.weights is None else whole.weights[places]
    return IncomingEdges(indptr, whole.sources[places], types, weights)


def _check_has_all(program: Program, graph: HeteroGraph) -> None:
    stacks = {stack.name for stack in program.stacks}
    types = {tensor.node_type for tensor in program.tensors} | {t for stack in program.stacks for t in stack.types}
    missing = [f"node type '{name}'" for name in sorted(types - stacks - set(graph.counts))]
    relations = dict.fromkeys(relation for edges in program.edges for relation in edges.relations)
    missing += [f"relation {relation}" for relation in relations if relation not in graph.relations]
    if missing:
        raise RelationMissingError(
            f"the graph '{graph.name}' lacks what the program reads: {', '.join(missing)}",
            f"a graph with them; this one has the types {', '.join(graph.counts)} and the relations "
            f"{', '.join(map(str, graph.relations)) or 'none'}",
            "use the graph that the model was made for, or compile a model for this one",
        )
