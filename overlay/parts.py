# SPDX-License-Identifier: Apache-2.0
"""The edges of destinations in parts of their sources, each as many as AGG's scratchpad holds (docs/aggregation.md).

Destinations go tile by tile, as a program's instructions take them; inside a tile part by part, so that a row that many
destinations of the tile have in common is read once. Numpy only, so that a board can bind.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from hetfab.overlay.isa.spec import isa
from hetfab.overlay.layouts import Bytes

Integers: TypeAlias = npt.NDArray[np.int64]
Numbers: TypeAlias = npt.NDArray[np.integer[Any]]

_MOST_PARTS = isa().operation("configure_destinations").field("parts").largest + 1
_AGG_RUNS = isa().size("agg_runs")
#: With fewer rows an instruction takes one run of each destination.
PART_ROWS = isa().size("part_rows")
#: Edges that must gain for each destination of a tile, as a run of its own has two rows that do not come in words.
_EDGES_FOR_A_RUN = 2
_MOST_BLOCKS = 64


@dataclass(frozen=True, eq=False)
class Parts:
    """Edges as a context with parts has them.

    Attributes:
        count: Runs of each destination.
        order: int64 [edges], the edges by tile, part and destination.
        degrees: int64 [count * destinations], edges of each run, where its record stands.
        places: int64 [count, destinations], the record of each run; -1 where a tile of few rows has none.
    """

    count: int
    order: Integers
    degrees: Integers
    places: Integers

    def records(self, destinations: Bytes) -> Bytes:
        """The layout 'destinations' of all runs.

        Args:
            destinations: The same of the destinations with all of their edges, whose means the runs have.
        """
        whole = destinations.view(isa().record("destination").dtype)
        records = np.zeros(len(self.degrees), whole.dtype)
        records["degree"], records["first"] = self.degrees, np.cumsum(self.degrees) - self.degrees
        for places in self.places:
            for name in ("reciprocal", "exponent"):
                records[name][places[places >= 0]] = whole[name][places >= 0]
        return records.view(np.uint8)


def most_parts(tile_rows: int) -> int:
    """Runs that each destination of a tile of so many rows may have."""
    return max(1, min(_AGG_RUNS // tile_rows, _MOST_PARTS)) if tile_rows >= PART_ROWS else 1


def in_parts(indptr: Numbers, sources: Numbers, vertices: int, slots: int, tile_rows: int) -> Parts:
    """Puts edges in parts.

    Args:
        indptr: [destinations + 1], edges ordered by destination.
        sources: [edges].
        vertices: Vertices that sources name.
        slots: Rows that the scratchpad holds, of which a vertex has the one of its number modulo them.
        tile_rows: Destinations of a full tile.
    """
    destinations = len(indptr) - 1
    rows = np.repeat(np.arange(destinations), np.diff(indptr))
    # Of many vertices, blocks of several slots: few of them are worth runs of their own.
    width = slots * -(-vertices // (slots * _MOST_BLOCKS))
    blocks = max(1, -(-vertices // width))
    block = np.asarray(sources, np.int64) // width
    tiles = max(1, -(-destinations // tile_rows))
    edges = np.bincount(rows // tile_rows * blocks + block, minlength=tiles * blocks).reshape(tiles, blocks)
    sizes = np.minimum(destinations - np.arange(tiles) * tile_rows, tile_rows)
    part_of = np.zeros((tiles, blocks), np.int64)
    for tile in range(tiles):
        if sizes[tile] >= PART_ROWS:
            part_of[tile] = _joined_blocks(edges[tile], most_parts(tile_rows), _EDGES_FOR_A_RUN * int(sizes[tile]))
    count = int(part_of.max(initial=0)) + 1
    places = _places(destinations, tile_rows, count)
    place = places[part_of[rows // tile_rows, block], rows]
    order = np.argsort(place, kind="stable")
    return Parts(count, order, np.bincount(place, minlength=count * destinations), places)


def _joined_blocks(edges: Integers, most: int, worth: int) -> Integers:
    """The part of each block of sources: neighbours are joined where the one with fewer edges is not worth its runs."""
    ends = list(range(1, len(edges) + 1))
    held = edges.tolist()
    while len(held) > 1:
        lost = [min(pair) for pair in pairwise(held)]
        first = int(np.argmin(lost))
        if len(held) <= most and lost[first] >= worth:
            break
        held[first : first + 2] = [held[first] + held[first + 1]]
        del ends[first]
    return np.searchsorted(np.array(ends), np.arange(len(edges)), side="right")


def _places(destinations: int, tile_rows: int, count: int) -> Integers:
    """Where the record of each run stands: tiles have room for all of their runs."""
    vertices = np.arange(destinations)
    first = vertices - vertices % tile_rows
    rows = np.minimum(destinations - first, tile_rows)
    parts = np.arange(count)[:, np.newaxis]
    return np.where((rows >= PART_ROWS) | (parts == 0), count * first + parts * rows + vertices - first, -1)
