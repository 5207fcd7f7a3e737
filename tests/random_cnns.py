# SPDX-License-Identifier: Apache-2.0
"""Random convolutional networks as float ONNX files, in the forms in which exporters write them."""

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx.helper
import onnx.numpy_helper

from hetfab.overlay.model.cnn.window import AutoPad, Window, rounded_up, same_padding

FLOAT = onnx.TensorProto.FLOAT
Shape = tuple[int, ...]


class CnnBuilder:
    """Builds a float network node by node; methods take and return names of tensors."""

    def __init__(self, random: np.random.Generator, shape: Shape, *, opset: int = 20, batch: int | str = "N") -> None:
        self.random = random
        self.opset = opset
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self.shapes: dict[str, Shape] = {"input": shape}
        self._batch = batch

    def node(self, operator: str, *inputs: str, shape: Shape | None = None, **attributes: Any) -> str:
        output = f"t{len(self.nodes)}"
        self.nodes.append(onnx.helper.make_node(operator, inputs, [output], **attributes))
        self.shapes[output] = self.shapes[inputs[0]] if shape is None else shape
        return output

    def constant(self, values: npt.ArrayLike) -> str:
        """An initializer, a Constant, or an initializer behind Identity; floats are float32."""
        array = np.asarray(values)
        array = array.astype(np.float32) if array.dtype.kind == "f" else array
        tensor = onnx.numpy_helper.from_array(array, f"c{len(self.initializers)}")
        form = self.random.integers(3)
        if form == 0:
            return self.node("Constant", shape=(), value=tensor) if array.ndim else self._initializer(tensor)
        name = self._initializer(tensor)
        return name if form == 1 else self.node("Identity", name, shape=())

    def _initializer(self, tensor: onnx.TensorProto) -> str:
        self.initializers.append(tensor)
        self.shapes[tensor.name] = ()
        return tensor.name

    def conv(
        self, read: str, channels: int, window: Window, *, groups: int = 1, bias: int | None = None, **attributes: Any
    ) -> str:
        """A convolution; ``bias`` is 0 without one, 1 with one, 2 with one that is added behind it, None by chance."""
        inputs, *size = self.shapes[read]
        shape = channels, inputs // groups, *window.kernel
        weight = self.random.normal(size=shape) * np.sqrt(2 / np.prod(shape[1:]))
        weight *= 2.0 ** self.random.integers(-2, 2, (channels, 1, 1, 1))
        values, chance = self.random.normal(0, 0.3, channels), int(self.random.integers(3))
        form = chance if bias is None else bias
        operands = [read, self.constant(weight)] + ([self.constant(values)] if form == 1 else [])
        attributes = _written(window, attributes) | {"group": groups}
        found = self.node("Conv", *operands, shape=(channels, *window.positions((size[0], size[1]))), **attributes)
        return self.node("Add", found, self.constant(values.reshape(1, -1, 1, 1))) if form == 2 else found

    def batch_norm(self, read: str) -> str:
        channels, random = self.shapes[read][0], self.random
        parts = [random.uniform(0.5, 2, channels), random.normal(size=channels)]
        parts += [random.normal(size=channels), random.uniform(0.5, 2, channels)]
        return self.node("BatchNormalization", read, *(self.constant(part) for part in parts), epsilon=1e-3)

    def rectify(self, read: str) -> str:
        """Relu, Clip(0, 6), or Clip from 0 without an end; sometimes with a Dropout behind it."""
        match self.random.integers(4):
            case 0:
                found = self.node("Clip", read, self.constant(np.float32(0)), self.constant(np.float32(6)))
            case 1:
                found = self.node("Clip", read, self.constant(np.float32(0)))
            case _:
                found = self.node("Relu", read)
        return self.node("Dropout", found) if self.random.random() < 0.2 else found

    def pool(self, operator: str, read: str, window: Window, **attributes: Any) -> str:
        channels, rows, columns = self.shapes[read]
        whole = rounded_up(window, (rows, columns)) if attributes.get("ceil_mode") else window
        attributes = _written(window, attributes)
        return self.node(operator, read, shape=(channels, *whole.positions((rows, columns))), **attributes)

    def global_mean(self, read: str) -> str:
        """The mean over the image, as an image of one pixel or as a row."""
        channels = self.shapes[read][0]
        match self.random.integers(3):
            case 0:
                return self.node("GlobalAveragePool", read, shape=(channels, 1, 1))
            case form:
                axes = [2, 3] if self.random.random() < 0.5 else [-1, -2]
                shape = (channels, 1, 1) if form == 1 else (channels,)
                if self.opset >= 18:
                    return self.node("ReduceMean", read, self.constant(axes), shape=shape, keepdims=form % 2)
                return self.node("ReduceMean", read, shape=shape, axes=axes, keepdims=form % 2)

    def flatten(self, read: str) -> str:
        """One row of each sample, in one of the ways in which exporters write it."""
        shape = self.shapes[read]
        if len(shape) == 1:
            return read
        columns = int(np.prod(shape))
        match self.random.integers(4):
            case 0:
                return self.node("Reshape", read, self.constant([-1, columns]), shape=(columns,))
            case 1:
                batch = self.node("Gather", self.node("Shape", read, shape=()), self.constant(0), shape=())
                first = self.node("Unsqueeze", batch, self.constant([0]), shape=())
                sizes = self.node("Concat", first, self.constant([columns]), shape=(), axis=0)
                return self.node("Reshape", read, sizes, shape=(columns,))
            case 2 if shape[1:] == (1, 1):
                return self.node("Squeeze", read, self.constant([2, 3]), shape=(columns,))
        return self.node("Flatten", read, shape=(columns,), axis=1)

    def dense(self, read: str, columns: int) -> str:
        """Gemm, or MatMul with or without an Add."""
        inputs = self.shapes[read][0]
        weight, bias = self.random.normal(size=(inputs, columns)) / np.sqrt(inputs), self.random.normal(size=columns)
        match self.random.integers(3):
            case 0:
                operands = [read, self.constant(weight.T), self.constant(bias)]
                return self.node("Gemm", *operands, shape=(columns,), transB=1)
            case form:
                found = self.node("MatMul", read, self.constant(weight), shape=(columns,))
                return self.node("Add", found, self.constant(bias)) if form == 1 else found

    def finish(self, output: str) -> onnx.ModelProto:
        """The model whose logits are ``output``, under the name ``logits``."""
        self.nodes.append(onnx.helper.make_node("Identity", [output], ["logits"]))
        value = onnx.helper.make_tensor_value_info
        inputs = [value("input", FLOAT, [self._batch, *self.shapes["input"]])]
        logits = [value("logits", FLOAT, [self._batch, *self.shapes[output]])]
        graph = onnx.helper.make_graph(self.nodes, "float", inputs, logits, self.initializers)
        domains = [onnx.helper.make_opsetid("", self.opset)]
        return onnx.helper.make_model(graph, opset_imports=domains, ir_version=8)


