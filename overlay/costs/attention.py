# SPDX-License-Identifier: Apache-2.0
"""Cost of AGG's ``attend``: exact counts of what it meets in the graph, and cycles by the table of loops."""

from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from hetfab.overlay.costs.bursts import (
    BEAT_BYTES,
    BURSTS_AHEAD,
    ROW_BEATS_AHEAD,
    ROWS_AHEAD,
    bursts_of_run,
    bursts_of_runs,
    request_bursts,
)
from hetfab.overlay.costs.cycles import Cost, held_trips
from hetfab.overlay.costs.gathers import (
    AggInstructions,
    Tags,
    edge_ids,
    held_edges,
    parts_of,
    records_offset,
    segment_offset,
)
from hetfab.overlay.design import Geometry
from hetfab.overlay.isa.codec import AttendKind, AttendSource
from hetfab.overlay.isa.loops import loops
from hetfab.overlay.isa.spec import isa

Array: TypeAlias = npt.NDArray[Any]

_RECORD = isa().record("destination")
_CONTEXT_WORDS, _CHUNK_EDGES = isa().size("context_words"), isa().size("attend_edges")
_BLOCK_BEATS = isa().block_bytes // BEAT_BYTES
_UNITS_PER_BEAT = BEAT_BYTES // 2
#: Scores of a beat, beats of the maxima of a spilled row, and beats of a group behind them.
_BEAT_SCORES, _MAXIMA_BEATS, _PARTIAL_BEATS = 4, 2, 9
_LANES = 8


@dataclass
class _Counts:
    """What one instruction has done so far; bursts and beats of ports 0 (data) and 1 (graph)."""

    cycles: int = 0
    beats: list[int] = field(default_factory=lambda: [0, 0])
    bursts: list[int] = field(default_factory=lambda: [0, 0])
    written_beats: int = 0
    written_bursts: int = 0
    edges: int = 0
    misses: int = 0

    def loop(self, name: str, trips: int) -> None:
        """A loop runs once."""
        self.cycles += loops()[name].cycles_once(trips)

    def read(self, port: int, beats: int, bursts: int) -> None:
        """Reads with bursts requested ahead."""
        self.beats[port] += beats
        self.bursts[port] += bursts
        self.loop("request_ahead", min(bursts, BURSTS_AHEAD))


def attend_costs(given: AggInstructions) -> Cost:
    """Cost of every ``attend`` of a stream."""
    found = [_counts(one, given.graph, tags, given.geometry) for one, tags in given.with_tags()]
    zeros = np.zeros(len(found), np.int64)
    return Cost(
        cycles=np.array([one.cycles for one in found], np.int64),
        read_bytes=np.array([one.beats for one in found], np.int64).reshape(-1, 2) * BEAT_BYTES,
        read_bursts=np.array([one.bursts for one in found], np.int64).reshape(-1, 2),
        write_bytes=np.array([one.written_beats for one in found], np.int64) * BEAT_BYTES,
        write_bursts=np.array([one.written_bursts for one in found], np.int64),
        macs=zeros,
        edges=np.array([one.edges for one in found], np.int64),
        misses=np.array([one.misses for one in found], np.int64),
    )


def divides_groups(geometry: Geometry) -> bool:
    """Whether results take a group of channels a cycle, as ``divides_groups`` of ``attend_tile.hpp``."""
    return geometry.agg_word_beats >= 4


def dividers(geometry: Geometry) -> int:
    """Channels of a result in a cycle, as ``attend_dividers`` of ``attend_tile.hpp``."""
    return _LANES if divides_groups(geometry) else 1


