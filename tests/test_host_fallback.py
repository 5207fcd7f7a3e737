# SPDX-License-Identifier: Apache-2.0
"""Operators on rows that the overlay does not execute run in onnxruntime, between its layers, where that is allowed."""

import base64
import functools
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx.helper
import pytest

from hetfab.cli.main import main
from hetfab.driver.emulated import EmulatedTransport
from hetfab.driver.graph.arrays import graph_arrays
from hetfab.driver.graph.graph_rows import GraphRows
from hetfab.driver.graph.model_inputs import on_graph
from hetfab.driver.graph.npz import write_graph
from hetfab.driver.host_runs import HostRuns, stored_rows_of
from hetfab.driver.layer_runs import LayerRuns
from hetfab.driver.node_runs import NodeRuns
from hetfab.driver.overlay import HetfabOverlay
from hetfab.driver.session import Session
from hetfab.overlay.bind import bind
from hetfab.overlay.compiler.compile import compile_model
from hetfab.overlay.errors import (
    HostFallbackError,
    OperatorsUnsupportedError,
    PackageMissingError,
    ProgramUnreadableError,
)
from hetfab.overlay.host_nodes import Fallback
from hetfab.overlay.model.host_operators import host_operator, run_operator
from hetfab.overlay.model.reader import check_model, normalise
from hetfab.overlay.program import Program, Tensor, read_program, write_program
from hetfab.quantize.layer_times import TimedGraph
from hetfab.quantize.post_training import QuantizedModel, quantize
from hetfab.quantize.widths import Widths
from tests.conftest import SMALL_GEOMETRY
from tests.programs import design_of, reference_logits
from tests.random_models import Case, ModelBuilder, academic_graph

LIMIT = 1 << 24
Build = Callable[[ModelBuilder], str]


@pytest.fixture(scope="module")
def session() -> Iterator[Session]:
    """An emulated overlay of the small design."""
    design = design_of(SMALL_GEOMETRY)
    with EmulatedTransport(design) as transport:
        yield Session(transport, design)


def layer(builder: ModelBuilder, paper: str, author: str, width: int) -> str:
    return builder.total([builder.mean(builder.dense(author, width), "writes", "paper"), builder.dense(paper, width)])


def between(builder: ModelBuilder) -> str:
    """A function of hidden rows that has no table on the overlay."""
    paper, author = builder.features("paper"), builder.features("author")
    hidden = builder.operator("Softplus", layer(builder, paper, author, 9))
    return builder.total([builder.mean(hidden, "cites", "paper"), builder.dense(hidden, 9)])


def at_the_beginning(builder: ModelBuilder) -> str:
    paper, author = builder.features("paper"), builder.features("author")
    return layer(builder, builder.operator("Sin", paper), author, 5)


def at_the_end(builder: ModelBuilder) -> str:
    paper, author = builder.features("paper"), builder.features("author")
    return builder.operator("LogSoftmax", layer(builder, paper, author, 4), axis=-1)


def everywhere(builder: ModelBuilder) -> str:
    """Of one and of two inputs, of several widths, one behind another, before sums and before means."""
    paper, author = builder.features("paper"), builder.features("author")
    start = builder.operator("Softsign", author)
    first = layer(builder, paper, start, 8)
    gate = builder.operator("HardSigmoid", builder.dense(paper, 8))
    gated = builder.operator("Mul", first, gate)
    joined = builder.operator("Concat", gated, builder.operator("Relu", gated), paper, axis=1, width=33)
    hidden = builder.relu(builder.dense(joined, 9))
    plus = builder.total([builder.mean(hidden, "cites", "paper"), builder.operator("Mish", builder.dense(hidden, 9))])
    return builder.operator("Tanh", plus)


def of_a_table(builder: ModelBuilder) -> str:
    paper, term = builder.features("paper"), builder.table("term", 6)
    hidden = builder.mean(builder.operator("Sin", term), "in", "paper")
    return builder.total([hidden, builder.dense(paper, 6)])


def of_a_function_in_a_wrong_place(builder: ModelBuilder) -> str:
    """Sigmoid is a table on the overlay, but not behind another function."""
    paper, author = builder.features("paper"), builder.features("author")
    hidden = builder.operator("Sigmoid", builder.relu(layer(builder, paper, author, 7)))
    return builder.dense(hidden, 3)


