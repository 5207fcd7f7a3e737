# SPDX-License-Identifier: Apache-2.0
"""Writes the Tcl scripts of a build: one for each engine (Vitis HLS), the block design and the bitstream (Vivado).

No vendor tool has run them. docs/block-design.md says where their commands are from and how they are checked.
"""

import json
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template

from hetfab.overlay.blockdesign.build import DISPATCH, block_design, cell_name, hls_vlnv, ram_names, ram_ports
from hetfab.overlay.blockdesign.component import component_xml
from hetfab.overlay.blockdesign.tcl import block_design_commands
from hetfab.overlay.board import read_board
from hetfab.overlay.design import Design
from hetfab.overlay.errors import DesignInvalidError
from hetfab.overlay.isa.spec import isa

_IP_VERSIONS = Path(__file__).parents[2] / "tcl_check" / "tables" / "ip_versions.json"
#: Releases of Vitis HLS and Vivado that scripts are written for.
VERSIONS: tuple[str, ...] = tuple(json.loads(_IP_VERSIONS.read_text(encoding="utf-8"))["tools"])
#: Where Vitis HLS writes an engine's report, relative to the engine's working folder.
CSYNTH_REPORT = "project/solution/syn/report/{engine}_top_csynth.xml"
#: Name of the block design inside Vivado: a design's own name may be no identifier.
DIAGRAM = "overlay"
#: The engine that the stages of a design with fixed weights belong to, and the folder of their sources.
STAGED_ENGINE, STAGES_FOLDER = "gemm_d", "stages"
#: Black boxes that GEMM-L's mapped elements consist of (docs/area.md).
_BLACK_BOXES = ("plane_sums_box.json", "plane_accumulate_box.json")


def engines_of(design: Design) -> tuple[str, ...]:
    """The engines that a design has an IP of: DISPATCH and those of its geometry."""
    return (DISPATCH, *(engine.name for engine in isa().engines if engine.name in design.geometry.engines))


def ip_versions(version: str) -> dict[str, str]:
    """The versions of vendor IPs that were seen in public scripts for a release of Vivado.

    An IP that is not there is named without a version, and the tool takes its newest.

    Raises:
        DesignInvalidError: The release is none of ``VERSIONS``.
    """
    if version not in VERSIONS:
        raise DesignInvalidError(f"scripts for the tools {version}", "one of " + ", ".join(VERSIONS), "name another")
    table: dict[str, Any] = json.loads(_IP_VERSIONS.read_text(encoding="utf-8"))
    seen = {name for entry in table["seen"] if entry["release"] == version for name in entry["ips"]}
    return {name: numbers.get(version, numbers.get("all")) for name, numbers in table["ips"].items() if name in seen}


def engine_script(design: Design, engine: str, version: str, sources: Path) -> str:
    """Vitis HLS: synthesises an engine and exports its IP to ``../../ip/<engine>.zip``.

    It runs in ``<build>/hls/<engine>`` and makes the project ``project`` with the solution ``solution``; the report is
    at ``CSYNTH_REPORT``. The folder ``<build>/ip`` must be there.

    Args:
        design: Names board, clock and form of the elements.
        engine: ``dispatch`` or an engine of the geometry.
        version: Of the tool, one of ``VERSIONS``.
        sources: Folder, relative to the working folder, with ``include/``, ``kernels/``, ``verilog/``, ``design.hpp``.

    Raises:
        DesignInvalidError: The design has no such engine, or the version is unknown.
    """
    if engine not in engines_of(design):
        raise DesignInvalidError(
            f"a script for '{engine}', which '{design.name}' lacks",
            "one of " + ", ".join(engines_of(design)),
            "name another engine",
        )
    ip_versions(version)
    vendor, library, name, ip_version = hls_vlnv(engine).split(":")
    folder = sources.as_posix()
    mapped = engine == "gemm_l" and design.elements == "mapped"
    staged = engine == STAGED_ENGINE and bool(design.stages)
    include = f"-I{folder} -I{folder}/include" + f" -I{folder}/{STAGES_FOLDER}" * staged
    macros = " -DHETFAB_PLANE_BOXES" * mapped + " -DHETFAB_STAGES" * staged
    return _template("engine.tcl.j2").render(
        engine=name,
        report=CSYNTH_REPORT.format(engine=name),
        sources=folder,
        cflags=f"-std=c++17 -DHETFAB_AP_INT{macros} {include}",
        more=[f"{STAGES_FOLDER}/project_stages.cpp"] if staged else [],
        black_boxes=_BLACK_BOXES if mapped else (),
        part=read_board(design.board).part,
        period=f"{1000 / design.clock_mhz:.3f}",
        vendor=vendor,
        library=library,
        ip_version=ip_version,
    )


def block_design_script(design: Design, version: str) -> str:
    """Vivado: makes the project and its block design, and copies the handoff to ``../handoff/<name>.hwh``.

    It runs in ``<build>/vivado``; unpacked IPs lie in ``../ip/<engine>``.

    Raises:
        DesignInvalidError: The block design cannot be made, or the version is unknown.
    """
    versions = ip_versions(version)
    return _template("block_design.tcl.j2").render(
        version=version,
        project=design.name,
        diagram=DIAGRAM,
        part=read_board(design.board).part,
        repositories=[f"../ip/{engine}" for engine in engines_of(design)],
        commands=block_design_commands(block_design(design), versions),
    )


def bitstream_script(design: Design, version: str, jobs: int = 1) -> str:
    """Vivado: synthesis and implementation up to the bitstream, copied to ``../handoff/<name>.bit``.

    It runs in ``<build>/vivado`` after ``block_design_script`` and writes ``../reports/utilization.rpt`` and
    ``../reports/timing.rpt``; a failed run ends it with an error, timing that is not met does not.

    Raises:
        DesignInvalidError: The version is unknown.
    """
    ip_versions(version)
    return _template("bitstream.tcl.j2").render(project=design.name, diagram=DIAGRAM, jobs=jobs)


def expected_component(design: Design, engine: str) -> str:
    """The ``component.xml`` that the block design expects of an engine's exported IP.

    Where no tool has exported it, it takes its place in ``../ip/<engine>`` so that the Tcl model knows the ports.
    """
    cell = block_design(design).cell(cell_name(engine))
    words = {}
    for port in ram_ports(engine):
        for name in ram_names(port.memory, design.geometry):
            words[f"{name}_address0"] = design.geometry.depth(port.memory.name)
    return component_xml(cell, round(design.clock_mhz * 1_000_000), words)


@cache
def _environment() -> Environment:
    folder = Path(__file__).parent / "templates"
    return Environment(
        loader=FileSystemLoader(folder),
        undefined=StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
    )


def _template(name: str) -> Template:
    return _environment().get_template(name)
