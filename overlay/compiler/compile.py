# SPDX-License-Identifier: Apache-2.0
"""Compiles a quantized model for a geometry: tiles each layer, lays out constants and emits blocks of instructions.

A layer is a loop over tiles of rows, once for each range of output channels that fits the buffers. Engines run ahead
of each other as far as rings and queues allow.
"""

from collections.abc import Collection, Sequence
from dataclasses import replace

import numpy as np

from hetfab.overlay.compiler.attention_passes import fewest_heads
from hetfab.overlay.compiler.channel_order import with_best_orders
from hetfab.overlay.compiler.cnn.compile import compile_on_samples
from hetfab.overlay.compiler.constants import Columns, Constants
from hetfab.overlay.compiler.edge_reads import EdgeRead, edge_reads, edges_of, has_negated_rows
from hetfab.overlay.compiler.emitter import Affine, Emitter
from hetfab.overlay.compiler.host_layers import with_host_nodes
from hetfab.overlay.compiler.layer_code import LayerCode
from hetfab.overlay.compiler.lowered import SCORE_BITS, LoweredLayer, LoweredModel, Stored
from hetfab.overlay.compiler.lowering import lower
from hetfab.overlay.compiler.operands import GEMM_D, GEMM_L
from hetfab.overlay.compiler.planning import PlannedLayer, plan_layers
from hetfab.overlay.compiler.scratchpad import DEFAULT_ROW_SOURCE
from hetfab.overlay.compiler.semaphores import Milestones, Semaphore
from hetfab.overlay.design import ATTENTION_DESIGN, DEFAULT_DESIGN, Design, Geometry, default_design
from hetfab.overlay.errors import DesignInvalidError, SplitInvalidError
from hetfab.overlay.host_nodes import Fallback
from hetfab.overlay.isa.arithmetic import LARGEST_DEGREE
from hetfab.overlay.isa.codec import Engine, ReduceSource, Segment
from hetfab.overlay.isa.spec import isa
from hetfab.overlay.isa.words import program_address
from hetfab.overlay.model.binding import to_json
from hetfab.overlay.model.bound_model import BoundModel
from hetfab.overlay.model.cnn.inspection import takes_samples
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

#: Of a table, in a word of fun_ram.
_ENTRIES = 8
_SEGMENTS = {
    "features": "features",
    "constant": "constants",
    "computed": "activations",
    "host": "activations",
    "output": "output",
}


def compile_model(
    given: BoundModel,
    design: Design,
    *,
    name: str = "model",
    share_on_d: float | None = None,
    lowered: LoweredModel | None = None,
    row_source: ReduceSource = DEFAULT_ROW_SOURCE,
    in_parts: Collection[str] = (),
    fallback: Fallback = Fallback.NONE,
) -> Program:
    """Compiles a quantized model.

    Args:
        given: What ``quantize`` returns, or a quantized model with its binding in full.
        design: The design to compile for.
        name: Name of the model, for reports.
        share_on_d: Of each layer's output channels, what GEMM-D gets, 0 to 1; None for the fastest split.
        lowered: The model's layers as ``plan_model`` chose them; None for those of ``lower``.
        row_source: Where AGG takes rows of features from; DRAM where the design has no scratchpad.
        in_parts: Edge sets whose edges AGG takes in parts, through the tags of its scratchpad, whatever the others do.
        fallback: Whether the host may run operators on rows that the overlay does not execute (docs/fallback.md).

    Raises:
        InputError: One of the errors of ``lower`` and ``choose_tile``.
        DesignInvalidError: The design lacks an engine that the model needs.
        SplitInvalidError: ``share_on_d`` is no share, or gives channels to a core that the design lacks, or the
            model takes samples.
    """
    if takes_samples(given.bindings):
        _check_no_share(share_on_d)
        return compile_on_samples(given, design, name=name)
    layers = lower(given.model, given.bindings, fallback) if lowered is None else lowered
    program = compile_lowered(
        layers, design, name=name, share_on_d=share_on_d, row_source=row_source, in_parts=in_parts
    )
    return replace(program, model_hash=model_hash(given.model), bindings=to_json(given.bindings))


