# SPDX-License-Identifier: Apache-2.0
"""Edges in parts of their sources: each once, in order, and the same results and costs in every execution."""

from ctypes import CDLL
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hetfab.driver import edges_in_parts
from hetfab.hls.build import host_library
from hetfab.hls.build import parts as compiled
from hetfab.hls.build.cache import CACHE_VARIABLE
from hetfab.hls.build.emulator import Emulator
from hetfab.hls.build.parts import compiled_parts_maker
from hetfab.overlay.costs.gathers import FewestReads, Tags
from hetfab.overlay.costs.program_cost import expected_records
from hetfab.overlay.errors import CompilerMissingError, StreamInvalidError
from hetfab.overlay.isa import codec
from hetfab.overlay.isa.codec import AttendKind, AttendSource, ReduceMode, ReduceSource, Segment
from hetfab.overlay.isa.spec import isa
from hetfab.overlay.isa.words import pack
from hetfab.overlay.layouts import MARKED_ROWS, destination_records, id_array, id_bytes, marked_ids
from hetfab.overlay.layouts import pack as pack_pieces
from hetfab.overlay.parts import PART_ROWS, Ids, Parts, PartsMaker, block_width, in_parts, most_parts
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


def ids_of(sources: Array, vertices: int) -> Ids:
    """As a context without marks has them."""
    return id_array(sources, vertices).view(f"<u{id_bytes(vertices)}")


def by_destination(parts: Parts) -> list[Array]:
    """The ids of each destination, part after part."""
    runs = np.split(parts.ids, np.cumsum(parts.degrees)[:-1])
    return [np.concatenate([runs[place] for place in places if place >= 0]) for places in parts.places().T.tolist()]


@pytest.mark.parametrize("make", [in_parts, compiled_parts_maker()], ids=["numpy", "compiled"])
@settings(max_examples=60, deadline=None)
@given(relation=relations(), slots=st.sampled_from([1, 4, 8, 512]), tile_rows=st.sampled_from([4, 16, 17, 64]))
def test_each_edge_is_in_the_run_of_its_destination_once(
    make: PartsMaker, relation: sums.Relation, slots: int, tile_rows: int
) -> None:
    """Edges from a block keep their order, and marks above sources go with them."""
    edges, vertices = len(relation.sources), len(relation.features)
    ids = marked_ids(relation.sources, np.arange(edges)).view(np.uint32)
    parts = make(relation.indptr, ids.copy(), vertices, slots, tile_rows)
    assert parts.count <= most_parts(tile_rows)
    rows = np.split(ids, relation.indptr[1:-1])
    for row, found in zip(rows, by_destination(parts), strict=True):
        blocks = (row & MARKED_ROWS - 1) // block_width(vertices, slots)
        assert np.array_equal(row[np.argsort(blocks, kind="stable")], found)
    assert parts.degrees.sum() == edges
    means = np.arange(4 * relation.destinations, dtype=np.uint32).view(np.uint8)
    records = parts.records(means).view(isa().record("destination").dtype)
    assert np.array_equal(records["degree"], parts.degrees)
    assert np.array_equal(records["first"], np.cumsum(parts.degrees) - parts.degrees)
    for places in parts.places():
        there = places >= 0
        whole = means.view(records.dtype)[there]
        assert np.array_equal(records[["reciprocal", "exponent"]][places[there]], whole[["reciprocal", "exponent"]])


