# SPDX-License-Identifier: Apache-2.0
"""Ends a layer: sums in accumulators or in Q.8 become what VEC does with them, with multipliers and shifts in range."""

from dataclasses import dataclass

import numpy as np

from hetfab.overlay.errors import OperatorsUnsupportedError
from hetfab.overlay.isa.arithmetic import Q8_BITS, Integers
from hetfab.overlay.model.cnn.integer import Average, Ending, Finish, IntegerLayer, Product, Stored, Sum
from hetfab.overlay.model.cnn.window import Window
from hetfab.overlay.model.scales import LARGEST_POST_LEFT, LARGEST_POST_SHIFT, Scales, requantization, scales_too_far

_OUTPUT_BITS = 32


@dataclass(frozen=True, eq=False)
class Accumulators:
    """The sums of a convolution or a dense layer, with the scale of each output channel."""

    read: Stored
    weight: Integers
    weight_bits: Integers
    bias: Integers
    window: Window | None
    groups: int
    scales: Scales
    shape: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Q8Terms:
    """Terms in Q.8 of the scale ``2**exponent``: products, stored tensors, or the average of one."""

    exponent: int
    shape: tuple[int, ...]
    products: Accumulators | None = None
    stored: tuple[Stored, ...] = ()
    average: tuple[Stored, Window, Integers] | None = None


@dataclass(frozen=True, eq=False)
class Rectified:
    """Sums of which negative ones become 0, and those above ``highest``, where there is one, that."""

    value: "Accumulators | Q8Terms"
    highest: float | None


def rounded_layer(value: Accumulators | Q8Terms | Rectified, output: Stored) -> IntegerLayer:
    """The layer that rounds sums to ``output``.

    Raises:
        ModelStructureError: Scales are too far apart.
    """
    highest, rectified = output.highest, isinstance(value, Rectified)
    if isinstance(value, Rectified):
        if value.highest is not None:
            # As Quant rounds the bound: half to even.
            highest = min(highest, int(np.rint(value.highest / output.scale)))
        value = value.value
    if isinstance(value, Accumulators):
        finish = Finish(Ending.REQUANTIZE, 0, 0, rectified, highest)
        return _product(value, output, output.exponent, None, finish)
    distance = output.exponent - (value.exponent - Q8_BITS)
    if not -LARGEST_POST_LEFT <= distance <= LARGEST_POST_SHIFT:
        raise scales_too_far(output.name)
    finish = Finish(Ending.COMBINE, max(0, -distance), max(0, distance), rectified, highest)
    return _sum(value, output, finish)


def _sum(value: Q8Terms, output: Stored, finish: Finish) -> IntegerLayer:
    if value.products is not None:
        return _product(value.products, output, value.exponent - Q8_BITS, value.stored[0], finish)
    if value.average is not None:
        return Average(output, *value.average, finish)
    left, right = value.stored
    return Sum(output, left, right, finish)


def _product(
    sums: Accumulators, output: Stored, target: int | None, residual: Stored | None, finish: Finish
) -> Product:
    """A layer whose sums are brought to the scale ``2**target``, None where they leave as they are."""
    multiplier, shift = np.zeros(0, np.int64), 0
    if target is not None:
        multiplier, shift = requantization(sums.scales, target, output.name)
    mantissa = int(sums.scales.mantissas.max())
    parts = sums.weight, sums.weight_bits, sums.bias, sums.window, sums.groups
    return Product(output, sums.read, *parts, multiplier, shift, residual, mantissa, finish)


def exported_layer(value: object, name: str) -> tuple[IntegerLayer, int]:
    """The layer that writes the logits, and the exponent of their LSB.

    Args:
        value: What is known of the model's output.
        name: The output.

    Raises:
        OperatorsUnsupportedError: It has several scales, or is rounded.
    """
    highest = (1 << (_OUTPUT_BITS - 1)) - 1
    match value:
        case Accumulators(scales=scales) if scales.uniform:
            mantissa, exponent = int(scales.mantissas[0]), int(scales.exponents[0])
            output = Stored(name, value.shape, _OUTPUT_BITS, True, exponent, mantissa)
            finish = Finish(Ending.EXPORT_ACCUMULATORS, 0, 0, False, highest)
            return _product(value, output, None, None, finish), value.read.exponent
        case Q8Terms(exponent=exponent):
            output = Stored(name, value.shape, _OUTPUT_BITS, True, exponent - Q8_BITS)
            return _sum(value, output, Finish(Ending.EXPORT_SUMS, 0, 0, False, highest)), exponent
    raise OperatorsUnsupportedError(
        f"the output '{name}' is neither a sum nor a layer with one scale for all classes",
        "logits at one scale",
        "quantize the float model again with this hetfab",
    )
