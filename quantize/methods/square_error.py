# SPDX-License-Identifier: Apache-2.0
"""Ranges of least mean square error."""

import numpy as np

from hetfab.quantize.ranges import ActivationRange, FloatArray, covering, exponents_from


def least_square_error(values: FloatArray, shape: ActivationRange) -> int:
    """Criterion: least mean square error among the exponents from the full range downwards."""
    widest = covering(float(np.abs(values).max()), shape.highest)
    errors = []
    for exponent in exponents_from(widest):
        scale = 2.0**exponent
        rounded = np.rint(np.clip(values / scale, shape.lowest, shape.highest)) * scale
        errors.append((float(np.mean(np.square(rounded - values, dtype=np.float64))), -exponent))
    return -min(errors)[1]
