# SPDX-License-Identifier: Apache-2.0
"""``hetfab compare``: tensors as memory holds them, the first that a wrong layer changes, and what is refused."""

import functools
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hetfab.cli.main import main
from hetfab.driver.comparison import Reference, TensorComparison, compare_tensors, first_differing, snr_db
from hetfab.driver.emulated import EmulatedTransport
from hetfab.driver.graph.generate import academic
from hetfab.driver.graph.heterograph import HeteroGraph
from hetfab.driver.graph.model_inputs import model_bindings, model_feeds, with_hops
from hetfab.driver.session import Session
from hetfab.driver.stored_tensors import tensor_values
from hetfab.overlay.compiler.compile import compile_lowered, compile_model
from hetfab.overlay.compiler.leading_columns import with_leading
from hetfab.overlay.compiler.lowering import lower
from hetfab.overlay.isa.words import decode, field_slot
from hetfab.overlay.layouts import activation_rows, packed_rows, padded
from hetfab.overlay.model.bound_model import BoundModel, FedModel
from hetfab.overlay.model.reader import bindings_of, check_model, normalise, read_model
from hetfab.overlay.program import Program, Tensor, read_program, write_program
from hetfab.quantize.post_training import rewritten
from tests.attention_models import MODELS, attention_case
from tests.conftest import SMALL_GEOMETRY
from tests.demo_files import MODEL, DemoFiles
from tests.outside import ROOT, module
from tests.programs import bound_to, compiled, design_of, quantized
from tests.test_leading_columns import Form, joined

CNN = ROOT / "examples" / "digits" / "cnn.onnx"
#: A tensor that others write over before the end.
OVERWRITTEN = "hardtanh.int8"


def with_defect(program: Program, name: str) -> Program:
    """The program with one bit less or more cut off in a layer's results."""
    layer = [layer.name for layer in program.layers].index(name)
    changed = 0
    blocks = []
    for block in program.blocks:
        words = block.words.copy()
        for index, (low, high) in enumerate(words.tolist() if block.layer == layer else ()):
            found = decode(high << 64 | low)
            if found.operation.engine == "vec" and "shift" in found.fields:
                half, place, _ = field_slot(found.operation.name, "shift")
                words[index, half] += np.uint64(1 << place)
                changed += 1
        blocks.append(replace(block, words=words))
    assert changed
    return replace(program, blocks=tuple(blocks))


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three digits, the network quantized on them, and its program."""
    folder = tmp_path_factory.mktemp("digits")
    train, _ = module("examples.digits.data").digits()
    np.savez(folder / "digits.npz", samples=train.images[:3].reshape(-1, 1, 8, 8))
    quantized_path = str(folder / "cnn.q.onnx")
    assert main(["quantize", str(CNN), "--samples", str(folder / "digits.npz"), "-o", quantized_path]) == 0
    assert main(["compile", quantized_path, "-o", str(folder / "cnn.hfp")]) == 0
    return folder


Compare = Callable[..., dict[str, Any]]


@pytest.fixture
def compare(capsys: pytest.CaptureFixture[str]) -> Compare:
    """What the command prints for programs."""

    def call(*arguments: str | Path, status: int = 0) -> dict[str, Any]:
        capsys.readouterr()
        assert main(["compare", *map(str, arguments), "--json"]) == status
        found: dict[str, Any] = json.loads(capsys.readouterr().out)
        return found

    return call


def test_every_tensor_of_a_program_on_a_graph_is_the_quantized_one(compare: Compare, demo_files: DemoFiles) -> None:
    found = compare(MODEL, demo_files.quantized, demo_files.program, "--graph", demo_files.graph)
    assert found["exact"] and found["first_differing"] is None
    by_name = {tensor["name"]: tensor for tensor in found["tensors"]}
    program = read_program(demo_files.program)
    assert [name for name in by_name if by_name[name]["layer"]] == [layer.name for layer in program.layers]
    assert {name for name in by_name if not by_name[name]["layer"]} == {"x_paper", "x_author", "x_term"}
    assert by_name["x_paper"]["quantized_snr_db"] is None  # A bag of words loses nothing.
    assert by_name["x_paper"]["values"] == 300 * academic().counts["paper"]
    assert all(20 < by_name[name]["quantized_snr_db"] < 60 for name in by_name if name != "x_paper")
    assert all(tensor["overlay_snr_db"] is None and not tensor["differing"] for tensor in found["tensors"])


def with_leading_papers(demo_files: DemoFiles) -> Program:
    """The demo's program where 70 columns of papers lead."""
    model = read_model(demo_files.quantized)
    layers = lower(model, bindings_of(model))
    order = np.random.default_rng(0).permutation(300)
    gathered = tuple(
        replace(layer, parts=1) if layer.dense is not None and layer.dense.input.name == "x_paper" else layer
        for layer in layers.layers
    )
    leading = with_leading(replace(layers, layers=gathered), "x_paper", order, 70)
    design = read_program(demo_files.program).design
    return compile_model(BoundModel(model, bindings_of(model)), design, lowered=leading)


