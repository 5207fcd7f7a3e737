# SPDX-License-Identifier: Apache-2.0
"""Edges in parts by compiled code, built on first use: an equal of ``overlay.parts.in_parts`` for a host."""

import ctypes
import functools
import hashlib
from pathlib import Path

import numpy as np

from hetfab.hls.build.cache import cached_file
from hetfab.hls.build.compiler import Compiler, find_compiler, host_processor
from hetfab.overlay.parts import (
    EDGES_FOR_A_RUN,
    PART_ROWS,
    Ids,
    Numbers,
    Parts,
    PartsMaker,
    block_width,
    most_parts,
    source_mask,
)

_HLS = Path(__file__).resolve().parents[1]
_SOURCES = ("build/parts.cpp", "host/parts.hpp")
_FLAGS = ("-std=c++17", "-shared", "-fPIC", "-Wall", "-Wextra", "-Wconversion", "-Werror", "-O3", "-march=native")


class _Limits(ctypes.Structure):
    _fields_ = [
        (name, ctypes.c_uint64)
        for name in (*("destinations", "tile_rows", "width", "blocks", "most", "part_rows", "edges_for_a_run", "mask"),)
    ]


def compiled_parts_maker() -> PartsMaker:
    """The compiled equal of ``in_parts``.

    Raises:
        CompilerMissingError: No C++ compiler.
        CompilerFailedError: The compiler refused the sources.
        CacheUnwritableError: The cache cannot be written.
    """
    return functools.partial(_in_parts, _library())


def _in_parts(library: ctypes.CDLL, indptr: Numbers, ids: Ids, vertices: int, slots: int, tile_rows: int) -> Parts:
    starts, given = np.ascontiguousarray(indptr, np.int64), np.ascontiguousarray(ids)
    width, most = block_width(vertices, slots), most_parts(tile_rows)
    limits = _Limits(
        *(len(starts) - 1, tile_rows, width, max(1, -(-vertices // width))),
        *(most, PART_ROWS, EDGES_FOR_A_RUN, source_mask(ids, vertices)),
    )
    out, degrees = np.empty_like(given), np.empty(most * (len(starts) - 1), np.int64)
    make = getattr(library, f"hetfab_parts_of_{given.itemsize}_bytes")
    count = make(ctypes.byref(limits), *(array.ctypes.data for array in (starts, given, out, degrees)))
    if not count:
        raise MemoryError
    return Parts(count, tile_rows, degrees[: count * (len(starts) - 1)], out)


@functools.cache
def _library() -> ctypes.CDLL:
    compiler = find_compiler()
    sources = [(_HLS / name).read_text("utf-8") for name in _SOURCES]
    key = hashlib.sha256("\0".join([*sources, *compiler.command, compiler.version, *_FLAGS, host_processor()]).encode())
    build = functools.partial(_compile, compiler=compiler)
    library = ctypes.CDLL(str(cached_file(f"parts-{key.hexdigest()[:24]}.so", build)))
    for size in (2, 4):
        make = getattr(library, f"hetfab_parts_of_{size}_bytes")
        make.argtypes, make.restype = [ctypes.c_void_p] * 5, ctypes.c_uint64
    return library


def _compile(folder: Path, *, compiler: Compiler) -> Path:
    library = folder / "parts.so"
    compiler.run([*_FLAGS, f"-I{_HLS}", "-o", str(library), str(_HLS / _SOURCES[0])])
    return library
