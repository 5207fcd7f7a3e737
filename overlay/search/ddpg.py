# SPDX-License-Identifier: Apache-2.0
"""DDPG with the hyper-parameters of N3H-Core's search software, which are HAQ's (Wang et al., CVPR 2019).

The agent is stable-baselines3's. Three things are HAQ's and not its own: two learning rates, noise that fades with the
episodes, and the reward of an episode, which all of its steps get, less a moving average. Needs the extra ``search``.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from stable_baselines3 import DDPG
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.noise import ActionNoise

from hetfab.overlay.search.environment import EPISODES, DesignEnvironment, Episode

WARM_UP = 20
_ACTOR_RATE, _CRITIC_RATE = 1e-4, 1e-3
_HIDDEN = [300, 300]
_BATCH, _TAU, _DISCOUNT = 64, 0.01, 1.0
_KEPT_PER_STEP = 128
#: Weight of a new batch in the moving average of rewards.
_ALPHA = 0.5
#: Deviation of the noise in 0..1, and its factor from episode to episode.
_NOISE, _FADING = 0.5, 0.99


class FadingNoise(ActionNoise):
    """Normal noise whose deviation falls from episode to episode; in -1..1, where actions span two."""

    def __init__(self, generator: np.random.Generator) -> None:
        super().__init__()
        self._generator = generator
        self._episodes = 0

    def __call__(self) -> npt.NDArray[np.float32]:
        """Noise for one step."""
        deviation = 2 * _NOISE * _FADING ** max(self._episodes - WARM_UP, 0)
        return self._generator.normal(0.0, deviation, 1).astype(np.float32)

    def reset(self) -> None:
        """Called at the end of an episode."""
        self._episodes += 1


class EpisodeBuffer(ReplayBuffer):
    """Keeps the steps of an episode back until its reward is known, which each of them gets."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._waiting: list[tuple[Any, ...]] = []
        self._average: float | None = None

    def add(self, obs: Any, next_obs: Any, action: Any, reward: Any, done: Any, infos: Any) -> None:
        """Takes a step; the last one of an episode puts all of them in."""
        self._waiting.append((obs, next_obs, action, done, infos))
        if np.all(done):
            for before, after, taken, ended, info in self._waiting:
                super().add(before, after, taken, reward, ended, info)
            self._waiting = []

    def sample(self, *arguments: Any, **options: Any) -> Any:
        """A batch, of whose rewards a moving average of batches is subtracted."""
        found = super().sample(*arguments, **options)
        mean = float(found.rewards.mean())
        self._average = mean if self._average is None else self._average + _ALPHA * (mean - self._average)
        return found._replace(rewards=found.rewards - self._average)


class _OwnRates(DDPG):
    """Actor and critic learn at rates of their own."""

    def _update_learning_rate(self, optimizers: Any) -> None:
        for optimizer, rate in zip(
            (self.actor.optimizer, self.critic.optimizer), (_ACTOR_RATE, _CRITIC_RATE), strict=True
        ):
            for group in optimizer.param_groups:
                group["lr"] = rate


class _Watch(BaseCallback):
    """Says when an episode has ended, and stops after the last."""

    def __init__(self, environment: DesignEnvironment, episodes: int, ended: Callable[[Episode], None]) -> None:
        super().__init__()
        self._environment, self._ended = environment, ended
        self._seen = len(environment.episodes)
        self._last = self._seen + episodes

    def _on_step(self) -> bool:
        for episode in self._environment.episodes[self._seen :]:
            self._ended(episode)
        self._seen = len(self._environment.episodes)
        return self._seen < self._last


def search(
    environment: DesignEnvironment,
    seed: int,
    episodes: int = EPISODES,
    ended: Callable[[Episode], None] = lambda episode: None,
) -> list[Episode]:
    """Lets the agent play.

    Args:
        environment: What is searched.
        seed: Of networks, noise and the warm-up's random actions.
        episodes: How many.
        ended: Called after each.
    """
    torch.set_num_threads(1)
    agent = _OwnRates(
        "MlpPolicy",
        environment,
        learning_rate=_CRITIC_RATE,
        buffer_size=_KEPT_PER_STEP * environment.length,
        learning_starts=min(WARM_UP, episodes) * environment.length,
        batch_size=_BATCH,
        tau=_TAU,
        gamma=_DISCOUNT,
        train_freq=(1, "episode"),
        gradient_steps=-1,
        action_noise=FadingNoise(np.random.default_rng(seed)),
        replay_buffer_class=EpisodeBuffer,
        policy_kwargs={"net_arch": _HIDDEN, "optimizer_kwargs": {"fused": True}},
        seed=seed,
        device="cpu",
    )
    # Without this one, stable-baselines3 makes a folder for what it logs, and leaves it.
    agent.set_logger(Logger(folder=None, output_formats=[]))
    before = len(environment.episodes)
    watch = _Watch(environment, episodes, ended)
    agent.learn(episodes * environment.length, callback=watch)
    return environment.episodes[before : before + episodes]