def _written(window: Window, attributes: dict[str, Any]) -> dict[str, Any]:
    written = attributes | {"kernel_shape": window.kernel, "strides": window.strides}
    if window.dilations != (1, 1):
        written["dilations"] = window.dilations
    return written if "auto_pad" in attributes else written | {"pads": window.pads}


def random_cnn(seed: int, *, opset: int = 20, batch: int | str = "N") -> onnx.ModelProto:
    """A random network of 1 to 4 blocks and an ending."""
    random = np.random.default_rng(seed)
    channels, rows, columns = (int(random.integers(low, high)) for low, high in ((1, 5), (4, 12), (4, 12)))
    build = CnnBuilder(random, (channels, rows, columns), opset=opset, batch=batch)
    blocks = [_plain, _plain, _depthwise, _pooled, _averaged, _residual, _projected, _added, _normalised]
    read = _plain(build, "input")
    for _ in range(random.integers(1, 5)):
        read = blocks[random.integers(len(blocks))](build, read)
    return build.finish(_ending(build, read))


def _window(build: CnnBuilder, read: str, *, largest: int = 3) -> tuple[Window, dict[str, Any]]:
    """A window that fits the image, and the attribute ``auto_pad`` where that says its padding."""
    random, (_, rows, columns) = build.random, build.shapes[read]
    size = rows, columns
    while True:
        kernel, strides = ((int(a), int(b)) for a, b in (random.integers(1, largest + 1, 2), random.integers(1, 3, 2)))
        dilation = int(random.choice([1, 1, 1, 2]))
        pads = [int(random.integers(0, kernel[axis % 2])) for axis in range(4)]
        window = Window(kernel, strides, (dilation, dilation), (pads[0], pads[1], pads[2], pads[3]))
        attributes: dict[str, Any] = {}
        if dilation == 1 and random.random() < 0.3 and all(s <= k for s, k in zip(strides, kernel, strict=True)):
            mode = AutoPad(random.choice(["VALID", "SAME_UPPER", "SAME_LOWER"]))
            window, attributes = same_padding(window, size, mode), {"auto_pad": mode.value}
        if min(window.positions(size)) > 0:
            return window, attributes


