# SPDX-License-Identifier: Apache-2.0
"""Turns a graph into the input arrays of a model, as its input binding says (``docs/binding.md``)."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from hetfab.driver.graph.heterograph import CsrFeatures, Edges, HeteroGraph
from hetfab.overlay.bind import IncomingEdges
from hetfab.overlay.errors import BindingInvalidError, FeatureWidthError, counted
from hetfab.overlay.model.binding import (
    Binding,
    EdgeTypes,
    EdgeWeights,
    End,
    Features,
    InDegreeWeights,
    JoinedEnd,
    LoopedEnd,
    MetapathEnd,
    MetapathMean,
    NodeCount,
    RelationEnd,
    StackedEnd,
    resolve,
)
from hetfab.overlay.model.schema import Relation

Array = npt.NDArray[Any]
_Made = TypeVar("_Made")
#: The semantic graph of each metapath.
SemanticGraphs: TypeAlias = Mapping[tuple[Relation, ...], Edges]


def feeds(
    graph: HeteroGraph,
    bindings: Mapping[str, Binding],
    widths: Mapping[str, int] | None = None,
    semantic: SemanticGraphs | None = None,
) -> dict[str, Array]:
    """Builds the inputs of a model from a graph.

    Args:
        graph: The graph.
        bindings: Meaning of each input; those by name only are resolved against the graph.
        widths: Columns that the model expects of an input, by input; other inputs are not checked.
        semantic: Semantic graphs that are there already, as ``semantic_edges`` gives them; others are composed.

    Returns:
        float32 [N, D], int64 [E] or int64 [] by input, ready for onnxruntime.

    Raises:
        RelationMissingError: The graph lacks node types, relations or metapaths.
        FeaturesMissingError: An input reads features of a type that has none.
        FeatureWidthError: Features have another width than the model expects.
        BindingInvalidError: A path of relations is ambiguous.
    """
    builder = _Builder(graph, semantic or {})
    arrays = {name: builder.build(binding) for name, binding in resolve(bindings, graph.schema()).items()}
    for name, width in (widths or {}).items():
        if name in arrays and arrays[name].shape[1] != width:
            raise FeatureWidthError(
                f"the graph '{graph.name}' gives the input '{name}' {counted(arrays[name].shape[1], 'column')}",
                f"{counted(width, 'column')}, as the model has them",
                "use the graph that the model was made for, or features of the model's width",
            )
    return arrays


def incoming(edges: Edges, destinations: int) -> IncomingEdges:
    """Groups edges by destination.

    Args:
        edges: Of one relation; ids are within their types.
        destinations: Nodes of the destination type.

    Returns:
        indptr, int64 [destinations + 1], and the sources, [E] of the edges' dtype: those of destination d are
        ``sources[indptr[d]:indptr[d + 1]]`` in the edges' order, duplicates kept.
    """
    indptr = np.zeros(destinations + 1, dtype=np.int64)
    np.cumsum(np.bincount(edges.destination, minlength=destinations), out=indptr[1:])
    return IncomingEdges(indptr, edges.source[np.argsort(edges.destination, kind="stable")])


def semantic_edges(graph: HeteroGraph, path: tuple[Relation, ...]) -> Edges:
    """Edges of the semantic graph along a metapath.

    Args:
        graph: The graph.
        path: Relations that chain.

    Returns:
        int64 edges without duplicates, sorted by destination (a node of the first type), then by source (a
        node of the last type that a path reaches).
    """
    reach = _adjacency(graph, path[0], np.bool_)
    for relation in path[1:]:
        reach = reach @ _adjacency(graph, relation, np.bool_)
    reach.sort_indices()
    rows = np.repeat(np.arange(reach.shape[0], dtype=np.int64), np.diff(reach.indptr))
    return Edges(reach.indices.astype(np.int64), rows)


def _adjacency(graph: HeteroGraph, relation: Relation, dtype: type[np.generic]) -> Any:
    """Binary scipy CSR matrix, source nodes by destination nodes."""
    import scipy.sparse

    edges = graph.relations[relation]
    shape = graph.counts[relation.source], graph.counts[relation.destination]
    ones = np.ones(len(edges.source), dtype=np.bool_)
    return scipy.sparse.csr_matrix((ones, (edges.source, edges.destination)), shape=shape).astype(dtype)


class _Builder:
    """Builds inputs; both ends of a metapath or a stack share the work."""

    def __init__(self, graph: HeteroGraph, semantic: SemanticGraphs) -> None:
        self._graph = graph
        self._made: dict[Any, Any] = dict(semantic)

    def build(self, binding: Binding) -> Array:
        graph = self._graph
        match binding:
            case Features(node_type):
                return graph.dense_features(node_type)
            case NodeCount(node_type):
                return np.array(graph.counts[node_type], dtype=np.int64)
            case RelationEnd(relation, end):
                return _end(graph.relations[relation], end)
            case LoopedEnd(relation, end):
                return _end(looped_edges(graph, relation), end)
            case MetapathEnd(_, path, end):
                return _end(self._once(path, lambda: semantic_edges(graph, path)), end)
            case StackedEnd(types, relations, self_loops, end):
                key = (types, relations, self_loops)
                return _end(self._once(key, lambda: stacked_edges(graph, *key)), end)
            case JoinedEnd(_, relations, end):
                return _end(self._once(("joined", relations), lambda: joined_edges(graph, relations)), end)
            case EdgeTypes(types, relations, self_loops):
                return edge_types(graph, types, relations, self_loops)
            case EdgeWeights(relation):
                return edge_weights(graph, relation)
            case InDegreeWeights(relation, self_loops):
                edges = looped_edges(graph, relation) if self_loops else graph.relations[relation]
                return in_degree_weights(edges, graph.counts[relation.destination])
            case MetapathMean(path, node_type):
                return _metapath_mean(graph, path, node_type)
        raise BindingInvalidError(
            f"the binding {binding} is not complete",
            "a binding that names all parts",
            "resolve it with the graph",
        )

    def _once(self, key: Any, make: Callable[[], _Made]) -> _Made:
        if key not in self._made:
            self._made[key] = make()
        made: _Made = self._made[key]
        return made


def _end(edges: Edges, end: End) -> Array:
    ids = edges.source if end is End.SOURCE else edges.destination
    return ids.astype(np.int64)


def stacked_edges(
    graph: HeteroGraph, types: tuple[str, ...], relations: tuple[Relation, ...], self_loops: bool
) -> Edges:
    """Edges of all relations one behind the other, ids of the stacked types, and behind them the self loops."""
    starts = np.cumsum([0] + [graph.counts[node_type] for node_type in types])
    offsets = dict(zip(types, starts, strict=False))
    loops = np.arange(starts[-1] if self_loops else 0, dtype=np.int64)
    source = [graph.relations[relation].source + offsets[relation.source] for relation in relations]
    destination = [graph.relations[relation].destination + offsets[relation.destination] for relation in relations]
    return Edges(np.concatenate([*source, loops]), np.concatenate([*destination, loops]))


def joined_edges(graph: HeteroGraph, relations: tuple[Relation, ...]) -> Edges:
    """Edges of relations into one type, one relation behind the other; each relation has source rows of its own."""
    starts = np.cumsum([0] + [graph.counts[relation.source] for relation in relations])
    pairs = [graph.relations[relation] for relation in relations]
    source = [edges.source.astype(np.int64) + start for edges, start in zip(pairs, starts, strict=False)]
    return Edges(np.concatenate(source), np.concatenate([edges.destination for edges in pairs]))


def edge_weights(graph: HeteroGraph, relation: Relation) -> npt.NDArray[np.float32]:
    """The weight of each of a relation's edges: 1 / sqrt(edges out of its source * edges into its destination)."""
    edges = graph.relations[relation]
    out, into = (np.bincount(ends)[ends].astype(np.float64) for ends in (edges.source, edges.destination))
    weights: npt.NDArray[np.float32] = (1 / np.sqrt(out * into)).astype(np.float32)
    return weights


