# SPDX-License-Identifier: Apache-2.0
"""Networks on samples take methods, exponents and widths of channels from an assignment, as graph models do."""

import math
from dataclasses import replace

import numpy as np
import onnx
import onnx.numpy_helper
import pytest

from hetfab.overlay.errors import WidthsUnsupportedError
from hetfab.overlay.model.binding import Samples
from hetfab.overlay.model.bound_model import Evaluation, FedModel
from hetfab.overlay.model.cnn.integer_reader import read_integers
from hetfab.overlay.model.cnn.layers import Conv
from hetfab.overlay.model.cnn.window import Window
from hetfab.overlay.model.layers import Dense
from hetfab.overlay.model.runtime import run_model
from hetfab.quantize.assignment import ActivationChoice, WeightChoice
from hetfab.quantize.cnn import changed_runs
from hetfab.quantize.cnn.rounding import matrix_of, patches, rounded_weights
from hetfab.quantize.cnn.study import CnnStudy
from hetfab.quantize.cnn.writer import float_model
from hetfab.quantize.layer_rounding import rounded_layer
from hetfab.quantize.methods import WEIGHT_METHODS
from hetfab.quantize.methods.layer_problem import LayerInputs
from hetfab.quantize.ranges import ActivationRange
from hetfab.quantize.weights import LayerWeights, QuantizedWeights
from hetfab.quantize.widths import Widths
from tests.random_cnns import CnnBuilder


