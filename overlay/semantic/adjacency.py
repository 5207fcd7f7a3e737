# SPDX-License-Identifier: Apache-2.0
"""Boolean graphs between two node types in CSR form, and their golden operations: composition and transpose.

``docs/semantic-graphs.md`` defines the operations. They are written for reading; ``hls/host/semantic.hpp`` holds
the fast equals.
"""

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Ids: TypeAlias = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Adjacency:
    """Which columns each row reaches: no edge twice, rows and columns without edges are kept.

    Attributes:
        starts: int64 [rows + 1], where each row begins in ``ids``.
        ids: int64 [edges], columns, in each row in any order.
        columns: Vertices that ids name.
    """

    starts: Ids
    ids: Ids
    columns: int

    @property
    def rows(self) -> int:
        """Vertices that have a row."""
        return len(self.starts) - 1

    @property
    def edges(self) -> int:
        """Edges of all rows."""
        return len(self.ids)

    def out_degrees(self) -> Ids:
        """Edges of each row, int64 [rows]."""
        return np.diff(self.starts)

    def in_degrees(self) -> Ids:
        """Edges into each column, int64 [columns]."""
        return np.bincount(self.ids, minlength=self.columns).astype(np.int64)

    def row(self, number: int) -> Ids:
        """The columns that a row reaches, int64 [edges of the row]."""
        return self.ids[self.starts[number] : self.starts[number + 1]]


def adjacency(source: npt.NDArray[Any], destination: npt.NDArray[Any], rows: int, columns: int) -> Adjacency:
    """The adjacency of a relation's edges; an edge that is given more than once counts once.

    Args:
        source: Integers [edges] below ``rows``.
        destination: Integers [edges] below ``columns``.
        rows: Vertices of the source type.
        columns: Vertices of the destination type.

    Returns:
        Rows whose ids ascend.
    """
    # Sorting takes a fraction of numpy's search for distinct numbers, which hashes them.
    keys = np.sort(source.astype(np.int64) * max(columns, 1) + destination)
    row, column = np.divmod(keys[np.diff(keys, prepend=-1) != 0], max(columns, 1))
    return Adjacency(_starts(np.bincount(row, minlength=rows)), column, columns)


def compose(left: Adjacency, right: Adjacency, threshold: int) -> Adjacency:
    """The boolean product: an edge (s, d) wherever an edge (s, k) of ``left`` meets an edge (k, d) of ``right``.

    The expansions of a row are the edges of ``right`` that its edges lead to. A row of one edge is that row of
    ``right``. Of the others, a row with more expansions than ``threshold`` is collected in a bitmap, and its ids
    ascend; the rest keeps the order in which ids are first seen.

    Args:
        left: S x K.
        right: K x D.
        threshold: Expansions above which a row is collected in a bitmap.

    Returns:
        S x D.
    """
    rows = [_composed_row(left.row(row), right, threshold) for row in range(left.rows)]
    ids = np.concatenate([np.zeros(0, np.int64), *rows])
    return Adjacency(_starts(np.array([len(row) for row in rows], np.int64)), ids, right.columns)


def _composed_row(middle: Ids, right: Adjacency, threshold: int) -> Ids:
    expanded = np.concatenate([np.zeros(0, np.int64), *(right.row(int(k)) for k in middle)])
    if len(middle) == 1:
        return expanded
    if len(expanded) > threshold:
        bitmap = np.zeros(right.columns, bool)
        bitmap[expanded] = True
        return np.flatnonzero(bitmap)
    _, first = np.unique(expanded, return_index=True)
    return expanded[np.sort(first)]


def transpose(graph: Adjacency) -> Adjacency:
    """The same edges in the other direction; in each row the ids ascend."""
    row_of_edge = np.repeat(np.arange(graph.rows, dtype=np.int64), graph.out_degrees())
    by_column = np.argsort(graph.ids, kind="stable")
    return Adjacency(_starts(graph.in_degrees()), row_of_edge[by_column], graph.rows)


def expansions(left: Adjacency, right: Adjacency) -> int:
    """The work of ``compose``: over all vertices between, edges into it times edges out of it."""
    return int(left.in_degrees() @ right.out_degrees())


def _starts(degrees: Ids) -> Ids:
    starts = np.zeros(len(degrees) + 1, np.int64)
    np.cumsum(degrees, out=starts[1:])
    return starts
