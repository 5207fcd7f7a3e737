# SPDX-License-Identifier: Apache-2.0
"""Deploys a model on a graph that another tool has quantized, which rounds what dense layers read and little else.

Integers of weights stay as they are, steps of tensors become powers of two. What the file does not round, such as the
rows that an aggregation reads, gets 8 bits and a range that is chosen on the graph.
"""

import numpy as np
import numpy.typing as npt

from hetfab.overlay.model.bound_model import FedModel
from hetfab.overlay.model.layers import Dense, LayerGraph, Relu, is_identity
from hetfab.overlay.model.parser import parse_layers
from hetfab.overlay.model.reader import bindings_of, check_model
from hetfab.quantize.assignment import ActivationChoice, Assignment
from hetfab.quantize.formats.deploy import Deployable
from hetfab.quantize.formats.foreign import Foreign, Rounding
from hetfab.quantize.formats.steps import SAME, Difference, bits_of, exponent_of, given_weights, highest_of
from hetfab.quantize.methods import CRITERIA
from hetfab.quantize.rewrites import rewrite
from hetfab.quantize.study import Study
from hetfab.quantize.weights import LayerWeights
from hetfab.quantize.widths import Widths
from hetfab.quantize.writer import Numbers, write_model


def deployable_on_graph(foreign: Foreign, given: FedModel) -> Deployable:
    """Writes a model on a graph in hetfab's form.

    Args:
        foreign: What the file says.
        given: Its float model on a graph, with its binding in full.

    Raises:
        OperatorsUnsupportedError: The model has layers that the overlay does not execute.
        CalibrationDataError: There is nothing to choose a range on.
    """
    study, left_out = Study.open(given), list(foreign.left_out)
    differences: list[Difference] = []
    starts = [study.uniform(Widths(8, 8), weights="nearest", activations=name) for name in CRITERIA]
    assignment = min(starts, key=study.divergence)
    for group, members in study.groups.items():
        found = [r for name in members if (r := _rounding(name, foreign, study.graph)) is not None]
        if found:
            assignment = assignment.with_activations(group, _choice(study, assignment, group, found, differences))
        else:
            left_out.append(f"'{group}' is not rounded in the file: its range is chosen on the graph")
    numbers = study.numbers(assignment)
    steps = _steps(foreign)
    weights = {}
    for name, layer in study.layers.items():
        shared = name == study.graph.output
        values = layer.weight.astype(np.float64)
        if is_identity(values) or any(name in members for members in study.products):
            # Terms of one sum need one scale, which the file need not have.
            weights[name] = numbers.weights[name]
            error = float(np.abs(weights[name].restored - values).max(initial=0.0))
            what = "weights, added to other products at one scale: largest error"
            differences += [] if is_identity(values) else [Difference(name, what, 0.0, error)]
            continue
        rounded, changes = given_weights(name, values, steps.get(name), 1.0, shared=shared)
        weights[name] = LayerWeights((rounded,))
        differences += changes
    written = Numbers(numbers.ranges, weights, numbers.inner)
    model = write_model(study.graph, study.points, written, study.bindings, opset=study.opset)
    check_model(model, "the quantized model")
    return Deployable(model, bindings_of(model), tuple(differences), tuple(left_out), ())


def _choice(
    study: Study, assignment: Assignment, group: str, found: list[Rounding], differences: list[Difference]
) -> ActivationChoice:
    """The file's width, and a power of two that covers its ranges; whole numbers keep a step that holds them."""
    signed = any(study.numbers(assignment).ranges[name].signed for name in study.groups[group])
    bits, exact = max(bits_of(rounding) for rounding in found), study.exact_bits(group)
    if exact is not None and exact <= bits:
        return ActivationChoice(bits, assignment.arguments)
    reach = max(rounding.scale * max(rounding.highest, -rounding.lowest) for rounding in found)
    exponent = exponent_of(reach / highest_of(bits, signed=signed))
    step = max(rounding.scale for rounding in found)
    if abs(2.0**exponent - step) > SAME * step:
        differences.append(Difference(group, "step", step, 2.0**exponent))
    return ActivationChoice(bits, assignment.arguments, exponent)


def _rounding(tensor: str, foreign: Foreign, graph: LayerGraph) -> Rounding | None:
    """The rounding of a tensor, or of what it rectifies."""
    if tensor in foreign.tensors:
        return foreign.tensors[tensor]
    layer = next((each for each in graph.layers if each.output == tensor), None)
    return _rounding(layer.input, foreign, graph) if isinstance(layer, Relu) else None


def _steps(foreign: Foreign) -> dict[str, npt.NDArray[np.float64]]:
    """The step of each weight of the layers whose weights the file rounds, where no rewrite has changed them."""
    values = rewrite(parse_layers(foreign.model))
    steps = rewrite(parse_layers(foreign.with_constants(lambda constant: constant.scales)))
    pairs = zip(values.layers, steps.layers, strict=True)
    return {
        a.output: b.weight.astype(np.float64)
        for a, b in pairs
        if isinstance(a, Dense) and isinstance(b, Dense) and not np.array_equal(a.weight, b.weight)
    }
