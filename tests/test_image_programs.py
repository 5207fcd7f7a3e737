# SPDX-License-Identifier: Apache-2.0
"""Compiled networks on samples compute every stored tensor as the integer layers do: golden model and emulators."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from hetfab.hls.build.emulator import Bodies, Emulator, Progress, build_emulator
from hetfab.overlay.compiler.cnn.network import compile_cnn
from hetfab.overlay.costs.program_cost import expected_log, operation_fields, operation_rows
from hetfab.overlay.errors import DesignTooSmallError, OverflowPossibleError, StreamInvalidError
from hetfab.overlay.isa import codec
from hetfab.overlay.isa.golden import GoldenMachine
from hetfab.overlay.isa.spec import isa
from hetfab.overlay.isa.words import pack
from hetfab.overlay.model.cnn.window import Window
from hetfab.overlay.program import Program, read_program, write_program
from hetfab.quantize.widths import Widths
from tests.image_programs import SMALL_IMAGES, bound_images, computes_logits, differing, quantized, random_integers
from tests.programs import design_of, run_emulated, run_golden
from tests.random_cnns import CnnBuilder
from tests.test_dispatch import Device

WIDTHS = (Widths(8, 8), Widths(4, 4), Widths(2, 8), Widths(1, 4), Widths(3, 2))
SEEDS = range(20)


@pytest.fixture(scope="module")
def emulator() -> Iterator[Emulator]:
    """The kernels' own bodies, which check the order of accesses."""
    with Emulator(build_emulator(SMALL_IMAGES, bodies=Bodies.PLAIN), SMALL_IMAGES) as opened:
        yield opened


@pytest.mark.parametrize("seed", SEEDS)
def test_emulator_and_golden_model_compute_every_tensor(seed: int, emulator: Emulator) -> None:
    integers, samples = random_integers(seed, WIDTHS[seed % len(WIDTHS)])
    bound = bound_images(integers, samples[0], SMALL_IMAGES)
    assert differing(integers, samples[0], bound, run_golden(bound)) == []
    assert computes_logits(integers, samples[0], SMALL_IMAGES)
    executed = run_emulated(bound, emulator, seed)
    assert differing(integers, samples[0], bound, executed) == []
    expected = expected_log(bound)
    assert executed.run_log is not None
    for name in expected.dtype.names or ():
        if name != "layer":
            assert np.array_equal(expected[name], executed.run_log[name]), name


def test_a_design_without_agg_refuses_joined_sums() -> None:
    fields = dict.fromkeys((field.name for field in isa().operation("requantize_joined").fields), 0)
    word = codec.requantize_joined(**fields)
    with pytest.raises(StreamInvalidError) as error:
        GoldenMachine(SMALL_IMAGES).run(pack([word]).tobytes())
    assert error.value.found.endswith(") uses sums that join accumulators")
    assert error.value.expected == "a design with AGG"
    with Emulator(build_emulator(SMALL_IMAGES, bodies=Bodies.PLAIN), SMALL_IMAGES) as opened:
        assert Device(opened).run([word]) is Progress.FAULT


@pytest.mark.parametrize("cores", [("gemm_d",), ("gemm_l",)])
def test_one_core_suffices(cores: tuple[str, ...]) -> None:
    engines = ("load", "store", *cores, "vec")
    geometry = replace(SMALL_IMAGES, engines=engines, gemm_l_acc_bits=32)
    for seed in range(4):
        integers, samples = random_integers(seed, Widths(4, 4))
        bound = bound_images(integers, samples[0], geometry)
        assert differing(integers, samples[0], bound, run_golden(bound)) == []


@pytest.mark.parametrize("stride", [1, 4])
def test_arrays_may_have_more_rows_than_instructions_count_strips(stride: int) -> None:
    """And than the strips whose lines they count, which are fewer where these are far apart."""
    geometry = replace(SMALL_IMAGES, gemm_d_rows=32, gemm_l_rows=32, act_d_words=128, out_words=512)
    geometry = replace(geometry, acc_d_words=512, acc_l_words=512, wgt_d_words=512, wgt_l_words=512)
    build = CnnBuilder(np.random.default_rng(0), (8, 36 * stride + 8, 5))
    window = Window((9, 3), (stride, 1), (1, 1), (0, 0, 0, 0))
    read = build.rectify(build.conv("input", 8, Window((1, 1), (1, 1), (1, 1), (0, 0, 0, 0))))
    read = build.rectify(build.conv(read, 8, window))
    model = build.finish(build.dense(build.flatten(build.global_mean(read)), 3))
    integers, samples = quantized(model, Widths(4, 8))
    bound = bound_images(integers, samples[0], geometry)
    assert differing(integers, samples[0], bound, run_golden(bound)) == []
    load = isa().operation("load_lines")
    banks = operation_fields(bound.words, load, operation_rows(bound.words, load))["banks"]
    assert banks.max() == (31 if stride == 1 else 30)


def test_places_are_used_again() -> None:
    integers, _ = random_integers(7, Widths(4, 4))
    kept = compile_cnn(integers, design_of(SMALL_IMAGES), keep=True)
    reused = compile_cnn(integers, design_of(SMALL_IMAGES))

    def size(program: Program) -> int:
        return max(one.offset + one.size_bytes for one in program.images if one.segment == "activations")

    assert size(reused) < size(kept)


def test_a_program_file_keeps_its_images(tmp_path_factory: pytest.TempPathFactory) -> None:
    integers, _ = random_integers(3, Widths(8, 8))
    program = compile_cnn(integers, design_of(SMALL_IMAGES))
    path = tmp_path_factory.mktemp("program") / "cnn.hfp"
    write_program(path, program)
    assert read_program(path).images == program.images


def test_a_layer_that_no_buffer_holds_is_refused() -> None:
    integers, _ = random_integers(0, Widths(8, 8))
    tiny = replace(SMALL_IMAGES, act_d_words=1, act_l_words=1, gather_beats=0)
    with pytest.raises(DesignTooSmallError, match="does not fit the design: windows of"):
        compile_cnn(integers, design_of(tiny))


def test_sums_that_leave_the_accumulators_are_refused() -> None:
    integers, _ = random_integers(0, Widths(8, 8))
    first = next(integers.products())
    wide = replace(first, weight=first.weight * (1 << 20))
    model = replace(integers, layers=(wide, *integers.layers[1:]))
    only_l = replace(SMALL_IMAGES, engines=("load", "store", "gemm_l", "vec"))
    with pytest.raises(OverflowPossibleError, match="on GEMM-L can reach"):
        compile_cnn(model, design_of(only_l))
