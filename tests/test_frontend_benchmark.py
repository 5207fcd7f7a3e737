# SPDX-License-Identifier: Apache-2.0
"""The benchmark of the graph frontend: totals, the ways on small graphs, and the cost of the baseline's products."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from hetfab.driver.graph.heterograph import Edges, HeteroGraph
from hetfab.driver.graph.semantic import adjacencies
from hetfab.hls.build.semantic_run import SemanticRun
from hetfab.overlay.model.schema import Relation
from hetfab.overlay.semantic.plan import plan_semantic_graphs
from hetfab.overlay.timeline.machine import machine
from tests.conftest import SMALL_GEOMETRY
from tests.outside import module
from tests.programs import quantized
from tests.random_models import random_case
from tests.random_relations import product, same

FRONTEND: Any = module("benchmarks.frontend")
ROW: Any = module("benchmarks.frontend_row")
BUILDS: Any = module("benchmarks.frontend_builds")

TO, BACK = Relation("a", "ab", "b"), Relation("b", "ba", "a")


def row(**changed: float) -> dict[str, Any]:
    moved = {str(slots): {"tags": 4.0, "ordered": 2.0, "bound": 1.0} for slots in ROW.SLOTS}
    building = {"left_to_right": 50.0, "planned": 10.0, "bound": 5.0, "edges": 7}
    times = {"published": 40.0, "tags": 20.0, "streamed": 19.0, "pinned": 16.0, "pinning": 100.0} | changed
    rows = {
        "tags": {"milliseconds": times["tags"], "making": 0.0},
        "dram": {"milliseconds": times.pop("streamed"), "making": 0.0},
        "schedule": {"milliseconds": times.pop("pinned"), "making": times.pop("pinning")},
    }
    return {"building": building, **times, "rows": rows, "bound": 12.0, "engine_bound": 9.0, "feature_bytes": moved}


def test_ways_add_building_and_take_the_fastest_rows() -> None:
    once = FRONTEND.way_milliseconds(row(), 1, building=True)
    assert once == {
        "published": 90.0,
        "off": 70.0,
        "sgb": 30.0,
        "rst": 69.0,
        "both": 29.0,
        "bound": 17.0,
        "engines": 9.0,
    }
    often = FRONTEND.way_milliseconds(row(), 100, building=True)
    assert (often["rst"], often["both"]) == (50 + 100 + 1600, 10 + 100 + 1600)
    given = FRONTEND.way_milliseconds(row(), 1, building=False)
    assert (given["published"], given["both"]) == (40.0, 19.0)


def test_gains_multiply_to_the_whole() -> None:
    for passes in FRONTEND.PASSES:
        ways = FRONTEND.way_milliseconds(row(), passes, building=True)
        assert math.prod(FRONTEND.gains(ways).values()) == pytest.approx(ways["published"] / ways["both"])


def test_totals_are_geometric_means_and_the_worst_rows() -> None:
    slow = row(published=20.0, tags=20.0, streamed=30.0, pinned=30.0)
    values = FRONTEND.report({"acm_rgcn": row(), "acm_han": slow}, {"code": "0123", "older_rows": {}}).values
    assert (values["code"], values["older_rows"]) == ("0123", {})
    ways = [FRONTEND.way_milliseconds(each, 100, building=True) for each in (row(), slow)]
    over = [each["published"] / each["both"] for each in ways]
    assert values["geomean_over_published_way_100"] == pytest.approx(math.sqrt(over[0] * over[1]))
    assert values["min_over_published_way_100"] == pytest.approx(min(over))
    assert values["both_over_bound_100"] == pytest.approx(math.sqrt(1205 / 1710 * 1205 / 2010))
    assert values["both_over_engine_bound_100"] == pytest.approx(math.sqrt(900 / 1710 * 900 / 2010))
    assert values["min_speedup"] == pytest.approx(2050 / 2010)
    assert set(values["rows"]) == {"acm_rgcn", "acm_han"}


@pytest.mark.parametrize("seed", [0, 3])
def test_small_models_keep_the_order_of_the_ways(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ROW, "sgb_geometry", lambda design: SMALL_GEOMETRY)
    case = random_case(seed)
    found = ROW.figures(quantized(case).model, case.graph, ROW.board_design())
    assert 0 < found["engine_bound"] <= found["bound"]
    assert found["bound"] <= min(found["published"], *(each["milliseconds"] for each in found["rows"].values()))
    assert found["building"]["bound"] <= found["building"]["planned"]
    for passes in FRONTEND.PASSES:
        ways = FRONTEND.way_milliseconds(found, passes, building=True)
        assert ways["engines"] <= ways["bound"] <= ways["both"] <= min(ways["sgb"], ways["rst"], ways["off"])
    slots = list(found["feature_bytes"].values())
    assert all(each["ordered"] <= each["tags"] for each in slots)
    assert [each["bound"] for each in slots] == sorted((each["bound"] for each in slots), reverse=True)


def test_the_published_way_keeps_the_larger_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a design that gave some of them up it is the faster of both; ours has what there is."""
    monkeypatch.setattr(ROW, "sgb_geometry", lambda design: SMALL_GEOMETRY)
    shipped = ROW.board_design()
    small = replace(shipped, geometry=replace(shipped.geometry, gemm_d_rows=2, gemm_l_rows=1))
    found = [each.geometry for each in ROW.published_designs(small)]
    assert [(each.gemm_d_rows, each.gemm_l_rows) for each in found] == [(2, 1), (6, 4)]
    large = ROW.published_designs(small)[1]
    assert ROW.published_designs(large) == [large]
    case = random_case(3)
    model = quantized(case).model
    on_small, on_large = (ROW.figures(model, case.graph, each) for each in (small, large))
    assert on_small["published"] == on_large["published"]
    assert on_small["tags"] > on_large["tags"]


