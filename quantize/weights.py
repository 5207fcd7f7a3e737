# SPDX-License-Identifier: Apache-2.0
"""Rounds weights and biases to integers, with a scale per output channel.

From 4 bits on a scale is a power of two. Below, it is free: a 16-bit multiplier times a power of two, so that the
requantization of docs/arithmetic.md applies exactly the number that the file holds.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from hetfab.overlay.isa.spec import isa
from hetfab.quantize.widths import POWER_OF_TWO_BITS

FloatArray: TypeAlias = npt.NDArray[np.float32]
IntArray: TypeAlias = npt.NDArray[np.int64]
_Doubles: TypeAlias = npt.NDArray[np.float64]

#: A channel's scale is brought to the instruction's one shift by a 16-bit multiplier, so exponents of a layer may
#: differ by at most this much.
LARGEST_SPREAD = isa().record("parameter").bits("multiplier") - 1
#: Bits of a free scale's multiplier between its first and its last one; more change no rounding of weights noticeably.
LARGEST_SIGNIFICANCE = 8
#: Lowest exponent of a scale where nothing else limits it.
LOWEST_EXPONENT = -1 << 30
_FLOAT32_BITS = 24
_CANDIDATES = 4
#: Input channels whose errors are summed at once, so that a cache holds them.
RUN = 64
#: Free scales are searched from the full range down to 1/32 of it, 8 to an octave.
_FREE_SHARES = 2.0 ** (-np.arange(41) / 8)
#: Scale of bipolar weights that are all zero; it must not be zero itself.
_SMALLEST_SCALE = 2.0**-24


@dataclass(frozen=True, eq=False)
class QuantizedWeights:
    """Rounded weights; the scale of an output channel is ``mantissa * 2**exponent``.

    Attributes:
        integers: [K, N]; of 1 bit, -1 or 1.
        mantissas: [N], of at most 16 bits; 1 where scales are powers of two.
        exponents: [N].
        bits: Width.
        narrow: Whether the most negative integer of the width is left out.
    """

    integers: IntArray
    mantissas: IntArray
    exponents: IntArray
    bits: int
    narrow: bool = True

    @property
    def scales(self) -> FloatArray:
        """Scale of each output channel, [N]; exact in float32."""
        return np.ldexp(self.mantissas.astype(np.float32), self.exponents).astype(np.float32)

    @property
    def restored(self) -> npt.NDArray[np.float64]:
        """The weights that the integers stand for, [K, N]."""
        return np.asarray(self.integers * self.scales.astype(np.float64))

    @property
    def largest_exponent(self) -> int:
        """The largest scale is at least 2 to this power, and less than twice that."""
        return int(np.frexp(self.scales)[1].max()) - 1


def round_to_nearest(weight: FloatArray, *, bits: int = 8, shared_scale: bool = False) -> QuantizedWeights:
    """Rounds to nearest, symmetric; each channel's scale has the least square error.

    Weights are narrow, except those of 2 bits, which take the full range where its square error is less. Weights of
    1 bit are the sign, +1 for zero, and their scale is the mean magnitude.

    Args:
        weight: [K, N].
        bits: Width, 1 to 8.
        shared_scale: One scale for all channels (the logits of a last layer must share one).
    """
    if not weight.any() and bits > 1:
        zeros, ones = np.zeros(weight.shape, np.int64), np.ones(weight.shape[1], np.int64)
        return QuantizedWeights(zeros, ones, 0 * ones, bits)
    if bits == 1:
        magnitude = np.abs(weight).mean(axis=None if shared_scale else 0, dtype=np.float64)
        return _rounded_on(weight, np.broadcast_to(np.maximum(magnitude, _SMALLEST_SCALE), weight.shape[1]), bits, True)
    forms = [_least_error(weight, bits, narrow, shared_scale) for narrow in forms_of(bits)]
    return min(forms, key=lambda form: float(np.square(form.integers * form.scales - weight).sum(dtype=np.float64)))


def exact_in_float32(
    weight: FloatArray, found: QuantizedWeights, largest_input: float, bias: FloatArray | None, input_scale: float
) -> QuantizedWeights:
    """Shortens free multipliers until float32 adds the layer's products without rounding, as onnxruntime does.

    A sum is a whole number times the multiplier, and float32 holds 24 bits. One of them is left for inputs that
    quantization makes larger than observed and for scales that this changes.

    Args:
        weight: [K, N], as given to ``round_to_nearest``.
        found: What it returned.
        largest_input: Largest magnitude of the layer's input, in steps.
        bias: [N] or None.
        input_scale: Value of one step of the input.
    """
    spare = spare_bits(found, largest_input, bias, input_scale)
    if found.bits >= POWER_OF_TWO_BITS or spare >= LARGEST_SIGNIFICANCE:
        return found
    return _rounded_on(weight, found.scales.astype(np.float64), found.bits, found.narrow, max(spare, 1))


def spare_bits(found: QuantizedWeights, largest_input: float, bias: FloatArray | None, input_scale: float) -> int:
    """Bits of float32 that sums of a layer's integer products leave for a multiplier; as ``exact_in_float32``."""
    sums = np.abs(found.integers).sum(axis=0) * largest_input
    if bias is not None:
        sums = sums + np.abs(bias) / (found.scales.astype(np.float64) * input_scale)
    return _FLOAT32_BITS - 1 - math.ceil(math.log2(max(float(sums.max(initial=0.0)), 1.0)))


