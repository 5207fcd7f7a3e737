# SPDX-License-Identifier: Apache-2.0
"""``hetfab quantize --bits auto`` keeps time and accuracy and says what it chose; what cannot be reached is named."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from hetfab.cli import automatic_bits
from hetfab.cli.main import main
from hetfab.driver.graph.npz import write_graph
from hetfab.driver.modelled_time import layer_milliseconds, layer_milliseconds_on_samples
from hetfab.driver.scores import Loss
from hetfab.overlay.errors import LimitUnreachableError
from hetfab.overlay.model.bound_model import BoundModel, Evaluation, FedModel
from hetfab.overlay.model.cnn.integer_reader import read_integers
from hetfab.overlay.model.cnn.window import Window
from hetfab.overlay.model.reader import bindings_of, read_model
from hetfab.quantize.assignment import Assignment
from hetfab.quantize.automatic import Goal, Point, unreachable
from hetfab.quantize.bit_assignment import Measured, Options
from hetfab.quantize.cnn.study import CnnStudy
from hetfab.quantize.widths import Widths
from tests.random_cnns import CnnBuilder, random_cnn
from tests.random_models import Case, academic_case
from tests.test_cnn_quantized import samples_of

Run = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def case() -> Case:
    return academic_case()


@pytest.fixture
def run(case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs ``quantize`` on the academic model with few options, and returns what ``--json`` prints."""
    onnx.save(case.model, tmp_path / "model.onnx")
    write_graph(tmp_path / "graph.npz", case.graph)
    monkeypatch.chdir(tmp_path)
    few = Options(weights=(2, 4, 8), activations=(4, 8), activation_methods=("percentile 99.9",))
    monkeypatch.setattr("hetfab.quantize.bit_assignment.Options", lambda: few)

    def call(*arguments: str, status: int = 0) -> dict[str, Any]:
        capsys.readouterr()
        given = ["quantize", "model.onnx", "--graph", "graph.npz", "-o", "model.q.onnx", *arguments, "--json"]
        assert main(given) == status
        found: dict[str, Any] = json.loads(capsys.readouterr().out)
        return found

    return call


def test_the_model_has_the_widths_and_the_time_of_the_report(
    run: Run, case: Case, capsys: pytest.CaptureFixture[str]
) -> None:
    found = run("--bits", "auto", "--max-drop", "30", "--picture", "bits.svg")
    model = read_model(Path("model.q.onnx"))
    times = layer_milliseconds(BoundModel(model, bindings_of(model)), case.graph)
    assert found["modelled_ms"] == pytest.approx(sum(times.values())) and found["drop"] <= 30
    assert sum(layer["milliseconds"] for layer in found["layers"]) <= found["modelled_ms"] * (1 + 1e-9)
    widths = {node.input[0]: node.input[3] for node in model.graph.node if node.op_type == "Quant"}
    for layer in found["layers"]:
        assert widths[f"{layer['name']}.weight"] == f"quant.bits_{layer['weight_bits']}"
    for tensor, bits in found["tensors"].items():
        assert widths[tensor] == f"quant.bits_{bits}"
    assert found["weight_bytes"] == sum(layer["weights"] * layer["weight_bits"] / 8 for layer in found["layers"])
    assert "<svg" in Path("bits.svg").read_text(encoding="utf-8")
    assert not Path("model.q.onnx.journal").exists()
    milliseconds = [point["modelled_ms"] for point in found["curve"]]
    assert milliseconds == sorted(milliseconds) and len(milliseconds) > 2
    assert main(["compile", "model.q.onnx", "--graph", "graph.npz", "-o", "model.hfp"]) == 0
    capsys.readouterr()
    assert main(["run", "model.hfp", "--graph", "graph.npz", "--json"]) == 0
    # The time that was searched with is that of what runs, layers side by side.
    timeline = json.loads(capsys.readouterr().out)["timeline"]
    assert timeline["board"]["milliseconds"] == pytest.approx(found["modelled_ms"])


def test_a_time_is_kept_by_the_nearest_to_the_float_model(run: Run) -> None:
    curve = run("--bits", "auto", "--max-drop", "100")["curve"]
    limit = (curve[0]["modelled_ms"] + curve[-1]["modelled_ms"]) / 2
    found = run("--bits", "auto", "--latency", str(limit))
    assert found["modelled_ms"] <= limit
    assert found["divergence"] <= min(p["divergence"] for p in curve if p["modelled_ms"] <= limit)


