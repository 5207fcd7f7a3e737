# SPDX-License-Identifier: Apache-2.0
"""Everything that a convolutional network needs changed is named at once, by quantize and by inspect."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.helper
import onnx.numpy_helper
import onnx.shape_inference
import pytest

from hetfab.cli.main import main
from hetfab.overlay.board import read_board
from hetfab.overlay.model.cnn.parser import try_cnn

make = onnx.helper.make_node
Failure = Callable[[list[str]], dict[str, str]]
SAMPLES = np.random.default_rng(0).normal(size=(2, 3, 8, 8)).astype(np.float32)


@pytest.fixture
def fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> Failure:
    """Runs a command that must fail beside ``samples.npz`` and returns its error; no new file may appear."""
    monkeypatch.chdir(tmp_path)
    np.savez(tmp_path / "samples.npz", samples=SAMPLES)

    def call(arguments: list[str]) -> dict[str, str]:
        before = sorted(tmp_path.iterdir())
        capsys.readouterr()
        assert main([*arguments, "--json"]) == 1
        assert sorted(tmp_path.iterdir()) == before
        error: dict[str, str] = json.loads(capsys.readouterr().out)["error"]
        return error

    return call


def model_of(nodes: list[onnx.NodeProto], *, opset: int = 20, **constants: Any) -> onnx.ModelProto:
    """A network on images of 3 x 8 x 8 with these operators; a constant is an array, or a shape of random numbers."""
    random = np.random.default_rng(0)
    arrays = {
        name: random.normal(size=value).astype(np.float32) if isinstance(value, tuple) else np.asarray(value)
        for name, value in constants.items()
    }
    value = onnx.helper.make_tensor_value_info
    inputs = [value("images", onnx.TensorProto.FLOAT, ["N", 3, 8, 8])]
    outputs = [value(nodes[-1].output[0], onnx.TensorProto.FLOAT, None)]
    initializers = [onnx.numpy_helper.from_array(array, name) for name, array in arrays.items()]
    graph = onnx.helper.make_graph(nodes, "one", inputs, outputs, initializers)
    imports = [onnx.helper.make_opsetid("", opset), onnx.helper.make_opsetid("other", 1)]
    return onnx.shape_inference.infer_shapes(onnx.helper.make_model(graph, opset_imports=imports, ir_version=10))


def mobile() -> onnx.ModelProto:
    """A block with hard-swish and squeeze-and-excitation between layers that are fine, and a softmax at the end."""
    nodes = [
        make("Conv", ["images", "w0"], ["conv0"], pads=[1, 1, 1, 1]),
        make("HardSwish", ["conv0"], ["swish"]),
        make("GlobalAveragePool", ["swish"], ["mean"]),
        make("Conv", ["mean", "w1"], ["conv1"]),
        make("HardSigmoid", ["conv1"], ["share"]),
        make("Mul", ["swish", "share"], ["excited"]),
        make("Conv", ["excited", "w0b"], ["conv2"], dilations=[1, 2]),
        make("Flatten", ["conv2"], ["flat"]),
        make("MatMul", ["flat", "w2"], ["dense"]),
        make("Softmax", ["dense"], ["shares"]),
    ]
    return model_of(nodes, w0=(4, 3, 3, 3), w1=(4, 4, 1, 1), w0b=(4, 4, 3, 3), w2=(96, 5))


MOBILE = [
    "HardSwish 'swish': no engine applies this function to images; train with Relu or Clip(0, 6) in its place",
    "HardSigmoid 'share': no engine applies this function to images; train with Relu or Clip(0, 6) in its place",
    "Mul 'excited': products of two computed tensors, as squeeze-and-excitation and swish have, are not computed; "
    "use a network without them, such as ResNet or MobileNetV2",
    "Conv 'conv2': its dilations [1, 2] differ, and no engine reads such windows; "
    "use one dilation for rows and columns",
    "Softmax 'shares': it is the model's output; leave it out, so that the logits are the output",
]


def test_quantize_names_all_at_once_and_writes_nothing(fail: Failure, tmp_path: Path) -> None:
    onnx.save(mobile(), tmp_path / "model.onnx")
    error = fail(["quantize", "model.onnx", "--samples", "samples.npz", "-o", "new.q.onnx"])
    assert error == {
        "code": "operators-unsupported",
        "found": "\n    ".join(["5 operators not supported:", *MOBILE]),
        "expected": "convolutions and dense layers with constant weights, pooling, Add, Relu, Clip from 0, "
        "BatchNormalization and Flatten",
        "do": "change the model as each line says",
    }


def test_inspect_gives_the_same_lines_as_a_result(tmp_path: Path, capsys: Any) -> None:
    onnx.save(mobile(), tmp_path / "model.onnx")
    assert main(["inspect", str(tmp_path / "model.onnx"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["refused"] == MOBILE
    assert found["layers"] == []


CONV = make("Conv", ["images", "w"], ["conv"])
W: Any = (4, 3, 3, 3)


def conv(**attributes: Any) -> list[onnx.NodeProto]:
    return [make("Conv", ["images", "w"], ["conv"], **attributes)]


def pool(operator: str, **attributes: Any) -> list[onnx.NodeProto]:
    return [make(operator, ["images"], ["pool"], **attributes), make("Conv", ["pool", "w"], ["conv"])]


def pad(**attributes: Any) -> list[onnx.NodeProto]:
    return [make("Pad", ["images", "pads"], ["padded"]), make("Conv", ["padded", "w"], ["conv"], **attributes)]


@pytest.mark.parametrize(
    ("nodes", "constants", "line"),
    [
        (
            conv(auto_pad="SAME_UPPER", dilations=[2, 2]),
            {"w": W},
            "Conv 'conv': onnxruntime does not run auto_pad with dilations; write the pads as numbers",
        ),
        (
            conv(dilations=[4, 4]),
            {"w": W},
            "Conv 'conv': its window reaches over 9 x 9 pixels of 8 x 8; use larger images, or a smaller window",
        ),
        (
            conv(group=3),
            {"w": W},
            "Conv 'conv': its weights [4, 3, 3, 3] in 3 groups do not fit 3 channels; export the model again",
        ),
        (
            pool("MaxPool", kernel_shape=[2, 2], pads=[0, 0, 2, 0]),
            {"w": W},
            "MaxPool 'pool': its pads [0, 0, 2, 0] reach its kernel [2, 2], so that windows hold padding alone; "
            "use smaller pads",
        ),
        (
            pool("AveragePool", kernel_shape=[2, 2], strides=[3, 3], auto_pad="SAME_UPPER"),
            {"w": W},
            "AveragePool 'pool': runtimes place auto_pad differently where strides pass the window; write the pads",
        ),
        (
            pool("MaxPool", kernel_shape=[2, 2], auto_pad="VALID", ceil_mode=1),
            {"w": W},
            "MaxPool 'pool': ceil_mode and auto_pad meet; write the pads as numbers",
        ),
        (
            [make("MaxPool", ["images"], ["pool", "places"], kernel_shape=[2, 2]), make("Conv", ["pool", "w"], ["c"])],
            {"w": W},
            "MaxPool 'pool': its second output, the indices, is read; leave out what reads the indices",
        ),
        (
            [make("ReduceMean", ["images", "axes"], ["mean"]), make("Conv", ["mean", "w"], ["conv"])],
            {"w": (4, 3, 1, 1), "axes": [2]},
            "ReduceMean 'mean': it averages over the axes [2]; average over rows and columns, axes 2 and 3",
        ),
        (
            [CONV, make("Clip", ["conv", "low", "high"], ["clip"]), make("GlobalAveragePool", ["clip"], ["mean"])],
            {"w": W, "low": np.float32(-1), "high": np.float32(1)},
            "Clip 'clip': it limits to -1..1; use Relu, or Clip from 0, as ReLU6 does",
        ),
        (
            [CONV, make("Clip", ["conv", "", "high"], ["clip"]), make("GlobalAveragePool", ["clip"], ["mean"])],
            {"w": W, "high": np.float32(6)},
            "Clip 'clip': it limits to none..6; use Relu, or Clip from 0, as ReLU6 does",
        ),
        (
            [make("Relu", ["images"], ["relu"]), make("Conv", ["relu", "w"], ["conv"])],
            {"w": W},
            "Relu 'relu': it reads the model's input; apply it to the samples beforehand",
        ),
        (
            [CONV, make("Relu", ["conv"], ["relu"])],
            {"w": W},
            "Relu 'relu': it is the model's output; leave it out, predictions stay the same",
        ),
        (
            [CONV, make("Relu", ["conv"], ["a"]), make("Relu", ["a"], ["b"]), make("GlobalAveragePool", ["b"], ["m"])],
            {"w": W},
            "Relu 'b': it follows another Relu or Clip; write both as one Clip",
        ),
        (
            [
                CONV,
                make("MaxPool", ["conv"], ["pool"], kernel_shape=[2, 2]),
                make("Relu", ["pool"], ["relu"]),
                make("GlobalAveragePool", ["relu"], ["mean"]),
            ],
            {"w": W},
            "Relu 'relu': it follows MaxPool; put it before that, the result is the same",
        ),
        (
            [CONV, make("Flatten", ["conv"], ["flat"])],
            {"w": W},
            "output 'flat': it flattens 6 x 6 pixels; end the model before Flatten",
        ),
        (
            [CONV, make("Flatten", ["conv"], ["flat"]), make("Add", ["flat", "flat"], ["sum"])],
            {"w": W},
            "Flatten 'flat': 'sum' reads its columns; only MatMul and Gemm may",
        ),
        (
            [CONV, make("MaxPool", ["conv"], ["pool"], kernel_shape=[2, 2])],
            {"w": W},
            "output 'pool': no layer with weights, sum or average computes it; "
            "end the model with a dense layer or an average",
        ),
        (
            [CONV, make("Reshape", ["conv", "shape"], ["half"]), make("MatMul", ["half", "m"], ["dense"])],
            {"w": W, "shape": [-1, 72], "m": (72, 3)},
            "Reshape 'half': it makes samples of shape [72] from [4, 6, 6]; make one row of each sample, as Flatten",
        ),
        (
            [make("Flatten", ["images"], ["flat"], axis=2), make("MatMul", ["flat", "m"], ["dense"])],
            {"m": (64, 3)},
            "Flatten 'flat': it flattens from axis 2; flatten samples, from axis 1",
        ),
        (
            [make("Flatten", ["images"], ["flat"]), make("Gemm", ["flat", "m"], ["dense"], alpha=0.5)],
            {"m": (192, 3)},
            "Gemm 'dense': transA, alpha or beta is set; fold them into the weights",
        ),
        (
            [make("MatMul", ["images", "m"], ["dense"])],
            {"m": (8, 3)},
            "MatMul 'dense': it multiplies samples of shape [3, 8, 8] by weights of shape [8, 3]; "
            "flatten images first; weights are a matrix with one row for each column",
        ),
        (
            [CONV, make("Relu", ["conv"], ["relu"]), make("Add", ["relu", "b"], ["sum"])],
            {"w": W, "b": (1, 4, 1, 1)},
            "Add 'sum': it adds a constant of shape [1, 4, 1, 1] to something other than a convolution or dense layer "
            "of its own; fold it into a bias",
        ),
        (
            [CONV, make("Add", ["conv", "b"], ["sum"]), make("Add", ["conv", "sum"], ["twice"])],
            {"w": W, "b": (1, 4, 1, 1)},
            "Add 'sum': it adds a constant of shape [1, 4, 1, 1] to something other than a convolution or dense layer "
            "of its own; fold it into a bias",
        ),
        (
            [CONV, make("Conv", ["images", "v"], ["small"]), make("Add", ["conv", "small"], ["sum"])],
            {"w": W, "v": (4, 3, 8, 8)},
            "Add 'sum': its operands have the shapes [4, 6, 6] and [4, 1, 1]; add tensors of one shape",
        ),
        (
            [make("Conv", ["images", "images"], ["conv"])],
            {},
            "Conv 'conv': 'images' is computed, not constant; export trained weights as initializers",
        ),
        (
            [make("Pad", ["images", "pads"], ["padded"], mode="reflect"), make("Conv", ["padded", "w"], ["conv"])],
            {"w": W, "pads": [0, 0, 1, 1, 0, 0, 1, 1]},
            "Pad 'padded': it pads with other than zeros; use zeros around images",
        ),
        (
            [make("Pad", ["images", "pads", "one"], ["padded"]), make("Conv", ["padded", "w"], ["conv"])],
            {"w": W, "pads": [0, 0, 1, 1, 0, 0, 1, 1], "one": np.float32(1)},
            "Pad 'padded': it pads with other than zeros; use zeros around images",
        ),
        (
            pad(),
            {"w": W, "pads": [1, 0, 0, 0, 0, 0, 0, 0]},
            "Pad 'padded': its pads are [1, 0, 0, 0, 0, 0, 0, 0]; pad rows and columns alone, and crop nothing",
        ),
        (
            pad(),
            {"w": W, "pads": [0, 0, 0, -1, 0, 0, 0, 0]},
            "Pad 'padded': its pads are [0, 0, 0, -1, 0, 0, 0, 0]; pad rows and columns alone, and crop nothing",
        ),
        (
            pad(auto_pad="SAME_UPPER"),
            {"w": W, "pads": [0, 0, 1, 1, 0, 0, 1, 1]},
            "Conv 'conv': auto_pad and a Pad before it meet; write the pads as numbers",
        ),
        (
            [
                make("Pad", ["images", "pads"], ["padded"]),
                make("MaxPool", ["padded"], ["pool"], kernel_shape=[2, 2]),
                make("Conv", ["pool", "w"], ["conv"]),
            ],
            {"w": W, "pads": [0, 0, 1, 1, 0, 0, 1, 1]},
            "MaxPool 'pool': it reads 'padded' with its padding, which Conv alone takes in; "
            "write the padding into its own pads",
        ),
        (
            [make("Mystery", ["images"], ["what"], domain="other"), make("Conv", ["what", "w"], ["conv"])],
            {"w": W},
            "other::Mystery 'what': the operator is not known; "
            "replace it by Conv, MatMul, Gemm, pooling, Add, Relu or Clip",
        ),
        (
            [
                make("Flatten", ["images"], ["flat"]),
                make("BatchNormalization", ["flat", "g", "g", "g", "v"], ["norm"]),
                make("MatMul", ["norm", "m"], ["dense"]),
            ],
            {"m": (192, 3), "g": (192,), "v": np.ones(192, np.float32)},
            "BatchNormalization 'norm': it normalises columns that no dense layer alone computes; "
            "put it behind one, or before Flatten",
        ),
        (
            [make("BatchNormalization", ["images", "g", "g", "g", "v"], ["norm"], training_mode=1), CONV],
            {"w": W, "g": (3,), "v": np.ones(3, np.float32)},
            "BatchNormalization 'norm': it is exported for training; export the model after `model.eval()`",
        ),
    ],
)
def test_each_problem_is_named_with_what_to_change(
    nodes: list[onnx.NodeProto], constants: dict[str, Any], line: str
) -> None:
    assert list(try_cnn(model_of(nodes, **constants)).refused) == [line]


def test_windows_of_65_536_pixels_have_no_reciprocal() -> None:
    value = onnx.helper.make_tensor_value_info
    inputs = [value("images", onnx.TensorProto.FLOAT, ["N", 1, 256, 256])]
    graph = onnx.helper.make_graph(
        [make("GlobalAveragePool", ["images"], ["mean"])], "one", inputs, [value("mean", onnx.TensorProto.FLOAT, None)]
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)])
    assert try_cnn(model).refused == (
        "GlobalAveragePool 'mean': it averages 65,536 pixels, and at most 65,535 have a reciprocal; "
        "use smaller windows",
    )


def test_a_share_of_a_core_is_refused_for_a_network_on_samples(fail: Failure, tmp_path: Path) -> None:
    nodes = [CONV, make("GlobalAveragePool", ["conv"], ["mean"])]
    onnx.save(model_of(nodes, w=W), tmp_path / "model.onnx")
    assert main(["quantize", "model.onnx", "--samples", "samples.npz", "-o", "model.q.onnx"]) == 0
    assert fail(["compile", "model.q.onnx", "--split", "0.5", "-o", "model.hfp"]) == {
        "code": "split-invalid",
        "found": "a share of 0.5 of the output channels on GEMM-D for a model that takes samples",
        "expected": "no share: its layers are split by channels or by lines, whichever takes less time",
        "do": "leave the share to the compiler",
    }
    assert not (tmp_path / "model.hfp").exists()


@pytest.mark.parametrize(
    ("has", "dram", "need", "expected"),
    [
        # 4 x 3 x 3 x 3 weights of 8 bits; samples, 6 x 6 pixels of 32 bytes, logits.
        (1_000, 2**29, "at least 2,092 bytes of DRAM: 108 for", "at most 1,000, what the board 'pynq-z2' allocates"),
        (None, 2_000, "at least 2,092 bytes of DRAM: 108 for", "at most 2,000, what the board 'pynq-z2' has"),
        (2_500, 2**29, "2,624 bytes of DRAM: 640 for", "at most 2,500, what the board 'pynq-z2' allocates"),
    ],
)
def test_a_network_larger_than_the_boards_memory_is_refused_with_its_need(
    has: int | None,
    dram: int,
    need: str,
    expected: str,
    fail: Failure,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Before it is compiled where weights and images alone are too much."""
    onnx.save(model_of([CONV, make("GlobalAveragePool", ["conv"], ["mean"])], w=W), tmp_path / "model.onnx")
    assert main(["quantize", "model.onnx", "--samples", "samples.npz", "-o", "model.q.onnx"]) == 0
    board = replace(read_board("pynq-z2"), contiguous_bytes=has, dram_low_bytes=dram)
    monkeypatch.setattr("hetfab.overlay.compiler.cnn.compile.read_board", lambda name: board)
    error = fail(["compile", "model.q.onnx", "-o", "model.hfp"])
    assert error["code"] == "limit-exceeded"
    assert error["found"] == f"the network needs {need} weights and program, 1,984 for samples and feature maps"
    assert error["expected"] == expected
    assert error["do"] == "use a smaller network or images, or a design for a board with more"
