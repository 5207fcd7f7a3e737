# SPDX-License-Identifier: Apache-2.0
"""What a model holds, in words and numbers: inputs and their meaning, layers, and what hetfab does not execute."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import onnx

from hetfab.overlay.errors import OperatorsUnsupportedError
from hetfab.overlay.model.binding import (
    Binding,
    EdgeTypes,
    Features,
    MetapathEnd,
    MetapathMean,
    NamedEnd,
    NamedMean,
    NodeCount,
    RelationEnd,
    StackedEnd,
)
from hetfab.overlay.model.layers import Add, Dense, Layer, LayerGraph, Relu, constants_of, describe, parse_layers
from hetfab.overlay.model.reader import graph_inputs, opset


@dataclass(frozen=True)
class InputSummary:
    """A model input: its name, its shape and what it means."""

    name: str
    shape: str
    meaning: str


@dataclass(frozen=True)
class LayerSummary:
    """A layer: the tensor it computes, what it does, channels in and out, and its weights."""

    name: str
    kind: str
    inputs: int
    channels: int
    weights: int


@dataclass(frozen=True)
class Inspection:
    """A model's summary.

    Attributes:
        opset: Version of the standard operators.
        quantized: Whether it has ``Quant`` nodes.
        inputs: Its inputs.
        operators: How often each operator occurs.
        layers: Its layers; empty for a quantized model, and where something is refused.
        tables: Rows of each learned table; a model with one is transductive.
        refused: Nodes that hetfab does not execute, each with the reason.
    """

    opset: int
    quantized: bool
    inputs: tuple[InputSummary, ...]
    operators: Mapping[str, int]
    layers: tuple[LayerSummary, ...]
    tables: Mapping[str, int]
    refused: tuple[str, ...]


def inspect_model(model: onnx.ModelProto, bindings: Mapping[str, Binding]) -> Inspection:
    """Summarises a model.

    Args:
        model: As ``read_model`` returns it.
        bindings: Meaning of its inputs, by name only or resolved.
    """
    quantized = any(node.op_type == "Quant" for node in model.graph.node)
    layers: tuple[LayerSummary, ...] = ()
    refused: tuple[str, ...] = ()
    if not quantized:
        try:
            graph = parse_layers(model)
            layers = tuple(_summary(layer, graph) for layer in graph.layers)
        except OperatorsUnsupportedError as error:
            refused = tuple(line.strip() for line in error.found.splitlines()[1:])
    return Inspection(
        opset=opset(model),
        quantized=quantized,
        inputs=tuple(
            InputSummary(value.name, _shape(value), meaning(bindings[value.name])) for value in graph_inputs(model)
        ),
        operators=dict(Counter(_operator(node) for node in model.graph.node)),
        layers=layers,
        tables=learned_tables(model),
        refused=refused,
    )


def meaning(binding: Binding) -> str:
    """What an input means, in words."""
    match binding:
        case Features(node_type):
            return f"features of {node_type}"
        case NodeCount(node_type):
            return f"number of {node_type} vertices"
        case NamedEnd(name, end):
            return f"{end.value} ids of {name}"
        case RelationEnd(relation, end):
            return f"{end.value} ids of {relation}"
        case MetapathEnd(name, relations, end):
            return f"{end.value} ids of the metapath {name}: " + ", ".join(map(str, relations))
        case StackedEnd(types, _, self_loops, end):
            return f"{end.value} ids of all relations, {_stack(types, self_loops)}"
        case EdgeTypes(types, _, self_loops):
            return f"edge types of all relations, {_stack(types, self_loops)}"
        case NamedMean(path):
            return f"mean of features along {path}"
        case MetapathMean((), node_type):
            return f"features of {node_type}"
        case MetapathMean(relations, node_type):
            return f"mean of {node_type} features along " + ", ".join(map(str, relations))


def _stack(types: tuple[str, ...], self_loops: bool) -> str:
    stacked = "types stacked" if not types else "stacked: " + ", ".join(types)
    return stacked + (", with self loops" if self_loops else "")


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
