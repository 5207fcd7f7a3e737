# SPDX-License-Identifier: Apache-2.0
"""The dataflow flow: a model's dense layers as stages of fixed weights, in the driver, the emulator and a build."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hetfab.cli.main import main
from hetfab.driver.emulated import EmulatedTransport
from hetfab.driver.graph.model_inputs import model_bindings
from hetfab.driver.graph.npz import write_graph
from hetfab.driver.overlay import HetfabOverlay
from hetfab.driver.package import write_emulated_package
from hetfab.driver.session import Session
from hetfab.hls.build.emulator import Arithmetic, Emulator, build_emulator
from hetfab.hls.lint.run import lint_kernels
from hetfab.overlay.board import read_board
from hetfab.overlay.compiler.dataflow import compile_dataflow
from hetfab.overlay.compiler.stage_sizes import sized
from hetfab.overlay.costs.elements import Form
from hetfab.overlay.costs.program_cost import expected_log, operation_rows
from hetfab.overlay.costs.resources import design_resources, stage_resources, total
from hetfab.overlay.dense_stages import Stage, stage_from_dict
from hetfab.overlay.design import default_design, read_design
from hetfab.overlay.errors import DesignInvalidError, GeometryMismatchError, OperatorsUnsupportedError
from hetfab.overlay.isa.codec import Segment
from hetfab.overlay.isa.spec import isa
from hetfab.overlay.model.bound_model import BoundModel
from hetfab.overlay.program import Program, read_program, write_program
from hetfab.quantize.widths import Widths
from tests.attention_models import attention_case
from tests.programs import bound_to, compiled, quantized, run_emulated, run_golden
from tests.random_models import Case

BOARD = "zcu104"
#: Attention, tables, a softmax over metapaths, stacked rows.
CASE = attention_case("han")


@pytest.fixture(scope="module")
def model() -> onnx.ModelProto:
    """Weights of several widths: those of 3 bits and less have free scales."""
    return quantized(CASE, Widths(weights=4)).model


@pytest.fixture(scope="module")
def program(model: onnx.ModelProto) -> Program:
    return accelerator(model, CASE)


def accelerator(model: onnx.ModelProto, case: Case, board: str = BOARD) -> Program:
    return compile_dataflow(BoundModel(model, model_bindings(model, case.graph)), board)


def stage(outputs: int = 4, inputs: int = 40, bits: int = 4) -> Stage:
    weight = np.random.default_rng(0).integers(-1, 2, (inputs, outputs))
    return Stage("s", inputs, (bits,) * outputs, 8, True, 0, 2, 2, weight.astype(np.int8).tobytes())


@pytest.mark.parametrize("arithmetic", [Arithmetic.NATIVE, Arithmetic.AP_INT], ids=["native", "hls4ml"])
def test_the_accelerator_gives_the_bits_of_the_golden_model(
    model: onnx.ModelProto, program: Program, arithmetic: Arithmetic
) -> None:
    """All that it stores, by the definition of its stages and by projects of hls4ml."""
    design = program.design
    loaded = bound_to(compiled(model, CASE.graph, replace(default_design("pynq-z2-attention").geometry)), CASE.graph)
    bound = bound_to(program, CASE.graph)
    library = build_emulator(design.geometry, arithmetic, stages=design.stages)
    with Emulator(library, design.geometry, design.stages) as emulator:
        run = run_emulated(bound, emulator)
    expected = loaded.logits(run_golden(loaded).dram[Segment.OUTPUT])
    np.testing.assert_array_equal(bound.logits(run.dram[Segment.OUTPUT]), expected)
    assert run.run_log is not None
    run.run_log["layer"] = bound.layers
    np.testing.assert_array_equal(run.run_log, expected_log(bound))


def test_all_products_are_stages_and_no_weights_are_loaded(program: Program) -> None:
    names = {stage.name for stage in program.design.stages}
    assert names == {layer.name for layer in program.layers if layer.inputs}
    loads = [isa().operation(name) for name in ("load_weights", "load_planes")]
    assert program.design.geometry.wgt_d_words == 2
    assert not any(operation_rows(block.words, load).size for block in program.blocks for load in loads)


def test_the_driver_takes_program_and_package(program: Program, tmp_path: Path) -> None:
    package = write_emulated_package(tmp_path, program.design)
    write_program(tmp_path / "model.hfp", program)
    with HetfabOverlay(package.bit, tmp_path / "model.hfp", transport=EmulatedTransport(package.design)) as overlay:
        found = overlay.predict(CASE.graph)
    with EmulatedTransport(program.design) as transport:
        result = Session(transport, program.design).run(bound_to(program, CASE.graph))
    np.testing.assert_array_equal(found.result.logits, result.logits)
    assert result.run_log is not None
    assert found.result.counters.gemm_d_macs == result.run_log["macs"].sum() > 0


def test_an_accelerator_of_other_weights_is_refused(program: Program) -> None:
    first = program.design.stages[0]
    negated = replace(first, weights=(-first.weight).tobytes())
    other = replace(program.design, stages=(negated, *program.design.stages[1:]))
    with EmulatedTransport(program.design) as transport:
        session = Session(transport, program.design)
        with pytest.raises(GeometryMismatchError) as caught:
            session.load(bound_to(replace(program, design=other), CASE.graph))
    assert f"the program was compiled for the fixed weights {other.identity}" in str(caught.value)
    assert f"the overlay has {program.design.identity}" in str(caught.value)


def test_a_design_keeps_its_stages_in_files(program: Program, tmp_path: Path) -> None:
    path = tmp_path / "design.json"
    path.write_text(json.dumps(program.design.as_dict()), encoding="utf-8")
    assert read_design(path) == program.design
    write_program(tmp_path / "model.hfp", program)
    assert read_program(tmp_path / "model.hfp").design == program.design
    assert "stages" not in default_design().as_dict()
    assert default_design().identity == default_design().geometry.hash()[:16]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"weights": "AAAA"}, "a member is missing, unknown or damaged"),
        ({"inputs": 39}, "160 weights for 39 inputs and 4 outputs"),
        ({"inputs": 600}, "it has 600 inputs and 4 outputs"),
        ({"weight_bits": [4, 4, 4, 9]}, "a width is not 2 to 8 bits for inputs, 1 to 8 for weights"),
        ({"weight_bits": [4, 4, 4, 1]}, "a weight does not fit 1 bits"),
        ({"on_dsps": 5}, "5 of 4 outputs on DSPs"),
        ({"dsp_columns": 3}, "3 columns on DSPs"),
        ({"more": 1}, "a member is missing, unknown or damaged"),
    ],
)
def test_damaged_stages_are_refused(tmp_path: Path, change: dict[str, object], words: str) -> None:
    table = default_design().as_dict() | {"stages": [stage().as_dict() | change]}
    path = tmp_path / "design.json"
    path.write_text(json.dumps(table), encoding="utf-8")
    with pytest.raises(DesignInvalidError, match=words):
        read_design(path)


def test_a_stage_is_read_as_it_was_written() -> None:
    assert stage_from_dict(json.loads(json.dumps(stage().as_dict()))) == stage()


@settings(max_examples=20, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 80), st.integers(1, 200), st.integers(1, 8)), min_size=1, max_size=6),
    st.sampled_from(["pynq-z2", "ultra96-v2", "zcu104"]),
)
def test_stages_grow_as_far_as_the_board_holds_them(shapes: list[tuple[int, int, int]], board: str) -> None:
    geometry = replace(default_design().geometry, wgt_d_words=1)
    small = [
        replace(
            stage(outputs, inputs, 4),
            weight_bits=(bits,) * outputs,
            weights=np.ones((inputs, outputs), np.int8).tobytes(),
        )
        for outputs, inputs, bits in shapes
    ]
    there = read_board(board)
    found = sized(small, geometry, Form.MAPPED, there)
    slowest = [replace(each, on_dsps=each.outputs) for each in small]
    assert all(a.multiply_cycles <= b.multiply_cycles for a, b in zip(found, slowest, strict=True))
    need = total(design_resources(geometry, Form.MAPPED, there, found))
    if any(a != b for a, b in zip(found, slowest, strict=True)):
        assert all(getattr(need, name) <= there.resources[name] for name in ("lut", "ff", "dsp", "bram36"))


def test_more_columns_never_need_less() -> None:
    large = replace(stage(64, 64, 8), on_dsps=32)
    on_dsps = [replace(large, dsp_columns=count) for count in (2, 8, 32)]
    on_luts = [replace(large, lut_columns=count) for count in (2, 8, 32)]
    for wider in (on_dsps, on_luts):
        needs = [stage_resources(each, Form.MAPPED) for each in wider]
        assert needs[0].lut + 100 * needs[0].dsp < needs[1].lut + 100 * needs[1].dsp
        assert needs[1].lut + 100 * needs[1].dsp < needs[2].lut + 100 * needs[2].dsp


def test_the_kernels_with_stages_pass_the_lint(program: Program) -> None:
    lint_kernels(program.design.geometry, program.design.stages).check()


def test_a_build_writes_sources_scripts_and_the_program(
    model: onnx.ModelProto, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    onnx.save(model, tmp_path / "han.q.onnx")
    write_graph(tmp_path / "graph.npz", CASE.graph)
    options = [
        "--flow",
        "dataflow",
        "--board",
        BOARD,
        "--graph",
        str(tmp_path / "graph.npz"),
        "-o",
        str(tmp_path / "b"),
    ]
    assert main(["build", str(tmp_path / "han.q.onnx"), *options, "--dry-run", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    design = read_design(tmp_path / "b" / "design.json")
    assert found["program"] == str(tmp_path / "b" / f"{BOARD}-han.hfp") and design.name == f"{BOARD}-han"
    assert len(found["stages"]) == len(design.stages) and len(found["scripts"]) == 8
    stages = tmp_path / "b" / "sources" / "stages"
    for number in range(len(design.stages)):
        text = (stages / f"stage_{number}" / "firmware" / f"stage_{number}.cpp").read_text(encoding="utf-8")
        assert f"namespace stage_{number}_project" in text and "hetfab::hetero_dense<" in text
    script = (tmp_path / "b" / "hls" / "gemm_d" / "synthesis.tcl").read_text(encoding="utf-8")
    assert "-DHETFAB_STAGES" in script and "stages/project_stages.cpp" in script
    assert main(["build", str(tmp_path / "han.q.onnx"), *options, "--emulated", "--json"]) == 0
    assert Path(json.loads(capsys.readouterr().out)["package"], f"{BOARD}-han.bit").exists()


def test_both_flows_are_compared(model: onnx.ModelProto, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    onnx.save(model, tmp_path / "han.q.onnx")
    write_graph(tmp_path / "graph.npz", CASE.graph)
    arguments = ["inspect", str(tmp_path / "han.q.onnx"), "--graph", str(tmp_path / "graph.npz"), "--flows"]
    assert main([*arguments, "--json"]) == 0
    rows = {(each["board"], each["flow"]): each for each in json.loads(capsys.readouterr().out)["flows"]}
    assert rows[BOARD, "dataflow"]["milliseconds"] > 0
    assert rows["pynq-z2", "overlay"]["milliseconds"] > 0
    assert rows["kv260", "overlay"]["milliseconds"] is None and "agg_heads 0" in rows["kv260", "overlay"]["reason"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--flow", "dataflow", "--board", BOARD], "--flow dataflow takes a quantized MODEL and a --board."),
        (["m.q.onnx", "--flow", "dataflow"], "--flow dataflow takes a quantized MODEL and a --board."),
        (["m.q.onnx", "--board", BOARD], "MODEL and --graph are for --flow dataflow."),
    ],
)
def test_options_that_do_not_go_together(options: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["build", *options]) == 2
    assert words in capsys.readouterr().err


def test_a_model_on_samples_is_refused() -> None:
    read = onnx.load(Path(__file__).parents[1] / "examples" / "digits" / "mlp.onnx")
    from hetfab.overlay.model.reader import bindings_of

    with pytest.raises(OperatorsUnsupportedError, match="takes samples"):
        compile_dataflow(BoundModel(read, bindings_of(read)), BOARD)


@pytest.mark.parametrize("change", [{"name": "x\nint evil;"}, {"name": 3}, {"signed": "false"}], ids=str)
def test_a_stage_whose_text_would_be_code_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="its name is no text of one line"):
        stage_from_dict({**stage().as_dict(), **change})
