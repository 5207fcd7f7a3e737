# SPDX-License-Identifier: Apache-2.0
"""What each ``reduce`` of a stream meets in the graph: edges, rows that its scratchpad lacks, bursts. Exact counts."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from hetfab.overlay.costs.bursts import BEAT_BYTES, aligned_bursts, request_bursts
from hetfab.overlay.costs.cycles import SUM_BEATS, WORDS_PER_TAG, Fields, Gather
from hetfab.overlay.design import Geometry
from hetfab.overlay.isa.codec import ReduceSource
from hetfab.overlay.isa.spec import isa
from hetfab.overlay.layouts import slot_beats

Array: TypeAlias = npt.NDArray[Any]

_COUNTS = ("edges", "empty", "records", "held")
_PART_ROWS = isa().size("part_rows")
_RECORD, _RUN = isa().record("destination"), isa().record("run")
_UNIT_READS = 1 << 15
_ID_OF_WEIGHTED = (1 << 24) - 1


class Tags:
    """The tags of a scratchpad, as ``reduce`` leaves them: which vertices its slots hold.

    Attributes:
        groups: Groups of a row of the instruction that comes next.
    """

    def __init__(self, geometry: Geometry) -> None:
        self.groups = 1
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


class FewestReads(Tags):
    """The fewest rows that any use of the scratchpad reads in these instructions: a bound of tags and schedules alike.

    An instruction needs all of its sources, and of these no more are held from before than the scratchpad has room for.
    """

    def __init__(self, geometry: Geometry) -> None:
        """Nothing is held yet."""
        super().__init__(geometry)
        self._room, self._word_beats = geometry.feature_words, geometry.agg_word_beats
        self._seen: dict[int, Array] = {}

    def clear(self, first_block: int, slot_bits: int) -> None:
        """What ``configure_features`` does."""
        self._seen.pop(first_block, None)

    def misses(self, ids: Array, first_block: int, slot_bits: int) -> Array:
        """As of ``Tags``, of the first edges of sources."""
        vertices, places = np.unique(ids, return_index=True)
        before = self._seen.get(first_block, np.zeros(0, np.int64))
        known = int(np.count_nonzero(np.isin(vertices, before)))
        held = min(known, self._room // slot_beats(max(self.groups, 1), self._word_beats))
        missed = np.zeros(len(ids), bool)
        missed[np.sort(places)[held:]] = True
        self._seen[first_block] = np.union1d(before, vertices)
        return missed


@dataclass(frozen=True, eq=False)
class AggInstructions:
    """The instructions of a stream that are one operation of AGG, and what they depend on.

    Attributes:
        fields: Theirs, with those of their contexts.
        graph: Content of the segment that holds records, ids and units.
        geometry: Gives the scratchpad.
        rows: Index of each in the stream.
        clears: Fields of every ``configure_features``, which clears tags.
        cleared: Its index in the stream.
        tags: Those of the scratchpad.
    """

    fields: Fields
    graph: npt.NDArray[np.uint8]
    geometry: Geometry
    rows: Array
    clears: Fields
    cleared: Array
    tags: type[Tags]

    def with_tags(self) -> Iterator[tuple[dict[str, int], Tags]]:
        """Each one's fields with the tags that it finds, which what is made of them must leave as it does."""
        tags, following = self.tags(self.geometry), 0
        columns = zip(*(values.tolist() for values in self.fields.values()), strict=True)
        for row, values in zip(self.rows.tolist(), columns, strict=True):
            while following < len(self.cleared) and self.cleared[following] < row:
                tags.clear(int(self.clears["first_block"][following]), int(self.clears["slot_bits"][following]))
                following += 1
            one = dict(zip(self.fields, values, strict=True))
            tags.groups = one["groups"] if "groups" in one else one["heads"] * one["head_groups"]
            yield one, tags


def gathers(found: AggInstructions) -> Gather:
    """What every ``reduce`` meets."""
    names = (*_COUNTS, "first_unit", "units", "misses", "feature_bursts", "merged_bursts", "spilled_bursts")
    counts = {name: np.zeros(len(found.rows), np.int64) for name in names}
    for i, (one, tags) in enumerate(found.with_tags()):
        if one["rows"] and one["groups"]:
            for name, value in _gather(one, found.graph, tags).items():
                counts[name][i] = value
    return Gather(**counts)


