# SPDX-License-Identifier: Apache-2.0
"""The recipe for a pair of widths: what ``hetfab quantize`` and the benchmark both do."""

import importlib
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

from hetfab.quantize.assignment import Assignment
from hetfab.quantize.post_training import quantize
from hetfab.quantize.range_search import searched_ranges
from hetfab.quantize.recipe import Recipe
from hetfab.quantize.study import Study
from hetfab.quantize.widths import Widths
from tests.random_models import random_case
from tests.test_study import fed


@cache
def study() -> Study:
    return Study.open(fed(random_case(2, largest_count=33)))


def eight() -> Assignment:
    return searched_ranges(study(), study().uniform(Widths(8, 8), weights="nearest"), 1)


def test_eight_bits_are_nearest_with_searched_ranges() -> None:
    assert Recipe(study()).found(Widths(8, 8)).assignment == eight()


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_narrow_weights_start_from_the_ranges_of_eight_bits(bits: int) -> None:
    start = replace(study().uniform(Widths(bits, 8)), activations=eight().activations, arguments=eight().arguments)
    steps: list[str] = []
    recipe = Recipe(study(), steps.append)
    found = recipe.found(Widths(bits, 8))
    assert found.assignment == searched_ranges(study(), start, 1)
    assert found.divergences == {found.kept: study().divergence(found.assignment)}
    assert len(steps) <= recipe.steps(Widths(bits, 8))


def test_narrow_tensors_spare_the_ends_and_balance_where_that_is_nearer() -> None:
    found = Recipe(study()).found(Widths(4, 4))
    ways = []
    for each in (study(), study().balanced()):
        ways.append(searched_ranges(each, each.with_wide_ends(each.uniform(Widths(4, 4)))))
        divergence = each.divergence(ways[-1])
        assert divergence in found.divergences.values() and divergence >= found.divergences[found.kept]
    assert found.assignment in ways and len(found.divergences) == 2
    assert {choice.bits for choice in found.assignment.activations.values()} == {4, 8}


def test_the_model_of_a_search_is_that_of_the_recipe() -> None:
    result = quantize(fed(random_case(2, largest_count=33)), widths=Widths(4, 8), search=True)
    found = Recipe(study()).found(Widths(4, 8))
    assert result.assignment == found.assignment and result.widths == Widths(4, 8)
    assert result.model == study().write(found.assignment)
    assert result.divergences == {result.criterion: study().measured_divergence(result.model)}


def test_the_benchmark_takes_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1]))
    benchmark = importlib.import_module("benchmarks.quantize")
    run = object.__new__(benchmark.ModelRun)
    run.study, run.recipe = study(), Recipe(study())
    for name, widths in (("w8a8", Widths(8, 8)), ("w2a8", Widths(2, 8)), ("w4a4", Widths(4, 4))):
        found = Recipe(study()).found(widths)
        assert run.quantized(name)[1] == found.assignment


def test_widths_of_an_assignment_are_said_only_where_all_have_them() -> None:
    given = fed(random_case(2, largest_count=33))
    same = study().uniform(Widths(4, 8), weights="nearest")
    assert quantize(given, assignment=same).widths == Widths(4, 8)
    layer = next(iter(same.weights))
    mixed = same.with_weights(layer, replace(same.weights[layer], bits=8))
    assert quantize(given, assignment=mixed).widths is None
