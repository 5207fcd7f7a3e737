# SPDX-License-Identifier: Apache-2.0
"""Quantized convolutional networks: the golden run equals onnxruntime on ``model.q.onnx``, every tensor of it."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx.helper
import onnx.numpy_helper
import onnx.reference
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hetfab.overlay.errors import (
    AlreadyQuantizedError,
    CalibrationDataError,
    ModelStructureError,
    NotQuantizedError,
    OperatorsUnsupportedError,
    OverflowPossibleError,
)
from hetfab.overlay.model.bound_model import FedModel
from hetfab.overlay.model.cnn.integer import Average, Ending, IntegerCnn, Largest, Product, Stored, Sum
from hetfab.overlay.model.cnn.integer_reader import read_integers
from hetfab.overlay.model.cnn.interpreter import logits, run_integers
from hetfab.overlay.model.cnn.window import Window
from hetfab.overlay.model.reader import bindings_of, check_model, normalise
from hetfab.overlay.model.runtime import run_model
from hetfab.quantize.cnn.post_training import QuantizedCnn, quantize_cnn
from hetfab.quantize.widths import Widths
from tests.image_programs import in_runtime
from tests.outside import module
from tests.random_cnns import CnnBuilder, random_cnn

NETWORKS: dict[str, Callable[..., onnx.ModelProto]] = module("benchmarks.image_networks").NETWORKS
Samples = npt.NDArray[np.float32]


def samples_of(model: onnx.ModelProto, batch: int = 3, seed: int = 2) -> Samples:
    """Images around zero, so that the input is signed."""
    sizes = [dim.dim_value for dim in model.graph.input[0].type.tensor_type.shape.dim[1:]]
    return np.random.default_rng(seed).normal(size=(batch, *sizes)).astype(np.float32)


def quantized(model: onnx.ModelProto, samples: Samples, bits: str = "w8a8", edges: str | None = None) -> QuantizedCnn:
    given = FedModel(model, bindings_of(model), [{model.graph.input[0].name: samples}])
    return quantize_cnn(given, widths=widths(bits), edges=widths(edges) if edges else None)


def widths(text: str) -> Widths:
    return Widths(int(text[1]), int(text[3]))


def check_equal(result: QuantizedCnn, samples: Samples) -> IntegerCnn:
    """No tensor of the golden run differs from onnxruntime's; returns the integer layers."""
    read = read_integers(result.model)
    expected = in_runtime(result.model, read, samples)
    found = {tensor.name: values for tensor, values in run_integers(read, samples)}
    assert set(found) == {*expected, read.input.name}
    different = [name for name in expected if not np.array_equal(found[name], expected[name])]
    assert not different
    for tensor, values in ((read.stored[name], values) for name, values in found.items()):
        assert values.shape == (len(samples), *tensor.shape)
        assert tensor.lowest <= values.min() and values.max() <= tensor.highest
    return read


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    opset=st.integers(17, 21),
    bits=st.sampled_from(["w8a8", "w4a4", "w4a8", "w3a5", "w2a8", "w2a4", "w1a8", "w1a2", "w6a3"]),
    edges=st.sampled_from([None, "w8a8"]),
)
def test_every_tensor_equals_onnxruntime(seed: int, opset: int, bits: str, edges: str | None) -> None:
    model = random_cnn(seed, opset=opset)
    samples = samples_of(model)
    result = quantized(model, samples, bits, edges)
    if not result.may_round:
        check_equal(result, samples)
    check_equal_where_proven(result, samples)


def check_equal_where_proven(result: QuantizedCnn, samples: Samples) -> None:
    """Where float32 may round a layer's sums, the layers before it are still equal."""
    read = read_integers(result.model)
    expected = in_runtime(result.model, read, samples)
    tainted: set[str] = set()
    for tensor, values in list(run_integers(read, samples))[1:]:
        layer = next(layer for layer in read.layers if layer.output is tensor)
        operands = {
            value.name for value in (getattr(layer, name, None) for name in FIELDS) if isinstance(value, Stored)
        }
        if tensor.name in result.may_round or operands & tainted:
            tainted.add(tensor.name)
        else:
            assert np.array_equal(values, expected[tensor.name])


