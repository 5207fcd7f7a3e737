# SPDX-License-Identifier: Apache-2.0
"""Whether a board is the one that a package was built for, by the names and the processors of both."""

import re

from hetfab.driver.board.link import BoardFacts
from hetfab.overlay.board import board_names, read_board
from hetfab.overlay.errors import BoardMismatchError
from hetfab.overlay.package import Kind, Package

#: Processors of the families.
_MACHINES = {"zynq-7000": "armv7l", "zynq-ultrascale+": "aarch64"}


def check_board(facts: BoardFacts, name: str, package: Package) -> None:
    """Refuses a board that is known to be another one, or, for a bitstream, whose processor is another family's.

    Args:
        facts: What the board says of itself. A board without a name, or with one that hetfab does not know, passes:
            its image may be of the user's own making.
        name: How messages call the board.
        package: What is to be loaded.

    Raises:
        BoardMismatchError: It is another board.
    """
    wanted = package.design.board
    known = None if facts.board is None else known_board(facts.board)
    if known is not None and known != wanted:
        raise _mismatch(name, f"a '{facts.board}'", package)
    machine = _MACHINES.get(read_board(wanted).family)
    if package.kind is Kind.HARDWARE and facts.machine != machine:
        raise _mismatch(name, f"a board with the processor {facts.machine}", package)


def known_board(told: str) -> str | None:
    """The board that a PYNQ image's name stands for, such as 'ultra96-v2' for 'Ultra96'; None for an unknown one."""
    plain = _plain(told)
    matching = [board for board in board_names() if plain and _plain(board).startswith(plain)]
    return matching[0] if len(matching) == 1 else None


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.casefold())


def _mismatch(name: str, found: str, package: Package) -> BoardMismatchError:
    board = read_board(package.design.board)
    return BoardMismatchError(
        f"{name} is {found}; the package '{package.name}' is for '{board.name}' ({board.part})",
        f"a board '{board.name}'",
        "choose another board with --to, or the package of this one",
    )
