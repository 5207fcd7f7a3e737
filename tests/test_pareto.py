# SPDX-License-Identifier: Apache-2.0
"""A Pareto front holds exactly the candidates that no other beats, whatever their order."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from hetfab.overlay.search.pareto import front

Points = list[tuple[int, ...]]


def beats(one: tuple[int, ...], other: tuple[int, ...]) -> bool:
    return one != other and bool((np.array(one) <= np.array(other)).all())


@given(st.integers(1, 3).flatmap(lambda count: st.lists(st.tuples(*[st.integers(0, 5)] * count), max_size=12)))
def test_it_is_what_no_other_beats_by_rising_measures(points: Points) -> None:
    assert front(points, lambda point: point) == sorted({p for p in points if not any(beats(q, p) for q in points)})


def test_of_equal_candidates_the_first_is_kept() -> None:
    candidates = [("a", 3, 0.1), ("b", 1, 0.5), ("c", 2, 0.6), ("d", 2, 0.3), ("e", 2, 0.3), ("f", 4, 0.1)]
    assert [name for name, *_ in front(candidates, lambda each: each[1:])] == ["b", "d", "a"]
