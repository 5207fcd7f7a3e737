# SPDX-License-Identifier: Apache-2.0
"""The transport over pynq to a board that runs PYNQ.remote: what gRPC raises becomes an error of hetfab."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hetfab.driver.board.address import Address
from hetfab.driver.pynq_transport import PynqBuffer, PynqTransport
from hetfab.overlay.errors import LinkLostError


@contextlib.contextmanager
def link_errors(address: Address) -> Iterator[None]:
    """Names a link that broke.

    Raises:
        LinkLostError: A call did not reach the board.
    """
    import grpc

    try:
        yield
    except grpc.RpcError as error:
        raise LinkLostError(
            f"'{address}' does not answer: {error}",
            "a board whose PYNQ.remote answers",
            "check the board's power and its network, then run the same command again",
        ) from error


class RemoteBuffer(PynqBuffer):
    """Memory of the board, with a copy of it here."""

    def __init__(self, address: Address, buffer: Any) -> None:
        self._board = address
        super().__init__(buffer)

    def sync_to_device(self) -> None:
        """Sends the copy."""
        with link_errors(self._board):
            super().sync_to_device()

    def sync_from_device(self) -> None:
        """Fetches the copy."""
        with link_errors(self._board):
            super().sync_from_device()

    def free(self) -> None:
        """Frees the memory; a board that is gone has freed it."""
        with contextlib.suppress(LinkLostError), link_errors(self._board):
            super().free()


class RemoteTransport(PynqTransport):
    """DISPATCH of an overlay on a board that runs PYNQ.remote.

    Args:
        address: Where, for messages.
        bit: As of ``PynqTransport``.
        device: pynq's.

    Raises:
        LinkLostError: The board stopped answering.
        HetfabError: As ``PynqTransport``.
    """

    def __init__(self, address: Address, bit: Path, device: Any) -> None:
        self._address = address
        with link_errors(address):
            super().__init__(bit, device)

    def wrap(self, buffer: Any) -> RemoteBuffer:
        """A buffer of this board."""
        return RemoteBuffer(self._address, buffer)

    def read_register(self, offset: int) -> int:
        """Reads a register."""
        with link_errors(self._address):
            # In pynq 3.1 the answer is a signed number of 32 bits.
            return super().read_register(offset) & 0xFFFF_FFFF

    def write_register(self, offset: int, value: int) -> None:
        """Writes a register."""
        with link_errors(self._address):
            super().write_register(offset, value)

    def allocate(self, size: int) -> PynqBuffer:
        """Allocates memory of the board."""
        with link_errors(self._address):
            return super().allocate(size)

    def check_loaded(self) -> None:
        """As ``PynqTransport.check_loaded``."""
        with link_errors(self._address):
            super().check_loaded()

    def reload(self) -> None:
        """Loads the overlay again."""
        with link_errors(self._address):
            super().reload()
