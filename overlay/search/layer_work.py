# SPDX-License-Identifier: Apache-2.0
"""What a layer asks of both matrix engines, and the least cycles that it takes on them, without running anything.

The cycles are those of the compiler's own estimates (``compiler/tiling.py``, ``compiler/cnn/planning.py``) in the limit
of large tiles: LOAD, both cores, VEC and STORE overlap, and the slowest decides; of the ways to split the output
channels the fastest counts. So they fall or stay where a memory grows, and are never negative.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hetfab.overlay.compiler.lowered import LoweredLayer, LoweredModel
from hetfab.overlay.compiler.tiling import stored_row_bytes
from hetfab.overlay.design import Geometry
from hetfab.overlay.layouts import stored_bits
from hetfab.overlay.model.cnn.integer import IntegerCnn, Product

_BEAT = 8
_INT32_BITS = 32
_INT32_TRIPS = 4
#: Bits of a weight and of an activation that are stored two a byte.
PACKED_BITS = 4


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
    """

    result: str
    rows: int
    row_bytes: tuple[int, int]
    channels: int
    output_bits: int
    moved_bytes: tuple[float, float]
    weights: int
    reach: int

    def cycles(self, geometry: Geometry, weight_bits: int, packed: bool) -> float:
        """Modelled cycles on a geometry that has both cores.

        Args:
            geometry: The design's.
            weight_bits: Of each weight.
            packed: Whether activations, and weights on GEMM-D, take four bits.
        """
        on_d = self._splits(geometry)
        times = np.maximum(self._d_cycles(on_d, geometry, packed), self._l_cycles(on_d, geometry, weight_bits, packed))
        stored = self.weights * (weight_bits if weight_bits < PACKED_BITS else (PACKED_BITS if packed else 8)) / 8
        moved = (self.moved_bytes[packed] + stored) / _BEAT
        return float(max(times.min(), self._vector_cycles(geometry), moved))

    def _splits(self, geometry: Geometry) -> npt.NDArray[np.int64]:
        """Channels that GEMM-D may get."""
        return np.append(np.arange(0, self.channels, geometry.lanes), self.channels)

    def _d_cycles(self, on_d: npt.NDArray[np.int64], geometry: Geometry, packed: bool) -> npt.NDArray[np.float64]:
        """Two trips a beat of a row, or the drain of a block."""
        groups = -(-on_d // geometry.gemm_d_cols)
        trips = max(2 * self.row_bytes[packed] / _BEAT, geometry.gemm_d_rows)
        return np.asarray(groups * (-(-self.rows // geometry.gemm_d_rows)) * trips, np.float64)

    def _l_cycles(
        self, on_d: npt.NDArray[np.int64], geometry: Geometry, weight_bits: int, packed: bool
    ) -> npt.NDArray[np.float64]:
        """A trip for each slice, word and plane, or the drain of a block; never where sums are too wide."""
        on_l = self.channels - on_d
        groups = -(-on_l // geometry.gemm_l_cols)
        slices, words = (1, self.row_bytes[1] / 16) if packed else (2, self.row_bytes[0] / 32)
        trips = max(slices * words * weight_bits, geometry.gemm_l_rows)
        cycles = np.asarray(groups * (-(-self.rows // geometry.gemm_l_rows)) * trips, np.float64)
        reach = self.reach * 2.0 ** (weight_bits - 8) / (16 if packed else 1)
        return np.where(on_l > 0, np.inf, cycles) if reach >= 1 << geometry.gemm_l_acc_bits - 1 else cycles

    def _vector_cycles(self, geometry: Geometry) -> float:
        groups = -(-self.channels // geometry.lanes)
        return float(self.rows * groups * (_INT32_TRIPS if self.output_bits == _INT32_BITS else 1))


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
    return {layer.output.name: _of_image(layer) for layer in model.products()}


def _of_image(layer: Product) -> LayerWork:
    lines, taps, inputs, channels = layer.weight.shape
    rows = int(np.prod(layer.output.shape[:-1])) if layer.window is not None else 1
    pixels = [-(-inputs * bits // 64) * _BEAT for bits in (8, PACKED_BITS)]
    widths = lines * taps * pixels[0], lines * taps * pixels[1]
    read = [float(np.prod(layer.input.shape[:-1])) * pixel for pixel in pixels]
    output = stored_bits(layer.output.bits, packed=False)
    written = rows * channels * output / 8 * (2 if layer.residual is not None else 1)
    reach = 255 * int(np.abs(layer.weight).sum(axis=(0, 1, 2)).max(initial=0))
    moved = read[0] + written, read[1] + written / 2
    return LayerWork(layer.output.name, rows, widths, channels, output, moved, layer.weight.size, reach)
