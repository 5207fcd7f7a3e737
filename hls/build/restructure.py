# SPDX-License-Identifier: Apache-2.0
"""The host's restructurer: orders of a semantic graph's edges by compiled code, built on first use."""

import ctypes
import functools
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt

from hetfab.hls.build.cache import cached_file
from hetfab.hls.build.compiler import Compiler, find_compiler, host_processor
from hetfab.overlay.restructure.candidates import Candidate
from hetfab.overlay.restructure.matching import Matching
from hetfab.overlay.restructure.schedule import Numbers, Schedule, Sides
from hetfab.overlay.semantic.adjacency import Adjacency

_HLS = Path(__file__).resolve().parents[1]
_SOURCE = _HLS / "build" / "restructure.cpp"
_FLAGS = ("-std=c++17", "-O3", "-march=native", "-shared", "-fPIC", "-Wall", "-Wextra", "-Wconversion", "-Werror")
_NONE = 0xFFFFFFFF


class _Csr(ctypes.Structure):
    _fields_ = [
        ("rows", ctypes.c_uint32),
        ("columns", ctypes.c_uint32),
        ("starts", ctypes.c_void_p),
        ("ids", ctypes.c_void_p),
    ]


class _Sides(ctypes.Structure):
    _fields_ = [("by_source", _Csr), ("by_destination", _Csr)]


class _Candidate(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint32) for name in ("method", "slots", "grow", "accumulator_weight", "farthest")]


class Restructurer:
    """A semantic graph as the compiled code reads it."""

    def __init__(self, graph: Sides) -> None:
        """Copies the graph to 32-bit arrays.

        Raises:
            CompilerMissingError: No C++ compiler.
            CompilerFailedError: The compiler refused the sources.
            CacheUnwritableError: The cache cannot be written.
        """
        self._library = _library()
        self._arrays: list[Numbers] = []
        self._sides = _Sides(self._csr(graph.by_source), self._csr(graph.by_destination))
        self._edges = graph.edges

    def make(self, candidate: Candidate) -> Schedule:
        """The schedule of a candidate, equal to the golden model's."""
        given = _given(candidate)
        with self._released(self._library.hetfab_orders_make(ctypes.byref(self._sides), ctypes.byref(given))) as made:
            return self._copied(made)

    def find(self, candidate: Candidate) -> None:
        """Finds what an executing buffer needs of a candidate's order and throws it away: what the order costs.

        That is the runs of tiles, the order of destinations, or the whole log.
        """
        self._library.hetfab_orders_find(ctypes.byref(self._sides), ctypes.byref(_given(candidate)))

    def replay(self, sources: Numbers, destinations: Numbers, slots: int, accumulator_weight: int = 0) -> Schedule:
        """The schedule of a given order of edges.

        Args:
            sources: uint32 [edges], the source of each edge in order.
            destinations: uint32 [edges], the destination of each.
            slots: Vertices that the buffer holds.
            accumulator_weight: Vertices leave by their farthest use; 0: by their least recent use.
        """
        given = _Candidate(0, slots, 0, max(accumulator_weight, 1), accumulator_weight > 0)
        order = [np.ascontiguousarray(ends, np.uint32) for ends in (sources, destinations)]
        pointer = self._library.hetfab_orders_replay(
            ctypes.byref(self._sides), order[0].ctypes.data, order[1].ctypes.data, ctypes.byref(given)
        )
        with self._released(pointer) as made:
            return self._copied(made)

    def _csr(self, graph: Adjacency) -> _Csr:
        starts, ids = graph.starts.astype(np.uint32), graph.ids.astype(np.uint32)
        self._arrays += [starts, ids]
        return _Csr(graph.rows, graph.columns, starts.ctypes.data, ids.ctypes.data)

    @contextmanager
    def _released(self, pointer: int) -> Iterator[int]:
        try:
            yield pointer
        finally:
            self._library.hetfab_orders_free(pointer)

    def _sizes(self, made: int) -> tuple[int, int]:
        sizes = [ctypes.c_uint64(), ctypes.c_uint64()]
        self._library.hetfab_orders_sizes(made, *(ctypes.byref(size) for size in sizes))
        return sizes[0].value, sizes[1].value

    def _copied(self, made: int) -> Schedule:
        events, tiles = self._sizes(made)
        numbers: list[Numbers] = [
            np.empty(count, np.uint32) for count in (self._edges, self._edges, events, events, tiles)
        ]
        leaves: npt.NDArray[np.bool_] = np.empty(events, np.bool_)
        sources, destinations, at, vertices, starts = numbers
        places = [array.ctypes.data for array in (sources, destinations, at, vertices, leaves, starts)]
        self._library.hetfab_orders_copy(made, *places)
        return Schedule(sources, destinations, at, vertices, leaves, starts)


def match(graph: Adjacency) -> Matching:
    """A maximum matching from the rows of a graph, equal to the golden model's."""
    starts, ids = graph.starts.astype(np.uint32), graph.ids.astype(np.uint32)
    csr = _Csr(graph.rows, graph.columns, starts.ctypes.data, ids.ctypes.data)
    columns: Numbers = np.empty(graph.rows, np.uint32)
    dead: npt.NDArray[np.bool_] = np.empty(graph.columns, np.bool_)
    visits = ctypes.c_uint64()
    _library().hetfab_orders_match(ctypes.byref(csr), columns.ctypes.data, dead.ctypes.data, ctypes.byref(visits))
    return Matching(np.where(columns == _NONE, -1, columns.astype(np.int64)), dead, visits.value)


def _given(candidate: Candidate) -> _Candidate:
    return _Candidate(
        list(type(candidate.method)).index(candidate.method),
        candidate.slots,
        list(type(candidate.grow)).index(candidate.grow),
        candidate.accumulator_weight,
        candidate.farthest,
    )


@functools.cache
def _library() -> ctypes.CDLL:
    compiler = find_compiler()
    texts = [path.read_text("utf-8") for path in (_SOURCE, *sorted((_HLS / "host" / "graph").glob("*.hpp")))]
    parts = [*texts, *compiler.command, compiler.version, *_FLAGS, host_processor()]
    key = hashlib.sha256("\0".join(parts).encode()).hexdigest()
    path = cached_file(f"restructure-{key[:24]}.so", functools.partial(_compile, compiler=compiler))
    library = ctypes.CDLL(str(path))
    pointer = ctypes.c_void_p
    library.hetfab_orders_make.argtypes = [pointer, pointer]
    library.hetfab_orders_make.restype = pointer
    library.hetfab_orders_find.argtypes = [pointer, pointer]
    library.hetfab_orders_find.restype = ctypes.c_uint64
    library.hetfab_orders_replay.argtypes = [pointer] * 4
    library.hetfab_orders_replay.restype = pointer
    library.hetfab_orders_sizes.argtypes = [pointer] * 3
    library.hetfab_orders_copy.argtypes = [pointer] * 7
    library.hetfab_orders_free.argtypes = [pointer]
    library.hetfab_orders_match.argtypes = [pointer] * 4
    library.hetfab_orders_match.restype = ctypes.c_uint32
    return library


def _compile(folder: Path, *, compiler: Compiler) -> Path:
    library = folder / "restructure.so"
    compiler.run([*_FLAGS, f"-I{_HLS}", "-o", str(library), str(_SOURCE)])
    return library