MODELS = (between, at_the_beginning, at_the_end, everywhere, of_a_table, of_a_function_in_a_wrong_place)


@functools.cache
def case_of(build: Build) -> Case:
    random = np.random.default_rng(5)
    graph = academic_graph(random, 40, 30, 5)
    builder = ModelBuilder(random, graph)
    return Case(check_model(normalise(builder.finish(build(builder))), "the float model"), graph)


@functools.cache
def quantized(build: Build, widths: Widths = Widths()) -> QuantizedModel:  # noqa: B008 - it is immutable
    case = case_of(build)
    return quantize(on_graph(case.model, case.graph), widths=widths, fallback=Fallback.HOST)


@functools.cache
def program_of(build: Build, widths: Widths = Widths()) -> Program:  # noqa: B008 - it is immutable
    return compile_model(quantized(build, widths), design_of(SMALL_GEOMETRY), fallback=Fallback.HOST)


@pytest.mark.parametrize(
    ("build", "widths"), [*((build, Widths()) for build in MODELS), (between, Widths(4, 4)), (everywhere, Widths(4, 4))]
)
def test_results_are_those_of_the_quantized_model(build: Build, widths: Widths, session: Session) -> None:
    """Of the whole graph, of some nodes, in batches and in parts; tensors of 4 bits are two in a byte."""
    graph, program = case_of(build).graph, program_of(build, widths)
    runs = NodeRuns(GraphRows(program, graph), LIMIT)
    plan = runs.layers.plan()
    whole = runs.layers.run(session, plan).result
    np.testing.assert_array_equal(whole.values, reference_logits(quantized(build, widths).model, graph))
    asked = np.array([3, 17, 3])
    some = runs.predict(session, asked)
    np.testing.assert_array_equal(some.result.logits, whole.logits[asked])
    batched = runs.predict(session, np.arange(5), batch=2)
    np.testing.assert_array_equal(batched.result.logits, whole.logits[:5])
    small = LayerRuns(GraphRows(program, graph), plan.largest_bytes - 1)
    in_parts = small.plan()
    assert in_parts.parts > plan.parts
    np.testing.assert_array_equal(small.run(session, in_parts).result.logits, whole.logits)
    assert list(whole.host) == [node.operator for node in program.host_nodes]


def test_what_the_host_took_is_counted(session: Session) -> None:
    graph, program = case_of(between).graph, program_of(between)
    runs = NodeRuns(GraphRows(program, graph), LIMIT)
    (use,) = runs.layers.run(session, runs.layers.plan()).result.host.values()
    row_bytes = 64 + 64
    assert (use.times, use.rows, use.bytes) == (1, 40, 40 * row_bytes) and use.milliseconds > 0
    (use,) = runs.predict(session, np.arange(3), batch=1).result.host.values()
    assert use.times == 3 and use.bytes == use.rows * row_bytes


@pytest.mark.parametrize("operator", ["Sin", "Atan", "Softmax"])
def test_a_rows_result_does_not_depend_on_other_rows(operator: str) -> None:
    """Whatever their number: onnxruntime rounds some functions in another way behind whole vectors."""
    rows = (3 * np.random.default_rng(0).normal(size=(130, 9))).astype(np.float32)
    found = host_operator(onnx.helper.make_node(operator, ["x"], ["y"]), {"x": 9}, {}, 20)
    assert found is not None and found[1] == 9
    whole = run_operator(found[0], [rows])
    for count in (1, 2, 3, 5, 7, 13, 31, 63, 65, 129):
        np.testing.assert_array_equal(run_operator(found[0], [rows[130 - count :]]), whole[130 - count :])


def test_onnxruntime_gets_whole_units_of_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    program, lengths = program_of(between), []
    host, node = HostRuns(program), program.host_nodes[0]
    session = host._session(node)

    class Listening:
        def run(self, outputs: None, feed: dict[str, npt.NDArray[np.float32]]) -> list[npt.NDArray[np.float32]]:
            lengths.append(len(feed["rows_0"]))
            found: list[npt.NDArray[np.float32]] = session.run(outputs, feed)
            return found

    monkeypatch.setattr(host, "_session", lambda node: Listening())
    tensor = program.tensor(node.inputs[0])
    content = stored_rows_of(tensor, _integers(np.random.default_rng(0), tensor, 130) * np.float32(tensor.scale))
    for count in (1, 64, 65):
        assert host.rows(node, [content[:count]])[0].shape[0] == count
    assert lengths == [64, 64, 128]


