# SPDX-License-Identifier: Apache-2.0
"""Attention over more channels or heads than AGG takes at once is cut into passes, and no bit of the result changes."""

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest

from hetfab.hls.build.emulator import Emulator
from hetfab.overlay.compiler.attention_passes import fewest_heads, heads_of_pass, pass_channels
from hetfab.overlay.compiler.lowered import Additive, Product, Stored
from hetfab.overlay.design import Geometry
from hetfab.overlay.errors import DesignInvalidError, DesignTooSmallError
from hetfab.overlay.isa.words import decode
from tests import attention_models
from tests.attention_models import AttentionBuilder, attention_case
from tests.conftest import SMALL_GEOMETRY
from tests.programs import bound_to, compiled, quantized, run_emulated, run_golden
from tests.test_whole_programs import assert_equals_onnxruntime, assert_same_dram

MOST = SMALL_GEOMETRY.agg_groups * SMALL_GEOMETRY.lanes
FEW_HEADS = replace(SMALL_GEOMETRY, agg_heads=4)


def with_heads(monkeypatch: pytest.MonkeyPatch, count: int, width: int) -> None:
    """The models get heads of this number and width."""
    monkeypatch.setattr(attention_models, "HEADS", count)
    monkeypatch.setattr(attention_models, "CHANNELS", count * width)
    for name in ("heads", "scores"):
        monkeypatch.setattr(getattr(AttentionBuilder, name), "__defaults__", (count,))


def attends(words: npt.NDArray[np.uint64]) -> set[tuple[int, int]]:
    """Heads and their groups of all instructions that attend."""
    decoded = [decode(int(low) | int(high) << 64) for low, high in words]
    return {(d.fields["heads"], d.fields["head_groups"]) for d in decoded if d.operation.name == "attend"}


@pytest.mark.parametrize(
    ("name", "heads", "width", "geometry", "expected"),
    [
        ("rgat", 8, 8, FEW_HEADS, {(4, 1)}),
        ("hgt", 8, 8, FEW_HEADS, {(4, 1)}),
        ("hgt", 4, 2 * MOST // 4, SMALL_GEOMETRY, {(2, MOST // 16)}),
        ("hgt", 2, MOST + 16, SMALL_GEOMETRY, {(1, (MOST + 16) // 16)}),
        ("han", 8, MOST // 4, SMALL_GEOMETRY, {(4, MOST // 32), (1, MOST // 8)}),
        ("rgat", 1, 2 * MOST, SMALL_GEOMETRY, {(1, MOST // 8)}),
    ],
)
def test_passes_give_what_onnxruntime_does(
    name: str,
    heads: int,
    width: int,
    geometry: Geometry,
    expected: set[tuple[int, int]],
    monkeypatch: pytest.MonkeyPatch,
    small_emulators: dict[str, Emulator],
) -> None:
    with_heads(monkeypatch, heads, width)
    case = attention_case(name)
    model = quantized(case).model
    bound = bound_to(compiled(model, case.graph, geometry), case.graph)
    assert attends(bound.words) == expected
    golden = run_golden(bound)
    assert_equals_onnxruntime(golden, bound, model, case.graph)
    if geometry is SMALL_GEOMETRY:
        assert_same_dram(run_emulated(bound, small_emulators["host"]), golden, bound)


def test_types_of_edges_belong_to_one_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    with_heads(monkeypatch, 8, 8)
    case = attention_case("simple-hgn")
    with pytest.raises(DesignInvalidError, match="has agg_heads 4"):
        compiled(quantized(case).model, case.graph, FEW_HEADS)
    with_heads(monkeypatch, 8, MOST // 4)
    case = attention_case("simple-hgn")
    with pytest.raises(DesignTooSmallError, match=f"aggregates {2 * MOST} channels at once"):
        compiled(quantized(case).model, case.graph, SMALL_GEOMETRY)


def scores(heads: int) -> Stored:
    return Stored("s", heads, 16, True, -8, "computed")


def additive(heads: int, *, typed: bool = False) -> Additive:
    return Additive(scores(heads), scores(heads), scores(heads) if typed else None, 0)


def product(heads: int) -> Product:
    keys = Stored("k", 8 * heads, 8, True, 0, "computed")
    return Product(keys, keys, heads, 0)


@pytest.mark.parametrize(
    ("attention", "channels", "width"),
    [
        (product(8), 64, 32),  # as many heads as AGG has
        (product(6), 48, 24),
        (product(4), 128, 64),  # as many channels as its sums hold
        (product(1), 200, 40),  # parts of one head
        (additive(8), 64, 32),
        (additive(4), 64, 64),
        (additive(4), 128, 128),  # the third head's scores do not begin a beat
        (additive(8), 128, 64),
        (additive(6), 48, 48),
        (additive(8, typed=True), 64, 64),
        (additive(1, typed=True), 128, 64),
    ],
)
def test_a_pass_is_as_wide_as_fits(attention: Additive | Product, channels: int, width: int) -> None:
    geometry = replace(SMALL_GEOMETRY, agg_heads=4, agg_groups=8)
    found = pass_channels([attention], channels, 8, geometry)
    assert found == width
    assert found == channels or heads_of_pass(attention, channels, found) >= fewest_heads(attention)


def test_all_attentions_of_a_layer_have_the_same_passes() -> None:
    geometry = replace(SMALL_GEOMETRY, agg_heads=4, agg_groups=8)
    assert pass_channels([product(2), product(8)], 64, 8, geometry) == 32
    assert pass_channels([additive(8), product(1)], 64, 8, geometry) == 32
