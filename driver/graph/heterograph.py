# SPDX-License-Identifier: Apache-2.0
"""A heterogeneous graph in memory: typed nodes, relations, features, labels, splits and metapaths.

It needs only numpy, so that a board can hold one. ``docs/graphs.md`` describes it.
"""

import copy
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from hetfab.overlay.errors import (
    FeaturesMissingError,
    FeaturesNotFiniteError,
    GraphInvalidError,
    RelationMissingError,
    counted,
)
from hetfab.overlay.model.schema import GraphSchema, Relation, chains

SPLITS = ("train", "val", "test")
_NAME = re.compile(r"[^\s./,]+")
_NAME_RULE = "a name without spaces, full stops, commas and slashes"
_LARGEST = (1 << 31) - 1
_REPAIR = "correct the graph where it is made"


class Edges(NamedTuple):
    """Edges of a relation: edge i runs from node ``source[i]`` to node ``destination[i]``.

    Both are int32 or int64 [E]; ids start at 0 in each node type. Duplicates are kept.
    """

    source: npt.NDArray[Any]
    destination: npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class CsrFeatures:
    """Sparse features of N nodes.

    Attributes:
        indptr: int32 or int64 [N + 1], start of each row.
        indices: int32 or int64 [nnz], columns, ascending in each row without duplicates.
        data: float32 [nnz].
        width: Columns.
    """

    indptr: npt.NDArray[Any]
    indices: npt.NDArray[Any]
    data: npt.NDArray[np.float32]
    width: int

    @property
    def rows(self) -> npt.NDArray[np.int64]:
        """The row of each entry, int64 [nnz]."""
        return np.repeat(np.arange(len(self.indptr) - 1, dtype=np.int64), np.diff(self.indptr))

    def dense(self) -> npt.NDArray[np.float32]:
        """The same features as float32 [N, width]."""
        table = np.zeros((len(self.indptr) - 1, self.width), dtype=np.float32)
        table[self.rows, self.indices] = self.data
        return table


FeatureTable = npt.NDArray[np.float32] | CsrFeatures
#: A table with a smaller share of entries other than zero is kept as CSR by readers of text.
SPARSE_BELOW = 0.25


def smaller_table(table: npt.NDArray[np.float32]) -> FeatureTable:
    """The form in which readers of text keep features: CSR where less than a quarter of the entries is not zero.

    Args:
        table: float32 [N, D].
    """
    if np.count_nonzero(table) >= SPARSE_BELOW * table.size:
        return table
    rows, columns = np.nonzero(table)
    indptr = np.zeros(len(table) + 1, dtype=np.int64)
    np.cumsum(np.bincount(rows, minlength=len(table)), out=indptr[1:])
    return CsrFeatures(indptr, columns.astype(np.int32), table[rows, columns], table.shape[1])


