# SPDX-License-Identifier: Apache-2.0
"""A float network on samples under study: the file of any assignment of widths, and what it costs in accuracy."""

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial

import numpy as np
import onnx

from hetfab.overlay.errors import WidthsUnsupportedError
from hetfab.overlay.model.bound_model import Evaluation, FedModel
from hetfab.overlay.model.cnn.layers import CnnGraph, Conv, inputs_of, multiplies
from hetfab.overlay.model.cnn.parser import parse_cnn
from hetfab.overlay.model.layers import Dense
from hetfab.overlay.model.reader import opset
from hetfab.overlay.model.runtime import Feed, Runner, run_model
from hetfab.quantize.assignment import ActivationChoice, Assignment, WeightChoice
from hetfab.quantize.cnn.changed_runs import ChangedRuns
from hetfab.quantize.cnn.points import Points, find_points, layer_widths
from hetfab.quantize.cnn.post_training import FloatArray, Observed, chosen_numbers, corrected, observe
from hetfab.quantize.cnn.rewrites import fold_batch_norms
from hetfab.quantize.cnn.rounding import as_dense, patches, rounded_weights
from hetfab.quantize.cnn.writer import Numbers, evaluation_model, float_model, quantized_model
from hetfab.quantize.divergence import divergence
from hetfab.quantize.layer_rounding import rounded_layer
from hetfab.quantize.methods import ACTIVATION_METHODS
from hetfab.quantize.methods.layer_problem import LayerInputs
from hetfab.quantize.ranges import ActivationRange, exact_exponent
from hetfab.quantize.roundings import Roundings
from hetfab.quantize.study import AverageBits, check_float
from hetfab.quantize.weights import LayerWeights
from hetfab.quantize.widths import POWER_OF_TWO_BITS, Widths

#: Rows of a layer that its weights are rounded for.
_ROWS = 4096


