# SPDX-License-Identifier: Apache-2.0
"""decoupleQ's block stage moves scales and biases, never integers, and ends no further from the float model."""

from dataclasses import replace

import numpy as np
import pytest

from hetfab.quantize.bit_assignment import digest
from hetfab.quantize.study import Study
from hetfab.quantize.weights import LARGEST_SIGNIFICANCE
from hetfab.quantize.widths import Widths
from tests.attention_models import attention_case
from tests.random_models import random_case
from tests.test_study import study_of

STEPS = 12


def error(study: Study, logits: list[np.ndarray]) -> float:
    pairs = zip(study.observed.logits, logits, strict=True)
    return float(np.mean([np.mean((found.astype(np.float64) - exact) ** 2) for exact, found in pairs]))


@pytest.mark.parametrize("name", ["2", "5", "rgat"])
@pytest.mark.parametrize("bits", [2, 8])
def test_integers_stay_and_the_error_falls(name: str, bits: int) -> None:
    study = study_of(random_case(int(name), largest_count=33) if name.isdigit() else attention_case(name))
    start = study.uniform(Widths(bits, 8), weights="nearest")
    moved = replace(start, block_steps=STEPS)
    before, after = study.numbers(start), study.numbers(moved)
    assert before.ranges == after.ranges and digest(start) != digest(moved)
    for layer in study.layers:
        first, second = before.weights[layer], after.weights[layer]
        np.testing.assert_array_equal(first.integers, second.integers)
        assert all(part.mantissas.max() < 1 << (LARGEST_SIGNIFICANCE + 1) for part in second.parts)
        if bits == 8:
            np.testing.assert_array_equal(first.scales, second.scales)
    factor = 0.97 if bits == 2 else 1.0
    assert error(study, study.logits(moved)) <= factor * error(study, study.logits(start))
    model = study.write(moved)
    assert study.measured_divergence(model) == pytest.approx(study.divergence(moved), rel=0.2, abs=1e-3)


def test_without_steps_nothing_moves() -> None:
    study = study_of(random_case(2, largest_count=33))
    start = study.uniform(Widths(2, 8))
    assert study.write(replace(start, block_steps=0)) == study.write(start)
