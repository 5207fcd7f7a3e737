# SPDX-License-Identifier: Apache-2.0
"""Overlay packages on a board: what arrives is compared with its checksum before anything of it can be loaded.

A package is the folder ``<name>`` below the store. Files are received as ``.<name>.<suffix>.part``; once all have the
checksums that were announced, the old description is removed, the files are renamed, and the new description last. What
was received and is no package when a file fails or the process ends is removed; after a power cut, by the next process.
"""

import contextlib
import errno
import fcntl
import hashlib
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from hetfab.overlay.errors import BoardBusyError, CopyDamagedError, DiskFullError, OutputUnwritableError

#: Environment variable that names another folder on the board.
STORE_VARIABLE = "HETFAB_BOARD_FOLDER"
#: In the order in which they are put in place.
SUFFIXES = ("hwh", "bit", "json")
#: Files that were received and are no package; the lock's holder is the only one who makes them.
_PARTS = "*/.*.part"
_CHUNK_BYTES = 1 << 20
#: Of a process whose files are limited in size, too.
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def store_folder() -> Path:
    """Where packages are kept: ``$HETFAB_BOARD_FOLDER``, or the user's data folder."""
    chosen = os.environ.get(STORE_VARIABLE)
    if chosen:
        return Path(chosen)
    data = os.environ.get("XDG_DATA_HOME")
    return (Path(data) if data else Path.home() / ".local" / "share") / "hetfab" / "overlays"


def checksum(path: Path) -> str:
    """SHA-256 of a file's content, "" where there is none."""
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while piece := file.read(_CHUNK_BYTES):
                digest.update(piece)
    except FileNotFoundError:
        return ""
    return digest.hexdigest()


class Store:
    """The packages of a board, for one process at a time. Use as a context manager.

    Args:
        folder: Made if it does not exist.

    Raises:
        BoardBusyError: Another process works with it.
        OutputUnwritableError: The folder cannot be made or written.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        with _naming(folder):
            folder.mkdir(parents=True, exist_ok=True)
            self._lock = (folder / ".lock").open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self._lock.close()
            raise BoardBusyError(
                "another program works with the overlay of this board",
                "one program at a time: there is one fabric",
                "wait for the other one, or end it on the board",
            ) from error
        self._discard_quietly()

    def __enter__(self) -> "Store":
        """Returns itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Removes what was received and is no package, and lets others in."""
        self._discard_quietly()
        self._lock.close()

    def has(self, name: str, checksums: Mapping[str, str]) -> bool:
        """Whether a package is there, with exactly these files.

        Raises:
            OutputUnwritableError: A file is there that cannot be read.
        """
        with _naming(self._folder / name, doing="read"):
            return all(checksum(self._file(name, suffix)) == checksums[suffix] for suffix in SUFFIXES)

    def description(self, name: str) -> Path:
        """Path of a package's description; it may not exist."""
        return self._file(name, "json")

    def receive(self, name: str, suffix: str, size: int, write: Callable[[BinaryIO], None]) -> str:
        """Takes a file of a package, which is not part of it before ``commit``.

        Args:
            name: The package's.
            suffix: The file's.
            size: Bytes that it is to have.
            write: Receives the open file.

        Returns:
            SHA-256 of what is in the file, read back from it.

        Raises:
            DiskFullError: It does not fit; nothing is left of it, nor of the package's other files.
            OutputUnwritableError: It cannot be written; nothing is left either.
        """
        part = self._part(name, suffix)
        with contextlib.ExitStack() as unless_whole:
            unless_whole.callback(self._discard_quietly)
            with _naming(part, size):
                part.parent.mkdir(parents=True, exist_ok=True)
                with part.open("wb") as file:
                    write(file)
                    file.flush()
                    os.fsync(file.fileno())
                found = checksum(part)
            unless_whole.pop_all()
        return found

    def commit(self, name: str, checksums: Mapping[str, str]) -> None:
        """Makes a package of the files that were received; without their checksums nothing of them is kept.

        Raises:
            CopyDamagedError: A file arrived damaged.
            OutputUnwritableError: The files cannot be read back or put in place.
        """
        with _naming(self._folder / name, doing="read"):
            damaged = [s for s in SUFFIXES if checksum(self._part(name, s)) != checksums[s]]
        if damaged:
            self._discard_quietly()
            raise CopyDamagedError(
                f"of the package '{name}' arrived damaged or short: "
                + ", ".join(f"'{name}.{suffix}'" for suffix in damaged),
                "files with the SHA-256 that they have on the host; none of this copy is kept",
                "run the same command again; if this stays, check the board's storage and the link",
            )
        with _naming(self._folder / name):
            self._file(name, "json").unlink(missing_ok=True)
            for suffix in SUFFIXES:
                self._part(name, suffix).replace(self._file(name, suffix))

    def _discard_quietly(self) -> None:
        """Removes what was received and is no package; this is for failures, which have an error of their own."""
        with contextlib.suppress(OSError):
            for part in self._folder.glob(_PARTS):
                part.unlink(missing_ok=True)

    def _file(self, name: str, suffix: str) -> Path:
        # What designs may be called; nothing of it is read by a shell.
        fits = isinstance(name, str) and name.isprintable() and "/" not in name and not name.startswith(".")
        if not fits or not name or suffix not in SUFFIXES:
            raise ValueError(f"no file of a package: {name!r}, {suffix!r}")
        return self._folder / name / f"{name}.{suffix}"

    def _part(self, name: str, suffix: str) -> Path:
        path = self._file(name, suffix)
        return path.with_name(f".{path.name}.part")


@contextlib.contextmanager
def _naming(path: Path, size: int = 0, *, doing: str = "write") -> Iterator[None]:
    """Puts failures of the card into the tree of errors."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        if error.errno in _NO_ROOM:
            raise DiskFullError(
                f"the board has no room for '{path.parent.name}/{path.name}' of {size:,} bytes: {reason}",
                "room for the package's files beside those that are there",
                f"free space on the board, or name another folder there in {STORE_VARIABLE}",
            ) from error
        raise OutputUnwritableError(
            f"cannot {doing} '{path}' on the board: {reason}",
            f"a folder on the board that this user may {doing}",
            f"check the folder's permissions, or name another one in {STORE_VARIABLE}",
        ) from error