def test_of_features_the_columns_that_lead_are_compared(
    compare: Compare, demo_files: DemoFiles, tmp_path: Path
) -> None:
    write_program(tmp_path / "leading.hfp", with_leading_papers(demo_files))
    found = compare(MODEL, demo_files.quantized, tmp_path / "leading.hfp", "--graph", demo_files.graph)
    assert found["exact"]
    (papers,) = (tensor for tensor in found["tensors"] if tensor["name"] == "x_paper")
    assert papers["values"] == 70 * academic().counts["paper"]
    assert papers["quantized_snr_db"] is None and not papers["differing"]


def test_a_wrong_leading_feature_is_named_by_the_column_of_the_model() -> None:
    case, graph = attention_case("rgat"), attention_case("rgat").graph
    model = quantized(case).model
    _, _, reference = attention("rgat")
    layers = joined(lower(model, model_bindings(model, graph)), Form(3), "x_paper")
    program = compile_lowered(layers, design_of(SMALL_GEOMETRY))
    column = sorted(program.tensor("x_paper").channel_order[:3])[1]
    wrong = graph.dense_features("paper").copy()
    wrong[4, column] += np.float32(program.tensor("x_paper").scale)
    changed = replace(graph, features={**graph.features, "paper": wrong})
    first = first_differing(attention_tensors(program, changed, reference))
    assert first is not None and (first.name, first.differing) == ("x_paper", 1) and first.first is not None
    assert first.first.place == (4, column) != (4, 1)
    assert abs(first.first.found - first.first.expected) == 1


