# SPDX-License-Identifier: Apache-2.0
"""Moves one integer of a channel at a time to where its loss is least, the others fixed, as long as that helps.

With the error ``e = s q - w`` of a channel, the loss ``e^T H e`` is least in its k-th entry at ``e_k - (H e)_k / H_kk``
(the greedy updates of Chee et al., QuIP, NeurIPS 2023, section 4.2). GPTQ never returns to an input channel; this does.
"""

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from hetfab.quantize.methods.layer_problem import LayerProblem
from hetfab.quantize.methods.moments import Doubles
from hetfab.quantize.weights import QuantizedWeights, limits_of


def descended(problem: LayerProblem, found: QuantizedWeights, sweeps: int) -> QuantizedWeights:
    """Integers of no larger loss at the same scales.

    Args:
        problem: The layer.
        found: Its weights so far.
        sweeps: How often all input channels are visited.
    """
    moments, scales = problem.inputs.moments, found.scales.astype(np.float64)
    limits = limits_of(found.bits, found.narrow)
    integers = found.integers.astype(np.float64)
    slopes = moments.slopes(integers * scales - problem.weight)
    for _ in range(sweeps):
        changed = 0
        for first in range(0, len(integers), moments.batch):
            block = slice(first, min(first + moments.batch, len(integers)))
            before = integers[block].copy()
            columns = _visit(integers[block], slopes.at(block), moments.block(block), scales, limits)
            if columns.size:
                # Columns that are picked are copied, so that it takes many that stay to make up for it.
                picked = columns if 4 * columns.size < len(scales) else slice(None)
                slopes.move(block, picked, (integers[block, picked] - before[:, picked]) * scales[picked])
                changed += 1
        if not changed:
            break
    return replace(found, integers=integers.astype(np.int64))


def _visit(
    integers: Doubles, slopes: Doubles, moments: Doubles, scales: Doubles, limits: tuple[int, int]
) -> npt.NDArray[np.int64]:
    """Moves the integers [B, N] of a block, in place, one input channel after the other; columns that moved.

    Few integers move. So each column goes at once to the next that does, and ends where none is left.
    """
    places, columns = np.arange(len(integers))[:, None], np.arange(len(scales))
    curvatures, now = np.diag(moments)[:, None] * scales, integers
    steps, moved = _steps(now, slopes, curvatures, limits), columns[:0]
    while True:
        going = steps.any(axis=0)
        if not going.any():
            return moved
        columns, steps, now = columns[going], steps[:, going], now[:, going]
        slopes, curvatures = slopes[:, going], curvatures[:, going]
        moved = moved if moved.size else columns
        rows = (steps != 0).argmax(axis=0)
        taken = steps[rows, np.arange(len(columns))]
        now[rows, np.arange(len(columns))] += taken
        integers[rows, columns] += taken
        slopes += moments[:, rows] * (taken * scales[columns])
        steps = np.where(places > rows, _steps(now, slopes, curvatures, limits), 0.0)


def _steps(now: Doubles, slopes: Doubles, curvatures: Doubles, limits: tuple[int, int]) -> Doubles:
    """To where each integer loses least."""
    target = slopes / curvatures
    np.rint(np.subtract(now, target, out=target), out=target)
    return np.subtract(target.clip(*limits, out=target), now, out=target)
