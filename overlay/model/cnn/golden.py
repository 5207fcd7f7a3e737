# SPDX-License-Identifier: Apache-2.0
"""What the layers of a convolutional network compute, in integers: one function per layer kind, written for reading.

Images are NHWC, as the overlay holds them: a pixel's channels lie side by side. The rules in prose are in
``docs/convolution.md``, rounding in ``docs/arithmetic.md``.
"""

from collections.abc import Iterator

import numpy as np

from hetfab.overlay.isa.arithmetic import Q8_BITS, Integers, mean_q8, reciprocals, requantize, saturate24
from hetfab.overlay.model.cnn.window import Window


def taps(image: Integers, window: Window, padding: int) -> Iterator[tuple[int, int, Integers]]:
    """Yields row and column of each tap of a window with the pixels that it meets, [N, rows, columns, C].

    Args:
        image: int64 [N, H, W, C].
        window: The window.
        padding: The value of the pixels around the image.
    """
    above, left, below, right = window.pads
    margins = ((0, 0), (above, below), (left, right), (0, 0))
    padded = np.pad(image, margins, constant_values=padding)
    rows, columns = window.positions((image.shape[1], image.shape[2]))
    for row in range(window.kernel[0]):
        for column in range(window.kernel[1]):
            top, start = row * window.dilations[0], column * window.dilations[1]
            down = slice(top, top + (rows - 1) * window.strides[0] + 1, window.strides[0])
            along = slice(start, start + (columns - 1) * window.strides[1] + 1, window.strides[1])
            yield row, column, padded[:, down, along]


def convolve(image: Integers, weight: Integers, window: Window, *, groups: int = 1, padding: int = 0) -> Integers:
    """The sums of products of a convolution, int64 [N, rows, columns, O].

    Args:
        image: int64 [N, H, W, I].
        weight: int64 [kernel rows, kernel columns, I / groups, O].
        window: The window.
        groups: Output channel ``o`` reads the input channels of its group, ``o // (O / groups)``.
        padding: The value around the image: 0, or what a core that holds ``x - 128`` for ``x`` must use, -128.
    """
    channels = weight.shape[3]
    total = np.zeros((image.shape[0], *window.positions((image.shape[1], image.shape[2])), channels), np.int64)
    inputs, outputs = image.shape[3] // groups, channels // groups
    for row, column, pixels in taps(image, window, padding):
        for group in range(groups):
            read = pixels[..., group * inputs : (group + 1) * inputs]
            written = slice(group * outputs, (group + 1) * outputs)
            total[..., written] += multiply(read, weight[row, column, :, written])
    return total


def multiply(rows: Integers, weight: Integers) -> Integers:
    """The matrix product, int64 [..., N].

    Args:
        rows: int64 [..., K].
        weight: int64 [K, N].
    """
    # Whole numbers below 2^53 are exact in float64, whose product is far faster than that of int64.
    product = rows.astype(np.float64) @ weight.astype(np.float64)
    return np.asarray(product, dtype=np.int64)


def max_pool(image: Integers, window: Window, lowest: int) -> Integers:
    """The largest pixel of each window, channel by channel, int64 [N, rows, columns, C].

    Args:
        image: int64 [N, H, W, C].
        window: The window.
        lowest: The least integer of the tensor, which stands around the image.
    """
    largest = np.full((1, 1, 1, 1), lowest, np.int64)
    for _, _, pixels in taps(image, window, lowest):
        largest = np.maximum(largest, pixels)
    return largest


def average_q8(image: Integers, window: Window, divisors: Integers) -> Integers:
    """The mean of each window in Q.8, by the reciprocal of its divisor, int64 [N, rows, columns, C].

    Args:
        image: int64 [N, H, W, C]; zeros stand around it.
        window: The window.
        divisors: int64 [rows, columns], at most 65,535.
    """
    total = sum((pixels for _, _, pixels in taps(image, window, 0)), np.zeros((1, 1, 1, 1), np.int64))
    reciprocal, exponent = (part.reshape(*divisors.shape, 1) for part in reciprocals(divisors.reshape(-1)))
    return mean_q8(np.asarray(total), reciprocal, exponent)


def add_q8(residual: Integers, biased: Integers, multiplier: Integers, shift: int) -> Integers:
    """A stored tensor plus the biased sums of a layer, in Q.8 of the stored tensor's scale; int64.

    Args:
        residual: int64 [..., C].
        biased: int64 [..., C].
        multiplier: int64 [C]; with ``shift`` it brings the sums to that scale.
        shift: 0..63.
    """
    return (residual << Q8_BITS) + saturate24(requantize(biased, multiplier, shift))
