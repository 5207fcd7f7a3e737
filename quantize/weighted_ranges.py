# SPDX-License-Identifier: Apache-2.0
"""Exponents of activations of least weighted error; what a value counts is the caller's."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from hetfab.quantize.assignment import Assignment
from hetfab.quantize.ranges import ActivationRange, FloatArray, exponents_from
from hetfab.quantize.study import Study


def weighted_ranges(study: Study, assignment: Assignment, weights: Sequence[Mapping[str, FloatArray]]) -> Assignment:
    """The assignment with an exponent for each group that no scale holds exactly.

    Args:
        study: The model.
        assignment: Widths; its methods are not used.
        weights: For each feed, of square errors of tensors, [rows, channels] or [rows, 1]; other tensors do not count.
    """
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


def _error(study: Study, weights: Sequence[Mapping[str, FloatArray]], chosen: Mapping[str, ActivationRange]) -> float:
    """Error of tensors as whole steps, weighted."""
    total = 0.0
    for emulation, importance in zip(study.emulations, weights, strict=True):
        for name, each in chosen.items():
            if name in importance:
                values = emulation.values(name)
                error = each.steps(values) * np.float32(each.scale) - values
                total += float(np.sum(importance[name] * np.square(error), dtype=np.float64))
    return total
