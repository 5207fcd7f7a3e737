# SPDX-License-Identifier: Apache-2.0
"""The search as a Gymnasium environment: its contract, resources that are kept, the published reward."""

from collections.abc import Mapping
from dataclasses import replace

import gymnasium.utils.env_checker
import numpy as np
import pytest

from hetfab.overlay.search.environment import DesignEnvironment, Setting, random_search
from hetfab.overlay.search.hardware import Space, base_design, scratchpads_of
from tests.search_cases import drawn_model, small_space

MODEL = drawn_model(11)


def drop(weights: Mapping[str, int], tensors: Mapping[str, int]) -> float:
    """Three points where anything has 2 bits."""
    return 3.0 * (2 in weights.values())


def environment(target: float) -> DesignEnvironment:
    return DesignEnvironment(Setting(small_space(), MODEL, target, drop))


def test_it_keeps_the_contract_of_environments() -> None:
    gymnasium.utils.env_checker.check_env(environment(1.0), skip_render_check=True)


def test_hardware_comes_first_then_each_layer_and_each_tensor_once() -> None:
    found = environment(1e9)
    assert found.length == 6 + len(MODEL.layers) + len(MODEL.tensors)
    (episode,) = random_search(found, 0, 1)
    assert set(episode.weights) == {layer.name for layer in MODEL.layers}
    assert set(episode.tensors) == {tensor.name for tensor in MODEL.tensors}
    assert episode.milliseconds == MODEL.milliseconds(episode.design, episode.weights, episode.tensors)


def test_every_design_fits_though_the_largest_is_asked_for() -> None:
    found = environment(1e9)
    for _ in range(3):
        found.reset()
        for _ in range(found.length):
            found.step(np.ones(1, np.float32))
    assert all(found.setting.space.holds(episode.design) for episode in found.episodes)
    largest = found.setting.space.design(found.setting.space.arrays_d[-1], found.setting.space.arrays_l[-1], 2048, 2048)
    assert not found.setting.space.holds(largest)


def test_the_reward_is_the_time_beyond_the_target_or_a_hundredth_of_the_points_lost() -> None:
    times = [episode.milliseconds for episode in random_search(environment(1e9), 1, 40)]
    target = float(np.median(times))
    episodes = random_search(environment(target), 1, 40)
    assert [episode.milliseconds for episode in episodes] == times
    assert 0 < sum(episode.drop is None for episode in episodes) < 40
    for episode in episodes:
        if episode.milliseconds > target:
            assert episode.drop is None and episode.reward == pytest.approx(-episode.milliseconds / target)
        else:
            assert episode.drop == drop(episode.weights, episode.tensors)
            assert episode.reward == pytest.approx(-0.01 * episode.drop)


def test_actions_span_all_options() -> None:
    found = environment(1e9)
    for value, bits in ((-1.0, 2), (1.0, 8)):
        found.reset()
        for _ in range(found.length):
            found.step(np.array([value], np.float32))
        assert set(found.episodes[-1].weights.values()) == {bits}


def test_what_is_observed_is_the_hardware_that_fits() -> None:
    asked, again = environment(1e9), environment(1e9)
    asked.reset()
    again.reset()
    for _ in asked.hardware:
        observed, *_ = asked.step(np.ones(1, np.float32))
    chosen = observed[-4 - len(asked.hardware) : -4]
    assert chosen.min() < 0.7 and chosen.max() < 1
    for value in chosen:
        seen, *_ = again.step(np.array([2 * value - 1], np.float32))
    np.testing.assert_allclose(seen, observed, atol=1e-6)


def whole_environment() -> DesignEnvironment:
    """Of a space in which all memories differ."""
    few = small_space("zcu104")
    space = replace(few, activations=(1, 2), results=(0.5, 1, 2), scratchpads=tuple(scratchpads_of(few.base)))
    return DesignEnvironment(Setting(space, MODEL, 1e9, drop))


def test_memories_that_differ_are_actions_too() -> None:
    found = whole_environment()
    assert found.hardware == (
        *("rows_d", "cols_d", "rows_l", "cols_l", "words_d", "words_l"),
        *("activations", "results", "scratchpad"),
    )
    gymnasium.utils.env_checker.check_env(whole_environment(), skip_render_check=True)
    base = found.setting.space.base.geometry
    for value, words in ((-1.0, (1, 0.5, 1, 0.5)), (1.0, (2, 2, 8, 8))):
        found.reset()
        for number in range(found.length):
            found.step(np.array([value if 6 <= number < 9 else -1.0], np.float32))
        got = found.episodes[-1].design.geometry
        assert got.act_d_words / base.act_d_words == got.act_l_words / base.act_l_words == words[0]
        assert (got.out_words / base.out_words, got.agg_word_beats) == words[1:3]
        assert got.feature_words / base.feature_words == words[3]
    assert all(found.setting.space.holds(each.design) for each in found.episodes)


def test_a_space_without_a_scratchpad_has_no_actions_for_it() -> None:
    images = Space.of(base_design("pynq-z2", [None]))
    assert len(DesignEnvironment(Setting(images, MODEL, 1e9, drop)).hardware) == 6
