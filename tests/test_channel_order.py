# SPDX-License-Identifier: Apache-2.0
"""Orders of channels: any gives the same predictions, and the chosen one gives each core what it serves best."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hetfab.cli.main import main
from hetfab.driver.graph.heterograph import CsrFeatures, HeteroGraph
from hetfab.driver.graph.model_inputs import model_bindings, model_feeds
from hetfab.driver.graph.npz import read_graph
from hetfab.hls.build.emulator import Emulator
from hetfab.overlay.compiler.channel_order import arranged, reordered, tensors_in_one_order, with_best_orders
from hetfab.overlay.compiler.compile import compile_lowered, compile_model
from hetfab.overlay.compiler.lowered import LayerKind, LoweredModel
from hetfab.overlay.compiler.lowering import lower
from hetfab.overlay.compiler.planning import PlannedLayer, plan_layers
from hetfab.overlay.compiler.tiling import ColumnRange
from hetfab.overlay.design import Geometry, default_design
from hetfab.overlay.isa.codec import Segment
from hetfab.overlay.model.bound_model import BoundModel, FedModel
from hetfab.overlay.model.reader import read_model
from hetfab.overlay.program import read_program
from hetfab.quantize.post_training import quantize
from hetfab.quantize.widths import OFFERED, Widths
from tests.data_folder import require_data
from tests.programs import SHARES, bound_to, design_of, quantized, run_emulated, run_golden
from tests.random_models import Case, ModelBuilder, academic_graph, random_case
from tests.test_splits import Product, found_in, products
from tests.test_whole_programs import assert_equals_onnxruntime
from tests.test_widths import dense_case, joined

Integers = npt.NDArray[np.int64]


def drawn_orders(lowered: LoweredModel, random: np.random.Generator) -> dict[str, Integers]:
    """A random order for each group of tensors that meet in sums."""
    groups = tensors_in_one_order(lowered)
    orders = {name: random.permutation(tensor.channels) for name, tensor in lowered.stored.items()}
    return {name: orders[group] for name, group in groups.items()}


def lowered_of(model: onnx.ModelProto, graph: HeteroGraph) -> LoweredModel:
    return lower(model, model_bindings(model, graph))


# Any order


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    widths=st.sampled_from(list(OFFERED.values())),
    share=st.sampled_from(SHARES),
)
def test_random_models_predict_the_same_in_every_order(
    seed: int, widths: Widths, share: float | None, small_geometry: Geometry, small_emulators: dict[str, Emulator]
) -> None:
    case = random_case(seed)
    model = quantized(case, widths).model
    lowered = lowered_of(model, case.graph)
    drawn = reordered(lowered, drawn_orders(lowered, np.random.default_rng(seed)))
    bound = bound_to(compile_lowered(drawn, design_of(small_geometry), share_on_d=share), case.graph)
    assert_equals_onnxruntime(run_golden(bound), bound, model, case.graph)
    assert_equals_onnxruntime(run_emulated(bound, small_emulators["host"]), bound, model, case.graph)


@settings(max_examples=40, deadline=None)
@given(product=products(), share=st.one_of(st.none(), st.floats(0, 1)), seed=st.integers(0, 2**32 - 1))
def test_layers_of_several_widths_give_the_same_in_every_order(
    product: Product, share: float | None, seed: int, small_geometry: Geometry, small_emulators: dict[str, Emulator]
) -> None:
    lowered = product.lowered()
    drawn = reordered(lowered, drawn_orders(lowered, np.random.default_rng(seed)))
    program = compile_lowered(drawn, design_of(small_geometry), share_on_d=share)
    bound = product.bound(program)
    for executed in (run_golden(bound), run_emulated(bound, small_emulators["host"])):
        found = found_in(executed.dram[Segment.ACTIVATIONS], len(product.activations), program)
        assert np.array_equal(found, product.result())


@pytest.mark.parametrize("sparse", [True, False])
def test_features_follow_the_order(
    sparse: bool, small_geometry: Geometry, small_emulators: dict[str, Emulator]
) -> None:
    """Of a learned table and of features that are aggregated as they are, dense or sparse."""
    random = np.random.default_rng(0)
    graph = academic_graph(random, 30, 20, 10)
    dense = np.where(random.random((20, 9)) < 0.4, random.normal(size=(20, 9)), 0).astype(np.float32)
    rows, columns = np.nonzero(dense)
    starts = np.searchsorted(rows, np.arange(21))
    features = CsrFeatures(starts, columns, dense[rows, columns], 9) if sparse else dense
    graph = replace(graph, features={**graph.features, "author": features})
    builder = ModelBuilder(random, graph)
    terms = [builder.mean(builder.features("author"), "writes", "paper")]
    terms += [builder.mean(builder.table("term", 9), "in", "paper"), builder.dense(builder.features("paper"), 9)]
    model = quantized(Case(builder.finish(builder.total(terms)), graph)).model
    lowered = lowered_of(model, graph)
    orders = drawn_orders(lowered, random)
    names = {lowered.output.name, *(each.input.name for each in lowered.layers[-1].aggregations)}
    assert len(names) == 3 and len({tuple(orders[name]) for name in names}) == 1
    bound = bound_to(compile_lowered(reordered(lowered, orders), design_of(small_geometry)), graph)
    assert all(bound.program.tensor(name).channel_order == tuple(orders[lowered.output.name]) for name in names)
    assert_equals_onnxruntime(run_emulated(bound, small_emulators["host"]), bound, model, graph)


@pytest.mark.parametrize("data", ["acm", "dblp", "imdb"])
def test_real_models_predict_the_same_in_every_order(data: str, default_emulators: dict[str, Emulator]) -> None:
    folder = require_data()
    graph = read_graph(folder / data / "graph.npz")
    model = read_model(folder / "models" / f"{data}_rgcn.onnx")
    bindings = model_bindings(model, graph)
    quantized_model = quantize(FedModel(model, bindings, [model_feeds(model, bindings, graph)])).model
    lowered = lowered_of(quantized_model, graph)
    logits = []
    for seed in range(3):
        orders = drawn_orders(lowered, np.random.default_rng(seed)) if seed else {}
        bound = bound_to(compile_lowered(reordered(lowered, orders), default_design()), graph)
        logits.append(bound.logits(run_emulated(bound, default_emulators["host"]).dram[Segment.OUTPUT]))
    assert all(np.array_equal(logits[0], other) for other in logits[1:])


# The chosen order


def two_widths(bits: Integers, inputs: int = 128) -> Product:
    """A layer whose channels have these widths."""
    random = np.random.default_rng(0)
    limits = np.maximum((1 << bits - 1) - 1, 1)
    weight = random.integers(-limits, limits + 1, (inputs, len(bits)))
    weight = np.where(bits == 1, np.where(weight < 0, -1, 1), weight)
    return Product(random.integers(0, 256, (9, inputs)), 8, False, weight, bits, 0 * bits)


def planned_one(product: Product, geometry: Geometry) -> tuple[PlannedLayer, PlannedLayer]:
    """The plans of one layer in the model's order and in the chosen one."""
    lowered = product.lowered()
    (before,), (after,) = plan_layers(lowered, geometry), plan_layers(with_best_orders(lowered, geometry), geometry)
    return before, after


