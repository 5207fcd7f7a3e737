# SPDX-License-Identifier: Apache-2.0
"""Distinct numbers by counting are those that sorting finds."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hetfab.overlay import distinct as module
from hetfab.overlay.distinct import distinct


@given(st.lists(st.integers(0, 40), max_size=60), st.integers(0, 9))
def test_counting_and_sorting_agree(values: list[int], beyond: int) -> None:
    given_numbers = np.array(values, np.int64)
    expected = np.unique(given_numbers, return_index=True, return_inverse=True, return_counts=True)
    for found, wanted in zip(distinct(given_numbers, 41 + beyond), expected, strict=True):
        np.testing.assert_array_equal(found, wanted)


def test_numbers_far_apart_are_sorted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(np, "bincount", None)
    numbers = distinct(np.array([module._SMALL_TABLE * 99, 3, 3]), module._SMALL_TABLE * 99 + 1).numbers
    assert numbers.tolist() == [3, module._SMALL_TABLE * 99]
