# SPDX-License-Identifier: Apache-2.0
"""Compares what a model wants of a graph with what the graph has, before anything runs."""

from collections.abc import Iterator, Mapping

import onnx

from hetfab.driver.graph.heterograph import HeteroGraph, listed
from hetfab.overlay.errors import (
    CountFixedError,
    FeaturesMissingError,
    FeatureWidthError,
    GraphUnfitError,
    InputError,
    RelationMissingError,
    counted,
)
from hetfab.overlay.host_nodes import Fallback
from hetfab.overlay.model.binding import Binding, Features, MetapathMean, resolve
from hetfab.overlay.model.layers import constants_of
from hetfab.overlay.model.parser import try_layers
from hetfab.overlay.model.reader import graph_inputs, input_widths, is_quantized
from hetfab.overlay.model.rows import check_aggregations, check_fixed_counts


def fitting_bindings(model: onnx.ModelProto, bindings: Mapping[str, Binding], graph: HeteroGraph) -> dict[str, Binding]:
    """The binding in full, if the graph has all that the model wants of it.

    Args:
        model: As ``read_model`` returns it.
        bindings: Meaning of its inputs, by name only or in full.
        graph: The graph.

    Raises:
        GraphUnfitError: The graph differs in more than one way; all are named.
        InputError: It differs in one, or the binding contradicts itself.
    """
    differences: list[InputError] = []
    resolved: dict[str, Binding] | None = None
    try:
        resolved = resolve(bindings, graph.schema())
    except RelationMissingError as error:
        differences.append(error)
    differences += _of_features(model, resolved or bindings, graph)
    if resolved is not None and not is_quantized(model):
        differences += _of_counts(model, resolved, graph)
    if len(differences) > 1:
        raise GraphUnfitError(
            f"the graph '{graph.name}' differs in {len(differences)} ways from what the model wants:\n    "
            + "\n    ".join(error.found for error in differences),
            "; ".join(dict.fromkeys(error.expected for error in differences)),
            "use the graph that the model was made for, or a model for this graph",
            differences,
        )
    if differences or resolved is None:
        raise differences[0]
    return resolved


def _of_features(model: onnx.ModelProto, bindings: Mapping[str, Binding], graph: HeteroGraph) -> Iterator[InputError]:
    rows = {value.name: value.type.tensor_type.shape.dim[0].dim_value for value in graph_inputs(model) if _dims(value)}
    widths = input_widths(model)
    for name, binding in bindings.items():
        node_type = binding.type if isinstance(binding, Features | MetapathMean) else None
        if node_type is None or node_type not in graph.counts:
            continue
        table, count = graph.features.get(node_type), graph.counts[node_type]
        if isinstance(binding, Features):
            if table is None:
                yield FeaturesMissingError(
                    f"the nodes of type '{node_type}' of the graph '{graph.name}' have no features",
                    f"a type with features: {listed(graph.features)}",
                    "add features to the graph, or use a model with a learned table for this type",
                )
                continue
            if rows.get(name, 0) not in (0, count):
                yield CountFixedError(
                    f"the graph '{graph.name}' has {counted(count, 'node')} of type '{node_type}'",
                    f"{rows[name]}, the rows that the model's input '{name}' has",
                    "use the graph that the model was made for, or export the model with free numbers of nodes",
                )
        width = count if table is None else graph.schema().feature_widths[node_type]
        if widths.get(name, width) != width:
            yield FeatureWidthError(
                f"the graph '{graph.name}' gives the input '{name}' {counted(width, 'column')}",
                f"{counted(widths[name], 'column')}, as the model has them",
                "use the graph that the model was made for, or features of the model's width",
            )


def _dims(value: onnx.ValueInfoProto) -> int:
    return len(value.type.tensor_type.shape.dim)


def _of_counts(model: onnx.ModelProto, bindings: Mapping[str, Binding], graph: HeteroGraph) -> Iterator[InputError]:
    layers, refused = try_layers(model, Fallback.HOST)
    if refused:
        return
    check_aggregations(layers, bindings)
    try:
        check_fixed_counts(layers, bindings, constants_of(model), graph.counts)
    except CountFixedError as error:
        yield error