def random_graph(seed: int) -> HeteroGraph:
    rng = np.random.default_rng(seed)
    source, destination = rng.integers(0, 60, 400), rng.integers(0, 90, 400)
    relations = {TO: Edges(source, destination), BACK: Edges(destination, source)}
    return HeteroGraph("random", "a", {"a": 60, "b": 90}, relations)


def test_products_from_left_to_right_end_at_the_metapaths_graph() -> None:
    relations = {relation.name: found for relation, found in adjacencies(random_graph(1)).items()}
    path = (TO, BACK, TO)
    results = [result for _, result in BUILDS.left_to_right(path, relations)]
    assert len(results) == 2
    assert same(results[-1], product(tuple(relation.name for relation in path), relations))


def test_a_product_takes_what_the_emulated_engine_counts() -> None:
    """The cost functions of the baseline and the run log."""
    relations = adjacencies(random_graph(2))
    by_name = {relation.name: found for relation, found in relations.items()}
    plan = plan_semantic_graphs({"aba": ("ab", "ba")}, relations)
    with SemanticRun(plan, by_name, SMALL_GEOMETRY) as overlay:
        overlay.run()
        expected = overlay.emulator.run_log()
    words, log = BUILDS.left_to_right_stream([(TO, BACK)], by_name, SMALL_GEOMETRY)
    assert len(words) == len(log) == len(expected)
    for name in set(expected.dtype.names or ()) - {"index", "opcode", "layer"}:
        assert np.array_equal(log[name], expected[name]), name


def test_edges_of_a_buffer_as_large_as_the_graph_miss_once() -> None:
    ids = np.array([3, 5, 3, 5, 7, 3])
    assert ROW.direct_mapped_misses(ids, 128, SMALL_GEOMETRY) == 3
    # Slots 3 and 5 of four are shared by none; 3 and 7 evict each other.
    assert ROW.direct_mapped_misses(ids, 4, SMALL_GEOMETRY) == 4


def test_the_design_has_its_boards_buffers_and_weights() -> None:
    geometry = ROW.board_design().geometry
    assert (ROW.board_design().board, geometry.feature_words, geometry.agg_weights) == ("pynq-z2", 16384, 1)


def test_models_without_metapaths_build_nothing() -> None:
    timed = machine(ROW.board_design())
    assert BUILDS.builds(random_graph(1), [], SMALL_GEOMETRY, timed).planned == 0.0
    found = BUILDS.builds(random_graph(1), [(TO, BACK), (BACK, TO)], SMALL_GEOMETRY, timed)
    assert 0 < found.bound < found.planned
    relations = {relation.name: each for relation, each in adjacencies(random_graph(1)).items()}
    assert found.edges == sum(product(path, relations).nnz for path in (("ab", "ba"), ("ba", "ab")))