def study_of(groups: int = 1, *, seed: int = 0) -> CnnStudy:
    """Two convolutions and a dense layer, on correlated samples."""
    random = np.random.default_rng(seed)
    build = CnnBuilder(random, (4, 7, 6))

    def weights(name: str, shape: tuple[int, ...]) -> str:
        build.initializers.append(onnx.numpy_helper.from_array(random.normal(size=shape).astype(np.float32), name))
        return name

    first = build.node("Conv", "input", weights("a", (6, 4, 3, 3)), shape=(6, 4, 3), pads=[1, 0, 1, 1], strides=[2, 2])
    read = build.node("Relu", first)
    second = weights("b", (12, 6 // groups, 3, 2))
    second = build.node("Conv", read, second, shape=(12, 4, 2), pads=[1, 0, 1, 0], group=groups)
    flat = build.node("Flatten", build.node("Relu", second), shape=(96,))
    model = build.finish(build.node("MatMul", flat, weights("c", (96, 5)), shape=(5,)))
    mixing = random.lognormal(0, 1, (4, 4))
    samples = np.einsum("nchw,cd->ndhw", random.standard_normal((24, 4, 7, 6)), mixing).astype(np.float32)
    feeds = [{"input": samples[:10]}, {"input": samples[10:]}]
    return CnnStudy.open(FedModel(model, {"input": Samples((4, 7, 6))}, feeds, Evaluation(None, False)))


@pytest.mark.parametrize("groups", [1, 3, 6])
def test_patches_are_the_rows_that_a_layer_multiplies(groups: int) -> None:
    study = study_of(groups)
    model = float_model(study.graph)
    for layer in study.layers.values():
        exposed = onnx.ModelProto()
        exposed.CopyFrom(model)
        for name in dict.fromkeys((layer.input, layer.output)):
            if name not in ("input", study.graph.output):
                exposed.graph.output.append(onnx.ValueInfoProto(name=name))
        feed = study.samples[0]
        read = feed["input"] if layer.input == "input" else run_model(exposed, feed, [layer.input])[0]
        found = run_model(exposed, feed, [layer.output])[0]
        expected = found if isinstance(layer, Dense) else found.transpose(0, 2, 3, 1).reshape(-1, len(layer.weight))
        bias = 0.0 if layer.bias is None else layer.bias
        for most in (10**6, 17):
            rows = patches(layer, read, most)
            assert rows.shape[1] <= most
            columns = np.split(matrix_of(layer), len(rows), axis=1)
            products = np.concatenate([r @ c for r, c in zip(rows, columns, strict=True)], axis=1) + bias
            step = -(-len(expected) // most)
            np.testing.assert_allclose(products, expected[::step], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("groups", [1, 3])
@pytest.mark.parametrize("bits", [2, 4])
def test_methods_are_used_and_lose_less(groups: int, bits: int) -> None:
    errors = dict.fromkeys(WEIGHT_METHODS, 0.0)
    for seed in range(3):
        study = study_of(groups, seed=seed)
        for method in errors:
            numbers = study.numbers(study.uniform(Widths(bits, 8), weights=method))
            for name, layer in study.layers.items():
                size = len(study._inputs_of(layer))
                columns = [np.split(m, size, axis=1) for m in (matrix_of(layer), numbers.weights[name].restored)]
                for inputs, exact, found in zip(study._inputs_of(layer), *columns, strict=True):
                    error = (found - exact).astype(np.float64)
                    scale = inputs.moments.losses(exact).sum()
                    errors[method] += float(inputs.moments.losses(error).sum() / scale)
    assert errors["alternation"] < 0.95 * errors["gptq"] < 0.9 * errors["nearest"]


def test_the_block_stage_is_of_models_on_graphs() -> None:
    study = study_of()
    with pytest.raises(WidthsUnsupportedError, match="5 steps of the block stage for a network on samples"):
        study.numbers(replace(study.uniform(Widths(4, 8)), block_steps=5))


@pytest.mark.parametrize("method", list(WEIGHT_METHODS))
def test_a_layer_with_two_widths_is_two_initializers(method: str) -> None:
    study = study_of()
    assignment = study.uniform(Widths(4, 8))
    bits = {}
    for name, layer in study.layers.items():
        if name != study.graph.output:
            channels = len(layer.weight)
            bits[name] = (8,) * (channels // 3) + (3,) * (channels - channels // 3)
            assignment = assignment.with_weights(name, WeightChoice(bits[name], method))
    model = study.write(assignment)
    onnx.checker.check_model(model, full_check=True)
    read = {product.output.name.rpartition(".")[0]: product for product in read_integers(model).products()}
    assert sorted(tuple(product.weight_bits.tolist()) for product in read.values()) == sorted(
        [*bits.values(), (4,) * 5]
    )
    average = study.average_bits(assignment).weights
    assert 3 < average < 8 and study.divergence(assignment) < study.divergence(study.uniform(Widths(2, 8)))


def test_logits_of_two_widths_and_wrong_counts_are_refused() -> None:
    study = study_of()
    start = study.uniform(Widths(4, 8))
    with pytest.raises(WidthsUnsupportedError, match="whose channels are the logits"):
        study.write(start.with_weights(study.graph.output, WeightChoice((8, 4, 4, 4, 4))))
    first = next(name for name, layer in study.layers.items() if isinstance(layer, Conv))
    with pytest.raises(WidthsUnsupportedError, match="widths of 4 channels for a layer of 6"):
        study.write(start.with_weights(first, WeightChoice((8, 4, 4, 4))))


def test_an_exponent_is_taken_in_place_of_a_method() -> None:
    study = study_of()
    start = study.uniform(Widths(8, 8))
    for group in study.groups:
        chosen = study.numbers(start).ranges[group]
        moved = start.with_activations(group, ActivationChoice(8, exponent=chosen.exponent + 2))
        assert study.numbers(moved).ranges[group] == replace(chosen, exponent=chosen.exponent + 2)


def test_windows_are_not_only_square() -> None:
    windows = [layer.window for layer in study_of().layers.values() if isinstance(layer, Conv)]
    assert {window.kernel for window in windows} == {(3, 3), (3, 2)} and Window((3, 3)) not in windows


@pytest.mark.parametrize("groups", [1, 6])
def test_an_evaluation_computes_what_the_file_does_at_any_widths(groups: int) -> None:
    """One model of onnxruntime serves all assignments; float32 holds all sums of so small a network."""
    study, random = study_of(groups), np.random.default_rng(groups)
    for bits in (2, 4, 8):
        assignment = study.uniform(Widths(bits, 4), weights="alternation" if bits < 8 else "nearest")
        for group in study.groups:
            assignment = assignment.with_activations(group, ActivationChoice(int(random.choice([3, 4, 8]))))
        channels = tuple(random.choice([2, bits], 12).tolist())
        layer = next(name for name, each in study.layers.items() if len(each.weight) == 12)
        assignment = assignment.with_weights(layer, WeightChoice(channels, "nearest"))
        for found, expected in zip(study.compared_logits(assignment), study.logits(assignment), strict=True):
            np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(("seed", "starts", "size"), [(0, 8, 1 << 25), (1, 2, 1 << 25), (2, 8, 0)])
def test_a_run_from_where_numbers_changed_gives_what_a_whole_one_does(
    seed: int, starts: int, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Any change after any other: of one layer or one tensor, earlier or later, of all, or of none."""
    monkeypatch.setattr(changed_runs, "_STARTS", starts)
    monkeypatch.setattr(changed_runs, "_BYTES", size)
    study, whole, random = study_of(seed=seed), study_of(seed=seed), np.random.default_rng(seed)
    assignment = study.uniform(Widths(8, 8))
    for _ in range(12):
        if random.random() < 0.4:
            layer = str(random.choice(sorted(study.layers)))
            assignment = assignment.with_weights(layer, WeightChoice(int(random.choice([2, 4, 8])), "nearest"))
        elif random.random() < 0.6:
            group = str(random.choice(sorted(study.groups)))
            assignment = assignment.with_activations(group, ActivationChoice(int(random.choice([3, 4, 8]))))
        elif random.random() < 0.5:
            assignment = study.uniform(Widths(4, 4))
        for found, expected in zip(study.compared_logits(assignment), whole.logits(assignment), strict=True):
            np.testing.assert_array_equal(found, expected)


def test_a_wide_layers_weights_do_not_depend_on_what_it_reads() -> None:
    """They are kept for all widths of activations; narrow ones have multipliers that do depend on them."""
    study = study_of()
    for bits, kept in ((8, len(study.layers)), (4, 2 * len(study.layers)), (2, 4 * len(study.layers))):
        for activations in (4, 8):
            study.numbers(study.uniform(Widths(bits, activations), weights="nearest"))
        assert len(study._weights) == kept


def test_ranges_are_chosen_once() -> None:
    study = study_of()
    assignment = study.uniform(Widths(4, 4))
    first = study.numbers(assignment).ranges
    count = len(study.observed.chosen)
    assert study.numbers(assignment).ranges == first and len(study.observed.chosen) == count
    study.numbers(study.uniform(Widths(4, 8)))
    assert len(study.observed.chosen) == 2 * count


def narrow(weights: LayerWeights) -> list[QuantizedWeights]:
    """Parts whose scales are free."""
    return [part for part in weights.parts if part.bits < 4]


@pytest.mark.parametrize("bits", [2, 3, (2, 8, 3, 3, 4, 2, 2, 3)])
@pytest.mark.parametrize("inputs", [300, 3000])
def test_a_layer_of_large_sums_is_rounded_once_with_as_long_multipliers_as_float32_holds(
    bits: int | tuple[int, ...], inputs: int
) -> None:
    random = np.random.default_rng(inputs)
    layer = Dense("out", "in", random.normal(size=(inputs, 8)).astype(np.float32), None)
    rows, reads = LayerInputs((random.normal(size=(50, inputs)).astype(np.float32),)), ActivationRange(8, True, -5)
    asked: list[int] = []

    def rounded(choice: WeightChoice, significance: int) -> LayerWeights:
        if choice.method != "nearest":
            asked.append(significance)
        return rounded_layer(layer, choice, rows, significance=significance)

    found = rounded_weights(layer, reads, WeightChoice(bits, "gptq"), rounded)
    sums = [np.abs(part.integers).sum(axis=0) * 128 for part in narrow(found)]
    # A sum is a whole number times a multiplier; one of float32's 24 bits is left.
    assert max((each * part.mantissas).max() for each, part in zip(sums, narrow(found), strict=True)) < 2**24
    longest = 23 - math.ceil(math.log2(max(each.max() for each in sums)))
    assert asked == [min(longest, 8)]
