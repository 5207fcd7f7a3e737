# SPDX-License-Identifier: Apache-2.0
"""Semantic graphs that follow changes of edges: counts of paths, of which a change moves only those that it touches.

With L and R as matrices of 0 and 1, the product L R counts, for each pair of ends, the vertices between. An edge of the
semantic graph is a count above 0. When edges come or go, L becomes L + dL and R becomes R + dR, and the counts change
by dL (R + dR) + L dR: sums over the changed edges alone. Views of databases are kept up with counts in the same way
(Gupta, Mumick and Subrahmanian, "Maintaining views incrementally", SIGMOD 1993).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from hetfab.overlay.semantic.plan import Compose, Metapath, Plan

Ids: TypeAlias = npt.NDArray[np.int64]
Integers: TypeAlias = npt.NDArray[np.signedinteger[Any]]
#: Edges that change: both ends, and 1 for each that comes, -1 for each that goes.
Changes: TypeAlias = tuple[Ids, Ids, Integers]
#: Cells of a matrix for each pair with a count, up to which a matrix is smaller than a list of the pairs.
_CELLS_A_PAIR = 12
_SMALL_COUNT = (1 << 15) - 1


@dataclass(frozen=True, eq=False)
class Flips:
    """Edges that came or went.

    Attributes:
        rows: int64 [n].
        columns: int64 [n].
        signs: int8 [n], 1 for an edge that came, -1 for one that went.
    """

    rows: Ids
    columns: Ids
    signs: Integers


_NO_IDS = np.zeros(0, np.int64)
NO_CHANGES: Changes = (_NO_IDS, _NO_IDS, np.zeros(0, np.int8))
_NO_FLIPS = Flips(_NO_IDS, _NO_IDS, np.zeros(0, np.int8))


class _Pairs:
    """Counts of few pairs: sorted keys ``row * columns + column``, the same turned, and the count of each."""

    def __init__(self, rows: int, columns: int, keys: Ids, counts: Ids) -> None:
        self.shape = rows, columns
        self._keys, self._counts = keys, counts
        self._turned = np.sort(keys % max(columns, 1) * max(rows, 1) + keys // max(columns, 1))

    @property
    def pairs(self) -> int:
        """Pairs with a count."""
        return len(self._keys)

    def out_of(self, rows: Ids) -> tuple[Ids, Integers]:
        """Where each row's edges begin in the second value, their columns."""
        return _ranges(self._keys, rows, self.shape[1])

    def into(self, columns: Ids) -> tuple[Ids, Integers]:
        """Where each column's edges begin in the second value, their rows."""
        return _ranges(self._turned, columns, self.shape[0])

    def add(self, keys: Ids, changes: Integers) -> tuple[Ids, Integers]:
        """Changes counts; the keys of the pairs that came or went, and which."""
        keys, changes = _summed(keys, changes)
        place = np.searchsorted(self._keys, keys)
        there = np.zeros(len(keys), bool)
        inside = place < len(self._keys)
        there[inside] = self._keys[place[inside]] == keys[inside]
        self._counts[place[there]] += changes[there]
        gone = there.copy()
        gone[there] = self._counts[place[there]] == 0
        new = ~there
        signs = np.where(new, 1, -1).astype(np.int8)
        flipped = gone | new
        self._merge(place, keys, changes, gone, new)
        return keys[flipped], signs[flipped]

    def _merge(
        self, place: Ids, keys: Ids, changes: Ids, gone: npt.NDArray[np.bool_], new: npt.NDArray[np.bool_]
    ) -> None:
        """Inserts new pairs and deletes those without a count, both ways round."""
        rows, columns = self.shape
        turned = keys % max(columns, 1) * max(rows, 1) + keys // max(columns, 1)
        kept = np.ones(len(self._keys), bool)
        kept[place[gone]] = False
        at = np.cumsum(np.concatenate([[0], kept]))[place[new]]
        self._keys = np.insert(self._keys[kept], at, keys[new])
        self._counts = np.insert(self._counts[kept], at, changes[new])
        kept = np.ones(len(self._turned), bool)
        kept[np.searchsorted(self._turned, turned[gone])] = False
        remaining, coming = self._turned[kept], np.sort(turned[new])
        self._turned = np.insert(remaining, np.searchsorted(remaining, coming), coming)

    def all_pairs(self) -> tuple[Ids, Ids]:
        """Starts of the rows, and columns in rising order."""
        return _ranges(self._keys, np.arange(self.shape[0]), self.shape[1])


