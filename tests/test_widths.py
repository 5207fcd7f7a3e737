# SPDX-License-Identifier: Apache-2.0
"""Widths below 8 bits: rounding, the written file, lowering, and equality of all executions."""

import json
from dataclasses import replace
from pathlib import Path
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

from hetfab.cli.main import main
from hetfab.driver.graph.model_inputs import model_bindings
from hetfab.hls.build.emulator import Emulator
from hetfab.overlay.compiler.lowered import LoweredModel
from hetfab.overlay.compiler.lowering import lower
from hetfab.overlay.errors import (
    ModelStructureError,
    OperatorsUnsupportedError,
    OverflowPossibleError,
    WidthsUnsupportedError,
    counted,
)
from hetfab.overlay.isa.arithmetic import ACTIVATION_BITS, WEIGHT_BITS
from hetfab.overlay.isa.codec import Segment
from hetfab.overlay.model import hgnn
from hetfab.overlay.model.reader import check_model
from hetfab.overlay.model.runtime import run_model
from hetfab.quantize import weights as weights_module
from hetfab.quantize.weights import QuantizedWeights, best_free_start, exact_in_float32, limits_of, round_to_nearest
from hetfab.quantize.widths import OFFERED, Widths
from tests.conftest import SMALL_GEOMETRY
from tests.demo_files import MODEL, DemoFiles
from tests.programs import bound_to, compiled, quantized, run_emulated, run_golden
from tests.random_models import Case, ModelBuilder, academic_case, academic_graph, random_case
from tests.test_whole_programs import assert_equals_onnxruntime, assert_same_dram, check, natives

FloatArray = npt.NDArray[np.float32]
W4A4 = Widths(4, 4)


def restored(found: QuantizedWeights) -> npt.NDArray[np.float64]:
    """The values that rounded weights stand for."""
    return np.asarray(found.integers * np.ldexp(found.mantissas.astype(np.float64), found.exponents))


# Which widths there are


def test_widths_are_named_as_the_command_names_them() -> None:
    assert list(OFFERED) == ["w8a8", "w4a8", "w4a4", "w2a8", "w2a4", "w1a8"]
    assert Widths() == OFFERED["w8a8"]
    assert OFFERED["w2a4"] == Widths(weights=2, activations=4)


@pytest.mark.parametrize("pair", [(0, 8), (9, 8), (4, 1), (4, 9)])
def test_other_widths_are_refused(pair: tuple[int, int]) -> None:
    with pytest.raises(WidthsUnsupportedError) as caught:
        Widths(*pair)
    assert caught.value.args == (
        f"weights of {pair[0]} bits and activations of {pair[1]}",
        "weights of 1 to 8 bits, activations of 2 to 8",
        "choose widths within these ranges",
    )


# Rounding of weights


@given(st.integers(0, 2**32 - 1), st.integers(1, 8), st.booleans())
@settings(max_examples=60)
def test_every_width_keeps_its_range_and_its_scales(seed: int, bits: int, shared: bool) -> None:
    random = np.random.default_rng(seed)
    shape = random.integers(1, 40), random.integers(1, 6)
    weight = (random.standard_t(3, shape) * 2.0 ** random.integers(-20, 4, shape[1])).astype(np.float32)
    weight[:, random.random(shape[1]) < 0.2] = 0
    found = round_to_nearest(weight, bits=bits, shared_scale=shared)
    high = max(2 ** (bits - 1) - 1, 1)
    assert found.integers.max() <= high and found.integers.min() >= -high - (not found.narrow)
    assert found.narrow or bits == 2
    assert bits > 1 or set(np.unique(found.integers)) <= {-1, 1}
    scales = found.scales.astype(np.float64)
    assert np.array_equal(scales, np.ldexp(found.mantissas.astype(np.float64), found.exponents)), "exact in float32"
    on_grid = scales / 2.0 ** found.exponents.min()
    assert on_grid.max() < 2**16, "one shift and 16-bit multipliers hold all"
    assert bits < 4 or (found.mantissas == 1).all()
    assert not shared or len(set(scales.tolist())) == 1
    assert 2.0**found.largest_exponent <= scales.max() < 2.0 ** (found.largest_exponent + 1)


