# SPDX-License-Identifier: Apache-2.0
"""Feature maps in DRAM: the form of each stored tensor, and its place in a segment, which later tensors take over."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hetfab.overlay.isa.codec import Segment
from hetfab.overlay.isa.spec import isa
from hetfab.overlay.isa.words import program_address
from hetfab.overlay.layouts import padded
from hetfab.overlay.model.cnn.integer import Average, IntegerCnn, Largest, Product, Stored, Sum
from hetfab.overlay.model.cnn.interpreter import reads

_BLOCK = isa().block_bytes
_BEAT = isa().size("beat_bytes")
#: A pixel's channels are padded to a multiple of it.
PIXEL_CHANNELS = 32
#: Integers of at most this width can be stored two a byte.
_NIBBLE_BITS = 4


@dataclass(frozen=True)
class FeatureMap:
    """A stored tensor as an image of pixels.

    A row of numbers is an image of one line whose pixels are 32 of its numbers each.

    Attributes:
        name: Of the tensor.
        rows: Lines of pixels.
        columns: Pixels of a line.
        channels: Of a pixel, without those that pad it.
        item_bits: Bits that an integer takes: 4, 8 or 32.
        signed: Whether its integers are signed.
        segment: Where it is.
        offset: First byte in the segment.
        pixel_bytes: Bytes of a pixel.
    """

    name: str
    rows: int
    columns: int
    channels: int
    item_bits: int
    signed: bool
    segment: Segment
    offset: int
    pixel_bytes: int

    @property
    def packed(self) -> bool:
        """Whether two channels share a byte."""
        return self.item_bits == _NIBBLE_BITS

    @property
    def pixel_beats(self) -> int:
        """Beats of a pixel."""
        return self.pixel_bytes // _BEAT

    @property
    def pixel_channels(self) -> int:
        """Channels of a pixel with those that pad it."""
        return 8 * self.pixel_bytes // self.item_bits

    @property
    def row_blocks(self) -> int:
        """Blocks of a line."""
        return -(-self.columns * self.pixel_bytes // _BLOCK)

    @property
    def row_bytes(self) -> int:
        """Bytes of a line."""
        return self.row_blocks * _BLOCK

    @property
    def size_bytes(self) -> int:
        """Bytes of the image."""
        return self.rows * self.row_bytes

    def address(self, row: int, column: int, beat: int = 0) -> int:
        """Program address of a beat of a pixel."""
        place = self.offset + row * self.row_bytes + column * self.pixel_bytes + beat * _BEAT
        return program_address(self.segment, place)


def feature_map(tensor: Stored, item_bits: int, segment: Segment, offset: int = 0) -> FeatureMap:
    """The form of a stored tensor."""
    rows, columns, channels = tensor.shape if len(tensor.shape) == 3 else (1, 1, tensor.shape[0])
    if len(tensor.shape) == 1 and item_bits != tensor.bits:
        rows, columns, channels = 1, -(-channels // PIXEL_CHANNELS), PIXEL_CHANNELS
    pixel_bytes = padded(channels, PIXEL_CHANNELS) * item_bits // 8
    return FeatureMap(
        tensor.name, rows, columns, channels, item_bits, tensor.signed, segment, offset, pixel_bytes
    )
