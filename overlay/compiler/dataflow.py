# SPDX-License-Identifier: Apache-2.0
"""Compiles a quantized model to a fixed-weight accelerator: dense stages with weights of their own, and its program.

A stage is a dense term whose weights are part of the accelerator. The others, whose weights it cannot hold, stay on
GEMM-D with weights in DRAM. The program is one of the overlay's instruction set without loads of stages' weights: a
``matmul`` whose weights lie behind ``wgt_d_ram`` means a stage (docs/dataflow.md).
"""

from collections.abc import Sequence
from dataclasses import fields, replace

import numpy as np

from hetfab.overlay.board import read_board
from hetfab.overlay.compiler.compile import LayerCompiler, check_engines, compiled_program, functions_of
from hetfab.overlay.compiler.constants import Columns
from hetfab.overlay.compiler.edge_reads import score_beats
from hetfab.overlay.compiler.emitter import Affine, Emitter
from hetfab.overlay.compiler.layer_code import LayerCode
from hetfab.overlay.compiler.lowered import SCORE_BITS, DenseTerm, IntArray, LoweredLayer, LoweredModel, Stored
from hetfab.overlay.compiler.lowering import lower
from hetfab.overlay.compiler.planning import PlannedLayer, plan_layers
from hetfab.overlay.compiler.rings import slot_words
from hetfab.overlay.compiler.scratchpad import DEFAULT_ROW_SOURCE
from hetfab.overlay.compiler.semaphores import Semaphore
from hetfab.overlay.compiler.stage_sizes import sized
from hetfab.overlay.compiler.tiling import ColumnRange, Tile
from hetfab.overlay.costs.elements import Form
from hetfab.overlay.dense_stages import LONGEST_ROW, NO_WEIGHTS, ROW_PAIR, Stage
from hetfab.overlay.design import Design, Geometry, default_design, design_from_dict
from hetfab.overlay.errors import OperatorsUnsupportedError
from hetfab.overlay.isa.spec import isa
from hetfab.overlay.layouts import blocks_of, padded
from hetfab.overlay.model.binding import to_json
from hetfab.overlay.model.bound_model import BoundModel
from hetfab.overlay.model.cnn.inspection import takes_samples
from hetfab.overlay.model.reader import model_hash
from hetfab.overlay.program import Program

#: Rows of a tile, at most: more only add memory.
_TILE_ROWS = 32
#: Of a design with tables of functions or normalized rows: what the default design for attention has.
_FUNCTION_WORDS, _NORM_WORDS = 128, 512
_BLOCK = isa().block_bytes
_BEAT = isa().size("beat_bytes")
#: Engines whose functions the kernel consists of.
_ENGINES = ("load", "store", "gemm_d", "vec", "agg")
#: AGG serves a multiple of so many heads.
_HEADS = 4


def compile_dataflow(
    given: BoundModel, board: str, *, name: str = "model", lowered: LoweredModel | None = None
) -> Program:
    """Compiles a quantized model to an accelerator for a board: the program for it, whose design has its stages.

    Args:
        given: A quantized model with its binding in full.
        board: Whose default design gives the clock, the share of weights on chip and the core with weights in DRAM.
        name: Name of the model.
        lowered: The model's layers as ``plan_model`` chose them where no columns may lead; None for those of ``lower``.

    Raises:
        InputError: One of the errors of ``lower``.
        OperatorsUnsupportedError: The model takes samples.
        DesignInvalidError: There is no such board.
    """
    if takes_samples(given.bindings):
        raise OperatorsUnsupportedError(
            f"the model '{name}' takes samples",
            "a model on a graph",
            "build it with `--flow overlay`, or its dense layers with hls4ml alone (docs/hls4ml.md)",
        )
    digest = model_hash(given.model)
    program = compile_stages(lowered or lower(given.model, given.bindings), default_design(board), name=name)
    return replace(program, model_hash=digest, bindings=to_json(given.bindings))


