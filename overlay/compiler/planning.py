# SPDX-License-Identifier: Apache-2.0
"""Plans each layer: formats of its operands, its cuts, and whether its result is stored two channels a byte."""

import bisect
import itertools
import math
from dataclasses import dataclass
from typing import TypedDict

import numpy as np

from hetfab.overlay.compiler.attention_passes import pass_channels
from hetfab.overlay.compiler.edge_reads import target_beats
from hetfab.overlay.compiler.lowered import SCORE_BITS, DenseTerm, IntArray, LoweredLayer, LoweredModel, Stored
from hetfab.overlay.compiler.operands import GEMM_D, GEMM_L, NOT_ON_L, Operands, operands_of
from hetfab.overlay.compiler.tiling import LayerShape, Tile, choose_tile, stored_row_bytes
from hetfab.overlay.design import Geometry
from hetfab.overlay.errors import DesignTooSmallError
from hetfab.overlay.isa.spec import isa
from hetfab.overlay.layouts import blocks_of, stored_bits

_BLOCK = isa().block_bytes
_LARGEST_ROWS = isa().operation("matmul").field("rows").largest
_ATTEND_WORDS = isa().size("attend_words")


@dataclass(frozen=True, eq=False)
class StepSource:
    """Where the input channels of a step are in DRAM.

    Attributes:
        tensor: What holds them.
        offset: Of the first one in a row, in bytes.
        stride_blocks: Distance of two rows.
    """

    tensor: Stored
    offset: int
    stride_blocks: int


