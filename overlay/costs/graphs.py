# SPDX-License-Identifier: Apache-2.0
"""Cost functions of SGB: what a composition and a transpose take, as the emulator counts it. Cycles are modelled.

They need the graphs, whose degrees decide everything. The loops are those of ``sgb.hpp``, in its order.
"""

from dataclasses import dataclass

import numpy as np

from hetfab.overlay.costs.bursts import BEAT_BYTES, BURSTS_AHEAD, Array, aligned_bursts
from hetfab.overlay.costs.cycles import Cost
from hetfab.overlay.design import Geometry
from hetfab.overlay.isa.loops import loops
from hetfab.overlay.isa.spec import isa
from hetfab.overlay.layouts import padded
from hetfab.overlay.semantic.adjacency import Adjacency
from hetfab.overlay.semantic.bitmaps import WORD_BITS, is_dense, words_of

_NUMBERS = BEAT_BYTES // 4
_BLOCK_ROWS = isa().size("sgb_block_rows")
_BATCH = isa().size("sgb_batch")
_PAGE_BEATS = isa().size("page_bytes") // BEAT_BYTES


@dataclass(frozen=True, eq=False)
class PlacedGraph:
    """A graph in the layout 'adjacency' and its address, a multiple of the block."""

    graph: Adjacency
    address: int

    @property
    def starts_beat(self) -> int:
        """The first beat of its starts."""
        return self.address // BEAT_BYTES

    @property
    def ids_beat(self) -> int:
        """The first beat of its ids."""
        return (self.address + padded(4 * (self.graph.rows + 1), isa().block_bytes)) // BEAT_BYTES


@dataclass(frozen=True, eq=False)
class NumberReads:
    """Runs of numbers that are read: their beats and bursts, and the cycles of the requests that go ahead."""

    beats: Array
    bursts: Array

    @property
    def cycles(self) -> int:
        """Cycles of the requests, run by run."""
        return int(loops()["request_ahead"].cycles(np.minimum(self.bursts, BURSTS_AHEAD)).sum())


def compose_cost(
    left: PlacedGraph,
    right: PlacedGraph,
    out: PlacedGraph,
    threshold: int,
    *,
    to_fifo: bool = False,
    bitmaps: int | None = None,
) -> Cost:
    """Cost of a ``compose``.

    Args:
        left: S x K.
        right: K x D.
        out: Their product; all of it fits.
        threshold: Expansions above which a row is collected in the bitmap.
        to_fifo: The rows go to AGG, not to DRAM.
        bitmaps: Address of the bitmaps of dense rows of ``right``, None where there are none.
    """
    table = loops()
    middles, degrees = left.graph.ids, left.graph.out_degrees()
    lengths = right.graph.out_degrees()[middles]
    single = np.repeat(degrees == 1, degrees)
    starts, batches = _start_reads(left), _batch_reads(left)
    counts = _batch_counts(degrees)
    words = words_of(right.graph.columns)
    joined = _joined(left.graph, lengths, counts, threshold, words) if bitmaps is not None else np.zeros_like(single)
    firsts = right.graph.starts[:-1][middles]
    rows = number_reads(right.ids_beat, firsts, np.where(joined, 0, lengths))
    wide = _bitmap_reads(bitmaps or 0, firsts[joined], words)
    pairs = 1 + middles % _NUMBERS
    expanded = np.bincount(np.repeat(np.arange(left.graph.rows), degrees), lengths, minlength=left.graph.rows)
    found, several = out.graph.out_degrees(), degrees > 1
    ascends = several & (expanded > threshold)
    written = 0 if to_fifo else _row_write_bursts(out)
    cycles = (
        table["sgb_context"].cycles(isa().size("sgb_words"))
        + table["sgb_clear"].cycles(words)
        + (starts.cycles + table["sgb_starts"].cycles(_block_rows(left.graph.rows) + 1).sum())
        + (batches.cycles + table["sgb_starts"].cycles(counts).sum())
        + table["sgb_requests"].cycles(counts).sum()
        + table["sgb_rows"].cycles(_sums(pairs, counts)).sum()
        + (rows.cycles + wide.cycles)
        + np.where(single, table["sgb_copy"].cycles(lengths), table["sgb_expand"].cycles(lengths))[~joined].sum()
        + table["sgb_wide"].cycles(wide.beats).sum()
        + table["sgb_ascend"].cycles(words - _filled_words(out.graph, words) + found)[ascends].sum()
        + table["sgb_seen"].cycles(found)[several & ~ascends].sum()
        + (0 if to_fifo else table["sgb_out_starts"].cycles(np.append(_block_rows(left.graph.rows), 1)).sum())
        + table["number_responses"].cycles(min(written, BURSTS_AHEAD))
    )
    return graph_cost(
        int(cycles),
        right=NumberReads(
            rows.beats.sum() + wide.beats.sum() + pairs.sum(),
            rows.bursts.sum() + wide.bursts.sum() + _pair_bursts(right, middles),
        ),
        left=NumberReads(starts.beats.sum() + batches.beats.sum(), starts.bursts.sum() + batches.bursts.sum()),
        written=written,
        written_beats=0 if to_fifo else _beats_of(out),
        edges=int(lengths.sum()),
    )


