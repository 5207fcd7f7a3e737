# SPDX-License-Identifier: Apache-2.0
"""A transport to the overlay of a board that a link leads to."""

import contextlib
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from hetfab.driver.board.link import BoardLink, pieces
from hetfab.driver.device_failures import LOAD_SECONDS
from hetfab.overlay.errors import AnswerGarbledError, BoardBusyError, LinkLostError, OverlayStateError
from hetfab.overlay.run_log import RUN_LOG_DTYPE

_LARGEST_REGISTER, _LARGEST_ADDRESS = (1 << 32) - 1, (1 << 64) - 1
#: How long a board may take to notice that a link broke whose end it was told; of a silent one it is not told.
_FREE_SECONDS, _PAUSE_SECONDS = 15.0, 0.2
#: Numbers of buffers are counted up from 1.
_LARGEST_NUMBER = (1 << 31) - 1
#: Bounds what a garbled answer makes this machine allocate: 1 GiB.
_LARGEST_LOG_RECORDS = (1 << 30) // RUN_LOG_DTYPE.itemsize


class LinkBuffer:
    """Memory of a board, with a copy of it here: ``sync_*`` moves all of it over the link."""

    def __init__(self, link: BoardLink, size: int) -> None:
        answer, _ = link.request("allocate", size=size)
        self._link: BoardLink | None = link
        self._number = link.whole_number(answer, "buffer", _LARGEST_NUMBER)
        self._address = link.whole_number(answer, "address", _LARGEST_ADDRESS)
        self._array = np.zeros(size, np.uint8)

    @property
    def array(self) -> npt.NDArray[np.uint8]:
        """The host's copy."""
        return self._array

    @property
    def physical_address(self) -> int:
        """The device's address of the first byte."""
        return self._address

    def sync_to_device(self) -> None:
        """Sends the copy."""
        link = self._held()
        for offset, size in pieces(len(self._array)):
            link.request("put", self._array[offset : offset + size].tobytes(), buffer=self._number, offset=offset)
        link.request("flush", buffer=self._number)

    def sync_from_device(self) -> None:
        """Fetches the copy."""
        link = self._held()
        link.request("invalidate", buffer=self._number)
        for offset, size in pieces(len(self._array)):
            self._array[offset : offset + size] = _fetched(
                link, size, "get", buffer=self._number, offset=offset, size=size
            )

    def device_view(self) -> npt.NDArray[np.uint8]:
        """The device's bytes: the copy, fetched again."""
        self.sync_from_device()
        return self._array

    def free(self) -> None:
        """Frees the memory; a board that is gone has freed it."""
        link, self._link = self._link, None
        if link is not None and link.alive:
            with contextlib.suppress(LinkLostError):
                link.request("free", buffer=self._number)

    def _held(self) -> BoardLink:
        if self._link is None:
            raise OverlayStateError("the buffer was freed", "a buffer in use", "allocate another one")
        return self._link


class LinkTransport:
    """The overlay of a package that is on a board.

    Args:
        connect: Opens a link to the board.
        name: The package's, which the board has.
        free_seconds: How long ``reload`` waits until the board has noticed that the old link broke.

    Raises:
        HetfabError: As ``connect``, and what loading it raises on the board.
    """

    def __init__(self, connect: Callable[[], BoardLink], name: str, *, free_seconds: float = _FREE_SECONDS) -> None:
        self._connect = connect
        self._name = name
        self._free_seconds = free_seconds
        self._link: BoardLink | None = None
        self._load()

    def _load(self) -> None:
        link = self._connect()
        with contextlib.ExitStack() as unless_loaded:
            unless_loaded.callback(link.close)
            link.request("load", name=self._name, seconds=LOAD_SECONDS)
            unless_loaded.pop_all()
        self._link = link

    def _load_when_free(self) -> None:
        """Loads it once the board's side of the broken link has ended and freed the board."""
        end = time.monotonic() + self._free_seconds
        while True:
            try:
                return self._load()
            except BoardBusyError:
                if time.monotonic() >= end:
                    raise
            time.sleep(_PAUSE_SECONDS)

    @property
    def link(self) -> BoardLink:
        """The link.

        Raises:
            OverlayStateError: The transport is closed.
        """
        if self._link is None:
            raise OverlayStateError("the overlay is closed", "an open overlay", "open it again")
        return self._link

    def reload(self) -> None:
        """Loads the overlay again, over a new link where the old one broke.

        Raises:
            OverlayStateError: It is closed.
            BoardBusyError: Another program works with the board, or it has not noticed that the old link broke.
            HetfabError: As when it was opened.
        """
        if self.link.alive:
            self.link.request("reload", seconds=LOAD_SECONDS)
        else:
            self._load_when_free()

    def check_loaded(self) -> None:
        """As ``Transport.check_loaded``, on the board."""
        self.link.request("check")

    def read_register(self, offset: int) -> int:
        """Reads a register.

        Raises:
            RunError: The bus, the device or the link is gone.
        """
        answer, _ = self.link.request("read", offset=int(offset))
        return self.link.whole_number(answer, "value", _LARGEST_REGISTER)

    def write_register(self, offset: int, value: int) -> None:
        """Writes a register.

        Raises:
            RunError: The bus, the device or the link is gone.
        """
        self.link.request("write", offset=int(offset), value=int(value))

    def allocate(self, size: int) -> LinkBuffer:
        """Allocates memory of the board.

        Raises:
            DeviceMemoryError: The board has not that much left.
        """
        return LinkBuffer(self.link, size)

    def run_log(self) -> npt.NDArray[Any] | None:
        """As ``Transport.run_log``; a board that is emulated keeps one."""
        answer, _ = self.link.request("run log")
        if "records" in answer and answer["records"] is None:
            return None
        log = np.zeros(self.link.whole_number(answer, "records", _LARGEST_LOG_RECORDS), RUN_LOG_DTYPE)
        raw = log.view(np.uint8)
        for offset, size in pieces(len(raw)):
            raw[offset : offset + size] = _fetched(self.link, size, "get log", offset=offset, size=size)
        return log

    def close(self) -> None:
        """Ends the link; the overlay stays in the board's fabric."""
        link, self._link = self._link, None
        if link is not None:
            link.close()


def _fetched(link: BoardLink, expected: int, do: str, **fields: Any) -> npt.NDArray[np.uint8]:
    _, raw = link.request(do, **fields)
    if len(raw) != expected:
        raise AnswerGarbledError(
            f"{link.name} sent {len(raw)} bytes", f"{expected} bytes", "install the same wheel of hetfab on both sides"
        )
    return np.frombuffer(raw, np.uint8)
