# SPDX-License-Identifier: Apache-2.0
"""ResNet-18 and MobileNetV2 as integer layers with seeded weights, without quantizing: shapes decide about times.

Inner layers have 4-bit weights and activations, the first and the last one 8-bit weights and what they read 8 bits.
"""

import numpy as np
import numpy.typing as npt

from benchmarks.image_networks import CLASSES, MOBILENET_STAGES
from hetfab.overlay.model.cnn.integer import Average, Ending, Finish, IntegerCnn, IntegerLayer, Largest, Product, Stored
from hetfab.overlay.model.cnn.window import Window


class _Builder:
    """Adds layer after layer; methods take and return stored tensors."""

    def __init__(self, size: int) -> None:
        self._random = np.random.default_rng(0)
        self._layers: list[IntegerLayer] = []
        self.stored: dict[str, Stored] = {}
        self.input = self._store("input", (size, size, 3), 8)

    def conv(
        self,
        read: Stored,
        channels: int,
        kernel: int,
        *,
        stride: int = 1,
        groups: int = 1,
        bits: int = 4,
        out_bits: int = 4,
        residual: Stored | None = None,
    ) -> Stored:
        """A convolution that keeps the size but for its stride; ``residual`` is added."""
        rows, columns, inputs = read.shape
        pad = kernel // 2
        window = Window((kernel, kernel), (stride, stride), (1, 1), (pad, pad, pad, pad))
        output = self._store(f"conv{len(self._layers)}", (*window.positions((rows, columns)), channels), out_bits)
        ending = Ending.REQUANTIZE if residual is None else Ending.COMBINE
        self._layers.append(
            Product(
                output=output,
                input=read,
                weight=self._weights((kernel, kernel, inputs // groups, channels), bits),
                weight_bits=np.full(channels, bits),
                bias=np.zeros(channels, np.int64),
                window=window,
                groups=groups,
                multiplier=np.ones(channels, np.int64),
                shift=8,
                residual=residual,
                mantissa=1,
                finish=Finish(ending, 0, 8, True, output.highest),
            )
        )
        return output

    def largest(self, read: Stored) -> Stored:
        """The largest of 3 x 3 pixels, every second one."""
        window = Window((3, 3), (2, 2), (1, 1), (1, 1, 1, 1))
        output = self._store("pool", (*window.positions((read.shape[0], read.shape[1])), read.shape[2]), read.bits)
        self._layers.append(Largest(output, read, window))
        return output

    def classified(self, read: Stored) -> IntegerCnn:
        """The network, behind a mean over the image and a dense layer."""
        rows, columns, channels = read.shape
        mean = self._store("mean", (1, 1, channels), 8)
        finish = Finish(Ending.COMBINE, 0, 8, False, mean.highest)
        self._layers.append(Average(mean, read, Window((rows, columns)), np.array([[rows * columns]]), finish))
        logits = Stored("logits", (CLASSES,), 32, True, 0)
        self.stored[logits.name] = logits
        self._layers.append(
            Product(
                output=logits,
                input=mean,
                weight=self._weights((1, 1, channels, CLASSES), 8),
                weight_bits=np.full(CLASSES, 8),
                bias=np.zeros(CLASSES, np.int64),
                window=None,
                groups=1,
                multiplier=np.zeros(0, np.int64),
                shift=0,
                residual=None,
                mantissa=1,
                finish=Finish(Ending.EXPORT_ACCUMULATORS, 0, 0, False, (1 << 31) - 1),
            )
        )
        return IntegerCnn(self.input, tuple(self._layers), self.stored, logits, 0)

    def _store(self, name: str, shape: tuple[int, ...], bits: int) -> Stored:
        self.stored[name] = Stored(name, shape, bits, False, 0)
        return self.stored[name]

    def _weights(self, shape: tuple[int, ...], bits: int) -> npt.NDArray[np.int64]:
        limit = (1 << bits - 1) - 1
        return self._random.integers(-limit, limit + 1, shape)


def resnet18(size: int = 224) -> IntegerCnn:
    """ResNet-18 for images of ``size`` x ``size``; He et al., 2016."""
    build = _Builder(size)
    read = build.largest(build.conv(build.input, 64, 7, stride=2, bits=8))
    for channels, first_stride in ((64, 1), (128, 2), (256, 2), (512, 2)):
        for block, stride in enumerate((first_stride, 1)):
            inner = build.conv(read, channels, 3, stride=stride)
            if stride != 1:
                read = build.conv(read, channels, 1, stride=stride)
            last = channels == 512 and block == 1
            read = build.conv(inner, channels, 3, residual=read, out_bits=8 if last else 4)
    return build.classified(read)


def mobilenet_v2(size: int = 224) -> IntegerCnn:
    """MobileNetV2 of width 1 for images of ``size`` x ``size``; Sandler et al., 2018."""
    build = _Builder(size)
    read = build.conv(build.input, 32, 3, stride=2, bits=8)
    for expansion, channels, blocks, first_stride in MOBILENET_STAGES:
        for block in range(blocks):
            stride = first_stride if block == 0 else 1
            hidden = read.shape[2] * expansion
            inner = build.conv(read, hidden, 1) if expansion != 1 else read
            inner = build.conv(inner, hidden, 3, stride=stride, groups=hidden)
            joins = stride == 1 and read.shape[2] == channels
            read = build.conv(inner, channels, 1, residual=read if joins else None)
    return build.classified(build.conv(read, 1280, 1, out_bits=8))
