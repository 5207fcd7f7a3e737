# SPDX-License-Identifier: Apache-2.0
"""Orders graphs so that vectors which one has loaded stay for the next: a heaviest path through what pairs share.

Up to ``EXACT_LIMIT`` graphs by dynamic programming (Held and Karp, "A dynamic programming approach to sequencing
problems", 1962), above by nearest neighbours and 2-opt. HiHGNN (TPDS 2024) schedules semantic graphs by similarity.
"""

from itertools import pairwise
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Shared: TypeAlias = npt.NDArray[np.int64]

#: Graphs whose best order is found exactly: 2^n * n states.
EXACT_LIMIT = 12


def best_order(shared: Shared) -> tuple[int, ...]:
    """The order of graphs in which neighbours share the most; the given order where none shares more.

    Args:
        shared: [n, n], symmetric and not negative: bytes that need no loading anew when one graph follows the other.
    """
    count = len(shared)
    if count < 2:
        return tuple(range(count))
    found = _exact(shared) if count <= EXACT_LIMIT else _nearby(shared)
    given = tuple(range(count))
    return found if kept_bytes(shared, found) > kept_bytes(shared, given) else given


def kept_bytes(shared: Shared, order: tuple[int, ...]) -> int:
    """Bytes that need no loading anew when graphs come in an order."""
    return sum(int(shared[one, other]) for one, other in pairwise(order))


def _exact(shared: Shared) -> tuple[int, ...]:
    """Held and Karp: the most that a path over a set of graphs can share, by the set and the path's last graph."""
    count = len(shared)
    most = np.full((1 << count, count), -1, np.int64)
    before = np.zeros((1 << count, count), np.int64)
    for graph in range(count):
        most[1 << graph, graph] = 0
    for chosen in range(1, 1 << count):
        ends = most[chosen]
        for graph in range(count):
            if chosen >> graph & 1:
                continue
            totals = np.where(ends >= 0, ends + shared[:, graph], -1)
            last = int(np.argmax(totals))
            most[chosen | 1 << graph, graph] = totals[last]
            before[chosen | 1 << graph, graph] = last
    chosen, last, path = (1 << count) - 1, int(np.argmax(most[-1])), []
    while chosen:
        path.append(last)
        chosen, last = chosen & ~(1 << last), int(before[chosen, last])
    return tuple(reversed(path))


def _nearby(shared: Shared) -> tuple[int, ...]:
    """The best of the paths that begin at each graph and go on to the one that shares most, each improved by 2-opt."""
    paths = [_improved(shared, _nearest(shared, start)) for start in range(len(shared))]
    return max(paths, key=lambda path: kept_bytes(shared, path))


def _nearest(shared: Shared, start: int) -> tuple[int, ...]:
    path, left = [start], set(range(len(shared))) - {start}
    while left:
        path.append(max(sorted(left), key=lambda graph: int(shared[path[-1], graph])))
        left.remove(path[-1])
    return tuple(path)


def _improved(shared: Shared, path: tuple[int, ...]) -> tuple[int, ...]:
    """2-opt: reverses parts of a path as long as that shares more."""
    count, better = len(path), True
    while better:
        better = False
        for first in range(count - 1):
            for last in range(first + 1, count):
                turned = (*path[:first], *reversed(path[first : last + 1]), *path[last + 1 :])
                if kept_bytes(shared, turned) > kept_bytes(shared, path):
                    path, better = turned, True
    return path
