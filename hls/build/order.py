# SPDX-License-Identifier: Apache-2.0
"""Checks that semaphores order all accesses of a bound stream, without executing it (docs/order.md)."""

import ctypes
import functools
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

import numpy as np
import numpy.typing as npt

from hetfab.hls.build.cache import cached_file
from hetfab.hls.build.compiler import Compiler, find_compiler, host_processor
from hetfab.overlay.design import Geometry
from hetfab.overlay.errors import StreamInvalidError
from hetfab.overlay.isa.codec import Segment
from hetfab.overlay.isa.generate_sets import set_constants
from hetfab.overlay.isa.spec import isa

_HLS = Path(__file__).resolve().parents[1]
_SOURCE = _HLS / "build" / "order.cpp"
_INCLUDED = ("build/order_check.hpp", "build/access_classes.hpp", "build/sets.hpp", "include/hetfab/isa.hpp")
_FLAGS = ("-std=c++17", "-O3", "-march=native", "-shared", "-fPIC", "-Wall", "-Wextra", "-Wconversion", "-Werror")
_TEXT_BYTES = 512


@dataclass(frozen=True)
class Race:
    """Two accesses that no chain of semaphores orders.

    Attributes:
        earlier: Index of the instruction that comes first in the stream.
        later: Index of the other one.
        memory: Memory that both touch.
        text: Names both instructions, the memory, the range and who reads and writes.
    """

    earlier: int
    later: int
    memory: str
    text: str


class _Status(IntEnum):
    ORDERED = 0
    RACE = 1
    UNKNOWN_OPERATION = 2
    OUTSIDE_SEGMENT = 3
    UNSIGNALLED = 4


_REASONS = {
    _Status.UNKNOWN_OPERATION: "names no operation of the instruction set",
    _Status.OUTSIDE_SEGMENT: "has an address outside its segment",
    _Status.UNSIGNALLED: "waits for a semaphore before it is signalled",
}


class _Finding(ctypes.Structure):
    _fields_ = [
        ("status", ctypes.c_uint32),
        ("earlier", ctypes.c_uint32),
        ("later", ctypes.c_uint32),
        ("memory", ctypes.c_uint32),
        ("text", ctypes.c_char * _TEXT_BYTES),
    ]


def check_accesses(
    words: npt.NDArray[np.uint64], geometry: Geometry, segments: Mapping[Segment, tuple[int, int]]
) -> Race | None:
    """Finds two accesses of a stream to the same memory, not both reads, that may happen in any order.

    Args:
        words: uint64 ``[n, 2]``, a bound stream, low halves first.
        geometry: What it was compiled for.
        segments: Physical address of the first byte, and size in bytes, of each segment.

    Returns:
        The first race in the order of the stream, None when all accesses are ordered.

    Raises:
        StreamInvalidError: An instruction is unknown, addresses something outside its segment, or waits for a
            semaphore that the stream signals later.
        EnvironmentLacksError: No compiler, or no folder for what it builds.
    """
    stream = np.ascontiguousarray(words, np.uint64)
    finding = _Finding()
    _library().hetfab_check_accesses(
        stream.ctypes.data, len(stream), _constants(geometry), _places(segments), ctypes.byref(finding)
    )
    status = _Status(finding.status)
    if status in _REASONS:
        raise StreamInvalidError(
            f"instruction {finding.later} {_REASONS[status]}",
            "a stream that DISPATCH can issue to its end",
            "report this: the compiler wrote a wrong program",
        )
    if status is _Status.ORDERED:
        return None
    return Race(finding.earlier, finding.later, isa().memories[finding.memory].name, finding.text.decode())


def build_order_check() -> Path:
    """Compiles the check, which serves all designs, or finds it in the cache.

    Raises:
        CompilerMissingError: No C++ compiler.
        CompilerFailedError: The compiler refused the sources.
        CacheUnwritableError: The cache cannot be written.
    """
    compiler = find_compiler()
    texts = [path.read_text("utf-8") for path in (_SOURCE, *(_HLS / name for name in _INCLUDED))]
    parts = [*texts, *compiler.command, compiler.version, *_FLAGS, host_processor()]
    key = hashlib.sha256("\0".join(parts).encode()).hexdigest()
    return cached_file(f"order-{key[:24]}.so", functools.partial(_compile, compiler=compiler))


def _compile(folder: Path, *, compiler: Compiler) -> Path:
    library = folder / "order.so"
    compiler.run([*_FLAGS, f"-I{_HLS / 'include'}", "-o", str(library), str(_SOURCE)])
    return library


def _constants(geometry: Geometry) -> "ctypes.Array[ctypes.c_uint64]":
    names = set_constants()
    constants = geometry.constants()
    return (ctypes.c_uint64 * len(names))(*(constants[name] for name in names))


def _places(segments: Mapping[Segment, tuple[int, int]]) -> "ctypes.Array[ctypes.c_uint64]":
    places = [segments.get(segment, (0, 0)) for segment in Segment]
    values = [base for base, _ in places] + [size for _, size in places]
    return (ctypes.c_uint64 * len(values))(*values)


@functools.cache
def _library() -> ctypes.CDLL:
    functions = ctypes.CDLL(str(build_order_check()))
    pointer = ctypes.c_void_p
    functions.hetfab_check_accesses.argtypes = [pointer, ctypes.c_uint64, pointer, pointer, pointer]
    functions.hetfab_check_accesses.restype = None
    return functions
