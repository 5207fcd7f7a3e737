# SPDX-License-Identifier: Apache-2.0
"""Takes a float model to a bound program, and runs bound programs in the golden model and in emulators."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from hetfab.driver.graph.arrays import graph_arrays
from hetfab.driver.graph.heterograph import HeteroGraph
from hetfab.driver.graph.model_inputs import model_bindings, model_feeds, with_hops
from hetfab.hls.build.emulator import Emulator, Progress
from hetfab.overlay.bind import BoundProgram, bind
from hetfab.overlay.compiler.compile import compile_model
from hetfab.overlay.design import Design, Geometry, default_design
from hetfab.overlay.isa.codec import RegisterOffset, Segment
from hetfab.overlay.isa.golden import GoldenMachine
from hetfab.overlay.model.bound_model import BoundModel, FedModel
from hetfab.overlay.model.reader import check_model, normalise
from hetfab.overlay.model.runtime import run_model
from hetfab.overlay.program import Program
from hetfab.quantize.post_training import QuantizedModel, quantize
from hetfab.quantize.widths import Widths
from tests.random_models import Case

Bytes = npt.NDArray[np.uint8]
_FIRST_ADDRESS = 0x2000_0000
_GAP = 0x1_0000
_PASSES = 50_000_000


@dataclass(frozen=True)
class Executed:
    """What is left of a run: DRAM by segment, and the run log of an emulator."""

    dram: dict[Segment, Bytes]
    run_log: npt.NDArray[Any] | None = None


def design_of(geometry: Geometry) -> Design:
    """A design with a geometry, otherwise the default one."""
    return replace(default_design(), name="test", geometry=geometry)


def quantized(case: Case, widths: Widths = Widths()) -> QuantizedModel:  # noqa: B008 - it is immutable
    """The case's model, calibrated on its own graph; how weights are rounded plays no part in what tests do with it."""
    model = check_model(normalise(case.model), "the float model")
    bindings = model_bindings(model, case.graph)
    fed = FedModel(model, bindings, [model_feeds(model, bindings, case.graph)])
    return quantize(with_hops(fed, case.graph), widths=widths, method="nearest")


#: Shares of GEMM-D in a layer's output channels: the compiler's choice, one core alone, both.
SHARES = (None, 0.0, 0.5, 1.0)


def compiled(model: onnx.ModelProto, graph: HeteroGraph, geometry: Geometry, share: float | None = None) -> Program:
    """A program of a quantized model; ``share`` of each layer's output channels goes to GEMM-D."""
    return compile_model(BoundModel(model, model_bindings(model, graph)), design_of(geometry), share_on_d=share)


def bound_to(program: Program, graph: HeteroGraph, *, side_by_side: bool = False) -> BoundProgram:
    """The program bound to a graph; ``side_by_side`` as ``hetfab run`` binds it."""
    return bind(program, graph_arrays(program, graph), side_by_side=side_by_side)


def reference_logits(model: onnx.ModelProto, graph: HeteroGraph) -> npt.NDArray[np.float32]:
    """The logits of a model in onnxruntime."""
    feed = model_feeds(model, model_bindings(model, graph), graph)
    logits: npt.NDArray[np.float32] = run_model(model, feed, [model.graph.output[0].name])[0]
    return logits


def run_golden(bound: BoundProgram) -> Executed:
    """Runs a bound program in the golden model, instruction by instruction."""
    machine = GoldenMachine(bound.program.design.geometry)
    dram, bases = _dram(bound)
    for segment, content in dram.items():
        machine.map_memory(bases[segment], content)
        machine.segments[segment.name.lower()] = bases[segment], bound.sizes[segment]
    machine.run(bound.words.astype("<u8").tobytes())
    return Executed(dram)


def run_emulated(bound: BoundProgram, emulator: Emulator, seed: int = 0) -> Executed:
    """Runs a bound program in an emulator; ``seed`` draws the order in which engines are stepped."""
    dram, bases = _dram(bound)
    for segment, content in dram.items():
        emulator.map_memory(bases[segment], content)
        for name, value in (("BASE", bases[segment]), ("SIZE", bound.sizes[segment])):
            emulator.write_register(RegisterOffset[f"SEGMENT_{name}_{segment.name}_LOW"], value)
            emulator.write_register(RegisterOffset[f"SEGMENT_{name}_{segment.name}_HIGH"], 0)
    try:
        emulator.write_register(RegisterOffset.PROGRAM_LENGTH, len(bound.words))
        emulator.write_register(RegisterOffset.CONTROL, 1)
        assert emulator.advance(_PASSES, seed) is Progress.DONE, emulator.message()
        return Executed(dram, emulator.run_log())
    finally:
        for base in bases.values():
            emulator.unmap_memory(base)


def _dram(bound: BoundProgram) -> tuple[dict[Segment, Bytes], dict[Segment, int]]:
    """Each segment's memory, with noise where the program has to write, and its address."""
    noise = np.random.default_rng(0)
    dram: dict[Segment, Bytes] = {}
    bases: dict[Segment, int] = {}
    address = _FIRST_ADDRESS
    for segment in Segment:
        memory = noise.integers(0, 256, max(bound.sizes[segment], 64), dtype=np.uint8)
        content = bound.contents.get(segment, memory[:0])
        memory[: content.size] = content
        dram[segment], bases[segment] = memory, address
        address += memory.size + -memory.size % _GAP + _GAP
    return dram, bases
