# SPDX-License-Identifier: Apache-2.0
"""Twin ranges: codes, their choice by data, and exact decoding in all executions."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hetfab.hls.build.emulator import Emulator
from hetfab.overlay.isa.codec import Segment
from hetfab.quantize.assignment import ActivationChoice
from hetfab.quantize.methods import TWIN
from hetfab.quantize.methods.square_error import least_square_error
from hetfab.quantize.methods.twin import square_error, uniform_or_twin
from hetfab.quantize.ranges import ActivationRange, TwinRange
from hetfab.quantize.widths import Widths
from tests.attention_models import attention_case
from tests.conftest import SMALL_GEOMETRY
from tests.programs import bound_to, compiled, reference_logits, run_emulated, run_golden
from tests.test_study import study_of
from tests.test_whole_programs import assert_same_dram


@given(st.integers(2, 7), st.integers(0, 6), st.integers(-8, 3))
def test_each_code_is_decoded_to_the_value_that_encodes_to_it(bits: int, shift: int, exponent: int) -> None:
    twin = TwinRange(8, True, exponent, bits, shift)
    codes = np.arange(-(1 << (bits - 1)), 1 << (bits - 1))
    values = np.array([code if code < 0 else code * 2**shift for code in codes.tolist()], np.float32)
    values *= np.float32(2.0**exponent)
    np.testing.assert_array_equal(twin.codes(values), codes)
    np.testing.assert_array_equal(twin.steps(values) * twin.scale, values)


def test_values_beyond_both_ends_are_limited() -> None:
    twin = TwinRange(8, True, 0, 4, 3)
    assert twin.steps(np.array([-100.0, -8.4, -0.6, 3.0, 5.0, 300.0])).tolist() == [-8, -8, -1, 0, 8, 56]


@given(st.integers(0, 2**32 - 1), st.integers(2, 8), st.sampled_from(["elu", "normal", "positive"]))
@settings(max_examples=40)
def test_the_choice_is_never_worse_than_a_uniform_range(seed: int, bits: int, kind: str) -> None:
    values = np.random.default_rng(seed).standard_t(4, 400).astype(np.float32)
    values = np.where(values > 0, values, np.expm1(values)) if kind == "elu" else values
    values = np.abs(values) if kind == "positive" else values
    found = uniform_or_twin(values, bits)
    uniform = ActivationRange(bits, True, least_square_error(values, ActivationRange(bits, True, 0)))
    assert square_error(values, found) <= square_error(values, uniform)
    assert found.lowest <= found.steps(values).min() and found.steps(values).max() <= found.highest
    for shift in range(1, 8):
        for exponent in range(found.exponent - 2, found.exponent + 3):
            if ((1 << (bits - 1)) - 1) << shift < 128 and isinstance(found, TwinRange):
                other = TwinRange(8, True, exponent, bits, shift)
                reached = float(values.max()) / other.scale / (((1 << (bits - 1)) - 1) << shift)
                assert not 2.0**-5 <= reached <= 1 or square_error(values, found) <= square_error(values, other)


def test_a_short_negative_side_makes_a_twin_range_better() -> None:
    x = np.random.default_rng(0).standard_normal(5000).astype(np.float32) * 8
    values = np.where(x > 0, x, np.expm1(x)).astype(np.float32)
    found = uniform_or_twin(values, 4)
    uniform = ActivationRange(4, True, least_square_error(values, ActivationRange(4, True, 0)))
    assert isinstance(found, TwinRange) and square_error(values, found) < 0.8 * square_error(values, uniform)


def test_a_tensor_without_values_is_uniform() -> None:
    assert uniform_or_twin(np.zeros(0, np.float32), 4) == ActivationRange(4, True, 0)


@pytest.mark.parametrize("bits", [3, 4])
def test_a_model_with_twin_ranges_is_the_same_in_all_executions(
    bits: int, small_checked_emulators: dict[str, Emulator]
) -> None:
    """Golden model, native integers and the C simulation's; logits are those of onnxruntime on the file."""
    case = attention_case("simple-hgn")
    study = study_of(case)
    groups = [group for group in study.groups if study.offers_twin(group)]
    assignment = study.uniform(Widths(8, 8), weights="nearest")
    for group in groups:
        assignment = assignment.with_activations(group, ActivationChoice(bits, TWIN))
    ranges = study.numbers(assignment).ranges
    assert any(isinstance(ranges[group], TwinRange) for group in groups)
    model = study.write(assignment)
    bound = bound_to(compiled(model, case.graph, SMALL_GEOMETRY), case.graph)
    golden = run_golden(bound)
    logits = bound.logits(golden.dram[Segment.OUTPUT]) * bound.program.output.scale
    np.testing.assert_array_equal(logits.astype(np.float32), reference_logits(model, case.graph))
    for name in ("native-debug", "ap_int"):
        assert_same_dram(run_emulated(bound, small_checked_emulators[name]), golden, bound)
