# SPDX-License-Identifier: Apache-2.0
"""Modelled vendor tools: they refuse a script that the Tcl model refuses, then write the products of the real tools.

The variable HETFAB_MODELLED names a JSON file with what a test wants of them: ``version``; ``faults`` (by step: text
that the tool prints before it ends with an error); ``pause`` (a step in which it stops half-way and waits for its end);
``slack_ns``; ``check`` (whether scripts are checked, true without); ``seen`` (a file that gets a line for each run).
"""

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from hetfab.hls.tcl_check.problem import Tool
from tests.vendor_tools import products


def wishes() -> dict[str, Any]:
    """What the test asked for."""
    table: dict[str, Any] = json.loads(Path(os.environ["HETFAB_MODELLED"]).read_text(encoding="utf-8"))
    return table


def main() -> int:
    """Behaves as the tool whose name is the first argument."""
    name, arguments, wanted = sys.argv[1], sys.argv[2:], wishes()
    version = wanted["version"]
    # As releases do: from 2024.2 on there is no vitis_hls, and before no vitis-run with this mode.
    if arguments in (["-version"], ["--version"]):
        titles = {"vivado": "vivado", "vitis_hls": "Vitis HLS - High-Level Synthesis from C, C++ and OpenCL"}
        version = wanted.get("hls_version", version) if name != "vivado" else version
        print(f"{titles.get(name, 'vitis-run')} v{version} (64-bit)\nCopyright 1986-2023 Xilinx, Inc.")
        return 0
    script = Path(arguments[arguments.index({"vivado": "-source", "vitis_hls": "-f", "vitis-run": "--tcl"}[name]) + 1])
    tool = Tool.VIVADO if name == "vivado" else Tool.VITIS_HLS
    if wanted.get("check", True) and _refused(script, tool, version):
        return 1
    step = f"synthesis:{Path.cwd().name}" if tool is Tool.VITIS_HLS else script.stem.replace("_", "-")
    with Path(wanted["seen"]).open("a", encoding="utf-8") as seen:
        seen.write(f"{step} {os.getpid()}\n")
    print(f"INFO: [Model 1-2] {step}")
    return _work(step, wanted)


def _refused(script: Path, tool: Tool, version: str) -> bool:
    # Here, since it is what takes long to import.
    from hetfab.hls.tcl_check.check import check_script

    parts = [products.part_of(Path("../sources") if tool is Tool.VIVADO else Path("../../sources"))]
    problems = check_script(script, tool, version, parts, Path.cwd())
    for problem in problems:
        print(f"ERROR: [Model 1-1] {problem}")
    return bool(problems)


def _work(step: str, wanted: dict[str, Any]) -> int:
    half_way = {"block-design": _begin_project, "bitstream": _begin_run}.get(step, _begin_synthesis)
    half_way()
    if step == wanted.get("pause"):
        Path(wanted["paused"]).touch()
        time.sleep(600)
    if step in wanted.get("faults", {}):
        print(wanted["faults"][step])
        return 1
    if step.startswith("synthesis:"):
        engine = step.partition(":")[2]
        design = products.read_built_design(Path("../.."))
        products.write_synthesis(Path("project/solution/syn/report"), engine, design)
        products.write_ip(Path(f"../../ip/{engine}.zip"), design, engine, products.tree_hash(Path("../../sources")))
        return 0
    return {"block-design": _block_design, "bitstream": _bitstream}[step](wanted)


def _begin_synthesis() -> None:
    Path("project").mkdir()
    Path("project/half").write_text("half a project", encoding="utf-8")


def _project() -> Path:
    return Path(f"{products.read_built_design(Path('..')).name}.xpr")


def _begin_project() -> None:
    _project().write_text("half a project", encoding="utf-8")


def _begin_run() -> None:
    if _project().read_text(encoding="utf-8") == "half a project":
        sys.exit("ERROR: [Common 17-161] the project is not whole")
    if Path("run").exists():
        sys.exit("ERROR: [Common 17-162] the project has been run before")
    Path("run").touch()


def _block_design(wanted: dict[str, Any]) -> int:
    design = products.read_built_design(Path(".."))
    for engine in ("dispatch", *design.geometry.engines):
        if not Path(f"../ip/{engine}/component.xml").exists():
            print(f"ERROR: [BD 5-390] IP definition not found for '{engine}'")
            return 1
    Path(f"../handoff/{design.name}.hwh").write_text(products.hwh(design), encoding="utf-8")
    _project().write_text(products.tree_hash(Path("../ip")), encoding="utf-8")
    return 0


def _bitstream(wanted: dict[str, Any]) -> int:
    design = products.read_built_design(Path(".."))
    Path("../reports/utilization.rpt").write_text(products.UTILIZATION, encoding="utf-8")
    Path("../reports/timing.rpt").write_text(products.timing(wanted.get("slack_ns", 0.221)), encoding="utf-8")
    content = _project().read_bytes()
    Path(f"../handoff/{design.name}.bit").write_bytes(products.bitstream(design, content))
    return 0


if __name__ == "__main__":
    sys.exit(main())
