# SPDX-License-Identifier: Apache-2.0
"""The benchmark of the public models: its totals, that a stopped run goes on, and that SGB's graphs change no logit."""

import json
import math
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.outside import module

MODELS: Any = module("benchmarks.models")
MEASURE: Any = module("benchmarks.model_measure")


def figures(**changed: float) -> dict[str, float]:
    given = {
        "float_f1": 0.91,
        "quantized_f1": 0.91,
        "overlay_f1": 0.91,
        "agreement": 1.0,
        "max_logit_lsb": 0.0,
        "seconds": 1.0,
        "onnxruntime_seconds": 2.0,
        "scipy_seconds": 2.0,
        "onnxruntime_seconds_with_scipy": 4.0,
        "seconds_with_sgb": 1.0,
        "peak_mb": 100.0,
    }
    return given | changed


def test_totals_are_the_worst_and_the_geometric_means() -> None:
    worse = figures(overlay_f1=0.9, agreement=0.999, seconds=4.0, peak_mb=200.0, seconds_with_sgb=16.0)
    values = MODELS.report({"dblp_han": figures(), "acm_han": worse}, {"code": "0123", "older_rows": {}}).values
    assert (values["code"], values["older_rows"]) == ("0123", {})
    assert (values["min_agreement"], values["peak_mb"], values["max_logit_lsb"]) == (0.999, 200.0, 0.0)
    assert values["max_f1_drop"] == pytest.approx(0.01)
    assert values["geomean_time_ratio"] == pytest.approx(math.sqrt(0.5 * 2))
    assert values["geomean_time_ratio_with_sgb"] == pytest.approx(math.sqrt(0.25 * 4))
    assert (values["dblp_han_time_ratio"], values["dblp_han_peak_mb"]) == (0.5, 100.0)
    json.dumps(values, allow_nan=False)


def test_a_model_whose_figures_are_there_is_not_measured_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    commands: list[list[str]] = []

    def run(command: list[str], **_: Any) -> subprocess.CompletedProcess[bytes]:
        commands.append(command)
        return subprocess.CompletedProcess(command, 0, json.dumps(figures()).encode())

    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setenv("HETFAB_DATA", str(tmp_path / "data"))

    def measured(board: str) -> Any:
        options = ["--only", "acm_han", "--folder", str(tmp_path), "--board", board, "--json"]
        monkeypatch.setattr("sys.argv", ["models", *options])
        MODELS.main()
        return json.loads(capsys.readouterr().out)

    first = measured("zcu104")
    assert measured("zcu104") == first and first["models"] == {"acm_han": figures()}
    assert [command[2:5] for command in commands] == [
        ["benchmarks.model_measure", part, "acm_han"] for part in ("prepare", "overlay", "compare")
    ]
    assert Path(commands[0][5]) == tmp_path / first["code"]
    measured("zc706")
    assert len(commands) == 6


def test_the_design_is_the_boards_own_with_sgb() -> None:
    found = MEASURE.design_with_sgb("zcu104")
    assert "sgb" in found.geometry.engines and found.board == "zcu104"
