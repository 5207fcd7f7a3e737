# SPDX-License-Identifier: Apache-2.0
"""Schedules of AGG's scratchpad: in which order edges are summed, and which rows are read, kept and found on chip.

Pure functions on plain arrays, numpy only, so that a board can make them. What a schedule may say: docs/aggregation.md.
"""

import heapq
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from hetfab.overlay.distinct import distinct
from hetfab.overlay.errors import ScheduleInvalidError
from hetfab.overlay.isa.spec import isa
from hetfab.overlay.layouts import Bytes, id_bytes

Integers: TypeAlias = npt.NDArray[np.int64]
Numbers: TypeAlias = npt.NDArray[np.integer[Any]]

_UNIT_READS, _UNIT_STREAMS = 1 << 15, (1 << 16) - 1
#: The last slot that a unit could name is the one of a row that is not kept.
MOST_SLOTS = _UNIT_STREAMS - _UNIT_READS
#: In place of a slot: the row is not kept.
STREAMED = -1


@dataclass(frozen=True, eq=False)
class Schedule:
    """Runs of edges, and what becomes of each edge's row.

    Attributes:
        rows: int64 [runs], destination of each run.
        degrees: int64 [runs], edges of each run.
        sources: int64 [edges], source of each edge, run by run.
        slots: int64 [edges], the slot that holds the edge's row, or ``STREAMED``.
        reads: bool [edges], whether the row is read from DRAM: into its slot, or streamed.
    """

    rows: Integers
    degrees: Integers
    sources: Integers
    slots: Integers
    reads: npt.NDArray[np.bool_]

    @property
    def misses(self) -> int:
        """Rows that are read from DRAM."""
        return int(np.count_nonzero(self.reads))


def pinned(indptr: Numbers, sources: Numbers, slots: int) -> Schedule:
    """Destinations in their order; the sources of most edges are read once and stay, all others are streamed.

    Args:
        indptr: [destinations + 1], edges ordered by destination.
        sources: [edges].
        slots: Rows that the scratchpad holds.
    """
    vertices, first, inverse, uses = distinct(sources, int(np.max(sources, initial=-1)) + 1)
    most = np.argsort(-uses, kind="stable")[: min(slots, MOST_SLOTS)]
    slot_of = np.full(len(vertices), STREAMED, np.int64)
    slot_of[most[uses[most] > 1]] = np.arange(np.count_nonzero(uses[most] > 1))
    kept = slot_of[inverse]
    reads = kept == STREAMED
    reads[first] = True
    return _in_order(indptr, sources, kept, reads)


def farthest_next_use(indptr: Numbers, sources: Numbers, slots: int) -> Schedule:
    """Destinations in their order; the row that is needed last leaves, or is not kept: the fewest reads of this order.

    Args:
        indptr: [destinations + 1], edges ordered by destination.
        sources: [edges].
        slots: Rows that the scratchpad holds.
    """
    ids = np.asarray(sources, np.int64)
    after = _next_uses(ids).tolist()
    free = list(range(min(slots, MOST_SLOTS)))[::-1]
    slot_of: dict[int, int] = {}
    next_of: dict[int, int] = {}
    leaving: list[tuple[int, int]] = []
    kept, reads = np.full(len(ids), STREAMED, np.int64), np.ones(len(ids), bool)
    for edge, vertex in enumerate(ids.tolist()):
        if vertex in slot_of:
            reads[edge], kept[edge] = False, slot_of[vertex]
        elif after[edge] < len(ids):
            slot = free.pop() if free else _slot_from(leaving, slot_of, next_of, free, after[edge])
            if slot == STREAMED:
                continue
            slot_of[vertex], kept[edge] = slot, slot
        else:
            continue
        next_of[vertex] = after[edge]
        heapq.heappush(leaving, (-after[edge], vertex))
    return _in_order(indptr, sources, kept, reads)


def _next_uses(ids: Integers) -> Integers:
    """The next edge of each edge's source, or the number of edges."""
    order = np.argsort(ids, kind="stable")
    after = np.full(len(ids), len(ids), np.int64)
    same = ids[order[:-1]] == ids[order[1:]]
    after[order[:-1][same]] = order[1:][same]
    return after


