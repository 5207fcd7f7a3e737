# SPDX-License-Identifier: Apache-2.0
"""Channels in another order compute the same float model, and runs of alike channels lose less."""

from dataclasses import replace

import numpy as np
import pytest

from hetfab.overlay.model.layers import Add, Dense, LayerGraph, Relu
from hetfab.quantize.emulation import Emulation
from hetfab.quantize.methods.layer_problem import LayerInputs, LayerProblem
from hetfab.quantize.methods.sub_layerwise import sub_layerwise
from hetfab.quantize.points import find_points
from hetfab.quantize.reorder import reordered
from hetfab.quantize.study import Study
from hetfab.quantize.widths import Widths
from tests.attention_models import MODELS, attention_case
from tests.random_models import random_case
from tests.test_study import study_of


def case_of(name: str) -> Study:
    return study_of(random_case(int(name), largest_count=33) if name.isdigit() else attention_case(name))


@pytest.mark.parametrize("name", [*MODELS, "1", "2", "5"])
def test_the_float_model_is_the_same_at_other_places(name: str) -> None:
    """Sums of float32 in another order differ in the last bits."""
    study = case_of(name)
    moved = study.reordered()
    for before, after in zip(study.graph.layers, moved.graph.layers, strict=True):
        assert type(before) is type(after) and before.output == after.output
    np.testing.assert_allclose(moved.observed.logits[0], study.observed.logits[0], rtol=1e-4, atol=1e-4)
    changed = [
        layer.output
        for layer in study.layers.values()
        if not np.array_equal(layer.weight, moved.layers[layer.output].weight)
    ]
    assert changed
    for layer_name in changed:
        assert sorted(moved.layers[layer_name].weight.ravel()) == sorted(study.layers[layer_name].weight.ravel())


def test_of_whole_numbers_products_are_equal_bit_for_bit() -> None:
    """Float32 adds small whole numbers exactly, so that the order of sums is no excuse."""
    random = np.random.default_rng(0)

    def whole(*shape: int) -> np.ndarray:
        return (random.integers(-3, 4, shape) * random.integers(1, 9, shape[-1])).astype(np.float32)

    layers = (
        Dense("a", "x", whole(6, 9), whole(9)),
        Relu("b", "a"),
        Dense("c", "b", whole(9, 9), None),
        Add("d", "c", "a"),
        Dense("e", "d", whole(9, 4), whole(4)),
    )
    graph = LayerGraph(layers, {}, {"x": 6, "a": 9, "b": 9, "c": 9, "d": 9, "e": 4}, "e")
    moved, feed = reordered(graph), {"x": whole(20, 6)}
    logits = [Emulation(each, find_points(each), feed).logits() for each in (graph, moved)]
    np.testing.assert_array_equal(logits[0], logits[1])
    first = moved.layers[0]
    assert isinstance(first, Dense) and not np.array_equal(first.weight, layers[0].weight)


def test_columns_fall_in_magnitude_where_nothing_holds_them() -> None:
    moved = case_of("2").reordered()
    free = [
        layer
        for layer in moved.layers.values()
        if layer.output != moved.graph.output and not np.array_equal(layer.weight, np.eye(len(layer.weight)))
    ]
    falling = [bool((np.diff(np.abs(layer.weight).max(axis=0)) <= 0).all()) for layer in free]
    assert any(falling)


def test_runs_of_sorted_channels_lose_less() -> None:
    random = np.random.default_rng(0)
    errors = []
    for _ in range(5):
        weight = random.standard_normal((64, 64)) * random.lognormal(0, 1, 64)
        rows = random.standard_normal((300, 64)).astype(np.float32)
        order = np.argsort(-np.abs(weight).max(axis=0))
        problem = LayerProblem(weight.astype(np.float32), 4, LayerInputs((rows,)), free=True)
        for each in (problem, replace(problem, weight=problem.weight[:, order])):
            shares = each.losses(sub_layerwise(each).restored) / each.losses(np.zeros(weight.shape))
            errors.append(float(shares.mean()))
    assert sum(errors[1::2]) < 0.5 * sum(errors[::2])


def test_a_reordered_model_is_written_and_computes_alike() -> None:
    study = case_of("2").reordered()
    assignment = study.uniform(Widths(4, 8), weights="sub-layerwise")
    model = study.write(assignment)
    assert study.measured_divergence(model) == pytest.approx(study.divergence(assignment), rel=1e-3, abs=1e-9)
