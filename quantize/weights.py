# SPDX-License-Identifier: Apache-2.0
"""Rounds weights and biases to integers with a power-of-two scale per output channel."""

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from hetfab.overlay.isa.spec import isa

FloatArray: TypeAlias = npt.NDArray[np.float32]
IntArray: TypeAlias = npt.NDArray[np.int64]

#: A channel's scale is brought to the instruction's one shift by a 16-bit multiplier, so exponents of a layer may
#: differ by at most this much.
LARGEST_SPREAD = isa().record("parameter").bits("multiplier") - 1
_CANDIDATES = 4


@dataclass(frozen=True)
class QuantizedWeights:
    """Integers [K, N] and one exponent per output channel [N]; the scale is ``2**exponent``."""

    integers: IntArray
    exponents: IntArray
    bits: int

    @property
    def scales(self) -> FloatArray:
        """Scale of each output channel, [N]."""
        return np.ldexp(np.float32(1), self.exponents).astype(np.float32)


def round_to_nearest(weight: FloatArray, *, bits: int = 8, shared_scale: bool = False) -> QuantizedWeights:
    """Rounds to nearest, symmetric and narrow; each channel's scale has the least square error.

    Args:
        weight: [K, N].
        bits: Width, at least 3.
        shared_scale: One scale for all channels (the logits of a last layer must share one).
    """
    limit = (1 << (bits - 1)) - 1
    largest = np.abs(weight).max(axis=0, initial=0.0).astype(np.float64)
    peak = largest.max(initial=0.0)
    if peak == 0.0:
        shape = weight.shape
        return QuantizedWeights(np.zeros(shape, np.int64), np.zeros(shape[1], np.int64), bits)
    widest = np.ceil(np.log2(np.where(largest > 0.0, largest, peak) / limit)).astype(np.int64)
    if shared_scale:
        widest[:] = widest.max()
    candidates = widest - np.arange(_CANDIDATES)[:, None]
    errors = np.stack([_square_errors(weight, row, limit) for row in candidates])
    if shared_scale:
        errors[:] = errors.sum(axis=1, keepdims=True)
    exponents = np.take_along_axis(candidates, errors.argmin(axis=0)[None], axis=0)[0]
    exponents = np.maximum(exponents, exponents.max() - LARGEST_SPREAD)
    return QuantizedWeights(_rounded(weight, exponents, limit), exponents, bits)


def round_bias(bias: FloatArray, exponents: IntArray) -> IntArray:
    """Rounds a bias [N] to int32 steps of ``2**exponents``, saturating."""
    steps = np.rint(np.ldexp(bias.astype(np.float64), -exponents))
    return np.clip(steps, -(2**31), 2**31 - 1).astype(np.int64)


def _rounded(weight: FloatArray, exponents: IntArray, limit: int) -> IntArray:
    steps = np.rint(np.ldexp(weight.astype(np.float64), -exponents))
    return np.clip(steps, -limit, limit).astype(np.int64)


def _square_errors(weight: FloatArray, exponents: IntArray, limit: int) -> npt.NDArray[np.float64]:
    restored = np.ldexp(_rounded(weight, exponents, limit).astype(np.float64), exponents)
    return np.asarray(np.square(restored - weight).sum(axis=0), dtype=np.float64)
