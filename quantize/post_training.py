# SPDX-License-Identifier: Apache-2.0
"""Post-training quantization: runs the float model, chooses numbers, writes candidates, keeps the nearest one."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import onnx

from hetfab.overlay.errors import AlreadyQuantizedError, CalibrationDataError, counted
from hetfab.overlay.isa.arithmetic import Q8_BITS, TERM_BITS
from hetfab.overlay.model.binding import Binding
from hetfab.overlay.model.bound_model import BoundModel, Evaluation, FedModel
from hetfab.overlay.model.edges import StackedEdges, edge_set
from hetfab.overlay.model.float_writer import write_float
from hetfab.overlay.model.layers import (
    Dense,
    EdgeAggregation,
    Function,
    JoinParts,
    Layer,
    LayerGraph,
    LayerNorm,
    Relu,
    Stack,
    Unary,
    constants_of,
)
from hetfab.overlay.model.parser import parse_layers
from hetfab.overlay.model.reader import bindings_of, check_model, is_quantized, opset
from hetfab.overlay.model.rows import check_aggregations
from hetfab.overlay.model.runtime import Feed, run_model
from hetfab.quantize.functions import argument_range, norm_range
from hetfab.quantize.points import QuantizationPoints, find_points
from hetfab.quantize.ranges import CRITERIA, ActivationRange, Criterion, choose
from hetfab.quantize.rewrites import rewrite
from hetfab.quantize.weights import LARGEST_SPREAD, QuantizedWeights, exact_in_float32, round_to_nearest
from hetfab.quantize.widths import Widths
from hetfab.quantize.writer import Numbers, write_model

FloatArray: TypeAlias = npt.NDArray[np.float32]


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
    """

    widths: Widths
    criterion: str
    divergences: Mapping[str, float]
    ranges: Mapping[str, ActivationRange]


def quantize(
    given: FedModel,
    *,
    widths: Widths = Widths(),  # noqa: B008 - it is immutable
    progress: Callable[[str], None] = lambda step: None,
) -> QuantizedModel:
    """Quantizes a model; scales of activations, and of weights of 4 bits and more, are powers of two.

    Args:
        given: The float model, its binding in full, the inputs to calibrate with, and what candidates are compared on.
        widths: Of weights and activations.
        progress: Called with the name of each step.

    Raises:
        AlreadyQuantizedError: The model is quantized.
        OperatorsUnsupportedError: The model has layers or sums that the overlay does not execute.
        BindingInvalidError: The inputs of an aggregation do not belong together.
        CalibrationDataError: There is no feed, or no row to compare candidates on.
    """
    model, bindings, evaluation = given.model, given.bindings, given.evaluation
    check_float(model)
    graph = rewrite(parse_layers(model))
    points = find_points(graph)
    check_aggregations(graph, bindings)
    rewritten = write_float(graph, bindings, constants_of(model), opset(model))
    samples = list(given.samples())
    if not samples:
        raise CalibrationDataError("there is no feed to calibrate with", "at least one", "give the graph's feeds")
    progress("float model")
    observed, largest, logits = _observe(rewritten, points, graph.output, samples)
    _check_rows(logits, evaluation)
    weights = {
        layer.output: round_to_nearest(
            layer.weight, bits=_weight_bits(layer, widths), shared_scale=layer.output == graph.output
        )
        for layer in graph.layers
        if isinstance(layer, Dense)
    }
    counted = [{**sample, **_counts(model, graph, bindings, sample)} for sample in samples]
    candidates: dict[str, tuple[float, onnx.ModelProto, Mapping[str, ActivationRange]]] = {}
    for name, criterion in CRITERIA.items():
        progress(name)
        chosen_ranges = _ranges(graph, points, observed, criterion, widths.activations)
        fitted = _fitted(graph, weights, chosen_ranges, observed)
        ranges = _with_room(chosen_ranges, graph, points, fitted, largest)
        inner = _inner_ranges(graph, points, observed, criterion)
        candidate = write_model(graph, points, Numbers(ranges, fitted, inner), bindings, opset=opset(model))
        distance = _distance(candidate, counted, logits, evaluation)
        candidates[name] = (distance, candidate, ranges)
    best = min(candidates, key=lambda name: candidates[name][0])
    _, chosen, kept = candidates[best]
    check_model(chosen, "the quantized model")
    divergences = {name: entry[0] for name, entry in candidates.items()}
    return QuantizedModel(chosen, bindings_of(chosen), widths, best, divergences, kept)


