# SPDX-License-Identifier: Apache-2.0
"""Writes a plan of semantic graphs as instructions of SGB, and says where each graph is in the graph segment.

All instructions are one engine's, so they need no semaphores. A graph's place is as large as the graph could become.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from hetfab.overlay.design import Geometry
from hetfab.overlay.errors import DesignTooSmallError, LimitExceededError, counted
from hetfab.overlay.isa import codec
from hetfab.overlay.isa.codec import Segment
from hetfab.overlay.isa.spec import isa
from hetfab.overlay.isa.words import pack, program_address
from hetfab.overlay.layouts import padded
from hetfab.overlay.program import Words
from hetfab.overlay.semantic.adjacency import Adjacency
from hetfab.overlay.semantic.plan import Compose, Drop, Metapath, Plan, Step, Transpose

_BLOCK = isa().block_bytes
#: Edges that an instruction may follow: its token counts them.
MOST_FOLLOWED = next(field.largest for field in isa().token if field.name == "count0")
_NUMBER_BYTES = 4


@dataclass(frozen=True)
class GraphPlace:
    """Where a graph is in the graph segment, in the layout 'adjacency'.

    Attributes:
        offset: Of its starts.
        rows: Vertices that have a row.
        columns: Vertices that ids name.
        room: Edges that there is room for.
    """

    offset: int
    rows: int
    columns: int
    room: int

    @property
    def ids_offset(self) -> int:
        """Offset of its ids."""
        return self.offset + padded(_NUMBER_BYTES * (self.rows + 1), _BLOCK)

    @property
    def end(self) -> int:
        """The first block behind it."""
        return padded(self.ids_offset + _NUMBER_BYTES * self.room, _BLOCK)

    def arrays(
        self, segment: npt.NDArray[np.uint8], edges: int
    ) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.uint32]]:
        """Views of its starts and of its first ``edges`` ids in the content of the segment."""
        starts = segment[self.offset : self.offset + _NUMBER_BYTES * (self.rows + 1)]
        ids = segment[self.ids_offset : self.ids_offset + _NUMBER_BYTES * edges]
        return starts.view(np.uint32), ids.view(np.uint32)

    def write(self, segment: npt.NDArray[np.uint8], graph: Adjacency) -> None:
        """Puts a graph there."""
        starts, ids = self.arrays(segment, graph.edges)
        starts[:], ids[:] = graph.starts, graph.ids

    def read(self, segment: npt.NDArray[np.uint8]) -> Adjacency:
        """A copy of the graph that is there."""
        starts, _ = self.arrays(segment, 0)
        starts, ids = self.arrays(segment, int(starts[-1]))
        return Adjacency(starts.astype(np.int64), ids.astype(np.int64), self.columns)

    def fields(self) -> dict[str, int]:
        """What instructions say of it."""
        return {"rows": self.rows, "edges": self.room, "address": program_address(Segment.GRAPH, self.offset)}


@dataclass(frozen=True, eq=False)
class GraphStream:
    """A plan as a stream.

    Attributes:
        words: uint64 [n, 2].
        places: Of each relation that is read and each graph that is built, by path; those of dropped graphs are reused.
        read_bytes: What relations take; graphs that are built are behind it, from a page boundary on.
        size: Bytes of the graph segment.
    """

    words: Words
    places: Mapping[Metapath, GraphPlace]
    read_bytes: int
    size: int


def semantic_stream(plan: Plan, relations: Mapping[str, Adjacency], geometry: Geometry) -> GraphStream:
    """Writes a plan as instructions.

    Args:
        plan: Its steps.
        relations: Each relation by name.
        geometry: What the overlay has.

    Raises:
        DesignTooSmallError: The design lacks the engine, or a graph has more columns than its bitmap.
        LimitExceededError: An instruction could follow more edges than it counts.
        FieldRangeError: A graph has more rows or edges than the fields can name.
    """
    _check_geometry(plan, relations, geometry)
    places: dict[Metapath, GraphPlace] = {}
    read = [path for step in plan.steps for path in _operands(step) if len(path) == 1]
    end = 0
    for path in dict.fromkeys([*read, *(path for path in plan.outputs.values() if len(path) == 1)]):
        graph = relations[path[0]]
        places[path] = GraphPlace(end, graph.rows, graph.columns, graph.edges)
        end = places[path].end
    read_bytes = padded(end, isa().size("page_bytes"))
    room, words = _Room(read_bytes), list[int]()
    bitmaps: dict[Metapath, int] = {}
    for step in plan.steps:
        if isinstance(step, Drop):
            room.give(places[step.path].offset, places[step.path].end)
            if step.path in bitmaps:
                first_byte = bitmaps.pop(step.path)
                room.give(first_byte, first_byte + _bitmap_bytes(places[step.path]))
            continue
        rows, columns = relations[step.path[0]].rows, relations[step.path[-1]].columns
        place = GraphPlace(0, rows, columns, step.most_edges)
        places[step.path] = replace(place, offset=room.take(place.end))
        _check_followed(step, places, geometry)
        if isinstance(step, Transpose):
            words += [
                codec.configure_left(**places[step.source].fields()),
                codec.transpose(**places[step.path].fields()),
            ]
            continue
        first = step.bitmap_bytes > 0 and step.right not in bitmaps
        if first:
            bitmaps[step.right] = room.take(_bitmap_bytes(places[step.right]))
        bitmap = _bitmap(step, geometry, places[step.path].columns, bitmaps.get(step.right))
        words += _composition(step, places, bitmap, widens=first)
    return GraphStream(pack(words), places, read_bytes, room.end)


class _Room:
    """Gives out parts of the graph segment: what was given back first, where it is large enough."""

    def __init__(self, end: int) -> None:
        self.end = end
        self._free: list[tuple[int, int]] = []

    def take(self, size: int) -> int:
        """The first byte of a part of so many bytes, whole blocks."""
        for number, (first, end) in enumerate(self._free):
            if end - first >= size:
                self._free[number] = (first + size, end)
                return first
        self.end += size
        return self.end - size

    def give(self, first: int, end: int) -> None:
        """Takes a part back."""
        self._free.append((first, end))


def _bitmap_bytes(right: GraphPlace) -> int:
    """Room for the bitmaps of a graph: as much as its ids take."""
    return padded(_NUMBER_BYTES * right.room, _BLOCK)


def _operands(step: Step) -> tuple[Metapath, ...]:
    if isinstance(step, Compose):
        return step.left, step.right
    return (step.source,) if isinstance(step, Transpose) else ()


def _bitmap(step: Compose, geometry: Geometry, columns: int, place: int | None) -> int:
    """How rows are collected; ``place`` is where bitmaps of the right graph are, None if there are none."""
    address = program_address(Segment.GRAPH, place or 0)
    threshold = min(step.threshold, geometry.sgb_ids)
    return codec.configure_bitmap(wide=place is not None, threshold=threshold, columns=columns, address=address)


def _composition(step: Compose, places: Mapping[Metapath, GraphPlace], bitmap: int, *, widens: bool) -> list[int]:
    """A composition, and before it the bitmaps of its right graph where it is the first to read them."""
    words = [codec.configure_left(**places[step.left].fields()), codec.configure_right(**places[step.right].fields())]
    words += [bitmap, codec.widen()] if widens else [bitmap]
    return [*words, codec.compose(**places[step.path].fields(), to_fifo=0)]


def _check_followed(step: Compose | Transpose, places: Mapping[Metapath, GraphPlace], geometry: Geometry) -> None:
    """Refuses an instruction whose token could not count its edges."""
    if isinstance(step, Transpose):
        room = places[step.source].room
        most = room * (1 + -(-room // geometry.sgb_ids))
    else:
        most = places[step.left].room * places[step.right].columns
    if most > MOST_FOLLOWED:
        raise LimitExceededError(
            f"the graph along {', '.join(step.path)} may take {counted(most, 'step')} along edges",
            f"at most {MOST_FOLLOWED:,}, what an instruction counts",
            "build the graph on the host",
        )


def _check_geometry(plan: Plan, relations: Mapping[str, Adjacency], geometry: Geometry) -> None:
    if "sgb" not in geometry.engines:
        raise DesignTooSmallError(
            f"the design has the engines {', '.join(geometry.engines)}",
            "the engine sgb, which builds semantic graphs",
            "use a design with it, or build the graphs on the host",
        )
    for step in plan.steps:
        columns = relations[step.path[-1]].columns
        # A transpose counts the columns of its source, which are its rows.
        widest = max(columns, relations[step.path[0]].rows if isinstance(step, Transpose) else 0)
        if widest > geometry.sgb_columns:
            raise DesignTooSmallError(
                f"the graph along {', '.join(step.path)} has {counted(widest, 'column')}",
                f"at most {counted(geometry.sgb_columns, 'column')}, the design's sgb_columns",
                "use a design with more, or build the graph on the host",
            )


def graph_segment(stream: GraphStream, relations: Mapping[str, Adjacency], segment: npt.NDArray[Any]) -> None:
    """Writes the relations of a stream to the content of the graph segment.

    Args:
        stream: The stream.
        relations: Each relation by name.
        segment: uint8 [at least ``stream.size``].
    """
    for path, place in stream.places.items():
        if len(path) == 1:
            place.write(segment, relations[path[0]])
