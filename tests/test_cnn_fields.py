# SPDX-License-Identifier: Apache-2.0
"""Layers whose widest strips leave the fields of instructions run in narrower ones, and others are refused by name."""

from dataclasses import replace

import numpy as np
import pytest

from hetfab.overlay.compiler.cnn.network import compile_cnn
from hetfab.overlay.design import IMAGE_DESIGN, Geometry, default_design
from hetfab.overlay.errors import DesignTooSmallError, LimitExceededError
from hetfab.overlay.model.cnn.integer import IntegerCnn
from hetfab.overlay.model.cnn.window import Window
from tests.image_programs import computes_logits
from tests.integer_cnns import IntegerBuilder, square
from tests.programs import design_of

WIDE = replace(
    default_design(IMAGE_DESIGN).geometry,
    act_d_words=4096,
    wgt_d_words=4096,
    acc_d_words=4096,
    act_l_words=4096,
    wgt_l_words=4096,
    acc_l_words=4096,
    res_words=4096,
    out_words=4096,
    par_words=512,
    gemm_l_acc_bits=32,
)


def on(core: str, geometry: Geometry = WIDE, *, rows: int = 0) -> Geometry:
    """A design with one core."""
    geometry = replace(geometry, engines=("load", "store", f"gemm_{core}", "vec"))
    if not rows:
        return geometry
    return replace(geometry, gemm_d_rows=rows) if core == "d" else replace(geometry, gemm_l_rows=rows)


def with_dw(geometry: Geometry) -> Geometry:
    engines = (*geometry.engines, "dw")
    return replace(geometry, engines=engines, exp_words=4096, dwp_words=1024, mid_words=2048)


def of_many_channels(size: tuple[int, int], channels: int, window: Window) -> IntegerCnn:
    """A convolution of pixels of 2048 channels."""
    build = IntegerBuilder((*size, 3))
    return build.finish(build.conv(build.conv(build.input, 2048, square(1)), channels, window))


def fused_of_many_channels() -> IntegerCnn:
    build = IntegerBuilder((8, 8, 3))
    read = build.conv(build.conv(build.input, 2048, square(1)), 32, square(3, pad=1), bits=3, most=3)
    return build.finish(build.depthwise(read))


def far_apart() -> IntegerCnn:
    """A window that begins 16 lines above the image."""
    build = IntegerBuilder((20, 4, 3))
    read = build.conv(build.input, 32, square(1))
    return build.finish(build.conv(read, 32, Window((3, 1), (1, 1), (16, 1), (16, 0, 16, 0))))


def added(size: int) -> IntegerCnn:
    """Bytes are added to those of a convolution."""
    build = IntegerBuilder((size, size, 3))
    read = build.conv(build.input, 64, square(1))
    return build.finish(build.conv(read, 64, square(1), added=read))


def of_many_logits() -> IntegerCnn:
    build = IntegerBuilder((2, 2, 3))
    return build.finish(build.conv(build.input, 32, square(1)), classes=8192)


def mean_of(size: tuple[int, int]) -> IntegerCnn:
    build = IntegerBuilder((*size, 3))
    return build.finish(build.mean(build.conv(build.input, 32, square(1))))


@pytest.mark.parametrize(
    ("network", "geometry"),
    [
        pytest.param(of_many_channels((15, 16), 64, square(1)), on("d", rows=16), id="line_beats of GEMM-D"),
        pytest.param(of_many_channels((32, 32), 32, square(1)), on("l", rows=8), id="line_words of GEMM-L"),
        pytest.param(far_apart(), on("d", rows=16), id="top on GEMM-D"),
        pytest.param(far_apart(), on("l", rows=16), id="top on GEMM-L"),
        pytest.param(of_many_channels((8, 8), 32, square(1, 4)), on("d"), id="step_words of GEMM-D"),
        pytest.param(of_many_channels((8, 8), 32, square(1, 4)), on("l"), id="step_words of GEMM-L"),
        pytest.param(of_many_channels((6, 6), 32, square(3, pad=1)), on("d"), id="left"),
        pytest.param(fused_of_many_channels(), with_dw(on("l")), id="left, fused"),
        pytest.param(added(56), replace(on("d"), res_words=8192), id="res"),
        pytest.param(mean_of((1, 256)), on("d"), id="columns of a mean"),
        pytest.param(mean_of((258, 1)), on("d"), id="lines of a mean"),
        pytest.param(of_many_logits(), on("d"), id="pixel_stride"),
    ],
)
def test_strips_are_as_narrow_as_fields_demand(network: IntegerCnn, geometry: Geometry) -> None:
    sample = np.random.default_rng(1).integers(0, 256, (3, *network.input.shape[:2])).astype(np.float32)
    assert computes_logits(network, sample, geometry)


def test_fields_that_hold_no_strip_are_named() -> None:
    build = IntegerBuilder((16, 16, 3))
    read = build.conv(build.conv(build.input, 32, square(1)), 32, square(8, 8))
    with pytest.raises(DesignTooSmallError) as error:
        compile_cnn(build.finish(read), design_of(on("d")))
    needs = "needs 8 in the field 'line_stride' of 'configure_lines' on GEMM-D"
    assert error.value.found == f"layer 't1' {needs}, for windows of 8 x 8 pixels of 32 channels"
    assert error.value.expected == "at most 7, what the field holds"
    assert error.value.do == "use a layer with shorter strides, less padding or fewer input channels"


def test_lines_longer_than_instructions_say_are_refused() -> None:
    build = IntegerBuilder((2, 4096, 3))
    with pytest.raises(LimitExceededError) as error:
        compile_cnn(build.finish(build.conv(build.input, 32, square(1))), design_of(on("d")))
    assert error.value.found == "a line of 't0' takes 2,048 blocks of 64 bytes"
    assert error.value.expected == "at most 2,047, what the field 'stride_blocks' of 'store_runs' holds"
    assert error.value.do == "use narrower images or fewer channels"


def test_windows_of_more_taps_than_instructions_count_are_refused() -> None:
    with pytest.raises(DesignTooSmallError) as error:
        compile_cnn(mean_of((2, 256)), design_of(on("d")))
    needs = "layer 't1' needs 256 in the field 'columns' of 'configure_pool'"
    assert error.value.found == f"{needs}, for a window of 2 x 256 pixels"
    assert error.value.expected == "at most 255, what the field holds"
    assert error.value.do == "pool in two steps, or use smaller images"
