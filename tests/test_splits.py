# SPDX-License-Identifier: Apache-2.0
"""A dense layer on two cores: every width, sign and split gives the sums of products, rounded once."""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hetfab.driver.graph.model_inputs import model_bindings, model_feeds
from hetfab.driver.graph.npz import read_graph
from hetfab.hls.build.emulator import Emulator
from hetfab.overlay.bind import BoundProgram, GraphArrays, bind
from hetfab.overlay.compiler.compile import compile_lowered, compile_model
from hetfab.overlay.compiler.lowered import DenseTerm, LayerKind, LoweredLayer, LoweredModel, Scales, Stored
from hetfab.overlay.design import Geometry, default_design
from hetfab.overlay.errors import DesignInvalidError, OverflowPossibleError
from hetfab.overlay.isa.codec import Segment
from hetfab.overlay.layouts import packed_rows
from hetfab.overlay.model.bound_model import BoundModel, FedModel
from hetfab.overlay.model.reader import read_model
from hetfab.overlay.program import Program
from hetfab.quantize.post_training import quantize
from tests.data_folder import require_data
from tests.programs import bound_to, design_of, run_emulated, run_golden

Integers = npt.NDArray[np.int64]
SHIFT = 5


@dataclass(frozen=True)
class Product:
    """Operands of one layer, with a width for each output channel."""

    activations: Integers
    activation_bits: int
    signed: bool
    weight: Integers
    weight_bits: Integers
    bias: Integers

    def result(self) -> Integers:
        """Rounded half to even, saturated to 8 signed bits: by the definition, in exact integers."""
        sums = self.activations @ self.weight + self.bias
        below, rest = np.divmod(sums, 1 << SHIFT)
        half = 1 << (SHIFT - 1)
        up = (rest > half) | ((rest == half) & (below % 2 == 1))
        return np.asarray(np.clip(below + up, -128, 127), np.int64)

    def lowered(self) -> LoweredModel:
        """The layer as the compiler takes it."""
        inputs, outputs = self.activations.shape[1], len(self.bias)
        given_rows = Stored("x", inputs, self.activation_bits, self.signed, 0, "features")
        output = Stored("y", outputs, 8, True, 0, "computed")
        ones = np.ones(outputs, np.int64)
        term = DenseTerm(given_rows, self.weight, self.weight_bits, self.bias, Scales(ones, 0 * ones))
        layer = LoweredLayer(LayerKind.REQUANTIZE, output, term, ones, SHIFT, (), 0, 0, False)
        return LoweredModel((layer,), {"x": given_rows, "y": output}, {"x": "row", "y": "row"}, {}, output, 0)

    def bound(self, program: Program) -> BoundProgram:
        """The program bound to these activations."""
        rows = {"x": self.activations.astype(np.float32)}
        return bind(program, GraphArrays({"row": len(self.activations)}, rows, {}))


