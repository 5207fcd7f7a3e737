# SPDX-License-Identifier: Apache-2.0
"""Cost functions of RST, as the emulator counts it. Cycles are modelled.

How long a matching takes depends on what its searches meet: ``matching_work`` says that. The others follow from the
degrees and the orders that they find. The loops are those of ``rst_match.hpp`` and its neighbours, in their order.
"""

from dataclasses import dataclass

import numpy as np

from hetfab.overlay.costs.bursts import BEAT_BYTES, BURSTS_AHEAD, Array
from hetfab.overlay.costs.cycles import Cost
from hetfab.overlay.costs.graphs import NumberReads, PlacedGraph, graph_cost, number_reads, written_bursts
from hetfab.overlay.isa.loops import loops
from hetfab.overlay.isa.spec import isa
from hetfab.overlay.layouts import padded
from hetfab.overlay.restructure.matching import MatchingWork
from hetfab.overlay.restructure.subgraphs import Community, Cover
from hetfab.overlay.semantic.adjacency import Adjacency

_NUMBERS = BEAT_BYTES // 4
_CHUNK = isa().size("rst_chunk")


class _Work:
    """What an instruction adds up: cycles of its loops, and what it reads and writes."""

    def __init__(self) -> None:
        self.cycles = int(loops()["rst_context"].cycles(isa().size("rst_words")))
        self.beats = self.bursts = self.edges = self.written = self.written_beats = 0

    def loop(self, name: str, trips: Array | int) -> None:
        self.cycles += int(loops()[name].cycles(trips).sum())

    def read(self, name: str, array_beat: int, first: Array | list[int], count: Array | list[int]) -> None:
        """Runs of numbers, each a loop of its own."""
        firsts, counts = np.asarray(first, np.int64), np.asarray(count, np.int64)
        found = number_reads(array_beat, firsts, counts)
        self.cycles += found.cycles
        self.loop(name, counts)
        self.beats += int(found.beats.sum())
        self.bursts += int(found.bursts.sum())

    def follow(self, name: str, graph: PlacedGraph, rows: Array) -> None:
        """Ids of whole rows, each a loop of its own."""
        degrees = graph.graph.out_degrees()[rows]
        self.read(name, graph.ids_beat, graph.graph.starts[:-1][rows], degrees)
        self.edges += int(degrees.sum())

    def follow_chunks(self, name: str, graph: PlacedGraph, rows: Array, looked: Array) -> None:
        """Ids of rows in chunks, up to the chunk with the last one that is looked at."""
        self.read(name, graph.ids_beat, *_chunks(graph.graph, rows, looked))
        self.edges += int(looked.sum())

    def starts(self, *graphs: PlacedGraph) -> None:
        for graph in graphs:
            self.read("rst_numbers", graph.starts_beat, [0], [graph.graph.rows + 1])

    def write(self, address: int, count: int) -> None:
        """Numbers that are written in one run."""
        self.written += written_bursts(address // BEAT_BYTES, np.zeros(1, np.int64), np.array([count]), count)
        self.written_beats += -(-count // _NUMBERS)

    def cost(self) -> Cost:
        self.loop("number_responses", min(self.written, BURSTS_AHEAD))
        return graph_cost(
            self.cycles,
            right=NumberReads(np.array(self.beats), np.array(self.bursts)),
            left=NumberReads(np.array(0), np.array(0)),
            written=self.written,
            written_beats=self.written_beats,
            edges=self.edges,
        )


def match_cost(graph: PlacedGraph, work: MatchingWork, out: int) -> Cost:
    """Cost of a ``match``.

    Args:
        graph: The graph whose rows are matched.
        work: What ``matching_work`` gives for it.
        out: Address of the matching.
    """
    done, rows, columns = _Work(), graph.graph.rows, graph.graph.columns
    done.starts(graph)
    done.loop("rst_clear", max(rows, columns))
    done.follow_chunks("rst_try", graph, work.tried[:, 0], work.tried[:, 1])
    done.follow_chunks("rst_meet", graph, work.met[:, 0], work.met[:, 1])
    done.loop("rst_flip", work.flipped)
    done.loop("rst_dead", work.died)
    done.loop("rst_pairs", rows + columns)
    done.write(out, rows + columns)
    return done.cost()


def walk_cost(graph: PlacedGraph, turned: PlacedGraph, community: Community, out: int) -> Cost:
    """Cost of a ``walk``.

    Args:
        graph: The graph from whose rows it walks.
        turned: The same edges turned.
        community: What the walk finds.
        out: Its address.
    """
    done, rows = _Work(), graph.graph.rows
    done.starts(graph, turned)
    done.loop("rst_clear", max(rows, turned.graph.rows))
    # Each look for a root begins behind the one before, and ends at the next one or behind all rows.
    done.loop("rst_roots", np.diff([0, *(community.roots + 1), rows]))
    done.follow_chunks("rst_near", graph, community.destinations, graph.graph.out_degrees()[community.destinations])
    done.follow("rst_far", turned, community.sources)
    for address, order in ((out, community.destinations), (_column_order(out, rows), community.sources)):
        done.loop("rst_order", len(order) + 1)
        done.write(address, len(order) + 1)
    return done.cost()


@dataclass(frozen=True, eq=False)
class Recoupled:
    """What a ``recouple`` reads beside its graph.

    Attributes:
        cover: Of the matching; sources are columns.
        community: The walk.
        matching: Address of the matching.
        of_turned: Whether it was matched from the columns.
        walk: Address of the walk.
    """

    cover: Cover
    community: Community
    matching: int
    of_turned: bool
    walk: int


def recouple_cost(graph: PlacedGraph, turned: PlacedGraph, given: Recoupled, *, by_column: bool) -> Cost:
    """Cost of a ``recouple``.

    Args:
        graph: The graph.
        turned: The same edges turned.
        given: What else it reads.
        by_column: Whether the first two subgraphs go by column.
    """
    done, rows, columns = _Work(), graph.graph.rows, turned.graph.rows
    done.starts(graph, turned)
    matched = (columns, rows) if given.of_turned else (rows, columns)
    done.read("rst_numbers", given.matching // BEAT_BYTES, [0, matched[0]], [*matched])
    done.loop("rst_covers", max(rows, columns))
    orders = given.community.destinations, given.community.sources
    for address, order in zip((given.walk, _column_order(given.walk, rows)), orders, strict=True):
        done.read("rst_numbers", address // BEAT_BYTES, [0, 1], [1, len(order)])
    for row_covers, column_covers, columns_lead in (
        (False, True, by_column),
        (True, True, by_column),
        (True, False, False),
    ):
        minor = 0 if columns_lead else 1
        covers = (given.cover.destinations, given.cover.sources)[minor]
        wanted = orders[minor][covers[orders[minor]] == (row_covers, column_covers)[minor]]
        side = (graph, turned)[minor]
        done.loop("rst_counts", len(orders[1 - minor]))
        done.follow("rst_count", side, wanted)
        done.loop("rst_first", len(orders[1 - minor]))
        done.follow("rst_scatter", side, wanted)
    # An edge is a burst of its own.
    done.written, done.written_beats = graph.graph.edges, graph.graph.edges
    return done.cost()


@dataclass(frozen=True, eq=False)
class TileWork:
    """What growing tiles looks at.

    Attributes:
        looked: int64 [rows with edges], rows by degree that were looked at before each pick, 1 where none was needed.
        columns: int64 [n], the columns that tiles meet, each once a tile.
    """

    looked: Array
    columns: Array


def tile_work(rows: Adjacency, seeds: list[int], order: list[int], tile_rows: int, stride: int) -> TileWork:
    """What growing tiles looks at, from the order that it finds.

    Args:
        rows: The side that tiles keep.
        seeds: Its rows by degree.
        order: Its rows as tiles take them.
        tile_rows: Rows of a tile.
        stride: Columns that are multiples of it are sampled.
    """
    place = {row: number for number, row in enumerate(seeds)}
    looked, columns, seed = list[int](), list[int](), 0
    for first in range(0, len(order), tile_rows):
        inside: set[int] = set()
        for row in order[first : first + tile_rows]:
            sampled = [column for column in rows.row(row).tolist() if column % stride == 0]
            # A row is taken by its share if the tile has one of its columns, and else by degree.
            if inside.isdisjoint(sampled):
                looked.append(place[row] + 1 - seed)
                seed = place[row] + 1
            else:
                looked.append(1)
            columns += [column for column in sampled if column not in inside]
            inside |= set(sampled)
    return TileWork(np.array(looked, np.int64), np.array(columns, np.int64))


def tiles_cost(graph: PlacedGraph, turned: PlacedGraph, work: TileWork | None, *, stride: int, out: int) -> Cost:
    """Cost of a ``grow_tiles``.

    Args:
        graph: The side that tiles keep.
        turned: The same edges turned.
        work: What growing looks at, None for rows by degree.
        stride: Columns that are multiples of it are sampled.
        out: Address of the order.
    """
    done, rows, columns = _Work(), graph.graph.rows, turned.graph.rows
    active = np.flatnonzero(graph.graph.out_degrees())
    done.starts(graph, turned)
    done.loop("rst_clear", columns)
    done.loop("rst_degrees", rows)
    done.loop("rst_begin", columns)
    done.loop("rst_sort", rows)
    if work is None:
        done.loop("rst_order", len(active) + 1)
    else:
        done.loop("rst_clear", max(rows, columns))
        done.follow("rst_samples", turned, np.arange(0, columns, stride))
        done.loop("rst_next", work.looked)
        done.follow_chunks("rst_inside", graph, active, graph.graph.out_degrees()[active])
        done.follow("rst_visit", turned, work.columns)
    done.write(out, len(active) + 1)
    return done.cost()


def _column_order(walk: int, rows: int) -> int:
    return walk + padded(4 * (rows + 1), isa().block_bytes)


def _chunks(graph: Adjacency, rows: Array, looked: Array) -> tuple[Array, Array]:
    """First id and length of each chunk of rows, up to the one with the last id that is looked at."""
    counts = -(-looked // _CHUNK)
    number = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    first = np.repeat(graph.starts[:-1][rows], counts) + number * _CHUNK
    ends = np.repeat(graph.starts[1:][rows], counts)
    return first, np.minimum(ends - first, _CHUNK)
