# SPDX-License-Identifier: Apache-2.0
"""The arithmetic contract: rounding against exact fractions, the mean's error bounds, the page's examples."""

import doctest
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hetfab.overlay.isa.arithmetic import looked_up, mean_q8, reciprocals, requantize, saturate, saturate24, wrap32

INT32 = st.integers(-(2**31), 2**31 - 1)
DEGREES = np.arange(1, 65_536, dtype=np.int64)


@given(value=INT32, multiplier=st.integers(0, 65_535), shift=st.integers(0, 63))
@example(value=-(2**31), multiplier=65_535, shift=63)
@example(value=2**31 - 1, multiplier=65_535, shift=0)
@example(value=-1, multiplier=1, shift=1)
@example(value=-3, multiplier=1, shift=1)
def test_requantize_rounds_half_to_even(value: int, multiplier: int, shift: int) -> None:
    exact = Fraction(value * multiplier, 2**shift)
    assert int(requantize(np.array([value]), multiplier, shift)[0]) == round(exact)


@given(whole=st.integers(-(2**20), 2**20), shift=st.integers(1, 12), nudge=st.integers(-1, 1))
def test_requantize_at_and_beside_ties(whole: int, shift: int, nudge: int) -> None:
    value = whole * 2**shift + 2 ** (shift - 1) + nudge
    assert int(requantize(np.array([value]), 1, shift)[0]) == round(Fraction(value, 2**shift))


@given(q8=INT32, post_left=st.integers(0, 15), post_shift=st.integers(0, 63))
def test_requantize_of_a_shifted_q8_sum_is_exact(q8: int, post_left: int, post_shift: int) -> None:
    exact = Fraction(q8 * 2**post_left, 2**post_shift)
    assert int(requantize(np.array([q8]) << post_left, 1, post_shift)[0]) == round(exact)


def test_requantize_takes_a_multiplier_per_channel() -> None:
    result = requantize(np.array([[10, 10], [-10, -10]]), np.array([1, 3]), 2)
    assert result.tolist() == [[2, 8], [-2, -8]]


@given(value=st.integers(-(2**62), 2**62))
def test_wrap32_keeps_the_low_32_bits(value: int) -> None:
    assert int(wrap32(np.array([value]))[0]) == (value + 2**31) % 2**32 - 2**31


@given(value=st.integers(-(2**33), 2**33), width=st.integers(1, 12), signed=st.booleans())
def test_a_table_is_read_at_the_limited_value(value: int, width: int, signed: bool) -> None:
    low = -(2 ** (width - 1)) if signed else 0
    arguments = list(range(low, low + 2**width))
    table = np.array(sorted(arguments, key=lambda argument: argument % 2**width)) ** 3
    expected = min(max(value, arguments[0]), arguments[-1]) ** 3
    assert int(looked_up(np.array([value]), table, width, signed)[0]) == expected


def test_saturation_keeps_its_range_and_stops_at_its_ends() -> None:
    values = np.array([-(2**40), -129, -128, -1, 0, 127, 128, 255, 256, 2**40])
    assert saturate(values, 8, unsigned=False).tolist() == [-128, -128, -128, -1, 0, 127, 127, 127, 127, 127]
    assert saturate(values, 8, unsigned=True).tolist() == [0, 0, 0, 0, 0, 127, 128, 255, 255, 255]
    assert saturate(values, 2, unsigned=False).tolist() == [-2, -2, -2, -1, 0, 1, 1, 1, 1, 1]
    assert saturate(values, 1, unsigned=True).tolist() == [0, 0, 0, 0, 0, 1, 1, 1, 1, 1]
    edges = np.array([-(2**23) - 1, -(2**23), 2**23 - 1, 2**23])
    assert saturate24(edges).tolist() == [-(2**23), -(2**23), 2**23 - 1, 2**23 - 1]


def test_reciprocals_are_rounded_and_have_17_bits() -> None:
    reciprocal, exponent = reciprocals(DEGREES)
    assert int(reciprocal.max()) < 2**17
    for degree in (*range(1, 300), 32_767, 32_768, 32_769, 65_355, 65_535):
        k = (degree - 1).bit_length()
        assert int(exponent[degree - 1]) == k
        assert int(reciprocal[degree - 1]) == round(Fraction(2 ** (16 + k), degree))


def test_the_reciprocal_of_no_edges_is_zero_and_its_mean_too() -> None:
    reciprocal, exponent = reciprocals(np.array([0]))
    assert (reciprocal.tolist(), exponent.tolist()) == ([0], [0])
    assert mean_q8(np.array([12_345]), reciprocal, exponent).tolist() == [0]


@pytest.mark.parametrize(
    ("largest", "bound"), [(128, Fraction(749, 1000)), (255, Fraction(996, 1000))], ids=["int8", "uint8"]
)
def test_the_error_bound_of_the_mean_holds_for_every_degree(largest: int, bound: Fraction) -> None:
    """S is at most largest * d: the reciprocal adds at most that times its own error to a rounding's 1/2."""
    reciprocal, exponent = reciprocals(DEGREES)
    error = np.abs(reciprocal * DEGREES - (np.int64(1) << (16 + exponent)))
    excess_2_24 = largest * error * (np.int64(1) << (16 - exponent))
    assert Fraction(1, 2) + Fraction(int(excess_2_24.max()), 2**24) <= bound


@given(degree=st.integers(1, 65_535), data=st.data())
def test_the_mean_stays_within_the_bound(degree: int, data: st.DataObject) -> None:
    total = data.draw(st.integers(-128 * degree, 127 * degree))
    reciprocal, exponent = reciprocals(np.array([degree]))
    error = int(mean_q8(np.array([total]), reciprocal, exponent)[0]) - Fraction(256 * total, degree)
    assert abs(error) <= Fraction(749, 1000)


@pytest.mark.parametrize(("total", "worst"), [(-8_364_483, 0.7486), (16_662_718, 0.9952)], ids=["int8", "uint8"])
def test_the_error_bounds_are_nearly_reached(total: int, worst: float) -> None:
    reciprocal, exponent = reciprocals(np.array([65_355]))
    error = int(mean_q8(np.array([total]), reciprocal, exponent)[0]) - Fraction(256 * total, 65_355)
    assert abs(error) > worst


def test_halves_of_the_mean_go_up() -> None:
    reciprocal, exponent = reciprocals(np.array([512]))
    assert mean_q8(np.array([-3, -1, 1, 3]), reciprocal, exponent).tolist() == [-1, 0, 1, 2]


def test_equal_values_average_to_themselves() -> None:
    reciprocal, exponent = reciprocals(DEGREES)
    for value in (-128, -127, -1, 0, 1, 127, 128, 254, 255):
        assert np.array_equal(mean_q8(value * DEGREES, reciprocal, exponent), np.full(65_535, 256 * value))


def test_the_examples_of_the_page_are_right() -> None:
    page = Path(__file__).parents[1] / "docs" / "arithmetic.md"
    failed, attempted = doctest.testfile(str(page), module_relative=False)
    assert failed == 0
    assert attempted >= 8