def test_goals_that_cannot_be_reached_name_the_nearest_point(run: Run) -> None:
    error = run("--bits", "auto", "--latency", "0.0001", status=1)["error"]
    assert error["code"] == "limit-unreachable"
    assert error["found"] == "no widths reach at most 0.0001 ms (modelled)"
    assert error["expected"].startswith("what can be reached: 0.04") and error["expected"].endswith(", the fastest")
    assert not Path("model.q.onnx").exists()
    error = run("--bits", "w4a4", "--latency", "0.0001", "--max-drop", "0", status=1)["error"]
    assert error["expected"].endswith("which is what these widths have; `--bits auto` looks for others")


def test_given_widths_are_timed_and_scored_when_that_is_asked_for(run: Run, case: Case) -> None:
    found = run("--bits", "w8a8", "--latency", "100", "--max-drop", "100", "--picture", "bits.png")
    model = read_model(Path("model.q.onnx"))
    times = layer_milliseconds(BoundModel(model, bindings_of(model)), case.graph)
    assert found["modelled_ms"] == pytest.approx(sum(times.values())) and Path("bits.png").stat().st_size > 1000
    assert run("--bits", "w8a8")["modelled_ms"] is None


def test_other_processes_choose_the_same(run: Run) -> None:
    expected = run("--bits", "auto", "--max-drop", "30")
    model = Path("model.q.onnx").read_bytes()
    assert run("--bits", "auto", "--max-drop", "30", "--workers", "2") == expected
    assert Path("model.q.onnx").read_bytes() == model


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--bits", "auto", "--cluster", "tcp://a:1"), "--backend dask or ray goes with --cluster"),
        (("--bits", "auto", "--backend", "ray"), "--backend dask or ray goes with --cluster"),
        (
            ("--bits", "auto", "--backend", "dask", "--cluster", "tcp://a:1", "--workers", "2"),
            "--workers counts processes of this machine",
        ),
        (("--workers", "2"), "--workers and --cluster are for --bits auto"),
    ],
)
def test_workers_that_contradict_are_refused(run: Run, options: tuple[str, ...], words: str) -> None:
    assert words in run(*options, status=2)["error"]["found"]


