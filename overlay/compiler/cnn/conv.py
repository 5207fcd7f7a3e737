# SPDX-License-Identifier: Apache-2.0
"""Convolutions and dense layers as the cores see them: lines, taps and channels of a pixel, with zeros written out.

A dense layer is the convolution of one window over the whole image; a row of numbers is an image of one line. Dilations
and groups become zeros between and beside the weights, which is exact.
"""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from hetfab.overlay.compiler.cnn.feature_maps import PIXEL_CHANNELS, FeatureMap
from hetfab.overlay.isa.arithmetic import Integers
from hetfab.overlay.model.cnn.integer import Finish, Product
from hetfab.overlay.model.cnn.window import Window


@dataclass(frozen=True, eq=False)
class Conv:
    """A convolution.

    Attributes:
        index: Number of the layer.
        source: What it reads.
        target: What it writes.
        residual: What is added, None without.
        weight: [lines, taps, channels, outputs], int64, dilation and groups written out.
        weight_bits: Of each output channel; 1 where all weights are -1 or 1.
        bias: [outputs].
        multiplier: [outputs]; empty where accumulators leave.
        shift: Of the requantization.
        finish: How it ends.
        strides: Lines and pixels from one window to the next.
        above: Lines of padding.
        left: Pixels of padding.
        gathered: Whether the source is the samples, whose padding is stored and whose channels are not padded.
    """

    index: int
    source: FeatureMap
    target: FeatureMap
    residual: FeatureMap | None
    weight: Integers
    weight_bits: Integers
    bias: Integers
    multiplier: Integers
    shift: int
    finish: Finish
    strides: tuple[int, int]
    above: int
    left: int
    gathered: bool

    @property
    def name(self) -> str:
        """Of the tensor that it writes."""
        return self.target.name

    @property
    def lines(self) -> int:
        """Lines that a window reaches over."""
        return int(self.weight.shape[0])

    @property
    def taps(self) -> int:
        """Pixels of a line that a window reaches over."""
        return int(self.weight.shape[1])

    @property
    def outputs(self) -> int:
        """Output channels."""
        return int(self.weight.shape[3])

    @cached_property
    def signed_sums(self) -> tuple[Integers, Integers]:
        """Of each output channel the sum of its positive weights, and that of its negative ones without their sign."""
        magnitudes, sums = (each.sum(axis=(0, 1, 2)) for each in (np.abs(self.weight), self.weight))
        return (magnitudes + sums) // 2, (magnitudes - sums) // 2

    @property
    def shape(self) -> tuple[object, ...]:
        """All that a plan depends on beside the sums that weights can reach."""
        forms = [
            (one.rows, one.columns, one.item_bits, one.pixel_bytes, one.row_blocks)
            for one in (self.source, self.target, self.residual)
            if one is not None
        ]
        windows = self.weight.shape, self.strides, self.above, self.left, self.gathered
        return *forms, *windows, self.weight_bits.tobytes()


def conv_of(
    layer: Product, index: int, source: FeatureMap, target: FeatureMap, residual: FeatureMap | None, *, gathered: bool
) -> Conv:
    """A layer with weights as a convolution."""
    weight, window = layer.weight, layer.window
    if window is None:
        source = _as_pixels(source) if (source.rows, source.columns) == (1, 1) else source
        weight, window = _over_image(weight[0, 0], source), Window((source.rows, source.columns))
    else:
        weight = _dilated(_ungrouped(weight, layer.groups), window)
    return Conv(
        index=index,
        source=source,
        target=target,
        residual=residual,
        weight=weight,
        weight_bits=_widths(layer.weight_bits, weight, source, gathered=gathered),
        bias=layer.bias,
        multiplier=layer.multiplier,
        shift=layer.shift,
        finish=layer.finish,
        strides=window.strides,
        above=window.pads[0],
        left=window.pads[1],
        gathered=gathered,
    )


def _as_pixels(source: FeatureMap) -> FeatureMap:
    """One long pixel as a line of pixels of 32 channels each: the same bytes."""
    columns = source.pixel_channels // PIXEL_CHANNELS
    return replace(source, columns=columns, channels=PIXEL_CHANNELS, pixel_bytes=source.pixel_bytes // columns)


def _over_image(weight: Integers, source: FeatureMap) -> Integers:
    """Weights [inputs, outputs] of a dense layer as [lines, taps, channels, outputs]."""
    inputs = source.rows * source.columns * source.channels
    rows = np.zeros((inputs, weight.shape[1]), np.int64)
    rows[: len(weight)] = weight
    return rows.reshape(source.rows, source.columns, source.channels, -1)


def _ungrouped(weight: Integers, groups: int) -> Integers:
    """Weights for all input channels, with zeros for those of other groups."""
    if groups == 1:
        return weight
    rows, columns, inputs, outputs = weight.shape
    whole = np.zeros((rows, columns, inputs * groups, outputs), np.int64)
    for group in range(groups):
        written = slice(group * outputs // groups, (group + 1) * outputs // groups)
        whole[:, :, group * inputs : (group + 1) * inputs, written] = weight[..., written]
    return whole


def _dilated(weight: Integers, window: Window) -> Integers:
    if window.dilations == (1, 1):
        return weight
    whole = np.zeros((*window.reach, *weight.shape[2:]), np.int64)
    whole[:: window.dilations[0], :: window.dilations[1]] = weight
    return whole


def _widths(bits: Integers, weight: Integers, source: FeatureMap, *, gathered: bool) -> Integers:
    """Bits of the weights; a bipolar one has no zero, so channels that need some take two bits.

    The bytes behind a gathered window are those of the next pixels, and need zeros too. Padded channels are stored as
    zeros and need none.
    """
    needs_zeros = gathered or bool(np.any(weight == 0))
    return np.where((bits == 1) & needs_zeros, 2, bits)