@given(st.integers(0, 2**32 - 1), st.sampled_from([2, 3]))
@settings(max_examples=30)
def test_a_free_scale_is_nearly_the_best_of_all(seed: int, bits: int) -> None:
    """A fine search over scales finds at most 5 % less square error."""
    weight = np.random.default_rng(seed).standard_t(4, (60, 1)).astype(np.float32)
    found = round_to_nearest(weight, bits=bits)
    error = float(np.square(restored(found) - weight).sum())
    high = 2 ** (bits - 1) - 1
    low = -high - (not found.narrow)
    scales = np.abs(weight).max() / high * np.geomspace(1 / 32, 1, 2000)
    errors = [float(np.square(np.clip(np.rint(weight / s), low, high) * s - weight).sum()) for s in scales]
    assert error <= 1.05 * min(errors)


@given(st.integers(0, 2**32 - 1), st.integers(2, 4), st.booleans(), st.booleans(), st.booleans())
@settings(max_examples=60)
def test_free_scales_are_the_best_of_all_shares(
    seed: int, bits: int, narrow: bool, shared: bool, weighted: bool
) -> None:
    random = np.random.default_rng(seed)
    weight = random.standard_t(4, (int(random.integers(1, 60)), 3)).astype(np.float32)
    weight[:, random.random(3) < 0.2] = 0
    weight[0, 0] = 0.7
    importance = random.uniform(0.1, 3, len(weight)) if weighted else None
    low, high = limits_of(bits, narrow)
    largest = np.abs(weight).max(axis=0).astype(np.float64)
    largest[(largest == 0) | shared] = largest.max()
    shares = 2.0 ** (-np.arange(41) / 8)
    errors = np.empty((41, 3))
    for share, error in zip(shares, errors, strict=True):
        scale = largest / high * share
        off = np.square(np.clip(np.rint(weight / scale), low, high) * scale - weight.astype(np.float64))
        error[:] = (off if importance is None else off * importance[:, None]).sum(axis=0)
    if shared:
        errors[:] = errors.sum(axis=1, keepdims=True)
    found = best_free_start(weight, (low, high), shared, importance)
    places = np.rint(8 * np.log2(largest / high / found)).astype(int)
    assert found == pytest.approx(largest / high * shares[places])
    assert (errors[places, range(3)] <= errors.min(axis=0) * (1 + 1e-9) + 1e-12).all()


@given(st.integers(0, 2**32 - 1), st.integers(4, 8), st.integers(1, 200), st.integers(1, 9), st.booleans())
@settings(deadline=None, max_examples=60)
def test_errors_are_summed_in_runs_as_they_are_at_once(
    seed: int, bits: int, inputs: int, outputs: int, by_rows: bool
) -> None:
    drawn = np.random.default_rng(seed).standard_normal((inputs, outputs)).astype(np.float32)
    weight = drawn if by_rows else np.asfortranarray(drawn)
    found = round_to_nearest(weight, bits=bits)
    with pytest.MonkeyPatch.context() as patch:
        for run in (1, 7, inputs):
            patch.setattr(weights_module, "RUN", run)
            other = round_to_nearest(weight, bits=bits)
            assert np.array_equal(other.integers, found.integers) and np.array_equal(other.scales, found.scales)


def test_two_bits_take_the_range_with_less_error() -> None:
    full = np.array([[-6, 0.75], [3, -1.5], [0, -0.75], [-3, 0]], np.float32)
    found = round_to_nearest(full, bits=2)
    assert not found.narrow and np.array_equal(restored(found), full)
    found = round_to_nearest(np.clip(full, -0.75, 0.75), bits=2)
    assert found.narrow and found.integers.min() == -1


def test_one_bit_is_the_sign_and_zero_is_positive() -> None:
    weight = np.array([[0.5, 0], [-1.5, 0], [0, 0], [-0.0, 0]], np.float32)
    found = round_to_nearest(weight, bits=1)
    assert found.integers.tolist() == [[1, 1], [-1, 1], [1, 1], [1, 1]]
    assert found.scales[0] == 0.5 and found.scales[1] == 2**-15
    assert round_to_nearest(weight, bits=1, shared_scale=True).scales.tolist() == [0.25, 0.25]


