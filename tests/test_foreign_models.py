# SPDX-License-Identifier: Apache-2.0
"""Models quantized by onnxruntime and by Brevitas deploy with the numbers of their files; QCDQ runs in plain runtimes.

``tests/quantized_elsewhere`` holds what Brevitas 0.13.4 exported of a network that it trained with quantization
(weights of 4, 3 and 8 bits, activations of 8, 5 and 4), as QONNX and as QCDQ, and the logits that it computed.
"""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx.helper
import onnx.numpy_helper
import onnx.parser
import onnxruntime
import pytest
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from hetfab.cli.main import main
from hetfab.driver.graph.model_inputs import model_bindings, model_feeds, on_graph
from hetfab.driver.graph.npz import write_graph
from hetfab.overlay.compiler.compile import compile_model
from hetfab.overlay.design import IMAGE_DESIGN, default_design
from hetfab.overlay.errors import ModelStructureError, NotQuantizedError, OperatorsUnsupportedError
from hetfab.overlay.model import hgnn
from hetfab.overlay.model.cnn.integer_reader import read_integers
from hetfab.overlay.model.cnn.interpreter import logits
from hetfab.overlay.model.cnn.parser import try_cnn
from hetfab.overlay.model.reader import check_model, normalise, read_model
from hetfab.overlay.model.runtime import run_model
from hetfab.quantize.formats.deploy import Deployable, deployable, read_foreign
from hetfab.quantize.formats.deploy_graph import deployable_on_graph
from hetfab.quantize.formats.qcdq import qcdq_model
from hetfab.quantize.formats.qonnx import read_qonnx
from tests.outside import ROOT, module
from tests.programs import quantized as quantized_graph_model
from tests.random_cnns import CnnBuilder, random_cnn
from tests.random_models import academic_case
from tests.test_cnn_quantized import quantized, samples_of

FOLDER = Path(__file__).parent / "quantized_elsewhere"
DIGITS = ROOT / "examples" / "digits" / "cnn.onnx"
Floats = npt.NDArray[np.float32]


class Feeds(CalibrationDataReader):  # type: ignore[misc]
    """The samples, once."""

    def __init__(self, name: str, samples: Floats) -> None:
        self.left: Iterator[dict[str, Floats]] = iter([{name: samples}])

    def get_next(self) -> dict[str, Floats] | None:
        return next(self.left, None)


@pytest.fixture(scope="module")
def digits() -> tuple[Any, Any]:
    """Digits to calibrate with, and others to test on."""
    train, test = module("examples.digits.data").digits()
    return train.images.reshape(-1, 1, 8, 8), test


def by_onnxruntime(folder: Path, samples: Floats, **options: Any) -> Path:
    """The digits' network as ``quantize_static`` writes it."""
    quant_pre_process(DIGITS, folder / "prepared.onnx")
    written = folder / "qdq.onnx"
    quantize_static(
        folder / "prepared.onnx", written, Feeds("pixels", samples), quant_format=QuantFormat.QDQ, **options
    )
    return written


def run(model: onnx.ModelProto, samples: Floats) -> npt.NDArray[Any]:
    """Logits in onnxruntime, [N, classes], node by node; a batch may be fixed to one.

    Where a CPU has no VNNI, the integer kernels that onnxruntime fuses nodes to saturate sums of two products.
    """
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    name, output = model.graph.input[0].name, model.graph.output[0].name
    single = model.graph.input[0].type.tensor_type.shape.dim[0].dim_value == 1
    batches = [samples[i : i + 1] for i in range(len(samples))] if single else [samples]
    return np.concatenate([session.run([output], {name: each})[0] for each in batches]).reshape(len(samples), -1)


def check_deployed(found: Deployable, samples: Floats) -> npt.NDArray[Any]:
    """The integer layers give what onnxruntime gives, and compile; returns the logits."""
    integers = read_integers(found.model)
    exact = logits(integers, samples).reshape(len(samples), -1) * integers.output.scale
    expected = run(found.model, samples)
    assert (np.abs(exact - expected) <= 1.5 * 2.0**integers.lsb_exponent).mean() >= 0.999
    assert (exact.argmax(axis=1) == expected.argmax(axis=1)).mean() >= 0.999
    compile_model(found, default_design(IMAGE_DESIGN), name="elsewhere")
    return np.asarray(exact)


