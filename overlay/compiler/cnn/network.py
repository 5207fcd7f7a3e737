# SPDX-License-Identifier: Apache-2.0
"""Compiles the integer layers of a convolutional network: one instruction stream for one sample.

Layers follow each other in the stream, but not in time: an engine waits only for what it needs. Pooling of a
convolution's result is emitted between its tiles, as soon as their lines are stored.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from hetfab.overlay.compiler.cnn.chip import Chip
from hetfab.overlay.compiler.cnn.conv import Conv, conv_of
from hetfab.overlay.compiler.cnn.conv_code import ConvCode
from hetfab.overlay.compiler.cnn.planning import ConvPlan, plan_conv
from hetfab.overlay.compiler.cnn.pool_code import PoolCode, PoolTile
from hetfab.overlay.compiler.cnn.storage import feature_map, gathers, images_of
from hetfab.overlay.design import Design
from hetfab.overlay.images import Image
from hetfab.overlay.isa.arithmetic import LARGEST_DEGREE, Q8_BITS
from hetfab.overlay.model.cnn.integer import Average, IntegerCnn, IntegerLayer, Largest, Product, Sum
from hetfab.overlay.model.cnn.window import Window
from hetfab.overlay.program import LayerInfo, Limits, Output, Program, Tensor


def compile_cnn(model: IntegerCnn, design: Design, *, name: str = "model", keep: bool = False) -> Program:
    """Compiles a network on samples; the program has no model's hash and no binding.

    Args:
        model: Its integer layers.
        design: The design to compile for.
        name: Name of the model, for reports.
        keep: Whether every tensor keeps its place in DRAM, so that all can be read after a run.

    Raises:
        DesignInvalidError: The design lacks an engine or a memory that the network needs.
        DesignTooSmallError: A buffer of the design cannot hold the least part of a layer.
        OverflowPossibleError: The design has GEMM-L only, whose sums are too narrow for a layer.
    """
    compiler = _Compiler(model, design, images_of(model, design.geometry, keep=keep))
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


@dataclass(frozen=True)
class _Pooling:
    """A pooling layer and the tiles of it that are not emitted."""

    code: PoolCode
    tiles: list[PoolTile]

    def emit(self, pending: frozenset[int] | set[int], steps_left: int) -> None:
        """Emits tiles that read no pending line: as many as fall to one of the steps that are left.

        More at once would keep VEC from the cores' results, and LOAD from what they need next.
        """
        ready = [tile for tile in self.tiles if pending.isdisjoint(range(tile.reads, tile.needs))]
        ready = ready[: -(-len(self.tiles) // (1 + steps_left))]
        self.tiles[:] = [tile for tile in self.tiles if tile not in ready]
        for tile in ready:
            self.code.emit(tile)


@dataclass(frozen=True)
class _Unit:
    """What is emitted together: a convolution's parts on the cores, and pooling of its result; or one of the two."""

    codes: tuple[ConvCode, ...]
    pools: tuple[_Pooling, ...]