class _Matrix:
    """Counts of many pairs: a matrix."""

    def __init__(self, counts: npt.NDArray[np.signedinteger[Any]]) -> None:
        self.shape = counts.shape[0], counts.shape[1]
        self._counts = counts
        self._marks = np.zeros(counts.size, np.bool_)

    def out_of(self, rows: Ids) -> tuple[Ids, Integers]:
        """As of ``_Pairs``."""
        return _nonzeros(self._counts[rows])

    def into(self, columns: Ids) -> tuple[Ids, Integers]:
        """As of ``_Pairs``."""
        return _nonzeros(self._counts[:, columns].T)

    def add(self, keys: Ids, changes: Integers) -> tuple[Ids, Integers]:
        """As of ``_Pairs``, but a pair may be named several times.

        Only a pair that gains can come, and only one that loses can go.
        """
        flat = self._counts.reshape(-1)
        gaining, losing = keys[changes > 0], keys[changes < 0]
        without = gaining[flat[gaining] == 0]
        self._marks[without] = True
        np.add.at(flat, gaining, flat.dtype.type(1))
        np.add.at(flat, losing, flat.dtype.type(-1))
        came = without[flat[without] > 0]
        empty = losing[flat[losing] == 0]
        went = empty[~self._marks[empty]]
        self._marks[without] = False
        signs = np.repeat(np.array([1, -1], np.int8), [len(came), len(went)])
        return np.concatenate([came, went]), signs

    def all_pairs(self) -> tuple[Ids, Integers]:
        """As of ``_Pairs``."""
        return _nonzeros(self._counts)


