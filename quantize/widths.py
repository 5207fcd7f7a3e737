# SPDX-License-Identifier: Apache-2.0
"""Widths of weights and activations, named as users name them: ``w4a8`` is 4-bit weights and 8-bit activations."""

from dataclasses import dataclass

from hetfab.overlay.errors import WidthsUnsupportedError
from hetfab.overlay.isa.arithmetic import ACTIVATION_BITS, WEIGHT_BITS

#: Scales of weights are powers of two from this width on; narrower weights have free scales.
POWER_OF_TWO_BITS = 4


@dataclass(frozen=True)
class Widths:
    """Bits of all weights and of all stored activations of a model.

    Attributes:
        weights: 1 to 8; 1 is bipolar, -1 or +1.
        activations: 2 to 8.

    Raises:
        WidthsUnsupportedError: A width is outside its range.
    """

    weights: int = 8
    activations: int = 8

    def __post_init__(self) -> None:
        if self.weights not in WEIGHT_BITS or self.activations not in ACTIVATION_BITS:
            raise WidthsUnsupportedError(
                f"weights of {self.weights} bits and activations of {self.activations}",
                f"weights of {WEIGHT_BITS[0]} to {WEIGHT_BITS[-1]} bits, "
                f"activations of {ACTIVATION_BITS[0]} to {ACTIVATION_BITS[-1]}",
                "choose widths within these ranges",
            )

    def __str__(self) -> str:
        return f"w{self.weights}a{self.activations}"


#: What ``hetfab quantize --bits`` offers.
OFFERED = {str(widths): widths for widths in map(Widths, (8, 4, 4, 2, 2, 1), (8, 8, 4, 8, 4, 8))}
