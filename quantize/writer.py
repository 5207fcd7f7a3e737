# SPDX-License-Identifier: Apache-2.0
"""Writes ``model.q.onnx``: the float model's layers with QONNX ``Quant`` nodes and quantized graph operators."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import onnx
import onnx.helper
import onnx.numpy_helper

from hetfab.overlay.isa.arithmetic import ACCUMULATOR_BITS, Q8_BITS, TERM_BITS
from hetfab.overlay.model import hgnn
from hetfab.overlay.model.binding import METADATA_KEY, Binding, Features, NodeCount, to_json
from hetfab.overlay.model.edges import edge_set
from hetfab.overlay.model.layers import Add, Dense, LayerGraph, Relu, SegMean
from hetfab.quantize.points import QuantizationPoints
from hetfab.quantize.ranges import ActivationRange
from hetfab.quantize.weights import QuantizedWeights, round_bias


@dataclass(frozen=True)
class Numbers:
    """What quantization chose: ranges of stored tensors, weights of dense layers (by output name)."""

    ranges: Mapping[str, ActivationRange]
    weights: Mapping[str, QuantizedWeights]


@dataclass
class _Writer:
    graph: LayerGraph
    points: QuantizationPoints
    numbers: Numbers
    bindings: Mapping[str, Binding]
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    initializers: dict[str, onnx.TensorProto] = field(default_factory=dict)
    counts: dict[str, str] = field(default_factory=dict)

    def constant(self, name: str, array: npt.ArrayLike) -> str:
        self.initializers[name] = onnx.numpy_helper.from_array(np.asarray(array), name)
        return name

    def quant(self, source: str, output: str, scale: npt.ArrayLike, bits: int, *, signed: bool, narrow: bool) -> str:
        inputs = [
            source,
            self.constant(f"{output}.scale", np.asarray(scale, dtype=np.float32)),
            self.constant("quant.zero_point", np.float32(0)),
            self.constant(f"quant.bits_{bits}", np.float32(bits)),
        ]
        self.nodes.append(
            onnx.helper.make_node(
                "Quant",
                inputs,
                [output],
                name=output,
                domain=hgnn.QUANT_DOMAIN,
                signed=int(signed),
                narrow=int(narrow),
                rounding_mode="ROUND",
            )
        )
        return output

    def store(self, tensor: str) -> None:
        """Adds the integer form of a tensor where a layer reads it."""
        if tensor in self.points.stored:
            chosen = self.numbers.ranges[tensor]
            name = self.stored_name(tensor)
            self.quant(tensor, name, chosen.scale, chosen.bits, signed=chosen.signed, narrow=False)

    def stored_name(self, tensor: str) -> str:
        """Name of a tensor's integer form."""
        return f"{tensor}.int{self.numbers.ranges[tensor].bits}"

    def add(self, operator: str, inputs: list[str], output: str, domain: str = "") -> None:
        self.nodes.append(onnx.helper.make_node(operator, inputs, [output], name=output, domain=domain))

    def dense(self, layer: Dense) -> None:
        weights = self.numbers.weights[layer.output]
        rows, quantized = self.stored_name(layer.input), self.weights(f"{layer.output}.weight", weights)
        if layer.bias is None:
            self.add("MatMul", [rows, quantized], layer.output)
        else:
            scales = np.ldexp(weights.scales.astype(np.float64), self.numbers.ranges[layer.input].exponent)
            steps = round_bias(layer.bias, scales)
            bias = self.constant(f"{layer.output}.bias", (steps * scales).astype(np.float32))
            rounded = self.quant(bias, f"{bias}.int", scales, ACCUMULATOR_BITS, signed=True, narrow=False)
            self.add("MatMul", [rows, quantized], f"{layer.output}.products")
            self.add("Add", [f"{layer.output}.products", rounded], layer.output)
        group = next((group for group in self.points.groups if group.dense is layer), None)
        if group is not None:
            unit = self.numbers.ranges[group.aggregations[0].input].scale / (1 << Q8_BITS)
            self.quant(layer.output, f"{layer.output}.q8", unit, TERM_BITS, signed=True, narrow=False)

    def weights(self, name: str, weights: QuantizedWeights) -> str:
        """Adds the initializer of a layer's weights and its rounding; returns the name of the rounded weights."""
        stored = self.constant(name, weights.integers.astype(np.float32) * weights.scales)
        output, scale = f"{stored}.int", weights.scales[None, :]
        if weights.bits == 1:
            inputs = [stored, self.constant(f"{output}.scale", scale)]
            self.add("BipolarQuant", inputs, output, hgnn.QUANT_DOMAIN)
            return output
        return self.quant(stored, output, scale, weights.bits, signed=True, narrow=weights.narrow)

    def mean(self, layer: SegMean) -> None:
        node_type = edge_set(self.bindings, layer.source, layer.destination).destinations[0]
        count = self.counts.setdefault(node_type, f"n_{node_type}")
        scale = self.constant(f"{layer.output}.scale", np.float32(self.numbers.ranges[layer.input].scale))
        inputs = [self.stored_name(layer.input), layer.source, layer.destination, count, scale]
        self.add("QSegMean", inputs, layer.output, hgnn.DOMAIN)

    def term(self, tensor: str) -> str:
        """Name of a sum's operand: dense terms are read in Q.8."""
        dense = {group.dense.output for group in self.points.groups if group.dense is not None}
        return f"{tensor}.q8" if tensor in dense else tensor

    def write(self) -> None:
        for name, binding in self.bindings.items():
            if isinstance(binding, Features):
                self.store(name)
        for name, table in self.graph.tables.items():
            self.constant(name, table)
            self.store(name)
        for layer in self.graph.layers:
            match layer:
                case Dense():
                    self.dense(layer)
                case SegMean():
                    self.mean(layer)
                case Add():
                    self.add("Add", [self.term(layer.left), self.term(layer.right)], layer.output)
                case Relu():
                    self.add("Relu", [layer.input], layer.output)
            self.store(layer.output)


