# SPDX-License-Identifier: Apache-2.0
"""Joins a model and a graph: the full input binding, and the feeds that onnxruntime takes."""

from collections.abc import Mapping
from typing import Any

import numpy.typing as npt
import onnx

from hetfab.driver.graph.feeds import feeds
from hetfab.driver.graph.heterograph import HeteroGraph
from hetfab.overlay.model.binding import Binding, parse, resolve
from hetfab.overlay.model.reader import graph_inputs, input_widths, metadata


def model_bindings(
    model: onnx.ModelProto, graph: HeteroGraph | None, overrides: Mapping[str, Binding] | None = None
) -> dict[str, Binding]:
    """The meaning of a model's inputs, in full where a graph is given.

    Raises:
        InputsUnboundError: The meaning of inputs is unknown.
        BindingInvalidError: The binding is malformed.
        RelationMissingError: The graph lacks what the model reads.
    """
    names = [value.name for value in graph_inputs(model)]
    bindings = parse(names, metadata(model), overrides)
    return bindings if graph is None else resolve(bindings, graph.schema())


def model_feeds(
    model: onnx.ModelProto, bindings: Mapping[str, Binding], graph: HeteroGraph
) -> dict[str, npt.NDArray[Any]]:
    """A model's inputs on a graph.

    Raises:
        FeaturesMissingError: An input reads features of a type that has none.
        FeatureWidthError: Features have another width than the model's.
    """
    return feeds(graph, bindings, input_widths(model))
