# SPDX-License-Identifier: Apache-2.0
"""Orders by RST on the overlay or by the processor: the same schedules, and the processor where the engine cannot."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from hetfab.driver.emulated import EmulatedTransport
from hetfab.driver.restructuring import FoundBy, find_schedule
from hetfab.driver.session import Session
from hetfab.driver.transport import DeviceBuffer
from hetfab.hls.build import restructure as compiled_orders
from hetfab.overlay.errors import CompilerMissingError, DesignTooSmallError, DeviceMemoryError, LimitExceededError
from hetfab.overlay.restructure.candidates import Candidate, Grow, Method, portfolio
from hetfab.overlay.restructure.make import make_schedule
from hetfab.overlay.restructure.schedule import Schedule, Sides, both_sides
from hetfab.overlay.restructure.stream import engine_finds, restructure_stream
from hetfab.overlay.semantic.adjacency import Adjacency, adjacency
from tests.conftest import SMALL_GEOMETRY
from tests.programs import design_of

SLOTS = 12
CANDIDATES = portfolio(both_sides(adjacency(np.arange(3), np.arange(3), 3, 3)), SLOTS)
BY_ENGINE = [candidate for candidate in CANDIDATES if engine_finds(candidate)]


def names(candidate: Candidate) -> str:
    return f"{candidate.method}, {candidate.grow}"


def random_graph(seed: int, sources: int = 60, destinations: int = 45) -> Sides:
    rng = np.random.default_rng(seed)
    edges = 300
    hubs = (destinations * rng.random(edges) ** 2).astype(int)
    return both_sides(adjacency(rng.integers(0, sources, edges), hubs, sources, destinations))


def same(found: Schedule, expected: Schedule) -> bool:
    arrays = ("sources", "destinations", "at", "vertices", "leaves", "tiles")
    return all(np.array_equal(getattr(found, name), getattr(expected, name)) for name in arrays)


@pytest.fixture(scope="module")
def session() -> Iterator[Session]:
    design = design_of(SMALL_GEOMETRY)
    with EmulatedTransport(design) as transport:
        yield Session(transport, design)


def test_the_engine_finds_matchings_walks_and_tiles() -> None:
    grows = {candidate.grow for candidate in BY_ENGINE if candidate.method is Method.SOURCE_TILES}
    assert grows == {*Grow} - {Grow.BY_ID}
    assert {candidate.method for candidate in BY_ENGINE} == {
        Method.WALKED_DESTINATIONS,
        Method.SUBGRAPHS_BY_SOURCE,
        Method.SUBGRAPHS_BY_DESTINATION,
        Method.DESTINATION_TILES,
        Method.SOURCE_TILES,
    }


@pytest.mark.parametrize("candidate", BY_ENGINE, ids=names)
@pytest.mark.parametrize("seed", range(3))
def test_the_engine_and_the_processor_find_the_same(candidate: Candidate, seed: int, session: Session) -> None:
    graph = random_graph(seed, *((60, 45), (45, 60), (45, 45))[seed])
    expected = make_schedule(graph, candidate)
    for given, by in ((session, FoundBy.RST), (None, FoundBy.PROCESSOR)):
        found = find_schedule(graph, candidate, given)
        assert found.by is by
        assert same(found.schedule, expected)


def test_orders_that_the_engine_does_not_find_are_the_processors(session: Session) -> None:
    graph = random_graph(3)
    for candidate in CANDIDATES:
        if not engine_finds(candidate):
            assert find_schedule(graph, candidate, session).by is FoundBy.PROCESSOR


def test_graphs_that_the_design_cannot_take_are_the_processors(session: Session) -> None:
    graph = random_graph(0, sources=SMALL_GEOMETRY.rst_vertices + 1)
    assert find_schedule(graph, BY_ENGINE[0], session).by is FoundBy.PROCESSOR


def test_graphs_that_the_memory_has_no_room_for_are_the_processors(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(size: int) -> DeviceBuffer:
        raise DeviceMemoryError("no memory", "some", "free some")

    monkeypatch.setattr(session.transport, "allocate", full)
    assert find_schedule(random_graph(0), BY_ENGINE[0], session).by is FoundBy.PROCESSOR


def test_without_a_compiler_the_processor_goes_by_the_definition(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*arguments: object) -> None:
        raise CompilerMissingError("no compiler", "one", "install one")

    monkeypatch.setattr(compiled_orders, "Restructurer", missing)
    graph = random_graph(1)
    assert same(find_schedule(graph, BY_ENGINE[0]).schedule, make_schedule(graph, BY_ENGINE[0]))


def test_designs_without_the_engine_or_memory_are_refused() -> None:
    graph = random_graph(0)
    with pytest.raises(DesignTooSmallError) as caught:
        restructure_stream(graph, BY_ENGINE[0], replace(SMALL_GEOMETRY, engines=("load", "store")))
    assert str(caught.value) == (
        "the design has the engines load, store\n"
        "  expected: the engine rst, which restructures graphs\n"
        "  do: use a design with it, or find the order on the processor"
    )
    with pytest.raises(DesignTooSmallError) as caught:
        restructure_stream(random_graph(0, sources=1000), BY_ENGINE[0], SMALL_GEOMETRY)
    assert str(caught.value) == (
        "a side of the graph has 1,000 vertices\n"
        "  expected: at most 256, the design's rst_vertices\n"
        "  do: use a design with more, or find the order on the processor"
    )


def test_more_edges_than_an_instruction_counts_are_refused() -> None:
    # Of one row for each edge set that a search could look at, without an array of that size.
    starts = np.arange(0, 200_000 * 201, 200_000)
    ids = np.broadcast_to(np.int64(0), (40_000_000,))
    side = Adjacency(starts, ids, 200)
    with pytest.raises(LimitExceededError) as caught:
        restructure_stream(Sides(side, side), Candidate(Method.SUBGRAPHS_BY_SOURCE, SLOTS), SMALL_GEOMETRY)
    assert str(caught.value) == (
        "a matching of the graph may look at 8,080,000,000 edges\n"
        "  expected: at most 4,294,967,295, what an instruction counts\n"
        "  do: find the order on the processor"
    )
