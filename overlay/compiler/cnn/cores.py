# SPDX-License-Identifier: Apache-2.0
"""What a core makes of a convolution: words of its memories, steps of a block, biases, planes."""

from dataclasses import dataclass

import numpy as np

from hetfab.overlay.compiler.cnn.conv import Conv
from hetfab.overlay.design import Geometry
from hetfab.overlay.isa.arithmetic import Integers, wrap32
from hetfab.overlay.isa.spec import isa
from hetfab.overlay.layouts import Bytes, padded, plane_words, weight_words

_BEAT = 8


@dataclass(frozen=True)
class Core:
    """One of the two cores, with the shapes of its array and memories.

    Attributes:
        on_l: Whether it is GEMM-L.
        rows: Of its array, each with a bank of its activation memory.
        columns: Columns of its array.
        accumulator_bits: Width of its sums.
    """

    on_l: bool
    rows: int
    columns: int
    accumulator_bits: int

    @property
    def letter(self) -> str:
        """In the names of its memories."""
        return "l" if self.on_l else "d"

    @property
    def line_unit(self) -> int:
        """Beats of a word of its activation memory."""
        return 2 if self.on_l else 1

    def strips(self, conv: Conv) -> int:
        """Strips of a tile at most, a bank each: as many as an instruction counts, and their lines with them."""
        load = isa().operation("load_windows" if conv.gathered else "load_lines")
        of_lines = (load.field("lines").largest - conv.lines) // conv.strides[0] + 1
        return max(min(self.rows, load.field("banks").largest, of_lines, self._padded_strips(conv)), 1)

    def _padded_strips(self, conv: Conv) -> int:
        """Strips of a tile at most, so that an instruction counts its lines of padding."""
        most = isa().operation("load_lines").field("top").largest
        if conv.gathered or conv.above <= most:
            return self.rows
        # A load has no more lines of padding than lines; windows of more lines are cut into single ones.
        lines = conv.lines if conv.lines <= most else 1
        return (most - lines) // conv.strides[0] + 1

    def run_beats(self, conv: Conv, taps: int) -> int:
        """Beats of a line that a window takes."""
        if conv.gathered:
            return padded(-(-taps * conv.source.channels // _BEAT), 4 if self.on_l else 1)
        return taps * conv.source.pixel_beats

    def steps(self, conv: Conv, beats: int, planes: int) -> int:
        """Trips of a block over ``beats`` beats of activations: of GEMM-L a trip for each slice, word and plane."""
        return self._words(conv, beats) * planes * slices(conv) if self.on_l else 2 * beats

    def weight_words(self, conv: Conv, beats: int, planes: int) -> int:
        """Words of a group of output channels' weights."""
        return self._words(conv, beats) * planes if self.on_l else 2 * beats

    def run(self, conv: Conv, beats: int) -> int:
        """The field ``run`` of its instruction."""
        return self._words(conv, beats) if self.on_l else beats

    def planes(self, conv: Conv, first: int, last: int) -> int:
        """Bits of the widest weight of some output channels."""
        return int(conv.weight_bits[first:last].max())

    def serves(self, conv: Conv) -> bool:
        """Whether its sums cannot leave its accumulators, whatever the input."""
        return not self.on_l or self.largest_sum(conv) < 1 << self.accumulator_bits - 1

    def largest_sum(self, conv: Conv) -> int:
        """The largest magnitude of a sum on GEMM-L, whose activations are 0 to 15 or 255."""
        taps = conv.lines * conv.taps * conv.source.pixel_channels
        worst = np.where(conv.weight_bits == 1, taps, np.maximum(*conv.signed_sums))
        return int(worst.max()) * ((1 << item_bits(conv)) - 1)

    def bias(self, conv: Conv, first: int, last: int) -> Integers:
        """Bias of output channels, with what makes up for activations whose top bit it flips, int32."""
        bias, weight = conv.bias[first:last], conv.weight[..., first:last]
        positive, negative = (each[first:last] for each in conv.signed_sums)
        sums, half = positive - negative, 1 << item_bits(conv) - 1
        if not self.on_l:
            return wrap32(bias + (0 if conv.source.signed else half * sums))
        bipolar = self.planes(conv, first, last) == 1
        if bipolar:
            padding = conv.source.pixel_channels - weight.shape[2]
            sums = sums + conv.lines * conv.taps * padding
            bias = bias - (2 * half - 1) * (weight < 0).sum(axis=(0, 1, 2))
        return wrap32(bias - (half * sums if conv.source.signed else 0))

    def laid_out(self, conv: Conv, first: int, last: int, lines: slice, taps: slice) -> Bytes:
        """The weights of output channels and of a part of the window, in the order of their use."""
        part = conv.weight[lines, taps, :, first:last]
        beats = self.run_beats(conv, part.shape[1])
        inputs = part.shape[0] * 8 * beats * _BEAT // item_bits(conv)
        bipolar = self.on_l and self.planes(conv, first, last) == 1
        if conv.gathered:
            flat = part.reshape(part.shape[0], -1, part.shape[3])
            wide = np.zeros((part.shape[0], beats * _BEAT, part.shape[3]), np.int8)
        else:
            flat = part
            wide = np.full((*part.shape[:2], conv.source.pixel_channels, part.shape[3]), int(bipolar), np.int8)
        wide[tuple(map(slice, flat.shape))] = flat
        rows = wide.reshape(-1, part.shape[3])
        if self.on_l:
            planes = self.planes(conv, first, last)
            return plane_words(rows, self.columns, inputs, planes, bipolar=bipolar)
        return weight_words(rows, self.columns, inputs, packed=conv.source.packed)

    def _words(self, conv: Conv, beats: int) -> int:
        """Words of 32 channels, GEMM-L's unit."""
        return beats // (2 * slices(conv))


def cores_of(geometry: Geometry) -> tuple[Core, ...]:
    """The cores of a design, GEMM-D first."""
    both = (
        Core(False, geometry.gemm_d_rows, geometry.gemm_d_cols, 32),
        Core(True, geometry.gemm_l_rows, geometry.gemm_l_cols, geometry.gemm_l_acc_bits),
    )
    return tuple(core for core in both if f"gemm_{core.letter}" in geometry.engines)


def slices(conv: Conv) -> int:
    """Slices of 4 bits of an activation on GEMM-L."""
    return 1 if conv.source.packed else 2


def item_bits(conv: Conv) -> int:
    """Bits of an activation as the cores see it."""
    return 4 if conv.source.packed else 8
