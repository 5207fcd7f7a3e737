# SPDX-License-Identifier: Apache-2.0
"""Chooses widths for a time and a loss of accuracy: from measured candidates, each timed and scored as a whole."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from hetfab.overlay.errors import LimitUnreachableError
from hetfab.overlay.search.pareto import front
from hetfab.quantize.assignment import Assignment
from hetfab.quantize.bit_assignment import BYTES, MILLISECONDS, BitSearch, Measured, digest

#: Points of accuracy that may be lost where nothing is asked for.
DEFAULT_DROP = 0.5
_POINTS = 10
#: How often a tighter limit is tried where whole programs take longer than the sum of their layers.
_TRIES = 3


@dataclass(frozen=True)
class Goal:
    """What is asked for.

    Attributes:
        milliseconds: Largest modelled time, None for any.
        drop: Most points of accuracy that may be lost, None for any.
    """

    milliseconds: float | None = None
    drop: float | None = None


@dataclass(frozen=True)
class Point:
    """Widths that were measured, timed and scored as a whole.

    Attributes:
        measured: The widths, and their divergence from the float model.
        milliseconds: Modelled time of the whole program.
        drop: Points of accuracy lost.
    """

    measured: Measured
    milliseconds: float
    drop: float

    def keeps(self, goal: Goal) -> bool:
        """Whether it is what is asked for."""
        return (goal.milliseconds is None or self.milliseconds <= goal.milliseconds) and (
            goal.drop is None or self.drop <= goal.drop
        )

    def __str__(self) -> str:
        return f"{self.milliseconds:,.4g} ms (modelled) with {max(self.drop, 0.0):.2f} points lost"


@dataclass(frozen=True)
class Choice:
    """What was chosen, and what else there was.

    Attributes:
        point: The choice.
        curve: Points that no other beats in time and divergence, by rising time.
    """

    point: Point
    curve: tuple[Point, ...]


@dataclass
class Automatic:
    """Chooses widths of one model.

    Attributes:
        search: Measures and solves.
        time_of: Modelled milliseconds of the whole program of an assignment.
        drop_of: Points of accuracy that an assignment loses.
        ahead: Called with assignments whose points follow, by their digests; may put time and loss in the journal.
    """

    search: BitSearch
    time_of: Callable[[Assignment], float]
    drop_of: Callable[[Assignment], float]
    ahead: Callable[[Mapping[str, Assignment]], None] = lambda assignments: None
    _points: dict[str, Point] = field(default_factory=dict)

    def choose(self, goal: Goal) -> Choice:
        """Of what keeps the goal, the nearest to the float model where a time is given, else the fastest.

        Raises:
            LimitUnreachableError: Nothing keeps the goal; the nearest points are named.
        """
        curve = self.search.curve(MILLISECONDS, points=_POINTS)
        self.ahead({digest(measured.assignment): measured.assignment for measured in curve})
        points = [self.point(measured) for measured in curve]
        if goal.milliseconds is not None:
            points += self._within(goal.milliseconds, points)
        kept = [point for point in points if point.keeps(goal)]
        if not kept:
            raise unreachable(goal, points)
        if goal.milliseconds is not None:
            chosen = min(kept, key=lambda point: point.measured.divergence)
        else:
            chosen = min(kept, key=lambda point: (point.milliseconds, point.measured.totals[BYTES]))
        return Choice(chosen, tuple(front(points, lambda point: (point.milliseconds, point.measured.divergence))))

    def point(self, measured: Measured) -> Point:
        """An assignment timed and scored as a whole."""
        key = digest(measured.assignment)
        if key not in self._points:
            journal, assignment = self.search.journal, measured.assignment
            milliseconds = journal.result(f"whole {key}", lambda: self.time_of(assignment))
            self._points[key] = Point(measured, milliseconds, journal.result(f"drop {key}", self._drop(assignment)))
            self.search.progress("whole model")
        return self._points[key]

    def _drop(self, assignment: Assignment) -> Callable[[], float]:
        return lambda: self.drop_of(assignment)

    def _within(self, milliseconds: float, known: Sequence[Point]) -> list[Point]:
        """The nearest to the float model whose whole program keeps a time, if there is one."""
        if min(point.milliseconds for point in known) > milliseconds:
            return []
        limit, found = milliseconds, list[Point]()
        for _ in range(_TRIES):
            try:
                solutions = self.search.assign({MILLISECONDS: limit})
            except LimitUnreachableError:
                break
            for measured in solutions:
                found.append(self.point(measured))
                if found[-1].milliseconds <= milliseconds:
                    return found
            limit *= milliseconds / min(point.milliseconds for point in found) * 0.999
        return found


def unreachable(goal: Goal, points: Sequence[Point]) -> LimitUnreachableError:
    """Names the points nearest to a goal that none of them keeps."""
    wanted = [f"at most {goal.milliseconds:,.4g} ms (modelled)"] if goal.milliseconds is not None else []
    wanted += [f"at most {goal.drop:g} points lost"] if goal.drop is not None else []
    in_time = [point for point in points if point.keeps(Goal(goal.milliseconds))]
    in_accuracy = [point for point in points if point.keeps(Goal(drop=goal.drop))]
    near = []
    if len(points) == 1:
        near = [f"{points[0]}, which is what these widths have; `--bits auto` looks for others"]
    elif goal.milliseconds is not None:
        nearest = min(in_accuracy or points, key=lambda point: point.milliseconds)
        also = " that loses no more" if in_accuracy and goal.drop is not None else ""
        near.append(f"{nearest}, the fastest{also}")
    if len(points) > 1 and goal.drop is not None:
        nearest = min(in_time or points, key=lambda point: point.drop)
        also = " in that time" if in_time and goal.milliseconds is not None else ""
        near.append(f"{nearest}, the least loss{also}")
    return LimitUnreachableError(
        "no widths reach " + " and ".join(wanted),
        "what can be reached: " + "; ".join(near),
        "raise the limit" + ("s" if len(wanted) > 1 else ""),
    )
