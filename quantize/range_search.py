# SPDX-License-Identifier: Apache-2.0
"""Searches exponents of activations by what they do to the logits, without gradients.

The metric of PTQ4ViT's search (Yuan et al., ECCV 2022, section 3.3) needs gradients of the loss; forward only, a
candidate is scored by the divergence of the model with it from the float model.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace

from hetfab.quantize.assignment import ActivationChoice, Assignment
from hetfab.quantize.methods import CRITERIA, TWIN
from hetfab.quantize.ranges import TwinRange
from hetfab.quantize.study import Study


def searched_ranges(
    study: Study, assignment: Assignment, rounds: int = 2, progress: Callable[[str], None] = lambda step: None
) -> Assignment:
    """The assignment with an exponent for each group of tensors that no scale holds exactly.

    Args:
        study: The model.
        assignment: Widths and methods to start with.
        rounds: How often all groups are tried.
        progress: Called ``search_steps`` times at most, with the name of a group or a method.
    """
    starts = {"start": assignment, **{name: _with_method(assignment, name) for name in CRITERIA}}
    divergences = {}
    for name, start in starts.items():
        divergences[name] = study.divergence(start)
        progress(name)
    nearest = min(divergences, key=divergences.__getitem__)
    best, least = starts[nearest], divergences[nearest]
    for _ in range(rounds):
        before = least
        for group in study.groups:
            progress(group)
            bits = study.exact_bits(group)
            if bits is not None and bits <= best.activations[group].bits:
                continue
            for choice in _others(study, best, group):
                found = best.with_activations(group, choice)
                divergence = study.divergence(found)
                if divergence < least:
                    best, least = found, divergence
        if least > 0.99 * before:
            break
    return best


def search_steps(study: Study, rounds: int) -> int:
    """How often a search calls its ``progress`` at most."""
    return 1 + len(CRITERIA) + rounds * len(study.groups)


def _others(study: Study, assignment: Assignment, group: str) -> Iterator[ActivationChoice]:
    """Neighbouring exponents, and a twin range where it is offered."""
    choice, chosen = assignment.activations[group], study.numbers(assignment).ranges[group]
    if not isinstance(chosen, TwinRange):
        for step in (-1, 1):
            yield replace(choice, exponent=chosen.exponent + step)
        if study.offers_twin(group):
            yield ActivationChoice(choice.bits, TWIN)


def _with_method(assignment: Assignment, method: str) -> Assignment:
    choices = {group: ActivationChoice(choice.bits, method) for group, choice in assignment.activations.items()}
    return replace(assignment, activations=choices, arguments=method)
