# SPDX-License-Identifier: Apache-2.0
"""Seeded layers with correlated inputs: what the alternation gains over GPTQ and over rounding to nearest."""

import importlib
from pathlib import Path

import pytest


def test_the_alternation_keeps_its_distance_from_gptq_and_rounding(monkeypatch: pytest.MonkeyPatch) -> None:
    """20 matrices of 128 inputs and 64 outputs, inputs ``A z`` with lognormal A; mean errors of outputs."""
    monkeypatch.syspath_prepend(Path(__file__).parents[1])
    found = importlib.import_module("benchmarks.quantize_layers").alternation_figures()
    assert found["alternation_over_gptq_2"] <= 0.90
    assert max(found["alternation_over_gptq_3"], found["alternation_over_gptq_4"]) <= 0.95
    assert found["alternation_over_rtn_2"] < 1 / 3