def compile_stages(lowered: LoweredModel, base: Design, *, name: str = "model") -> Program:
    """As ``compile_dataflow``, from integer layers; the program has no model's hash and no binding.

    Args:
        lowered: The layers; no columns of features lead.
        base: A design of the board; its arrays and buffers serve dense terms with weights in DRAM.
        name: Name of the model.

    Raises:
        ValueError: Columns of features lead.
    """
    leading = [tensor.name for tensor in lowered.stored.values() if tensor.leading]
    if leading:
        raise ValueError(
            f"columns of {', '.join(leading)} lead, and a stage takes whole rows: plan with may_lead=False"
        )
    members = {field.name: getattr(lowered, field.name) for field in fields(lowered)}
    in_bytes = _InBytes(**members | {"layers": tuple(_not_gathered(layer) for layer in lowered.layers)})
    numbered = _stages(in_bytes)
    loads = sum(layer.product is not None for layer in in_bytes.layers) > len({number for number, _ in numbered})
    geometry = _geometry(in_bytes, base.geometry, loads=loads)
    stages = sized([stage for _, stage in numbered], geometry, Form(base.elements), read_board(base.board))
    design = Design(
        name=f"{base.name}-{name.removesuffix('.onnx').removesuffix('.q')}",
        board=base.board,
        clock_mhz=base.clock_mhz,
        origin=f"hetfab build --flow dataflow --board {base.board}, of the model {name}",
        elements=base.elements,
        geometry=geometry,
        stages=stages,
    )
    design_from_dict(design.as_dict(), design.name)
    check_engines(in_bytes, design)
    numbers = {number for number, _ in numbered}
    # The cuts of stages are made anew below.
    loading = replace(geometry, wgt_d_words=base.geometry.wgt_d_words)
    planned = [
        _stage_plan(plan, geometry) if number in numbers else plan
        for number, plan in enumerate(plan_layers(in_bytes, loading, 1.0))
    ]
    code = _StageCode(geometry, design.stages)
    return compiled_program(_StageCompiler(in_bytes, geometry, planned, code), design, name)


def _not_gathered(layer: LoweredLayer) -> LoweredLayer:
    """The layer as a product where its weights fit a stage."""
    return replace(layer, parts=0, weighted=False) if layer.dense is not None and _fits_stage(layer.dense) else layer


def _fits_stage(dense: DenseTerm) -> bool:
    return padded(dense.inputs, _BLOCK) // max(1, len(dense.parts)) <= LONGEST_ROW


def _stages(lowered: LoweredModel) -> list[tuple[int, Stage]]:
    """The dense terms whose weights become part of an accelerator, with the number of their layer."""
    stages: list[tuple[int, Stage]] = []
    for number, layer in enumerate(lowered.layers):
        dense = layer.product
        if dense is None or not _fits_stage(dense):
            continue
        parts = np.split(dense.weight, max(1, len(dense.parts)))
        stages += [(number, _stage(layer.output.name, dense, weight)) for weight in parts]
    return stages


def _stage(name: str, dense: DenseTerm, weight: IntArray) -> Stage:
    return Stage(
        name=name,
        inputs=len(weight),
        weight_bits=tuple(dense.weight_bits.tolist()),
        input_bits=dense.input.bits,
        signed=dense.input.signed,
        on_dsps=0,
        dsp_columns=2,
        lut_columns=2,
        weights=weight.astype(np.int8).tobytes(),
    )


def stage_word(geometry: Geometry, stage: int) -> int:
    """What a ``matmul`` names as its weights where it means a stage: a word behind those of ``wgt_d_ram``."""
    return geometry.wgt_d_words + stage


class _InBytes(LoweredModel):
    """Layers whose tensors all have a byte for each channel: a stage takes rows as they are stored."""

    def packs(self, tensor: Stored) -> bool:
        """Never."""
        return False


