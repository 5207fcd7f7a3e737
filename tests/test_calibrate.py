# SPDX-License-Identifier: Apache-2.0
"""Calibration: constants fitted to modelled times are those behind them; where measured ones are kept and read."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from hetfab.cli.main import ExitCode, main
from hetfab.cli.run import _what_was_measured
from hetfab.driver.calibration.fit import Calibration, Stopwatch, calibrate, expected_period, fitted_machine
from hetfab.driver.calibration.programs import MicroProgram, turns
from hetfab.driver.calibration.stopwatch import measured_cycles, modelled_cycles
from hetfab.driver.emulated import EmulatedTransport
from hetfab.driver.package import write_emulated_package
from hetfab.driver.session import Session
from hetfab.overlay.costs.program_cost import expected_records
from hetfab.overlay.design import Design, default_design
from hetfab.overlay.errors import ConstantsInvalidError, OverlayStateError
from hetfab.overlay.isa.codec import Segment
from hetfab.overlay.isa.words import pack
from hetfab.overlay.timeline.machine import (
    CONSTANTS_VARIABLE,
    Constant,
    Machine,
    constants,
    constants_file,
    machine,
    measured_constants,
    origin_text,
    save_measured,
)
from hetfab.overlay.timeline.simulate import simulate
from tests.conftest import SMALL_GEOMETRY

SMALL = replace(default_design(), name="small", geometry=SMALL_GEOMETRY)
FITTED = ("turn_cycles", "queue_cycles", "retire_cycles", "read_latency_ns", "write_latency_ns")


def modelled(design: Design, board: Machine) -> Stopwatch:
    """Times of a machine, without running anything."""

    def cycles(program: MicroProgram, repeats: int) -> float:
        words = pack(program.words(repeats))
        graph = program.contents.get(Segment.GRAPH, np.zeros(0, np.uint8))
        log = expected_records(words, graph, design.geometry)
        return simulate(words, log, board).total_cycles

    return cycles


def values(found: Calibration) -> dict[str, float]:
    return {constant.name: constant.value for constant in found.constants}


def other_constants(**changed: float) -> list[Constant]:
    return [Constant(name, value, constants()[name].unit, "made up") for name, value in changed.items()]


@pytest.mark.parametrize("behind", [(5, 8, 40, 100, 500, 0.3), (9, 20, 10, 700, 50, 0.6), (6, 11, 18, 333, 217, 0.55)])
@pytest.mark.parametrize("name", ["pynq-z2", "pynq-z2-images", "kv260", "zcu104"])
def test_the_constants_behind_modelled_times_come_back(name: str, behind: tuple[float, ...]) -> None:
    design = default_design(name)
    *dispatch_and_latency, efficiency = behind
    given = dict(zip(FITTED, dispatch_and_latency, strict=True))
    board = fitted_machine(design, other_constants(**given, dram_efficiency=efficiency))
    found = calibrate(design, modelled(design, board), "test")
    fitted = values(found)
    for constant in FITTED:
        assert fitted[constant] == pytest.approx(given[constant], rel=1e-6), constant
    if "dram_efficiency" in fitted:
        assert fitted["dram_efficiency"] == pytest.approx(efficiency, rel=1e-3)
    else:
        assert found.left["dram_efficiency"] == "the overlay's ports move less than the DRAM"
    # On the PYNQ-Z2 the DRAM is the slower side, on the boards with a fast one never.
    assert ("dram_efficiency" in fitted) == name.startswith("pynq-z2")
    for check in found.checks:
        assert check.measured == pytest.approx(check.expected, rel=1e-6), check.name
    assert set(fitted) | set(found.left) == set(constants())


def test_short_bursts_and_gathered_rows_are_checked() -> None:
    found = calibrate(default_design(), modelled(default_design(), machine(default_design())), "test")
    assert [check.name for check in found.checks] == ["bursts of 8 beats", "gathered rows of 1 beats"]
    images = default_design("pynq-z2-images")
    assert [check.name for check in calibrate(images, modelled(images, machine(images)), "test").checks] == [
        "bursts of 8 beats"
    ]


def test_a_check_differs_where_the_model_is_wrong() -> None:
    """Rows whose latency nothing covers take longer than the fitted constants say."""
    design = default_design()
    board = replace(machine(design), rows_ahead=1)
    found = calibrate(design, modelled(design, board), "test")
    check = next(check for check in found.checks if check.name == "gathered rows of 1 beats")
    assert check.measured > 4 * check.expected


def test_the_emulated_overlay_gives_the_modelled_constants() -> None:
    """On the design that has all engines, by the run log of its emulator."""
    with EmulatedTransport(SMALL) as transport:
        session = Session(transport, SMALL)
        found = calibrate(SMALL, lambda program, repeats: modelled_cycles(session, program, repeats), "test")
    assert found.constants and not {constant.name for constant in found.constants} & set(found.left)
    for constant in found.constants:
        assert constant.value == pytest.approx(constants()[constant.name].value, rel=1e-3), constant.name
        assert (constant.unit, constant.origin) == (constants()[constant.name].unit, "test")


def test_times_that_cannot_be_are_left_out() -> None:
    design = default_design()
    exact = modelled(design, machine(design))

    def noisy(program: MicroProgram, repeats: int) -> float:
        return 0.0 if program.name.startswith("a read") else exact(program, repeats)

    found = calibrate(design, noisy, "test")
    assert not {"read_latency_ns", "queue_cycles"} & set(values(found))
    assert found.left["queue_cycles"] == "it is what the latency of a read leaves of a time"
    assert found.left["read_latency_ns"] == ("the times gave -800, which cannot be: repeat it on an idle machine")


def test_a_host_clock_gives_the_median_of_its_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs of 1 to 9 ms; a repetition on a board is 16 of the program's."""
    ticks = iter([tick for run in range(9) for tick in (float(run), run + (9 - run) / 1000)])
    clock = SimpleNamespace(perf_counter=lambda: next(ticks))
    monkeypatch.setattr("hetfab.driver.calibration.stopwatch.time", clock)
    with EmulatedTransport(SMALL) as transport:
        cycles = measured_cycles(Session(transport, SMALL), turns(), 2)
    assert cycles == pytest.approx(5e-3 * SMALL.clock_mhz * 1e6 / 16)


