# SPDX-License-Identifier: Apache-2.0
"""Parses windows, Pad, which becomes a part of them, and the operators that pool over them."""

from dataclasses import replace
from typing import Any

import numpy as np
import onnx

from hetfab.overlay.errors import counted
from hetfab.overlay.isa.arithmetic import LARGEST_DEGREE
from hetfab.overlay.model.cnn.draft import Draft, RefusedError
from hetfab.overlay.model.cnn.layers import AveragePool, Flatten, MaxPool, Shape
from hetfab.overlay.model.cnn.window import (
    NO_PADDING,
    AutoPad,
    Padding,
    Pair,
    Window,
    divisors,
    rounded_up,
    same_padding,
)
from hetfab.overlay.model.layers import attributes

#: ReduceMean has its axes as an input from this opset on.
_AXES_ARE_INPUT = 18


def read_pair(values: object, default: Pair = (1, 1)) -> Pair:
    """A list of two numbers."""
    if not isinstance(values, list):
        return default
    first, second = values
    return int(first), int(second)


def read_window(
    node: onnx.NodeProto, shape: Shape, kernel: Pair, *, pools: bool, around: Padding = NO_PADDING
) -> tuple[Window, Padding]:
    """The window of an operator with all its padding, and the padding that the operator itself states.

    Args:
        node: The operator.
        shape: Of what it reads.
        kernel: Rows and columns of taps.
        pools: Whether it pools.
        around: Padding that a Pad before it adds.
    """
    values: dict[str, Any] = attributes(node)
    mode = AutoPad(values.get("auto_pad", b"NOTSET").decode())
    size = shape[1], shape[2]
    window = Window(kernel, read_pair(values.get("strides")), read_pair(values.get("dilations")))
    if mode is AutoPad.NOTSET:
        pads = values.get("pads")
        above, left, below, right = pads if isinstance(pads, list) else NO_PADDING
        window = replace(window, pads=(above, left, below, right))
    else:
        _check_auto_pad(window, mode, pools=pools)
        window = same_padding(window, size, mode)
    if around != NO_PADDING:
        if mode in (AutoPad.SAME_UPPER, AutoPad.SAME_LOWER):
            raise RefusedError("auto_pad and a Pad before it meet", "write the pads as numbers")
        above, left, below, right = (own + more for own, more in zip(window.pads, around, strict=True))
        window = replace(window, pads=(above, left, below, right))
    stated = window.pads
    if values.get("ceil_mode", 0):
        if mode is not AutoPad.NOTSET:
            raise RefusedError("ceil_mode and auto_pad meet", "write the pads as numbers")
        window = rounded_up(window, size)
    if window.dilations[0] != window.dilations[1]:
        raise RefusedError(
            f"its dilations {list(window.dilations)} differ, and no engine reads such windows",
            "use one dilation for rows and columns",
        )
    if min(window.positions(size)) < 1:
        raise RefusedError(
            f"its window reaches over {window.reach[0]} x {window.reach[1]} pixels of {size[0]} x {size[1]}",
            "use larger images, or a smaller window",
        )
    return window, stated


def _check_auto_pad(window: Window, mode: AutoPad, *, pools: bool) -> None:
    same = mode in (AutoPad.SAME_UPPER, AutoPad.SAME_LOWER)
    if same and window.dilations != (1, 1):
        raise RefusedError("onnxruntime does not run auto_pad with dilations", "write the pads as numbers")
    if same and pools and any(stride > taps for stride, taps in zip(window.strides, window.kernel, strict=True)):
        raise RefusedError("runtimes place auto_pad differently where strides pass the window", "write the pads")


