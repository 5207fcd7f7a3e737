# SPDX-License-Identifier: Apache-2.0
"""Convolutional networks of integer layers, written layer by layer, with random weights."""

from dataclasses import replace

import numpy as np

from hetfab.overlay.isa.arithmetic import Integers
from hetfab.overlay.model.cnn.integer import (
    Average,
    Ending,
    Finish,
    IntegerCnn,
    IntegerLayer,
    Largest,
    Product,
    Stored,
    Sum,
)
from hetfab.overlay.model.cnn.window import Window

_REQUANTIZED = Finish(Ending.REQUANTIZE, 0, 0, True, 255)
_COMBINED = Finish(Ending.COMBINE, 0, 8, True, 255)
_ACCUMULATED = Finish(Ending.EXPORT_ACCUMULATORS, 0, 0, False, 0)
_Q8_BITS = 8
_MULTIPLIER_BITS = 15
#: The largest magnitude of weights of 8 bits.
_MOST = 127


def square(kernel: int, stride: int = 1, pad: int = 0) -> Window:
    """A window as large, as far from the next and padded as much along both axes."""
    return Window((kernel, kernel), (stride, stride), (1, 1), (pad, pad, pad, pad))


class IntegerBuilder:
    """Builds a network; methods take and return stored tensors, of unsigned bytes.

    Args:
        shape: Of the samples: rows, columns, channels.
    """

    def __init__(self, shape: tuple[int, int, int]) -> None:
        self.input = Stored("input", shape, 8, False, 0)
        self._random = np.random.default_rng(0)
        self._layers: list[IntegerLayer] = []

    def conv(
        self,
        read: Stored,
        channels: int,
        window: Window,
        *,
        added: Stored | None = None,
        bits: int = 8,
        most: int = _MOST,
    ) -> Stored:
        """A convolution, with a tensor that is added; its weights take ``bits`` bits and are at most ``most``."""
        weight = self._random.integers(-most, most + 1, (*window.kernel, read.shape[-1], channels))
        return self._product(read, weight, window, bits=bits, added=added)

    def depthwise(self, read: Stored) -> Stored:
        """A convolution of each channel with three by three weights."""
        channels = read.shape[-1]
        weight = self._random.integers(-_MOST, _MOST + 1, (3, 3, 1, channels))
        return self._product(read, weight, square(3, pad=1), groups=channels)

    def _product(
        self,
        read: Stored,
        weight: Integers,
        window: Window,
        *,
        bits: int = 8,
        groups: int = 1,
        added: Stored | None = None,
    ) -> Stored:
        channels, size = weight.shape[-1], window.positions((read.shape[0], read.shape[1]))
        output = self._stored((*size, channels))
        # Results spread over most of the range; the multiplier has 16 bits.
        spread = float(np.sqrt(np.prod(weight.shape[:3])) * np.abs(weight).max())
        shift = _MULTIPLIER_BITS + int(np.log2(spread))
        self._layers.append(
            Product(
                output=output,
                input=read,
                weight=weight,
                weight_bits=np.full(channels, bits),
                bias=np.asarray(self._random.integers(-1000, 1000, channels)),
                window=window,
                groups=groups,
                multiplier=np.full(channels, round(2**shift / spread)),
                shift=shift - (0 if added is None else _Q8_BITS),
                residual=added,
                mantissa=1,
                finish=_REQUANTIZED if added is None else _COMBINED,
            )
        )
        return output

    def largest(self, read: Stored, window: Window) -> Stored:
        """The largest pixel of each window."""
        output = self._stored((*window.positions((read.shape[0], read.shape[1])), read.shape[2]))
        self._layers.append(Largest(output, read, window))
        return output

    def mean(self, read: Stored) -> Stored:
        """The mean over the image, as an image of one pixel."""
        rows, columns, channels = read.shape
        output = self._stored((1, 1, channels))
        finish = replace(_COMBINED, rectified=False)
        self._layers.append(Average(output, read, Window((rows, columns)), np.array([[rows * columns]]), finish))
        return output

    def add(self, left: Stored, right: Stored) -> Stored:
        """Two tensors of one shape, added."""
        output = self._stored(left.shape)
        self._layers.append(Sum(output, left, right, _COMBINED))
        return output

    def finish(self, read: Stored, classes: int = 4) -> IntegerCnn:
        """The network whose logits a dense layer computes of all pixels."""
        output = Stored("logits", (classes,), 32, True, 0)
        weight = self._random.integers(-_MOST, _MOST + 1, (1, 1, int(np.prod(read.shape)), classes))
        none, bits = np.zeros(0, np.int64), np.full(classes, 8)
        bias = np.zeros(classes, np.int64)
        self._layers.append(Product(output, read, weight, bits, bias, None, 1, none, 0, None, 1, _ACCUMULATED))
        tensors = [self.input, *(layer.output for layer in self._layers)]
        return IntegerCnn(self.input, tuple(self._layers), {one.name: one for one in tensors}, output, 0)

    def _stored(self, shape: tuple[int, ...]) -> Stored:
        return Stored(f"t{len(self._layers)}", shape, 8, False, 0)
