# SPDX-License-Identifier: Apache-2.0
"""Random models on random graphs: golden model = emulator = C simulation byte for byte, = onnxruntime in all logits."""

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import onnx
import pytest

from hetfab.driver.graph.heterograph import Edges, HeteroGraph
from hetfab.hls.build.emulator import Emulator
from hetfab.overlay.bind import BoundProgram
from hetfab.overlay.isa.codec import Segment
from hetfab.overlay.isa.spec import isa
from hetfab.overlay.model.schema import Relation
from hetfab.quantize.widths import Widths
from tests.programs import (
    SHARES,
    Executed,
    bound_to,
    compiled,
    quantized,
    reference_logits,
    run_emulated,
    run_golden,
)
from tests.random_models import Case, ModelBuilder, academic_case, academic_graph, random_case

Emulators = dict[str, Emulator]
MODELS = 60
TINY_MODELS = 4


def assert_same_dram(first: Executed, second: Executed, bound: BoundProgram) -> None:
    for segment in Segment:
        size = bound.sizes[segment]
        assert np.array_equal(first.dram[segment][:size], second.dram[segment][:size]), segment.name


def assert_equals_onnxruntime(
    executed: Executed, bound: BoundProgram, model: onnx.ModelProto, graph: HeteroGraph
) -> npt.NDArray[np.int32]:
    logits = bound.logits(executed.dram[Segment.OUTPUT])
    # onnxruntime carries logits in float32, which rounds those beyond 2^24 steps.
    values = (logits * bound.program.output.scale).astype(np.float32)
    np.testing.assert_array_equal(values, reference_logits(model, graph))
    return logits


def natives(emulators: Emulators) -> list[Emulator]:
    """The executions with native integers: plain and host bodies."""
    return [emulators["native"], emulators["host"]]


def check(
    model: onnx.ModelProto, graph: HeteroGraph, designs: list[list[Emulator]], share: float | None = None
) -> list[BoundProgram]:
    """Compiles for each design and compares all executions of it; returns the bound programs.

    Args:
        model: Quantized.
        graph: What it runs on.
        designs: Emulators of each design.
        share: Of each layer's output channels, what GEMM-D gets; None for the compiler's choice.
    """
    programs = []
    for emulators in designs:
        bound = bound_to(compiled(model, graph, emulators[0].geometry, share), graph)
        golden = run_golden(bound)
        assert_equals_onnxruntime(golden, bound, model, graph)
        executed = [run_emulated(bound, emulator) for emulator in emulators]
        for one in executed:
            assert_same_dram(one, golden, bound)
            assert one.run_log is not None and executed[0].run_log is not None
            assert np.array_equal(one.run_log, executed[0].run_log)
        programs.append(bound)
    return programs


@pytest.mark.parametrize("seed", range(MODELS))
def test_golden_model_emulator_and_onnxruntime_agree(
    seed: int, default_emulators: Emulators, small_emulators: Emulators
) -> None:
    case = random_case(seed)
    designs = [natives(default_emulators), natives(small_emulators)]
    check(quantized(case).model, case.graph, designs, SHARES[seed % len(SHARES)])


@pytest.mark.parametrize("seed", range(100, 100 + TINY_MODELS))
def test_checked_integers_and_ap_int_agree(seed: int, default_emulators: Emulators) -> None:
    case = random_case(seed, largest_count=17)
    model = quantized(case).model
    designs = [[default_emulators["native-debug"], default_emulators["ap_int"]]]
    check(model, case.graph, designs, SHARES[seed % len(SHARES)])


@pytest.mark.parametrize("seed", range(200, 203))
def test_no_byte_and_no_record_depends_on_the_schedule(seed: int, small_emulators: Emulators) -> None:
    case = random_case(seed)
    emulator = small_emulators["native"]
    bound = bound_to(compiled(quantized(case).model, case.graph, emulator.geometry, 0.5), case.graph)
    in_turn = run_emulated(bound, emulator)
    assert in_turn.run_log is not None and len(in_turn.run_log) == len(bound.words)
    for schedule in (1, 2, 3):
        drawn = run_emulated(bound, emulator, schedule)
        assert_same_dram(drawn, in_turn, bound)
        assert drawn.run_log is not None and np.array_equal(drawn.run_log, in_turn.run_log)


def instructions(bound: BoundProgram, operation: str, layer: int | None = None) -> npt.NDArray[np.uint64]:
    """The low words of one operation's instructions in a bound stream, of one layer or of all."""
    found = isa().operation(operation)
    low = bound.words[:, 0] if layer is None else bound.words[bound.layers == layer, 0]
    chosen: npt.NDArray[np.uint64] = low[(low & np.uint64(0xFF)) == (isa().engine(found.engine).id | found.opcode << 4)]
    return chosen


@pytest.mark.parametrize("counts", [(33, 10, 7), (0, 10, 7), (33, 0, 7), (1, 1, 1), (131, 130, 65)])
def test_a_program_runs_on_graphs_of_other_sizes(
    counts: tuple[int, int, int], default_emulators: Emulators, small_emulators: Emulators
) -> None:
    """Without a learned table, counts, edges and features may all change."""
    random = np.random.default_rng(0)
    case = academic_case()
    model = quantized(case).model
    other = academic_graph(random, *counts)
    for bound in check(model, other, [natives(default_emulators), natives(small_emulators)]):
        assert bound.counts["paper"] == counts[0]