def test_the_body_of_bipolar_quant_is_that_of_qonnx() -> None:
    from qonnx.custom_op.general.bipolar_quant import binary_quant

    x = np.array([[0.0, -0.0, 1e-30], [-1e-30, 3, -3]], np.float32)
    scale = np.array([[0.5, 3, 0.75]], np.float32)
    node = onnx.helper.make_node("BipolarQuant", ["x", "scale"], ["y"], domain=hgnn.QUANT_DOMAIN)
    values = [
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, array.shape)
        for name, array in (("x", x), ("scale", scale))
    ]
    result = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, x.shape)
    model = onnx.helper.make_model(
        onnx.helper.make_graph([node], "one", values, [result]),
        opset_imports=[onnx.helper.make_opsetid("", 20), onnx.helper.make_opsetid(hgnn.QUANT_DOMAIN, 1)],
        ir_version=10,
        functions=[hgnn.function("BipolarQuant")],
    )
    found = run_model(model, {"x": x, "scale": scale}, ["y"])[0]
    assert found.tolist() == [[0.5, 3, 0.75], [-0.5, 3, -0.75]]
    np.testing.assert_array_equal(found, binary_quant(x, scale))
    reference: Any = onnx.reference.ReferenceEvaluator(model).run(None, {"x": x, "scale": scale})
    np.testing.assert_array_equal(found, reference[0])


@given(st.integers(0, 2**32 - 1), st.integers(1, 3))
@settings(max_examples=40)
def test_float32_adds_products_with_free_scales_exactly(seed: int, bits: int) -> None:
    """For the largest inputs with the signs of the weights, added in the order in which numpy adds."""
    random = np.random.default_rng(seed)
    inputs, columns = int(random.integers(1, 2000)), int(random.integers(1, 6))
    weight = (random.normal(size=(inputs, columns)) * 2.0 ** random.integers(-5, 2, columns)).astype(np.float32)
    bias = (random.normal(size=columns) * random.choice([0, 1, 10])).astype(np.float32)
    found = exact_in_float32(weight, round_to_nearest(weight, bits=bits), 255, bias, 2.0**-7)
    rows = 255 * np.sign(found.integers.T).astype(np.float32)
    steps = rows.astype(np.float64) @ restored(found) + bias
    for products in (rows.astype(np.float64) @ restored(found), steps):
        units = np.abs(products) / np.ldexp(1.0, found.exponents)
        assert units.max() < 2**24
    single = rows @ (found.integers.astype(np.float32) * found.scales)
    assert np.array_equal(single.astype(np.float64), rows.astype(np.float64) @ restored(found))


def test_multipliers_keep_eight_bits_where_float32_has_room() -> None:
    weight = np.random.default_rng(0).normal(size=(64, 9)).astype(np.float32)
    found = round_to_nearest(weight, bits=2)
    assert exact_in_float32(weight, found, 255, None, 1.0) is found
    assert found.mantissas.max() > 2**7
    wide = np.concatenate([weight] * 70)
    shortened = exact_in_float32(wide, round_to_nearest(wide, bits=2), 255, None, 1.0)
    assert 1 <= shortened.mantissas.max() <= 2**4


# The file


def quants(model: onnx.ModelProto) -> dict[str, tuple[str, float, npt.NDArray[Any]]]:
    """By what it rounds: operator, bits and scale."""
    arrays = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    return {
        node.input[0]: (
            node.op_type,
            1.0 if len(node.input) < 4 else float(arrays[node.input[3]]),
            arrays[node.input[1]],
        )
        for node in model.graph.node
        if node.domain == hgnn.QUANT_DOMAIN
    }


@pytest.mark.parametrize("name", OFFERED)
def test_the_file_has_the_widths_that_were_asked_for(name: str) -> None:
    widths = OFFERED[name]
    case = academic_case()
    result = quantized(case, widths)
    check_model(result.model, "the quantized model")
    assert result.widths == widths
    for source, (operator, bits, scale) in quants(result.model).items():
        if source.endswith(".weight"):
            assert (operator, bits) == ("BipolarQuant" if widths.weights == 1 else "Quant", widths.weights)
            powers = np.all(np.frexp(scale)[0] == 0.5)
            assert powers == (widths.weights >= 4)
        elif source in result.ranges:
            assert bits == widths.activations == result.ranges[source].bits
    assert set(result.ranges) <= set(quants(result.model))


