# SPDX-License-Identifier: Apache-2.0
"""Chooses power-of-two scales of activations from observed values.

Three criteria are offered: the percentiles 99.9 and 99.99 of the non-zero magnitudes, and the least mean square
error. ``post_training`` takes the one whose model is nearest to the float model.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

FloatArray: TypeAlias = npt.NDArray[np.float32]

#: Exponents that criteria try.
TRIED_EXPONENTS = 6
_FEW = 1000
_SMALLEST_EXPONENT = -24


@dataclass(frozen=True)
class ActivationRange:
    """Width, sign and scale of an integer activation; its scale is ``2**exponent``."""

    bits: int
    signed: bool
    exponent: int

    @property
    def scale(self) -> float:
        """Value of one step."""
        return 2.0**self.exponent

    @property
    def lowest(self) -> int:
        """Smallest integer; activations use the full range."""
        return -(1 << (self.bits - 1)) if self.signed else 0

    @property
    def highest(self) -> int:
        """Largest integer."""
        return (1 << (self.bits - 1)) - 1 if self.signed else (1 << self.bits) - 1

    def steps(self, values: FloatArray) -> FloatArray:
        """The integers that values become, as floats of their type."""
        found = np.asarray(values * np.asarray(1 / self.scale, values.dtype), dtype=values.dtype)
        np.rint(found, out=found)
        return np.clip(found, self.lowest, self.highest, out=found)


@dataclass(frozen=True)
class TwinRange(ActivationRange):
    """Two ranges of one tensor: fine steps below zero, steps of ``2**shift`` of them from zero on.

    A value is a code of ``code_bits`` bits in two's complement; a code that is not negative is shifted left. This is
    PTQ4ViT's twin uniform quantization with its two steps a power of two apart (Yuan et al., ECCV 2022, section 3.2).
    A tensor holds decoded integers, of ``bits`` bits.

    Attributes:
        code_bits: Bits of a code.
        shift: Of codes that are not negative.
    """

    code_bits: int = 8
    shift: int = 0

    def decoded(self, codes: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """The integers that codes stand for."""
        return np.where(codes < 0, codes, codes << self.shift)

    def codes(self, values: FloatArray) -> npt.NDArray[np.int64]:
        """The codes of values."""
        half = 1 << (self.code_bits - 1)
        fine = np.rint(values * np.asarray(1 / self.scale, values.dtype))
        coarse = np.rint(values * np.asarray(1 / (self.scale * (1 << self.shift)), values.dtype))
        return np.where(fine < 0, np.maximum(fine, -half), np.clip(coarse, 0, half - 1)).astype(np.int64)

    def steps(self, values: FloatArray) -> FloatArray:
        """The integers that values become, as floats of their type."""
        return np.asarray(self.decoded(self.codes(values)), dtype=values.dtype)


Criterion: TypeAlias = Callable[[FloatArray, ActivationRange], int]


def covering(magnitude: float, limit: int) -> int:
    """Smallest exponent at which ``magnitude`` does not exceed ``limit`` steps."""
    if magnitude <= 0.0:
        return 0
    return max(math.ceil(math.log2(magnitude / limit)), _SMALLEST_EXPONENT)


def exponents_from(widest: int) -> range:
    """Exponents that criteria try, from the one that covers everything down."""
    return range(widest, widest - TRIED_EXPONENTS, -1)


def exact_exponent(values: FloatArray, highest: int) -> int | None:
    """Coarsest exponent at which every value is a whole number of steps within the range, None if there is none.

    Bag-of-words and count features are such tensors; they lose nothing.

    Args:
        values: Non-zero values.
        highest: Largest magnitude in steps.
    """
    largest, found = max(float(values.max()), -float(values.min())), values.reshape(-1)
    # A few values of any other tensor are enough to see that the range does not hold their steps.
    for some in (found[:_FEW], found):
        exponent = _finest_exponent(some)
        if largest > highest * 2.0**exponent or exponent < _SMALLEST_EXPONENT:
            return None
    return exponent


def _finest_exponent(values: FloatArray) -> int:
    """Exponent of the coarsest step of which all values are whole multiples."""
    mantissas, exponents = np.frexp(values.astype(np.float64))
    whole = (mantissas * 2.0**53).astype(np.int64)
    # The lowest bit that is set, of which the logarithm is exact.
    trailing = np.log2((whole & -whole).astype(np.float64)).astype(np.int64)
    return int((exponents - 53 + trailing).min())


def choose(values: FloatArray, criterion: Criterion, *, bits: int = 8, signed: bool) -> ActivationRange:
    """Range of a tensor.

    Args:
        values: Its non-zero values, any shape; may be empty.
        criterion: One of ``CRITERIA``.
        bits: Width.
        signed: Whether negative values are kept.
    """
    shape = ActivationRange(bits, signed, 0)
    if values.size == 0:
        return shape
    exact = exact_exponent(values, shape.highest)
    return ActivationRange(bits, signed, criterion(values, shape) if exact is None else exact)
