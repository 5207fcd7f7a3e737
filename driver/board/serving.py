# SPDX-License-Identifier: Apache-2.0
"""The board's side: takes packages, loads them, and gives their registers and memory to the host that asks.

One process serves one host and ends with the link. It needs numpy, and the board's own pynq.
"""

import contextlib
import importlib.metadata
import os
import platform
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, TypeAlias

import numpy as np
import numpy.typing as npt

from hetfab.driver.board.frames import LINK_VERSION, PIECE_BYTES, Header, encode, read_message
from hetfab.driver.board.store import SUFFIXES, Store
from hetfab.driver.transport import DeviceBuffer, Transport
from hetfab.overlay.errors import AnswerGarbledError, BoardSoftwareError, HetfabError, OverlayStateError
from hetfab.overlay.isa.spec import isa
from hetfab.overlay.package import read_package

#: Where PYNQ's images say which board they are for.
_BOARD_FILE = Path("/proc/device-tree/chosen/pynq_board")
#: What PYNQ's images say it with where that file is not there.
_BOARD_VARIABLE = "BOARD"

Answer: TypeAlias = tuple[Header, bytes]


def about_board() -> dict[str, Any]:
    """What the host wants to know before anything else."""
    return {
        "link": LINK_VERSION,
        "isa": list(isa().version),
        "hetfab": _version("hetfab"),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "pynq": _version("pynq"),
        "machine": platform.machine(),
        "board": _board_name(),
    }


def serve(read: Callable[[int], bytes], write: Callable[[bytes], object], folder: Path) -> None:
    """Answers requests until the link ends.

    Args:
        read: Returns exactly as many bytes as it is asked for; raises ``EOFError`` at the end of the link.
        write: Takes all bytes that it is given.
        folder: Where packages are kept.
    """
    with contextlib.ExitStack() as held:
        try:
            server = held.enter_context(_Server(held.enter_context(Store(folder)), read))
        except HetfabError as error:
            write(encode({"error": error.as_dict()}))
            return
        write(encode(about_board()))
        # Either the host has gone, or what it sends is no request: then nothing behind it can be understood.
        with contextlib.suppress(EOFError, ValueError):
            while True:
                write(encode(*server.answer(*read_message(read))))