@dataclass(frozen=True, eq=False)
class HeteroGraph:
    """A heterogeneous graph, checked when it is made.

    Types without nodes and relations without edges are allowed.

    Attributes:
        name: Name of the graph.
        target: Node type to predict, or None.
        counts: Nodes of each type, in the order in which models stack them.
        relations: Edges of each relation, in order; relation names are unique.
        features: float32 [N, D] or ``CsrFeatures`` of each type that has some.
        labels: int [N] (class, -1 unlabelled) or uint8 [N, C] (0 or 1, multilabel) of each labelled type.
        splits: For a type, the node ids (int [n]) of ``train``, ``val`` and ``test``.
        metapaths: Names of the relations along each metapath.
        ids: For a type, what its nodes are called where the graph comes from: text [N] without duplicates. Nodes
            of other types have only their numbers.
        classes: For a labelled type, the names of its classes.

    Raises:
        GraphInvalidError: Ids outside their type, wrong shapes or dtypes, unknown types, malformed CSR,
            names that collide, metapaths that do not chain, fewer names of classes than classes.
        RelationMissingError: A metapath names a relation that the graph does not have.
        FeaturesNotFiniteError: Features contain NaN or infinity.
    """

    name: str
    target: str | None
    counts: Mapping[str, int]
    relations: Mapping[Relation, Edges] = field(default_factory=dict)
    features: Mapping[str, FeatureTable] = field(default_factory=dict)
    labels: Mapping[str, npt.NDArray[Any]] = field(default_factory=dict)
    splits: Mapping[str, Mapping[str, npt.NDArray[Any]]] = field(default_factory=dict)
    metapaths: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    ids: Mapping[str, npt.NDArray[np.str_]] = field(default_factory=dict)
    classes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Checks the graph."""
        _check_types(self)
        _check_names(self)
        for relation, edges in self.relations.items():
            _check_edges(relation, edges, self.counts)
        for node_type, table in self.features.items():
            _check_features(node_type, table, self.counts[node_type])
        for node_type, labels in self.labels.items():
            _check_labels(node_type, labels, self.counts[node_type])
        for node_type, parts in self.splits.items():
            _check_splits(node_type, parts, self.counts[node_type])
        for name in self.metapaths:
            _check_metapath(self, name)
        for node_type, names in self.ids.items():
            _check_names_of_nodes(node_type, names, self.counts[node_type])
        for node_type, classes in self.classes.items():
            _check_classes(node_type, classes, self.labels.get(node_type))

    def relation(self, name: str) -> Relation:
        """The relation of a name.

        Raises:
            RelationMissingError: There is none; the message lists what there is.
        """
        for relation in self.relations:
            if relation.name == name:
                return relation
        raise RelationMissingError(
            f"the graph '{self.name}' has no relation '{name}'",
            f"one of {listed(str(relation) for relation in self.relations)}",
            "check the name, or use a graph that has this relation",
        )

    def metapath(self, name: str) -> tuple[Relation, ...]:
        """The relations along a metapath.

        Raises:
            RelationMissingError: There is no such metapath; the message lists what there is.
        """
        if name not in self.metapaths:
            raise RelationMissingError(
                f"the graph '{self.name}' has no metapath '{name}'",
                f"one of {listed(self.metapaths)}",
                "check the name, or add the metapath to the graph",
            )
        return tuple(self.relation(step) for step in self.metapaths[name])

    def dense_features(self, node_type: str) -> npt.NDArray[np.float32]:
        """Features of a type as float32 [N, D].

        Raises:
            RelationMissingError: The graph has no such node type.
            FeaturesMissingError: The type has no features.
        """
        if node_type not in self.counts:
            raise RelationMissingError(
                f"the graph '{self.name}' has no node type '{node_type}'",
                f"one of {listed(self.counts)}",
                "check the name, or use a graph that has this node type",
            )
        if node_type not in self.features:
            raise FeaturesMissingError(
                f"the nodes of type '{node_type}' of the graph '{self.name}' have no features",
                f"a type with features: {listed(self.features)}",
                "add features to the graph, or use a model with a learned table for this type",
            )
        table = self.features[node_type]
        return table.dense() if isinstance(table, CsrFeatures) else table

    def with_edges(
        self,
        added: Mapping[Relation, Edges] | None = None,
        removed: Mapping[Relation, Edges] | None = None,
    ) -> "HeteroGraph":
        """The same graph with other edges; a relation and its reverse change apart.

        Args:
            added: Edges that come, behind those that are there.
            removed: Edges that go; of edges that are there several times, as many as are given.

        Raises:
            RelationMissingError: The graph has no such relation.
            GraphInvalidError: An edge is to go that is not there, or ids are outside of their type.
        """
        relations = dict(self.relations)
        for relation in (*(removed or {}), *(added or {})):
            if relation not in relations:
                self.relation(relation.name)
                raise _invalid(f"edges of the relation {relation}", f"one of {listed(map(str, relations))}")
        for relation, edges in (removed or {}).items():
            _check_edges(relation, edges, self.counts)
            relations[relation] = _without_edges(relation, relations[relation], edges, self.counts)
        for relation, edges in (added or {}).items():
            _check_edges(relation, edges, self.counts)
            there = relations[relation]
            relations[relation] = Edges(
                np.concatenate([there.source, edges.source]), np.concatenate([there.destination, edges.destination])
            )
        # All else is as it was checked.
        changed = copy.copy(self)
        object.__setattr__(changed, "relations", relations)
        return changed

    def schema(self) -> GraphSchema:
        """Names, counts and widths, without edges."""
        return GraphSchema(
            types=tuple(self.counts),
            counts=dict(self.counts),
            relations=tuple(self.relations),
            metapaths=dict(self.metapaths),
            feature_widths={
                node_type: table.width if isinstance(table, CsrFeatures) else table.shape[1]
                for node_type, table in self.features.items()
            },
            target=self.target,
        )


def _check_types(graph: HeteroGraph) -> None:
    for node_type, count in graph.counts.items():
        if not _NAME.fullmatch(node_type):
            raise _invalid(f"a node type is named {node_type!r}", _NAME_RULE)
        if isinstance(count, bool) or not isinstance(count, int | np.integer) or count < 0:
            raise _invalid(f"node type '{node_type}' has the count {count!r}", "a whole number of at least 0")
        if count > _LARGEST:
            raise _invalid(f"node type '{node_type}' has the count {count!r}", f"at most {_LARGEST}: ids have 32 bits")
    uses = [("the target", graph.target)] if graph.target is not None else []
    for relation in graph.relations:
        uses += [(f"relation '{relation.name}'", end) for end in (relation.source, relation.destination)]
    parts: dict[str, Iterable[str]] = {"features": graph.features, "labels": graph.labels, "a split": graph.splits}
    for what, named in (parts | {"ids": graph.ids, "names of classes": graph.classes}).items():
        uses += [(what, node_type) for node_type in named]
    for what, node_type in uses:
        if node_type not in graph.counts:
            raise _invalid(f"{what}: '{node_type}' is not a node type", f"one of the node types {listed(graph.counts)}")


def _check_names(graph: HeteroGraph) -> None:
    seen: set[str] = set()
    for name in [relation.name for relation in graph.relations] + list(graph.metapaths):
        if not _NAME.fullmatch(name):
            raise _invalid(f"a relation or metapath is named {name!r}", _NAME_RULE)
        if name in seen:
            raise _invalid(
                f"two relations or metapaths are named '{name}'",
                "a name of its own for each relation and metapath, as models refer to them by name",
                "rename one, for instance to <source>_<name>_<destination>",
            )
        seen.add(name)


def _check_edges(relation: Relation, edges: Edges, counts: Mapping[str, int]) -> None:
    ends = ((relation.source, edges.source), (relation.destination, edges.destination))
    for end, (node_type, ids) in zip(("source", "destination"), ends, strict=True):
        _check_ids(f"relation '{relation.name}', {end}", ids, node_type, counts[node_type])
    if len(edges.source) != len(edges.destination):
        raise _invalid(
            f"relation '{relation.name}' has {len(edges.source)} sources and {len(edges.destination)} destinations",
            "one source and one destination for each edge",
        )


def _without_edges(relation: Relation, there: Edges, gone: Edges, counts: Mapping[str, int]) -> Edges:
    """The edges that stay, in their order."""
    width = max(counts[relation.destination], 1)
    # Only edges between ends of those that go can go: few are left to be sorted.
    marks = [np.zeros(counts[end], np.bool_) for end in (relation.source, relation.destination)]
    for mark, ids in zip(marks, (gone.source, gone.destination), strict=True):
        mark[ids] = True
    places = np.flatnonzero(marks[0][there.source])
    places = places[marks[1][there.destination[places]]]
    keys = there.source[places].astype(np.int64) * width + there.destination[places]
    wanted, times = np.unique(gone.source.astype(np.int64) * width + gone.destination, return_counts=True)
    order = np.argsort(keys, kind="stable")
    begin, end = (np.searchsorted(keys[order], wanted, side=side) for side in ("left", "right"))
    lacking = np.flatnonzero(end - begin < times)
    if len(lacking):
        source, destination = divmod(int(wanted[lacking[0]]), width)
        raise _invalid(
            f"relation '{relation.name}': the edge from {source} to {destination} is to go {times[lacking[0]]} times, "
            f"and is there {(end - begin)[lacking[0]]} times",
            "edges that are there",
        )
    kept = np.ones(len(there.source), np.bool_)
    kept[places[order[np.repeat(begin + times - np.cumsum(times), times) + np.arange(times.sum())]]] = False
    return Edges(there.source[kept], there.destination[kept])


def _check_ids(what: str, ids: npt.NDArray[Any], node_type: str, count: int) -> None:
    _check_array(what, ids, (np.int32, np.int64), 1)
    wrong = np.flatnonzero((ids < 0) | (ids >= count))
    if len(wrong):
        raise _invalid(
            f"{what}: entry {wrong[0]} is the id {ids[wrong[0]]} (entries outside: {len(wrong)})",
            f"ids from 0 to {count - 1}, as type '{node_type}' has {counted(count, 'node')}"
            if count
            else f"no ids at all, as type '{node_type}' has no nodes",
        )


def _check_features(node_type: str, table: FeatureTable, count: int) -> None:
    what = f"features of '{node_type}'"
    if isinstance(table, CsrFeatures):
        _check_csr(what, table, count)
        _check_finite(node_type, table.data, lambda at: (int(table.rows[at]), int(table.indices[at])))
        return
    _check_array(what, table, (np.float32,), 2)
    if len(table) != count:
        raise _invalid(f"{what} have {counted(len(table), 'row')}", f"one row for each of the {counted(count, 'node')}")
    width = table.shape[1]
    _check_finite(node_type, table, lambda at: (at // width, at % width))


def _check_csr(what: str, table: CsrFeatures, count: int) -> None:
    _check_array(f"{what}, indptr", table.indptr, (np.int32, np.int64), 1)
    _check_array(f"{what}, indices", table.indices, (np.int32, np.int64), 1)
    _check_array(f"{what}, data", table.data, (np.float32,), 1)
    if not 0 <= table.width <= _LARGEST:
        raise _invalid(f"{what}: {table.width} columns", f"at most {_LARGEST}: ids of columns have 32 bits")
    entries = len(table.data)
    if len(table.indptr) != count + 1:
        raise _invalid(f"{what}: indptr has {len(table.indptr)} entries", f"{count + 1}, one more than nodes")
    if table.indptr[0] != 0 or table.indptr[-1] != entries or (np.diff(table.indptr) < 0).any():
        raise _invalid(f"{what}: indptr is not a row index", f"values that ascend from 0 to {entries}")
    if len(table.indices) != entries:
        raise _invalid(f"{what}: {len(table.indices)} indices", f"as many as data, {entries}")
    wrong = np.flatnonzero((table.indices < 0) | (table.indices >= table.width))
    if len(wrong):
        raise _invalid(
            f"{what}: row {table.rows[wrong[0]]} has the column {table.indices[wrong[0]]}",
            f"columns from 0 to {table.width - 1}",
        )
    rows = table.rows
    unsorted = np.flatnonzero((np.diff(table.indices) <= 0) & (np.diff(rows) == 0))
    if len(unsorted):
        raise _invalid(
            f"{what}: the columns of row {rows[unsorted[0]]} do not ascend",
            "ascending columns without duplicates in each row",
            "add up duplicates and sort the indices where the graph is made",
        )


def _check_finite(node_type: str, values: npt.NDArray[np.float32], position: Callable[[int], tuple[int, int]]) -> None:
    wrong = np.flatnonzero(~np.isfinite(values))
    if not len(wrong):
        return
    row, column = position(int(wrong[0]))
    raise FeaturesNotFiniteError(
        f"features of '{node_type}': row {row}, column {column} is {values.reshape(-1)[wrong[0]]}"
        f" (such values: {len(wrong)})",
        "finite numbers",
        "replace NaN and infinity where the graph is made",
    )


def _check_labels(node_type: str, labels: npt.NDArray[Any], count: int) -> None:
    what = f"labels of '{node_type}'"
    if not isinstance(labels, np.ndarray) or labels.ndim not in (1, 2) or len(labels) != count:
        raise _invalid(
            f"{what}: {_described(labels)}",
            f"an array [{count}] of classes, or [{count}, classes] of 0 and 1",
        )
    if labels.ndim == 1:
        _check_array(what, labels, (np.int32, np.int64), 1)
        if (labels < -1).any():
            raise _invalid(f"{what}: {labels.min()}", "classes from 0, and -1 for unlabelled nodes")
        return
    _check_array(what, labels, (np.uint8,), 2)
    if (labels > 1).any():
        raise _invalid(f"{what}: {labels.max()} in a table of several labels a node", "0 or 1")


def _check_splits(node_type: str, parts: Mapping[str, npt.NDArray[Any]], count: int) -> None:
    for part, ids in parts.items():
        if part not in SPLITS:
            raise _invalid(f"split '{part}' of '{node_type}'", f"one of {listed(SPLITS)}")
        _check_ids(f"split '{part}' of '{node_type}'", ids, node_type, count)


def _check_metapath(graph: HeteroGraph, name: str) -> None:
    path = graph.metapath(name)
    if not path or not chains(path):
        raise _invalid(
            f"metapath '{name}' does not chain: {listed(str(relation) for relation in path)}",
            "at least one relation, each starting at the type where the one before it ends",
        )


def _check_names_of_nodes(node_type: str, names: npt.NDArray[np.str_], count: int) -> None:
    what = f"ids of '{node_type}'"
    if not isinstance(names, np.ndarray) or names.dtype.kind != "U" or names.shape != (count,):
        raise _invalid(f"{what}: {_described(names)}", f"an array of text [{count}]")
    if len(set(names.tolist())) != count:
        [(double, times)] = Counter(names.tolist()).most_common(1)
        raise _invalid(f"{what}: {times} nodes are called '{double}'", "an id of its own for each node")


def _check_classes(node_type: str, classes: tuple[str, ...], labels: npt.NDArray[Any] | None) -> None:
    if labels is None:
        raise _invalid(f"names of classes of '{node_type}', but no labels", "labels for a type with named classes")
    count = int(labels.max(initial=-1)) + 1 if labels.ndim == 1 else labels.shape[1]
    enough = len(classes) >= count if labels.ndim == 1 else len(classes) == count
    if not enough or len(set(classes)) != len(classes) or not all(isinstance(name, str) for name in classes):
        raise _invalid(
            f"names of classes of '{node_type}': {listed(map(str, classes))}",
            f"{count} different names, one for each class of the labels",
        )


def _check_array(what: str, array: npt.NDArray[Any], dtypes: tuple[type, ...], dimensions: int) -> None:
    if not isinstance(array, np.ndarray) or array.ndim != dimensions or array.dtype not in dtypes:
        names = " or ".join(np.dtype(dtype).name for dtype in dtypes)
        raise _invalid(f"{what}: {_described(array)}", f"an array of {names} with {dimensions} dimension(s)")


def _described(value: object) -> str:
    if isinstance(value, np.ndarray):
        return f"an array of {value.dtype.name} {list(value.shape)}"
    return f"a value of type {type(value).__name__}"


def listed(names: Iterable[str]) -> str:
    """Names in a message."""
    return ", ".join(names) or "none"


def _invalid(found: str, expected: str, do: str = _REPAIR) -> GraphInvalidError:
    return GraphInvalidError(found, expected, do)
