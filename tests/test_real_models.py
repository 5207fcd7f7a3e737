# SPDX-License-Identifier: Apache-2.0
"""Trained RGCN models on public graphs, from the float model to predictions, by the commands that a user types."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from hetfab.cli.main import main
from hetfab.driver.graph.feeds import feeds
from hetfab.driver.graph.heterograph import HeteroGraph
from hetfab.driver.graph.npz import read_graph
from hetfab.overlay.model.binding import parse
from tests.data_folder import require_data
from tests.reference_session import reference_session

LARGEST_LOSS = 0.003


def float_logits(model: Path, graph: HeteroGraph) -> npt.NDArray[np.float32]:
    """The float model's logits in onnxruntime, from the file as it is."""
    session = reference_session(model)
    inputs = feeds(graph, parse([value.name for value in session.get_inputs()]))
    logits: npt.NDArray[np.float32] = session.run(None, inputs)[0]
    return logits


def micro_f1_of_test_split(graph: HeteroGraph, logits: npt.NDArray[np.float32]) -> float:
    """2 TP / (2 TP + FP + FN) over all classes of the test vertices."""
    assert graph.target is not None
    labels, rows = graph.labels[graph.target], graph.splits[graph.target]["test"]
    if labels.ndim == 1:
        return float(np.mean(logits[rows].argmax(axis=1) == labels[rows]))
    found, truth = logits[rows] > 0, labels[rows] == 1
    return float(2 * np.sum(found & truth) / (np.sum(found) + np.sum(truth)))


@pytest.mark.parametrize("data", ["acm", "dblp", "imdb"])
def test_a_trained_model_keeps_its_f1(data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = require_data()
    model, graph = folder / "models" / f"{data}_rgcn.onnx", folder / data / "graph.npz"
    quantized, program = str(tmp_path / "model.q.onnx"), str(tmp_path / "model.hfp")

    def run(*arguments: str) -> dict[str, Any]:
        capsys.readouterr()
        assert main([*arguments, "--graph", str(graph), "--json"]) == 0, capsys.readouterr().err
        found: dict[str, Any] = json.loads(capsys.readouterr().out)
        return found

    run("quantize", str(model), "-o", quantized)
    compiled = run("compile", quantized, "-o", program)
    result = run("run", program, "--reference", quantized, "-o", str(tmp_path / "predictions.npz"))
    assert result["agreement"] == 1.0
    assert result["max_logit_lsb"] == 0
    assert result["instructions"] == compiled["bound_instructions"]
    assert result["f1_part"] == "test"

    opened = read_graph(graph)
    expected = micro_f1_of_test_split(opened, float_logits(model, opened))
    assert abs(result["micro_f1"] - expected) <= LARGEST_LOSS
    with np.load(tmp_path / "predictions.npz") as saved:
        assert micro_f1_of_test_split(opened, saved["logits"]) == pytest.approx(result["micro_f1"])


@pytest.mark.parametrize("bits", ["w4a4", "w2a8", "w1a8"])
def test_a_trained_model_of_narrow_widths_is_exact(
    bits: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Narrow widths may lose accuracy; the overlay loses nothing against onnxruntime, with free scales too."""
    folder = require_data()
    model, graph = folder / "models" / "acm_rgcn.onnx", folder / "acm" / "graph.npz"
    quantized, program = str(tmp_path / "model.q.onnx"), str(tmp_path / "model.hfp")
    for command in (
        ["quantize", str(model), "-o", quantized, "--bits", bits],
        ["compile", quantized, "-o", program],
        ["run", program, "--reference", quantized],
    ):
        capsys.readouterr()
        assert main([*command, "--graph", str(graph), "--json"]) == 0, capsys.readouterr().err
    result = json.loads(capsys.readouterr().out)
    assert (result["agreement"], result["max_logit_lsb"]) == (1.0, 0)
    assert result["micro_f1"] > 0.85