class _Server:
    """The overlay that was loaded, and its buffers by number."""

    def __init__(self, store: Store, read: Callable[[int], bytes]) -> None:
        self._store = store
        self._read = read
        self._loaded: Transport | None = None
        self._buffers: dict[int, DeviceBuffer] = {}
        self._next = 0
        self._log: npt.NDArray[np.uint8] = np.zeros(0, np.uint8)
        self._requests: dict[str, Callable[[Header, bytes], Answer]] = {
            "has": self._has,
            "receive": self._receive,
            "commit": self._commit,
            "load": self._load,
            "reload": self._reload,
            "check": self._check,
            "read": self._read_register,
            "write": self._write_register,
            "allocate": self._allocate,
            "free": self._free,
            "put": self._put,
            "flush": self._flush,
            "invalidate": self._invalidate,
            "get": self._get,
            "run log": self._run_log,
            "get log": self._get_log,
        }

    def __enter__(self) -> "_Server":
        """Returns itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Frees everything; the overlay stays in the fabric."""
        self._close()

    def answer(self, request: Header, payload: bytes) -> Answer:
        """Carries out a request; an error of hetfab is an answer too.

        Raises:
            ValueError: It is no request.
            EOFError: The link ended.
        """
        handler = self._requests.get(str(request.get("do")))
        if handler is None:
            raise ValueError(f"no request: {request.get('do')!r}")
        try:
            return handler(request, payload)
        except HetfabError as error:
            return {"error": error.as_dict()}, b""
        except OSError as error:
            return {"error": _failed(str(request["do"]), error).as_dict()}, b""
        except (KeyError, TypeError) as error:
            raise ValueError(f"a request without what it needs: {error}") from error

    @property
    def _transport(self) -> Transport:
        if self._loaded is None:
            raise OverlayStateError("no overlay was loaded over this link", "a loaded overlay", "load one first")
        return self._loaded

    def _has(self, request: Header, payload: bytes) -> Answer:
        return {"has": self._store.has(request["name"], request["checksums"])}, b""

    def _receive(self, request: Header, payload: bytes) -> Answer:
        size = int(request["size"])
        missing = size

        def write(file: BinaryIO) -> None:
            nonlocal missing
            while missing:
                _, piece = read_message(self._read)
                if not 0 < len(piece) <= missing:
                    raise ValueError(f"a piece of {len(piece)} bytes where {missing} are missing")
                missing -= len(piece)
                file.write(piece)

        try:
            found = self._store.receive(request["name"], request["suffix"], size, write)
        except HetfabError:
            # What is under way still arrives.
            while missing > 0:
                missing -= len(read_message(self._read)[1]) or missing
            raise
        return {"checksum": found}, b""

    def _commit(self, request: Header, payload: bytes) -> Answer:
        self._store.commit(request["name"], {suffix: request["checksums"][suffix] for suffix in SUFFIXES})
        return {}, b""

    def _load(self, request: Header, payload: bytes) -> Answer:
        from hetfab.driver.overlay import open_transport

        self._close()
        self._loaded = open_transport(read_package(self._store.description(request["name"])))
        return {}, b""

    def _reload(self, request: Header, payload: bytes) -> Answer:
        self._transport.reload()
        return {}, b""

    def _check(self, request: Header, payload: bytes) -> Answer:
        self._transport.check_loaded()
        return {}, b""

    def _read_register(self, request: Header, payload: bytes) -> Answer:
        return {"value": int(self._transport.read_register(int(request["offset"])))}, b""

    def _write_register(self, request: Header, payload: bytes) -> Answer:
        self._transport.write_register(int(request["offset"]), int(request["value"]))
        return {}, b""

    def _allocate(self, request: Header, payload: bytes) -> Answer:
        buffer = self._transport.allocate(int(request["size"]))
        self._next += 1
        self._buffers[self._next] = buffer
        return {"buffer": self._next, "address": buffer.physical_address}, b""

    def _free(self, request: Header, payload: bytes) -> Answer:
        buffer = self._buffers.pop(int(request["buffer"]), None)
        if buffer is not None:
            buffer.free()
        return {}, b""

    def _put(self, request: Header, payload: bytes) -> Answer:
        self._part(request, len(payload))[:] = np.frombuffer(payload, np.uint8)
        return {}, b""

    def _flush(self, request: Header, payload: bytes) -> Answer:
        self._buffers[int(request["buffer"])].sync_to_device()
        return {}, b""

    def _invalidate(self, request: Header, payload: bytes) -> Answer:
        self._buffers[int(request["buffer"])].sync_from_device()
        return {}, b""

    def _get(self, request: Header, payload: bytes) -> Answer:
        return {}, self._part(request, int(request["size"])).tobytes()

    def _part(self, request: Header, size: int) -> npt.NDArray[np.uint8]:
        """Part of a buffer, as the host of the buffer sees it."""
        array, offset = self._buffers[int(request["buffer"])].array, int(request["offset"])
        return _bounded(array, offset, size)

    def _run_log(self, request: Header, payload: bytes) -> Answer:
        log = self._transport.run_log()
        self._log = np.zeros(0, np.uint8) if log is None else np.ascontiguousarray(log).view(np.uint8).reshape(-1)
        return {"records": None if log is None else len(log)}, b""

    def _get_log(self, request: Header, payload: bytes) -> Answer:
        return {}, _bounded(self._log, int(request["offset"]), int(request["size"])).tobytes()

    def _close(self) -> None:
        buffers, self._buffers = self._buffers, {}
        for buffer in buffers.values():
            buffer.free()
        loaded, self._loaded = self._loaded, None
        if loaded is not None:
            loaded.close()


def _bounded(array: npt.NDArray[np.uint8], offset: int, size: int) -> npt.NDArray[np.uint8]:
    if not 0 <= offset <= offset + size <= len(array) or size > PIECE_BYTES:
        raise AnswerGarbledError(
            f"the host asked for bytes {offset} to {offset + size} of {len(array)}",
            f"a part of what is there, of at most {PIECE_BYTES} bytes",
            "use the same hetfab on host and board",
        )
    return array[offset : offset + size]


def _failed(do: str, error: OSError) -> BoardSoftwareError:
    return BoardSoftwareError(
        f"the board's system refuses what '{do}' needs: {error}",
        "a board whose files and devices this user may use",
        "check the board's storage and the user's permissions there, then run the same command again",
    )


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def _board_name() -> str | None:
    try:
        return _BOARD_FILE.read_bytes().rstrip(b"\0").decode("ascii", errors="replace")
    except OSError:
        return os.environ.get(_BOARD_VARIABLE) or None
