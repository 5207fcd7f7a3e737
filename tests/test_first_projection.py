# SPDX-License-Identifier: Apache-2.0
"""First projections by the non-zeros of features: the same integers as the dense form, and which form is taken."""

import re
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hetfab.driver.graph.arrays import graph_arrays
from hetfab.driver.graph.facts import graph_facts
from hetfab.driver.graph.heterograph import CsrFeatures, FeatureTable, HeteroGraph
from hetfab.driver.graph.model_inputs import model_bindings
from hetfab.overlay.bind import BoundProgram, GraphArrays, bind
from hetfab.overlay.compiler.compile import compile_lowered, compile_model
from hetfab.overlay.compiler.first_projection import FirstProjection
from hetfab.overlay.compiler.graph_facts import FeatureCounts, GraphFacts
from hetfab.overlay.compiler.lowered import LoweredModel
from hetfab.overlay.compiler.lowering import lower
from hetfab.overlay.compiler.model_plan import ModelPlan, plan_model
from hetfab.overlay.costs.program_cost import operation_rows
from hetfab.overlay.design import Design
from hetfab.overlay.errors import FeatureWidthError, LimitExceededError
from hetfab.overlay.features import feature_edges, feature_rows, weighted_feature_edges
from hetfab.overlay.isa.arithmetic import mean_q8
from hetfab.overlay.isa.codec import Segment
from hetfab.overlay.isa.spec import isa
from hetfab.overlay.isa.words import decode
from hetfab.overlay.layouts import scaled_records
from hetfab.overlay.model.bound_model import BoundModel
from hetfab.overlay.program import Tensor, read_program, write_program
from hetfab.quantize.widths import Widths
from tests.conftest import SMALL_GEOMETRY
from tests.programs import bound_to, design_of, quantized, run_emulated, run_golden
from tests.random_models import Case, ModelBuilder, academic_graph, random_case
from tests.test_whole_programs import Emulators, assert_equals_onnxruntime, assert_same_dram, natives

Steps = npt.NDArray[np.int64]
#: The small design's AGG multiplies by weights of edges, the default one's does not.
UNWEIGHTED = replace(SMALL_GEOMETRY, agg_weights=0)


def lowered_of(model: onnx.ModelProto, graph: HeteroGraph) -> LoweredModel:
    return lower(model, model_bindings(model, graph))


def planned(model: onnx.ModelProto, graph: HeteroGraph, design: Design, asked: FirstProjection) -> ModelPlan:
    layers = lowered_of(model, graph)
    return plan_model(layers, design, graph_facts(graph, layers), asked)


def bound_sparse(model: onnx.ModelProto, graph: HeteroGraph, design: Design) -> BoundProgram:
    """Bound with every first projection in the sparse form where that can be had."""
    plan = plan_model(lowered_of(model, graph), design, None, FirstProjection.SPARSE)
    given = BoundModel(model, model_bindings(model, graph))
    return bound_to(compile_model(given, design, lowered=plan.lowered), graph)


def bag_of_words(vertices: int, width: int, seed: int = 0) -> CsrFeatures:
    """About three ones a row."""
    present = np.random.default_rng(seed).random((vertices, width)) < 3 / width
    indptr = np.concatenate([[0], np.cumsum(present.sum(axis=1))]).astype(np.int64)
    return CsrFeatures(indptr, np.nonzero(present)[1], np.ones(int(present.sum()), np.float32), width)


def one_type(table: FeatureTable, vertices: int) -> HeteroGraph:
    return HeteroGraph("words", "paper", {"paper": vertices}, {}, {"paper": table})


def projected(graph: HeteroGraph, width: int = 24, *, layers: int = 2, widths: Widths = Widths()) -> Case:  # noqa: B008 - it is immutable
    builder = ModelBuilder(np.random.default_rng(1), graph)
    rows = builder.dense(builder.features("paper"), width)
    for _ in range(layers - 1):
        rows = builder.dense(builder.relu(rows), 5)
    return Case(quantized(Case(builder.finish(rows), graph), widths).model, graph)


@pytest.mark.parametrize("seed", range(300, 308))
def test_both_forms_give_the_same_logits(seed: int, default_emulators: Emulators, small_emulators: Emulators) -> None:
    """On features of any kind, as golden model and emulators, against onnxruntime."""
    case = random_case(seed, largest_count=65)
    model = quantized(case).model
    for emulators in (natives(default_emulators), natives(small_emulators)):
        bound = bound_sparse(model, case.graph, design_of(emulators[0].geometry))
        golden = run_golden(bound)
        assert_equals_onnxruntime(golden, bound, model, case.graph)
        for emulator in emulators:
            assert_same_dram(run_emulated(bound, emulator), golden, bound)


