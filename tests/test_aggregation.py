# SPDX-License-Identifier: Apache-2.0
"""AGG over whole relations: one result from DRAM, tags and schedules, from edges in one run or split and spilled."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hetfab.driver.graph.arrays import graph_arrays
from hetfab.driver.graph.formats import read_graph
from hetfab.driver.graph.model_inputs import model_bindings
from hetfab.hls.build.emulator import Emulator, Progress
from hetfab.overlay.bind import bind
from hetfab.overlay.compiler.compile import compile_model
from hetfab.overlay.compiler.first_projection import FirstProjection
from hetfab.overlay.compiler.lowered import LoweredModel
from hetfab.overlay.compiler.lowering import lower
from hetfab.overlay.compiler.model_plan import plan_model
from hetfab.overlay.costs.fifo_rows import reduce_by_fifo_cost
from hetfab.overlay.costs.gathers import Tags
from hetfab.overlay.costs.program_cost import expected_log, expected_records
from hetfab.overlay.design import Design, Geometry
from hetfab.overlay.isa import codec
from hetfab.overlay.isa.arithmetic import mean_q8, reciprocals, wrap32
from hetfab.overlay.isa.codec import ReduceMode, ReduceSource, RegisterOffset, Segment
from hetfab.overlay.isa.golden import GoldenMachine
from hetfab.overlay.isa.words import pack, program_address
from hetfab.overlay.layouts import destination_records, id_array
from hetfab.overlay.layouts import pack as pack_pieces
from hetfab.overlay.model.bound_model import BoundModel
from hetfab.overlay.run_log import RUN_LOG_DTYPE
from hetfab.overlay.schedules import Schedule, farthest_next_use, pinned, schedule_arrays
from hetfab.overlay.semantic.adjacency import Adjacency
from tests.data_folder import require_data
from tests.programs import design_of, quantized, run_emulated
from tests.random_models import Case

Array = npt.NDArray[Any]
Emulators = dict[str, Emulator]
GROUPS = 2
CHANNELS = 8 * GROUPS
BASES = {segment: 0x1000_0000 * (1 + segment) for segment in Segment}
RECORDED = [name for name in RUN_LOG_DTYPE.names or () if name != "layer"]
#: Of the small design: both take the same part of the scratchpad.
FIRST_BLOCK, SLOT_BITS, SLOTS = 4, 3, 8


@dataclass(frozen=True, eq=False)
class Relation:
    """Edges by destination, and features of the sources."""

    indptr: Array
    sources: Array
    features: Array

    @property
    def destinations(self) -> int:
        return len(self.indptr) - 1

    def sums(self) -> Array:
        """The definition: sums of the sources' rows, int64 [destinations, channels]."""
        rows = [
            self.features[self.sources[a:b]].astype(np.int64)
            for a, b in zip(self.indptr[:-1], self.indptr[1:], strict=True)
        ]
        return np.stack([part.sum(axis=0) for part in rows])

    def expected(self, mode: ReduceMode) -> Array:
        """What sum_ram holds then."""
        sums = self.sums()
        if mode is ReduceMode.MEAN:
            reciprocal, exponent = reciprocals(np.diff(self.indptr).astype(np.int64))
            return wrap32(mean_q8(sums, reciprocal[:, None], exponent[:, None]))
        return wrap32(sums * (256 if mode is ReduceMode.SUM else 1))


@st.composite
def relations(draw: st.DrawFn) -> Relation:
    """Degrees from 0 to all, duplicates, hubs, and sources that need ids of 4 bytes."""
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    destinations, most = draw(st.integers(1, 20)), draw(st.sampled_from([1, 4, 40]))
    degrees = random.integers(0, most + 1, destinations)
    if draw(st.booleans()):
        degrees[random.integers(destinations)] = 200
    vertices = draw(st.sampled_from([1, 9, 300, 65_536, 65_537, 70_000]))
    skew = draw(st.sampled_from([1.0, 4.0]))
    sources = (vertices * random.random(int(degrees.sum())) ** skew).astype(np.int64)
    features = random.integers(-128, 128, (vertices, CHANNELS), dtype=np.int8)
    return Relation(np.concatenate([[0], np.cumsum(degrees)]), sources, features)


