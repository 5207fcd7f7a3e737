# SPDX-License-Identifier: Apache-2.0
"""Greedy destinations: the next one has the largest share of its sources among those that were used last."""

import numpy as np

from hetfab.overlay.restructure.schedule import Sides
from hetfab.overlay.restructure.tiles import by_degree

_SCORES = 1024
#: Sources of a destination that are looked at, on average.
_SAMPLED_EDGES = 16


def greedy_destinations(graph: Sides, window: int) -> list[int]:
    """Destinations with edges, in order.

    Shares are compared in steps of 1/1023; among equals comes the one that got its share last, and where no share is
    above zero the one with fewest edges. Where destinations have many sources, every few-th source stands for all: the
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
        self.sampled = np.bincount(rows[ids % self.stride == 0], minlength=graph.destinations).tolist()
        self.used: dict[int, None] = {}
        self.overlap = [0] * graph.destinations
        self.rank: dict[int, tuple[int, int]] = {}
        self.clock = 0

    def take(self) -> int:
        """The next destination; its sources become the ones used last."""
        row = max(self.rank, key=lambda row: self.rank[row]) if self.rank else next(iter(self.left))
        del self.left[row]
        self.rank.pop(row, None)
        for source in self.graph.by_destination.row(row).tolist():
            if source % self.stride == 0:
                self.use(source)
        return row

    def use(self, source: int) -> None:
        entered = source not in self.used
        self.used.pop(source, None)
        self.used[source] = None
        if entered:
            self.change_overlaps(source, 1)
        if len(self.used) > self.window:
            oldest = next(iter(self.used))
            del self.used[oldest]
            self.change_overlaps(oldest, -1)

    def change_overlaps(self, source: int, step: int) -> None:
        for row in self.graph.by_source.row(source).tolist():
            self.overlap[row] += step
            if row not in self.left:
                continue
            score = self.overlap[row] * (_SCORES - 1) // self.sampled[row]
            self.clock += 1
            if self.overlap[row] == 0:
                self.rank.pop(row, None)
            elif row not in self.rank or self.rank[row][0] != score:
                self.rank[row] = score, self.clock
