# SPDX-License-Identifier: Apache-2.0
"""DW: every instruction in all executions, and what it computes against a depthwise convolution written out."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hetfab.hls.build.emulator import Emulator
from hetfab.overlay.costs.program_cost import expected_records
from hetfab.overlay.design import Geometry
from hetfab.overlay.errors import StreamInvalidError
from hetfab.overlay.isa import codec
from hetfab.overlay.isa.codec import Segment
from hetfab.overlay.isa.golden import GoldenMachine
from hetfab.overlay.isa.spec import isa
from hetfab.overlay.isa.words import pack, program_address
from hetfab.overlay.layouts import depthwise_words, packed_rows
from hetfab.overlay.model.cnn.golden import convolve
from hetfab.overlay.model.cnn.window import Window
from tests.conftest import SMALL_GEOMETRY
from tests.test_instructions import Bench, word_fields

SEEDS = range(24)


def depthwise_fields(bench: Bench) -> dict[str, int]:
    """Fields of random shape that fit the memories."""
    pick, geometry = bench.pick, bench.geometry
    packed, out_packed = pick(0, 1), pick(0, 1)
    groups = pick(0, 2) * 2 if packed or out_packed else pick(0, 3)
    words = groups // (1 + packed)
    lines, stride = pick(0, 3), pick(1, 3)
    height = (max(lines, 1) - 1) * stride + 3
    top = pick(0, 2)
    bottom = min(pick(0, 2), height - top - 1)
    left, right, columns = pick(0, 2), pick(0, 2), pick(3, 6)
    image_lines = (lines - 1) * stride + 3 - top - bottom if lines else 0
    line_words = pick(columns * words, columns * words + 3)
    out_words = lines * ((left + columns + right - 3) // stride + 1) * groups // (1 + out_packed)
    return {
        "top": top, "bottom": bottom, "left": left, "right": right, "stride": stride - 1, "packed": packed,
        "unsigned": pick(0, 1), "signed": pick(0, 1), "out_packed": out_packed, "highest": pick(0, 255),
        "shift": int(bench.random.choice([0, 1, 7, 14, 40])), "lines": lines, "groups": groups, "columns": columns,
        "line_words": line_words, "exp": pick(0, geometry.exp_words - max(image_lines, 0) * line_words),
        "mid": pick(0, geometry.mid_words - out_words), "par": pick(0, geometry.dwp_words - words * (17 + 8 * packed)),
    }  # fmt: skip


def depthwise(bench: Bench) -> list[int]:
    return [codec.depthwise(**depthwise_fields(bench))]


def depthwise_small(bench: Bench) -> list[int]:
    """Small parameters, so that few results are limited."""
    records = bench.golden.memories["dwp_ram"]
    records[:, 1:4] = np.where(bench.random.random((len(records), 1)) < 0.5, 0, records[:, 1:4])
    return depthwise(bench)


def load_depthwise(bench: Bench) -> list[int]:
    return [codec.load_depthwise(**word_fields(bench, "dwp_ram"))]


def store_middle(bench: Bench) -> list[int]:
    """Pixels apart, so that no two are stored in one place, or joined."""
    pick, depth = bench.pick, bench.geometry.mid_words
    lines, row_beats, joined = pick(0, 6), pick(0, 9), pick(0, 1)
    columns = min(pick(1, 9), depth // max(1, lines * row_beats))
    distance = columns * row_beats if joined else pick(row_beats, row_beats + 9)
    length = distance if joined else columns * distance
    return [
        codec.store_middle(
            ram=pick(0, depth - lines * columns * row_beats),
            lines=lines,
            columns=columns - 1,
            row_beats=row_beats,
            joined=joined,
            pixel_stride=distance,
            stride_blocks=pick(-(-length // 8), -(-length // 8) + 2),
            address=program_address(Segment.OUTPUT, 8 * pick(0, 40)),
        )
    ]


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    "maker", [depthwise, depthwise_small, load_depthwise, store_middle], ids=lambda maker: maker.__name__
)
def test_all_executions_agree(
    maker: Callable[[Bench], list[int]],
    seed: int,
    small_geometry: Geometry,
    small_checked_emulators: dict[str, Emulator],
) -> None:
    bench = Bench(small_geometry, small_checked_emulators, np.random.default_rng(4000 + seed))
    words = maker(bench)
    bench.compare(words)
    expected = expected_records(pack(words), np.zeros(0, np.uint8), small_geometry)
    assert np.array_equal(small_checked_emulators["native"].run_log(), expected)


@given(
    st.integers(0, 2**32 - 1), st.sampled_from([4, 8]), st.booleans(), st.integers(1, 2), st.integers(0, 2),
    st.integers(0, 2), st.integers(1, 6), st.integers(1, 6), st.booleans(), st.booleans(),
)  # fmt: skip
def test_it_is_a_depthwise_convolution(
    seed: int, bits: int, unsigned: bool, stride: int, top: int, left: int, height: int, width: int, down: bool,
    across: bool,
) -> None:  # fmt: skip
    random = np.random.default_rng(seed)
    bottom, right = int(down), int(across)
    if height + top + bottom < 3 or width + left + right < 3:
        return
    low, high = (0, 2**bits - 1) if unsigned else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    image = random.integers(low, high + 1, (1, height, width, 32))
    weight = random.integers(-(2 ** (bits - 1)), 2 ** (bits - 1), (3, 3, 32))
    bias = random.integers(-500, 500, 32)
    window = Window(kernel=(3, 3), strides=(stride, stride), pads=(top, left, bottom, right))
    expected = convolve(image, weight[:, :, np.newaxis], window, groups=32)[0] + bias
    machine = GoldenMachine(SMALL_GEOMETRY)
    packed = bits == 4
    content = packed_rows(image.reshape(-1, 32)) if packed else image.astype(np.uint8)
    put(machine, "exp_ram", 5, content)
    put(machine, "dwp_ram", 2, depthwise_words(weight, bias, np.full(32, 3), packed=packed))
    lines = expected.shape[0]
    surplus = height + top + bottom - (lines - 1) * stride - 3
    if surplus > bottom:
        return  # rows that no window reads: the compiler leaves them out
    word = codec.depthwise(
        top=top, bottom=bottom - surplus, left=left, right=right, stride=stride - 1, packed=int(packed),
        unsigned=int(unsigned), signed=1, out_packed=0, highest=127, shift=4, lines=lines, groups=4, columns=width,
        exp=5, line_words=width * 32 * bits // 64, mid=1, par=2,
    )  # fmt: skip
    machine.execute(word.to_bytes(16, "little"))
    results = machine.memories["mid_ram"].reshape(-1)[8:][: expected.size].view(np.int8).reshape(expected.shape)
    assert np.array_equal(results, np.clip(np.rint(expected * 3 / 16), -128, 127))


def put(machine: GoldenMachine, memory: str, first: int, values: npt.NDArray[Any]) -> None:
    content = np.frombuffer(values.tobytes(), np.uint8)
    machine.memories[memory].reshape(-1)[8 * first : 8 * first + len(content)] = content


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"groups": 3}, "3 groups"),
        ({"columns": 1, "left": 1}, "an image of 2 columns and 3 lines"),
        ({"top": 2, "bottom": 1}, "an image of 4 columns and 0 lines"),
    ],
)
def test_shapes_without_windows_are_refused(change: dict[str, int], found: str) -> None:
    fields = dict.fromkeys((field.name for field in isa().operation("depthwise").fields), 0)
    word = codec.depthwise(**(fields | {"lines": 1, "columns": 4, "packed": 1, "groups": 2} | change))
    with pytest.raises(StreamInvalidError) as caught:
        GoldenMachine(SMALL_GEOMETRY).execute(word.to_bytes(16, "little"))
    assert found in caught.value.found
