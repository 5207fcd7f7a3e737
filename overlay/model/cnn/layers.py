# SPDX-License-Identifier: Apache-2.0
"""Typed layers of a float convolutional network, as ONNX has them: NCHW, shapes of one sample."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from hetfab.overlay.model.cnn.window import Window
from hetfab.overlay.model.layers import Add, Dense, FloatArray, Relu

#: Of one sample: channels, rows and columns of an image, or the columns of a row.
Shape: TypeAlias = tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Conv:
    """A convolution; weight [O, I / groups, kernel rows, kernel columns], bias [O] or None."""

    output: str
    input: str
    weight: FloatArray
    bias: FloatArray | None
    window: Window
    groups: int

    @property
    def depthwise(self) -> bool:
        """Whether each output channel reads one input channel of its own."""
        return self.groups > 1 and self.weight.shape[:2] == (self.groups, 1)


@dataclass(frozen=True, eq=False)
class BatchNorm:
    """``output = input * factor + offset``, channel by channel; factor and offset [C]."""

    output: str
    input: str
    factor: FloatArray
    offset: FloatArray


@dataclass(frozen=True)
class MaxPool:
    """The largest pixel of each window, channel by channel; padding never is the largest."""

    output: str
    input: str
    window: Window


@dataclass(frozen=True, eq=False)
class AveragePool:
    """The sum of each window over its divisor, int64 [rows, columns]; padding is zeros.

    A mean over the whole image is one with a window as large as the image.
    """

    output: str
    input: str
    window: Window
    divisors: npt.NDArray[np.int64]


@dataclass(frozen=True)
class Clip:
    """``output = min(max(input, 0), highest)``."""

    output: str
    input: str
    highest: float


@dataclass(frozen=True)
class Flatten:
    """An image as a row, channel by channel, rows of pixels within."""

    output: str
    input: str


Layer: TypeAlias = Conv | Dense | BatchNorm | MaxPool | AveragePool | Add | Relu | Clip | Flatten


@dataclass(frozen=True)
class CnnGraph:
    """A convolutional network as layers, in topological order.

    Attributes:
        layers: The layers.
        shapes: Shape of one sample of each tensor.
        input: Name of the model's one input.
        output: Name of its one output.
    """

    layers: tuple[Layer, ...]
    shapes: Mapping[str, Shape]
    input: str
    output: str

    def producer(self, tensor: str) -> Layer | None:
        """The layer that computes a tensor, None for the input."""
        return next((layer for layer in self.layers if layer.output == tensor), None)

    def consumers(self, tensor: str) -> list[Layer]:
        """Layers that read a tensor."""
        return [layer for layer in self.layers if tensor in inputs_of(layer)]

    def products(self) -> Iterator[Conv | Dense]:
        """The layers with weights, in order."""
        return (layer for layer in self.layers if isinstance(layer, Conv | Dense))


def inputs_of(layer: Layer) -> tuple[str, ...]:
    """Tensors that a layer reads."""
    return (layer.left, layer.right) if isinstance(layer, Add) else (layer.input,)


def multiplies(layer: Conv | Dense, graph: CnnGraph) -> int:
    """Multiplications of a layer with weights, for one sample."""
    positions = graph.shapes[layer.output][1:]
    return int(layer.weight.size * np.prod(positions, dtype=np.int64))
