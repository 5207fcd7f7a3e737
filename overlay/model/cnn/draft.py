# SPDX-License-Identifier: Apache-2.0
"""What the parsers of a convolutional network fill, and how they refuse an operator."""

from collections import Counter
from dataclasses import dataclass, field

import numpy as np
import onnx

from hetfab.overlay.errors import counted
from hetfab.overlay.model.cnn.layers import Layer, Shape
from hetfab.overlay.model.cnn.names import Array, Names
from hetfab.overlay.model.cnn.window import NO_PADDING, Padding
from hetfab.overlay.model.layers import FloatArray

#: Sizes of an image: channels, rows and columns.
_IMAGE = 3


class RefusedError(Exception):
    """An operator cannot be handled: the reason and an alternative. Caught where all are collected."""

    def __init__(self, reason: str, alternative: str) -> None:
        super().__init__(f"{reason}; {alternative}")


class GapError(Exception):
    """An operator depends on a gap in a way that leaves nothing to check."""


@dataclass
class Draft:
    """What the parsers fill; ``padded`` has what Pad writes: what it reads, and zeros that stand around that."""

    names: Names
    uses: Counter[str]
    opset: int
    layers: list[Layer] = field(default_factory=list)
    shapes: dict[str, Shape] = field(default_factory=dict)
    gaps: set[str] = field(default_factory=set)
    padded: dict[str, tuple[str, Padding]] = field(default_factory=dict)

    def constant(self, name: str) -> Array | None:
        """A constant, None where a name stands for something else."""
        return self.names.constants.get(name)

    def shape(self, name: str) -> Shape:
        """Shape of one sample of a tensor that is computed or given."""
        name = self.names.resolve(name)
        if name in self.names.constants:
            raise RefusedError(f"it reads the constant '{name}' as samples", "fold what is constant into weights")
        if name in self.padded:
            raise RefusedError(
                f"it reads '{name}' with its padding, which Conv alone takes in", "write the padding into its own pads"
            )
        if name in self.gaps:
            found = self.names.shapes.get(name)
            if found is None:
                raise GapError
            self.shapes[name] = found
        return self.shapes[name]

    def without_padding(self, name: str) -> tuple[str, Padding]:
        """What a tensor is without what Pad puts around it, and that padding."""
        return self.padded.get(self.names.resolve(name), (name, NO_PADDING))

    def image(self, name: str) -> Shape:
        """Shape of an image: channels, rows and columns."""
        shape = self.shape(name)
        if len(shape) != _IMAGE:
            raise RefusedError(
                f"it reads '{name}' with {counted(len(shape) - 1, 'spatial dimension')}",
                "use images of two spatial dimensions; a signal is an image of one row",
            )
        return shape

    def read(self, name: str) -> str:
        """The one name of a tensor."""
        return self.names.resolve(name)

    def add(self, layer: Layer, shape: Shape) -> None:
        """Adds a layer and the shape of a sample of its output."""
        self.layers.append(layer)
        self.shapes[layer.output] = shape

    def leave_gap(self, node: onnx.NodeProto) -> None:
        """Notes an operator that no layer stands for."""
        self.gaps.update(self.names.resolve(name) for name in node.output)


def weights_of(draft: Draft, name: str) -> FloatArray | None:
    """A constant as weights; None without one."""
    if not name:
        return None
    if name in draft.gaps:
        raise GapError
    found = draft.constant(name)
    if found is None:
        raise RefusedError(f"'{name}' is computed, not constant", "export trained weights as initializers")
    return np.ascontiguousarray(found, dtype=np.float32)