FIELDS = ("input", "residual", "left", "right")


def test_random_networks_have_every_kind_of_integer_layer_and_ending() -> None:
    kinds, endings, forms = set(), set(), set()
    for seed in range(60):
        model = random_cnn(seed)
        for layer in read_integers(quantized(model, samples_of(model, 1)).model).layers:
            kinds.add(type(layer))
            endings |= set() if isinstance(layer, Largest) else {layer.finish.ending}
            if isinstance(layer, Product):
                forms |= {("depthwise", layer.depthwise), ("residual", layer.residual is not None)}
    assert kinds == {Product, Average, Sum, Largest}
    assert endings == set(Ending)
    assert len(forms) == 4


@pytest.mark.parametrize("name", NETWORKS)
def test_published_networks_at_their_published_size_equal_onnxruntime(name: str) -> None:
    """W4A4 with 8 bits in first and last layers; float32 holds every sum, so the equality is proven for any image."""
    model = NETWORKS[name](seed=7)
    samples = samples_of(model, 1)
    result = quantized(model, samples, "w4a4", "w8a8")
    read = check_equal(result, samples)
    assert [layer for layer in result.may_round if layer != "output"] == []
    float_logits = run_model(model, {"input": samples}, ["output"])[0]
    found = logits(read, samples) * read.output.scale
    assert np.corrcoef(found.ravel(), float_logits.ravel())[0, 1] > 0.97
    products = list(read.products())
    assert {int(layer.weight_bits[0]) for layer in products[1:-1]} == {4}
    assert products[0].weight_bits[0] == products[-1].weight_bits[0] == 8
    assert (products[0].input.bits, products[-1].input.bits) == (8, 8)


def test_batches_of_any_size_give_what_single_samples_give() -> None:
    model = random_cnn(3)
    samples = samples_of(model, 5)
    read = read_integers(quantized(model, samples).model)
    together = logits(read, samples)
    assert np.array_equal(together, np.concatenate([logits(read, samples[i : i + 1]) for i in range(5)]))


def test_the_file_runs_in_the_reference_runtime_of_onnx() -> None:
    model = random_cnn(11)
    samples = samples_of(model, 2)
    result = quantized(model, samples)
    check_model(normalise(result.model), "it")
    results: Any = onnx.reference.ReferenceEvaluator(result.model).run(None, {"input": samples})
    read = read_integers(result.model)
    expected = logits(read, samples) * read.output.scale
    array = np.asarray(results[0])
    array = array.transpose(0, 2, 3, 1) if array.ndim == 4 else array
    assert np.allclose(array, expected, rtol=0, atol=read.output.scale / 4)


def one_conv(weight: npt.ArrayLike, *, clip: float | None = None, bias: npt.ArrayLike | None = None) -> onnx.ModelProto:
    """A convolution of one tap, rectified, and a dense layer for each pixel's sum."""
    build = CnnBuilder(np.random.default_rng(0), (np.asarray(weight).shape[1], 2, 2))
    found = build.node("Conv", "input", build.constant(weight), shape=(len(np.asarray(weight)), 2, 2))
    if bias is not None:
        found = build.node("Add", found, build.constant(np.asarray(bias, np.float32).reshape(1, -1, 1, 1)))
    bounds = [] if clip is None else [build.constant(np.float32(0)), build.constant(np.float32(clip))]
    found = build.node("Relu" if clip is None else "Clip", found, *bounds)
    return build.finish(build.flatten(build.node("GlobalAveragePool", found, shape=(len(np.asarray(weight)), 1, 1))))