def _integers(random: np.random.Generator, tensor: Tensor, rows: int) -> npt.NDArray[np.float32]:
    highest = (1 << (tensor.bits - tensor.signed)) - 1
    lowest = -highest - 1 if tensor.signed else 0
    return random.integers(lowest, highest + 1, (rows, tensor.channels)).astype(np.float32)


def test_a_program_file_keeps_the_operators(tmp_path: Path) -> None:
    program = program_of(everywhere)
    write_program(tmp_path / "model.hfp", program)
    read = read_program(tmp_path / "model.hfp")
    assert read.host_nodes == program.host_nodes and len(read.host_nodes) == 7
    on_host = [layer for layer in read.layers if layer.kind == "host"]
    assert len(on_host) == 7 and not any(layer.channels_on_d or layer.channels_on_l for layer in on_host)


def test_a_damaged_operator_is_refused_by_name(tmp_path: Path) -> None:
    program = program_of(between)
    node = program.host_nodes[0]
    content = [np.zeros((1, program.tensor(node.inputs[0]).row_bytes), np.uint8)]
    damaged = replace(node, model=base64.b64encode(b"garbage").decode())
    with pytest.raises(ProgramUnreadableError, match="onnxruntime refuses the model of Softplus 't4', which computes"):
        HostRuns(program).rows(damaged, content)
    write_program(tmp_path / "model.hfp", replace(program, host_nodes=(replace(node, inputs=()),)))
    with pytest.raises(ProgramUnreadableError, match="reads nothing"):
        read_program(tmp_path / "model.hfp")


@pytest.mark.parametrize("build", [between, everywhere])
def test_its_channels_keep_their_places(build: Build) -> None:
    case = case_of(build)
    study = TimedGraph.open(on_graph(case.model, case.graph), Fallback.HOST)
    for before, after in zip(study.float_logits, study.reordered().observed.logits, strict=True):
        np.testing.assert_allclose(after, before, rtol=1e-4, atol=1e-5)


def test_it_is_off_by_default_and_the_refusal_names_it(tmp_path: Path) -> None:
    case, program = case_of(between), program_of(between)
    fed = on_graph(case.model, case.graph)
    with pytest.raises(OperatorsUnsupportedError) as refused:
        quantize(fed)
    assert refused.value.refused == (
        "Softplus 't4': the operator is not known; replace it by MatMul, Gemm, Add or Relu",
    )
    assert refused.value.do == (
        "change the model as each line says, or let the host run the operators on rows (`--fallback host`)"
    )
    with pytest.raises(OperatorsUnsupportedError) as refused:
        compile_model(quantized(between), design_of(SMALL_GEOMETRY))
    assert refused.value.refused == ("Softplus 't4': the operator is not known",)
    assert refused.value.do.endswith(", or let the host run the operators on rows (`--fallback host`)")
    with EmulatedTransport(program.design) as transport, pytest.raises(HostFallbackError) as off:
        HetfabOverlay(program.design, program, transport=transport)
    assert str(off.value) == (
        "the program has 1 operator that only the host can run (Softplus 't4'); that is off\n"
        "  expected: a program that the overlay runs alone\n"
        "  do: allow it with `hetfab run --fallback host`, in Python with `fallback=Fallback.HOST`"
    )


def test_the_driver_runs_it_where_it_is_allowed() -> None:
    case, program = case_of(between), program_of(between)
    with HetfabOverlay(program.design, program, fallback=Fallback.HOST) as overlay:
        whole = overlay.predict(case.graph)
        np.testing.assert_array_equal(whole.logits, reference_logits(quantized(between).model, case.graph))
        np.testing.assert_array_equal(overlay.predict(nodes=[2, 9], batch=1).logits, whole.logits[[2, 9]])
        assert list(whole.result.host) == ["Softplus 't4'"] and whole.counters.agg_edges > 0