@pytest.mark.parametrize("channels", [5, 70])
def test_a_projection_may_be_the_whole_model(channels: int, small_emulators: Emulators) -> None:
    """Its int32 sums leave with their bias, in one pass over the vertices or in several."""
    graph = one_type(bag_of_words(40, 70), 40)
    case = projected(graph, channels, layers=1)
    emulator = small_emulators["native"]
    bound = bound_sparse(case.model, graph, design_of(emulator.geometry))
    assert [(layer.kind, layer.gathered) for layer in bound.program.layers] == [("export_accumulators", True)]
    executed = run_emulated(bound, emulator)
    assert_same_dram(executed, run_golden(bound), bound)
    assert_equals_onnxruntime(executed, bound, case.model, graph)


@pytest.mark.parametrize("widths", [Widths(4, 4), Widths(1, 8), Widths(2, 2)], ids=str)
def test_narrow_widths(widths: Widths, small_emulators: Emulators) -> None:
    """Bipolar weights, free scales, and results of four bits."""
    graph = one_type(bag_of_words(40, 70), 40)
    case = projected(graph, 40, layers=3, widths=widths)
    emulator = small_emulators["native"]
    bound = bound_sparse(case.model, graph, design_of(emulator.geometry))
    layers = lowered_of(case.model, graph).layers
    assert layers[0].dense is not None
    assert set(layers[0].dense.weight_bits.tolist()) == {widths.weights}
    assert bound.program.layers[0].gathered
    executed = run_emulated(bound, emulator)
    assert_same_dram(executed, run_golden(bound), bound)
    assert_equals_onnxruntime(executed, bound, case.model, graph)


def test_checked_integers_and_ap_int(default_emulators: Emulators) -> None:
    graph = one_type(bag_of_words(9, 70), 9)
    case = projected(graph)
    emulators = [default_emulators["native-debug"], default_emulators["ap_int"]]
    bound = bound_sparse(case.model, graph, design_of(emulators[0].geometry))
    golden = run_golden(bound)
    for emulator in emulators:
        assert_same_dram(run_emulated(bound, emulator), golden, bound)


@pytest.mark.parametrize("schedule", [1, 2])
def test_nothing_depends_on_the_schedule(schedule: int, small_emulators: Emulators) -> None:
    graph = one_type(bag_of_words(130, 90), 130)
    case = projected(graph, 80)
    emulator = small_emulators["native"]
    bound = bound_sparse(case.model, graph, design_of(emulator.geometry))
    assert_same_dram(run_emulated(bound, emulator, schedule), run_emulated(bound, emulator), bound)


def test_a_graph_without_vertices_and_vertices_without_features(small_emulators: Emulators) -> None:
    emulator = small_emulators["native"]
    graph = one_type(bag_of_words(40, 70), 40)
    case = projected(graph)
    for vertices in (0, 1, 33):
        nothing = CsrFeatures(np.zeros(vertices + 1, np.int64), np.zeros(0, np.int64), np.zeros(0, np.float32), 70)
        other = one_type(nothing, vertices)
        bound = bound_sparse(case.model, other, design_of(emulator.geometry))
        executed = run_emulated(bound, emulator)
        logits = assert_equals_onnxruntime(executed, bound, case.model, other)
        assert len(logits) == vertices


# The non-zeros as edges.


@dataclass(frozen=True)
class Drawn:
    """A tensor and the integers of its features."""

    tensor: Tensor
    steps: Steps


@st.composite
def drawn_features(draw: st.DrawFn) -> Drawn:
    signed, bits = draw(st.booleans()), draw(st.sampled_from([2, 4, 8]))
    vertices, width = draw(st.integers(0, 6)), draw(st.integers(1, 9))
    half = 1 << bits - 1
    low, high = (-half, half - 1) if signed else (0, 2 * half - 1)
    random = np.random.default_rng(draw(st.integers(0, 1 << 32)))
    steps = random.integers(low, high, (vertices, width), endpoint=True) * (random.random((vertices, width)) < 0.4)
    order = tuple(random.permutation(width).tolist()) if draw(st.booleans()) else ()
    leading = draw(st.integers(0, width - 1))
    tensor = Tensor("x", "graph", "t", width, bits, False, signed, 0.25, channel_order=order, leading=leading)
    return Drawn(tensor, steps)


