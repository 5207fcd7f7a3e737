# SPDX-License-Identifier: Apache-2.0
"""Which widths and methods the layers and tensors of a model get."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from hetfab.overlay.errors import WidthsUnsupportedError
from hetfab.overlay.isa.arithmetic import ACTIVATION_BITS, WEIGHT_BITS
from hetfab.quantize.widths import Widths


@dataclass(frozen=True)
class WeightChoice:
    """An option of a dense layer.

    Attributes:
        bits: Width of all output channels, or of each of them, [N].
        method: A name of ``WEIGHT_METHODS``.

    Raises:
        WidthsUnsupportedError: A width is outside 1 to 8.
    """

    bits: int | tuple[int, ...]
    method: str = "alternation"

    def __post_init__(self) -> None:
        _check(self.bits if isinstance(self.bits, tuple) else (self.bits,), WEIGHT_BITS, "weights")

    @property
    def kinds(self) -> tuple[int, ...]:
        """The widths that there are, from the narrowest."""
        return tuple(sorted(set(self.bits))) if isinstance(self.bits, tuple) else (self.bits,)

    def widths(self, channels: int) -> tuple[int, ...]:
        """Width of each output channel."""
        if isinstance(self.bits, int):
            return (self.bits,) * channels
        if len(self.bits) != channels:
            raise WidthsUnsupportedError(
                f"widths of {len(self.bits)} channels for a layer of {channels}",
                "one width for each output channel, or one for all",
                "give as many widths as the layer has output channels",
            )
        return self.bits


@dataclass(frozen=True)
class ActivationChoice:
    """An option of a group of stored tensors.

    Attributes:
        bits: Width.
        method: A name of ``ACTIVATION_METHODS``.
        exponent: Of the scale, where it is given in place of a method.

    Raises:
        WidthsUnsupportedError: The width is outside 2 to 8.
    """

    bits: int
    method: str = "percentile 99.9"
    exponent: int | None = None

    def __post_init__(self) -> None:
        _check((self.bits,), ACTIVATION_BITS, "activations")


@dataclass(frozen=True)
class Assignment:
    """Choices for all of a model.

    Attributes:
        weights: Of each dense layer, by output.
        activations: Of each group of stored tensors, by the group's name (``Study.groups``).
        arguments: Method for what functions read; its width is fixed.
        correct_bias: Whether biases make up for what rounding adds to the mean of a layer's outputs.
        block_steps: Steps of decoupleQ's block stage, 0 for none; models on graphs only.
    """

    weights: Mapping[str, WeightChoice]
    activations: Mapping[str, ActivationChoice]
    arguments: str = "percentile 99.9"
    correct_bias: bool = False
    block_steps: int = 0

    @property
    def widths(self) -> Widths | None:
        """Of all layers and tensors, None where they differ."""
        kinds = {bits for choice in self.weights.values() for bits in choice.kinds}
        read = {choice.bits for choice in self.activations.values()}
        return Widths(kinds.pop(), read.pop()) if len(kinds) == len(read) == 1 else None

    def with_weights(self, layer: str, choice: WeightChoice) -> "Assignment":
        """The same but for one layer."""
        return replace(self, weights={**self.weights, layer: choice})

    def with_activations(self, group: str, choice: ActivationChoice) -> "Assignment":
        """The same but for one group."""
        return replace(self, activations={**self.activations, group: choice})


def _check(bits: tuple[int, ...], allowed: range, what: str) -> None:
    wrong = sorted(set(bits) - set(allowed))
    if wrong:
        raise WidthsUnsupportedError(
            f"{what} of {', '.join(map(str, wrong))} bits",
            f"{what} of {allowed[0]} to {allowed[-1]} bits",
            "choose widths within this range",
        )
