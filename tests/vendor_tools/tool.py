# SPDX-License-Identifier: Apache-2.0
"""Modelled vendor tools: they refuse a script that the Tcl model refuses, then write the products of the real tools.

The variable HETFAB_MODELLED names a JSON file with what a test wants of them: ``version``; ``faults`` (by step: text
that the tool prints before it ends with an error); ``pause`` (a step in which it stops half-way and waits for its end);
``slack_ns``; ``check`` (whether scripts are checked, true without); ``seen`` (a file that gets a line for each run);
``kept`` (a folder with what earlier runs wrote for equal input).

A build runs seven tools, and hetfab takes a quarter of a second to import: it is imported only to check a script and to
write what is not in ``kept`` yet.
"""

import hashlib
import json
import os
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any


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
    if wanted.get("check", True) and _refused(script, name, version):
        return 1
    step = script.stem.replace("_", "-") if name == "vivado" else f"synthesis:{Path.cwd().name}"
    with Path(wanted["seen"]).open("a", encoding="utf-8") as seen:
        seen.write(f"{step} {os.getpid()}\n")
    print(f"INFO: [Model 1-2] {step}")
    return _work(step, wanted)


def _refused(script: Path, name: str, version: str) -> bool:
    from hetfab.hls.tcl_check.check import check_script
    from hetfab.hls.tcl_check.problem import Tool
    from hetfab.overlay.board import read_board

    tool, build = (Tool.VIVADO, "..") if name == "vivado" else (Tool.VITIS_HLS, "../..")
    parts = [read_board(_design(Path(build))["board"]).part]
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
        return _synthesis(step.partition(":")[2], wanted)
    return {"block-design": _block_design, "bitstream": _bitstream}[step](wanted)


def _design_text(build: Path) -> str:
    """The design that the build put beside the sources."""
    return (build / "sources" / "design.json").read_text(encoding="utf-8")


def _design(build: Path) -> dict[str, Any]:
    design: dict[str, Any] = json.loads(_design_text(build))
    return design


def _kept(wanted: dict[str, Any], inputs: list[str], make: Callable[[], str]) -> str:
    """What ``make`` gives for these inputs, from an earlier run where there was one."""
    path = Path(wanted["kept"]) / hashlib.sha256(json.dumps(inputs).encode()).hexdigest()
    if not path.exists():
        own = path.with_name(f"{path.name}.{os.getpid()}")
        own.parent.mkdir(exist_ok=True)
        own.write_text(make(), encoding="utf-8")
        own.replace(path)
    return path.read_text(encoding="utf-8")


def _tree_hash(folder: Path) -> str:
    """A hash of all plain files below a folder, zip files left out."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.suffix != ".zip")
    lines = [f"{path.relative_to(folder)} {hashlib.sha256(path.read_bytes()).hexdigest()}" for path in files]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _synthesis(engine: str, wanted: dict[str, Any]) -> int:
    text = _design_text(Path("../.."))

    def make() -> str:
        from tests.vendor_tools import products

        design = products.design_of(text)
        return json.dumps([products.synthesis(design, engine), products.component(design, engine)])

    reports, component = json.loads(_kept(wanted, ["synthesis", engine, text], make))
    folder = Path("project/solution/syn/report")
    folder.mkdir(parents=True)
    for name, report in reports.items():
        (folder / name).write_text(report, encoding="utf-8")
    verilog = f"// {_tree_hash(Path('../../sources'))}\n"
    with zipfile.ZipFile(f"../../ip/{engine}.zip", "w") as archive:
        for name, content in (("component.xml", component), ("hdl/verilog/top.v", verilog)):
            archive.writestr(zipfile.ZipInfo(name), content)
    return 0


def _begin_synthesis() -> None:
    Path("project").mkdir()
    Path("project/half").write_text("half a project", encoding="utf-8")


def _project() -> Path:
    return Path(f"{_design(Path('..'))['name']}.xpr")


def _begin_project() -> None:
    _project().write_text("half a project", encoding="utf-8")


def _begin_run() -> None:
    if _project().read_text(encoding="utf-8") == "half a project":
        sys.exit("ERROR: [Common 17-161] the project is not whole")
    if Path("run").exists():
        sys.exit("ERROR: [Common 17-162] the project has been run before")
    Path("run").touch()


def _block_design(wanted: dict[str, Any]) -> int:
    text, design = _design_text(Path("..")), _design(Path(".."))
    for engine in ("dispatch", *design["geometry"]["engines"]):
        if not Path(f"../ip/{engine}/component.xml").exists():
            print(f"ERROR: [BD 5-390] IP definition not found for '{engine}'")
            return 1

    def make() -> str:
        from tests.vendor_tools import products

        return products.hwh(products.design_of(text))

    Path(f"../handoff/{design['name']}.hwh").write_text(_kept(wanted, ["hwh", text], make), encoding="utf-8")
    _project().write_text(_tree_hash(Path("../ip")), encoding="utf-8")
    return 0


def _bitstream(wanted: dict[str, Any]) -> int:
    text, content = _design_text(Path("..")), _project().read_text(encoding="utf-8")
    slack = wanted.get("slack_ns", 0.221)

    def make() -> str:
        from tests.vendor_tools import products

        bits = products.bitstream(products.design_of(text), content.encode())
        return json.dumps([products.UTILIZATION, products.timing(slack), bits.hex()])

    utilization, timing, bits = json.loads(_kept(wanted, ["bitstream", text, content, str(slack)], make))
    Path("../reports/utilization.rpt").write_text(utilization, encoding="utf-8")
    Path("../reports/timing.rpt").write_text(timing, encoding="utf-8")
    Path(f"../handoff/{_design(Path('..'))['name']}.bit").write_bytes(bytes.fromhex(bits))
    return 0


if __name__ == "__main__":
    sys.exit(main())
