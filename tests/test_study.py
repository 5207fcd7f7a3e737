# SPDX-License-Identifier: Apache-2.0
"""A model under study: its emulation, mixed widths in the file and on the overlay, balance, range search."""

from dataclasses import replace

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hetfab.driver.graph.model_inputs import model_bindings, model_feeds, with_hops
from hetfab.hls.build.emulator import Emulator
from hetfab.overlay.errors import CalibrationDataError, WidthsUnsupportedError
from hetfab.overlay.model.bound_model import FedModel
from hetfab.overlay.model.layers import Aggregation, Dense, EdgeAttention
from hetfab.overlay.model.reader import check_model, normalise
from hetfab.quantize.assignment import ActivationChoice, Assignment, WeightChoice
from hetfab.quantize.balance import balanced
from hetfab.quantize.emulation import Emulation
from hetfab.quantize.post_training import quantize
from hetfab.quantize.range_search import searched_ranges
from hetfab.quantize.row_needs import RowNeeds
from hetfab.quantize.study import Study
from hetfab.quantize.widths import Widths
from tests.attention_models import attention_case
from tests.programs import reference_logits
from tests.random_models import Case, random_case
from tests.test_whole_programs import check, natives

ATTENTION = ("rgat", "han", "simple-hgn", "hgt", "sehgnn")


def fed(case: Case) -> FedModel:
    """The case's model with the case's graph."""
    model = check_model(normalise(case.model), "the float model")
    bindings = model_bindings(model, case.graph)
    return with_hops(FedModel(model, bindings, [model_feeds(model, bindings, case.graph)]), case.graph)


def study_of(case: Case) -> Study:
    return Study.open(fed(case))


