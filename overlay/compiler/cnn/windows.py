# SPDX-License-Identifier: Apache-2.0
"""Windows of pooling at the border of an image: positions whose windows meet the image alike are computed together."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from hetfab.overlay.isa.arithmetic import Integers
from hetfab.overlay.model.cnn.window import Window


@dataclass(frozen=True)
class Span:
    """Consecutive positions along one axis whose windows have the same taps on the image.

    Attributes:
        first: First position.
        last: The position behind the last.
        tap: First tap on the image.
        taps: Taps on the image.
    """

    first: int
    last: int
    tap: int
    taps: int


@dataclass(frozen=True)
class Region:
    """Positions of a rectangle, whose windows are alike and, where there is a divisor, have one divisor."""

    rows: Span
    columns: Span
    divisor: int


def regions(window: Window, size: tuple[int, int], divisors: Integers | None = None) -> Iterator[Region]:
    """Rectangles that cover all positions, line by line.

    Args:
        window: The window.
        size: Rows and columns of the image.
        divisors: Of a mean, int64 [rows, columns].
    """
    counts = window.positions(size)
    numbers = np.ones(counts, np.int64) if divisors is None else divisors
    for rows in _spans(window, size, 0, numbers):
        for columns in _spans(window, size, 1, numbers.T):
            yield Region(rows, columns, int(numbers[rows.first, columns.first]))


def _spans(window: Window, size: tuple[int, int], axis: int, numbers: Integers) -> Iterator[Span]:
    """Positions of one axis; ``numbers`` has a row for each."""
    found: Span | None = None
    for position in range(len(numbers)):
        start = position * window.strides[axis] - window.pads[axis]
        taps = [tap for tap in range(window.kernel[axis]) if 0 <= start + tap * window.dilations[axis] < size[axis]]
        first = taps[0] if taps else 0
        alike = found is not None and (found.tap, found.taps) == (first, len(taps))
        if found is not None and alike and np.array_equal(numbers[found.first], numbers[position]):
            found = Span(found.first, position + 1, found.tap, found.taps)
            continue
        if found is not None:
            yield found
        found = Span(position, position + 1, first, len(taps))
    if found is not None:
        yield found
