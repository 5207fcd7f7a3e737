# SPDX-License-Identifier: Apache-2.0
"""The transport over pynq to a board that runs PYNQ.remote: what gRPC raises becomes an error of hetfab."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from hetfab.driver.board.address import Address
from hetfab.driver.device_failures import LOAD_SECONDS, load_within
from hetfab.driver.pynq_transport import PynqBuffer, PynqTransport
from hetfab.overlay.errors import BoardSoftwareError, BusError, HetfabError, LinkLostError, LoadDeadlineError

#: How long an answer may take that moves nothing; pynq's client itself waits for ever.
ANSWER_SECONDS = 30.0
_SLOW_BYTES_PER_SECOND = 1e6

Result = TypeVar("Result")


@contextlib.contextmanager
def link_errors(address: Address, refused: type[HetfabError] = BusError) -> Iterator[None]:
    """Names a link that broke, and a request that the board refused.

    Args:
        address: Where it leads.
        refused: What a request is that the board answers with a failure; pynq's client raises RuntimeError then.

    Raises:
        LinkLostError: A call did not reach the board.
        HetfabError: ``refused``.
    """
    import grpc

    try:
        yield
    except grpc.RpcError as error:
        raise _lost(f"'{address}' does not answer: {error}") from error
    except RuntimeError as error:
        raise refused(
            f"'{address}' answers with a failure: {error}",
            "a PYNQ.remote that does what it is asked",
            "look into the log of the board's PYNQ.remote, start the board again, then run the same command again",
        ) from error


def answered(
    address: Address, call: Callable[[], Result], size: int = 0, refused: type[HetfabError] = BusError
) -> Result:
    """What a call returns; it is not waited for for ever, and stays behind in a thread of its own then.

    Args:
        address: Where it leads.
        call: Asks the board.
        size: Bytes that it moves.
        refused: As of ``link_errors``.

    Raises:
        LinkLostError: It did not reach the board, or the answer did not come in time.
        HetfabError: ``refused``.
    """
    found: list[Result] = []
    seconds = ANSWER_SECONDS + size / _SLOW_BYTES_PER_SECOND
    try:
        with link_errors(address, refused):
            load_within(seconds, lambda: found.append(call()))
    except LoadDeadlineError as error:
        raise _lost(f"'{address}' did not answer for {seconds:g} s") from error
    return found[0]


def _lost(found: str) -> LinkLostError:
    return LinkLostError(
        found,
        "a board whose PYNQ.remote answers",
        "check the board's power and its network, then run the same command again",
    )


class RemoteBuffer(PynqBuffer):
    """Memory of the board, with a copy of it here."""

    def __init__(self, address: Address, buffer: Any) -> None:
        self._board = address
        super().__init__(buffer)

    def sync_to_device(self) -> None:
        """Sends the copy."""
        answered(self._board, super().sync_to_device, self.array.size)

    def sync_from_device(self) -> None:
        """Fetches the copy."""
        answered(self._board, super().sync_from_device, self.array.size)

    def free(self) -> None:
        """Frees the memory; a board that is gone has freed it."""
        with contextlib.suppress(LinkLostError):
            answered(self._board, super().free)


class RemoteTransport(PynqTransport):
    """DISPATCH of an overlay on a board that runs PYNQ.remote.

    Args:
        address: Where, for messages.
        bit: As of ``PynqTransport``.
        device: pynq's.

    Raises:
        LinkLostError: The board stopped answering.
        BoardSoftwareError: It refuses to load the overlay.
        HetfabError: As ``PynqTransport``.
    """

    def __init__(self, address: Address, bit: Path, device: Any) -> None:
        self._address = address
        super().__init__(bit, device)

    def _load(self) -> None:
        """Loads it. pynq's loading has its own deadline; mapping registers and asking for the clock has this one."""
        with link_errors(self._address, BoardSoftwareError):
            load_within(LOAD_SECONDS + ANSWER_SECONDS, super()._load)

    def wrap(self, buffer: Any) -> RemoteBuffer:
        """A buffer of this board."""
        return RemoteBuffer(self._address, buffer)

    def read_register(self, offset: int) -> int:
        """Reads a register."""
        read = super().read_register
        # In pynq 3.1 the answer is a signed number of 32 bits.
        return answered(self._address, lambda: read(offset)) & 0xFFFF_FFFF

    def write_register(self, offset: int, value: int) -> None:
        """Writes a register."""
        write = super().write_register
        answered(self._address, lambda: write(offset, value))

    def allocate(self, size: int) -> PynqBuffer:
        """Allocates memory of the board."""
        make = super().allocate
        return answered(self._address, lambda: make(size))

    def check_loaded(self) -> None:
        """As ``PynqTransport.check_loaded``."""
        answered(self._address, super().check_loaded, refused=BoardSoftwareError)
