# SPDX-License-Identifier: Apache-2.0
"""Cost of a ``reduce`` whose rows come from SGB: what the emulator counts, from the rows. Cycles are modelled."""

from collections.abc import Mapping

import numpy as np

from hetfab.overlay.costs.bursts import BEAT_BYTES, BURSTS_AHEAD, Array, aligned_bursts, request_bursts, rows_ahead
from hetfab.overlay.costs.cycles import SUM_BEATS, Cost, held_trips
from hetfab.overlay.costs.gathers import Tags, held_edges
from hetfab.overlay.isa.codec import ReduceSource
from hetfab.overlay.isa.loops import loops
from hetfab.overlay.isa.spec import isa
from hetfab.overlay.semantic.adjacency import Adjacency

#: A bit of the quotient each, from 2^17 down.
_QUOTIENT_BITS = 18


def reduce_by_fifo_cost(fields: Mapping[str, int], rows: Adjacency, tags: Tags, word_beats: int = 1) -> Cost:
    """Cost of a ``reduce`` with ``from_fifo``: destinations one by one, as only then the next degree is known.

    Args:
        fields: groups, accumulate, source, merge, spill and destination; of its contexts ``features.address``,
            ``features.row_blocks``, ``features.first_block`` and ``features.slot_bits``, and where it merges or spills
            ``spilled.address`` and ``spilled.row_blocks``.
        rows: The rows that come, a destination each; not empty.
        tags: As the instructions before leave them; they are left as this one does.
        word_beats: The design's ``agg_word_beats``.
    """
    table, degrees, groups = loops(), rows.out_degrees(), fields["groups"]
    tagged = fields["source"] == ReduceSource.TAGS
    reads = np.ones(rows.edges, bool)
    if tagged:
        reads = tags.misses(rows.ids, fields["features.first_block"], fields["features.slot_bits"])
    read = rows.ids[reads]
    wide = held_edges(degrees, ~reads, np.full(rows.rows, fields["merge"] > 0))
    sum_beats = SUM_BEATS * groups
    merged, spilled = fields["merge"] * rows.rows, fields["spill"] * rows.rows
    sums = _row_beats(fields, "spilled", fields["destination"] + np.arange(rows.rows)) if merged + spilled else degrees
    responses = aligned_bursts(sums, np.full_like(sums, sum_beats)) * fields["spill"]
    held = groups * (fields["accumulate"] > 0 and not fields["spill"])
    trips = max(groups, 2) if tagged else groups
    cycles = (
        table["agg_context"].cycles(isa().size("context_words"))
        + rows.rows * (table["agg_divide"].cycles(_QUOTIENT_BITS) + table["agg_sums"].cycles(held))
        + merged * (table["agg_spilled_ahead"].cycles(1) + table["agg_spilled"].cycles(sum_beats))
        + table["agg_rows_ahead"].cycles(np.minimum(degrees, rows_ahead(np.array(groups)))).sum()
        + table["agg_gather"].cycles(np.maximum(degrees, 1) * trips).sum()
        - wide * (trips - held_trips(groups, word_beats, tagged))
        + spilled * table["agg_spill"].cycles(sum_beats)
        + table["agg_spill_responses"].cycles(np.minimum(responses, BURSTS_AHEAD)).sum()
        + table["instruction"].cycles(1)
    )
    read_bursts = request_bursts(_row_beats(fields, "features", read), groups).sum()
    read_bursts += request_bursts(sums, sum_beats).sum() * fields["merge"]
    return Cost(
        cycles=np.array([cycles], np.int64),
        read_bytes=np.array([[(len(read) * groups + merged * sum_beats) * BEAT_BYTES, 0]], np.int64),
        read_bursts=np.array([[read_bursts, 0]], np.int64),
        write_bytes=np.array([spilled * sum_beats * BEAT_BYTES], np.int64),
        write_bursts=np.array([responses.sum()], np.int64),
        macs=np.zeros(1, np.int64),
        edges=np.array([rows.edges], np.int64),
        misses=np.array([len(read)], np.int64),
    )


def _row_beats(fields: Mapping[str, int], context: str, vertices: Array) -> Array:
    """The first beat of the rows of vertices; segments begin at page boundaries."""
    offset = fields[f"{context}.address"] & ((1 << isa().offset_bits) - 1)
    return (offset + vertices * isa().block_bytes * fields[f"{context}.row_blocks"]) // BEAT_BYTES
