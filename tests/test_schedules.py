# SPDX-License-Identifier: Apache-2.0
"""Schedules of AGG's scratchpad: each edge once, rows only where they are, few reads; and what is refused."""

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hetfab.overlay.costs.gathers import scheduled_reads
from hetfab.overlay.errors import ScheduleInvalidError
from hetfab.overlay.layouts import destination_records
from hetfab.overlay.schedules import (
    STREAMED,
    Schedule,
    check_schedule,
    farthest_next_use,
    pinned,
    schedule_arrays,
)

Array = npt.NDArray[Any]


@st.composite
def relations(draw: st.DrawFn, *, largest: int = 12, vertices: int = 8) -> tuple[Array, Array]:
    """Edges by destination: degrees from 0 to all, duplicates, a hub."""
    degrees = draw(st.lists(st.sampled_from([0, 0, 1, 2, 3, largest]), min_size=1, max_size=6))
    indptr = np.concatenate([[0], np.cumsum(degrees)])
    sources = draw(st.lists(st.integers(0, vertices - 1), min_size=int(indptr[-1]), max_size=int(indptr[-1])))
    return indptr, np.array(sources, np.int64)


@given(relations(), st.integers(1, 9))
def test_both_orders_are_schedules_of_the_edges(edges: tuple[Array, Array], slots: int) -> None:
    indptr, sources = edges
    for made in (pinned(indptr, sources, slots), farthest_next_use(indptr, sources, slots)):
        check_schedule(made, indptr, sources, slots)
        assert len(np.unique(sources)) <= made.misses <= len(sources)


def fewest_reads(sources: list[int], slots: int) -> int:
    """By trying every choice: the row of an edge is in a slot, or read, and then kept in any slot or in none."""
    states = {frozenset[int](): 0}
    for vertex in sources:
        found: dict[frozenset[int], int] = {}
        for held, reads in states.items():
            kept = [held] if vertex in held else [held, *(held - {other} | {vertex} for other in held)]
            if vertex not in held and len(held) < slots:
                kept.append(held | {vertex})
            for state in kept:
                found[state] = min(found.get(state, len(sources)), reads + (vertex not in held))
        states = found
    return min(states.values())


@settings(max_examples=150, deadline=None)
@given(relations(largest=6, vertices=5), st.integers(1, 3))
def test_farthest_next_use_reads_as_little_as_any_choice(edges: tuple[Array, Array], slots: int) -> None:
    indptr, sources = edges
    assert farthest_next_use(indptr, sources, slots).misses == fewest_reads(sources.tolist(), slots)


@given(relations(), st.integers(1, 9))
def test_pins_are_the_sources_of_most_edges(edges: tuple[Array, Array], slots: int) -> None:
    indptr, sources = edges
    uses = np.sort(np.bincount(sources, minlength=1))[::-1]
    saved = np.maximum(uses[:slots] - 1, 0).sum()
    assert pinned(indptr, sources, slots).misses == len(sources) - saved


def decoded(runs: Array, units: Array, id_units: int) -> list[tuple[int, list[tuple[int, int | None]]]]:
    """Destination and (first unit, source that it names) of each edge, unit by unit."""
    found = []
    for run in runs:
        place, entries = int(run["first"]), []
        for _ in range(int(run["degree"])):
            unit, place = int(units[place]), place + 1
            vertex = None
            if unit >= 1 << 15:
                vertex = sum(int(units[place + half]) << 16 * half for half in range(id_units))
                place += id_units
            entries.append((unit, vertex))
        assert place == run["first"] + run["units"]
        found.append((int(run["row"]), entries))
    return found


@given(relations(), st.integers(1, 9), st.sampled_from([8, 1 << 16, (1 << 16) + 1]))
def test_arrays_say_what_the_schedule_says(edges: tuple[Array, Array], slots: int, vertices: int) -> None:
    indptr, sources = edges
    far = sources + (vertices - 8)
    made = farthest_next_use(indptr, far, slots)
    records = destination_records(indptr)
    run_bytes, unit_bytes = schedule_arrays(made, records, vertices)
    runs = run_bytes.view([(name, "<u4") for name in ("first", "degree", "reciprocal", "exponent", "units", "row")])
    expected = []
    for row in range(len(indptr) - 1):
        span = range(indptr[row], indptr[row + 1])
        slot = [(1 << 15) - 1 if made.slots[e] == STREAMED else int(made.slots[e]) for e in span]
        entries = [
            ((1 << 15) + s, int(far[e])) if made.reads[e] else (s, None) for s, e in zip(slot, span, strict=True)
        ]
        expected.append((row, entries))
    units, id_units = unit_bytes.view("<u2"), 1 if vertices <= 1 << 16 else 2
    assert decoded(runs, units, id_units) == expected
    read, reads = scheduled_reads(units.astype(np.int64), len(far), id_units)
    named = [vertex for _, entries in expected for _, vertex in entries]
    assert reads.tolist() == [vertex is not None for vertex in named]
    assert read.tolist() == [vertex for vertex in named if vertex is not None]
    whole = records.view("<u4").reshape(-1, 4)
    assert np.array_equal(runs["reciprocal"], whole[:, 2]) and np.array_equal(runs["exponent"], whole[:, 3])


INDPTR, SOURCES = np.array([0, 2, 3]), np.array([4, 5, 4])
GOOD = Schedule(np.arange(2), np.array([2, 1]), SOURCES, np.array([0, STREAMED, 0]), np.array([True, True, False]))


@pytest.mark.parametrize(
    ("change", "found", "expected"),
    [
        ({"sources": np.array([4, 5, 5])}, "has 3 edges", "each of the 3 edges once"),
        ({"degrees": np.array([1, 1])}, "has runs of 2 edges and 3 sources", "a source for each edge of a run"),
        ({"slots": np.array([2, STREAMED, 2])}, "uses slot 2", "slots below 2"),
        ({"reads": np.array([True, False, False])}, "neither reads nor holds the row of edge 1", "one of both"),
        ({"slots": np.array([0, 0, 0])}, "finds vertex 4 in slot 0 at edge 2", "5 there"),
        ({"slots": np.array([0, STREAMED, 1])}, "finds vertex 4 in slot 1 at edge 2", "no row there"),
    ],
)
def test_a_wrong_schedule_is_refused(change: dict[str, Array], found: str, expected: str) -> None:
    check_schedule(GOOD, INDPTR, SOURCES, 2)
    with pytest.raises(ScheduleInvalidError) as caught:
        check_schedule(replace(GOOD, **change), INDPTR, SOURCES, 2)
    assert (caught.value.found, caught.value.expected) == (f"the schedule {found}", expected)
