# SPDX-License-Identifier: Apache-2.0
"""Compiles a quantized model for a geometry: tiles each layer, lays out constants and emits blocks of instructions.

A layer is a loop over tiles of rows. In an iteration LOAD brings activations (and weights, unless one tile of them
serves all rows), GEMM-D accumulates over the tiles of input channels, AGG reduces each edge set, VEC joins and rounds,
STORE writes the rows. Engines run ahead of each other as far as rings and queues allow.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hetfab.overlay.compiler.emitter import Affine, Emitter, slot_of, tensor_address
from hetfab.overlay.compiler.lowering import (
    Aggregation,
    DenseTerm,
    LoweredLayer,
    LoweredModel,
    Stored,
    lower,
)
from hetfab.overlay.compiler.semaphores import Milestones, Semaphore
from hetfab.overlay.compiler.tiling import LayerShape, Tile, choose_tile
from hetfab.overlay.design import Design, Geometry
from hetfab.overlay.errors import DesignInvalidError
from hetfab.overlay.isa.codec import Engine, Segment
from hetfab.overlay.isa.spec import isa
from hetfab.overlay.isa.words import program_address
from hetfab.overlay.model.binding import to_json
from hetfab.overlay.model.bound_model import BoundModel
from hetfab.overlay.model.reader import model_hash
from hetfab.overlay.program import (
    Edges,
    LayerInfo,
    Limits,
    Output,
    Part,
    Program,
    Symbol,
    SymbolKind,
    Tensor,
)

#: The reciprocal of a mean has 17 bits and its error is proven up to this degree (docs/arithmetic.md).
LARGEST_DEGREE = 65_535
_BLOCK = isa().block_bytes
_SEGMENTS = {"features": "features", "constant": "constants", "computed": "activations", "output": "output"}
_MEAN_MODE = 1


def compile_model(given: BoundModel, design: Design, *, name: str = "model") -> Program:
    """Compiles a quantized model.

    Args:
        given: What ``quantize`` returns, or a quantized model with its binding in full.
        design: The design to compile for.
        name: Name of the model, for reports.

    Raises:
        InputError: One of the errors of ``lower`` and ``choose_tile``.
        DesignInvalidError: The design lacks an engine that the model needs.
    """
    lowered = lower(given.model, given.bindings)
    _check_engines(lowered, design)
    compiler = _Compiler(lowered, design.geometry)
    compiler.run()
    return Program(
        design=design,
        model_name=name,
        model_hash=model_hash(given.model),
        bindings=to_json(given.bindings),
        layers=tuple(compiler.layers),
        blocks=tuple(compiler.emitter.blocks),
        symbols=tuple(compiler.emitter.symbols),
        rings=compiler.emitter.rings,
        tensors=tuple(compiler.tensors()),
        edges=tuple(compiler.edges.values()),
        output=Output(lowered.output.name, 2.0**lowered.output.exponent, 2.0**lowered.lsb_exponent),
        limits=Limits(LARGEST_DEGREE, dict(lowered.fixed_counts)),
        constants=compiler.constants.content(),
    )


def _check_engines(lowered: LoweredModel, design: Design) -> None:
    needed = {"load", "store", "vec"}
    needed |= {"gemm_d"} if any(layer.dense for layer in lowered.layers) else set()
    needed |= {"agg"} if any(layer.aggregations for layer in lowered.layers) else set()
    missing = sorted(needed - set(design.geometry.engines))
    if missing:
        raise DesignInvalidError(
            f"the design '{design.name}' has no engine {', '.join(missing)}",
            f"a design with the engines {', '.join(sorted(needed))}",
            "choose another design with --design, or leave the option out",
        )


class _Constants:
    """The constants segment: 64-byte aligned pieces one behind the other."""

    def __init__(self) -> None:
        self._pieces: list[npt.NDArray[np.uint8]] = []
        self._size = 0

    def add(self, piece: npt.NDArray[np.uint8]) -> int:
        """Appends a piece and returns its offset."""
        offset = self._size
        padding = -piece.size % _BLOCK
        self._pieces += [piece.reshape(-1), np.zeros(padding, np.uint8)]
        self._size += piece.size + padding
        return offset

    def content(self) -> npt.NDArray[np.uint8]:
        """The whole segment."""
        return np.concatenate(self._pieces) if self._pieces else np.zeros(0, np.uint8)


@dataclass(frozen=True)
class _Columns:
    """Output channels of one pass over the rows."""

    first: int
    count: int
    parameters: int
    weights: tuple[int, ...]


class _Compiler:
    """State of one compilation."""

    def __init__(self, lowered: LoweredModel, geometry: Geometry) -> None:
        self.lowered = lowered
        self.geometry = geometry
        self.emitter = Emitter(geometry)
        self.constants = _Constants()
        self.layers: list[LayerInfo] = []
        self.edges: dict[str, Edges] = {}
        self.constant_offsets: dict[str, int] = {}
        self._tiles = [_tile(layer, geometry) for layer in lowered.layers]
        self._layer_of = {layer.output.name: index for index, layer in enumerate(lowered.layers)}
        self._stored = {
            semaphore: Milestones(self._newest_input(semaphore, layer) for layer in lowered.layers)
            for semaphore in (Semaphore.STORED_FOR_LOAD, Semaphore.STORED_FOR_AGG)
        }
        self._needs = _pass_needs(lowered.layers, self._tiles)
        self._passes = Milestones(self._needs)
        self._pass = 0

    def run(self) -> None:
        """Emits the whole program."""
        for tensor in self.lowered.stored.values():
            if tensor.values is not None:
                self.constant_offsets[tensor.name] = self.constants.add(_rows(tensor.values, tensor.signed))
        for index, layer in enumerate(self.lowered.layers):
            self._emit_layer(index, layer)
        self.emitter.end()

    def tensors(self) -> list[Tensor]:
        """All tensors in DRAM."""
        return [
            Tensor(
                name=tensor.name,
                segment=_SEGMENTS[tensor.origin],
                node_type=self.lowered.node_types[tensor.name],
                channels=tensor.channels,
                item_bytes=tensor.bits // 8,
                signed=tensor.signed,
                scale=2.0**tensor.exponent,
                constant_offset=self.constant_offsets.get(tensor.name, -1),
            )
            for tensor in self.lowered.stored.values()
        ]

    def _emit_layer(self, index: int, layer: LoweredLayer) -> None:
        output, tile = layer.output, self._tiles[index]
        self.layers.append(self._describe(layer, tile))
        for first in range(0, output.channels, tile.columns):
            columns = self._columns(layer, tile, first)
            self._emit_entry(index, layer, tile, columns)
            for part in (Part.FULL, Part.TAIL):
                self.emitter.begin(index, part, self.lowered.node_types[output.name], tile.rows)
                self._emit_tile(layer, tile, columns, part)
            self._emit_exit(index, layer)
        self._signal_stored(index)

    def _describe(self, layer: LoweredLayer, tile: Tile) -> LayerInfo:
        for aggregation in layer.aggregations:
            edges = aggregation.edges
            self.edges[edges.name] = Edges(
                edges.name, edges.relations, edges.metapath, edges.source_type, edges.destination_type
            )
        used: tuple[str, ...] = ("load", "gemm_d") if layer.dense else ()
        used += ("agg",) if layer.aggregations else ()
        return LayerInfo(
            name=layer.output.name,
            kind=layer.kind.value,
            engines=(*used, "vec", "store"),
            node_type=self.lowered.node_types[layer.output.name],
            inputs=layer.dense.input.channels if layer.dense else 0,
            channels=layer.output.channels,
            aggregations=tuple(aggregation.edges.name for aggregation in layer.aggregations),
            tile_rows=tile.rows,
        )

    def _columns(self, layer: LoweredLayer, tile: Tile, first: int) -> _Columns:
        """Lays out parameters and weight tiles of a range of output channels."""
        count = min(tile.columns, layer.output.channels - first)
        if layer.dense is None:
            return _Columns(first, count, 0, ())
        chosen = slice(first, first + count)
        multiplier = layer.multiplier[chosen] if layer.multiplier.size else np.zeros(count, np.int64)
        parameters = self.constants.add(_parameters(layer.dense.bias[chosen], multiplier, self.geometry.lanes))
        weights = [
            self.constants.add(_weight_tile(layer.dense.weight[k : k + tile.inputs, chosen], self.geometry))
            for k in range(0, layer.dense.weight.shape[0], tile.inputs)
        ]
        return _Columns(first, count, parameters, tuple(weights))

    def _emit_entry(self, index: int, layer: LoweredLayer, tile: Tile, columns: _Columns) -> None:
        """What a pass over the rows needs once: parameters, resident weights, AGG's contexts, stored inputs."""
        emitter = self.emitter
        emitter.begin(index, Part.ONCE)
        if layer.dense is not None:
            emitter.take("par_ram")
            blocks = -(-columns.count // self.geometry.lanes) * 8 * self.geometry.lanes // _BLOCK
            waits = [Semaphore.PASS_ENDED] if self._passes.waits(self._needs[self._pass]) else []
            self._emit_load("load_parameters", "par_ram", columns.parameters, blocks, waits=waits)
            if tile.resident:
                self._emit_weights(layer.dense, tile, columns, 0)
        self._await_stored(Semaphore.STORED_FOR_LOAD, Engine.LOAD, layer)
        if len(layer.aggregations) <= self.geometry.agg_contexts:
            for slot, aggregation in enumerate(layer.aggregations):
                self._emit_context(slot, aggregation, columns.first)
        self._await_stored(Semaphore.STORED_FOR_AGG, Engine.AGG, layer)

    def _emit_load(
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
        self.emitter.emit(
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

    def _emit_weights(
        self,
        dense: DenseTerm,
        tile: Tile,
        columns: _Columns,
        k_tile: int,
        *,
        signals: Sequence[Semaphore] = (),
    ) -> None:
        inputs = min(tile.inputs, _padded_inputs(dense) - k_tile * tile.inputs)
        groups = -(-columns.count // self.geometry.gemm_cols)
        blocks = inputs * groups * self.geometry.gemm_cols // _BLOCK
        self.emitter.take("wgt_ram")
        self._emit_load("load_weights", "wgt_ram", columns.weights[k_tile], blocks, signals=signals)

    def _emit_context(self, slot: int, aggregation: Aggregation, first: int) -> None:
        edges, tensor = aggregation.edges, aggregation.input
        blocks = -(-tensor.channels // _BLOCK)
        name = edges.name
        self.emitter.emit(
            "configure_features",
            {
                "slot": slot,
                "row_blocks": blocks,
                "count": Affine(symbol=Symbol(SymbolKind.COUNT, edges.source_type)),
                "address": tensor_address(tensor.name, first),
            },
        )
        self.emitter.emit(
            "configure_destinations",
            {
                "slot": slot,
                "count": Affine(symbol=Symbol(SymbolKind.COUNT, edges.destination_type)),
                "address": Affine(symbol=Symbol(SymbolKind.DESTINATIONS, name)),
            },
        )
        self.emitter.emit(
            "configure_ids",
            {
                "slot": slot,
                "edges": Affine(symbol=Symbol(SymbolKind.EDGES, name)),
                "id_bytes": Affine(symbol=Symbol(SymbolKind.ID_BYTES, name)),
                "address": Affine(symbol=Symbol(SymbolKind.IDS, name)),
            },
        )

    def _emit_tile(self, layer: LoweredLayer, tile: Tile, columns: _Columns, part: Part) -> None:
        node_type = self.lowered.node_types[layer.output.name]
        tail = Affine(symbol=Symbol(SymbolKind.TAIL_ROWS, node_type, tile.rows))
        rows: int | Affine = tile.rows if part is Part.FULL else tail
        if layer.dense is not None:
            self._emit_matmuls(layer.dense, tile, columns, rows)
        if layer.aggregations:
            self._emit_reductions(layer, tile, columns, rows)
        self._emit_vector(layer, columns, rows)
        self._emit_store(layer.output, tile, columns, rows)

    def _emit_matmuls(self, dense: DenseTerm, tile: Tile, columns: _Columns, rows: int | Affine) -> None:
        emitter = self.emitter
        row_blocks = _padded_inputs(dense) // _BLOCK
        emitter.take("acc_ram")
        for k_tile, start in enumerate(range(0, _padded_inputs(dense), tile.inputs)):
            last = start + tile.inputs >= _padded_inputs(dense)
            inputs = min(tile.inputs, _padded_inputs(dense) - start)
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
                self._emit_weights(dense, tile, columns, k_tile, signals=[Semaphore.ACT_FULL])
            emitter.emit(
                "matmul",
                {
                    "act": slot_of("act_ram"),
                    "wgt": slot_of("wgt_ram"),
                    "accumulate": int(start > 0),
                    "unsigned": int(not dense.input.signed),
                    "acc": slot_of("acc_ram"),
                    "rows": rows,
                    "k_words": inputs // self.geometry.gemm_rows,
                    "col_groups": -(-columns.count // self.geometry.gemm_cols),
                },
                waits=[Semaphore.ACT_FULL, *([Semaphore.ACC_FREE] if start == 0 else [])],
                signals=[Semaphore.ACT_FREE, *([Semaphore.ACC_FULL] if last else [])],
            )

    def _emit_reductions(self, layer: LoweredLayer, tile: Tile, columns: _Columns, rows: int | Affine) -> None:
        emitter = self.emitter
        emitter.take("sum_ram")
        many = len(layer.aggregations) > self.geometry.agg_contexts
        for number, aggregation in enumerate(layer.aggregations):
            if many:
                self._emit_context(0, aggregation, columns.first)
            emitter.emit(
                "reduce",
                {
                    "slot": 0 if many else number,
                    "rows": rows,
                    "mode": _MEAN_MODE,
                    "unsigned": int(not aggregation.input.signed),
                    "accumulate": int(number > 0),
                    "groups": -(-columns.count // self.geometry.lanes),
                    "destination": Affine(0, tile.rows),
                    "sum": slot_of("sum_ram"),
                },
                waits=[Semaphore.SUM_FREE] if number == 0 else [],
                signals=[Semaphore.SUM_FULL] if number == len(layer.aggregations) - 1 else [],
            )

    def _emit_vector(self, layer: LoweredLayer, columns: _Columns, rows: int | Affine) -> None:
        emitter = self.emitter
        emitter.take("out_ram")
        available: dict[str, int | Affine] = {
            "acc": slot_of("acc_ram"),
            "sum": slot_of("sum_ram"),
            "relu": int(layer.relu),
            "unsigned": int(not layer.output.signed),
            "with_acc": int(layer.dense is not None),
            "acc_groups": -(-columns.count // self.geometry.gemm_cols) if layer.dense else 0,
            "out": slot_of("out_ram"),
            "par": slot_of("par_ram"),
            "rows": rows,
            "groups": -(-columns.count // self.geometry.lanes),
            "row_blocks": _output_blocks(layer.output, columns),
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

    def _emit_store(self, output: Stored, tile: Tile, columns: _Columns, rows: int | Affine) -> None:
        row_blocks = -(-output.channels * output.bits // 8 // _BLOCK)
        self.emitter.emit(
            "store_rows",
            {
                "ram": slot_of("out_ram"),
                "rows": rows,
                "row_blocks": _output_blocks(output, columns),
                "stride_blocks": row_blocks,
                "address": tensor_address(
                    output.name, columns.first * output.bits // 8, tile.rows * row_blocks * _BLOCK
                ),
            },
            waits=[Semaphore.OUT_FULL],
            signals=[Semaphore.OUT_FREE],
        )

    def _emit_exit(self, index: int, layer: LoweredLayer) -> None:
        """VEC, which comes after all products of a pass, says that its parameters and weights are no longer needed."""
        if layer.dense is None:
            return
        if self._passes.signals(self._pass):
            self.emitter.begin(index, Part.ONCE)
            self.emitter.sync(Engine.VEC, signals=[Semaphore.PASS_ENDED])
        self._pass += 1

    def _signal_stored(self, index: int) -> None:
        """STORE tells the engines that read a tensor from DRAM that all of it is written."""
        signals = [semaphore for semaphore, milestones in self._stored.items() if milestones.signals(index)]
        self.emitter.begin(index, Part.ONCE)
        self.emitter.sync(Engine.STORE, signals=signals)

    def _await_stored(self, semaphore: Semaphore, engine: Engine, layer: LoweredLayer) -> None:
        """Waits until what an engine reads of DRAM for a layer is written."""
        if self._stored[semaphore].waits(self._newest_input(semaphore, layer)):
            self.emitter.sync(engine, waits=[semaphore])

    def _newest_input(self, semaphore: Semaphore, layer: LoweredLayer) -> int:
        """The last layer that computes an input of LOAD or AGG, -1 when all are features or constants."""
        if semaphore is Semaphore.STORED_FOR_AGG:
            names = [aggregation.input.name for aggregation in layer.aggregations]
        else:
            names = [layer.dense.input.name] if layer.dense else []
        return max((self._layer_of.get(name, -1) for name in names), default=-1)


def _tile(layer: LoweredLayer, geometry: Geometry) -> Tile:
    shape = LayerShape(
        inputs=layer.dense.input.channels if layer.dense else 0,
        channels=layer.output.channels,
        aggregated=bool(layer.aggregations),
        item_bytes=layer.output.bits // 8,
    )
    return choose_tile(shape, geometry, layer.output.name)


def _pass_needs(layers: Sequence[LoweredLayer], tiles: Sequence[Tile]) -> list[int]:
    """Per pass over the rows with a dense term: the pass whose end its parameters and weights wait for, or less than 0.

    A pass takes the slot of parameters that the last but one used. Resident weights likewise; after a pass that
    streamed its weights through both slots they wait for that pass. Streamed weights take the slot of the last but
    one product, which has ended: the activations before them have waited for it.
    """
    resident = [
        tile.resident
        for layer, tile in zip(layers, tiles, strict=True)
        if layer.dense is not None
        for _ in range(0, layer.output.channels, tile.columns)
    ]
    return [
        number - 1 if number > 0 and resident[number] and not resident[number - 1] else number - 2
        for number in range(len(resident))
    ]


def _padded_inputs(dense: DenseTerm) -> int:
    return -(-dense.input.channels // _BLOCK) * _BLOCK


def _output_blocks(output: Stored, columns: _Columns) -> int:
    return -(-columns.count * output.bits // 8 // _BLOCK)


def _rows(values: npt.NDArray[np.int64], signed: bool) -> npt.NDArray[np.uint8]:
    """A constant matrix in the layout 'activations'; one without rows still has a place."""
    padded = np.zeros((max(len(values), 1), -(-values.shape[1] // _BLOCK) * _BLOCK), np.int64)
    padded[: len(values), : values.shape[1]] = values
    return padded.astype(np.int8 if signed else np.uint8).view(np.uint8)


def _weight_tile(weight: npt.NDArray[np.int64], geometry: Geometry) -> npt.NDArray[np.uint8]:
    """Weights [K, N] in the layout 'weights': column group, input channel, column."""
    inputs = -(-weight.shape[0] // _BLOCK) * _BLOCK
    groups = -(-weight.shape[1] // geometry.gemm_cols)
    padded = np.zeros((inputs, groups * geometry.gemm_cols), np.int8)
    padded[: weight.shape[0], : weight.shape[1]] = weight
    tiles = padded.reshape(inputs, groups, geometry.gemm_cols).transpose(1, 0, 2)
    return np.ascontiguousarray(tiles).view(np.uint8)


def _parameters(bias: npt.NDArray[np.int64], multiplier: npt.NDArray[np.int64], lanes: int) -> npt.NDArray[np.uint8]:
    """Bias and multiplier [N] in the layout 'parameters'."""
    records = np.zeros(
        -(-len(bias) // lanes) * lanes, np.dtype([("bias", "<i4"), ("multiplier", "<u2"), ("pad", "<u2")])
    )
    records["bias"][: len(bias)] = bias
    records["multiplier"][: len(multiplier)] = multiplier
    return records.view(np.uint8)
