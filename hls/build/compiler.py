# SPDX-License-Identifier: Apache-2.0
"""Finds and runs the host's C++ compiler."""

import os
import shlex
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hetfab.overlay.errors import CompilerFailedError, CompilerMissingError

_SHOWN_ERROR_LINES = 8


@dataclass(frozen=True)
class Compiler:
    """A C++ compiler.

    Attributes:
        command: The command and its leading arguments, as in ``$CXX``.
        version: First line of ``--version``.
    """

    command: tuple[str, ...]
    version: str

    def run(self, arguments: Sequence[str]) -> None:
        """Compiles.

        Args:
            arguments: Flags, sources and outputs.

        Raises:
            CompilerFailedError: The exit status is not 0; the text holds the compiler's first error lines.
        """
        result = subprocess.run([*self.command, *arguments], capture_output=True, text=True, check=False)
        if result.returncode != 0:
            raise CompilerFailedError(
                f"'{shlex.join(self.command)}' ({self.version}) ended with status {result.returncode}:\n"
                + _first_errors(result.stderr),
                "a compiler of C++17 that accepts the kernels of this version of hetfab",
                "set CXX to g++ 9 or newer; if it is, report the lines above",
            )

    def output(self, arguments: Sequence[str]) -> str:
        """What the compiler prints when it is asked, as with ``-print-file-name=include``."""
        return subprocess.run([*self.command, *arguments], capture_output=True, text=True, check=False).stdout


def find_compiler() -> Compiler:
    """The compiler that ``$CXX`` names, or ``g++``.

    Raises:
        CompilerMissingError: There is no such command, or it does not answer ``--version``.
    """
    command = tuple(shlex.split(os.environ.get("CXX", ""))) or ("g++",)
    if shutil.which(command[0]) is None:
        raise _missing(command, "is not an executable command")
    result = subprocess.run([*command, "--version"], capture_output=True, text=True, check=False)
    if result.returncode != 0 or not result.stdout:
        raise _missing(command, "does not answer --version")
    return Compiler(command, result.stdout.splitlines()[0])


def host_processor() -> str:
    """Model and features of this machine's processor: code built for it may not run on another."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return " ".join(os.uname())
    names = ("model name", "flags", "Features", "CPU part")
    return "\n".join(sorted({line for line in lines if line.startswith(names)}))


def processor_name() -> str:
    """The processor's name, or the machine's kind where it has none."""
    lines = [line.partition(":") for line in host_processor().splitlines()]
    return next((name.strip() for field, _, name in lines if field.strip() == "model name"), os.uname().machine)


#: What code for a level of x86-64 may use beyond the one below, as ``/proc/cpuinfo`` names it.
_LEVELS = {
    "x86-64": {"sse2"},
    "x86-64-v2": {"ssse3", "sse4_1", "sse4_2", "popcnt", "cx16"},
    "x86-64-v3": {"avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "movbe", "abm"},
}


def runs_code_for(march: str) -> bool:
    """Whether this processor runs code that is compiled for ``-march=`` native, or a level of x86-64 up to v3."""
    if march == "native":
        return True
    levels = list(_LEVELS)
    flags = set(host_processor().split())
    return march in levels and all(_LEVELS[level] <= flags for level in levels[: levels.index(march) + 1])


def _missing(command: tuple[str, ...], found: str) -> CompilerMissingError:
    origin = "CXX" if os.environ.get("CXX") else "the default compiler"
    return CompilerMissingError(
        f"no C++ compiler: '{shlex.join(command)}' ({origin}) {found}",
        "a C++17 compiler, which builds the emulated overlay on first use",
        "install one (apt-get install g++), or set CXX to its command",
    )


def _first_errors(output: str) -> str:
    lines = output.splitlines()
    errors = [line for line in lines if "error" in line] or lines
    return "\n".join(errors[:_SHOWN_ERROR_LINES])
