# SPDX-License-Identifier: Apache-2.0
"""Compiles the integer layers of a convolutional network: one instruction stream for one sample.

Layers follow each other in the stream, but not in time: an engine waits only for what it needs. Pooling of a
convolution's result is emitted between its tiles, as soon as their lines are stored.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from hetfab.overlay.compiler.cnn.chip import Chip
from hetfab.overlay.compiler.cnn.conv import Conv, conv_of
from hetfab.overlay.compiler.cnn.conv_code import ConvCode
from hetfab.overlay.compiler.cnn.cores import cores_of
from hetfab.overlay.compiler.cnn.depthwise_code import DepthwiseCode, DepthwiseWindows, runs_on_dw
from hetfab.overlay.compiler.cnn.feature_maps import FeatureMap
from hetfab.overlay.compiler.cnn.fused_code import FusedCode
from hetfab.overlay.compiler.cnn.fusing import FusedPlan, bands, fused_pairs, job_of, plan_fused
from hetfab.overlay.compiler.cnn.planning import ConvPlan, plan_conv
from hetfab.overlay.compiler.cnn.pool_code import PoolCode
from hetfab.overlay.compiler.cnn.storage import feature_map, gathers, image_forms, placed_images
from hetfab.overlay.compiler.cnn.units import Pooling, Unit, emit_unit
from hetfab.overlay.design import Design
from hetfab.overlay.isa.arithmetic import LARGEST_DEGREE, Q8_BITS
from hetfab.overlay.model.cnn.integer import Average, IntegerCnn, IntegerLayer, Largest, Product, Sum
from hetfab.overlay.model.cnn.interpreter import reads
from hetfab.overlay.model.cnn.window import Window
from hetfab.overlay.program import LayerInfo, Limits, Output, Program, Tensor


def compile_cnn(model: IntegerCnn, design: Design, *, name: str = "model", keep: bool = False) -> Program:
    """Compiles a network on samples; the program has no model's hash and no binding.

    Args:
        model: Its integer layers.
        design: The design to compile for.
        name: Name of the model, for reports.
        keep: Whether every tensor in DRAM keeps its place there, so that all can be read after a run.

    Raises:
        DesignInvalidError: The design lacks an engine or a memory that the network needs.
        DesignTooSmallError: A buffer, or a field of an instruction, cannot hold the least part of a layer.
        LimitExceededError: A line of a feature map is longer than instructions can say.
        OverflowPossibleError: The design has GEMM-L only, whose sums are too narrow for a layer.
    """
    compiler = _Compiler(model, design, keep=keep)
    compiler.run()
    output = model.output
    return Program(
        design=design,
        model_name=name,
        model_hash="",
        bindings="",
        layers=tuple(compiler.infos),
        blocks=compiler.chip.stream.blocks(design.geometry),
        symbols=(),
        rings=(),
        tensors=(_logits(model),),
        edges=(),
        output=Output(output.name, output.scale, 2.0**model.lsb_exponent),
        limits=Limits(LARGEST_DEGREE, {}),
        constants=compiler.chip.constants.content(),
        images=tuple(compiler.images.values()),
    )


def _logits(model: IntegerCnn) -> Tensor:
    output = model.output
    channels = int(np.prod(output.shape))
    return Tensor(output.name, "output", "sample", channels, output.bits, False, True, output.scale)


class _Compiler:
    """State of one compilation."""

    def __init__(self, model: IntegerCnn, design: Design, *, keep: bool) -> None:
        self.model = model
        self.chip = Chip(design.geometry)
        self.infos: list[LayerInfo] = []
        self._gathers = gathers(model, design.geometry)
        forms = image_forms(model, design.geometry)
        self._maps = {name: feature_map(image) for name, image in forms.items()}
        self._fused = self._fused_plans()
        self.images = placed_images(model, forms, self._fused, design.geometry, keep=keep)
        self._maps |= {name: feature_map(image) for name, image in self.images.items()}

    def run(self) -> None:
        """Emits all layers."""
        units = self._units()
        for number, unit in enumerate(units):
            before, following = ([*units, Unit((), ())][place] for place in (number - 1, number + 1))
            emit_unit(unit, following, before.pools if number else ())

    def _units(self) -> list[Unit]:
        """The layers in order, pooling with the convolution before it."""
        layers = self.model.layers
        units: list[Unit] = []
        for index, layer in enumerate(layers):
            if index in self._fused:
                units.append(self._fused_unit(index))
            if index in self._fused or index - 1 in self._fused:
                continue
            pooling = self._without_cores(index, layer)
            if pooling is not None:
                follows = index > 0 and layers[index - 1].output in reads(layer)
                if follows and units[-1].codes and not units[-1].pools and units[-1].fused is None:
                    units[-1] = replace(units[-1], pools=(pooling,))
                else:
                    units.append(Unit((), (pooling,)))
                continue
            assert isinstance(layer, Product | Sum)
            conv = self._conv(index, layer)
            plan = self._plan(conv)
            self.infos.append(_describe(conv, plan, layer))
            alone = len(plan.jobs) == 1
            unit = Unit(tuple(ConvCode(self.chip, conv, job, alone=alone) for job in plan.jobs), ())
            if units and self._together(units[-1], unit):
                units[-1] = Unit(units[-1].codes + unit.codes, ())
            else:
                units.append(unit)
        return units

    def _fused_plans(self) -> dict[int, FusedPlan]:
        """Plans of convolutions that are fused with the depthwise one behind them, by their numbers."""
        plans: dict[object, FusedPlan | None] = {}
        found = {}
        for index in fused_pairs(self.model, self.chip.geometry):
            conv, windows = self._pair(index)
            cores = tuple(core for core in cores_of(self.chip.geometry) if core.serves(conv))
            key = conv.shape, cores, windows.window, windows.target.item_bits
            if key not in plans:
                plans[key] = plan_fused(conv, windows, self.chip.geometry)
            if (plan := plans[key]) is not None:
                found[index] = plan
        return found

    def _pair(self, index: int) -> tuple[Conv, DepthwiseWindows]:
        """A convolution and the depthwise one behind it."""
        layer, following = self.model.layers[index : index + 2]
        assert isinstance(layer, Product) and isinstance(following, Product)
        source, target = self._maps[following.input.name], self._maps[following.output.name]
        return self._conv(index, layer), DepthwiseWindows(self.chip, index + 1, following, source, target)

    def _fused_unit(self, index: int) -> Unit:
        layer, plan = self.model.layers[index], self._fused[index]
        conv, windows = self._pair(index)
        found = bands(plan, windows, self.chip.geometry)
        jobs = tuple(job_of(plan, share, conv, found) for share in plan.shares)
        self.infos.append(_describe(conv, ConvPlan(jobs, plan.cycles), layer, fused=True))
        self.infos.append(_info(windows.target, "depthwise", ("dw", "store")))
        fused = FusedCode(self.chip, conv, windows, plan)
        return Unit(fused.codes, (), fused)

    def _together(self, before: Unit, unit: Unit) -> bool:
        """Whether two convolutions read the same tensor, neither adds the other, and memories hold what both keep."""
        if (
            before.pools
            or before.fused is not None
            or not before.codes
            or {code.source for code in before.codes + unit.codes} != {unit.codes[0].source}
            or {code.target for code in before.codes} & {code.residual for code in unit.codes}
        ):
            return False
        taken: dict[str, int] = defaultdict(int)
        for code in before.codes + unit.codes:
            for memory, words in code.stays.items():
                taken[memory] += words
        return all(words <= self.chip.buffers[memory].words for memory, words in taken.items())

    def _plan(self, conv: Conv) -> ConvPlan:
        # While DW is at work, LOAD is not.
        return plan_conv(conv, self.chip.geometry, early=conv.index - 2 in self._fused)

    def _conv(self, index: int, layer: Product | Sum) -> Conv:
        target = self._maps[layer.output.name]
        if isinstance(layer, Sum):
            source, residual = self._maps[layer.left.name], self._maps[layer.right.name]
            return conv_of(_identity(layer), index, source, target, residual, gathered=False)
        added = None if layer.residual is None else self._maps[layer.residual.name]
        gathered = self._gathers and layer.input is self.model.input
        return conv_of(layer, index, self._maps[layer.input.name], target, added, gathered=gathered)

    def _without_cores(self, index: int, layer: IntegerLayer) -> Pooling | None:
        """The code of a layer that neither core works on, None of others."""
        target = self._maps[layer.output.name]
        code: PoolCode | DepthwiseCode
        engines: tuple[str, ...]
        match layer:
            case Largest() | Average():
                kind, engines = "largest" if isinstance(layer, Largest) else "mean", ("load", "vec", "store")
                code = PoolCode(self.chip, index, layer, self._maps[layer.input.name], target)
            case Product() if runs_on_dw(layer, self.chip.geometry):
                kind, engines = "depthwise", ("load", "vec", "dw", "store")
                windows = DepthwiseWindows(self.chip, index, layer, self._maps[layer.input.name], target)
                code = DepthwiseCode(windows, self.chip, index)
            case _:
                return None
        self.infos.append(_info(target, kind, engines))
        return Pooling(code, code.tiles())


def _identity(layer: Sum) -> Product:
    """The addition of two stored tensors as a layer with weights: the one tensor times 1, the other added to it."""
    channels = layer.left.shape[-1]
    return Product(
        output=layer.output,
        input=layer.left,
        weight=np.eye(channels, dtype=np.int64)[None, None],
        weight_bits=np.full(channels, 2),
        bias=np.zeros(channels, np.int64),
        window=Window((1, 1)) if len(layer.left.shape) == 3 else None,
        groups=1,
        multiplier=np.full(channels, 1 << Q8_BITS),
        shift=0,
        residual=layer.right,
        mantissa=1,
        finish=layer.finish,
    )


def _info(target: FeatureMap, kind: str, engines: tuple[str, ...]) -> LayerInfo:
    return LayerInfo(target.name, kind, engines, "sample", 0, target.channels, (), 0, 0, (), ())


def _describe(conv: Conv, plan: ConvPlan, layer: IntegerLayer, *, fused: bool = False) -> LayerInfo:
    kind = "add" if isinstance(layer, Sum) else "dense" if layer.window is None else "conv"
    engines = tuple(f"gemm_{job.core.letter}" for job in plan.jobs)
    on_l = [job for job in plan.jobs if job.core.on_l]
    on_d = [job for job in plan.jobs if not job.core.on_l]
    return LayerInfo(
        name=conv.name,
        kind=kind,
        engines=("load", *engines, "vec", *(() if fused else ("store",))),
        node_type="sample",
        inputs=conv.lines * conv.taps * conv.source.channels,
        channels=conv.outputs,
        aggregations=(),
        tile_rows=max(tile.pixels for job in plan.jobs for tile in job.tiles),
        channels_on_l=sum(chunk.last - chunk.first for job in on_l for chunk in job.chunks),
        weight_bits_on_d=_bits(conv, on_d),
        weight_bits_on_l=_bits(conv, on_l),
    )


def _bits(conv: Conv, jobs: Sequence[object]) -> tuple[int, ...]:
    return tuple(np.unique(conv.weight_bits).tolist()) if jobs else ()
