# SPDX-License-Identifier: Apache-2.0
"""What a layer asks of both matrix engines, and the least cycles that it takes on them, without running anything.

The cycles are those of the compiler's own estimates (``compiler/tiling.py``, ``compiler/cnn/planning.py``) in the limit
of large tiles: LOAD, both cores, VEC and STORE overlap, and the slowest decides; of the ways to split the output
channels the fastest counts. A network on samples waits for a part of each layer's weights, and brings what both cores
read to each of them. Cycles are never negative.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from hetfab.overlay.compiler.cnn.feature_maps import PIXEL_CHANNELS
from hetfab.overlay.compiler.lowered import LoweredLayer, LoweredModel
from hetfab.overlay.compiler.tiling import stored_row_bytes
from hetfab.overlay.design import Geometry
from hetfab.overlay.layouts import padded, stored_bits
from hetfab.overlay.model.cnn.integer import IntegerCnn, Product

Floats: TypeAlias = npt.NDArray[np.float64]
Integers: TypeAlias = npt.NDArray[np.int64]
_BEAT = 8
_INT32_BITS = 32
_INT32_TRIPS = 4
#: Bits of a weight and of an activation that are stored two a byte.
PACKED_BITS = 4
#: Of a network on samples: the share of a layer's weights that nothing hides, and of what overlaps that still delays;
#: cycles until a layer has begun. From ResNet-18's programs on several designs.
_WAITED, _DELAYING, _BEGINNING = 0.5, 0.04, 1000


@dataclass(frozen=True)
class LayerWork:
    """What a layer with weights asks for.

    Attributes:
        result: What it writes.
        rows: Rows, or pixels, that it computes.
        row_bytes: Bytes of activations that a row reads, in bytes and two a byte.
        channels: Output channels.
        output_bits: Bits that an output value takes.
        moved_bytes: Bytes of activations and results of all rows, in bytes and two a byte.
        weights: Number of weights.
        reach: Largest sum on GEMM-L at 8-bit weights and activations, which limits where it can be computed.
        row_bytes_on_l: As ``row_bytes``, where GEMM-L reads other ones.
        read_bytes: Activations alone, of a network on samples, which each core that has channels is brought.
    """

    result: str
    rows: int
    row_bytes: tuple[int, int]
    channels: int
    output_bits: int
    moved_bytes: tuple[float, float]
    weights: int
    reach: int
    row_bytes_on_l: tuple[int, int] | None = None
    read_bytes: tuple[float, float] | None = None

    def cycles(self, geometry: Geometry, weight_bits: int, packed: bool) -> float:
        """Modelled cycles on a geometry that has both cores.

        Args:
            geometry: The design's.
            weight_bits: Of each weight.
            packed: Whether activations, and weights on GEMM-D, take four bits.
        """
        return float(self.cycles_on([geometry], weight_bits, packed)[0])

    def cycles_on(self, geometries: Sequence[Geometry], weight_bits: int, packed: bool) -> Floats:
        """The same on several, [geometries]."""
        sides = _Sides.of(geometries)
        on_d = self._splits(sides)
        cores = np.maximum(self._d_cycles(on_d, sides, packed), self._l_cycles(on_d, sides, weight_bits, packed))
        weights = self._weight_beats(on_d, weight_bits, packed)
        moved = self.moved_bytes[packed] / _BEAT + weights
        vector = self._vector_cycles(sides)
        if self.read_bytes is None:
            return np.asarray(np.maximum(np.maximum(cores, moved), vector).min(axis=1))
        moved = moved + ((on_d > 0) & (on_d < self.channels)) * self.read_bytes[packed] / _BEAT
        slowest = np.maximum(np.maximum(cores + _WAITED * weights, moved), vector)
        return np.asarray((slowest + _DELAYING * (cores + moved + vector)).min(axis=1)) + _BEGINNING

    def _weight_beats(self, on_d: Integers, weight_bits: int, packed: bool) -> Floats:
        """Beats of all weights: GEMM-D's take 8 bits or 4, GEMM-L's a bit for each plane."""
        bits = on_d * (PACKED_BITS if packed else 8) + (self.channels - on_d) * weight_bits
        return self.weights / self.channels * bits / 8 / _BEAT

    def _splits(self, sides: "_Sides") -> Integers:
        """Channels that GEMM-D may get, [geometries, splits]; the last ones again where others have more splits."""
        most = -(-self.channels // int(sides.lanes.min()))
        return np.asarray(np.minimum(np.arange(most + 1) * sides.lanes, self.channels), np.int64)

    def _d_cycles(self, on_d: Integers, sides: "_Sides", packed: bool) -> Floats:
        """Two trips a beat of a row, or the drain of a block."""
        groups = -(-on_d // sides.d_cols)
        trips = np.maximum(2 * self.row_bytes[packed] / _BEAT, sides.d_rows)
        return np.asarray(groups * (-(-self.rows // sides.d_rows)) * trips, np.float64)

    def _l_cycles(self, on_d: Integers, sides: "_Sides", weight_bits: int, packed: bool) -> Floats:
        """A trip for each slice, word and plane, or the drain of a block; never where sums are too wide."""
        on_l = self.channels - on_d
        groups = -(-on_l // sides.l_cols)
        row_bytes = self.row_bytes_on_l or self.row_bytes
        slices, words = (1, row_bytes[1] / 16) if packed else (2, row_bytes[0] / 32)
        trips = np.maximum(slices * words * weight_bits, sides.l_rows)
        cycles = np.asarray(groups * (-(-self.rows // sides.l_rows)) * trips, np.float64)
        reach = self.reach * 2.0 ** (weight_bits - 8) / (16 if packed else 1)
        return np.where((on_l > 0) & (reach >= 2.0 ** (sides.l_acc_bits - 1)), np.inf, cycles)

    def _vector_cycles(self, sides: "_Sides") -> Floats:
        groups = -(-self.channels // sides.lanes)
        return np.asarray(self.rows * groups * (_INT32_TRIPS if self.output_bits == _INT32_BITS else 1), np.float64)


@dataclass(frozen=True, eq=False)
class _Sides:
    """What decides about cycles of several geometries, each [geometries, 1]."""

    lanes: Integers
    d_rows: Integers
    d_cols: Integers
    l_rows: Integers
    l_cols: Integers
    l_acc_bits: Integers

    @classmethod
    def of(cls, geometries: Sequence[Geometry]) -> "_Sides":
        rows = [
            (g.lanes, g.gemm_d_rows, g.gemm_d_cols, g.gemm_l_rows, g.gemm_l_cols, g.gemm_l_acc_bits) for g in geometries
        ]
        return cls(*np.array(rows, np.int64).T[..., None])


def graph_works(lowered: LoweredModel, counts: Mapping[str, int]) -> dict[str, LayerWork]:
    """The work of each layer with weights of a model on a graph, by what it writes.

    Args:
        lowered: Its layers at 8 bits.
        counts: Vertices of each node type.
    """
    rows = row_counts(lowered, counts)
    return {
        layer.output.name: _of_graph(layer, rows[lowered.node_types[layer.output.name]])
        for layer in lowered.layers
        if layer.dense is not None
    }


def row_counts(lowered: LoweredModel, counts: Mapping[str, int]) -> dict[str, int]:
    """Rows of each node type of a model, stacked ones too.

    Args:
        lowered: Its layers.
        counts: Vertices of each node type of a graph.
    """
    rows = {**counts, **lowered.fixed_counts}
    for stack in lowered.stacks:
        rows[stack.name] = stack.starts(rows)[-1]
    return rows


def _of_graph(layer: LoweredLayer, rows: int) -> LayerWork:
    assert layer.dense is not None
    inputs, channels = layer.dense.inputs, layer.output.channels
    widths = (stored_row_bytes(inputs, 8), stored_row_bytes(inputs, PACKED_BITS))
    output = stored_bits(layer.output.bits, packed=False)
    written = channels * output / 8
    reach = 255 * int(np.abs(layer.dense.weight).sum(axis=0).max(initial=0))
    moved = tuple(rows * (width + written / (1 + number)) for number, width in enumerate(widths))
    return LayerWork(
        layer.output.name, rows, widths, channels, output, (moved[0], moved[1]), layer.dense.weight.size, reach
    )


def image_works(model: IntegerCnn) -> dict[str, LayerWork]:
    """The work of each layer with weights of a network on samples, by what it writes."""
    return {layer.output.name: _of_image(layer, layer.input is model.input) for layer in model.products()}


def _of_image(layer: Product, is_first: bool) -> LayerWork:
    """The first layer's windows are cut out of the samples, whose channels are not padded and always take a byte."""
    lines, taps, inputs, channels = layer.weight.shape
    rows = int(np.prod(layer.output.shape[:-1])) if layer.window is not None else 1
    gathered = is_first and layer.window is not None and inputs < PIXEL_CHANNELS
    pixels = [inputs, inputs] if gathered else [-(-inputs * bits // 64) * _BEAT for bits in (8, PACKED_BITS)]
    widths, on_l = (
        [lines * padded(taps * pixel, unit) if gathered else lines * taps * pixel for pixel in pixels]
        for unit in (_BEAT, 4 * _BEAT)
    )
    read = [_pixels_read(layer, lines) * pixel for pixel in pixels]
    output = stored_bits(layer.output.bits, packed=False)
    written = rows * channels * output / 8 * (2 if layer.residual is not None else 1)
    sums = (np.maximum(sign * layer.weight, 0).sum(axis=(0, 1, 2)) for sign in (1, -1))
    reach = 255 * max(int(each.max(initial=0)) for each in sums)
    return LayerWork(
        layer.output.name,
        rows,
        (widths[0], widths[1]),
        channels,
        output,
        (read[0] + written, read[1] + written / 2),
        layer.weight.size,
        reach,
        (on_l[0], on_l[1]) if gathered else None,
        (read[0], read[1]),
    )


def _pixels_read(layer: Product, lines: int) -> float:
    """Pixels of the lines that windows reach."""
    if layer.window is None:
        return float(np.prod(layer.input.shape[:-1]))
    height, width = layer.input.shape[:2]
    return float(min(height, layer.output.shape[0] * lines) * width)
