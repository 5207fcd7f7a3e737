# SPDX-License-Identifier: Apache-2.0
"""Lays out the constants segment: learned tables, parameters and weight tiles, in the order of their use."""

from dataclasses import dataclass

import numpy as np

from hetfab.overlay import layouts
from hetfab.overlay.compiler.lowering import LoweredLayer, Stored
from hetfab.overlay.compiler.tiling import Tile
from hetfab.overlay.design import Geometry
from hetfab.overlay.isa.spec import isa


@dataclass(frozen=True)
class Columns:
    """Output channels of one pass over the rows, and where their numbers are.

    Attributes:
        first: First output channel.
        count: Number of output channels.
        parameters: Offset of bias and multipliers.
        weights: Offset of the weight tile of each step over the input channels.
    """

    first: int
    count: int
    parameters: int
    weights: tuple[int, ...]


class Constants:
    """The constants segment: pieces one behind the other, each at a multiple of the block."""

    def __init__(self) -> None:
        self._pieces: list[layouts.Bytes] = []
        self._size = 0

    def content(self) -> layouts.Bytes:
        """The whole segment."""
        return np.concatenate(self._pieces) if self._pieces else np.zeros(0, np.uint8)

    def add_table(self, tensor: Stored, values: layouts.IntArray) -> int:
        """Appends the rows of a constant tensor in the layout 'activations' and returns their offset."""
        rows = layouts.activation_rows(len(values), layouts.padded(tensor.channels, isa().block_bytes), tensor.signed)
        rows[: len(values), : tensor.channels] = values
        return self._add(rows.view(np.uint8).reshape(-1))

    def add_columns(self, layer: LoweredLayer, tile: Tile, first: int, geometry: Geometry) -> Columns:
        """Appends parameters and weight tiles of the output channels of one pass, from ``first`` on."""
        count = min(tile.columns, layer.output.channels - first)
        if layer.dense is None:
            return Columns(first, count, 0, ())
        chosen = slice(first, first + count)
        multiplier = layer.multiplier[chosen] if layer.multiplier.size else np.zeros(count, np.int64)
        parameters = self._add(layouts.parameter_records(layer.dense.bias[chosen], multiplier, geometry.lanes))
        weights = [
            self._add(layouts.weight_tile(layer.dense.weight[k : k + tile.inputs, chosen], geometry.gemm_cols))
            for k in range(0, layer.dense.weight.shape[0], tile.inputs)
        ]
        return Columns(first, count, parameters, tuple(weights))

    def _add(self, piece: layouts.Bytes) -> int:
        offset = self._size
        padding = -piece.size % isa().block_bytes
        self._pieces += [piece, np.zeros(padding, np.uint8)]
        self._size += piece.size + padding
        return offset
