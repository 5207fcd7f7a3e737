# SPDX-License-Identifier: Apache-2.0
"""Layers whose instructions are mixed compute the logits although feature maps and contexts are used again."""

from collections.abc import Callable

import numpy as np
import pytest

from hetfab.overlay.design import IMAGE_DESIGN, default_design
from hetfab.overlay.model.cnn.integer import IntegerCnn
from tests.image_programs import computes_logits
from tests.integer_cnns import IntegerBuilder, square

GEOMETRY = default_design(IMAGE_DESIGN).geometry


def pooled() -> IntegerCnn:
    """The result of the last convolution is stored while what it reads is still pooled."""
    build = IntegerBuilder((24, 24, 3))
    read = build.conv(build.conv(build.input, 32, square(3, pad=1)), 32, square(1))
    return build.finish(build.conv(build.largest(read, square(3, pad=1)), 64, square(1)))


def pooled_twice() -> IntegerCnn:
    """What is pooled of the second convolution is stored while the first one's result is still pooled."""
    build = IntegerBuilder((24, 24, 3))
    read = build.conv(build.input, 32, square(3, pad=1))
    read = build.largest(build.conv(read, 32, square(1)), square(3, pad=1))
    read = build.largest(build.conv(read, 128, square(1)), square(3, pad=1))
    return build.finish(build.conv(read, 8, square(1)))


def side_by_side(kernels: tuple[int, int], channels: tuple[int, int]) -> IntegerCnn:
    """Two convolutions of one tensor; only the first one adds a tensor."""
    build = IntegerBuilder((24, 24, 3))
    read = build.conv(build.input, 32, square(3, pad=1))
    added = build.conv(build.conv(read, 32, square(1)), channels[0], square(1))
    one = build.conv(read, channels[0], square(kernels[0], pad=kernels[0] // 2), added=added)
    two = build.conv(read, channels[1], square(kernels[1], pad=kernels[1] // 2))
    return build.finish(build.conv(one, channels[1], square(1), added=two))


def nine_of_one_tensor() -> IntegerCnn:
    build = IntegerBuilder((8, 8, 3))
    read = build.conv(build.input, 32, square(3, pad=1))
    found = [build.conv(read, 32, square(3, pad=1)), *(build.conv(read, 32, square(1)) for _ in range(8))]
    total = found[0]
    for one in found[1:]:
        total = build.add(total, one)
    return build.finish(total)


def of_two_sizes() -> IntegerCnn:
    """Two convolutions of one tensor, of which the one that is pooled has the smaller result."""
    build = IntegerBuilder((16, 16, 3))
    read = build.conv(build.input, 32, square(3, pad=1))
    one, two = build.conv(read, 32, square(3, pad=1)), build.conv(read, 32, square(1, 2))
    pooled = build.largest(two, square(2, 2))
    return build.finish(build.conv(one, 32, square(4, 4), added=pooled))


@pytest.mark.parametrize(
    "network",
    [
        pytest.param(pooled, id="pooled"),
        pytest.param(pooled_twice, id="pooled twice"),
        pytest.param(lambda: side_by_side((3, 1), (32, 32)), id="side by side"),
        pytest.param(lambda: side_by_side((1, 3), (128, 64)), id="side by side, swapped"),
        pytest.param(nine_of_one_tensor, id="nine of one tensor"),
        pytest.param(of_two_sizes, id="of two sizes"),
    ],
)
def test_mixed_layers_compute_the_logits(network: Callable[[], IntegerCnn]) -> None:
    integers = network()
    sample = np.random.default_rng(1).integers(0, 256, (3, *integers.input.shape[:2])).astype(np.float32)
    assert computes_logits(integers, sample, GEOMETRY)
