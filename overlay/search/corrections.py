# SPDX-License-Identifier: Apache-2.0
"""What whole programs take that were not timed yet: the cost functions' time, corrected by programs that were.

The ratio of a program's time to the cost functions' has, in logarithms, a part that all programs share, one of its
widths and one of its design. All three are inferred together, as the posterior mean of a Gaussian process (Rasmussen
and Williams, Gaussian Processes for Machine Learning, 2006, eq. 2.23) whose covariance is the sum of theirs. That of
two designs falls with their distance, in doublings of the sides of their arrays and of their memories' depths.
"""

import math
from collections.abc import Hashable
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np

from hetfab.overlay.design import Design, Geometry

_SIDES = ("gemm_d_rows", "gemm_d_cols", "gemm_l_rows", "gemm_l_cols")
_DEPTHS = ("wgt_d_words", "wgt_l_words", "act_d_words", "act_l_words", "out_words", "feature_words", "agg_word_beats")
#: Distance of a doubling of a depth.
_DEPTH = 0.3
#: Variances of the part that all share, beside that of widths and that of a design, which are 1, and of what is left.
_SHARED, _LEFT = 10.0, 0.1


@dataclass
class Corrections:
    """Ratios of timed programs."""

    _known: list[tuple[Geometry, Hashable, float]] = field(default_factory=list)
    #: The inverse covariance times the ratios; None where programs were added since.
    _solved: np.ndarray | None = None

    def note(self, design: Design, widths: Hashable, ratio: float) -> None:
        """Adds a program.

        Args:
            design: Its design.
            widths: What stands for its widths.
            ratio: Its time over that of the cost functions.
        """
        self._known.append((design.geometry, widths, math.log(ratio)))
        self._solved = None

    def ratio(self, design: Design, widths: Hashable) -> float:
        """The ratio of a program that is not known; 1 where none is."""
        if not self._known:
            return 1.0
        if self._solved is None:
            covariance = np.array([self._covariances(geometry, others) for geometry, others, _ in self._known])
            ratios = np.array([ratio for _, _, ratio in self._known])
            self._solved = np.linalg.solve(covariance + _LEFT * np.eye(len(ratios)), ratios)
        return math.exp(float(self._covariances(design.geometry, widths) @ self._solved))

    def _covariances(self, geometry: Geometry, widths: Hashable) -> np.ndarray:
        """With each program that is known."""
        return np.array(
            [
                _SHARED + (others == widths) + math.exp(-2 * _distance(geometry, other))
                for other, others, _ in self._known
            ]
        )


@lru_cache(maxsize=1 << 16)
def _distance(one: Geometry, other: Geometry) -> float:
    sides = math.fsum(_doublings(one, other, name) for name in _SIDES)
    return sides + _DEPTH * math.fsum(_doublings(one, other, name) for name in _DEPTHS)


def _doublings(one: Geometry, other: Geometry, name: str) -> float:
    mine, its = getattr(one, name), getattr(other, name)
    return abs(math.log2(mine / its)) if mine and its else float(mine != its)
