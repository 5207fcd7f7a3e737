# SPDX-License-Identifier: Apache-2.0
"""What whole programs take that were not timed yet: the cost functions' time, corrected by programs of near designs.

The ratio of a program's time to the cost functions' is a weighted mean of those that are known, in logarithms: a
Nadaraya-Watson estimate (Nadaraya, Theory of Probability and its Applications, 1964) whose weight falls with the
distance of two designs, in doublings of the sides of their arrays and of the depths of their memories.
"""

import math
from collections.abc import Hashable
from dataclasses import dataclass, field

from hetfab.overlay.design import Design, Geometry

_SIDES = ("gemm_d_rows", "gemm_d_cols", "gemm_l_rows", "gemm_l_cols")
_DEPTHS = ("wgt_d_words", "wgt_l_words", "act_d_words", "act_l_words", "out_words", "feature_words", "agg_word_beats")
#: Distance of a doubling of a depth, and of other widths.
_DEPTH, _WIDTHS = 0.3, 0.5
#: Weight of the mean of all programs beside those that are near.
_MEAN = 0.1


@dataclass
class Corrections:
    """Ratios of timed programs."""

    _known: list[tuple[Geometry, Hashable, float]] = field(default_factory=list)

    def note(self, design: Design, widths: Hashable, ratio: float) -> None:
        """Adds a program.

        Args:
            design: Its design.
            widths: What stands for its widths.
            ratio: Its time over that of the cost functions.
        """
        self._known.append((design.geometry, widths, math.log(ratio)))

    def ratio(self, design: Design, widths: Hashable) -> float:
        """The ratio of a program that is not known; 1 where none is."""
        if not self._known:
            return 1.0
        weights = [
            math.exp(-2 * (_distance(design.geometry, other) + _WIDTHS * (widths != others)))
            for other, others, _ in self._known
        ]
        mean = math.fsum(ratio for _, _, ratio in self._known) / len(self._known)
        near = math.fsum(weight * ratio for weight, (_, _, ratio) in zip(weights, self._known, strict=True))
        return math.exp((_MEAN * mean + near) / (_MEAN + math.fsum(weights)))


def _distance(one: Geometry, other: Geometry) -> float:
    sides = math.fsum(_doublings(one, other, name) for name in _SIDES)
    return sides + _DEPTH * math.fsum(_doublings(one, other, name) for name in _DEPTHS)


def _doublings(one: Geometry, other: Geometry, name: str) -> float:
    mine, its = getattr(one, name), getattr(other, name)
    return abs(math.log2(mine / its)) if mine and its else float(mine != its)
