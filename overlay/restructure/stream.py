# SPDX-License-Identifier: Apache-2.0
"""Writes restructurings as instructions of RST, and says where the graph and what is found are in the graph segment.

All instructions are one engine's, so they need no semaphores.
"""

from dataclasses import dataclass

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
from hetfab.overlay.restructure.candidates import Candidate, Grow, Method
from hetfab.overlay.restructure.schedule import Numbers, Sides
from hetfab.overlay.restructure.tiles import balanced_tiles, sample_stride
from hetfab.overlay.semantic.adjacency import Adjacency, Ids
from hetfab.overlay.semantic.stream import MOST_FOLLOWED, GraphPlace

_BLOCK = isa().block_bytes
_NUMBER_BYTES = 4
_SUBGRAPHS = (Method.SUBGRAPHS_BY_SOURCE, Method.SUBGRAPHS_BY_DESTINATION)
_TILES = (Method.DESTINATION_TILES, Method.SOURCE_TILES)


def engine_finds(candidate: Candidate) -> bool:
    """Whether RST finds the order of a candidate; others are the processor's."""
    tiles = candidate.method in _TILES and candidate.grow is not Grow.BY_ID
    return tiles or candidate.method in (*_SUBGRAPHS, Method.WALKED_DESTINATIONS)


@dataclass(frozen=True, eq=False)
class RestructureStream:
    """A restructuring as a stream.

    Attributes:
        words: uint64 [n, 2].
        by_destination: Whether rows are destinations, else sources.
        rows: Where the graph is by the side whose vertices are ordered.
        turned: Where it is by the other side.
        found: Offset of what is found.
        size: Bytes of the graph segment; those from ``found`` on need not be written.
    """

    words: Words
    by_destination: bool
    rows: GraphPlace
    turned: GraphPlace
    found: int
    size: int

    def order(self, segment: npt.NDArray[np.uint8], *, of_columns: bool = False) -> Ids:
        """The vertices in order that are in the content of the segment after a run.

        Args:
            segment: The content.
            of_columns: Of a walk, those of the other side.
        """
        first = self.found + (_order_bytes(self.rows.rows) if of_columns else 0)
        count = int(_numbers(segment, first, 1)[0])
        return _numbers(segment, first, count + 1)[1:].astype(np.int64)

    def edges(self, segment: npt.NDArray[np.uint8], edges: int) -> tuple[Numbers, Numbers]:
        """Sources and destinations of the edges in order that are there after a run, uint32 [edges] each."""
        found = _numbers(segment, self.found, 2 * edges).reshape(edges, 2)
        return found[:, 0].copy(), found[:, 1].copy()


def restructure_stream(graph: Sides, candidate: Candidate, geometry: Geometry) -> RestructureStream:
    """Writes the instructions that find a candidate's order.

    Args:
        graph: The graph.
        candidate: One that ``engine_finds``.
        geometry: What the overlay has.

    Raises:
        DesignTooSmallError: The design lacks the engine, or memory for the graph's vertices.
        LimitExceededError: An instruction could look at more edges than it counts.
        FieldRangeError: The graph has more edges than the fields can name.
    """
    _check_geometry(graph, geometry)
    rows, turned = graph.by_destination, graph.by_source
    # A walk begins at destinations whatever is tiled.
    by_destination = candidate.method is not Method.SOURCE_TILES or candidate.grow is Grow.WALK
    if not by_destination:
        rows, turned = turned, rows
    first = GraphPlace(0, rows.rows, rows.columns, rows.edges)
    second = GraphPlace(first.end, turned.rows, turned.columns, turned.edges)
    writer = _Writer(graph, first, second, by_destination)
    if candidate.method in _SUBGRAPHS:
        return writer.subgraphs(candidate.method is Method.SUBGRAPHS_BY_SOURCE)
    if candidate.grow is Grow.WALK or candidate.method is Method.WALKED_DESTINATIONS:
        return writer.walk()
    return writer.tiles(rows, candidate)


