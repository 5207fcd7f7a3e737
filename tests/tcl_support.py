# SPDX-License-Identifier: Apache-2.0
"""What tests of Tcl scripts share: whether there is a Tcl, and texts in the place of a script."""

import os
from pathlib import Path

import pytest

from hetfab.hls.tcl_check.check import check_script
from hetfab.hls.tcl_check.interpreter import tcl_is_installed
from hetfab.hls.tcl_check.problem import Problem, Tool

#: On a CI machine a missing Tcl fails the tests: .ci/run installs it.
needs_tcl = pytest.mark.skipif(
    not tcl_is_installed() and "CI" not in os.environ, reason="vendor: no tclsh, and Python has no tkinter"
)


def check_lines(
    text: str, tool: Tool, folder: Path, version: str = "2024.2", given: tuple[str, ...] = ()
) -> list[Problem]:
    """What the model refuses in a text, which may name the PYNQ-Z2's part."""
    script = folder / "checked.tcl"
    script.write_text(text, encoding="utf-8")
    return check_script(script, tool, version, ["xc7z020clg400-1"], folder, given=given)
