# SPDX-License-Identifier: Apache-2.0
"""The instructions of a layer: loads of parameters and weights, AGG's contexts, and what one tile of rows takes.

In a tile LOAD brings activations (and weights, unless one tile of them serves all rows), GEMM-D accumulates over the
tiles of input channels, AGG reduces each edge set, VEC joins and rounds, STORE writes the rows.
"""

from collections.abc import Sequence

from hetfab.overlay.compiler.constants import Columns
from hetfab.overlay.compiler.emitter import Affine, Emitter, slot_of, tensor_address
from hetfab.overlay.compiler.lowering import Aggregation, DenseTerm, LoweredLayer, Stored
from hetfab.overlay.compiler.semaphores import Semaphore
from hetfab.overlay.compiler.tiling import Tile
from hetfab.overlay.design import Geometry
from hetfab.overlay.isa.codec import ReduceMode, Segment
from hetfab.overlay.isa.spec import isa
from hetfab.overlay.isa.words import program_address
from hetfab.overlay.layouts import blocks_of, padded
from hetfab.overlay.program import Symbol, SymbolKind

_BLOCK = isa().block_bytes


class LayerCode:
    """Emits the instructions of layers into an emitter's open block."""

    def __init__(self, emitter: Emitter, geometry: Geometry) -> None:
        self._emitter = emitter
        self._geometry = geometry

    def load_parameters(self, columns: Columns, *, waits: Sequence[Semaphore]) -> None:
        """Bias and multipliers of a pass, to the next slot."""
        self._emitter.take("par_ram")
        records = self._groups(columns) * self._geometry.lanes
        blocks = records * isa().record("parameter").bytes // _BLOCK
        self._copy("load_parameters", "par_ram", columns.parameters, blocks, waits=waits)

    def tile(self, layer: LoweredLayer, tile: Tile, columns: Columns, rows: int | Affine) -> None:
        """All of a tile of ``rows`` rows."""
        if layer.dense is not None:
            self._matmuls(layer.dense, tile, columns, rows)
        if layer.aggregations:
            self._reductions(layer, tile, columns, rows)
        self._vector(layer, columns, rows)
        self._store(layer.output, tile, columns, rows)

    def _copy(
        self,
        operation: str,
        ring: str,
        offset: int,
        blocks: int,
        *,
        waits: Sequence[Semaphore] = (),
        signals: Sequence[Semaphore] = (),
    ) -> None:
        """A contiguous copy from the constants segment to a slot."""
        self._emitter.emit(
            operation,
            {
                "ram": slot_of(ring),
                "rows": 1,
                "row_blocks": blocks,
                "stride_blocks": 0,
                "address": program_address(Segment.CONSTANTS, offset),
            },
            waits=waits,
            signals=signals,
        )

    def load_weights(
        self,
        dense: DenseTerm,
        tile: Tile,
        columns: Columns,
        k_tile: int,
        *,
        signals: Sequence[Semaphore] = (),
    ) -> None:
        """The weight tile of one step over the input channels, to the next slot."""
        inputs = min(tile.inputs, padded(dense.input.channels, _BLOCK) - k_tile * tile.inputs)
        groups = self._col_groups(columns)
        blocks = inputs * groups * self._geometry.gemm_cols // _BLOCK
        self._emitter.take("wgt_ram")
        self._copy("load_weights", "wgt_ram", columns.weights[k_tile], blocks, signals=signals)

    def context(self, slot: int, aggregation: Aggregation, first: int) -> None:
        """Tells AGG where the arrays of an edge set are, and which channels of the features it reads."""
        edges, tensor = aggregation.edges, aggregation.input
        blocks = blocks_of(tensor.channels)
        name = edges.name
        self._emitter.emit(
            "configure_features",
            {
                "slot": slot,
                "row_blocks": blocks,
                "count": Affine(symbol=Symbol(SymbolKind.COUNT, edges.source_type)),
                "address": tensor_address(tensor.name, first),
            },
        )
        self._emitter.emit(
            "configure_destinations",
            {
                "slot": slot,
                "count": Affine(symbol=Symbol(SymbolKind.COUNT, edges.destination_type)),
                "address": Affine(symbol=Symbol(SymbolKind.DESTINATIONS, name)),
            },
        )
        self._emitter.emit(
            "configure_ids",
            {
                "slot": slot,
                "edges": Affine(symbol=Symbol(SymbolKind.EDGES, name)),
                "id_bytes": Affine(symbol=Symbol(SymbolKind.ID_BYTES, name)),
                "address": Affine(symbol=Symbol(SymbolKind.IDS, name)),
            },
        )

    def _matmuls(self, dense: DenseTerm, tile: Tile, columns: Columns, rows: int | Affine) -> None:
        emitter = self._emitter
        row_blocks = padded(dense.input.channels, _BLOCK) // _BLOCK
        emitter.take("acc_ram")
        for k_tile, start in enumerate(range(0, padded(dense.input.channels, _BLOCK), tile.inputs)):
            last = start + tile.inputs >= padded(dense.input.channels, _BLOCK)
            inputs = min(tile.inputs, padded(dense.input.channels, _BLOCK) - start)
            emitter.take("act_ram")
            emitter.emit(
                "load_activations",
                {
                    "ram": slot_of("act_ram"),
                    "rows": rows,
                    "row_blocks": inputs // _BLOCK,
                    "stride_blocks": row_blocks,
                    "address": tensor_address(dense.input.name, start, tile.rows * row_blocks * _BLOCK),
                },
                waits=[Semaphore.ACT_FREE],
                signals=[Semaphore.ACT_FULL] if tile.resident else [],
            )
            if not tile.resident:
                self.load_weights(dense, tile, columns, k_tile, signals=[Semaphore.ACT_FULL])
            emitter.emit(
                "matmul",
                {
                    "act": slot_of("act_ram"),
                    "wgt": slot_of("wgt_ram"),
                    "accumulate": int(start > 0),
                    "unsigned": int(not dense.input.signed),
                    "acc": slot_of("acc_ram"),
                    "rows": rows,
                    "k_words": inputs // self._geometry.gemm_rows,
                    "col_groups": self._col_groups(columns),
                },
                waits=[Semaphore.ACT_FULL, *([Semaphore.ACC_FREE] if start == 0 else [])],
                signals=[Semaphore.ACT_FREE, *([Semaphore.ACC_FULL] if last else [])],
            )

    def _reductions(self, layer: LoweredLayer, tile: Tile, columns: Columns, rows: int | Affine) -> None:
        emitter = self._emitter
        emitter.take("sum_ram")
        many = len(layer.aggregations) > self._geometry.agg_contexts
        for number, aggregation in enumerate(layer.aggregations):
            if many:
                self.context(0, aggregation, columns.first)
            emitter.emit(
                "reduce",
                {
                    "slot": 0 if many else number,
                    "rows": rows,
                    "mode": ReduceMode.MEAN,
                    "unsigned": int(not aggregation.input.signed),
                    "accumulate": int(number > 0),
                    "groups": self._groups(columns),
                    "destination": Affine(0, tile.rows),
                    "sum": slot_of("sum_ram"),
                },
                waits=[Semaphore.SUM_FREE] if number == 0 else [],
                signals=[Semaphore.SUM_FULL] if number == len(layer.aggregations) - 1 else [],
            )

    def _vector(self, layer: LoweredLayer, columns: Columns, rows: int | Affine) -> None:
        emitter = self._emitter
        emitter.take("out_ram")
        available: dict[str, int | Affine] = {
            "acc": slot_of("acc_ram"),
            "sum": slot_of("sum_ram"),
            "relu": int(layer.relu),
            "unsigned": int(not layer.output.signed),
            "with_acc": int(layer.dense is not None),
            "acc_groups": self._col_groups(columns) if layer.dense else 0,
            "out": slot_of("out_ram"),
            "par": slot_of("par_ram"),
            "rows": rows,
            "groups": self._groups(columns),
            "row_blocks": blocks_of(columns.count * layer.output.bits // 8),
            "shift": layer.shift,
            "post_shift": layer.post_shift,
            "post_left": layer.post_left,
        }
        names = {field.name for field in isa().operation(layer.kind.value).fields}
        unread = set() if layer.dense else {"acc", "par"}
        emitter.emit(
            layer.kind.value,
            {name: value for name, value in available.items() if name in names - unread},
            # The last of three goes to a sync: FULL, which nothing else can imply.
            waits=[
                Semaphore.OUT_FREE,
                *([Semaphore.ACC_FULL] if layer.dense else []),
                *([Semaphore.SUM_FULL] if layer.aggregations else []),
            ],
            signals=[
                *([Semaphore.ACC_FREE] if layer.dense else []),
                *([Semaphore.SUM_FREE] if layer.aggregations else []),
                Semaphore.OUT_FULL,
            ],
        )

    def _store(self, output: Stored, tile: Tile, columns: Columns, rows: int | Affine) -> None:
        row_blocks = blocks_of(output.channels * output.bits // 8)
        self._emitter.emit(
            "store_rows",
            {
                "ram": slot_of("out_ram"),
                "rows": rows,
                "row_blocks": blocks_of(columns.count * output.bits // 8),
                "stride_blocks": row_blocks,
                "address": tensor_address(
                    output.name, columns.first * output.bits // 8, tile.rows * row_blocks * _BLOCK
                ),
            },
            waits=[Semaphore.OUT_FULL],
            signals=[Semaphore.OUT_FREE],
        )

    def _groups(self, columns: Columns) -> int:
        return -(-columns.count // self._geometry.lanes)

    def _col_groups(self, columns: Columns) -> int:
        return -(-columns.count // self._geometry.gemm_cols)
