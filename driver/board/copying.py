# SPDX-License-Identifier: Apache-2.0
"""Copies a package to a board over a link, compares checksums, and loads it there."""

import contextlib
from dataclasses import dataclass

from hetfab.driver.board.address import Address
from hetfab.driver.board.identity import check_board
from hetfab.driver.board.link import BoardFacts, BoardLink
from hetfab.driver.board.ssh import open_link
from hetfab.driver.board.store import SUFFIXES, checksum
from hetfab.driver.board.transport import LinkTransport
from hetfab.overlay.package import Package

#: How fast a board reads its card at least.
_SLOW_BYTES_PER_SECOND = 1e6


@dataclass(frozen=True)
class Copy:
    """What was copied to a board.

    Attributes:
        checksums: SHA-256 of each file by suffix, as computed on the board.
        sizes: Bytes of each file by suffix.
        was_there: Whether the board had the package, so that nothing was copied.
    """

    checksums: dict[str, str]
    sizes: dict[str, int]
    was_there: bool


def copy_package(link: BoardLink, package: Package) -> Copy:
    """Copies a package to a board, unless the board has it.

    Raises:
        DiskFullError: The board has no room for it.
        CopyDamagedError: A file is not there what it is here.
        HetfabError: As ``BoardLink.request``.
    """
    files = {suffix: package.bit.with_suffix(f".{suffix}") for suffix in SUFFIXES}
    ours = {suffix: checksum(path) for suffix, path in files.items()}
    sizes = {suffix: path.stat().st_size for suffix, path in files.items()}
    answer, _ = link.request(
        "has", name=package.name, checksums=ours, seconds=sum(sizes.values()) / _SLOW_BYTES_PER_SECOND
    )
    if link.truth(answer, "has"):
        return Copy(ours, sizes, was_there=True)
    theirs = {suffix: link.send_file(path, package.name, suffix) for suffix, path in files.items()}
    # The board compares once more, and makes it a package only then.
    link.request("commit", name=package.name, checksums=ours, seconds=sum(sizes.values()) / _SLOW_BYTES_PER_SECOND)
    return Copy(theirs, sizes, was_there=False)


class Loading:
    """A package that is loaded on a board, again over a new link if the old one broke.

    Args:
        address: Where.
        package: What; it is copied there as needed.
    """

    copy: Copy
    facts: BoardFacts

    def __init__(self, address: Address, package: Package) -> None:
        self._address, self._package = address, package

    def open(self) -> LinkTransport:
        """Loads it; then ``copy`` and ``facts`` are there.

        Raises:
            HetfabError: As ``open_link``, ``check_board``, ``copy_package`` and loading.
        """
        return LinkTransport(self._connect, self._package.name)

    def _connect(self) -> BoardLink:
        link = open_link(self._address)
        with contextlib.ExitStack() as unless_ready:
            unless_ready.callback(link.close)
            check_board(link.facts, link.name, self._package)
            self.facts, self.copy = link.facts, copy_package(link, self._package)
            unless_ready.pop_all()
        return link
