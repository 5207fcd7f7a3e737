# SPDX-License-Identifier: Apache-2.0
"""Images in DRAM: how a program's samples, feature maps and logits lie, and their integers. Only numpy is needed."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hetfab.overlay.isa.arithmetic import Integers

Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Image:
    """A stored tensor of a convolutional network.

    Attributes:
        name: Name in the quantized model; of the samples, the model's input.
        shape: Of one sample: rows, columns and channels, or the columns of a row.
        bits: Width of its integers.
        signed: Whether they are signed.
        scale: Value of one step.
        segment: Segment that holds it.
        offset: Its first byte there.
        item_bits: Bits that an integer takes.
        rows: Lines, with padding that is stored.
        above: Lines of padding before the first one.
        left: Pixels of padding before the first one of a line.
        pixel_bytes: Distance of two pixels.
        row_bytes: Distance of two lines.
        size_bytes: Bytes that it takes.
    """

    name: str
    shape: tuple[int, ...]
    bits: int
    signed: bool
    scale: float
    segment: str
    offset: int
    item_bits: int
    rows: int
    above: int
    left: int
    pixel_bytes: int
    row_bytes: int
    size_bytes: int

    @property
    def pixels(self) -> tuple[int, int, int]:
        """Rows, columns and channels, where a row of numbers is one pixel."""
        rows, columns, channels = self.shape if len(self.shape) == 3 else (1, 1, self.shape[0])
        return rows, columns, channels


def image_bytes(image: Image, values: Integers) -> Bytes:
    """The bytes of an image whose integers take a byte each.

    Args:
        image: Where they lie.
        values: int64, of the image's shape.
    """
    rows, columns, channels = image.pixels
    content = np.zeros(image.size_bytes, np.uint8)
    places = _places(image, content)
    places[image.above : image.above + rows, :columns, :channels] = values.reshape(rows, columns, channels) & 0xFF
    return content


def image_values(image: Image, content: Bytes) -> Integers:
    """The integers of an image, int64 of its shape.

    Args:
        image: Where they lie.
        content: The segment's bytes.
    """
    rows, columns, channels = image.pixels
    stored = _places(image, content[image.offset :])[image.above : image.above + rows, :columns]
    if image.item_bits == 4:
        values = np.stack([stored & 15, stored >> 4], axis=-1).reshape(rows, columns, -1).astype(np.int64)
        values = np.where(values > 7, values - 16, values) if image.signed else values
    elif image.item_bits == 8:
        values = np.ascontiguousarray(stored).view(np.int8 if image.signed else np.uint8).astype(np.int64)
    else:
        values = np.ascontiguousarray(stored).view("<i4").astype(np.int64)
    return np.asarray(values[..., :channels].reshape(image.shape))


def _places(image: Image, content: Bytes) -> Bytes:
    """The bytes of each pixel, a view uint8 [rows with padding, columns, pixel bytes], from the first column on."""
    _, columns, _ = image.pixels
    shape = image.rows, columns, image.pixel_bytes
    start = content[image.left * image.pixel_bytes :]
    return np.lib.stride_tricks.as_strided(start, shape, (image.row_bytes, image.pixel_bytes, 1))