@pytest.mark.parametrize("weights", [1, 2])
def test_a_table_in_a_sum_keeps_its_values(weights: int) -> None:
    """It is a layer with the identity as weights; one bit has no zero."""
    random = np.random.default_rng(0)
    graph = academic_graph(random, 20, 10, 5)
    builder = ModelBuilder(random, graph)
    table = builder.table("paper", 5)
    logits = builder.total([builder.mean(builder.features("author"), "writes", "paper"), table])
    model = quantized(Case(builder.finish(logits), graph), Widths(weights, 8)).model
    operator, bits, scale = quants(model)[f"{table}.term.weight"]
    assert (operator, bits, set(scale.reshape(-1).tolist())) == ("Quant", 2.0, {1.0})


# Lowering


def lowered(model: onnx.ModelProto, case: Case) -> LoweredModel:
    return lower(model, model_bindings(model, case.graph))


@pytest.mark.parametrize(("widths", "expected"), [(W4A4, True), (Widths(5, 4), False), (Widths(4, 5), False)])
def test_a_tensor_is_packed_where_all_its_readers_take_nibbles(widths: Widths, expected: bool) -> None:
    """Features are read by a dense layer only, hidden rows by an aggregation too."""
    case = academic_case()
    model = lowered(quantized(case, widths).model, case)
    read_by_means = {a.input.name for layer in model.layers for a in layer.aggregations}
    assert read_by_means
    for tensor in model.stored.values():
        assert model.packs(tensor) == (expected and tensor.name not in read_by_means and tensor.origin != "output")


def test_one_wide_reader_keeps_a_tensor_unpacked() -> None:
    case = academic_case()
    model = quantized(case, W4A4).model
    node = next(n for n in model.graph.node if n.op_type == "Quant" and n.input[0].endswith(".weight"))
    rows = next(n for n in model.graph.node if n.op_type == "MatMul" and n.input[1] == node.output[0]).input[0]
    before = lowered(model, case)
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array(5, np.float32), "five"))
    node.input[3] = "five"
    after = lowered(model, case)
    name = rows if rows in after.stored else rows.removesuffix(".int4")
    assert before.packs(before.stored[name]) and not after.packs(after.stored[name])


@pytest.mark.parametrize(("channels", "agg_groups", "packed"), [(64, 8, True), (70, 8, False), (70, 9, False)])
def test_sums_that_agg_cannot_hold_for_a_packed_block_are_stored_in_bytes(
    channels: int, agg_groups: int, packed: bool, small_emulators: dict[str, Emulator]
) -> None:
    """A block of packed results is 128 channels; AGG holds 8 sums a group, and VEC's field names 8 groups."""
    random = np.random.default_rng(0)
    graph = academic_graph(random, 30, 7, 3)
    builder = ModelBuilder(random, graph)
    features = builder.features("paper")
    terms = [builder.dense(features, channels), builder.mean(builder.dense(features, channels), "cites", "paper")]
    case = Case(builder.finish(builder.dense(builder.relu(builder.total(terms)), 4)), graph)
    model = quantized(case, W4A4).model
    geometry = replace(SMALL_GEOMETRY, agg_groups=agg_groups)
    program = compiled(model, graph, geometry)
    (layer,) = [layer for layer in program.layers if layer.aggregations]
    assert program.tensor(layer.name).packed == packed
    bound = bound_to(program, graph)
    assert_equals_onnxruntime(run_golden(bound), bound, model, graph)
    if agg_groups == SMALL_GEOMETRY.agg_groups:
        check(model, graph, [natives(small_emulators)])


def dense_case(features: FloatArray, width: int = 12) -> Case:
    """Features, a dense layer without bias, ReLU, a mean."""
    random = np.random.default_rng(3)
    graph = academic_graph(random, len(features), 7, 3)
    graph = replace(graph, features={"paper": features})
    builder = ModelBuilder(random, graph)
    hidden = builder.relu(builder.dense(builder.features("paper"), width, bias=False))
    return Case(builder.finish(builder.mean(hidden, "cites", "paper")), graph)


