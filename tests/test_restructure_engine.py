# SPDX-License-Identifier: Apache-2.0
"""The chooser with RST: expected cycles are near those of the cost functions, and the cheaper finder is taken."""

from dataclasses import replace

import numpy as np
import pytest

from hetfab.overlay.costs.graphs import PlacedGraph
from hetfab.overlay.costs.restructuring import tile_work, tiles_cost, walk_cost
from hetfab.overlay.design import default_design
from hetfab.overlay.restructure.candidates import Candidate, Grow, Method
from hetfab.overlay.restructure.choose import Price, choose
from hetfab.overlay.restructure.engine_price import (
    EnginePrice,
    EngineWork,
    Finder,
    choose_finder,
    engine_price,
    expected_tiles,
    expected_walk,
)
from hetfab.overlay.restructure.schedule import Sides, Widths, both_sides
from hetfab.overlay.restructure.subgraphs import walk
from hetfab.overlay.restructure.tiles import balanced_tiles, by_degree, grown_tiles, sample_stride
from hetfab.overlay.semantic.adjacency import adjacency

PRICE = Price(slots=64, widths=Widths(64, 256, 64), passes=100, bytes_per_second=2.1e9, cpu_ratio=15)
ENGINE = EnginePrice(vertices=16384, clock_hz=1e8, read_latency=25)
OUT, TURNED = 1 << 24, 1 << 22


def random_graph(seed: int, sources: int = 400, destinations: int = 300, edges: int = 3000) -> Sides:
    rng = np.random.default_rng(seed)
    ends = rng.integers(0, sources, edges), rng.integers(0, destinations, edges)
    return both_sides(adjacency(*ends, sources, destinations))


@pytest.mark.parametrize("seed", range(3))
def test_expected_cycles_of_walks(seed: int) -> None:
    graph = random_graph(seed)
    placed = PlacedGraph(graph.by_destination, 0), PlacedGraph(graph.by_source, TURNED)
    cost = walk_cost(*placed, walk(graph), OUT)
    assert expected_walk(graph).cycles == pytest.approx(cost.cycles[0], rel=0.05)


@pytest.mark.parametrize("seed", range(3))
def test_expected_cycles_of_tiles_are_not_far_below_or_above(seed: int) -> None:
    """Growing finds tiles that meet fewer columns than at random: expected is the upper end."""
    graph, candidate = random_graph(seed), Candidate(Method.DESTINATION_TILES, PRICE.slots, Grow.GROWN_FROM_FEWEST)
    rows, columns = graph.by_destination, graph.by_source
    kept, stride = balanced_tiles(graph.active_destinations, PRICE.slots).kept, sample_stride(rows)
    order = grown_tiles(rows, columns, kept, most_edges_first=False)
    work = tile_work(rows, by_degree(rows, most_edges_first=False), order, kept, stride)
    placed = PlacedGraph(rows, 0), PlacedGraph(columns, TURNED)
    cycles = tiles_cost(*placed, work, stride=stride, out=OUT).cycles[0]
    assert 0.95 * cycles < expected_tiles(graph, candidate).cycles < 1.2 * cycles


def test_without_an_engine_the_choice_is_the_choosers() -> None:
    graph = random_graph(0, edges=30_000)
    found = choose_finder(graph, PRICE, None)
    assert (found.offer, found.by) == (choose(graph, PRICE), Finder.PROCESSOR)


def test_the_cheaper_finder_is_taken() -> None:
    graph, many = random_graph(0, 3000, 3000, 60_000), replace(PRICE, passes=10_000)
    fast, slow = replace(ENGINE, clock_hz=1e12), replace(ENGINE, clock_hz=1e3)
    by_engine, by_processor = choose_finder(graph, many, fast), choose_finder(graph, many, slow)
    assert by_engine.by is Finder.ENGINE and by_processor.by is Finder.PROCESSOR
    assert by_processor.offer == choose(graph, many)
    assert by_engine.offer.total(many.passes) < by_processor.offer.total(many.passes)


def test_graphs_with_more_vertices_than_the_engine_takes_are_the_processors() -> None:
    graph, many = random_graph(0, 3000, 3000, 60_000), replace(PRICE, passes=10_000)
    small = replace(ENGINE, clock_hz=1e12, vertices=2999)
    assert choose_finder(graph, many, small).by is Finder.PROCESSOR


def test_each_run_waits_for_dram() -> None:
    assert EngineWork(cycles=1000, runs=40).seconds(ENGINE) == pytest.approx(20e-6)


def test_the_engine_is_priced_by_its_design() -> None:
    design = default_design()
    assert engine_price(design) is None
    geometry = replace(design.geometry, engines=(*design.geometry.engines, "rst"))
    found = engine_price(replace(design, geometry=geometry))
    assert found == EnginePrice(16384, 1e8, 25)
