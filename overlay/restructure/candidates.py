# SPDX-License-Identifier: Apache-2.0
"""Which orders the restructurer can make."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from hetfab.overlay.restructure.schedule import Sides

#: Edges for a vertex above which an order of single edges cannot win and takes minutes to find.
_DENSE = 70


class Method(StrEnum):
    """How an order is found (docs/restructuring.md)."""

    AS_IS = "as is"
    WALKED_DESTINATIONS = "walked destinations"
    SUBGRAPHS_BY_SOURCE = "three subgraphs by source"
    SUBGRAPHS_BY_DESTINATION = "three subgraphs by destination"
    DESTINATION_TILES = "destination tiles"
    SOURCE_TILES = "source tiles"
    RESIDENT_SET = "resident set"
    GREEDY_DESTINATIONS = "greedy destinations"


class Grow(StrEnum):
    """In which order tiles take their vertices."""

    BY_ID = "by id"
    FEWEST_EDGES_FIRST = "fewest edges first"
    MOST_EDGES_FIRST = "most edges first"
    WALK = "by a walk"
    GROWN_FROM_FEWEST = "grown from fewest edges"
    GROWN_FROM_MOST = "grown from most edges"


@dataclass(frozen=True)
class Candidate:
    """A way to order the edges of a graph for a buffer.

    Attributes:
        method: What finds the order.
        slots: Vertices that the buffer holds, features and accumulators together; at least 3.
        grow: Of tiles: which vertices share one.
        accumulator_weight: What it costs to give up an accumulator, in features.
        farthest: Whether vertices of a resident set or of greedy destinations leave by their farthest next use.
    """

    method: Method
    slots: int
    grow: Grow = Grow.BY_ID
    accumulator_weight: int = 1
    farthest: bool = False

    def __str__(self) -> str:
        tiled = self.method in (Method.DESTINATION_TILES, Method.SOURCE_TILES)
        return f"{self.method}, {self.grow}" if tiled else str(self.method)

    @property
    def listed_slots(self) -> int | None:
        """The slots that its list of edges names; None where the buffer itself finds vertices (``list_bytes``)."""
        found = self.method in (Method.AS_IS, Method.WALKED_DESTINATIONS, Method.GREEDY_DESTINATIONS)
        return None if found and not self.farthest else self.slots


def portfolio(graph: Sides, slots: int) -> list[Candidate]:
    """All orders that are worth finding for a graph whatever they cost, the order as it is first."""
    tiles = [Candidate(Method.DESTINATION_TILES, slots, grow) for grow in Grow]
    if graph.edges > _DENSE * (graph.active_sources + graph.active_destinations):
        cheap = (Grow.BY_ID, Grow.FEWEST_EDGES_FIRST, Grow.MOST_EDGES_FIRST)
        return [
            Candidate(Method.AS_IS, slots),
            *tiles,
            *(Candidate(Method.SOURCE_TILES, slots, grow) for grow in cheap),
        ]
    return [*_sparse(slots), *tiles, *(Candidate(Method.SOURCE_TILES, slots, grow) for grow in Grow)]


def _sparse(slots: int) -> Iterator[Candidate]:
    yield Candidate(Method.AS_IS, slots)
    yield Candidate(Method.WALKED_DESTINATIONS, slots)
    yield Candidate(Method.SUBGRAPHS_BY_SOURCE, slots)
    yield Candidate(Method.SUBGRAPHS_BY_DESTINATION, slots)
    yield Candidate(Method.GREEDY_DESTINATIONS, slots)
    yield Candidate(Method.GREEDY_DESTINATIONS, slots, farthest=True)
    for weight in (1, 2):
        yield Candidate(Method.RESIDENT_SET, slots, accumulator_weight=weight, farthest=True)
