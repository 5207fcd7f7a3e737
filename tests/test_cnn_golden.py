# SPDX-License-Identifier: Apache-2.0
"""The golden functions of convolutional networks against onnxruntime on integers, and against their definitions."""

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx.helper
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from hetfab.overlay.isa.arithmetic import Integers
from hetfab.overlay.model.cnn.golden import add_q8, average_q8, convolve, max_pool, multiply
from hetfab.overlay.model.cnn.window import AutoPad, Window, divisors, rounded_up, same_padding
from hetfab.overlay.model.runtime import run_model

FLOAT = onnx.TensorProto.FLOAT
Images = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Case:
    """An image, a window that fits it, and how ONNX writes that window."""

    size: tuple[int, int]
    window: Window
    attributes: dict[str, Any]
    seed: int


def pairs(low: int, high: int) -> st.SearchStrategy[tuple[int, int]]:
    return st.tuples(st.integers(low, high), st.integers(low, high))


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Every combination of kernel, strides, dilations, pads and auto_pad, on images of one pixel and more."""
    size, kernel, strides = draw(pairs(1, 9)), draw(pairs(1, 4)), draw(pairs(1, 3))
    mode = draw(st.sampled_from(AutoPad))
    # onnxruntime does not run SAME padding with dilations.
    same = mode in (AutoPad.SAME_UPPER, AutoPad.SAME_LOWER)
    dilations = (1, 1) if same else draw(pairs(1, 3))
    attributes: dict[str, Any] = {"kernel_shape": kernel, "strides": strides, "auto_pad": mode.value}
    attributes["dilations"] = dilations
    if mode is AutoPad.NOTSET:
        pads = tuple(draw(st.integers(0, 3)) for _ in range(4))
        window = Window(kernel, strides, dilations, (pads[0], pads[1], pads[2], pads[3]))
        attributes["pads"] = pads
    else:
        window = same_padding(Window(kernel, strides, dilations), size, mode)
    assume(min(window.positions(size)) > 0)
    return Case(size, window, attributes, draw(st.integers(0, 2**32 - 1)))


def in_runtime(operator: str, images: Images, attributes: dict[str, Any], *others: Images, opset: int = 20) -> Images:
    """One operator in onnxruntime, on NCHW."""
    names = [f"i{index}" for index in range(1 + len(others))]
    inputs = [onnx.helper.make_tensor_value_info(name, FLOAT, None) for name in names]
    node = onnx.helper.make_node(operator, names, ["y"], **attributes)
    output = onnx.helper.make_tensor_value_info("y", FLOAT, None)
    graph = onnx.helper.make_graph([node], "one", inputs, [output])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", opset)], ir_version=10)
    result: Images = run_model(model, dict(zip(names, (images, *others), strict=True)), ["y"])[0]
    return result


def channels_last(images: npt.NDArray[Any]) -> Integers:
    return images.transpose(0, 2, 3, 1).astype(np.int64)


def integers(random: np.random.Generator, shape: tuple[int, ...], low: int, high: int) -> Images:
    return random.integers(low, high, shape).astype(np.float32)


@settings(max_examples=400, deadline=None)
@given(
    case=cases(),
    batch=st.integers(1, 3),
    groups=st.integers(1, 4),
    inputs=st.integers(1, 3),
    outputs=st.integers(1, 3),
    unsigned=st.booleans(),
)
def test_every_convolution_equals_onnxruntime(
    case: Case, batch: int, groups: int, inputs: int, outputs: int, unsigned: bool
) -> None:
    """Groups with one input channel each are depthwise."""
    random = np.random.default_rng(case.seed)
    low, high = (0, 256) if unsigned else (-128, 128)
    images = integers(random, (batch, groups * inputs, *case.size), low, high)
    weight = integers(random, (groups * outputs, inputs, *case.window.kernel), -127, 128)
    expected = in_runtime("Conv", images, case.attributes | {"group": groups}, weight)
    found = convolve(channels_last(images), weight.transpose(2, 3, 1, 0).astype(np.int64), case.window, groups=groups)
    assert np.array_equal(found, channels_last(expected))


@settings(max_examples=100, deadline=None)
@given(case=cases(), groups=st.integers(1, 3))
def test_images_that_are_held_shifted_are_padded_with_the_shift(case: Case, groups: int) -> None:
    """A core that takes signed bytes holds ``x - 128`` for unsigned ``x``; all taps count, those on padding too."""
    random = np.random.default_rng(case.seed)
    image = random.integers(0, 256, (1, *case.size, 2 * groups))
    weight = random.integers(-127, 128, (*case.window.kernel, 2, 3 * groups))
    shifted = convolve(image - 128, weight, case.window, groups=groups, padding=-128)
    assert np.array_equal(
        shifted + 128 * weight.sum(axis=(0, 1, 2)), convolve(image, weight, case.window, groups=groups)
    )


def pools(case: Case, up: bool) -> bool:
    """What the reader accepts of pooling: padding below the kernel, and no auto_pad that runtimes place differently."""
    window, mode = case.window, case.attributes["auto_pad"]
    within = all(pad < window.kernel[axis % 2] for axis, pad in enumerate(window.pads))
    gaps = any(stride > taps for stride, taps in zip(window.strides, window.kernel, strict=True))
    return within and not (up and mode != "NOTSET") and not (gaps and mode.startswith("SAME"))


@settings(max_examples=200, deadline=None)
@given(case=cases(), up=st.booleans(), unsigned=st.booleans())
def test_every_max_pooling_equals_onnxruntime(case: Case, up: bool, unsigned: bool) -> None:
    assume(pools(case, up))
    random = np.random.default_rng(case.seed)
    lowest = 0 if unsigned else -128
    images = integers(random, (2, 3, *case.size), lowest, lowest + 256)
    window = rounded_up(case.window, case.size) if up else case.window
    expected = in_runtime("MaxPool", images, case.attributes | {"ceil_mode": int(up)})
    assert np.array_equal(max_pool(channels_last(images), window, lowest), channels_last(expected))


@settings(max_examples=200, deadline=None)
@given(case=cases(), up=st.booleans(), include=st.booleans())
def test_every_average_equals_onnxruntime_to_one_step_of_q8(case: Case, up: bool, include: bool) -> None:
    """The sums are exact; the mean by reciprocal is within the bound of docs/arithmetic.md for uint8."""
    assume(pools(case, up))
    random = np.random.default_rng(case.seed)
    images = integers(random, (2, 3, *case.size), 0, 256)
    window = rounded_up(case.window, case.size) if up else case.window
    numbers = divisors(window, case.size, case.window.pads if include else (0, 0, 0, 0))
    attributes = case.attributes | {"ceil_mode": int(up), "count_include_pad": int(include)}
    expected = in_runtime("AveragePool", images, attributes)
    error = average_q8(channels_last(images), window, numbers) - 256.0 * expected.transpose(0, 2, 3, 1)
    assert np.abs(error).max() <= 0.996 + 256 * 255 * 2.0**-22


def test_the_mean_of_an_image_is_that_of_its_definition() -> None:
    image = np.random.default_rng(0).integers(-128, 128, (2, 7, 7, 5))
    found = average_q8(image, Window((7, 7)), np.full((1, 1), 49))
    for n in range(2):
        for c in range(5):
            exact = Fraction(256 * int(image[n, :, :, c].sum()), 49)
            assert abs(found[n, 0, 0, c] - exact) <= Fraction(749, 1000)


def test_products_beyond_float32_are_exact() -> None:
    rows, weight = np.full((1, 66_051), 255), np.full((66_051, 1), 127)
    rows[0, 0] = 254
    assert int(multiply(rows, weight)[0, 0]) == 127 * (255 * 66_051 - 1)


@pytest.mark.parametrize(
    ("residual", "biased", "expected"),
    [(3, 5, 3 * 256 + 10), (-8, 0, -2048), (0, 2**24, 2**23 - 1), (1, -(2**24), 256 - 2**23)],
)
def test_a_residual_joins_in_q8(residual: int, biased: int, expected: int) -> None:
    """With a multiplier of 4 and a shift of 1 the sums double, limited to 24 bits before the residual joins."""
    found = add_q8(np.array([residual]), np.array([biased]), np.array([4]), 1)
    assert found.tolist() == [expected]
