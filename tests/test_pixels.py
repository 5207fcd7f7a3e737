# SPDX-License-Identifier: Apache-2.0
"""VEC on pixels: stored tensors that join, pooling, results for exp_ram; all executions give the same memories."""

from collections.abc import Callable

import numpy as np
import pytest

from hetfab.hls.build.emulator import Emulator
from hetfab.overlay.costs.program_cost import expected_records
from hetfab.overlay.design import Geometry
from hetfab.overlay.isa import codec
from hetfab.overlay.isa.arithmetic import reciprocals
from hetfab.overlay.isa.spec import isa
from hetfab.overlay.isa.words import pack
from tests.test_instructions import Bench, byte_fields, make_ties

SEEDS = range(24)
POST_LEFT = isa().size("post_left")


class Pixels:
    """A tile of pixels of random shape, and where they lie; ``configure`` are the instructions that say so."""

    def __init__(self, bench: Bench, words: int, *, window: bool = False) -> None:
        pick, geometry = bench.pick, bench.geometry
        self.banks, self.columns = pick(1, 3), pick(1, 4)
        self.rows = self.banks * self.columns * pick(0, 1)
        lines, columns = (pick(1, 3), pick(1, 3)) if window else (1, 1)
        pixel, tap_line, tap_column = pick(0, words + 2), pick(0, 9), pick(0, words + 2)
        extent = words + (lines - 1) * tap_line + (columns - 1) * tap_column + (self.columns - 1) * pixel
        line = pick(0, (geometry.res_words - extent) // max(1, self.banks - 1))
        self.res = pick(0, geometry.res_words - extent - (self.banks - 1) * line)
        self.line, self.pixel = line, pixel
        self.window = {"lines": lines, "columns": columns, "line_words": tap_line, "column_words": tap_column}
        divisor = lines * columns if pick(0, 2) else pick(1, 9)
        reciprocal, exponent = (int(value[0]) for value in reciprocals(np.array([divisor])))
        self.window |= {"reciprocal": reciprocal, "exponent": exponent}
        self.packed, self.signed = pick(0, 1), pick(0, 1)

    def configure(self, bench: Bench, out_words: int) -> tuple[list[int], dict[str, int]]:
        """The configure instructions, and the fields of an operation that say where its results go."""
        pick, geometry = bench.pick, bench.geometry
        to_exp, distance = pick(0, 1), pick(out_words, out_words + 2)
        exp_line = self.columns * distance + pick(0, 3)
        places = {
            "banks": self.banks - 1, "packed": self.packed, "signed": self.signed, "res_line_words": self.line,
            "res_pixel_words": self.pixel, "exp_line_words": exp_line, "exp_pixel_words": distance,
        }  # fmt: skip
        row_blocks = 0 if to_exp else pick(0, 1) * -(-out_words // 8)
        taken = self.banks * exp_line if to_exp else self.rows * (8 * row_blocks or out_words)
        depth = geometry.exp_words if to_exp else geometry.out_words
        fields = {"to_exp": to_exp, "row_blocks": row_blocks, "out": pick(0, depth - taken), "row_words": out_words}
        return [codec.configure_pixels(**places), codec.configure_pool(**self.window)], fields


def output_words(bench: Bench, groups: int, *, packed: int, wide: int) -> int:
    """Words of a pixel's results, sometimes with a word of zeros behind them."""
    needed = 4 * groups if wide else -(-groups // 2) if packed else groups
    return needed + bench.pick(0, 1)


def stored_words(groups: int, packed: int) -> int:
    return -(-groups // (1 + packed))


def join(bench: Bench) -> list[int]:
    pick, common = bench.pick, byte_fields(bench)
    groups, wide = min(common["groups"], 3), int(pick(0, 3) == 0)
    pixels = Pixels(bench, groups)
    words = output_words(bench, groups, packed=common["packed"], wide=wide)
    configure, places = pixels.configure(bench, words)
    columns = bench.geometry.gemm_l_cols if common["core"] else bench.geometry.gemm_d_cols
    depth = bench.geometry.acc_l_words if common["core"] else bench.geometry.acc_d_words
    acc = pick(0, depth - pixels.rows * -(-groups * 8 // columns))
    shift, post_shift = int(bench.random.choice([0, 3, 20, 40])), int(bench.random.choice([0, 9, POST_LEFT + 8, 63]))
    fields = common | places | {"groups": groups, "acc": acc, "rows": pixels.rows, "wide": wide}
    return [*configure, codec.join(**fields, res=pixels.res, shift=shift, post_shift=post_shift)]


def join_ties(bench: Bench) -> list[int]:
    """Small values, so that sums lie between two results and limits are met from both sides."""
    make_ties(bench)
    return join(bench)


def pool_max(bench: Bench) -> list[int]:
    words = bench.pick(1, 4)
    pixels = Pixels(bench, words, window=True)
    configure, places = pixels.configure(bench, words)
    return [*configure, codec.pool_max(**places, res=pixels.res, rows=pixels.rows)]


def pool_average(bench: Bench) -> list[int]:
    pick = bench.pick
    groups, packed, wide = pick(1, 4), pick(0, 1), int(pick(0, 3) == 0)
    pixels = Pixels(bench, groups, window=True)
    words = output_words(bench, groups, packed=packed, wide=wide)
    configure, places = pixels.configure(bench, words)
    ends = {"signed": pick(0, 1), "packed": packed, "wide": wide, "highest": pick(0, 255)}
    post_shift = int(bench.random.choice([0, POST_LEFT + 5, POST_LEFT + 8, POST_LEFT + 9, 63]))
    fields = places | ends | {"rows": pixels.rows, "groups": groups, "res": pixels.res}
    return [*configure, codec.pool_average(**fields, post_shift=post_shift)]


def requantize(bench: Bench) -> list[int]:
    """Results for exp_ram, as pixels."""
    common = byte_fields(bench)
    groups = min(common["groups"], 3)
    pixels = Pixels(bench, groups)
    configure, places = pixels.configure(bench, output_words(bench, groups, packed=common["packed"], wide=0))
    columns = bench.geometry.gemm_l_cols if common["core"] else bench.geometry.gemm_d_cols
    depth = bench.geometry.acc_l_words if common["core"] else bench.geometry.acc_d_words
    acc = bench.pick(0, depth - pixels.rows * -(-groups * 8 // columns))
    fields = common | places | {"groups": groups, "acc": acc, "rows": pixels.rows, "shift": 9, "from_sum": 0}
    return [*configure, codec.requantize(**fields)]


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("maker", [join, join_ties, pool_max, pool_average, requantize], ids=lambda m: m.__name__)
def test_all_executions_agree(
    maker: Callable[[Bench], list[int]],
    seed: int,
    small_geometry: Geometry,
    small_checked_emulators: dict[str, Emulator],
) -> None:
    bench = Bench(small_geometry, small_checked_emulators, np.random.default_rng(3000 + seed))
    words = maker(bench)
    bench.compare(words)
    expected = expected_records(pack(words), np.zeros(0, np.uint8), small_geometry)
    assert np.array_equal(small_checked_emulators["native"].run_log(), expected)