def _plain(build: CnnBuilder, read: str) -> str:
    """A convolution, maybe in groups, normalised or not, rectified or not."""
    window, attributes = _window(build, read)
    groups = int(build.random.choice([g for g in (1, 2, 3) if build.shapes[read][0] % g == 0]))
    found = build.conv(read, groups * int(build.random.integers(1, 4)), window, groups=groups, **attributes)
    found = build.batch_norm(found) if build.random.random() < 0.4 else found
    return build.rectify(found) if build.random.random() < 0.8 else found


def _depthwise(build: CnnBuilder, read: str) -> str:
    """Expand, depthwise, project, as MobileNetV2 has them."""
    inputs = build.shapes[read][0]
    wide = build.rectify(build.conv(read, 2 * inputs, Window((1, 1))))
    window, attributes = _window(build, wide)
    deep = build.rectify(build.conv(wide, 2 * inputs, window, groups=2 * inputs, **attributes))
    return build.conv(deep, inputs, Window((1, 1)))


def _rounding_up(build: CnnBuilder, read: str, window: Window, attributes: dict[str, Any]) -> dict[str, Any]:
    """``ceil_mode`` now and then; not where it leaves out a position, which ONNX infers otherwise before opset 22."""
    _, *size = build.shapes[read]
    ends = [n + p for n, p in zip(size, window.pads, strict=False)]
    padded = [end + p for end, p in zip(ends, window.pads[2:], strict=True)]
    last = [-(-(n - k) // s) * s for n, k, s in zip(padded, window.kernel, window.strides, strict=True)]
    fits = all(start < end for start, end in zip(last, ends, strict=True))
    return {"ceil_mode": 1} if fits and not attributes and build.random.random() < 0.3 else {}


def _pooled(build: CnnBuilder, read: str) -> str:
    window, attributes = _window(build, read)
    attributes |= _rounding_up(build, read, window, attributes)
    return build.pool("MaxPool", read, replace(window, dilations=(1, 1)), **attributes)


def _averaged(build: CnnBuilder, read: str) -> str:
    window, attributes = _window(build, read)
    attributes |= _rounding_up(build, read, window, attributes)
    attributes["count_include_pad"] = int(build.random.integers(2))
    found = build.pool("AveragePool", read, replace(window, dilations=(1, 1)), **attributes)
    return build.rectify(found) if build.random.random() < 0.3 else found


def _same(build: CnnBuilder, read: str, channels: int) -> str:
    return build.conv(read, channels, Window((3, 3), pads=(1, 1, 1, 1)))


def _residual(build: CnnBuilder, read: str) -> str:
    """Around a convolution of the same shape, from a tensor that is stored."""
    channels = build.shapes[read][0]
    inner = _same(build, build.rectify(_same(build, read, channels)), channels)
    operands = (read, inner) if build.random.random() < 0.5 else (inner, read)
    found = build.node("Add", *operands)
    return build.rectify(found) if build.random.random() < 0.6 else found


def _projected(build: CnnBuilder, read: str) -> str:
    """Two convolutions meet, as where ResNet's shape changes."""
    channels = int(build.random.integers(1, 5))
    left, right = (_same(build, read, channels) for _ in range(2))
    return build.rectify(build.node("Add", left, right))


def _added(build: CnnBuilder, read: str) -> str:
    """Two stored tensors meet."""
    channels = build.shapes[read][0]
    return build.node("Add", build.rectify(_same(build, read, channels)), read)


def _normalised(build: CnnBuilder, read: str) -> str:
    """BatchNormalization of a tensor that something else reads too, as before activation."""
    inner = build.rectify(build.batch_norm(read))
    return build.node("Add", _same(build, inner, build.shapes[read][0]), read)


def _ending(build: CnnBuilder, read: str) -> str:
    classes = int(build.random.choice([1, 3, 10]))
    match build.random.integers(7):
        case 0:
            return build.dense(build.flatten(read), classes)
        case 1:
            hidden = build.rectify(build.dense(build.flatten(read), 9))
            return build.dense(hidden, classes)
        case 2:
            return build.flatten(build.global_mean(build.conv(read, classes, Window((1, 1)))))
        case 3:
            return build.conv(read, classes, Window((1, 1)))
        case 5:
            mean = build.node("GlobalAveragePool", read, shape=(build.shapes[read][0], 1, 1))
            return build.flatten(build.conv(mean, classes, Window((1, 1))))
        case 4:
            return build.node("Add", _same(build, read, build.shapes[read][0]), read)
    return build.dense(build.flatten(build.global_mean(read)), classes)
