# SPDX-License-Identifier: Apache-2.0
"""Rounds the weights of one layer, whose output channels may have several widths, by any method."""

import math
from itertools import groupby

import numpy as np

from hetfab.overlay.errors import WidthsUnsupportedError
from hetfab.overlay.model.layers import Dense
from hetfab.quantize.assignment import WeightChoice
from hetfab.quantize.methods import WEIGHT_METHODS
from hetfab.quantize.methods.layer_problem import LayerInputs, LayerProblem
from hetfab.quantize.weights import (
    LARGEST_SIGNIFICANCE,
    LARGEST_SPREAD,
    LOWEST_EXPONENT,
    FloatArray,
    LayerWeights,
    QuantizedWeights,
)


def rounded_layer(
    layer: Dense,
    choice: WeightChoice,
    *inputs: LayerInputs,
    shared_scale: bool = False,
    significance: int = LARGEST_SIGNIFICANCE,
) -> LayerWeights:
    """Rounds a layer's weights; channels of one width are one problem.

    Args:
        layer: The layer.
        choice: Widths and method.
        inputs: What it reads; of a layer in groups, what each group of as many output channels reads.
        shared_scale: One scale for all channels.
        significance: Most bits of a free scale's multiplier.

    Raises:
        WidthsUnsupportedError: The channels of a last layer have several widths, or there are not as many widths.
    """
    widths = choice.widths(layer.weight.shape[1])
    kinds = sorted(set(widths))
    if shared_scale and len(kinds) > 1:
        raise WidthsUnsupportedError(
            f"several widths for '{layer.output}', whose channels are the logits",
            "one width, since logits have one scale",
            "give the last layer one width",
        )
    # Rounding to nearest looks at no inputs, and one scale is one for all groups.
    together = choice.method == "nearest" or shared_scale
    groups = np.zeros(len(widths), np.int64) if together else np.arange(len(widths)) * len(inputs) // len(widths)
    method = WEIGHT_METHODS["nearest" if together and len(inputs) > 1 else choice.method]
    lowest = LOWEST_EXPONENT if len(kinds) == 1 and not groups.any() else _lowest_exponent(layer.weight, kinds[0])
    integers = np.zeros(layer.weight.shape, np.int64)
    mantissas, exponents = np.ones((2, len(widths)), np.int64)
    narrow = dict.fromkeys(kinds, True)
    for bits, group in sorted(set(zip(widths, groups.tolist(), strict=True))):
        columns = np.flatnonzero((np.array(widths) == bits) & (groups == group))
        problem = LayerProblem(layer.weight[:, columns], bits, inputs[group], shared_scale, significance, lowest)
        found = method(problem)
        integers[:, columns], mantissas[columns], exponents[columns] = found.integers, found.mantissas, found.exponents
        narrow[bits] &= found.narrow
    parts, first = [], 0
    for bits, run in groupby(widths):
        end = first + len(list(run))
        place = slice(first, end)
        parts.append(QuantizedWeights(integers[:, place], mantissas[place], exponents[place], bits, narrow[bits]))
        first = end
    return LayerWeights(tuple(parts))


def _lowest_exponent(weight: FloatArray, narrowest: int) -> int:
    """The smallest exponent that stays within a layer's spread, whatever scales its widths get."""
    largest = float(np.abs(weight).max(initial=0.0)) / max((1 << (narrowest - 1)) - 1, 1)
    return (math.ceil(math.log2(largest)) if largest > 0.0 else 0) - LARGEST_SPREAD
