# SPDX-License-Identifier: Apache-2.0
"""Ranges that cover a share of the observed values."""

import numpy as np

from hetfab.quantize.ranges import ActivationRange, Criterion, FloatArray, covering


def percentile(share: float) -> Criterion:
    """Criterion: the range covers this percentage of the non-zero magnitudes."""

    def exponent(values: FloatArray, shape: ActivationRange) -> int:
        return covering(float(np.percentile(np.abs(values), share)), shape.highest)

    return exponent
