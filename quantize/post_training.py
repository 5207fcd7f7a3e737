# SPDX-License-Identifier: Apache-2.0
"""Post-training quantization: runs the float model, chooses numbers, writes candidates, keeps the nearest one."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import onnx

from hetfab.overlay.host_nodes import Fallback
from hetfab.overlay.model.bound_model import BoundModel, FedModel
from hetfab.overlay.model.float_writer import write_float
from hetfab.overlay.model.layers import constants_of
from hetfab.overlay.model.parser import parse_layers
from hetfab.overlay.model.reader import bindings_of, check_model, opset
from hetfab.quantize.assignment import Assignment
from hetfab.quantize.layer_times import TimedGraph
from hetfab.quantize.methods import CRITERIA
from hetfab.quantize.ranges import ActivationRange
from hetfab.quantize.recipe import Recipe, weight_method
from hetfab.quantize.rewrites import rewrite
from hetfab.quantize.study import check_float
from hetfab.quantize.widths import Widths


@dataclass(frozen=True, eq=False)
class QuantizedModel(BoundModel):
    """A quantized model, ready to be compiled.

    Attributes:
        model: The quantized model; it carries its binding.
        bindings: The same binding.
        widths: Of its weights and activations, as they were asked for; None where each has its own.
        criterion: The calibration criterion that was kept, or what a search kept.
        divergences: Mean Kullback-Leibler divergence from the float model, in nats per node (or per node and
            class where multilabel), of all that was compared.
        ranges: Range of each stored tensor.
        assignment: Widths and methods of each layer and tensor of ``study``.
        study: The float model that it stands for.
    """

    widths: Widths | None
    criterion: str
    divergences: Mapping[str, float]
    ranges: Mapping[str, ActivationRange]
    assignment: Assignment
    study: TimedGraph


def quantize(
    given: FedModel,
    *,
    widths: Widths = Widths(),  # noqa: B008 - it is immutable
    assignment: Assignment | None = None,
    method: str | None = None,
    search: bool = False,
    fallback: Fallback = Fallback.NONE,
    progress: Callable[[str], None] = lambda step: None,
) -> QuantizedModel:
    """Quantizes a model; scales of activations, and of weights of 4 bits and more, are powers of two.

    Without a search three criteria for ranges are compared, which takes seconds where a search may take minutes.

    Args:
        given: The float model, its binding in full, the inputs to calibrate with, and what candidates are compared on.
        widths: Of weights and activations.
        assignment: Widths and methods of each layer and tensor, in place of ``widths``.
        method: For weights, a name of ``WEIGHT_METHODS``, where there is no assignment; by default ``alternation`` up
            to 4 bits and ``nearest`` above, where it loses nothing.
        search: Whether ``Recipe`` chooses, as for ``hetfab quantize``, where there is neither of the two.
        fallback: Whether the host may run operators on rows that the overlay does not execute (docs/fallback.md).
        progress: Called with the name of each step.

    Raises:
        AlreadyQuantizedError: The model is quantized.
        OperatorsUnsupportedError: The model has layers or sums that the overlay does not execute.
        HostFallbackError: With ``fallback``, nothing would be left for the overlay.
        BindingInvalidError: The inputs of an aggregation do not belong together.
        CalibrationDataError: There is no feed, or no row to compare candidates on.
    """
    study = TimedGraph.open(given, fallback)
    progress("float model")
    if search and assignment is None and method is None:
        return _searched(study, widths, progress)
    if assignment is not None:
        given_assignment = {assignment.arguments: assignment}
    else:
        method = method or weight_method(widths)
        given_assignment = {name: study.uniform(widths, weights=method, activations=name) for name in CRITERIA}
    divergences, models = {}, {}
    for name, each in given_assignment.items():
        progress(name)
        models[name] = study.write(each)
        divergences[name] = study.measured_divergence(models[name])
    best = min(divergences, key=lambda name: divergences[name])
    asked = widths if assignment is None else assignment.widths
    return _quantized(study, given_assignment[best], models[best], asked, best, divergences)


def _searched(study: TimedGraph, widths: Widths, progress: Callable[[str], None]) -> QuantizedModel:
    found = Recipe(study, progress).found(widths)
    model = found.study.write(found.assignment)
    divergences = {**found.divergences, found.kept: found.study.measured_divergence(model)}
    return _quantized(found.study, found.assignment, model, widths, found.kept, divergences)


def _quantized(
    study: TimedGraph,
    assignment: Assignment,
    model: onnx.ModelProto,
    widths: Widths | None,
    kept: str,
    divergences: Mapping[str, float],
) -> QuantizedModel:
    check_model(model, "the quantized model")
    ranges = study.numbers(assignment).ranges
    return QuantizedModel(model, bindings_of(model), widths, kept, divergences, ranges, assignment, study)


def rewritten(given: FedModel, fallback: Fallback = Fallback.NONE) -> FedModel:
    """The float model whose tensors a quantized model of the same names and layouts holds as integers.

    Args:
        given: As for ``quantize``.
        fallback: As for ``quantize``.

    Raises:
        AlreadyQuantizedError: The model is quantized.
        OperatorsUnsupportedError: The model has layers that the overlay does not execute.
    """
    check_float(given.model)
    graph = rewrite(parse_layers(given.model, fallback))
    return replace(given, model=write_float(graph, given.bindings, constants_of(given.model), opset(given.model)))
