# SPDX-License-Identifier: Apache-2.0
"""The best design of a kind for one workload: ranked by the compiler's own estimate, the best few timed. All modelled.

The estimate is the cycles of all rows in the steady state of their tiles, where the slowest of LOAD, both cores, VEC
and STORE decides. The timeline simulator times compiled and bound programs at 8 bytes of DRAM a cycle.
"""

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
import onnx

from benchmarks.core_designs import CORES, held_designs, holds
from benchmarks.dense_layers import DenseWorkload, mlp, sehgnn
from benchmarks.gemm_model import for_depthwise
from benchmarks.image_shapes import mobilenet_v2, resnet18
from hetfab.driver.graph.arrays import graph_arrays
from hetfab.driver.graph.facts import graph_facts
from hetfab.driver.graph.feeds import SemanticGraphs
from hetfab.driver.graph.heterograph import HeteroGraph
from hetfab.driver.graph.model_inputs import model_bindings, open_model, with_hops
from hetfab.driver.graph.npz import read_graph
from hetfab.driver.semantic_graphs import bound_metapaths, build_semantic_graphs
from hetfab.overlay.bind import BoundProgram, bind
from hetfab.overlay.bind_samples import bind_sample, sample_shape
from hetfab.overlay.compiler.cnn.network import compile_cnn
from hetfab.overlay.compiler.compile import compile_model, suited_design
from hetfab.overlay.compiler.first_projection import FirstProjection
from hetfab.overlay.compiler.lowered import LoweredModel
from hetfab.overlay.compiler.lowering import lower
from hetfab.overlay.compiler.model_plan import plan_model
from hetfab.overlay.compiler.planning import plan_layers
from hetfab.overlay.costs.cycles import products_per_cycle
from hetfab.overlay.costs.program_cost import expected_log
from hetfab.overlay.design import IMAGE_DESIGN, Design, default_design
from hetfab.overlay.errors import DesignTooSmallError, OverflowPossibleError
from hetfab.overlay.model.bound_model import BoundModel
from hetfab.overlay.model.cnn.integer import IntegerCnn
from hetfab.overlay.model.reader import read_model
from hetfab.overlay.timeline.machine import COMPARISON_RATE, machine
from hetfab.overlay.timeline.simulate import Timeline, simulate
from hetfab.quantize.post_training import quantize
from hetfab.quantize.widths import OFFERED

BOARD = "pynq-z2"
GRAPHS, KINDS = ("acm", "dblp", "imdb"), ("rgcn", "rgat", "han", "simplehgn", "sehgnn")
GRAPH_MODELS = tuple(f"{graph}_{kind}" for kind in KINDS for graph in GRAPHS)


@dataclass(frozen=True)
class Timed:
    """A design and what it does to a workload."""

    design: Design
    milliseconds: float
    timeline: Timeline
    layers: Sequence[str]


class Workload(Protocol):
    """What is timed."""

    def base(self, kind: str) -> Design:
        """What all designs of a kind have in common."""
        ...

    def rankings(self, designs: Sequence[Design]) -> Iterator[Sequence[Design]]:
        """The designs that can run it, the most promising first, in one or several ways."""
        ...

    def bound(self, design: Design) -> BoundProgram:
        """It compiled for a design."""
        ...


@dataclass(frozen=True)
class Best:
    """The fastest of a sweep.

    Attributes:
        timed: It.
        points: Points of the sweep.
        timed_designs: Designs that were timed.
    """

    timed: Timed
    points: int
    timed_designs: int


def best_design(workload: Workload, kind: str, at_once: int) -> Best:
    """The fastest design of a kind; a default design that is one is among those that are timed.

    Args:
        workload: What runs.
        kind: One of ``CORES``.
        at_once: How many of each ranking are timed.
    """
    base = workload.base(kind)
    designs, points = held_designs(base, CORES[kind])
    chosen = {design.geometry: design for ranking in workload.rankings(designs) for design in ranking[:at_once]}
    if {core for core in CORES["both"] if core in base.geometry.engines} == set(CORES[kind]) and holds(base):
        chosen[base.geometry] = base
    found = [timed(workload, design) for design in chosen.values()]
    return Best(min(found, key=lambda one: one.milliseconds), points, len(found))


def timed(workload: Workload, design: Design) -> Timed:
    """A workload on a design in the timeline simulator."""
    bound = workload.bound(design)
    found = simulate(bound.words, expected_log(bound), replace(machine(design), dram_rate=COMPARISON_RATE))
    return Timed(design, found.milliseconds, found, [layer.name for layer in bound.program.layers])


@dataclass(frozen=True)
class Dense:
    """Dense layers alone."""

    layers: DenseWorkload

    def base(self, kind: str) -> Design:
        """The default design without AGG, of any kind."""
        design = default_design(BOARD)
        engines = tuple(name for name in design.geometry.engines if name != "agg")
        sizes = {"acc_d_words": 512, "acc_l_words": 512, "par_words": 256}
        return replace(design, geometry=replace(design.geometry, engines=engines, **sizes))

    def rankings(self, designs: Sequence[Design]) -> Iterator[Sequence[Design]]:
        """By the estimate."""
        rows = {layer.name: layer.rows for layer in self.layers.layers}
        yield ranked(self.layers.lowered(), rows, designs)

    def bound(self, design: Design) -> BoundProgram:
        """As the workload binds it."""
        return self.layers.bound(design)


