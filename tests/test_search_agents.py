# SPDX-License-Identifier: Apache-2.0
"""Agents in the environment of the search: one in numpy, whose reward rises, and DDPG where torch is installed."""

import importlib.util
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from hetfab.overlay.search.environment import DesignEnvironment, Episode, Setting, random_search
from tests.search_cases import drawn_model, small_space

MODEL = drawn_model(11)
HAVE_DDPG = importlib.util.find_spec("stable_baselines3") is not None
needs_ddpg = pytest.mark.skipif(not HAVE_DDPG, reason="python: stable-baselines3 is not installed (extra search)")


def drop(weights: Mapping[str, int], tensors: Mapping[str, int]) -> float:
    """A point for each bit below eight."""
    return float(sum(8 - bits for bits in [*weights.values(), *tensors.values()]))


def environment() -> DesignEnvironment:
    """The target is the time of the median of random episodes."""
    times = [each.milliseconds for each in random_search(DesignEnvironment(setting(1e9)), 0, 30)]
    return DesignEnvironment(setting(float(np.median(times))))


def setting(target: float) -> Setting:
    return Setting(small_space(), MODEL, target, drop)


def cross_entropy(found: DesignEnvironment, rounds: int, size: int) -> list[Episode]:
    """Actions of each step are normal around those of the best quarter before: an agent of twenty lines."""
    random = np.random.default_rng(0)
    mean, deviation = np.zeros(found.length), np.ones(found.length)
    for _ in range(rounds):
        actions = random.normal(mean, deviation, (size, found.length)).clip(-1, 1).astype(np.float32)
        rewards = []
        for episode in actions:
            found.reset()
            total = 0.0
            for action in episode:
                _, reward, over, _, _ = found.step(np.array([action]))
                total += reward
            assert over
            rewards.append(total)
        best = actions[np.argsort(rewards)[-size // 4 :]]
        mean, deviation = best.mean(axis=0), best.std(axis=0) + 0.05
    return found.episodes


def test_an_agent_without_torch_learns_from_observations_steps_and_rewards() -> None:
    found = environment()
    episodes = cross_entropy(found, rounds=8, size=20)
    first, last = ([each.reward for each in part] for part in (episodes[:20], episodes[-20:]))
    assert len(episodes) == 160 and np.mean(last) > np.mean(first) + 0.1
    by_chance = random_search(DesignEnvironment(found.setting), 1, 160)
    assert max(each.reward for each in episodes) >= max(each.reward for each in by_chance)


@needs_ddpg
def test_ddpg_plays_as_many_episodes_as_asked_and_repeats_with_its_seed() -> None:
    from hetfab.overlay.search.ddpg import WARM_UP, search

    runs = [search(environment(), seed, WARM_UP + 5) for seed in (0, 0, 1)]
    rewards = [[episode.reward for episode in run] for run in runs]
    assert len(rewards[0]) == WARM_UP + 5
    assert rewards[0] == rewards[1] != rewards[2]


@needs_ddpg
def test_ddpg_leaves_no_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from hetfab.overlay.search.ddpg import WARM_UP, search

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    search(environment(), 0, WARM_UP + 1)
    assert not list(tmp_path.iterdir())


@needs_ddpg
def test_ddpg_learns() -> None:
    from hetfab.overlay.search.ddpg import WARM_UP, search

    episodes = search(environment(), 0, 120)
    first, last = ([each.reward for each in part] for part in (episodes[:WARM_UP], episodes[-WARM_UP:]))
    assert np.mean(last) > np.mean(first)


@needs_ddpg
def test_all_steps_of_an_episode_are_rewarded_with_its_end_less_a_moving_average() -> None:
    from hetfab.overlay.search.ddpg import EpisodeBuffer

    found = environment()
    buffer = EpisodeBuffer(10, found.observation_space, found.action_space, device="cpu")
    observation = found.reset()[0][None]
    for reward, over in ((0.0, False), (0.0, False), (-2.0, True)):
        assert buffer.size() == 0
        buffer.add(observation, observation, np.zeros((1, 1)), np.array([reward]), np.array([over]), [{}])
    assert buffer.rewards[:3].reshape(-1).tolist() == [-2.0, -2.0, -2.0]
    assert buffer.sample(4).rewards.reshape(-1).tolist() == [0.0] * 4