def _gather(f: dict[str, int], graph: npt.NDArray[np.uint8], tags: Tags) -> dict[str, int]:
    scheduled = f["source"] == ReduceSource.SCHEDULE
    record = _RUN if scheduled else _RECORD
    start = records_offset(f, record.bytes)
    records = graph[start : start + record.bytes * f["rows"] * parts_of(f)].view(record.dtype)
    degrees = records["degree"].astype(np.int64)
    edges, id_units = int(degrees.sum()), f["ids.id_bytes"] // 2
    first = int(records["first"][0]) * (1 if scheduled else id_units)
    units = int(records["units"].sum(dtype=np.int64)) if scheduled else edges * id_units
    content = graph[segment_offset(f["ids.address"]) + 2 * first :][: 2 * units].view("<u2").astype(np.int64)
    if scheduled:
        read, reads = scheduled_reads(content, edges, id_units)
    else:
        read = edge_ids(content, id_units, f["weighted"])
        reads = np.ones(edges, bool)
        if f["source"] == ReduceSource.TAGS:
            reads = tags.misses(read, f["features.first_block"], f["features.slot_bits"])
            read = read[reads]
    row_bytes = isa().block_bytes * f["features.row_blocks"]
    address = segment_offset(f["features.address"]) + read * row_bytes
    vertices = records["row"].astype(np.int64) if scheduled else f["destination"] + np.arange(f["rows"])
    merges = (np.arange(len(records)) >= f["rows"]) | (f["merge"] > 0)
    sums = (segment_offset(f["spilled.address"]) + vertices * isa().block_bytes * f["spilled.row_blocks"]) // BEAT_BYTES
    sum_beats = SUM_BEATS * f["groups"]
    return {
        "edges": edges,
        "empty": int(np.count_nonzero(degrees == 0)),
        "records": len(records),
        "held": held_edges(degrees, ~reads, merges),
        "first_unit": first,
        "units": units,
        "misses": len(read),
        "feature_bursts": int(request_bursts(address // BEAT_BYTES, f["groups"]).sum()),
        "merged_bursts": int(request_bursts(sums, sum_beats).sum()) * f["merge"],
        "spilled_bursts": int(aligned_bursts(sums, np.full_like(sums, sum_beats)).sum()) * f["spill"],
    }


def parts_of(f: dict[str, int]) -> int:
    """Runs that an instruction takes of each destination, as ``parts_of`` of ``agg_tile.hpp``."""
    few = f["rows"] < _PART_ROWS or f.get("from_fifo", 0)
    return 1 if few else 1 + f["destinations.parts"]


def records_offset(f: dict[str, int], record_bytes: int) -> int:
    """Where its records begin: each destination has room for all of its runs."""
    place = record_bytes * (1 + f["destinations.parts"]) * f["destination"]
    return segment_offset(f["destinations.address"]) + place


def held_edges(degrees: Array, held: Array, merges: Array) -> int:
    """Edges whose rows come in whole words: held ones, but the last of a run and the first that adds to a part.

    Args:
        degrees: Edges of each run, [runs].
        held: Whether the scratchpad holds the row of each edge, bool [edges].
        merges: Whether each run begins with what there is, bool [runs].
    """
    used = degrees > 0
    ends = np.cumsum(degrees)[used]
    wide = held.copy()
    wide[ends - 1] = False
    wide[(ends - degrees[used])[merges[used]]] = False
    return int(np.count_nonzero(wide))


def edge_ids(units: Array, id_units: int, weighted: int) -> Array:
    """The source vertex of each edge from the units of ids; with weights or types they are the low 24 bits."""
    ids = units if id_units == 1 else units[::2] | units[1::2] << 16
    return np.asarray(ids & _ID_OF_WEIGHTED if weighted else ids)


def scheduled_reads(units: Array, edges: int, id_units: int) -> tuple[Array, Array]:
    """The vertices whose rows units read, and whether each edge does; only the first unit says how long an entry is."""
    starts = np.flatnonzero(units >= _UNIT_READS)
    if np.any(np.diff(starts) <= id_units):
        starts = _entries_that_read(units, edges, id_units)
    reads = np.zeros(edges, bool)
    reads[starts - id_units * np.arange(len(starts))] = True
    low, high = units[starts + 1], units[starts + 2] << 16 if id_units == 2 else 0
    return low | high, reads


def _entries_that_read(units: Array, edges: int, id_units: int) -> Array:
    """Where entries that read begin, one after the other, as some of their ids look like first units."""
    stored, place, starts = units.tolist(), 0, []
    for _ in range(edges):
        if stored[place] >= _UNIT_READS:
            starts.append(place)
            place += id_units
        place += 1
    return np.array(starts, np.int64)


def segment_offset(address: int) -> int:
    """Offset in the segment; segments begin at page boundaries, so alignments are those of physical addresses."""
    return address & ((1 << isa().offset_bits) - 1)