def looped_edges(graph: HeteroGraph, relation: Relation) -> Edges:
    """A relation's edges between different nodes of its type, and behind them each node's edge to itself."""
    edges, own = graph.relations[relation], np.arange(graph.counts[relation.destination], dtype=np.int64)
    kept = edges.source != edges.destination
    return Edges(np.concatenate([edges.source[kept], own]), np.concatenate([edges.destination[kept], own]))


def in_degree_weights(edges: Edges, nodes: int) -> npt.NDArray[np.float32]:
    """The weight of each edge between ``nodes`` nodes of one type, by the edges into its ends u and d: 1 / sqrt(u * d).

    0 where no edge leads into the source.
    """
    into = np.bincount(edges.destination, minlength=nodes).astype(np.float64)
    roots = np.divide(1, np.sqrt(into), out=np.zeros(nodes), where=into > 0)
    weights: npt.NDArray[np.float32] = (roots[edges.source] * roots[edges.destination]).astype(np.float32)
    return weights


def edge_types(
    graph: HeteroGraph, types: tuple[str, ...], relations: tuple[Relation, ...], self_loops: bool
) -> npt.NDArray[np.int64]:
    """The type of each of ``stacked_edges``: its relation's index, of self loops the next one."""
    lengths = [len(graph.relations[relation].source) for relation in relations]
    lengths.append(sum(graph.counts[node_type] for node_type in types) if self_loops else 0)
    return np.repeat(np.arange(len(lengths), dtype=np.int64), lengths)


def _metapath_mean(graph: HeteroGraph, path: Iterable[Relation], node_type: str) -> npt.NDArray[np.float32]:
    import scipy.sparse

    table = graph.features.get(node_type)
    if table is None:
        values: Any = scipy.sparse.identity(graph.counts[node_type], format="csr", dtype=np.float32)
    elif isinstance(table, CsrFeatures):
        shape = graph.counts[node_type], table.width
        values = scipy.sparse.csr_matrix((table.data, table.indices, table.indptr), shape=shape)
    else:
        values = table
    for relation in reversed(tuple(path)):
        adjacency = _adjacency(graph, relation, np.float32)
        neighbours = np.maximum(np.diff(adjacency.indptr), 1).astype(np.float32)
        values = scipy.sparse.diags(1 / neighbours) @ (adjacency @ values)
    dense = values.toarray() if scipy.sparse.issparse(values) else values
    return np.ascontiguousarray(dense, dtype=np.float32)
