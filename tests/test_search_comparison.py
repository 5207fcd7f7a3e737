# SPDX-License-Identifier: Apache-2.0
"""The comparison of searches: each method's finalists are different, of every seed, and have the best memories."""

from collections.abc import Sequence
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from hetfab.overlay.design import Design
from hetfab.overlay.search.environment import Episode
from hetfab.overlay.search.joint import JointSearch
from hetfab.overlay.search.options import Choice
from hetfab.overlay.search.points import Score
from tests.outside import module
from tests.search_cases import drawn_model, small_space

SPACE = small_space()
DESIGN = next(iter(SPACE.fitting()))
MODEL = drawn_model(5)


@pytest.fixture(scope="module")
def benchmark() -> ModuleType:
    found: ModuleType = module("benchmarks.search")
    return found


def episode(milliseconds: float, bits: int) -> Episode:
    weights = {layer.name: 2 for layer in MODEL.layers} | {MODEL.layers[0].name: bits}
    return Episode(DESIGN, weights, {tensor.name: 4 for tensor in MODEL.tensors}, milliseconds, 0.0, 0.0)


def comparison(benchmark: ModuleType, asked: list[Design]) -> Any:
    """One whose programs take less the wider the first layer is, and the deeper its memories are."""

    def time(design: Design, choices: Sequence[Choice]) -> list[float]:
        asked.append(design)
        return [1 / choices[0].weights[MODEL.layers[0].name] - 1e-6 * design.geometry.wgt_d_words]

    found = object.__new__(benchmark.Comparison)
    found.results, found.episodes = {"bound": {"drop": 1.0}}, 3
    found._found = SimpleNamespace(joint=JointSearch(SPACE, (MODEL,), lambda number, choice: Score(0.0, 0.0), time))
    return found


def test_equal_episodes_are_one_finalist(benchmark: ModuleType) -> None:
    episodes = [episode(1.0, 2)] * 3 + [episode(2.0, 4), episode(3.0, 8)]
    assert comparison(benchmark, [])._fastest(episodes, {})["weights"] == dict(episodes[-1].weights)


def test_finalists_are_timed_with_the_best_memories(benchmark: ModuleType) -> None:
    asked = list[Design]()
    search = comparison(benchmark, asked)
    found = search._fastest([episode(1.0, 2)], {})
    best = search._joint.memories(SimpleNamespace(design=DESIGN, choices=()))[:2]
    assert {DESIGN, *best} <= set(asked) and DESIGN not in best
    deepest = max(best, key=lambda design: design.geometry.wgt_d_words)
    assert found["geometry"] == benchmark._sizes(deepest)


def test_every_seed_of_random_search_has_finalists(benchmark: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = [[episode(1.0 + bits, bits) for bits in (2, 3, 4)], [episode(9.0, 8)], [episode(10.0, 6)]]
    monkeypatch.setattr(benchmark, "DesignEnvironment", lambda setting: None)
    monkeypatch.setattr(benchmark, "random_search", lambda environment, seed, episodes: runs[seed])
    assert comparison(benchmark, [])._random()["weights"] == dict(runs[1][0].weights)


def test_shares_of_evaluations_count_the_same_on_both_sides(benchmark: ModuleType) -> None:
    agent = {"milliseconds": 2.0, "episodes": 200, "accuracy_evaluations": 100, "distinct_accuracy_evaluations": 20}
    searched = {"milliseconds": 1.0, "accuracy_evaluations": 10, "seconds": 1.0}
    bound = {"sensitivity_evaluations": 5, "seconds": 1.0}
    idle = {**agent, "accuracy_evaluations": 0, "distinct_accuracy_evaluations": 0}
    cases = {"case": agent, "never within the target": idle}
    values = benchmark.summary({n: {"search": searched, "ddpg": each, "bound": bound} for n, each in cases.items()})
    assert values["evaluation_share_of_ddpg_distinct"] == 0.5 and values["evaluation_share_of_ddpg"] == 0.1
    assert values["evaluation_share_of_ddpg_episodes"] == 0.05 and values["ddpg_within_target"] == 0.5


def test_uniform_widths_are_timed_on_the_default_design_only_where_the_board_holds_it(
    benchmark: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = list[Design]()
    search = comparison(benchmark, asked)
    assert search._uniform()["base_design_milliseconds"] is not None and SPACE.base in asked
    asked.clear()
    shares = type(SPACE).shares
    monkeypatch.setattr(
        type(SPACE), "shares", lambda self, design: {"lut": 2.0} if design == SPACE.base else shares(self, design)
    )
    assert search._uniform()["base_design_milliseconds"] is None and asked and SPACE.base not in asked
