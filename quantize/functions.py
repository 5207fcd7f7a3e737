# SPDX-License-Identifier: Apache-2.0
"""Chooses the numbers of table functions and of LayerNorm (docs/arithmetic.md)."""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hetfab.overlay.isa.normalization import NORMALIZED_FRACTION
from hetfab.overlay.model.layers import FloatArray, Function, LayerNorm, Unary
from hetfab.quantize.ranges import ActivationRange, Criterion, choose
from hetfab.quantize.rewrites import values_of

#: Width of a table function's argument. Fewer bits cost accuracy, more gain none.
ARGUMENT_BITS = 10
#: Width of what a LayerNorm reads.
NORM_BITS = 16
#: Where a function has levelled off, at any scale of 8 bits: arguments beyond need not be told apart.
_LEVEL = {Function.ELU: (-8.0, math.inf), Function.GELU: (-6.0, math.inf), Function.TANH: (-6.0, 6.0)}
_LEVEL[Function.SIGMOID] = (-10.0, 10.0)
_GAIN_LIMIT, _OFFSET_LIMIT = (1 << 15) - 1, (1 << 31) - 1
_LARGEST_SHIFT = 40


def argument_range(layer: Unary, values: FloatArray, criterion: Criterion) -> ActivationRange:
    """The range of what a function reads.

    Args:
        layer: The function.
        values: Its observed arguments other than 0.
        criterion: One of ``CRITERIA``.
    """
    limited = np.clip(values, *_LEVEL.get(layer.function, (-math.inf, math.inf)))
    return choose(limited, criterion, bits=ARGUMENT_BITS, signed=True)


def norm_range(values: FloatArray) -> ActivationRange:
    """The range of what a LayerNorm reads: that of all values, since 16 bits are enough for both ends."""
    largest = float(np.abs(values).max(initial=0.0))
    highest = (1 << (NORM_BITS - 1)) - 1
    exponent = math.ceil(math.log2(largest / highest)) if largest > 0.0 else 0
    return ActivationRange(NORM_BITS, True, exponent)


def table_of(layer: Unary, argument: ActivationRange, result: ActivationRange) -> FloatArray:
    """The values of a function at each argument in whole steps of the result, [2^bits], rising from the lowest."""
    x = np.arange(argument.lowest, argument.highest + 1) * argument.scale
    return np.asarray(result.steps(values_of(layer, x)), dtype=np.float32)


@dataclass(frozen=True, eq=False)
class NormNumbers:
    """Integers of a LayerNorm.

    Attributes:
        gain: Of each channel, 16 bits signed, in steps of ``2^(12 - shift)`` steps of the result.
        offset: Of each channel, 32 bits signed, in steps of ``2^-shift`` steps of the result.
        epsilon: What is added to the variance times the square of the number of channels.
        shift: Right shift at the end.
    """

    gain: npt.NDArray[np.int64]
    offset: npt.NDArray[np.int64]
    epsilon: int
    shift: int


def norm_numbers(layer: LayerNorm, argument: ActivationRange, result: ActivationRange) -> NormNumbers:
    """The finest gain and offset that fit their widths."""
    gain, offset = (vector.astype(np.float64) / result.scale for vector in (layer.weight, layer.bias))
    shift = _LARGEST_SHIFT
    while shift > 0 and (
        np.abs(gain).max(initial=0.0) * 2.0 ** (shift - NORMALIZED_FRACTION) > _GAIN_LIMIT
        or np.abs(offset).max(initial=0.0) * 2.0**shift > _OFFSET_LIMIT
    ):
        shift -= 1
    gains = np.rint(gain * 2.0 ** (shift - NORMALIZED_FRACTION)).astype(np.int64)
    offsets = np.rint(offset * 2.0**shift).astype(np.int64)
    epsilon = round(layer.epsilon * (layer.weight.size / argument.scale) ** 2)
    return NormNumbers(gains, offsets, min(epsilon, (1 << 48) - 1), shift)
