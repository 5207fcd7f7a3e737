# SPDX-License-Identifier: Apache-2.0
"""Quantization: ranges, weights, shared scales, distances, and the file that is written."""

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx.checker
import onnx.helper
import onnx.inliner
import onnx.numpy_helper
import onnx.reference
import pytest
import scipy.special
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from hetfab.driver.graph.model_inputs import model_bindings, model_feeds
from hetfab.overlay.errors import CalibrationDataError, OperatorsUnsupportedError
from hetfab.overlay.isa import arithmetic
from hetfab.overlay.model import hgnn
from hetfab.overlay.model.binding import NodeCount, RelationEnd, from_json
from hetfab.overlay.model.bound_model import Evaluation, FedModel
from hetfab.overlay.model.parser import parse_layers
from hetfab.overlay.model.reader import check_model, graph_inputs, metadata, normalise, read_model
from hetfab.overlay.model.runtime import Feed, run_model
from hetfab.quantize.divergence import divergence_of_classes, divergence_of_labels
from hetfab.quantize.methods import CRITERIA
from hetfab.quantize.methods.percentile import percentile
from hetfab.quantize.methods.square_error import least_square_error
from hetfab.quantize.points import find_points
from hetfab.quantize.post_training import quantize
from hetfab.quantize.ranges import ActivationRange, choose, exact_exponent
from hetfab.quantize.weights import LARGEST_SPREAD, round_bias, round_to_nearest
from tests.conftest import SMALL_GEOMETRY
from tests.programs import compiled, quantized, reference_logits
from tests.random_models import Case, ModelBuilder, academic_case, academic_graph, random_case

FloatArray = npt.NDArray[np.float32]
SIGNED, UNSIGNED = ActivationRange(8, True, 0), ActivationRange(8, False, 0)


def floats(*values: float) -> FloatArray:
    return np.array(values, np.float32)


# Ranges


@pytest.mark.parametrize(
    ("values", "highest", "exponent"),
    [
        (floats(1), 127, 0),
        (floats(1, 2, 127), 127, 0),
        (floats(1, 128), 127, None),
        (floats(2, 254), 127, 1),
        (floats(0.5, 63.5), 127, -1),
        (floats(-0.25, 3), 127, -2),
        (floats(255, 1), 255, 0),
        (floats(96), 255, 5),
        (floats(1, 1 / 3), 127, None),
        (floats(2**-24), 127, -24),
        (floats(2**-25), 127, None),
        (floats(2.0**100), 127, 100),
    ],
)
def test_whole_multiples_keep_their_exact_scale(values: FloatArray, highest: int, exponent: int | None) -> None:
    assert exact_exponent(values, highest) == exponent


@given(st.lists(st.integers(1, 127), min_size=1), st.integers(-24, 100), st.booleans())
def test_exact_scales_lose_nothing(steps: list[int], exponent: int, signed: bool) -> None:
    values = np.ldexp(np.array(steps, np.float32), exponent)
    for criterion in CRITERIA.values():
        chosen = choose(values, criterion, signed=signed)
        integers = values / np.float32(chosen.scale)
        assert np.array_equal(integers, np.rint(integers)) and integers.max() <= chosen.highest
        coarser = integers / 2
        assert not np.array_equal(coarser, np.rint(coarser))


@pytest.mark.parametrize(("shape", "largest"), [(SIGNED, 127), (UNSIGNED, 255)])
def test_a_range_covers_its_percentile(shape: ActivationRange, largest: int) -> None:
    """99.9 % of the magnitudes are below 1, the rest are at 1000."""
    values = np.concatenate([np.linspace(0.01, 0.99, 99_950), np.full(50, 1000.0)]).astype(np.float32)
    assert percentile(99.9)(values, shape) == math.ceil(math.log2(0.99 / largest))
    assert percentile(99.99)(values, shape) == math.ceil(math.log2(1000 / largest))
    assert percentile(99.99)(-values, SIGNED) == math.ceil(math.log2(1000 / 127))