def nothing_left(builder: ModelBuilder) -> str:
    return builder.operator("Exp", builder.operator("Sin", builder.features("paper")))


def test_a_model_of_such_operators_alone_is_refused() -> None:
    case = case_of(nothing_left)
    with pytest.raises(HostFallbackError) as refused:
        quantize(on_graph(case.model, case.graph), fallback=Fallback.HOST)
    assert str(refused.value) == (
        "the host would run every operator of the model: Sin 't0', Exp 't1'\n"
        "  expected: at least one layer that the overlay executes\n"
        "  do: run the model in onnxruntime"
    )


def mixes_rows(builder: ModelBuilder) -> str:
    paper = builder.features("paper")
    return builder.dense(builder.operator("Transpose", builder.dense(paper, 5), perm=[1, 0]), 5)


def test_operators_that_mix_rows_stay_refused() -> None:
    case = case_of(mixes_rows)
    with pytest.raises(OperatorsUnsupportedError) as refused:
        quantize(on_graph(case.model, case.graph), fallback=Fallback.HOST)
    assert [line.partition(" ")[0] for line in refused.value.refused][:1] == ["Transpose"]
    assert "--fallback" not in refused.value.do


def test_one_stream_cannot_stop_for_the_host() -> None:
    case, program = case_of(between), program_of(between)
    with pytest.raises(HostFallbackError, match="one stream cannot stop for them"):
        bind(program, graph_arrays(program, case.graph))


def test_what_is_no_number_is_named(session: Session) -> None:
    """The logarithm of a negative number, which calibration did not see."""
    program = program_of(between)
    node = program.host_nodes[0]
    model = onnx.load_model_from_string(node.model_bytes)
    model.graph.node[0].op_type = "Log"
    changed = replace(node, model=base64.b64encode(model.SerializeToString()).decode())
    tensor = program.tensor(node.inputs[0])
    content = stored_rows_of(tensor, np.full((3, tensor.channels), -tensor.scale, np.float32))
    with pytest.raises(HostFallbackError, match="Softplus 't4' gives no number for row 0 of those that are computed"):
        HostRuns(program).rows(changed, [content])


def test_a_board_without_onnxruntime_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    program = program_of(between)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(PackageMissingError, match="Softplus 't4' runs on the host, and onnxruntime is not installed"):
        HostRuns(program).rows(program.host_nodes[0], [np.zeros((1, 64), np.uint8)])


def test_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """From a float model to predictions, and what is said of the host on the way."""
    case = case_of(between)
    model, graph = tmp_path / "model.onnx", tmp_path / "graph.npz"
    onnx.save_model(case.model, model)
    write_graph(graph, case.graph)

    def command(*arguments: object, status: int = 0) -> dict[str, Any]:
        capsys.readouterr()
        assert main([*map(str, arguments), "--json"]) == status
        found: dict[str, Any] = json.loads(capsys.readouterr().out)
        return found

    host = ("--fallback", "host")
    small, program = tmp_path / "model.q.onnx", tmp_path / "model.hfp"
    refused = command("quantize", model, "--graph", graph, "-o", small, status=1)
    assert "--fallback host" in refused["error"]["do"] and not small.exists()
    command("quantize", model, "--graph", graph, "-o", small, *host)
    planned = ("compile", small, "--graph", graph, "-o", program)
    assert "--fallback host" in command(*planned, status=1)["error"]["do"]
    assert [each["operator"] for each in command(*planned, *host)["host_nodes"]] == ["Softplus 't4'"]
    run = ("run", program, "--graph", graph)
    assert command(*run, status=1)["error"]["code"] == "host-fallback"
    found = command(*run, "--reference", small, *host)
    assert found["agreement"] == 1.0 and found["max_logit_lsb"] == 0.0
    assert [(each["operator"], each["times"], each["rows"]) for each in found["host"]] == [("Softplus 't4'", 1, 40)]
    assert command(*run, "--nodes", "1,2", *host)["host"][0]["times"] == 1
    assert command(*run, "--trace", tmp_path / "trace.json", *host, status=1)["error"]["code"] == "host-fallback"
    assert main([*map(str, run), *host]) == 0
    text = capsys.readouterr().out
    assert "in onnxruntime on this host, measured" in text and "all 1 operator" in text
