# SPDX-License-Identifier: Apache-2.0
"""Puts the numbers of a quantized model of another tool onto the overlay's grid, without choosing new ones.

Integers stay as they are. The overlay's tensors have scales 2^e, a file's are free: a tensor x with the scale g * 2^e
is stored as x / g, the layer that computes it has weights divided by g, the layers that read it have weights
multiplied by g. Relu, Clip, pooling and additions pass g on, so all tensors between two layers with weights have one g;
where their scales differ by more than a power of two, one is kept and the others become coarser. The samples and the
logits have g = 1. What changed is reported.
"""

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import onnx

from hetfab.overlay.errors import NotQuantizedError, OperatorsUnsupportedError, counted
from hetfab.overlay.model.binding import Binding
from hetfab.overlay.model.bound_model import BoundModel
from hetfab.overlay.model.cnn.integer_reader import read_integers
from hetfab.overlay.model.cnn.layers import AveragePool, Clip, CnnGraph, Conv, Flatten, Layer, MaxPool, inputs_of
from hetfab.overlay.model.cnn.names import read_names
from hetfab.overlay.model.cnn.parser import parse_cnn
from hetfab.overlay.model.layers import Add, Dense, Relu
from hetfab.overlay.model.reader import bindings_of, check_model, opset
from hetfab.quantize.cnn.points import Points, find_points
from hetfab.quantize.cnn.rewrites import fold_batch_norms
from hetfab.quantize.cnn.writer import Numbers, quantized_model
from hetfab.quantize.formats.foreign import Foreign, Rounding
from hetfab.quantize.formats.qdq import read_qdq, uses_qdq
from hetfab.quantize.formats.qonnx import read_qonnx, uses_qonnx
from hetfab.quantize.formats.steps import SAME, Difference, bits_of, exponent_of, given_weights, highest_of
from hetfab.quantize.ranges import ActivationRange
from hetfab.quantize.weights import LayerWeights, QuantizedWeights

_FEWEST_STEPS = 2


@dataclass(frozen=True, eq=False)
class Deployable(BoundModel):
    """A quantized model of another tool in hetfab's form.

    Attributes:
        model: The quantized model; it carries its binding.
        bindings: The same binding.
        differences: Numbers that had to change, and by how much.
        left_out: Lines on roundings of the file that are not made.
        may_round: Layers whose sums are not proven to fit the 24 bits of float32, in which onnxruntime adds.
    """

    differences: tuple[Difference, ...]
    left_out: tuple[str, ...]
    may_round: tuple[str, ...]


def deployable(model: onnx.ModelProto, bindings: Mapping[str, Binding] | None = None) -> Deployable:
    """Reads a QONNX, QDQ or QCDQ model of a network on samples, and writes it in hetfab's form.

    Args:
        model: As ``read_model`` returns it.
        bindings: Meaning of inputs, where neither the file nor their form says it.

    Raises:
        NotQuantizedError: The model has no rounding.
        OperatorsUnsupportedError: Roundings or layers that have no integer form; all of a kind are named at once.
        BindingInvalidError: The model reads a graph.
    """
    foreign = read_foreign(model)
    bindings_of(foreign.model, bindings)
    return _Deployment.of(foreign).result()


def read_foreign(model: onnx.ModelProto) -> Foreign:
    """Takes the roundings out of a QONNX, QDQ or QCDQ model.

    Raises:
        NotQuantizedError: The model has no rounding.
        OperatorsUnsupportedError: Roundings that are not read, all at once.
    """
    if not uses_qonnx(model) and not uses_qdq(model):
        raise NotQuantizedError(
            "the model has no roundings: neither 'Quant' nor 'QuantizeLinear'",
            "a model that another tool has quantized, as QONNX or QDQ",
            "quantize it with `hetfab quantize`",
        )
    return read_qonnx(model) if uses_qonnx(model) else read_qdq(model)