@dataclass(frozen=True, eq=False)
class CnnStudy:
    """A float network on samples and what its samples show.

    Biases always make up for what rounding adds to a mean, whatever an assignment says.

    Attributes:
        graph: The layers, without BatchNormalization.
        points: Where tensors become integers.
        evaluation: What models are compared on.
        samples: The feeds.
        observed: What the float model shows of its tensors.
        opset: Version of the standard operators.
        roundings: Weights that are rounded already.
    """

    graph: CnnGraph
    points: Points
    evaluation: Evaluation
    samples: tuple[Feed, ...]
    observed: Observed
    opset: int
    roundings: Roundings = field(default_factory=Roundings)
    _weights: dict[tuple[Hashable, ...], LayerWeights] = field(default_factory=dict)
    _inputs: dict[str, tuple[LayerInputs, ...]] = field(default_factory=dict)
    _runs: list[ChangedRuns] = field(default_factory=list)

    @classmethod
    def open(cls, given: FedModel) -> "CnnStudy":
        """Reads and runs a float network.

        Raises:
            AlreadyQuantizedError: The model is quantized.
            OperatorsUnsupportedError: The model has layers or uses of layers without an integer form.
            CalibrationDataError: There is no sample.
        """
        check_float(given.model)
        graph = fold_batch_norms(parse_cnn(given.model))
        points, samples, version = find_points(graph), list(given.samples()), opset(given.model)
        observed = observe(graph, points, samples, version)
        return cls(graph, points, given.evaluation, tuple(samples), observed, version)

    @cached_property
    def layers(self) -> dict[str, Conv | Dense]:
        """Layers with weights, by output."""
        return {layer.output: layer for layer in self.graph.products()}

    @cached_property
    def groups(self) -> dict[str, tuple[str, ...]]:
        """Stored tensors that share a scale and a width, by the name of the first of them."""
        groups: dict[str, tuple[str, ...]] = {}
        for name in self.points.stored:
            family = self.points.family(name)
            if not any(name in members for members in groups.values()):
                groups[name] = tuple(other for other in self.points.stored if other in family)
        return groups

    @property
    def inputs(self) -> dict[str, str]:
        """The group that each layer with weights reads."""
        return {name: self._group(self.points.source(layer.input)) for name, layer in self.layers.items()}

    def uniform(self, widths: Widths, *, weights: str = "nearest", activations: str = "percentile 99.9") -> Assignment:
        """One width for all weights and one for all activations."""
        return Assignment(
            {name: WeightChoice(widths.weights, weights) for name in self.layers},
            {name: ActivationChoice(widths.activations, activations) for name in self.groups},
            activations,
        )

    def with_edges(self, widths: Widths, edges: Widths, activations: str) -> Assignment:
        """As ``quantize_cnn`` distributes widths of inner layers and of first and last ones."""
        found = layer_widths(self.graph, self.points, widths, edges)
        return Assignment(
            {name: WeightChoice(bits, "nearest") for name, bits in found.weights.items()},
            {name: ActivationChoice(found.activations[name], activations) for name in self.groups},
            activations,
        )

    def least_bits(self, layer: str, bits: int) -> int:
        """The width."""
        return bits

    def exact_bits(self, group: str) -> int | None:
        """Fewest bits that hold every observed value of a group exactly; None above 8."""
        values = np.unique(np.concatenate([self.observed.values[name] for name in self.groups[group]]))
        signed = bool((values < 0).any())
        for bits in range(1, 9):
            highest = (1 << (bits - signed)) - 1
            if not values.size or (highest and exact_exponent(values, highest) is not None):
                return bits
        return None

    def write(self, assignment: Assignment) -> onnx.ModelProto:
        """The quantized model."""
        numbers = self.numbers(assignment)
        return quantized_model(corrected(self.graph, numbers, self.observed), numbers, opset=self.opset)

    def numbers(self, assignment: Assignment) -> Numbers:
        """Ranges, integers and scales for an assignment.

        Raises:
            WidthsUnsupportedError: The channels of a last layer have several widths, or there are not as many widths;
                or there are steps of the block stage.
        """
        if assignment.block_steps:
            raise WidthsUnsupportedError(
                f"{assignment.block_steps} steps of the block stage for a network on samples",
                "a model on a graph, or no steps",
                "leave block_steps out",
            )
        choices = {name: assignment.activations[self._group(name)] for name in self.points.stored}

        def rounded(layer: Conv | Dense, rows: ActivationRange, shared: bool) -> LayerWeights:
            choice = assignment.weights[layer.output]
            # Of wide weights alone nothing depends on what the layer reads: their scales are powers of two.
            of_rows = rows if choice.kinds[0] < POWER_OF_TWO_BITS else None
            key = (layer.output, choice, of_rows, shared)
            if key not in self._weights:
                self._weights[key] = rounded_weights(layer, rows, choice, partial(self._rounded, layer, shared))
            return self._weights[key]

        return chosen_numbers(
            self.graph,
            self.points,
            {name: choice.bits for name, choice in choices.items()},
            self.observed,
            {name: ACTIVATION_METHODS[choice.method] for name, choice in choices.items()},
            rounded,
            {name: choice.exponent for name, choice in choices.items() if choice.exponent is not None},
        )

    def _rounded(self, layer: Conv | Dense, shared: bool, choice: WeightChoice, significance: int) -> LayerWeights:
        """A layer's integers, which are kept: only whether a multiplier is too long depends on a range."""

        def computed() -> LayerWeights:
            inputs = (LayerInputs(()),) if choice.method == "nearest" else self._inputs_of(layer)
            return rounded_layer(as_dense(layer), choice, *inputs, shared_scale=shared, significance=significance)

        return self.roundings.get((layer.output, choice, shared, significance), computed)

    def _inputs_of(self, layer: Conv | Dense) -> tuple[LayerInputs, ...]:
        """What each group of a layer's channels reads in the float model.

        Kept of one layer: it may be large, widths are measured layer by layer, and what came of it is kept.
        """
        if layer.output not in self._inputs:
            most, is_input = max(_ROWS // len(self.samples), 1), layer.input == self.graph.input
            rows = [
                patches(layer, sample[layer.input] if is_input else self._inner(sample, [layer.input])[0], most)
                for sample in self.samples
            ]
            self._inputs.clear()
            self._inputs[layer.output] = tuple(LayerInputs(tuple(group)) for group in zip(*rows, strict=True))
        return self._inputs[layer.output]

    @cached_property
    def _inner(self) -> Runner:
        """The float network, which also gives what its layers read."""
        model = float_model(self.graph, opset=self.opset)
        known = {value.name for value in (*model.graph.input, *model.graph.output)}
        read = dict.fromkeys(layer.input for layer in self.layers.values())
        model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in read if name not in known)
        return Runner(model)

    def logits(self, assignment: Assignment) -> list[FloatArray]:
        """Logits of each feed in onnxruntime, [N, classes]."""
        model = self.write(assignment)
        found = [run_model(model, sample, [self.graph.output])[0] for sample in self.samples]
        return [logits.reshape(len(logits), -1) for logits in found]

    def compared_logits(self, assignment: Assignment) -> list[FloatArray]:
        """The same, of a model that onnxruntime keeps, with weights as inputs, from where they changed.

        The bits are those of the file where float32 holds all sums (``QuantizedCnn.may_round``).
        """
        numbers = self.numbers(assignment)
        model, given = evaluation_model(corrected(self.graph, numbers, self.observed), numbers, opset=self.opset)
        if not self._runs:
            self._runs.append(ChangedRuns(model, self.samples))
        found = self._runs[0](given)
        return [logits.reshape(len(logits), -1) for logits in found]

    def divergence(self, assignment: Assignment) -> float:
        """Mean divergence from the float model, in nats per sample."""
        return self.divergence_of(self.compared_logits(assignment))

    def divergence_of(self, compared: Sequence[FloatArray]) -> float:
        """The same of what ``compared_logits`` gave."""
        pairs = zip(self.float_logits, compared, strict=True)
        return float(np.mean([divergence(reference, found, self.evaluation) for reference, found in pairs]))

    @property
    def float_logits(self) -> tuple[FloatArray, ...]:
        """Of each feed, [N, classes]."""
        return tuple(logits.reshape(len(logits), -1) for logits in self.observed.logits)

    def average_bits(self, assignment: Assignment) -> AverageBits:
        """Mean widths, weighted by multiplications."""
        of_weights, of_activations = np.zeros(2), np.zeros(2)
        for name, layer in self.layers.items():
            macs = multiplies(layer, self.graph)
            channels = len(layer.weight) if isinstance(layer, Conv) else layer.weight.shape[1]
            of_weights += np.array([np.mean(assignment.weights[name].widths(channels)), 1.0]) * macs
            of_activations += np.array([assignment.activations[self.inputs[name]].bits, 1.0]) * macs
        means = (float(total[0] / total[1]) if total[1] else 0.0 for total in (of_weights, of_activations))
        return AverageBits(*means)

    def made_of(self, result: str) -> tuple[str | None, str | None]:
        """The layer with weights that computes a result of the quantized model, else the group that it reads."""
        head, found, digits = result.rpartition(".int")
        tensor = head if found and digits.isdigit() else result
        behind = list(self._behind(tensor))
        layer = next((name for name, stored in behind if not stored), None)
        if layer is not None:
            return layer, None
        return None, next((self._group(name) for name, _ in behind), None)

    def _behind(self, tensor: str) -> Iterator[tuple[str, bool]]:
        """Layers with weights behind a tensor, and stored tensors, behind which it does not look (True)."""
        layer = self.graph.producer(tensor)
        if layer is None:
            return
        if layer.output in self.layers:
            yield layer.output, False
            return
        for name in inputs_of(layer):
            source = self.points.source(name)
            if source in self.points.stored:
                yield source, True
            else:
                yield from self._behind(name)

    def _group(self, tensor: str) -> str:
        return next(group for group, members in self.groups.items() if tensor in members)
