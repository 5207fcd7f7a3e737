# SPDX-License-Identifier: Apache-2.0
"""The designs that a search may choose: all that fit the board, their neighbours, and their memories."""

import itertools
from dataclasses import replace
from typing import Any, cast

import pytest

from hetfab.overlay.compiler.lowered import LoweredModel
from hetfab.overlay.design import Design, default_design
from hetfab.overlay.errors import DesignTooLargeError
from hetfab.overlay.search import hardware
from hetfab.overlay.search.hardware import Array, Scratchpad, Space, base_design, scratchpads_of
from tests.search_cases import (
    DESIGNS,
    SPACE,
    scratchpads,
    small_space,
)


@pytest.mark.parametrize("board", ["pynq-z2", "zcu104"])
def test_designs_with_other_scratchpads_fit_as_their_resources_say(board: str) -> None:
    """What a scratchpad takes is added up; nothing is left out, but for what rounding up may decide."""
    space = replace(small_space(board), scratchpads=tuple(scratchpads_of(base_design(board, []))))
    assert len(space.scratchpads) > 3
    found = space.fitting()
    assert len(found) > len(space.scratchpads)
    for design, share in found.items():
        assert max(space.shares(design).values()) == pytest.approx(share, abs=0.01)
    arrays = [replace(design, geometry=replace(design.geometry)) for design in small_space(board).fitting()]
    every = {each.on(design) for each in space.scratchpads for design in arrays}
    assert all(max(space.shares(design).values()) > 0.99 for design in every - {*found})


def test_neighbours_differ_by_one_step_of_one_side_of_one_array_or_of_both() -> None:
    base = SPACE.design(Array(4, 8), Array(8, 8), 1024, 1024)
    sides = [(d.geometry.gemm_d_rows, d.geometry.gemm_d_cols, d.geometry.gemm_l_rows) for d in SPACE.neighbours(base)]
    assert sides == [(8, 8, 8), (4, 8, 4), (8, 8, 4)]


def test_neighbours_have_the_scratchpad_of_the_design_or_smaller_arrays_and_the_next_one() -> None:
    space = replace(SPACE, scratchpads=scratchpads())
    design = Scratchpad(4, 4096).on(space.design(Array(8, 8), Array(4, 8), 1024, 1024))
    near = list(space.neighbours(design))
    assert near and all(space.smallest(each) == each and space.holds(each) for each in near)
    others = [each for each in near if Scratchpad.of(each) != Scratchpad.of(design)]
    assert {Scratchpad.of(each) for each in others} == {
        Scratchpad(4, 2048),
        Scratchpad(4, 8192),
        Scratchpad(1, 4096),
        Scratchpad(8, 4096),
    }
    assert {(each.geometry.gemm_d_rows, each.geometry.gemm_l_rows) for each in others} == {(4, 4)}
    assert len(near) > len(others)


def test_exactly_the_pairs_that_fit_are_there() -> None:
    words = SPACE.weight_words[0]
    arrays = itertools.product(SPACE.arrays_d, SPACE.arrays_l)
    all_pairs = [SPACE.design(on_d, on_l, words, words) for on_d, on_l in arrays]
    assert [each for each in all_pairs if SPACE.holds(each)] == DESIGNS
    tight = replace(SPACE, board=replace(SPACE.board, resources={**SPACE.board.resources, "dsp": 150}))
    held = list(tight.fitting())
    assert held == [each for each in all_pairs if tight.holds(each)] and len(held) < len(DESIGNS)
    assert set(tight.with_more("dsp", 10.0).fitting()) >= set(DESIGNS)


def test_no_memory_that_fits_is_deeper_than_the_largest() -> None:
    for design in DESIGNS:
        found = SPACE.largest_memories(design)
        assert found and all(SPACE.holds(each) for each in found)
        for larger in found:
            g = larger.geometry
            on_d, on_l = Array(g.gemm_d_rows, g.gemm_d_cols), Array(g.gemm_l_rows, g.gemm_l_cols)
            for words in SPACE.weight_words:
                if words > g.wgt_d_words:
                    assert not SPACE.holds(SPACE.design(on_d, on_l, words, g.wgt_l_words))
                if words > g.wgt_l_words:
                    assert not SPACE.holds(SPACE.design(on_d, on_l, g.wgt_d_words, words))


