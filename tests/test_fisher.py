# SPDX-License-Identifier: Apache-2.0
"""Gradients of all kinds of layers against differences, and the search that they weigh."""

from dataclasses import replace

import numpy as np
import pytest

from hetfab.overlay.model.bound_model import Evaluation
from hetfab.overlay.model.layers import Dense
from hetfab.quantize.emulation import Emulation
from hetfab.quantize.fisher_search import drawn_slope, fisher_diagonal, fisher_ranges
from hetfab.quantize.gradients import gradients
from hetfab.quantize.study import Study
from hetfab.quantize.weighted_ranges import weighted_ranges
from hetfab.quantize.widths import Widths
from tests.attention_models import MODELS, attention_case
from tests.random_models import random_case
from tests.test_study import study_of


def loss(study: Study, weights: np.ndarray, layer: Dense | None = None, bias: np.ndarray | None = None) -> float:
    """A weighted sum of the logits, with another bias of one layer."""
    layers = tuple(replace(each, bias=bias) if each is layer else each for each in study.graph.layers)
    graph = replace(study.graph, layers=layers)
    return float(np.sum(Emulation(graph, study.points, study.samples[0]).logits().astype(np.float64) * weights))


@pytest.mark.parametrize("name", [*MODELS, "random"])
def test_gradients_are_those_of_differences(name: str) -> None:
    """The gradient of a bias is the sum of its layer's gradients over rows."""
    study = study_of(random_case(1) if name == "random" else attention_case(name))
    random = np.random.default_rng(0)
    weights = random.standard_normal(study.observed.logits[0].shape).astype(np.float32)
    found = gradients(study.emulations[0], weights)
    step = 1e-3
    for layer in study.layers.values():
        own = np.zeros(layer.weight.shape[1], np.float32) if layer.bias is None else layer.bias
        move = random.standard_normal(own.shape).astype(np.float32)
        ends = [loss(study, weights, layer, own + sign * step * move) for sign in (-1, 1)]
        expected = (ends[1] - ends[0]) / (2 * step)
        size = float(np.abs(found[layer.output] @ move).sum()) + 1e-3
        assert abs(float((found[layer.output] @ move).sum()) - expected) < 0.03 * size, layer.output


@pytest.mark.parametrize("multilabel", [False, True])
def test_drawn_slopes_have_mean_zero_and_the_fisher_information_as_variance(multilabel: bool) -> None:
    logits = np.array([[1.0, -0.5, 0.2], [0.0, 2.0, -1.0]], np.float32)
    random = np.random.default_rng(1)
    draws = np.stack([drawn_slope(logits, Evaluation(None, multilabel), random) for _ in range(20_000)])
    share = 1 / (1 + np.exp(-logits)) if multilabel else np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(draws.mean(axis=0), 0, atol=0.02)
    np.testing.assert_allclose(np.square(draws).mean(axis=0), share * (1 - share), atol=0.01)


def test_only_nodes_that_are_compared_count() -> None:
    logits = np.ones((3, 2), np.float32)
    slope = drawn_slope(logits, Evaluation(np.array([1])), np.random.default_rng(0))
    assert not slope[[0, 2]].any() and slope[1].any()


def test_the_search_is_seeded_and_takes_the_exponent_of_least_weighted_error() -> None:
    study = study_of(attention_case("rgat"))
    start = study.uniform(Widths(8, 4), weights="nearest", activations="min-max")
    importance = fisher_diagonal(study.emulations[0], Evaluation(), 8, 0)
    found = weighted_ranges(study, start, [importance])
    again = fisher_diagonal(study.emulations[0], Evaluation(), 8, 0)
    assert found == weighted_ranges(study, start, [again])
    ranges = study.numbers(found).ranges
    assert set(importance) >= set(study.layers)
    moved = 0
    for group, members in study.groups.items():
        exponent = found.activations[group].exponent
        if exponent is None:
            continue
        moved += exponent != study.numbers(start).ranges[group].exponent
        errors = []
        for near in (exponent, exponent - 1, exponent + 1):
            errors.append(0.0)
            for name in members:
                rows = study.emulations[0].values(name).astype(np.float64)
                steps = np.clip(np.rint(rows / 2.0**near), ranges[name].lowest, ranges[name].highest)
                weight = importance.get(name, np.zeros(rows.shape))
                errors[-1] += float(np.sum(weight * (steps * 2.0**near - rows) ** 2))
        widest = np.abs(study.observed.values[group]).max() / ranges[group].highest > 2.0**exponent
        assert errors[0] <= errors[1] * (1 + 1e-5) and (not widest or errors[0] <= errors[2] * (1 + 1e-5))
    assert moved


@pytest.mark.parametrize(("name", "method"), [("rgat", "min-max"), ("han", "least square error")])
@pytest.mark.parametrize("bits", [3, 4])
def test_what_ends_further_away_is_not_taken(name: str, method: str, bits: int) -> None:
    """On this RGAT the weighted exponents are further away than those of min-max, on this HAN nearer or as near."""
    study = study_of(attention_case(name))
    start = study.uniform(Widths(8, bits), weights="nearest", activations=method)
    weights = [fisher_diagonal(each, Evaluation(), 8, 0) for each in study.emulations]
    divergences = [study.divergence(each) for each in (start, weighted_ranges(study, start, weights))]
    assert (divergences[1] > divergences[0]) == (name == "rgat")
    assert study.divergence(fisher_ranges(study, start)) == min(divergences)