class _Graph:
    """A graph whose edges have counts: copies of an edge, or vertices between its ends.

    Args:
        counts: The counts.
        is_part: Whether other graphs are composed of it, which want each edge that came or went once.
    """

    def __init__(self, counts: _Pairs | _Matrix, is_part: bool) -> None:
        self._counts = counts
        self._is_part = is_part
        self.flips = _NO_FLIPS

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self._counts.shape

    def out_of(self, rows: Ids) -> tuple[Ids, Integers]:
        """Where each row's edges begin in the second value, their columns."""
        return self._counts.out_of(rows)

    def into(self, columns: Ids) -> tuple[Ids, Integers]:
        """Where each column's edges begin in the second value, their rows."""
        return self._counts.into(columns)

    def change(self, rows: Ids, columns: Integers, signs: Integers) -> None:
        """Changes counts by 1 or -1 each, and notes the edges that came or went, maybe several times."""
        width = max(self.shape[1], 1)
        keys, signs = self._counts.add(rows * width + columns, signs)
        if self._is_part and isinstance(self._counts, _Matrix):
            keys, first = np.unique(keys, return_index=True)
            signs = signs[first]
        self.flips = Flips(keys // width, keys % width, signs)

    def all_edges(self) -> tuple[Ids, Integers]:
        """Where each row's edges begin in the second value, their columns in rising order."""
        return self._counts.all_pairs()


class ChangingGraphs:
    """The semantic graphs of a plan, which follow changes of its relations; a host with a compiler has faster ones.

    Args:
        plan: Its steps, without transposes: whether a relation is another's reverse may change.
        edges: Of each relation by name, its rows, columns, and both ends of all edges, duplicates kept.
    """

    def __init__(self, plan: Plan, edges: Mapping[str, tuple[int, int, Ids, Ids]]) -> None:
        self._plan = plan
        self._graphs: dict[Metapath, _Graph] = {}
        self._steps = [step for step in plan.steps if isinstance(step, Compose)]
        parts = {path for step in self._steps for path in (step.left, step.right)}
        for name, (rows, columns, source, destination) in edges.items():
            keys, counts = np.unique(source * max(columns, 1) + destination, return_counts=True)
            self._graphs[name,] = _Graph(_Pairs(rows, columns, keys, counts.astype(np.int64)), True)
        for step in self._steps:
            counts = _product(self._graphs[step.left], self._graphs[step.right])
            self._graphs[step.path] = _Graph(counts, step.path in parts)

    def update(self, changes: Mapping[str, Changes]) -> dict[str, Ids]:
        """Changes relations.

        Args:
            changes: Of a relation, both ends of edges, and 1 for each that is added, -1 for each that is removed.

        Returns:
            Of each metapath by name, the rows of its semantic graph that changed, in rising order.
        """
        for name, graph in ((path[0], graph) for path, graph in self._graphs.items() if len(path) == 1):
            graph.change(*changes.get(name, NO_CHANGES))
        for step in self._steps:
            self._graphs[step.path].change(*_changes(self._graphs[step.left], self._graphs[step.right]))
        return {name: np.unique(self._graphs[path].flips.rows) for name, path in self._plan.outputs.items()}

    def rows(self, name: str, rows: Ids) -> tuple[Ids, Integers]:
        """Rows of a metapath's semantic graph: where each begins in the second value, ids in rising order."""
        return self._graphs[self._plan.outputs[name]].out_of(rows)

    def outputs(self) -> dict[str, tuple[Ids, Integers]]:
        """All rows of each metapath's semantic graph, as ``rows`` gives them."""
        return {name: self._graphs[path].all_edges() for name, path in self._plan.outputs.items()}


def _changes(left: _Graph, right: _Graph) -> Changes:
    """The changes of counts of a product, whose factors have theirs already: dL R' + L' dR - dL dR."""
    of_left, of_right = left.flips, right.flips
    starts, columns = right.out_of(of_left.columns)
    degrees = np.diff(starts)
    first = np.repeat(of_left.rows, degrees), columns, np.repeat(of_left.signs, degrees)
    starts, rows = left.into(of_right.rows)
    degrees = np.diff(starts)
    second = rows, np.repeat(of_right.columns, degrees), np.repeat(of_right.signs, degrees)
    third = _both_changed(of_left, of_right)
    parts = [np.concatenate(each) for each in zip(first, second, third, strict=True)]
    return parts[0], parts[1], parts[2]


def _both_changed(left: Flips, right: Flips) -> Changes:
    """Minus dL dR."""
    order = np.argsort(right.rows, kind="stable")
    begin = np.searchsorted(right.rows[order], left.columns, side="left")
    end = np.searchsorted(right.rows[order], left.columns, side="right")
    degrees = end - begin
    starts = np.cumsum(degrees) - degrees
    met = order[np.arange(degrees.sum()) + np.repeat(begin - starts, degrees)]
    signs = -np.repeat(left.signs, degrees) * right.signs[met]
    return np.repeat(left.rows, degrees), right.columns[met], signs


def _product(left: _Graph, right: _Graph) -> _Pairs | _Matrix:
    """Counts of the vertices between all pairs of ends."""
    import scipy.sparse

    def matrix(graph: _Graph) -> "scipy.sparse.csr_matrix":
        starts, ids = graph.all_edges()
        return scipy.sparse.csr_matrix((np.ones(len(ids), np.int32), ids, starts), shape=graph.shape)

    counts = matrix(left) @ matrix(right)
    rows, columns = counts.shape
    if counts.nnz * _CELLS_A_PAIR >= rows * columns:
        small = min(left.shape[1], right.shape[0]) <= _SMALL_COUNT
        return _Matrix(counts.astype(np.int16 if small else np.int32).toarray())
    counts.sort_indices()
    keys = np.repeat(np.arange(rows, dtype=np.int64), np.diff(counts.indptr)) * max(columns, 1) + counts.indices
    return _Pairs(rows, columns, keys, counts.data.astype(np.int64))


def _summed(keys: Ids, changes: Integers) -> tuple[Ids, Ids]:
    """Distinct keys in rising order with the sums of their changes, without those that add up to 0."""
    order = np.argsort(keys, kind="stable")
    found, first = np.unique(keys[order], return_index=True)
    sums = np.add.reduceat(changes[order].astype(np.int64), first) if len(found) else _NO_IDS
    return found[sums != 0], sums[sums != 0]


def _ranges(keys: Ids, rows: Ids, columns: int) -> tuple[Ids, Integers]:
    """The entries of some rows of sorted keys."""
    width = max(columns, 1)
    begin, end = np.searchsorted(keys, rows * width), np.searchsorted(keys, (rows + 1) * width)
    starts = np.concatenate([[0], np.cumsum(end - begin)])
    places = np.arange(starts[-1]) + np.repeat(begin - starts[:-1], end - begin)
    return starts, keys[places] % width


def _nonzeros(counts: npt.NDArray[np.signedinteger[Any]]) -> tuple[Ids, Integers]:
    present = counts != 0
    starts = np.concatenate([[0], np.cumsum(np.count_nonzero(present, axis=1))])
    columns = np.arange(counts.shape[1], dtype=np.int32)
    return starts, np.broadcast_to(columns, counts.shape)[present]
