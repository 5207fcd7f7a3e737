# SPDX-License-Identifier: Apache-2.0
"""Which orders the restructurer can make."""

from dataclasses import dataclass
from enum import StrEnum


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