def test_an_interrupted_run_goes_on(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = run("--bits", "auto", "--max-drop", "30")
    timed = []

    def counted(*arguments: Any) -> dict[str, float]:
        timed.append(arguments)
        if len(timed) == 4:
            raise KeyboardInterrupt
        return layer_milliseconds(*arguments)

    monkeypatch.setattr("hetfab.driver.modelled_time.layer_milliseconds", counted)
    assert run("--bits", "auto", "--max-drop", "30", status=130)["error"]["code"] == "interrupted"
    lines = Path("model.q.onnx.journal").read_text(encoding="utf-8").splitlines()
    assert len(lines) == 4
    before = len(timed)
    assert run("--bits", "auto", "--max-drop", "30") == expected
    assert len(timed) - before < before + len(expected["curve"]) + 6
    keys = [json.loads(line)["key"] for line in lines[1:]]
    assert keys == ["time w2a8", "time w2a4", "time w4a8"]


def test_a_network_on_samples_gets_widths_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    few = Options(weights=(2, 8), activations=(4, 8), activation_methods=("percentile 99.9",), weight_method="nearest")
    monkeypatch.setattr("hetfab.quantize.bit_assignment.Options", lambda: few)
    model = random_cnn(3)
    onnx.save(model, tmp_path / "model.onnx")
    np.savez(tmp_path / "samples.npz", samples=samples_of(model, 20))
    given = ["quantize", str(tmp_path / "model.onnx"), "--samples", str(tmp_path / "samples.npz")]
    given += ["-o", str(tmp_path / "model.q.onnx"), "--json"]
    assert main([*given, "--bits", "auto", "--max-drop", "20"]) == 0
    found = json.loads(capsys.readouterr().out)
    written = read_model(tmp_path / "model.q.onnx")
    times = layer_milliseconds_on_samples(read_integers(written))
    assert found["modelled_ms"] == pytest.approx(sum(times.values()))
    assert found["drop"] <= 20 and found["drop_of"] == "predictions that change"
    widths = {node.input[0]: node.input[3] for node in written.graph.node if node.op_type == "Quant"}
    for layer in found["layers"]:
        assert widths[f"{layer['name']}.weight"] == f"quant.bits_{layer['weight_bits']}"
    assert all(widths[tensor] == f"quant.bits_{bits}" for tensor, bits in found["tensors"].items())
    assert main([*given, "--bits", "w4a8", "--first-last", "w8a8", "--latency", "1e-6"]) == 1
    assert json.loads(capsys.readouterr().out)["error"]["code"] == "limit-unreachable"
    assert main([*given, "--bits", "auto", "--first-last", "w8a8"]) == 2


def test_a_picture_of_no_known_form_is_refused_before_the_work(run: Run) -> None:
    assert run("--bits", "auto", "--picture", "bits.txt", status=1)["error"]["code"] == "output-unwritable"


# Points


def point(milliseconds: float, drop: float, divergence: float = 0.0) -> Point:
    return Point(Measured(Assignment({}, {}), divergence, {}), milliseconds, drop)


def test_both_goals_name_a_point_each() -> None:
    points = [point(1.0, 4.0), point(2.0, 3.0), point(5.0, 0.25)]
    error = unreachable(Goal(2.5, 0.5), points)
    assert isinstance(error, LimitUnreachableError)
    assert str(error) == (
        "no widths reach at most 2.5 ms (modelled) and at most 0.5 points lost\n"
        "  expected: what can be reached: 5 ms (modelled) with 0.25 points lost, the fastest that loses no more; "
        "2 ms (modelled) with 3.00 points lost, the least loss in that time\n"
        "  do: raise the limits"
    )


def test_accuracy_is_counted_on_labels_of_validation_nodes_alone(case: Case) -> None:
    graph = case.graph
    target = graph.target or ""
    count = graph.counts[target]
    labels = np.arange(count) % 3
    labelled = replace(graph, labels={target: labels})
    logits = np.eye(3, dtype=np.float32)[labels]
    rows = np.arange(0, count, 2)
    wrong = logits[rows].copy()
    wrong[0] = np.roll(wrong[0], 1)
    loss = Loss.on_validation(labelled, logits, Evaluation(rows))
    assert loss.points(wrong) == pytest.approx(100 / len(rows)) and loss.of == "micro F1 on validation nodes"
    for given in (Evaluation(None), Evaluation(rows)):
        unlabelled = labelled if given.rows is None else replace(graph, labels={})
        of_predictions = Loss.on_validation(unlabelled, logits, given)
        assert of_predictions.of == "predictions that change"
        found = logits if given.rows is None else wrong
        assert of_predictions.points(found) == pytest.approx(0 if given.rows is None else 100 / len(rows))


def test_the_report_of_a_run_is_printed(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert automatic_bits.Report(None, None, None, None).read_design() is None
    given = ["quantize", "model.onnx", "--graph", "graph.npz", "-o", "model.q.onnx", "--bits", "auto"]
    assert main(given) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["layer", "weight", "bits", "input", "bits", "weights", "KiB", "modelled", "ms"]
    assert sum(line.endswith("chosen") for line in lines) == 1
    assert lines[-1] == "next: hetfab compile model.q.onnx --graph graph.npz -o model.q.hfp".replace(".q.hfp", ".hfp")


def test_each_result_of_a_network_belongs_to_a_layer() -> None:
    """A residual's stored operand is a layer's own result; the sum belongs to the layer that joins it."""
    builder = CnnBuilder(np.random.default_rng(0), (4, 6, 6))
    window = Window((3, 3), (1, 1), (1, 1), (1, 1, 1, 1))
    first = builder.conv("input", 4, window, bias=1)
    second = builder.conv(first, 4, window, bias=1)
    model = builder.finish(builder.dense(builder.flatten(builder.node("Add", second, first)), 3))
    study = CnnStudy.open(FedModel(model, bindings_of(model), [{"input": samples_of(model)}]))
    widths = study.uniform(Widths())
    results = layer_milliseconds_on_samples(read_integers(study.write(widths)))
    assert {study.made_of(name)[0] for name in results if name} == set(study.layers)
    assert study.made_of("absent") == (None, None)
