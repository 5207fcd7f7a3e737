# SPDX-License-Identifier: Apache-2.0
"""Rounds weights of networks on samples by any method: what layers multiply, as rows, and their integers."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from hetfab.overlay.model.cnn.layers import Conv
from hetfab.overlay.model.layers import Dense
from hetfab.quantize.assignment import WeightChoice
from hetfab.quantize.ranges import ActivationRange
from hetfab.quantize.weights import LARGEST_SIGNIFICANCE, LayerWeights, exact_in_float32, spare_bits
from hetfab.quantize.widths import POWER_OF_TWO_BITS

FloatArray = npt.NDArray[np.float32]


def matrix_of(layer: Conv | Dense) -> FloatArray:
    """Weights with a column for each output channel."""
    return layer.weight if isinstance(layer, Dense) else layer.weight.reshape(len(layer.weight), -1).T


def patches(layer: Conv | Dense, read: FloatArray, most: int) -> FloatArray:
    """Rows that a layer multiplies with the columns of ``matrix_of``, at even distances, [groups, rows, K].

    Args:
        layer: The layer.
        read: The tensor that it reads, [N, K], or [N, C, H, W] of a convolution.
        most: Rows that are taken at most.
    """
    if isinstance(layer, Dense):
        rows = read.reshape(-1, layer.weight.shape[0])
        return np.asarray(rows[:: -(-len(rows) // most)][None])
    window = layer.window
    above, left, below, right = window.pads
    padded = np.pad(read, ((0, 0), (0, 0), (above, below), (left, right)))
    views = np.lib.stride_tricks.sliding_window_view(padded, window.reach, axis=(2, 3))
    steps = (*window.strides, *window.dilations)
    views = views[:, :, :: steps[0], :: steps[1], :: steps[2], :: steps[3]]
    samples, channels, height, width = views.shape[:4]
    count = samples * height * width
    places = np.unravel_index(np.arange(0, count, -(-count // most)), (samples, height, width))
    taken = views[places[0], :, places[1], places[2]]
    of_groups = taken.reshape(len(taken), layer.groups, channels // layer.groups * window.taps)
    return np.asarray(of_groups.transpose(1, 0, 2))


def rounded_weights(
    layer: Conv | Dense,
    rows: ActivationRange,
    choice: WeightChoice,
    rounded: Callable[[WeightChoice, int], LayerWeights],
) -> LayerWeights:
    """A layer's integers, whose products float32 adds without rounding, as onnxruntime does.

    Args:
        layer: The layer.
        rows: Range of what it reads.
        choice: Widths and method.
        rounded: Its integers by a choice with most bits of a free scale's multiplier.

    Raises:
        WidthsUnsupportedError: As ``rounded_layer``.
    """
    peak = max(rows.highest, -rows.lowest)
    significance, nearest = LARGEST_SIGNIFICANCE, replace(choice, method="nearest")
    if choice == nearest:
        return _shortened(as_dense(layer), rounded(choice, significance), peak, rows.scale)
    if choice.kinds[0] < POWER_OF_TWO_BITS:
        # Sums are nearly those of integers rounded to nearest, which take a fraction of the time.
        significance = _significance(layer, rounded(nearest, significance), peak, rows.scale)
    while True:
        found = rounded(choice, significance)
        spare = _significance(layer, found, peak, rows.scale)
        if spare >= significance:
            return found
        significance = spare


def _significance(layer: Conv | Dense, found: LayerWeights, peak: int, scale: float) -> int:
    """Most bits of free multipliers, 1 to ``LARGEST_SIGNIFICANCE``, that sums with these integers leave room for."""
    spares = [
        spare_bits(part, peak, None if layer.bias is None else layer.bias[place], scale)
        for place, part in found.runs()
        if part.bits < POWER_OF_TWO_BITS
    ]
    return max(min([*spares, LARGEST_SIGNIFICANCE]), 1)


def as_dense(layer: Conv | Dense) -> Dense:
    """The layer as one with ``matrix_of`` it."""
    return Dense(layer.output, layer.input, matrix_of(layer), layer.bias)


def _shortened(layer: Dense, found: LayerWeights, peak: int, scale: float) -> LayerWeights:
    """Weights rounded to nearest again where their multipliers are too long."""
    parts = [
        exact_in_float32(layer.weight[:, at], part, peak, None if layer.bias is None else layer.bias[at], scale)
        for at, part in found.runs()
    ]
    return replace(found, parts=tuple(parts))
