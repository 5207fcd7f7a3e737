# SPDX-License-Identifier: Apache-2.0
"""Edges in parts of their sources: each once, in order, and the same results and costs in every execution."""

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hetfab.hls.build.emulator import Emulator
from hetfab.overlay.costs.gathers import FewestReads, Tags
from hetfab.overlay.costs.program_cost import expected_records
from hetfab.overlay.errors import StreamInvalidError
from hetfab.overlay.isa import codec
from hetfab.overlay.isa.codec import AttendKind, AttendSource, ReduceMode, ReduceSource, Segment
from hetfab.overlay.isa.spec import isa
from hetfab.overlay.isa.words import pack
from hetfab.overlay.layouts import destination_records, id_array
from hetfab.overlay.layouts import pack as pack_pieces
from hetfab.overlay.parts import PART_ROWS, Parts, in_parts, most_parts
from tests import test_aggregation as sums
from tests import test_attention as attention
from tests.attention_layers import Layer, LayerProgram, layers
from tests.conftest import SMALL_GEOMETRY

Array = npt.NDArray[Any]


@st.composite
def relations(draw: st.DrawFn) -> sums.Relation:
    """At least as many destinations as take parts, and few sources that many of them have in common."""
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    destinations, vertices = draw(st.integers(PART_ROWS - 1, 24)), draw(st.sampled_from([3, 9, 40, 700]))
    degrees = random.integers(0, draw(st.sampled_from([1, 12, 60])) + 1, destinations)
    features = random.integers(-128, 128, (vertices, sums.CHANNELS), dtype=np.int8)
    sources = random.integers(0, vertices, int(degrees.sum()))
    return sums.Relation(np.concatenate([[0], np.cumsum(degrees)]), sources, features)


@settings(max_examples=60, deadline=None)
@given(relation=relations(), slots=st.sampled_from([1, 4, 8, 512]), tile_rows=st.sampled_from([4, 16, 17, 64]))
def test_each_edge_is_in_the_run_of_its_destination_once(relation: sums.Relation, slots: int, tile_rows: int) -> None:
    parts = in_parts(relation.indptr, relation.sources, len(relation.features), slots, tile_rows)
    order = parts.take(np.arange(len(relation.sources)))
    assert sorted(order.tolist()) == list(range(len(relation.sources)))
    assert parts.count <= most_parts(tile_rows)
    rows = np.repeat(np.arange(relation.destinations), np.diff(relation.indptr))[order]
    records = np.full(len(parts.degrees), -1)
    for places in parts.places:
        records[places[places >= 0]] = np.flatnonzero(places >= 0)
    assert np.array_equal(rows, np.repeat(records, parts.degrees))


def test_tiles_take_part_after_part_of_their_destinations() -> None:
    """Two tiles of 16 destinations and one of 3, which has one run of each."""
    degrees = np.full(35, 40)
    sources = np.tile(np.arange(40) * 8 % 40, 35)
    parts = in_parts(np.concatenate([[0], np.cumsum(degrees)]), sources, 40, 20, 16)
    assert parts.count == 2
    assert parts.places[:, :3].tolist() == [[0, 1, 2], [16, 17, 18]]
    assert parts.places[:, 16].tolist() == [32, 48]
    assert parts.places[:, 32:].tolist() == [[64, 65, 66], [-1, -1, -1]]
    in_first = parts.take(sources)[: int(parts.degrees[:16].sum())]
    assert in_first.max() < 20 <= parts.take(sources)[int(parts.degrees[:16].sum())]


def test_parts_that_are_not_worth_their_runs_are_joined() -> None:
    """Edges of a few destinations lead from the upper half of the sources, those of all from the lower one."""
    sources = np.concatenate([*([np.arange(20)] * 32), np.arange(20, 40)])
    indptr = np.append(np.arange(33) * 20, 660)
    assert in_parts(np.append(indptr[:32], 660), sources, 40, 20, 32).count == 1
    assert in_parts(np.append(indptr[:32], 660), np.tile(np.arange(40), 17)[:660], 40, 20, 32).count == 2


def reduced(relation: sums.Relation, parts: Parts, mode: ReduceMode, source: ReduceSource) -> tuple[list[int], Array]:
    """A relation reduced in parts: a program and the content of the graph segment."""
    records = parts.records(destination_records(relation.indptr))
    ids = id_array(parts.take(relation.sources), len(relation.features))
    content, (first, second) = pack_pieces([records, ids])
    words = sums.context(relation, first, second, len(relation.sources), 2, relation.destinations)
    words[1] |= parts.count - 1 << isa().operation("configure_destinations").field("parts").lsb
    return [*words, sums.reduce(relation.destinations, mode, source)], content


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(relation=relations(), mode=st.sampled_from(ReduceMode), source=st.sampled_from([ReduceSource.TAGS, 0]))
def test_sums_in_parts_are_those_of_the_definition(
    relation: sums.Relation, mode: ReduceMode, source: ReduceSource, small_emulators: dict[str, Emulator]
) -> None:
    """And cost what the cost functions say."""
    expected = relation.expected(mode).reshape(-1)
    parts = in_parts(relation.indptr, relation.sources, len(relation.features), sums.SLOTS, relation.destinations)
    words, graph = reduced(relation, parts, mode, source)
    dram = sums.memories(relation, words, graph)
    results = [sums.golden(SMALL_GEOMETRY, {s: content.copy() for s, content in dram.items()}, words)]
    costs = expected_records(pack(words), graph, SMALL_GEOMETRY)
    for emulator in small_emulators.values():
        found, log = sums.emulated(emulator, {s: content.copy() for s, content in dram.items()}, words)
        results.append(found)
        for name in sums.RECORDED:
            assert np.array_equal(log[name], costs[name]), name
    for result in results:
        np.testing.assert_array_equal(result.reshape(-1)[: expected.size], expected)


