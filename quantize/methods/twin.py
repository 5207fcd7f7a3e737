# SPDX-License-Identifier: Apache-2.0
"""Twin ranges for results of functions with a short negative side, where the data say that they are better.

The table that computes such a function holds decoded integers, so a twin range costs no instruction and no field. A
decoded integer has 8 bits, which limits the shift of a code.
"""

import numpy as np

from hetfab.quantize.methods.square_error import least_square_error
from hetfab.quantize.ranges import ActivationRange, FloatArray, TwinRange, exponents_from

_STORED_BITS = 8
#: Values that candidates are compared on; more move no choice noticeably.
_COMPARED = 1 << 16


def uniform_or_twin(values: FloatArray, bits: int) -> ActivationRange:
    """The range of least mean square error among uniform and twin ones, signed.

    Args:
        values: Non-zero values of a tensor; may be empty.
        bits: Width of a code.
    """
    uniform = ActivationRange(bits, True, 0)
    if not values.size:
        return uniform
    values = values[:: -(-values.size // _COMPARED)]
    uniform = ActivationRange(bits, True, least_square_error(values, uniform))
    candidates = [uniform, *(twin for shift in range(1, 8) for twin in _twins(values, bits, shift))]
    return min(candidates, key=lambda each: square_error(values, each))


def square_error(values: FloatArray, chosen: ActivationRange) -> float:
    """Mean square error of values as whole steps of a range."""
    error = chosen.steps(values) * np.float32(chosen.scale) - values
    return float(np.mean(np.square(error, dtype=np.float64)))


def _twins(values: FloatArray, bits: int, shift: int) -> list[TwinRange]:
    """Twin ranges of a shift, from the full range downwards; none where decoded integers are too large."""
    highest = ((1 << (bits - 1)) - 1) << shift
    largest = float(values.max(initial=0.0))
    if highest >= 1 << (_STORED_BITS - 1) or largest <= 0.0:
        return []
    widest = int(np.ceil(np.log2(largest / highest)))
    return [TwinRange(_STORED_BITS, True, exponent, bits, shift) for exponent in exponents_from(widest)]
