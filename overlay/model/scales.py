# SPDX-License-Identifier: Apache-2.0
"""Scales of a quantized model, and multipliers and shifts that bring sums from one to another (docs/arithmetic.md)."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from hetfab.overlay.errors import ModelStructureError
from hetfab.overlay.isa.arithmetic import Integers
from hetfab.overlay.isa.spec import isa
from hetfab.overlay.model.layers import describe

#: Of an output channel's multiplier.
LARGEST_MULTIPLIER = (1 << isa().record("parameter").bits("multiplier")) - 1
LARGEST_SHIFT = isa().operation("combine").field("shift").largest
#: Of a sum in Q.8, to the left and to the right.
LARGEST_POST_LEFT = isa().size("post_left")
LARGEST_POST_SHIFT = isa().operation("combine").field("post_shift").largest - LARGEST_POST_LEFT


@dataclass(frozen=True, eq=False)
class Scales:
    """Scales ``mantissas * 2**exponents``, [N] or [1] each; mantissas are odd and have at most 16 bits."""

    mantissas: Integers
    exponents: Integers

    def times_power(self, exponent: int) -> "Scales":
        """All scales times ``2**exponent``."""
        return Scales(self.mantissas, self.exponents + exponent)

    def of_columns(self, columns: int) -> "Scales":
        """One scale for each column, where there may be one for all."""
        return Scales(np.broadcast_to(self.mantissas, columns), np.broadcast_to(self.exponents, columns))

    def equal(self, other: "Scales") -> bool:
        """Whether all are equal, one by one."""
        return np.array_equal(self.mantissas, other.mantissas) and np.array_equal(self.exponents, other.exponents)

    @property
    def uniform(self) -> bool:
        """Whether all are the same."""
        return self.equal(Scales(self.mantissas[:1], self.exponents[:1]).of_columns(self.mantissas.size))


def exact_scales(scale: npt.NDArray[Any], node: onnx.NodeProto) -> Scales:
    """The parts of scales m * 2^e; requantization applies exactly such a scale.

    Args:
        scale: Scales of a ``Quant`` node, of any shape.
        node: The node, for the error.

    Raises:
        ModelStructureError: A scale has more than 16 bits, or is not positive.
    """
    fractions, exponents = np.frexp(np.asarray(scale, dtype=np.float64).reshape(-1))
    whole = np.ldexp(fractions, 53).astype(np.int64)
    lowest_bit = whole & -whole
    mantissas = whole // np.maximum(lowest_bit, 1)
    if not np.all((mantissas > 0) & (mantissas <= LARGEST_MULTIPLIER)):
        raise ModelStructureError(
            f"{describe(node)} has a scale that is not a 16-bit integer times a power of two",
            "scales m * 2^e with m of at most 16 bits",
            "quantize the float model again with this hetfab",
        )
    return Scales(mantissas, exponents.astype(np.int64) - 53 + np.log2(lowest_bit).astype(np.int64))


def requantization(scales: Scales, target: int, name: str) -> tuple[Integers, int]:
    """Multipliers and shift that bring ``scales`` to ``2**target``; a left shift by j is a multiplier times 2^j.

    Raises:
        ModelStructureError: They do not fit the instruction's fields; ``name`` is the tensor that is named.
    """
    right = target - scales.exponents
    shift = max(0, int(right.max()))
    left = shift - right
    if shift > LARGEST_SHIFT or np.any(np.ldexp(scales.mantissas.astype(np.float64), left) > LARGEST_MULTIPLIER):
        raise scales_too_far(name)
    return np.left_shift(scales.mantissas, left), shift


def scales_too_far(name: str) -> ModelStructureError:
    """The error for scales that no multiplier and shift connect."""
    return ModelStructureError(
        f"the scales before and after '{name}' are too far apart for a 16-bit multiplier and a 6-bit shift",
        "scales of one layer within 2^16 of each other and of the result's",
        "quantize the float model again with this hetfab",
    )
