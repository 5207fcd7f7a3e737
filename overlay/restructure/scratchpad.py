# SPDX-License-Identifier: Apache-2.0
"""Writes orders of the restructurer as schedules of AGG's scratchpad (docs/aggregation.md).

AGG has one sum at a time in registers, so a destination whose edges do not follow each other is spilled and merged.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hetfab.overlay import schedules
from hetfab.overlay.restructure.schedule import Schedule, Sides, both_sides
from hetfab.overlay.schedules import STREAMED, Integers, Numbers
from hetfab.overlay.semantic.adjacency import adjacency

#: Runs of one ``reduce``.
_MOST_RUNS = 255


@dataclass(frozen=True, eq=False)
class Part:
    """Runs of one ``reduce`` that spills, no destination twice.

    Attributes:
        schedule: The runs.
        merges: Whether all of them begin with what is spilled; none does otherwise.
    """

    schedule: schedules.Schedule
    merges: bool


def split_parts(schedule: Schedule, graph: Sides) -> list[Part]:
    """All edges in the order of a schedule, for reductions that spill one after the other.

    Destinations without edges spill zeros. A last reduction over all destinations, in order, without edges, merges and
    does not spill.
    """
    slots, reads = _slots(schedule, graph)
    starts = np.flatnonzero(np.diff(schedule.destinations.astype(np.int64), prepend=-1))
    ends = np.append(starts[1:], len(schedule.destinations))
    begun: set[int] = set()
    parts: list[list[int]] = []
    merges: list[bool] = []
    rows: set[int] = set()
    for run, row in enumerate(schedule.destinations[starts].tolist()):
        if not parts or row in rows or (row in begun) != merges[-1] or len(rows) == _MOST_RUNS:
            parts.append([])
            merges.append(row in begun)
            begun |= rows
            rows = set()
            # A row of the part that has just ended may follow at once.
            merges[-1] = row in begun
        parts[-1].append(run)
        rows.add(row)
    inactive = np.flatnonzero(graph.by_destination.out_degrees() == 0)
    empty = [_without_edges(inactive[first : first + _MOST_RUNS]) for first in range(0, len(inactive), _MOST_RUNS)]
    return empty + [
        Part(_runs(schedule, slots, reads, starts[part], ends[part]), merge)
        for part, merge in zip(parts, merges, strict=True)
    ]


def _without_edges(rows: Integers) -> Part:
    nothing = np.zeros(0, np.int64)
    return Part(schedules.Schedule(rows, np.zeros_like(rows), nothing, nothing, nothing.astype(bool)), merges=False)


def _slots(schedule: Schedule, graph: Sides) -> tuple[Integers, npt.NDArray[np.bool_]]:
    """The slot of each edge's source, and whether the edge reads it; a row that is used once is streamed."""
    slots, reads = np.full(graph.edges, STREAMED, np.int64), np.zeros(graph.edges, bool)
    free: list[int] = []
    used = 0
    slot_of: dict[int, int] = {}
    uses: dict[int, list[int]] = {}
    features = np.flatnonzero(schedule.vertices < graph.sources).tolist()
    sources = schedule.sources.tolist()
    done = 0
    for event in [*features, -1]:
        at = int(schedule.at[event]) if event >= 0 else graph.edges
        for edge in range(done, at):
            uses[sources[edge]].append(edge)
        done = at
        if event < 0:
            break
        vertex = int(schedule.vertices[event])
        if not schedule.leaves[event]:
            if not free:
                free.append(used)
                used += 1
            slot_of[vertex], uses[vertex] = free.pop(), []
            continue
        edges, slot = uses.pop(vertex), slot_of.pop(vertex)
        free.append(slot)
        reads[edges[:1]] = True
        slots[edges] = slot if len(edges) > 1 else STREAMED
    return slots, reads


def _runs(
    schedule: Schedule, slots: Integers, reads: npt.NDArray[np.bool_], starts: Integers, ends: Integers
) -> schedules.Schedule:
    first, last = int(starts[0]), int(ends[-1])
    sources = schedule.sources[first:last].astype(np.int64)
    rows = schedule.destinations[starts].astype(np.int64)
    return schedules.Schedule(rows, ends - starts, sources, slots[first:last], reads[first:last])


def unsplit_scheduler(make: Callable[[Sides, int], Schedule]) -> Callable[[Numbers, Numbers, int], schedules.Schedule]:
    """A scheduler of ``bind``, whose programs take each destination once and in order.

    An order decides in which order the sources of each destination are summed; what it says across destinations is
    lost.

    Args:
        make: Orders the edges of a graph for so many vertices in the buffer.
    """

    def scheduler(indptr: Numbers, sources: Numbers, slots: int) -> schedules.Schedule:
        rows = np.repeat(np.arange(len(indptr) - 1), np.diff(indptr))
        vertices = int(np.max(sources, initial=-1)) + 1
        graph = both_sides(adjacency(np.asarray(sources), rows, vertices, len(indptr) - 1))
        made = make(graph, max(3, slots))
        # Edges that are given more than once take the place of their first.
        keys = made.sources.astype(np.int64) * (len(indptr) - 1) + made.destinations
        by_key = np.argsort(keys)
        place = by_key[np.searchsorted(keys[by_key], np.asarray(sources, np.int64) * (len(indptr) - 1) + rows)]
        return schedules.farthest_next_use(indptr, np.asarray(sources)[np.lexsort((place, rows))], slots)

    return scheduler
