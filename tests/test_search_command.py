# SPDX-License-Identifier: Apache-2.0
"""``hetfab search``: the design fits, compiles and computes the quantized model's bits; stopped runs go on."""

import json
import math
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import pytest

from hetfab.cli import model_search, search_jobs
from hetfab.cli.main import main
from hetfab.driver.graph.npz import write_graph
from hetfab.driver.modelled_time import layer_milliseconds_on_samples
from hetfab.hls.build.emulator import Emulator, build_emulator
from hetfab.overlay.board import read_board
from hetfab.overlay.compiler.compile import compile_model
from hetfab.overlay.costs.resources import check_fits
from hetfab.overlay.design import Design, default_design, read_design
from hetfab.overlay.isa.codec import Segment
from hetfab.overlay.model.bound_model import BoundModel
from hetfab.overlay.model.cnn.integer_reader import read_integers
from hetfab.overlay.model.cnn.window import Window
from hetfab.overlay.model.reader import bindings_of, read_model
from hetfab.overlay.search.environment import random_search
from hetfab.overlay.search.hardware import Array, Space
from hetfab.overlay.search.points import Point
from hetfab.quantize.bit_assignment import Options
from hetfab.quantize.widths import Widths
from tests.outside import module
from tests.programs import bound_to, reference_logits, run_emulated, run_golden
from tests.random_cnns import CnnBuilder
from tests.random_models import Case, academic_case
from tests.test_cnn_quantized import samples_of

Search = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def case() -> Case:
    return academic_case()


def small(base: Design) -> Space:
    """The default design's arrays and smaller ones."""
    geometry = base.geometry
    on_d, on_l = (
        (Array(4, 8), Array(getattr(geometry, f"gemm_{core}_rows"), getattr(geometry, f"gemm_{core}_cols")))
        for core in "dl"
    )
    return Space(base, on_d, on_l, (1024, 2048), read_board(base.board))


@pytest.fixture
def search(case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Search:
    """Runs ``search`` on the academic model in a small space, and returns what ``--json`` prints."""
    onnx.save(case.model, tmp_path / "model.onnx")
    write_graph(tmp_path / "graph.npz", case.graph)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Space, "of", small)
    few = Options(weights=(2, 4, 8), activations=(4, 8), activation_methods=("percentile 99.9",))
    monkeypatch.setattr(model_search.ModelSearch, "options", few)
    search_jobs.opened.cache_clear()

    def call(*arguments: str, status: int = 0) -> dict[str, Any]:
        capsys.readouterr()
        given = ["search", "model.onnx", "--workload", "graph.npz", "--board", "pynq-z2", "-o", "design.json"]
        assert main([*given, *arguments, "--json"]) == status
        found: dict[str, Any] = json.loads(capsys.readouterr().out)
        return found

    return call


def check_bits(case: Case, design: Design, emulated: bool = False) -> None:
    """A design fits, and the quantized model compiled for it gives onnxruntime's logits."""
    check_fits(design)
    model = read_model(Path("model.q.onnx"))
    bound = bound_to(compile_model(BoundModel(model, bindings_of(model)), design), case.graph)
    if emulated:
        with Emulator(build_emulator(design.geometry), design.geometry) as emulator:
            dram = run_emulated(bound, emulator).dram
    else:
        dram = run_golden(bound).dram
    values = (bound.logits(dram[Segment.OUTPUT]) * bound.program.output.scale).astype(np.float32)
    np.testing.assert_array_equal(values, reference_logits(model, case.graph))


@pytest.mark.parametrize("drop", ["0", "5", "100"])
def test_the_design_fits_compiles_and_computes_the_models_bits(search: Search, case: Case, drop: str) -> None:
    found = search(
        "--max-drop", drop, "--quantized", ".", "--front", "front.json", "--picture", "front.svg", "--explain"
    )
    design = read_design(Path("design.json"))
    assert found["drop"] <= float(drop) and found["simulated"]
    assert found["modelled_ms"] == pytest.approx(found["cost_function_ms"] * (1 + found["modelled_gap"]))
    assert all(share <= 1 for share in found["resources"].values())
    estimated = [point for point in found["front"] if not point["simulated"]]
    for point in estimated:
        assert point["modelled_ms"] == pytest.approx(point["cost_function_ms"] * (1 + found["modelled_gap"]))
    check_bits(case, design)
    assert "<svg" in Path("front.svg").read_text(encoding="utf-8")
    assert json.loads(Path("front.json").read_text()) == found["front"]
    assert {"divergence"} <= {gain["of"] for gain in found["gains"]}
    assert not Path("design.json.journal").exists()