@pytest.mark.parametrize("outputs", [128, 1024])
@pytest.mark.parametrize("widths", [(8, 4), (8, 2), (4, 1)])
def test_wide_channels_go_to_gemm_d(widths: tuple[int, int], outputs: int, default_geometry: Geometry) -> None:
    """Every channel on GEMM-D is at least as wide as any on GEMM-L, and the modelled time is shorter for it."""
    bits = np.random.default_rng(0).permutation(np.repeat(widths, outputs // 2))
    before, after = planned_one(two_widths(bits), default_geometry)
    on_cores = after.weight_bits_on_cores()
    assert on_cores["gemm_d"].min() >= on_cores["gemm_l"].max() and on_cores["gemm_l"].size
    assert np.array_equal(np.sort(np.concatenate(list(on_cores.values()))), np.sort(bits))
    assert after.tile.row_cycles < before.tile.row_cycles


def test_the_page_says_what_an_order_saves(default_geometry: Geometry) -> None:
    """docs/gemm.md: a third of a row's time."""
    bits = np.random.default_rng(0).permutation(np.repeat([8, 4], 512))
    before, after = planned_one(two_widths(bits, 1024), default_geometry)
    assert 0.65 < after.tile.row_cycles / before.tile.row_cycles < 0.68


def test_planes_are_those_of_a_passs_own_channels(default_geometry: Geometry) -> None:
    """Passes of one-bit weights take one plane, those of wider ones as many as these have."""
    bits = np.random.default_rng(0).permutation(np.repeat([4, 1], 256))
    _, planned = planned_one(two_widths(bits, 512), default_geometry)
    assert planned.layer.dense is not None
    widths = planned.layer.dense.weight_bits
    for one in planned.tile.passes:
        assert one.planes == widths[one.first + one.on_d : one.first + one.count].max(initial=0)
    assert {one.planes for one in planned.tile.passes} == {1, 4}


@pytest.mark.parametrize("outputs", [64, 328, 1000])
def test_channels_beyond_gemm_ls_sums_go_to_gemm_d(outputs: int, default_geometry: Geometry) -> None:
    """600 * 255 * 127 takes 26 bits; GEMM-L would be faster even at many times the planes."""
    geometry = replace(default_geometry, gemm_d_rows=2, gemm_l_rows=32, gemm_l_cols=64)
    assert geometry.gemm_l_acc_bits == 24
    large = np.random.default_rng(0).random(outputs) < 0.4
    weight = np.broadcast_to(np.where(large, 127, 1), (600, outputs))
    product = Product(np.zeros((3, 600), np.int64), 8, False, weight, np.full(outputs, 8), np.zeros(outputs, np.int64))
    before, after = planned_one(product, geometry)
    for planned in (before, after):
        assert planned.layer.dense is not None
        for one in planned.tile.passes:
            on_l = planned.layer.dense.weight[:, one.first + one.on_d : one.first + one.count]
            assert (on_l == 1).all() and (one.on_l == 0 or one.planes == 8)
    assert sum(one.on_l for one in after.tile.passes) > sum(one.on_l for one in before.tile.passes)


def test_one_width_keeps_the_models_order(default_geometry: Geometry) -> None:
    lowered = two_widths(np.full(128, 8)).lowered()
    assert with_best_orders(lowered, default_geometry) is lowered


def test_an_order_that_saves_nothing_is_not_taken(default_geometry: Geometry) -> None:
    """A layer for which one core is fast enough."""
    program = compile_lowered(two_widths(np.tile([8, 4], 4), 10).lowered(), design_of(default_geometry))
    assert program.tensor("y").channel_order == ()


def test_the_layer_with_most_weights_decides_for_all_that_meet(default_geometry: Geometry) -> None:
    """A small layer with the opposite widths is added to the mean of a large one's rows."""
    random = np.random.default_rng(0)
    wide_first, wide_last = np.repeat([8, 4], 64), np.repeat([4, 8], 64)
    large, small = two_widths(wide_last, 1000).lowered(), two_widths(wide_first, 100).lowered()
    (of_large,), (of_small,) = large.layers, small.layers
    graph = academic_graph(random, 10, 10, 10)
    builder = ModelBuilder(random, graph)
    logits = builder.total([builder.mean(builder.features("author"), "writes", "paper"), builder.table("paper", 5)])
    edges = lowered_of(quantized(Case(builder.finish(logits), graph)).model, graph).layers[-1].aggregations[0]
    inner, given_rows = replace(of_large.output, name="z"), replace(small.stored["x"], name="x2")
    assert of_small.dense is not None
    layers = (
        replace(of_large, output=inner),
        replace(
            of_small,
            kind=LayerKind.COMBINE,
            dense=replace(of_small.dense, input=given_rows),
            aggregations=(replace(edges, input=inner),),
        ),
    )
    stored = {"x": large.stored["x"], "x2": given_rows, "z": inner, "y": of_small.output}
    both = LoweredModel(layers, stored, dict.fromkeys(stored, "row"), {}, of_small.output, 0)
    ordered = with_best_orders(both, default_geometry)
    orders = [ordered.stored[name].order for name in ("z", "y")]
    assert orders[0] is not None and orders[1] is not None and np.array_equal(orders[0], orders[1])
    assert ordered.stored["x"].order is None and ordered.stored["x2"].order is None
    widths = plan_layers(ordered, default_geometry)[0].weight_bits_on_cores()
    assert widths["gemm_d"].min() >= widths["gemm_l"].max()


def test_an_arrangement_by_hand() -> None:
    """Two passes; GEMM-L gets the channels of the fewest planes, of equal ones those that cost the others least."""
    planes, others = np.array([8, 4, 8, 2, 4, 8]), np.array([1, 9, 1, 1, 3, 1])
    passes = (ColumnRange(0, 2, 1, 2), ColumnRange(3, 2, 1, 4))
    assert arranged(planes, passes, others).tolist() == [0, 1, 3, 2, 5, 4]


# Where it shows


def test_compile_names_tensors_with_an_order_of_their_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    case = dense_case(np.random.default_rng(0).normal(size=(40, 128)).astype(np.float32), 128)
    weight = onnx.numpy_helper.to_array(case.model.graph.initializer[0])
    model = joined(quantized(case, Widths(8, 8)).model, weight, [(64, 4), (64, 8)])
    onnx.save(model, tmp_path / "m.q.onnx")
    program = compile_model(BoundModel(model, model_bindings(model, case.graph)), default_design())
    names = [tensor.name for tensor in program.tensors if tensor.channel_order]
    assert len(names) == 2, "the hidden rows and the logits, which are their mean"
    arguments = ["compile", str(tmp_path / "m.q.onnx"), "-o", str(tmp_path / "m.hfp")]
    assert main(arguments) == 0
    assert read_program(tmp_path / "m.hfp").tensors == program.tensors
    shown = capsys.readouterr().out
    assert "stored in an order of channels of their own, for the cores: " + ", ".join(names) in shown
    assert "8 on D, 4 on L" in shown or "4 + 8 on D, 4 on L" in shown
    assert main([*arguments, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["reordered"] == names
    bound = bound_to(program, case.graph)
    assert_equals_onnxruntime(run_golden(bound), bound, model, case.graph)
