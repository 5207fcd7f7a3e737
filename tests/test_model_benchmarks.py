# SPDX-License-Identifier: Apache-2.0
"""The benchmarks of modelled time, as commands: what they report for the demo, and that the default design holds."""

import importlib
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hetfab.cli.main import main
from hetfab.overlay.design import default_design
from tests.demo_files import DemoFiles

ROOT = Path(__file__).parents[1]


def benchmark(name: str) -> dict[str, Any]:
    """The JSON object of a benchmark, without the public models."""
    environment = {key: value for key, value in os.environ.items() if key != "HETFAB_DATA"}
    command = [sys.executable, "-m", f"benchmarks.{name}", "--json"]
    done = subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_the_benchmark_reports_what_a_run_reports(demo_files: DemoFiles, capsys: pytest.CaptureFixture[str]) -> None:
    found = benchmark("timeline")
    assert main(["run", str(demo_files.program), "--graph", str(demo_files.graph), "--json"]) == 0
    run = json.loads(capsys.readouterr().out)
    assert found["demo_instructions"] == run["instructions"]
    assert found["demo_modelled_milliseconds"] == run["timeline"]["board"]["milliseconds"]
    at_8_bytes = found["demo_modelled_milliseconds_at_8_bytes_per_cycle"]
    assert at_8_bytes == run["timeline"]["comparison"]["milliseconds"]
    slower = found["demo_modelled_milliseconds_with_slower_dispatch"]
    assert found["demo_modelled_milliseconds"] < slower < 1.06 * found["demo_modelled_milliseconds"]
    assert min(found["demo_emulate_seconds"], found["demo_simulate_seconds"]) > 0


def test_the_default_design_is_a_point_of_its_sweep(monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole sweep takes minutes; what the board cannot hold is left out of it."""
    monkeypatch.syspath_prepend(ROOT)
    points_of = importlib.import_module("benchmarks.design_points")
    design = default_design()
    points = list(points_of.candidates(design.geometry))
    assert design.geometry in points and f"{len(points):,}" in design.origin
    assert points_of.holds(design)
    largest = max(points, key=lambda g: g.gemm_d_rows * g.gemm_d_cols + g.gemm_l_rows * g.gemm_l_cols)
    assert not points_of.holds(replace(design, geometry=largest))
