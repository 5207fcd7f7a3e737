# SPDX-License-Identifier: Apache-2.0
"""Sums of several dense terms, of stored tensors, and with constants: read, rewritten, quantized, compiled and run."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest

from hetfab.driver.graph.model_inputs import model_bindings, model_feeds
from hetfab.hls.build.emulator import Emulator
from hetfab.overlay.compiler.lowered import LoweredModel
from hetfab.overlay.compiler.lowering import lower
from hetfab.overlay.model.float_writer import write_float
from hetfab.overlay.model.inspection import inspect_model
from hetfab.overlay.model.layers import Add, Dense, LayerGraph, constants_of
from hetfab.overlay.model.parser import parse_layers
from hetfab.overlay.model.reader import check_model, normalise
from hetfab.overlay.model.runtime import run_model
from hetfab.quantize.rewrites import REWRITES, dense_terms_together, rewrite
from hetfab.quantize.widths import Widths
from tests.attention_models import AttentionBuilder
from tests.conftest import SMALL_GEOMETRY
from tests.programs import SHARES, bound_to, compiled, quantized, reference_logits, run_emulated, run_golden
from tests.random_models import Case, academic_graph
from tests.test_whole_programs import assert_equals_onnxruntime, assert_same_dram

GRAPH = academic_graph(np.random.default_rng(4), 70, 30, 9)
CLASSES = 6


def joined_projections(builder: AttentionBuilder) -> str:
    """Three projections of one sum, of inputs of different widths and signs: one, one and three blocks long."""
    paper = builder.features("paper")
    positive, signed = builder.relu(builder.dense(paper, 9)), builder.op("Tanh", builder.dense(paper, 130), width=130)
    return builder.total([builder.dense(rows, CLASSES) for rows in (paper, positive, signed)])


def projections_of_a_hidden_layer(builder: AttentionBuilder) -> str:
    """A function of a sum of projections, behind which a dense layer ends the model."""
    paper = builder.features("paper")
    hidden = builder.relu(builder.dense(paper, 40))
    mixed = builder.total([builder.dense(hidden, 24), builder.dense(paper, 24, bias=False)])
    return builder.dense(builder.op("Gelu", mixed), CLASSES)


def residual_beside_a_projection(builder: AttentionBuilder) -> str:
    """A mean, a dense term and what was there before."""
    hidden = builder.relu(builder.dense(builder.features("paper"), 20))
    for _ in range(2):
        mean = builder.mean(builder.dense(hidden, 20, bias=False), "cites", "paper")
        hidden = builder.relu(builder.total([mean, hidden, builder.dense(hidden, 20)]))
    return builder.dense(hidden, CLASSES)


def two_stored_tensors(builder: AttentionBuilder) -> str:
    """No dense term at all: two hidden tensors, and a mean, between constants."""
    paper = builder.features("paper")
    first, second = builder.relu(builder.dense(paper, 20)), builder.op("Elu", builder.dense(paper, 20), width=20)
    mean = builder.op("Add", builder.mean(first, "cites", "paper"), builder.weights(20))
    return builder.dense(builder.relu(builder.total([mean, first, second])), CLASSES)


def sum_that_goes_on(builder: AttentionBuilder) -> str:
    """A sum that a dense layer reads, and whose terms are in the next sum too."""
    paper = builder.features("paper")
    first = builder.total([builder.mean(builder.dense(paper, 20), "cites", "paper"), builder.dense(paper, 20)])
    second = builder.total([first, builder.dense(builder.relu(first), 20)])
    return builder.dense(builder.relu(second), CLASSES)


def projected_means(builder: AttentionBuilder) -> str:
    """NARS's hops: means along metapaths, projected and added; the rows themselves are one of them."""
    means = {"self": 17, "cites": 17, "by": 5, "by_writes": 17}
    terms = [builder.dense(builder.mean_input(path, width), 12) for path, width in means.items()]
    hidden = builder.relu(builder.total(terms))
    alone = builder.total([builder.dense(builder.mean_input(path, means[path]), 12) for path in ("cites", "by_writes")])
    return builder.dense(builder.op("Elu", builder.total([builder.dense(hidden, 12), alone])), CLASSES)


def constants_within_a_sum(builder: AttentionBuilder) -> str:
    """Every mean has a constant of its own."""
    means = [
        builder.mean(builder.dense(builder.features(node_type), 12, bias=False), relation, "paper")
        for node_type, relation in (("paper", "cites"), ("author", "writes"))
    ]
    return builder.dense(
        builder.relu(builder.total([builder.op("Add", m, builder.weights(12)) for m in means])), CLASSES
    )


def last_sum_with_a_bias(builder: AttentionBuilder) -> str:
    """Means alone and a constant."""
    means = [
        builder.mean(builder.dense(builder.features(node_type), CLASSES, bias=False), relation, "paper")
        for node_type, relation in (("paper", "cites"), ("author", "writes"))
    ]
    return builder.op("Add", builder.total(means), builder.weights(CLASSES))