@pytest.mark.parametrize(("clip", "highest"), [(6.0, 192), (6.01, 192), (7.97, 255), (None, 255)])
def test_clip_limits_integers_where_it_limits_numbers(clip: float | None, highest: int) -> None:
    """At the scale 2^-5 the bound is rounded as Quant rounds it; without one the width limits."""
    model = one_conv(np.ones((1, 1, 1, 1)), clip=clip)
    samples = np.array([5.0, 5.5, 5.53125, 7.96875], np.float32).reshape(1, 1, 2, 2)
    read = check_equal(quantized(model, samples), samples)
    (layer,) = read.products()
    assert layer.output.scale == 2.0**-5
    assert layer.finish.highest == highest
    tensors = {tensor.name: values for tensor, values in run_integers(read, 100 * samples)}
    assert tensors[layer.output.name].max() == highest


def test_batch_normalization_is_gone() -> None:
    model = random_cnn(2)
    assert "BatchNormalization" in {node.op_type for node in model.graph.node}
    result = quantized(model, samples_of(model))
    assert "BatchNormalization" not in {node.op_type for node in result.model.graph.node}


def test_biases_take_the_mean_error_of_rounded_weights() -> None:
    """All pixels are 1, so that errors of the weights of one channel add up; the bias takes them back."""
    weight = np.random.default_rng(0).uniform(0.5, 1, (8, 64, 1, 1))
    model = one_conv(weight)
    samples = np.ones((1, 64, 2, 2), np.float32)
    read = read_integers(quantized(model, samples, "w3a8").model)
    expected = run_model(model, {"input": samples}, ["logits"])[0].ravel()
    (layer,) = read.products()
    without = replace(layer, bias=0 * layer.bias)
    errors = []
    for conv in (layer, without):
        run = replace(read, layers=tuple(conv if other is layer else other for other in read.layers))
        errors.append(np.abs(logits(run, samples).ravel() * read.output.scale - expected).max())
    assert errors[0] <= layer.output.scale < errors[1] / 2


def test_two_stored_operands_of_an_addition_share_one_scale() -> None:
    build = CnnBuilder(np.random.default_rng(0), (2, 4, 4))
    small = build.node("Relu", build.conv("input", 2, Window((1, 1))))
    large = build.node("Relu", build.conv("input", 2, Window((3, 3), pads=(1, 1, 1, 1))))
    model = build.finish(build.conv(build.node("Add", small, large), 3, Window((1, 1))))
    samples = samples_of(model)
    read = check_equal(quantized(model, samples), samples)
    (layer,) = (layer for layer in read.layers if isinstance(layer, Sum))
    assert layer.left.exponent == layer.right.exponent


def test_the_operand_that_is_computed_last_joins_from_its_accumulators() -> None:
    build = CnnBuilder(np.random.default_rng(0), (2, 4, 4))
    first = build.conv("input", 2, Window((1, 1)))
    second = build.conv("input", 2, Window((3, 3), pads=(1, 1, 1, 1)))
    model = build.finish(build.conv(build.node("Add", second, first), 3, Window((1, 1))))
    read = read_integers(quantized(model, samples_of(model)).model)
    joined = [layer for layer in read.products() if layer.residual is not None]
    assert len(joined) == 1 and joined[0].window == Window((3, 3), pads=(1, 1, 1, 1))


@pytest.mark.parametrize("gain", [2.0**14, 2.0**-14])
def test_operands_of_an_addition_may_differ_in_size(gain: float) -> None:
    """The stored operand's scale becomes so coarse that the other, in Q.8 of it, fits 24 bits."""
    build = CnnBuilder(np.random.default_rng(0), (2, 4, 4))
    weight = gain * np.random.default_rng(1).normal(size=(2, 2, 1, 1))
    stored = build.node("Relu", build.conv("input", 2, Window((1, 1))))
    found = build.node("Conv", "input", build.constant(weight), shape=(2, 4, 4))
    model = build.finish(build.conv(build.node("Add", found, stored), 3, Window((1, 1))))
    samples = samples_of(model)
    read = check_equal(quantized(model, samples), samples)
    expected = run_model(model, {"input": samples}, ["logits"])[0].transpose(0, 2, 3, 1)
    found_logits = logits(read, samples) * read.output.scale
    assert np.abs(found_logits - expected).max() < 0.05 * np.abs(expected).max()


