# SPDX-License-Identifier: Apache-2.0
"""What a model holds, in words and numbers: inputs and their meaning, layers, and what hetfab does not execute."""

from collections import Counter
from collections.abc import Mapping

import numpy as np
import onnx

from hetfab.overlay.compiler.lowered import LoweredLayer
from hetfab.overlay.compiler.lowering import lower
from hetfab.overlay.errors import OperatorsUnsupportedError, counted
from hetfab.overlay.model.binding import Binding
from hetfab.overlay.model.cnn.inspection import summarise_cnn, takes_samples
from hetfab.overlay.model.layers import (
    Bias,
    Dense,
    EdgeAttention,
    EdgeDot,
    Fusion,
    HostOperator,
    JoinParts,
    Layer,
    LayerGraph,
    LayerNorm,
    PartMean,
    RowNorm,
    RowSlice,
    SegMean,
    SegSum,
    Stack,
    TokenAttention,
    Unary,
    constants_of,
    describe,
    inputs_of,
)
from hetfab.overlay.model.meaning import meaning
from hetfab.overlay.model.parser import try_layers
from hetfab.overlay.model.reader import graph_inputs, is_quantized, opset
from hetfab.overlay.model.summaries import InputSummary, Inspection, LayerSummary


def inspect_model(model: onnx.ModelProto, bindings: Mapping[str, Binding]) -> Inspection:
    """Summarises a model.

    Args:
        model: As ``read_model`` returns it.
        bindings: Meaning of its inputs, by name only or resolved; of a quantized model, resolved.

    Raises:
        InputError: The model contradicts itself, beyond what is refused.
    """
    quantized, samples = is_quantized(model), takes_samples(bindings)
    if samples:
        layers, refused = summarise_cnn(model)
    else:
        layers, refused = _lowered_layers(model, bindings) if quantized else _float_layers(model)
    return Inspection(
        opset=opset(model),
        quantized=quantized,
        inputs=tuple(
            InputSummary(value.name, _shape(value), meaning(bindings[value.name])) for value in graph_inputs(model)
        ),
        operators=dict(Counter(_operator(node) for node in model.graph.node)),
        layers=() if refused else layers,
        tables={} if samples else learned_tables(model),
        refused=refused,
    )


def _float_layers(model: onnx.ModelProto) -> tuple[tuple[LayerSummary, ...], tuple[str, ...]]:
    graph, refused = try_layers(model)
    return tuple(_summary(layer, graph) for layer in graph.layers), refused


def _lowered_layers(
    model: onnx.ModelProto, bindings: Mapping[str, Binding]
) -> tuple[tuple[LayerSummary, ...], tuple[str, ...]]:
    """The layers of a quantized model as they are compiled: a sum with all its terms is one."""
    try:
        return tuple(_lowered_summary(layer) for layer in lower(model, bindings).layers), ()
    except OperatorsUnsupportedError as error:
        return (), error.refused


def _lowered_summary(layer: LoweredLayer) -> LayerSummary:
    dense = layer.dense
    parts = ["dense"] if dense is not None else []
    attentions = sum(aggregation.attention is not None for aggregation in layer.aggregations)
    for number, kind in ((attentions, "attention"), (len(layer.aggregations) - attentions, "mean")):
        parts += [f"{number} {kind}s" if number > 1 else kind] if number else []
    for there, kind in ((layer.normalization, "norm"), (layer.table, "function"), (layer.relu or None, "relu")):
        parts += [kind] if there is not None else []
    reads = (layer.aggregations[0].input,) if dense is None else dense.reads
    return LayerSummary(
        layer.output.name,
        " + ".join(parts),
        sum(tensor.channels for tensor in reads),
        layer.output.channels,
        0 if dense is None else dense.weight.size + int(dense.bias.any()) * dense.bias.size,
        reads[0].bits,
        () if dense is None else tuple(int(bits) for bits in np.unique(dense.weight_bits)),
        layer.output.bits,
    )


def _shape(value: onnx.ValueInfoProto) -> str:
    dims = value.type.tensor_type.shape.dim
    return " x ".join(str(dim.dim_value or dim.dim_param or "?") for dim in dims) or "scalar"


def _operator(node: onnx.NodeProto) -> str:
    return describe(node).split(" '", maxsplit=1)[0]


def _summary(layer: Layer, graph: LayerGraph) -> LayerSummary:
    weights, read = 0, graph.channels.get(inputs_of(layer)[0], 0)
    match layer:
        case Dense():
            weights = layer.weight.size + (0 if layer.bias is None else layer.bias.size)
        case Bias(values=values):
            weights = values.size
        case LayerNorm():
            weights = layer.weight.size + layer.bias.size
        case EdgeAttention(bias=bias) if bias is not None:
            weights = bias.size
    return LayerSummary(layer.output, _kind(layer, graph), read, graph.channels[layer.output], weights)


def _kind(layer: Layer, graph: LayerGraph) -> str:
    """What a layer does, in words."""
    match layer:
        case Unary():
            return layer.function.value.lower()
        case LayerNorm():
            return "layer norm + relu" if layer.relu else "layer norm"
        case RowNorm():
            return "rows to length 1"
        case HostOperator():
            return f"{layer.node.op_type.lower()}, on the host"
        case Stack():
            return f"stack of {len(layer.inputs)}"
        case JoinParts() | Fusion() | TokenAttention() | PartMean():
            return f"{_PART_KINDS[type(layer)]} {layer.parts} parts"
        case RowSlice():
            return f"rows {layer.first} to {layer.end - 1}"
        case SegMean() | SegSum():
            kind = "mean" if isinstance(layer, SegMean) else "weighted sum" if layer.weights else "sum"
        case EdgeAttention():
            kind = f"attention of {counted(graph.channels[layer.source_scores], 'head')}"
        case EdgeDot():
            kind = f"dot attention of {counted(layer.heads, 'head')}"
        case _:
            return type(layer).__name__.lower()
    return f"{kind} over {layer.source} -> {layer.destination}"


_PART_KINDS: dict[type, str] = {
    JoinParts: "join",
    Fusion: "softmax-weighted sum of",
    TokenAttention: "dot attention between",
    PartMean: "means of",
}


def learned_tables(model: onnx.ModelProto) -> dict[str, int]:
    """Rows of each learned table: an initializer that Relu, an aggregation, a sum or the rows of a product read."""
    constants = {name: array for name, array in constants_of(model).items() if array.ndim == 2}
    tables: dict[str, int] = {}
    for node in model.graph.node:
        rows = node.input if node.op_type in ("Add", "Relu", "Concat") else node.input[:1]
        sums_constant = node.op_type == "Add" and any(constants[n].shape[0] == 1 for n in rows if n in constants)
        if node.op_type in ("Quant", "BipolarQuant", "Constant") or sums_constant:
            continue
        tables |= {name: len(constants[name]) for name in rows if name in constants}
    return tables
