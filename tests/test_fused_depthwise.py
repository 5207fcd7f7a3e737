# SPDX-License-Identifier: Apache-2.0
"""Blocks of expansion, depthwise convolution and projection run fused, and compute what the integer layers say."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hetfab.driver.report import planned_rows
from hetfab.hls.build.emulator import Bodies, Emulator, build_emulator
from hetfab.overlay.bind_samples import bind_sample
from hetfab.overlay.compiler.cnn.network import compile_cnn
from hetfab.overlay.costs.program_cost import expected_log, field_values
from hetfab.overlay.images import image_values
from hetfab.overlay.isa.codec import Segment
from hetfab.overlay.isa.spec import isa
from hetfab.overlay.model.bound_model import FedModel
from hetfab.overlay.model.cnn.integer import IntegerCnn
from hetfab.overlay.model.cnn.integer_reader import read_integers
from hetfab.overlay.model.cnn.interpreter import logits
from hetfab.overlay.model.cnn.window import Window
from hetfab.overlay.model.reader import bindings_of, check_model, normalise
from hetfab.overlay.program import Program
from hetfab.quantize.cnn.post_training import quantize_cnn
from hetfab.quantize.widths import Widths
from tests.image_programs import SMALL_IMAGES, Samples, bound_images, differing
from tests.programs import design_of, run_emulated, run_golden
from tests.random_cnns import CnnBuilder

SAME = Window((3, 3), pads=(1, 1, 1, 1))
WIDTHS = (Widths(4, 4), Widths(8, 8), Widths(3, 4), Widths(2, 8), Widths(4, 3))


def blocks(seed: int) -> tuple[IntegerCnn, Samples]:
    """A quantized network of one or two blocks, of random size, stride, padding and channels."""
    random = np.random.default_rng(seed)
    shape = tuple(int(random.integers(low, high)) for low, high in ((1, 40), (3, 12), (3, 12)))
    build = CnnBuilder(random, shape)
    read = "input"
    for _ in range(random.integers(1, 3)):
        read = _block(build, read)
    row = build.flatten(build.global_mean(read))
    model = check_model(normalise(build.finish(build.dense(row, 5))), "the float model")
    samples = random.normal(size=(4, *shape)).astype(np.float32)
    fed = FedModel(model, bindings_of(model), [{"input": samples}])
    return read_integers(quantize_cnn(fed, widths=WIDTHS[seed % len(WIDTHS)]).model), samples


def _block(build: CnnBuilder, read: str) -> str:
    """Expand with one tap or nine, convolve depthwise, project; with an addition around it where that is possible."""
    random, (channels, rows, columns) = build.random, build.shapes[read]
    wide, stride = int(random.integers(1, 90)), int(random.integers(1, 4))
    pads = tuple(int(pad) for pad in random.integers(0, 3, 4))
    if min(rows + pads[0] + pads[2], columns + pads[1] + pads[3]) < 3 or random.random() < 0.5:
        stride, pads = 1, (1, 1, 1, 1)
    first = Window((1, 1)) if random.random() < 0.7 else Window((3, 3), pads=(1, 1, 1, 1))
    inner = build.conv(read, wide, first)
    inner = build.rectify(inner) if random.random() < 0.8 else inner
    window = Window((3, 3), (stride, stride), (1, 1), (pads[0], pads[1], pads[2], pads[3]))
    inner = build.conv(inner, wide, window, groups=wide)
    inner = build.rectify(inner) if random.random() < 0.8 else inner
    inner = build.conv(inner, channels, Window((1, 1)))
    return build.node("Add", read, inner) if build.shapes[inner] == build.shapes[read] and read != "input" else inner


def on_chip(integers: IntegerCnn, program: Program) -> set[str]:
    """Names of tensors without a place in DRAM."""
    return set(integers.stored) - {image.name for image in program.images}


@pytest.fixture(scope="module")
def emulator() -> Iterator[Emulator]:
    """The kernels' own bodies, which check the order of accesses."""
    with Emulator(build_emulator(SMALL_IMAGES, bodies=Bodies.PLAIN), SMALL_IMAGES) as opened:
        yield opened


@pytest.mark.parametrize("seed", range(10))
def test_emulator_computes_every_tensor_in_dram(seed: int, emulator: Emulator) -> None:
    integers, samples = blocks(seed)
    bound = bound_images(integers, samples[0], SMALL_IMAGES)
    assert differing(integers, samples[0], bound, run_golden(bound)) == []
    executed = run_emulated(bound, emulator, seed)
    assert differing(integers, samples[0], bound, executed) == []
    expected = expected_log(bound)
    assert executed.run_log is not None
    for name in expected.dtype.names or ():
        if name != "layer":
            assert np.array_equal(expected[name], executed.run_log[name]), name