SYMMETRIC = {"ActivationSymmetric": True}


@pytest.mark.parametrize(
    "options",
    [
        {"activation_type": QuantType.QInt8, "extra_options": SYMMETRIC, "per_channel": True},
        {"activation_type": QuantType.QUInt8},
    ],
    ids=["signed, per channel", "unsigned, with zero points"],
)
def test_what_onnxruntime_quantized_deploys(options: dict[str, Any], digits: tuple[Any, Any], tmp_path: Path) -> None:
    train, test = digits
    samples = test.images.reshape(-1, 1, 8, 8)
    model = read_model(by_onnxruntime(tmp_path, train[:200], weight_type=QuantType.QInt8, **options))
    found = check_deployed(deployable(model), samples)
    expected = run(model, samples)
    assert (found.argmax(axis=1) == expected.argmax(axis=1)).mean() >= 0.99
    assert np.percentile(np.abs(found - expected), 99) <= 0.05 * np.abs(expected).max()
    right = [(given.argmax(axis=1) == test.labels).mean() for given in (found, expected)]
    assert right[0] >= right[1] - 0.003


@pytest.mark.parametrize("form", ["qonnx", "qcdq"])
def test_what_brevitas_trained_deploys(form: str) -> None:
    arrays = np.load(FOLDER / "brevitas.npz")
    model = read_model(FOLDER / f"brevitas_{form}.onnx")
    expected = arrays["logits"]
    limit = np.abs(expected).max()
    assert np.abs(run(model, arrays["samples"]) - expected).max() <= (1e-5 if form == "qonnx" else 0.02) * limit
    found = deployable(model)
    samples = np.random.default_rng(3).normal(size=(200, 3, 8, 8)).astype(np.float32)
    exact = check_deployed(found, samples)
    given = run(model, samples)
    assert (exact.argmax(axis=1) == given.argmax(axis=1)).mean() >= 0.95
    assert np.abs(exact - given).max() <= 0.1 * np.abs(given).max()
    layers = [product.weight_bits.tolist() for product in read_integers(found.model).products()]
    assert [max(bits) for bits in layers] == [4, 3, 8]
    assert [tensor.bits for tensor in read_integers(found.model).stored.values()][:-1] == [8, 5, 5, 4]


def test_integers_of_weights_are_those_of_the_file() -> None:
    """BatchNormalization turns the sign of a channel where its factor is negative, and changes no magnitude."""
    foreign = read_qonnx(read_model(FOLDER / "brevitas_qonnx.onnx"))
    found = read_integers(deployable(read_model(FOLDER / "brevitas_qonnx.onnx")).model)
    given = [constant.integers for constant in foreign.constants.values() if constant.integers.ndim > 1]
    for product, integers in zip(found.products(), given, strict=True):
        laid_out = integers.transpose(2, 3, 1, 0) if integers.ndim == 4 else product.weight
        assert np.array_equal(np.abs(product.weight), np.abs(laid_out))


def test_the_numbers_that_changed_are_reported() -> None:
    found = deployable(read_model(FOLDER / "brevitas_qonnx.onnx"))
    (first, *others) = found.differences
    assert (first.what, first.kept) == ("step", 2.0**-4) and first.found == pytest.approx(0.0555950)
    assert {entry.what for entry in others} == {"step of weights"}
    assert all(abs(entry.kept / entry.found - 1) < 2.0**-14 for entry in others)


def test_a_body_that_does_not_round_is_replaced(tmp_path: Path) -> None:
    """One exporter of QONNX writes functions whose bodies are the identity."""
    model = onnx.load(FOLDER / "brevitas_qonnx.onnx")
    given = run(normalise(model), np.load(FOLDER / "brevitas.npz")["samples"])
    body = '<domain: "qonnx.custom_op.general", opset_import: ["" : 17]>\n'
    body += "Quant <signed, narrow, rounding_mode> (x, scale, zero, bits) => (y) { y = Identity (x) }"
    model.functions.append(onnx.parser.parse_function(body))
    onnx.save(model, tmp_path / "model.onnx")
    found = run(read_model(tmp_path / "model.onnx"), np.load(FOLDER / "brevitas.npz")["samples"])
    assert np.array_equal(found, given)


# QCDQ


