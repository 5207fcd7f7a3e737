# SPDX-License-Identifier: Apache-2.0
"""Rounded weights are kept in memory and in a folder: what one study rounds, another one reads as it was."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hetfab.overlay.model.layers import Dense
from hetfab.quantize.assignment import WeightChoice
from hetfab.quantize.layer_rounding import rounded_layer
from hetfab.quantize.methods.layer_problem import LayerInputs
from hetfab.quantize.roundings import Roundings
from hetfab.quantize.weights import LayerWeights

KEY = ("layer", WeightChoice(4), 8, True)


def weights_of(bits: tuple[int, ...], seed: int, *, biased: bool = False) -> LayerWeights:
    """Weights of a layer with a channel of each width."""
    random = np.random.default_rng(seed)
    layer = Dense("out", "in", random.normal(size=(6, len(bits))).astype(np.float32), None)
    rows = LayerInputs((random.normal(size=(20, 6)).astype(np.float32),))
    found = rounded_layer(layer, WeightChoice(bits, "gptq"), rows)
    return LayerWeights(found.parts, random.normal(size=len(bits)).astype(np.float32) if biased else None)


def never() -> LayerWeights:
    raise AssertionError("rounded again")


def assert_same(found: LayerWeights, expected: LayerWeights) -> None:
    assert [(part.bits, part.narrow) for part in found.parts] == [(part.bits, part.narrow) for part in expected.parts]
    for mine, other in zip(found.parts, expected.parts, strict=True):
        for name in ("integers", "mantissas", "exponents"):
            one, two = getattr(mine, name), getattr(other, name)
            assert one.dtype == two.dtype and np.array_equal(one, two)
    assert (found.bias is None) == (expected.bias is None)
    if found.bias is not None and expected.bias is not None:
        assert found.bias.dtype == expected.bias.dtype and np.array_equal(found.bias, expected.bias)


@given(st.lists(st.integers(1, 8), min_size=1, max_size=6), st.integers(0, 99), st.booleans())
def test_another_study_reads_what_one_has_rounded(
    tmp_path_factory: pytest.TempPathFactory, bits: list[int], seed: int, biased: bool
) -> None:
    folder = tmp_path_factory.mktemp("shared") / "of a model"
    expected = weights_of(tuple(bits), seed, biased=biased)
    assert Roundings(folder).get(KEY, lambda: expected) is expected
    assert_same(Roundings(folder).get(KEY, never), expected)


def test_what_is_kept_is_of_its_key() -> None:
    kept, first, second = Roundings(), weights_of((4,), 0), weights_of((3,), 0)
    assert kept.get(KEY, lambda: first) is kept.get(KEY, never) is first
    assert kept.get((*KEY, "other"), lambda: second) is second


def test_folders_keep_keys_apart(tmp_path: Path) -> None:
    first, second = weights_of((4,), 0), weights_of((3,), 0)
    Roundings(tmp_path).get(KEY, lambda: first)
    assert Roundings(tmp_path).get((*KEY, "other"), lambda: second) is second
    assert_same(Roundings(tmp_path).get(KEY, never), first)


@pytest.mark.parametrize("left", [0, 40, 300])
def test_a_file_that_ends_early_is_written_again(tmp_path: Path, left: int) -> None:
    expected = weights_of((2, 8), 1)
    Roundings(tmp_path).get(KEY, lambda: expected)
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:left])
    assert Roundings(tmp_path).get(KEY, lambda: expected) is expected
    assert_same(Roundings(tmp_path).get(KEY, never), expected)


def test_weights_that_cannot_be_written_are_rounded_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    expected = weights_of((4,), 2)
    assert Roundings(tmp_path / "file" / "folder").get(KEY, lambda: expected) is expected
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
