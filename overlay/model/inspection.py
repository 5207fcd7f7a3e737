# SPDX-License-Identifier: Apache-2.0
"""What a model holds, in words and numbers: inputs and their meaning, layers, and what hetfab does not execute."""

from collections import Counter
from collections.abc import Mapping

import numpy as np
import onnx

from hetfab.overlay.compiler.lowered import LoweredLayer
from hetfab.overlay.compiler.lowering import lower
from hetfab.overlay.errors import OperatorsUnsupportedError
from hetfab.overlay.model.binding import Binding
from hetfab.overlay.model.cnn.inspection import summarise_cnn, takes_samples
from hetfab.overlay.model.layers import Add, Dense, Layer, LayerGraph, Relu, constants_of, describe
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
    dense, means = layer.dense, len(layer.aggregations)
    parts = ["dense"] if dense is not None else []
    parts += [f"{means} means" if means > 1 else "mean"] if means else []
    parts += ["relu"] if layer.relu else []
    read = layer.aggregations[0].input if dense is None else dense.input
    return LayerSummary(
        layer.output.name,
        " + ".join(parts),
        read.channels,
        layer.output.channels,
        0 if dense is None else dense.weight.size + int(dense.bias.any()) * dense.bias.size,
        read.bits,
        () if dense is None else tuple(int(bits) for bits in np.unique(dense.weight_bits)),
        layer.output.bits,
    )


def _shape(value: onnx.ValueInfoProto) -> str:
    dims = value.type.tensor_type.shape.dim
    return " x ".join(str(dim.dim_value or dim.dim_param or "?") for dim in dims) or "scalar"


def _operator(node: onnx.NodeProto) -> str:
    return describe(node).split(" '", maxsplit=1)[0]


def _summary(layer: Layer, graph: LayerGraph) -> LayerSummary:
    channels = graph.channels[layer.output]
    match layer:
        case Dense():
            weights = layer.weight.size + (0 if layer.bias is None else layer.bias.size)
            return LayerSummary(layer.output, "dense", layer.weight.shape[0], channels, weights)
        case Relu():
            return LayerSummary(layer.output, "relu", channels, channels, 0)
        case Add():
            return LayerSummary(layer.output, "add", channels, channels, 0)
    return LayerSummary(layer.output, f"mean over {layer.source} -> {layer.destination}", channels, channels, 0)


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
