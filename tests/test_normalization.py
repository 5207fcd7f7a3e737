# SPDX-License-Identifier: Apache-2.0
"""LayerNorm and L2 in integers against exact fractions and float64: the mean, the root's error bound, the ends."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from hetfab.overlay.isa.normalization import normalize, normalized, reciprocal_root

ROWS = hnp.arrays(np.int64, st.tuples(st.integers(1, 3), st.integers(2, 64)), elements=st.integers(-(2**15), 2**15 - 1))


def _float_rows(values: np.ndarray, epsilon: float = 0.0) -> np.ndarray:
    centred = values - values.mean(axis=1, keepdims=True)
    spread = np.sqrt(values.var(axis=1, keepdims=True) + epsilon)
    return np.where(spread > 0, centred / np.where(spread > 0, spread, 1), 0)


def test_the_reciprocal_root_is_within_its_bound_for_every_mantissa() -> None:
    mantissas = np.arange(1 << 21, 1 << 23)
    roots, halvings = reciprocal_root(mantissas)
    assert set(halvings) == {10, 11}
    error = np.ldexp(roots.astype(float), -16 - halvings) * np.sqrt(mantissas) - 1
    assert np.abs(error).max() < 2**-15


@given(number=st.integers(1, 2**50))
def test_the_reciprocal_root_is_within_its_bound_at_every_size(number: int) -> None:
    root, halvings = (int(part[0]) for part in reciprocal_root(np.array([number])))
    assert 1 <= number / 4**halvings < 4
    assert abs(root / 2 ** (16 + halvings) * number**0.5 - 1) < 2**-15 + 2**-21


def test_the_reciprocal_root_of_zero_is_zero() -> None:
    assert [int(part[0]) for part in reciprocal_root(np.array([0]))] == [0, 0]


@given(values=ROWS)
def test_layer_norm_is_within_its_bound_of_the_definition(values: np.ndarray) -> None:
    exact = _float_rows(values)
    found = normalized(values, values.shape[1], 0, centred=True) / 4096
    assert np.all(np.abs(found - exact) <= 0.5 / 4096 + np.abs(exact) * 2**-15 + 1e-9)


@given(values=ROWS, step_bits=st.integers(4, 12))
def test_epsilon_is_that_of_the_definition(values: np.ndarray, step_bits: int) -> None:
    channels, eps = values.shape[1], 1e-2
    epsilon = round(eps * (channels * 2**step_bits) ** 2)
    exact = _float_rows(values / 2**step_bits, eps)
    found = normalized(values, channels, epsilon, centred=True) / 4096
    assert np.all(np.abs(found - exact) <= 0.5 / 4096 + np.abs(exact) * (2**-15 + 1 / epsilon) + 1e-9)


@given(values=ROWS)
def test_l2_is_within_its_bound_of_the_definition(values: np.ndarray) -> None:
    lengths = np.sqrt((values * values).sum(axis=1, keepdims=True))
    exact = np.where(lengths > 0, values / np.maximum(lengths, 1), 0)
    found = normalized(values, 1, 0, centred=False) / 4096
    assert np.all(np.abs(found - exact) <= 0.5 / 4096 + np.abs(exact) * 2**-15 + 1e-9)


@given(values=ROWS, padding=st.integers(1, 8))
def test_padding_changes_nothing(values: np.ndarray, padding: int) -> None:
    channels = values.shape[1]
    padded = np.pad(values, ((0, 0), (0, padding)))
    assert np.array_equal(
        normalized(padded, channels, 7, centred=True)[:, :channels], normalized(values, channels, 7, centred=True)
    )


@given(value=st.integers(-(2**15), 2**15 - 1), epsilon=st.integers(0, 2**48 - 1))
def test_equal_values_become_zero(value: int, epsilon: int) -> None:
    assert not normalized(np.full((1, 24), value), 24, epsilon, centred=True).any()


def test_the_largest_row_stays_within_18_bits() -> None:
    values = np.full((1, 512), -(2**15))
    values[0, 0] = 2**15 - 1
    found = normalized(values, 512, 0, centred=True)
    assert abs(found[0, 0] - 4096 * np.sqrt(511)) < 4
    assert found[0, 1] == -181


def test_the_end_rounds_half_to_even_and_limits() -> None:
    rows = np.array([[4096, -4096, 6144, 8192 * 15]])
    gain, offset = np.array([3, 3, 1, 32767]), np.array([2048, 2048, 0, -1])
    assert normalize(rows, gain, offset, 12, 127, signed=True).tolist() == [[4, -2, 2, 127]]
    assert normalize(rows, gain, offset, 12, 255, signed=False).tolist() == [[4, 0, 2, 255]]
