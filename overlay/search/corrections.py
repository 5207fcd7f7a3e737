# SPDX-License-Identifier: Apache-2.0
"""What whole programs take that were not timed yet: the cost functions' time, corrected by programs that were.

The ratio of a program's time to the cost functions' has, in logarithms, a part of its widths and one of its design. The
first is the mean of the programs with these widths; the second a weighted mean of what that leaves of each program: a
Nadaraya-Watson estimate (Nadaraya, Theory of Probability and its Applications, 1964) whose weight falls with the
distance of two designs, in doublings of the sides of their arrays and of the depths of their memories.
"""

import math
from collections.abc import Hashable
from dataclasses import dataclass, field

from hetfab.overlay.design import Design, Geometry

_SIDES = ("gemm_d_rows", "gemm_d_cols", "gemm_l_rows", "gemm_l_cols")
_DEPTHS = ("wgt_d_words", "wgt_l_words", "act_d_words", "act_l_words", "out_words", "feature_words", "agg_word_beats")
#: Distance of a doubling of a depth.
_DEPTH = 0.3
#: Weight of the mean of all programs beside those of the same widths, and of no correction beside near designs.
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
        weights = [math.exp(-2 * _distance(design.geometry, other)) for other, _, _ in self._known]
        left = [ratio - self._of_widths(others) for _, others, ratio in self._known]
        near = math.fsum(weight * each for weight, each in zip(weights, left, strict=True))
        return math.exp(self._of_widths(widths) + near / (_MEAN + math.fsum(weights)))

    def _of_widths(self, widths: Hashable) -> float:
        """Logarithm of the ratio of programs with these widths, drawn a little to that of all."""
        mean = math.fsum(ratio for _, _, ratio in self._known) / len(self._known)
        same = [ratio for _, others, ratio in self._known if others == widths]
        return (_MEAN * mean + math.fsum(same)) / (_MEAN + len(same))


def _distance(one: Geometry, other: Geometry) -> float:
    sides = math.fsum(_doublings(one, other, name) for name in _SIDES)
    return sides + _DEPTH * math.fsum(_doublings(one, other, name) for name in _DEPTHS)


def _doublings(one: Geometry, other: Geometry, name: str) -> float:
    mine, its = getattr(one, name), getattr(other, name)
    return abs(math.log2(mine / its)) if mine and its else float(mine != its)