def test_a_percentile_on_a_power_of_two_of_steps_is_exact() -> None:
    assert percentile(100)(floats(127 / 4, 1), SIGNED) == -2
    assert percentile(100)(floats(np.nextafter(np.float32(127 / 4), np.float32(99)), 1), SIGNED) == -1
    assert percentile(100)(floats(0, 0), SIGNED) == 0


@given(st.integers(0, 2**32 - 1), st.sampled_from([SIGNED, UNSIGNED]))
@settings(max_examples=30)
def test_the_least_square_error_is_least_among_the_exponents(seed: int, shape: ActivationRange) -> None:
    random = np.random.default_rng(seed)
    values = np.abs(random.standard_t(2, 500)).astype(np.float32) * random.choice([1, 1e-3, 1e3])
    found = least_square_error(values, shape)
    widest = math.ceil(math.log2(float(values.max()) / shape.highest))

    def error(exponent: int) -> float:
        steps = np.clip(np.rint(values.astype(np.float64) / 2.0**exponent), shape.lowest, shape.highest)
        return float(np.mean((steps * 2.0**exponent - values) ** 2))

    assert widest - 6 < found <= widest
    assert error(found) <= min(error(e) for e in range(widest - 5, widest + 1)) * (1 + 1e-6)


def test_the_least_square_error_cuts_one_outlier_of_many() -> None:
    values = np.concatenate([np.random.default_rng(0).random(100_000), [1.5]]).astype(np.float32)
    assert least_square_error(values, UNSIGNED) == -8
    assert percentile(100)(values, UNSIGNED) == -7


def test_a_tensor_without_values_has_a_range() -> None:
    assert choose(floats(), least_square_error, signed=True) == ActivationRange(8, True, 0)


# Weights


def test_weights_are_narrow_with_a_scale_per_column() -> None:
    weight = floats(1.0, 1 / 512, -1, -1 / 431).reshape(2, 2)
    found = round_to_nearest(weight)
    assert found.integers.min() >= -127 and found.integers.max() <= 127
    assert found.exponents.tolist() != [found.exponents[0]] * 2
    np.testing.assert_array_equal(found.scales, np.ldexp(np.float32(1), found.exponents))


