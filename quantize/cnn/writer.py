# SPDX-License-Identifier: Apache-2.0
"""Writes a convolutional network's layers as ONNX: the float model after rewrites, and ``model.q.onnx``.

Both have the same operators; the quantized one has a ``Quant`` wherever a number is rounded, and averages in the
overlay's integer steps.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx.helper
import onnx.numpy_helper

from hetfab.overlay.isa.arithmetic import ACCUMULATOR_BITS, Q8_BITS, TERM_BITS
from hetfab.overlay.model import hgnn
from hetfab.overlay.model.binding import METADATA_KEY, Samples, to_json
from hetfab.overlay.model.cnn.layers import AveragePool, Clip, CnnGraph, Conv, Flatten, Layer, MaxPool
from hetfab.overlay.model.cnn.window import Window
from hetfab.overlay.model.layers import Add, Dense, Relu
from hetfab.quantize.cnn.points import Points
from hetfab.quantize.ranges import ActivationRange
from hetfab.quantize.weights import LayerWeights, QuantizedWeights, round_bias


@dataclass(frozen=True)
class Numbers:
    """What quantization chose.

    Attributes:
        points: Where tensors become integers.
        ranges: Of stored tensors.
        weights: Of layers with weights, as matrices with a column for each output channel; biases are the layers'.
    """

    points: Points
    ranges: Mapping[str, ActivationRange]
    weights: Mapping[str, LayerWeights]


def float_model(graph: CnnGraph, *, opset: int = 20) -> onnx.ModelProto:
    """The float model of layers without BatchNormalization; its batch is free."""
    return _Writer(graph).model(opset)


def quantized_model(graph: CnnGraph, numbers: Numbers, *, opset: int = 20) -> onnx.ModelProto:
    """The quantized model of the same layers, with its binding."""
    return _QuantizedWriter(graph, numbers).model(opset)


def evaluation_model(
    graph: CnnGraph, numbers: Numbers, *, opset: int = 20
) -> tuple[onnx.ModelProto, dict[str, npt.NDArray[Any]]]:
    """The quantized model with all numbers as inputs, which is the same for all widths, and these inputs."""
    writer = _EvaluationWriter(graph, numbers)
    return writer.model(opset), writer.given


@dataclass
class _Writer:
    """Writes float layers; what the quantized writer does otherwise is a method of its own."""

    graph: CnnGraph
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    initializers: dict[str, onnx.TensorProto] = field(default_factory=dict)

    def constant(self, name: str, array: npt.ArrayLike) -> str:
        self.initializers[name] = onnx.numpy_helper.from_array(np.asarray(array), name)
        return name

    def add(self, operator: str, inputs: list[str], output: str, domain: str = "", **attributes: Any) -> str:
        node = onnx.helper.make_node(operator, inputs, [output], name=output, domain=domain, **attributes)
        self.nodes.append(node)
        return output

    def integers(self, tensor: str) -> str:
        """The tensor as a layer reads it."""
        return tensor

    def weights(self, layer: Conv | Dense) -> str:
        return self.constant(f"{layer.output}.weight", layer.weight)

    def bias(self, layer: Conv | Dense) -> str | None:
        return None if layer.bias is None else self.constant(f"{layer.output}.bias", layer.bias)

    def average(self, layer: AveragePool) -> None:
        """The operator divides by all taps; a constant makes up for those that do not count."""
        window = _attributes(layer.window)
        taps = self.add("AveragePool", [layer.input], f"{layer.output}.taps", count_include_pad=1, **window)
        share = np.float32(layer.window.taps) / layer.divisors.astype(np.float32)
        self.add("Mul", [taps, self.constant(f"{layer.output}.share", share[None, None])], layer.output)

    def finish(self, layer: Layer | None) -> None:
        """What follows a layer, or the input."""

    def write_layer(self, layer: Layer) -> None:
        match layer:
            case Conv(output=output, input=read, window=window, groups=groups):
                operands = [self.integers(read), self.weights(layer)]
                bias = self.bias(layer)
                attributes = _attributes(window) | {"group": groups}
                self.add("Conv", operands + ([bias] if bias else []), output, **attributes)
            case Dense(output=output, input=read):
                bias = self.bias(layer)
                products = f"{output}.products" if bias else output
                self.add("MatMul", [self.integers(read), self.weights(layer)], products)
                if bias:
                    self.add("Add", [products, bias], output)
            case Add(output=output, left=left, right=right):
                self.add("Add", [self.integers(left), self.integers(right)], output)
            case Relu(output=output, input=read):
                self.add("Relu", [read], output)
            case Clip(output=output, input=read, highest=highest):
                bounds = [self.constant("clip.lowest", np.float32(0))]
                bounds.append(self.constant(f"{output}.highest", np.float32(highest)))
                self.add("Clip", [read, *bounds], output)
            case MaxPool(output=output, input=read, window=window):
                self.add("MaxPool", [self.integers(read)], output, **_attributes(window))
            case AveragePool():
                self.average(layer)
            case Flatten(output=output, input=read):
                is_output = output == self.graph.output
                self.add("Flatten", [read if is_output else self.integers(read)], output, axis=1)
        self.finish(layer)

    def model(self, opset: int) -> onnx.ModelProto:
        self.finish(None)
        for layer in self.graph.layers:
            self.write_layer(layer)
        kind, shapes = onnx.TensorProto.FLOAT, self.graph.shapes
        given, logits = (
            onnx.helper.make_tensor_value_info(name, kind, ["batch", *shapes[name]])
            for name in (self.graph.input, self.graph.output)
        )
        used = sorted({node.op_type for node in self.nodes} & set(hgnn.OPERATORS))
        domains = [onnx.helper.make_opsetid("", opset)]
        if used:
            domains.append(onnx.helper.make_opsetid(hgnn.DOMAIN, hgnn.DOMAIN_VERSION))
            domains.append(onnx.helper.make_opsetid(hgnn.QUANT_DOMAIN, hgnn.QUANT_DOMAIN_VERSION))
        model = onnx.helper.make_model(
            onnx.helper.make_graph(
                self.nodes, "quantized" if used else "float", [given], [logits], list(self.initializers.values())
            ),
            opset_imports=domains,
            ir_version=10,
            functions=[hgnn.function(name, opset) for name in used],
            producer_name="hetfab",
        )
        binding = to_json({self.graph.input: Samples(shapes[self.graph.input])})
        onnx.helper.set_model_props(model, {METADATA_KEY: binding})
        return model


@dataclass
class _QuantizedWriter(_Writer):
    """Writes the same layers with their roundings."""

    numbers: Numbers = field(kw_only=True)

    def __init__(self, graph: CnnGraph, numbers: Numbers) -> None:
        super().__init__(graph)
        self.numbers = numbers

    def bits_name(self, output: str, bits: int) -> str:
        """The constant with a width."""
        return f"quant.bits_{bits}"

    def quant(self, source: str, output: str, scale: npt.ArrayLike, bits: int, *, signed: bool, narrow: bool) -> str:
        inputs = [
            source,
            self.constant(f"{output}.scale", np.asarray(scale, dtype=np.float32)),
            self.constant("quant.zero_point", np.float32(0)),
            self.constant(self.bits_name(output, bits), np.float32(bits)),
        ]
        flags = {"signed": int(signed), "narrow": int(narrow), "rounding_mode": "ROUND"}
        return self.add("Quant", inputs, output, hgnn.QUANT_DOMAIN, **flags)

    def integers(self, tensor: str) -> str:
        """The tensor's integer form: rounded, moved, or a term in Q.8."""
        points = self.numbers.points
        if tensor in points.terms:
            return f"{tensor}.q8"
        return tensor if tensor in points.moved else f"{tensor}.int{self.numbers.ranges[tensor].bits}"

    def range_of(self, tensor: str) -> ActivationRange:
        return self.numbers.ranges[self.numbers.points.source(tensor)]

    def weights(self, layer: Conv | Dense) -> str:
        """The layer's rounded weights, with a scale for each output channel."""
        name, parts = f"{layer.output}.weight", self.numbers.weights[layer.output].parts
        if len(parts) == 1:
            return self.run(layer, name, parts[0])
        runs = [self.run(layer, f"{name}.{number}", part) for number, part in enumerate(parts)]
        return self.add("Concat", runs, f"{name}.joined", axis=0 if isinstance(layer, Conv) else 1)

    def run(self, layer: Conv | Dense, name: str, rounded: QuantizedWeights) -> str:
        """Adds weights of one width and their rounding; returns the name of the rounded weights."""
        values = (rounded.integers.astype(np.float32) * rounded.scales).astype(np.float32)
        scale = rounded.scales[None, :]
        if isinstance(layer, Conv):
            values, scale = values.T.reshape(-1, *layer.weight.shape[1:]), rounded.scales.reshape(-1, 1, 1, 1)
        stored = self.constant(name, values)
        output = f"{stored}.int"
        if rounded.bits == 1:
            inputs = [stored, self.constant(f"{output}.scale", scale)]
            return self.add("BipolarQuant", inputs, output, hgnn.QUANT_DOMAIN)
        return self.quant(stored, output, scale, rounded.bits, signed=True, narrow=rounded.narrow)

    def bias(self, layer: Conv | Dense) -> str | None:
        if layer.bias is None:
            return None
        scales, values = self.rounded_bias(layer, layer.bias)
        bias = self.constant(f"{layer.output}.bias", values)
        return self.quant(bias, f"{bias}.int", scales, ACCUMULATOR_BITS, signed=True, narrow=False)

    def rounded_bias(
        self, layer: Conv | Dense, bias: npt.NDArray[np.float32]
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float32]]:
        """Steps of a layer's sums, and its bias as a whole number of them."""
        scales = np.ldexp(
            self.numbers.weights[layer.output].scales.astype(np.float64), self.range_of(layer.input).exponent
        )
        return scales, (round_bias(bias, scales) * scales).astype(np.float32)

    def average(self, layer: AveragePool) -> None:
        inputs = [
            self.integers(layer.input),
            self.constant(f"{layer.output}.divisors", layer.divisors.astype(np.float32)[None, None]),
            self.constant(f"{layer.output}.scale", np.float32(self.range_of(layer.input).scale)),
        ]
        window = layer.window
        self.add(
            "QAveragePool",
            inputs,
            layer.output,
            hgnn.DOMAIN,
            kernel_shape=window.kernel,
            strides=window.strides,
            dilations=window.dilations,
            pads=window.pads,
        )

    def finish(self, layer: Layer | None) -> None:
        """Adds the integer form of a tensor where something reads it."""
        tensor, points = self.graph.input if layer is None else layer.output, self.numbers.points
        if tensor in points.terms:
            unit = self.numbers.ranges[points.terms[tensor]].scale / (1 << Q8_BITS)
            self.quant(tensor, self.integers(tensor), unit, TERM_BITS, signed=True, narrow=False)
        if tensor in points.stored:
            chosen = self.numbers.ranges[tensor]
            self.quant(tensor, self.integers(tensor), chosen.scale, chosen.bits, signed=chosen.signed, narrow=False)


