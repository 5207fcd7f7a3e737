# SPDX-License-Identifier: Apache-2.0
"""Every order of the restructurer: what holds for all schedules, and the compiled code against the golden models."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hetfab.hls.build.restructure import Restructurer
from hetfab.overlay.restructure.candidates import Candidate, Grow, Method
from hetfab.overlay.restructure.make import make_schedule
from hetfab.overlay.restructure.schedule import Moves, Schedule, Sides, both_sides, largest_occupancy, replay
from tests.random_relations import graphs

CANDIDATES = [
    Candidate(method, 0, grow, weight, farthest)
    for method in Method
    for grow in (Grow if "tiles" in method else [Grow.BY_ID])
    for weight in ((1, 2) if method in (Method.RESIDENT_SET, Method.GREEDY_DESTINATIONS) else [1])
    for farthest in ((False, True) if method in (Method.RESIDENT_SET, Method.GREEDY_DESTINATIONS) else [False])
]


@st.composite
def bipartite(draw: st.DrawFn) -> Sides:
    # Long rows are sampled where tiles grow and destinations are taken.
    long = draw(st.sampled_from([(24, 24), (24, 24), (90, 10), (10, 90)]))
    return both_sides(draw(graphs(*(draw(st.integers(0, most)) for most in long))))


@pytest.mark.parametrize("candidate", CANDIDATES, ids=str)
@settings(max_examples=20, deadline=None)
@given(graph=bipartite(), slots=st.integers(3, 30))
def test_a_schedule_does_each_edge_once_within_the_buffer(candidate: Candidate, graph: Sides, slots: int) -> None:
    wanted = Candidate(candidate.method, slots, candidate.grow, candidate.accumulator_weight, candidate.farthest)
    schedule = make_schedule(graph, wanted)
    assert_same(Restructurer(graph).make(wanted), schedule)
    assert Counter(zip(schedule.sources.tolist(), schedule.destinations.tolist(), strict=True)) == Counter(
        (source, int(destination))
        for source in range(graph.sources)
        for destination in graph.by_source.row(source).tolist()
    )
    assert largest_occupancy(schedule) <= slots
    assert replay(schedule, graph) == walked(schedule, graph)


def walked(schedule: Schedule, graph: Sides) -> Moves:
    """Executes a schedule: both ends of each edge are there, nothing stays behind; counts what moves."""
    resident: set[int] = set()
    begun: set[int] = set()
    left = graph.by_destination.out_degrees()
    moves = {"features": 0, "spills": 0, "reloads": 0, "results": 0}
    events = list(zip(schedule.at.tolist(), schedule.vertices.tolist(), schedule.leaves.tolist(), strict=True))
    done = 0
    for at, vertex, leaves in events:
        assert at >= done
        for edge in range(done, at):
            source, destination = int(schedule.sources[edge]), int(schedule.destinations[edge])
            assert {source, graph.sources + destination} <= resident
            left[destination] -= 1
        done = at
        if leaves:
            resident.remove(vertex)
            if vertex >= graph.sources:
                moves["results" if left[vertex - graph.sources] == 0 else "spills"] += 1
        else:
            assert vertex not in resident
            resident.add(vertex)
            if vertex < graph.sources:
                moves["features"] += 1
            elif vertex in begun:
                moves["reloads"] += 1
            begun.add(vertex)
    assert done == graph.edges
    assert not resident
    return Moves(**moves)


def assert_same(found: Schedule, expected: Schedule) -> None:
    for name in ("sources", "destinations", "at", "vertices", "leaves", "tiles"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name), name)
