# SPDX-License-Identifier: Apache-2.0
"""Post-training quantization: runs the float model, chooses numbers, writes candidates, keeps the nearest one."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from hetfab.overlay.host_nodes import Fallback
from hetfab.overlay.model.bound_model import BoundModel, FedModel
from hetfab.overlay.model.float_writer import write_float
from hetfab.overlay.model.layers import constants_of
from hetfab.overlay.model.parser import parse_layers
from hetfab.overlay.model.reader import bindings_of, check_model, opset
from hetfab.quantize.assignment import Assignment
from hetfab.quantize.methods import CRITERIA
from hetfab.quantize.ranges import ActivationRange
from hetfab.quantize.rewrites import rewrite
from hetfab.quantize.study import Study, check_float
from hetfab.quantize.widths import POWER_OF_TWO_BITS, Widths


@dataclass(frozen=True, eq=False)
class QuantizedModel(BoundModel):
    """A quantized model, ready to be compiled.

    Attributes:
        model: The quantized model; it carries its binding.
        bindings: The same binding.
        widths: Of its weights and activations.
        criterion: The calibration criterion that was kept.
        divergences: Mean Kullback-Leibler divergence from the float model, in nats per node (or per node and
            class where multilabel), of each criterion.
        ranges: Range of each stored tensor.
        assignment: Widths and methods of each layer and tensor.
    """

    widths: Widths
    criterion: str
    divergences: Mapping[str, float]
    ranges: Mapping[str, ActivationRange]
    assignment: Assignment


def quantize(
    given: FedModel,
    *,
    widths: Widths = Widths(),  # noqa: B008 - it is immutable
    assignment: Assignment | None = None,
    method: str | None = None,
    fallback: Fallback = Fallback.NONE,
    progress: Callable[[str], None] = lambda step: None,
) -> QuantizedModel:
    """Quantizes a model; scales of activations, and of weights of 4 bits and more, are powers of two.

    Args:
        given: The float model, its binding in full, the inputs to calibrate with, and what candidates are compared on.
        widths: Of weights and activations.
        assignment: Widths and methods of each layer and tensor, in place of ``widths``.
        method: For weights, a name of ``WEIGHT_METHODS``, where there is no assignment; by default ``alternation`` up
            to 4 bits and ``nearest`` above, where it loses nothing.
        fallback: Whether the host may run operators on rows that the overlay does not execute (docs/fallback.md).
        progress: Called with the name of each step.

    Raises:
        AlreadyQuantizedError: The model is quantized.
        OperatorsUnsupportedError: The model has layers or sums that the overlay does not execute.
        HostFallbackError: With ``fallback``, nothing would be left for the overlay.
        BindingInvalidError: The inputs of an aggregation do not belong together.
        CalibrationDataError: There is no feed, or no row to compare candidates on.
    """
    study = Study.open(given, fallback)
    progress("float model")
    if assignment is not None:
        given_assignment = {assignment.arguments: assignment}
    else:
        method = method or ("alternation" if widths.weights <= POWER_OF_TWO_BITS else "nearest")
        given_assignment = {name: study.uniform(widths, weights=method, activations=name) for name in CRITERIA}
    divergences, models = {}, {}
    for name, each in given_assignment.items():
        progress(name)
        models[name] = study.write(each)
        divergences[name] = study.measured_divergence(models[name])
    best = min(divergences, key=lambda name: divergences[name])
    model, chosen = models[best], given_assignment[best]
    check_model(model, "the quantized model")
    ranges = study.numbers(chosen).ranges
    return QuantizedModel(model, bindings_of(model), widths, best, divergences, ranges, chosen)


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
