# SPDX-License-Identifier: Apache-2.0
"""The chooser: compiled equals its definition, it knows prices, and it never pays for what cannot pay back."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hetfab.hls.build.restructure import Restructurer
from hetfab.overlay.restructure.candidates import Grow, Method
from hetfab.overlay.restructure.choose import Price, candidate_of, choose, offers, prices
from hetfab.overlay.restructure.schedule import Sides, Widths, both_sides, list_bytes, replay
from hetfab.overlay.restructure.stream import engine_finds
from hetfab.overlay.semantic.adjacency import adjacency
from tests.random_relations import graphs

PRICE = Price(slots=128, widths=Widths(64, 256, 64), passes=100, bytes_per_second=2.1e9, cpu_ratio=15)


def random_graph(sources: int, destinations: int, edges: int, seed: int = 1) -> Sides:
    rng = np.random.default_rng(seed)
    ends = rng.integers(0, sources, edges), rng.integers(0, destinations, edges)
    return both_sides(adjacency(*ends, sources, destinations))


@st.composite
def priced(draw: st.DrawFn) -> tuple[Sides, Price]:
    graph = both_sides(draw(graphs(draw(st.integers(1, 90)), draw(st.integers(1, 90)))))
    vector = draw(st.sampled_from([64, 256]))
    widths = Widths(vector, 4 * vector, vector)
    engine_hz, vertices = draw(st.sampled_from([0.0, 1e8, 1e10])), draw(st.sampled_from([20, 90]))
    passes = draw(st.sampled_from([1, 100, 10**6]))
    return graph, Price(draw(st.integers(3, 60)), widths, passes, 1e9, 10, engine_hz, vertices)


@settings(max_examples=200, deadline=None)
@given(case=priced())
def test_the_compiled_choice_is_the_defined_one(case: tuple[Sides, Price]) -> None:
    graph, price = case
    found, expected = Restructurer(graph).choose(price), choose(graph, price)
    assert found.total(price.passes) == pytest.approx(expected.total(price.passes), rel=1e-9)
    assert found.order_bytes == pytest.approx(expected.order_bytes, rel=1e-9)
    assert found.by_engine == expected.by_engine


def test_the_cheaper_of_engine_and_processor_finds_an_order() -> None:
    graph = random_graph(3000, 3000, 400_000)
    fast = dataclasses.replace(PRICE, passes=10_000, engine_hz=1e9, engine_vertices=3000)
    found = choose(graph, fast)
    assert found.by_engine
    for other in (
        dataclasses.replace(fast, engine_hz=1e6),
        dataclasses.replace(fast, engine_vertices=2999),
        dataclasses.replace(fast, cpu_ratio=0.01),
    ):
        assert not any(offer.by_engine for offer in offers(graph, other))
    slow = dataclasses.replace(fast, engine_hz=0.0)
    by_engine = [offer for offer in offers(graph, fast) if offer.by_engine]
    by_processor = {offer.candidate: offer for offer in offers(graph, slow)}
    assert by_engine
    assert all(offer.order_bytes < by_processor[offer.candidate].order_bytes for offer in by_engine)


def test_only_orders_that_the_engine_finds_have_its_price() -> None:
    for row in prices()["orders"]:
        assert not row["engine_vertex_cycles"] or engine_finds(candidate_of(row, 128)), row


def test_more_passes_pay_for_an_order() -> None:
    graph = random_graph(3000, 3000, 100_000)
    methods = [choose(graph, dataclasses.replace(PRICE, passes=passes)).candidate.method for passes in (1, 10_000)]
    assert methods == [Method.AS_IS, Method.DESTINATION_TILES]


def test_an_order_is_not_found_for_a_buffer_that_holds_everything() -> None:
    graph = random_graph(300, 300, 20_000)
    offer = choose(graph, dataclasses.replace(PRICE, slots=1024, passes=10**9))
    assert (offer.candidate.method, offer.order_bytes) == (Method.AS_IS, 0.0)


def test_a_slow_processor_finds_no_order() -> None:
    graph = random_graph(3000, 3000, 400_000)
    assert choose(graph, dataclasses.replace(PRICE, cpu_ratio=1e6)).candidate.method is Method.AS_IS


def test_predicted_traffic_of_a_random_graph_is_near_the_replayed_one() -> None:
    graph = random_graph(2000, 1500, 60_000)
    restructurer = Restructurer(graph)
    for offer in offers(graph, PRICE):
        if offer.candidate.method is Method.AS_IS:
            moved = replay(restructurer.make(offer.candidate), graph).bytes(PRICE.widths)
            assert offer.pass_bytes - 2 * graph.edges == pytest.approx(moved, rel=0.05)


@pytest.mark.parametrize("skew", [1.0, 2.0])
def test_predicted_tiles_of_random_neighbours_are_near_the_replayed_ones(
    skew: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By id and by degree, where nothing but degrees is to be known: all shares are 1 then."""
    rows = [row | {"share": 1.0, "share_octave": 0} for row in prices()["orders"]]
    monkeypatch.setattr("hetfab.overlay.restructure.choose.prices", lambda: prices() | {"orders": rows})
    rng = np.random.default_rng(1)
    source, destination = (
        rng.permutation(size)[(rng.random(40_000) ** skew * size).astype(np.int64)] for size in (2000, 1500)
    )
    graph = both_sides(adjacency(source, destination, 2000, 1500))
    restructurer = Restructurer(graph)
    seen = set()
    for offer in offers(graph, PRICE):
        if offer.candidate.grow in (Grow.BY_ID, Grow.FEWEST_EDGES_FIRST, Grow.MOST_EDGES_FIRST):
            made = restructurer.make(offer.candidate)
            if len(made.tiles):
                moved = replay(made, graph).bytes(PRICE.widths) + list_bytes(made, graph, PRICE.slots)
                assert offer.pass_bytes == pytest.approx(moved, rel=0.05), offer.candidate
                seen.add(offer.candidate)
    assert len(seen) == 6


def test_shorter_lists_alone_may_pay() -> None:
    """The buffer holds every vector, but most sources have no edge, and bitmaps of what is there are short."""
    rng = np.random.default_rng(2)
    graph = both_sides(adjacency(rng.integers(0, 400, 60_000) * 20, rng.integers(0, 300, 60_000), 8000, 300))
    price = dataclasses.replace(PRICE, slots=1024, passes=1000)
    found = choose(graph, price)
    assert found.candidate.method in (Method.DESTINATION_TILES, Method.SOURCE_TILES)
    as_is = offers(graph, price)[0]
    assert found.total(price.passes) < as_is.total(price.passes) / 2
