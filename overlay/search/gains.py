# SPDX-License-Identifier: Apache-2.0
"""What a little more of a resource, or of the divergence, would buy, by the cost functions."""

from collections.abc import Sequence
from dataclasses import dataclass

from hetfab.overlay.search.hardware import Space
from hetfab.overlay.search.joint import JointSearch
from hetfab.overlay.search.points import Point, Score


@dataclass(frozen=True)
class Gain:
    """What a little more of something buys.

    Attributes:
        of: What there is more of.
        share: How much more.
        milliseconds: With it, by the cost functions, at the same limit of divergence.
        before: Without it.
    """

    of: str
    share: float
    milliseconds: float
    before: float


def gains(search: JointSearch, point: Point, share: float = 0.1) -> list[Gain]:
    """What a tenth more of each scarce resource, or of the divergence, would buy, the most useful first."""
    limits = [choice.divergence for choice in point.choices]
    before = _least(search, search.space, limits)
    found = {
        name: _least(search, search.space.with_more(name, share), limits)
        for name, used in search.space.shares(point.design).items()
        if used > 1 - share
    }
    found["divergence"] = _least(search, search.space, [limit + share * abs(limit) for limit in limits])
    # Each is within half a percent of the least: more of something makes nothing slower.
    ranked = sorted(found.items(), key=lambda pair: pair[1])
    return [Gain(name, share, min(spent, before), before) for name, spent in ranked]


def _least(search: JointSearch, space: Space, limits: Sequence[float]) -> float:
    """The fastest time in a space within limits of the divergence, by the cost functions."""
    other = JointSearch(space, search.models, lambda number, choice: Score(0.0, 0.0), search.time, search.combine)
    if space == search.space:
        other.__dict__["designs"], other.__dict__["times"] = search.designs, search.times
    return other.fastest(limits).milliseconds
