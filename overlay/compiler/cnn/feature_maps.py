# SPDX-License-Identifier: Apache-2.0
"""Feature maps in DRAM as images of pixels: the sizes and addresses that instructions need."""

from dataclasses import dataclass

from hetfab.overlay.isa.codec import Segment
from hetfab.overlay.isa.spec import isa
from hetfab.overlay.isa.words import program_address

_BLOCK = isa().block_bytes
_BEAT = isa().size("beat_bytes")
#: A pixel's channels are padded to a multiple of it.
PIXEL_CHANNELS = 32


@dataclass(frozen=True)
class FeatureMap:
    """A stored tensor as an image of pixels.

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
        row_blocks: Blocks of a line.
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
    row_blocks: int

    @property
    def packed(self) -> bool:
        """Whether two channels share a byte."""
        return self.item_bits == 4

    @property
    def pixel_beats(self) -> int:
        """Beats of a pixel."""
        return self.pixel_bytes // _BEAT

    @property
    def pixel_channels(self) -> int:
        """Channels of a pixel with those that pad it."""
        return 8 * self.pixel_bytes // self.item_bits

    def address(self, row: int, column: int, beat: int = 0) -> int:
        """Program address of a beat of a pixel."""
        place = self.offset + row * self.row_blocks * _BLOCK + column * self.pixel_bytes + beat * _BEAT
        return program_address(self.segment, place)