def test_other_buffers_are_in_the_designs_of_which_no_memory_can_be_deeper() -> None:
    space = replace(SPACE, activations=(1, 2), results=(0.5, 1, 2))
    names = ("wgt_d_words", "wgt_l_words", "act_d_words", "act_l_words", "out_words")
    base = SPACE.base.geometry
    grid = [
        (d, w, share * base.act_d_words, share * base.act_l_words, int(more * base.out_words))
        for d, w, share, more in itertools.product(space.weight_words, space.weight_words, (1, 2), (0.5, 1, 2))
    ]
    (design,) = [each for each in DESIGNS if each.geometry.gemm_d_rows == each.geometry.gemm_l_rows == 8]

    def with_words(words: Any) -> Design:
        return replace(design, geometry=replace(design.geometry, **dict(zip(names, words, strict=True))))

    fitting = {words for words in grid if space.holds(with_words(words))}
    deepest = {
        words
        for words in fitting
        if not any(other != words and all(a >= b for a, b in zip(other, words, strict=True)) for other in fitting)
    }
    found = space.largest_memories(design)
    assert {tuple(getattr(each.geometry, name) for name in names) for each in found} == deepest
    assert len({each.geometry.out_words for each in found}) > 1 and len(fitting) < len(grid)


@pytest.mark.parametrize("board", ["pynq-z2", "zc706", "ultra96-v2", "zcu104"])
def test_networks_on_samples_get_the_memories_of_images(board: str) -> None:
    design = base_design(board, [None])
    assert design.board == board and design.geometry.res_words and "agg" not in design.geometry.engines
    assert Space.of(design).fitting()


def test_scratchpads_are_tried_where_the_smallest_design_holds_them() -> None:
    base = base_design("zcu104", [])
    depth = base.geometry.feature_words
    found = scratchpads_of(base)
    assert found == [Scratchpad(beats, int(share * depth)) for beats in (1, 4, 8) for share in (0.5, 1, 2, 4, 8)]
    assert Scratchpad.of(base) in found
    small = scratchpads_of(base_design("pynq-z2", []))
    assert {*small} < {*found} and max(each.words for each in small) == 4 * depth
    assert not scratchpads_of(base_design("pynq-z2", [None]))
    assert not scratchpads_of(replace(base, geometry=replace(base.geometry, feature_words=0, agg_word_beats=1)))
    many = replace(base, geometry=replace(base.geometry, agg_groups=32))
    assert {each.word_beats for each in scratchpads_of(many)} == {1, 4}


def test_the_default_designs_of_a_board_are_in_the_space() -> None:
    """So that no search is slower than the fullest of them."""
    graphs = default_design("pynq-z2-graphs")
    base = default_design("pynq-z2-attention")
    space = replace(Space.of(base), scratchpads=tuple(scratchpads_of(base)))
    assert space.holds(graphs) and Scratchpad.of(graphs) in space.scratchpads
    geometries = {each.geometry for each in space.fitting()}
    assert space.smallest(graphs).geometry in geometries
    assert graphs.geometry in {each.geometry for each in space.largest_memories(graphs)} | {
        replace(graphs.geometry, wgt_d_words=words[0], wgt_l_words=words[1], out_words=2048)
        for words in [(512, 1024), (1024, 512)]
    }


def test_the_base_has_as_many_heads_as_the_models_need(monkeypatch: pytest.MonkeyPatch) -> None:
    """More than any default design has, and no multiple of what designs may have."""
    monkeypatch.setattr(hardware, "functions_of", lambda layers, lanes: {"agg_heads": 6, "norm_words": 0})
    found = base_design("zcu104", [cast(LoweredModel, object())])
    assert found.geometry.agg_heads == 8 and found.geometry.norm_words
    assert Space.of(found).fitting()


def test_a_board_that_cannot_hold_all_of_it_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Space, "shares", lambda self, design: {"lut": 1.2, "dsp": 0.5})
    with pytest.raises(DesignTooLargeError, match=r"takes too much of 'pynq-z2': lut 120% \(modelled\)"):
        base_design("pynq-z2", [])
