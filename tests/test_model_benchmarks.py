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


def test_no_other_array_on_the_board_is_clearly_better() -> None:
    """The reason for the default array: smaller ones are slower, larger ones do not fit, and others gain little."""
    found = benchmark("design_sweep")
    times = {name: entry["demo_modelled_milliseconds"] for name, entry in found.items()}
    fits = {name: entry["fits"] for name, entry in found.items()}
    needs = {name: need for name, need, _ in resource_rows(default_design())}
    assert found["16x16"]["modelled_resources"] == needs
    own = times["16x16"]
    for name in ("8x8", "8x16", "16x8"):
        assert fits[name] and times[name] > 1.2 * own
    for name in ("16x32", "32x16", "32x32"):
        assert not fits[name] and times[name] is None
    for name in ("8x32", "32x8"):
        assert fits[name] and times[name] > 0.95 * own
