# SPDX-License-Identifier: Apache-2.0
"""The host's semantic graph builder: carries out a plan on graphs in an emulated DRAM, compiled on first use."""

import ctypes
import functools
import mmap
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hetfab.hls.build.host_library import host_library
from hetfab.overlay.errors import DeviceMemoryError
from hetfab.overlay.layouts import padded
from hetfab.overlay.semantic.adjacency import Adjacency
from hetfab.overlay.semantic.plan import Compose, Metapath, Plan, Transpose

_SOURCES = ("build/semantic.cpp", "host/semantic.hpp", "host/bitmaps.hpp")
_ALIGNMENT = 64
_MESSAGE_BYTES = 256

_GRAPH = np.dtype([("rows", "<u4"), ("columns", "<u4"), ("starts", "<u8"), ("ids", "<u8"), ("capacity", "<u8")])
_STEP = np.dtype([(name, "<u4") for name in ("kind", "left", "right", "out", "threshold")])
_TOTALS = np.dtype([("expansions", "<u8"), ("peak_bytes", "<u8")])
_COMPOSE, _TRANSPOSE, _DROP = range(3)


@dataclass(frozen=True)
class BuildTotals:
    """What a call of the builder did.

    Attributes:
        expansions: Edges of right graphs that edges of left graphs led to.
        peak_bytes: Largest memory of built graphs and of the builder's own arrays at once; relations apart.
    """

    expansions: int
    peak_bytes: int


class SemanticGraphBuilder:
    """A plan, its relations in an emulated DRAM, and space there for what it builds.

    Space is as large as a graph could become; only what is written takes memory.
    """

    def __init__(self, plan: Plan, relations: Mapping[str, Adjacency], march: str = "native") -> None:
        """Lays out all graphs and copies the relations that steps read.

        Args:
            plan: What to build.
            relations: Each relation by name, without duplicate edges.
            march: The processor that it is compiled for, as ``-march`` names it.

        Raises:
            CompilerMissingError: No C++ compiler.
            CompilerFailedError: The compiler refused the sources.
            CacheUnwritableError: The cache cannot be written.
        """
        self._library = _library(march)
        self._plan = plan
        self._relations = dict(relations)
        self._places: dict[Metapath, int] = {}
        self._rows: list[tuple[int, int, int, int, int]] = []
        self._size = 0
        read = [path for step in plan.steps if isinstance(step, Compose) for path in (step.left, step.right)]
        read += [step.source for step in plan.steps if isinstance(step, Transpose)]
        for path in dict.fromkeys([*read, *plan.outputs.values()]):
            if len(path) == 1:
                self._add(path, relations[path[0]].edges)
        self._inputs_end = self._size = padded(self._size, mmap.PAGESIZE)
        for step in plan.steps:
            if isinstance(step, Compose | Transpose):
                self._add(step.path, step.most_edges)
        self._dram = mmap.mmap(-1, padded(self._size + 1, mmap.PAGESIZE), mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self._dram.madvise(mmap.MADV_HUGEPAGE)
        self._bytes = np.frombuffer(self._dram, np.uint8)
        self._graphs = np.array(self._rows, _GRAPH)
        self._steps = np.array([self._step(step) for step in plan.steps], _STEP)
        for path, place in self._places.items():
            if len(path) == 1:
                self._write(place, relations[path[0]])

    def build(self) -> BuildTotals:
        """Carries out all steps.

        Raises:
            DeviceMemoryError: A graph has more edges than the plan said it could have.
        """
        totals = np.zeros((), _TOTALS)
        message = ctypes.create_string_buffer(_MESSAGE_BYTES)
        failed = self._library.hetfab_semantic_build(
            self._bytes.ctypes.data,
            self._graphs.ctypes.data,
            self._steps.ctypes.data,
            len(self._steps),
            totals.ctypes.data,
            message,
            _MESSAGE_BYTES,
        )
        if failed:
            raise DeviceMemoryError(
                message.value.decode(), "relations as the plan was made for", "plan with these relations"
            )
        return BuildTotals(int(totals["expansions"]), int(totals["peak_bytes"]))

    def release(self) -> None:
        """Gives back the memory of what was built: the next call finds fresh pages."""
        self._dram.madvise(mmap.MADV_DONTNEED, self._inputs_end)

    def outputs(self) -> dict[str, Adjacency]:
        """Copies of the semantic graphs by metapath, after ``build``."""
        return {name: self._graph(path) for name, path in self._plan.outputs.items()}

    def _add(self, path: Metapath, capacity: int) -> None:
        rows, columns = self._relations[path[0]].rows, self._relations[path[-1]].columns
        starts = padded(self._size, _ALIGNMENT)
        ids = padded(starts + 4 * (rows + 1), _ALIGNMENT)
        self._size = ids + 4 * capacity
        self._places[path] = len(self._rows)
        self._rows.append((rows, columns, starts, ids, capacity))

    def _step(self, step: object) -> tuple[int, int, int, int, int]:
        places = self._places
        if isinstance(step, Compose):
            return _COMPOSE, places[step.left], places[step.right], places[step.path], step.threshold
        if isinstance(step, Transpose):
            return _TRANSPOSE, places[step.source], 0, places[step.path], 0
        [dropped] = [places[path] for path in places if path == getattr(step, "path", None)]
        return _DROP, dropped, 0, 0, 0

    def _write(self, place: int, graph: Adjacency) -> None:
        starts, ids = self._arrays(place, graph.edges)
        starts[:], ids[:] = graph.starts, graph.ids

    def _graph(self, path: Metapath) -> Adjacency:
        place = self._places[path]
        starts, _ = self._arrays(place, 0)
        starts, ids = self._arrays(place, int(starts[-1]))
        return Adjacency(starts.astype(np.int64), ids.astype(np.int64), self._rows[place][1])

    def _arrays(self, place: int, edges: int) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.uint32]]:
        rows, _, starts, ids, _ = self._rows[place]
        return (
            self._bytes[starts : starts + 4 * (rows + 1)].view(np.uint32),
            self._bytes[ids : ids + 4 * edges].view(np.uint32),
        )


@functools.cache
def _library(march: str) -> ctypes.CDLL:
    library = host_library(_SOURCES, march)
    pointers = [ctypes.c_void_p] * 3
    library.hetfab_semantic_build.argtypes = [
        *pointers,
        ctypes.c_uint64,
        ctypes.c_void_p,
        ctypes.c_char_p,
        ctypes.c_uint64,
    ]
    return library
