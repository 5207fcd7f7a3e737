# SPDX-License-Identifier: Apache-2.0
"""Greedy destinations: the next one has the largest share of its sources among those that were used last."""

from hetfab.overlay.restructure.schedule import Sides

_SCORES = 1024


def greedy_destinations(graph: Sides, window: int) -> list[int]:
    """Destinations with edges, in order.

    Shares are compared in steps of 1/1023; among equals comes the one that got its share last, and where no share is
    above zero the one with fewest edges.

    Args:
        graph: The graph.
        window: Sources that are taken as used last.
    """
    degrees = graph.by_destination.out_degrees()
    left = dict.fromkeys(sorted(range(graph.destinations), key=lambda row: degrees[row]))
    for row in [row for row in left if degrees[row] == 0]:
        del left[row]
    used: dict[int, None] = {}
    overlap = [0] * graph.destinations
    rank: dict[int, tuple[int, int]] = {}
    order: list[int] = []
    clock = 0

    def change_overlaps(source: int, step: int) -> None:
        nonlocal clock
        for row in graph.by_source.row(source).tolist():
            overlap[row] += step
            if row not in left:
                continue
            score = overlap[row] * (_SCORES - 1) // int(degrees[row])
            clock += 1
            if overlap[row] == 0:
                rank.pop(row, None)
            elif row not in rank or rank[row][0] != score:
                rank[row] = score, clock

    while left:
        row = max(rank, key=lambda row: rank[row]) if rank else next(iter(left))
        order.append(row)
        del left[row]
        rank.pop(row, None)
        for source in graph.by_destination.row(row).tolist():
            entered = source not in used
            used.pop(source, None)
            used[source] = None
            if entered:
                change_overlaps(source, 1)
            if len(used) > window:
                oldest = next(iter(used))
                del used[oldest]
                change_overlaps(oldest, -1)
    return order