@st.composite
def products(draw: st.DrawFn) -> Product:
    """Operands of all widths, with many extremes."""
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    rows, inputs, outputs = draw(st.integers(1, 40)), draw(st.integers(1, 200)), draw(st.integers(1, 90))
    activation_bits, signed = draw(st.integers(2, 8)), draw(st.booleans())
    widths = draw(st.lists(st.integers(1, 8), min_size=1, max_size=2))
    weight_bits = np.repeat(widths, -(-outputs // len(widths)))[:outputs].astype(np.int64)
    limits = np.maximum((1 << weight_bits - 1) - 1, 1)
    weight = random.integers(-limits, limits + 1, (inputs, outputs))
    weight = np.where(random.random(weight.shape) < 0.3, np.where(weight < 0, -limits, limits), weight)
    weight = np.where(weight_bits == 1, np.where(weight < 0, -1, 1), weight)
    half = 1 << activation_bits - 1
    low, high = (-half, half - 1) if signed else (0, 2 * half - 1)
    activations = random.integers(low, high + 1, (rows, inputs))
    activations = np.where(random.random(activations.shape) < 0.3, random.choice([low, high]), activations)
    return Product(activations, activation_bits, signed, weight, weight_bits, random.integers(-500, 500, outputs))


def found_in(dram: npt.NDArray[np.uint8], rows: int, program: Program) -> Integers:
    """The output rows in the activations segment, channels in the model's order."""
    tensor = program.tensor("y")
    stored = dram[: rows * tensor.row_bytes].view(np.int8).reshape(rows, tensor.row_bytes)
    found = np.zeros((rows, tensor.channels), np.int64)
    found[:, list(tensor.channel_order or range(tensor.channels))] = stored[:, : tensor.channels]
    return found


@settings(max_examples=60, deadline=None)
@given(product=products(), share=st.one_of(st.none(), st.floats(0, 1)))
def test_every_split_gives_the_sums_of_products(
    product: Product, share: float | None, small_geometry: Geometry, small_emulators: dict[str, Emulator]
) -> None:
    program = compile_lowered(product.lowered(), design_of(small_geometry), share_on_d=share)
    bound = product.bound(program)
    rows = len(product.activations)
    for executed in (run_golden(bound), *(run_emulated(bound, emulator) for emulator in small_emulators.values())):
        assert np.array_equal(found_in(executed.dram[Segment.ACTIVATIONS], rows, program), product.result())


@settings(max_examples=6, deadline=None)
@given(product=products(), share=st.sampled_from([0.0, 0.4, 1.0]))
def test_checked_integers_and_ap_int_agree(
    product: Product, share: float, default_geometry: Geometry, default_emulators: dict[str, Emulator]
) -> None:
    program = compile_lowered(product.lowered(), design_of(default_geometry), share_on_d=share)
    bound = product.bound(program)
    rows = len(product.activations)
    for emulator in default_emulators.values():
        found = run_emulated(bound, emulator).dram[Segment.ACTIVATIONS]
        assert np.array_equal(found_in(found, rows, program), product.result())


@pytest.mark.parametrize(("share", "fewest", "most"), [(1.0, 0, 0), (0.0, 90, 90), (0.5, 30, 60)])
def test_a_share_sets_the_channels_of_each_core(share: float, fewest: int, most: int, small_geometry: Geometry) -> None:
    product = Product(
        np.zeros((3, 10), np.int64), 8, True, np.ones((10, 90), np.int64), np.full(90, 8), np.zeros(90, np.int64)
    )
    (layer,) = compile_lowered(product.lowered(), design_of(small_geometry), share_on_d=share).layers
    assert fewest <= layer.channels_on_l <= most, "whole groups of lanes channels in each pass"


def overflowing() -> Product:
    """Sums of 2^23 and more: 255 * 127 * 300."""
    weight = np.full((300, 8), 127, np.int64)
    return Product(np.zeros((2, 300), np.int64), 8, False, weight, np.full(8, 8), np.zeros(8, np.int64))


def test_a_layer_whose_sums_gemm_l_could_overflow_goes_to_gemm_d(small_geometry: Geometry) -> None:
    assert small_geometry.gemm_l_acc_bits == 24
    (layer,) = compile_lowered(overflowing().lowered(), design_of(small_geometry)).layers
    assert layer.channels_on_l == 0


def test_without_gemm_d_such_a_layer_is_refused(small_geometry: Geometry) -> None:
    engines = tuple(name for name in small_geometry.engines if name != "gemm_d")
    with pytest.raises(OverflowPossibleError) as caught:
        compile_lowered(overflowing().lowered(), design_of(replace(small_geometry, engines=engines)))
    assert caught.value.found == "the sums of 'y' on GEMM-L can reach 9715500, which takes 25 bits"
    assert caught.value.expected == "at most 24 bits, the design's gemm_l_acc_bits"
    assert caught.value.do == "use a design with wider sums or with GEMM-D, or quantize with fewer bits"


def test_channels_that_pad_a_row_count_in_sums_of_one_bit_weights(small_geometry: Geometry) -> None:
    """65,793 * 255 is the last that 25 bits hold; a row is padded to 65,856 channels, whose weights are +1."""
    weight = np.ones((65_793, 8), np.int64)
    product = Product(np.zeros((2, 65_793), np.int64), 8, True, weight, np.full(8, 1), np.zeros(8, np.int64))
    engines = tuple(name for name in small_geometry.engines if name != "gemm_d")
    geometry = replace(small_geometry, engines=engines, gemm_l_acc_bits=25)
    with pytest.raises(OverflowPossibleError, match="can reach 16793280, which takes 26 bits"):
        compile_lowered(product.lowered(), design_of(geometry))


def test_without_any_core_dense_layers_are_refused(small_geometry: Geometry) -> None:
    engines = tuple(name for name in small_geometry.engines if not name.startswith("gemm"))
    with pytest.raises(DesignInvalidError, match="has no engine gemm_d"):
        compile_lowered(overflowing().lowered(), design_of(replace(small_geometry, engines=engines)))


def test_packed_rows_hold_the_even_channel_in_the_low_nibble() -> None:
    assert packed_rows(np.array([[1, -2, 15, 4]])).tolist() == [[0xE1, 0x4F]]


@pytest.mark.parametrize("data", ["acm", "dblp", "imdb"])
def test_real_models_predict_the_same_for_every_split(data: str, default_emulators: dict[str, Emulator]) -> None:
    folder = require_data()
    graph = read_graph(folder / data / "graph.npz")
    model = read_model(folder / "models" / f"{data}_rgcn.onnx")
    bindings = model_bindings(model, graph)
    quantized = quantize(FedModel(model, bindings, [model_feeds(model, bindings, graph)])).model
    given_model = BoundModel(quantized, model_bindings(quantized, graph))
    logits = []
    for share in (None, 1.0, 0.6, 0.3, 0.0):
        bound = bound_to(compile_model(given_model, default_design(), share_on_d=share), graph)
        executed = run_emulated(bound, default_emulators["host"])
        logits.append(bound.logits(executed.dram[Segment.OUTPUT]))
    assert all(np.array_equal(logits[0], other) for other in logits[1:])
