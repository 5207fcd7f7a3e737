# SPDX-License-Identifier: Apache-2.0
"""Ranges of least mean square error."""

import numpy as np

from hetfab.quantize.ranges import ActivationRange, FloatArray, covering

_EXPONENTS = 6


def least_square_error(values: FloatArray, shape: ActivationRange) -> int:
    """Criterion: least mean square error among the exponents from the full range downwards."""
    widest = covering(float(np.abs(values).max()), shape.highest)
    errors = []
    for exponent in range(widest, widest - _EXPONENTS, -1):
        scale = 2.0**exponent
        rounded = np.rint(np.clip(values / scale, shape.lowest, shape.highest)) * scale
        errors.append((float(np.mean(np.square(rounded - values, dtype=np.float64))), -exponent))
    return -min(errors)[1]
