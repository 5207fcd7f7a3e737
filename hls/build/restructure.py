# SPDX-License-Identifier: Apache-2.0
"""The host's restructurer: orders of a semantic graph's edges by compiled code, built on first use."""

import ctypes
import functools
import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path

import numpy as np
import numpy.typing as npt

from hetfab.hls.build.cache import cached_file
from hetfab.hls.build.host_library import host_library
from hetfab.overlay.errors import CompilerMissingError
from hetfab.overlay.restructure.candidates import Candidate, Grow, Method
from hetfab.overlay.restructure.choose import Offer, Price, candidate_of, prices
from hetfab.overlay.restructure.make import make_schedule
from hetfab.overlay.restructure.matching import Matching
from hetfab.overlay.restructure.schedule import Numbers, Schedule, Sides
from hetfab.overlay.semantic.adjacency import Adjacency

_HLS = Path(__file__).resolve().parents[1]
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


class _Price(ctypes.Structure):
    _fields_ = [
        (name, ctypes.c_double)
        for name in (
            *("slots", "feature_bytes", "accumulator_bytes", "result_bytes", "passes"),
            *("bytes_per_host_ns", "bytes_per_cycle", "engine_vertices", "least_vertex_ns", "clearly"),
        )
    ]


_WORK = (
    *("share", "share_octave", "edge_ns", "vertex_ns", "run_ns", "look_ns", "sampled_ns", "visit_ns"),
    *("engine_edge_cycles", "engine_vertex_cycles", "engine_sampled_cycles", "engine_visit_cycles"),
    *("engine_edge_ns", "engine_run_ns"),
)


class _OrderPrice(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_uint32) for name in ("method", "grow")),
        *((name, ctypes.c_double) for name in _WORK),
    ]


class _Offer(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_uint32) for name in ("row", "by_engine")),
        *((name, ctypes.c_double) for name in ("pass_bytes", "order_bytes")),
    ]


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
        self._graph = graph

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

    def matching(self) -> Callable[[], int]:
        """Finds a maximum matching's size, all arguments and space at hand, so that its own time can be taken.

        It is matched from the side with fewer active vertices.
        """
        from_sources = self._graph.active_sources <= self._graph.active_destinations
        csr = self._sides.by_source if from_sources else self._sides.by_destination
        columns: Numbers = np.empty(csr.rows, np.uint32)
        dead: npt.NDArray[np.bool_] = np.empty(csr.columns, np.bool_)
        visits = ctypes.c_uint64()
        find, places = self._library.hetfab_orders_match, (ctypes.addressof(csr), columns.ctypes.data, dead.ctypes.data)

        def matching() -> int:
            return int(find(*places, ctypes.addressof(visits)))

        # The arrays live as long as the function that writes them.
        matching.arguments = (self, csr, columns, dead)  # type: ignore[attr-defined]
        return matching

    def choose(self, price: Price) -> Offer:
        """The order with the fewest predicted bytes, as ``overlay.restructure.choose`` defines it."""
        found = self.choice(price)()
        candidate = candidate_of(prices()["orders"][found.row], price.slots)
        return Offer(candidate, found.pass_bytes, found.order_bytes, bool(found.by_engine))

    def choice(self, price: Price) -> Callable[[], _Offer]:
        """The choice with all its arguments at hand, so that its own time can be taken."""
        given = _Price(
            *(price.slots, price.widths.feature, price.widths.accumulator, price.widths.result, price.passes),
            price.cost_bytes(1.0),
            price.bytes_per_second / price.engine_hz if price.engine_hz else 0.0,
            *(price.engine_vertices, prices()["least_vertex_ns"], prices()["clearly"]),
        )
        rows, found = _order_prices(), _Offer()
        places = [ctypes.addressof(part) for part in (self._sides, given, rows)]
        end = ctypes.addressof(found)
        decide = self._library.hetfab_orders_choose

        def choice() -> _Offer:
            decide(places[0], places[1], places[2], len(rows), end)
            return found

        # The arguments live as long as the function that reads them.
        choice.arguments = (given, rows, found)  # type: ignore[attr-defined]
        return choice

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
            np.empty(count, np.uint32) for count in (self._graph.edges, self._graph.edges, events, events, tiles)
        ]
        leaves: npt.NDArray[np.bool_] = np.empty(events, np.bool_)
        sources, destinations, at, vertices, starts = numbers
        places = [array.ctypes.data for array in (sources, destinations, at, vertices, leaves, starts)]
        self._library.hetfab_orders_copy(made, *places)
        return Schedule(sources, destinations, at, vertices, leaves, starts)


