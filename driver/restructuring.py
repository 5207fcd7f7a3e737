# SPDX-License-Identifier: Apache-2.0
"""Finds schedules of semantic graphs: orders by RST on the overlay, where the design has it, or by the processor.

Either way they are the same schedules.
"""

from dataclasses import dataclass
from enum import Enum

import numpy as np

from hetfab.driver.loaded_stream import LoadedStream
from hetfab.driver.session import DEADLINE_SECONDS, Session
from hetfab.overlay.errors import CompilerMissingError, DesignTooSmallError, DeviceMemoryError, LimitExceededError
from hetfab.overlay.isa.codec import Segment
from hetfab.overlay.restructure.candidates import Candidate, Grow, Method
from hetfab.overlay.restructure.make import by_destination, make_schedule, tiles_of_order
from hetfab.overlay.restructure.replacement import by_farthest_use, by_least_recent_use
from hetfab.overlay.restructure.schedule import Schedule, Sides
from hetfab.overlay.restructure.stream import (
    RestructureStream,
    engine_finds,
    restructure_stream,
    write_graph,
)

_TILES = (Method.DESTINATION_TILES, Method.SOURCE_TILES)


class FoundBy(Enum):
    """Who finds an order."""

    RST = "rst"
    PROCESSOR = "processor"


@dataclass(frozen=True, eq=False)
class FoundSchedule:
    """A schedule and who found its order.

    Attributes:
        schedule: The schedule.
        by: The overlay's engine or the processor.
    """

    schedule: Schedule
    by: FoundBy


def find_schedule(
    graph: Sides, candidate: Candidate, session: Session | None = None, *, deadline_seconds: float = DEADLINE_SECONDS
) -> FoundSchedule:
    """The schedule of a candidate.

    Args:
        graph: The graph.
        candidate: How its edges are ordered.
        session: The overlay that finds the order if its design has the engine rst, the engine finds such orders, and
            design and memory have room for the graph; None for the processor.
        deadline_seconds: How long to wait for the overlay.

    Raises:
        RunError: The overlay stopped.
    """
    found = None if session is None else _by_rst(graph, candidate, session, deadline_seconds)
    if found is not None:
        return FoundSchedule(found, FoundBy.RST)
    return FoundSchedule(_by_processor(graph, candidate), FoundBy.PROCESSOR)


def _by_rst(graph: Sides, candidate: Candidate, session: Session, deadline_seconds: float) -> Schedule | None:
    """By the overlay; None where it finds no such orders, or has no room for the graph."""
    if not engine_finds(candidate):
        return None
    try:
        stream = restructure_stream(graph, candidate, session.design.geometry)
        loaded = _loaded(stream, graph, session)
    except (DesignTooSmallError, LimitExceededError, DeviceMemoryError):
        return None
    try:
        loaded.run(deadline_seconds)
        return _schedule(graph, candidate, stream, loaded.read(Segment.GRAPH))
    finally:
        loaded.free()


def _loaded(stream: RestructureStream, graph: Sides, session: Session) -> LoadedStream:
    content = np.zeros(stream.found, np.uint8)
    write_graph(stream, graph, content)
    program = stream.words.reshape(-1).view(np.uint8)
    return LoadedStream(
        session,
        len(stream.words),
        {Segment.PROGRAM: program, Segment.GRAPH: content},
        {Segment.PROGRAM: program.size, Segment.GRAPH: stream.size},
        # RST turns the graph and keeps its lists where there is room before what it finds.
        kept=(Segment.PROGRAM,),
    )


def _schedule(graph: Sides, candidate: Candidate, stream: RestructureStream, segment: np.ndarray) -> Schedule:
    """The schedule of the order that is in the graph segment."""
    slots = candidate.slots
    if candidate.method in _TILES:
        of_columns = candidate.method is Method.SOURCE_TILES and candidate.grow is Grow.WALK
        return tiles_of_order(graph, candidate, stream.order(segment, of_columns=of_columns).tolist())
    if candidate.method is Method.WALKED_DESTINATIONS:
        return by_least_recent_use(graph, *by_destination(graph, stream.order(segment).tolist()), slots)
    return by_farthest_use(graph, *stream.edges(segment, graph.edges), slots, candidate.accumulator_weight)


def _by_processor(graph: Sides, candidate: Candidate) -> Schedule:
    """By compiled code; a board may lack a compiler."""
    from hetfab.hls.build.restructure import Restructurer

    try:
        return Restructurer(graph).make(candidate)
    except CompilerMissingError:
        return make_schedule(graph, candidate)