@dataclass(frozen=True, eq=False)
class PlannedLayer:
    """A layer and how it is cut and stored.

    Attributes:
        layer: What it computes.
        operands: Formats of its dense term, None without one.
        tile: Its cuts.
        packed_output: Whether its output is stored two channels a byte.
    """

    layer: LoweredLayer
    operands: Operands | None
    tile: Tile
    packed_output: bool

    @property
    def output_bits(self) -> int:
        """Bits that an output value takes in DRAM."""
        return stored_bits(self.layer.output.bits, self.packed_output)

    @property
    def input_blocks(self) -> int:
        """Length of a row of the dense term's input in blocks."""
        if self.layer.product is None or self.operands is None:
            return 0
        return blocks_of(-(-self.layer.product.inputs * self.operands.activation_bits // 8))

    def source(self, product: DenseTerm, step: int) -> "StepSource":
        """Where the input channels of a step are."""
        blocks = self._row_blocks(product)
        starts = [0, *itertools.accumulate(blocks)]
        first = step * self.tile.step_bytes // _BLOCK
        number = bisect.bisect_right(starts, first) - 1
        return StepSource(product.reads[number], (first - starts[number]) * _BLOCK, blocks[number])

    def _row_blocks(self, product: DenseTerm) -> list[int]:
        """Length of a row of each tensor that a product reads, in blocks."""
        return [self.input_blocks] if not product.parts else [length // _BLOCK for length in product.lengths]

    def weight_bits_on_cores(self) -> dict[str, IntArray]:
        """Widths of the weights of the output channels on each core, pass by pass."""
        bits = np.zeros(0, np.int64) if self.layer.product is None else self.layer.product.weight_bits
        starts = [(one.first, one.first + one.on_d, one.first + one.count) for one in self.tile.passes]
        return {
            GEMM_D: np.concatenate([bits[first:middle] for first, middle, _ in starts]),
            GEMM_L: np.concatenate([bits[middle:last] for _, middle, last in starts]),
        }

    def step_blocks(self, step: int) -> int:
        """Blocks of a row in a step over the input channels."""
        whole = self.tile.step_bytes // _BLOCK
        return min(whole, self.input_blocks - step * whole)

    @property
    def steps(self) -> int:
        """Steps over the input channels."""
        return -(-self.input_blocks * _BLOCK // self.tile.step_bytes)


def plan_layers(
    lowered: LoweredModel, geometry: Geometry, share_on_d: float | None = None, *, any_order: bool = False
) -> tuple[PlannedLayer, ...]:
    """Formats and cuts of all layers.

    Args:
        lowered: The layers.
        geometry: The design's geometry.
        share_on_d: Of each layer's output channels, what GEMM-D gets, 0 to 1; None for the fastest split.
        any_order: Whether to plan each layer as if its output channels could be rearranged for it alone.

    Raises:
        OverflowPossibleError: As ``operands_of``.
        DesignTooSmallError: As ``choose_tile``.
    """
    planner = _Planner(geometry, share_on_d, any_order, set(lowered.packed))
    return tuple(planner.plan(layer) for layer in lowered.layers)


class _Limits(TypedDict):
    """Members of ``LayerShape`` that most layers leave as they are."""

    pass_channels: int
    normalized: bool
    whole: bool
    one_core: bool
    most_rows: int


@dataclass(frozen=True, eq=False)
class _Planner:
    """What the plans of all layers share; ``packed`` holds the names of packed tensors, as far as is known."""

    geometry: Geometry
    share_on_d: float | None
    any_order: bool
    packed: set[str]

    def plan(self, layer: LoweredLayer) -> PlannedLayer:
        """Chooses formats and cuts of a layer.

        A pass ends with a block of the output row, which is twice as many channels when they are packed. Where a
        buffer cannot hold that, the result leaves ``packed``, before its readers are planned.
        """
        name = layer.output.name
        if name in self.packed:
            try:
                return self._plan(layer)
            except DesignTooSmallError:
                self.packed.remove(name)
        return self._plan(layer)

    def _plan(self, layer: LoweredLayer) -> PlannedLayer:
        name, packed_output = layer.output.name, layer.output.name in self.packed
        operands = None
        if layer.product is not None:
            operands = operands_of(layer.product, layer.product.input.name in self.packed, self.geometry, name)
        tile = choose_tile(self._shape(layer, operands, packed_output), self.geometry, name, self.share_on_d)
        return PlannedLayer(layer, operands, tile, packed_output)

    def _shape(self, layer: LoweredLayer, operands: Operands | None, packed_output: bool) -> LayerShape:
        output_bits = stored_bits(layer.output.bits, packed_output)
        channels, aggregated = layer.output.channels, layer.aggregates
        limits = self._limits(layer, output_bits)
        if layer.product is None or operands is None:
            biased = layer.has_parameters
            return LayerShape(0, False, 0, (), False, frozenset(), channels, aggregated, output_bits, biased, **limits)
        planes, cores = operands.planes, operands.cores
        if self.share_on_d is not None and NOT_ON_L in planes:
            # A share holds for layers that both cores can serve.
            cores = frozenset({GEMM_D})
        return LayerShape(
            row_bytes=stored_row_bytes(layer.product.inputs, operands.activation_bits),
            part_bytes=math.gcd(*layer.product.lengths) if layer.product.parts else 0,
            packed=operands.packed,
            slices=operands.slices,
            planes=tuple(sorted(planes)) if self.any_order else planes,
            any_order=self.any_order,
            cores=cores,
            channels=channels,
            aggregated=aggregated,
            output_bits=output_bits,
            biased=True,
            **limits,
        )

    def _limits(self, layer: LoweredLayer, output_bits: int) -> _Limits:
        """What attention, rows of 16 bits and normalization ask of the cuts."""
        channels, lanes = layer.output.channels, self.geometry.lanes
        normalized = layer.normalization is not None
        rows = [self.geometry.norm_words // -(-channels // lanes)] if normalized else []
        attentions = [each.attention for each in layer.aggregations if each.attention is not None]
        alone = normalized or layer.output.bits == SCORE_BITS
        width = channels if alone else pass_channels(attentions, channels, output_bits, self.geometry)
        rows += [_ATTEND_WORDS // max(-(-width // lanes), target_beats(each, channels, width)) for each in attentions]
        return {
            "pass_channels": width if attentions and not alone else 0,
            "normalized": normalized,
            "whole": alone,
            "one_core": alone,
            "most_rows": min([*rows, _LARGEST_ROWS]),
        }
