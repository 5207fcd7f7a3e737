# SPDX-License-Identifier: Apache-2.0
"""LayerNorm and L2 in integers: ``docs/arithmetic.md`` as numpy on int64, part of the golden model.

A row is centred by whole multiples, so its mean is exact; only the reciprocal square root is rounded, by a table
with a straight line between two entries.
"""

import functools

import numpy as np

from hetfab.overlay.isa.arithmetic import Integers, limit, requantize, saturate

#: A normalized row is an array of integers of so many bits, with so many fraction bits.
NORMALIZED_BITS = 18
NORMALIZED_FRACTION = 12
#: Fraction bits of the reciprocal square root of a number from 1 to below 4.
ROOT_FRACTION = 16
#: The number's fraction bits that choose a table entry, and those behind them that choose a place between two.
INDEX_FRACTION = 7
PLACE_BITS = 14


@functools.cache
def root_table() -> tuple[Integers, Integers]:
    """Reciprocal square roots of ``i / 128`` and what they fall by to the next one.

    Returns:
        ``round(2^16 / sqrt(i / 128))`` and its fall, int64 ``[512]`` each; 0 below ``i = 128``, which no number but
        zero reaches.
    """
    steps = np.arange(1, (4 << INDEX_FRACTION) + 1)
    roots = np.rint(np.ldexp(1 / np.sqrt(np.ldexp(steps, -INDEX_FRACTION)), ROOT_FRACTION)).astype(np.int64)
    first = 1 << INDEX_FRACTION
    base, fall = np.zeros((2, 4 << INDEX_FRACTION), np.int64)
    base[first:], fall[first:] = roots[first - 1 : -1], roots[first - 1 : -1] - roots[first:]
    return base, fall


def reciprocal_root(numbers: Integers) -> tuple[Integers, Integers]:
    """A reciprocal square root as ``mantissa * 2^-(16 + halvings)``; the mantissa of 0 is 0.

    Args:
        numbers: int64, any shape, 0 to 2^50.

    Returns:
        The mantissa, at most 2^16, and the halvings h, for which the number is ``m * 4^h`` with m from 1 to below 4;
        int64 of the numbers' shape each.
    """
    powers = np.int64(1) << (2 * np.arange(1, 26, dtype=np.int64))
    halvings = np.searchsorted(powers, numbers, side="right").astype(np.int64)
    # From 1 to below 4, with 21 fraction bits; what a right shift cuts off is below them.
    scaled = (numbers << (52 - 2 * halvings)) >> (52 - INDEX_FRACTION - PLACE_BITS)
    index, place = scaled >> PLACE_BITS, scaled & ((1 << PLACE_BITS) - 1)
    base, fall = root_table()
    return base[index] - ((fall[index] * place + (1 << (PLACE_BITS - 1))) >> PLACE_BITS), halvings


def normalized(values: Integers, factor: int, epsilon: int, centred: bool) -> Integers:
    """Rows divided by their deviation (``centred``) or their length, with 12 fraction bits.

    Args:
        values: int64 ``[rows, channels]``, 16 bits signed; channels of padding are 0.
        factor: For LayerNorm the number of channels without padding; for L2 1.
        epsilon: 0 to 2^48 - 1; for LayerNorm ``round(eps * (channels / step)^2)``, step the value of one integer.
        centred: Whether the mean is subtracted.

    Returns:
        int64 ``[rows, channels]``, 18 bits signed.
    """
    sums = values.sum(axis=1, keepdims=True) * centred
    squares = (values * values).sum(axis=1, keepdims=True)
    spread = np.maximum(factor * squares - sums * sums, 0) + epsilon
    root, halvings = reciprocal_root(spread)
    products = (factor * values - sums) * root
    result = np.empty_like(products)
    for count in np.unique(halvings).tolist():
        rows = halvings[:, 0] == count
        result[rows] = requantize(products[rows], 1, count + ROOT_FRACTION - NORMALIZED_FRACTION)
    return saturate(result, NORMALIZED_BITS, unsigned=False)


def normalize(rows: Integers, gain: Integers, offset: Integers, shift: int, highest: int, signed: bool) -> Integers:
    """The end of a normalization: ``limit(round((rows * gain + offset) * 2^-shift))``, halves to even.

    Args:
        rows: int64 ``[rows, channels]`` of ``normalized``.
        gain: int64 ``[channels]``, 16 bits signed.
        offset: int64 ``[channels]``, 32 bits signed, in steps of the gain's times 2^-12.
        shift: 0..63.
        highest: Largest result, 0..255.
        signed: Whether results reach below 0.
    """
    return limit(requantize(rows * gain + offset, 1, shift), highest, signed)
