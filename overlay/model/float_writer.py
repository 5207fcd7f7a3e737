# SPDX-License-Identifier: Apache-2.0
"""Writes layers as a float ONNX model, so that onnxruntime runs what rewrites made of another."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx.helper
import onnx.numpy_helper

from hetfab.overlay.model import hgnn
from hetfab.overlay.model.binding import (
    METADATA_KEY,
    Binding,
    EdgeWeights,
    Features,
    InDegreeWeights,
    MetapathMean,
    NodeCount,
    to_json,
)
from hetfab.overlay.model.layers import (
    Add,
    Bias,
    Dense,
    EdgeAggregation,
    EdgeAttention,
    EdgeDot,
    Function,
    Fusion,
    HostOperator,
    JoinParts,
    Layer,
    LayerGraph,
    LayerNorm,
    PartMean,
    Relu,
    RowNorm,
    RowSlice,
    SegMean,
    SegSum,
    Stack,
    TokenAttention,
    Unary,
)


@dataclass
class GraphWriter:
    """Collects nodes and initializers; methods return the name of what they write."""

    nodes: list[onnx.NodeProto] = field(default_factory=list)
    initializers: dict[str, onnx.TensorProto] = field(default_factory=dict)

    def constant(self, name: str, array: npt.ArrayLike) -> str:
        """Adds an initializer."""
        self.initializers[name] = onnx.numpy_helper.from_array(np.asarray(array), name)
        return name

    def whole(self, *values: int) -> str:
        """Adds an int64 vector, named by its values."""
        return self.constant("ints." + ".".join(map(str, values)), np.array(values, np.int64))

    def add(self, operator: str, inputs: list[str], output: str, domain: str = "", **values: Any) -> str:
        """Adds an operator with one output."""
        self.nodes.append(onnx.helper.make_node(operator, inputs, [output], name=output, domain=domain, **values))
        return output

    def host(self, layer: HostOperator, inputs: list[str], output: str) -> str:
        """Adds an operator of the host with its constants.

        Args:
            layer: The operator.
            inputs: What it reads in the place of ``layer.inputs``.
            output: What it writes.
        """
        names = dict(zip(layer.inputs, inputs, strict=True))
        for name, array in layer.constants.items():
            names[name] = self.constant(f"{layer.output}.{name}", array)
        node = onnx.NodeProto()
        node.CopyFrom(layer.node)
        node.input[:] = [names.get(name, "") for name in layer.node.input]
        node.output[:] = [output]
        node.name = output
        self.nodes.append(node)
        return output

    def model(
        self, inputs: list[onnx.ValueInfoProto], output: tuple[str, int], bindings: Mapping[str, Binding], opset: int
    ) -> onnx.ModelProto:
        """The model, with the function bodies that it uses and its binding.

        Args:
            inputs: Its inputs.
            output: Name and channels of its output.
            bindings: Meaning of the inputs.
            opset: Version of the standard operators.
        """
        value = onnx.helper.make_tensor_value_info(output[0], onnx.TensorProto.FLOAT, ["rows", output[1]])
        used = sorted({node.op_type for node in self.nodes} & set(hgnn.OPERATORS))
        model = onnx.helper.make_model(
            onnx.helper.make_graph(self.nodes, "hetfab", inputs, [value], list(self.initializers.values())),
            opset_imports=[
                onnx.helper.make_opsetid("", opset),
                onnx.helper.make_opsetid(hgnn.DOMAIN, hgnn.DOMAIN_VERSION),
                onnx.helper.make_opsetid(hgnn.QUANT_DOMAIN, hgnn.QUANT_DOMAIN_VERSION),
            ],
            ir_version=10,
            functions=[hgnn.function(name, opset) for name in used],
            producer_name="hetfab",
        )
        onnx.helper.set_model_props(model, {METADATA_KEY: to_json(bindings)})
        return model


def input_value(name: str, binding: Binding, graph: LayerGraph) -> onnx.ValueInfoProto:
    """Type and shape of an input; numbers of nodes and edges are free."""
    match binding:
        case Features() | MetapathMean():
            shape: list[str | int] = [f"N_{name}", graph.channels[name]]
            return onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)
        case NodeCount():
            return onnx.helper.make_tensor_value_info(name, onnx.TensorProto.INT64, [])
        case EdgeWeights(relation) | InDegreeWeights(relation, _):
            return onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [f"E_{relation.name}"])
    return onnx.helper.make_tensor_value_info(name, onnx.TensorProto.INT64, [f"E_{name.split('_', 1)[-1]}"])


def write_float(
    graph: LayerGraph,
    bindings: Mapping[str, Binding],
    constants: Mapping[str, npt.NDArray[np.generic]],
    opset: int = 20,
) -> onnx.ModelProto:
    """Writes layers as a float model.

    Args:
        graph: The layers.
        bindings: Meaning of the inputs that they read.
        constants: Numbers of nodes that are no inputs, by name.
        opset: Version of the standard operators; below 18, where axes became inputs, 18 is taken.
    """
    writer = GraphWriter()
    for name, table in graph.tables.items():
        writer.constant(name, table)
    for layer in graph.layers:
        if isinstance(layer, EdgeAggregation) and layer.count in constants:
            writer.constant(layer.count, constants[layer.count])
        _write(writer, layer, graph)
    used = {name for node in writer.nodes for name in node.input}
    kept = {name: binding for name, binding in bindings.items() if name in used}
    inputs = [input_value(name, binding, graph) for name, binding in kept.items()]
    return writer.model(inputs, (graph.output, graph.channels[graph.output]), kept, max(opset, 18))


def _write(writer: GraphWriter, layer: Layer, graph: LayerGraph) -> None:
    output = layer.output
    match layer:
        case Dense():
            weight = writer.constant(f"{output}.weight", layer.weight)
            products = writer.add(
                "MatMul", [layer.input, weight], output if layer.bias is None else f"{output}.products"
            )
            if layer.bias is not None:
                writer.add("Add", [products, writer.constant(f"{output}.bias", layer.bias)], output)
        case Bias():
            writer.add("Add", [layer.input, writer.constant(f"{output}.bias", layer.values)], output)
        case Relu():
            writer.add("Relu", [layer.input], output)
        case Add():
            writer.add("Add", [layer.left, layer.right], output)
        case Unary():
            has_alpha = layer.function in (Function.ELU, Function.LEAKY_RELU)
            values: dict[str, Any] = {"alpha": layer.alpha} if has_alpha else {}
            writer.add(layer.function.value, [layer.input], output, **values)
        case LayerNorm():
            _write_layer_norm(writer, layer)
        case RowNorm():
            _write_row_norm(writer, layer)
        case HostOperator():
            writer.host(layer, list(layer.inputs), output)
        case RowSlice():
            limits = [writer.whole(value) for value in (layer.first, layer.end, 0)]
            writer.add("Slice", [layer.input, *limits], output)
        case Stack():
            writer.add("Concat", list(layer.inputs), output, axis=0)
        case JoinParts():
            writer.add("JoinParts", [layer.input], output, hgnn.DOMAIN, parts=layer.parts)
        case SegMean() | SegSum() | EdgeAttention() | EdgeDot():
            _write_edges(writer, layer, graph)
        case TokenAttention() | Fusion() | PartMean():
            _write_parts(writer, layer)


def _write_layer_norm(writer: GraphWriter, layer: LayerNorm) -> None:
    output = f"{layer.output}.norm" if layer.relu else layer.output
    vectors = {"weight": layer.weight, "bias": layer.bias}
    parameters = [writer.constant(f"{layer.output}.{name}", vector) for name, vector in vectors.items()]
    writer.add("LayerNormalization", [layer.input, *parameters], output, axis=-1, epsilon=layer.epsilon)
    if layer.relu:
        writer.add("Relu", [output], layer.output)


def _write_row_norm(writer: GraphWriter, layer: RowNorm) -> None:
    length = writer.add("ReduceL2", [layer.input, writer.whole(1)], f"{layer.output}.length")
    smallest = writer.constant(f"{layer.output}.smallest", np.float32(layer.smallest))
    limited = writer.add("Clip", [length, smallest], f"{layer.output}.limited")
    writer.add("Div", [layer.input, limited], layer.output)


def _write_edges(writer: GraphWriter, layer: EdgeAggregation, graph: LayerGraph) -> None:
    ends = [layer.source, layer.destination]
    match layer:
        case SegMean():
            writer.add("SegMean", [layer.input, *ends, layer.count], layer.output, hgnn.DOMAIN)
        case SegSum(weights=None):
            writer.add("SegSum", [layer.input, *ends, layer.count], layer.output, hgnn.DOMAIN)
        case SegSum(weights=str(weights)):
            writer.add("SegSumWeighted", [layer.input, *ends, weights, layer.count], layer.output, hgnn.DOMAIN)
        case EdgeAttention():
            heads = _heads(writer, layer.input, graph.channels[layer.source_scores], f"{layer.output}.heads")
            inputs = [heads, layer.source_scores, layer.destination_scores, *ends]
            if layer.types is not None and layer.bias is not None:
                inputs += [layer.types, writer.constant(f"{layer.output}.tbias", layer.bias)]
            operator = "EdgeAtt" if layer.types is None else "EdgeAttTyped"
            writer.add(operator, [*inputs, layer.count], layer.output, hgnn.DOMAIN, slope=layer.slope)
        case EdgeDot():
            operands = {"queries": layer.queries, "keys": layer.keys, "values": layer.input}
            views = [_heads(writer, name, layer.heads, f"{layer.output}.{what}") for what, name in operands.items()]
            writer.add("EdgeDot", [*views, *ends, layer.count], layer.output, hgnn.DOMAIN)


def _heads(writer: GraphWriter, name: str, heads: int, output: str) -> str:
    return writer.add("Reshape", [name, writer.whole(0, heads, -1)], output)


def _write_parts(writer: GraphWriter, layer: TokenAttention | Fusion | PartMean) -> None:
    match layer:
        case PartMean():
            operator, inputs = "PartMean", [layer.input]
        case Fusion():
            operator, inputs = "Fuse", [layer.input, layer.weights]
        case TokenAttention():
            operator, inputs = "TokenAtt", [layer.queries, layer.keys, layer.input]
    writer.add(operator, inputs, layer.output, hgnn.DOMAIN, parts=layer.parts)