def parse_pad(draft: Draft, node: onnx.NodeProto) -> None:
    """Zeros around an image, which become padding of the convolutions that read it."""
    shape, mode = draft.image(node.input[0]), attributes(node).get("mode", b"constant")
    pads, value, axes = (draft.constant(name) if name else None for name in [*node.input[1:], "", "", ""][:3])
    if pads is None or any(name and draft.constant(name) is None for name in node.input[1:]):
        raise RefusedError("its pads are computed, not constant", "export the model for one size of images")
    if mode != b"constant" or (value is not None and np.any(value != 0)):
        raise RefusedError("it pads with other than zeros", "use zeros around images")
    places = list(range(4)) if axes is None else [int(axis) % 4 for axis in np.asarray(axes).reshape(-1)]
    sizes = dict.fromkeys(range(4), (0, 0)) | dict(
        zip(places, np.asarray(pads, np.int64).reshape(2, -1).T.tolist(), strict=True)
    )
    if any(sum(map(abs, sizes[axis])) for axis in (0, 1)) or min(*sizes[2], *sizes[3]) < 0:
        raise RefusedError(f"its pads are {np.asarray(pads).tolist()}", "pad rows and columns alone, and crop nothing")
    source = draft.read(node.input[0])
    around = sizes[2][0], sizes[3][0], sizes[2][1], sizes[3][1]
    draft.padded[draft.read(node.output[0])] = source, around
    draft.shapes[draft.read(node.output[0])] = shape


def parse_max_pool(draft: Draft, node: onnx.NodeProto) -> None:
    """The largest pixel of each window."""
    shape = draft.image(node.input[0])
    if len([name for name in node.output if name]) > 1:
        raise RefusedError("its second output, the indices, is read", "leave out what reads the indices")
    window, _ = read_window(node, shape, read_pair(attributes(node)["kernel_shape"]), pools=True)
    _check_pool_padding(window)
    positions = window.positions((shape[1], shape[2]))
    draft.add(MaxPool(draft.read(node.output[0]), draft.read(node.input[0]), window), (shape[0], *positions))


def _check_pool_padding(window: Window) -> None:
    if any(pad >= window.kernel[axis % 2] for axis, pad in enumerate(window.pads)):
        raise RefusedError(
            f"its pads {list(window.pads)} reach its kernel {list(window.kernel)}, so that windows hold padding alone",
            "use smaller pads",
        )


def parse_average_pool(draft: Draft, node: onnx.NodeProto) -> None:
    """The mean of each window."""
    shape, values = draft.image(node.input[0]), attributes(node)
    window, stated = read_window(node, shape, read_pair(values["kernel_shape"]), pools=True)
    _check_pool_padding(window)
    _add_average(draft, node, window, stated if values.get("count_include_pad", 0) else NO_PADDING)


def _add_average(draft: Draft, node: onnx.NodeProto, window: Window, counted_padding: Padding) -> None:
    shape = draft.image(node.input[0])
    if window.taps > LARGEST_DEGREE:
        raise RefusedError(
            f"it averages {counted(window.taps, 'pixel')}, and at most {LARGEST_DEGREE:,} have a reciprocal",
            "use smaller windows",
        )
    size = shape[1], shape[2]
    numbers = divisors(window, size, counted_padding)
    layer = AveragePool(draft.read(node.output[0]), draft.read(node.input[0]), window, numbers)
    draft.add(layer, (shape[0], *window.positions(size)))


def parse_global_average(draft: Draft, node: onnx.NodeProto) -> None:
    """The mean of a whole image, which stays an image of one pixel."""
    shape = draft.image(node.input[0])
    _add_average(draft, node, Window((shape[1], shape[2])), NO_PADDING)


def parse_reduce_mean(draft: Draft, node: onnx.NodeProto) -> None:
    """The mean over rows and columns; without ``keepdims`` the result is a row."""
    values, shape = attributes(node), draft.image(node.input[0])
    axes = values.get("axes")
    if draft.opset >= _AXES_ARE_INPUT:
        found = draft.constant(node.input[1]) if len(node.input) > 1 else None
        axes = None if found is None else [int(axis) for axis in np.asarray(found).reshape(-1)]
    if not isinstance(axes, list) or sorted(axis % 4 for axis in axes) != [2, 3]:
        raise RefusedError(f"it averages over the axes {axes}", "average over rows and columns, axes 2 and 3")
    if values.get("keepdims", 1):
        parse_global_average(draft, node)
        return
    output = draft.read(node.output[0])
    mean = AveragePool(
        f"{output}.mean", draft.read(node.input[0]), Window((shape[1], shape[2])), np.full((1, 1), shape[1] * shape[2])
    )
    draft.add(mean, (shape[0], 1, 1))
    draft.add(Flatten(output, mean.output), (shape[0],))
