# SPDX-License-Identifier: Apache-2.0
"""Schedules of an aggregation: the order of a semantic graph's edges, and what enters and leaves the buffer when.

``docs/restructuring.md`` defines the buffer. Traffic is never a formula of its own: it is the replay of a schedule's
log.
"""

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from hetfab.overlay.semantic.adjacency import Adjacency, transpose

Numbers: TypeAlias = npt.NDArray[np.uint32]


@dataclass(frozen=True, eq=False)
class Sides:
    """A semantic graph by source and by destination.

    Attributes:
        by_source: A row for each source, its ids are destinations.
        by_destination: The same edges turned.
    """

    by_source: Adjacency
    by_destination: Adjacency

    @property
    def sources(self) -> int:
        """Vertices whose features are read."""
        return self.by_source.rows

    @property
    def destinations(self) -> int:
        """Vertices that have an accumulator."""
        return self.by_destination.rows

    @property
    def edges(self) -> int:
        """Edges."""
        return self.by_source.edges

    @property
    def active_sources(self) -> int:
        """Sources with edges."""
        return int(np.count_nonzero(self.by_source.out_degrees()))

    @property
    def active_destinations(self) -> int:
        """Destinations with edges."""
        return int(np.count_nonzero(self.by_destination.out_degrees()))


def both_sides(graph: Adjacency) -> Sides:
    """A graph whose rows are sources, with its transpose; ids ascend in each row of both."""
    turned = transpose(graph)
    return Sides(transpose(turned), turned)


@dataclass(frozen=True, eq=False)
class Schedule:
    """The order of edges, and the log of the buffer.

    Vertices are numbered through: source u is u, destination v is ``sources`` + v.

    Attributes:
        sources: uint32 [edges], the source of each edge in the order in which edges are done.
        destinations: uint32 [edges], the destination of each.
        at: uint32 [events], edges that are done before each event; ascends.
        vertices: uint32 [events], the vertex that enters or leaves.
        leaves: bool [events], whether it leaves.
        tiles: uint32 [tiles], edges that are done before each tile; empty where edges are not in tiles.
    """

    sources: Numbers
    destinations: Numbers
    at: Numbers
    vertices: Numbers
    leaves: npt.NDArray[np.bool_]
    tiles: Numbers


@dataclass(frozen=True)
class Widths:
    """Bytes of a vector in its three forms.

    Attributes:
        feature: What is read of a source.
        accumulator: A partial sum that is written and read again.
        result: What is written of a complete destination.
    """

    feature: int
    accumulator: int
    result: int


#: Everything is one vector: the unit of comparisons of orders alone.
VECTORS = Widths(1, 1, 1)


@dataclass(frozen=True)
class Moves:
    """How often vectors cross the buffer's border.

    Attributes:
        features: Features read.
        spills: Partial sums written.
        reloads: Partial sums read.
        results: Complete sums written.
    """

    features: int
    spills: int
    reloads: int
    results: int

    def bytes(self, widths: Widths) -> int:
        """The bytes of all of them."""
        partial = (self.spills + self.reloads) * widths.accumulator
        return self.features * widths.feature + partial + self.results * widths.result


def replay(schedule: Schedule, graph: Sides) -> Moves:
    """Counts what a schedule's log moves; an accumulator that enters first starts at zero and is not read."""
    is_destination = schedule.vertices >= graph.sources
    destinations = schedule.vertices[is_destination] - graph.sources
    leaves = schedule.leaves[is_destination]
    loads = int(np.count_nonzero(~leaves))
    first = len(np.unique(destinations[~leaves]))
    results = int(np.count_nonzero(np.bincount(schedule.destinations, minlength=graph.destinations)))
    features = int(np.count_nonzero(~schedule.leaves & ~is_destination))
    return Moves(features, int(np.count_nonzero(leaves)) - results, loads - first, results)


def largest_occupancy(schedule: Schedule) -> int:
    """Most vertices in the buffer at once."""
    steps = np.where(schedule.leaves, -1, 1)
    return int(np.cumsum(steps).max(initial=0))


_NUMBER_BYTES = 2
_MOST_NUMBERS = 1 << 16


def list_bytes(schedule: Schedule, graph: Sides, slots: int | None) -> int:
    """What a pass reads of the schedule itself: edges as numbers or as bitmaps, and what enters when.

    Edges are listed in runs that share a source or a destination: either the number of its edges and the other end of
    each, 2 bytes each, or a bit for everything that the other end could be, whichever is smaller for all runs.

    Args:
        schedule: The schedule.
        graph: Its graph.
        slots: Vertices that the buffer holds: edges name slots, and loads name vertices with their slots; in tiles
            edges name places in the tile, and a load takes the next place. None where the buffer itself finds
            vertices: edges name sources, and only an order of destinations that is not theirs by id is listed.
    """
    if not graph.edges:
        return 0
    if slots is None:
        runs, number_bytes, names = graph.active_destinations, _id_bytes(graph.sources), graph.sources
        order = runs * _id_bytes(graph.destinations) * _permuted(schedule.destinations)
    else:
        changes = [np.count_nonzero(np.diff(ends)) for ends in (schedule.sources, schedule.destinations)]
        runs, number_bytes, names = 1 + int(min(changes)), _NUMBER_BYTES, slots
        load_bytes = _id_bytes(max(graph.sources, graph.destinations)) + _NUMBER_BYTES
        if len(schedule.tiles):
            kept = graph.active_destinations if changes[0] < changes[1] else graph.active_sources
            names, load_bytes = -(-kept // len(schedule.tiles)), load_bytes - _NUMBER_BYTES
        order = int(np.count_nonzero(~schedule.leaves)) * load_bytes
    return order + min(number_bytes * graph.edges + _NUMBER_BYTES * runs, runs * -(-names // 8))


def _id_bytes(vertices: int) -> int:
    return 2 if vertices <= _MOST_NUMBERS else 4


def _permuted(destinations: Numbers) -> bool:
    return bool(np.any(np.diff(destinations.astype(np.int64)) < 0))


class Recorder:
    """Writes a schedule step by step, for the golden models."""

    def __init__(self) -> None:
        """Begins with no edge done and an empty buffer."""
        self._edges: list[tuple[int, int]] = []
        self._events: list[tuple[int, int, bool]] = []
        self._tiles: list[int] = []

    @property
    def edges(self) -> int:
        """Edges that are done."""
        return len(self._edges)

    def tile(self) -> None:
        """Begins a tile."""
        self._tiles.append(self.edges)

    def edge(self, source: int, destination: int) -> None:
        """Does an edge."""
        self._edges.append((source, destination))

    def load(self, vertex: int) -> None:
        """A vertex enters the buffer."""
        self._events.append((self.edges, vertex, False))

    def leave(self, vertex: int) -> None:
        """A vertex leaves the buffer."""
        self._events.append((self.edges, vertex, True))

    def schedule(self) -> Schedule:
        """What was written."""
        edges = np.array(self._edges, np.uint32).reshape(-1, 2)
        events = np.array(self._events, np.uint32).reshape(-1, 3)
        tiles = np.array(self._tiles, np.uint32)
        return Schedule(
            edges[:, 0].copy(), edges[:, 1].copy(), events[:, 0], events[:, 1], events[:, 2].astype(bool), tiles
        )
