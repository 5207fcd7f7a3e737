# SPDX-License-Identifier: Apache-2.0
"""Writes ``model.q.onnx``: the float model's layers with QONNX ``Quant`` nodes and quantized graph operators."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import onnx

from hetfab.overlay.isa.arithmetic import ACCUMULATOR_BITS, Q8_BITS, TERM_BITS
from hetfab.overlay.isa.normalization import root_table
from hetfab.overlay.model import hgnn
from hetfab.overlay.model.binding import Binding, Features, NodeCount
from hetfab.overlay.model.edges import StackedEdges, edge_set
from hetfab.overlay.model.float_writer import GraphWriter, input_value
from hetfab.overlay.model.layers import (
    Add,
    Bias,
    Dense,
    EdgeAggregation,
    EdgeAttention,
    EdgeDot,
    Fusion,
    HostOperator,
    JoinParts,
    Layer,
    LayerGraph,
    LayerNorm,
    PartMean,
    Relu,
    RowSlice,
    SegMean,
    SegSum,
    Stack,
    TokenAttention,
    Unary,
)
from hetfab.overlay.model.sums import is_product
from hetfab.quantize.functions import norm_numbers, table_of
from hetfab.quantize.points import QuantizationPoints
from hetfab.quantize.ranges import ActivationRange
from hetfab.quantize.weights import LayerWeights, QuantizedWeights, round_bias

#: Of attention scores, whose scale is that of Q.8 itself.
SCORE_BITS = 16


@dataclass(frozen=True)
class Numbers:
    """What quantization chose.

    Attributes:
        ranges: Of stored tensors.
        inner: Of tensors that functions and norms read.
        weights: Of dense layers, by output.
        logits: Of an output that the host computes, None otherwise.
    """

    ranges: Mapping[str, ActivationRange]
    weights: Mapping[str, LayerWeights]
    inner: Mapping[str, ActivationRange] = field(default_factory=dict)
    logits: ActivationRange | None = None


@dataclass
class _Writer(GraphWriter):
    """The methods named like layers write one; those named like values return the name of one."""

    graph: LayerGraph = field(kw_only=True)
    points: QuantizationPoints = field(kw_only=True)
    numbers: Numbers = field(kw_only=True)
    bindings: Mapping[str, Binding] = field(kw_only=True)
    counts: dict[str, str] = field(default_factory=dict)

    def quant(self, source: str, output: str, scale: npt.ArrayLike, bits: int, *, signed: bool, narrow: bool) -> str:
        inputs = [
            source,
            self.constant(f"{output}.scale", np.asarray(scale, dtype=np.float32)),
            self.constant("quant.zero_point", np.float32(0)),
            self.constant(f"quant.bits_{bits}", np.float32(bits)),
        ]
        values = {"signed": int(signed), "narrow": int(narrow), "rounding_mode": "ROUND"}
        return self.add("Quant", inputs, output, hgnn.QUANT_DOMAIN, **values)

    def store(self, tensor: str, made_by: Layer | None = None) -> None:
        """Adds the integer forms in which layers read a tensor."""
        if tensor in self.numbers.inner:
            self._store_as(tensor, self.inner_name(tensor), self.numbers.inner[tensor], made_by)
        if tensor in self.points.scores:
            self.quant(tensor, self.score_name(tensor), 1 / (1 << Q8_BITS), SCORE_BITS, signed=True, narrow=False)
        if tensor in self.points.stored and not isinstance(made_by, Unary | LayerNorm | JoinParts):
            self._store_as(tensor, self.stored_name(tensor), self.numbers.ranges[tensor], made_by)

    def _store_as(self, tensor: str, name: str, chosen: ActivationRange, made_by: Layer | None) -> None:
        """A rounding, or, of a stack, its rounded parts."""
        if isinstance(made_by, Stack):
            parts = [f"{part}.{name.rpartition('.')[2]}" for part in made_by.inputs]
            self.add("Concat", parts, name, axis=0)
        else:
            self.quant(tensor, name, chosen.scale, chosen.bits, signed=chosen.signed, narrow=False)

    def stored_name(self, tensor: str) -> str:
        """Name of a tensor's integer form."""
        return f"{tensor}.int{self.numbers.ranges[tensor].bits}"

    def inner_name(self, tensor: str) -> str:
        """Name of a tensor's form that a function or a norm reads."""
        return f"{tensor}.int{self.numbers.inner[tensor].bits}"

    def score_name(self, tensor: str) -> str:
        """Name of a tensor's form in Q.8."""
        return f"{tensor}.int{SCORE_BITS}"

    def scale_of(self, tensor: str) -> str:
        """A stored tensor's scale, as an operand."""
        name = self.stored_name(tensor)
        return self.constant(f"{name}.scale", np.float32(self.numbers.ranges[tensor].scale))

    def unit_of(self, aggregated: str) -> float:
        """A step of a sum in Q.8."""
        return self.numbers.ranges[aggregated].scale / (1 << Q8_BITS)

    def dense(self, layer: Dense) -> None:
        weights = self.numbers.weights[layer.output]
        rows, quantized = self.stored_name(layer.input), self.weights(f"{layer.output}.weight", weights)
        bias = layer.bias if weights.bias is None else weights.bias
        if bias is None:
            self.add("MatMul", [rows, quantized], layer.output)
        else:
            scales = np.ldexp(weights.scales.astype(np.float64), self.numbers.ranges[layer.input].exponent)
            steps = round_bias(bias, scales)
            stored = self.constant(f"{layer.output}.bias", (steps * scales).astype(np.float32))
            rounded = self.quant(stored, f"{stored}.int", scales, ACCUMULATOR_BITS, signed=True, narrow=False)
            self.add("MatMul", [rows, quantized], f"{layer.output}.products")
            self.add("Add", [f"{layer.output}.products", rounded], layer.output)

    def weights(self, name: str, weights: LayerWeights) -> str:
        """Adds a layer's weights, an initializer for each run of a width; returns the name of the rounded weights."""
        if len(weights.parts) == 1:
            return self.run(name, weights.parts[0])
        runs = [self.run(f"{name}.{number}", part) for number, part in enumerate(weights.parts)]
        return self.add("Concat", runs, f"{name}.joined", axis=1)

    def run(self, name: str, weights: QuantizedWeights) -> str:
        """Adds the initializer of weights of one width and its rounding; returns the name of the rounded weights."""
        stored = self.constant(name, weights.integers.astype(np.float32) * weights.scales)
        output, scale = f"{stored}.int", weights.scales[None, :]
        if weights.bits == 1:
            inputs = [stored, self.constant(f"{output}.scale", scale)]
            return self.add("BipolarQuant", inputs, output, hgnn.QUANT_DOMAIN)
        return self.quant(stored, output, scale, weights.bits, signed=True, narrow=weights.narrow)

    def bias(self, layer: Bias) -> None:
        """A constant row that joins a sum as a dense term does."""
        group = next(group for group in self.points.groups if layer in group.biases)
        unit = self.unit_of(group.aggregations[0].input)
        row = self.constant(f"{layer.output}.bias", layer.values[None, :])
        rounded = self.quant(row, f"{row}.q8", unit, TERM_BITS, signed=True, narrow=False)
        self.add("Add", [layer.input, rounded], layer.output)

    def edges(self, layer: EdgeAggregation) -> None:
        ends = [layer.source, layer.destination]
        rows, scale = self.stored_name(layer.input), self.scale_of(layer.input)
        match layer:
            case SegMean():
                self.add("QSegMean", [rows, *ends, self.count(layer), scale], layer.output, hgnn.DOMAIN)
            case SegSum(weights=None):
                self.add("QSegSum", [rows, *ends, self.count(layer), scale], layer.output, hgnn.DOMAIN)
            case SegSum(weights=str(weights)):
                inputs = [rows, *ends, weights, self.count(layer), scale]
                self.add("QSegSumWeighted", inputs, layer.output, hgnn.DOMAIN)
            case EdgeAttention():
                inputs = [rows, *map(self.score_name, (layer.source_scores, layer.destination_scores)), *ends]
                if layer.types is not None and layer.bias is not None:
                    table = self.constant(f"{layer.output}.tbias", layer.bias)
                    unit = 1 / (1 << Q8_BITS)
                    rounded = self.quant(table, self.score_name(table), unit, SCORE_BITS, signed=True, narrow=False)
                    inputs += [layer.types, rounded]
                operator = "QEdgeAtt" if layer.types is None else "QEdgeAttTyped"
                inputs += [self.count(layer), scale]
                self.add(operator, inputs, layer.output, hgnn.DOMAIN, slope=layer.slope)
            case EdgeDot():
                operands = [layer.queries, layer.keys]
                inputs = [*map(self.stored_name, operands), rows, *ends, self.count(layer)]
                inputs += [*map(self.scale_of, operands), scale]
                self.add("QEdgeDot", inputs, layer.output, hgnn.DOMAIN, heads=layer.heads)

    def count(self, layer: EdgeAggregation) -> str:
        """The number of an aggregation's destinations: an input for one type, the rows of scores for a stack."""
        edges = edge_set(self.bindings, layer.source, layer.destination)
        if not isinstance(edges, StackedEdges):
            return self.counts.setdefault(edges.destination_type, f"n_{edges.destination_type}")
        assert isinstance(layer, EdgeAttention), "stacks come with scores of their rows"
        rows = self.score_name(layer.destination_scores)
        return self.add("Shape", [rows], f"{layer.output}.rows", start=0, end=1)

    def parts(self, layer: TokenAttention | Fusion | PartMean) -> None:
        rows, scale = self.stored_name(layer.input), self.scale_of(layer.input)
        match layer:
            case PartMean():
                self.add("QPartMean", [rows, scale], layer.output, hgnn.DOMAIN, parts=layer.parts)
            case Fusion():
                inputs = [rows, self.score_name(layer.weights), scale]
                self.add("QFuse", inputs, layer.output, hgnn.DOMAIN, parts=layer.parts)
            case TokenAttention():
                operands = [layer.queries, layer.keys]
                inputs = [*map(self.stored_name, operands), rows, *map(self.scale_of, operands), scale]
                self.add("QTokenAtt", inputs, layer.output, hgnn.DOMAIN, parts=layer.parts)

    def join(self, layer: JoinParts) -> None:
        inputs = [self.stored_name(layer.input)]
        self.add("JoinParts", inputs, self.stored_name(layer.output), hgnn.DOMAIN, parts=layer.parts)

    def unary(self, layer: Unary) -> None:
        argument, result = self.numbers.inner[layer.input], self.numbers.ranges[layer.output]
        read, written = self.inner_name(layer.input), self.stored_name(layer.output)
        table = self.constant(f"{written}.table", table_of(layer, argument, result))
        scales = {f"{read}.scale": argument.scale, f"{written}.scale": result.scale}
        of_argument, of_result = (self.constant(name, np.float32(scale)) for name, scale in scales.items())
        signs = {"signed": int(argument.signed), "result_signed": int(result.signed)}
        self.add("QTable", [read, of_argument, table, of_result], written, hgnn.DOMAIN, **signs)

    def norm(self, layer: LayerNorm) -> None:
        argument, result = self.numbers.inner[layer.input], self.numbers.ranges[layer.output]
        read, written = self.inner_name(layer.input), self.stored_name(layer.output)
        found = norm_numbers(layer, argument, result)
        base, fall = root_table()
        operands: dict[str, npt.ArrayLike] = {
            f"{read}.scale": np.float32(argument.scale),
            f"{written}.gain": found.gain,
            f"{written}.offset": found.offset,
            f"{written}.epsilon": np.int64(found.epsilon),
            f"{written}.shift": np.int64(found.shift),
            f"{written}.bits": np.int64(result.bits),
            f"{written}.scale": np.float32(result.scale),
            "norm.base": base,
            "norm.fall": fall,
        }
        inputs = [read, *(self.constant(name, array) for name, array in operands.items())]
        self.add("QLayerNorm", inputs, written, hgnn.DOMAIN, signed=int(result.signed))

    def on_host(self, layer: HostOperator) -> None:
        """An operator of the host; logits are rounded finely, to whole numbers that float32 holds."""
        inputs, logits = [self.stored_name(name) for name in layer.inputs], self.numbers.logits
        if layer.output != self.graph.output or logits is None:
            self.host(layer, inputs, layer.output)
        else:
            written = self.host(layer, inputs, f"{layer.output}.host")
            self.quant(written, layer.output, logits.scale, logits.bits, signed=True, narrow=False)

    def slice(self, layer: RowSlice) -> None:
        limits = [self.whole(value) for value in (layer.first, layer.end, 0)]
        self.add("Slice", [layer.input, *limits], layer.output)

    def term(self, tensor: str) -> str:
        """Name of a sum's operand: products are read in Q.8."""
        return f"{tensor}.q8" if tensor in {group.product for group in self.points.groups} else tensor

    def product_in_q8(self, tensor: str) -> None:
        """Rounds a product, or a sum of products, that aggregations are added to."""
        group = next((group for group in self.points.groups if group.product == tensor), None)
        if group is not None:
            unit = self.unit_of(group.aggregations[0].input)
            self.quant(tensor, f"{tensor}.q8", unit, TERM_BITS, signed=True, narrow=False)

    def total(self, layer: Add) -> None:
        operands = [layer.left, layer.right]
        if not is_product(layer.output, {each.output: each for each in self.graph.layers}):
            operands = [self.term(operand) for operand in operands]
        self.add("Add", operands, layer.output)

    def write(self) -> None:
        for name, binding in self.bindings.items():
            if isinstance(binding, Features):
                self.store(name)
        for name, table in self.graph.tables.items():
            self.constant(name, table)
            self.store(name)
        for layer in self.graph.layers:
            self.layer(layer)
            self.product_in_q8(layer.output)
            self.store(layer.output, layer)

    def layer(self, layer: Layer) -> None:
        match layer:
            case Dense():
                self.dense(layer)
            case Bias():
                self.bias(layer)
            case SegMean() | SegSum() | EdgeAttention() | EdgeDot():
                self.edges(layer)
            case TokenAttention() | Fusion() | PartMean():
                self.parts(layer)
            case Add():
                self.total(layer)
            case Relu():
                self.add("Relu", [layer.input], layer.output)
            case Unary():
                self.unary(layer)
            case LayerNorm():
                self.norm(layer)
            case JoinParts():
                self.join(layer)
            case HostOperator():
                self.on_host(layer)
            case RowSlice():
                self.slice(layer)


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
    writer = _Writer(graph=graph, points=points, numbers=numbers, bindings=bindings)
    writer.write()
    used = {name for node in writer.nodes for name in node.input}
    kept = {name: binding for name, binding in bindings.items() if name in used}
    kept |= {name: NodeCount(node_type) for node_type, name in writer.counts.items()}
    inputs = [input_value(name, binding, graph) for name, binding in kept.items()]
    return writer.model(inputs, (graph.output, graph.channels[graph.output]), kept, opset)
