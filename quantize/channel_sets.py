# SPDX-License-Identifier: Apache-2.0
"""Which tensors of a model have the same channels, so that what changes one of them changes all."""

from collections.abc import Callable
from dataclasses import dataclass, field

from hetfab.overlay.model.layers import Layer, LayerGraph, inputs_of


@dataclass
class ChannelSets:
    """Sets of tensors with the same channels.

    Attributes:
        parents: Of each tensor another one of its set; a tensor without is the root of its set.
        fixed: Roots of sets whose channels must stay as they are.
    """

    parents: dict[str, str] = field(default_factory=dict)
    fixed: set[str] = field(default_factory=set)

    @classmethod
    def of(
        cls,
        graph: LayerGraph,
        alike: Callable[[Layer], tuple[str, ...]],
        fixed_by: Callable[[Layer], tuple[str, ...]],
    ) -> "ChannelSets":
        """The sets of a model; those of inputs and logits are fixed.

        Args:
            graph: The layers.
            alike: Tensors that a layer's result has the channels of.
            fixed_by: Tensors whose channels must stay because of a layer.
        """
        found = cls()
        computed = {layer.output for layer in graph.layers} | set(graph.tables)
        fixed = {graph.output}
        for layer in graph.layers:
            fixed.update(name for name in inputs_of(layer) if name not in computed)
            fixed.update(fixed_by(layer))
            for name in alike(layer):
                found.join(layer.output, name)
        found.fixed = {found.root(name) for name in fixed}
        return found

    def root(self, tensor: str) -> str:
        """The tensor that stands for a set."""
        while self.parents.get(tensor, tensor) != tensor:
            tensor = self.parents[tensor]
        return tensor

    def join(self, first: str, second: str) -> None:
        """Makes one set of two."""
        self.parents[self.root(first)] = self.root(second)
