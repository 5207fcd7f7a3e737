# SPDX-License-Identifier: Apache-2.0
"""ResNet-18 and MobileNetV2 with seeded weights, in the form in which torchvision's models are exported.

Operators, their order, attributes and shapes are those of ``torch.onnx.export`` (opset 17, evaluation mode, in which
it folds BatchNormalization); no framework is needed. Sources: He et al., 2016; Sandler et al., 2018.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx.helper
import onnx.numpy_helper

CLASSES = 1000
#: MobileNetV2: expansion, channels, blocks, stride of the first.
MOBILENET_STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
#: Channels of a narrower network are multiples of it.
_CHANNEL_UNIT = 8


class _Builder:
    """Writes a network node by node; methods take and return names of tensors."""

    def __init__(self, seed: int, *, batch_norm: bool, width: float) -> None:
        self._random = np.random.default_rng(seed)
        self._batch_norm = batch_norm
        self._width = width
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self.channels: dict[str, int] = {"input": 3}

    def scaled(self, channels: int) -> int:
        """Channels, or classes, of the published network times the width."""
        return max(1, round(channels * self._width / _CHANNEL_UNIT)) * _CHANNEL_UNIT

    def node(self, operator: str, inputs: list[str], channels: int, **attributes: Any) -> str:
        output = f"{operator}_{len(self.nodes)}"
        self.nodes.append(onnx.helper.make_node(operator, inputs, [output], name=output, **attributes))
        self.channels[output] = channels
        return output

    def constant(self, array: npt.ArrayLike) -> str:
        name = f"weight_{len(self.weights)}"
        self.weights.append(onnx.numpy_helper.from_array(np.asarray(array, dtype=np.float32), name))
        return name

    def conv(self, read: str, channels: int, kernel: int, *, stride: int = 1, groups: int = 1, gain: float) -> str:
        """A convolution with the padding that keeps the size; weights keep the variance, times ``gain``."""
        inputs = self.channels[read] // groups
        deviation = np.float32(np.sqrt(gain / (inputs * kernel * kernel)))
        weight = self._random.standard_normal((channels, inputs, kernel, kernel), dtype=np.float32) * deviation
        operands = [read, self.constant(weight)]
        if not self._batch_norm:
            operands.append(self.constant(self._random.normal(0, 0.1, channels)))
        pad = kernel // 2
        found = self.node(
            "Conv",
            operands,
            channels,
            dilations=[1, 1],
            group=groups,
            kernel_shape=[kernel, kernel],
            pads=[pad] * 4,
            strides=[stride, stride],
        )
        return self._normalised(found, channels) if self._batch_norm else found

    def _normalised(self, read: str, channels: int) -> str:
        random = self._random
        gamma, variance = random.uniform(0.7, 1.4, (2, channels))
        beta, mean = random.normal(0, 0.1, (2, channels))
        operands = [read, *(self.constant(array) for array in (gamma, beta, mean, variance))]
        return self.node("BatchNormalization", operands, channels, epsilon=1e-5, momentum=0.9, training_mode=0)

    def apply(self, operator: str, *inputs: str, **attributes: Any) -> str:
        return self.node(operator, list(inputs), self.channels[inputs[0]], **attributes)

    def classifier(self, read: str) -> None:
        flat = self.apply("Flatten", self.apply("GlobalAveragePool", read), axis=1)
        classes = self.scaled(CLASSES)
        weight = self._random.normal(0, 0.05, (classes, self.channels[read]))
        operands = [flat, self.constant(weight), self.constant(self._random.normal(0, 0.1, classes))]
        self.node("Gemm", operands, classes, alpha=1.0, beta=1.0, transB=1)
        self.nodes[-1].output[0] = "output"

    def model(self, size: int) -> onnx.ModelProto:
        value = onnx.helper.make_tensor_value_info
        inputs = [value("input", onnx.TensorProto.FLOAT, ["batch", 3, size, size])]
        outputs = [value("output", onnx.TensorProto.FLOAT, ["batch", self.scaled(CLASSES)])]
        graph = onnx.helper.make_graph(self.nodes, "main_graph", inputs, outputs, self.weights)
        return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)


def resnet18(seed: int = 0, *, size: int = 224, batch_norm: bool = False, width: float = 1.0) -> onnx.ModelProto:
    """ResNet-18 for images of ``size`` x ``size``.

    Args:
        seed: Of the weights.
        size: Rows and columns, at least 32.
        batch_norm: Whether BatchNormalization stands behind each convolution, as before torch folds it.
        width: Factor of the channels and classes.
    """
    build = _Builder(seed, batch_norm=batch_norm, width=width)
    stem = build.apply("Relu", build.conv("input", build.scaled(64), 7, stride=2, gain=2))
    read = build.apply(
        "MaxPool",
        stem,
        ceil_mode=0,
        dilations=[1, 1],
        kernel_shape=[3, 3],
        pads=[1, 1, 1, 1],
        strides=[2, 2],
    )
    for published, first_stride in ((64, 1), (128, 2), (256, 2), (512, 2)):
        channels = build.scaled(published)
        for stride in (first_stride, 1):
            inner = build.apply("Relu", build.conv(read, channels, 3, stride=stride, gain=2))
            inner = build.conv(inner, channels, 3, gain=0.5)
            if stride != 1 or build.channels[read] != channels:
                read = build.conv(read, channels, 1, stride=stride, gain=1)
            read = build.apply("Relu", build.apply("Add", inner, read))
    build.classifier(read)
    return build.model(size)


def mobilenet_v2(seed: int = 0, *, size: int = 224, batch_norm: bool = False, width: float = 1.0) -> onnx.ModelProto:
    """MobileNetV2 for images of ``size`` x ``size``; arguments as ``resnet18``."""
    build = _Builder(seed, batch_norm=batch_norm, width=width)
    low, high = build.constant(0.0), build.constant(6.0)
    read = build.apply("Clip", build.conv("input", build.scaled(32), 3, stride=2, gain=2), low, high)
    for expansion, published, blocks, first_stride in MOBILENET_STAGES:
        channels = build.scaled(published)
        for block in range(blocks):
            stride = first_stride if block == 0 else 1
            inner, hidden = read, build.channels[read] * expansion
            if expansion != 1:
                inner = build.apply("Clip", build.conv(read, hidden, 1, gain=2), low, high)
            inner = build.conv(inner, hidden, 3, stride=stride, groups=hidden, gain=2)
            inner = build.conv(build.apply("Clip", inner, low, high), channels, 1, gain=1)
            joins = stride == 1 and build.channels[read] == channels
            read = build.apply("Add", read, inner) if joins else inner
    build.classifier(build.apply("Clip", build.conv(read, build.scaled(1280), 1, gain=2), low, high))
    return build.model(size)


#: Name -> builder.
NETWORKS: dict[str, Callable[..., onnx.ModelProto]] = {"resnet18": resnet18, "mobilenet_v2": mobilenet_v2}