@settings(max_examples=20, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from([("gemm_d", "gemm_l"), ("gemm_d",), ("gemm_l",)]),
    st.sampled_from([96, 128, 300]),
    st.sampled_from([32, 64, 200]),
)
def test_plans_of_all_designs_compute_the_same(
    seed: int, cores: tuple[str, ...], exp_words: int, mid_words: int
) -> None:
    engines = ("load", "store", *cores, "vec", "dw")
    geometry = replace(
        SMALL_IMAGES, engines=engines, exp_words=exp_words, mid_words=mid_words, res_words=256, out_words=256
    )
    integers, samples = blocks(seed)
    bound = bound_images(integers, samples[0], replace(geometry, gemm_l_acc_bits=32))
    assert differing(integers, samples[0], bound, run_golden(bound)) == []


@pytest.mark.parametrize("seed", [1, 4])
def test_places_are_not_taken_while_a_fused_layer_reads_them(seed: int) -> None:
    integers, samples = blocks(seed)
    program = compile_cnn(integers, design_of(SMALL_IMAGES))
    bound = bind_sample(program, samples[0])
    image = program.image(integers.output.name)
    stored = image_values(image, run_golden(bound).dram[Segment.OUTPUT])
    assert np.array_equal(stored, logits(integers, samples[:1])[0])


def expanded(*, read_twice: bool) -> IntegerCnn:
    """A convolution and a depthwise one behind it, of which something else reads the first one's result or not."""
    build = CnnBuilder(np.random.default_rng(3), (16, 6, 6))
    wide = build.rectify(build.conv("input", 32, Window((1, 1))))
    deep = build.rectify(build.conv(wide, 32, SAME, groups=32))
    return _quantized(build, build.node("Add", wide, deep) if read_twice else deep)


def projected() -> IntegerCnn:
    """A block of 12 lines, which go through in bands of 6 pieces, behind a convolution."""
    build = CnnBuilder(np.random.default_rng(3), (16, 12, 6))
    first = build.rectify(build.conv("input", 16, Window((1, 1))))
    wide = build.rectify(build.conv(first, 90, Window((1, 1))))
    deep = build.rectify(build.conv(wide, 90, SAME, groups=90))
    return _quantized(build, build.conv(deep, 16, Window((1, 1))))


def _quantized(build: CnnBuilder, last: str) -> IntegerCnn:
    """A network whose logits are a dense layer of the mean."""
    output = build.dense(build.flatten(build.global_mean(last)), 5)
    model = check_model(normalise(build.finish(output)), "the float model")
    samples = np.random.default_rng(4).normal(size=(4, *build.shapes["input"])).astype(np.float32)
    fed = FedModel(model, bindings_of(model), [{"input": samples}])
    return read_integers(quantize_cnn(fed, widths=Widths(4, 4)).model)


def test_a_projection_begins_while_bands_are_left() -> None:
    program = compile_cnn(projected(), design_of(SMALL_IMAGES))
    field, core = isa().header_field("engine"), isa().engine("gemm_d").id
    products = [block.layer for block in program.blocks for one in field_values(block.words, field) if one == core]
    assert products.index(3) < len(products) - 1 - products[::-1].index(1)


def test_a_projection_takes_no_place_that_the_expansion_reads() -> None:
    program = compile_cnn(projected(), design_of(SMALL_IMAGES))
    read, _, written = [image for image in program.images if image.segment == "activations"][:3]
    assert written.offset >= read.offset + read.size_bytes or read.offset >= written.offset + written.size_bytes


def test_the_result_between_them_has_no_place_in_dram() -> None:
    integers = expanded(read_twice=False)
    program = compile_cnn(integers, design_of(SMALL_IMAGES))
    assert on_chip(integers, program) == {integers.layers[0].output.name}
    assert [layer.engines[-2:] for layer in program.layers[:2]] == [("gemm_l", "vec"), ("dw", "store")]
    assert [row[7] for row in planned_rows(program)][:2] == ["-", 4]


def test_a_result_that_others_read_too_is_stored() -> None:
    integers = expanded(read_twice=True)
    assert on_chip(integers, compile_cnn(integers, design_of(SMALL_IMAGES))) == set()


def test_without_room_for_a_band_both_run_alone() -> None:
    """Three lines of 6 pixels, a word of each, are the least that both need together; alone, parts of lines do."""
    integers = expanded(read_twice=False)
    for words, fused in ((18, 1), (17, 0)):
        program = compile_cnn(integers, design_of(replace(SMALL_IMAGES, exp_words=words, dwp_words=32)))
        assert len(on_chip(integers, program)) == fused
