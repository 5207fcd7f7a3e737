# SPDX-License-Identifier: Apache-2.0
"""Public scripts that are known to have run: the Tcl model accepts them, changed ones it refuses."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from hetfab.hls.tcl_check.check import check_script
from hetfab.hls.tcl_check.problem import Tool
from tests.public_scripts import SCRIPTS, VARIABLE, Laid, checkouts
from tests.tcl_support import needs_tcl

pytestmark = needs_tcl

_EXAMPLES = "Vitis-HLS-Introductory-Examples"
#: What AMD's examples have wrong themselves, or end with on purpose.
_REFUSED_EXAMPLES = {
    "Pipelining/Loops/pipelined_loop": "unknown-command",  # ccsynth_design, in a branch that does not run
    "Task_level_Parallelism/Data_driven/using_directio_none_in_tasks": "missing-file",  # simple_adder.h
    "Task_level_Parallelism/Data_driven/handling_deadlock": "exit-status",  # exit 1
}


def _repository(name: str) -> Path:
    folder = checkouts()
    if folder is None or not (folder / name).is_dir():
        pytest.skip(f"data: no checkout of {name} ({VARIABLE})")
    return folder / name


@pytest.mark.parametrize(("name", "path", "lay"), SCRIPTS, ids=[lay.__name__ for _, _, lay in SCRIPTS])
def test_a_public_script_is_accepted(name: str, path: str, lay: Callable[[Path, Path], Laid], tmp_path: Path) -> None:
    repository = _repository(name)
    assert (repository / path).is_file()
    assert lay(repository, tmp_path).problems() == []


def test_examples_of_vitis_hls_are_accepted() -> None:
    root = _repository(_EXAMPLES).resolve()
    refused = {}
    scripts = sorted(root.rglob("run_hls.tcl"))
    for script in scripts:
        # The examples are for parts of many families, some for a family's name alone.
        parts = set(
            re.findall(r"\b(?:xc|xq|virtex|zynq|kintex)[\w-]*", script.read_text(encoding="utf-8", errors="replace"))
        )
        found = check_script(script, Tool.VITIS_HLS, "2024.2", parts, script.parent)
        if found:
            refused[str(script.parent.relative_to(root))] = found[0].check
    assert len(scripts) > 90
    assert refused == _REFUSED_EXAMPLES