def widen_cost(right: PlacedGraph, bitmaps: int) -> Cost:
    """Cost of a ``widen``.

    Args:
        right: The graph whose dense rows become bitmaps.
        bitmaps: Their address.
    """
    table, degrees, words = loops(), right.graph.out_degrees(), words_of(right.graph.columns)
    dense = is_dense(degrees, words)
    starts, firsts = _start_reads(right), right.graph.starts[:-1][dense]
    rows, written = number_reads(right.ids_beat, firsts, degrees[dense]), _bitmap_reads(bitmaps, firsts, words)
    cycles = (
        table["sgb_context"].cycles(isa().size("sgb_words"))
        + table["sgb_clear"].cycles(words)
        + (starts.cycles + table["sgb_starts"].cycles(_block_rows(right.graph.rows) + 1).sum())
        + rows.cycles
        + table["sgb_expand"].cycles(degrees[dense]).sum()
        + table["sgb_widen"].cycles(written.beats).sum()
        + table["number_responses"].cycles(min(int(written.bursts.sum()), BURSTS_AHEAD))
    )
    return graph_cost(
        int(cycles),
        right=NumberReads(rows.beats.sum(), rows.bursts.sum()),
        left=NumberReads(starts.beats.sum(), starts.bursts.sum()),
        written=int(written.bursts.sum()),
        written_beats=int(written.beats.sum()),
        edges=int(degrees[dense].sum()),
    )


def transpose_cost(graph: PlacedGraph, out: PlacedGraph, geometry: Geometry) -> Cost:
    """Cost of a ``transpose``.

    Args:
        graph: What is turned.
        out: The same edges turned; all of them fit.
        geometry: Gives the window of ids that is kept on chip.
    """
    table, edges, columns = loops(), graph.graph.edges, graph.graph.columns
    windows = np.arange(0, edges, geometry.sgb_ids)
    sizes = np.minimum(edges - windows, geometry.sgb_ids)
    passes = len(windows)
    every, starts = number_reads(graph.ids_beat, np.zeros(1, np.int64), np.array([edges])), _start_reads(graph)
    written = written_bursts(out.ids_beat, windows, sizes, edges)
    written += written_bursts(out.starts_beat, np.zeros(1, np.int64), np.array([columns + 1]), columns + 1)
    end = number_reads(graph.starts_beat, np.array([graph.graph.rows]), np.ones(1, np.int64))
    one_pass = (
        every.cycles
        + starts.cycles
        + table["sgb_starts"].cycles(_block_rows(graph.graph.rows) + 1).sum()
        + table["sgb_place"].cycles(graph.graph.out_degrees()).sum()
    )
    cycles = (
        table["sgb_context"].cycles(isa().size("sgb_words"))
        + (end.cycles + table["sgb_starts"].cycles(1))
        + table["sgb_clear"].cycles(columns)
        + every.cycles
        + table["sgb_count"].cycles(edges)
        + table["sgb_begin"].cycles(columns + 1)
        + max(passes - 1, 0) * table["sgb_rewind"].cycles(columns)
        + passes * one_pass
        + table["sgb_window"].cycles(sizes).sum()
        + table["number_responses"].cycles(min(written, BURSTS_AHEAD))
    )
    return graph_cost(
        int(cycles),
        right=NumberReads(every.beats.sum() * (1 + passes), every.bursts.sum() * (1 + passes)),
        left=NumberReads(
            end.beats.sum() + starts.beats.sum() * passes, end.bursts.sum() + starts.bursts.sum() * passes
        ),
        written=written,
        written_beats=_beats_of(out),
        edges=edges * (1 + passes),
    )


def graph_cost(
    cycles: int, *, right: NumberReads, left: NumberReads, written: int, written_beats: int, edges: int
) -> Cost:
    """The cost of one instruction; the loop that every instruction has is added."""

    def one(value: int) -> Array:
        return np.array([value], np.int64)

    return Cost(
        cycles=one(cycles) + loops()["instruction"].cycles(1),
        read_bytes=np.array([[right.beats, left.beats]], np.int64) * BEAT_BYTES,
        read_bursts=np.array([[right.bursts, left.bursts]], np.int64),
        write_bytes=one(written_beats * BEAT_BYTES),
        write_bursts=one(written),
        macs=one(0),
        edges=one(edges),
        misses=one(0),
    )


