# SPDX-License-Identifier: Apache-2.0
"""``hetfab run --nodes`` and the driver's ``predict(nodes=...)``: nodes by number, name or file, fusion weights."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hetfab.cli.main import main
from hetfab.driver.emulated import EmulatedTransport
from hetfab.driver.graph.graph_rows import GraphRows
from hetfab.driver.graph.npz import read_graph, write_graph
from hetfab.driver.node_runs import NodeRuns
from hetfab.driver.overlay import HetfabOverlay
from hetfab.driver.session import Session
from hetfab.overlay.errors import (
    FusionInvalidError,
    LimitExceededError,
    NodesDependentError,
    NodesOptionsError,
    NodesUnknownError,
)
from hetfab.overlay.program import Program, write_program
from tests.attention_models import attention_case
from tests.conftest import SMALL_GEOMETRY
from tests.demo_files import DemoFiles
from tests.programs import compiled, design_of, quantized
from tests.random_models import Case, academic_case

Run = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def case() -> Case:
    return academic_case()


@pytest.fixture(scope="module")
def program(case: Case) -> Program:
    return replace(compiled(quantized(case).model, case.graph, SMALL_GEOMETRY), design=design_of(SMALL_GEOMETRY))


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command that ends well, or that fails with a status, and returns what ``--json`` prints."""

    def command(*arguments: object, status: int = 0) -> dict[str, Any]:
        capsys.readouterr()
        assert main([*map(str, arguments), "--json"]) == status
        found: dict[str, Any] = json.loads(capsys.readouterr().out)
        return found

    return command


def test_the_driver_predicts_some_nodes(case: Case, program: Program) -> None:
    with HetfabOverlay(program.design, program) as overlay:
        whole = overlay.predict(case.graph)
        found = overlay.predict(nodes=[4, 0, 4], batch=2)
        np.testing.assert_array_equal(found.logits, whole.logits[[4, 0, 4]])
        np.testing.assert_array_equal(found.predictions, whole.predictions[[4, 0, 4]])
        assert found.nodes is not None and found.nodes.tolist() == [4, 0, 4]
        assert found.scores is None and found.counters.agg_edges < whole.counters.agg_edges
        np.testing.assert_array_equal(overlay.predict().logits, whole.logits)
        assert overlay.predict(nodes=[]).logits.shape == (0, whole.logits.shape[1])


def test_a_graph_larger_than_memory_runs_in_parts(case: Case, program: Program) -> None:
    with HetfabOverlay(program.design, program) as overlay:
        expected = overlay.predict(case.graph)
    with HetfabOverlay(program.design, program, memory_bytes=83_000) as overlay:
        found = overlay.predict(case.graph)
        np.testing.assert_array_equal(found.logits, expected.logits)
        assert found.result.stream_hash != expected.result.stream_hash
        np.testing.assert_array_equal(overlay.predict(nodes=[5]).logits, expected.logits[[5]])
    with (
        HetfabOverlay(program.design, program, memory_bytes=70_000) as overlay,
        pytest.raises(LimitExceededError, match=r"needs [\d,]+ bytes of device memory"),
    ):
        overlay.predict(case.graph)


@pytest.mark.parametrize(
    ("nodes", "text"),
    [
        ([40], "there is no node 40 of type 'paper' in the graph 'academic'\n  expected: numbers from 0 to 39"),
        ([-1, 2], "there is no node -1 of type 'paper'"),
        ([0.5], "nodes as float64 [1]\n  expected: whole numbers [n]"),
        ([[1], [2, 3]], "expected: whole numbers [n]"),
        (3, "nodes as int64 []\n  expected: whole numbers [n]"),
        ("3", "expected: whole numbers [n]"),
        ([True], "nodes as bool [1]"),
        ([1 << 63], "there is no node 9223372036854775808 of type 'paper'"),
    ],
)
def test_nodes_that_are_not_there_are_named(nodes: Any, text: str, case: Case, program: Program) -> None:
    with HetfabOverlay(program.design, program) as overlay:
        overlay.bind(case.graph)
        with pytest.raises(NodesUnknownError) as caught:
            overlay.predict(nodes=nodes)
        assert text in str(caught.value)
        overlay.predict(nodes=[1])


@pytest.mark.parametrize("batch", [0, -1, 1.5, True, "2"])
def test_a_batch_that_is_no_number_of_nodes(batch: Any, case: Case, program: Program) -> None:
    text = f"a batch of {batch!r}\n  expected: a whole number of nodes above 0\n  do: correct it, or leave it out"
    with HetfabOverlay(program.design, program) as overlay:
        with pytest.raises(NodesOptionsError) as caught:
            overlay.predict(case.graph, nodes=[1], batch=batch)
        assert text in str(caught.value)
        runs = NodeRuns(GraphRows(program, case.graph), overlay.memory_bytes)
        with pytest.raises(NodesOptionsError), EmulatedTransport(program.design) as transport:
            runs.predict(Session(transport, program.design), np.array([1]), batch=batch)


def test_batch_and_fusion_are_of_nodes(case: Case, program: Program) -> None:
    with HetfabOverlay(program.design, program) as overlay:
        for options, names in (({"batch": 2}, "batch"), ({"fusion": {}}, "fusion"), ({"fusion": {}, "batch": 1}, "f")):
            with pytest.raises(NodesOptionsError) as caught:
                overlay.predict(case.graph, **options)
            assert caught.value.found.startswith(names) and caught.value.found.endswith(" without nodes")
            assert caught.value.do == "say which nodes to predict"