def write_model(
    graph: LayerGraph,
    points: QuantizationPoints,
    numbers: Numbers,
    bindings: Mapping[str, Binding],
    *,
    opset: int = 20,
) -> onnx.ModelProto:
    """Writes the quantized model.

    Args:
        graph: Layers of the float model.
        points: Where tensors become integers.
        numbers: Ranges and weights.
        bindings: Resolved meaning of the float model's inputs.
        opset: Version of the standard operators.

    Returns:
        A model whose node counts are inputs ``n_<type>`` and whose binding is written in full.
    """
    writer = _Writer(graph, points, numbers, bindings)
    writer.write()
    used = {name for node in writer.nodes for name in node.input}
    kept = {name: binding for name, binding in bindings.items() if name in used}
    kept |= {name: NodeCount(node_type) for node_type, name in writer.counts.items()}
    inputs = [_input(name, binding, graph) for name, binding in kept.items()]
    output = onnx.helper.make_tensor_value_info(
        graph.output, onnx.TensorProto.FLOAT, ["rows", graph.channels[graph.output]]
    )
    model = onnx.helper.make_model(
        onnx.helper.make_graph(writer.nodes, "quantized", inputs, [output], list(writer.initializers.values())),
        opset_imports=[
            onnx.helper.make_opsetid("", opset),
            onnx.helper.make_opsetid(hgnn.DOMAIN, hgnn.DOMAIN_VERSION),
            onnx.helper.make_opsetid(hgnn.QUANT_DOMAIN, hgnn.QUANT_DOMAIN_VERSION),
        ],
        ir_version=10,
        functions=[
            hgnn.function(name, opset) for name in sorted({n.op_type for n in writer.nodes} & set(hgnn.OPERATORS))
        ],
        producer_name="hetfab",
    )
    onnx.helper.set_model_props(model, {METADATA_KEY: to_json(kept)})
    return model


def _input(name: str, binding: Binding, graph: LayerGraph) -> onnx.ValueInfoProto:
    match binding:
        case Features(type=node_type):
            shape: list[str | int] = [f"N_{node_type}", graph.channels[name]]
            return onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)
        case NodeCount():
            return onnx.helper.make_tensor_value_info(name, onnx.TensorProto.INT64, [])
    return onnx.helper.make_tensor_value_info(name, onnx.TensorProto.INT64, [f"E_{name.split('_', 1)[-1]}"])