def last_weighted_sum_with_a_bias(builder: AttentionBuilder) -> str:
    """GCN's last layer."""
    rows = builder.dense(builder.features("paper"), CLASSES, bias=False)
    return builder.op("Add", builder.weighted_sum(rows, "cites", "paper"), builder.weights(CLASSES))


MODELS: tuple[Callable[[AttentionBuilder], str], ...] = (
    joined_projections,
    projections_of_a_hidden_layer,
    residual_beside_a_projection,
    two_stored_tensors,
    sum_that_goes_on,
    projected_means,
    constants_within_a_sum,
    last_sum_with_a_bias,
    last_weighted_sum_with_a_bias,
)


def case_of(model: Callable[[AttentionBuilder], str]) -> Case:
    builder = AttentionBuilder(np.random.default_rng(2), GRAPH)
    return Case(builder.finish(model(builder)), GRAPH)


@pytest.fixture(params=MODELS, ids=lambda model: str(model.__name__))
def case(request: pytest.FixtureRequest) -> Case:
    return case_of(request.param)


def logits_of(layers: LayerGraph, case: Case) -> npt.NDArray[np.float32]:
    bindings = model_bindings(case.model, case.graph)
    model = check_model(write_float(layers, bindings, constants_of(case.model)), "written")
    return run_model(model, model_feeds(model, bindings, case.graph), [layers.output])[0]


def test_each_rewrite_keeps_the_logits(case: Case) -> None:
    layers = parse_layers(normalise(case.model))
    expected = reference_logits(case.model, case.graph)
    for step in REWRITES:
        layers = step(layers)
        np.testing.assert_allclose(logits_of(layers, case), expected, rtol=1e-4, atol=1e-5, err_msg=str(step))


@pytest.mark.parametrize("widths", [Widths(8, 8), Widths(4, 4), Widths(2, 5)], ids=str)
def test_the_overlay_computes_what_onnxruntime_does(case: Case, widths: Widths) -> None:
    model = quantized(case, widths).model
    bound = bound_to(compiled(model, case.graph, SMALL_GEOMETRY), case.graph)
    assert_equals_onnxruntime(run_golden(bound), bound, model, case.graph)


@pytest.mark.parametrize("share", SHARES[1:])
@pytest.mark.parametrize("model", MODELS[:3], ids=lambda model: str(model.__name__))
def test_both_cores_and_the_emulator_agree(
    model: Callable[[AttentionBuilder], str], share: float, small_emulators: dict[str, Emulator]
) -> None:
    case = case_of(model)
    found = quantized(case).model
    bound = bound_to(compiled(found, case.graph, SMALL_GEOMETRY, share), case.graph)
    golden = run_golden(bound)
    assert_equals_onnxruntime(golden, bound, found, case.graph)
    assert_same_dram(run_emulated(bound, small_emulators["host"]), golden, bound)


def test_predictions_stay(case: Case) -> None:
    found, expected = (reference_logits(model, case.graph) for model in (quantized(case).model, case.model))
    assert np.mean(found.argmax(axis=1) == expected.argmax(axis=1)) >= 0.9


def layers_of(model: Callable[[AttentionBuilder], str]) -> LoweredModel:
    case = case_of(model)
    found = quantized(case)
    return lower(found.model, found.bindings)


def test_projections_of_one_sum_are_one_product() -> None:
    last = layers_of(joined_projections).layers[-1]
    assert last.dense is not None
    assert [tensor.channels for tensor in last.dense.reads] == [17, 9, 130]
    assert [tensor.signed for tensor in last.dense.reads] == [True, False, True]
    assert last.dense.lengths == [64, 64, 192]
    found = quantized(case_of(joined_projections))
    assert inspect_model(found.model, found.bindings).layers[-1].inputs == 17 + 9 + 130


def test_a_sum_has_one_addition_in_which_all_dense_terms_meet() -> None:
    layers = rewrite(parse_layers(normalise(case_of(residual_beside_a_projection).model)))
    producers = {layer.output: layer for layer in layers.layers}
    additions = [layer for layer in layers.layers if isinstance(layer, Add)]
    assert len(additions) == 4
    for product, total in zip(additions[::2], additions[1::2], strict=True):
        assert isinstance(producers[product.left], Dense) and isinstance(producers[product.right], Dense)
        assert product.output in (total.left, total.right)


def test_a_sum_of_one_dense_term_stays_as_it_is() -> None:
    def plain(builder: AttentionBuilder) -> str:
        rows = builder.features("paper")
        return builder.total(
            [builder.dense(rows, CLASSES), builder.mean(builder.dense(rows, CLASSES), "cites", "paper")]
        )

    layers = parse_layers(normalise(case_of(plain).model))
    assert dense_terms_together(layers) == layers


def test_the_logits_of_a_last_sum_have_its_bias() -> None:
    lowered = layers_of(last_sum_with_a_bias)
    assert lowered.layers[-1].kind.value == "export_accumulators"
    assert lowered.layers[-1].bias is not None and lowered.layers[-1].bias.any()
    assert lowered.output.exponent == lowered.lsb_exponent - 8