@pytest.mark.parametrize("name", ["relu.0.author.int8", "neighbour.0.has_term.int8", "relu.1.paper.int8"])
def test_a_wrong_layer_on_a_graph_is_named(
    name: str, compare: Compare, demo_files: DemoFiles, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = tmp_path / "wrong.hfp"
    write_program(wrong, with_defect(read_program(demo_files.program), name))
    arguments = (MODEL, demo_files.quantized, wrong, "--graph", demo_files.graph)
    found = compare(*arguments)
    assert not found["exact"] and found["first_differing"] == name
    by_name = {tensor["name"]: tensor for tensor in found["tensors"]}
    assert by_name[name]["differing"] > 0 and by_name[name]["largest_steps"] > 0
    assert by_name[name]["overlay_snr_db"] < 20 < by_name[name]["quantized_snr_db"]
    assert by_name["logits"]["differing"] > 0
    assert main(["compare", *map(str, arguments)]) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith(f"the first tensor that differs is '{name}', from the layer '{name}' (")
    assert f"{by_name[name]['differing']:,} of {by_name[name]['values']:,} integers" in last


def test_images_that_share_memory_are_all_compared(compare: Compare, digits: Path) -> None:
    arguments = (CNN, digits / "cnn.q.onnx", digits / "cnn.hfp", "--samples", digits / "digits.npz")
    found = compare(*arguments, "--sample", "2")
    program = read_program(digits / "cnn.hfp")
    assert found["exact"]
    assert [tensor["name"] for tensor in found["tensors"]] == ["pixels", *(layer.name for layer in program.layers)]
    assert found != compare(*arguments)  # Another digit.


@pytest.mark.parametrize("name", [OVERWRITTEN, "relu_2.int8"])
def test_a_wrong_layer_on_samples_is_named(name: str, compare: Compare, digits: Path, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.hfp"
    write_program(wrong, with_defect(read_program(digits / "cnn.hfp"), name))
    found = compare(CNN, digits / "cnn.q.onnx", wrong, "--samples", digits / "digits.npz")
    assert found["first_differing"] == name


@functools.cache
def attention(name: str) -> tuple[Program, HeteroGraph, Reference]:
    """A small attention model in its forms."""
    case = attention_case(name)
    model = check_model(normalise(case.model), "the float model")
    bindings = model_bindings(model, case.graph)
    fed = FedModel(model, bindings, [model_feeds(model, bindings, case.graph)])
    in_float, integers = rewritten(with_hops(fed, case.graph)), quantized(case).model
    feed = model_feeds(integers, model_bindings(integers, case.graph), case.graph)
    reference = Reference(in_float.model, next(in_float.samples()), integers, feed)
    return compiled(integers, case.graph, SMALL_GEOMETRY), case.graph, reference


def attention_tensors(program: Program, graph: HeteroGraph, reference: Reference) -> list[TensorComparison]:
    design = design_of(SMALL_GEOMETRY)
    with EmulatedTransport(design) as transport:
        return compare_tensors(Session(transport, design), bound_to(program, graph), reference)


@pytest.mark.parametrize("name", MODELS)
def test_scores_and_parts_of_stacks_are_compared_too(name: str) -> None:
    tensors = attention_tensors(*attention(name))
    assert first_differing(tensors) is None
    assert all(tensor.overlay_snr_db == math.inf for tensor in tensors)
    known = [tensor.quantized_snr_db for tensor in tensors if tensor.quantized_snr_db is not None]
    assert len(known) >= len(tensors) - 1 and min(known) > 5
    assert any(name.endswith("part 1") for name in (tensor.name for tensor in tensors)) == (name == "sehgnn")


def test_a_wrong_part_of_a_stack_is_named() -> None:
    program, graph, reference = attention("sehgnn")
    wrong = next(layer.name for layer in program.layers if layer.name.endswith("part 1"))
    first = first_differing(attention_tensors(with_defect(program, wrong), graph, reference))
    assert first is not None and first.name == wrong and first.first is not None
    assert first.first.found != first.first.expected


@st.composite
def stored(draw: st.DrawFn) -> tuple[Tensor, np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """A tensor, its integers, and its bytes in DRAM."""
    rows, channels, packed = draw(st.integers(0, 5)), draw(st.integers(1, 130)), draw(st.booleans())
    bits, signed = 4 if packed else draw(st.integers(2, 8)), draw(st.booleans())
    random = np.random.default_rng(draw(st.integers(0, 999)))
    lowest = -(1 << bits - 1) if signed else 0
    values = random.integers(lowest, lowest + (1 << bits), (rows, channels))
    order = tuple(random.permutation(channels).tolist()) if draw(st.booleans()) else ()
    tensor = Tensor("t", "activations", "n", channels, bits, packed, signed, 1.0, channel_order=order)
    filled = activation_rows(rows, padded(channels, 128 if packed else 64), signed)
    filled[:rows, :channels] = values[:, list(order)] if order else values
    content = packed_rows(filled) if packed else filled.view(np.uint8)
    return tensor, values, content.reshape(-1)


@settings(deadline=None)
@given(case=stored())
def test_integers_come_back_from_their_bytes(
    case: tuple[Tensor, np.ndarray[Any, Any], np.ndarray[Any, Any]],
) -> None:
    tensor, values, content = case
    np.testing.assert_array_equal(tensor_values(tensor, len(values), content), values)


def test_the_ratio_is_that_of_powers() -> None:
    signal = np.array([3.0, 4.0])
    assert snr_db(signal, np.array([3.0, 3.5])) == pytest.approx(20.0)  # 25 / 0.25
    assert snr_db(signal, signal) == math.inf
    assert snr_db(0 * signal, signal) is None
    assert snr_db(0 * signal, 0 * signal) == math.inf


def errors(demo: DemoFiles, digits: Path, folder: Path) -> Iterator[tuple[tuple[object, ...], str, str, str]]:
    """Arguments, and what the error says it found, expected, and should be done."""
    renamed = read_model(MODEL)
    renamed.graph.output[0].name = renamed.graph.node[-1].output[0] = "scores"
    onnx.save(renamed, folder / "renamed.onnx")
    on_graph = (demo.quantized, demo.program, "--graph", demo.graph)
    yield (
        (folder / "renamed.onnx", *on_graph),
        "the float model computes scores",
        "'logits', which the quantized model computes",
        "give the float model that was quantized",
    )
    yield (
        (demo.quantized, *on_graph),
        "the model is quantized already: it has 'Quant' operators",
        "a float model",
        "compile it as it is (`hetfab compile`), or give the float model",
    )
    on_samples = ("--samples", digits / "digits.npz")
    yield (
        (digits / "cnn.q.onnx", digits / "cnn.q.onnx", digits / "cnn.hfp", *on_samples),
        "the model is quantized already: it has 'Quant' operators",
        "a float model",
        "compile it as it is (`hetfab compile`), or give the float model",
    )
    yield (
        (CNN, digits / "cnn.q.onnx", digits / "cnn.hfp", *on_samples, "--sample", 3),
        "sample 3 was asked for",
        "a number from 0 to 2, the last of the file",
        "give another number, or a file with more samples",
    )


def test_what_does_not_belong_together_is_refused(
    compare: Compare, demo_files: DemoFiles, digits: Path, tmp_path: Path
) -> None:
    for arguments, found, expected, do in errors(demo_files, digits, tmp_path):
        error = compare(*map(str, arguments), status=1)["error"]
        assert (error["found"], error["expected"], error["do"]) == (found, expected, do)
    error = compare(MODEL, MODEL, demo_files.program, "--graph", demo_files.graph, status=1)["error"]
    assert error["code"] == "reference-mismatch"
    assert "give that quantized model, or compile this one" in error["do"]


def test_a_graph_or_samples_are_needed(compare: Compare, demo_files: DemoFiles) -> None:
    both = ("--graph", demo_files.graph, "--samples", demo_files.graph)
    for options in ((), both):
        error = compare(MODEL, demo_files.quantized, demo_files.program, *options, status=2)["error"]
        assert error["found"] == "Give one of --graph GRAPH and --samples SAMPLES."