def _geometry(lowered: LoweredModel, base: Geometry, *, loads: bool) -> Geometry:
    """The board's buffers, and what the layers need beside them; without weights in DRAM no array."""
    needs = functions_of(lowered, base.lanes)
    groups = [-(-each.output.channels // base.lanes) for each in lowered.layers if each.aggregations]
    weighted = any(layer.weighted for layer in lowered.layers)
    return replace(
        base,
        engines=_ENGINES,
        agg_groups=max([base.agg_groups, *groups]),
        agg_weights=max(base.agg_weights, needs["agg_weights"], int(weighted)),
        agg_heads=padded(needs["agg_heads"], _HEADS),
        fun_words=max(padded(needs["fun_words"], isa().size("fun_unit")), _FUNCTION_WORDS) if needs["fun_words"] else 0,
        norm_words=max(needs["norm_words"], _NORM_WORDS) if needs["norm_words"] else 0,
        **({} if loads else {"wgt_d_words": NO_WEIGHTS, "gemm_d_rows": ROW_PAIR}),
        **dict.fromkeys(("res_words", "gather_beats", "exp_words", "dwp_words", "mid_words"), 0),
    )


def _stage_plan(plan: PlannedLayer, geometry: Geometry) -> PlannedLayer:
    """The cuts of a layer whose dense term is a stage: all channels at once, and as many rows as the buffers hold."""
    layer, product = plan.layer, plan.layer.product
    assert product is not None
    channels, output_bytes = layer.output.channels, plan.output_bits // 8
    row_bytes = padded(product.inputs, _BLOCK) // max(1, len(product.parts))
    scores = layer.output.bits == SCORE_BITS
    out_words = score_beats(channels) if scores else blocks_of(channels * output_bytes) * _BLOCK // _BEAT
    words = {
        "acc_d_ram": -(-channels // geometry.gemm_d_cols),
        "sum_ram": -(-channels // geometry.lanes) if layer.aggregates else 1,
        "out_ram": out_words,
    }
    rows = [slot_words(geometry, memory) // each for memory, each in words.items()]
    rows.append(slot_words(geometry, "act_d_ram") // (row_bytes // _BEAT) * geometry.gemm_d_rows)
    tile = Tile(
        rows=min([*rows, plan.tile.rows, _TILE_ROWS]),
        step_bytes=row_bytes,
        resident=True,
        passes=(ColumnRange(0, channels, 0, 0),),
        row_cycles=0.0,
    )
    return replace(plan, tile=tile)


class _StageCode(LayerCode):
    """Instructions of layers some of whose dense terms are stages."""

    def __init__(self, geometry: Geometry, stages: Sequence[Stage]) -> None:
        super().__init__(Emitter(geometry), geometry, DEFAULT_ROW_SOURCE)
        self._first_words: dict[str, int] = {}
        for number, stage in enumerate(stages):
            self._first_words.setdefault(stage.name, stage_word(geometry, number))

    def is_stage(self, planned: PlannedLayer) -> bool:
        """Whether the dense term of a layer is a stage, or several."""
        return planned.layer.output.name in self._first_words

    def weights_on_d(self, planned: PlannedLayer, step: int) -> int | Affine:
        """The stage, where there is one."""
        if not self.is_stage(planned):
            return super().weights_on_d(planned, step)
        return self._first_words[planned.layer.output.name] + step

    def load_weights(
        self,
        planned: PlannedLayer,
        columns: Columns,
        step: int,
        *,
        signals: tuple[Sequence[Semaphore], Sequence[Semaphore]] = ((), ()),
    ) -> None:
        """Nothing for stages, which have theirs."""
        if not self.is_stage(planned):
            super().load_weights(planned, columns, step, signals=signals)


class _StageCompiler(LayerCompiler):
    """A compilation that leaves the weights of stages out of the constants."""

    def __init__(
        self, lowered: LoweredModel, geometry: Geometry, planned: Sequence[PlannedLayer], code: _StageCode
    ) -> None:
        super().__init__(lowered, geometry, planned, code)
        self._stage_code = code

    def columns(self, planned: PlannedLayer) -> list[Columns]:
        """Of stages bias and multipliers alone; they multiply inputs as they are, so the bias is the layer's own."""
        if not self._stage_code.is_stage(planned):
            return super().columns(planned)
        return [
            self.constants.add_gathered_columns(planned.layer, one, -1, self.geometry) for one in planned.tile.passes
        ]
