# SPDX-License-Identifier: Apache-2.0
"""Reads zips of numpy arrays whose sizes are checked before memory is taken for them, and files up to a size.

Zips are of the methods that numpy writes, stored and deflated. A member can then be no larger than 1,032 times its
compressed bytes (RFC 1951: at best 258 bytes for two bits), which are in the file, and an array takes what its member
holds. Nothing is unpickled.
"""

import contextlib
import math
import os
import zipfile
import zlib
from pathlib import Path
from tokenize import TokenError
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

#: What reading a damaged archive raises.
DAMAGE = (OSError, ValueError, KeyError, EOFError, NotImplementedError, RuntimeError, zlib.error, zipfile.BadZipFile)
#: Largest JSON file: a thousand times what designs, boards, packages and descriptions of graphs take.
LARGEST_JSON_BYTES = 16 << 20
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_DEFLATE_RATIO, _SLACK_BYTES = 1032, 1 << 16
_CHUNK_BYTES = 1 << 22
_READ_HEADER = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


def read_limited(path: Path, largest_bytes: int) -> bytes:
    """Content of a file.

    Raises:
        OSError: It cannot be read.
        ValueError: It is larger than ``largest_bytes``, or its path is none.
    """
    with path.open("rb") as file:
        raw = file.read(largest_bytes + 1)
    if len(raw) > largest_bytes:
        raise ValueError(f"it is larger than {largest_bytes:,} bytes")
    return raw


class ArrayArchive:
    """A zip of ``.npy`` arrays and other members. Use as a context manager.

    Args:
        file: Path or open file.

    Raises:
        OSError: It cannot be read.
        ValueError: A member lies about its size, or all together are larger than this machine's memory.
        RuntimeError: It is damaged in another way, as one of ``DAMAGE``.
    """

    def __init__(self, file: Path | BinaryIO) -> None:
        with contextlib.ExitStack() as unless_sound:
            self._zip = unless_sound.enter_context(zipfile.ZipFile(file))
            self._entries = {entry.filename: entry for entry in self._zip.infolist()}
            self._check_sizes()
            unless_sound.pop_all()

    def __enter__(self) -> "ArrayArchive":
        """Returns itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Closes the file."""
        self._zip.close()

    def __contains__(self, name: object) -> bool:
        """Whether there is an array of a name."""
        return f"{name}.npy" in self._entries

    def names(self) -> list[str]:
        """Names of the arrays."""
        return [name.removesuffix(".npy") for name in self._entries if name.endswith(".npy")]

    def member(self, name: str, largest_bytes: int) -> bytes:
        """Content of a member that is no array.

        Raises:
            KeyError: There is none.
            ValueError: It is too large.
        """
        entry = self._entry(name)
        if entry.file_size > largest_bytes:
            raise ValueError(f"'{name}' is larger than {largest_bytes:,} bytes")
        return self._zip.read(entry)

    def __getitem__(self, name: str) -> npt.NDArray[Any]:
        """An array.

        Raises:
            KeyError: There is none.
            ValueError: It is no array, is pickled, or has another size than its header says.
        """
        entry = self._entry(f"{name}.npy")
        with self._zip.open(entry) as member:
            shape, by_columns, dtype = _header(member)
            size = math.prod(shape) * dtype.itemsize
            if size != entry.file_size - member.tell():
                raise ValueError(f"its header says {size} bytes, it has {entry.file_size - member.tell()}")
            raw = np.empty(size, np.uint8)
            view, place = raw.data, 0
            while place < size:
                count = member.readinto(view[place : place + _CHUNK_BYTES])  # type: ignore[attr-defined]
                if not count:
                    raise EOFError(f"it ends {size - place} bytes early")
                place += count
            if member.read(1):  # Reading to the end compares the checksum.
                raise ValueError("it is longer than the directory says")
        return np.ndarray(shape, dtype, raw, order="F" if by_columns else "C")

    def _entry(self, name: str) -> zipfile.ZipInfo:
        if name not in self._entries:
            raise KeyError(f"There is no item named {name!r} in the archive")
        return self._entries[name]

    def _check_sizes(self) -> None:
        if len(self._entries) != len(self._zip.infolist()):
            raise ValueError("it has several members of one name")
        for name, entry in self._entries.items():
            if entry.compress_type not in _METHODS:
                raise ValueError(f"'{name}' is compressed in another way than by deflate")
            if entry.file_size > _DEFLATE_RATIO * entry.compress_size + _SLACK_BYTES:
                raise ValueError(f"'{name}' cannot have the {entry.file_size} bytes that the directory says")
        total = sum(entry.file_size for entry in self._entries.values())
        there = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        if total > there:
            raise ValueError(f"its arrays take {total:,} bytes, this machine has {there:,} bytes of memory")


def _header(member: Any) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = np.lib.format.read_magic(member)
    if version not in _READ_HEADER:
        raise ValueError(f"arrays of version {version} are not read")
    try:
        shape, by_columns, dtype = _READ_HEADER[version](member)
    except (SyntaxError, TokenError, TypeError, RecursionError, MemoryError, OverflowError) as error:
        raise ValueError(f"its header is damaged: {error}") from error
    if dtype.hasobject:
        raise ValueError("Object arrays cannot be loaded when allow_pickle=False")
    # Elements of no bytes would let any shape pass for what a member holds.
    if dtype.itemsize == 0 or dtype.subdtype is not None or len(shape) > 32 or any(size < 0 for size in shape):
        raise ValueError(f"its header has the shape {shape} of {dtype}")
    return shape, by_columns, dtype
