# SPDX-License-Identifier: Apache-2.0
"""Brings the steps of a file's roundings onto the overlay's grid, and notes what changes."""

import math
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from hetfab.quantize.formats.foreign import Rounding
from hetfab.quantize.weights import LARGEST_SPREAD, QuantizedWeights, on_grid, round_to_nearest

Doubles = npt.NDArray[np.float64]

#: A scale becomes finer, and the range shorter, by at most this share; else it becomes coarser.
_CUT = 1 / 32
_WEIGHT_BITS = 8
#: Bits of a multiplier between its first and its last one; a scale changes by at most 2^-14 of itself.
_SIGNIFICANCE = LARGEST_SPREAD
#: Scales closer than this are the same number, written in float32.
SAME = 1e-6


@dataclass(frozen=True)
class Difference:
    """A number that is not the file's.

    Attributes:
        tensor: The tensor, or the layer whose weights they are.
        what: What the number is.
        found: In the file.
        kept: In the model that is deployed.
    """

    tensor: str
    what: str
    found: float
    kept: float


def exponent_of(scale: float) -> int:
    """The power of two that stands for a scale: the next one below where that cuts little, else the next above."""
    below = math.floor(math.log2(scale) + SAME)
    return below if scale * (1 - _CUT) <= 2.0**below else below + 1


def bits_of(rounding: Rounding) -> int:
    """Width of the integers of a rounding; at least 2."""
    steps = rounding.highest - rounding.lowest + (1 if rounding.lowest == -rounding.highest else 0)
    return max(2, math.ceil(math.log2(steps + 1)))


def highest_of(bits: int, *, signed: bool) -> int:
    """Largest integer of a width."""
    return (1 << (bits - signed)) - 1


def given_weights(
    name: str, values: Doubles, steps: Doubles | None, moved: float, *, shared: bool
) -> tuple[QuantizedWeights, list[Difference]]:
    """A file's integers with the scale of each output channel on the grid of multipliers.

    Args:
        name: The layer, for the differences.
        values: Its weights, [K, N].
        steps: The step of each weight, None where the file does not round them.
        moved: What the scales are multiplied by.
        shared: Whether all channels must have one scale.
    """
    if steps is None or np.any(np.abs(steps).min(axis=0) != np.abs(steps).max(axis=0)):
        found = round_to_nearest((values * moved).astype(np.float32), bits=_WEIGHT_BITS, shared_scale=shared)
        return _changed(name, values * moved, found, "no step of its own for each output channel")
    scales = np.abs(steps).max(axis=0)
    integers = np.rint(values / np.where(scales > 0.0, scales, 1.0)).astype(np.int64)
    limit = highest_of(_WEIGHT_BITS, signed=True)
    if integers.max(initial=0) > limit or integers.min(initial=0) < -limit - 1:
        found = round_to_nearest((values * moved).astype(np.float32), bits=_WEIGHT_BITS, shared_scale=shared)
        return _changed(name, values * moved, found, "integers of more than 8 bits")
    scales = np.where(scales > 0.0, scales, scales.max()) * moved
    if shared and np.ptp(scales) > SAME * scales.max():
        step = np.abs(values * moved).max() / highest_of(_WEIGHT_BITS, signed=True)
        found = _on_grid(np.rint(values * moved / step).astype(np.int64), np.full(values.shape[1], step))
        return _changed(name, values * moved, found, "classes of different steps")
    differences = []
    if np.abs(integers).max(initial=0) > limit:
        integers = np.clip(integers, -limit, limit)
        differences.append(Difference(name, "lowest weight", -128.0, -127.0))
    found = _on_grid(integers, scales)
    worst = int(np.abs(found.scales / scales - 1).argmax())
    if abs(found.scales[worst] / scales[worst] - 1) > SAME:
        differences.append(Difference(name, "step of weights", float(scales[worst]), float(found.scales[worst])))
    return found, differences


def _changed(
    name: str, values: Doubles, found: QuantizedWeights, why: str
) -> tuple[QuantizedWeights, list[Difference]]:
    error = np.abs(found.integers * found.scales - values).max(initial=0.0)
    return found, [Difference(name, f"weights, {why}: largest error", 0.0, float(error))]


def _on_grid(integers: npt.NDArray[np.int64], scales: Doubles) -> QuantizedWeights:
    """Integers of the least width that holds them, and their scales as multipliers that one shift brings to size."""
    magnitude, lowest = int(np.abs(integers).max(initial=0)), int(integers.min(initial=0))
    if magnitude == 1 and integers.all():
        bits, narrow = 1, True
    elif lowest == -2 and int(integers.max(initial=0)) < 2:
        bits, narrow = 2, False
    else:
        bits, narrow = max(2, magnitude.bit_length() + 1), True
    return replace(on_grid(scales, True, _SIGNIFICANCE), integers=integers, bits=bits, narrow=narrow)
