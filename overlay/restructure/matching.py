# SPDX-License-Identifier: Apache-2.0
"""Maximum matching of a bipartite graph by augmenting paths (H. W. Kuhn, 1955), breadth first, with dead trees.

Columns that a search without success has met are dead: every row behind them is matched and leads to such columns
alone, so no later search can pass them either. Without that rule a search repeats what earlier ones found, hundreds of
visits for each edge of public relations.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hetfab.overlay.semantic.adjacency import Adjacency, Ids


@dataclass(frozen=True, eq=False)
class Matching:
    """Pairs of rows and columns that are joined by edges, no vertex in two of them.

    Attributes:
        columns: int64 [rows], the column of each row, -1 where it has none.
        dead: bool [columns], columns that searches without success have met.
        edge_visits: Edges that were looked at.
    """

    columns: Ids
    dead: npt.NDArray[np.bool_]
    edge_visits: int

    @property
    def size(self) -> int:
        """Pairs."""
        return int(np.count_nonzero(self.columns >= 0))


@dataclass(frozen=True, eq=False)
class MatchingWork:
    """What a matching looks at: what it costs an engine follows from that.

    Attributes:
        tried: int64 [n, 2], each row that looked for a free column, and how many of its columns it looked at.
        met: int64 [n, 2], the same of each row in searches.
        flipped: int64 [successes], pairs that each successful search turned.
        died: int64 [failures], columns that each failed search met.
    """

    tried: Ids
    met: Ids
    flipped: Ids
    died: Ids


def match(graph: Adjacency) -> Matching:
    """Matches as many rows of a graph as can be, each with one of its columns."""
    matcher = _matched(graph)
    columns = np.array([matcher.column_of.get(row, -1) for row in range(graph.rows)], np.int64)
    dead = np.zeros(graph.columns, bool)
    dead[list(matcher.dead)] = True
    return Matching(columns, dead, matcher.edge_visits)


def matching_work(graph: Adjacency) -> MatchingWork:
    """What ``match`` looks at."""
    matcher = _matched(graph)
    tried, met = (np.array(looked, np.int64).reshape(-1, 2) for looked in (matcher.tried, matcher.met))
    return MatchingWork(tried, met, np.array(matcher.flipped, np.int64), np.array(matcher.died, np.int64))


def _matched(graph: Adjacency) -> "_Matcher":
    matcher = _Matcher(graph)
    free = [row for row in range(graph.rows) if len(graph.row(row)) and not matcher.takes_free_column(row)]
    for row in free:
        matcher.search(row)
    return matcher


class _Matcher:
    def __init__(self, graph: Adjacency) -> None:
        self.graph = graph
        self.column_of: dict[int, int] = {}
        self.row_of: dict[int, int] = {}
        self.dead: set[int] = set()
        self.tried: list[tuple[int, int]] = []
        self.met: list[tuple[int, int]] = []
        self.flipped: list[int] = []
        self.died: list[int] = []

    @property
    def edge_visits(self) -> int:
        return sum(looked for _, looked in (*self.tried, *self.met))

    def takes_free_column(self, row: int) -> bool:
        """Matches a row with the first of its columns that is free."""
        columns = self.graph.row(row).tolist()
        for number, column in enumerate(columns):
            if column not in self.row_of:
                self._join(row, column)
                self.tried.append((row, number + 1))
                return True
        self.tried.append((row, len(columns)))
        return False

    def search(self, root: int) -> None:
        """Looks for a path from a free row to a free column along edges, and back along pairs."""
        queue, parent = [root], dict[int, int]()
        for row in queue:
            columns = self.graph.row(row).tolist()
            for number, column in enumerate(columns):
                if column in self.dead or column in parent:
                    continue
                parent[column] = row
                if column not in self.row_of:
                    self.met.append((row, number + 1))
                    self._flip(column, root, parent)
                    return
                queue.append(self.row_of[column])
            self.met.append((row, len(columns)))
        self.dead |= set(parent)
        self.died.append(len(parent))

    def _flip(self, column: int, root: int, parent: dict[int, int]) -> None:
        self.flipped.append(0)
        while True:
            self.flipped[-1] += 1
            row = parent[column]
            given_up = self.column_of.get(row)
            self._join(row, column)
            if row == root or given_up is None:
                return
            column = given_up

    def _join(self, row: int, column: int) -> None:
        self.column_of[row] = column
        self.row_of[column] = row