def attended(layer: Layer, source: AttendSource, rows: int) -> LayerProgram:
    """Attention over the first destinations of a layer, their edges in parts of 4 sources."""
    parts = in_parts(layer.indptr, layer.sources, len(layer.features), 4, layer.destinations)
    ordered = replace(layer, sources=parts.take(layer.sources), types=parts.take(layer.types))
    program = LayerProgram(ordered, [ordered], records=[parts.records(destination_records(layer.indptr))])
    program.configure(0)
    program.words[1] |= parts.count - 1 << isa().operation("configure_destinations").field("parts").lsb
    program.attend(0, rows, source=source)
    return program.finished()


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(layer=layers(most_groups=4, fewest_rows=16), source=st.sampled_from(AttendSource))
def test_attention_in_parts_is_that_of_the_definition(
    layer: Layer, source: AttendSource, small_emulators: dict[str, Emulator]
) -> None:
    rows = layer.destinations
    if max(layer.heads * layer.head_groups, layer.source_scores.shape[1] // 8) * rows > SMALL_GEOMETRY.sum_words:
        return
    expected, program = layer.expected(), attended(layer, source, rows)
    results = [attention.golden(SMALL_GEOMETRY, program)]
    costs = expected_records(pack(program.words), program.dram[Segment.GRAPH], SMALL_GEOMETRY)
    for emulator in small_emulators.values():
        found, log = attention.emulated(emulator, program)
        results.append(found)
        for name in attention.RECORDED:
            assert np.array_equal(log[name], costs[name]), name
    for result in results:
        np.testing.assert_array_equal(result.reshape(-1)[: expected.size].reshape(rows, -1), expected)


def test_more_records_than_there_is_room_for_are_refused(small_emulator: Emulator) -> None:
    """By the golden model and by the emulator."""
    relation = sums.Relation(np.arange(41), np.zeros(40, np.int64), np.zeros((1, sums.CHANNELS), np.int8))
    words = sums.context(relation, 0, 640 * 64, 40, 2, 40)
    words[1] |= 15 << isa().operation("configure_destinations").field("parts").lsb
    words.append(
        codec.reduce(
            slot=0, rows=40, mode=ReduceMode.SUM, unsigned=0, accumulate=0, groups=1, source=ReduceSource.DRAM,
            merge=0, spill=0, weighted=0, from_fifo=0, destination=0, sum=0,
        )
    )  # fmt: skip
    dram = sums.memories(relation, words, np.zeros(1 << 16, np.uint8))
    with pytest.raises(StreamInvalidError, match="40 rows in 16 parts"):
        sums.golden(SMALL_GEOMETRY, dram, words)
    with pytest.raises(AssertionError, match="40 rows in 16 parts, AGG holds 512 records"):
        sums.emulated(small_emulator, dram, words)


@pytest.mark.parametrize("kind", AttendKind, ids=lambda kind: kind.name)
def test_rows_of_a_dense_graph_are_read_once_by_a_tile(kind: AttendKind, small_emulators: dict[str, Emulator]) -> None:
    """16 destinations with edges from all 16 sources, of which 4 are held: 16 reads in parts, 256 otherwise."""
    random, rows = np.random.default_rng(kind), PART_ROWS
    scores = (
        random.integers(-128, 128, (rows, 8), np.int8)
        if kind is AttendKind.DOT
        else random.integers(-300, 300, (rows, 1), np.int16)
    )
    layer = Layer(
        np.arange(rows + 1) * rows, np.tile(np.arange(rows), rows), np.zeros(rows * rows, np.int64),
        random.integers(-128, 128, (rows, 32), np.int8), scores, scores, np.zeros((1, 1), np.int16), kind, 1, 819, 8,
    )  # fmt: skip
    for emulator in small_emulators.values():
        _, log = attention.emulated(emulator, attended(layer, AttendSource.TAGS, rows))
        assert log["misses"][-1] == rows
        _, plain = attention.emulated(emulator, attention.whole(layer, AttendSource.TAGS, 0, rows))
        assert plain["misses"][-1] == rows * rows
        assert plain["cycles"][-1] - log["cycles"][-1] > 100


def test_no_use_of_the_scratchpad_reads_fewer_rows() -> None:
    """Than the distinct sources of each instruction, less what is held from before; direct-mapped tags read more."""
    geometry = replace(SMALL_GEOMETRY, feature_words=16)
    random = np.random.default_rng(0)
    fewest, tags = FewestReads(geometry), Tags(geometry)
    fewest.groups = 8
    found = []
    for ids in (random.integers(0, 9, 60) for _ in range(5)):
        least = int(fewest.misses(ids, 0, 1).sum())
        assert least <= int(tags.misses(ids, 0, 1).sum())
        found.append(least - len(np.unique(ids)))
    # Two rows of 8 words fit.
    assert found == [0, -2, -2, -2, -2]