def forms_of(bits: int) -> tuple[bool, ...]:
    """Whether weights of a width may be narrow, and whether they may not."""
    return (True, False) if bits == 2 else (True,)


def on_grid(
    scales: _Doubles, free: bool, significance: int, lowest_exponent: int = LOWEST_EXPONENT
) -> QuantizedWeights:
    """The nearest scales that a file can hold, with integers still to come.

    Args:
        scales: [N], positive.
        free: Whether they are other than powers of two.
        significance: Most bits of a free scale's multiplier.
        lowest_exponent: Smallest scales are raised to 2 to this power.
    """
    limited = np.maximum(scales, np.ldexp(1.0, max(lowest_exponent, -1000)))
    none = np.zeros((0, len(scales)), np.int64)
    if not free:
        exponents = np.rint(np.log2(limited)).astype(np.int64)
        exponents = np.maximum(exponents, max(int(exponents.max()) - LARGEST_SPREAD, lowest_exponent))
        return QuantizedWeights(none, np.ones_like(exponents), exponents, 0)
    tops = np.frexp(limited)[1].astype(np.int64)
    exponents = np.maximum(tops - significance, max(int(tops.max()) - LARGEST_SPREAD, lowest_exponent))
    mantissas = np.maximum(np.rint(np.ldexp(limited, -exponents)), 1.0).astype(np.int64)
    return QuantizedWeights(none, mantissas, exponents, 0)


def best_start(
    weight: FloatArray,
    limits: tuple[int, int],
    free: bool,
    shared_scale: bool,
    add_errors: Callable[[_Doubles, _Doubles, _Doubles, slice], None],
    run: int | None = None,
) -> _Doubles:
    """Scales [N] of least error among shares of the full range, if every weight is rounded by itself.

    Args:
        weight: [K, N].
        limits: Smallest and largest integer.
        free: Whether scales are other than powers of two.
        shared_scale: One scale for all channels.
        add_errors: Adds to the errors so far, [N], those of restored weights of a run of input channels, which it may
            change, against the weights themselves, both [K, N]; the last argument is the run's place.
        run: Input channels of a run, where the errors of runs add up; None for all at once.
    """
    low, high = limits
    widest = _largest(weight, shared_scale) / high
    if not free:
        candidates = np.exp2(np.ceil(np.log2(widest)) - np.arange(_CANDIDATES)[:, None])
    else:
        candidates = widest * _FREE_SHARES[:, None]
    size = run or len(weight)
    errors = np.zeros(candidates.shape)
    for first in range(0, len(weight), size):
        place = slice(first, min(first + size, len(weight)))
        part = np.array(weight[place], np.float64, order="C")
        restored = np.empty(part.shape)
        for total, row in zip(errors, candidates, strict=True):
            np.rint(np.divide(part, row, out=restored), out=restored)
            np.multiply(restored.clip(low, high, out=restored), row, out=restored)
            add_errors(total, restored, part, place)
    if shared_scale:
        errors[:] = errors.sum(axis=1, keepdims=True)
    return np.asarray(candidates[errors.argmin(axis=0), np.arange(weight.shape[1])])


