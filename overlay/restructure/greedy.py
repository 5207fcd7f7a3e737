# SPDX-License-Identifier: Apache-2.0
"""Greedy destinations: the next one has the largest share of its sources among those that were used last."""

import numpy as np

from hetfab.overlay.restructure.schedule import Sides
from hetfab.overlay.restructure.tiles import by_degree

_SCORES = 128
#: Sources of a destination that are looked at, on average.
_SAMPLED_EDGES = 16


def greedy_destinations(graph: Sides, window: int) -> list[int]:
    """Destinations with edges, in order.

    Shares are compared in steps of 1/127; among equals comes the one that got its share last, and where no share is
    above zero the one with fewest edges. A share that falls is corrected when its destination would come next, and the
    search goes on. Where destinations have many sources, every few-th source stands for all: the
    share is one of a sample, with 16 sources for a destination on average.

    Args:
        graph: The graph.
        window: Sources that are taken as used last, the sample's part of them.
    """
    greedy = _Greedy(graph, window)
    return [greedy.take() for _ in range(len(greedy.left))]


class _Greedy:
    def __init__(self, graph: Sides, window: int) -> None:
        self.graph = graph
        self.left = dict.fromkeys(by_degree(graph.by_destination, most_edges_first=False))
        self.stride = max(1, graph.edges // (_SAMPLED_EDGES * max(1, len(self.left))))
        self.window = max(1, window // self.stride)
        ids = graph.by_destination.ids
        rows = np.repeat(np.arange(graph.destinations), graph.by_destination.out_degrees())
        self.sampled: list[int] = np.bincount(rows[ids % self.stride == 0], minlength=graph.destinations).tolist()
        self.used: dict[int, None] = {}
        self.overlap = [0] * graph.destinations
        self.rank: dict[int, tuple[int, int]] = {}
        self.clock = 0

    def take(self) -> int:
        """The next destination; its sources become the ones used last."""
        row = self.best()
        if row is None:
            row = next(iter(self.left))
        del self.left[row]
        for source in self.graph.by_destination.row(row).tolist():
            if source % self.stride == 0:
                self.use(source)
        return row

    def best(self) -> int | None:
        while self.rank:
            row = max(self.rank, key=lambda row: self.rank[row])
            stored, _ = self.rank.pop(row)
            if self.overlap[row] and self.share(row) == stored:
                return row
            if self.overlap[row]:
                self.store(row)
        return None

    def share(self, row: int) -> int:
        return self.overlap[row] * (_SCORES - 1) // self.sampled[row]

    def store(self, row: int) -> None:
        self.clock += 1
        self.rank[row] = self.share(row), self.clock

    def use(self, source: int) -> None:
        entered = source not in self.used
        self.used.pop(source, None)
        self.used[source] = None
        if entered:
            for row in self.graph.by_source.row(source).tolist():
                self.overlap[row] += 1
                if row in self.left and self.share(row) > self.rank.get(row, (-1, 0))[0]:
                    self.store(row)
        if len(self.used) > self.window:
            oldest = next(iter(self.used))
            del self.used[oldest]
            for row in self.graph.by_source.row(oldest).tolist():
                self.overlap[row] -= 1
