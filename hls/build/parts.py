# SPDX-License-Identifier: Apache-2.0
"""Edges in parts by compiled code, built on first use: an equal of ``overlay.parts.in_parts`` for a host."""

import ctypes
import functools

import numpy as np

from hetfab.hls.build.host_library import host_library
from hetfab.overlay.parts import (
    EDGES_FOR_A_RUN,
    PART_ROWS,
    Ids,
    Numbers,
    Parts,
    PartsMaker,
    block_width,
    in_parts,
    most_parts,
    source_mask,
)

_SOURCES = ("build/parts.cpp", "host/parts.hpp")


class _Limits(ctypes.Structure):
    _fields_ = [
        (name, ctypes.c_uint64)
        for name in ("destinations", "tile_rows", "width", "blocks", "most", "part_rows", "edges_for_a_run", "mask")
    ]


def compiled_parts_maker() -> PartsMaker:
    """The compiled equal of ``in_parts``, which orders the ids that it is given where they are if it may write them.

    Raises:
        CompilerMissingError: No C++ compiler.
        CompilerFailedError: The compiler refused the sources.
        CacheUnwritableError: The cache cannot be written.
    """
    return functools.partial(_in_parts, _library())


def _in_parts(library: ctypes.CDLL, indptr: Numbers, ids: Ids, vertices: int, slots: int, tile_rows: int) -> Parts:
    starts = np.ascontiguousarray(indptr, np.int64)
    if ids.dtype not in (np.uint16, np.uint32) or not _cover(starts, ids):
        return in_parts(indptr, ids, vertices, slots, tile_rows)
    given = np.require(ids, requirements=("C", "A", "W"))
    width, most = block_width(vertices, slots), most_parts(tile_rows)
    limits = _Limits(
        *(len(starts) - 1, tile_rows, width, max(1, -(-vertices // width))),
        *(most, PART_ROWS, EDGES_FOR_A_RUN, source_mask(ids, vertices)),
    )
    degrees = np.empty(most * (len(starts) - 1), np.int64)
    make = getattr(library, f"hetfab_parts_of_{given.itemsize}_bytes")
    count = make(ctypes.byref(limits), *(array.ctypes.data for array in (starts, given, degrees)))
    if not count:  # Memory did not suffice, and no id has moved.
        return in_parts(indptr, ids, vertices, slots, tile_rows)
    return Parts(count, tile_rows, degrees[: count * (len(starts) - 1)], given)


def _cover(starts: Numbers, ids: Ids) -> bool:
    """Whether the rows that begin there are the ids, as compiled code does not see where these end."""
    return bool(starts[0] == 0 and starts[-1] == len(ids) and np.all(starts[1:] >= starts[:-1]))


@functools.cache
def _library() -> ctypes.CDLL:
    library = host_library(_SOURCES)
    for size in (2, 4):
        make = getattr(library, f"hetfab_parts_of_{size}_bytes")
        make.argtypes, make.restype = [ctypes.c_void_p] * 4, ctypes.c_uint64
    return library