@dataclass
class _Deployment:
    """The layers of a file and its numbers; ``steps`` are the layers with the step of each weight as its value."""

    graph: CnnGraph
    steps: CnnGraph
    points: Points
    foreign: Foreign
    roundings: Mapping[str, Rounding]
    differences: list[Difference]

    @classmethod
    def of(cls, foreign: Foreign) -> "_Deployment":
        graph = fold_batch_norms(parse_cnn(foreign.model))
        steps = fold_batch_norms(parse_cnn(foreign.with_constants(lambda constant: constant.scales)))
        points = find_points(graph)
        resolve = read_names(foreign.model).resolve
        given = {resolve(name): rounding for name, rounding in foreign.tensors.items()}
        roundings = {name: found for name in points.stored if (found := _rounding(name, given, graph, points))}
        missing = [f"'{name}'" for name in points.stored if name not in roundings]
        single = [f"'{name}'" for name, found in roundings.items() if found.highest - found.lowest < _FEWEST_STEPS]
        if missing:
            raise OperatorsUnsupportedError(
                f"the file has no rounding of {counted(len(missing), 'tensor')} of integers:",
                "a rounding of the input, and of each tensor that a convolution, a dense layer, pooling or Add reads",
                "round them too in the tool that quantizes, or give the float model to `hetfab quantize`",
                missing,
            )
        if single:
            raise OperatorsUnsupportedError(
                f"the file has 1 bit for {counted(len(single), 'tensor')} of integers:",
                "activations of 2 to 8 bits",
                "quantize the model again with wider activations",
                single,
            )
        return cls(graph, steps, points, foreign, roundings, [])

    def result(self) -> Deployable:
        gains = self._gains()
        ranges = self._ranges(gains)
        weights = {
            layer.output: LayerWeights((self._weights(layer, step, gains),))
            for layer, step in zip(self.graph.products(), self.steps.products(), strict=True)
        }
        numbers = Numbers(self.points, ranges, weights)
        given = self.foreign.model
        model = quantized_model(_divided(self.graph, gains), numbers, opset=opset(given))
        check_model(model, "the quantized model")
        may_round = tuple(p.output.name for p in read_integers(model).products() if not p.exact_in_float32)
        unused = sorted(set(self.foreign.tensors) - set(self.roundings) - set(self.points.moved))
        left_out = [f"'{name}' is not rounded: it stays in accumulators, or leaves" for name in unused]
        left_out += self.foreign.left_out
        return Deployable(model, bindings_of(model), tuple(self.differences), tuple(left_out), may_round)

    def _gains(self) -> dict[str, float]:
        """For every tensor its g, from 1 up to 2: the most frequent one of the tensors that share it."""
        gains: dict[str, float] = {}
        for members in _sharing(self.graph):
            found = Counter(_gain(self._scale(name)) for name in self.points.stored if name in members)
            fixed = {self.graph.input, self.graph.output} & members
            gain = 1.0 if fixed or not found else found.most_common(1)[0][0]
            gains |= dict.fromkeys(members, gain)
        return gains

    def _scale(self, tensor: str) -> float:
        """A step with which signed or unsigned integers of the file's width cover its range."""
        rounding = self.roundings[tensor]
        if rounding.symmetric:
            return rounding.scale
        reach = max(rounding.highest, -rounding.lowest)
        return rounding.scale * reach / highest_of(bits_of(rounding), signed=rounding.lowest < 0)

    def _ranges(self, gains: Mapping[str, float]) -> dict[str, ActivationRange]:
        ranges = {}
        for name in self.points.stored:
            rounding, signed = self.roundings[name], self.roundings[name].lowest < 0
            exponents = [exponent_of(self._scale(member) / gains[name]) for member in self.points.family(name)]
            ranges[name] = ActivationRange(bits_of(rounding), signed, max(exponents))
            kept = ranges[name].scale * gains[name]
            if abs(kept - rounding.scale) > SAME * rounding.scale:
                self.differences.append(Difference(name, "step", rounding.scale, kept))
            if rounding.lowest not in (0, ranges[name].lowest):
                self.differences.append(Difference(name, "lowest step", rounding.lowest, ranges[name].lowest))
        return ranges

    def _weights(self, layer: Conv | Dense, step: Conv | Dense, gains: Mapping[str, float]) -> QuantizedWeights:
        steps = _matrix(step) if layer.output in self._rounded_layers() else None
        moved = gains[layer.input] / gains[layer.output]
        found, differences = given_weights(layer.output, _matrix(layer), steps, moved, shared=self._leaves(layer))
        self.differences += differences
        return found

    def _leaves(self, layer: Conv | Dense) -> bool:
        """Whether a layer's sums leave as logits."""
        inner = layer.output not in self.points.stored
        return layer.output == self.graph.output or (inner and self.points.source(self.graph.output) == layer.output)

    def _rounded_layers(self) -> frozenset[str]:
        """Layers whose weights the file rounds: those where the step stands in place of the weights."""
        pairs = zip(self.graph.products(), self.steps.products(), strict=True)
        return frozenset(a.output for a, b in pairs if not np.array_equal(a.weight, b.weight))


def _rounding(name: str, given: Mapping[str, Rounding], graph: CnnGraph, points: Points) -> Rounding | None:
    """The rounding of a stored tensor: its own, or that of what only moves or rectifies it."""
    if name in given:
        return given[name]
    for moved in points.moved:
        if points.source(moved) == name and moved in given:
            return given[moved]
    producer = graph.producer(name)
    return _rounding(producer.input, given, graph, points) if isinstance(producer, Relu | Clip) else None


def _sharing(graph: CnnGraph) -> list[frozenset[str]]:
    """Sets of tensors between layers with weights."""
    sets: list[frozenset[str]] = []
    for members in (frozenset(group) for group in _pairs(graph)):
        touching = [other for other in sets if other & members]
        sets = [other for other in sets if not other & members]
        sets.append(members.union(*touching))
    return sets


def _pairs(graph: CnnGraph) -> Iterator[tuple[str, ...]]:
    yield (graph.input,)
    for layer in graph.layers:
        yield (layer.output,)
        if isinstance(layer, Relu | Clip | Add | MaxPool | AveragePool | Flatten):
            yield (layer.output, *inputs_of(layer))


def _gain(scale: float) -> float:
    """What a scale has beside a power of two, as a number of few digits, so that equal ones are found equal."""
    gain = float(np.float32(math.frexp(scale)[0] * 2))
    return 1.0 if abs(gain - 2.0) < SAME or abs(gain - 1.0) < SAME else gain


def _matrix(layer: Conv | Dense) -> npt.NDArray[np.float64]:
    """Weights with a column for each output channel."""
    weight = layer.weight if isinstance(layer, Dense) else layer.weight.reshape(len(layer.weight), -1).T
    return weight.astype(np.float64)


def _divided(graph: CnnGraph, gains: Mapping[str, float]) -> CnnGraph:
    """Biases and limits in the stored tensors' own units."""
    layers: list[Layer] = []
    for layer in graph.layers:
        gain = gains[layer.output]
        if isinstance(layer, Conv | Dense) and layer.bias is not None:
            layer = replace(layer, bias=(layer.bias.astype(np.float64) / gain).astype(np.float32))
        elif isinstance(layer, Clip):
            layer = replace(layer, highest=layer.highest / gain)
        layers.append(layer)
    return replace(graph, layers=tuple(layers))