def test_no_nodes_at_all(case: Case, program: Program) -> None:
    """An empty answer, also where no row of a layer fits the memory, and in batches."""
    with EmulatedTransport(program.design) as transport:
        session = Session(transport, program.design)
        for limit in (1, 1 << 24):
            runs = NodeRuns(GraphRows(program, case.graph), limit)
            for batch in (None, 1):
                found = runs.predict(session, np.zeros(0, np.int64), batch=batch)
                assert found.result.logits.shape == (0, 9) and found.rows == 0
                assert found.result.scale == program.output.scale


def test_repeated_nodes_where_memory_is_small(case: Case, program: Program) -> None:
    with HetfabOverlay(program.design, program) as overlay:
        expected = overlay.predict(case.graph).logits
    with HetfabOverlay(program.design, program, memory_bytes=83_000) as overlay:
        found = overlay.predict(case.graph, nodes=[39, 0, 39, 39, 0], batch=2)
        np.testing.assert_array_equal(found.logits, expected[[39, 0, 39, 39, 0]])


def test_fusion_weights_by_the_driver_and_by_files(tmp_path: Path, run: Run) -> None:
    case = attention_case("han")
    program = compiled(quantized(case).model, case.graph, SMALL_GEOMETRY)
    with HetfabOverlay(program.design, program) as overlay:
        whole = overlay.predict(case.graph)
        with pytest.raises(NodesDependentError):
            overlay.predict(nodes=[1])
        fusion = overlay.fusion_weights()
        np.testing.assert_array_equal(overlay.predict(nodes=[1, 7], fusion=fusion).logits, whole.logits[[1, 7]])
        wrong = {name: values[:1] for name, values in fusion.items()}
        with pytest.raises(FusionInvalidError, match=r"with the shape \[1, 1\]"):
            overlay.predict(nodes=[1], fusion=wrong)
        halves: Any = {name: values + 0.5 for name, values in fusion.items()}
        with pytest.raises(FusionInvalidError, match=r"that are float64, not whole numbers in Q\.8"):
            overlay.predict(nodes=[1], fusion=halves)
        with pytest.raises(FusionInvalidError, match="which is no tensor of weights of the program"):
            overlay.predict(nodes=[1], fusion={"no such": fusion[next(iter(fusion))]})
    write_program(tmp_path / "han.hfp", program)
    write_graph(tmp_path / "graph.npz", case.graph)
    given = ("run", tmp_path / "han.hfp", "--graph", tmp_path / "graph.npz")
    assert run(*given, "--nodes", "1", status=1)["error"]["code"] == "nodes-dependent"
    assert run(*given, "--save-fusion", tmp_path / "fusion.npz")["parts"] >= 9
    found = run(*given, "--nodes", "1,7", "--fusion", tmp_path / "fusion.npz", "-o", tmp_path / "found.npz")
    assert found["predictions"] == whole.predictions[[1, 7]].tolist()
    with np.load(tmp_path / "found.npz") as saved:
        np.testing.assert_array_equal(saved["logits"], whole.result.logits[[1, 7]])
        assert saved["nodes"].tolist() == [1, 7]
    write_program(tmp_path / "han.hfp", replace(program, model_hash="0" * 64))
    error = run(*given, "--nodes", "1", "--fusion", tmp_path / "fusion.npz", status=1)["error"]
    assert error["code"] == "fusion-invalid" and "the program is of the model with SHA-256 0000" in error["found"]
    (tmp_path / "broken.npz").write_bytes(b"no zip")
    error = run(*given, "--nodes", "1", "--fusion", tmp_path / "broken.npz", status=1)["error"]
    assert error["code"] == "fusion-invalid" and "cannot read the fusion weights" in error["found"]


def test_nodes_by_name_and_by_file(demo_files: DemoFiles, tmp_path: Path, run: Run) -> None:
    whole = run("run", demo_files.program, "--graph", demo_files.graph, "-o", tmp_path / "all.npz")
    with np.load(tmp_path / "all.npz") as saved:
        expected = saved["predictions"]
    names = np.array([f"paper-{number}" for number in range(len(expected))])
    named = replace(read_graph(demo_files.graph), ids={"paper": names})
    write_graph(tmp_path / "named.npz", named)
    (tmp_path / "nodes.txt").write_text("paper-3\n12\n\n", encoding="utf-8")
    for nodes in ("paper-3,12", tmp_path / "nodes.txt"):
        found = run("run", demo_files.program, "--graph", tmp_path / "named.npz", "--nodes", nodes)
        assert found["nodes"] == [3, 12] and found["runs"] == 1
        assert found["predictions"] == expected[[3, 12]].tolist()
        assert found["counters"]["agg_edges"] < whole["counters"]["agg_edges"]
    error = run("run", demo_files.program, "--graph", demo_files.graph, "--nodes", "paper-3", status=1)["error"]
    assert error["code"] == "nodes-unknown" and "there is no node 'paper-3' of type 'paper'" in error["found"]


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (("--fusion", "f.npz"), "--batch and --fusion are of --nodes."),
        (("--nodes", "1", "--save-fusion", "f.npz"), "--save-fusion is of a whole graph: leave --nodes out."),
        (("--nodes", "1", "--trace", "t.json"), "go with --graph, without --reference, --float and --trace."),
    ],
)
def test_options_that_do_not_go_together(
    options: tuple[str, ...], text: str, demo_files: DemoFiles, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", str(demo_files.program), "--graph", str(demo_files.graph), *options]) == 2
    assert text in capsys.readouterr().err
