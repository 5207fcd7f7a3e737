# SPDX-License-Identifier: Apache-2.0
"""A float model under study: numbers for any assignment of widths, what they cost in accuracy, and the file they make.

study = Study.open(fed)
assignment = study.uniform(Widths(4, 8)).with_weights("linear", WeightChoice(2))
study.divergence(assignment), study.average_bits(assignment)
model = study.write(assignment)
"""

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt
import onnx
import scipy.sparse

from hetfab.overlay.errors import AlreadyQuantizedError, CalibrationDataError
from hetfab.overlay.host_nodes import Fallback
from hetfab.overlay.isa.arithmetic import TERM_BITS
from hetfab.overlay.model.binding import Binding
from hetfab.overlay.model.bound_model import Evaluation, FedModel
from hetfab.overlay.model.float_writer import write_float
from hetfab.overlay.model.layers import (
    Aggregation,
    Dense,
    EdgeAggregation,
    EdgeDot,
    HostOperator,
    Layer,
    LayerGraph,
    TokenAttention,
    Unary,
    constants_of,
    is_diagonal,
    is_identity,
)
from hetfab.overlay.model.parser import parse_layers
from hetfab.overlay.model.reader import is_quantized, opset
from hetfab.overlay.model.rows import check_aggregations
from hetfab.overlay.model.runtime import Feed, run_model
from hetfab.overlay.model.sums import is_product, joint_products, terms_of
from hetfab.quantize.activation_ranges import inner_ranges, ranges_of, unsigned_tensors, with_room
from hetfab.quantize.assignment import ActivationChoice, Assignment, WeightChoice
from hetfab.quantize.balance import balanced
from hetfab.quantize.block_stage import block_stage
from hetfab.quantize.divergence import divergence
from hetfab.quantize.emulation import Emulation
from hetfab.quantize.joint_products import with_one_scale
from hetfab.quantize.layer_rounding import rounded_layer
from hetfab.quantize.methods import ACTIVATION_METHODS, TWIN, WEIGHT_METHODS
from hetfab.quantize.methods.bias_correction import corrected
from hetfab.quantize.methods.layer_problem import LayerInputs, LayerProblem
from hetfab.quantize.methods.twin import uniform_or_twin
from hetfab.quantize.observation import Observed, check_rows, node_counts, observe
from hetfab.quantize.points import QuantizationPoints, find_points
from hetfab.quantize.ranges import ActivationRange, choose, covering, exact_exponent
from hetfab.quantize.reorder import reordered
from hetfab.quantize.rewrites import rewrite
from hetfab.quantize.roundings import Roundings
from hetfab.quantize.weights import (
    LARGEST_SIGNIFICANCE,
    FloatArray,
    LayerWeights,
)
from hetfab.quantize.widths import POWER_OF_TWO_BITS, Widths
from hetfab.quantize.writer import Numbers, write_model

_Key: TypeAlias = tuple[Hashable, ...]
_S = TypeVar("_S", bound="Study")
_FLOAT32_BITS = 24


@dataclass(frozen=True)
class AverageBits:
    """Mean widths, weighted by the multiply-accumulates that they take part in.

    Attributes:
        weights: Of all dense layers.
        activations: Of what dense layers and aggregations read, except inputs of one bit; 0 where there is no other.
    """

    weights: float
    activations: float


