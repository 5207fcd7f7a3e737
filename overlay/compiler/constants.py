# SPDX-License-Identifier: Apache-2.0
"""Lays out the constants segment: learned tables, parameters and weight tiles, in the order of their use."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hetfab.overlay import layouts
from hetfab.overlay.compiler.lowered import SCORE_BITS, DenseTerm, LoweredLayer, Stored, Table
from hetfab.overlay.compiler.operands import Operands
from hetfab.overlay.compiler.tiling import ColumnRange, Tile
from hetfab.overlay.design import Geometry
from hetfab.overlay.isa.spec import isa


@dataclass(frozen=True)
class Columns:
    """Output channels of one pass over the rows, and where their numbers are.

    Attributes:
        range: The channels on each core.
        parameters: Offset of bias and multipliers: whole groups of GEMM-D's channels, then GEMM-L's.
        weights: Offset of GEMM-D's weight tile of each step over the input channels.
        planes: Offset of GEMM-L's.
        table: Offset of the rows of weights that AGG gathers, -1 where it gathers none.
    """

    range: ColumnRange
    parameters: int = 0
    weights: tuple[int, ...] = ()
    planes: tuple[int, ...] = ()
    table: int = -1


class Constants:
    """The constants segment: pieces one behind the other, each at a multiple of the block."""

    def __init__(self) -> None:
        self._pieces: list[layouts.Bytes] = []
        self._size = 0

    def content(self) -> layouts.Bytes:
        """The whole segment."""
        return np.concatenate(self._pieces) if self._pieces else np.zeros(0, np.uint8)

    def add_table(self, tensor: Stored, values: layouts.IntArray, packed: bool) -> int:
        """Appends the rows of a constant tensor in the layout 'activations' and returns their offset."""
        if tensor.bits == SCORE_BITS:
            return self.add(layouts.score_rows(values))
        bits = layouts.stored_bits(tensor.bits, packed)
        rows = _padded_rows(values, bits, signed=tensor.signed)
        return self.add((layouts.packed_rows(rows) if packed else rows.view(np.uint8)).reshape(-1))

    def add_weight_rows(self, dense: DenseTerm, *, negated: bool) -> int:
        """Appends weights as rows in the layout 'activations', one for each column of features but the leading ones.

        Args:
            dense: Whose weights.
            negated: Whether rows for negative features follow.
        """
        weight = dense.weight[dense.input.leading :]
        values = np.concatenate([weight, -weight]) if negated else weight
        return self.add(_padded_rows(values, 8, signed=True).view(np.uint8).reshape(-1))

    def add_gathered_columns(self, layer: LoweredLayer, chosen: ColumnRange, table: int, geometry: Geometry) -> Columns:
        """Appends parameters of the output channels of one pass whose sums AGG gathers from ``table``."""
        assert layer.dense is not None
        columns = slice(chosen.first, chosen.first + chosen.count)
        parameters = self._parameters(layer, layer.dense.bias[columns], columns, geometry)
        records = [parameters, *self._normalization(layer, geometry)]
        return Columns(chosen, self.add(np.concatenate(records)), table=table)

    def add_columns(
        self, layer: LoweredLayer, operands: Operands | None, tile: Tile, chosen: ColumnRange, geometry: Geometry
    ) -> Columns:
        """Appends parameters and weight tiles of the output channels of one pass."""
        dense = layer.product
        if dense is None or operands is None:
            return self._sum_columns(layer, chosen, geometry)
        middle = chosen.first + chosen.on_d
        on_d, on_l = slice(chosen.first, middle), slice(middle, middle + chosen.on_l)
        bipolar = chosen.planes == 1
        inputs = 8 * tile.step_bytes // operands.activation_bits
        rows = layouts.padded(dense.inputs, 8 * isa().block_bytes // operands.activation_bits)
        records = [
            self._parameters(layer, operands.bias_on_d(dense, on_d), on_d, geometry),
            self._parameters(layer, operands.bias_on_l(dense, on_l, rows, bipolar=bipolar), on_l, geometry),
        ]
        starts = range(0, rows, inputs)
        steps = [(dense.weight[start : start + inputs], min(inputs, rows - start)) for start in starts]
        weights = [
            self.add(layouts.weight_words(step[:, on_d], geometry.gemm_d_cols, length, packed=operands.packed))
            for step, length in steps
            if chosen.on_d
        ]
        planes = [
            self.add(layouts.plane_words(step[:, on_l], geometry.gemm_l_cols, length, chosen.planes, bipolar=bipolar))
            for step, length in steps
            if chosen.on_l
        ]
        records += self._normalization(layer, geometry)
        return Columns(chosen, self.add(np.concatenate(records)), tuple(weights), tuple(planes))

    def add_function(self, table: Table) -> int:
        """Appends the entries of a function in the layout 'functions'."""
        entries = np.zeros(layouts.padded(table.entries.size, 8 * isa().size("fun_unit")), np.uint8)
        entries[: table.entries.size] = table.entries & 255
        return self.add(entries)

    def _sum_columns(self, layer: LoweredLayer, chosen: ColumnRange, geometry: Geometry) -> Columns:
        """Parameters of output channels that are sums of AGG, if they have some."""
        if not layer.has_parameters:
            return Columns(chosen)
        columns = slice(chosen.first, chosen.first + chosen.count)
        bias = np.zeros(layer.output.channels, np.int64) if layer.bias is None else layer.bias
        records = [self._parameters(layer, bias[columns], columns, geometry), *self._normalization(layer, geometry)]
        return Columns(chosen, self.add(np.concatenate(records)))

    def _normalization(self, layer: LoweredLayer, geometry: Geometry) -> list[layouts.Bytes]:
        """What follows bias and multipliers where rows are normalized."""
        found = layer.normalization
        if found is None:
            return []
        return [
            layouts.gain_records(found.gain, found.offset, geometry.lanes),
            layouts.spread_record(found.epsilon, found.factor if found.centred else 0, geometry.lanes),
        ]

    def _parameters(
        self, layer: LoweredLayer, bias: layouts.IntArray, columns: slice, geometry: Geometry
    ) -> layouts.Bytes:
        multiplier = layer.multiplier[columns] if layer.multiplier.size else np.zeros_like(bias)
        return layouts.parameter_records(bias, multiplier, geometry.lanes)

    def add(self, piece: layouts.Bytes) -> int:
        """Appends bytes and returns their offset."""
        offset = self._size
        padding = -piece.size % isa().block_bytes
        self._pieces += [piece, np.zeros(padding, np.uint8)]
        self._size += piece.size + padding
        return offset


def _padded_rows(values: layouts.IntArray, bits: int, *, signed: bool) -> npt.NDArray[Any]:
    """Rows of integers that take ``bits`` bits each, with zeros up to whole blocks."""
    row_channels = layouts.padded(values.shape[1], 8 * isa().block_bytes // bits)
    rows = layouts.activation_rows(len(values), row_channels, signed)
    rows[: len(values), : values.shape[1]] = values
    return rows
