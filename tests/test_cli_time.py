# SPDX-License-Identifier: Apache-2.0
"""What ``compile`` says of resources and ``run`` of time: tables, JSON, and designs that do not fit."""

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import pytest

from hetfab.cli.main import main
from hetfab.overlay.board import board_names, read_board
from hetfab.overlay.costs.elements import Form
from hetfab.overlay.costs.resources import design_resources, total
from hetfab.overlay.design import default_design
from tests.demo_files import DemoFiles

Captured = pytest.CaptureFixture[str]


def design_file(path: Path, **changes: Any) -> Path:
    """A design file; names of the geometry change the geometry."""
    table = json.loads(json.dumps(default_design().as_dict()))
    for name, value in changes.items():
        (table["geometry"] if name in table["geometry"] else table)[name] = value
    path.write_text(json.dumps(table), encoding="utf-8")
    return path


def test_compile_refuses_a_design_that_does_not_fit(demo_files: DemoFiles, tmp_path: Path, capsys: Captured) -> None:
    large = design_file(tmp_path / "large.json", name="large", gemm_d_rows=32, gemm_d_cols=32)
    output = tmp_path / "p.hfp"
    status = main(["compile", str(demo_files.quantized), "--design", str(large), "-o", str(output), "--json"])
    error = json.loads(capsys.readouterr().out)["error"]
    assert status == 1
    assert error["code"] == "design-too-large"
    geometry = dataclasses.replace(default_design().geometry, gemm_d_rows=32, gemm_d_cols=32)
    need = dataclasses.asdict(total(design_resources(geometry, Form(default_design().elements))))
    board = read_board("pynq-z2").resources
    short = [
        f"{name}: needs {math.ceil(need[name]):,} (modelled), there are {there:,}"
        for name, there in board.items()
        if need[name] > there
    ]
    assert "dsp: needs 2,100 (modelled), there are 220" in short
    assert error["found"] == "the design 'large' does not fit the board 'pynq-z2': " + "; ".join(short)
    assert error["expected"] == "a design within the board's resources"
    assert error["do"] == "make the array or the buffers smaller, or choose a larger board"
    assert sorted(tmp_path.iterdir()) == [large]


def test_compile_shows_what_the_design_needs(demo_files: DemoFiles, tmp_path: Path, capsys: Captured) -> None:
    output = tmp_path / "p.hfp"
    assert main(["compile", str(demo_files.quantized), "-o", str(output), "--json"]) == 0
    printed = capsys.readouterr()
    found = json.loads(printed.out)["resources"]
    assert {name: entry["board"] for name, entry in found.items()} == read_board("pynq-z2").resources
    need = total(design_resources(default_design().geometry, Form(default_design().elements)))
    assert {name: entry["modelled"] for name, entry in found.items()} == {
        name: math.ceil(value) for name, value in dataclasses.asdict(need).items()
    }
    assert "resource  modelled need  on the board pynq-z2" in printed.err


def test_run_says_where_modelled_time_goes(demo_files: DemoFiles, tmp_path: Path, capsys: Captured) -> None:
    slow = design_file(tmp_path / "slow.json", clock_mhz=50)
    found = {}
    for name, options in (("default", []), ("slow", ["--design", str(slow)])):
        call = ["run", str(demo_files.program), "--graph", str(demo_files.graph), "--json", *options]
        assert main(call) == 0
        printed = capsys.readouterr()
        found[name] = json.loads(printed.out)["timeline"]
        for text in ("time, modelled", "of the board pynq-z2", "for comparison", "stalls most on", "critical path"):
            assert text in printed.err
        assert "below 100 cycles %" in printed.err
    timeline = found["default"]
    assert timeline["modelled"] is True
    total_cycles = timeline["board"]["cycles"]
    assert timeline["board"]["milliseconds"] == pytest.approx(total_cycles / 100e3)
    assert timeline["board"]["dram_bytes_per_cycle"] == pytest.approx(0.75 * 2.1e9 / 100e6)
    assert timeline["comparison"]["dram_bytes_per_cycle"] == 8
    assert timeline["comparison"]["cycles"] >= total_cycles >= max(timeline["bounds_cycles"].values())
    assert set(timeline["engines"]) == set(default_design().geometry.engines)
    for engine in timeline["engines"].values():
        parts = [engine["busy_cycles"], engine["dram_cycles"], *engine["idle_cycles"].values()]
        assert sum(parts) == pytest.approx(total_cycles)
    short = sum(engine["short_instructions"] for engine in timeline["engines"].values())
    instructions = sum(engine["instructions"] for engine in timeline["engines"].values())
    assert timeline["short_instructions"] == {"below_cycles": 100, "share": pytest.approx(short / instructions)}
    assert 0 < short < instructions
    assert sum(step["cycles"] for step in timeline["critical_path"]) == pytest.approx(total_cycles)
    # Half the clock: fewer cycles of latency, more milliseconds.
    assert found["slow"]["board"]["cycles"] < total_cycles
    assert found["slow"]["board"]["milliseconds"] > timeline["board"]["milliseconds"]


@pytest.mark.parametrize(("option", "name"), [("--trace", "trace.json"), ("-o", "found.npz")])
def test_outputs_that_cannot_be_written_are_found_before_the_run(
    option: str, name: str, demo_files: DemoFiles, tmp_path: Path, capsys: Captured
) -> None:
    missing = tmp_path / "missing" / name
    call = ["run", str(demo_files.program), "--graph", str(demo_files.graph), option, str(missing)]
    assert main([*call, "--deadline", "1e-9"]) == 1
    assert f"cannot write '{missing}': No such file or directory" in capsys.readouterr().err


def test_an_unknown_board_is_found_before_the_run(demo_files: DemoFiles, tmp_path: Path, capsys: Captured) -> None:
    design = design_file(tmp_path / "d.json", board="breadboard")
    call = ["run", str(demo_files.program), "--graph", str(demo_files.graph), "--design", str(design), "--json"]
    assert main(call) == 1
    error = json.loads(capsys.readouterr().out)["error"]
    assert error == {
        "code": "design-invalid",
        "found": "there is no board 'breadboard'",
        "expected": "one of " + ", ".join(board_names()),
        "do": "correct 'board' in the design file",
    }
