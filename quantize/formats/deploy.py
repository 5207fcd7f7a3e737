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
from hetfab.quantize.ranges import ActivationRange
from hetfab.quantize.weights import LARGEST_SPREAD, QuantizedWeights, round_to_nearest

Doubles = npt.NDArray[np.float64]

#: A scale becomes finer, and the range shorter, by at most this share; else it becomes coarser.
_CUT = 1 / 32
_WEIGHT_BITS = 8
_FEWEST_STEPS = 2
#: Bits of a multiplier between its first and its last one; a scale changes by at most 2^-14 of itself.
_SIGNIFICANCE = LARGEST_SPREAD
#: Scales closer than this are the same number, written in float32.
_SAME = 1e-6


@dataclass(frozen=True)
class Difference:
    """A number that is not the file's.

    Attributes:
        tensor: The tensor, or the layer whose weights they are.
        what: What the number is.
        found: In the file.
        kept: In the model that is deployed.
    """

    tensor: str
    what: str
    found: float
    kept: float


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
    if not uses_qonnx(model) and not uses_qdq(model):
        raise NotQuantizedError(
            "the model has no roundings: neither 'Quant' nor 'QuantizeLinear'",
            "a model that another tool has quantized, as QONNX or QDQ",
            "quantize it with `hetfab quantize`",
        )
    foreign = read_qonnx(model) if uses_qonnx(model) else read_qdq(model)
    bindings_of(foreign.model, bindings)
    return _Deployment.of(foreign).result()


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
            layer.output: self._weights(layer, step, gains)
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
        return rounding.scale * reach / _highest(_bits(rounding), signed=rounding.lowest < 0)

    def _ranges(self, gains: Mapping[str, float]) -> dict[str, ActivationRange]:
        ranges = {}
        for name in self.points.stored:
            rounding, signed = self.roundings[name], self.roundings[name].lowest < 0
            exponents = [_exponent(self._scale(member) / gains[name]) for member in self.points.family(name)]
            ranges[name] = ActivationRange(_bits(rounding), signed, max(exponents))
            kept = ranges[name].scale * gains[name]
            if abs(kept - rounding.scale) > _SAME * rounding.scale:
                self.differences.append(Difference(name, "step", rounding.scale, kept))
            if rounding.lowest not in (0, ranges[name].lowest):
                self.differences.append(Difference(name, "lowest step", rounding.lowest, ranges[name].lowest))
        return ranges

    def _weights(self, layer: Conv | Dense, step: Conv | Dense, gains: Mapping[str, float]) -> QuantizedWeights:
        """The file's integers with the scale of each output channel on the grid of multipliers."""
        moved = gains[layer.input] / gains[layer.output]
        values, steps = _matrix(layer), np.abs(_matrix(step))
        scales = steps.max(axis=0)
        if layer.output not in self._rounded_layers() or np.any(steps.min(axis=0) != scales):
            return self._rounded_anew(layer, values * moved, "no step of its own for each output channel")
        integers = np.rint(values / np.where(scales > 0.0, scales, 1.0)).astype(np.int64)
        scales = np.where(scales > 0.0, scales, scales.max()) * moved
        if self._leaves(layer) and np.ptp(scales) > _SAME * scales.max():
            return self._aligned(layer, values * moved)
        if np.abs(integers).max(initial=0) > _limit(_WEIGHT_BITS):
            integers = np.clip(integers, -_limit(_WEIGHT_BITS), _limit(_WEIGHT_BITS))
            self.differences.append(Difference(layer.output, "lowest weight", -128.0, -127.0))
        found = _on_grid(integers, scales)
        worst = int(np.abs(found.scales / scales - 1).argmax())
        if abs(found.scales[worst] / scales[worst] - 1) > _SAME:
            self.differences.append(
                Difference(layer.output, "step of weights", float(scales[worst]), float(found.scales[worst]))
            )
        return found

    def _leaves(self, layer: Conv | Dense) -> bool:
        """Whether a layer's sums leave as logits."""
        inner = layer.output not in self.points.stored
        return layer.output == self.graph.output or (inner and self.points.source(self.graph.output) == layer.output)

    def _rounded_layers(self) -> frozenset[str]:
        """Layers whose weights the file rounds: those where the step stands in place of the weights."""
        pairs = zip(self.graph.products(), self.steps.products(), strict=True)
        return frozenset(a.output for a, b in pairs if not np.array_equal(a.weight, b.weight))

    def _rounded_anew(self, layer: Conv | Dense, values: Doubles, why: str) -> QuantizedWeights:
        found = round_to_nearest(values.astype(np.float32), bits=_WEIGHT_BITS, shared_scale=self._leaves(layer))
        return self._changed(layer, values, found, why)

    def _aligned(self, layer: Conv | Dense, values: Doubles) -> QuantizedWeights:
        """Weights of all classes at one step, since their logits are compared as integers."""
        step = np.abs(values).max() / _limit(_WEIGHT_BITS)
        found = _on_grid(np.rint(values / step).astype(np.int64), np.full(values.shape[1], step))
        return self._changed(layer, values, found, "classes of different steps")

    def _changed(self, layer: Conv | Dense, values: Doubles, found: QuantizedWeights, why: str) -> QuantizedWeights:
        error = np.abs(found.integers * found.scales - values).max(initial=0.0)
        self.differences.append(Difference(layer.output, f"weights, {why}: largest error", 0.0, float(error)))
        return found


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
    return 1.0 if abs(gain - 2.0) < _SAME or abs(gain - 1.0) < _SAME else gain


def _exponent(scale: float) -> int:
    """The power of two that stands for a scale: the next one below where that cuts little, else the next above."""
    below = math.floor(math.log2(scale) + _SAME)
    return below if scale * (1 - _CUT) <= 2.0**below else below + 1


def _bits(rounding: Rounding) -> int:
    steps = rounding.highest - rounding.lowest + (1 if rounding.lowest == -rounding.highest else 0)
    return max(2, math.ceil(math.log2(steps + 1)))


def _highest(bits: int, *, signed: bool) -> int:
    return (1 << (bits - signed)) - 1


def _limit(bits: int) -> int:
    return (1 << (bits - 1)) - 1


def _matrix(layer: Conv | Dense) -> Doubles:
    """Weights with a column for each output channel."""
    weight = layer.weight if isinstance(layer, Dense) else layer.weight.reshape(len(layer.weight), -1).T
    return weight.astype(np.float64)


def _on_grid(integers: npt.NDArray[np.int64], scales: Doubles) -> QuantizedWeights:
    """Integers of the least width that holds them, and their scales as multipliers that one shift brings to size."""
    magnitude, lowest = int(np.abs(integers).max(initial=0)), int(integers.min(initial=0))
    if magnitude == 1 and integers.all():
        bits, narrow = 1, True
    elif lowest == -2 and int(integers.max(initial=0)) < 2:
        bits, narrow = 2, False
    else:
        bits, narrow = max(2, magnitude.bit_length() + 1), True
    tops = np.frexp(scales)[1].astype(np.int64)
    exponents = np.maximum(tops - _SIGNIFICANCE, tops.max() - LARGEST_SPREAD)
    mantissas = np.maximum(np.rint(np.ldexp(scales, -exponents)), 1.0).astype(np.int64)
    return QuantizedWeights(integers, mantissas, exponents, bits, narrow)


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