def compile_lowered(
    lowered: LoweredModel,
    design: Design,
    *,
    name: str = "model",
    share_on_d: float | None = None,
    row_source: ReduceSource = DEFAULT_ROW_SOURCE,
    in_parts: Collection[str] = (),
) -> Program:
    """Compiles integer layers; the program has no model's hash and no binding. Otherwise as ``compile_model``."""
    _check_share(share_on_d, design)
    check_engines(lowered, design)
    lowered = with_best_orders(lowered, design.geometry, share_on_d)
    planned = plan_layers(lowered, design.geometry, share_on_d)
    code = LayerCode(Emitter(design.geometry), design.geometry, row_source, in_parts)
    return compiled_program(LayerCompiler(lowered, design.geometry, planned, code), design, name)


def compiled_program(compiler: "LayerCompiler", design: Design, name: str) -> Program:
    """Runs a compilation; the program has no model's hash and no binding."""
    compiler.run()
    lowered = compiler.lowered
    program = Program(
        design=design,
        model_name=name,
        model_hash="",
        bindings="",
        layers=tuple(compiler.layers),
        blocks=tuple(compiler.emitter.blocks),
        symbols=tuple(compiler.emitter.symbols),
        rings=compiler.emitter.rings,
        tensors=tuple(compiler.tensors()),
        edges=tuple(compiler.edges.values()),
        output=Output(lowered.output.name, lowered.output.scale, 2.0**lowered.lsb_exponent),
        limits=Limits(LARGEST_DEGREE, dict(lowered.fixed_counts)),
        constants=compiler.constants.content(),
        stacks=lowered.stacks,
    )
    return with_host_nodes(program, lowered)


def _check_no_share(share: float | None) -> None:
    if share is not None:
        raise SplitInvalidError(
            f"a share of {share:g} of the output channels on GEMM-D for a model that takes samples",
            "no share: its layers are split by channels or by lines, whichever takes less time",
            "leave the share to the compiler",
        )


def _check_share(share: float | None, design: Design) -> None:
    if share is None:
        return
    if not 0 <= share <= 1:
        raise SplitInvalidError(
            f"a share of {share:g} of the output channels on GEMM-D",
            "a share from 0, all channels on GEMM-L, to 1, all on GEMM-D",
            "correct the share, or leave it to the compiler",
        )
    for core, part in (("gemm_d", share), ("gemm_l", 1 - share)):
        if part and core not in design.geometry.engines:
            raise SplitInvalidError(
                f"a share of {part:g} of the output channels on {core}, which the design '{design.name}' lacks",
                "a share of 0 on a core that is not there",
                "leave the share to the compiler, or choose a design with both cores",
            )


def check_engines(lowered: LoweredModel, design: Design) -> None:
    """Refuses a design that lacks an engine.

    Raises:
        DesignInvalidError: Names what is missing and what layers need.
    """
    needed = {"load", "store", "vec"}
    if any(layer.product for layer in lowered.layers) and "gemm_l" not in design.geometry.engines:
        needed |= {"gemm_d"}
    needed |= {"agg"} if any(layer.aggregates for layer in lowered.layers) else set()
    _check_functions(lowered, design)
    missing = sorted(needed - set(design.geometry.engines))
    if missing:
        raise DesignInvalidError(
            f"the design '{design.name}' has no engine {', '.join(missing)}",
            f"a design with the engines {', '.join(sorted(needed))}",
            "choose another design with --design, or leave the option out",
        )


def suited_design(lowered: LoweredModel) -> Design:
    """The default design for layers: another one where they attend, weigh edges, look functions up or normalize."""
    return default_design(ATTENTION_DESIGN if any(functions_of(lowered, lanes=1).values()) else DEFAULT_DESIGN)


