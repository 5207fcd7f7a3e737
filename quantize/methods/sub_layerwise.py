# SPDX-License-Identifier: Apache-2.0
"""One scale for each run of output channels, weights rounded as GPTQ does.

Yuan et al., PTQ-SL, 2021 (arXiv 2110.07809): a matrix is cut into rectangles with a step each, and channels are put in
an order in which those of one rectangle are alike (``reorder``). The cores multiply each output channel's sum by a
number of its own and have none for parts of a sum, so rectangles are as high as the matrix. A part of its rows with
steps of its own would need partial sums to be shifted; powers of two for input channels are what ``balance`` does.
"""

from dataclasses import replace

import numpy as np

from hetfab.quantize.methods.gptq import gptq, rounded_on, start_scales
from hetfab.quantize.methods.layer_problem import LayerProblem
from hetfab.quantize.methods.nearest import nearest
from hetfab.quantize.weights import QuantizedWeights, forms_of

#: Output channels of a run: lanes that work on one beat.
RUN = 8


def sub_layerwise(problem: LayerProblem) -> QuantizedWeights:
    """Rounds with a scale for each run of 8 channels; of 2 bits, the form that loses less."""
    if problem.shared_scale:
        return gptq(problem)
    if problem.bits == 1 or not problem.weight.any():
        return nearest(problem)
    found = [rounded_on(problem, _scales(problem, narrow), narrow) for narrow in forms_of(problem.bits)]
    return min(found, key=lambda each: float(problem.losses(each.restored).sum()))


def _scales(problem: LayerProblem, narrow: bool) -> "np.ndarray[tuple[int, ...], np.dtype[np.float64]]":
    """A scale for each run, [N], of least error weighted by the moments."""
    runs = [problem.weight[:, first : first + RUN] for first in range(0, problem.weight.shape[1], RUN)]
    whole = float(np.abs(problem.weight).max())
    scales = []
    for weight in runs:
        # A run of zeros has no range of its own.
        kept = weight if weight.any() else np.full_like(weight, whole)
        scales.append(start_scales(replace(problem, weight=kept, shared_scale=True), narrow))
    return np.concatenate(scales)
