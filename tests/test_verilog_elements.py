# SPDX-License-Identifier: Apache-2.0
"""The Verilog elements equal their models on more than 10,000 random and extreme steps each, stalls included."""

import shutil
from pathlib import Path

import pytest

from hetfab.hls.build import emulator
from hetfab.hls.build.verilog_elements import plane_sizes
from tests.verilated import HLS, simulate

FORMS = {"plain": 0, "mapped": 1}


def plane_dot(folder: Path, form: str, lanes: int, slice_bits: int, verilog: Path = HLS / "verilog") -> str:
    parameters = {**plane_sizes(lanes, slice_bits), "MAPPED": FORMS[form]}
    return simulate("plane_dot", "plane_dot_verilog.cpp", folder, parameters, verilog=verilog)


@pytest.mark.parametrize("form", FORMS)
def test_plane_dot(tmp_path: Path, form: str) -> None:
    assert plane_dot(tmp_path, form, 32, 4) == "12000\n"


def test_mapped_plane_dot_of_another_shape(tmp_path: Path) -> None:
    assert plane_dot(tmp_path, "mapped", 64, 2) == "12000\n"


@pytest.mark.parametrize(("form", "rows", "cols"), [("plain", 2, 2), ("mapped", 4, 4)])
def test_chain_array(tmp_path: Path, form: str, rows: int, cols: int) -> None:
    parameters = {"ROWS": rows, "COLS": cols, "MAPPED": FORMS[form]}
    assert simulate("chain_array", "chain_array_verilog.cpp", tmp_path, parameters) == "20000\n"


@pytest.mark.parametrize(("box", "macros"), [("plane_sums_box", ["-DHETFAB_SUMS"]), ("plane_accumulate_box", [])])
def test_black_boxes(tmp_path: Path, box: str, macros: list[str]) -> None:
    headers = ["-DHETFAB_AP_INT", "-isystem", str(emulator.ap_types_folder())]
    flags = [*macros, *headers, str(HLS / "verilog" / "plane_boxes.cpp")]
    assert simulate(box, "plane_boxes_verilog.cpp", tmp_path, flags=flags) == "12000\n"


def test_popcount_dot(tmp_path: Path) -> None:
    assert simulate("popcount_dot", "popcount_dot_verilog.cpp", tmp_path) == "12000\n"


def test_a_wrong_lut_is_found(tmp_path: Path) -> None:
    """A gate that inverts where it should pass zero."""
    broken = tmp_path / "verilog"
    shutil.copytree(HLS / "verilog", broken)
    adder = broken / "gated_adder.v"
    text = adder.read_text(encoding="utf-8")
    wrong = text.replace(": in[2] & in[3]", ": ~(in[2] ^ in[3])")
    assert wrong != text
    adder.write_text(wrong, encoding="utf-8")
    folder = tmp_path / "build"
    folder.mkdir()
    printed = plane_dot(folder, "mapped", 32, 4, broken)
    assert printed.startswith("outer after step ") and printed.endswith("status 1\n")
