# SPDX-License-Identifier: Apache-2.0
"""Searches exponents of activations by what they do to the logits, without gradients.

The metric of PTQ4ViT's search (Yuan et al., ECCV 2022, section 3.3) needs gradients of the loss; forward only, a
candidate is scored by the divergence of the model with it from the float model. Weights stay float meanwhile.
"""

from dataclasses import replace

from hetfab.quantize.assignment import ActivationChoice, Assignment
from hetfab.quantize.methods import CRITERIA
from hetfab.quantize.study import Study

_ROUNDS = 2


def searched_ranges(study: Study, assignment: Assignment) -> Assignment:
    """The assignment with an exponent for each group of tensors that no scale holds exactly.

    Args:
        study: The model.
        assignment: Widths; its methods are not used.
    """
    best = min((_with_method(study, assignment, name) for name in CRITERIA), key=study.activation_divergence)
    least = study.activation_divergence(best)
    for _ in range(_ROUNDS):
        before = least
        for group in study.groups:
            bits = study.exact_bits(group)
            if bits is not None and bits <= best.activations[group].bits:
                continue
            exponent = study.numbers_of_activations(best).ranges[group].exponent
            for step in (-1, 1):
                found = best.with_activations(group, replace(best.activations[group], exponent=exponent + step))
                divergence = study.activation_divergence(found)
                if divergence < least:
                    best, least = found, divergence
        if least > 0.99 * before:
            break
    return best


def _with_method(study: Study, assignment: Assignment, method: str) -> Assignment:
    choices = {group: ActivationChoice(choice.bits, method) for group, choice in assignment.activations.items()}
    return replace(assignment, activations=choices, arguments=method)
