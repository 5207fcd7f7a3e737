# SPDX-License-Identifier: Apache-2.0
"""Between hls4ml's types and the integers that engines take. Imports hls4ml."""

from dataclasses import dataclass, replace
from typing import Any

from hls4ml.model.types import FixedPrecisionType, IntegerPrecisionType, RoundingMode, SaturationMode

from hetfab.hls.hls4ml_extension.packing import ACTIVATION_BITS, Activations
from hetfab.overlay.errors import Hls4mlRefusedError

#: Bits of the widest result that is rounded.
ROUNDED_BITS = 24
_LARGEST_SHIFT = 63


@dataclass(frozen=True)
class Format:
    """What becomes of a scaled sum.

    Attributes:
        bits: Of the result.
        exact: Whether it is the whole product, unrounded.
        shift: To the right, rounded half to even.
        left_shift: Of the multipliers, where the result has more fraction bits than the product.
        lowest: The smallest result.
        highest: The largest one.
        relu: Whether an exact result below 0 becomes 0.
    """

    bits: int
    exact: bool
    shift: int
    left_shift: int
    lowest: int
    highest: int
    relu: bool = False

    def limited(self, relu: bool, limits: tuple[int, int] | None) -> "Format":
        """The same with narrower limits."""
        lowest, highest = limits or (self.lowest, self.highest)
        lowest = max(lowest, self.lowest, 0 if relu else self.lowest)
        return replace(self, lowest=lowest, highest=min(highest, self.highest), relu=relu)


def activations_of(name: str, precision: Any) -> Activations:
    """The integers of a type that a layer reads.

    Raises:
        Hls4mlRefusedError: The type is no fixed-point or integer type of at most 8 bits.
    """
    if isinstance(precision, FixedPrecisionType | IntegerPrecisionType) and precision.width <= ACTIVATION_BITS:
        return Activations(precision.width, bool(precision.signed))
    raise Hls4mlRefusedError(
        f"HeteroDense '{name}' reads numbers of type {precision}",
        f"a fixed-point or integer type of at most {ACTIVATION_BITS} bits",
        "quantize what the layer reads, and give a model's input its type in the configuration",
    )


def exact_precision(result_bits: int, fraction: int, relu: bool) -> Any:
    """The narrowest type that holds every result, a signed number of ``result_bits`` bits before a ReLU."""
    bits = max(result_bits - relu, 1)
    return FixedPrecisionType(bits, bits - fraction, signed=not relu)


def output_format(name: str, precision: Any, result_bits: int, fraction: int, relu: bool) -> Format:
    """How scaled sums become numbers of a type.

    Args:
        name: Of the layer, for errors.
        precision: The type.
        result_bits: Of an exact result, with its sign.
        fraction: Fraction bits of an exact result.
        relu: Whether results below 0 become 0.

    Raises:
        Hls4mlRefusedError: The type holds neither all results nor rounds and saturates as the layer does.
    """
    shift = fraction - precision.fractional
    bits = precision.width
    lowest = -(1 << (bits - 1)) if precision.signed else 0
    highest = (1 << (bits - bool(precision.signed))) - 1
    room = bits + (not precision.signed)
    if shift <= 0 and result_bits - shift <= room and (relu or precision.signed):
        return Format(bits, True, 0, -shift, lowest, highest)
    if shift > _LARGEST_SHIFT or bits + (not precision.signed) > ROUNDED_BITS or not rounds_as_the_layer(precision):
        raise Hls4mlRefusedError(
            f"HeteroDense '{name}' is to write results of type {precision}; exact ones have {result_bits} bits, "
            f"{fraction} of them fraction bits",
            f"a type that holds every result, or one of at most {ROUNDED_BITS} bits with RND_CONV and SAT or SAT_SYM",
            "write the type as 'fixed<8,4,RND_CONV,SAT>', or 'auto' for exact results",
        )
    if precision.saturation_mode == SaturationMode.SAT_SYM and precision.signed:
        lowest = -highest
    return Format(bits, False, max(shift, 0), max(-shift, 0), lowest, highest)


def rounds_as_the_layer(precision: Any) -> bool:
    """Whether a type rounds half to even and saturates."""
    return precision.rounding_mode == RoundingMode.RND_CONV and precision.saturation_mode in (
        SaturationMode.SAT,
        SaturationMode.SAT_SYM,
    )
