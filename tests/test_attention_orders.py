# SPDX-License-Identifier: Apache-2.0
"""Attention models predict the same bits under every order of the restructurer, row source and order of engines."""

from dataclasses import replace

import numpy as np
import pytest

from hetfab.driver.graph.heterograph import Edges, HeteroGraph
from hetfab.driver.graph.model_inputs import model_bindings
from hetfab.hls.build.emulator import Emulator
from hetfab.hls.build.restructure import Restructurer
from hetfab.overlay.compiler.compile import compile_model
from hetfab.overlay.isa.codec import AttendSource, ReduceSource, Segment
from hetfab.overlay.isa.words import decode
from hetfab.overlay.model.bound_model import BoundModel
from hetfab.overlay.restructure.candidates import Candidate
from hetfab.overlay.restructure.schedule import both_sides
from hetfab.overlay.semantic.adjacency import adjacency
from tests.attention_models import attention_case
from tests.conftest import SMALL_GEOMETRY
from tests.programs import bound_to, design_of, quantized, run_emulated, run_golden
from tests.test_restructure_sums import CANDIDATES
from tests.test_whole_programs import assert_equals_onnxruntime

#: Attention over relations, and over all of them at once with types.
READING_RELATIONS = ("rgat", "simple-hgn")


def reordered(graph: HeteroGraph, candidate: Candidate) -> HeteroGraph:
    """The graph with the edges of each relation in a candidate's order, which each destination's edges keep."""
    relations = {}
    for relation, edges in graph.relations.items():
        counts = graph.counts[relation.source], graph.counts[relation.destination]
        order = Restructurer(both_sides(adjacency(edges.source, edges.destination, *counts))).make(candidate)
        keys = edges.source * counts[1] + edges.destination
        ordered = order.sources.astype(np.int64) * counts[1] + order.destinations
        # The restructurer has an edge once, a relation as often as it likes.
        keys = np.repeat(ordered, np.bincount(keys, minlength=counts[0] * counts[1])[ordered])
        assert len(keys) == len(edges.source)
        relations[relation] = Edges(keys // counts[1], keys % counts[1])
    return replace(graph, relations=relations)


@pytest.mark.parametrize("name", READING_RELATIONS)
def test_predictions_are_the_same_under_every_order(name: str, small_emulators: dict[str, Emulator]) -> None:
    """Orders for buffers of several sizes; rows from DRAM, by tags and by schedules; engines in drawn orders."""
    case, emulator = attention_case(name), small_emulators["host"]
    model = quantized(case).model
    given = BoundModel(model, model_bindings(model, case.graph))
    programs = [
        compile_model(given, design_of(SMALL_GEOMETRY), row_source=source)
        for source in (ReduceSource.DRAM, ReduceSource.TAGS, ReduceSource.SCHEDULE)
    ]
    expected = run_emulated(bound_to(programs[0], case.graph), emulator).dram[Segment.OUTPUT]
    arrays = []
    for number, (candidate, slots) in enumerate(zip(CANDIDATES, 2 * (3, 5, 8, 64), strict=True)):
        graph = reordered(case.graph, replace(candidate, slots=slots))
        bound = bound_to(programs[number % len(programs)], graph)
        arrays.append(bound.contents[Segment.GRAPH].tobytes())
        found = run_emulated(bound, emulator, seed=number).dram[Segment.OUTPUT]
        np.testing.assert_array_equal(found, expected)
    assert len(set(arrays)) > len(programs)  # The orders differ.


@pytest.mark.parametrize(
    ("asked", "taken"),
    [
        (ReduceSource.DRAM, AttendSource.DRAM),
        (ReduceSource.TAGS, AttendSource.TAGS),
        (ReduceSource.SCHEDULE, AttendSource.DRAM),
    ],
)
def test_attention_finds_rows_by_tags_where_asked_and_has_no_schedule(asked: ReduceSource, taken: AttendSource) -> None:
    case = attention_case("hgt")
    model = quantized(case).model
    given = BoundModel(model, model_bindings(model, case.graph))
    program = compile_model(given, design_of(SMALL_GEOMETRY), row_source=asked)
    bound = bound_to(program, case.graph)
    decoded = [decode(int(low) | int(high) << 64) for low, high in bound.words]
    assert {word.fields["source"] for word in decoded if word.operation.name == "attend"} == {taken}
    assert_equals_onnxruntime(run_golden(bound), bound, model, case.graph)
