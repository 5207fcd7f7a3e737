# SPDX-License-Identifier: Apache-2.0
"""The model of the tools' commands: what it knows, what it refuses, how scripts run in it."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from hetfab.hls.tcl_check import interpreter
from hetfab.hls.tcl_check.check import check_script
from hetfab.hls.tcl_check.interpreter import Script, ScriptError, run_script, split_list, tcl_list
from hetfab.hls.tcl_check.problem import Tool
from hetfab.hls.tcl_check.values import is_of_kind, whole_number
from hetfab.overlay.errors import PackageMissingError
from tests.tcl_support import check_lines, needs_tcl

pytestmark = needs_tcl

PACKAGE = Path(interpreter.__file__).parent
PAGE = Path(__file__).parents[1] / "docs" / "block-design.md"
#: In the idioms of FINN, VTA and hls4ml: procedures, loops, hierarchies, automation, catalogue queries.
PUBLIC_IDIOMS = """
set part xc7z020clg400-1
set scripts_vivado_version 2024.2
if { [string first $scripts_vivado_version [version -short]] == -1 } {
   catch {common::send_gid_msg -ssname BD::TCL -id 2041 -severity "ERROR" "made for <$scripts_vivado_version>"}
   return 1
}
create_project -force shell ./ -part $part
set paths [get_property BOARD_PART_REPO_PATHS [current_project]]
lappend paths $::env(HOME)
create_bd_design "top"
startgroup
create_bd_cell -type ip -vlnv [get_property VLNV [get_ipdefs "xilinx.com:ip:processing_system7:*"]] ps
endgroup
apply_bd_automation -rule xilinx.com:bd_rule:processing_system7 \\
    -config {make_external "FIXED_IO, DDR" apply_board_preset "1" }  [get_bd_cells ps]
set_property -dict [list CONFIG.PCW_USE_S_AXI_HP0 {1} CONFIG.PCW_MIO_0_PULLUP {enabled}] [get_bd_cells ps]
create_bd_cell -type ip -vlnv xilinx.com:ip:proc_sys_reset:5.0 rst

