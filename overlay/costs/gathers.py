# SPDX-License-Identifier: Apache-2.0
"""What each ``reduce`` of a stream meets in the graph: edges, rows that its scratchpad lacks, bursts. Exact counts."""

from collections.abc import Iterator
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from hetfab.overlay.costs.bursts import BEAT_BYTES, aligned_bursts, request_bursts
from hetfab.overlay.costs.cycles import SUM_BEATS, WORDS_PER_TAG, Fields, Gather
from hetfab.overlay.design import Geometry
from hetfab.overlay.isa.codec import ReduceSource
from hetfab.overlay.isa.spec import isa

Array: TypeAlias = npt.NDArray[Any]

_RECORD, _RUN = isa().record("destination"), isa().record("run")
_UNIT_READS = 1 << 15
_ID_OF_WEIGHTED = (1 << 24) - 1


class Tags:
    """The tags of a scratchpad, as ``reduce`` leaves them: which vertices its slots hold."""

    def __init__(self, geometry: Geometry) -> None:
        self._tags = np.zeros(geometry.feature_words // WORDS_PER_TAG, np.int64)

    def clear(self, first_block: int, slot_bits: int) -> None:
        """What ``configure_features`` does."""
        self._tags[first_block : first_block + (1 << slot_bits)] = 0

    def misses(self, ids: Array, first_block: int, slot_bits: int) -> Array:
        """Whether each edge's row must be read, bool ``[edges]``, and the tags are left as the edges leave them."""
        if not len(ids):
            return np.zeros(0, bool)
        slots = first_block + ids % (1 << slot_bits)
        order = np.argsort(slots, kind="stable")
        by_slot, vertices = slots[order], ids[order] + 1
        first = np.ones(len(ids), bool)
        first[1:] = by_slot[1:] != by_slot[:-1]
        before = np.where(first, self._tags[by_slot], np.roll(vertices, 1))
        missed = np.zeros(len(ids), bool)
        missed[order] = vertices != before
        last = np.append(first[1:], True)
        self._tags[by_slot[last]] = vertices[last]
        return missed


def gathers(
    fields: Fields, graph: npt.NDArray[np.uint8], geometry: Geometry, rows: Array, clears: Fields, cleared: Array
) -> Gather:
    """What every ``reduce`` meets.

    Args:
        fields: Of every ``reduce``, with those of its context.
        graph: Content of the segment that holds records, ids and units.
        geometry: Gives the scratchpad.
        rows: Index of each ``reduce`` in the stream.
        clears: Fields of every ``configure_features``, which clears tags.
        cleared: Its index in the stream.
    """
    names = ("edges", "empty", "first_unit", "units", "misses", "feature_bursts", "merged_bursts", "spilled_bursts")
    found = {name: np.zeros(len(rows), np.int64) for name in names}
    for i, (one, tags) in enumerate(with_tags(fields, geometry, rows, clears, cleared)):
        if one["rows"] and one["groups"]:
            for name, value in _gather(one, graph, tags).items():
                found[name][i] = value
    return Gather(**found)


def with_tags(
    fields: Fields, geometry: Geometry, rows: Array, clears: Fields, cleared: Array
) -> Iterator[tuple[dict[str, int], Tags]]:
    """Each instruction's fields with the tags that it finds, which what is made of them must leave as it does.

    Args:
        fields: Of every instruction of an operation.
        geometry: Gives the scratchpad.
        rows: Index of each in the stream.
        clears: Fields of every ``configure_features``, which clears tags.
        cleared: Its index in the stream.
    """
    tags, following = Tags(geometry), 0
    for i in range(len(rows)):
        while following < len(cleared) and cleared[following] < rows[i]:
            tags.clear(int(clears["first_block"][following]), int(clears["slot_bits"][following]))
            following += 1
        yield {name: int(values[i]) for name, values in fields.items()}, tags


def _gather(f: dict[str, int], graph: npt.NDArray[np.uint8], tags: Tags) -> dict[str, int]:
    scheduled = f["source"] == ReduceSource.SCHEDULE
    record = _RUN if scheduled else _RECORD
    start = segment_offset(f["destinations.address"]) + record.bytes * f["destination"]
    records = graph[start : start + record.bytes * f["rows"]].view(record.dtype)
    degrees = records["degree"].astype(np.int64)
    edges, id_units = int(degrees.sum()), f["ids.id_bytes"] // 2
    first = int(records["first"][0]) * (1 if scheduled else id_units)
    units = int(records["units"].sum(dtype=np.int64)) if scheduled else edges * id_units
    content = graph[segment_offset(f["ids.address"]) + 2 * first :][: 2 * units].view("<u2").astype(np.int64)
    read = _scheduled_reads(content, edges, id_units) if scheduled else edge_ids(content, id_units, f["weighted"])
    if f["source"] == ReduceSource.TAGS:
        read = read[tags.misses(read, f["features.first_block"], f["features.slot_bits"])]
    row_bytes = isa().block_bytes * f["features.row_blocks"]
    address = segment_offset(f["features.address"]) + read * row_bytes
    vertices = records["row"].astype(np.int64) if scheduled else f["destination"] + np.arange(f["rows"])
    sums = (segment_offset(f["spilled.address"]) + vertices * isa().block_bytes * f["spilled.row_blocks"]) // BEAT_BYTES
    sum_beats = SUM_BEATS * f["groups"]
    return {
        "edges": edges,
        "empty": int(np.count_nonzero(degrees == 0)),
        "first_unit": first,
        "units": units,
        "misses": len(read),
        "feature_bursts": int(request_bursts(address // BEAT_BYTES, f["groups"]).sum()),
        "merged_bursts": int(request_bursts(sums, sum_beats).sum()) * f["merge"],
        "spilled_bursts": int(aligned_bursts(sums, np.full_like(sums, sum_beats)).sum()) * f["spill"],
    }


def edge_ids(units: Array, id_units: int, weighted: int) -> Array:
    """The source vertex of each edge from the units of ids; with weights or types they are the low 24 bits."""
    ids = units if id_units == 1 else units[::2] | units[1::2] << 16
    return np.asarray(ids & _ID_OF_WEIGHTED if weighted else ids)


def _scheduled_reads(units: Array, edges: int, id_units: int) -> Array:
    """The vertices whose rows units read; how long an entry is, only its first unit says."""
    stored, place, read = units.tolist(), 0, []
    for _ in range(edges):
        if stored[place] >= _UNIT_READS:
            read.append(stored[place + 1] | (stored[place + 2] << 16 if id_units == 2 else 0))
            place += id_units
        place += 1
    return np.array(read, np.int64)


def segment_offset(address: int) -> int:
    """Offset in the segment; segments begin at page boundaries, so alignments are those of physical addresses."""
    return address & ((1 << isa().offset_bits) - 1)
