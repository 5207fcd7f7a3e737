# SPDX-License-Identifier: Apache-2.0
"""Points of a search: a design with widths, what is measured of both, and what is asked for."""

import enum
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from hetfab.overlay.design import Design
from hetfab.overlay.search.options import Choice
from hetfab.overlay.search.pareto import front


class Combine(enum.Enum):
    """How the times of several models on one design count."""

    SUM = "sum"
    MAXIMUM = "max"

    def of(self, values: Sequence[np.ndarray]) -> np.ndarray:
        """Of each design, from those of each model."""
        return np.asarray(np.sum(values, axis=0) if self is Combine.SUM else np.max(values, axis=0))


@dataclass(frozen=True)
class Score:
    """What a whole model of given widths is measured to be.

    Attributes:
        drop: Points of accuracy lost.
        divergence: From the float model, in nats.
    """

    drop: float
    divergence: float


@dataclass(frozen=True)
class Goal:
    """What is asked for.

    Attributes:
        milliseconds: Largest modelled time, None for any.
        drop: Most points of accuracy that each model may lose, None for any.
    """

    milliseconds: float | None = None
    drop: float | None = None

    def keeps_drop(self, scores: Sequence[Score]) -> bool:
        """Whether no model loses more."""
        return self.drop is None or max(score.drop for score in scores) <= self.drop

    def keeps(self, point: "Point") -> bool:
        """Whether a point keeps both."""
        in_time = self.milliseconds is None or point.time <= self.milliseconds
        return in_time and self.keeps_drop(point.scores)


@dataclass(frozen=True)
class Point:
    """A design with widths for each model.

    Attributes:
        design: The design.
        choices: Of each model.
        milliseconds: By the cost functions, combined.
        scores: Of each model, as measured.
        simulated: By the timeline simulator, combined; None where it was not asked.
        scale: What the cost functions are taken to fall short by, where the simulator was not asked.
    """

    design: Design
    choices: tuple[Choice, ...]
    milliseconds: float
    scores: tuple[Score, ...]
    simulated: float | None = None
    scale: float = 1.0

    @property
    def drop(self) -> float:
        """Most points of accuracy that a model loses."""
        return max(score.drop for score in self.scores)

    @property
    def time(self) -> float:
        """Milliseconds, simulated where that is known."""
        return self.milliseconds * self.scale if self.simulated is None else self.simulated

    @property
    def gap(self) -> float | None:
        """How much more the simulator says than the cost functions, as a share."""
        return None if self.simulated is None else self.simulated / self.milliseconds - 1

    def beats(self, other: "Point") -> bool:
        """Whether it is no worse in time and accuracy, and better in one of them."""
        mine, its = (self.time, self.drop), (other.time, other.drop)
        return mine != its and all(a <= b for a, b in zip(mine, its, strict=True))

    def __str__(self) -> str:
        return f"{self.time:,.4g} ms (modelled) with {max(self.drop, 0.0):.2f} points lost"


def front_of(points: Sequence[Point], used: Callable[[Design], float]) -> tuple[Point, ...]:
    """Points that no other beats in time, points lost and share of the scarcest resource, by rising time."""
    return tuple(front(points, lambda point: (point.time, point.drop, used(point.design))))


def widths_key(choices: Sequence[Choice]) -> str:
    """What is the same for choices of the same widths."""
    return repr([(sorted(choice.weights.items()), sorted(choice.tensors.items())) for choice in choices])


def choice_table(choice: Choice) -> Mapping[str, Mapping[str, int]]:
    """The widths of a choice as JSON holds them."""
    return {"weight_bits": dict(choice.weights), "tensor_bits": dict(choice.tensors)}