@pytest.mark.parametrize("name", ATTENTION)
def test_the_emulation_computes_the_float_model(name: str) -> None:
    study = study_of(attention_case(name))
    np.testing.assert_allclose(study.emulations[0].logits(), study.observed.logits[0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("seed", range(8))
def test_the_emulation_rounds_as_the_file_does(seed: int) -> None:
    """Without attention and norms all numbers are exact in float32."""
    case = random_case(seed, largest_count=40)
    study = study_of(case)
    assignment = mixed(study, seed)
    expected = reference_logits(study.write(assignment), case.graph)
    found = study.logits(assignment)[0]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ATTENTION)
def test_the_emulation_is_near_the_file_of_attention_models(name: str) -> None:
    case = attention_case(name)
    study = study_of(case)
    assignment = study.uniform(Widths(6, 8), weights="nearest")
    expected, found = reference_logits(study.write(assignment), case.graph), study.logits(assignment)[0]
    assert np.abs(found - expected).mean() < 0.03 * np.abs(study.observed.logits[0]).max()


def mixed(study: Study, seed: int) -> Assignment:
    """Widths drawn for each layer, each group and, in every other layer, each channel."""
    random = np.random.default_rng(seed)
    assignment = study.uniform(Widths(8, 8), weights="nearest")
    for number, (name, layer) in enumerate(study.layers.items()):
        if name == study.graph.output:
            continue
        channels = layer.weight.shape[1]
        bits = tuple(random.choice([2, 4, 8], channels).tolist()) if number % 2 else int(random.choice([2, 3, 5]))
        assignment = assignment.with_weights(name, WeightChoice(bits, "alternation"))
    for group in study.groups:
        assignment = assignment.with_activations(group, ActivationChoice(int(random.choice([3, 4, 6, 8]))))
    return assignment


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_mixed_widths_run_on_the_overlay(seed: int, small_emulators: dict[str, Emulator]) -> None:
    case = random_case(seed, largest_count=33)
    study = study_of(case)
    model = study.write(mixed(study, seed))
    onnx.checker.check_model(model, full_check=True)
    check(model, case.graph, [natives(small_emulators)])


def test_an_assignment_is_what_is_written() -> None:
    case = random_case(2, largest_count=33)
    given_model = fed(case)
    assignment = mixed(Study.open(given_model), 4)
    result = quantize(given_model, assignment=assignment)
    assert result.assignment == assignment
    assert result.model == Study.open(given_model).write(assignment)


def test_widths_of_channels_are_joined_runs() -> None:
    study = study_of(random_case(2, largest_count=33))
    name, layer = next(iter(study.layers.items()))
    channels = layer.weight.shape[1]
    bits = tuple([8] * (channels - 1) + [2])
    numbers = study.numbers(study.uniform(Widths(4, 8)).with_weights(name, WeightChoice(bits)))
    assert numbers.weights[name].bits.tolist() == list(bits)
    model = study.write(study.uniform(Widths(4, 8)).with_weights(name, WeightChoice(bits)))
    joined = next(node for node in model.graph.node if node.output[0] == f"{name}.weight.joined")
    assert joined.op_type == "Concat" and len(joined.input) == 2


def test_the_wrong_number_of_widths_is_refused() -> None:
    study = study_of(random_case(2, largest_count=33))
    name, layer = next(iter(study.layers.items()))
    channels = layer.weight.shape[1]
    with pytest.raises(WidthsUnsupportedError) as caught:
        study.numbers(study.uniform(Widths(4, 8)).with_weights(name, WeightChoice((4,) * (channels + 1))))
    assert caught.value.args == (
        f"widths of {channels + 1} channels for a layer of {channels}",
        "one width for each output channel, or one for all",
        "give as many widths as the layer has output channels",
    )


@pytest.mark.parametrize(
    ("choice", "what"), [(WeightChoice, "weights of 9 bits"), (ActivationChoice, "activations of 9 bits")]
)
def test_widths_outside_their_range_are_refused(choice: type, what: str) -> None:
    with pytest.raises(WidthsUnsupportedError) as caught:
        choice(9)
    assert caught.value.found == what


def test_average_bits_are_weighted_by_products() -> None:
    case = random_case(5, largest_count=40)
    study = study_of(case)
    assignment = mixed(study, 1)
    rows = {name: study.emulations[0].values(name) for name in study.points.stored}
    total, count, read, times = 0.0, 0.0, 0.0, 0.0
    for layer in study.graph.layers:
        if not isinstance(layer, Dense | Aggregation):
            continue
        values = rows[layer.input]
        group = next(group for group, members in study.groups.items() if layer.input in members)
        if isinstance(layer, Dense):
            few = np.count_nonzero(values) < 0.1 * values.size and layer.input in study.samples[0]
            macs = (np.count_nonzero(values) if few else values.size) * layer.weight.shape[1]
            bits = assignment.weights[layer.output].widths(layer.weight.shape[1])
            total, count = total + macs * np.mean(bits), count + macs
        else:
            macs = len(study.samples[0][layer.source]) * values.shape[1]  # type: ignore[union-attr]
        if not set(np.unique(values)) <= {0.0, values.max()}:
            read, times = read + macs * assignment.activations[group].bits, times + macs
    found = study.average_bits(assignment)
    assert found.weights == pytest.approx(total / count)
    assert found.activations == pytest.approx(read / times)


# Bias correction


@pytest.mark.parametrize("seed", [1, 4])
def test_corrected_biases_keep_the_mean_of_a_layers_outputs(seed: int) -> None:
    study = study_of(random_case(seed))
    assignment = study.uniform(Widths(3, 8), weights="nearest")
    plain, found = (study.numbers(replace(assignment, correct_bias=each)) for each in (False, True))
    layers = [layer for layer in study.layers.values() if layer.bias is not None]
    moved = 0.0
    for layer in layers:
        assert layer.bias is not None
        rows = np.asarray(study.emulations[0].values(layer.input), np.float64)
        expected = (rows @ layer.weight + layer.bias).mean(axis=0)
        weights = found.weights[layer.output]
        assert weights.bias is not None and plain.weights[layer.output].bias is None
        np.testing.assert_allclose(
            (rows @ weights.restored + weights.bias).mean(axis=0), expected, atol=1e-4, rtol=1e-4
        )
        moved = max(moved, float(np.abs(weights.bias - layer.bias).max()))
    assert layers and moved > 0.01
    assert study.write(assignment) != study.write(replace(assignment, correct_bias=True))


# Balance


@pytest.mark.parametrize("name", [*ATTENTION, "random"])
def test_balanced_channels_leave_the_model_as_it_is(name: str) -> None:
    study = study_of(random_case(3) if name == "random" else attention_case(name))
    found = study.balanced()
    np.testing.assert_allclose(found.observed.logits[0], study.observed.logits[0], rtol=1e-5, atol=1e-5)
    for before, after in zip(study.graph.layers, found.graph.layers, strict=True):
        if isinstance(before, Dense) and isinstance(after, Dense):
            present = before.weight != 0
            ratio = np.frexp(after.weight[present] / before.weight[present])[0]
            assert set(ratio.tolist()) <= {0.5}


def test_a_small_channel_gets_the_range_of_the_others() -> None:
    study = study_of(attention_case("han"))
    reader = next(layer for layer in study.layers.values() if layer.output == study.graph.output)
    ranges = np.ones(study.graph.channels[reader.input], np.float32)
    ranges[0] = 0.3
    scaled = next(
        layer for layer in balanced(study.graph, {reader.input: ranges}).layers if layer.output == reader.output
    )
    assert isinstance(scaled, Dense)
    np.testing.assert_array_equal(scaled.weight[0], reader.weight[0] / 2)
    np.testing.assert_array_equal(scaled.weight[1:], reader.weight[1:])


# Range search


@given(st.integers(0, 200))
@settings(max_examples=5, deadline=None)
def test_a_search_of_ranges_never_ends_further_away(seed: int) -> None:
    study = study_of(random_case(seed, largest_count=33))
    start = study.uniform(Widths(8, 3), weights="nearest", activations="percentile 99.99")
    found = searched_ranges(study, start)
    assert study.divergence(found) <= study.divergence(start)
    assert {group: choice.bits for group, choice in found.activations.items()} == dict.fromkeys(study.groups, 3)


# Bad input


def test_a_feature_that_is_no_number_is_named() -> None:
    case = random_case(1)
    given_model = fed(case)
    (feed,) = given_model.samples()
    name = next(name for name, array in feed.items() if array.dtype == np.float32)
    broken = feed[name].copy()
    broken[0, 0] = np.nan
    with pytest.raises(CalibrationDataError) as caught:
        Study.open(replace(given_model, feeds=[{**feed, name: broken}]))
    assert f"'{name}'" in caught.value.found or name in caught.value.found
    assert caught.value.expected == "finite numbers in every tensor that becomes an integer"


def test_constant_tensors_are_quantized() -> None:
    case = random_case(1)
    given_model = fed(case)
    (feed,) = given_model.samples()
    same = {name: np.full_like(a, 0.37) if a.dtype == np.float32 else a for name, a in feed.items()}
    for widths in (Widths(8, 8), Widths(2, 2)):
        study = Study.open(replace(given_model, feeds=[same]))
        assert np.isfinite(study.divergence(study.uniform(widths)))


@pytest.mark.parametrize("name", ATTENTION)
def test_compared_rows_are_those_of_the_whole_output(name: str) -> None:
    """Of attention models too, whose parts and sums over nodes need rows of their own."""
    study = study_of(attention_case(name))
    whole, rows = study.emulations[0].logits(), np.array([5, 2, 2])
    found = Emulation(study.graph, study.points, study.samples[0], np.unique(rows))
    np.testing.assert_allclose(found.logits(), whole[np.unique(rows)], rtol=1e-4, atol=1e-5)
    study.evaluation = replace(study.evaluation, rows=rows)
    assignment = study.uniform(Widths(8, 8), weights="nearest")
    expected = study.logits(assignment)[0][rows]
    np.testing.assert_allclose(study.compared_logits(assignment)[0], expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("seed", range(4))
def test_the_evaluation_of_some_rows_computes_the_same_bits(seed: int) -> None:
    """Scales are powers of two, so that float32 adds without rounding, whatever rows a product has."""
    study = study_of(random_case(seed, largest_count=40))
    assignment = study.uniform(Widths(4, 8), weights="nearest")
    whole = study.logits(assignment)[0]
    rows = np.random.default_rng(seed).permutation(len(whole))[: max(len(whole) // 3, 1)]
    study.evaluation = replace(study.evaluation, rows=rows)
    np.testing.assert_array_equal(study.compared_logits(assignment)[0], whole[rows])


def test_rows_that_nothing_reads_are_not_computed() -> None:
    study = study_of(attention_case("rgat"))
    needs = RowNeeds.of(study.graph, study.samples[0], np.array([0]))
    layer = next(each for each in reversed(study.graph.layers) if isinstance(each, EdgeAttention))
    sources = study.samples[0][layer.source][study.samples[0][layer.destination] == 0]
    assert needs.rows[study.graph.output].tolist() == [0]
    assert needs.read[layer.output][0].tolist() == np.unique(sources).tolist()
    assert len(needs.rows[layer.input]) < len(study.emulations[0].values(layer.input))