def test_rows_of_a_dense_layer_follow_the_bytes_of_the_image() -> None:
    """Weights that pick one column of ONNX's order pick the same pixel and channel from NHWC."""
    build = CnnBuilder(np.random.default_rng(0), (2, 2, 3))
    weight = np.zeros((12, 12), np.float32)
    weight[np.arange(12), np.arange(12)] = 1
    model = build.finish(build.node("MatMul", build.flatten("input"), build.constant(weight), shape=(12,)))
    read = read_integers(quantized(model, np.arange(24, dtype=np.float32).reshape(2, 2, 2, 3)).model)
    (layer,) = read.products()
    for row, column in enumerate(layer.weight[0, 0].argmax(axis=1)):
        pixel, channel = divmod(row, 2)
        assert column == channel * 6 + pixel


def with_two_widths(model: onnx.ModelProto, layer: str, first: int, bits: int, axis: int) -> onnx.ModelProto:
    """The model with a layer's first output channels in other initializers of ``bits`` bits, joined by Concat."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    graph, name = copy.graph, f"{layer}.weight"
    arrays = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    position, quant = next((i, n) for i, n in enumerate(graph.node) if n.output[0] == f"{name}.int")
    parts, made = [], []
    for part, width in enumerate((bits, int(arrays[quant.input[3]]))):
        chosen = slice(None, first) if part == 0 else slice(first, None)
        place = (chosen,) if axis == 0 else (slice(None), chosen)
        values = {"": arrays[name][place], ".scale": arrays[quant.input[1]][place], ".bits": np.float32(width)}
        for suffix, array in values.items():
            graph.initializer.append(onnx.numpy_helper.from_array(np.array(array), f"{name}.{part}{suffix}"))
        node = onnx.NodeProto()
        node.CopyFrom(quant)
        node.input[0], node.input[1], node.input[3] = (f"{name}.{part}{suffix}" for suffix in ("", ".scale", ".bits"))
        node.output[0] = node.name = f"{name}.{part}.int"
        made.append(node)
        parts.append(node.output[0])
    made.append(onnx.helper.make_node("Concat", parts, [f"{name}.int"], axis=axis))
    nodes = [*graph.node[:position], *made, *graph.node[position + 1 :]]
    del graph.node[:]
    graph.node.extend(nodes)
    return copy


@pytest.mark.parametrize(("layer", "axis"), [("t0", 0), ("logits", 1)])
def test_a_layer_may_have_weights_of_two_widths(layer: str, axis: int) -> None:
    build = CnnBuilder(np.random.default_rng(0), (2, 4, 4))
    for name, shape in (("a", (6, 2, 3, 3)), ("b", (96, 6))):
        tensor = onnx.numpy_helper.from_array(build.random.normal(size=shape).astype(np.float32), name)
        build.initializers.append(tensor)
    found = build.node("Conv", "input", "a", shape=(6, 4, 4), pads=[1, 1, 1, 1])
    flat = build.node("Flatten", build.node("Relu", found), shape=(96,))
    model = build.finish(build.node("MatMul", flat, "b", shape=(6,)))
    samples = samples_of(model)
    result = quantized(model, samples)
    mixed = with_two_widths(result.model, layer, 2, 4, axis)
    read = check_equal(replace(result, model=mixed), samples)
    (changed,) = (product for product in read.products() if product.weight_bits.tolist() == [4, 4, 8, 8, 8, 8])
    assert np.abs(changed.weight[..., :2]).max() == 7 < np.abs(changed.weight[..., 2:]).max()


def test_layers_whose_sums_float32_may_round_are_named() -> None:
    """700 products of 255 and 127 pass 2^24; 500 do not."""
    for inputs, expected in ((700, 1), (500, 0)):
        model = one_conv(np.full((1, inputs, 1, 1), 127 / 64))
        result = quantized(model, np.full((1, inputs, 2, 2), 254.5, np.float32))
        assert len(result.may_round) == expected


def test_sums_that_could_leave_32_bits_are_refused() -> None:
    model = one_conv(np.full((1, 66_500, 1, 1), 127 / 64))
    with pytest.raises(OverflowPossibleError) as caught:
        quantized(model, np.full((1, 66_500, 2, 2), 254.5, np.float32))
    assert caught.value.found.endswith("can reach 2153602500, which takes 33 bits")


def test_a_quantized_model_is_not_quantized_again() -> None:
    model = random_cnn(1)
    result = quantized(model, samples_of(model))
    with pytest.raises(AlreadyQuantizedError):
        quantized(result.model, samples_of(model))


def test_a_float_model_has_no_integer_layers() -> None:
    with pytest.raises(NotQuantizedError, match="--samples SAMPLES"):
        read_integers(random_cnn(1))


@pytest.mark.parametrize("feeds", [[], [{"input": np.zeros((0, 2, 4, 4), np.float32)}]])
def test_without_a_sample_there_is_nothing_to_calibrate_with(feeds: list[Any]) -> None:
    build = CnnBuilder(np.random.default_rng(0), (2, 4, 4))
    model = build.finish(build.conv("input", 2, Window((1, 1))))
    with pytest.raises(CalibrationDataError, match="there is no sample to calibrate with"):
        quantize_cnn(FedModel(model, bindings_of(model), feeds))


def changed(model: onnx.ModelProto, operator: str, change: Callable[[onnx.NodeProto], None]) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    change(next(node for node in copy.graph.node if node.op_type == operator))
    return copy


def set_attribute(name: str, value: Any) -> Callable[[onnx.NodeProto], None]:
    return lambda node: node.attribute.append(onnx.helper.make_attribute(name, value))


def rename(node: onnx.NodeProto) -> None:
    node.op_type = "Softplus"


@pytest.mark.parametrize(
    ("operator", "change", "line"),
    [
        ("Relu", rename, "Softplus 't1': the operator is not known"),
        ("Conv", set_attribute("auto_pad", "VALID"), "Conv 't0': auto_pad or ceil_mode leaves its padding open"),
        (
            "Conv",
            lambda node: node.input.__setitem__(0, "input"),
            "Conv 't0': 'input' is not a tensor of 2 to 8 bits behind its Quant",
        ),
        (
            "Conv",
            lambda node: node.input.__setitem__(1, "t0.weight"),
            "Conv 't0': 't0.weight' is not a constant behind its Quant or BipolarQuant",
        ),
    ],
)
def test_what_no_integer_layer_covers_is_named(
    operator: str, change: Callable[[onnx.NodeProto], None], line: str
) -> None:
    build = CnnBuilder(np.random.default_rng(0), (2, 4, 4))
    weight = onnx.numpy_helper.from_array(np.ones((3, 2, 1, 1), np.float32), "w")
    build.initializers.append(weight)
    build.shapes["w"] = ()
    found = build.node("Relu", build.node("Conv", "input", "w", shape=(3, 4, 4)))
    model = build.finish(build.node("GlobalAveragePool", found, shape=(3, 1, 1)))
    result = quantized(model, samples_of(model))
    with pytest.raises(OperatorsUnsupportedError) as caught:
        read_integers(changed(result.model, operator, change))
    assert caught.value.refused == (line,)
    assert caught.value.do == "quantize the float model again with this hetfab"


def test_scales_that_requantization_does_not_apply_are_refused() -> None:
    model = one_conv(np.ones((1, 1, 1, 1)))
    result = quantized(model, samples_of(model))
    copy = onnx.ModelProto()
    copy.CopyFrom(result.model)
    (scale,) = (tensor for tensor in copy.graph.initializer if tensor.name == "input.int8.scale")
    scale.CopyFrom(onnx.numpy_helper.from_array(np.array(0.3, np.float32), scale.name))
    with pytest.raises(ModelStructureError, match="has a scale that is not"):
        read_integers(copy)
