# SPDX-License-Identifier: Apache-2.0
"""The two tools of a build: their commands by release, their versions, and what their logs say of a failure.

``vitis_hls`` is no longer there from 2024.2 on, where ``vitis-run --mode hls --tcl`` runs the same scripts (UG1702,
"vitis-run Command").
"""

import re
from pathlib import Path

from hetfab.hls.build.bitstream.machine import Machine
from hetfab.hls.build.bitstream.scripts import VERSIONS
from hetfab.hls.tcl_check.problem import Tool
from hetfab.overlay.errors import (
    BuildError,
    DiskFullError,
    ToolFailedError,
    ToolLicenceError,
    ToolMissingError,
    ToolVersionError,
)

_VITIS_RUN_SINCE = "2024.2"
_VERSION = re.compile(r"\bv?(20\d\d\.\d)\b")
_NOT_FOUND = (126, 127)
#: Both tools write an error as ``ERROR: [Common 17-69] text``; the first one is the cause, the rest follow from it.
_ERROR = re.compile(r"^\s*ERROR: *(?:\[(?P<code>[^\]]+)\])? *(?P<text>.*)$", re.MULTILINE)
_NO_SPACE = re.compile(r"no space left on device|disk (?:is )?full|ENOSPC", re.IGNORECASE)
_NO_LICENCE = re.compile(r"licen[cs]e", re.IGNORECASE)


def title(tool: Tool) -> str:
    """A tool's name for people."""
    return {Tool.VITIS_HLS: "Vitis HLS", Tool.VIVADO: "Vivado"}[tool]


def _executable(tool: Tool, version: str) -> str:
    return "vitis-run" if tool is Tool.VITIS_HLS and version >= _VITIS_RUN_SINCE else tool.value


def run_command(tool: Tool, version: str, script: str) -> list[str]:
    """The command line of a release that runs a script and ends."""
    executable = _executable(tool, version)
    match executable:
        case "vivado":
            return [executable, "-mode", "batch", "-nojournal", "-nolog", "-notrace", "-source", script]
        case "vitis-run":
            return [executable, "--mode", "hls", "--tcl", script]
    return [executable, "-f", script]


def _version_command(tool: Tool, version: str) -> list[str]:
    executable = _executable(tool, version)
    return [executable, "--version" if executable == "vitis-run" else "-version"]


def tool_version(machine: Machine, asked: str | None) -> str:
    """The release of both tools on a machine.

    Args:
        machine: Where they run.
        asked: The release that is wanted, None for any that is supported.

    Raises:
        ToolMissingError: One is not on the path.
        ToolVersionError: One has another release than the one that was asked for, a release that is not supported, or
            another one than Vivado.
    """
    vivado = _version_of(machine, Tool.VIVADO, asked or VERSIONS[-1])
    if vivado not in VERSIONS:
        raise ToolVersionError(
            f"Vivado {machine.where} is version {vivado}",
            f"one of {', '.join(VERSIONS)}",
            "put one of these first on the path (source its settings64.sh)",
        )
    for tool, found in ((Tool.VIVADO, vivado), (Tool.VITIS_HLS, _version_of(machine, Tool.VITIS_HLS, vivado))):
        wanted = asked or vivado
        if found != wanted:
            origin = "that --tool-version names" if asked else "that Vivado has"
            raise ToolVersionError(
                f"{title(tool)} {machine.where} is version {found}",
                f"version {wanted}, {origin}",
                f"source settings64.sh of {wanted}, or give another --tool-version",
            )
    return vivado


def _version_of(machine: Machine, tool: Tool, version: str) -> str:
    command = _version_command(tool, version)
    status, text = machine.output(command)
    if status in _NOT_FOUND:
        raise ToolMissingError(
            f"{title(tool)} is not {machine.where}: there is no command '{command[0]}' on the path",
            f"Vivado and Vitis HLS of one release, {VERSIONS[0]} to {VERSIONS[-1]}",
            "source settings64.sh of both tools, name a machine that has them with --host, or use --dry-run",
        )
    found = _VERSION.search(text)
    if status != 0 or found is None:
        first = text.strip().splitlines()[0] if text.strip() else "nothing"
        raise ToolVersionError(
            f"'{' '.join(command)}' {machine.where} ended with status {status} and printed: {first}",
            "the version of the tool",
            "run that command by hand",
        )
    return found[1]


def failure(tool: Tool, step: str, status: int, log: Path) -> BuildError | DiskFullError | ToolLicenceError:
    """The error for a tool that did not do its work, from what it printed.

    Args:
        tool: Which one.
        step: Name of the step.
        status: The tool's exit status.
        log: What it printed.
    """
    text = log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""
    error = _ERROR.search(text)
    code = error["code"] if error and error["code"] else "no code"
    line = error[0].strip() if error else "it printed no line that begins with ERROR"
    where = f"step '{step}': {title(tool)} ended with status {status}: {line}"
    if _NO_SPACE.search(text):
        return DiskFullError(
            where, "free space for the build", f"make room, then run the same command again; log: {log}"
        )
    if error and _NO_LICENCE.search(line):
        return ToolLicenceError(
            where,
            "a licence for the tool and the board's part",
            f"check XILINXD_LICENSE_FILE, or choose a board whose part needs none; log: {log}",
        )
    return ToolFailedError(where, f"the step to end without an error ({code})", f"read the log: {log}")