def joined(model: onnx.ModelProto, weight: FloatArray, parts: list[tuple[int, int]]) -> onnx.ModelProto:
    """The model with its one layer's weights written in parts of (columns, bits), joined by Concat."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    old = next(node for node in copy.graph.node if node.op_type == "Quant" and node.input[0].endswith(".weight"))
    nodes, names, first = [], [], 0
    for columns, bits in parts:
        found = round_to_nearest(weight[:, first : first + columns], bits=bits)
        first += columns
        arrays = {"values": restored(found), "scale": found.scales[None, :], "zero": 0, "bits": bits}
        for name, array in arrays.items():
            copy.graph.initializer.append(
                onnx.numpy_helper.from_array(np.asarray(array, np.float32), f"part{first}.{name}")
            )
        names.append(f"part{first}")
        operator, inputs = ("BipolarQuant", ["values", "scale"]) if bits == 1 else ("Quant", list(arrays))
        node = onnx.helper.make_node(operator, [f"part{first}.{i}" for i in inputs], names[-1:], domain=old.domain)
        if bits > 1:
            node.attribute.extend(old.attribute)
            next(a for a in node.attribute if a.name == "narrow").i = int(found.narrow)
        nodes.append(node)
    nodes.append(onnx.helper.make_node("Concat", names, [old.output[0]], axis=1))
    position = list(copy.graph.node).index(old)
    kept = list(copy.graph.node)
    kept[position : position + 1] = nodes
    del copy.graph.node[:]
    copy.graph.node.extend(kept)
    if any(bits == 1 for _, bits in parts):
        copy.functions.append(hgnn.function("BipolarQuant"))
    return copy


@pytest.mark.parametrize("parts", [[(8, 4), (4, 8)], [(3, 1), (9, 4)], [(5, 2), (4, 1), (3, 8)]])
def test_a_layer_may_have_several_widths(
    parts: list[tuple[int, int]], default_emulators: dict[str, Emulator], small_emulators: dict[str, Emulator]
) -> None:
    case = dense_case(np.random.default_rng(0).normal(size=(40, 17)).astype(np.float32))
    weight = onnx.numpy_helper.to_array(case.model.graph.initializer[0])
    model = check_model(joined(quantized(case, Widths(8, 4)).model, weight, parts), "the joined model")
    dense = lowered(model, case).layers[0].dense
    assert dense is not None
    assert dense.weight_bits.tolist() == [bits for columns, bits in parts for _ in range(columns)]
    for column in np.flatnonzero(dense.weight_bits == 1):
        assert set(dense.weight[:, column].tolist()) <= {-1, 1}
    check(model, case.graph, [natives(default_emulators), natives(small_emulators)])


def test_inspect_shows_all_widths_of_a_layer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    case = dense_case(np.random.default_rng(0).normal(size=(40, 17)).astype(np.float32))
    weight = onnx.numpy_helper.to_array(case.model.graph.initializer[0])
    onnx.save(joined(quantized(case, Widths(8, 4)).model, weight, [(5, 4), (4, 1), (3, 8)]), tmp_path / "m.q.onnx")
    assert main(["inspect", str(tmp_path / "m.q.onnx"), "--json"]) == 0
    layers = json.loads(capsys.readouterr().out)["layers"]
    assert [(layer["input_bits"], layer["weight_bits"], layer["bits"]) for layer in layers] == [
        (4, [1, 4, 8], 4),
        (4, [], 32),
    ]
    assert main(["inspect", str(tmp_path / "m.q.onnx")]) == 0
    assert "1 + 4 + 8" in capsys.readouterr().out


def altered(model: onnx.ModelProto, name: str, values: npt.ArrayLike) -> onnx.ModelProto:
    """The model with another initializer of a name."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    tensor = next(tensor for tensor in copy.graph.initializer if tensor.name == name)
    old = onnx.numpy_helper.to_array(tensor)
    tensor.CopyFrom(onnx.numpy_helper.from_array(np.asarray(values, np.float32).reshape(old.shape), name))
    return copy


def test_weights_that_are_not_narrow_are_refused() -> None:
    case = academic_case()
    model = quantized(case).model
    node = next(n for n in model.graph.node if n.op_type == "Quant" and n.input[0].endswith(".weight"))
    next(a for a in node.attribute if a.name == "narrow").i = 0
    with pytest.raises(OperatorsUnsupportedError) as caught:
        lowered(model, case)
    assert (
        f"the weights '{node.output[0]}' have 8 bits, signed, not narrow; weights have 2 to 8 bits, signed and, "
        "from 3 bits on, narrow; BipolarQuant is 1 bit" in "\n".join(caught.value.refused)
    )