def cached_schedule(graph: Sides, candidate: Candidate) -> Schedule:
    """The schedule of a candidate, found once for a graph's content and then read from the user's cache.

    Where there is no compiler the golden model makes it: the same schedule, far slower.

    Raises:
        CompilerFailedError: The compiler refused the sources.
        CacheUnwritableError: The cache cannot be written.
    """
    texts = [(_HLS / name).read_text("utf-8") for name in _sources()]
    key = hashlib.sha256(repr((graph.sources, graph.destinations, candidate, texts)).encode())
    for side in (graph.by_source, graph.by_destination):
        key.update(side.starts.tobytes() + side.ids.tobytes())
    path = cached_file(f"schedule-{key.hexdigest()[:32]}.npz", functools.partial(_write_schedule, graph, candidate))
    with np.load(path) as arrays:
        return Schedule(**arrays)


def _write_schedule(graph: Sides, candidate: Candidate, folder: Path) -> Path:
    try:
        made = Restructurer(graph).make(candidate)
    except CompilerMissingError:
        made = make_schedule(graph, candidate)
    path = folder / "schedule.npz"
    np.savez(path, **{part.name: getattr(made, part.name) for part in fields(made)})
    return path


def match(graph: Adjacency) -> Matching:
    """A maximum matching from the rows of a graph, equal to the golden model's."""
    starts, ids = graph.starts.astype(np.uint32), graph.ids.astype(np.uint32)
    csr = _Csr(graph.rows, graph.columns, starts.ctypes.data, ids.ctypes.data)
    columns: Numbers = np.empty(csr.rows, np.uint32)
    dead: npt.NDArray[np.bool_] = np.empty(csr.columns, np.bool_)
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
def _order_prices() -> "ctypes.Array[_OrderPrice]":
    table = prices()["orders"]
    methods, grows = [*Method], [*Grow]
    rows = [
        _OrderPrice(
            methods.index(Method(row["method"])), grows.index(Grow(row["grow"])), *(row[name] for name in _WORK)
        )
        for row in table
    ]
    return (_OrderPrice * len(rows))(*rows)


@functools.cache
def _library() -> ctypes.CDLL:
    library = host_library(_sources())
    pointer = ctypes.c_void_p
    library.hetfab_orders_make.argtypes = [pointer, pointer]
    library.hetfab_orders_make.restype = pointer
    library.hetfab_orders_find.argtypes = [pointer, pointer]
    library.hetfab_orders_find.restype = ctypes.c_uint64
    library.hetfab_orders_choose.argtypes = [pointer, pointer, pointer, ctypes.c_uint32, pointer]
    library.hetfab_orders_choose.restype = None
    library.hetfab_orders_replay.argtypes = [pointer] * 4
    library.hetfab_orders_replay.restype = pointer
    library.hetfab_orders_sizes.argtypes = [pointer] * 3
    library.hetfab_orders_copy.argtypes = [pointer] * 7
    library.hetfab_orders_free.argtypes = [pointer]
    library.hetfab_orders_match.argtypes = [pointer] * 4
    library.hetfab_orders_match.restype = ctypes.c_uint32
    return library


def _sources() -> list[str]:
    headers = (_HLS / "host" / "graph").glob("*.hpp")
    return ["build/restructure.cpp", *sorted(f"host/graph/{path.name}" for path in headers)]
