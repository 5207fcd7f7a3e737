# SPDX-License-Identifier: Apache-2.0
"""``hetfab lift`` writes the lifted model, says what became of the exported one, and writes nothing when it cannot."""

import json
from pathlib import Path

import pytest

from hetfab.cli.main import ExitCode, main
from hetfab.overlay.model.reader import bindings_of, read_model
from tests.pyg_graphs import FOLDER, lifted


def test_the_lifted_model_is_written_with_its_binding(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "gcn.onnx"
    assert main(["lift", str(FOLDER / "gcn.onnx"), "-o", str(path)]) == ExitCode.DONE
    shown = capsys.readouterr().out
    assert "63 operators became 8; on 3 random graphs both models differ by at most" in shown
    assert "weights of the edges of cites (paper -> paper), with self loops, by the edges into both ends" in shown
    assert f"hetfab quantize {path} --graph GRAPH" in shown
    assert bindings_of(read_model(path)) == lifted("gcn").bindings


def test_json_says_what_became_of_the_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "gcn.onnx"
    assert main(["lift", str(FOLDER / "gcn.onnx"), "-o", str(path), "--json"]) == ExitCode.DONE
    found = json.loads(capsys.readouterr().out)
    assert found["operators"]["hgnn::SegSumWeighted"] == 2
    assert found["operators_before"] == 63 and found["graphs"] == 3 and found["refused"] == []
    assert found["largest_difference"] <= 1e-5


def test_nothing_is_written_of_a_model_that_is_not_lifted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "sage_max.onnx"
    assert main(["lift", str(FOLDER / "sage_max.onnx"), "-o", str(path)]) == ExitCode.INPUT
    assert "3 operators not lifted to the domain hgnn" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_inspect_of_an_export_names_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(FOLDER / "gcn.onnx")]) == ExitCode.INPUT
    shown = capsys.readouterr().err
    assert "the meaning of these inputs is unknown: edge_index_cites" in shown
    assert "use `hetfab lift` first" in shown