def test_a_board_has_no_run_log_to_model_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    with EmulatedTransport(SMALL) as transport:
        session = Session(transport, SMALL)
        monkeypatch.setattr(transport, "run_log", lambda: None)
        with pytest.raises(OverlayStateError, match="the overlay keeps no run log"):
            modelled_cycles(session, turns(), 2)


def test_repetitions_differ_in_nothing_else() -> None:
    design = default_design()
    board = machine(design)
    assert expected_period(turns(), design, board) == pytest.approx(board.pass_cycles)


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file of measured constants of its own."""
    path = tmp_path / "settings" / "constants.json"
    monkeypatch.setenv(CONSTANTS_VARIABLE, str(path))
    return path


def test_measured_constants_take_the_place_of_modelled_ones(file: Path) -> None:
    """Only on their board; what was measured there before is replaced."""
    before = machine(default_design())
    save_measured(file, "pynq-z2", other_constants(read_latency_ns=400.0, queue_cycles=11.0))
    save_measured(file, "kv260", other_constants(write_latency_ns=90.0))
    save_measured(file, "pynq-z2", other_constants(read_latency_ns=500.0))
    assert set(measured_constants("pynq-z2")) == {"read_latency_ns"} and constants_file() == file
    assert machine(default_design()) == replace(before, read_latency=50.0)
    assert machine(default_design("kv260")).write_latency == 90.0 * default_design("kv260").clock_mhz / 1e3
    assert machine(default_design("zc706")).read_latency == 250.0 * default_design("zc706").clock_mhz / 1e3
    assert _what_was_measured(default_design()) == "read_latency_ns: made up"
    assert _what_was_measured(default_design("zc706")) == "nothing here was measured on a board"


def test_the_file_is_among_the_settings_of_the_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(CONSTANTS_VARIABLE)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert constants_file() == tmp_path / "hetfab" / "constants.json"
    monkeypatch.delenv("XDG_CONFIG_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert constants_file() == tmp_path / ".config" / "hetfab" / "constants.json"
    assert measured_constants("pynq-z2") == {} and origin_text("pynq-z2") == ""


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("{", "Expecting property name"),
        ('{"pynq-z2": [{"name": "no_such", "value": 1, "unit": "ns", "origin": ""}]}', "'no_such' in 'ns' is no"),
        (
            '{"pynq-z2": [{"name": "read_latency_ns", "value": -1, "unit": "ns", "origin": ""}]}',
            "no number of at least",
        ),
        ('{"pynq-z2": [{"name": "read_latency_ns"}]}', "missing 3 required positional arguments"),
        ("[]", "has no attribute 'items'"),
    ],
)
def test_a_damaged_file_is_named(file: Path, text: str, why: str) -> None:
    file.parent.mkdir()
    file.write_text(text, "utf-8")
    with pytest.raises(ConstantsInvalidError) as caught:
        machine(default_design())
    assert caught.value.found.startswith(f"cannot read the measured constants '{file}': ") and why in caught.value.found
    assert caught.value.do == "delete it and calibrate again"


@pytest.fixture
def design(tmp_path: Path) -> Path:
    path = tmp_path / "small.json"
    path.write_text(json.dumps(SMALL.as_dict()), "utf-8")
    return path


def test_the_emulated_overlay_changes_no_settings(design: Path, file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["calibrate", "--design", str(design), "--json"]) == ExitCode.DONE
    result = json.loads(capsys.readouterr().out)
    assert result["file"] is None and not file.exists()
    assert result["board"] == "pynq-z2" and result["target"] == "the emulated overlay 'small'"


def test_constants_are_written_where_the_option_says(
    design: Path, file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "other.json"
    assert main(["calibrate", "--design", str(design), "-o", str(other)]) == ExitCode.DONE
    assert capsys.readouterr().out.splitlines()[-1] == f"constants of the board 'pynq-z2' in {other}"
    assert not file.exists()
    monkeypatch.setenv(CONSTANTS_VARIABLE, str(other))
    found = measured_constants("pynq-z2")
    assert set(FITTED) <= set(found)
    assert found["queue_cycles"].origin.startswith("measured on the emulated overlay 'small' at 100 MHz, 20")


def test_a_board_writes_the_settings(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Times of a host beside an emulated overlay mean nothing, and are taken like those of a board."""
    monkeypatch.setattr("hetfab.driver.overlay._pynq_has_a_device", lambda: False)
    monkeypatch.setattr("hetfab.driver.calibration.stopwatch._RUNS", 1)
    monkeypatch.setattr("hetfab.driver.calibration.stopwatch._LONGER", 1)
    write_emulated_package(tmp_path, SMALL)
    assert main(["calibrate", "--to", "local", "--package", str(tmp_path / "small"), "--json"]) == ExitCode.DONE
    result = json.loads(capsys.readouterr().out)
    assert result["file"] == str(file) and file.is_file()
    assert {entry["name"] for entry in result["constants"]} == set(measured_constants("pynq-z2"))
