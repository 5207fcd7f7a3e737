# SPDX-License-Identifier: Apache-2.0
"""``hetfab run --checks``, and ``--reference`` on a graph that memory does not hold."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hetfab.cli.main import main
from hetfab.driver import emulated
from hetfab.driver.checks import Checks
from hetfab.driver.emulated import EmulatedTransport
from hetfab.driver.faults import Fault, FaultKind
from hetfab.overlay.board import Board
from hetfab.overlay.design import Design
from hetfab.overlay.isa.codec import RegisterOffset, Segment
from tests.demo_files import DemoFiles

Captured = pytest.CaptureFixture[str]
#: Device memory in which the demo's graph runs in several parts.
SMALL_MEMORY = 600_000


def run(files: DemoFiles, capsys: Captured, *options: object, status: int = 0) -> dict[str, Any]:
    call = ["run", str(files.program), "--graph", str(files.graph), "--json", *map(str, options)]
    assert main(call) == status
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def with_fault(monkeypatch: pytest.MonkeyPatch, fault: Fault) -> list[int]:
    """Each device that a command opens meets a fault; the list gets the instructions of each start."""
    starts: list[int] = []

    class Device(EmulatedTransport):
        def __init__(self, design: Design) -> None:
            super().__init__(design, faults=[fault])

        def write_register(self, offset: int, value: int) -> None:
            if offset == RegisterOffset.CONTROL:
                starts.append(self.read_register(RegisterOffset.PROGRAM_LENGTH))
            super().write_register(offset, value)

    monkeypatch.setattr(emulated, "EmulatedTransport", Device)
    return starts


@pytest.mark.parametrize("way", ["whole", "nodes", "parts"])
def test_each_way_to_run_is_checked_as_asked(
    way: str, demo_files: DemoFiles, tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    ways: dict[str, list[str]] = {
        "whole": [],
        "nodes": ["--nodes", "3"],
        "parts": ["--save-fusion", str(tmp_path / "f.npz")],
    }
    options = ways[way]
    flip = Fault(FaultKind.MEMORY_FLIP, retired=3, segment=Segment.CONSTANTS)
    once = with_fault(monkeypatch, flip)
    run(demo_files, capsys, *options, "--checks", "state")
    assert run(demo_files, capsys, *options, "--checks", "memory", status=4)["error"]["code"] == "memory-altered"
    once.clear()
    run(demo_files, capsys, *options, "--checks", "state")
    twice = with_fault(monkeypatch, replace(flip, start=10_000))
    run(demo_files, capsys, *options, "--checks", "twice")
    empty, *runs = once
    assert twice == [empty, *(each for each in runs for _ in range(2))] and runs


def test_memory_is_checked_unless_asked_otherwise(
    demo_files: DemoFiles, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_fault(monkeypatch, Fault(FaultKind.MEMORY_FLIP, segment=Segment.CONSTANTS, offset=8))
    assert run(demo_files, capsys, status=4)["error"]["code"] == "memory-altered"


def test_the_command_offers_what_the_driver_has(demo_files: DemoFiles, capsys: Captured) -> None:
    error = run(demo_files, capsys, "--checks", "none", status=2)["error"]
    assert all(f"'{each.value}'" in error["found"] for each in Checks)


def test_a_reference_is_compared_with_a_run_in_parts(
    demo_files: DemoFiles, tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run(demo_files, capsys, "--reference", demo_files.quantized, "-o", tmp_path / "whole.npz")
    monkeypatch.setattr(Board, "assumed_contiguous_bytes", property(lambda board: SMALL_MEMORY))
    found = run(demo_files, capsys, "--reference", demo_files.quantized, "-o", tmp_path / "parts.npz")
    assert found["parts"] > 1 and "parts" not in whole
    for key in ("agreement", "max_logit_lsb", "reference_micro_f1", "micro_f1"):
        assert found[key] == whole[key]
    with np.load(tmp_path / "whole.npz") as one, np.load(tmp_path / "parts.npz") as other:
        np.testing.assert_array_equal(one["logits"], other["logits"])
