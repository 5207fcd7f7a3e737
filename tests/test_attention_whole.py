# SPDX-License-Identifier: Apache-2.0
"""Attention models from the float file to logits: golden model = emulator = C simulation, = onnxruntime bit for bit."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hetfab.hls.build.emulator import Emulator
from hetfab.overlay.bind import BoundProgram
from hetfab.overlay.design import Geometry
from hetfab.overlay.errors import DesignInvalidError
from hetfab.overlay.program import read_program, write_program
from tests.attention_models import MODELS, attention_case
from tests.conftest import SMALL_GEOMETRY
from tests.programs import bound_to, compiled, quantized, run_emulated, run_golden
from tests.test_whole_programs import assert_equals_onnxruntime, assert_same_dram

Emulators = dict[str, Emulator]
#: C simulation takes long: one model with tables and one with normalization.
SIMULATED = ("simple-hgn", "sehgnn")


def bound_and_compared(name: str, seed: int, emulators: list[Emulator]) -> BoundProgram:
    """Runs a model everywhere."""
    case = attention_case(name, seed)
    model = quantized(case).model
    bound = bound_to(compiled(model, case.graph, SMALL_GEOMETRY), case.graph)
    golden = run_golden(bound)
    assert_equals_onnxruntime(golden, bound, model, case.graph)
    for emulator in emulators:
        assert_same_dram(run_emulated(bound, emulator), golden, bound)
    return bound


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("name", MODELS)
def test_all_executions_agree(name: str, seed: int, small_emulators: Emulators) -> None:
    bound_and_compared(name, seed, [small_emulators["native"], small_emulators["host"]])


@pytest.mark.parametrize("name", SIMULATED)
def test_checked_integers_and_ap_int_agree(name: str, small_checked_emulators: Emulators) -> None:
    bound_and_compared(name, 7, [small_checked_emulators["native-debug"], small_checked_emulators["ap_int"]])


@pytest.mark.parametrize("name", MODELS)
def test_a_program_file_binds_to_the_same_stream(name: str, tmp_path: Path) -> None:
    case = attention_case(name)
    program = compiled(quantized(case).model, case.graph, SMALL_GEOMETRY)
    write_program(tmp_path / "a.hfp", program)
    found, expected = (bound_to(each, case.graph) for each in (read_program(tmp_path / "a.hfp"), program))
    np.testing.assert_array_equal(found.words, expected.words)


@pytest.mark.parametrize(
    ("name", "geometry", "message"),
    [
        ("rgat", replace(SMALL_GEOMETRY, agg_heads=0), "has agg_heads 0"),
        ("rgat", replace(SMALL_GEOMETRY, fun_words=0), "has fun_words 0"),
        ("sehgnn", replace(SMALL_GEOMETRY, norm_words=0), "has norm_words 0"),
    ],
)
def test_a_design_without_what_layers_need_is_refused(name: str, geometry: Geometry, message: str) -> None:
    case = attention_case(name)
    with pytest.raises(DesignInvalidError, match=message):
        compiled(quantized(case).model, case.graph, geometry)