def test_tensors_of_other_widths_are_refused() -> None:
    case = academic_case()
    model = quantized(case).model
    with pytest.raises(OperatorsUnsupportedError) as caught:
        lowered(altered(model, "quant.bits_8", 12), case)
    assert (
        "Quant 'x_paper.int8': it rounds to 12 bits; tensors have 2 to 8 bits, not narrow, dense terms of a sum 24"
        in "\n".join(caught.value.refused)
    )


def test_scales_that_are_not_applied_exactly_are_refused() -> None:
    case = academic_case()
    model = quantized(case, Widths(2, 8)).model
    with pytest.raises(ModelStructureError) as tensor:
        lowered(altered(model, "x_paper.int8.scale", 0.75), case)
    assert tensor.value.args == (
        "qonnx.custom_op.general::Quant 'x_paper.int8' has a scale that is not a power of two",
        "scales 2^e of tensors; only weights of less than 4 bits have others",
        "quantize the float model again with this hetfab",
    )
    name = next(t.name for t in model.graph.initializer if t.name.endswith(".weight.int.scale"))
    columns = next(t.dims[-1] for t in model.graph.initializer if t.name == name)
    with pytest.raises(ModelStructureError) as weights:
        lowered(altered(model, name, [1 + 2**-16] * columns), case)
    assert weights.value.args == (
        f"qonnx.custom_op.general::Quant '{name.removesuffix('.scale')}' has a scale that is not a 16-bit integer "
        "times a power of two",
        "scales m * 2^e with m of at most 16 bits",
        "quantize the float model again with this hetfab",
    )


def test_sums_are_proven_for_the_widths_of_the_model() -> None:
    """A bias that leaves room for products of 4-bit features, not of 8-bit ones."""
    random = np.random.default_rng(0)
    graph = academic_graph(random, 20, 10, 5)
    builder = ModelBuilder(random, graph)
    hidden = builder.relu(builder.dense(builder.features("paper"), 6))
    case = Case(builder.finish(builder.mean(hidden, "cites", "paper")), graph)
    model = quantized(case, W4A4).model
    dense = lowered(model, case).layers[0].dense
    assert dense is not None and dense.input.signed
    sums = int(np.abs(dense.weight).sum(axis=0).max())
    room = 2**31 - 8 * sums - 512
    assert room + 128 * sums > 2**31 > room + 8 * sums
    bias = next(n for n in quants(model) if n.endswith(".bias"))
    scale = quants(model)[bias][2].astype(np.float64)
    model = altered(model, bias, room // 256 * 256 * scale)
    lowered(model, case)
    wide = onnx.ModelProto()
    wide.CopyFrom(model)
    wide.graph.initializer.append(onnx.numpy_helper.from_array(np.array(8, np.float32), "eight"))
    next(n for n in wide.graph.node if n.input[0] == "x_paper").input[3] = "eight"
    with pytest.raises(OverflowPossibleError) as caught:
        lowered(wide, case)
    assert caught.value.args[1:] == (
        "at most 32 bits",
        "quantize with fewer bits or a larger weight scale, or split the layer's input channels into two layers",
    )


# All executions


@pytest.mark.parametrize("name", list(OFFERED)[1:])
@pytest.mark.parametrize("seed", range(300, 306))
def test_offered_widths_give_the_logits_of_onnxruntime(
    name: str, seed: int, default_emulators: dict[str, Emulator], small_emulators: dict[str, Emulator]
) -> None:
    case = random_case(seed, largest_count=65)
    model = quantized(case, OFFERED[name]).model
    check(model, case.graph, [natives(default_emulators), natives(small_emulators)])


@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from(list(WEIGHT_BITS)),
    st.sampled_from(list(ACTIVATION_BITS)),
)
@settings(max_examples=25, deadline=None)
def test_every_pair_of_widths_gives_the_logits_of_onnxruntime(
    small_emulators: dict[str, Emulator], seed: int, weights: int, activations: int
) -> None:
    case = random_case(seed, largest_count=33)
    model = quantized(case, Widths(weights, activations)).model
    check(model, case.graph, [natives(small_emulators)])


