# SPDX-License-Identifier: Apache-2.0
"""Tiles: some vertices of one side stay in the buffer while the other side is streamed past them once.

What balanced tiles leave of the buffer holds the streamed vertices that most tiles meet; one slot streams.
"""

from dataclasses import dataclass

import numpy as np

from hetfab.overlay.restructure.schedule import Recorder, Schedule, Sides
from hetfab.overlay.semantic.adjacency import Adjacency, Ids

_SCORES = 128
#: Columns of a row that growing tiles look at, on average.
_SAMPLED_EDGES = 32


@dataclass(frozen=True)
class TileShape:
    """What a buffer holds.

    Attributes:
        kept: Vertices of a tile.
        pinned: Streamed vertices that stay for good.
    """

    kept: int
    pinned: int


def balanced_tiles(active: int, slots: int) -> TileShape:
    """As few tiles of ``active`` vertices as there can be, of equal size."""
    tiles = max(1, -(-active // (slots - 1)))
    kept = max(1, -(-active // tiles))
    return TileShape(kept, slots - 1 - kept)


def by_degree(rows: Adjacency, most_edges_first: bool) -> list[int]:
    """Rows with edges, those with fewest or most edges first, equals by id."""
    degrees = rows.out_degrees()
    order = np.argsort(-degrees if most_edges_first else degrees, kind="stable")
    return [int(row) for row in order if degrees[row]]


def sample_stride(rows: Adjacency) -> int:
    """Columns that are multiples of it stand for all: with 32 columns for a row on average."""
    return max(1, rows.edges // (_SAMPLED_EDGES * max(1, int(np.count_nonzero(rows.out_degrees())))))


def grown_tiles(
    rows: Adjacency, columns: Adjacency, tile_rows: int, most_edges_first: bool, *, stride: int = 0
) -> list[int]:
    """Rows with edges in the order in which greedy tiles take them.

    A tile grows by the row with the largest share of its columns in the tile, in steps of 1/127; among equals by the
    one that got its share last. Where no row has any, the tile takes the next one by degree. Where rows are long, every
    few-th column stands for all: the share is one of a sample, with 32 columns for a row on average.

    Args:
        rows: The side that tiles keep.
        columns: The same edges turned.
        tile_rows: Rows of a tile.
        most_edges_first: Which rows begin tiles.
        stride: Columns that are multiples of it are sampled; 0 for ``sample_stride``.
    """
    left = dict.fromkeys(by_degree(rows, most_edges_first))
    stride = stride or sample_stride(rows)
    samples = np.bincount(rows.ids[rows.ids % stride == 0], minlength=columns.rows)
    taken = {column: columns.row(column).tolist() for column in np.flatnonzero(samples).tolist()}
    sampled = np.bincount([row for met in taken.values() for row in met], minlength=rows.rows).tolist()
    order: list[int] = []
    while left:
        order += _grow_tile(rows, taken, sampled, tile_rows, left)
    return order


def _grow_tile(
    rows: Adjacency, taken: dict[int, list[int]], sampled: list[int], tile_rows: int, left: dict[int, None]
) -> list[int]:
    tile: list[int] = []
    inside: set[int] = set()
    overlap: dict[int, int] = {}
    rank: dict[int, tuple[int, int]] = {}
    clock = 0
    while left and len(tile) < tile_rows:
        row = max(rank, key=lambda row: rank[row]) if rank else next(iter(left))
        tile.append(row)
        del left[row]
        rank.pop(row, None)
        for column in rows.row(row).tolist():
            if column in inside or column not in taken:
                continue
            inside.add(column)
            for other in taken[column]:
                if other not in left:
                    continue
                overlap[other] = overlap.get(other, 0) + 1
                score = overlap[other] * (_SCORES - 1) // sampled[other]
                clock += 1
                if other not in rank or rank[other][0] != score:
                    rank[other] = score, clock
    return tile


def most_reused(kept: Adjacency, order: list[int], shape: TileShape) -> Ids:
    """The streamed vertices that most tiles meet, at least two; equals by id."""
    uses = np.zeros(kept.columns, np.int64)
    for first in range(0, len(order), shape.kept):
        met = [kept.row(row) for row in order[first : first + shape.kept]]
        uses[np.unique(np.concatenate(met))] += 1
    by_uses = np.argsort(-uses, kind="stable")
    return by_uses[uses[by_uses] > 1][: shape.pinned]


def write_tiles(
    graph: Sides, keeps_destinations: bool, order: list[int], shape: TileShape, stream_by_id: bool
) -> Schedule:
    """The schedule of tiles.

    Args:
        graph: The graph.
        keeps_destinations: Whether tiles keep accumulators and stream features, or the other way round.
        order: The kept side in order.
        shape: How many are kept and pinned.
        stream_by_id: Whether a tile streams the other side by id, or in the order in which its rows meet it.
    """
    kept, streamed = graph.by_destination, graph.by_source
    if not keeps_destinations:
        kept, streamed = streamed, kept
    kept_first, streamed_first = (graph.sources, 0) if keeps_destinations else (0, graph.sources)
    pinned, loaded = set(most_reused(kept, order, shape).tolist()), set[int]()
    left = kept.in_degrees()
    written = Recorder()
    for first in range(0, len(order), shape.kept):
        tile = order[first : first + shape.kept]
        written.tile()
        runs: dict[int, list[int]] = {}
        for row in tile:
            written.load(kept_first + row)
            for other in kept.row(row).tolist():
                runs.setdefault(other, []).append(row)
        for other, run in sorted(runs.items()) if stream_by_id else runs.items():
            if other not in loaded:
                written.load(streamed_first + other)
            loaded |= {other} & pinned
            for row in run:
                written.edge(*((other, row) if keeps_destinations else (row, other)))
            left[other] -= len(run)
            if other not in pinned or left[other] == 0:
                written.leave(streamed_first + other)
        for row in tile:
            written.leave(kept_first + row)
    return written.schedule()
