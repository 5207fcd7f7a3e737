# SPDX-License-Identifier: Apache-2.0
"""The order of a layer's edge sets: what stays loaded, the same logits in any order, projections computed once."""

from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest

from hetfab.driver.graph.facts import graph_facts
from hetfab.driver.graph.heterograph import Edges, HeteroGraph
from hetfab.driver.graph.model_inputs import model_bindings
from hetfab.hls.build.emulator import Emulator
from hetfab.overlay.compiler.compile import compile_lowered
from hetfab.overlay.compiler.graph_facts import GraphFacts, Sources
from hetfab.overlay.compiler.lowered import LoweredLayer, LoweredModel
from hetfab.overlay.compiler.lowering import lower
from hetfab.overlay.compiler.model_plan import plan_model
from hetfab.overlay.compiler.relation_order import order_relations
from hetfab.overlay.compiler.repeats import without_repeats
from hetfab.overlay.costs.program_cost import expected_log, operation_rows
from hetfab.overlay.isa.codec import ReduceSource
from hetfab.overlay.isa.spec import isa
from hetfab.overlay.model.schema import Relation
from tests.conftest import SMALL_GEOMETRY
from tests.programs import bound_to, design_of, quantized, run_emulated, run_golden
from tests.random_models import Case, ModelBuilder
from tests.test_whole_programs import assert_equals_onnxruntime

EVERYTHING = 1 << 40
ROW = 64


def citing_graph() -> HeteroGraph:
    """Four relations among papers; of each one and the next but one, half of the sources are the same."""
    random = np.random.default_rng(0)
    relations = {}
    for name, first in (("a", 0), ("b", 80), ("c", 10), ("d", 90)):
        source = np.concatenate([np.arange(first, first + 20), random.integers(first, first + 20, 40)])
        relations[Relation("paper", name, "paper")] = Edges(source, random.integers(0, 120, 60))
    features = {"paper": random.normal(size=(120, 9)).astype(np.float32)}
    return HeteroGraph("citing", "paper", {"paper": 120}, relations, features)


def shared_projection(given: HeteroGraph | None = None) -> tuple[Case, LoweredModel]:
    """Weights of the type: one projection, aggregated over each relation."""
    graph = given or citing_graph()
    builder = ModelBuilder(np.random.default_rng(1), graph)
    rows = builder.dense(builder.features("paper"), 17)
    logits = builder.total([builder.mean(rows, name, "paper") for name in "abcd"])
    case = Case(quantized(Case(builder.finish(logits), graph)).model, graph)
    return case, lower(case.model, model_bindings(case.model, graph))


def test_edge_sets_that_share_sources_come_together() -> None:
    case, lowered = shared_projection()
    ordered, (found,) = order_relations(lowered, graph_facts(case.graph, lowered), EVERYTHING)
    assert set(found.edges[:2]) in ({"a", "c"}, {"b", "d"})
    assert [each.edges.name for each in ordered.layers[-1].aggregations] == list(found.edges)
    assert (found.loaded_bytes, found.given_bytes, found.bytes) == (80 * ROW, 80 * ROW, 60 * ROW)


def test_what_stays_is_limited_by_the_buffer() -> None:
    case, lowered = shared_projection()
    facts = graph_facts(case.graph, lowered)
    _, (found,) = order_relations(lowered, facts, 4 * ROW)
    assert found.bytes == (80 - 2 * 4) * ROW
    kept, (none,) = order_relations(lowered, facts, 0)
    assert (none.edges, none.bytes) == (("a", "b", "c", "d"), 80 * ROW)
    assert kept.layers[-1].aggregations == lowered.layers[-1].aggregations


def test_without_a_graph_the_order_is_the_model_s() -> None:
    _, lowered = shared_projection()
    assert order_relations(lowered, None, EVERYTHING) == (lowered, ())


def test_vectors_of_different_tensors_are_not_shared() -> None:
    """As when each relation has weights of its own."""
    graph = citing_graph()
    builder = ModelBuilder(np.random.default_rng(1), graph)
    rows = builder.features("paper")
    logits = builder.total([builder.mean(builder.dense(rows, 17), name, "paper") for name in "abcd"])
    model = quantized(Case(builder.finish(logits), graph)).model
    lowered = lower(model, model_bindings(model, graph))
    _, (found,) = order_relations(lowered, graph_facts(graph, lowered), EVERYTHING)
    assert (found.edges, found.bytes) == (("a", "b", "c", "d"), 80 * ROW)


def test_numbers_of_sources_stand_for_random_ones() -> None:
    _, lowered = shared_projection()
    edges = [each.edges for each in lowered.layers[-1].aggregations]
    numbers = dict(zip(edges, map(Sources, (60, 6, 30, 12)), strict=True))
    facts = GraphFacts("numbers", {"paper": 120}, {}, numbers)
    _, (found,) = order_relations(lowered, facts, EVERYTHING)
    assert found.edges in (("b", "c", "a", "d"), ("d", "a", "c", "b"))
    # 6 * 30 / 120 and 30 * 60 / 120 and 60 * 12 / 120, halves to even.
    assert found.loaded_bytes - found.bytes == (2 + 15 + 6) * ROW