@dataclass
class Study:
    """A float model and what its feeds show.

    Attributes:
        graph: The layers, rewritten.
        points: Where tensors become integers.
        bindings: Meaning of the inputs.
        evaluation: What models are compared on.
        samples: The feeds, with the numbers of nodes that layers and the quantized model read.
        observed: What the float model shows of its tensors.
        opset: Version of the standard operators.
        fixed: Numbers of nodes that are no inputs, by name.
        roundings: Weights that are rounded already.
    """

    graph: LayerGraph
    points: QuantizationPoints
    bindings: Mapping[str, Binding]
    evaluation: Evaluation
    samples: tuple[Feed, ...]
    observed: Observed
    opset: int
    fixed: Mapping[str, npt.NDArray[np.generic]]
    roundings: Roundings = field(default_factory=Roundings)
    _sums: dict[_Key, float] = field(default_factory=dict)
    _blocks: dict[_Key, Numbers] = field(default_factory=dict)
    _inputs: dict[str, LayerInputs] = field(default_factory=dict)
    _ranges: dict[_Key, ActivationRange] = field(default_factory=dict)
    _inner_ranges: dict[str, Mapping[str, ActivationRange]] = field(default_factory=dict)

    @classmethod
    def open(cls: type[_S], given: FedModel, fallback: Fallback = Fallback.NONE) -> _S:
        """Reads and runs a float model.

        Args:
            given: The float model, its binding in full, the inputs to calibrate with, and what models are compared on.
            fallback: Whether the host runs operators on rows that no layer stands for.

        Raises:
            AlreadyQuantizedError: The model is quantized.
            OperatorsUnsupportedError: The model has layers or sums that the overlay does not execute.
            BindingInvalidError: The inputs of an aggregation do not belong together.
            CalibrationDataError: There is no feed, no row to compare models on, or a value that is not finite.
        """
        model, bindings = given.model, given.bindings
        check_float(model)
        graph = rewrite(parse_layers(model, fallback))
        points = find_points(graph)
        check_aggregations(graph, bindings)
        samples = list(given.samples())
        if not samples:
            raise CalibrationDataError("there is no feed to calibrate with", "at least one", "give the graph's feeds")
        constants = constants_of(model)
        observed = observe(write_float(graph, bindings, constants, opset(model)), points, graph.output, samples)
        check_rows(observed.logits, given.evaluation)
        fixed = {layer.count: constants[layer.count] for layer in _edge_layers(graph) if layer.count in constants}
        fed = tuple({**fixed, **sample, **node_counts(model, graph, bindings, sample)} for sample in samples)
        return cls(graph, points, bindings, given.evaluation, fed, observed, opset(model), fixed)

    def balanced(self: _S) -> _S:
        """The same model with a power-of-two factor for each channel of hidden tensors."""
        stored = [
            name for name in self.points.stored if name in self.graph.channels and self.exact_bits_of(name) is None
        ]
        magnitudes = {
            name: np.max([channel_ranges(each.values(name)) for each in self.emulations], axis=0) for name in stored
        }
        return self._with(balanced(self.graph, magnitudes))

    def reordered(self: _S) -> _S:
        """The same model with the channels of hidden tensors in an order by the weights that write them."""
        return self._with(reordered(self.graph))

    def _with(self: _S, graph: LayerGraph) -> _S:
        """The same model as other layers."""
        model = write_float(graph, self.bindings, {name: np.asarray(v) for name, v in self.fixed.items()}, self.opset)
        points = find_points(graph)
        observed = observe(model, points, graph.output, list(self.samples))
        study = type(self)(
            graph, points, self.bindings, self.evaluation, self.samples, observed, self.opset, self.fixed
        )
        given = {name for name in self.points.stored if name in self.samples[0]}
        study._inputs |= {name: inputs for name, inputs in self._inputs.items() if name in given}
        return study

    @cached_property
    def layers(self) -> dict[str, Dense]:
        """Dense layers by output: what has weights."""
        return {layer.output: layer for layer in self.graph.layers if isinstance(layer, Dense)}

    @cached_property
    def groups(self) -> dict[str, tuple[str, ...]]:
        """Stored tensors that share a scale and a width, by the name of the first of them."""
        groups: dict[str, tuple[str, ...]] = {}
        for name in self.points.stored:
            family = self.points.family(name)
            if not any(name in members for members in groups.values()):
                groups[name] = tuple(other for other in self.points.stored if other in family)
        return groups

    @cached_property
    def emulations(self) -> tuple[Emulation, ...]:
        """The model on each feed."""
        return tuple(Emulation(self.graph, self.points, sample) for sample in self.samples)

    @cached_property
    def macs(self) -> dict[str, float]:
        """Multiply-accumulates of each dense layer and aggregation, of inputs with few non-zero values those only."""
        return {
            layer.output: float(sum(self._macs(layer, emulation) for emulation in self.emulations))
            for layer in self.graph.layers
            if isinstance(layer, Dense | Aggregation)
        }

    def uniform(
        self, widths: Widths, *, weights: str = "alternation", activations: str = "percentile 99.9"
    ) -> Assignment:
        """One width for all weights and one for all activations; what one bit cannot hold gets two.

        Args:
            widths: The widths.
            weights: A name of ``WEIGHT_METHODS``.
            activations: A name of ``ACTIVATION_METHODS``.
        """
        return Assignment(
            {name: WeightChoice(self.least_bits(name, widths.weights), weights) for name in self.layers},
            {name: ActivationChoice(widths.activations, activations) for name in self.groups},
            activations,
        )

    def with_wide_ends(self, assignment: Assignment, bits: int = 8) -> Assignment:
        """The assignment with this width for real-valued inputs and for what the last layers write.

        Errors of these reach the logits without anything behind them that evens them out.
        """
        computed = {layer.output for layer in self.graph.layers} | set(self.graph.tables)
        classes = self.graph.channels[self.graph.output]
        for group, members in self.groups.items():
            held = self.exact_bits(group)
            is_input = not computed & set(members) and (held is None or held > assignment.activations[group].bits)
            if is_input or any(self.graph.channels[name] == classes for name in members):
                wide = replace(assignment.activations[group], bits=bits)
                assignment = assignment.with_activations(group, wide)
        return assignment

    def least_bits(self, layer: str, bits: int) -> int:
        """The width, or the fewest bits that a layer can have.

        Zeros need 2: rows and columns that pad heads, and diagonal matrices, as which tables join sums. Dense terms of
        one sum have 4: from there on scales are powers of two, which are brought together.
        """
        if any(layer in members for members in self.products):
            return max(bits, POWER_OF_TWO_BITS)
        weight = self.layers[layer].weight
        is_padded = not (weight.any(axis=0).all() and weight.any(axis=1).all())
        return max(bits, 2) if is_padded or (len(weight) > 1 and is_diagonal(weight)) or is_identity(weight) else bits

    def may_mix(self, layer: str) -> bool:
        """Whether the channels of a layer may have several widths: logits, and terms of a sum, have one scale."""
        return layer != self.graph.output and not any(layer in members for members in self.products)

    def channel_losses(self, layer: str, bits: int) -> npt.NDArray[np.float64] | None:
        """Mean square error of each output channel that GPTQ leaves at a width, [N]; None where all have one width."""
        if not self.may_mix(layer):
            return None
        problem = LayerProblem(self.layers[layer].weight, bits, self._inputs_of(self.layers[layer]))
        return problem.losses(WEIGHT_METHODS["gptq"](problem).restored)

    @cached_property
    def products(self) -> list[frozenset[str]]:
        """Dense layers whose products are added as integers."""
        return joint_products(self.graph)

    def _joint(
        self, weights: dict[str, LayerWeights], ranges: Mapping[str, ActivationRange]
    ) -> dict[str, LayerWeights]:
        """The same, those of dense terms of one sum at one scale."""
        producers: dict[str, Layer] = {layer.output: layer for layer in self.graph.layers}
        logits = set(terms_of(self.graph.output, producers)) if is_product(self.graph.output, producers) else set()
        for members in self.products:
            terms = tuple(self.layers[name] for name in sorted(members))
            weights |= with_one_scale(terms, weights, ranges, uniform=bool(logits & members))
        return weights

    def offers_twin(self, group: str) -> bool:
        """Whether a group may have a twin range: results of functions, which are tables, with a negative side."""
        functions = {layer.output for layer in self.graph.layers if isinstance(layer, Unary)}
        members = set(self.groups[group])
        return members <= functions and not members & self._unsigned

    def exact_bits(self, group: str) -> int | None:
        """Fewest bits that hold every observed value of a group exactly, 1 for zeros and ones; None above 8."""
        return self._exact_bits[group]

    @cached_property
    def _exact_bits(self) -> dict[str, int | None]:
        return {group: self._fewest_bits(members) for group, members in self.groups.items()}

    def exact_bits_of(self, tensor: str) -> int | None:
        """``exact_bits`` of a stored tensor's group."""
        return self.exact_bits(next(group for group, members in self.groups.items() if tensor in members))

    def _fewest_bits(self, members: tuple[str, ...]) -> int | None:
        values = np.concatenate([self.observed.values[name] for name in members])
        if not values.size:
            return 1
        signed = bool((values < 0).any())
        for bits in range(1, 9):
            highest = (1 << (bits - signed)) - 1
            if highest and exact_exponent(values, highest) is not None:
                return bits
        return None

    def numbers(self, assignment: Assignment) -> Numbers:
        """Ranges, integers and scales for an assignment."""
        found = ranges_of(self.points, self._unsigned, lambda *given: self._range(assignment, *given))
        ranges = found
        for _ in range(2):
            weights = self._joint({name: self._rounded(name, assignment, ranges) for name in self.layers}, ranges)
            roomy = with_room(dict(found), self.graph, self.points, weights, self.observed.largest)
            if roomy == ranges:
                break
            ranges = roomy
        numbers = Numbers(ranges, weights, self._inner(assignment.arguments), self._logits)
        return self._moved(assignment, numbers) if assignment.block_steps else numbers

    def _moved(self, assignment: Assignment, numbers: Numbers) -> Numbers:
        """The numbers after decoupleQ's block stage."""
        parts = (tuple(found.items()) for found in (assignment.weights, assignment.activations))
        key = (*parts, assignment.arguments, assignment.correct_bias, assignment.block_steps)
        if key not in self._blocks:
            steps = assignment.block_steps
            self._blocks[key] = block_stage(self.graph, self.points, self.emulations, numbers, steps)
        return self._blocks[key]

    def logits(self, assignment: Assignment) -> list[FloatArray]:
        """Logits of each feed, as ``Emulation`` computes them."""
        numbers = self.numbers(assignment)
        return [emulation.logits(numbers) for emulation in self.emulations]

    def compared_logits(self, assignment: Assignment) -> list[FloatArray]:
        """Logits of the nodes of ``evaluation`` of each feed; only what these depend on is computed."""
        numbers, rows = self.numbers(assignment), self.evaluation.rows
        found = [emulation.logits(numbers) for emulation in self._looked_at]
        return found if rows is None else [logits[np.searchsorted(np.unique(rows), rows)] for logits in found]

    @cached_property
    def _looked_at(self) -> tuple[Emulation, ...]:
        rows = self.evaluation.rows
        if rows is None:
            return self.emulations
        return tuple(Emulation(self.graph, self.points, sample, np.unique(rows)) for sample in self.samples)

    @cached_property
    def _references(self) -> list[FloatArray]:
        """Logits of the float model that others are compared with, of each feed."""
        rows = slice(None) if self.evaluation.rows is None else self.evaluation.rows
        return [logits[rows] for logits in self.observed.logits]

    def divergence(self, assignment: Assignment) -> float:
        """Mean divergence from the float model, in nats, on the nodes of ``evaluation``."""
        return self.divergence_of(self.compared_logits(assignment))

    def divergence_of(self, compared: Sequence[FloatArray]) -> float:
        """The same of what ``compared_logits`` gave."""
        whole = replace(self.evaluation, rows=None)
        pairs = zip(self._references, compared, strict=True)
        return float(np.mean([divergence(reference, logits, whole) for reference, logits in pairs]))

    def agreement(self, assignment: Assignment) -> float:
        """Share of the nodes of ``evaluation`` that the float model predicts the same of."""
        equal = []
        for reference, found in zip(self._references, self.compared_logits(assignment), strict=True):
            if self.evaluation.multilabel:
                equal.append(((reference > 0) == (found > 0)).all(axis=1))
            else:
                equal.append(reference.argmax(axis=1) == found.argmax(axis=1))
        return float(np.concatenate(equal).mean())

    def average_bits(self, assignment: Assignment) -> AverageBits:
        """Mean widths of an assignment."""
        of_weights, of_activations = np.zeros(2), np.zeros(2)
        width_of = {name: assignment.activations[group].bits for group in self.groups for name in self.groups[group]}
        binary = {name for group in self.groups if self.exact_bits(group) == 1 for name in self.groups[group]}
        for layer in self.graph.layers:
            if isinstance(layer, Dense):
                widths = assignment.weights[layer.output].widths(layer.weight.shape[1])
                of_weights += np.array([np.mean(widths), 1.0]) * self.macs[layer.output]
            if isinstance(layer, Dense | Aggregation):
                for name in _read(layer):
                    if name not in binary:
                        of_activations += np.array([width_of[name], 1.0]) * self.macs[layer.output]
        means = (float(total[0] / total[1]) if total[1] else 0.0 for total in (of_weights, of_activations))
        return AverageBits(*means)

    def write(self, assignment: Assignment) -> onnx.ModelProto:
        """The quantized model."""
        return write_model(self.graph, self.points, self.numbers(assignment), self.bindings, opset=self.opset)

    def measured_divergence(self, model: onnx.ModelProto) -> float:
        """As ``divergence``, of a written model in onnxruntime."""
        name = model.graph.output[0].name
        found = [run_model(model, sample, [name])[0] for sample in self.samples]
        rows = slice(None) if self.evaluation.rows is None else self.evaluation.rows
        return self.divergence_of([logits[rows] for logits in found])

    def _macs(self, layer: Dense | Aggregation, emulation: Emulation) -> float:
        rows = emulation.rows(layer.input)
        if isinstance(layer, Dense):
            present = rows.nnz if isinstance(rows, scipy.sparse.csr_matrix) else rows.size
            return float(present * layer.weight.shape[1])
        if isinstance(layer, EdgeAggregation):
            return float(len(emulation.feed[layer.source]) * rows.shape[1])
        if isinstance(layer, TokenAttention):
            return float(rows.size * layer.parts)
        return float(rows.size)

    def _inner(self, method: str) -> Mapping[str, ActivationRange]:
        """Ranges of what functions and norms read."""
        if method not in self._inner_ranges:
            criterion = ACTIVATION_METHODS[method]
            self._inner_ranges[method] = inner_ranges(self.graph, self.points, self.observed.values, criterion)
        return self._inner_ranges[method]

    @cached_property
    def _logits(self) -> ActivationRange | None:
        """Of an output that the host computes: room for twice the largest logit, as finely as float32 holds."""
        last = next((layer for layer in self.graph.layers if layer.output == self.graph.output), None)
        if not isinstance(last, HostOperator):
            return None
        largest = max(float(np.abs(logits).max(initial=0.0)) for logits in self.observed.logits)
        shape = ActivationRange(TERM_BITS, True, 0)
        return replace(shape, exponent=covering(2 * largest, shape.highest))

    @cached_property
    def _unsigned(self) -> frozenset[str]:
        return unsigned_tensors(self.graph, self.points, self.observed.values)

    def _range(self, assignment: Assignment, group: str, signed: bool) -> ActivationRange:
        choice = assignment.activations[group]
        if choice.exponent is not None:
            return ActivationRange(choice.bits, signed, choice.exponent)
        key = (group, choice, signed)
        if key not in self._ranges and choice.method == TWIN and self.offers_twin(group):
            values = np.concatenate([self.observed.values[name] for name in self.groups[group]])
            self._ranges[key] = uniform_or_twin(values, choice.bits)
        if key not in self._ranges:
            values = np.concatenate([self.observed.values[name] for name in sorted(self.groups[group])])
            self._ranges[key] = choose(values, ACTIVATION_METHODS[choice.method], bits=choice.bits, signed=signed)
        return self._ranges[key]

    def _rounded(self, name: str, assignment: Assignment, ranges: Mapping[str, ActivationRange]) -> LayerWeights:
        """A layer's weights, whose products float32 adds without rounding, as onnxruntime does.

        A sum is a whole number times a free scale's multiplier, and float32 holds 24 bits; one of them is left for
        inputs other than those observed. Multipliers are shortened until that holds on the calibration feeds.
        """
        layer, choice = self.layers[name], assignment.weights[name]
        inputs, scale, significance = self._inputs_of(layer), ranges[layer.input].scale, LARGEST_SIGNIFICANCE
        while True:
            key = (name, choice, significance, assignment.correct_bias)
            found = self.roundings.get(key, partial(self._rounded_alone, layer, *key[1:]))
            free = [part for part in found.parts if part.bits < POWER_OF_TWO_BITS]
            if not free or significance == 1:
                return found
            if key not in self._sums:
                self._sums[key] = inputs.largest_sum(_free_part(found))
            sums = self._sums[key] / scale
            if layer.bias is not None:
                sums += float((np.abs(layer.bias) / (found.scales.astype(np.float64) * scale)).max(initial=0.0))
            spare = _FLOAT32_BITS - 1 - math.ceil(math.log2(max(sums, 1.0)))
            if spare >= significance:
                return found
            significance = max(spare, 1)

    def _rounded_alone(self, layer: Dense, choice: WeightChoice, significance: int, correct_bias: bool) -> LayerWeights:
        inputs, shared = self._inputs_of(layer), layer.output == self.graph.output
        found = rounded_layer(layer, choice, inputs, shared_scale=shared, significance=significance)
        return corrected(layer, found, inputs) if correct_bias else found

    def _inputs_of(self, layer: Dense) -> LayerInputs:
        """What a layer reads in the float model, so that weights do not depend on the widths of activations."""
        if layer.input not in self._inputs:
            self._inputs[layer.input] = LayerInputs(tuple(each.rows(layer.input) for each in self.emulations))
        return self._inputs[layer.input]


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


def _free_part(weights: LayerWeights) -> npt.NDArray[np.int64]:
    """Integers of the channels with free scales, 0 in the others."""
    return np.where(weights.bits < POWER_OF_TWO_BITS, weights.integers, 0)


def channel_ranges(rows: FloatArray) -> FloatArray:
    """Range of each channel of rows, [C]: all but a thousandth of its magnitudes."""
    magnitudes = np.abs(rows) if len(rows) else np.zeros((1, rows.shape[1]))
    return np.asarray(np.quantile(magnitudes, 0.999, axis=0), np.float32)


def _edge_layers(graph: LayerGraph) -> list[EdgeAggregation]:
    return [layer for layer in graph.layers if isinstance(layer, EdgeAggregation)]


def _read(layer: Layer) -> tuple[str, ...]:
    """Stored tensors that a layer multiplies or sums."""
    if isinstance(layer, EdgeDot | TokenAttention):
        return layer.input, layer.queries, layer.keys
    assert isinstance(layer, Dense | Aggregation)
    return (layer.input,)
