# SPDX-License-Identifier: Apache-2.0
"""Convolutions by strips: what LOAD lays out and the cores walk is the convolution of the definition.

Images, kernels and tiles of any shape, run by the golden model and the emulators, which agree on all memories.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from hetfab.hls.build.emulator import Emulator
from hetfab.overlay.design import Geometry
from hetfab.overlay.isa import codec
from hetfab.overlay.isa.codec import Segment
from hetfab.overlay.isa.golden import GoldenMachine
from hetfab.overlay.isa.words import program_address
from hetfab.overlay.layouts import packed_rows, padded, plane_words, weight_words
from tests.conftest import SMALL_GEOMETRY
from tests.test_instructions import Bench

Integers = npt.NDArray[np.int64]
IMAGE = program_address(Segment.FEATURES, 0)
#: Channels of a pixel in DRAM are multiples of these.
PIXEL_CHANNELS = 32
#: The semaphore that says that a tile is loaded.
LOADED = 1
#: Output channels of a first layer: more than a group of GEMM-L has.
OUTPUTS = 9
SOME = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


@dataclass(frozen=True)
class Strip:
    """Output pixels of one row: its row, the first column, and the bank that holds it."""

    row: int
    column: int
    bank: int


@dataclass(frozen=True)
class Case:
    """A convolution and a tile of it on one core.

    Attributes:
        core: 0 for GEMM-D, 1 for GEMM-L.
        image: Integers ``[height, width, channels]``.
        weight: Integers ``[kernel height, kernel width, channels, outputs]``.
        stride: Of rows and columns.
        padding: Zeros on all sides.
        columns: Output pixels of a strip.
        segments: Runs of strips with one first column, their rows one after the other.
        unsigned: Whether the image's integers are unsigned.
        packed: Whether they are stored two a byte.
        planes: Bits of a weight on GEMM-L.
        bipolar: Whether weights are -1 and 1.
    """

    core: int
    image: Integers
    weight: Integers
    stride: int
    padding: int
    columns: int
    segments: tuple[tuple[Strip, ...], ...]
    unsigned: bool
    packed: bool
    planes: int
    bipolar: bool

    @property
    def strips(self) -> list[Strip]:
        return [strip for segment in self.segments for strip in segment]

    @property
    def bits(self) -> int:
        """Bits of an activation as the cores see it."""
        return 4 if self.packed else 8

    @property
    def kernel(self) -> tuple[int, int]:
        return self.weight.shape[0], self.weight.shape[1]


def integers(draw: st.DrawFn, low: int, high: int, shape: tuple[int, ...]) -> Integers:
    """An array of integers from ``low`` to ``high``, with both of them in it."""
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    values = random.integers(low, high + 1, shape)
    return np.where(random.random(shape) < 0.2, random.choice([low, high], shape), values)


def drawn_image(draw: st.DrawFn, shape: tuple[int, ...], bits: int, unsigned: bool) -> Integers:
    return integers(
        draw, 0 if unsigned else -(1 << bits - 1), (1 << bits) - 1 if unsigned else (1 << bits - 1) - 1, shape
    )


def drawn_weight(draw: st.DrawFn, shape: tuple[int, ...], core: int, packed: bool) -> tuple[Integers, int, bool]:
    """Weights that the core takes with their planes, and whether they are bipolar."""
    if core == 0:
        largest = 7 if packed else 127
        return integers(draw, -largest, largest, shape), 0, False
    planes = draw(st.integers(1, 4))
    if planes == 1 and draw(st.booleans()):
        return np.where(integers(draw, 0, 1, shape) > 0, 1, -1), 1, True
    return integers(draw, -(1 << planes - 1), (1 << planes - 1) - 1, shape), planes, False


@st.composite
def cases(draw: st.DrawFn, geometry: Geometry) -> Case:
    """Any tile of any convolution that the memories of the design hold, in one or two runs of strips."""
    core, packed, unsigned = draw(st.integers(0, 1)), draw(st.booleans()), draw(st.booleans())
    kernel = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    stride, padding = draw(st.integers(1, 3)), draw(st.integers(0, max(kernel) - 1))
    channels = draw(st.integers(1, PIXEL_CHANNELS))
    height, width = (draw(st.integers(max(k - 2 * padding, 1), 9)) for k in kernel)
    rows, columns = ((size + 2 * padding - k) // stride + 1 for size, k in zip((height, width), kernel, strict=True))
    array_rows = geometry.gemm_l_rows if core else geometry.gemm_d_rows
    tile_columns = draw(st.integers(1, min(columns, 3)))
    segments: list[tuple[Strip, ...]] = []
    banks = 0
    for _ in range(draw(st.integers(1, 2))):
        if banks == array_rows:
            break
        first_row, first_column = draw(st.integers(0, rows - 1)), draw(st.integers(0, columns - tile_columns))
        count = draw(st.integers(1, min(array_rows - banks, rows - first_row)))
        segments.append(tuple(Strip(first_row + i, first_column, banks + i) for i in range(count)))
        banks += count
    weight, planes, bipolar = drawn_weight(draw, (*kernel, channels, draw(st.integers(1, 20))), core, packed)
    image = drawn_image(draw, (height, width, channels), 4 if packed else 8, unsigned)
    case = Case(core, image, weight, stride, padding, tile_columns, tuple(segments), unsigned, packed, planes, bipolar)
    assume(fits(case, geometry))
    return case


def fits(case: Case, geometry: Geometry) -> bool:
    """Whether the on-chip memories hold the tile."""
    beats = case.kernel[0] * line_beats(case)
    steps = case.kernel[0] * case.kernel[1] * pixel_beats(case)
    if case.core == 0:
        groups = -(-case.weight.shape[3] // geometry.gemm_d_cols)
        sums = len(case.strips) * case.columns * groups
        return (
            beats <= geometry.act_d_words
            and 2 * steps * groups <= geometry.wgt_d_words
            and sums <= geometry.acc_d_words
        )
    groups = -(-case.weight.shape[3] // geometry.gemm_l_cols)
    words = case.kernel[0] * case.kernel[1] * case.planes * groups
    sums = len(case.strips) * case.columns * groups
    return beats // 2 <= geometry.act_l_words and words <= geometry.wgt_l_words and sums <= geometry.acc_l_words


def pixel_beats(case: Case) -> int:
    return PIXEL_CHANNELS * case.bits // 64


def line_beats(case: Case) -> int:
    """Beats of a strip's line: of the pixels that its output pixels need."""
    return ((case.columns - 1) * case.stride + case.kernel[1]) * pixel_beats(case)