def rewritten(given: FedModel) -> FedModel:
    """The float model whose tensors a quantized model of the same names and layouts holds as integers.

    Args:
        given: As for ``quantize``.

    Raises:
        AlreadyQuantizedError: The model is quantized.
        OperatorsUnsupportedError: The model has layers that the overlay does not execute.
    """
    check_float(given.model)
    graph = rewrite(parse_layers(given.model))
    return replace(given, model=write_float(graph, given.bindings, constants_of(given.model), opset(given.model)))


def check_float(model: onnx.ModelProto) -> None:
    """Refuses a quantized model.

    Raises:
        AlreadyQuantizedError: It is one.
    """
    if is_quantized(model):
        raise AlreadyQuantizedError(
            "the model is quantized already: it has 'Quant' operators",
            "a float model",
            "compile it as it is (`hetfab compile`), or give the float model",
        )


def _weight_bits(layer: Dense, widths: Widths) -> int:
    """The identity, as which a learned table joins a sum, has zeros, which one bit cannot hold."""
    rows, columns = layer.weight.shape
    is_identity = rows == columns and np.array_equal(layer.weight, np.eye(rows))
    return max(widths.weights, 2) if is_identity else widths.weights


def _fitted(
    graph: LayerGraph,
    weights: Mapping[str, QuantizedWeights],
    ranges: Mapping[str, ActivationRange],
    observed: Mapping[str, FloatArray],
) -> dict[str, QuantizedWeights]:
    """Weights with free scales that onnxruntime multiplies exactly, for the ranges of their inputs."""
    fitted = {}
    for layer in graph.layers:
        if isinstance(layer, Dense):
            rows = ranges[layer.input]
            peak = math.ceil(float(np.abs(observed[layer.input]).max(initial=0.0)) / rows.scale)
            largest = min(peak, max(rows.highest, -rows.lowest))
            found = weights[layer.output]
            fitted[layer.output] = exact_in_float32(layer.weight, found, largest, layer.bias, rows.scale)
    return fitted


def _observe(
    model: onnx.ModelProto, points: QuantizationPoints, output: str, samples: list[Feed]
) -> tuple[dict[str, FloatArray], dict[str, float], list[FloatArray]]:
    """Non-zero values of each stored tensor, the largest magnitude of each dense term of a sum, all logits."""
    exposed = onnx.ModelProto()
    exposed.CopyFrom(model)
    given = {value.name for value in model.graph.input}
    constants = constants_of(model)
    computed = [name for name in points.observed if name not in given and name not in constants]
    produced = {name for node in model.graph.node for name in node.output}
    largest = {group.dense.output: 0.0 for group in points.groups if group.dense and group.dense.output in produced}
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
    return {name: np.concatenate(parts) for name, parts in values.items()}, largest, logits


def _check_rows(logits: list[FloatArray], evaluation: Evaluation) -> None:
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


def _ranges(
    graph: LayerGraph,
    points: QuantizationPoints,
    observed: Mapping[str, FloatArray],
    criterion: Criterion,
    bits: int,
) -> dict[str, ActivationRange]:
    unsigned = _unsigned(graph, points, observed)
    ranges: dict[str, ActivationRange] = {}
    for name in points.stored:
        if name in ranges:
            continue
        family = points.family(name)
        values = np.concatenate([observed[member] for member in sorted(family)])
        shared = choose(values, criterion, bits=bits, signed=not family <= unsigned)
        for member in family:
            ranges[member] = ActivationRange(shared.bits, member not in unsigned, shared.exponent)
    return ranges


def _unsigned(graph: LayerGraph, points: QuantizationPoints, observed: Mapping[str, FloatArray]) -> frozenset[str]:
    """Stored tensors without negative values: what functions made so, inputs and tables, and stacks of such tensors."""
    computed = {layer.output: layer for layer in graph.layers}
    positive = {name for name in points.stored if _is_positive(computed.get(name), observed[name])}
    return frozenset(name for name in points.stored if points.copies_of(name) - _stacks(graph) <= positive)