@pytest.mark.parametrize("widths", [Widths(2, 4), Widths(1, 3)], ids=str)
def test_checked_integers_and_ap_int_agree(widths: Widths, default_emulators: dict[str, Emulator]) -> None:
    case = random_case(100, largest_count=17)
    model = quantized(case, widths).model
    check(model, case.graph, [[default_emulators["native-debug"], default_emulators["ap_int"]]])


@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("bits", list(ACTIVATION_BITS))
def test_features_are_rounded_and_limited_to_their_width(
    bits: int, signed: bool, small_emulators: dict[str, Emulator]
) -> None:
    """One value of many is far beyond the rest: it ends at the limit, in onnxruntime as on the overlay."""
    features = np.random.default_rng(0).normal(size=(2000, 3)).astype(np.float32)
    features[7, 1] = 1000
    case = dense_case(features if signed else np.abs(features), 6)
    model = quantized(case, Widths(8, bits)).model
    emulator = small_emulators["native"]
    bound = bound_to(compiled(model, case.graph, emulator.geometry), case.graph)
    tensor = bound.program.tensor("x_paper")
    assert (tensor.bits, tensor.signed, tensor.stored_bits) == (bits, signed, 8)
    golden = run_golden(bound)
    assert_equals_onnxruntime(golden, bound, model, case.graph)
    assert_same_dram(run_emulated(bound, emulator), golden, bound)
    place = bound.offsets["x_paper"] + 7 * tensor.row_bytes + 1
    limit = 2 ** (bits - signed) - 1
    assert tensor.scale * limit < 1000, "the range does not cover it"
    assert bound.contents[Segment.FEATURES][place] == limit


# The command


@pytest.mark.parametrize("bits", ["w3a8", "8", "W4A4", ""])
def test_the_command_names_the_widths_that_it_offers(bits: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["quantize", "m.onnx", "--graph", "g.npz", "-o", "m.q.onnx", "--bits", bits]) == 2
    assert (
        f"Invalid value for '--bits': '{bits}' is not one of 'w8a8', 'w4a8', 'w4a4', 'w2a8', 'w2a4', 'w1a8', 'auto'."
        in " ".join(capsys.readouterr().err.split())
    )


@pytest.mark.parametrize("bits", ["w4a4", "w2a4", "w1a8"])
def test_the_command_quantizes_and_says_what_is_lost(
    bits: str, demo_files: DemoFiles, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    quantized_file, program = str(tmp_path / "m.q.onnx"), str(tmp_path / "m.hfp")

    def run(*arguments: str) -> dict[str, Any]:
        capsys.readouterr()
        assert main([*arguments, "--graph", str(demo_files.graph), "--json"]) == 0, capsys.readouterr().err
        found: dict[str, Any] = json.loads(capsys.readouterr().out)
        return found

    found = run("quantize", str(MODEL), "-o", quantized_file, "--bits", bits)
    assert found["bits"] == bits
    assert {entry["bits"] for entry in found["ranges"].values()} == {OFFERED[bits].activations, 8}
    run("compile", quantized_file, "-o", program)
    result = run("run", program, "--reference", quantized_file)
    assert (result["agreement"], result["max_logit_lsb"]) == (1.0, 0.0)
    assert result["micro_f1"] == pytest.approx(found["quantized_micro_f1"])
    assert result["macro_f1"] == pytest.approx(found["quantized_macro_f1"])
    assert found["float_micro_f1"] > 0.9
    command = ["quantize", str(MODEL), "--graph", str(demo_files.graph), "-o", quantized_file, "--bits", bits]
    assert main(command) == 0
    printed = capsys.readouterr().out
    widths = OFFERED[bits]
    read = "8 bits" if widths.activations == 8 else f"{widths.activations} and 8 bits"
    written = counted(widths.weights, "bit")
    assert f"tensors in {read}, weights in {written} with a scale" in printed
    micro, macro = (f"{found[f'quantized_{kind}_f1']:.4g}" for kind in ("micro", "macro"))
    assert ["quantized", "model", micro, macro, "test", "nodes"] in [line.split() for line in printed.splitlines()]
