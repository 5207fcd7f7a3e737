# SPDX-License-Identifier: Apache-2.0
"""Chooses exponents of activations by errors weighted with the diagonal of the Fisher information.

PTQ4ViT (Yuan et al., ECCV 2022, section 3.3) takes the scale of least ``E[sum_i g_i^2 (x'_i - x_i)^2]``, g the gradient
of the loss. Its loss compares the model with itself, whose gradient is 0. Here g is the gradient of ``-log p(y)`` with
y drawn from the model's own prediction p, so that the mean of g^2 over draws is the diagonal of the Fisher information.
Labels are drawn for all nodes, since a trained model is sure of most of them and their gradients are small.
"""

import numpy as np

from hetfab.overlay.model.bound_model import Evaluation
from hetfab.quantize.assignment import Assignment
from hetfab.quantize.emulation import Emulation, softmax
from hetfab.quantize.gradients import gradients
from hetfab.quantize.ranges import FloatArray
from hetfab.quantize.study import Study
from hetfab.quantize.weighted_ranges import weighted_ranges

_DRAWS = 8


def fisher_ranges(study: Study, assignment: Assignment, *, draws: int = _DRAWS, seed: int = 0) -> Assignment:
    """The assignment with an exponent for each group that no scale holds exactly, or as it is where that is nearer.

    The metric takes errors as small and independent. At 3 and 4 bits clipped values are neither, and the model with
    these exponents may be further from the float model than before.

    Args:
        study: The model.
        assignment: Widths, and what the result is compared with.
        draws: Labels that are drawn for each node.
        seed: Of the draws.
    """
    everywhere = Evaluation(None, study.evaluation.multilabel)
    weights = [fisher_diagonal(each, everywhere, draws, seed) for each in study.emulations]
    found = weighted_ranges(study, assignment, weights)
    return min((assignment, found), key=study.divergence)


def fisher_diagonal(emulation: Emulation, evaluation: Evaluation, draws: int, seed: int) -> dict[str, FloatArray]:
    """Mean square gradients of ``-log p(y)`` for each tensor, labels y drawn from the model's prediction.

    Args:
        emulation: The model on a feed.
        evaluation: Nodes whose labels are drawn, and whether they have several.
        draws: How often.
        seed: Of the draws.
    """
    random, logits = np.random.default_rng(seed), emulation.logits()
    total: dict[str, FloatArray] = {}
    for _ in range(draws):
        for name, gradient in gradients(emulation, drawn_slope(logits, evaluation, random)).items():
            square = np.asarray(np.square(gradient) / draws, dtype=np.float32)
            total[name] = total[name] + square if name in total else square
    return total


def drawn_slope(logits: FloatArray, evaluation: Evaluation, random: np.random.Generator) -> FloatArray:
    """Gradient of ``-log p(y)`` with drawn labels, 0 for nodes that models are not compared on."""
    if evaluation.multilabel:
        share = np.asarray(1 / (1 + np.exp(-logits)), dtype=np.float32)
        slope = share - (random.random(logits.shape) < share)
    else:
        share = softmax(logits)
        places = (share.cumsum(axis=1) < random.random((len(share), 1))).sum(axis=1)
        slope = share - (np.minimum(places, share.shape[1] - 1)[:, None] == np.arange(share.shape[1]))
    kept = np.zeros(len(logits), bool)
    kept[slice(None) if evaluation.rows is None else evaluation.rows] = True
    return np.asarray(slope * kept[:, None], np.float32)