@dataclass(frozen=True, eq=False)
class OnGraph:
    """A quantized model and its graph; first projections as they are fastest on each design."""

    model: onnx.ModelProto
    graph: HeteroGraph

    @functools.cached_property
    def _given(self) -> BoundModel:
        return BoundModel(self.model, model_bindings(self.model, self.graph))

    @functools.cached_property
    def _lowered(self) -> LoweredModel:
        return lower(self._given.model, self._given.bindings)

    @functools.cached_property
    def _semantic(self) -> SemanticGraphs:
        paths = bound_metapaths(self._given.bindings)
        return build_semantic_graphs(self.graph, paths).graphs if paths else {}

    def base(self, kind: str) -> Design:
        """The default design for the model's layers, of any kind."""
        return self._suited

    @functools.cached_property
    def _suited(self) -> Design:
        return suited_design(self._lowered)

    def _planned(self, design: Design, asked: FirstProjection = FirstProjection.AUTO) -> LoweredModel:
        return plan_model(self._lowered, design, graph_facts(self.graph, self._lowered), asked).lowered

    def rankings(self, designs: Sequence[Design]) -> Iterator[Sequence[Design]]:
        """By the estimate, with features as the base design reads them, and multiplied as they are."""
        rows = self._rows()
        for asked in (FirstProjection.AUTO, FirstProjection.DENSE):
            yield ranked(self._planned(self._suited, asked), rows, designs)

    def _rows(self) -> dict[str, int]:
        program = compile_model(self._given, self._suited, lowered=self._lowered)
        counts = program.all_counts(self.graph.counts)
        return {layer.name: counts[layer.node_type] for layer in program.layers}

    def bound(self, design: Design) -> BoundProgram:
        """With the graph's own edges."""
        program = compile_model(self._given, design, lowered=self._planned(design))
        return bind(program, graph_arrays(program, self.graph, self._semantic))


@dataclass(frozen=True)
class OnSamples:
    """A network on samples."""

    network: IntegerCnn
    depthwise: bool

    def base(self, kind: str) -> Design:
        """The design for images, with DW where the network has depthwise convolutions.

        MobileNetV2's last layer has sums of 25 bits: GEMM-L takes them where there is no GEMM-D for it.
        """
        design = for_depthwise() if self.depthwise else default_design(IMAGE_DESIGN)
        wider = self.depthwise and "gemm_d" not in CORES[kind]
        geometry = design.geometry
        return replace(design, geometry=replace(geometry, gemm_l_acc_bits=geometry.gemm_l_acc_bits + wider))

    def rankings(self, designs: Sequence[Design]) -> Iterator[Sequence[Design]]:
        """By the products that the arrays make in a cycle, then by their memories: a plan takes minutes."""
        yield sorted(designs, key=_products, reverse=True)

    def bound(self, design: Design) -> BoundProgram:
        """With a sample of zeros, which changes no time."""
        program = compile_cnn(self.network, design)
        return bind_sample(program, np.zeros(sample_shape(program), np.float32))


def ranked(lowered: LoweredModel, rows: dict[str, int], designs: Sequence[Design]) -> Sequence[Design]:
    """Designs by the estimate; those that cannot run the layers are left out."""
    found = []
    for design in designs:
        try:
            plans = plan_layers(lowered, design.geometry)
        except (DesignTooSmallError, OverflowPossibleError):
            continue
        cycles = sum(rows[plan.layer.output.name] * plan.tile.row_cycles for plan in plans)
        found.append((cycles, design))
    return [design for _, design in sorted(found, key=lambda one: one[0])]


def _products(design: Design) -> tuple[int, int]:
    geometry = design.geometry
    return products_per_cycle(geometry, 4, 4), geometry.wgt_d_words + geometry.wgt_l_words


def graph_model(name: str, bits: str, folder: Path, data: Path) -> OnGraph:
    """A public model at these widths, quantized anew unless the folder has it, in the quickest way: no time changes."""
    graph = read_graph(data / name.partition("_")[0] / "graph.npz")
    kept = folder / f"{name}.{bits}.q.onnx"
    if not kept.exists():
        given = with_hops(open_model(data / "models" / f"{name}.onnx", graph), graph)
        onnx.save(quantize(given, widths=OFFERED[bits], method="nearest").model, kept)
    return OnGraph(read_model(kept), graph)


#: Workloads that need no data; networks on samples have first and last layers of 8 bits.
WITHOUT_DATA: dict[str, Callable[[], Workload]] = {
    "mlp": lambda: Dense(mlp()),
    "sehgnn_512": lambda: Dense(sehgnn()),
    "resnet18": lambda: OnSamples(resnet18(), depthwise=False),
    "mobilenetv2": lambda: OnSamples(mobilenet_v2(), depthwise=True),
}
