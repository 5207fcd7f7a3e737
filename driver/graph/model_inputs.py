# SPDX-License-Identifier: Apache-2.0
"""Joins a model and a graph: the full input binding, and the feeds that onnxruntime takes."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy.typing as npt
import onnx

from hetfab.driver.graph.feeds import feeds
from hetfab.driver.graph.fitting import fitting_bindings
from hetfab.driver.graph.heterograph import HeteroGraph
from hetfab.overlay.errors import CountFixedError, counted
from hetfab.overlay.host_nodes import Fallback
from hetfab.overlay.model.binding import Binding, Features, resolve
from hetfab.overlay.model.bound_model import Evaluation, FedModel
from hetfab.overlay.model.float_writer import write_float
from hetfab.overlay.model.hops import has_metapath_means, means_by_hops
from hetfab.overlay.model.layers import constants_of
from hetfab.overlay.model.parser import parse_layers, try_layers
from hetfab.overlay.model.reader import bindings_of, graph_inputs, input_widths, is_quantized, opset, read_model
from hetfab.overlay.model.rows import row_types


def open_model(path: Path | str, graph: HeteroGraph, overrides: Mapping[str, Binding] | None = None) -> FedModel:
    """Reads a model and its inputs on a graph, ready to be quantized or run.

    Quantized candidates are compared with it on the validation nodes of the type that it predicts, or on all where
    there are none. A model that hetfab does not execute is opened too.

    Args:
        path: ONNX file.
        graph: The graph to calibrate with.
        overrides: Meaning of inputs, where neither the file nor their names say it.

    Raises:
        InputError: The model cannot be read, or does not fit the graph.
    """
    return on_graph(read_model(Path(path)), graph, overrides)


def on_graph(model: onnx.ModelProto, graph: HeteroGraph, overrides: Mapping[str, Binding] | None = None) -> FedModel:
    """As ``open_model``, of a model that was read."""
    bindings = fitting_bindings(model, bindings_of(model, overrides), graph)
    target = _predicted_type(model, bindings, graph) or graph.target or ""
    labels, rows = graph.labels.get(target), graph.splits.get(target, {}).get("val")
    evaluation = Evaluation(
        rows if rows is not None and len(rows) else None, multilabel=labels is not None and labels.ndim == 2
    )
    return FedModel(model, bindings, [model_feeds(model, bindings, graph)], evaluation)


def with_hops(opened: FedModel, graph: HeteroGraph, fallback: Fallback = Fallback.NONE) -> FedModel:
    """A float model that computes the means along metapaths that it reads; any other model as it is.

    Args:
        opened: As ``open_model`` gives it.
        graph: The graph that it was opened with.
        fallback: Whether the host runs operators on rows that no layer stands for.

    Raises:
        OperatorsUnsupportedError: The model has operators that the overlay does not execute.
    """
    if not has_metapath_means(opened.bindings):
        return opened
    layers, bindings = means_by_hops(
        parse_layers(opened.model, fallback), opened.bindings, graph.schema().feature_widths
    )
    model = write_float(layers, bindings, constants_of(opened.model), opset(opened.model))
    return FedModel(model, bindings, [model_feeds(model, bindings, graph)], opened.evaluation)


def _predicted_type(model: onnx.ModelProto, bindings: Mapping[str, Binding], graph: HeteroGraph) -> str | None:
    """The node type of a float model's logits, where it is known."""
    if is_quantized(model):
        return None
    layers, refused = try_layers(model, Fallback.HOST)
    if refused:
        return None
    return row_types(layers, bindings, graph.counts).get(layers.output, (None,))[0]


def model_bindings(
    model: onnx.ModelProto, graph: HeteroGraph | None, overrides: Mapping[str, Binding] | None = None
) -> dict[str, Binding]:
    """The meaning of a model's inputs, in full where a graph is given.

    Raises:
        InputsUnboundError: The meaning of inputs is unknown.
        BindingInvalidError: The binding is malformed.
        RelationMissingError: The graph lacks what the model reads.
    """
    bindings = bindings_of(model, overrides)
    return bindings if graph is None else resolve(bindings, graph.schema())


def model_feeds(
    model: onnx.ModelProto, bindings: Mapping[str, Binding], graph: HeteroGraph
) -> dict[str, npt.NDArray[Any]]:
    """A model's inputs on a graph.

    Raises:
        FeaturesMissingError: An input reads features of a type that has none.
        FeatureWidthError: Features have another width than the model's.
        CountFixedError: The model fixes another number of nodes.
    """
    for value in graph_inputs(model):
        binding, dims = bindings[value.name], value.type.tensor_type.shape.dim
        rows = dims[0].dim_value if dims else 0
        if isinstance(binding, Features) and rows and rows != graph.counts[binding.type]:
            raise CountFixedError(
                f"the graph '{graph.name}' has {counted(graph.counts[binding.type], 'node')} of type '{binding.type}'",
                f"{rows}, the rows that the model's input '{value.name}' has",
                "use the graph that the model was made for, or export the model with free numbers of nodes",
            )
    return feeds(graph, bindings, input_widths(model))