def test_a_design_that_was_found_runs_in_the_emulator(
    search: Search, case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    def one(base: Design) -> Space:
        geometry = base.geometry
        on_d, on_l = (
            Array(geometry.gemm_d_rows, geometry.gemm_d_cols),
            Array(geometry.gemm_l_rows, geometry.gemm_l_cols),
        )
        return Space(base, (on_d,), (on_l,), (geometry.wgt_l_words, geometry.wgt_d_words), read_board(base.board))

    monkeypatch.setattr(Space, "of", one)
    monkeypatch.setattr(Space, "largest_memories", lambda self, design: [self.base])
    # The design is then the default one, whose emulator the suite has.
    monkeypatch.setattr(model_search, "scratchpads_of", lambda base: [])
    search("--max-drop", "3", "--quantized", ".")
    design = read_design(Path("design.json"))
    assert design.geometry == default_design().geometry
    check_bits(case, design, emulated=True)


def test_networks_on_samples_get_a_design_too(
    search: Search, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    builder = CnnBuilder(np.random.default_rng(0), (4, 6, 6))
    first = builder.conv("input", 4, Window((3, 3), (1, 1), (1, 1), (1, 1, 1, 1)), bias=1)
    model = builder.finish(builder.dense(builder.flatten(first), 3))
    onnx.save(model, tmp_path / "network.onnx")
    np.savez(tmp_path / "samples.npz", samples=samples_of(model))
    given = ["search", "network.onnx", "--workload", "samples.npz", "--board", "pynq-z2", "--max-drop", "50"]
    assert main([*given, "-o", "network.json", "--quantized", ".", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert any(point["simulated"] for point in found["front"])
    design = read_design(tmp_path / "network.json")
    check_fits(design)
    quantized = read_model(tmp_path / "network.q.onnx")
    spent = layer_milliseconds_on_samples(read_integers(quantized), design)
    assert sum(spent.values()) == pytest.approx(found["modelled_ms"])
    # Processes that share their work come to the same.
    assert main([*given, "-o", "other.json", "--workers", "2", "--json"]) == 0
    several = json.loads(capsys.readouterr().out)
    files = {"output", "quantized"}
    assert {key: several[key] for key in several.keys() - files} == {key: found[key] for key in found.keys() - files}


def test_processes_come_to_the_same(search: Search) -> None:
    assert search("--max-drop", "5", "--workers", "2") == search("--max-drop", "5")


def test_two_models_share_a_design(search: Search, case: Case, tmp_path: Path) -> None:
    onnx.save(case.model, tmp_path / "other.onnx")
    given = ["search", "model.onnx", "other.onnx", "--workload", "graph.npz", "--board", "pynq-z2", "-o", "both.json"]
    assert main([*given, "--max-drop", "5", "--combine", "max"]) == 0
    alone = search("--max-drop", "5")
    assert main([*given, "--max-drop", "5", "--combine", "sum", "--quantized", "."]) == 0
    assert (tmp_path / "other.q.onnx").exists()
    assert alone["modelled_ms"] > 0


def test_models_of_the_same_weights_share_no_rounded_ones(case: Case, tmp_path: Path) -> None:
    write_graph(tmp_path / "graph.npz", case.graph)
    (tmp_path / "shared").mkdir()
    other = onnx.ModelProto.FromString(case.model.SerializeToString())
    slope = next(node for node in other.graph.node if node.op_type == "Relu")
    slope.op_type = "LeakyRelu"
    folders = []
    for name, model in (("a.onnx", case.model), ("b.onnx", other), ("c.onnx", case.model)):
        onnx.save(model, tmp_path / name)
        source = search_jobs.Source(tmp_path / name, tmp_path / "graph.npz", shared=tmp_path / "shared")
        study = search_jobs.opened(source).subject.study
        study.write(study.uniform(Widths(2, 4), weights="gptq"))
        folders.append(study.roundings.folder)
    assert folders[0] == folders[2] != folders[1]
    assert {path.name for path in (tmp_path / "shared").iterdir()} == {folder.name for folder in folders}


def test_a_stopped_search_keeps_its_best_and_goes_on(
    search: Search, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    evaluate, calls = search_jobs.evaluate, list[str]()

    def stopped(job: search_jobs.Job) -> Any:
        if job.action is search_jobs.Action.TIME_IF_HELD:
            raise KeyboardInterrupt
        calls.append(job.action.value)
        return evaluate(job)

    monkeypatch.setattr(model_search, "evaluate", stopped)
    given = ["search", "model.onnx", "--workload", "graph.npz", "--board", "pynq-z2", "-o", "design.json"]
    assert main([*given, "--max-drop", "100"]) == 130
    said = capsys.readouterr().err
    assert "the best so far, " in said and "the same command goes on" in said
    check_fits(read_design(Path("design.json")))
    before = len(calls)

    def counted(job: search_jobs.Job) -> Any:
        calls.append(job.action.value)
        return evaluate(job)

    monkeypatch.setattr(model_search, "evaluate", counted)
    assert search("--max-drop", "100")["simulated"]
    # Widths for the design whose program is the fastest could not be scored before.
    assert calls[:before].count("score") > 2 >= calls[before:].count("score")
    assert set(calls[before:]) <= {"time if held", "score", "plan"}


def test_evaluations_stay_until_all_outputs_are_written(
    search: Search, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stopped(self: model_search.ModelSearch, point: Point) -> list[onnx.ModelProto]:
        raise KeyboardInterrupt

    monkeypatch.setattr(model_search.ModelSearch, "quantized", stopped)
    given = ["search", "model.onnx", "--workload", "graph.npz", "--board", "pynq-z2", "-o", "design.json"]
    assert main([*given, "--max-drop", "100", "--quantized", "."]) == 130
    assert "the same command goes on" in capsys.readouterr().err
    assert Path("design.json.journal").exists() and not Path("model.q.onnx").exists()


@pytest.mark.parametrize(
    ("clock", "status", "text"),
    [("1500", 2, "--clock is 1500 MHz, and a design has at most 1,000 MHz."), ("0.001", 1, "at least 0.251953 MHz")],
)
def test_clocks_that_no_design_has_are_refused(search: Search, clock: str, status: int, text: str) -> None:
    assert text in json.dumps(search("--clock", clock, status=status)["error"])
    assert not Path("design.json.journal").exists()


def test_a_time_that_cannot_be_reached_is_named(search: Search) -> None:
    error = search("--latency", "0.000001", status=1)["error"]
    assert error["code"] == "limit-unreachable"
    assert error["found"] == "no design and widths reach at most 1e-06 ms (modelled)"
    assert not Path("design.json").exists() and Path("design.json.journal").exists()


def test_workloads_are_one_for_all_or_one_each(search: Search) -> None:
    error = search("--workload", "graph.npz", status=2)["error"]
    assert "Give --workload once, or once for each model." in error["found"]


def test_the_small_benchmark_is_no_slower_than_the_others_and_goes_on(
    search: Search, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """DDPG's place has an agent without torch, which draws its actions."""
    benchmark = module("benchmarks.search")
    agent = ModuleType("ddpg")
    agent.search = random_search  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "hetfab.overlay.search.ddpg", agent)
    arguments = ["--small", "--methods", "search,uniform,ddpg,random", "--episodes", "8", "--folder", str(tmp_path)]
    benchmark.main([*arguments, "--json"])
    values = json.loads(capsys.readouterr().out)
    assert values["least_speedup_over_uniform"] >= 0.995 and values["least_speedup_over_random"] >= 0.995
    assert values["accuracy_evaluations"] <= 24 and values["sensitivity_evaluations"] > 0
    (case,) = values["cases"].values()
    seeds = [case[f"ddpg seed {seed}"] for seed in range(3)]
    assert {seed["target"] for seed in seeds} == {1.1 * case["search"]["cost_function_milliseconds"]}
    assert case["ddpg"]["milliseconds"] == min(seed["milliseconds"] or math.inf for seed in seeds)
    assert len({json.dumps(seed["curve"]) for seed in seeds}) == 3
    benchmark.main([*arguments, "--json"])
    assert json.loads(capsys.readouterr().out)["cases"] == values["cases"]


@pytest.mark.parametrize("changed", ["code", "model", "workload"])
def test_results_of_other_code_or_files_are_not_taken(
    changed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    benchmark = module("benchmarks.search")
    source = search_jobs.Source(tmp_path / "model", tmp_path / "workload")
    source.model.write_bytes(b"model")
    source.workload.write_bytes(b"workload")
    before = benchmark._hash_of(source)
    assert benchmark._hash_of(source) == before
    if changed == "code":
        monkeypatch.setattr(benchmark, "code_identity", lambda: "other")
    else:
        (tmp_path / changed).write_bytes(b"other")
    assert benchmark._hash_of(source) != before