def number_reads(array_beat: int, first: Array, count: Array) -> NumberReads:
    """Runs of ``count`` numbers from number ``first`` on."""
    beats = np.where(count > 0, (first % _NUMBERS + count + _NUMBERS - 1) // _NUMBERS, 0)
    return NumberReads(beats, aligned_bursts(array_beat + first // _NUMBERS, beats))


def _bitmap_reads(bitmaps: int, first: Array, words: int) -> NumberReads:
    """Bitmaps of rows whose ids begin at ``first``; they begin with the first whole beat."""
    return number_reads(bitmaps // BEAT_BYTES, first + first % _NUMBERS, np.full(len(first), _NUMBERS * words))


def _joined(left: Adjacency, lengths: Array, counts: Array, threshold: int, words: int) -> Array:
    """Edges of ``left`` whose right row is joined as a bitmap: their batch's expansions, with those before, suffice."""
    degrees = left.out_degrees()
    of_batch = np.repeat(np.arange(len(counts)), counts)
    ends = np.cumsum(np.bincount(of_batch, lengths, minlength=len(counts)))
    before_row = np.concatenate([[0], np.cumsum(lengths)])[left.starts[:-1]]
    expansions = ends[of_batch] - np.repeat(before_row, degrees)
    return np.asarray((np.repeat(degrees, degrees) > 1) & (expansions > threshold) & is_dense(lengths, words))


def _filled_words(graph: Adjacency, words: int) -> Array:
    """Words of each row's bitmap that hold an id."""
    rows = np.repeat(np.arange(graph.rows), graph.out_degrees())
    filled = np.unique(rows * words + graph.ids // WORD_BITS)
    return np.bincount(filled // max(words, 1), minlength=graph.rows)


def _block_rows(rows: int) -> Array:
    """Rows of each block whose starts are read at once."""
    return np.asarray(np.minimum(rows - np.arange(0, rows, _BLOCK_ROWS), _BLOCK_ROWS))


def _start_reads(graph: PlacedGraph) -> NumberReads:
    rows = graph.graph.rows
    return number_reads(graph.starts_beat, np.arange(0, rows, _BLOCK_ROWS), _block_rows(rows) + 1)


def _batch_counts(degrees: Array) -> Array:
    """Edges of each batch, row after row."""
    batches = -(-degrees // _BATCH)
    first = np.cumsum(batches) - batches
    number = np.arange(batches.sum()) - np.repeat(first, batches)
    return np.asarray(np.minimum(np.repeat(degrees, batches) - number * _BATCH, _BATCH))


def _batch_reads(left: PlacedGraph) -> NumberReads:
    counts = _batch_counts(left.graph.out_degrees())
    return number_reads(left.ids_beat, np.cumsum(counts) - counts, counts)


def _sums(values: Array, counts: Array) -> Array:
    """Sums of consecutive values, ``counts`` of them each, all above 0."""
    return np.add.reduceat(values, np.cumsum(counts) - counts) if len(counts) else counts


def _pair_bursts(right: PlacedGraph, middles: Array) -> int:
    """Bursts of both ends of rows: two of them where they straddle pages."""
    last = (right.starts_beat + middles // _NUMBERS) % _PAGE_BEATS == _PAGE_BEATS - 1
    return len(middles) + int(np.count_nonzero(last & (middles % _NUMBERS == 1)))


def _row_write_bursts(out: PlacedGraph) -> int:
    """Bursts of a composition's ids, row by row, and of its starts, block by block and the last one."""
    graph, blocks = out.graph, _block_rows(out.graph.rows)
    first_rows = np.append(np.cumsum(blocks) - blocks, graph.rows)
    ids = written_bursts(out.ids_beat, graph.starts[:-1], graph.out_degrees(), graph.edges)
    return ids + written_bursts(out.starts_beat, first_rows, np.append(blocks, 1), graph.rows + 1)


def written_bursts(array_beat: int, first: Array, count: Array, end: int) -> int:
    """Bursts of runs of written numbers, the beats that each completes, and of a last half beat."""
    beats = (first % _NUMBERS + count) // _NUMBERS
    return int(aligned_bursts(array_beat + first // _NUMBERS, beats).sum()) + end % _NUMBERS


def _beats_of(out: PlacedGraph) -> int:
    return -(-out.graph.edges // _NUMBERS) + -(-(out.graph.rows + 1) // _NUMBERS)
