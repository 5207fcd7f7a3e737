# SPDX-License-Identifier: Apache-2.0
"""The parts of a model's summary, as ``inspect`` shows them."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class InputSummary:
    """A model input: its name, its shape and what it means."""

    name: str
    shape: str
    meaning: str


@dataclass(frozen=True)
class LayerSummary:
    """A layer.

    Attributes:
        name: The tensor that it computes.
        kind: What it does.
        inputs: Channels that its dense term reads, or the layer where it has no such term.
        channels: Channels of its result.
        weights: Number of weights and biases.
        input_bits: Width of what its dense term or its aggregations read; None in a float model, as below.
        weight_bits: Widths of its weights, rising; None in a float model, empty without any.
        bits: Width of its result.
        shape: Of one sample of its result: channels, rows and columns; None in a model that reads a graph.
    """

    name: str
    kind: str
    inputs: int
    channels: int
    weights: int
    input_bits: int | None = None
    weight_bits: tuple[int, ...] | None = None
    bits: int | None = None
    shape: str | None = None


@dataclass(frozen=True)
class Inspection:
    """A model's summary.

    Attributes:
        opset: Version of the standard operators.
        quantized: Whether it has ``Quant`` operators.
        inputs: Its inputs.
        operators: How often each operator occurs.
        layers: Its layers; empty where something is refused.
        tables: Rows of each learned table; a model with one is transductive.
        refused: Operators that hetfab does not execute, each with the reason.
    """

    opset: int
    quantized: bool
    inputs: tuple[InputSummary, ...]
    operators: Mapping[str, int]
    layers: tuple[LayerSummary, ...]
    tables: Mapping[str, int]
    refused: tuple[str, ...]
