# SPDX-License-Identifier: Apache-2.0
"""The generated Tcl scripts: the model of the tools accepts them all, and names each seeded fault."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from hetfab.hls.build.bitstream.scripts import (
    CSYNTH_REPORT,
    VERSIONS,
    bitstream_script,
    block_design_script,
    engine_script,
    engines_of,
    ip_versions,
)
from hetfab.hls.tcl_check.catalogue import vendor_versions
from hetfab.overlay.blockdesign.build import block_design, ram_names
from hetfab.overlay.board import board_names
from hetfab.overlay.design import default_design
from hetfab.overlay.errors import DesignInvalidError
from hetfab.overlay.isa.spec import isa
from tests.tcl_mutations import Subject, build_folder, check_text, measure
from tests.tcl_support import needs_tcl

pytestmark = needs_tcl


@pytest.fixture(scope="module")
def subjects(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Subject]:
    """The scripts of the PYNQ-Z2's default design, in a build's folders."""
    root = tmp_path_factory.mktemp("build")
    return {subject.name: subject for subject in build_folder(root, default_design())}


@pytest.mark.parametrize("board", board_names())
def test_scripts_of_every_board_are_accepted(board: str, tmp_path: Path) -> None:
    design = default_design(board)
    for subject in build_folder(tmp_path, design):
        assert check_text(subject, subject.text) == [], subject.name


@pytest.mark.parametrize("version", VERSIONS)
def test_scripts_for_every_version_are_accepted(version: str, tmp_path: Path) -> None:
    for subject in build_folder(tmp_path, default_design(), version):
        assert check_text(subject, subject.text, version) == [], subject.name


def test_a_design_with_few_engines_is_accepted(tmp_path: Path) -> None:
    design = default_design()
    design = replace(design, geometry=replace(design.geometry, engines=("load", "gemm_d", "vec", "store")))
    for subject in build_folder(tmp_path, design):
        assert check_text(subject, subject.text) == [], subject.name


# Check, script, what is replaced, by what.
FAULTS = (
    ("unknown-command", "load", "csynth_design", "csynth_desing"),
    ("unknown-option", "load", "-m_axi_addr64", "-m_axi_adr64"),
    ("unknown-part", "load", "xc7z020clg400-1", "xc7z020clg401-1"),
    ("unknown-part", "block design", "xc7z020clg400-1", "xczu7ev-ffvc1156-9-e"),
    ("missing-file", "load", "kernels/load.cpp", "kernels/laod.cpp"),
    ("missing-file", "gemm_l", "plane_sums_box.json", "plane_sum_box.json"),
    ("missing-include", "load", " -I../../sources/include", ""),
    ("missing-include", "gemm_d", "-DHETFAB_AP_INT", "-DHETFAB_AP_INT -DHETFAB_STAGES"),
    ("tcl-syntax", "load", "{error $product}}", "{error $product}"),
    ("tcl-syntax", "block design", "CONFIG.NUM_MI {2}", "CONFIG.NUM_MI {2"),
    ("unconnected-clock", "block design", " [get_bd_pins gemm_d_0/ap_clk]", ""),
    ("unconnected-reset", "block design", " [get_bd_pins gemm_d_0/ap_rst_n]", ""),
    ("reset-polarity", "block design", "reset/peripheral_aresetn", "reset/peripheral_reset"),
    ("address-overlap", "block design", "-offset 0x40010000", "-offset 0x40000000"),
    ("width-mismatch", "block design", "CONFIG.TDATA_NUM_BYTES {16}", "CONFIG.TDATA_NUM_BYTES {8}"),
    ("ip-version", "block design", "axi_intc interrupts", "axi_intc:4.9 interrupts"),
    ("unconnected-interface", "block design", "CONFIG.NUM_SI {2}", "CONFIG.NUM_SI {3}"),
    ("several-drivers", "block design", "[get_bd_pins agg_0/ap_clk]", "[get_bd_pins reset/peripheral_aresetn]"),
    ("clock-frequency", "block design", "PCW_FPGA0_PERIPHERAL_FREQMHZ {100}", "PCW_FPGA0_PERIPHERAL_FREQMHZ {150}"),
    ("memory-depth", "block design", "CONFIG.Write_Depth_A {512}", "CONFIG.Write_Depth_A {500}"),
    ("unknown-setting", "block design", "CONFIG.PCW_USE_S_AXI_HP0", "CONFIG.PCW_USE_S_AXI_PH0"),
    ("wrong-value", "block design", "CONFIG.use_bram_block {Stand_Alone}", "CONFIG.use_bram_block {Standalone}"),
    ("order", "load", "csynth_design\n", ""),
    ("unknown-object", "bitstream", "wait_on_run impl_1", "wait_on_run impl_2"),
    ("engine-export", "load", "-DHETFAB_AP_INT", "-DHETFAB_NATIVE"),
    ("engine-export", "gemm_l", " -DHETFAB_PLANE_BOXES", ""),
)


@pytest.mark.parametrize(("check", "script", "before", "after"), FAULTS, ids=[f"{f[0]}: {f[3]}" for f in FAULTS])
def test_a_seeded_fault_is_caught_by_its_check(
    subjects: dict[str, Subject], check: str, script: str, before: str, after: str
) -> None:
    subject = subjects[script]
    assert before in subject.text
    found = check_text(subject, subject.text.replace(before, after))
    assert check in [problem.check for problem in found], found
    assert all(problem.text and problem.fix for problem in found)


def _without_converter(text: str) -> str:
    """AGG's port straight to the processor's, as if both spoke AXI4."""
    lines = [line for line in text.splitlines() if "memory_converter_0" not in line]
    lines.append(
        "connect_bd_intf_net [get_bd_intf_pins agg_0/m_axi_features] [get_bd_intf_pins processing_system7_0/S_AXI_HP0]"
    )
    return _validated_last(lines)


def _without_interrupt_controller(text: str) -> str:
    lines = [line for line in text.splitlines() if "interrupts" not in line]
    lines = [line.replace("CONFIG.NUM_MI {2}", "CONFIG.NUM_MI {1}") for line in lines]
    pins = "[get_bd_pins dispatch_0/interrupt] [get_bd_pins processing_system7_0/IRQ_F2P]"
    return _validated_last([*lines, f"connect_bd_net {pins}"])


def _validated_last(lines: list[str]) -> str:
    """The last line before the design is validated."""
    added = lines.pop()
    lines.insert(lines.index("validate_bd_design"), added)
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize(
    ("check", "change"),
    [("axi3-burst", _without_converter), ("interrupt-controller", _without_interrupt_controller)],
)
def test_a_wrong_structure_is_caught_by_its_check(
    subjects: dict[str, Subject], check: str, change: Callable[[str], str]
) -> None:
    subject = subjects["block design"]
    assert check in [problem.check for problem in check_text(subject, change(subject.text))]


def test_a_problem_names_its_line(subjects: dict[str, Subject]) -> None:
    subject = subjects["load"]
    lines = subject.text.splitlines()
    number = lines.index("csynth_design") + 1
    found = check_text(subject, subject.text.replace("csynth_design", "csynth_desing"))
    assert str(found[0]) == (
        f"line {number}: unknown-command: vitis_hls has no command 'csynth_desing'; correct the name, or add it to the "
        "table in hls/tcl_check/tables with a public script that has it"
    )


def test_most_one_token_changes_are_refused() -> None:
    changes = measure("pynq-z2", 200, seed=1)
    refused = [change for change in changes if change.checks]
    print(f"{len(refused)} of {len(changes)} one-token changes are refused")
    assert len(changes) == 200
    assert len(refused) >= 0.95 * len(changes), [change.after for change in changes if not change.checks]


def test_engines_of_a_design_have_a_script_each() -> None:
    design = default_design()
    assert engines_of(design) == ("dispatch", *(e.name for e in isa().engines if e.name in design.geometry.engines))
    for engine in engines_of(design):
        text = engine_script(design, engine, "2024.2", Path("../../sources"))
        assert f"set_top {engine}_top\n" in text
        assert f"-output ../../ip/{engine}.zip" in text
        assert CSYNTH_REPORT.format(engine=engine) in text


def test_black_boxes_are_given_for_mapped_elements_alone() -> None:
    mapped, plain = (replace(default_design(), elements=form) for form in ("mapped", "plain"))
    assert "-blackbox ../s/verilog/plane_sums_box.json" in engine_script(mapped, "gemm_l", "2024.2", Path("../s"))
    assert "-DHETFAB_PLANE_BOXES" in engine_script(mapped, "gemm_l", "2024.2", Path("../s"))
    assert "BOX" not in engine_script(plain, "gemm_l", "2024.2", Path("../s")).upper()
    assert "-blackbox" not in engine_script(mapped, "gemm_d", "2024.2", Path("../s"))


def test_the_script_holds_the_whole_block_design() -> None:
    design = default_design()
    built, text = block_design(design), block_design_script(design, "2024.2")
    cells = {line.split()[-1] for line in text.splitlines() if line.startswith("create_bd_cell")}
    assert cells == {cell.name for cell in built.cells}
    assert text.count("\nconnect_bd_net ") == len(built.nets)
    assert text.count("\nassign_bd_address ") == len(built.ranges)
    depths = {
        name: design.geometry.depth(m.name)
        for m in isa().memories
        if m.word_bits and {m.writer, m.reader} <= set(design.geometry.engines) and design.geometry.depth(m.name)
        for name in ram_names(m, design.geometry)
    }
    for name, depth in depths.items():
        settings = next(line for line in text.splitlines() if line.endswith(f"[get_bd_cells {name}]"))
        assert f"CONFIG.Write_Depth_A {{{depth}}}" in settings
        assert "Register_PortA_Output_of_Memory_Primitives {false}" in settings


def test_an_unknown_version_or_engine_is_refused() -> None:
    design = default_design()
    with pytest.raises(DesignInvalidError, match=r"scripts for the tools 2019\.1"):
        bitstream_script(design, "2019.1")
    with pytest.raises(DesignInvalidError, match="a script for 'sgd', which 'pynq-z2' lacks"):
        engine_script(design, "sgd", "2024.2", Path())


@pytest.mark.parametrize("version", VERSIONS)
def test_every_version_has_each_ip_of_the_block_design(version: str) -> None:
    for board in board_names():
        vendors = {cell.ip for cell in block_design(default_design(board)).cells if cell.vlnv.startswith("xilinx.com")}
        assert vendors <= set(vendor_versions(version))


def test_versions_of_ips_are_stated_where_they_were_seen() -> None:
    seen, unseen = (block_design_script(default_design(), version) for version in ("2024.1", "2024.2"))
    assert "-vlnv xilinx.com:ip:axi_intc:4.1 interrupts\n" in seen
    assert "-vlnv xilinx.com:ip:axi_intc interrupts\n" in unseen
    assert ip_versions("2024.1")["zynq_ultra_ps_e"] == "3.5"
    assert ip_versions("2024.2") == {}


def test_the_scripts_take_jobs() -> None:
    assert "-jobs 3\n" in bitstream_script(default_design(), "2024.2", jobs=3)