def score_beats(kind: int, heads: int, head_beats: int) -> int:
    """Beats of a row that ``attend`` compares: of scores, or of keys."""
    return heads * head_beats if kind == AttendKind.DOT else -(-heads // _BEAT_SCORES)


def _counts(f: dict[str, int], graph: npt.NDArray[np.uint8], tags: Tags, geometry: Geometry) -> _Counts:
    counts = _Counts()
    counts.loop("instruction", 1)
    for _ in range(2):
        counts.loop("agg_context", _CONTEXT_WORDS)
    f = {**f, "groups": f["heads"] * f["head_groups"]}
    if f["rows"] == 0 or f["groups"] == 0:
        return counts
    f["score_beats"] = score_beats(f["kind"], f["heads"], f["sources.head_beats"])
    start = records_offset(f, _RECORD.bytes)
    records = graph[start : start + _RECORD.bytes * f["rows"] * parts_of(f)].view(_RECORD.dtype)
    degrees = records["degree"].astype(np.int64)
    record_beats = len(records) * _RECORD.bytes // BEAT_BYTES
    counts.read(1, record_beats, bursts_of_run(start // BEAT_BYTES, record_beats))
    counts.loop("agg_descriptors", record_beats)
    counts.edges = int(degrees.sum())
    _copies(f, counts)
    ids, entry_beats, entry_bursts = _entries(f, graph, int(records["first"][0]), counts.edges)
    steps = counts.edges + int(np.count_nonzero(degrees == 0))
    source = segment_offset(f["sources.address"]) // BEAT_BYTES + ids * f["sources.row_beats"]
    score_bursts = int(request_bursts(source, f["score_beats"]).sum())
    for maxima in (True,) * f["maxima"] + (False,) * f["weigh"]:
        counts.read(1, entry_beats, entry_bursts)
        counts.beats[0] += counts.edges * f["score_beats"]
        counts.bursts[0] += score_bursts
        chunks = [counts.edges] if maxima else _chunks(counts.edges)
        _chunked(counts, "attend_scores", "attend_scores_ahead", chunks, steps * f["score_beats"], f["score_beats"])
    if f["weigh"]:
        _weighted_rows(f, counts, ids, degrees, tags, geometry)
    _results(f, counts, geometry)
    return counts


def _copies(f: dict[str, int], counts: _Counts) -> None:
    """Rows of targets, types and spilled partials."""
    beats = f["score_beats"]
    target = segment_offset(f["targets.address"]) // BEAT_BYTES + f["targets.row_beats"] * f["destination"]
    types = f["types.count"] if f["kind"] == AttendKind.TYPED else 0
    for first, rows, distance in (
        (target, f["rows"], f["targets.row_beats"]),
        (segment_offset(f["types.address"]) // BEAT_BYTES, types, beats),
    ):
        dense = distance == beats
        bursts = bursts_of_run(first, rows * beats) if dense else bursts_of_runs(first, rows, beats, distance)
        counts.read(0, rows * beats, bursts)
        counts.loop("attend_rows", rows * beats)
    if f["merge"] or not f["maxima"]:
        length = _MAXIMA_BEATS + f["merge"] * f["weigh"] * _PARTIAL_BEATS * f["groups"]
        counts.read(0, f["rows"] * length, bursts_of_runs(_spilled(f), f["rows"], length, _distance(f)))
        counts.loop("attend_partials", f["rows"] * length)


def _entries(f: dict[str, int], graph: npt.NDArray[np.uint8], first_edge: int, edges: int) -> tuple[Array, int, int]:
    """Source vertices of the edges, and beats and bursts of their ids."""
    id_units = f["ids.id_bytes"] // 2
    first, units = first_edge * id_units, edges * id_units
    content = graph[segment_offset(f["ids.address"]) + 2 * first :][: 2 * units].view("<u2").astype(np.int64)
    ids = edge_ids(content, id_units, int(f["kind"] == AttendKind.TYPED))
    beats = -(-(first % _UNITS_PER_BEAT + units) // _UNITS_PER_BEAT) if units else 0
    return ids, beats, bursts_of_run(segment_offset(f["ids.address"]) // BEAT_BYTES + first // _UNITS_PER_BEAT, beats)


def _weighted_rows(
    f: dict[str, int], counts: _Counts, ids: Array, degrees: Array, tags: Tags, geometry: Geometry
) -> None:
    tagged = f["source"] == AttendSource.TAGS
    reads = np.ones(len(ids), bool)
    if tagged:
        reads = tags.misses(ids, f["features.first_block"], f["features.slot_bits"])
    read = ids[reads]
    address = segment_offset(f["features.address"]) // BEAT_BYTES + read * f["features.row_blocks"] * _BLOCK_BEATS
    counts.misses = len(read)
    counts.beats[0] += len(read) * f["groups"]
    counts.bursts[0] += int(request_bursts(address, f["groups"]).sum())
    merges = (np.arange(len(degrees)) >= f["rows"]) | (f["merge"] > 0)
    held = held_edges(degrees, ~reads, merges)
    steps = counts.edges + int(np.count_nonzero(degrees == 0)) - held
    trips = steps * (max(f["groups"], 2) if tagged else f["groups"])
    trips += held * int(held_trips(f["groups"], geometry.agg_word_beats, tagged))
    _chunked(counts, "attend_weighted", "attend_weighted_ahead", _chunks(counts.edges), trips, f["groups"])


def _results(f: dict[str, int], counts: _Counts, geometry: Geometry) -> None:
    """Partials that are written, or quotients."""
    if not f["spill"]:
        words = f["rows"] * f["groups"]
        counts.loop("agg_sums", words * f["accumulate"])
        counts.loop("attend_quotients", words * _LANES // dividers(geometry))
        return
    length = _PARTIAL_BEATS * f["groups"] if f["weigh"] else _MAXIMA_BEATS
    counts.written_beats = f["rows"] * length
    first = _spilled(f) + _MAXIMA_BEATS * f["weigh"]
    counts.written_bursts = bursts_of_runs(first, f["rows"], length, _distance(f))
    counts.loop("attend_spill", counts.written_beats)
    counts.loop("attend_responses", min(counts.written_bursts, BURSTS_AHEAD))


def _chunks(edges: int) -> list[int]:
    """Edges of each chunk of the second pass; there is one at least."""
    whole, rest = divmod(edges, _CHUNK_EDGES)
    return [_CHUNK_EDGES] * whole + [rest] * (rest > 0 or whole == 0)


def _chunked(counts: _Counts, name: str, ahead_name: str, chunks: list[int], trips: int, row_beats: int) -> None:
    """A loop over chunks of edges that takes so many trips together, with rows requested ahead in each."""
    loop = loops()[name]
    counts.cycles += trips * loop.ii + len(chunks) * loop.depth
    ahead = min(max(ROW_BEATS_AHEAD // row_beats, 1), ROWS_AHEAD)
    for edges in chunks:
        counts.loop(ahead_name, min(edges, ahead))


def _spilled(f: dict[str, int]) -> int:
    """The first beat of the first destination's spilled row."""
    return segment_offset(f["spilled.address"]) // BEAT_BYTES + f["destination"] * _distance(f)


def _distance(f: dict[str, int]) -> int:
    return f["spilled.row_blocks"] * _BLOCK_BEATS
