# SPDX-License-Identifier: Apache-2.0
"""Integer layers of a quantized convolutional network: what runs, with all its numbers, in the overlay's order NHWC.

Weights lie as [kernel rows, kernel columns, inputs, outputs]. Flatten is gone: a dense layer that reads an image has
its rows in the order of the image's bytes, row by row, pixel by pixel, channel by channel.
"""

import enum
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from hetfab.overlay.isa.arithmetic import Integers
from hetfab.overlay.model.cnn.window import Window

_FLOAT32_BITS = 24


class Ending(enum.Enum):
    """How a layer's sums leave; the value is the vector operation's name in the instruction set."""

    REQUANTIZE = "requantize"
    COMBINE = "combine"
    EXPORT_SUMS = "export_sums"
    EXPORT_ACCUMULATORS = "export_accumulators"


@dataclass(frozen=True)
class Stored:
    """A tensor of integers, or the logits.

    Attributes:
        name: Name in the model; of the samples, that of the model's input.
        shape: Of one sample: rows, columns and channels of an image, or the columns of a row.
        bits: 2 to 8, or 32 for logits.
        signed: Whether its integers are signed.
        exponent: The scale is ``mantissa * 2**exponent``.
        mantissa: 1, except where the last layer has a free scale.
    """

    name: str
    shape: tuple[int, ...]
    bits: int
    signed: bool
    exponent: int
    mantissa: int = 1

    @property
    def scale(self) -> float:
        """Value of one step."""
        return math.ldexp(self.mantissa, self.exponent)

    @property
    def lowest(self) -> int:
        """Smallest integer, which stands around an image whose largest pixels are pooled."""
        return -(1 << (self.bits - 1)) if self.signed else 0

    @property
    def highest(self) -> int:
        """Largest integer."""
        return (1 << (self.bits - self.signed)) - 1


@dataclass(frozen=True)
class Finish:
    """What VEC does with sums in accumulators or in Q.8.

    Attributes:
        ending: The operation.
        post_left: Left shift of a sum in Q.8, before ``post_shift``.
        post_shift: Right shift of a sum in Q.8.
        rectified: Whether negative results become 0.
        highest: Largest result: that of the output's width, or less where Clip ends there.
    """

    ending: Ending
    post_left: int
    post_shift: int
    rectified: bool
    highest: int


@dataclass(frozen=True, eq=False)
class Product:
    """A convolution or a dense layer, its bias, and a stored tensor that is added.

    Attributes:
        output: What it writes.
        input: What it reads; an image of a dense layer is one row of all its bytes.
        weight: [kernel rows, kernel columns, inputs / groups, outputs]; [1, 1, inputs, outputs] of a dense layer.
        weight_bits: Width of the weights of each output channel, [outputs], 1 to 8; 1 is bipolar.
        bias: [outputs].
        window: Of a convolution; None of a dense layer.
        groups: Of a convolution.
        multiplier: Of each output channel, [outputs]; empty where accumulators leave.
        shift: To the right, with ``multiplier``; to Q.8 of the scale of ``residual`` where there is one.
        residual: The stored tensor that is added, None without one.
        mantissa: Largest mantissa of a scale of the sums.
        finish: How it ends.
    """

    output: Stored
    input: Stored
    weight: Integers
    weight_bits: Integers
    bias: Integers
    window: Window | None
    groups: int
    multiplier: Integers
    shift: int
    residual: Stored | None
    mantissa: int
    finish: Finish

    @property
    def depthwise(self) -> bool:
        """Whether each output channel reads one input channel of its own."""
        return self.groups > 1 and self.weight.shape[2:] == (1, self.groups)

    @property
    def largest_sum(self) -> int:
        """No sum of products and bias exceeds it, whatever the input."""
        return largest_sum(self.weight, self.bias, self.input)

    @property
    def exact_in_float32(self) -> bool:
        """Whether float32 adds the products without rounding, whatever the input and the order."""
        return self.largest_sum * self.mantissa < 1 << _FLOAT32_BITS


@dataclass(frozen=True, eq=False)
class Average:
    """The mean of each window over its divisor, int64 [rows, columns]."""

    output: Stored
    input: Stored
    window: Window
    divisors: Integers
    finish: Finish


@dataclass(frozen=True)
class Sum:
    """Two stored tensors of one scale, added."""

    output: Stored
    left: Stored
    right: Stored
    finish: Finish


@dataclass(frozen=True)
class Largest:
    """The largest pixel of each window; the output has the input's scale."""

    output: Stored
    input: Stored
    window: Window


IntegerLayer: TypeAlias = Product | Average | Sum | Largest


@dataclass(frozen=True, eq=False)
class IntegerCnn:
    """A quantized convolutional network.

    Attributes:
        input: The samples as integers.
        layers: In topological order.
        stored: All stored tensors by name, the input and the logits among them.
        output: The logits.
        lsb_exponent: The logits' LSB is 2 to this power: the scale of the last stored tensor before them.
    """

    input: Stored
    layers: tuple[IntegerLayer, ...]
    stored: Mapping[str, Stored]
    output: Stored
    lsb_exponent: int

    def products(self) -> Iterator[Product]:
        """The layers with weights, in order."""
        return (layer for layer in self.layers if isinstance(layer, Product))


def largest_sum(weight: Integers, bias: Integers, read: Stored) -> int:
    """The largest magnitude that a sum of products and bias can have.

    Args:
        weight: [..., outputs].
        bias: [outputs].
        read: What is multiplied.
    """
    magnitudes = np.abs(weight).reshape(-1, weight.shape[-1]).sum(axis=0) * max(read.highest, -read.lowest)
    return int((magnitudes + np.abs(bias)).max(initial=0))
