# SPDX-License-Identifier: Apache-2.0
"""QONNX quantizers in integers: what a ``Quant`` or ``BipolarQuant`` makes of a constant. Numpy alone."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from hetfab.hls.hls4ml_extension.description import LARGEST_MULTIPLIER
from hetfab.overlay.errors import Hls4mlRefusedError

_ROUNDINGS: dict[str, Callable[[Any], Any]] = {
    "ROUND": np.rint,
    "HALF_EVEN": np.rint,
    "CEIL": np.ceil,
    "FLOOR": np.floor,
    "UP": lambda value: np.sign(value) * np.ceil(np.abs(value)),
    "DOWN": np.trunc,
    "HALF_UP": lambda value: np.sign(value) * np.floor(np.abs(value) + 0.5),
    "HALF_DOWN": lambda value: np.sign(value) * np.ceil(np.abs(value) - 0.5),
}


def integer_limits(bits: int, *, signed: bool, narrow: bool) -> tuple[int, int]:
    """Lowest and highest integer of a ``Quant``, as QONNX's specification has them."""
    if signed:
        return -(1 << (bits - 1)) + narrow, (1 << (bits - 1)) - 1
    return 0, (1 << bits) - 1 - narrow


def quantized_integers(
    values: npt.NDArray[np.float64],
    scale: npt.NDArray[np.float64],
    *,
    bits: int,
    signed: bool,
    narrow: bool,
    rounding: str,
) -> npt.NDArray[np.int64]:
    """The integers that a ``Quant`` with zero point 0 makes of values.

    Raises:
        Hls4mlRefusedError: A rounding that hetfab does not know.
    """
    if rounding.upper() not in _ROUNDINGS:
        raise Hls4mlRefusedError(
            f"a Quant rounds by {rounding}", f"one of {', '.join(_ROUNDINGS)}", "quantize with ROUND, half to even"
        )
    # Single precision as QONNX's own execution: a tie there is a tie here.
    quotient = np.float32(values) / np.float32(scale)
    if bits == 1 and signed:
        # Bipolar, as a BipolarQuant.
        return np.where(quotient >= 0, 1, -1).astype(np.int64)
    lowest, highest = integer_limits(bits, signed=signed, narrow=narrow)
    rounded = _ROUNDINGS[rounding.upper()](np.clip(quotient, lowest, highest))
    return np.asarray(rounded, np.int64)


def common_exponent(name: str, scale: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.int64], int]:
    """Multipliers and the exponent with which scales are ``multiplier * 2**-exponent``, exactly.

    Raises:
        Hls4mlRefusedError: The scales are not such numbers with multipliers of at most 16 bits.
    """
    fractions, exponents = np.frexp(scale)
    whole = np.ldexp(fractions, 53).astype(np.int64)
    lowest_bit = np.maximum(whole & -whole, 1)
    mantissas = whole // lowest_bit
    powers = exponents.astype(np.int64) - 53 + np.log2(lowest_bit).astype(np.int64)
    exponent = int(-powers.min())
    spread = powers + exponent
    if np.any(mantissas <= 0) or int(spread.max()) > 16 or int((mantissas << spread).max()) > LARGEST_MULTIPLIER:
        worst = float(scale.reshape(-1)[np.argmax(mantissas)])
        raise Hls4mlRefusedError(
            f"the weights of '{name}' have scales that no 16-bit multipliers hold exactly, {worst:.9g} among them",
            "positive scales m * 2^-s with one s and m of at most 16 bits",
            "quantize with scales rounded to 16 bits, or with powers of two within 2^15 of each other",
        )
    return mantissas << spread, exponent
