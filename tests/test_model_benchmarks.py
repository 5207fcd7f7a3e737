# SPDX-License-Identifier: Apache-2.0
"""The benchmarks of modelled time, as commands: what they report for the demo, and that the default design holds."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hetfab.cli.main import main
from hetfab.overlay.board import read_board
from hetfab.overlay.costs.resources import resource_rows
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
    assert found["demo_modelled_milliseconds"] < slower < 1.01 * found["demo_modelled_milliseconds"]
    assert min(found["demo_emulate_seconds"], found["demo_simulate_seconds"]) > 0


def test_arrays_near_the_default_are_compared() -> None:
    """Those that fit have a time, and need more where an array has more rows; the default one is among them."""
    found = benchmark("design_sweep")
    design = default_design()
    geometry, board = design.geometry, read_board(design.board).resources
    assert len(found) == 9
    for step_d in (-2, 0, 2):
        for step_l in (-2, 0, 2):
            rows_d, rows_l = geometry.gemm_d_rows + step_d, geometry.gemm_l_rows + step_l
            entry = found[f"{rows_d}x{geometry.gemm_d_cols} + {rows_l}x{geometry.gemm_l_cols}"]
            needs = entry["modelled_resources"]
            assert entry["fits"] == all(need <= board[name] for name, need in needs.items())
            assert entry["fits"] == (entry["demo_modelled_milliseconds"] is not None)
            if (step_d, step_l) == (0, 0):
                assert needs == {name: need for name, need, _ in resource_rows(design)} and entry["fits"]
    luts = [entry["modelled_resources"]["lut"] for entry in found.values()]
    assert luts == sorted(luts[:3]) + sorted(luts[3:6]) + sorted(luts[6:])