def in_stored_order(drawn: Drawn) -> Steps:
    """The integers, columns in the tensor's order."""
    return drawn.steps[:, list(drawn.tensor.channel_order)] if drawn.tensor.channel_order else drawn.steps


@settings(deadline=None)
@given(drawn_features(), st.booleans(), st.integers(1, 5))
def test_edges_times_factors_are_the_integers(drawn: Drawn, sparse: bool, parts: int) -> None:
    tensor, steps = drawn.tensor, drawn.steps
    values = (steps * tensor.scale).astype(np.float32)
    table: FeatureTable = values
    if sparse:
        # Zeros may be stored too.
        everywhere = np.tile(np.arange(steps.shape[1]), len(steps))
        indptr = np.arange(len(steps) + 1) * steps.shape[1]
        table = CsrFeatures(indptr.astype(np.int64), everywhere, values.reshape(-1), steps.shape[1])
    split = feature_edges(tensor, table, parts)
    assert len(split) == parts
    others = tensor.channels - tensor.leading
    found = np.zeros((len(steps), others), np.int64)
    for indptr, ids, factors in split:
        for vertex in range(len(steps)):
            for column in ids[indptr[vertex] : indptr[vertex + 1]].tolist():
                found[vertex, column % others] += factors[vertex] * (-1 if column >= others else 1)
    ordered = in_stored_order(drawn)
    np.testing.assert_array_equal(found, ordered[:, tensor.leading :])
    stored = feature_rows(replace(tensor, segment="features"), table, len(steps)).reshape(-1, tensor.row_bytes)
    rows = stored.view(np.int8 if tensor.signed else np.uint8)[: len(steps)]
    np.testing.assert_array_equal(rows[:, : tensor.row_channels], ordered[:, : tensor.row_channels])
    if parts == 1:
        assert split[0].factors.tolist() == [np.gcd.reduce(row[tensor.leading :]) for row in ordered]
    for indptr, ids, _ in split[:-1]:
        # An entry is one edge.
        assert all(len(set(ids[start:end].tolist())) == end - start for start, end in pairwise(indptr.tolist()))


def test_features_of_several_blocks_are_those_of_one() -> None:
    """Blocks of rows: the last one is shorter, and a row may be as wide as several."""
    random = np.random.default_rng(5)
    for vertices, width in ((700, 333), (3, 200_000), (65_536, 1)):
        steps = random.integers(1, 3, (vertices, width)) * (random.random((vertices, width)) < 0.1)
        tensor = Tensor("x", "features", "t", width, 8, False, False, 0.5)
        values = (steps * tensor.scale).astype(np.float32)
        stored = feature_rows(tensor, values, vertices).reshape(-1, tensor.row_bytes)[:vertices, :width]
        np.testing.assert_array_equal(stored, steps)
        ((indptr, ids, factors),) = feature_edges(tensor, values, 1)
        found = np.zeros_like(steps)
        vertex = np.repeat(np.arange(vertices), np.diff(indptr))
        np.add.at(found, (vertex, ids), factors[vertex])
        np.testing.assert_array_equal(found, steps)


