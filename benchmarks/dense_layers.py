# SPDX-License-Identifier: Apache-2.0
"""Workloads of dense layers alone, as integer layers with drawn weights: what benchmarks of the GEMM cores take.

The layers of a network whose other operators the overlay does not execute yet stand side by side, each with its own
input; those that follow each other do so here too.
"""

from dataclasses import dataclass

import numpy as np

from hetfab.overlay.bind import BoundProgram, GraphArrays, bind
from hetfab.overlay.compiler.compile import compile_lowered
from hetfab.overlay.compiler.lowered import DenseTerm, LayerKind, LoweredLayer, LoweredModel, Scales, Stored
from hetfab.overlay.design import Design


@dataclass(frozen=True)
class DenseLayer:
    """A matrix product of ``rows`` rows; it reads the layer before it where ``chained``, else an input of its own."""

    name: str
    rows: int
    inputs: int
    outputs: int
    chained: bool = False


@dataclass(frozen=True)
class DenseWorkload:
    """Dense layers with one width of weights and one of activations."""

    name: str
    layers: tuple[DenseLayer, ...]
    weight_bits: int
    activation_bits: int

    @property
    def macs(self) -> int:
        """Multiply-accumulates, padding not counted."""
        return sum(layer.rows * layer.inputs * layer.outputs for layer in self.layers)

    def bound(self, design: Design, share_on_d: float | None = None) -> BoundProgram:
        """The layers compiled for a design and bound to drawn inputs."""
        program = compile_lowered(self.lowered(), design, name=self.name, share_on_d=share_on_d)
        counts = {_rows_type(layer): layer.rows for layer in self.layers}
        random = np.random.default_rng(1)
        features = {
            tensor.name: random.integers(0, 1 << tensor.bits, (counts[tensor.node_type], tensor.channels)).astype(
                np.float32
            )
            for tensor in program.tensors
            if tensor.segment == "features"
        }
        return bind(program, GraphArrays(counts, features, {}))

    def lowered(self) -> LoweredModel:
        """The layers as the compiler takes them, each ending in a requantization with ReLU."""
        random = np.random.default_rng(0)
        stored: dict[str, Stored] = {}
        types: dict[str, str] = {}
        layers: list[LoweredLayer] = []
        for layer in self.layers:
            if layer.chained:
                given = layers[-1].output
            else:
                given = Stored(f"{layer.name}.in", layer.inputs, self.activation_bits, False, 0, "features")
                stored[given.name], types[given.name] = given, _rows_type(layer)
            output = Stored(layer.name, layer.outputs, self.activation_bits, False, 0, "computed")
            stored[output.name], types[output.name] = output, _rows_type(layer)
            limit = max((1 << self.weight_bits - 1) - 1, 1)
            weight = random.integers(-limit, limit + 1, (layer.inputs, layer.outputs))
            columns = np.zeros(layer.outputs, np.int64)
            bits = columns + self.weight_bits
            term = DenseTerm(given, weight, bits, columns, Scales(columns + 1, columns))
            layers.append(
                LoweredLayer(LayerKind.REQUANTIZE, output, term, columns + 1, self.weight_bits + 4, (), 0, 0, True)
            )
        return LoweredModel(tuple(layers), stored, types, {}, layers[-1].output, 0)


def _rows_type(layer: DenseLayer) -> str:
    return f"rows {layer.rows}"


def mlp(weight_bits: int = 4, activation_bits: int = 4) -> DenseWorkload:
    """Three layers of 1,024 at batch 1,024."""
    layers = tuple(DenseLayer(f"layer {i}", 1024, 1024, 1024, chained=i > 0) for i in range(3))
    return DenseWorkload("mlp", layers, weight_bits, activation_bits)


def sehgnn(hidden: int = 512, weight_bits: int = 4, activation_bits: int = 4) -> DenseWorkload:
    """The dense layers of SeHGNN on ACM: 7 metapaths, 3,025 papers with 1,902 words, a transformer over metapaths."""
    paths, papers, words, classes = 7, 3025, 1902, 3
    layers = [DenseLayer(f"projection {i}", papers, words, hidden) for i in range(paths)]
    layers += [DenseLayer(name, papers * paths, hidden, hidden // 4) for name in ("query", "key")]
    layers += [
        DenseLayer("value", papers * paths, hidden, hidden),
        DenseLayer("fusion", papers, paths * hidden, hidden),
        DenseLayer("classes", papers, hidden, classes, chained=True),
    ]
    return DenseWorkload(f"sehgnn {hidden}", tuple(layers), weight_bits, activation_bits)
