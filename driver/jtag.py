# SPDX-License-Identifier: Apache-2.0
"""Loads a bitstream over JTAG by openFPGALoader (https://github.com/trabucayre/openFPGALoader).

JTAG reaches the fabric's configuration and nothing behind it: no register is read back, and the processor's clocks and
ports stay as the board's software set them. No board has been loaded this way.
"""

import os
import re
import subprocess
from collections.abc import Sequence

from hetfab.overlay.board import Board, read_board
from hetfab.overlay.errors import (
    BoardMismatchError,
    DeviceLostError,
    LoadDeadlineError,
    OverlayPackageError,
    TargetInvalidError,
    ToolMissingError,
)
from hetfab.overlay.package import Kind, Package

#: Environment variable with the cable, as openFPGALoader names it; needed for boards that it has no name for.
CABLE_VARIABLE = "HETFAB_JTAG_CABLE"
_TOOL = "openFPGALoader"
_CABLE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
#: What openFPGALoader calls a device that it finds: ``xc7z020``, ``xczu7cg/eg/ev``.
_MODEL = re.compile(r"^\s*model\s+(\S+)", re.MULTILINE)
#: What names and parts have in common, where they have: a K26 is found by the name of its die.
_DIE = re.compile(r"xc(?:7z|zu)\d+")
_SECONDS = 180.0
_SHOWN_LINES = 3


def load_over_jtag(package: Package) -> None:
    """Loads a bitstream into the fabric of the board at the cable.

    Raises:
        OverlayPackageError: It is an emulated overlay.
        TargetInvalidError: It is not known which cable the board has.
        ToolMissingError: openFPGALoader is not on the path.
        BoardMismatchError: Another part is at the cable.
        DeviceLostError: Nothing is at the cable, or loading failed.
        LoadDeadlineError: openFPGALoader does not end.
    """
    if package.kind is not Kind.HARDWARE:
        raise OverlayPackageError(
            f"'{package.name}' is an emulated overlay, which no fabric takes",
            "the package of a bitstream",
            "build one (hetfab build), or run the emulated overlay where it is",
        )
    board = read_board(package.design.board)
    cable = _cable(board)
    status, said = _run([*cable, "--detect"])
    if status != 0:
        raise _failed("finds no board at the cable", said)
    _check_part(board, said)
    status, said = _run([*cable, str(package.bit.resolve())])
    if status != 0:
        raise _failed(f"did not load '{package.bit}'", said)


def _cable(board: Board) -> list[str]:
    chosen = os.environ.get(CABLE_VARIABLE)
    if chosen:
        if not _CABLE.fullmatch(chosen):
            raise TargetInvalidError(
                f"{CABLE_VARIABLE} is {chosen!r}", f"a cable of '{_TOOL} --list-cables'", "correct the variable"
            )
        return ["--cable", chosen]
    if board.jtag is not None:
        return ["--board", board.jtag]
    raise TargetInvalidError(
        f"{_TOOL} has no name for the board '{board.name}', so its cable is not known",
        f"a cable of '{_TOOL} --list-cables' in {CABLE_VARIABLE}",
        f"set {CABLE_VARIABLE}; the board's manual says what chip its JTAG plug has",
    )


def _check_part(board: Board, said: str) -> None:
    models = _MODEL.findall(said)
    found = {die.group() for model in models if (die := _DIE.match(model.lower()))}
    wanted = _DIE.match(board.part)
    if found and wanted is not None and wanted.group() not in found:
        raise BoardMismatchError(
            f"the part at the cable is {', '.join(sorted(models))}; the board '{board.name}' has {board.part}",
            f"a board '{board.name}'",
            "connect the board that the package is for, or take the package of this one",
        )


def _run(arguments: Sequence[str]) -> tuple[int, str]:
    """Exit status, and what it printed."""
    try:
        ended = subprocess.run(
            [_TOOL, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=_SECONDS,
            check=False,
        )
    except FileNotFoundError as error:
        raise ToolMissingError(
            f"there is no command '{_TOOL}' on the path",
            f"{_TOOL}, which loads over JTAG",
            "apt-get install openfpgaloader",
        ) from error
    except subprocess.TimeoutExpired as error:
        raise LoadDeadlineError(
            f"{_TOOL} did not end within {_SECONDS:g} s",
            "a cable that moves a bitstream within seconds",
            "check the cable, switch the board off and on, then try again",
        ) from error
    return ended.returncode, ended.stdout.decode(errors="replace")


def _failed(what: str, said: str) -> DeviceLostError:
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    return DeviceLostError(
        f"{_TOOL} {what}: " + ("; ".join(lines[-_SHOWN_LINES:]) or "it said nothing"),
        "a board with power whose JTAG this user may reach",
        f"check cable, power, jumpers and permissions; '{_TOOL} --scan-usb' shows what is connected",
    )
