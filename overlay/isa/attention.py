# SPDX-License-Identifier: Apache-2.0
"""The integer arithmetic of attention: ``docs/attention.md`` as numpy on int64.

It is part of the golden model, so it is written for reading; every function is exact for the stated ranges.
"""

import functools

import numpy as np
import numpy.typing as npt

from hetfab.overlay.isa.arithmetic import Q8_BITS, requantize, saturate

Integers = npt.NDArray[np.int64]

#: Bits of scores and logits, which have 8 fraction bits, and of a slope's fraction.
LOGIT_BITS, SLOPE_BITS = 16, 12
#: The weight of an edge whose logit is the largest one of its destination.
LARGEST_WEIGHT = 4095
#: Gaps between logits from here on give the weight 0, as the exponential rounds to it.
EXPONENTIALS = 2308
#: The maximum of no logits.
NO_LOGIT = -(1 << (LOGIT_BITS - 1))


@functools.cache
def exponentials() -> Integers:
    """The weight of each gap below the largest logit: round(4095 exp(-i / 256)), int64 ``[2308]``."""
    gaps = np.arange(EXPONENTIALS, dtype=np.float64)
    return np.asarray(np.rint(LARGEST_WEIGHT * np.exp(-gaps / (1 << Q8_BITS))), np.int64)


def quantized_slope(slope: float) -> int:
    """A slope below zero in units of 2^-12."""
    return round(slope * (1 << SLOPE_BITS))


def additive_logits(total: Integers, slope: int) -> Integers:
    """Logits from the sum of an edge's scores: limited to 16 bits, negative ones times the slope, halves up.

    Args:
        total: int64, any shape, Q.8.
        slope: In units of 2^-12, 0..4096; 4096 leaves the sum as it is.
    """
    limited = saturate(total, LOGIT_BITS, unsigned=False)
    sloped = (limited * slope + (1 << (SLOPE_BITS - 1))) >> SLOPE_BITS
    return np.where(limited < 0, sloped, limited)


def dot_logits(products: Integers, multiplier: int, shift: int) -> Integers:
    """Logits from dot products of queries and keys.

    Args:
        products: int64, any shape, 32 bits signed.
        multiplier: 0..65,535.
        shift: 0..63; the logit is the product times ``multiplier * 2^-shift``, as VEC rounds, limited to 16 bits.
    """
    return saturate(requantize(products, multiplier, shift), LOGIT_BITS, unsigned=False)


def edge_weights(gaps: Integers) -> Integers:
    """Weights of edges whose logits lie ``gaps`` below the largest one of their destination.

    Args:
        gaps: int64, any shape; outside 0..2307 the weight is 0.
    """
    inside = (gaps >= 0) & (gaps < EXPONENTIALS)
    return np.where(inside, exponentials()[np.where(inside, gaps, 0)], 0)


def attention_q8(numerator: Integers, denominator: Integers) -> Integers:
    """The weighted mean in Q.8: floor((512 num + den) / (2 den)), 0 where den is 0.

    Args:
        numerator: int64, any shape: the sum of weights times features.
        denominator: int64 that broadcasts to ``numerator``: the sum of weights, 0 or more.
    """
    divisor = np.where(denominator > 0, 2 * denominator, 1)
    quotient = ((2 << Q8_BITS) * numerator + denominator) // divisor
    return np.where(denominator > 0, quotient, 0)