class _Writer:
    """Places what is found behind the graph."""

    def __init__(self, graph: Sides, rows: GraphPlace, turned: GraphPlace, by_destination: bool) -> None:
        self._graph, self._rows, self._turned, self._by_destination = graph, rows, turned, by_destination
        self._end = turned.end

    def tiles(self, rows: Adjacency, candidate: Candidate) -> RestructureStream:
        shape = balanced_tiles(int(np.count_nonzero(rows.out_degrees())), candidate.slots)
        most_first = candidate.grow in (Grow.MOST_EDGES_FIRST, Grow.GROWN_FROM_MOST)
        grown = candidate.grow in (Grow.GROWN_FROM_FEWEST, Grow.GROWN_FROM_MOST)
        tiles = -(-rows.rows // shape.kept) if grown else 0
        _check_followed((2 + tiles) * rows.edges, "tiles")
        found = self._take(_order_bytes(rows.rows))
        word = codec.grow_tiles(
            grown=grown,
            most_edges_first=most_first,
            stride=sample_stride(rows),
            tile_rows=shape.kept,
            address=program_address(Segment.GRAPH, found),
        )
        return self._stream([*self._graphs(), word], found)

    def walk(self) -> RestructureStream:
        found = self._take(self._walk_bytes())
        return self._stream([*self._graphs(), codec.walk(address=program_address(Segment.GRAPH, found))], found)

    def subgraphs(self, by_source: bool) -> RestructureStream:
        graph, vertices = self._graph, self._rows.rows + self._turned.rows
        _check_followed((2 + min(self._rows.rows, self._turned.rows)) * graph.edges, "a matching")
        matching, walked = self._take(_NUMBER_BYTES * vertices), self._take(self._walk_bytes())
        found = self._take(2 * _NUMBER_BYTES * graph.edges)
        from_sources = graph.active_sources <= graph.active_destinations
        matched = self._turned if from_sources else self._rows
        address = program_address(Segment.GRAPH, matching)
        words = [
            codec.configure_graph(**matched.fields()),
            codec.match(columns=matched.columns, address=address),
            *self._graphs(),
            codec.configure_matching(of_turned=from_sources, address=address),
            codec.configure_walk(address=program_address(Segment.GRAPH, walked)),
            codec.walk(address=program_address(Segment.GRAPH, walked)),
            codec.recouple(by_column=by_source, address=program_address(Segment.GRAPH, found)),
        ]
        return self._stream(words, found)

    def _graphs(self) -> list[int]:
        return [codec.configure_graph(**self._rows.fields()), codec.configure_turned(**self._turned.fields())]

    def _walk_bytes(self) -> int:
        return _order_bytes(self._rows.rows) + _order_bytes(self._turned.rows)

    def _take(self, size: int) -> int:
        first, self._end = self._end, self._end + padded(size, _BLOCK)
        return first

    def _stream(self, words: list[int], found: int) -> RestructureStream:
        return RestructureStream(pack(words), self._by_destination, self._rows, self._turned, found, self._end)


def _order_bytes(vertices: int) -> int:
    return padded(_NUMBER_BYTES * (vertices + 1), _BLOCK)


def _numbers(segment: npt.NDArray[np.uint8], first: int, count: int) -> Numbers:
    return segment[first : first + _NUMBER_BYTES * count].view(np.uint32)


def _check_geometry(graph: Sides, geometry: Geometry) -> None:
    if "rst" not in geometry.engines:
        raise DesignTooSmallError(
            f"the design has the engines {', '.join(geometry.engines)}",
            "the engine rst, which restructures graphs",
            "use a design with it, or find the order on the processor",
        )
    vertices = max(graph.sources, graph.destinations)
    if vertices > geometry.rst_vertices:
        raise DesignTooSmallError(
            f"a side of the graph has {vertices:,} vertices",
            f"at most {geometry.rst_vertices:,}, the design's rst_vertices",
            "use a design with more, or find the order on the processor",
        )


def _check_followed(most: int, what: str) -> None:
    """Refuses an instruction whose token could not count its edges."""
    if most > MOST_FOLLOWED:
        raise LimitExceededError(
            f"{what} of the graph may look at {counted(most, 'edge')}",
            f"at most {MOST_FOLLOWED:,}, what an instruction counts",
            "find the order on the processor",
        )


def write_graph(stream: RestructureStream, graph: Sides, segment: npt.NDArray[np.uint8]) -> None:
    """Writes the graph of a stream to the content of the graph segment.

    Args:
        stream: The stream.
        graph: Its graph.
        segment: uint8 [at least ``stream.found``].
    """
    places = (stream.rows, stream.turned) if stream.by_destination else (stream.turned, stream.rows)
    for place, side in zip(places, (graph.by_destination, graph.by_source), strict=True):
        place.write(segment, side)
