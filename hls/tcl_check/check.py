# SPDX-License-Identifier: Apache-2.0
"""Runs a script of Vitis HLS or Vivado against the model of their commands."""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from hetfab.hls.tcl_check.branches import branch_problems
from hetfab.hls.tcl_check.commands import commands_of
from hetfab.hls.tcl_check.files import Files
from hetfab.hls.tcl_check.interpreter import Ending, Script, run_script
from hetfab.hls.tcl_check.problem import Problem, Tool
from hetfab.hls.tcl_check.vitis_hls import VitisHls
from hetfab.hls.tcl_check.vivado import Vivado
from hetfab.overlay.board import board_names, read_board

_SYNTAX = re.compile(
    r"missing close-|missing \"|extra characters after close-|unmatched open|invalid bareword|missing op"
)


def check_script(
    script: Path,
    tool: Tool,
    version: str,
    parts: Iterable[str] | None,
    folder: Path,
    *,
    given: Iterable[str] = (),
    arguments: Sequence[str] = (),
    variables: Mapping[str, str] | None = None,
) -> list[Problem]:
    """Runs a script in the model and returns what it refuses, in the order of the script.

    The model writes no file and starts no program.

    Args:
        script: The Tcl file.
        tool: The tool that it is for.
        version: Release of the tool.
        parts: FPGAs that the script may name; None allows those of hetfab's boards.
        folder: Working folder, against which the script's relative paths are resolved.
        given: Files, relative to ``folder``, that are taken to exist, such as what an earlier script makes.
        arguments: ``argv`` of the script.
        variables: The environment that the script sees.

    Raises:
        PackageMissingError: There is no Tcl.
    """
    if not script.is_file():
        return [Problem("missing-file", 0, f"there is no script {script}", "correct the path")]
    allowed = [read_board(name).part for name in board_names()] if parts is None else parts
    model = {Tool.VITIS_HLS: VitisHls, Tool.VIVADO: Vivado}[tool]
    session = model(version, frozenset(part.lower() for part in allowed), Files(folder, given))
    ending = run_script(Script(script, session.names, dict(variables or {}), tuple(arguments)), session.answer)
    problems = list(_of_ending(ending))
    if not problems:
        session.end()
    found = session.problems + problems
    return found or list(branch_problems(script.read_text(encoding="utf-8"), commands_of(tool)))


def _of_ending(ending: Ending) -> Iterable[Problem]:
    if not ending.failed or "HETFAB exit" in ending.code:
        return
    check = "tcl-syntax" if _SYNTAX.search(ending.message) else "tcl-error"
    fix = "balance braces, brackets and quotes" if check == "tcl-syntax" else "see what the script expects"
    yield Problem(check, ending.line, ending.message, fix)
