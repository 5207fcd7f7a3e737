# SPDX-License-Identifier: Apache-2.0
"""Plans of convolutions: counted cuts are those of their tiles, and a plan is kept for equal layers only."""

from collections import Counter
from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from hetfab.overlay.compiler.cnn.conv import Conv
from hetfab.overlay.compiler.cnn.feature_maps import FeatureMap
from hetfab.overlay.compiler.cnn.network import compile_cnn
from hetfab.overlay.compiler.cnn.planning import plan_conv
from hetfab.overlay.compiler.cnn.strips import census
from hetfab.overlay.design import IMAGE_DESIGN, default_design
from hetfab.overlay.isa.codec import Segment
from hetfab.overlay.model.cnn.integer import Ending, Finish
from tests.image_programs import SMALL_IMAGES
from tests.integer_cnns import IntegerBuilder, square
from tests.programs import design_of

GEOMETRY = default_design(IMAGE_DESIGN).geometry
SIZES = st.integers(1, 40)


@given(first=st.integers(0, 9), lines=SIZES, columns=SIZES, banks=SIZES, widest=SIZES, fill=st.booleans())
def test_a_census_counts_the_tiles_of_its_cut(
    first: int, lines: int, columns: int, banks: int, widest: int, fill: bool
) -> None:
    found = census((first, first + lines), columns, banks, widest, fill=fill)
    tiles, covered = found.tiles, np.zeros((first + lines, columns), np.bool_)
    for tile in tiles:
        for one in tile.segments:
            covered[one.row : one.row + one.banks, one.column : one.column + tile.columns] = True
    assert covered[first:].all() and not covered[:first].any()
    assert dict(found.kinds) == Counter((tile.columns, tile.banks) for tile in tiles)
    segments = {
        width: (
            sum(len(tile.segments) for tile in tiles if tile.columns == width),
            sum(tile.banks for tile in tiles if tile.columns == width),
        )
        for width in {tile.columns for tile in tiles}
    }
    assert {width: counts for width, *counts in found.segments} == {
        width: list(counts) for width, counts in segments.items()
    }
    assert found.count == len(tiles)
    assert found.pixels == sum(tile.pixels for tile in tiles)
    assert found.largest == max(tile.pixels for tile in tiles)
    assert found.columns == max(tile.columns for tile in tiles)


def conv(index: int = 1, *, planes: int = 4, seed: int = 0) -> Conv:
    """A convolution of three by three taps on a small image; its index, name and weights are not its shape."""
    random = np.random.default_rng(seed)
    source = FeatureMap("read", 12, 12, 32, 8, False, Segment.ACTIVATIONS, 0, 32, 6)
    return Conv(
        index=index,
        source=source,
        target=replace(source, name=f"written {seed}"),
        residual=None,
        weight=random.integers(-1, 2, (3, 3, 32, 32)),
        weight_bits=np.full(32, planes),
        bias=np.zeros(32, np.int64),
        multiplier=np.ones(32, np.int64),
        shift=1,
        finish=Finish(Ending.REQUANTIZE, 0, 0, True, 255),
        strides=(1, 1),
        above=1,
        left=1,
        gathered=False,
    )


def test_equal_layers_have_one_plan() -> None:
    assert plan_conv(conv(), GEOMETRY) is plan_conv(conv(2, seed=1), GEOMETRY)


def test_layers_of_other_widths_geometries_or_times_have_plans_of_their_own() -> None:
    plans = [
        plan_conv(conv(), GEOMETRY),
        plan_conv(conv(planes=8), GEOMETRY),
        plan_conv(conv(), replace(GEOMETRY, gemm_l_rows=6)),
        plan_conv(conv(), replace(GEOMETRY, wgt_d_words=2 * GEOMETRY.wgt_d_words)),
        plan_conv(conv(), GEOMETRY, early=True),
        plan_conv(conv(), replace(GEOMETRY, engines=("load", "store", "gemm_d", "vec"))),
    ]
    assert len({id(plan) for plan in plans}) == len(plans)
    assert len({plan.cycles for plan in plans}) > 1


def test_sums_that_leave_gemm_l_are_not_planned_on_it() -> None:
    narrow = replace(GEOMETRY, gemm_l_acc_bits=16)
    few, many = conv(), replace(conv(), weight=np.full((3, 3, 32, 32), 7))
    assert any(job.core.on_l for job in plan_conv(replace(few, weight=0 * few.weight), narrow).jobs)
    assert not any(job.core.on_l for job in plan_conv(many, narrow).jobs)


def test_what_is_added_fits_though_it_is_wider_than_the_result() -> None:
    geometry = replace(GEOMETRY, engines=("load", "store", "gemm_d", "vec"), gemm_d_rows=16, gemm_d_cols=16)
    geometry = replace(geometry, res_words=512, out_words=512)
    source = FeatureMap("read", 56, 56, 64, 8, False, Segment.ACTIVATIONS, 0, 64, 56)
    result = replace(source, name="written", item_bits=4, pixel_bytes=32, row_blocks=28)
    added = replace(
        conv(),
        source=source,
        target=result,
        residual=replace(source, name="added"),
        weight=np.ones((1, 1, 64, 64), np.int64),
        weight_bits=np.full(64, 8),
        above=0,
        left=0,
    )
    (job,) = plan_conv(added, geometry).jobs
    largest = max(tile.pixels for tile in job.tiles) * max(chunk.last - chunk.first for chunk in job.chunks)
    assert largest <= 512 * 8


def test_fused_layers_of_one_shape_run_on_gemm_l_only_where_their_sums_stay() -> None:
    build = IntegerBuilder((8, 8, 3))
    read = build.conv(build.input, 64, square(1))
    for most in (1, 127):
        read = build.depthwise(build.conv(read, 64, square(1), most=most))
    narrow = replace(SMALL_IMAGES, gemm_l_acc_bits=20)
    few, many = compile_cnn(build.finish(read), design_of(narrow)).layers[1:5:2]
    assert "gemm_l" in few.engines and "store" not in few.engines
    assert "gemm_l" not in many.engines and "store" not in many.engines