def _slot_from(
    leaving: list[tuple[int, int]], slot_of: dict[int, int], next_of: dict[int, int], free: list[int], use: int
) -> int:
    """The slot of the row that is needed last, unless that is the new one."""
    while leaving:
        needed, vertex = -leaving[0][0], leaving[0][1]
        if next_of.get(vertex) != needed:
            heapq.heappop(leaving)
            continue
        if needed <= use:
            return STREAMED
        heapq.heappop(leaving)
        del next_of[vertex]
        return slot_of.pop(vertex)
    return STREAMED


def _in_order(indptr: Numbers, sources: Numbers, kept: Integers, reads: npt.NDArray[np.bool_]) -> Schedule:
    degrees = np.asarray(np.diff(indptr), np.int64)
    return Schedule(np.arange(len(degrees)), degrees, np.asarray(sources, np.int64), kept, reads)


def schedule_arrays(schedule: Schedule, destinations: Bytes, vertices: int) -> tuple[Bytes, Bytes]:
    """The layouts 'runs' and 'units'.

    Args:
        schedule: The schedule.
        destinations: The layout 'destinations' of all edges, whose reciprocals the runs take.
        vertices: Number of source vertices.
    """
    wide = id_bytes(vertices) == 4
    named = schedule.reads.astype(np.int64)
    lengths = 1 + named * (2 if wide else 1)
    first = np.cumsum(lengths) - lengths
    units = np.zeros(int(lengths.sum()), "<u2")
    slots = np.where(schedule.slots == STREAMED, _UNIT_STREAMS - _UNIT_READS, schedule.slots)
    units[first] = slots + _UNIT_READS * named
    places, ids = first[schedule.reads], schedule.sources[schedule.reads]
    units[places + 1] = ids & 0xFFFF
    if wide:
        units[places + 2] = ids >> 16
    bounds = np.concatenate([[0], np.cumsum(schedule.degrees)])
    ends = np.concatenate([[0], np.cumsum(lengths)])[bounds]
    records = np.zeros(len(schedule.rows), isa().record("run").dtype)
    records["first"], records["units"] = ends[:-1], np.diff(ends)
    records["degree"], records["row"] = schedule.degrees, schedule.rows
    whole = destinations.view(isa().record("destination").dtype)[schedule.rows]
    records["reciprocal"], records["exponent"] = whole["reciprocal"], whole["exponent"]
    return records.view(np.uint8), units.view(np.uint8)


def check_schedule(schedule: Schedule, indptr: Numbers, sources: Numbers, slots: int) -> None:
    """Refuses a schedule that is not one of these edges, or that uses a slot for what it does not hold.

    Args:
        schedule: What is checked.
        indptr: [destinations + 1], edges ordered by destination.
        sources: [edges].
        slots: Rows that the scratchpad holds.

    Raises:
        ScheduleInvalidError: Names the first edge that is wrong.
    """
    counted = int(schedule.degrees.sum())
    if counted != len(schedule.sources):
        raise _invalid(
            f"has runs of {counted} edges and {len(schedule.sources)} sources", "a source for each edge of a run"
        )
    expected = _sorted_edges(np.repeat(np.arange(len(indptr) - 1), np.diff(indptr)), np.asarray(sources, np.int64))
    found = _sorted_edges(np.repeat(schedule.rows, schedule.degrees), schedule.sources)
    if not np.array_equal(expected, found):
        raise _invalid(f"has {found.shape[1]:,} edges", f"each of the {expected.shape[1]:,} edges once")
    largest = int(schedule.slots.max(initial=STREAMED))
    if largest >= min(slots, MOST_SLOTS):
        raise _invalid(f"uses slot {largest}", f"slots below {min(slots, MOST_SLOTS)}")
    holds: dict[int, int] = {}
    table = zip(schedule.sources.tolist(), schedule.slots.tolist(), schedule.reads.tolist(), strict=True)
    for edge, (vertex, slot, reads) in enumerate(table):
        if slot == STREAMED and not reads:
            raise _invalid(f"neither reads nor holds the row of edge {edge}", "one of both")
        if reads and slot != STREAMED:
            holds[slot] = vertex
        elif not reads and holds.get(slot) != vertex:
            raise _invalid(f"finds vertex {vertex} in slot {slot} at edge {edge}", f"{holds.get(slot, 'no row')} there")


def _sorted_edges(rows: Integers, sources: Integers) -> Integers:
    order = np.lexsort((sources, rows))
    return np.stack([rows[order], sources[order]])


def _invalid(found: str, expected: str) -> ScheduleInvalidError:
    return ScheduleInvalidError(
        f"the schedule {found}", expected, "make the schedule for these edges and this scratchpad"
    )
