# SPDX-License-Identifier: Apache-2.0
"""decoupleQ's second stage: integers stay, scales and biases move until a block's output is near the float block's.

Guo et al., decoupleQ, 2024 (arXiv 2404.12759), section 3.4: after each layer's own problem, the scales, and what is not
rounded, of a block are trained by Adam on the mean square error of its output, with the inputs that quantized layers
before it give. Graph models have two or three layers, so here the block is the model, and its output the logits.
Rounding passes gradients on as they are. Scales of 4 bits and more are powers of two and stay; free ones and biases
move. No labels are read. What does not end nearer is not taken.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from hetfab.overlay.model.layers import Dense, LayerGraph
from hetfab.quantize.emulation import Emulation
from hetfab.quantize.gradients import gradients
from hetfab.quantize.points import QuantizationPoints
from hetfab.quantize.weights import FloatArray, LayerWeights, on_grid
from hetfab.quantize.widths import POWER_OF_TWO_BITS
from hetfab.quantize.writer import Numbers

_Doubles = npt.NDArray[np.float64]
#: Adam's step, relative to a scale and to the range of a layer's output, and its means (Kingma and Ba, ICLR 2015).
_STEP, _MEAN, _SQUARE, _SMALLEST = 0.003, 0.9, 0.99, 1e-12


def block_stage(
    graph: LayerGraph, points: QuantizationPoints, emulations: tuple[Emulation, ...], numbers: Numbers, steps: int
) -> Numbers:
    """Numbers with the same integers and ranges, whose logits are no further from the float model's on the feeds.

    Args:
        graph: The layers.
        points: Where tensors become integers.
        emulations: The float model on each feed.
        numbers: What the layers' own problems gave.
        steps: Of Adam.
    """
    targets = [emulation.logits() for emulation in emulations]
    layers = {layer.output: layer for layer in graph.layers if isinstance(layer, Dense)}
    trained = _Parameters.of(layers, numbers)
    best, least = numbers, _error(emulations, numbers, targets)
    for _ in range(steps):
        trained.move(_slopes(graph, points, emulations, trained.numbers(numbers), targets))
        found = trained.numbers(numbers)
        error = _error(emulations, found, targets)
        if error < least:
            best, least = found, error
    return best


def _error(emulations: tuple[Emulation, ...], numbers: Numbers, targets: list[FloatArray]) -> float:
    """Mean square error of the logits."""
    pairs = zip(emulations, targets, strict=True)
    differences = [each.logits(numbers) - target for each, target in pairs]
    return float(np.mean([np.mean(np.square(difference, dtype=np.float64)) for difference in differences]))


def _slopes(
    graph: LayerGraph,
    points: QuantizationPoints,
    emulations: tuple[Emulation, ...],
    numbers: Numbers,
    targets: list[FloatArray],
) -> dict[str, tuple[_Doubles, _Doubles]]:
    """Gradients of the error by relative scale and by bias, [N] each, of each layer."""
    found: dict[str, tuple[_Doubles, _Doubles]] = {}
    for emulation, target in zip(emulations, targets, strict=True):
        # The model with restored weights has the slopes of the quantized one but for rounding.
        restored = Emulation(_restored(graph, numbers), points, emulation.feed)
        slope = np.asarray(2 * (emulation.logits(numbers) - target) / target.size, np.float32)
        for name, gradient in gradients(restored, slope).items():
            if name in numbers.weights:
                layer = next(each for each in restored.graph.layers if each.output == name)
                assert isinstance(layer, Dense)
                products = restored.rows(layer.input) @ layer.weight
                of_scales = np.einsum("rn,rn->n", gradient, products, dtype=np.float64)
                of_bias = gradient.sum(axis=0, dtype=np.float64)
                before = found.get(name, (np.zeros(of_bias.shape), np.zeros(of_bias.shape)))
                found[name] = before[0] + of_scales, before[1] + of_bias
    return found


def _restored(graph: LayerGraph, numbers: Numbers) -> LayerGraph:
    layers = []
    for layer in graph.layers:
        if isinstance(layer, Dense):
            weights = numbers.weights[layer.output]
            bias = layer.bias if weights.bias is None else weights.bias
            layer = replace(layer, weight=weights.restored, bias=bias)
        layers.append(layer)
    return replace(graph, layers=tuple(layers))


@dataclass(eq=False)
class _Parameters:
    """Relative scales and additions to biases of each layer, [2, N], with Adam's means."""

    values: dict[str, _Doubles]
    sizes: Mapping[str, _Doubles]
    biases: Mapping[str, FloatArray | None]
    means: dict[str, _Doubles] = field(default_factory=dict)
    squares: dict[str, _Doubles] = field(default_factory=dict)
    count: int = 0

    @classmethod
    def of(cls, layers: Mapping[str, Dense], numbers: Numbers) -> "_Parameters":
        values, sizes = {}, {}
        for name, layer in layers.items():
            weights = numbers.weights[name]
            free = (weights.bits < POWER_OF_TWO_BITS) & (len(set(weights.scales.tolist())) > 1)
            biased = np.full(len(free), layer.bias is not None)
            size = 1.0 if layer.bias is None else max(float(np.abs(layer.bias).max(initial=0.0)), 1e-6)
            values[name] = np.stack([np.ones(len(free)), np.zeros(len(free))])
            sizes[name] = np.stack([free * 1.0, biased * size])
        return cls(values, sizes, {name: layer.bias for name, layer in layers.items()})

    def move(self, slopes: Mapping[str, tuple[_Doubles, _Doubles]]) -> None:
        """One step of Adam."""
        self.count += 1
        for name, pair in slopes.items():
            # A parameter in units of its size has its slope times that size.
            slope = np.stack(pair) * self.sizes[name]
            mean, square = (of.get(name, np.zeros(slope.shape)) for of in (self.means, self.squares))
            self.means[name] = _MEAN * mean + (1 - _MEAN) * slope
            self.squares[name] = _SQUARE * square + (1 - _SQUARE) * np.square(slope)
            mean = self.means[name] / (1 - _MEAN**self.count)
            square = self.squares[name] / (1 - _SQUARE**self.count)
            step = _STEP * self.sizes[name] * mean / (np.sqrt(square) + _SMALLEST)
            self.values[name] = self.values[name] - np.where(square > 0, step, 0.0)

    def numbers(self, start: Numbers) -> Numbers:
        """The parameters as a file holds them."""
        return replace(start, weights={name: self._weights(name, found) for name, found in start.weights.items()})

    def _weights(self, name: str, start: LayerWeights) -> LayerWeights:
        factors, added = self.values[name]
        parts = []
        for place, part in start.runs():
            if part.bits < POWER_OF_TWO_BITS and (factors[place] != 1).any():
                longest = max(int(part.mantissas.max()).bit_length() - 1, 1)
                grid = on_grid(part.scales * factors[place], True, longest, int(part.exponents.min()))
                part = replace(part, mantissas=grid.mantissas, exponents=grid.exponents)
            parts.append(part)
        bias = self.biases[name] if start.bias is None else start.bias
        if bias is None or not added.any():
            return replace(start, parts=tuple(parts))
        return replace(start, parts=tuple(parts), bias=np.asarray(bias + added, np.float32))
