# SPDX-License-Identifier: Apache-2.0
"""Moves one integer of a channel at a time to where its loss is least, the others fixed, as long as that helps.

With the error ``e = s q - w`` of a channel, the loss ``e^T H e`` is least in its k-th entry at ``e_k - (H e)_k / H_kk``
(the greedy updates of Chee et al., QuIP, NeurIPS 2023, section 4.2). GPTQ never returns to an input channel; this does.
"""

from dataclasses import replace

import numpy as np

from hetfab.quantize.methods.layer_problem import LayerProblem
from hetfab.quantize.weights import QuantizedWeights, limits_of

_BLOCK = 128


def descended(problem: LayerProblem, found: QuantizedWeights, sweeps: int) -> QuantizedWeights:
    """Integers of no larger loss at the same scales.

    Args:
        problem: The layer.
        found: Its weights so far.
        sweeps: How often all input channels are visited.
    """
    moments, scales = problem.inputs.moments, found.scales.astype(np.float64)
    low, high = limits_of(found.bits, found.narrow)
    integers = found.integers.astype(np.float64)
    slopes = moments.slopes(integers * scales - problem.weight)
    for _ in range(sweeps):
        changed = 0
        for first in range(0, len(integers), _BLOCK):
            block = slice(first, min(first + _BLOCK, len(integers)))
            inner, before = moments.block(block), integers[block].copy()
            near, moved = slopes.at(block), integers[block]
            for row in range(len(moved)):
                target = moved[row] - near[row] / (inner[row, row] * scales)
                step = np.minimum(np.maximum(np.rint(target), low), high) - moved[row]
                if step.any():
                    moved[row] += step
                    near[row + 1 :] += inner[row + 1 :, row, None] * (step * scales)
            difference = (integers[block] - before) * scales
            if difference.any():
                slopes.move(block, difference)
                changed += 1
        if not changed:
            break
    return replace(found, integers=integers.astype(np.int64))