def best_free_start(
    weight: FloatArray, limits: tuple[int, int], shared_scale: bool, importance: _Doubles | None = None
) -> _Doubles:
    """As ``best_start`` of free scales and square errors, from sums over the weights of a channel in their order.

    With q the integers and h the importance of input channels, the error is
    ``sum h w^2 - 2 s sum h w q + s^2 sum h q^2``. A weight above ``s (k + 1/2)``, k >= 0, counts at least ``k + 1``
    times in the second sum, as those below in turn, so that sums over all weights beyond each such place give both.

    Args:
        weight: [K, N].
        limits: Smallest and largest integer.
        shared_scale: One scale for all channels.
        importance: Factors of the square errors of each input channel, [K]; 1 when left out.
    """
    steps, high = np.arange(*limits), limits[1]
    candidates = _largest(weight, shared_scale)[:, None] / high * _FREE_SHARES
    ranked, factors = _ranked(weight, importance)
    thresholds = candidates[:, :, None] * (steps + 0.5)
    places = np.stack(
        [
            channel.searchsorted(of_channel.ravel(), "right")
            for channel, of_channel in zip(ranked, thresholds, strict=True)
        ]
    )

    def beyond(values: _Doubles) -> _Doubles:
        """Sums of values [N, K] beyond the places, [N, candidates, steps]."""
        before = np.zeros((len(values), values.shape[1] + 1))
        np.cumsum(values, axis=1, out=before[:, 1:])
        found = np.take_along_axis(before, places, axis=1).reshape(thresholds.shape)
        return np.where(steps < 0, found, before[:, -1, None, None] - found)

    products = beyond(factors * ranked) @ np.where(steps < 0, -1.0, 1.0)
    squares = beyond(factors) @ np.abs(2 * steps + 1.0)
    totals = np.einsum("nk,nk,nk->n", factors, ranked, ranked)
    errors = totals[:, None] + candidates * (candidates * squares - 2 * products)
    if shared_scale:
        errors[:] = errors.sum(axis=0)
    return np.asarray(candidates[np.arange(len(candidates)), errors.argmin(axis=1)])


def _ranked(weight: FloatArray, importance: _Doubles | None) -> tuple[_Doubles, _Doubles]:
    """The weights of each channel by rising value, and the importance of their input channels, both [N, K]."""
    channels = np.ascontiguousarray(weight.T, np.float64)
    if importance is None:
        return np.sort(channels, axis=1), np.ones(channels.shape)
    order = channels.argsort(axis=1)
    return np.take_along_axis(channels, order, axis=1), importance[order]


def on_lowest(weight: FloatArray, found: QuantizedWeights, lowest_exponent: int, significance: int) -> QuantizedWeights:
    """Weights rounded again where their scales are too small, or have too long multipliers, for the layer."""
    scales = found.scales.astype(np.float64)
    grid = on_grid(scales, found.bits < POWER_OF_TWO_BITS, significance, lowest_exponent)
    if np.array_equal(grid.scales, found.scales):
        return found
    if found.bits == 1:
        return replace(grid, integers=found.integers, bits=found.bits, narrow=found.narrow)
    integers = _rounded(weight, grid.scales.astype(np.float64), *limits_of(found.bits, found.narrow))
    return replace(grid, integers=integers, bits=found.bits, narrow=found.narrow)


def round_bias(bias: FloatArray, scales: _Doubles) -> IntArray:
    """Rounds a bias [N] to int32 steps of ``scales`` [N], saturating."""
    steps = np.rint(bias.astype(np.float64) / scales)
    return np.clip(steps, -(2**31), 2**31 - 1).astype(np.int64)


