# SPDX-License-Identifier: Apache-2.0
"""The integer arithmetic of the vector and aggregation engines: ``docs/arithmetic.md`` as numpy on int64.

It is part of the golden model, so it is written for reading; every function is exact for the stated ranges.
"""

import numpy as np
import numpy.typing as npt

Integers = npt.NDArray[np.int64]

#: Widths of weights (1 is bipolar, -1 or 1) and of stored activations.
WEIGHT_BITS = range(1, 9)
ACTIVATION_BITS = range(2, 9)
ACCUMULATOR_BITS = 32
#: Fraction bits of a Q.8 sum.
Q8_BITS = 8
#: Bits of a dense term that joins a Q.8 sum.
TERM_BITS = 24
#: The reciprocal of a mean is exact enough up to this degree (docs/arithmetic.md).
LARGEST_DEGREE = 65_535


def wrap32(values: Integers) -> Integers:
    """Keeps the low 32 bits and reads them as a signed integer, as an int32 adder does.

    Args:
        values: int64, any shape.
    """
    return values.astype(np.int32).astype(np.int64)


def requantize(values: Integers, multiplier: Integers | int, shift: int) -> Integers:
    """Multiplies by ``multiplier * 2^-shift`` and rounds half to even; a shift of 0 gives the product.

    Args:
        values: int64, any shape, 32 bits signed, or up to 47 bits when the multiplier is 1.
        multiplier: int64 that broadcasts to ``values``; 0..65,535.
        shift: 0..63.
    """
    product = values * multiplier
    if shift == 0:
        return product
    odd = (product >> shift) & 1
    return (product + (1 << (shift - 1)) - 1 + odd) >> shift


def saturate(values: Integers, bits: int, unsigned: bool) -> Integers:
    """Limits to 0..2^bits - 1 when ``unsigned``, to -2^(bits-1)..2^(bits-1) - 1 otherwise.

    Args:
        values: int64, any shape.
        bits: 1..32.
        unsigned: Which range.
    """
    half = 1 << (bits - 1)
    return np.clip(values, 0, 2 * half - 1) if unsigned else np.clip(values, -half, half - 1)


def limit(values: Integers, highest: int, signed: bool) -> Integers:
    """Limits to -highest - 1..highest when ``signed``, to 0..highest otherwise, as VEC and DW end a result.

    Args:
        values: int64, any shape.
        highest: 0..255.
        signed: Which range.
    """
    return np.clip(values, -highest - 1 if signed else 0, highest)


def looked_up(values: Integers, table: Integers, width: int, signed: bool) -> Integers:
    """A function of one number as a table, its argument limited to ``width`` bits.

    Args:
        values: int64, any shape.
        table: int64 ``[2^width]``; entries of negative arguments follow those of the others.
        width: 1..12.
        signed: Whether arguments are two's complement.
    """
    found: Integers = table[saturate(values, width, not signed) & ((1 << width) - 1)]
    return found


def saturate24(values: Integers) -> Integers:
    """Limits to -2^23..2^23 - 1.

    Args:
        values: int64, any shape.
    """
    return np.clip(values, -(1 << (TERM_BITS - 1)), (1 << (TERM_BITS - 1)) - 1)


def reciprocals(degrees: Integers) -> tuple[Integers, Integers]:
    """The reciprocal and the exponent that the destination array holds for each vertex.

    Args:
        degrees: int64 ``[n]``, 0..65,535.

    Returns:
        ``round(2^(16+k) / d)`` and ``k = ceil(log2 d)``, int64 ``[n]`` each; both are 0 where d is 0.
    """
    powers = np.int64(1) << np.arange(18, dtype=np.int64)
    exponents = np.searchsorted(powers, degrees).astype(np.int64)
    divisors = np.maximum(degrees, 1)
    rounded = ((np.int64(1) << (17 + exponents)) + divisors) // (2 * divisors)
    return np.where(degrees > 0, rounded, 0), exponents


def mean_q8(sums: Integers, reciprocal: Integers, exponent: Integers) -> Integers:
    """The mean in Q.8 from a sum and its destination's reciprocal, halves rounded up; 0 if either is 0.

    Args:
        sums: int64, any shape.
        reciprocal: int64 that broadcasts to ``sums``; from ``reciprocals``.
        exponent: int64 that broadcasts to ``sums``; from ``reciprocals``.
    """
    half = np.int64(1) << (exponent + Q8_BITS - 1)
    return (sums * reciprocal + half) >> (exponent + Q8_BITS)
