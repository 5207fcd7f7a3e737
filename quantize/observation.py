# SPDX-License-Identifier: Apache-2.0
"""Runs the float model on the calibration feeds and keeps what numbers are chosen by."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import onnx

from hetfab.overlay.errors import CalibrationDataError, counted
from hetfab.overlay.model.binding import Binding
from hetfab.overlay.model.bound_model import Evaluation
from hetfab.overlay.model.edges import StackedEdges, edge_set
from hetfab.overlay.model.layers import EdgeAggregation, LayerGraph, constants_of
from hetfab.overlay.model.runtime import Feed, run_model
from hetfab.quantize.points import QuantizationPoints

FloatArray: TypeAlias = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Observed:
    """What the float model shows.

    Attributes:
        values: Non-zero values of each tensor that becomes an integer.
        largest: Largest magnitude of each dense term of a sum.
        logits: Of each feed, [rows, classes].
    """

    values: Mapping[str, FloatArray]
    largest: Mapping[str, float]
    logits: tuple[FloatArray, ...]


def observe(model: onnx.ModelProto, points: QuantizationPoints, output: str, samples: list[Feed]) -> Observed:
    """Runs the float model.

    Args:
        model: It.
        points: Where its tensors become integers.
        output: Its output.
        samples: The feeds.

    Raises:
        CalibrationDataError: A tensor has a value that is no finite number.
    """
    exposed = onnx.ModelProto()
    exposed.CopyFrom(model)
    given = {value.name for value in model.graph.input}
    constants = constants_of(model)
    computed = [name for name in points.observed if name not in given and name not in constants]
    produced = {name for node in model.graph.node for name in node.output}
    largest = {group.product: 0.0 for group in points.groups if group.product in produced}
    computed += [name for name in largest if name not in computed]
    exposed.graph.output.extend(onnx.ValueInfoProto(name=name) for name in computed if name != output)
    values: dict[str, list[FloatArray]] = {name: [] for name in points.observed}
    logits = []
    for sample in samples:
        results = run_model(exposed, sample, [output, *computed])
        logits.append(results[0])
        for name, array in zip(computed, results[1:], strict=True):
            if name in values:
                values[name].append(array[array != 0])
            if name in largest:
                largest[name] = max(largest[name], float(np.abs(array).max(initial=0.0)))
        for name in points.stored:
            if name in sample:
                values[name].append(sample[name][sample[name] != 0])
    for name in points.stored:
        if name in constants:
            table = constants[name].astype(np.float32)
            values[name].append(table[table != 0])
    joined = {name: np.concatenate(parts) for name, parts in values.items()}
    check_finite(joined)
    return Observed(joined, largest, tuple(logits))


def check_finite(values: Mapping[str, FloatArray]) -> None:
    """Checks what tensors hold.

    Raises:
        CalibrationDataError: A tensor has a value that is no finite number; all such are named.
    """
    wrong = [name for name, found in values.items() if not np.isfinite(found).all()]
    if wrong:
        raise CalibrationDataError(
            "values of these tensors are NaN or infinite: " + ", ".join(wrong),
            "finite numbers in every tensor that becomes an integer",
            "look for such values in the features, or for a division by zero in the model",
        )


def check_rows(logits: tuple[FloatArray, ...], evaluation: Evaluation) -> None:
    """Checks that there are logits to compare models on.

    Raises:
        CalibrationDataError: There are none, or the nodes are not those of the logits.
    """
    rows = [len(matrix) if evaluation.rows is None else len(evaluation.rows) for matrix in logits]
    if 0 in rows:
        raise CalibrationDataError(
            "there is no node to compare the logits of candidates on",
            "at least one node of the target type",
            "give a graph with target nodes, or a validation split that is not empty",
        )
    largest = -1 if evaluation.rows is None else int(evaluation.rows.max())
    fewest = min(len(matrix) for matrix in logits)
    if largest >= fewest:
        raise CalibrationDataError(
            f"candidates are to be compared on node {largest}, but the logits have {counted(fewest, 'row')}",
            "nodes of the type whose logits the model computes",
            "give a graph whose target type is the model's",
        )


def node_counts(
    model: onnx.ModelProto, graph: LayerGraph, bindings: Mapping[str, Binding], sample: Feed
) -> dict[str, npt.NDArray[Any]]:
    """The node counts that a quantized model reads as inputs, from the float model's initializers or inputs."""
    constants = constants_of(model)
    counts = {}
    for layer in graph.layers:
        if isinstance(layer, EdgeAggregation):
            edges = edge_set(bindings, layer.source, layer.destination)
            if not isinstance(edges, StackedEdges):
                count = sample[layer.count] if layer.count in sample else constants[layer.count]
                counts[f"n_{edges.destination_type}"] = count
    return counts
