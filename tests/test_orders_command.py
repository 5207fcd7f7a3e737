# SPDX-License-Identifier: Apache-2.0
"""``hetfab graph --orders``: which order of edges pays, its traffic replayed, its cost in the balance."""

import json
from pathlib import Path

import numpy as np
import pytest

from hetfab.cli.main import main
from hetfab.driver.graph.heterograph import Edges, HeteroGraph
from hetfab.driver.graph.npz import write_graph
from hetfab.overlay.board import read_board
from hetfab.overlay.design import default_design
from hetfab.overlay.model.schema import Relation
from hetfab.overlay.restructure.candidates import Candidate, Method
from hetfab.overlay.restructure.choose import Price, choose
from hetfab.overlay.restructure.make import make_schedule
from hetfab.overlay.restructure.schedule import Sides, Widths, both_sides, list_bytes, replay
from hetfab.overlay.semantic.adjacency import adjacency

SIZE, VECTOR = 60, 4096
SLOTS = default_design().geometry.feature_words * 8 // VECTOR


def written(folder: Path) -> tuple[Path, dict[str, Sides]]:
    """A relation whose neighbours are drawn at random, a sparse one, and the metapath of both."""
    random = np.random.default_rng(3)
    names = {"dense": 1200, "sparse": 20}
    ends = {name: random.integers(0, SIZE, (2, edges)) for name, edges in names.items()}
    relations = {Relation("paper", name, "paper"): Edges(*pair.astype(np.int32)) for name, pair in ends.items()}
    graph = HeteroGraph("tiny", None, {"paper": SIZE}, relations, metapaths={"SD": ("sparse", "dense")})
    write_graph(path := folder / "tiny.npz", graph)
    sides = {name: adjacency(pair[0], pair[1], SIZE, SIZE) for name, pair in ends.items()}
    reached = np.zeros((SIZE, SIZE), bool)
    for first, middle in ends["sparse"].T:
        reached[first, sides["dense"].row(middle)] = True
    source, destination = np.nonzero(reached)
    sides["SD"] = adjacency(source, destination, SIZE, SIZE)
    return path, {name: both_sides(found) for name, found in sides.items()}


@pytest.mark.parametrize("passes", [1, 10_000])
def test_the_chosen_order_is_replayed_and_charged(
    passes: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, graphs = written(tmp_path)
    assert main(["graph", str(path), "--orders", str(passes), "--vector-bytes", str(VECTOR), "--json"]) == 0
    found = {order["graph"]: order for order in json.loads(capsys.readouterr().out)["orders"]}
    board, widths = read_board(default_design().board), Widths(VECTOR, 4 * VECTOR, VECTOR)
    assert list(found) == list(graphs)
    for name, graph in graphs.items():
        offer = choose(graph, Price(SLOTS, widths, passes, board.dram_bytes_per_second, board.cpu_ratio))
        before, after = (
            replay(made, graph).bytes(widths) + list_bytes(made, graph, candidate.listed_slots)
            for candidate in (Candidate(Method.AS_IS, SLOTS), offer.candidate)
            for made in [make_schedule(graph, candidate)]
        )
        own = found[name]
        assert (own["edges"], own["order"]) == (graph.edges, str(offer.candidate))
        assert (own["as_is_bytes"], own["pass_bytes"]) == (before, after)
        if offer.candidate.method is Method.AS_IS:
            assert (own["cost_ms"], own["share"]) == (0, 1)
        else:
            assert own["found_by"] == "processor"
            assert own["cost_ms"] == pytest.approx(1e3 * offer.order_bytes / board.dram_bytes_per_second)
            assert own["share"] == pytest.approx((passes * after + offer.order_bytes) / (passes * before))
    assert found["dense"]["share"] < 0.7
    assert found["sparse"]["order"] == "as is"


def test_the_engine_of_a_design_is_priced(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An engine with the fastest clock against a processor that takes fifteen times as long as this machine's."""
    path, _ = written(tmp_path)
    table = default_design().as_dict()
    table["geometry"] |= {"engines": [*table["geometry"]["engines"], "rst"], "rst_vertices": 64}
    found = []
    for clock in (1, 1000):
        design = tmp_path / f"{clock}.json"
        design.write_text(json.dumps(table | {"clock_mhz": clock}), encoding="utf-8")
        arguments = ["--orders", "100000", "--vector-bytes", str(VECTOR), "--design", str(design), "--json"]
        assert main(["graph", str(path), *arguments]) == 0
        found.append({order["graph"]: order for order in json.loads(capsys.readouterr().out)["orders"]})
    assert [orders["dense"]["found_by"] for orders in found] == ["processor", "rst"]
    assert found[1]["dense"]["cost_ms"] < found[0]["dense"]["cost_ms"]


def test_a_vector_that_fills_the_scratchpad_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, _ = written(tmp_path)
    assert main(["graph", str(path), "--orders", "1", "--vector-bytes", "16384", "--json"]) == 1
    error = json.loads(capsys.readouterr().out)["error"]
    assert error["found"] == "the scratchpad of the design 'pynq-z2' holds 2 vectors of 16384 bytes"
    assert error["expected"] == "at least 3"
    assert error["do"] == "take a design with more feature_words, or shorter vectors"


def test_a_design_without_orders_is_a_mistake_of_usage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, _ = written(tmp_path)
    assert main(["graph", str(path), "--design", "d.json"]) == 2
    assert "give the number of passes with --orders" in capsys.readouterr().err
