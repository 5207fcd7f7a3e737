# SPDX-License-Identifier: Apache-2.0
"""Windows that convolutions and pooling slide over an image: sizes, padding, and where exporters leave them open.

The rules are those of ONNX (operators Conv, MaxPool and AveragePool): ``auto_pad`` and ``ceil_mode`` become explicit
padding here, so that nothing behind this module knows them.
"""

import enum
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

#: Rows and columns.
Pair: TypeAlias = tuple[int, int]
#: Above, left, below, right: the order of ONNX.
Padding: TypeAlias = tuple[int, int, int, int]

NO_PADDING: Padding = (0, 0, 0, 0)


class AutoPad(enum.Enum):
    """How ONNX says padding; all but NOTSET leave the numbers to the reader."""

    NOTSET = "NOTSET"
    VALID = "VALID"
    SAME_UPPER = "SAME_UPPER"
    SAME_LOWER = "SAME_LOWER"


@dataclass(frozen=True)
class Window:
    """A window and how it moves.

    Attributes:
        kernel: Its rows and columns of taps.
        strides: Pixels from one position to the next.
        dilations: Pixels from one tap to the next.
        pads: Pixels that the image is padded with.
    """

    kernel: Pair
    strides: Pair = (1, 1)
    dilations: Pair = (1, 1)
    pads: Padding = NO_PADDING

    @property
    def reach(self) -> Pair:
        """Rows and columns from its first tap to its last, both included."""
        rows, columns = (dilation * (taps - 1) + 1 for taps, dilation in zip(self.kernel, self.dilations, strict=True))
        return rows, columns

    @property
    def taps(self) -> int:
        """Number of its taps."""
        return self.kernel[0] * self.kernel[1]

    def positions(self, size: Pair) -> Pair:
        """Rows and columns of its positions on an image of ``size``; not positive where it does not fit."""
        above, left, below, right = self.pads
        padded = size[0] + above + below, size[1] + left + right
        rows, columns = (
            (length - reach) // stride + 1
            for length, reach, stride in zip(padded, self.reach, self.strides, strict=True)
        )
        return rows, columns


def same_padding(window: Window, size: Pair, mode: AutoPad) -> Window:
    """The window with the padding that an ``auto_pad`` other than NOTSET stands for.

    SAME gives ``ceil(size / stride)`` positions; an odd pixel of padding goes below and right (SAME_UPPER) or above
    and left (SAME_LOWER).
    """
    if mode is AutoPad.VALID:
        return Window(window.kernel, window.strides, window.dilations)
    before, after = [], []
    for length, reach, stride in zip(size, window.reach, window.strides, strict=True):
        total = max((-(-length // stride) - 1) * stride + reach - length, 0)
        small, large = total // 2, total - total // 2
        before.append(small if mode is AutoPad.SAME_UPPER else large)
        after.append(large if mode is AutoPad.SAME_UPPER else small)
    return Window(window.kernel, window.strides, window.dilations, (before[0], before[1], after[0], after[1]))


def rounded_up(window: Window, size: Pair) -> Window:
    """The window with as much more padding below and right as ``ceil_mode`` needs for its last position.

    A position that would start in that padding is left out.
    """
    after = []
    for axis in (0, 1):
        before, behind = window.pads[axis], window.pads[axis + 2]
        stride, reach, length = window.strides[axis], window.reach[axis], size[axis]
        positions = -(-(length + before + behind - reach) // stride) + 1
        positions -= (positions - 1) * stride >= length + before
        after.append(max(behind, (positions - 1) * stride + reach - length - before))
    pads = window.pads[0], window.pads[1], after[0], after[1]
    return Window(window.kernel, window.strides, window.dilations, pads)


def divisors(window: Window, size: Pair, counted: Padding) -> npt.NDArray[np.int64]:
    """How many taps of each position an average divides by, int64 [rows, columns].

    Args:
        window: The window, with all its padding.
        size: Rows and columns of the image.
        counted: Padding whose pixels count as zeros; taps beyond it do not count.
    """
    numbers = []
    for axis, positions in enumerate(window.positions(size)):
        starts = np.arange(positions)[:, None] * window.strides[axis] - window.pads[axis]
        taps = starts + np.arange(window.kernel[axis]) * window.dilations[axis]
        inside = (taps >= -counted[axis]) & (taps < size[axis] + counted[axis + 2])
        numbers.append(inside.sum(axis=1))
    return np.asarray(np.outer(*numbers), dtype=np.int64)
