# SPDX-License-Identifier: Apache-2.0
"""N3H-Core's way of searching, as a Gymnasium environment: hardware first, then the widths of each layer.

Actions, order, reward and target are those of the authors' public search software (arXiv 2112.08193); the resources of
the board, which that software does not look at, are enforced here. Options, costs and accuracy are the caller's, the
same as those of every other search. Needs the extra ``environment``.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import gymnasium
import numpy as np
import numpy.typing as npt

from hetfab.overlay.design import Design
from hetfab.overlay.search.hardware import Space
from hetfab.overlay.search.options import ModelOptions

Observation: TypeAlias = npt.NDArray[np.float32]
#: Of the layer: rows, bytes of a row, channels, weights, tensors' turn, place; then hardware, times, last action.
_FEATURES = 7
_STATE_BESIDE_HARDWARE = 1 + _FEATURES + 3 + 1
#: Episodes of a search, as published.
EPISODES = 1200
#: Points of accuracy to reward, as published.
_REWARD_PER_POINT = 0.01


@dataclass(frozen=True)
class Episode:
    """What an episode came to.

    Attributes:
        design: The hardware, made to fit.
        weights: Bits by layer.
        tensors: Bits by group of stored tensors.
        milliseconds: By the cost functions.
        drop: Points of accuracy lost; None where the time was too long to look.
        reward: As published.
    """

    design: Design
    weights: Mapping[str, int]
    tensors: Mapping[str, int]
    milliseconds: float
    drop: float | None
    reward: float


@dataclass(frozen=True)
class Setting:
    """What an environment searches.

    Attributes:
        space: Designs.
        model: Options of the model.
        target: Milliseconds that an episode must not exceed.
        drop: Points of accuracy that widths of weights and of tensors lose.
    """

    space: Space
    model: ModelOptions
    target: float
    drop: Callable[[Mapping[str, int], Mapping[str, int]], float]


@dataclass
class _State:
    """An episode so far."""

    actions: list[float] = field(default_factory=list)
    design: Design | None = None
    shares: tuple[float, ...] = (0.0, 0.0, 0.0)


class DesignEnvironment(gymnasium.Env[Observation, npt.NDArray[np.float32]]):
    """One step is one number in -1..1, which stands for 0..1 as agents' squashed outputs do.

    Args:
        setting: What is searched.
    """

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        self.action_space = gymnasium.spaces.Box(-1.0, 1.0, (1,), np.float32)
        self._parameters = setting.space.parameters()
        state = _STATE_BESIDE_HARDWARE + len(self._parameters)
        self.observation_space = gymnasium.spaces.Box(0.0, 1.0, (state,), np.float32)
        self.episodes: list[Episode] = []
        self._steps = _steps(setting.model)
        self._scale = np.maximum(np.max([features for _, _, features in self._steps], axis=0), 1e-9)
        self._state = _State()

    @property
    def hardware(self) -> tuple[str, ...]:
        """What the first actions stand for: rows and columns of both arrays, then all memories that may differ."""
        return tuple(self._parameters)

    @property
    def length(self) -> int:
        """Steps of an episode."""
        return len(self.hardware) + len(self._steps)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Begins an episode."""
        super().reset(seed=seed)
        self._state = _State()
        return self._observed(), {}

    def step(self, action: npt.NDArray[np.float32]) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Takes one decision; the last one of an episode brings the reward."""
        state = self._state
        state.actions.append(float(np.clip((float(np.asarray(action).item()) + 1) / 2, 0.0, 1.0)))
        if len(state.actions) == len(self.hardware):
            state.design = self._fitting(state.actions)
            state.shares = self._shares(state.design)
        if len(state.actions) < self.length:
            return self._observed(), 0.0, False, False, {}
        episode = self._ended()
        self.episodes.append(episode)
        return self._observed(), episode.reward, True, False, {"episode_result": episode}

    def _observed(self) -> Observation:
        """Phase, the layer in question scaled by feature, the hardware, what bounds it, and the last action."""
        taken, hardware = self._state.actions, len(self.hardware)
        place = min(max(len(taken) - hardware, 0), len(self._steps) - 1)
        _, _, features = self._steps[place]
        chosen = [*taken[:hardware], *[0.0] * (hardware - len(taken[:hardware]))]
        last = taken[-1] if taken else 0.0
        phase = float(len(taken) >= hardware)
        return np.array([phase, *(features / self._scale), *chosen, *self._state.shares, last], np.float32).clip(
            0.0, 1.0
        )

    def _shares(self, design: Design) -> tuple[float, ...]:
        found = self.setting.space.shares(design)
        return tuple(found[name] for name in ("lut", "dsp", "bram36"))

    def _fitting(self, actions: list[float]) -> Design:
        """The design that actions ask for; while it does not fit, the largest parameter becomes one step smaller.

        The actions become those that ask for what it came to, which is what an agent observes from then on.
        """
        space, values = self.setting.space, list(self._parameters.values())
        places = [_place(action, len(each)) for each, action in zip(values, actions, strict=True)]
        while True:
            chosen = (each[place] for each, place in zip(values, places, strict=True))
            design = space.built(dict(zip(self.hardware, chosen, strict=True)))
            if space.holds(design) or not any(places):
                actions[:] = [(place + 0.5) / len(each) for each, place in zip(values, places, strict=True)]
                return design
            # As HAQ lowers widths until they fit: what stands highest in its own range gives way.
            shares = [place / max(len(each) - 1, 1) for each, place in zip(values, places, strict=True)]
            places[int(np.argmax(shares))] -= 1

    def _ended(self) -> Episode:
        setting, design = self.setting, self._state.design
        assert design is not None
        weights, tensors = dict[str, int](), dict[str, int]()
        for (kind, number, _), action in zip(self._steps, self._state.actions[len(self.hardware) :], strict=True):
            option = setting.model.layers[number] if kind == "weights" else setting.model.tensors[number]
            bits = sorted(option.bits)
            (weights if kind == "weights" else tensors)[option.name] = bits[_place(action, len(bits))]
        spent = setting.model.milliseconds(design, weights, tensors)
        if spent > setting.target:
            return Episode(design, weights, tensors, spent, None, -spent / setting.target)
        drop = setting.drop(weights, tensors)
        return Episode(design, weights, tensors, spent, drop, -_REWARD_PER_POINT * drop)


def _steps(model: ModelOptions) -> list[tuple[str, int, npt.NDArray[np.float64]]]:
    """Decisions behind the hardware's: the weights of each layer, then the tensors that it is the first to read."""
    steps: list[tuple[str, int, npt.NDArray[np.float64]]] = []
    seen: set[int] = set()
    for number, layer in enumerate(model.layers):
        steps.append(("weights", number, _features(model, number, is_tensor=False)))
        if layer.tensor is not None and layer.tensor not in seen:
            seen.add(layer.tensor)
            steps.append(("tensor", layer.tensor, _features(model, number, is_tensor=True)))
    for number in range(len(model.tensors)):
        if number not in seen:
            steps.append(("tensor", number, np.array([0.0] * 5 + [1.0, 1.0])))
    return steps


def _features(model: ModelOptions, number: int, *, is_tensor: bool) -> npt.NDArray[np.float64]:
    works = [timed.work for timed in model.layers[number].works]
    first = works[0] if works else None
    shape = [0.0] * 4 if first is None else [first.rows, first.row_bytes[0], first.channels, first.weights]
    return np.array([*shape, float(len(works)), float(is_tensor), (number + 1) / len(model.layers)])


def _place(action: float, count: int) -> int:
    """Which of so many values a number from 0 to 1 stands for."""
    return min(int(action * count), count - 1)


def random_search(
    environment: DesignEnvironment,
    seed: int,
    episodes: int = EPISODES,
    ended: Callable[[Episode], None] = lambda episode: None,
) -> list[Episode]:
    """The same number of episodes with random actions."""
    generator = np.random.default_rng(seed)
    before = len(environment.episodes)
    for _ in range(episodes):
        environment.reset()
        over = False
        while not over:
            _, _, over, _, _ = environment.step(generator.uniform(-1.0, 1.0, 1).astype(np.float32))
        ended(environment.episodes[-1])
    return environment.episodes[before:]