@dataclass
class _EvaluationWriter(_QuantizedWriter):
    """Writes the quantized model with all constants as inputs, under names that do not depend on widths.

    Weights and biases come as the rounded values, so that they need no rounding in the model.
    """

    given: dict[str, npt.NDArray[Any]] = field(default_factory=dict)

    def __init__(self, graph: CnnGraph, numbers: Numbers) -> None:
        super().__init__(graph, numbers)
        self.given = {}

    def constant(self, name: str, array: npt.ArrayLike) -> str:
        self.given[name] = np.asarray(array)
        return name

    def bits_name(self, output: str, bits: int) -> str:
        return f"{output}.bits"

    def integers(self, tensor: str) -> str:
        points = self.numbers.points
        return super().integers(tensor) if tensor in points.terms or tensor in points.moved else f"{tensor}.int"

    def weights(self, layer: Conv | Dense) -> str:
        found = self.numbers.weights[layer.output]
        values = found.restored_rows.reshape(layer.weight.shape) if isinstance(layer, Conv) else found.restored
        return self.constant(f"{layer.output}.weight", np.ascontiguousarray(values))

    def bias(self, layer: Conv | Dense) -> str | None:
        return (
            None
            if layer.bias is None
            else self.constant(f"{layer.output}.bias", self.rounded_bias(layer, layer.bias)[1])
        )

    def model(self, opset: int) -> onnx.ModelProto:
        found = super().model(opset)
        found.graph.input.extend(
            onnx.helper.make_tensor_value_info(name, onnx.helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
            for name, array in self.given.items()
        )
        return found


def _attributes(window: Window) -> dict[str, Any]:
    """A window as ONNX writes it; dilations only where there are any, since old AveragePools have none."""
    found = {"kernel_shape": window.kernel, "strides": window.strides, "pads": window.pads}
    return found if window.dilations == (1, 1) else found | {"dilations": window.dilations}