proc fifo {name bytes} {
    set cell [create_bd_cell -type ip -vlnv xilinx.com:ip:axis_data_fifo:2.0 $name]
    set_property -dict [list \\
        CONFIG.TDATA_NUM_BYTES $bytes \\
        CONFIG.FIFO_DEPTH {64} \\
    ] $cell
    return $cell
}
current_bd_instance [create_bd_cell -type hier queues]
create_bd_pin -dir I -type clk clk
create_bd_pin -dir I -type rst resetn
create_bd_intf_pin -mode Slave -vlnv xilinx.com:interface:axis_rtl:1.0 in
for {set i 0} {$i < 3} {incr i} {
    set queue($i) [fifo q$i 4]
    connect_bd_net [get_bd_pins clk] [get_bd_pins q$i/s_axis_aclk]
    connect_bd_net [get_bd_pins resetn] [get_bd_pins q${i}/s_axis_aresetn]
    if {$i > 0} {
        connect_bd_intf_net [get_bd_intf_pins q[expr {$i - 1}]/M_AXIS] [get_bd_intf_pins $queue($i)/S_AXIS]
    }
}
connect_bd_intf_net [get_bd_intf_pins in] [get_bd_intf_pins q0/S_AXIS]
current_bd_instance /
connect_bd_intf_net [get_bd_intf_pins queues/q2/M_AXIS] [get_bd_intf_pins queues/in]
connect_bd_net -net clk [get_bd_pins ps/FCLK_CLK0] [get_bd_pins queues/clk] [get_bd_pins rst/slowest_sync_clk]
connect_bd_net [get_bd_pins ps/FCLK_RESET0_N] [get_bd_pins rst/ext_reset_in]
connect_bd_net [get_bd_pins rst/peripheral_aresetn] [get_bd_pins queues/resetn]
save_bd_design
assign_bd_address
validate_bd_design
make_wrapper -files [get_files top.bd] -import -fileset sources_1 -top
set_property strategy Flow_PerfOptimized_high [get_runs synth_1]
launch_runs -to_step write_bitstream impl_1 -jobs 6
wait_on_run [get_runs impl_1]
open_run impl_1
report_utilization -hierarchical -hierarchical_depth 4 -file synth_report.xml -format xml
close_project
"""


def _checks(text: str, folder: Path, tool: Tool = Tool.VIVADO) -> list[str]:
    return [problem.check for problem in check_lines(text, tool, folder)]


def _idioms(text: str) -> str:
    return text.replace("$::env(HOME)", "boards")


def test_a_script_in_the_idioms_of_public_ones_is_accepted(tmp_path: Path) -> None:
    assert check_lines(_idioms(PUBLIC_IDIOMS), Tool.VIVADO, tmp_path) == []


@pytest.mark.parametrize(
    ("before", "after", "check"),
    [
        (
            "[get_bd_pins clk] [get_bd_pins q$i/s_axis_aclk]",
            "[get_bd_pins clk] [get_bd_pins q$i/m_axis]",
            "unknown-object",
        ),
        ("connect_bd_net [get_bd_pins resetn] [get_bd_pins q${i}/s_axis_aresetn]", "", "unconnected-reset"),
        ("rst/peripheral_aresetn", "rst/peripheral_reset", "reset-polarity"),
        ("CONFIG.FIFO_DEPTH {64}", "CONFIG.FIFO_DEPTH {65}", "wrong-value"),
        ("for {set i 0}", "for {set i 0", "tcl-syntax"),
        ("bd_rule:processing_system7", "bd_rule:processing_system8", "unknown-rule"),
        ("launch_runs", "lunch_runs", "unknown-command"),
        ("wait_on_run [get_runs impl_1]", "", "order"),
        ("-format xml", "-format xlm", "wrong-value"),
        ("catch {common::send_gid_msg", "catch {common::send_gid_mgs", "unknown-command"),
        ("CONFIG.PCW_MIO_0_PULLUP", "CONFIG.PCW_MOI_0_PULLUP", "unknown-setting"),
        ("set scripts_vivado_version 2024.2", "set scripts_vivado_version 2021.1", "unfinished"),
    ],
)
def test_a_change_of_that_script_is_refused(before: str, after: str, check: str, tmp_path: Path) -> None:
    text = _idioms(PUBLIC_IDIOMS)
    assert before in text
    assert check in _checks(text.replace(before, after), tmp_path)


@pytest.mark.parametrize(
    ("text", "check"),
    [
        ("open_project p\nopen_solution s\ncsynth_design\n", "order"),
        ("open_project p\nset_top t\nadd_files nowhere.cpp\n", "missing-file"),
        (
            "open_project p\nset_part xc7z020clg400-1\ncreate_clock -period 10\ncreate_clock -perod 10\n",
            "unknown-option",
        ),
        ("open_project p\ncreate_clock -period\n", "missing-value"),
        ("open_project p\ncreate_clock -name default\n", "missing-option"),
        ("open_project p q\n", "wrong-arguments"),
        ("open_project p\nset_clock_uncertainty 120%\n", "order"),
        ("open_project p\ncreate_clock -period 0.1ns\n", "clock-period"),
        ("open_project p\nopen_solution s\nexport_design -format ip_catalogue\n", "wrong-value"),
        ("exit 2\n", "exit-status"),
        ("puts hello\n", "unfinished"),
        ("error wrong\n", "tcl-error"),
        ("if {1} {puts 1} else {opn_project p}\nopen_project p\n", "unfinished"),
        ("source other.tcl\n", "missing-file"),
        ("while 1 {", "tcl-syntax"),
        ("config_interface\n", "missing-option"),
    ],
)
def test_vitis_hls_scripts_are_refused_by_name(text: str, check: str, tmp_path: Path) -> None:
    assert check in _checks(text, tmp_path, Tool.VITIS_HLS)


def test_branches_that_do_not_run_are_checked_too(tmp_path: Path) -> None:
    (tmp_path / "t.cpp").write_text("void t() {}\n", encoding="utf-8")
    text = (
        "open_project p\nset_top t\nadd_files t.cpp\nopen_solution s\nset_part xc7z020clg400-1\n"
        "create_clock -period 10ns\ncsynth_design\nif {0} {\n    cosim_desing\n}\n"
    )
    assert [str(problem)[:50] for problem in check_lines(text, Tool.VITIS_HLS, tmp_path)] == [
        "line 9: unknown-command: there is no command 'cosi"
    ]


def test_a_top_that_no_source_defines_is_refused(tmp_path: Path) -> None:
    (tmp_path / "t.cpp").write_text("void other() {}\n", encoding="utf-8")
    text = "open_project p\nset_top t\nadd_files t.cpp\nopen_solution s\nset_part xc7z020clg400-1\n"
    assert _checks(text + "create_clock -period 9\ncsynth_design\n", tmp_path, Tool.VITIS_HLS) == ["missing-top"]


def test_the_model_writes_nothing(tmp_path: Path) -> None:
    check_lines(_idioms(PUBLIC_IDIOMS) + "file mkdir made\nfile delete checked.tcl\n", Tool.VIVADO, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["checked.tcl"]


def test_a_missing_script_is_a_problem(tmp_path: Path) -> None:
    found = check_script(tmp_path / "none.tcl", Tool.VIVADO, "2024.2", None, tmp_path)
    assert [problem.check for problem in found] == ["missing-file"]


@pytest.mark.parametrize("runner", ["_run_in_tclsh", "_run_in_python"])
def test_both_interpreters_run_a_script_alike(runner: str, tmp_path: Path) -> None:
    path = tmp_path / "s.tcl"
    path.write_text(
        'proc p {x} {\n  said $x\n}\np "a b"\n'
        "if {[catch {said bad} m]} {said caught $m}\nsaid $argc $env(HOME)\nerror no\n",
        encoding="utf-8",
    )
    heard = []

    def answer(words: object) -> str:
        heard.append(list(words))  # type: ignore[call-overload]
        if heard[-1][-1] == "bad":
            raise ScriptError("it is bad")
        return ""

    script = Script(path, ["said"], {"HOME": "/there/x y"}, ["1", "2"])
    if runner == "_run_in_tclsh":
        tclsh = shutil.which("tclsh")
        if tclsh is None:
            pytest.skip("vendor: no tclsh")
        ending = interpreter._run_in_tclsh(tclsh, script, answer)
    else:
        pytest.importorskip("tkinter", reason="vendor: this Python has no tkinter")
        ending = interpreter._run_in_python(script, answer)
    assert heard == [
        ["said", "2", "a b"],
        ["said", "5", "bad"],
        ["said", "5", "caught", "it is bad"],
        ["said", "6", "2", "/there/x y"],
    ]
    assert (ending.failed, ending.line, ending.message) == (True, 7, "no")


def test_without_tcl_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    monkeypatch.setattr(interpreter, "_has_tkinter", lambda: False)
    with pytest.raises(PackageMissingError, match="apt-get install tcl"):
        run_script(Script(tmp_path / "s.tcl", [], {}, []), lambda _: "")


def test_lists_are_read_as_tcl_writes_them() -> None:
    for words in ([], ["a"], ["a b", "c"], ["", "{x", "y}"], ['"', "$v", "[z]"], ["CONFIG.X", "1 2"]):
        assert split_list(tcl_list(words)) == words
    assert split_list('{a {b c}} "d e" f') == ["a {b c}", "d e", "f"]
    with pytest.raises(ScriptError, match="unmatched open brace"):
        split_list("{a")


@pytest.mark.parametrize(
    ("text", "kind", "fits"),
    [
        ("64", "2^4..2^15", True),
        ("65", "2^4..2^15", False),
        ("3", "1..16", True),
        ("17", "1..16", False),
        ("-1", "-2..2", True),
        ("true", "true|false", True),
        ("tru", "true|false", False),
        ("10.0ns", "period", True),
        ("10.0s", "period", False),
        ("a:b:c:1.0", "vlnv", True),
        ("a:b:c", "vlnv", False),
    ],
)
def test_values_are_of_their_kind(text: str, kind: str, fits: bool) -> None:
    assert is_of_kind(text, kind) is fits


def test_sizes_are_numbers_with_units() -> None:
    assert [whole_number(text) for text in ("64K", "0x1000", "512M", "1G", "7")] == [65536, 4096, 1 << 29, 1 << 30, 7]


def test_the_command_prints_problems_and_ends_with_status_1(tmp_path: Path) -> None:
    (tmp_path / "s.tcl").write_text("csynth_desing\n", encoding="utf-8")
    command = [sys.executable, "-m", "hetfab.hls.tcl_check", "vitis_hls", "s.tcl", "--version", "2024.2"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert result.stdout.startswith(
        "line 1: unknown-command: vitis_hls has no command 'csynth_desing'; correct the name"
    )
    (tmp_path / "s.tcl").write_text("create_project p . -part xc7z020clg400-1\n", encoding="utf-8")
    command[3:5] = ["vivado", "s.tcl"]
    assert subprocess.run(command, cwd=tmp_path, capture_output=True, check=False).returncode == 0


def test_the_page_has_every_check_and_no_other() -> None:
    sources = "".join(path.read_text(encoding="utf-8") for path in PACKAGE.glob("*.py"))
    calls = r"(?:\.note|Problem|Complaint)\(\s*\"([a-z0-9-]+)\""
    named = set(re.findall(calls, sources))
    table = PAGE.read_text(encoding="utf-8").split("| check | refuses |")[1].split("\n\n")[0]
    listed = {name for row in table.splitlines()[2:] for name in re.findall(r"`([\w-]+)`", row.split("|")[1])}
    assert named <= listed
    assert all(f'"{name}"' in sources for name in listed)


def test_ip_versions_say_where_they_were_seen() -> None:
    table = json.loads((PACKAGE / "tables" / "ip_versions.json").read_text(encoding="utf-8"))
    for entry in table["seen"]:
        assert re.fullmatch(r"[0-9a-f]{40}", entry["commit"]) and entry["path"].endswith(".tcl")
        assert set(entry["ips"]) <= set(table["ips"])
        for name in entry["ips"]:
            assert {"all", entry["release"]} & set(table["ips"][name])
