# SPDX-License-Identifier: Apache-2.0
"""The cuts of a layer: of all that fit the buffers, the one of the fewest cycles a row."""

import pytest

from hetfab.overlay.compiler.operands import GEMM_D, GEMM_L
from hetfab.overlay.compiler.tiling import LayerShape, _Cutter, choose_tile
from hetfab.overlay.design import default_design


@pytest.mark.parametrize("blocks", [1, 2, 5, 30, 55, 67])
@pytest.mark.parametrize("design", ["pynq-z2", "pynq-z2-graphs", "zcu104"])
def test_no_cut_that_fits_is_faster(design: str, blocks: int) -> None:
    """Long rows: halves of them may be slower than the whole and fourths faster, as tiles get more rows at last."""
    geometry = default_design(design).geometry
    shape = LayerShape(64 * blocks, False, 2, (8,) * 64, False, frozenset({GEMM_D, GEMM_L}), 64, False, 8, True)
    cutter = _Cutter(shape, geometry, None)
    cuts = [
        cut
        for step_bytes in cutter.steps()
        for width in cutter.widths()
        for on_d in cutter.splits(width)
        if (cut := cutter.cut(width, on_d, step_bytes)) is not None
    ]
    assert choose_tile(shape, geometry, "layer").row_cycles == min(cut.row_cycles for cut in cuts)
