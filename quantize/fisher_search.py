# SPDX-License-Identifier: Apache-2.0
"""Chooses exponents of activations by errors weighted with the diagonal of the Fisher information.

PTQ4ViT (Yuan et al., ECCV 2022, section 3.3) takes the scale of least ``E[sum_i g_i^2 (x'_i - x_i)^2]``, g the gradient
of the loss. Its loss compares the model with itself, whose gradient is 0. Here g is the gradient of ``-log p(y)`` with
y drawn from the model's own prediction p, so that the mean of g^2 over draws is the diagonal of the Fisher information.
Labels are drawn for all nodes, since a trained model is sure of most of them and their gradients are small.
"""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from hetfab.overlay.model.bound_model import Evaluation
from hetfab.quantize.assignment import Assignment
from hetfab.quantize.emulation import Emulation, softmax
from hetfab.quantize.gradients import gradients
from hetfab.quantize.ranges import ActivationRange, FloatArray, exponents_from
from hetfab.quantize.study import Study

_DRAWS = 8


def fisher_ranges(study: Study, assignment: Assignment, *, draws: int = _DRAWS, seed: int = 0) -> Assignment:
    """The assignment with an exponent for each group that no scale holds exactly.

    Args:
        study: The model.
        assignment: Widths; its methods are not used.
        draws: Labels that are drawn for each node.
        seed: Of the draws.
    """
    everywhere = Evaluation(None, study.evaluation.multilabel)
    weights = [fisher_diagonal(each, everywhere, draws, seed) for each in study.emulations]
    ranges = study.numbers(assignment).ranges
    for group, members in study.groups.items():
        choice, held = assignment.activations[group], study.exact_bits(group)
        if held is not None and held <= choice.bits:
            continue
        peak = max(float(np.abs(study.observed.values[name]).max(initial=0.0)) for name in members)
        if peak > 0.0:
            # Uniform ones, whatever the assignment has.
            shapes = {name: ActivationRange(choice.bits, ranges[name].signed, 0) for name in members}
            widest = int(np.ceil(np.log2(peak / min(each.highest for each in shapes.values()))))
            errors = {
                exponent: _error(study, weights, {n: replace(each, exponent=exponent) for n, each in shapes.items()})
                for exponent in exponents_from(widest)
            }
            best = min(errors, key=lambda exponent: (errors[exponent], -exponent))
            assignment = assignment.with_activations(group, replace(choice, exponent=best))
    return assignment


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


def _error(study: Study, weights: list[dict[str, FloatArray]], chosen: Mapping[str, ActivationRange]) -> float:
    """Error of tensors as whole steps, weighted."""
    total = 0.0
    for emulation, importance in zip(study.emulations, weights, strict=True):
        for name, each in chosen.items():
            if name in importance:
                values = emulation.values(name)
                error = each.steps(values) * np.float32(each.scale) - values
                total += float(np.sum(importance[name] * np.square(error), dtype=np.float64))
    return total
