# SPDX-License-Identifier: Apache-2.0
"""Which whole programs a search times next: those that are expected to be the fastest (docs/search.md)."""

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from hetfab.overlay.design import Design
from hetfab.overlay.search.corrections import Corrections
from hetfab.overlay.search.hardware import Space
from hetfab.overlay.search.options import Choice
from hetfab.overlay.search.points import Point, widths_key

#: Programs that are timed at a time.
AT_ONCE = 2
#: Programs behind the last that was faster than all before by more than this share, after which no more are timed.
_PATIENCE, _FASTER = 6, 0.002
#: A program that is expected to take this much longer than the best is not timed.
_HOPELESS = 1.1
#: Nor are widths on their own best design where that is expected to take this many times the best.
_FAR = 2.0


class Programs(Protocol):
    """What programs are of: a search.

    Attributes:
        space: Designs.
    """

    space: Space

    def used(self, design: Design) -> float:
        """Share of the scarcest resource that a design needs."""

    def simulated(self, points: Sequence[Point]) -> list[Point]:
        """Points with the times of their programs."""

    def memories(self, point: Point) -> list[Design]:
        """A point's arrays with memories, the best first."""


@dataclass
class ProgramTiming:
    """Times programs in the order in which they are expected to be fast.

    Attributes:
        search: What they are of.
        timed: Those that were timed.
    """

    search: Programs
    timed: dict[tuple[Design, str], Point] = field(default_factory=dict)
    _corrections: Corrections = field(default_factory=Corrections)
    _memories: dict[tuple[Design, str], list[Design]] = field(default_factory=dict)

    @property
    def best(self) -> Point:
        """The fastest."""
        return min(self.timed.values(), key=lambda point: (point.time, self.search.used(point.design)))

    def go(self, candidates: Callable[[], Sequence[Point]], most: int) -> None:
        """Times the most promising candidates, asked for anew behind each step, until none promises or gains enough."""
        end, since = len(self.timed) + most, len(self.timed)
        while len(self.timed) < min(end, since + _PATIENCE):
            before = self.best.time if self.timed else math.inf
            limit = _HOPELESS * self.best.time if self.timed else math.inf
            chosen = list(itertools.islice(self._promising(candidates(), limit), min(AT_ONCE, end - len(self.timed))))
            if not chosen:
                return
            self.time(chosen)
            if self.best.time < before * (1 - _FASTER) or math.isinf(self.best.time):
                since = len(self.timed)

    def first(self, candidates: Sequence[Point]) -> list[Point]:
        """The most promising one; none where all were timed, or are far from the best."""
        limit = _FAR * self.best.time if self.timed else math.inf
        return list(itertools.islice(self._promising(candidates, limit), 1))

    def time(self, points: Sequence[Point]) -> None:
        """Times some."""
        self.note(self.search.simulated(points) if points else [])

    def note(self, points: Sequence[Point]) -> None:
        """Takes points with the times of their programs."""
        for point in points:
            widths = widths_key(point.choices)
            self.timed[point.design, widths] = point
            if math.isfinite(point.time):
                self._corrections.note(point.design, widths, point.time / point.milliseconds)

    def learn(self, program: tuple[Design, Sequence[Choice]], ratio: float) -> None:
        """Takes what a program that is no candidate takes, over what the cost functions say."""
        design, choices = program
        self._corrections.note(design, widths_key(choices), ratio)

    def _promising(self, candidates: Sequence[Point], limit: float) -> Iterator[Point]:
        """Untimed candidates with their memories, by rising expected time, which is below a limit."""
        chosen = set[tuple[Design, str]]()
        for expected, point in sorted(((self._expected(p), p) for p in candidates), key=lambda pair: pair[0]):
            if expected >= limit:
                return
            design = self._with_memories(point)
            if design is None:
                continue
            key = design, widths_key(point.choices)
            if key not in self.timed and key not in chosen:
                chosen.add(key)
                yield replace(point, design=design)

    def _expected(self, point: Point) -> float:
        return point.milliseconds * self._corrections.ratio(point.design, widths_key(point.choices))

    def _with_memories(self, point: Point) -> Design | None:
        """A point's design; of one that is arrays alone, with the smallest memories, the best memories that fit.

        Those whose program they turned out not to hold are passed over; None where no others are left.
        """
        if point.design != self.search.space.smallest(point.design):
            return point.design
        widths = widths_key(point.choices)
        key = point.design, widths
        if key not in self._memories:
            self._memories[key] = self.search.memories(point)
        return next((each for each in self._memories[key] if not self._refused(each, widths)), None)

    def _refused(self, design: Design, widths: str) -> bool:
        """Whether a program was timed that its design does not hold."""
        known = self.timed.get((design, widths))
        return known is not None and math.isinf(known.time)