def context(relation: Relation, records: int, entries: int, count: int, id_bytes: int, size: int) -> list[int]:
    """The context of a relation whose arrays are at offsets of the graph segment."""
    return [
        codec.configure_features(
            slot=0,
            row_blocks=1,
            first_block=FIRST_BLOCK,
            slot_bits=SLOT_BITS,
            count=len(relation.features),
            address=program_address(Segment.FEATURES, 0),
        ),
        codec.configure_destinations(slot=0, parts=0, count=size, address=program_address(Segment.GRAPH, records)),
        codec.configure_ids(slot=0, edges=count, id_bytes=id_bytes, address=program_address(Segment.GRAPH, entries)),
        codec.configure_spilled(
            slot=0, row_blocks=1, count=relation.destinations, address=program_address(Segment.SPILL, 0)
        ),
    ]


def reduce(
    rows: int, mode: ReduceMode, source: ReduceSource, *, merge: int = 0, spill: int = 0, from_fifo: int = 0
) -> int:
    fields = {
        "slot": 0,
        "unsigned": 0,
        "accumulate": 0,
        "weighted": 0,
        "from_fifo": from_fifo,
        "destination": 0,
        "sum": 0,
    }
    return codec.reduce(**fields, rows=rows, mode=mode, groups=GROUPS, source=source, merge=merge, spill=spill)


def programs(relation: Relation, mode: ReduceMode, random: np.random.Generator) -> Iterator[tuple[list[int], Array]]:
    """A relation reduced in every way: a program and the content of the graph segment each."""
    records, ids = destination_records(relation.indptr), id_array(relation.sources, len(relation.features))
    id_bytes = ids.size // max(len(relation.sources), 1) or 2
    for source in (ReduceSource.DRAM, ReduceSource.TAGS):
        content, (first, second) = pack_pieces([records, ids])
        words = context(relation, first, second, len(relation.sources), id_bytes, relation.destinations)
        yield [*words, reduce(relation.destinations, mode, source)], content
    for make in (pinned, farthest_next_use):
        made = make(relation.indptr, relation.sources, SLOTS)
        yield scheduled(relation, mode, [made], records, id_bytes)
    yield scheduled(relation, mode, split(relation, random), records, id_bytes)


def split(relation: Relation, random: np.random.Generator) -> list[Schedule]:
    """The edges dealt to three parts, each with its destinations in an order of its own; the last one names all."""
    part_of = random.integers(0, 3, len(relation.sources))
    rows = np.repeat(np.arange(relation.destinations), np.diff(relation.indptr))
    parts = []
    for part in range(3):
        order = random.permutation(relation.destinations)
        chosen = [np.flatnonzero((rows == row) & (part_of == part)) for row in order]
        indptr = np.concatenate([[0], np.cumsum([len(edges) for edges in chosen])])
        sources = relation.sources[np.concatenate(chosen)]
        parts.append(replace(farthest_next_use(indptr, sources, SLOTS), rows=order))
    return parts