def _least_error(weight: FloatArray, bits: int, narrow: bool, shared_scale: bool) -> QuantizedWeights:
    """Weights rounded by themselves, at the scales of least square error."""

    def add_squares(total: _Doubles, restored: _Doubles, part: _Doubles, _: slice) -> None:
        np.subtract(restored, part, out=restored)
        np.square(restored, out=restored)
        # Before the run, so that its length changes no bit of the sum.
        restored[0] += total
        restored.sum(axis=0, out=total)

    if bits < POWER_OF_TWO_BITS:
        return _rounded_on(weight, best_free_start(weight, limits_of(bits, narrow), shared_scale), bits, narrow)
    # Of one channel numpy adds in pairs, so that runs would change the sum.
    run = RUN if weight.shape[1] > 1 else None
    scales = best_start(weight, limits_of(bits, narrow), False, shared_scale, add_squares, run)
    return _rounded_on(weight, scales, bits, narrow)


def _rounded_on(
    weight: FloatArray, scales: _Doubles, bits: int, narrow: bool, significance: int = LARGEST_SIGNIFICANCE
) -> QuantizedWeights:
    """Brings scales to the grid that a file can hold, then rounds the weights."""
    grid = on_grid(scales, bits < POWER_OF_TWO_BITS, significance)
    steps = grid.scales.astype(np.float64)
    integers = np.where(weight < 0, -1, 1) if bits == 1 else _rounded(weight, steps, *limits_of(bits, narrow))
    return replace(grid, integers=integers.astype(np.int64), bits=bits, narrow=narrow)


def limits_of(bits: int, narrow: bool) -> tuple[int, int]:
    """Smallest and largest integer of a width."""
    high = (1 << (bits - 1)) - 1
    return (-high if narrow else -high - 1), high


def _largest(weight: FloatArray, shared_scale: bool) -> _Doubles:
    """Largest magnitude of each column; of the matrix where a column is zero, or all share a scale."""
    largest = np.abs(weight).max(axis=0, initial=0.0).astype(np.float64)
    peak = largest.max()
    return np.full_like(largest, peak) if shared_scale else np.where(largest > 0.0, largest, peak)


def _rounded(weight: FloatArray, scales: _Doubles, low: int, high: int) -> IntArray:
    return np.clip(np.rint(weight / scales), low, high).astype(np.int64)


@dataclass(frozen=True, eq=False)
class LayerWeights:
    """The rounded weights of a layer whose output channels may have several widths.

    Attributes:
        parts: Runs of output channels of one width, in order; at least one.
        bias: In place of the layer's, [N]; None keeps that.
    """

    parts: tuple[QuantizedWeights, ...]
    bias: FloatArray | None = None

    def runs(self) -> Iterator[tuple[slice, QuantizedWeights]]:
        """The output channels of each part."""
        first = 0
        for part in self.parts:
            end = first + part.integers.shape[1]
            yield slice(first, end), part
            first = end

    @cached_property
    def integers(self) -> IntArray:
        """[K, N]."""
        return np.concatenate([part.integers for part in self.parts], axis=1)

    @cached_property
    def scales(self) -> FloatArray:
        """Scale of each output channel, [N]; exact in float32."""
        return np.concatenate([part.scales for part in self.parts])

    @cached_property
    def restored(self) -> FloatArray:
        """The weights that the integers stand for, [K, N]."""
        return np.asarray(self.integers * self.scales, dtype=np.float32)

    @cached_property
    def restored_rows(self) -> FloatArray:
        """The same with a row for each output channel, [N, K]."""
        return np.ascontiguousarray(np.multiply(self.integers, self.scales, dtype=np.float64).T, dtype=np.float32)

    @property
    def largest_exponent(self) -> int:
        """The largest scale is at least 2 to this power, and less than twice that."""
        return max(part.largest_exponent for part in self.parts)

    @property
    def bits(self) -> IntArray:
        """Width of each output channel, [N]."""
        return np.concatenate([np.full(part.integers.shape[1], part.bits) for part in self.parts])