def functions_of(lowered: LoweredModel, lanes: int) -> dict[str, int]:
    """What layers need of the geometry's parameters for what few designs have, 0 for nothing."""
    heads = [fewest_heads(each.attention) for layer in lowered.layers for each in layer.aggregations if each.attention]
    entries = [layer.table.entries.size for layer in lowered.layers if layer.table is not None]
    groups = [-(-each.output.channels // lanes) for each in lowered.layers if each.normalization is not None]
    scores = any(layer.output.bits == SCORE_BITS for layer in lowered.layers)
    weighted = any(each.edges.weighted for layer in lowered.layers for each in layer.aggregations)
    return {
        "agg_weights": int(weighted),
        "agg_heads": max(heads, default=0),
        "fun_words": max([*(-(-count // _ENTRIES) for count in entries), int(scores)], default=0),
        "norm_words": max(groups, default=0),
    }


def _check_functions(lowered: LoweredModel, design: Design) -> None:
    """Refuses a design whose engines lack attention, tables, normalization or weights where layers have them."""
    geometry = design.geometry
    wanted = functions_of(lowered, geometry.lanes)
    short = {name: need for name, need in wanted.items() if need > getattr(geometry, name)}
    if short:
        raise DesignInvalidError(
            f"the design '{design.name}' has " + ", ".join(f"{name} {getattr(geometry, name)}" for name in short),
            "at least "
            + ", ".join(f"{name} {need}" for name, need in short.items())
            + ", which the model's layers need",
            "choose another design with --design, or leave the option out",
        )


class LayerCompiler:
    """State of one compilation.

    Args:
        lowered: The layers.
        geometry: The design's geometry.
        planned: Their formats and cuts.
        code: What emits their instructions.
    """

    def __init__(
        self, lowered: LoweredModel, geometry: Geometry, planned: Sequence[PlannedLayer], code: LayerCode
    ) -> None:
        self.lowered = lowered
        self.geometry = geometry
        self.emitter = code.emitter
        self._code = code
        self.constants = Constants()
        self.layers: list[LayerInfo] = []
        self.edges: dict[str, Edges] = {}
        self.constant_offsets: dict[str, int] = {}
        self._planned = planned
        in_bytes = {planned.layer.output.name for planned in self._planned if not planned.packed_output}
        self._packed = lowered.packed - in_bytes
        self._as_rows = _read_as_rows(lowered)
        self._writers = {name: lowered.writers(name) for name in lowered.stored}
        self._stored = {
            semaphore: Milestones(self._newest_input(semaphore, layer) for layer in lowered.layers)
            for semaphore in (Semaphore.STORED_FOR_LOAD, Semaphore.STORED_FOR_AGG)
        }
        self._needs = _pass_needs(self._planned)
        self._passes = Milestones(self._needs)
        self._pass = 0
        self._zero_offset = -1

    def run(self) -> None:
        """Emits the whole program."""
        for tensor in self.lowered.stored.values():
            if tensor.values is not None:
                self.constant_offsets[tensor.name] = self.constants.add_table(
                    tensor, tensor.values, tensor.name in self._packed
                )
        for index, planned in enumerate(self._planned):
            self._emit_layer(index, planned)
        self.emitter.end()

    def tensors(self) -> list[Tensor]:
        """All tensors in DRAM."""
        return [
            Tensor(
                name=tensor.name,
                segment=self._segment(tensor),
                node_type=self.lowered.node_types[tensor.name],
                channels=tensor.channels,
                bits=tensor.bits,
                packed=tensor.name in self._packed,
                signed=tensor.signed,
                scale=tensor.scale,
                constant_offset=self.constant_offsets.get(tensor.name, -1),
                leading=tensor.leading,
                channel_order=() if tensor.order is None else tuple(tensor.order.tolist()),
                whole=self.lowered.parts[tensor.name].whole if tensor.name in self.lowered.parts else "",
                part=self.lowered.parts[tensor.name].number if tensor.name in self.lowered.parts else 0,
            )
            for tensor in self.lowered.stored.values()
        ]

    def _emit_layer(self, index: int, planned: PlannedLayer) -> None:
        layer, tile = planned.layer, planned.tile
        edges = edges_of(layer, self.lowered)
        self.edges |= {each.name: each for each in edges}
        self.layers.append(self._describe(planned, edges))
        for columns in self.columns(planned):
            reads = edge_reads(layer, edges, columns, self.lowered.node_types, self._zeros)
            self._emit_entry(index, planned, columns, reads)
            node_type = self.lowered.node_types[layer.output.name]
            left = Affine(symbol=Symbol(SymbolKind.TAIL_ROWS, node_type, tile.rows))
            for part, rows in ((Part.FULL, tile.rows), (Part.TAIL, left)):
                self.emitter.begin(index, part, node_type, tile.rows)
                self._code.tile(planned, columns, reads, rows)
            self._emit_exit(index, layer)
        self._signal_stored(index)

    def _zeros(self) -> int:
        """Address of a block of zeros, the scores of ends that have none."""
        if self._zero_offset < 0:
            self._zero_offset = self.constants.add(np.zeros(isa().block_bytes, np.uint8))
        return program_address(Segment.CONSTANTS, self._zero_offset)

    def columns(self, planned: PlannedLayer) -> list[Columns]:
        """Each pass over the rows, its numbers in the constants."""
        layer, tile = planned.layer, planned.tile
        if layer.gathered and layer.dense is not None:
            table = self.constants.add_weight_rows(layer.dense, negated=has_negated_rows(layer))
            if layer.leading:
                multiplied = [
                    self.constants.add_columns(layer, planned.operands, tile, one, self.geometry) for one in tile.passes
                ]
                return [replace(columns, table=table) for columns in multiplied]
            return [self.constants.add_gathered_columns(layer, one, table, self.geometry) for one in tile.passes]
        return [self.constants.add_columns(layer, planned.operands, tile, one, self.geometry) for one in tile.passes]

    def _segment(self, tensor: Stored) -> str:
        in_rows = tensor.origin != "features" or tensor.name in self._as_rows
        return _SEGMENTS[tensor.origin] if in_rows else "graph"

    def _describe(self, planned: PlannedLayer, edges: Sequence[Edges]) -> LayerInfo:
        layer = planned.layer
        bits = planned.weight_bits_on_cores()
        cores = tuple(core for core, widths in bits.items() if widths.size)
        used = (*(("load",) if layer.dense else ()), *cores, *(("agg",) if layer.aggregates else ()))
        return LayerInfo(
            name=layer.output.name,
            kind=layer.kind.value,
            engines=(*used, "vec", "store"),
            node_type=self.lowered.node_types[layer.output.name],
            inputs=sum(tensor.channels for tensor in layer.dense.reads) if layer.dense else 0,
            channels=layer.output.channels,
            aggregations=tuple(each.name for each in edges),
            tile_rows=planned.tile.rows,
            channels_on_l=bits[GEMM_L].size,
            weight_bits_on_d=tuple(np.unique(bits[GEMM_D]).tolist()),
            weight_bits_on_l=tuple(np.unique(bits[GEMM_L]).tolist()),
            gathered=layer.gathered,
            leading=layer.leading,
        )

    def _emit_entry(self, index: int, planned: PlannedLayer, columns: Columns, reads: Sequence[EdgeRead]) -> None:
        """What a pass over the rows needs once: parameters, resident weights, AGG's contexts, stored inputs."""
        layer = planned.layer
        self.emitter.begin(index, Part.ONCE)
        if layer.is_loaded:
            waits = [Semaphore.PASS_ENDED] if self._passes.waits(self._needs[self._pass]) else []
            loaded = [Semaphore.PARAMETERS_LOADED] if layer.product is None else []
            function = -1 if layer.table is None else self.constants.add_function(layer.table)
            self._code.load_numbers(planned, columns, function, waits=waits, signals=loaded)
            self.emitter.sync(Engine.VEC, waits=loaded)
            if layer.product is not None and planned.tile.resident:
                self._code.load_weights(planned, columns, 0)
        self._await_stored(Semaphore.STORED_FOR_LOAD, Engine.LOAD, layer)
        self._code.contexts(planned, reads, columns)
        self._await_stored(Semaphore.STORED_FOR_AGG, Engine.AGG, layer)

    def _emit_exit(self, index: int, layer: LoweredLayer) -> None:
        """VEC, which comes after all products of a pass, says that its parameters and weights are no longer needed."""
        if not layer.is_loaded:
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
            names = [tensor.name for aggregation in layer.aggregations for tensor in aggregation.reads]
        else:
            names = [tensor.name for tensor in layer.product.reads] if layer.product else []
        return max((number for name in names for number in self._writers[name]), default=-1)


def _read_as_rows(lowered: LoweredModel) -> set[str]:
    """Names of the tensors that a matrix engine or an aggregation reads row by row."""
    names = {each.name for layer in lowered.layers if layer.product is not None for each in layer.product.reads}
    return names | {each.input.name for layer in lowered.layers for each in layer.aggregations}


def _pass_needs(planned: Sequence[PlannedLayer]) -> list[int]:
    """Per pass over the rows that LOAD has numbers for: the pass whose end they wait for, or less than 0.

    A pass takes the slot of parameters that the last but one used. Resident weights likewise; after a pass that
    streamed its weights through both slots they wait for that pass. Streamed weights take the slot of the last but
    one product, which has ended: the activations before them have waited for it. A table takes the place of the one
    before it.
    """
    passes = [one for one in planned if one.layer.is_loaded for _ in one.tile.passes]
    needs, table = [], -1
    for number, one in enumerate(passes):
        behind = number > 0 and one.tile.resident and not passes[number - 1].tile.resident
        need = number - 1 if behind else number - 2
        needs.append(need if one.layer.table is None else max(need, table))
        table = table if one.layer.table is None else number
    return needs
