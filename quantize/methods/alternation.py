# SPDX-License-Identifier: Apache-2.0
"""GPTQ's integers and the best scales for them, in turn.

Guo et al., decoupleQ, 2024 (arXiv 2404.12759), section 3: integers and scales are variables of one least-square
problem, solved for one while the other is fixed. For fixed integers a of a channel the scale of least error is
``s = (w^T H a) / (a^T H a)``; the zero point is left out, which the cores do not have. A channel keeps a step only if
its loss falls. Where decoupleQ moves relaxed weights down the gradient before it rounds, integers are moved after it
(``descent``).
"""

from dataclasses import replace

import numpy as np

from hetfab.quantize.methods.descent import descended
from hetfab.quantize.methods.gptq import compensated, rounded_on, start_scales
from hetfab.quantize.methods.layer_problem import LayerProblem
from hetfab.quantize.methods.moments import Doubles
from hetfab.quantize.methods.nearest import nearest
from hetfab.quantize.weights import QuantizedWeights, forms_of, limits_of, on_grid

_ROUNDS = 4
_SWEEPS = 2


def alternation(problem: LayerProblem) -> QuantizedWeights:
    """Rounds; of 2 bits, the form that loses less. Power-of-two scales move to a neighbour that loses less."""
    if not problem.weight.any():
        return nearest(problem)
    if problem.bits == 1:
        return _bipolar(problem)
    found = [_in_turn(problem, narrow) for narrow in forms_of(problem.bits)]
    return min(found, key=lambda each: float(each[1].sum()))[0]


def _in_turn(problem: LayerProblem, narrow: bool) -> tuple[QuantizedWeights, Doubles]:
    """With the losses of channels; one that a step did not make better would take it again, and is left as it is."""
    best = _rounded(problem, start_scales(problem, narrow), narrow)
    losses, everything = _losses(problem, best), np.arange(problem.weight.shape[1])
    channels = everything
    for _ in range(_ROUNDS):
        part, known = problem, best
        if len(channels) < len(everything):
            part, known = replace(problem, weight=problem.weight[:, channels]), _columns(best, channels)
        step = _rounded(part, _next_scales(part, known), narrow)
        after = _losses(part, step)
        better = _better(part, losses[channels], after)
        if not better.any():
            break
        taken = channels[better]
        wanted = _with_columns(best, taken, _columns(step, better))
        best = _merged(problem, best, wanted, np.isin(everything, taken))
        kept = best.scales == wanted.scales
        if kept.all():
            losses[taken] = after[better]
        else:
            losses = _losses(problem, best)
        channels = taken if np.delete(kept, taken).all() else everything
    return best, losses


def _columns(found: QuantizedWeights, channels: np.ndarray) -> QuantizedWeights:
    """The weights of some channels."""
    return replace(
        found,
        integers=found.integers[:, channels],
        mantissas=found.mantissas[channels],
        exponents=found.exponents[channels],
    )


def _with_columns(found: QuantizedWeights, channels: np.ndarray, others: QuantizedWeights) -> QuantizedWeights:
    """The same with the weights of some channels from others."""
    integers, mantissas, exponents = found.integers.copy(), found.mantissas.copy(), found.exponents.copy()
    integers[:, channels], mantissas[channels], exponents[channels] = (
        others.integers,
        others.mantissas,
        others.exponents,
    )
    return replace(found, integers=integers, mantissas=mantissas, exponents=exponents)


def _rounded(problem: LayerProblem, scales: Doubles, narrow: bool) -> QuantizedWeights:
    return descended(problem, rounded_on(problem, scales, narrow), _SWEEPS)


def _next_scales(problem: LayerProblem, found: QuantizedWeights) -> Doubles:
    scales = least_error_scales(problem, found)
    if not problem.has_free_scales:
        # A closed form that rounds back to the same power of two would end the search at once.
        same = np.rint(np.log2(scales)) == found.exponents
        return np.where(same, found.scales * 0.5, scales)
    return scales


def least_error_scales(problem: LayerProblem, found: QuantizedWeights) -> Doubles:
    """Scales [N] of least error for given integers; one for all where they share it."""
    integers = found.integers.astype(np.float64)
    product = problem.inputs.moments.times(integers)
    above = np.einsum("kn,kn->n", problem.weight.astype(np.float64), product)
    below = np.einsum("kn,kn->n", integers, product)
    if problem.shared_scale:
        above, below = (np.full_like(each, each.sum()) for each in (above, below))
    usable = (below > 0) & (above > 0)
    return np.where(usable, above / np.where(usable, below, 1.0), found.scales.astype(np.float64))


def _better(problem: LayerProblem, before: Doubles, after: Doubles) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
    if problem.shared_scale:
        return np.full(len(before), after.sum() < before.sum())
    return after < before


def _merged(
    problem: LayerProblem,
    first: QuantizedWeights,
    second: QuantizedWeights,
    take: np.ndarray[tuple[int, ...], np.dtype[np.bool_]],
) -> QuantizedWeights:
    """Channels of both; the grid of scales may move with the largest of them, which leaves exact ones as they are."""
    scales = np.where(take, second.scales, first.scales).astype(np.float64)
    integers = np.where(take, second.integers, first.integers)
    grid = on_grid(scales, problem.has_free_scales, problem.significance, problem.lowest_exponent)
    # Signs do not depend on scales.
    if problem.bits > 1 and not np.array_equal(grid.scales, scales):
        return _rounded(problem, scales, first.narrow)
    return replace(grid, integers=integers, bits=problem.bits, narrow=first.narrow)


def _losses(problem: LayerProblem, found: QuantizedWeights) -> Doubles:
    return problem.losses(found.restored)


def _bipolar(problem: LayerProblem) -> QuantizedWeights:
    """Signs in turn with scales; GPTQ rounds to the nearer of -1 and 1."""
    best = nearest(problem)
    losses = _losses(problem, best)
    for _ in range(_ROUNDS):
        grid = on_grid(least_error_scales(problem, best), True, problem.significance, problem.lowest_exponent)
        signs = _compensated_signs(problem, grid.scales.astype(np.float64))
        step = QuantizedWeights(signs, grid.mantissas, grid.exponents, 1)
        better = _better(problem, losses, _losses(problem, step))
        if not better.any():
            break
        best = _merged(problem, best, step, better)
        losses = _losses(problem, best)
    return best


def _compensated_signs(problem: LayerProblem, scales: Doubles) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    """Odd integers -1 and 1 are 2 q + 1 of q in -1..0, so that rounding to nearest is of (w - s) / 2s."""
    shifted = replace(problem, weight=((problem.weight - scales) / 2).astype(np.float32))
    return 2 * compensated(shifted, scales, *limits_of(1, False)) + 1