@given(st.integers(0, 2**32 - 1), st.booleans(), st.sampled_from([4, 5, 8]))
@settings(max_examples=40)
def test_each_columns_scale_has_the_least_square_error(seed: int, shared: bool, bits: int) -> None:
    random = np.random.default_rng(seed)
    shape = random.integers(1, 40), random.integers(1, 6)
    weight = (random.standard_t(3, shape) * 2.0 ** random.integers(-4, 4, shape[1])).astype(np.float32)
    found = round_to_nearest(weight, bits=bits, shared_scale=shared)
    limit = 2 ** (bits - 1) - 1
    assert np.abs(found.integers).max() <= limit

    def errors(exponents: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        scales = 2.0 ** exponents.astype(np.float64)
        steps = np.clip(np.rint(weight / scales), -limit, limit)
        return np.asarray(((steps * scales - weight) ** 2).sum(axis=0))

    def worst(exponents: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        return errors(exponents).sum(keepdims=True) if shared else errors(exponents)

    assert not shared or len(set(found.exponents.tolist())) == 1
    for step in (-2, -1, 1, 2):
        assert (worst(found.exponents) <= worst(found.exponents + step) * (1 + 1e-9)).all()


def test_scales_of_a_layer_spread_no_further_than_the_multiplier() -> None:
    weight = np.ldexp(np.ones((1, 40), np.float32), -np.arange(40))
    found = round_to_nearest(weight)
    assert found.exponents.max() - found.exponents.min() == LARGEST_SPREAD
    free = found.exponents > found.exponents.min()
    np.testing.assert_array_equal((found.integers * found.scales)[0, free], weight[0, free])


def test_weights_of_zero_have_a_scale() -> None:
    found = round_to_nearest(np.zeros((3, 2), np.float32))
    assert not found.integers.any() and found.exponents.tolist() == [0, 0]
    mixed = round_to_nearest(floats(0, 1, 0, 3).reshape(2, 2))
    assert not mixed.integers[:, 0].any() and mixed.integers[:, 1].tolist() == [32, 96]


def test_a_bias_is_rounded_to_even_and_saturates() -> None:
    found = round_bias(floats(0.5, 1.5, -2.5, 3e38, -3e38, 9), np.array([1, 1, 1, 2**-5, 2**-5, 3.0]))
    assert found.tolist() == [0, 2, -2, 2**31 - 1, -(2**31), 3]


# What shares a scale


def model_of(case: Case) -> onnx.ModelProto:
    return check_model(normalise(case.model), "the float model")


def test_terms_of_a_sum_share_one_scale_and_families_join() -> None:
    """Two sums share a term: a family of all their aggregated tensors. A third sum stays apart."""
    graph = academic_graph(np.random.default_rng(0), 20, 10, 5)
    builder = ModelBuilder(np.random.default_rng(0), graph)
    paper, author = builder.features("paper"), builder.features("author")
    one, two, three = builder.dense(author, 6), builder.relu(builder.dense(author, 6)), builder.dense(paper, 6)
    alone = builder.dense(paper, 6)
    first = builder.total([builder.mean(one, "writes", "paper"), builder.mean(two, "reviews", "paper")])
    second = builder.total([builder.mean(two, "writes", "paper"), builder.mean(three, "cites", "paper")])
    third = builder.mean(alone, "cites", "paper")
    last = [builder.mean(builder.relu(rows), "cites", "paper") for rows in (first, second, third)]
    model = model_of(Case(builder.finish(builder.total(last)), graph))
    points = find_points(parse_layers(model))
    assert frozenset((one, two, three)) in points.families
    assert frozenset((alone,)) in points.families
    bindings = model_bindings(model, graph)
    ranges = quantize(FedModel(model, bindings, [model_feeds(model, bindings, graph)])).ranges
    assert len({ranges[name].exponent for name in (one, two, three)}) == 1
    assert [ranges[name].signed for name in (one, two, three)] == [True, False, True]


@pytest.mark.parametrize("learned", [False, True])
@pytest.mark.parametrize("share", [1e-2, 1e-4, 1e-7])
def test_a_sum_has_room_for_a_dense_term_that_is_much_larger(share: float, learned: bool) -> None:
    """Without it the term would saturate at 24 bits, or need a multiplier of more than 16 bits."""
    random = np.random.default_rng(0)
    graph = academic_graph(random, 20, 10, 5)
    small = (random.normal(size=(10, 5)) * share).astype(np.float32)
    graph = replace(graph, features={**graph.features, "author": small})
    builder = ModelBuilder(random, graph)
    dense = builder.table("paper", 5) if learned else builder.dense(builder.features("paper"), 5)
    logits = builder.total([builder.mean(builder.features("author"), "writes", "paper"), dense])
    case = Case(builder.finish(logits), graph)
    model = quantized(case).model
    expected = reference_logits(model_of(case), graph)
    assert np.abs(reference_logits(model, graph) - expected).max() < np.abs(expected).max() / 30
    compiled(model, graph, SMALL_GEOMETRY)


def test_results_of_relu_and_features_without_negatives_are_unsigned() -> None:
    graph = academic_graph(np.random.default_rng(0), 20, 10, 5)
    counts = np.random.default_rng(0).integers(0, 200, (20, 17)).astype(np.float32)
    graph = replace(graph, features={**graph.features, "paper": counts})
    builder = ModelBuilder(np.random.default_rng(0), graph)
    paper, author = builder.features("paper"), builder.features("author")
    hidden, plain = builder.relu(builder.dense(paper, 6)), builder.dense(author, 6)
    terms = [builder.mean(hidden, "cites", "paper"), builder.mean(plain, "writes", "paper")]
    ranges = quantized(Case(builder.finish(builder.total(terms)), graph)).ranges
    assert {name: ranges[name].signed for name in (paper, author, hidden, plain)} == {
        paper: False,
        author: True,
        hidden: False,
        plain: True,
    }
    assert ranges[paper] == ActivationRange(8, False, 0)


def test_the_last_dense_layer_has_one_scale_for_all_classes() -> None:
    case = academic_case()
    builder = ModelBuilder(np.random.default_rng(1), case.graph)
    logits = builder.dense(builder.relu(builder.dense(builder.features("paper"), 9)), 6)
    model = quantized(Case(builder.finish(logits), case.graph)).model
    scales = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    quants = {node.input[0]: scales[node.input[1]] for node in model.graph.node if node.op_type == "Quant"}
    spread = {name: len(set(scale.reshape(-1))) for name, scale in quants.items() if name.endswith(".weight")}
    assert spread.pop(f"{logits}.weight") == 1
    assert all(scales > 1 for scales in spread.values()) and spread


# Distances


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=30)
def test_divergences_are_their_definitions(seed: int) -> None:
    random = np.random.default_rng(seed)
    first, second = random.normal(size=(2, 7, 4)).astype(np.float32) * random.choice([0.1, 1, 20])
    p, q = (scipy.special.softmax(logits.astype(np.float64), axis=1) for logits in (first, second))
    assert divergence_of_classes(first, second) == pytest.approx(scipy.stats.entropy(p, q, axis=1).mean())
    p, q = (scipy.special.expit(logits.astype(np.float64)) for logits in (first, second))
    expected = scipy.special.rel_entr(p, q) + scipy.special.rel_entr(
        *(scipy.special.expit(-logits.astype(np.float64)) for logits in (first, second))
    )
    assert divergence_of_labels(first, second) == pytest.approx(expected.mean())
    assert divergence_of_classes(first, first) == divergence_of_labels(first, first) == 0


def test_divergences_of_large_logits_are_finite() -> None:
    first, second = floats(1e4, -1e4).reshape(1, 2), floats(-1e4, 1e4).reshape(1, 2)
    assert divergence_of_classes(first, second) == pytest.approx(2e4)
    assert divergence_of_labels(first, second) == pytest.approx(1e4)


def test_the_nearest_candidate_is_kept() -> None:
    case = random_case(6)
    model = model_of(case)
    bindings = model_bindings(model, case.graph)
    feed = model_feeds(model, bindings, case.graph)
    result = quantize(FedModel(model, bindings, [feed]))
    assert list(result.divergences) == list(CRITERIA)
    assert result.divergences[result.criterion] == min(result.divergences.values())
    distance = divergence_of_classes(reference_logits(model, case.graph), reference_logits(result.model, case.graph))
    assert result.divergences[result.criterion] == pytest.approx(distance)


def test_candidates_are_compared_on_the_given_rows() -> None:
    case = academic_case()
    model = model_of(case)
    bindings = model_bindings(model, case.graph)
    feed = model_feeds(model, bindings, case.graph)
    for multilabel, divergence in ((False, divergence_of_classes), (True, divergence_of_labels)):
        result = quantize(FedModel(model, bindings, [feed], Evaluation(np.array([0, 7]), multilabel)))
        logits = [reference_logits(m, case.graph)[[0, 7]] for m in (model, result.model)]
        assert result.divergences[result.criterion] == pytest.approx(divergence(*logits))


# Feeds


class Reader:
    """onnxruntime's CalibrationDataReader."""

    def __init__(self, feeds: list[Feed]) -> None:
        self._feeds = iter(feeds)

    def get_next(self) -> Feed | None:
        return next(self._feeds, None)


def test_feeds_come_as_an_iterable_or_as_a_reader() -> None:
    case = academic_case()
    model = model_of(case)
    bindings = model_bindings(model, case.graph)
    feed = model_feeds(model, bindings, case.graph)
    wide = {**feed, "x_author": feed["x_author"] * 16}

    def generated() -> Iterator[Feed]:
        yield feed
        yield wide

    results = [
        quantize(FedModel(model, bindings, feeds)) for feeds in ([feed, wide], generated(), Reader([feed, wide]))
    ]
    assert len({result.model.SerializeToString(deterministic=True) for result in results}) == 1
    one = quantize(FedModel(model, bindings, [feed]))
    assert results[0].ranges["x_author"].exponent > one.ranges["x_author"].exponent


@pytest.mark.parametrize("feeds", [[], Reader([])])
def test_no_feed_is_refused(feeds: list[Feed] | Reader) -> None:
    case = academic_case()
    model = model_of(case)
    with pytest.raises(CalibrationDataError) as caught:
        quantize(FedModel(model, model_bindings(model, case.graph), feeds))
    assert caught.value.args == ("there is no feed to calibrate with", "at least one", "give the graph's feeds")


def test_a_feed_without_target_vertices_is_refused() -> None:
    case = academic_case()
    model = model_of(case)
    bindings = model_bindings(model, case.graph)
    feed = model_feeds(model, bindings, case.graph)
    with pytest.raises(CalibrationDataError) as caught:
        quantize(FedModel(model, bindings, [feed], Evaluation(np.zeros(0, np.int64))))
    assert caught.value.args == (
        "there is no node to compare the logits of candidates on",
        "at least one node of the target type",
        "give a graph with target nodes, or a validation split that is not empty",
    )


def test_rows_beyond_the_logits_are_refused() -> None:
    case = academic_case()
    model = model_of(case)
    bindings = model_bindings(model, case.graph)
    with pytest.raises(CalibrationDataError) as caught:
        feed = model_feeds(model, bindings, case.graph)
        quantize(FedModel(model, bindings, [feed], Evaluation(np.array([3, 40]))))
    assert caught.value.args == (
        "candidates are to be compared on node 40, but the logits have 40 rows",
        "nodes of the type whose logits the model computes",
        "give a graph whose target type is the model's",
    )


# The written file


def run_reference(model: onnx.ModelProto, feed: Feed) -> npt.NDArray[np.float32]:
    """The one output of a model in onnx.reference."""
    output: Any = next(iter(onnx.reference.ReferenceEvaluator(model).run(None, dict(feed))))
    assert isinstance(output, np.ndarray)
    return output


@pytest.mark.parametrize("seed", range(6))
def test_the_file_runs_in_checker_onnxruntime_and_reference(seed: int, tmp_path: Path) -> None:
    case = random_case(seed, largest_count=33)
    model = quantized(case).model
    path = tmp_path / "model.q.onnx"
    onnx.save(model, path)
    onnx.checker.check_model(path, full_check=True)
    feed = model_feeds(model, model_bindings(model, case.graph), case.graph)
    expected = run_model(model, feed, [model.graph.output[0].name])[0]
    np.testing.assert_array_equal(run_reference(model, feed), expected)


def with_shapes(model: onnx.ModelProto, feed: Feed, rows: int) -> onnx.ModelProto:
    """A copy with fixed shapes, which qonnx needs."""
    fixed = onnx.ModelProto()
    fixed.CopyFrom(model)
    for value in fixed.graph.input:
        for dim, size in zip(value.type.tensor_type.shape.dim, feed[value.name].shape, strict=True):
            dim.dim_value = size
    fixed.graph.output[0].type.tensor_type.shape.dim[0].dim_value = rows
    return fixed


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("aggregates", [False, True])
def test_the_file_runs_in_qonnx(aggregates: bool) -> None:
    """Dense stages as they are; qonnx knows no domain ``hgnn``, so its bodies are put in place of the nodes."""
    from qonnx.core.modelwrapper import ModelWrapper
    from qonnx.core.onnx_exec import execute_onnx
    from qonnx.transformation.infer_shapes import InferShapes

    case = academic_case()
    if not aggregates:
        builder = ModelBuilder(np.random.default_rng(0), case.graph)
        hidden = builder.relu(builder.dense(builder.features("paper"), 7))
        case = replace(case, model=builder.finish(builder.dense(hidden, 4)))
    model = quantized(case).model
    feed = model_feeds(model, model_bindings(model, case.graph), case.graph)
    fixed = with_shapes(model, feed, case.graph.counts["paper"])
    if aggregates:
        fixed = onnx.inliner.inline_selected_functions(fixed, [(hgnn.DOMAIN, "QSegMean")])
    found = execute_onnx(ModelWrapper(fixed).transform(InferShapes()), dict(feed))
    np.testing.assert_array_equal(found[model.graph.output[0].name], reference_logits(model, case.graph))


@pytest.mark.parametrize("opset", range(17, 22))
def test_models_of_every_opset_are_read_and_written(opset: int, tmp_path: Path) -> None:
    case = random_case(6, opset=opset)
    path = tmp_path / "model.onnx"
    onnx.save(case.model, path)
    model = read_model(path)
    bindings = model_bindings(model, case.graph)
    result = quantize(FedModel(model, bindings, [model_feeds(model, bindings, case.graph)]))
    onnx.save(result.model, path)
    again = read_model(path)
    assert {entry.domain: entry.version for entry in again.opset_import}[""] == opset
    np.testing.assert_array_equal(
        reference_logits(again, case.graph), reference_logits(quantized(random_case(6)).model, case.graph)
    )


def test_the_binding_is_written_in_full() -> None:
    case = academic_case()
    model = quantized(case).model
    text = metadata(model)
    assert text is not None
    bindings = from_json(text, "the model")
    names = [value.name for value in graph_inputs(model)]
    assert list(bindings) == names
    relations = {relation.name: relation for relation in case.graph.relations}
    for name in names:
        if name.startswith(("src_", "dst_")):
            binding = bindings[name]
            assert isinstance(binding, RelationEnd) and binding.relation == relations[name[4:]]
    assert bindings["n_paper"] == NodeCount("paper")
    assert "n_author" not in names, "only counts that a mean reads"


def test_counts_of_the_file_are_free() -> None:
    """A node count that the float model fixes is an input of the quantized one."""
    case = academic_case()
    other = academic_graph(np.random.default_rng(5), 77, 11, 3)
    model = quantized(case).model
    assert reference_logits(model, other).shape == (77, 9)


def test_forms_that_no_layer_has_are_refused_at_once() -> None:
    graph = academic_graph(np.random.default_rng(0), 20, 10, 5)
    builder = ModelBuilder(np.random.default_rng(0), graph)
    paper = builder.features("paper")
    hidden = builder.relu(paper)
    mean = builder.mean(builder.dense(hidden, 6), "cites", "paper")
    dense = [builder.dense(paper, 6, bias=False) for _ in range(2)]
    total = builder.total([mean, *dense])
    logits = builder.relu(builder.relu(total))
    model = model_of(Case(builder.finish(logits), graph))
    with pytest.raises(OperatorsUnsupportedError) as caught:
        find_points(parse_layers(model))
    assert caught.value.found.splitlines() == [
        "3 operators not supported:",
        f"    Relu '{hidden}': it reads the input 'x_paper'; apply it to the features beforehand",
        f"    Relu '{logits}': it is the model's output; leave it out, predictions stay the same",
        f"    Relu '{logits}': it follows another Relu; leave it out",
    ]


# Function bodies


def one_node(operator: str, inputs: Feed, **attributes: Any) -> onnx.ModelProto:
    domain = hgnn.OPERATORS[operator][0]
    node = onnx.helper.make_node(operator, list(inputs), ["y"], domain=domain, **attributes)
    values = [
        onnx.helper.make_tensor_value_info(name, onnx.helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
        for name, array in inputs.items()
    ]
    result = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None)
    imports = [onnx.helper.make_opsetid("", 20), onnx.helper.make_opsetid(domain, 2 if domain == hgnn.DOMAIN else 1)]
    graph = onnx.helper.make_graph([node], "one", values, [result])
    return onnx.helper.make_model(graph, opset_imports=imports, ir_version=10, functions=[hgnn.function(operator)])


@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("narrow", [True, False])
@pytest.mark.parametrize("bits", [2, 3, 4, 8, 16, 24])
def test_quant_gives_the_numbers_of_qonnx(bits: int, signed: bool, narrow: bool) -> None:
    from qonnx.custom_op.general.quant import quant

    scale = np.float32(0.125)
    halves = np.arange(-600, 600).astype(np.float32) / 2
    extremes = floats(1e9, -1e9, 2.0**bits, -(2.0**bits), 2.0 ** (bits - 1), -(2.0 ** (bits - 1)))
    inputs: dict[str, npt.NDArray[Any]] = {
        "x": np.concatenate([halves, extremes, halves * 2.0 ** (bits - 8)]).astype(np.float32) * scale,
        "scale": np.asarray(scale),
        "zero": np.array(0, np.float32),
        "bits": np.array(bits, np.float32),
    }
    model = one_node("Quant", inputs, signed=int(signed), narrow=int(narrow), rounding_mode="ROUND")
    expected = quant(*inputs.values(), signed, narrow, "ROUND")
    np.testing.assert_array_equal(run_model(model, inputs, ["y"])[0], expected)
    np.testing.assert_array_equal(run_reference(model, inputs), expected)


def edges_of_degrees(
    random: np.random.Generator, degrees: list[int], sources: int
) -> tuple[npt.NDArray[np.int64], ...]:
    destinations = np.repeat(np.arange(len(degrees)), degrees)
    order = random.permutation(len(destinations))
    return random.integers(0, sources, len(destinations)), destinations[order]


@pytest.mark.parametrize("low_high", [(-128, 127), (0, 255), (255, 255), (-128, -128)])
@pytest.mark.parametrize("exponent", [-20, -3, 0, 5])
def test_the_mean_takes_the_steps_of_the_hardware(low_high: tuple[int, int], exponent: int) -> None:
    random = np.random.default_rng(7)
    degrees = [0, 1, 2, 3, 4, 5, 7, 8, 9, 64, 65, 100, 1023, 1024, 4097, 32_768, 65_534, 65_535, 0]
    features = random.integers(low_high[0], low_high[1] + 1, (50, 3))
    sources, destinations = edges_of_degrees(random, degrees, len(features))
    scale = np.float32(2.0**exponent)
    inputs: dict[str, npt.NDArray[Any]] = {
        "x": (features * scale).astype(np.float32),
        "src": sources,
        "dst": destinations,
        "n": np.array(len(degrees), np.int64),
        "scale": np.asarray(scale),
    }
    found = run_model(one_node("QSegMean", inputs), inputs, ["y"])[0]
    sums = np.zeros((len(degrees), 3), np.int64)
    np.add.at(sums, destinations, features[sources])
    reciprocal, power = arithmetic.reciprocals(np.array(degrees, np.int64))
    steps = arithmetic.mean_q8(sums, reciprocal[:, None], power[:, None])
    np.testing.assert_array_equal(found, (steps * (2.0**exponent / 256)).astype(np.float32))
    assert not found[0].any() and not found[-1].any()


def test_a_wrong_body_in_a_file_is_replaced(tmp_path: Path) -> None:
    case = academic_case()
    model = quantized(case).model
    expected = reference_logits(model, case.graph)
    body = next(function for function in model.functions if function.name == "QSegMean")
    del body.node[:]
    body.node.append(onnx.helper.make_node("Identity", ["x"], ["y"]))
    onnx.save(model, tmp_path / "wrong.onnx")
    read = read_model(tmp_path / "wrong.onnx")
    np.testing.assert_array_equal(reference_logits(read, case.graph), expected)
    del model.functions[:]
    onnx.save(model, tmp_path / "none.onnx")
    np.testing.assert_array_equal(reference_logits(read_model(tmp_path / "none.onnx"), case.graph), expected)
