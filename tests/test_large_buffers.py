# SPDX-License-Identifier: Apache-2.0
"""Buffers and rows beyond what instruction fields can name: layers are cut so that every field holds its value."""

from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest

from hetfab.overlay.compiler.compile import compile_lowered
from hetfab.overlay.compiler.rings import SLOTS, slot_words
from hetfab.overlay.design import Geometry, default_design, design_from_dict
from hetfab.overlay.isa.codec import Segment
from tests.programs import design_of, run_golden
from tests.test_splits import Product, found_in

DEPTHS = [field.name for field in fields(Geometry) if field.name.endswith("_words")]


def with_buffers(factor: int, **arrays: Any) -> Geometry:
    """The default geometry with buffers so many times as deep."""
    geometry = default_design().geometry
    depths: dict[str, Any] = {name: factor * getattr(geometry, name) for name in DEPTHS}
    return replace(geometry, **depths, **arrays)


def product(inputs: int, outputs: int, bits: int, activation_bits: int) -> Product:
    random = np.random.default_rng(0)
    largest = max((1 << bits - 1) - 1, 1)
    weight = random.integers(-largest, largest + 1, (inputs, outputs))
    weight = np.where(weight < 0, -1, 1) if bits == 1 else weight
    activations = random.integers(0, 1 << activation_bits, (300, inputs))
    return Product(activations, activation_bits, False, weight, np.full(outputs, bits), np.zeros(outputs, np.int64))


@pytest.mark.parametrize("share", [None, 0.0, 1.0])
@pytest.mark.parametrize("shape", [(300, 300, 8, 8), (70_000, 8, 1, 8), (70_000, 8, 1, 4), (1500, 1100, 4, 4)], ids=str)
@pytest.mark.parametrize("factor", [4, 64])
def test_every_field_holds_its_value(factor: int, shape: tuple[int, int, int, int], share: float | None) -> None:
    """Rows of 70,000 channels are longer than a step may be, 1,100 channels on one core more than a pass may take."""
    given = product(*shape)
    geometry = with_buffers(factor, gemm_d_rows=14, gemm_d_cols=64, gemm_l_acc_bits=32)
    given.bound(compile_lowered(given.lowered(), design_of(geometry), share_on_d=share))


def test_a_tile_in_the_last_words_that_fields_can_name() -> None:
    """Both slots of every buffer are used, up to the largest addresses; the sums are right."""
    given = product(400, 120, 8, 8)
    geometry = with_buffers(64)
    program = compile_lowered(given.lowered(), design_of(geometry), share_on_d=0.5)
    found = found_in(run_golden(given.bound(program)).dram[Segment.ACTIVATIONS], 300, program)
    assert np.array_equal(found, given.result())


def test_slots_are_of_as_much_as_a_design_may_have() -> None:
    """A design file whose buffers are the largest that fields can name is accepted, and wholly used."""
    for memory, depth in (("act_l_ram", 1 << 13), ("wgt_d_ram", 1 << 14), ("out_ram", 1 << 12)):
        assert slot_words(with_buffers(1000), memory) == depth // SLOTS
        depths: dict[str, Any] = {memory.replace("_ram", "_words"): depth}
        largest = replace(default_design().geometry, **depths)
        content = design_of(largest).as_dict()
        content["geometry"] = {**content["geometry"], "engines": list(largest.engines)}
        assert design_from_dict(content, "largest").geometry == largest
        assert slot_words(largest, memory) == depth // SLOTS