def scheduled(
    relation: Relation, mode: ReduceMode, parts: list[Schedule], records: Array, id_bytes: int
) -> tuple[list[int], Array]:
    """A reduction of each part; all but the last spill, all but the first merge."""
    arrays = [schedule_arrays(part, records, len(relation.features)) for part in parts]
    content, offsets = pack_pieces([piece for pair in arrays for piece in pair])
    words = []
    for number, (_, units) in enumerate(arrays):
        first, second = offsets[2 * number : 2 * number + 2]
        words += context(relation, first, second, len(units) // 2, id_bytes, relation.destinations)
        merge, spill = int(number > 0), int(number < len(arrays) - 1)
        words.append(reduce(relation.destinations, mode, ReduceSource.SCHEDULE, merge=merge, spill=spill))
    return words, content


def memories(relation: Relation, words: list[int], graph: Array) -> dict[Segment, Array]:
    """DRAM by segment, each behind its base."""
    rows = np.zeros((len(relation.features), 64), np.uint8)
    rows[:, :CHANNELS] = relation.features.view(np.uint8)
    dram = {segment: np.zeros(64, np.uint8) for segment in Segment}
    dram[Segment.PROGRAM] = pack(words).view(np.uint8).reshape(-1)
    dram[Segment.FEATURES], dram[Segment.GRAPH] = rows.reshape(-1), graph
    dram[Segment.SPILL] = np.full(64 * relation.destinations, 0xA5, np.uint8)
    return dram


def emulated(emulator: Emulator, dram: dict[Segment, Array], words: list[int]) -> tuple[Array, Array]:
    """sum_ram as int32, and the run log."""
    for segment, content in dram.items():
        emulator.map_memory(BASES[segment], content)
        emulator.write_register(RegisterOffset[f"SEGMENT_BASE_{segment.name}_LOW"], BASES[segment])
        emulator.write_register(RegisterOffset[f"SEGMENT_SIZE_{segment.name}_LOW"], content.size)
    try:
        emulator.write_register(RegisterOffset.PROGRAM_LENGTH, len(words))
        emulator.write_register(RegisterOffset.CONTROL, 1)
        assert emulator.advance(100_000) is Progress.DONE, emulator.message()
        return emulator.read_ram("sum_ram", 0, 64).view("<i4"), emulator.run_log()
    finally:
        for base in BASES.values():
            emulator.unmap_memory(base)


def golden(geometry: Geometry, dram: dict[Segment, Array], words: list[int]) -> Array:
    machine = GoldenMachine(geometry)
    for segment, content in dram.items():
        machine.map_memory(BASES[segment], content)
        machine.segments[segment.name.lower()] = BASES[segment], content.size
    machine.run(pack(words).tobytes())
    return machine.memories["sum_ram"].view("<i4")


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(relation=relations(), mode=st.sampled_from(ReduceMode), seed=st.integers(0, 2**32 - 1))
def test_every_way_gives_the_sums_of_the_definition(
    relation: Relation, mode: ReduceMode, seed: int, small_geometry: Geometry, small_emulators: Emulators
) -> None:
    """And costs what the cost functions say."""
    expected = relation.expected(mode).reshape(-1)
    for words, graph in programs(relation, mode, np.random.default_rng(seed)):
        dram = memories(relation, words, graph)
        results = [golden(small_geometry, {s: content.copy() for s, content in dram.items()}, words)]
        costs = expected_records(pack(words), graph, small_geometry)
        for emulator in small_emulators.values():
            found, log = emulated(emulator, {s: content.copy() for s, content in dram.items()}, words)
            results.append(found)
            for name in RECORDED:
                assert np.array_equal(log[name], costs[name]), name
        for result in results:
            np.testing.assert_array_equal(result.reshape(-1)[: expected.size], expected)


def forms(lowered: LoweredModel, design: Design) -> Iterator[tuple[str, LoweredModel, ReduceSource]]:
    """Dense from every source, edge sets from the last to the first, and sparse from two sources."""
    dense = plan_model(lowered, design, None, FirstProjection.DENSE).lowered
    for source in ReduceSource:
        yield f"dense, {source.name}", dense, source
    turned = [replace(layer, aggregations=layer.aggregations[::-1]) for layer in dense.layers]
    yield "turned", replace(dense, layers=tuple(turned)), ReduceSource.TAGS
    sparse = plan_model(lowered, design, None, FirstProjection.SPARSE).lowered
    for source in (ReduceSource.TAGS, ReduceSource.SCHEDULE):
        yield f"sparse, {source.name}", sparse, source


@pytest.mark.parametrize("name", ["acm", "dblp", "imdb"])
def test_public_models_predict_the_same_in_every_form(name: str, default_emulators: Emulators) -> None:
    """The run log has the work of each: its MACs, and all its bytes."""
    folder, emulator = require_data(), default_emulators["host"]
    case = Case(onnx.load(folder / "models" / f"{name}_rgcn.onnx"), read_graph(folder / name / "graph.npz"))
    given = BoundModel(quantized(case).model, model_bindings(case.model, case.graph))
    design = design_of(emulator.geometry)
    outputs, macs, bytes_read = [], {}, {}
    for form, lowered, source in forms(lower(given.model, given.bindings), design):
        program = compile_model(given, design, lowered=lowered, row_source=source)
        bound = bind(program, graph_arrays(program, case.graph))
        executed = run_emulated(bound, emulator)
        assert executed.run_log is not None
        expected = expected_log(bound)
        for field in RECORDED:
            assert np.array_equal(executed.run_log[field], expected[field]), (form, field)
        outputs.append(executed.dram[Segment.OUTPUT])
        macs[form], bytes_read[form] = int(expected["macs"].sum()), int(expected["read_bytes"].sum())
    assert all(np.array_equal(output, outputs[0]) for output in outputs)
    assert bytes_read["dense, SCHEDULE"] < bytes_read["dense, TAGS"] < bytes_read["dense, DRAM"]
    assert macs["sparse, TAGS"] == macs["sparse, SCHEDULE"] < macs["dense, TAGS"] == macs["turned"]


@pytest.mark.parametrize("tags", [False, True], ids=["dram", "tags"])
@pytest.mark.parametrize("split", [False, True], ids=["once", "spilled and merged"])
def test_rows_by_the_fifo_give_the_sums_of_the_definition(
    tags: bool, split: bool, small_geometry: Geometry, small_emulators: Emulators
) -> None:
    """SGB composes a relation with the identity: its rows go to AGG, which divides for the means itself.

    Spilled and merged, all rows come twice, and the plain sums are twice those of the relation.
    """
    random = np.random.default_rng(int(tags))
    destinations, vertices = 24, 60
    rows = [np.sort(random.choice(vertices, degree, replace=False)) for degree in random.integers(0, 12, destinations)]
    rows[3], rows[7] = np.zeros(0, np.int64), np.arange(vertices)
    indptr = np.concatenate([[0], np.cumsum([len(row) for row in rows])])
    features = random.integers(-128, 128, (vertices, CHANNELS), dtype=np.int8)
    relation = Relation(indptr, np.concatenate(rows), features)
    identity = np.arange(vertices + 1)
    graphs = [
        np.concatenate([_padded(starts), ids]).astype("<u4").view(np.uint8)
        for starts, ids in ((indptr, relation.sources), (identity, identity[:-1]))
    ]
    content, (left, right) = pack_pieces(graphs)
    places = [program_address(Segment.GRAPH, place) for place in (left, right)]
    source = ReduceSource.TAGS if tags else ReduceSource.DRAM
    compose = codec.compose(to_fifo=1, edges=0, rows=destinations, address=program_address(Segment.LOG, 0))
    mode = ReduceMode.RAW if split else ReduceMode.MEAN
    words = [
        *context(relation, 0, 0, 0, 2, destinations),
        codec.configure_left(edges=len(relation.sources), rows=destinations, address=places[0]),
        codec.configure_right(edges=vertices, rows=vertices, address=places[1]),
        codec.configure_bitmap(wide=0, threshold=0, columns=64, address=places[1]),
    ]
    parts = [{"spill": 1}, {"merge": 1}] if split else [{}]
    for part in parts:
        words += [compose, reduce(destinations, mode, source, from_fifo=1, **part)]
    dram = memories(relation, words, content)
    expected = len(parts) * relation.expected(mode).reshape(-1)
    results = [golden(small_geometry, {s: content.copy() for s, content in dram.items()}, words)]
    logs = []
    for emulator in small_emulators.values():
        found, log = emulated(emulator, {s: content.copy() for s, content in dram.items()}, words)
        results.append(found)
        logs.append(log)
    for result in results:
        np.testing.assert_array_equal(result.reshape(-1)[: expected.size], expected)
    state = Tags(small_geometry)
    state.clear(FIRST_BLOCK, SLOT_BITS)
    for place, part in zip(range(len(words) + 1 - 2 * len(parts), len(words), 2), parts, strict=True):
        fields = {"groups": GROUPS, "accumulate": 0, "merge": 0, "spill": 0, "destination": 0, "source": source}
        fields |= {"features.address": 0, "features.row_blocks": 1, "spilled.address": 0, "spilled.row_blocks": 1}
        fields |= {"features.first_block": FIRST_BLOCK, "features.slot_bits": SLOT_BITS} | part
        cost = reduce_by_fifo_cost(fields, Adjacency(indptr, relation.sources, vertices), state)
        for log in logs:
            for name in (name for name in RECORDED if name not in ("index", "engine", "opcode")):
                np.testing.assert_array_equal(log[place][name], getattr(cost, name)[0], name)


def _padded(starts: Array) -> Array:
    """Starts in whole blocks."""
    return np.concatenate([starts, np.zeros(-len(starts) % 16, np.int64)])
