# SPDX-License-Identifier: Apache-2.0
"""docs/area.md states the constants of area.json: what is assumed of adapters and control, and what was fitted."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from hetfab.overlay.board import read_board
from hetfab.overlay.costs.area import area_constant
from hetfab.overlay.costs.elements import Form, chain_dsps, chain_luts, plane_dot_luts
from hetfab.overlay.costs.resources import lut_ram, memory_port_resources
from hetfab.overlay.design import default_design

PAGE = (Path(__file__).parents[1] / "docs" / "area.md").read_text(encoding="utf-8")
ENGINES = ("load", "store", "gemm", "vec", "agg")


def rows_below(heading: str) -> list[list[str]]:
    """Cells of the table whose first line begins so, without headings."""
    table = PAGE[PAGE.index(f"| {heading} |") :].split("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table]


def test_the_page_assumes_what_the_constants_say() -> None:
    assumed = {row[0]: row[1] for row in rows_below("part | assumed today, LUT") if row[1]}
    control = sorted(area_constant(f"lut_{engine}_control") for engine in ENGINES)
    assert assumed == {
        "`m_axi` adapter, per port": f"{area_constant('lut_per_axi_master'):,}",
        "interconnect, per master that shares a DRAM port": f"{area_constant('lut_per_interconnect_port'):,}",
        "protocol converter of a master that writes alone to an AXI3 port": (
            f"{area_constant('lut_per_write_converter'):,}"
        ),
        "stream FIFO of 16 words of 128 bits": f"{lut_ram(16, 128) + area_constant('lut_per_stream'):g}",
        "`s_axilite` port with two memories": f"{area_constant('lut_register_port')}",
        "control of an HLS kernel with one loop and one port": f"{control[0]:,} to {control[-1]:,} per engine",
    }


def test_overhead_stays_above_what_a_comparable_design_is_reported_with() -> None:
    """Of two cores with VEC on the PYNQ-Z2: adapters, control, registers, streams, what lies before the DRAM ports."""
    engines = ("load", "store", "gemm_d", "gemm_l", "vec")
    geometry = replace(default_design().geometry, engines=engines)
    shared = ("load_control", "load_slices", "load_lines", "store_control", "store_strips", "vec_control")
    parts = (*shared, *2 * ("gemm_control", "gemm_strips"), "dispatch_control", "register_port")
    control = sum(area_constant(f"lut_{part}") for part in parts)
    streams = 2 * len(engines) * (lut_ram(16, 128) + area_constant("lut_per_stream"))
    ports = 3 * area_constant("lut_per_axi_master") + memory_port_resources(geometry, read_board("pynq-z2")).lut
    assert control + streams + ports >= 11_000


def test_the_page_names_the_fitted_constants() -> None:
    shown = r"Two rows share (\d+) LUTs .*?, two columns (\d+) .*? take\s+(\d+) LUTs mapped and (\d+) plain"
    found = re.search(shown, PAGE, re.DOTALL)
    assert found
    constants = [area_constant("lut_chain_per_row_pair"), area_constant("lut_chain_per_column_pair")]
    for form in ("mapped", "plain"):
        per_bit, per_sum = (area_constant(f"lut_chain_{form}_per_sum{end}") for end in ("_bit", ""))
        constants.append(4 * (32 * per_bit + per_sum))
    assert [int(number) for number in found.groups()] == [round(value) for value in constants]


def test_measured_sizes_are_near_the_cost_functions() -> None:
    """The tables hold what Yosys counted; the cost functions come within 2 %."""
    for lanes, mapped, mapped_each, plain, plain_each in rows_below("lanes"):
        for form, shown, each in ((Form.MAPPED, mapped, mapped_each), (Form.PLAIN, plain, plain_each)):
            assert plane_dot_luts(int(lanes), 4, 24, form) == pytest.approx(int(shown), rel=0.02)
            assert float(each) == pytest.approx(4 * int(shown) / int(lanes), abs=0.051)
    for size, dsp, mapped, plain, macs in rows_below("rows x columns"):
        rows, columns = map(int, size.split(" x "))
        assert int(dsp) == chain_dsps(rows, columns) and int(macs) == 8 * rows * columns
        for form, shown in ((Form.MAPPED, mapped), (Form.PLAIN, plain)):
            assert chain_luts(rows, columns, 32, form) == pytest.approx(int(shown.replace(",", "")), rel=0.02)