def _is_positive(layer: Layer | None, values: FloatArray) -> bool:
    match layer:
        case None:
            return not (values < 0).any()
        case Relu() | LayerNorm(relu=True) | Unary(function=Function.SIGMOID):
            return True
    return False


def _stacks(graph: LayerGraph) -> frozenset[str]:
    """Tensors that are made of the rows of others."""
    return frozenset(layer.output for layer in graph.layers if isinstance(layer, Stack | JoinParts))


def _inner_ranges(
    graph: LayerGraph, points: QuantizationPoints, observed: Mapping[str, FloatArray], criterion: Criterion
) -> dict[str, ActivationRange]:
    """Ranges of what functions and norms read."""
    ranges = {
        layer.input: argument_range(layer, observed[layer.input], criterion)
        for layer in graph.layers
        if isinstance(layer, Unary)
    }
    for members in points.norms:
        shared = norm_range(np.concatenate([observed[name] for name in sorted(members)]))
        ranges |= dict.fromkeys(members, shared)
    return ranges


def _with_room(
    ranges: dict[str, ActivationRange],
    graph: LayerGraph,
    points: QuantizationPoints,
    weights: Mapping[str, QuantizedWeights],
    largest: Mapping[str, float],
) -> dict[str, ActivationRange]:
    """Makes the scale of a sum so coarse that its dense term fits 24 bits and its multipliers 16 bits.

    Where a dense term is hundreds of times larger than what is aggregated, the aggregated tensors' own scale is too
    fine for it. A coarser scale there changes the scale of other dense terms that read the same tensors.
    """
    rooms = dict(ranges)
    for _ in points.groups:
        for group in points.groups:
            if group.dense is None:
                continue
            term, rows = group.dense.output, group.dense.input
            magnitude = largest[term] if term in largest else float(np.abs(graph.tables[rows]).max(initial=0.0))
            needed = weights[term].largest_exponent + rooms[rows].exponent - LARGEST_SPREAD + Q8_BITS
            if magnitude > 0.0:
                highest = (1 << (TERM_BITS - 1)) - 1
                needed = max(needed, math.ceil(math.log2(magnitude / highest)) + Q8_BITS)
            for member in points.family(group.aggregations[0].input):
                rooms[member] = replace(rooms[member], exponent=max(rooms[member].exponent, needed))
    return rooms


def _counts(
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


def _distance(
    model: onnx.ModelProto, samples: Sequence[Feed], logits: list[FloatArray], evaluation: Evaluation
) -> float:
    output = model.graph.output[0].name
    distances = []
    for sample, reference in zip(samples, logits, strict=True):
        found = run_model(model, sample, [output])[0]
        rows = slice(None) if evaluation.rows is None else evaluation.rows
        divergence = divergence_of_labels if evaluation.multilabel else divergence_of_classes
        distances.append(divergence(reference[rows], found[rows]))
    return float(np.mean(distances))


def divergence_of_classes(reference: FloatArray, found: FloatArray) -> float:
    """Mean KL(softmax(reference) || softmax(found)) over the rows of two logit matrices, in nats."""
    first, second = (_log_softmax(logits.astype(np.float64)) for logits in (reference, found))
    return float(np.mean(np.sum(np.exp(first) * (first - second), axis=1)))


def divergence_of_labels(reference: FloatArray, found: FloatArray) -> float:
    """Mean KL between Bernoulli variables with the sigmoid of the logits, over rows and classes, in nats."""
    first, second = reference.astype(np.float64), found.astype(np.float64)
    share = np.exp(-np.logaddexp(0, -first))
    log_ratio_of_ones = np.logaddexp(0, -second) - np.logaddexp(0, -first)
    log_ratio_of_zeros = np.logaddexp(0, second) - np.logaddexp(0, first)
    return float(np.mean(share * log_ratio_of_ones + (1.0 - share) * log_ratio_of_zeros))


def _log_softmax(logits: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    shifted = logits - logits.max(axis=1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True)))