@pytest.mark.parametrize(("seed", "bits"), [(0, "w8a8"), (1, "w4a4"), (2, "w1a8"), (3, "w3a5"), (4, "w2a2")])
def test_qcdq_gives_the_same_numbers_in_standard_operators(seed: int, bits: str) -> None:
    model = random_cnn(seed)
    samples = samples_of(model)
    given = quantized(model, samples, bits).model
    exported = qcdq_model(given)
    assert not exported.functions and {node.domain for node in exported.graph.node} == {""}
    assert {entry.domain for entry in exported.opset_import} == {""}
    assert not {"Quant", "BipolarQuant"} & {node.op_type for node in exported.graph.node}
    assert np.array_equal(run(exported, samples), run(given, samples))


def test_qcdq_of_a_graph_model_gives_the_same_numbers() -> None:
    case = academic_case()
    given = quantized_graph_model(case)
    exported = qcdq_model(given.model)
    assert not exported.functions and {node.domain for node in exported.graph.node} == {""}
    feed = model_feeds(given.model, model_bindings(given.model, case.graph), case.graph)
    output = given.model.graph.output[0].name
    assert np.array_equal(run_model(exported, feed, [output])[0], run_model(given.model, feed, [output])[0])


def chain() -> onnx.ModelProto:
    """Without additions and means, whose roundings QCDQ has no pair of nodes for."""
    builder = CnnBuilder(np.random.default_rng(1), (2, 6, 6))
    window = module("hetfab.overlay.model.cnn.window").Window((3, 3))
    read = builder.node("Relu", builder.conv("input", 5, window))
    read = builder.node("Clip", builder.conv(read, 6, window), builder.constant(np.float32(0)), shape=None)
    return builder.finish(builder.dense(builder.flatten(read), 4))


@pytest.mark.parametrize("bits", ["w8a8", "w4a4", "w3a5", "w1a8"])
def test_what_is_exported_reads_back_as_it_was(bits: str) -> None:
    model = chain()
    samples = samples_of(model)
    given = quantized(model, samples, bits).model
    for form in (qcdq_model(given), given):
        found = deployable(form)
        assert found.differences == () and found.left_out == ()
        assert np.array_equal(run(found.model, samples), run(given, samples))


def with_free_steps(model: onnx.ModelProto, factors: dict[str, float]) -> onnx.ModelProto:
    """The same network with other steps of its inner tensors, as if it had been quantized so."""
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    for tensor in changed.graph.initializer:
        if tensor.name in factors:
            array = onnx.numpy_helper.to_array(tensor) * np.float32(factors[tensor.name])
            tensor.CopyFrom(onnx.numpy_helper.from_array(array.astype(np.float32), tensor.name))
    return changed


def test_free_steps_are_taken_into_the_weights() -> None:
    """A model whose inner tensor has the step 1.37 * 2^e gives what onnxruntime computes, but for ties."""
    model = chain()
    samples = samples_of(model, 64)
    given = quantized(model, samples).model
    inner = [n.input[1] for n in given.graph.node if n.op_type == "Quant" and n.input[0] in ("t1", "t3", "t2", "t4")]
    free = with_free_steps(given, dict.fromkeys(inner, 1.37))
    found = deployable(free)
    assert not [entry for entry in found.differences if entry.what == "step"]
    expected, exact = run(free, samples), run(found.model, samples)
    close = np.abs(expected - exact) <= 1e-3 * np.abs(expected).max()
    assert close.mean() > 0.97
    assert not np.allclose(expected, run(given, samples), rtol=1e-3)


# Refused


def quantized_chain() -> onnx.ModelProto:
    return quantized(chain(), samples_of(chain())).model


def changed_quants(**flags: Any) -> onnx.ModelProto:
    model = quantized_chain()
    for node in model.graph.node:
        if node.op_type == "Quant":
            for attribute in node.attribute:
                if attribute.name in flags:
                    attribute.CopyFrom(onnx.helper.make_attribute(attribute.name, flags[attribute.name]))
    return model


def test_roundings_that_cannot_be_deployed_are_named_at_once() -> None:
    with pytest.raises(OperatorsUnsupportedError) as error:
        deployable(changed_quants(rounding_mode="FLOOR"))
    lines = str(error.value).splitlines()
    assert lines[0] == f"{len(lines) - 3} roundings cannot be deployed:" and len(lines) > 8
    assert lines[1].endswith("rounding mode b'FLOOR'; round to nearest")
    assert lines[-1] == "  do: quantize the model again as each line says"


