# SPDX-License-Identifier: Apache-2.0
"""Ranges of least divergence between the histograms of values and of rounded values.

S. Migacz, 8-bit Inference with TensorRT, GTC 2017: the histogram below a limit, what is cut off added to its last bin,
is compared with the same histogram brought to as many levels as there are integers. Here limits are those of scales
2^e, and magnitudes of both signs are one histogram.
"""

import numpy as np

from hetfab.quantize.ranges import TRIED_EXPONENTS, ActivationRange, FloatArray, covering

#: Bins of the histogram for each level of the widest range.
_BINS_OF_LEVEL = 1 << (TRIED_EXPONENTS - 1)


def least_divergence(values: FloatArray, shape: ActivationRange) -> int:
    """Criterion: least Kullback-Leibler divergence of the rounded values' histogram among 6 exponents."""
    widest = covering(float(np.abs(values).max()), shape.highest)
    levels = shape.highest + 1
    limit = levels * 2.0**widest
    counts = np.histogram(np.abs(values), bins=levels * _BINS_OF_LEVEL, range=(0.0, limit))[0].astype(np.float64)
    found = [(_divergence(counts, levels, _BINS_OF_LEVEL >> down), down) for down in range(TRIED_EXPONENTS)]
    return widest - min(found)[1]


def _divergence(counts: np.ndarray[tuple[int, ...], np.dtype[np.float64]], levels: int, bins: int) -> float:
    """Divergence at a scale of which a level has ``bins`` bins."""
    inside = counts[: levels * bins].reshape(levels, bins)
    reference = inside.copy()
    reference[-1, -1] += counts[levels * bins :].sum()
    present = inside > 0
    share = inside.sum(axis=1, keepdims=True) / np.maximum(present.sum(axis=1, keepdims=True), 1)
    rounded = np.where(present, share, 0.0)
    first, second = reference / reference.sum(), rounded / max(rounded.sum(), 1.0)
    held = first > 0
    return float(np.sum(first[held] * np.log(first[held] / np.maximum(second[held], 1e-9))))
