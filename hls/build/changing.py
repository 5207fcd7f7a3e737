# SPDX-License-Identifier: Apache-2.0
"""Semantic graphs that follow changes of edges, compiled on first use: ``ChangingGraphs`` for a host."""

import ctypes
import functools
import weakref
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from hetfab.hls.build.host_library import host_library
from hetfab.overlay.errors import LimitExceededError
from hetfab.overlay.semantic.changing import NO_CHANGES, Changes, Ids, Integers
from hetfab.overlay.semantic.plan import Compose, Metapath, Plan

_SOURCES = ("build/changing.cpp", "host/changing.hpp")
_GRAPH = np.dtype(
    [("rows", "<u4"), ("columns", "<u4"), ("edges", "<u8"), ("most", "<u8"), ("is_left", "<u4"), ("unused", "<u4")]
)
_STEP = np.dtype([(name, "<u4") for name in ("left", "right", "out")])
_LARGEST_COUNT = (1 << 32) - 1


class CompiledChangingGraphs:
    """As ``overlay.semantic.changing.ChangingGraphs``, with the same results.

    Args:
        plan: Its steps, without transposes: whether a relation is another's reverse may change.
        edges: Of each relation by name, its rows, columns, and both ends of all edges, duplicates kept.

    Raises:
        CompilerMissingError: No C++ compiler.
        CompilerFailedError: The compiler refused the sources.
        CacheUnwritableError: The cache cannot be written.
        LimitExceededError: The counts do not fit into memory.
    """

    def __init__(self, plan: Plan, edges: Mapping[str, tuple[int, int, Ids, Ids]]) -> None:
        self._library = _library()
        self._names = list(edges)
        steps = [step for step in plan.steps if isinstance(step, Compose)]
        lefts = {step.left for step in steps}
        sizes: dict[Metapath, tuple[int, int]] = {
            (name,): (len(source), _LARGEST_COUNT) for name, (*_, source, _) in edges.items()
        }
        sizes |= {step.path: (step.edges, edges[step.left[-1]][1]) for step in steps}
        places = {path: place for place, path in enumerate(sizes)}
        self._outputs = {name: places[path] for name, path in plan.outputs.items()}
        self._rows = [edges[path[0]][0] for path in sizes]
        graphs = [(edges[path[0]][0], edges[path[-1]][1], *size, path in lefts, 0) for path, size in sizes.items()]
        products = [(places[step.left], places[step.right], places[step.path]) for step in steps]
        self._handle = self._made(np.array(graphs, _GRAPH), np.array(products, _STEP))
        self.update({name: (source, ends, np.ones(len(source), np.int8)) for name, (*_, source, ends) in edges.items()})

    def update(self, changes: Mapping[str, Changes]) -> dict[str, Ids]:
        """As of ``ChangingGraphs``."""
        given = [changes.get(name, NO_CHANGES) for name in self._names]
        starts = np.cumsum([0, *(len(signs) for *_, signs in given)], dtype=np.uint64)
        arrays = [
            np.concatenate([part, *(change[place] for change in given)]).astype(part.dtype, copy=False)
            for place, part in enumerate(NO_CHANGES)
        ]
        pointers = [array.ctypes.data for array in (starts, *arrays)]
        if self._library.hetfab_changing_update(self._handle, len(given), *pointers):
            raise _too_large()
        return {name: self._changed_rows(place) for name, place in self._outputs.items()}

    def rows(self, name: str, rows: Ids) -> tuple[Ids, Integers]:
        """As of ``ChangingGraphs``."""
        return self._columns(self._outputs[name], np.ascontiguousarray(rows, np.int64))

    def outputs(self) -> dict[str, tuple[Ids, Integers]]:
        """As of ``ChangingGraphs``."""
        return {name: self._columns(place, np.arange(self._rows[place])) for name, place in self._outputs.items()}

    def _made(self, graphs: npt.NDArray[np.void], steps: npt.NDArray[np.void]) -> int:
        handle: int | None = self._library.hetfab_changing_create(
            graphs.ctypes.data, len(graphs), steps.ctypes.data, len(steps)
        )
        if handle is None:
            raise _too_large()
        weakref.finalize(self, self._library.hetfab_changing_free, handle)
        return handle

    def _changed_rows(self, place: int) -> Ids:
        marks = np.zeros(self._rows[place], np.uint8)
        self._library.hetfab_changing_mark(self._handle, place, marks.ctypes.data)
        return np.flatnonzero(marks)

    def _columns(self, place: int, rows: Ids) -> tuple[Ids, Integers]:
        starts = np.zeros(len(rows) + 1, np.int64)
        which = self._handle, place, rows.ctypes.data, len(rows)
        self._library.hetfab_changing_degrees(*which, starts[1:].ctypes.data)
        np.cumsum(starts, out=starts)
        columns = np.empty(starts[-1], np.int32)
        self._library.hetfab_changing_columns(*which, columns.ctypes.data)
        return starts, columns


def _too_large() -> LimitExceededError:
    return LimitExceededError(
        "the counts of the paths of all semantic graphs do not fit into memory",
        "about 8 bytes for each edge of each part of a metapath",
        "follow fewer metapaths at once, or build the semantic graphs anew",
    )


@functools.cache
def _library() -> ctypes.CDLL:
    library = host_library(_SOURCES)
    pointer, number, index = ctypes.c_void_p, ctypes.c_uint64, ctypes.c_uint32
    arguments = {
        "create": [pointer, number, pointer, number],
        "free": [pointer],
        "update": [pointer, number, *[pointer] * 4],
        "mark": [pointer, index, pointer],
        "degrees": [pointer, index, pointer, number, pointer],
        "columns": [pointer, index, pointer, number, pointer],
    }
    for name, types in arguments.items():
        getattr(library, f"hetfab_changing_{name}").argtypes = types
    library.hetfab_changing_create.restype = pointer
    return library
