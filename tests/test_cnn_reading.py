# SPDX-License-Identifier: Apache-2.0
"""Convolutional networks are read as onnxruntime runs them, in every form in which exporters write them."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnx.helper
import onnx.numpy_helper
import pytest

from hetfab.overlay.errors import BindingInvalidError, InputsUnboundError, ModelStructureError
from hetfab.overlay.model.binding import Samples
from hetfab.overlay.model.cnn.layers import AveragePool, BatchNorm, Clip, Conv, Flatten, MaxPool, multiplies
from hetfab.overlay.model.cnn.parser import parse_cnn
from hetfab.overlay.model.cnn.window import Window
from hetfab.overlay.model.layers import Add, Dense, Relu
from hetfab.overlay.model.reader import bindings_of, read_model
from hetfab.overlay.model.runtime import run_model
from hetfab.quantize.cnn.rewrites import fold_batch_norms
from hetfab.quantize.cnn.writer import float_model
from tests.outside import module
from tests.random_cnns import CnnBuilder, Shape, random_cnn

NETWORKS: dict[str, Callable[..., onnx.ModelProto]] = module("benchmarks.image_networks").NETWORKS


def written(model: onnx.ModelProto, folder: Path) -> onnx.ModelProto:
    """The model as hetfab reads it from a file."""
    path = folder / "model.onnx"
    onnx.save(model, path)
    return read_model(path)


def check_read(model: onnx.ModelProto, batch: int = 3) -> None:
    """The layers, written again as a float model without BatchNormalization, compute what the model computes."""
    binding = bindings_of(model)["input"]
    assert isinstance(binding, Samples)
    samples = np.random.default_rng(1).normal(size=(batch, *binding.shape)).astype(np.float32)
    layers = fold_batch_norms(parse_cnn(model))
    assert not any(isinstance(layer, BatchNorm) for layer in layers.layers)
    expected = run_model(model, {"input": samples}, ["logits"])[0]
    found = run_model(float_model(layers), {"input": samples}, ["logits"])[0]
    assert found.shape == expected.shape
    assert np.allclose(found, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max(initial=1e-3))


@pytest.mark.parametrize("opset", range(17, 22))
def test_random_networks_are_read_as_onnxruntime_runs_them(opset: int, tmp_path: Path) -> None:
    for seed in range(12):
        check_read(written(random_cnn(100 * opset + seed, opset=opset), tmp_path))


def test_a_model_of_a_fixed_batch_is_read(tmp_path: Path) -> None:
    model = written(random_cnn(5, batch=2), tmp_path)
    check_read(model, batch=2)


@pytest.mark.parametrize(("batch", "rows"), [(2, 2), (2, 0), ("N", 0), (1, 1)])
def test_a_reshape_may_state_the_batch(batch: int | str, rows: int) -> None:
    build = CnnBuilder(np.random.default_rng(0), (2, 3, 4), batch=batch)
    flat = build.node("Reshape", "input", build.constant([rows, -1]), shape=(24,))
    check_read(build.finish(build.dense(flat, 3)), batch=batch if isinstance(batch, int) else 4)


@pytest.mark.parametrize("opset", [17, 18, 21])
def test_zeros_around_an_image_become_padding_of_its_convolutions(opset: int) -> None:
    """As exports of padding that depends on the size have them, for more than one reader too."""
    build = CnnBuilder(np.random.default_rng(0), (2, 5, 6), opset=opset)
    pads = build.node("Pad", "input", build.constant([0, 0, 0, 1, 0, 0, 2, 1]), shape=(2, 7, 8))
    left = build.conv(pads, 3, Window((3, 3), (2, 2), pads=(1, 0, 0, 0)))
    right = build.conv(pads, 3, Window((4, 3), (2, 2), pads=(1, 0, 1, 0)))
    if opset >= 18:
        axes = build.node("Pad", right, build.constant([1, 1]), "", build.constant([-1]), shape=(3, 3, 5))
        right = build.conv(axes, 3, Window((1, 3)))
    model = build.finish(build.node("Add", left, right))
    assert {node.op_type for node in model.graph.node} >= {"Pad"}
    check_read(model)
    convs = [layer for layer in parse_cnn(model).layers if isinstance(layer, Conv)]
    assert [layer.window.pads for layer in convs][:2] == [(1, 1, 2, 1), (1, 1, 3, 1)]


def test_random_networks_have_every_kind_of_layer() -> None:
    kinds = {type(layer) for seed in range(60) for layer in parse_cnn(random_cnn(seed)).layers}
    assert kinds == {Conv, Dense, BatchNorm, MaxPool, AveragePool, Add, Relu, Clip, Flatten}


def test_the_output_keeps_its_name_behind_identities() -> None:
    graph = parse_cnn(random_cnn(0))
    assert graph.output == "logits"
    assert graph.layers[-1].output == "logits"


def test_a_layer_that_does_not_rename_is_not_the_output_of_another() -> None:
    """Two readers of a tensor behind Identity are two readers of that tensor: its bias is not folded."""
    build = CnnBuilder(np.random.default_rng(0), (2, 4, 4))
    first = build.conv("input", 2, Window((1, 1)))
    same = build.node("Identity", first)
    added = build.node("Add", build.node("Relu", first), build.node("Relu", same))
    check_read(build.finish(added))


SIZES = {"resnet18": (20 + 1, 1_814_073_344, 11_678_912), "mobilenet_v2": (52 + 1, 300_774_272, 3_469_760)}


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("batch_norm", [False, True])
def test_published_networks_have_their_published_sizes(name: str, batch_norm: bool) -> None:
    """Layers with weights, multiplications and weights at 224 x 224, biases not counted."""
    graph = parse_cnn(NETWORKS[name](batch_norm=batch_norm))
    products = list(graph.products())
    found = len(products), sum(multiplies(layer, graph) for layer in products), sum(p.weight.size for p in products)
    assert found == SIZES[name]
    assert graph.shapes[graph.output] == (1000,)


def test_networks_are_the_same_for_the_same_seed() -> None:
    first, second, other = (NETWORKS["mobilenet_v2"](seed, size=32).SerializeToString() for seed in (3, 3, 4))
    assert first == second != other


@pytest.mark.parametrize("name", NETWORKS)
def test_folding_keeps_what_published_networks_compute(name: str) -> None:
    model = NETWORKS[name](size=64, batch_norm=True)
    samples = np.random.default_rng(0).normal(size=(2, 3, 64, 64)).astype(np.float32)
    expected = run_model(model, {"input": samples}, ["output"])[0]
    found = run_model(float_model(fold_batch_norms(parse_cnn(model))), {"input": samples}, ["output"])[0]
    assert np.allclose(found, expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())


def with_input(shape: list[int | str | None], name: str = "input") -> onnx.ModelProto:
    value = onnx.helper.make_tensor_value_info
    node = onnx.helper.make_node("Relu", [name], ["logits"])
    inputs = [value(name, onnx.TensorProto.FLOAT, shape)]
    graph = onnx.helper.make_graph([node], "one", inputs, [value("logits", onnx.TensorProto.FLOAT, None)])
    return onnx.helper.make_model(graph)


@pytest.mark.parametrize(
    ("name", "shape", "sample"),
    [
        ("input", ["N", 3, 8, 9], (3, 8, 9)),
        ("x_image", [4, 1, 2, 2], (1, 2, 2)),
        ("pixels", ["N", 64], (64,)),
        ("input.1", [None, 7], (7,)),
    ],
)
def test_samples_follow_from_the_form_of_the_only_input(
    name: str, shape: list[int | str | None], sample: Shape
) -> None:
    assert bindings_of(with_input(shape, name)) == {name: Samples(sample)}


def test_rows_whose_name_has_a_meaning_are_features() -> None:
    assert not isinstance(bindings_of(with_input(["N", 7], "x_paper"))["x_paper"], Samples)


def test_a_form_without_a_meaning_is_unbound() -> None:
    with pytest.raises(InputsUnboundError):
        bindings_of(with_input(["N", 3, 9], "signal"))


@pytest.mark.parametrize(
    ("shape", "text"), [(["N", 3, "height", "width"], "3 x height x width"), (["N", 3, 224, None], "3 x 224 x ?")]
)
def test_free_sizes_of_images_are_refused(shape: list[int | str | None], text: str) -> None:
    with pytest.raises(ModelStructureError) as caught:
        bindings_of(with_input(shape))
    assert caught.value.as_dict() == {
        "code": "model-structure",
        "found": f"the input 'input' has samples of {text}, with free sizes",
        "expected": "fixed sizes: windows, buffers and constants are laid out for one size",
        "do": "export the model for one size; only the batch, the first dimension, may be free",
    }


def test_a_binding_of_another_shape_is_refused() -> None:
    model = with_input(["N", 3, 8, 8])
    with pytest.raises(BindingInvalidError) as caught:
        bindings_of(model, {"input": Samples((3, 8, 9))})
    assert caught.value.found == (
        "inputs of the model have another form than what they mean: 'input' has samples of 3 x 8 x 8, "
        "but means samples of 3 x 8 x 9"
    )


Change = Callable[[onnx.ModelProto], None]


def two_outputs(model: onnx.ModelProto) -> None:
    model.graph.output.append(onnx.helper.make_tensor_value_info("input", onnx.TensorProto.FLOAT, None))


def two_inputs(model: onnx.ModelProto) -> None:
    model.graph.input.append(onnx.helper.make_tensor_value_info("mask", onnx.TensorProto.FLOAT, ["N", 3]))


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (two_outputs, "the model has 1 input and 2 outputs: input, logits, input"),
        (two_inputs, "the model has 2 inputs and 1 output: input, mask, logits"),
    ],
)
def test_other_numbers_of_inputs_and_outputs_are_refused(change: Change, found: str) -> None:
    model = random_cnn(1)
    change(model)
    with pytest.raises(ModelStructureError) as caught:
        parse_cnn(model)
    assert caught.value.found == found


def test_weights_that_are_not_finite_are_refused() -> None:
    model = NETWORKS["mobilenet_v2"](size=32)
    tensor = model.graph.initializer[5]
    array = np.array(onnx.numpy_helper.to_array(tensor))
    array.flat[0] = np.nan
    tensor.CopyFrom(onnx.numpy_helper.from_array(array, tensor.name))
    with pytest.raises(ModelStructureError, match="initializers contain NaN or infinity: weight_5"):
        parse_cnn(model)
