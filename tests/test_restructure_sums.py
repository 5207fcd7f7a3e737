# SPDX-License-Identifier: Apache-2.0
"""AGG's sums under the restructurer's orders: split, spilled and merged, they are the definition's bit for bit."""

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hetfab.driver.graph.arrays import graph_arrays
from hetfab.driver.graph.formats import read_graph
from hetfab.driver.graph.model_inputs import model_bindings
from hetfab.hls.build.restructure import Restructurer
from hetfab.overlay.bind import bind
from hetfab.overlay.compiler.compile import compile_model
from hetfab.overlay.design import Geometry
from hetfab.overlay.isa.codec import ReduceMode, ReduceSource, Segment
from hetfab.overlay.layouts import destination_records
from hetfab.overlay.layouts import pack as pack_pieces
from hetfab.overlay.model.bound_model import BoundModel
from hetfab.overlay.restructure.candidates import Candidate, Grow, Method
from hetfab.overlay.restructure.schedule import Schedule as Order
from hetfab.overlay.restructure.schedule import Sides, both_sides
from hetfab.overlay.restructure.scratchpad import split_parts, unsplit_scheduler
from hetfab.overlay.schedules import Schedule, schedule_arrays
from tests.data_folder import require_data
from tests.programs import design_of, quantized, run_emulated
from tests.random_models import Case
from tests.random_relations import graphs
from tests.test_aggregation import (
    CHANNELS,
    SLOTS,
    Array,
    Emulators,
    Relation,
    context,
    emulated,
    golden,
    memories,
    reduce,
)

CANDIDATES = [
    Candidate(Method.AS_IS, SLOTS),
    Candidate(Method.WALKED_DESTINATIONS, SLOTS),
    Candidate(Method.SUBGRAPHS_BY_SOURCE, SLOTS),
    Candidate(Method.SUBGRAPHS_BY_DESTINATION, SLOTS),
    Candidate(Method.DESTINATION_TILES, SLOTS, Grow.GROWN_FROM_FEWEST),
    Candidate(Method.SOURCE_TILES, SLOTS, Grow.GROWN_FROM_MOST),
    Candidate(Method.RESIDENT_SET, SLOTS, accumulator_weight=2, farthest=True),
    Candidate(Method.GREEDY_DESTINATIONS, SLOTS, farthest=True),
]


@st.composite
def bipartite(draw: st.DrawFn) -> Sides:
    return both_sides(draw(graphs(draw(st.integers(1, 12)), draw(st.integers(1, 12)))))


@pytest.mark.parametrize("candidate", CANDIDATES, ids=lambda candidate: str(candidate.method))
@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(graph=bipartite(), slots=st.integers(3, SLOTS), mode=st.sampled_from(ReduceMode), seed=st.integers(0, 99))
def test_spilled_sums_merge_exactly(
    candidate: Candidate,
    graph: Sides,
    slots: int,
    mode: ReduceMode,
    seed: int,
    small_geometry: Geometry,
    small_emulators: Emulators,
) -> None:
    random = np.random.default_rng(seed)
    features = random.integers(-128, 128, (graph.sources, CHANNELS), dtype=np.int8)
    relation = Relation(graph.by_destination.starts, graph.by_destination.ids, features)
    wanted = Candidate(candidate.method, slots, candidate.grow, candidate.accumulator_weight, candidate.farthest)
    words, content = program(relation, graph, wanted, mode)
    expected = relation.expected(mode).reshape(-1)
    for result in (
        golden(small_geometry, memories(relation, words, content), words),
        *(emulated(emulator, memories(relation, words, content), words)[0] for emulator in small_emulators.values()),
    ):
        np.testing.assert_array_equal(result.reshape(-1)[: expected.size], expected)


def program(relation: Relation, graph: Sides, candidate: Candidate, mode: ReduceMode) -> tuple[list[int], Array]:
    """Every part spills; a last reduction without edges writes the sums."""
    records = destination_records(relation.indptr)
    parts = split_parts(Restructurer(graph).make(candidate), graph)
    nothing = np.zeros(0, np.int64)
    rows = np.arange(relation.destinations)
    last = Schedule(rows, 0 * rows, nothing, nothing, nothing.astype(bool))
    arrays = [schedule_arrays(part.schedule, records, len(relation.features)) for part in parts]
    arrays.append(schedule_arrays(last, records, len(relation.features)))
    content, offsets = pack_pieces([piece for pair in arrays for piece in pair])
    words = []
    for number, (_, units) in enumerate(arrays):
        first, second = offsets[2 * number : 2 * number + 2]
        count = len(parts[number].schedule.rows) if number < len(parts) else len(rows)
        words += context(relation, first, second, len(units) // 2, 2, count)
        if number < len(parts):
            merge = int(parts[number].merges)
            words.append(reduce(count, mode, ReduceSource.SCHEDULE, merge=merge, spill=1))
        else:
            words.append(reduce(count, mode, ReduceSource.SCHEDULE, merge=1, spill=0))
    return words, content


def test_a_public_model_predicts_the_same_under_every_order(default_emulators: Emulators) -> None:
    """Also of buffers of several sizes, and of the steps of the engines."""
    folder, emulator = require_data(), default_emulators["host"]
    case = Case(onnx.load(folder / "models" / "imdb_rgcn.onnx"), read_graph(folder / "imdb" / "graph.npz"))
    model = quantized(case).model
    given_model = BoundModel(model, model_bindings(model, case.graph))
    compiled = compile_model(given_model, design_of(emulator.geometry), row_source=ReduceSource.SCHEDULE)
    arrays = graph_arrays(compiled, case.graph)
    outputs = [run_emulated(bind(compiled, arrays), emulator).dram[Segment.OUTPUT]]
    for number, (candidate, slots) in enumerate(zip(CANDIDATES, 2 * (8, 64, 512, 4096), strict=True)):

        def make(graph: Sides, most: int, candidate: Candidate = candidate, slots: int = slots) -> Order:
            return Restructurer(graph).make(
                Candidate(candidate.method, min(slots, most), candidate.grow, candidate.accumulator_weight, True)
            )

        bound = bind(compiled, arrays, scheduler=unsplit_scheduler(make))
        outputs.append(run_emulated(bound, emulator, seed=number).dram[Segment.OUTPUT])
    assert all(np.array_equal(output, outputs[0]) for output in outputs)
