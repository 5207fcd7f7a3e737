# SPDX-License-Identifier: Apache-2.0
"""Blocks of expansion, depthwise convolution and projection run fused, and compute what the integer layers say."""

from collections.abc import Iterator

import numpy as np
import pytest

from hetfab.hls.build.emulator import Bodies, Emulator, build_emulator
from hetfab.overlay.bind import BoundProgram
from hetfab.overlay.costs.program_cost import expected_log
from hetfab.overlay.model.bound_model import FedModel
from hetfab.overlay.model.cnn.integer import IntegerCnn
from hetfab.overlay.model.cnn.integer_reader import read_integers
from hetfab.overlay.model.cnn.window import Window
from hetfab.overlay.model.reader import bindings_of, check_model, normalise
from hetfab.quantize.cnn.post_training import quantize_cnn
from hetfab.quantize.widths import Widths
from tests.image_programs import SMALL_IMAGES, Samples, bound_images, differing
from tests.programs import run_emulated, run_golden
from tests.random_cnns import CnnBuilder

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


def on_chip(integers: IntegerCnn, bound: BoundProgram) -> list[str]:
    """Names of tensors without a place in DRAM."""
    images = {image.name for image in bound.program.images}
    return [name for name, tensor in integers.stored.items() if tensor.name not in images]


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
