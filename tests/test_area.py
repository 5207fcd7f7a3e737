# SPDX-License-Identifier: Apache-2.0
"""Area of the processing elements: what mapping counts, what the cost functions say, what the black boxes state."""

import json
import re
import statistics
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hetfab.hls.build.verilog_elements import chain_module, plane_dot_module
from hetfab.hls.build.yosys import VERILOG, map_modules, module
from hetfab.overlay.costs.area import area_constant
from hetfab.overlay.costs.elements import (
    Form,
    chain_dsps,
    chain_luts,
    chain_terms,
    plane_dot_luts,
    plane_dot_terms,
)
from hetfab.overlay.costs.resources import block_rams

BOXES = sorted(VERILOG.glob("*.json"))
FORMS = st.sampled_from(list(Form))
#: Dividers of attention by how many channels share a denominator.
QUOTIENTS = {lanes: module("attend_quotients", LANES=lanes) for lanes in (1, 4)}


def box_of(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def quotients(kind: str, lanes: int) -> float:
    return area_constant(f"{kind}_attend_divisor") + lanes * area_constant(f"{kind}_attend_quotient")


def test_mapped_modules_by_hand() -> None:
    """A LUT per bit, one before a ternary adder's highest one, and one for a carry that does not go to a flip-flop."""
    stored = area_constant("lut_vec_lane") + area_constant("lut_vec_lane_stored")
    joined = area_constant("lut_vec_lane_joined")
    hand = {
        module("gated_adder", SLICE=4): 4 + 1,
        module("gated_adder", SLICE=3): 3 + 1,
        module("ternary_adder", WIDTH=5, GROW=1): 5 + 2,
        module("ternary_adder", WIDTH=17, GROW=0): 17,
        module("fold_adder", WIDTH=24): 24,
        # 22 RAMs of 4 LUTs, and the cost function's control.
        module("stream_fifo", WIDTH=128, ADDRESS=4): 22 * 4 + area_constant("lut_per_stream"),
        # Constants as they are mapped.
        module("vec_lane", STORED=0, JOINED=0): area_constant("lut_vec_lane"),
        module("vec_lane", STORED=1, JOINED=0): stored,
        module("vec_lane", STORED=0, JOINED=1): area_constant("lut_vec_lane") + joined - 3,
        module("vec_lane", STORED=1, JOINED=1): stored + joined,
        module("dw_nibble"): area_constant("lut_dw_nibble"),
        module("dw_end"): area_constant("lut_dw_end"),
        **{each: quotients("lut", lanes) for lanes, each in QUOTIENTS.items()},
        # 16 pairs, 5 adders of 5 bits, 2 of 7 bits, all followed by registers.
        module("plane_sums"): 16 * 4 + 5 * 6 + 2 * 8,
    }
    ends = [module("vec_result", BITS=bits) for bits in (8, 16)]
    boxes = [module(path.stem) for path in BOXES]
    memory = module("ram_bank", DEPTH=1024, WIDTH=128, ADDRESS=10)
    found = map_modules([*hand, *boxes, *ends, memory])
    assert [each.lut for each in found[: len(hand)]] == list(hand.values())
    registers = {one: each.ff for one, each in zip(hand, found, strict=False)}
    assert [registers[each] for each in QUOTIENTS.values()] == [quotients("ff", lanes) for lanes in QUOTIENTS]
    assert found[-1].bram36 == block_rams(1024, 128, true_dual=False) == 4
    assert found[-2].lut - found[-3].lut == area_constant("lut_vec_lane_wide")
    for path, mapped in zip(BOXES, found[len(hand) : -3], strict=True):
        usage = {"FF": mapped.ff, "LUT": mapped.lut, "BRAM": 0, "URAM": 0, "DSP": 0}
        assert box_of(path)["rtl_resource_usage"] == {name: str(units) for name, units in usage.items()}


def test_constants_agree_with_a_fresh_mapping() -> None:
    """Where this fails after a change of the Verilog: ``python -m benchmarks.area --write``."""
    planes = [((16, 4, 24), form) for form in Form] + [((32, 4, 28), Form.MAPPED)]
    chains = [((2, 2, 32), form) for form in Form]
    modules = [plane_dot_module(*size, form) for size, form in planes]
    modules += [chain_module(*size, form) for size, form in chains]
    found = map_modules(modules)
    expected = [plane_dot_luts(*size, form) for size, form in planes]
    expected += [chain_luts(*size, form) for size, form in chains]
    errors = [abs(model - each.lut) / each.lut for model, each in zip(expected, found, strict=True)]
    assert statistics.median(errors) <= 0.05 and max(errors) <= 0.15, errors
    assert [each.dsp for each in found] == [0, 0, 0, chain_dsps(2, 2), chain_dsps(2, 2)] == [0, 0, 0, 8, 8]


def test_terms_by_hand() -> None:
    assert plane_dot_terms(32, 4, 24, Form.MAPPED) == {
        "lut_plane_dot_mapped_per_gate": 64,
        "lut_plane_dot_mapped_per_tree_bit": 5 * 6 + 2 * 8,
        "lut_plane_dot_mapped_per_accumulator_bit": 17 + 24,
        "lut_plane_dot_mapped_control": 1,
    }
    assert chain_terms(4, 8, 32, Form.PLAIN) == {
        "lut_chain_per_row_pair": 2,
        "lut_chain_per_column_pair": 4,
        "lut_chain_plain_per_sum_bit": 4 * 8 * 32,
        "lut_chain_plain_per_sum": 32,
    }
    assert chain_dsps(4, 8) == 64


@given(st.integers(2, 32), st.integers(1, 4), st.integers(17, 31), FORMS, st.integers(0, 2))
def test_a_larger_element_never_needs_less(half: int, slice_bits: int, bits: int, form: Form, which: int) -> None:
    """Lanes are doubled: two more may save bits, where a level of the tree has nothing left over."""
    lanes, more = 2 * half, [2 * half * (which == 0), which == 1, which == 2]
    grown = plane_dot_luts(lanes + more[0], slice_bits + more[1], bits + more[2], form)
    assert 0 < plane_dot_luts(lanes, slice_bits, bits, form) <= grown


@given(st.integers(1, 16), st.integers(1, 16), st.integers(17, 31), FORMS, st.integers(0, 2))
def test_a_larger_array_needs_more(rows: int, cols: int, bits: int, form: Form, which: int) -> None:
    rows, cols, more = 2 * rows, 2 * cols, [2 * (which == 0), 2 * (which == 1), which == 2]
    grown = chain_luts(rows + more[0], cols + more[1], bits + more[2], form)
    assert 0 < chain_luts(rows, cols, bits, form) < grown


@pytest.mark.parametrize("path", BOXES, ids=lambda path: path.stem)
def test_black_boxes_match_their_verilog(path: Path) -> None:
    """Names of the module, of its ports and of the C++ function; files that exist."""
    box = box_of(path)
    assert box["c_function_name"] == box["rtl_top_module_name"] == path.stem
    files = [*box["rtl_files"], *(entry["c_file"] for entry in box["c_files"])]
    assert all((VERILOG / name).is_file() for name in files)
    verilog = (VERILOG / "plane_boxes.v").read_text(encoding="utf-8")
    header = re.search(rf"module {path.stem} \((.*?)\);", verilog, re.DOTALL)
    assert header
    ports = set(re.findall(r"(\w+)(?:,|\s*$)", header.group(1), re.MULTILINE))
    arguments = [parameter["c_name"] for parameter in box["c_parameters"]]
    named = {port for entry in [*box["c_parameters"], box["c_return"]] for port in entry["rtl_ports"].values()}
    assert ports == named | set(box["rtl_common_signal"].values())
    declared = (VERILOG.parent / "include" / "hetfab" / "plane_boxes.hpp").read_text(encoding="utf-8")
    prototype = re.search(rf"{path.stem}\((.*?)\);", declared, re.DOTALL)
    assert prototype
    assert re.findall(r"(\w+)(?:,|$)", prototype.group(1)) == arguments
