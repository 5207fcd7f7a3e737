# SPDX-License-Identifier: Apache-2.0
"""Orders of graphs that share vectors: as good as all permutations where that is promised, never worse than given."""

from itertools import pairwise, permutations

import numpy as np
import numpy.typing as npt
from hypothesis import given, settings
from hypothesis import strategies as st

from hetfab.overlay.semantic import order
from hetfab.overlay.semantic.order import EXACT_LIMIT, best_order, kept_bytes

Shared = npt.NDArray[np.int64]


def symmetric(counts: st.SearchStrategy[int]) -> st.SearchStrategy[Shared]:
    """What graphs share with each other: numbers with many ties, or without."""

    def drawn(count: int, seed: int, largest: int) -> Shared:
        values = np.random.default_rng(seed).integers(0, largest, (count, count), endpoint=True)
        return np.maximum(values, values.T)

    return st.builds(drawn, counts, st.integers(0, 1 << 32), st.sampled_from([1, 3, 1 << 40]))


@settings(max_examples=40, deadline=None)
@given(symmetric(st.integers(0, 6)))
def test_few_graphs_are_ordered_best(shared: Shared) -> None:
    found = best_order(shared)
    assert sorted(found) == list(range(len(shared)))
    most = max(sum(int(shared[a, b]) for a, b in pairwise(each)) for each in permutations(range(len(shared))))
    assert kept_bytes(shared, found) == most


@settings(max_examples=8, deadline=None)
@given(symmetric(st.integers(EXACT_LIMIT + 1, EXACT_LIMIT + 4)))
def test_many_graphs_are_ordered_no_worse_than_given_and_than_one_reversal_away(shared: Shared) -> None:
    found = best_order(shared)
    assert sorted(found) == list(range(len(shared)))
    kept = kept_bytes(shared, found)
    assert kept >= kept_bytes(shared, tuple(range(len(shared))))
    for first in range(len(found)):
        for last in range(first + 1, len(found)):
            turned = (*found[:first], *reversed(found[first : last + 1]), *found[last + 1 :])
            assert kept_bytes(shared, turned) <= kept


@settings(max_examples=20, deadline=None)
@given(symmetric(st.integers(2, 7)))
def test_nearest_neighbours_and_reversals_share_at_most_what_is_possible(shared: Shared) -> None:
    """And at least the heaviest pair, with which one of the paths begins."""
    found = order._nearby(shared)
    assert sorted(found) == list(range(len(shared)))
    off_diagonal = shared[~np.eye(len(shared), dtype=bool)]
    assert off_diagonal.max() <= kept_bytes(shared, found) <= kept_bytes(shared, order._exact(shared))


def test_graphs_that_share_nothing_stay_in_their_order() -> None:
    assert best_order(np.zeros((5, 5), np.int64)) == (0, 1, 2, 3, 4)
    assert best_order(np.zeros((20, 20), np.int64)) == tuple(range(20))


def test_a_chain_of_overlaps_is_found_whatever_the_order_it_comes_in() -> None:
    place = np.array([3, 0, 4, 1, 5, 2, 13, 7, 12, 6, 11, 8, 10, 9])
    for count in (6, 14):
        where = np.argsort(np.argsort(place[:count]))
        shared = np.where(np.abs(where[:, None] - where[None]) == 1, 64, 0)
        assert kept_bytes(shared, best_order(shared)) == 64 * (count - 1)
