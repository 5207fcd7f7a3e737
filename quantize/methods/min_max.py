# SPDX-License-Identifier: Apache-2.0
"""Ranges that cover every observed value."""

import numpy as np

from hetfab.quantize.ranges import ActivationRange, FloatArray, covering


def min_max(values: FloatArray, shape: ActivationRange) -> int:
    """Criterion: no value is cut off."""
    return covering(float(np.abs(values).max(initial=0.0)), shape.highest)