@pytest.mark.parametrize("width", [5, 130])
@pytest.mark.parametrize("learned", [True, False])
def test_a_type_may_have_no_vertices(
    learned: bool, width: int, default_emulators: Emulators, small_emulators: Emulators
) -> None:
    """Its tensors still have an address, also that of their last columns."""
    random = np.random.default_rng(1)
    graph = academic_graph(random, 20, 9, 0)
    graph = replace(graph, features={**graph.features, "term": np.zeros((0, width), np.float32)})
    builder = ModelBuilder(random, graph)
    term = builder.table("term", width) if learned else builder.features("term")
    hidden = builder.relu(builder.dense(term, width))
    terms = [builder.mean(rows, "in", "paper") for rows in (hidden, term)]
    terms += [builder.dense(builder.features("paper"), width)]
    model = quantized(Case(builder.finish(builder.total(terms)), graph)).model
    check(model, graph, [natives(default_emulators), natives(small_emulators)])


def test_relations_beyond_the_contexts_share_one(default_emulators: Emulators, small_emulators: Emulators) -> None:
    random = np.random.default_rng(2)
    graph = academic_graph(random, 70, 40, 30)
    builder = ModelBuilder(random, graph)
    sources = {"writes": "author", "reviews": "author", "cites": "paper", "in": "term"}
    rows = {"author": builder.features("author"), "paper": builder.features("paper"), "term": builder.table("term", 7)}
    terms = [builder.mean(builder.dense(rows[source], 70), name, "paper") for name, source in list(sources.items()) * 5]
    model = quantized(Case(builder.finish(builder.total(terms)), graph)).model
    for bound in check(model, graph, [natives(default_emulators), natives(small_emulators)]):
        reductions = len(instructions(bound, "reduce"))
        assert len(bound.program.layers[-1].aggregations) == 20 > bound.program.design.geometry.agg_contexts
        assert len(instructions(bound, "configure_ids")) == reductions > 20


@pytest.mark.parametrize(
    ("operation", "place", "widths", "inputs"),
    # Planes of several steps in the default design take minutes.
    [("matmul", 60, Widths(), 6000), ("matmul_planes", 59, Widths(2, 2), 4400)],
    ids=["gemm_d", "gemm_l"],
)
@pytest.mark.parametrize("kind", ["requantize", "combine", "export_sums", "export_accumulators"])
def test_layers_of_several_input_and_column_tiles(
    kind: str,
    operation: str,
    place: int,
    widths: Widths,
    inputs: int,
    default_emulators: Emulators,
    small_emulators: Emulators,
) -> None:
    random = np.random.default_rng(3)
    graph = academic_graph(random, 70, 40, 30)
    wide = random.integers(0, 2, (70, inputs)).astype(np.float32)
    graph = replace(graph, features={**graph.features, "paper": wide})
    builder = ModelBuilder(random, graph)
    dense = builder.dense(builder.features("paper"), 130)
    mean = builder.mean(builder.dense(builder.features("author"), 130), "writes", "paper")
    match kind:
        case "requantize":
            logits = builder.mean(builder.relu(dense), "cites", "paper")
        case "combine":
            logits = builder.mean(builder.relu(builder.total([dense, mean])), "cites", "paper")
        case "export_sums":
            logits = builder.total([dense, mean])
        case "export_accumulators":
            logits = dense
    model = quantized(Case(builder.finish(logits), graph), widths).model
    passes = []
    designs = [natives(default_emulators)] if operation == "matmul" else []
    for bound in check(model, graph, [*designs, natives(small_emulators)], float(operation == "matmul")):
        assert kind in [layer.kind for layer in bound.program.layers]
        layer = next(i for i, layer in enumerate(bound.program.layers) if layer.inputs == inputs)
        accumulate = instructions(bound, operation, layer) >> np.uint64(place) & np.uint64(1)
        assert accumulate.any() and not accumulate.all(), "several steps over the input channels"
        passes.append(len(instructions(bound, "load_parameters", layer)))
    assert max(passes) > 1, "several passes over the columns"


def test_ids_of_32_bits_and_the_largest_degree(default_emulators: Emulators) -> None:
    random = np.random.default_rng(4)
    counts = {"many": 70_000, "few": 3}
    relation = Relation("many", "into", "few")
    ids = np.concatenate([np.arange(65_535), [69_999, 69_999, 3]])
    edges = Edges(ids, np.repeat([0, 2], [65_535, 3]))
    features = {"many": random.choice([0.0, 255.0], (70_000, 5), p=[0.01, 0.99]).astype(np.float32)}
    graph = HeteroGraph("large", "few", counts, {relation: edges}, features)
    builder = ModelBuilder(random, graph)
    model = quantized(Case(builder.finish(builder.mean(builder.features("many"), "into", "few")), graph)).model
    (bound,) = check(model, graph, [natives(default_emulators)])
    assert bound.program.tensor("x_many").scale == 1.0
