# SPDX-License-Identifier: Apache-2.0
"""A place with modelled tools on the path, for tests of builds."""

import json
import os
import shutil
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

_TREE = Path(__file__).parents[2]
_TOOLS = ("vivado", "vitis_hls", "vitis-run")
_VITIS_RUN_SINCE = "2024.2"


@dataclass
class Workshop:
    """Folders and wishes of a test.

    Attributes:
        root: Folder of the test.
        bin: Folder of the executables.
        wishes: What the tools are to do; ``save`` writes them.
    """

    root: Path
    bin: Path
    wishes: dict[str, Any] = field(default_factory=dict)

    @property
    def file(self) -> Path:
        """Where the tools read their wishes."""
        return self.root / "modelled.json"

    @property
    def seen(self) -> list[str]:
        """Steps for which a tool was run, in order."""
        path = Path(self.wishes["seen"])
        return [line.split()[0] for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []

    def processes(self) -> list[int]:
        """Numbers of the tools' processes, in order."""
        text = Path(self.wishes["seen"]).read_text(encoding="utf-8")
        return [int(line.split()[1]) for line in text.splitlines()]

    def forget(self) -> None:
        """Begins to count runs anew."""
        Path(self.wishes["seen"]).unlink(missing_ok=True)

    def want(self, **wishes: Any) -> None:
        """Changes what the tools do; None takes a wish back."""
        self.wishes |= wishes
        self.wishes = {name: value for name, value in self.wishes.items() if value is not None}
        self.file.write_text(json.dumps(self.wishes), encoding="utf-8")

    def install(self, folder: Path, version: str) -> None:
        """Puts the executables of a release into a folder."""
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        absent = "vitis_hls" if version >= _VITIS_RUN_SINCE else "vitis-run"
        for name in _TOOLS:
            if name != absent:
                self._executable(folder / name, "tool", name)

    def environment(self) -> dict[str, str]:
        """Environment of a process that is to find the tools."""
        return os.environ | {"PATH": f"{self.bin}:{os.environ['PATH']}", "HETFAB_MODELLED": str(self.file)}

    def connect(self, host: str, version: str) -> None:
        """Moves the tools to another machine, which ssh reaches."""
        shutil.rmtree(self.bin)
        self.bin.mkdir()
        self._executable(self.bin / "ssh", "ssh")
        self.install(self.root / "host-bin", version)
        self.want(host=host, home=str(self.root / "home"), host_path=str(self.root / "host-bin"))

    def _executable(self, path: Path, module: str, *arguments: str) -> None:
        call = f'exec "{sys.executable}" -m tests.vendor_tools.{module} {" ".join(arguments)} "$@"'
        path.write_text(f'#!/bin/sh\nPYTHONPATH="{_TREE}" {call}\n', encoding="utf-8")
        path.chmod(0o755)


def open_workshop(root: Path, monkeypatch: pytest.MonkeyPatch, version: str) -> Workshop:
    """A workshop with the tools of a release on the path."""
    workshop = Workshop(root, root / "bin")
    workshop.install(workshop.bin, version)
    kept = root.parent / "modelled-products"
    workshop.want(version=version, seen=str(root / "seen"), paused=str(root / "paused"), kept=str(kept))
    for name, value in workshop.environment().items():
        monkeypatch.setenv(name, value)
    return workshop
