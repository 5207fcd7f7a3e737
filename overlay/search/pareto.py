# SPDX-License-Identifier: Apache-2.0
"""Pareto fronts: of candidates with several measures, those that no other beats."""

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

_T = TypeVar("_T")


def front(candidates: Iterable[_T], measures: Callable[[_T], Sequence[float]]) -> list[_T]:
    """Candidates that no other is at least as good as in every measure; of equal ones the first.

    Args:
        candidates: Any objects.
        measures: Of a candidate, as many for each; less is better.

    Returns:
        The front by rising first measure, then second, and so on.
    """
    kept: list[tuple[tuple[float, ...], _T]] = []
    measured = [(tuple(measures(candidate)), candidate) for candidate in candidates]
    for values, candidate in sorted(measured, key=lambda pair: pair[0]):
        # Whatever beats a candidate comes before it in this order.
        if not any(all(a <= b for a, b in zip(other, values, strict=True)) for other, _ in kept):
            kept.append((values, candidate))
    return [candidate for _, candidate in kept]
