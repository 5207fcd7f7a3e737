# SPDX-License-Identifier: Apache-2.0
"""Post-training quantization of a convolutional network: chooses numbers, writes candidates, keeps the nearest one."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
import onnx

from hetfab.overlay.errors import AlreadyQuantizedError, CalibrationDataError
from hetfab.overlay.isa.arithmetic import Q8_BITS, TERM_BITS
from hetfab.overlay.model.bound_model import BoundModel, Evaluation, FedModel
from hetfab.overlay.model.cnn.integer_reader import read_integers
from hetfab.overlay.model.cnn.layers import CnnGraph, Conv, Layer
from hetfab.overlay.model.cnn.parser import parse_cnn
from hetfab.overlay.model.layers import Dense
from hetfab.overlay.model.reader import bindings_of, check_model, is_quantized, opset
from hetfab.overlay.model.runtime import Feed, run_model
from hetfab.quantize.assignment import WeightChoice
from hetfab.quantize.cnn.points import Points, find_points, layer_widths, nonnegative
from hetfab.quantize.cnn.rewrites import fold_batch_norms
from hetfab.quantize.cnn.rounding import as_dense, matrix_of, rounded_weights
from hetfab.quantize.cnn.writer import Numbers, float_model, quantized_model
from hetfab.quantize.divergence import divergence_of_classes, divergence_of_labels
from hetfab.quantize.layer_rounding import rounded_layer
from hetfab.quantize.methods import CRITERIA
from hetfab.quantize.methods.layer_problem import LayerInputs
from hetfab.quantize.observation import check_finite
from hetfab.quantize.ranges import ActivationRange, Criterion, choose
from hetfab.quantize.weights import LARGEST_SPREAD, LayerWeights
from hetfab.quantize.widths import Widths

FloatArray = npt.NDArray[np.float32]
#: A layer's weights from the range of what it reads, and whether its channels share a scale.
Rounded = Callable[[Conv | Dense, ActivationRange, bool], LayerWeights]

#: Values of a tensor that are kept of one feed; more of them move no percentile noticeably.
_KEPT = 1 << 18


@dataclass(frozen=True, eq=False)
class QuantizedCnn(BoundModel):
    """A quantized convolutional network.

    Attributes:
        model: The quantized model; it carries its binding.
        bindings: The same binding.
        widths: Of weights and activations between the first and last layers.
        edges: Of the first and the last layers, and of what they read.
        criterion: The calibration criterion that was kept.
        divergences: Mean Kullback-Leibler divergence from the float model, in nats per sample, of each criterion.
        ranges: Range of each stored tensor.
        may_round: Layers whose sums are not proven to fit the 24 bits of float32, in which onnxruntime adds.
    """

    widths: Widths
    edges: Widths
    criterion: str
    divergences: Mapping[str, float]
    ranges: Mapping[str, ActivationRange]
    may_round: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Observed:
    """What the float model shows of its tensors.

    Attributes:
        values: Non-zero values of each stored tensor.
        means: Mean of each channel, or column, of what layers with weights read.
        largest: Largest magnitude of each term of an addition.
        logits: Of each feed.
        chosen: Ranges that were chosen from the values, by tensor, width, criterion and sign.
        added: What rounded weights add to the mean of each channel's sums.
    """

    values: Mapping[str, FloatArray]
    means: Mapping[str, npt.NDArray[np.float64]]
    largest: Mapping[str, float]
    logits: tuple[FloatArray, ...]
    chosen: dict[tuple[str, int, Criterion, bool], ActivationRange] = field(default_factory=dict)
    added: dict[LayerWeights, npt.NDArray[np.float64]] = field(default_factory=dict)


def quantize_cnn(
    given: FedModel,
    *,
    widths: Widths = Widths(),  # noqa: B008 - it is immutable
    edges: Widths | None = None,
    progress: Callable[[str], None] = lambda step: None,
) -> QuantizedCnn:
    """Quantizes a convolutional network, or one of dense layers on samples.

    Args:
        given: The float model, its binding, samples to calibrate with, and what candidates are compared on.
        widths: Of weights and activations.
        edges: Of the first and last layers; as ``widths`` without it.
        progress: Called with the name of each step.

    Raises:
        AlreadyQuantizedError: The model is quantized.
        OperatorsUnsupportedError: The model has layers or uses of layers without an integer form.
        CalibrationDataError: There is no sample.
    """
    if is_quantized(given.model):
        raise AlreadyQuantizedError(
            "the model is quantized already: it has 'Quant' operators",
            "a float model",
            "give the float model",
        )
    graph = fold_batch_norms(parse_cnn(given.model))
    points = find_points(graph)
    bits = layer_widths(graph, points, widths, edges or widths)
    progress("float model")
    samples = list(given.samples())
    observed = observe(graph, points, samples, opset(given.model))

    def nearest(layer: Conv | Dense, rows: ActivationRange, shared: bool) -> LayerWeights:
        choice = WeightChoice(bits.weights[layer.output], "nearest")

        def found(choice: WeightChoice, significance: int) -> LayerWeights:
            return rounded_layer(
                as_dense(layer), choice, LayerInputs(()), shared_scale=shared, significance=significance
            )

        return rounded_weights(layer, rows, choice, found)

    candidates: dict[str, tuple[float, onnx.ModelProto, Mapping[str, ActivationRange]]] = {}
    for name, criterion in CRITERIA.items():
        progress(name)
        numbers = chosen_numbers(
            graph, points, bits.activations, observed, dict.fromkeys(points.stored, criterion), nearest
        )
        candidate = quantized_model(corrected(graph, numbers, observed), numbers, opset=opset(given.model))
        distance = _distance(candidate, samples, observed.logits, given.evaluation)
        candidates[name] = (distance, candidate, numbers.ranges)
    best = min(candidates, key=lambda name: candidates[name][0])
    _, chosen, ranges = candidates[best]
    check_model(chosen, "the quantized model")
    divergences = {name: entry[0] for name, entry in candidates.items()}
    may_round = tuple(layer.output.name for layer in read_integers(chosen).products() if not layer.exact_in_float32)
    return QuantizedCnn(chosen, bindings_of(chosen), widths, edges or widths, best, divergences, ranges, may_round)


def observe(graph: CnnGraph, points: Points, samples: list[Feed], opset: int) -> Observed:
    """Runs the float model and keeps what numbers are chosen by.

    Raises:
        CalibrationDataError: There is no sample, or a tensor has a value that is no finite number.
    """
    if not samples or any(len(sample[graph.input]) == 0 for sample in samples):
        raise CalibrationDataError("there is no sample to calibrate with", "at least one", "give samples")
    exposed = float_model(graph, opset=opset)
    read = dict.fromkeys(layer.input for layer in graph.products())
    wanted = dict.fromkeys((*points.stored, *points.terms, *read))
    names = [name for name in wanted if name not in (graph.input, graph.output)]
    exposed.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    values: dict[str, list[FloatArray]] = {name: [] for name in points.stored}
    means: dict[str, list[FloatArray]] = {name: [] for name in read}
    largest = dict.fromkeys(points.terms, 0.0)
    logits = []
    for sample in samples:
        results = run_model(exposed, sample, [graph.output, *names])
        logits.append(results[0])
        found = dict(zip([graph.output, *names], results, strict=True)) | {graph.input: sample[graph.input]}
        for name in points.stored:
            values[name].append(_kept(found[name]))
        for name in read:
            means[name].append(found[name].mean(axis=(0, *range(2, found[name].ndim)), dtype=np.float64))
        for name in points.terms:
            largest[name] = max(largest[name], float(np.abs(found[name]).max(initial=0.0)))
    joined = {name: np.concatenate(parts) for name, parts in values.items()}
    check_finite(joined)
    return Observed(joined, {name: np.mean(parts, axis=0) for name, parts in means.items()}, largest, tuple(logits))


def _kept(array: FloatArray) -> FloatArray:
    """Non-zero values at even distances, and the two outermost."""
    present: FloatArray = array[array != 0]
    if present.size <= _KEPT:
        return present
    outermost = np.array([present.min(), present.max()], dtype=np.float32)
    return np.concatenate([present[:: -(-present.size // _KEPT)], outermost])


def chosen_numbers(
    graph: CnnGraph,
    points: Points,
    bits: Mapping[str, int],
    observed: Observed,
    criteria: Mapping[str, Criterion],
    rounded: Rounded,
    exponents: Mapping[str, int] | None = None,
) -> Numbers:
    """Ranges and integers at given widths.

    Args:
        graph: The layers.
        points: Where tensors become integers.
        bits: Of each stored tensor.
        observed: What the float model shows.
        criteria: Of each stored tensor.
        rounded: Gives a layer's weights.
        exponents: Of stored tensors' scales, in place of a criterion.
    """
    given = exponents or {}
    found = _ranges(graph, points, bits, observed, criteria)
    found = {name: replace(each, exponent=given.get(name, each.exponent)) for name, each in found.items()}
    ranges = found
    for _ in range(2):
        weights = {
            layer.output: rounded(layer, ranges[points.source(layer.input)], _leaves(layer, graph, points))
            for layer in graph.products()
        }
        roomy = _with_room(found, graph, points, weights, observed.largest)
        if roomy == ranges:
            break
        ranges = roomy
    return Numbers(points, ranges, weights)


def corrected(graph: CnnGraph, numbers: Numbers, observed: Observed) -> CnnGraph:
    """Takes from each bias what rounding the weights adds to the mean of a channel's sums.

    Inputs behind a Relu have a mean far from 0, so that errors of weights do not cancel (Nagel et al., Data-Free
    Quantization Through Weight Equalization and Bias Correction, ICCV 2019, section 4.2; here with observed means).
    """
    layers: list[Layer] = []
    for layer in graph.layers:
        if isinstance(layer, Conv | Dense):
            rounded = numbers.weights[layer.output]
            if rounded not in observed.added:
                observed.added[rounded] = _added(layer, rounded, observed.means[layer.input])
            added = observed.added[rounded]
            bias = (0.0 if layer.bias is None else layer.bias) - added
            layer = replace(layer, bias=np.asarray(bias, dtype=np.float32))
        layers.append(layer)
    return replace(graph, layers=tuple(layers))


def _added(layer: Conv | Dense, rounded: LayerWeights, mean: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """What rounding adds to the mean of each output channel's sums, [N], from the means of what the layer reads."""
    error = rounded.integers * rounded.scales - matrix_of(layer)
    mean = np.repeat(mean, 1 if isinstance(layer, Dense) else layer.window.taps)
    if isinstance(layer, Conv) and layer.groups > 1:
        of_group = mean.reshape(layer.groups, -1).repeat(len(layer.weight) // layer.groups, axis=0)
        return np.asarray(np.einsum("ok,ko->o", of_group, error))
    return np.asarray(mean @ error)


def _leaves(layer: Conv | Dense, graph: CnnGraph, points: Points) -> bool:
    """Whether logits leave from its accumulators, which then have one scale for all classes."""
    return layer.output == graph.output or (
        layer.output not in points.stored and points.source(graph.output) == layer.output
    )


def _ranges(
    graph: CnnGraph, points: Points, bits: Mapping[str, int], observed: Observed, criteria: Mapping[str, Criterion]
) -> dict[str, ActivationRange]:
    given = observed.values.get(graph.input)
    input_is = given is not None and not (given < 0).any()
    unsigned = {name for name in points.stored if nonnegative(name, graph, points, input_is)}
    ranges: dict[str, ActivationRange] = {}
    for name in points.stored:
        family = points.family(name)
        key = (name, bits[name], criteria[name], not family <= unsigned)
        if key not in observed.chosen:
            values = np.concatenate([observed.values[member] for member in sorted(family)])
            observed.chosen[key] = choose(values, criteria[name], bits=bits[name], signed=key[-1])
        shared = observed.chosen[key]
        ranges[name] = ActivationRange(shared.bits, name not in unsigned, shared.exponent)
    return ranges


def _with_room(
    ranges: Mapping[str, ActivationRange],
    graph: CnnGraph,
    points: Points,
    weights: Mapping[str, LayerWeights],
    largest: Mapping[str, float],
) -> dict[str, ActivationRange]:
    """Makes the scale of a stored operand so coarse that the term that joins it fits 24 bits, multipliers 16 bits."""
    rooms = dict(ranges)
    reads = {layer.output: points.source(layer.input) for layer in graph.products()}
    highest = (1 << (TERM_BITS - 1)) - 1
    for _ in points.terms:
        for term, other in points.terms.items():
            needed = weights[term].largest_exponent + rooms[reads[term]].exponent - LARGEST_SPREAD + Q8_BITS
            if largest[term] > 0.0:
                needed = max(needed, math.ceil(math.log2(largest[term] / highest)) + Q8_BITS)
            for member in points.family(other):
                rooms[member] = replace(rooms[member], exponent=max(rooms[member].exponent, needed))
    return rooms


def _distance(
    model: onnx.ModelProto, samples: list[Feed], logits: tuple[FloatArray, ...], evaluation: Evaluation
) -> float:
    output, distances = model.graph.output[0].name, []
    divergence = divergence_of_labels if evaluation.multilabel else divergence_of_classes
    for sample, reference in zip(samples, logits, strict=True):
        found = run_model(model, sample, [output])[0]
        rows = (len(reference), -1)
        distances.append(divergence(reference.reshape(rows), found.reshape(rows)))
    return float(np.mean(distances))