def rounded_product(operator: str = "Quant", **changed: Any) -> onnx.ModelProto:
    """A product whose samples are rounded by QONNX, or whose weights are stored as integers."""
    constants = {"s": np.float32(0.25), "z": np.float32(0), "bits": np.float32(4), "w": np.ones((4, 3), np.float32)}
    constants |= {"q": np.ones((4, 3), np.int8), **{name: value for name, value in changed.items() if name != "mode"}}
    make = onnx.helper.make_node
    if operator == "Quant":
        flags = {"signed": 1, "narrow": 0, "rounding_mode": changed.get("mode", "ROUND")}
        node = make("Quant", ["x", "s", "z", "bits"], ["a"], domain=hgnn.QUANT_DOMAIN, **flags)
        product = make("MatMul", ["a", "w"], ["y"])
    else:
        node, product = make("DequantizeLinear", ["q", "s"], ["a"], axis=5), make("MatMul", ["x", "a"], ["y"])
    sizes: dict[str, list[Any]] = {"x": ["n", 4], "y": ["n", 3]}
    ends = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, size) for name, size in sizes.items()]
    tensors = [onnx.numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    graph = onnx.helper.make_graph([node, product], "g", ends[:1], ends[1:], tensors)
    opsets = [onnx.helper.make_opsetid("", 17), onnx.helper.make_opsetid(hgnn.QUANT_DOMAIN, 1)]
    return onnx.helper.make_model(graph, opset_imports=opsets, ir_version=8)


@pytest.mark.parametrize(
    ("operator", "changed", "reason"),
    [
        ("Quant", {"mode": b"\xd2"}, "rounding mode b'\\xd2'; round to nearest"),
        ("Quant", {"bits": np.float32(1e30)}, "are no whole numbers up to 64"),
        ("Quant", {"s": np.float32(0)}, "a scale of 0; scales of tensors are above 0"),
        ("DequantizeLinear", {"s": np.ones(3, np.float32)}, "its constants do not fit each other"),
    ],
)
def test_constants_that_make_no_sense_are_refused(operator: str, changed: dict[str, Any], reason: str) -> None:
    deployable(rounded_product())
    with pytest.raises(OperatorsUnsupportedError) as error:
        deployable(rounded_product(operator, **changed))
    assert any(reason in line for line in str(error.value).splitlines()), str(error.value)


def test_an_input_without_sizes_is_refused() -> None:
    model = rounded_product()
    foreign = read_foreign(model)
    del foreign.model.graph.input[0].type.tensor_type.shape.dim[:]
    with pytest.raises(ModelStructureError, match="the input 'x' has no fixed sizes of a sample"):
        try_cnn(foreign.model)


def test_shapes_that_cannot_be_inferred_are_refused() -> None:
    model = rounded_product()
    model.graph.node[0].op_type = "Quantity"
    model.graph.node.append(rounded_product().graph.node[0])
    model.graph.node[2].output[0], model.graph.node[2].input[0] = "b", "a"
    with pytest.raises(ModelStructureError, match="the shapes of the model's tensors cannot be inferred"):
        deployable(model)


def test_a_zero_point_of_qonnx_is_refused() -> None:
    model = with_free_steps(quantized_chain(), {})
    for tensor in model.graph.initializer:
        if tensor.name == "quant.zero_point":
            tensor.CopyFrom(onnx.numpy_helper.from_array(np.array(3, np.float32), tensor.name))
    with pytest.raises(OperatorsUnsupportedError, match="a zero point other than 0; quantize symmetrically"):
        deployable(model)


def test_a_tensor_without_rounding_is_named() -> None:
    model = quantized_chain()
    (node,) = [node for node in model.graph.node if node.op_type == "Quant" and node.input[0] == "input"]
    node.op_type, node.domain = "Identity", ""
    del node.input[1:], node.attribute[:]
    with pytest.raises(OperatorsUnsupportedError) as error:
        deployable(model)
    assert str(error.value).splitlines()[:2] == ["the file has no rounding of 1 tensor of integers:", "    'input'"]


def test_a_float_model_is_refused() -> None:
    with pytest.raises(NotQuantizedError, match="neither 'Quant' nor 'QuantizeLinear'"):
        deployable(chain())
    with pytest.raises(NotQuantizedError, match="no 'Quant' operator"):
        qcdq_model(chain())


def test_operators_on_integers_are_refused() -> None:
    model = quantized_chain()
    node = model.graph.node.add()
    node.CopyFrom(onnx.helper.make_node("QLinearConv", ["a"], ["b"], name="fused"))
    for quant in model.graph.node:
        if quant.domain == hgnn.QUANT_DOMAIN:
            quant.domain, quant.op_type = "", "QuantizeLinear"
    with pytest.raises(OperatorsUnsupportedError, match=r"QLinearConv 'fused'[\s\S]*QuantFormat.QDQ"):
        deployable(model)


def test_the_command_converts_both_ways(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, ours, plain = FOLDER / "brevitas_qonnx.onnx", tmp_path / "ours.q.onnx", tmp_path / "plain.onnx"
    assert main(["convert", str(source), "-o", str(ours), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["differences"][0] == {
        "tensor": "x.159",
        "what": "step",
        "found": pytest.approx(0.055595),
        "kept": 0.0625,
    }
    assert main(["convert", str(source), "-o", str(ours)]) == 0
    assert "next: hetfab compile" in capsys.readouterr().out
    assert main(["convert", str(ours), "--to", "qcdq", "-o", str(plain)]) == 0
    samples = np.load(FOLDER / "brevitas.npz")["samples"]
    found, expected = run(onnx.load(plain), samples), run(onnx.load(ours), samples)
    # onnxruntime fuses the pairs around a layer to kernels of its own, which round free scales otherwise.
    assert np.abs(found - expected).max() <= 0.01 * np.abs(expected).max()


# Models on graphs


def test_a_graph_model_that_onnxruntime_quantized_deploys(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Weights keep their integers; binary features and the rows that aggregations read are exact or chosen."""
    case = academic_case()
    model = check_model(normalise(case.model), "the float model")
    opened = on_graph(model, case.graph)
    onnx.save(model, tmp_path / "float.onnx")
    (feed,) = opened.samples()
    reader = Feeds("", np.zeros(0, np.float32))
    reader.left = iter([dict(feed)])
    quantize_static(
        tmp_path / "float.onnx",
        tmp_path / "qdq.onnx",
        reader,
        quant_format=QuantFormat.QDQ,
        op_types_to_quantize=["MatMul", "Gemm"],
        activation_type=QuantType.QInt8,
        weight_type=QuantType.QInt8,
        extra_options=SYMMETRIC,
    )
    write_graph(tmp_path / "graph.npz", case.graph)
    command = ["convert", str(tmp_path / "qdq.onnx"), "--graph", str(tmp_path / "graph.npz")]
    assert main([*command, "-o", str(tmp_path / "ours.q.onnx"), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert {entry["what"] for entry in result["differences"]} <= {"step", "step of weights"}
    ours, theirs = read_model(tmp_path / "ours.q.onnx"), read_model(tmp_path / "qdq.onnx")
    foreign = read_foreign(theirs)
    given = {name: np.abs(found.integers) for name, found in foreign.constants.items() if found.integers.ndim == 2}
    constants = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in ours.graph.initializer}
    kept = [
        np.rint(np.abs(array) / constants[f"{name}.int.scale"])
        for name, array in constants.items()
        if name.endswith(".weight")
    ]
    # Gemm may have them transposed.
    same = [any(np.array_equal(form, each) for each in kept for form in (array, array.T)) for array in given.values()]
    assert same and all(same)
    output = model.graph.output[0].name
    expected = run_model(theirs, feed, [output])[0]
    bound = model_feeds(ours, model_bindings(ours, case.graph), case.graph)
    found = run_model(ours, bound, [output])[0]
    assert (found.argmax(axis=1) == expected.argmax(axis=1)).mean() >= 0.95
    assert main(["compile", str(tmp_path / "ours.q.onnx"), "-o", str(tmp_path / "ours.hfp")]) == 0
    bare = deployable_on_graph(replace(foreign, tensors={}), on_graph(foreign.model, case.graph))
    assert bare.left_out and all("its range is chosen on the graph" in line for line in bare.left_out)
    found = run_model(bare.model, bound, [output])[0]
    assert (found.argmax(axis=1) == expected.argmax(axis=1)).mean() >= 0.95
