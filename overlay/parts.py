# SPDX-License-Identifier: Apache-2.0
"""The edges of destinations in parts of their sources, each as many as AGG's scratchpad holds (docs/aggregation.md).

Destinations go tile by tile, as a program's instructions take them; inside a tile part by part, so that a row that many
destinations of the tile have in common is read once. Numpy only, so that a board can bind; ``hls/build/parts.py`` is
the compiled equal.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from hetfab.overlay.isa.spec import isa
from hetfab.overlay.layouts import MARKED_ROWS, Bytes

Integers: TypeAlias = npt.NDArray[np.int64]
Numbers: TypeAlias = npt.NDArray[np.integer[Any]]
#: Ids as AGG reads them: uint16, or uint32 with a mark of 8 bits above sources below 2^24.
Ids: TypeAlias = npt.NDArray[np.unsignedinteger[Any]]

_MOST_PARTS = isa().operation("configure_destinations").field("parts").largest + 1
_AGG_RUNS = isa().size("agg_runs")
#: With fewer rows an instruction takes one run of each destination.
PART_ROWS = isa().size("part_rows")
#: Edges that must gain for each destination of a tile, as a run of its own has two rows that do not come in words.
EDGES_FOR_A_RUN = 2
_MOST_BLOCKS = 64
#: Edges of a row on average from which it is searched by itself; of a run, from which it is copied by itself.
_LONG_ROWS, _LONG_RUNS = 512, 128


@dataclass(frozen=True, eq=False)
class Parts:
    """Edges as a context with parts has them.

    Attributes:
        count: Runs of each destination.
        tile_rows: Destinations of a full tile.
        degrees: int64 [count * destinations], the edges of the run of each record. Records lie tile by tile, part by
            part; behind the ones of a tile that is too short for parts, empty ones follow.
        ids: [edges], of the runs of all records, one behind the other; of the type as given.
    """

    count: int
    tile_rows: int
    degrees: Integers
    ids: Ids

    def places(self) -> Integers:
        """The record of each run, int64 [count, destinations]; -1 where a tile of few rows has none."""
        return _places(len(self.degrees) // self.count, self.tile_rows, self.count)

    def records(self, destinations: Bytes) -> Bytes:
        """The layout 'destinations' of all runs.

        Args:
            destinations: The same of the destinations with all of their edges, whose means the runs have.
        """
        dtype = isa().record("destination").dtype
        # As two words each: numpy copies records field by field.
        whole = destinations.view(np.uint64).reshape(-1, dtype.itemsize // 8)
        repeated = np.zeros((len(self.degrees), whole.shape[1]), np.uint64)
        full = len(whole) - len(whole) % self.tile_rows
        tiles = whole[:full].reshape(-1, 1, self.tile_rows, whole.shape[1])
        repeated[: self.count * full].reshape(-1, self.count, *tiles.shape[2:])[:] = tiles
        tail, rest = whole[full:], repeated[self.count * full :]
        runs = self.count if len(tail) >= PART_ROWS else 1
        rest[: runs * len(tail)].reshape(runs, *tail.shape)[:] = tail
        records = repeated.reshape(-1).view(dtype)
        records["degree"], records["first"] = self.degrees, np.cumsum(self.degrees) - self.degrees
        return records.view(np.uint8)


#: Puts edges in parts: ``in_parts`` or an equal of it, which may order the ids that it is given where they are.
PartsMaker: TypeAlias = Callable[[Numbers, Ids, int, int, int], Parts]


def most_parts(tile_rows: int) -> int:
    """Runs that each destination of a tile of so many rows may have."""
    return max(1, min(_AGG_RUNS // tile_rows, _MOST_PARTS)) if tile_rows >= PART_ROWS else 1


def block_width(vertices: int, slots: int) -> int:
    """Vertices of a block. Of many vertices, blocks of several slots: few of them are worth runs of their own."""
    return slots * max(1, -(-vertices // (slots * _MOST_BLOCKS)))


def source_mask(ids: Ids, vertices: int) -> int:
    """The bits of an id that name its source."""
    return MARKED_ROWS - 1 if ids.dtype.itemsize == 4 and vertices <= MARKED_ROWS else np.iinfo(ids.dtype).max


def in_parts(indptr: Numbers, ids: Ids, vertices: int, slots: int, tile_rows: int) -> Parts:
    """Puts edges in parts.

    Args:
        indptr: [destinations + 1], edges ordered by destination.
        ids: [edges], in the layout 'ids'.
        vertices: Vertices that sources name.
        slots: Rows that the scratchpad holds, of which a vertex has the one of its number modulo them.
        tile_rows: Destinations of a full tile.
    """
    destinations = len(indptr) - 1
    width = block_width(vertices, slots)
    blocks = max(1, -(-vertices // width))
    mask = source_mask(ids, vertices)
    sources = ids if mask == np.iinfo(ids.dtype).max else ids & ids.dtype.type(mask)
    counts, by_block = _counts(np.asarray(indptr, np.int64), sources, blocks, width)
    firsts = np.arange(0, destinations, tile_rows)
    sizes = np.minimum(destinations - firsts, tile_rows)
    in_tiles = np.add.reduceat(counts, firsts, axis=0) if len(firsts) else np.zeros((0, blocks), np.int64)
    ends = [
        _joined_blocks(edges, most_parts(tile_rows), EDGES_FOR_A_RUN * int(rows)) if rows >= PART_ROWS else [blocks]
        for edges, rows in zip(in_tiles, sizes, strict=True)
    ]
    count = max(map(len, ends), default=1)
    places = _places(destinations, tile_rows, count)
    # Of each tile where its parts begin among the blocks, and their end; parts that it lacks are empty.
    bounds = np.array([[0, *each, *[blocks] * (count - len(each))] for each in ends], np.int64).reshape(-1, count + 1)
    begins, degrees = np.zeros(count * destinations, np.int64), np.zeros(count * destinations, np.int64)
    edges_before = np.concatenate([[0], np.cumsum(counts.reshape(-1))])
    vertices_of = np.arange(destinations)
    for part in range(count):
        stands = places[part] >= 0
        begin, end = (
            edges_before[(vertices_of * blocks + bounds[vertices_of // tile_rows, part + step])[stands]]
            for step in (0, 1)
        )
        begins[places[part][stands]], degrees[places[part][stands]] = begin, end - begin
    return Parts(count, tile_rows, degrees, _taken(ids if by_block is None else ids[by_block], begins, degrees))


def _taken(ids: Ids, begins: Integers, degrees: Integers) -> Ids:
    """Runs of ids, one behind the other."""
    if len(ids) < _LONG_RUNS * len(degrees):
        ends = np.cumsum(degrees)
        return ids[np.repeat(begins - ends + degrees, degrees) + np.arange(len(ids))]
    runs = zip(begins.tolist(), (begins + degrees).tolist(), strict=True)
    return np.concatenate([ids[:0], *(ids[begin:end] for begin, end in runs if end > begin)])


def _counts(indptr: Integers, sources: Numbers, blocks: int, width: int) -> tuple[Integers, Integers | None]:
    """Edges of each destination from each block, int64 [destinations, blocks], and their order where it is not theirs.

    A row of many ascending sources, as semantic graphs have them, is searched for the ends of the blocks.
    """
    degrees = np.diff(indptr)
    rows = len(degrees)
    if len(sources) >= _LONG_ROWS * rows and _ascending(indptr, sources):
        # Ends of the type of the sources, or each search would convert a whole row.
        ends = np.minimum(np.arange(1, blocks) * width, np.iinfo(sources.dtype).max).astype(sources.dtype)
        inner = [np.searchsorted(sources[begin:end], ends) for begin, end in pairwise(indptr.tolist())]
        bounds = np.zeros((rows, blocks + 1), np.int64)
        bounds[:, 1:-1], bounds[:, -1] = np.array(inner).reshape(rows, blocks - 1), degrees
        return np.diff(bounds, axis=1), None
    keys = np.repeat(np.arange(rows) * blocks, degrees) + sources // np.int64(width)
    # Numpy sorts numbers of 16 bits by their digits.
    short = keys.astype(np.uint16) if rows * blocks <= 1 << 16 else keys
    order = None if np.all(keys[:-1] <= keys[1:]) else np.argsort(short, kind="stable")
    return np.bincount(keys, minlength=rows * blocks).reshape(rows, blocks), order


def _ascending(indptr: Integers, sources: Numbers) -> bool:
    """Whether the sources of every row ascend."""
    falls = np.flatnonzero(sources[1:] < sources[:-1]) + 1
    return bool(np.isin(falls, indptr).all())


def _joined_blocks(edges: Integers, most: int, worth: int) -> list[int]:
    """Ends of the parts among the blocks: neighbours are joined where the one of fewer edges is not worth its runs."""
    ends = list(range(1, len(edges) + 1))
    held = edges.tolist()
    while len(held) > 1:
        lost = [min(pair) for pair in pairwise(held)]
        first = lost.index(min(lost))
        if len(held) <= most and lost[first] >= worth:
            break
        held[first : first + 2] = [held[first] + held[first + 1]]
        del ends[first]
    return ends


def _places(destinations: int, tile_rows: int, count: int) -> Integers:
    """Where the record of each run stands: tiles have room for all of their runs."""
    vertices = np.arange(destinations)
    first = vertices - vertices % tile_rows
    rows = np.minimum(destinations - first, tile_rows)
    parts = np.arange(count)[:, np.newaxis]
    return np.where((rows >= PART_ROWS) | (parts == 0), count * first + parts * rows + vertices - first, -1)
