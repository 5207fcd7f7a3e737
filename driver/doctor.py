# SPDX-License-Identifier: Apache-2.0
"""Looks at the environment: what is installed, which targets are possible, and what the others still need."""

import importlib.metadata
import os
import platform
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from hetfab.hls.build.cache import CACHE_VARIABLE, cache_folder
from hetfab.hls.build.compiler import find_compiler
from hetfab.overlay.errors import EnvironmentLacksError

#: Distribution -> what needs it, and how it is installed.
_PACKAGES = {
    "numpy": ("everything", "pip install hetfab"),
    "scipy": ("metapaths", "pip install hetfab"),
    "onnx": ("reading models", "pip install hetfab"),
    "onnxruntime": ("calibration and the reference of a run", "pip install hetfab"),
    "rich": ("progress bars", "pip install hetfab"),
    "matplotlib": ("pictures of graphs", "pip install 'hetfab[plots]'"),
    "hls4ml": ("C simulation with ap_int", "pip install 'hetfab[hls]'"),
    "libclang": ("hetfab lint", "pip install 'hetfab[lint]'"),
    "pynq": ("boards, and the emulated PYNQ device", "pip install 'hetfab[emulation]'; a board's image has it"),
}


@dataclass(frozen=True)
class Finding:
    """One thing that was looked for.

    Attributes:
        name: What it is.
        found: Version or state; empty when it is missing.
        needed_for: What needs it.
        install: How to get it.
    """

    name: str
    found: str
    needed_for: str
    install: str


@dataclass(frozen=True)
class Target:
    """Something that programs can run on.

    Attributes:
        name: What it is.
        possible: Whether this environment can use it.
        missing: What it still needs, in words; empty when it is possible.
    """

    name: str
    possible: bool
    missing: str


def findings() -> list[Finding]:
    """Everything that hetfab can use, found or not."""
    found = [
        Finding("python", platform.python_version(), "everything", "Python 3.10 or newer"),
        Finding("C++ compiler", _compiler(), "the emulated overlay", "apt-get install g++, or set CXX"),
        Finding("cache folder", _cache(), "the emulated overlay", f"set {CACHE_VARIABLE} to a writable folder"),
    ]
    found += [Finding(name, _version(name), *words) for name, words in _PACKAGES.items()]
    return found


def targets(found: list[Finding]) -> list[Target]:
    """What programs can run on here, by what was found."""
    by_name = {finding.name: finding for finding in found}

    def target(name: str, *needs: str, also: str = "") -> Target:
        lacks = [f"{need} ({by_name[need].install})" for need in needs if not by_name[need].found]
        lacks += [also] if also else []
        return Target(name, not lacks, "; ".join(lacks))

    return [
        target("emulated overlay", "numpy", "C++ compiler", "cache folder"),
        target("C simulation with ap_int", "numpy", "C++ compiler", "cache folder", "hls4ml"),
        target("emulated PYNQ device", "numpy", "C++ compiler", "cache folder", "pynq"),
        target("PYNQ board", "numpy", "pynq", also=_board()),
    ]


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _compiler() -> str:
    try:
        return find_compiler().version
    except EnvironmentLacksError:
        return ""


def _cache() -> str:
    """The folder and its size, empty when it cannot be written."""
    folder = cache_folder()
    existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
    try:
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError:
        return ""
    size = sum(path.stat().st_size for path in folder.glob("*") if path.is_file())
    return f"{folder} ({size / 1e6:.1f} MB)"


def _board() -> str:
    """Why this machine is no PYNQ board, empty when it looks like one."""
    if sys.platform.startswith("linux") and platform.machine() in ("armv7l", "aarch64"):
        model = Path("/proc/device-tree/model")
        return "" if model.exists() and os.geteuid() == 0 else "root on a board with a PYNQ image"
    return "a board: this machine is no ARM Linux"