@settings(max_examples=150, deadline=None)
@given(relation=relations(), data=st.data())
def test_compiled_code_makes_the_same_parts(relation: sums.Relation, data: st.DataObject) -> None:
    """Of rows whose sources ascend, of some that do not, and of sources of 2 and of 4 bytes, with marks and without."""
    sources, rows = relation.sources, np.repeat(np.arange(relation.destinations), np.diff(relation.indptr))
    ascending = data.draw(st.sampled_from([0, relation.destinations // 2, relation.destinations]))
    order = np.lexsort((np.where(rows < ascending, sources, 0), rows))
    vertices = len(relation.features)
    wide, offset = data.draw(st.sampled_from([(vertices, 0), (65_536, 65_536 - vertices), (1 << 25, 1 << 24)]))
    ids = ids_of(sources[order] + offset, wide)
    if data.draw(st.booleans()) and wide <= MARKED_ROWS:
        ids = marked_ids(sources[order] + offset, sources).view(np.uint32)
    slots, tile_rows = data.draw(st.sampled_from([1, 4, 20, 1000])), data.draw(st.sampled_from([4, 16, 17, 64, 300]))
    indptr = relation.indptr.astype(data.draw(st.sampled_from([np.int32, np.int64])))
    expected, found = (make(indptr, ids.copy(), wide, slots, tile_rows) for make in (in_parts, compiled_parts_maker()))
    assert (found.count, found.tile_rows, found.ids.dtype) == (expected.count, expected.tile_rows, expected.ids.dtype)
    assert np.array_equal(found.degrees, expected.degrees)
    assert np.array_equal(found.ids, expected.ids)


@pytest.mark.parametrize("make", [in_parts, compiled_parts_maker()], ids=["numpy", "compiled"])
def test_graphs_without_edges_or_destinations_have_one_part(make: PartsMaker) -> None:
    none = np.zeros(0, np.uint16)
    parts = make(np.zeros(41, np.int64), none, 9, 4, 16)
    assert (parts.count, parts.degrees.tolist(), len(parts.ids)) == (1, [0] * 40, 0)
    parts = make(np.zeros(1, np.int64), none, 0, 4, 16)
    assert (parts.count, len(parts.degrees), len(parts.ids), len(parts.records(np.zeros(0, np.uint8)))) == (1, 0, 0, 0)


@pytest.mark.parametrize("kind", [np.uint8, np.int64, ">u2", ">u4"])
def test_ids_of_other_types_are_put_in_parts_too(kind: npt.DTypeLike) -> None:
    indptr, ids = np.arange(41) * 30, np.random.default_rng(0).integers(0, 200, 1200).astype(kind)
    expected = in_parts(indptr, ids.astype(np.uint16), 200, 50, 20)
    found = compiled_parts_maker()(indptr, ids, 200, 50, 20)
    assert found.count == expected.count > 1
    assert np.array_equal(found.degrees, expected.degrees) and np.array_equal(found.ids, expected.ids)


def test_ids_that_may_not_be_written_stay_as_they_are() -> None:
    indptr, ids = np.arange(41) * 30, np.random.default_rng(0).integers(0, 200, 1200).astype(np.uint16)
    before = ids.copy()
    ids.flags.writeable = False
    expected, found = (make(indptr, ids, 200, 50, 20) for make in (in_parts, compiled_parts_maker()))
    assert np.array_equal(ids, before) and not np.array_equal(found.ids, before)
    assert np.array_equal(found.ids, expected.ids)


@pytest.mark.parametrize("starts", [[0, 2, 99], [1, 2, 4], [0, 3, 1, 4]], ids=["beyond", "late", "falling"])
def test_compiled_code_reads_no_ids_but_those_given(starts: list[int]) -> None:
    def called(*_: object) -> int:
        raise AssertionError("compiled code was called")

    library = SimpleNamespace(hetfab_parts_of_2_bytes=called)
    with pytest.raises(ValueError, match=r"broadcast|negative"):
        compiled._in_parts(cast(CDLL, library), np.array(starts), np.arange(4, dtype=np.uint16), 9, 4, 16)


def test_numpy_makes_parts_where_compiled_code_has_no_memory() -> None:
    indptr, ids = np.arange(41) * 30, np.random.default_rng(0).integers(0, 200, 1200).astype(np.uint16)
    library = SimpleNamespace(hetfab_parts_of_2_bytes=lambda *_: 0)
    found, expected = (
        make(indptr, ids, 200, 50, 20) for make in (partial(compiled._in_parts, cast(CDLL, library)), in_parts)
    )
    assert np.array_equal(found.degrees, expected.degrees) and np.array_equal(found.ids, expected.ids)


def test_long_rows_are_searched_for_the_ends_of_blocks() -> None:
    """Rows of 2,000 sources out of 5,000, some of them not ascending, by both ways to find the blocks."""
    random = np.random.default_rng(0)
    rows = [np.sort(random.permutation(5000)[:2000]) for _ in range(48)]
    indptr = np.arange(49) * 2000
    for falling in (0, 20):
        ids = ids_of(np.concatenate([row[::-1] if at < falling else row for at, row in enumerate(rows)]), 5000)
        expected, found = (make(indptr, ids.copy(), 5000, 512, 32) for make in (in_parts, compiled_parts_maker()))
        assert found.count == expected.count > 1
        assert np.array_equal(found.degrees, expected.degrees) and np.array_equal(found.ids, expected.ids)


def test_machines_without_a_compiler_make_parts_with_numpy(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> PartsMaker:
        raise CompilerMissingError("none", "one", "install one")

    indptr, ids = np.arange(41) * 3, np.arange(120, dtype=np.uint16) % 9
    expected = edges_in_parts.make_parts(indptr, ids.copy(), 9, 4, 16)
    with monkeypatch.context() as patch:
        patch.setattr("hetfab.hls.build.parts.compiled_parts_maker", missing)
        patch.setattr(edges_in_parts, "_maker", edges_in_parts._maker.__wrapped__)
        assert edges_in_parts._maker() is in_parts
        found = edges_in_parts.make_parts(indptr, ids.copy(), 9, 4, 16)
    assert np.array_equal(found.degrees, expected.degrees) and np.array_equal(found.ids, expected.ids)
    assert edges_in_parts._maker() is not in_parts


def test_machines_that_load_nothing_from_the_cache_make_parts_with_numpy(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def damaged(folder: Path, **_: object) -> Path:
        (folder / "library.so").write_bytes(b"no library")
        return folder / "library.so"

    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path))
    monkeypatch.setattr(host_library, "_compile", damaged)
    monkeypatch.setattr(compiled, "_library", compiled._library.__wrapped__)
    assert edges_in_parts._maker.__wrapped__() is in_parts


def test_tiles_take_part_after_part_of_their_destinations() -> None:
    """Two tiles of 16 destinations and one of 3, which has one run of each."""
    degrees = np.full(35, 40)
    sources = np.tile(np.arange(40) * 8 % 40, 35)
    parts = in_parts(np.concatenate([[0], np.cumsum(degrees)]), ids_of(sources, 40), 40, 20, 16)
    assert parts.count == 2
    places = parts.places()
    assert places[:, :3].tolist() == [[0, 1, 2], [16, 17, 18]]
    assert places[:, 16].tolist() == [32, 48]
    assert places[:, 32:].tolist() == [[64, 65, 66], [-1, -1, -1]]
    in_first = parts.ids[: int(parts.degrees[:16].sum())]
    assert in_first.max() < 20 <= parts.ids[len(in_first)]


def test_parts_that_are_not_worth_their_runs_are_joined() -> None:
    """Edges of a few destinations lead from the upper half of the sources, those of all from the lower one."""
    sources = np.concatenate([*([np.arange(20)] * 32), np.arange(20, 40)])
    indptr = np.append(np.append(np.arange(33) * 20, 660)[:32], 660)
    for make in (in_parts, compiled_parts_maker()):
        assert make(indptr, ids_of(sources, 40), 40, 20, 32).count == 1
        assert make(indptr, ids_of(np.tile(np.arange(40), 17)[:660], 40), 40, 20, 32).count == 2


def reduced(relation: sums.Relation, parts: Parts, mode: ReduceMode, source: ReduceSource) -> tuple[list[int], Array]:
    """A relation reduced in parts: a program and the content of the graph segment."""
    records = parts.records(destination_records(relation.indptr))
    content, (first, second) = pack_pieces([records, parts.ids.view(np.uint8)])
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
    vertices = len(relation.features)
    ids = ids_of(relation.sources, vertices)
    parts = in_parts(relation.indptr, ids, vertices, sums.SLOTS, relation.destinations)
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
    ids = marked_ids(layer.sources, layer.types).view(np.uint32)
    parts = in_parts(layer.indptr, ids, len(layer.features), 4, layer.destinations)
    sources, types = (values.astype(np.int64) for values in (parts.ids % MARKED_ROWS, parts.ids // MARKED_ROWS))
    ordered = replace(layer, sources=sources, types=types)
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