class _Compiler:
    """State of one compilation."""

    def __init__(self, model: IntegerCnn, design: Design, images: Mapping[str, Image]) -> None:
        self.model = model
        self.images = images
        self.chip = Chip(design.geometry)
        self.infos: list[LayerInfo] = []
        self._maps = {name: feature_map(image) for name, image in images.items()}
        self._gathers = gathers(model, design.geometry)

    def run(self) -> None:
        """Emits all layers."""
        units = self._units()
        for number, unit in enumerate(units):
            self._emit(unit, units[number + 1] if number + 1 < len(units) else _Unit((), ()))

    def _units(self) -> list["_Unit"]:
        """The layers in order, pooling with the convolution before it."""
        layers = self.model.layers
        units: list[_Unit] = []
        for index, layer in enumerate(layers):
            if isinstance(layer, Largest | Average):
                pooling = self._pooling(index, layer)
                joins = index > 0 and layer.input is layers[index - 1].output
                if joins and not units[-1].pools:
                    units[-1] = replace(units[-1], pools=(pooling,))
                else:
                    units.append(_Unit((), (pooling,)))
                continue
            conv = self._conv(index, layer)
            plan = plan_conv(conv, self.chip.geometry)
            self.infos.append(_describe(conv, plan, layer))
            units.append(_Unit(tuple(ConvCode(self.chip, conv, job) for job in plan.jobs), ()))
        return units

    def _emit(self, unit: "_Unit", following: "_Unit") -> None:
        """Emits a unit, always the step of the core that is behind, and pooling where lines are complete.

        Half-way the weights of the next unit begin to come, as far as there is room beside those of this one.
        """
        for code in unit.codes:
            code.prefetch(-1 if code.waits_for_all else code.layer - 1)
        total = sum(code.steps_left for code in unit.codes)
        open_codes: list[tuple[float, int, Iterator[float]]] = []
        for number, code in enumerate(unit.codes):
            steps = code.run()
            open_codes.append((next(steps), number, steps))
        early = False
        while open_codes:
            _, number, steps = open_codes.pop(open_codes.index(min(open_codes, key=lambda one: one[:2])))
            time = next(steps, None)
            if time is not None:
                open_codes.append((time, number, steps))
            pending = set().union(*(code.pending_lines() for code in unit.codes))
            left = sum(code.steps_left for code in unit.codes)
            for pooling in unit.pools:
                pooling.emit(pending, left)
            if not early and 2 * left <= total:
                early = True
                for code in following.codes:
                    code.prefetch(unit.codes[0].layer)
        for code in following.codes:
            code.prefetch(-1 if code.waits_for_all else code.layer - 1)
        for pooling in unit.pools:
            pooling.emit(frozenset(), 0)

    def _conv(self, index: int, layer: Product | Sum) -> Conv:
        target = self._maps[layer.output.name]
        if isinstance(layer, Sum):
            source, residual = self._maps[layer.left.name], self._maps[layer.right.name]
            return conv_of(_identity(layer), index, source, target, residual, gathered=False)
        residual = None if layer.residual is None else self._maps[layer.residual.name]
        source = self._maps[layer.input.name]
        gathered = self._gathers and layer.input is self.model.input
        return conv_of(layer, index, source, target, residual, gathered=gathered)

    def _pooling(self, index: int, layer: Largest | Average) -> _Pooling:
        source, target = self._maps[layer.input.name], self._maps[layer.output.name]
        code = PoolCode(self.chip, index, layer, source, target)
        kind = "largest" if isinstance(layer, Largest) else "mean"
        self.infos.append(_info(target.name, kind, ("load", "vec", "store"), target.channels))
        return _Pooling(code, code.tiles())


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


def _describe(conv: Conv, plan: ConvPlan, layer: IntegerLayer) -> LayerInfo:
    kind = "add" if isinstance(layer, Sum) else "dense" if layer.window is None else "conv"
    engines = tuple(f"gemm_{job.core.letter}" for job in plan.jobs)
    on_l = [job for job in plan.jobs if job.core.on_l]
    on_d = [job for job in plan.jobs if not job.core.on_l]
    return LayerInfo(
        name=conv.name,
        kind=kind,
        engines=("load", *engines, "vec", "store"),
        node_type="sample",
        inputs=conv.lines * conv.taps * conv.source.channels,
        channels=conv.outputs,
        aggregations=(),
        tile_rows=max(tile.pixels for job in plan.jobs for tile in job.tiles),
        channels_on_l=sum(job.chunks[-1].last - job.chunks[0].first for job in on_l),
        weight_bits_on_d=_bits(conv, on_d),
        weight_bits_on_l=_bits(conv, on_l),
    )


def _bits(conv: Conv, jobs: Sequence[object]) -> tuple[int, ...]:
    return tuple(np.unique(conv.weight_bits).tolist()) if jobs else ()


def _info(name: str, kind: str, engines: tuple[str, ...], channels: int) -> LayerInfo:
    return LayerInfo(name, kind, engines, "sample", 0, channels, (), 0, 0, (), ())