def stored_image(case: Case) -> tuple[npt.NDArray[np.uint8], int]:
    """The image in DRAM, and the blocks of a row."""
    height, width, channels = case.image.shape
    pixels = np.zeros((height, width, PIXEL_CHANNELS), np.int64)
    pixels[:, :, :channels] = case.image
    rows = pixels.reshape(height, -1)
    content = packed_rows(rows) if case.packed else rows.astype(np.uint8)
    blocks = -(-content.shape[1] // 64)
    stored = np.zeros((height, 64 * blocks), np.uint8)
    stored[:, : content.shape[1]] = content
    return stored, blocks


def load_of(case: Case, segment: tuple[Strip, ...], blocks: int) -> int:
    """The load of a run of strips: what of its lines is in the image, and how many zeros are before."""
    height, width, _ = case.image.shape
    first_line = segment[0].row * case.stride - case.padding
    first_pixel = segment[0].column * case.stride - case.padding
    total = (len(segment) - 1) * case.stride + case.kernel[0]
    pixels = (case.columns - 1) * case.stride + case.kernel[1]
    top, left = max(0, -first_line), max(0, -first_pixel)
    lines = max(0, min(height, first_line + total) - max(0, first_line))
    read = max(0, min(width, first_pixel + pixels) - max(0, first_pixel))
    place = max(0, first_line) * 64 * blocks + max(0, first_pixel) * 8 * pixel_beats(case)
    return codec.load_lines(
        ram=0,
        lines=lines if read else 0,
        first_bank=segment[0].bank,
        banks=len(segment),
        top=min(top, total),
        slot=5,
        signal0=LOADED if segment is case.segments[-1] else 0,
        left=min(left, pixels) * pixel_beats(case),
        beats=read * pixel_beats(case) if lines else 0,
        address=IMAGE + place,
    )


def product_of(case: Case, groups: int) -> int:
    """The product of the tile."""
    run = case.kernel[1] * pixel_beats(case)
    common = {
        "act": 0,
        "wgt": 0,
        "acc": 0,
        "accumulate": 0,
        "unsigned": int(case.unsigned),
        "banks": len(case.strips),
        "columns": case.columns - 1,
        "lines": case.kernel[0],
        "wait0": LOADED,
        "col_groups": groups,
    }
    step = case.stride * pixel_beats(case)
    if case.core == 0:
        return codec.matmul_lines(
            **common, packed=int(case.packed), run=run, step_words=step, line_words=line_beats(case)
        )
    return codec.matmul_planes_lines(
        **common,
        slices=1 if case.packed else 2,
        planes=case.planes,
        bipolar=int(case.bipolar),
        run=case.kernel[1],
        step_words=step // 2,
        line_words=line_beats(case) // 2,
    )


def put_weights(machine: GoldenMachine, case: Case) -> int:
    """Writes the weights to the core's memory, channels as pixels have them; returns their column groups."""
    geometry = machine.geometry
    outputs = case.weight.shape[3]
    whole = np.full((*case.kernel, PIXEL_CHANNELS, outputs), int(case.bipolar))
    whole[:, :, : case.weight.shape[2]] = case.weight
    rows = whole.reshape(-1, outputs)
    if case.core == 0:
        memory, columns = "wgt_d_ram", geometry.gemm_d_cols
        content = weight_words(rows, columns, len(rows), packed=case.packed)
    else:
        memory, columns = "wgt_l_ram", geometry.gemm_l_cols
        content = plane_words(rows, columns, len(rows), case.planes, bipolar=case.bipolar)
    words = content.reshape(-1, 4 * columns)
    machine.memories[memory][: len(words)] = words
    return padded(outputs, columns) // columns


def offset_of(case: Case) -> Integers:
    """What a core's sums lack of the convolution's, by output channel: what the compiler puts into the bias."""
    sums = case.weight.reshape(-1, case.weight.shape[3]).sum(axis=0)
    if case.bipolar:
        # Channels that pad a pixel have the weight +1.
        sums = sums + case.kernel[0] * case.kernel[1] * (PIXEL_CHANNELS - case.weight.shape[2])
    half = 1 << case.bits - 1
    if case.core == 0:
        return np.asarray(half * sums if case.unsigned else 0 * sums)
    negative = (case.weight < 0).reshape(-1, case.weight.shape[3]).sum(axis=0) if case.bipolar else 0 * sums
    return np.asarray(-(0 if case.unsigned else half) * sums - ((1 << case.bits) - 1) * negative)


def pixel_of(case: Case, row: int, column: int) -> Integers:
    """An output pixel by the definition."""
    padded_image = np.pad(case.image, ((case.padding,) * 2, (case.padding,) * 2, (0, 0)))
    y, x = row * case.stride, column * case.stride
    window = padded_image[y : y + case.kernel[0], x : x + case.kernel[1]]
    return np.asarray(np.einsum("hwc,hwcn->n", window, case.weight))


@pytest.fixture
def bench(small_geometry: Geometry, small_checked_emulators: dict[str, Emulator]) -> Bench:
    """The golden model and the emulators of the small design."""
    return Bench(small_geometry, small_checked_emulators, np.random.default_rng(0))


@SOME
@given(data=st.data())
def test_tiles_of_convolutions(bench: Bench, small_geometry: Geometry, data: st.DataObject) -> None:
    case = data.draw(cases(small_geometry))
    stored, blocks = stored_image(case)
    bench.put(Segment.FEATURES, 0, stored)
    context = codec.configure_lines(
        slot=5,
        core=case.core,
        packed=int(case.packed),
        kernel_lines=case.kernel[0],
        line_stride=case.stride,
        line_beats=line_beats(case),
        stride_blocks=blocks,
    )
    groups = put_weights(bench.golden, case)
    loads = [load_of(case, segment, blocks) for segment in case.segments]
    bench.compare([context, *loads, product_of(case, groups)])
    memory, columns = (
        ("acc_l_ram", small_geometry.gemm_l_cols) if case.core else ("acc_d_ram", small_geometry.gemm_d_cols)
    )
    rows = case.columns * len(case.strips)
    sums = bench.golden.memories[memory][: rows * groups].view("<i4").reshape(case.columns, -1, groups * columns)
    for strip in case.strips:
        for x in range(case.columns):
            found = sums[x, strip.bank, : case.weight.shape[3]] + offset_of(case)
            np.testing.assert_array_equal(found, pixel_of(case, strip.row, strip.column + x))


@dataclass(frozen=True)
class Samples:
    """A first layer: pixels of a few bytes, and a tile of it on one core.

    Attributes:
        core: 0 for GEMM-D, 1 for GEMM-L.
        channels: Bytes of a pixel.
        kernel: Rows and columns of the kernel.
        stride: Of rows and columns.
        columns: Output pixels of a strip.
        banks: Strips.
        first: First output column.
        weight: Integers ``[kernel rows, kernel columns * channels, outputs]``.
        planes: Bits of a weight on GEMM-L.
    """

    core: int
    channels: int
    kernel: int
    stride: int
    columns: int
    banks: int
    first: int
    weight: Integers
    planes: int

    @property
    def run(self) -> int:
        """Beats of a window: whole words on GEMM-L."""
        return 4 if self.core else -(-self.kernel * self.channels // 8)

    @property
    def step(self) -> int:
        return self.stride * self.channels

    @property
    def offset(self) -> int:
        """First byte of the first window in its beat."""
        return self.first * self.step % 8

    @property
    def beats(self) -> int:
        return -(-(self.offset + (self.columns - 1) * self.step + 8 * self.run) // 8)

    @property
    def lines(self) -> int:
        return (self.banks - 1) * self.stride + self.kernel

    @property
    def blocks(self) -> int:
        """Blocks of a row in DRAM."""
        return -(-(self.first * self.step // 8 + self.beats) // 8)


@st.composite
def samples(draw: st.DrawFn, geometry: Geometry) -> Samples:
    """Pixels of one to four bytes, whose windows begin at any byte."""
    core, channels, kernel, stride = (draw(st.integers(*ends)) for ends in ((0, 1), (1, 4), (1, 3), (1, 3)))
    weight, planes, bipolar = drawn_weight(draw, (kernel, kernel * channels, OUTPUTS), core, packed=False)
    columns, banks, first = (draw(st.integers(*ends)) for ends in ((1, 4), (1, geometry.gemm_l_rows), (0, 5)))
    case = Samples(core, channels, kernel, stride, columns, banks, first, weight, planes)
    assume(not bipolar and case.beats <= geometry.gather_beats)
    return case


def words_of(case: Samples) -> list[int]:
    """The instructions of a tile: its context, its load and its product."""
    groups = -(-OUTPUTS // (SMALL_GEOMETRY.gemm_l_cols if case.core else SMALL_GEOMETRY.gemm_d_cols))
    common = {"act": 0, "wgt": 0, "acc": 0, "accumulate": 0, "unsigned": 1, "banks": case.banks, "wait0": LOADED}
    common |= {"columns": case.columns - 1, "lines": case.kernel, "col_groups": groups}
    if case.core:
        product = codec.matmul_planes_lines(
            **common, slices=2, planes=case.planes, bipolar=0, run=1, step_words=2, line_words=2 * case.columns
        )
    else:
        product = codec.matmul_lines(
            **common, packed=0, run=case.run, step_words=case.run, line_words=case.run * case.columns
        )
    return [
        codec.configure_windows(
            slot=2,
            core=case.core,
            kernel_lines=case.kernel,
            line_stride=case.stride,
            run_beats=case.run,
            step_bytes=case.step,
            stride_blocks=case.blocks,
        ),
        codec.load_windows(
            ram=0,
            lines=case.lines,
            first_bank=0,
            banks=case.banks,
            offset=case.offset,
            slot=2,
            beats=case.beats,
            columns=case.columns - 1,
            address=IMAGE + case.first * case.step // 8 * 8,
            signal0=LOADED,
        ),
        product,
    ]


@SOME
@given(data=st.data())
def test_windows_of_samples(bench: Bench, small_geometry: Geometry, data: st.DataObject) -> None:
    case = data.draw(samples(small_geometry))
    random = np.random.default_rng(data.draw(st.integers(0, 999)))
    stored = random.integers(0, 256, (case.lines, 64 * case.blocks), dtype=np.uint8)
    bench.put(Segment.FEATURES, 0, stored)
    whole = np.zeros((case.kernel, 8 * case.run, OUTPUTS), np.int64)
    whole[:, : case.kernel * case.channels] = case.weight
    rows = whole.reshape(-1, OUTPUTS)
    if case.core:
        memory, weights, width = "acc_l_ram", "wgt_l_ram", small_geometry.gemm_l_cols
        content = plane_words(rows, width, len(rows), case.planes, bipolar=False)
    else:
        memory, weights, width = "acc_d_ram", "wgt_d_ram", small_geometry.gemm_d_cols
        content = weight_words(rows, width, len(rows), packed=False)
    words = content.reshape(-1, 4 * width)
    bench.golden.memories[weights][: len(words)] = words
    bench.compare(words_of(case))
    sums = bench.golden.memories[memory][: case.columns * case.banks * padded(OUTPUTS, width) // width].view("<i4")
    found = sums.reshape(case.columns, case.banks, -1)[..., :OUTPUTS] + (
        0 if case.core else 128 * case.weight.sum(axis=(0, 1))
    )
    for bank in range(case.banks):
        for x in range(case.columns):
            begin = (case.first + x) * case.step
            window = stored[bank * case.stride :][: case.kernel, begin : begin + case.kernel * case.channels]
            expected = np.einsum("hk,hkn->n", window.astype(np.int64), case.weight)
            np.testing.assert_array_equal(found[x, bank], expected)


@SOME
@given(data=st.data())
def test_stored_strips_are_loaded_again_as_pixels(bench: Bench, small_geometry: Geometry, data: st.DataObject) -> None:
    """What two jobs store, each its channels of its strips, is what a residual's load of the rows finds."""
    draw = data.draw
    banks, columns, beats = (draw(st.integers(1, 3)) for _ in range(3))
    other = draw(st.integers(0, 3))
    pixel, joined = beats + other, int(other == 0 and draw(st.booleans()))
    random = np.random.default_rng(draw(st.integers(0, 999)))
    strips = random.integers(0, 256, (columns, banks, beats, 8), dtype=np.uint8)
    bench.golden.memories["out_ram"][: columns * banks * beats] = strips.reshape(-1, 8)
    blocks = -(-(columns * pixel) // 8)
    place = program_address(Segment.OUTPUT, 8 * draw(st.integers(0, 3)))
    store = codec.store_runs(
        ram=0,
        banks=banks,
        columns=columns - 1,
        ram_banks=banks,
        row_beats=beats,
        stride_blocks=blocks,
        joined=joined,
        pixel_stride=columns * beats if joined else pixel,
        address=place,
    )
    load = codec.load_residual(
        ram=0, rows=banks, columns=columns - 1, run_stride=pixel, run_beats=beats, stride_blocks=blocks, address=place
    )
    words = codec.sync(engine=codec.Engine.STORE, signal0=LOADED), codec.sync(engine=codec.Engine.LOAD, wait0=LOADED)
    bench.compare([store, *words, load])
    found = bench.golden.memories["res_ram"][: columns * banks * beats].reshape(banks, columns, beats, 8)
    np.testing.assert_array_equal(found, strips.transpose(1, 0, 2, 3))
