# SPDX-License-Identifier: Apache-2.0
"""Weights rounded one input channel after the other, each error made up for by the channels that follow.

Frantar et al., GPTQ, ICLR 2023, algorithm 1: with U the upper Cholesky factor of the inverse second moments, after
channel k is rounded, ``w_j -= (w_k - q_k) / U_kk * U_kj`` for every j behind k. Channels are in falling order of their
second moment. The scales come from a grid of shares of the full range, weighted by the moments.
"""

import numpy as np

from hetfab.quantize.methods.layer_problem import LayerProblem
from hetfab.quantize.methods.moments import Doubles
from hetfab.quantize.weights import RUN, QuantizedWeights, best_free_start, best_start, forms_of, limits_of, on_grid
from hetfab.quantize.widths import POWER_OF_TWO_BITS

#: Above this many input channels only the diagonal of the moments weighs a share of the range; a choice of time.
_DIAGONAL_FROM = 1000


def gptq(problem: LayerProblem) -> QuantizedWeights:
    """Rounds with scales of least weighted error; of 2 bits, the form that loses less."""
    if problem.bits == 1 or not problem.weight.any():
        from hetfab.quantize.methods.nearest import nearest

        return nearest(problem)
    found = [rounded_on(problem, start_scales(problem, narrow), narrow) for narrow in forms_of(problem.bits)]
    return min(found, key=lambda each: float(problem.losses(each.restored).sum()))


def start_scales(problem: LayerProblem, narrow: bool) -> Doubles:
    """Scales [N] of least error weighted by the moments, if every weight were rounded by itself."""
    weight, diagonal = problem.weight, problem.inputs.moments.diagonal

    def alone(total: Doubles, restored: Doubles, part: Doubles, place: slice) -> None:
        np.subtract(restored, part, out=restored)
        total += diagonal[place] @ np.square(restored, out=restored)

    def together(total: Doubles, restored: Doubles, part: Doubles, _: slice) -> None:
        total += problem.inputs.moments.losses(np.subtract(restored, part, out=restored))

    limits, free, shared = limits_of(problem.bits, narrow), problem.has_free_scales, problem.shared_scale
    if len(weight) <= _DIAGONAL_FROM:
        return best_start(weight, limits, free, shared, together)
    if free and problem.bits < POWER_OF_TWO_BITS:  # It takes room for each integer.
        return best_free_start(weight, limits, shared, diagonal)
    return best_start(weight, limits, free, shared, alone, RUN)


def rounded_on(problem: LayerProblem, scales: Doubles, narrow: bool) -> QuantizedWeights:
    """GPTQ with given scales, brought to the grid that the file can hold."""
    grid = on_grid(scales, problem.has_free_scales, problem.significance, problem.lowest_exponent)
    integers = compensated(problem, grid.scales.astype(np.float64), *limits_of(problem.bits, narrow))
    return QuantizedWeights(integers, grid.mantissas, grid.exponents, problem.bits, narrow)


def compensated(
    problem: LayerProblem, scales: Doubles, low: int, high: int
) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    """Integers [K, N] for scales [N]."""
    moments = problem.inputs.moments
    # As rows, with which numpy is faster than with numbers.
    lowest, highest = (np.full(len(scales), float(limit)) for limit in (low, high))
    left = (problem.weight[moments.order] / scales).astype(np.float64, copy=False)
    carry, integers = moments.carry(left), np.empty(left.shape, np.float64)
    for first in range(0, len(left), moments.batch):
        place = slice(first, min(first + moments.batch, len(left)))
        carry.arrive(place)
        shares = np.ascontiguousarray(carry.inner(place).T)
        own, errors = shares.diagonal().tolist(), np.empty(left[place].shape)
        for row, (wanted, found, error) in enumerate(zip(left[place], integers[place], errors, strict=True)):
            np.subtract(wanted, np.dot(shares[row, :row], errors[:row]), out=error)
            np.rint(error, out=found)
            np.minimum(np.maximum(found, lowest, out=found), highest, out=found)
            np.subtract(error, found, out=error)
            if own[row] != 1.0:
                np.divide(error, own[row], out=error)
        carry.leave(place, errors)
    unordered = np.empty(integers.shape, np.int64)
    unordered[moments.order] = integers
    return unordered