def test_a_mean_by_a_scaled_record_is_the_sum_times_the_factor() -> None:
    sums = np.array([-(2**31) // 511, -1, 0, 1, 2, 127 * 65_535, 2**31 // 511 - 1])
    for factor in range(512):
        record = scaled_records(np.array([0, 3]), np.array([factor])).view(isa().record("destination").dtype)
        assert (record["degree"].item(), record["exponent"].item()) == (3, 0)
        multiples = mean_q8(sums, record["reciprocal"].astype(np.int64), record["exponent"].astype(np.int64))
        np.testing.assert_array_equal(multiples, sums * factor)


@settings(deadline=None)
@given(drawn_features())
def test_weights_times_factors_are_the_integers(drawn: Drawn) -> None:
    tensor, steps = drawn.tensor, drawn.steps
    indptr, ids, factors, weights = weighted_feature_edges(tensor, (steps * tensor.scale).astype(np.float32))
    assert np.abs(weights).max(initial=0) <= 127
    found = np.zeros_like(steps[:, tensor.leading :])
    vertices = np.repeat(np.arange(len(steps)), np.diff(indptr))
    np.add.at(found, (vertices, ids), factors[vertices] * weights)
    np.testing.assert_array_equal(found, in_stored_order(drawn)[:, tensor.leading :])


def test_integers_beyond_the_weights_are_split() -> None:
    tensor = Tensor("x", "graph", "t", 5, 8, False, False, 1.0)
    indptr, ids, factors, weights = weighted_feature_edges(tensor, np.array([[255, 0, 128, 127, 4]], np.float32))
    assert (indptr.tolist(), factors.tolist()) == ([0, 7], [1])
    assert (ids.tolist(), weights.tolist()) == ([0, 0, 0, 2, 2, 3, 4], [127, 127, 1, 127, 1, 127, 4])


def test_equal_values_of_a_row_take_one_edge_each() -> None:
    """Such as rows that are divided by their sum."""
    tensor = Tensor("x", "graph", "t", 4, 8, False, False, 2.0**-6)
    rows = np.array([[1 / 2, 1 / 2, 0, 0], [0, 0, 0, 1], [1 / 4, 1 / 2, 0, 1 / 4]], np.float32)
    ((indptr, ids, factors),) = feature_edges(tensor, rows, 1)
    assert (indptr.tolist(), ids.tolist()) == ([0, 2, 3, 7], [0, 1, 3, 0, 1, 1, 3])
    assert factors.tolist() == [32, 64, 16]


def test_magnitudes_with_the_largest_sums_get_a_part_of_their_own() -> None:
    """A row of 5, 5, -5, 9, 9, 2, 3: sums of 15, 18, 2 and 3."""
    tensor = Tensor("x", "graph", "t", 7, 8, False, True, 1.0)
    rows = np.array([[5, 5, -5, 9, 9, 2, 3], [0] * 7], np.float32)
    parts = feature_edges(tensor, rows, 3)
    assert [part.ids.tolist() for part in parts] == [[3, 4], [0, 1, 9], [5, 5, 6, 6, 6]]
    assert [part.factors.tolist() for part in parts] == [[9, 0], [5, 0], [1, 0]]
    assert [part.indptr.tolist() for part in parts] == [[0, 2, 2], [0, 3, 3], [0, 5, 5]]


# What a program holds.


def test_features_without_a_dense_reader_are_in_the_graph_segment_alone(tmp_path: Path) -> None:
    graph = one_type(bag_of_words(40, 70), 40)
    case = projected(graph)
    bound = bound_sparse(case.model, graph, design_of(UNWEIGHTED))
    (edges,) = bound.program.edges
    assert (edges.name, edges.features, edges.table_rows) == ("non-zeros of x_paper", "x_paper", 70)
    assert bound.program.tensor("x_paper").segment == "graph"
    assert bound.sizes[Segment.FEATURES] == 0
    layer = bound.program.layers[0]
    assert (layer.engines, layer.inputs, layer.channels_on_d, layer.gathered) == (
        ("load", "agg", "vec", "store"),
        70,
        0,
        True,
    )
    write_program(tmp_path / "a.hfp", bound.program)
    again = read_program(tmp_path / "a.hfp")
    assert bind(again, graph_arrays(again, graph)).hash() == bound.hash()


def test_a_table_of_signed_features_has_rows_for_negative_values() -> None:
    values = np.random.default_rng(0).integers(-2, 3, (9, 7)).astype(np.float32)
    graph = one_type(values, 9)
    (edges,) = bound_sparse(projected(graph).model, graph, design_of(UNWEIGHTED)).program.edges
    assert edges.table_rows == 14


def test_weights_need_no_rows_for_negative_values() -> None:
    """And ids of four bytes, whatever they name."""
    values = np.random.default_rng(0).integers(-2, 3, (9, 7)).astype(np.float32)
    graph = one_type(values, 9)
    bound = bound_sparse(projected(graph).model, graph, design_of(SMALL_GEOMETRY))
    (edges,) = bound.program.edges
    assert (edges.name, edges.table_rows, edges.weighted) == ("weighted non-zeros of x_paper", 7, True)
    (configure,) = bound.words[operation_rows(bound.words, isa().operation("configure_ids"))[:1]]
    assert decode(int(configure[0]) | int(configure[1]) << 64).fields["id_bytes"] == 4


def test_features_that_are_read_both_ways_are_stored_both_ways(small_emulators: Emulators) -> None:
    graph = one_type(bag_of_words(40, 70), 40)
    builder = ModelBuilder(np.random.default_rng(1), graph)
    words = builder.features("paper")
    rows = builder.dense(builder.relu(builder.dense(words, 9)), 5)
    model = quantized(Case(builder.finish(builder.total([rows])), graph)).model
    layers = lowered_of(model, graph)
    first = layers.layers[0]
    again = replace(first, output=replace(first.output, name="again"))
    both = replace(layers, layers=(replace(first, parts=1), again, *layers.layers[1:]))
    both = replace(
        both,
        stored={**layers.stored, "again": again.output},
        node_types={**layers.node_types, "again": "paper"},
    )
    emulator = small_emulators["native"]
    bound = bound_to(compile_lowered(both, design_of(emulator.geometry)), graph)
    assert bound.program.tensor("x_paper").segment == "features"
    activations = run_emulated(bound, emulator).dram[Segment.ACTIVATIONS]
    size = 40 * bound.program.tensor("again").row_bytes
    one, other = (activations[bound.offsets[name] :][:size] for name in (first.output.name, "again"))
    np.testing.assert_array_equal(one, other)


# What is chosen, and why.


def reasons(plan: ModelPlan) -> list[tuple[bool, str]]:
    return [(each.parts > 0, each.reason) for each in plan.projections]


def test_the_faster_form_is_taken() -> None:
    design = design_of(UNWEIGHTED)
    for table, sparse in ((bag_of_words(60, 900), True), (np.ones((60, 60), np.float32), False)):
        graph = one_type(table, 60)
        plan = planned(projected(graph).model, graph, design, FirstProjection.AUTO)
        (found,) = plan.projections
        assert found.dense is not None and found.by_nonzeros is not None
        assert (found.parts > 0) == sparse == (found.by_nonzeros.milliseconds < found.dense.milliseconds)
        assert found.reason.startswith("faster by ") and found.reason.endswith(" times, modelled")
        assert plan.lowered.layers[0].gathered == sparse


def test_work_is_that_of_the_layer_in_the_run_log(small_emulators: Emulators) -> None:
    graph = one_type(bag_of_words(60, 900), 60)
    model = projected(graph).model
    emulator = small_emulators["native"]
    for asked in (FirstProjection.DENSE, FirstProjection.SPARSE):
        plan = planned(model, graph, design_of(emulator.geometry), asked)
        bound = bound_to(compile_lowered(plan.lowered, design_of(emulator.geometry)), graph)
        log = run_emulated(bound, emulator).run_log
        assert log is not None
        own = log[bound.layers == 0]
        work = plan.projections[0].by_nonzeros if asked is FirstProjection.SPARSE else plan.projections[0].dense
        assert work is not None
        assert work.macs == own["macs"].sum()
        # What the layers of a program wait for between them are instructions without bytes.
        assert work.bytes == own["read_bytes"].sum() + own["write_bytes"].sum()
        assert work.additions == own["edges"].sum() * 24


def test_weights_are_taken_where_they_save_edges() -> None:
    """Rows of ones are as many edges without weights, whose ids are shorter."""
    random = np.random.default_rng(0)
    various = np.zeros((60, 900), np.float32)
    various[np.arange(60)[:, None], random.integers(0, 900, (60, 5))] = random.random((60, 5))
    for table, weighted in ((various, True), (bag_of_words(60, 900), False)):
        graph = one_type(table, 60)
        model = projected(graph).model
        (found,) = planned(model, graph, design_of(SMALL_GEOMETRY), FirstProjection.AUTO).projections
        assert (found.leading, found.parts > 0, found.weighted) == (0, True, weighted)
        (unweighted,) = planned(model, graph, design_of(UNWEIGHTED), FirstProjection.AUTO).projections
        assert not unweighted.weighted and (unweighted.parts > 1) == weighted


def test_without_a_graph_layers_are_dense_and_as_asked_otherwise() -> None:
    graph = one_type(bag_of_words(60, 900), 60)
    layers = lowered_of(projected(graph).model, graph)
    design = design_of(UNWEIGHTED)
    assert reasons(plan_model(layers, design)) == [(False, "no graph is given")]
    assert reasons(plan_model(layers, design, None, FirstProjection.SPARSE)) == [(True, "as asked")]
    assert reasons(planned(projected(graph).model, graph, design, FirstProjection.DENSE)) == [(False, "as asked")]


def test_a_sum_with_aggregates_stays_dense() -> None:
    case = sum_case()
    plan = planned(case.model, case.graph, design_of(UNWEIGHTED), FirstProjection.SPARSE)
    assert reasons(plan) == [
        (True, "as asked"),
        (False, "its sum has aggregates besides, and AGG's sums go to VEC as one kind"),
    ]
    assert plan.projections[1].dense is None


def sum_case() -> Case:
    """A dense term of features that meets a mean, and one that is aggregated."""
    graph = academic_graph(np.random.default_rng(0), 40, 30, 5)
    builder = ModelBuilder(np.random.default_rng(0), graph)
    authors = builder.dense(builder.features("author"), 9)
    terms = [builder.dense(builder.features("paper"), 9), builder.mean(authors, "writes", "paper")]
    return Case(quantized(Case(builder.finish(builder.total(terms)), graph)).model, graph)


def test_a_design_without_agg_stays_dense() -> None:
    graph = one_type(bag_of_words(60, 900), 60)
    engines = tuple(engine for engine in UNWEIGHTED.engines if engine != "agg")
    design = design_of(replace(UNWEIGHTED, engines=engines))
    assert reasons(planned(projected(graph).model, graph, design, FirstProjection.SPARSE)) == [
        (False, "the design 'test' has no AGG")
    ]


def test_more_non_zeros_than_a_sum_is_proven_for_stay_dense_and_are_refused_when_bound() -> None:
    """Of 56 magnitudes without a common divisor, those in the last part are repeated."""
    values = np.tile(200 + np.arange(1500) % 56, (2, 1)).astype(np.float32)
    few = one_type(np.minimum(values, 1), 2)
    layers = lowered_of(projected(few, 4).model, few)
    large = one_type(values, 2)
    design = design_of(UNWEIGHTED)
    plan = plan_model(layers, design, graph_facts(large, layers), FirstProjection.SPARSE)
    ((sparse, reason),) = reasons(plan)
    assert not sparse and re.fullmatch(r"a node of type 'paper' has [\d,]+ edges of .*, 16 of 16'", reason)
    unknown = plan_model(layers, design, None, FirstProjection.SPARSE).lowered
    with pytest.raises(LimitExceededError) as caught:
        bound_to(compile_lowered(unknown, design), large)
    assert str(caught.value) == (
        f"a node of type 'paper' has {int(values[0].sum()):,} edges of 'non-zeros of x_paper'\n"
        "  expected: at most 65,535, for which the program's sums are proven\n"
        "  do: compile with --first-projection dense"
    )


def test_features_of_another_width_are_refused() -> None:
    graph = one_type(bag_of_words(60, 90), 60)
    program = bound_sparse(projected(graph).model, graph, design_of(UNWEIGHTED)).program
    other = GraphArrays(graph.counts, {"x_paper": bag_of_words(60, 91)}, {})
    with pytest.raises(FeatureWidthError, match="have 91 columns"):
        bind(program, other)


def test_numbers_of_features_give_the_work_of_the_features() -> None:
    """Bytes exactly, where rows are alike; time nearly."""
    table = np.zeros((64, 900), np.float32)
    for row in range(64):
        table[row, np.arange(5) + 13 * row] = 1
    graph = one_type(table, 64)
    model = projected(graph).model
    layers = lowered_of(model, graph)
    facts = graph_facts(graph, layers)
    counts = FeatureCounts(900, 320, 320.0, uniform=True)
    known = GraphFacts("numbers", facts.counts, {"paper": counts}, {})
    design = design_of(UNWEIGHTED)
    (real,), (numbers,) = (plan_model(layers, design, each).projections for each in (facts, known))
    assert real.dense == numbers.dense
    assert real.by_nonzeros is not None and numbers.by_nonzeros is not None
    assert real.by_nonzeros.bytes == numbers.by_nonzeros.bytes
    assert real.by_nonzeros.milliseconds == pytest.approx(numbers.by_nonzeros.milliseconds, rel=0.05)


def test_features_of_several_magnitudes_count_each_step() -> None:
    graph = one_type(bag_of_words(60, 900), 60)
    layers = lowered_of(projected(graph).model, graph)
    scale = layers.layers[0].dense.input.scale if layers.layers[0].dense is not None else 0.0
    work = []
    for uniform in (True, False):
        counts = FeatureCounts(900, 120, 240 * scale, uniform)
        facts = GraphFacts("numbers", {"paper": 60}, {"paper": counts}, {})
        found = plan_model(layers, design_of(UNWEIGHTED), facts).projections[0].by_nonzeros
        assert found is not None
        work.append(found.additions)
    assert work == [120 * 24, 240 * 24]
