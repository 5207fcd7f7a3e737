# SPDX-License-Identifier: Apache-2.0
"""What the parsers of a float model fill: layers, and what is known of tensors that are no rows of nodes."""

from collections import Counter
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import onnx

from hetfab.overlay.model.layers import (
    Add,
    Bias,
    Dense,
    FloatArray,
    Layer,
    LayerNorm,
    Relu,
    Unary,
    inputs_of,
)

#: Channels of a tensor that nothing is known of, because of a gap.
UNKNOWN = 0


class RefusedError(Exception):
    """An operator cannot be handled: the reason and an alternative. Caught where all are collected."""

    def __init__(self, reason: str, alternative: str) -> None:
        super().__init__(f"{reason}; {alternative}")


class GapError(Exception):
    """An operator depends on a gap in a way that leaves nothing to check."""


@dataclass
class Draft:
    """What the parsers fill.

    Attributes:
        constants: Initializers and constants.
        uses: How many operators read each tensor.
        output: The model's output.
        layers: The layers so far.
        tables: As in ``LayerGraph``.
        channels: As in ``LayerGraph``.
        parts: Of tensors [N, M, F] of the model, which are stacks [M * N, F] in the layers: M.
        views: What is known of tensors that are no rows of nodes, until an operator makes rows of them.
        written_by_gaps: Tensors that operators without a layer write.
        read_by_gaps: Tensors that they read, other than to add them.
    """

    constants: dict[str, npt.NDArray[np.generic]]
    uses: Counter[str]
    output: str
    layers: list[Layer] = field(default_factory=list)
    tables: dict[str, FloatArray] = field(default_factory=dict)
    channels: dict[str, int] = field(default_factory=dict)
    parts: dict[str, int] = field(default_factory=dict)
    views: dict[str, object] = field(default_factory=dict)
    written_by_gaps: set[str] = field(default_factory=set)
    read_by_gaps: set[str] = field(default_factory=set)

    def rows(self, name: str) -> int:
        """As ``activation``, for an operator that a gap before it leaves nothing to check of.

        Raises:
            GapError: The tensor is one of a gap.
        """
        channels = self.activation(name)
        if channels == UNKNOWN:
            raise GapError
        return channels

    def activation(self, name: str) -> int:
        """Channels of a tensor that is read as rows of nodes; an initializer becomes a table."""
        if name in self.constants and name not in self.tables:
            table = self.constants[name].astype(np.float32)
            if table.ndim != 2:
                raise RefusedError(
                    f"it reads rows of nodes from the initializer '{name}' of shape {list(table.shape)}",
                    "export a table of two dimensions, with one row per node",
                )
            self.tables[name] = table
            self.channels[name] = table.shape[1]
        if name not in self.written_by_gaps and not self.channels.get(name):
            raise RefusedError(
                f"it reads rows of nodes from '{name}', which is no matrix with a fixed number of columns",
                "export the model with fixed feature widths",
            )
        return self.channels.get(name, UNKNOWN)

    def add(self, layer: Layer, channels: int) -> None:
        """Adds a layer; where its channels are unknown, its output is one of a gap."""
        self.layers.append(layer)
        self.channels[layer.output] = channels
        if isinstance(layer, Dense | Relu | Add | Bias | Unary | LayerNorm):
            for name in inputs_of(layer):
                if name in self.parts:
                    self.parts[layer.output] = self.parts[name]
        if channels == UNKNOWN:
            self.written_by_gaps.add(layer.output)

    def replace(self, position: int, layer: Layer) -> None:
        """Puts a layer, under its own name, in place of one whose result nothing else reads."""
        old = self.layers[position].output
        self.layers[position] = layer
        for table in (self.channels, self.parts):
            if old in table:
                table[layer.output] = table.pop(old)

    def position(self, tensor: str) -> int | None:
        """The position of the layer that computes a tensor."""
        return next((place for place, layer in enumerate(self.layers) if layer.output == tensor), None)

    def leave_gap(self, node: onnx.NodeProto) -> None:
        """Notes an operator that no layer stands for."""
        self.written_by_gaps.update(node.output)
        if node.op_type != "Add":
            self.read_by_gaps.update(node.input)