@pytest.mark.parametrize("order", list(permutations(range(4)))[::5])
def test_every_order_gives_the_same_logits(order: tuple[int, ...], small_emulators: dict[str, Emulator]) -> None:
    """More edge sets than contexts, so that a context is written anew for each."""
    case, lowered = shared_projection()
    last = lowered.layers[-1]
    turned = replace(last, aggregations=tuple(last.aggregations[i] for i in order))
    emulator = small_emulators["host"]
    program = compile_lowered(replace(lowered, layers=(*lowered.layers[:-1], turned)), design_of(emulator.geometry))
    assert program.layers[-1].aggregations == tuple("abcd"[i] for i in order)
    bound = bound_to(program, case.graph)
    assert_equals_onnxruntime(run_emulated(bound, emulator), bound, case.model, case.graph)


def test_a_projection_with_the_weights_of_a_type_is_one_layer() -> None:
    _, lowered = shared_projection()
    first, last = lowered.layers
    assert {each.input.name for each in last.aggregations} == {first.output.name}


def test_a_projection_that_is_spelled_for_each_relation_is_computed_once(small_emulators: dict[str, Emulator]) -> None:
    """Equal weights on the same input; other weights and other inputs stay layers of their own."""
    graph = citing_graph()
    builder = ModelBuilder(np.random.default_rng(1), graph)
    words = builder.features("paper")
    weight, other = (builder.constant(np.random.default_rng(seed).normal(size=(9, 17))) for seed in (2, 3))

    def product(weights: str) -> str:
        return builder.product(words, weights, 17)

    terms = [builder.mean(product(weight), name, "paper") for name in "abc"]
    model_output = builder.total([*terms, builder.mean(product(other), "d", "paper")])
    model = quantized(Case(builder.finish(model_output), graph)).model
    lowered = lower(model, model_bindings(model, graph))
    assert len(lowered.layers) == 3
    inputs = [each.input.name for each in lowered.layers[-1].aggregations]
    assert len(set(inputs[:3])) == 1 and len(set(inputs)) == 2
    assert set(lowered.stored) == {"x_paper", *inputs, lowered.output.name}
    emulator = small_emulators["host"]
    bound = bound_to(compile_lowered(lowered, design_of(emulator.geometry)), graph)
    assert_equals_onnxruntime(run_emulated(bound, emulator), bound, model, graph)


def conflicting_graph() -> HeteroGraph:
    """Relations of 8 sources each, those of b and d in the slots of a's and c's."""
    ids = np.arange(8)
    relations = {
        Relation("paper", name, "paper"): Edges(ids + first, ids)
        for name, first in zip("abcd", (0, 16, 0, 16), strict=True)
    }
    features = {"paper": np.random.default_rng(0).normal(size=(24, 9)).astype(np.float32)}
    return HeteroGraph("conflicting", "paper", {"paper": 24}, relations, features)


def test_tags_keep_the_vectors_of_a_tensor_from_one_edge_set_to_the_next() -> None:
    """The planned order reads a vector once in a pass over the channels, the model's order for each edge set."""
    case, lowered = shared_projection(conflicting_graph())
    design, tags = design_of(replace(SMALL_GEOMETRY, agg_contexts=4)), ReduceSource.TAGS
    plan = plan_model(lowered, design, graph_facts(case.graph, lowered), row_source=tags)
    (found,) = plan.orders
    assert (found.loaded_bytes, found.given_bytes, found.bytes) == (32 * ROW, 32 * ROW, 16 * ROW)
    for layers, misses in ((plan.lowered, 16), (lowered, 32)):
        bound = bound_to(compile_lowered(layers, design, row_source=tags), case.graph)
        assert_equals_onnxruntime(run_golden(bound), bound, case.model, case.graph)
        passes = len(operation_rows(bound.words, isa().operation("configure_features"))) // 4
        assert expected_log(bound)["misses"].sum() == passes * misses


def changed(layer: LoweredLayer, name: str) -> LoweredLayer:
    """The layer with one of its numbers changed."""
    dense, output = layer.dense, layer.output
    assert dense is not None
    match name:
        case "weight" | "weight_bits" | "bias":
            return replace(layer, dense=replace(dense, **{name: getattr(dense, name) + 1}))
        case "multiplier" | "shift" | "post_shift" | "post_left":
            return replace(layer, **{name: getattr(layer, name) + 1})
        case "relu":
            return replace(layer, relu=not layer.relu)
        case "input":
            return replace(layer, dense=replace(dense, input=replace(dense.input, name="another")))
    return replace(layer, output=replace(output, **{name: getattr(output, name) - 1}))


@pytest.mark.parametrize(
    "name",
    [
        "weight",
        "weight_bits",
        "bias",
        "multiplier",
        "shift",
        "post_shift",
        "post_left",
        "relu",
        "input",
        "bits",
        "exponent",
        "signed",
        "mantissa",
    ],
)
def test_layers_that_differ_in_one_number_stay(name: str) -> None:
    """A copy of the first layer is left out, a changed one is not."""
    _, lowered = shared_projection()
    first, last = lowered.layers
    copy = replace(first, output=replace(first.output, name="copy"))
    assert without_repeats(replace(lowered, layers=(first, copy, last))).layers[1].output is last.output
    other = changed(copy, name)
    assert [each.output for each in without_repeats(replace(lowered, layers=(first, other, last))).layers] == [
        each.output for each in (first, other, last)
    ]
