# SPDX-License-Identifier: Apache-2.0
"""Search of a design with widths: equal to trying everything, bounds that hold, goals that are kept or named."""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hetfab.overlay.compiler.lowered import LoweredModel
from hetfab.overlay.design import Design, default_design
from hetfab.overlay.errors import DesignTooLargeError, LimitUnreachableError
from hetfab.overlay.search import hardware
from hetfab.overlay.search.gains import gains
from hetfab.overlay.search.hardware import Array, Scratchpad, Space, base_design, scratchpads_of
from hetfab.overlay.search.joint import JointSearch
from hetfab.overlay.search.options import Choice, ModelOptions, Times
from hetfab.overlay.search.points import Combine, Goal, Point, Score
from tests.search_cases import BITS, TENSOR_BITS, drawn_model, small_space, work

SPACE = small_space()
DESIGNS = list(SPACE.fitting())


def everything(model: ModelOptions, design: Design, most: float) -> float:
    """The least time of all choices within a limit of the divergence."""
    best = float("inf")
    for weights in itertools.product(BITS, repeat=len(model.layers)):
        for tensors in itertools.product(TENSOR_BITS, repeat=len(model.tensors)):
            cost = sum(o.divergence[o.bits.index(b)] for o, b in zip(model.layers, weights, strict=True))
            cost += sum(o.divergence[o.bits.index(b)] for o, b in zip(model.tensors, tensors, strict=True))
            if cost <= most + 1e-12:
                named = {o.name: b for o, b in zip(model.layers, weights, strict=True)}
                stored = {o.name: b for o, b in zip(model.tensors, tensors, strict=True)}
                best = min(best, model.milliseconds(design, named, stored))
    return best


@given(st.integers(0, 10_000), st.floats(0, 1), st.sampled_from(DESIGNS))
@settings(max_examples=25, deadline=None)
def test_the_widths_on_a_design_are_those_of_trying_everything(seed: int, place: float, design: Design) -> None:
    model = drawn_model(seed)
    least, largest = model.range()
    most = least + place * (largest - least)
    found = model.required(design, most)
    assert found.milliseconds == pytest.approx(everything(model, design, most))
    assert found.divergence <= most + 1e-9
    assert model.milliseconds(design, found.weights, found.tensors) == pytest.approx(found.milliseconds)


@given(st.integers(0, 10_000), st.floats(0, 1))
@settings(max_examples=15, deadline=None)
def test_no_bound_is_above_the_best_time_on_its_design(seed: int, place: float) -> None:
    model = drawn_model(seed)
    most = model.range()[0] + place * (model.range()[1] - model.range()[0])
    bounds = Times.of(model, DESIGNS).bounds(most)
    exact = [model.required(design, most).milliseconds for design in DESIGNS]
    assert (bounds <= np.array(exact) * (1 + 1e-9)).all()
    assert bounds.min() > 0


def search_of(models: Sequence[ModelOptions], combine: Combine = Combine.SUM, slower: float = 1.1) -> JointSearch:
    """A search whose models lose a hundred points for each nat, and whose programs take a tenth longer than thought."""

    def score(number: int, choice: Choice) -> Score:
        return Score(100 * choice.divergence, choice.divergence)

    def time(design: Design, choices: Sequence[Choice]) -> list[float]:
        pairs = zip(models, choices, strict=True)
        return [slower * model.milliseconds(design, c.weights, c.tensors) for model, c in pairs]

    return JointSearch(SPACE, tuple(models), score, time, combine)


@pytest.mark.parametrize("combine", Combine)
def test_the_design_is_that_of_trying_all_designs(combine: Combine) -> None:
    models = [drawn_model(3), drawn_model(4)]
    search = search_of(models, combine)
    limits = [0.4, 0.7]
    found = search.fastest(limits)
    spent = [[m.required(d, most).milliseconds for m, most in zip(models, limits, strict=True)] for d in DESIGNS]
    expected = min(sum(each) if combine is Combine.SUM else max(each) for each in spent)
    assert expected <= found.milliseconds <= expected * 1.006
    assert search.solved < 2 * len(DESIGNS)


@given(st.integers(0, 10_000), st.floats(0, 1), st.sampled_from(DESIGNS))
@settings(max_examples=25, deadline=None)
def test_the_nearest_widths_within_a_time_are_those_of_trying_everything(
    seed: int, place: float, design: Design
) -> None:
    model = drawn_model(seed)
    fastest, slowest = (model.required(design, model.range()[end]).milliseconds for end in (1, 0))
    limit = fastest + place * (slowest - fastest)
    found = model.nearest(design, limit)
    assert found.milliseconds <= limit * (1 + 1e-6)
    assert model.milliseconds(design, found.weights, found.tensors) == pytest.approx(found.milliseconds)
    assert everything(model, design, found.divergence - 1e-9) > limit * (1 - 1e-6)
    assert model.nearest(design, 0.0).milliseconds == pytest.approx(fastest)


def test_models_that_are_not_the_slowest_take_the_widths_that_they_have_time_for() -> None:
    slow, fast = drawn_model(3, layers=8), drawn_model(4, layers=2)
    search = search_of([slow, fast], Combine.MAXIMUM)
    found = search.point(1.0)
    assert found.choices[0].milliseconds == pytest.approx(found.milliseconds)
    assert found.choices[1] == fast.nearest(found.design, found.milliseconds)
    assert found.choices[1].divergence < fast.required(found.design, fast.range()[1]).divergence


def test_a_model_that_loses_too_much_keeps_no_other_from_narrow_widths() -> None:
    """The first model loses whatever is narrow, the second nothing."""
    search = search_of([drawn_model(3), drawn_model(4)])
    search.score = lambda number, choice: Score(1e3 * choice.divergence * (number == 0), choice.divergence)
    found = search.run(Goal(drop=100.0)).point
    first, second = found.choices
    fastest, wide = (search.models[1].required(found.design, search.models[1].range()[end]) for end in (1, 0))
    assert first.divergence <= 0.1 and wide.milliseconds > 1.1 * fastest.milliseconds
    assert second.milliseconds <= 1.05 * fastest.milliseconds


def test_the_fastest_within_the_accuracy_is_simulated_and_its_gap_known() -> None:
    search = search_of([drawn_model(5)])
    found = search.run(Goal(drop=40.0))
    assert found.point.drop <= 40.0 and found.point.gap == pytest.approx(0.1)
    assert found.point.simulated is not None and SPACE.holds(found.point.design)
    allowed = [p for p in search.points if p.drop <= 40.0 and p.simulated is None]
    assert found.point.milliseconds <= min(p.milliseconds for p in allowed) * 1.006
    assert found.full_evaluations <= 16
    times = [point.time for point in found.front]
    assert times == sorted(times) and len(found.front) > 1 and found.point in found.front


@pytest.mark.parametrize("seed", range(5, 9))
def test_no_neighbour_of_the_design_is_faster_as_a_whole_program(seed: int) -> None:
    """Whole programs take up to a fifth longer than the cost functions say, each design by a share of its own."""
    arrays = tuple(Array(rows, 8) for rows in (4, 6, 8, 10, 12, 14))
    search = search_of([drawn_model(seed)])
    search.space = replace(SPACE, arrays_d=arrays, arrays_l=arrays)
    exact = search.time

    def time(design: Design, choices: Sequence[Choice]) -> list[float]:
        sides = design.geometry.gemm_d_rows, design.geometry.gemm_l_rows
        share = np.random.default_rng([seed, *sides]).uniform(1, 1.2)
        return [share * spent for spent in exact(design, choices)]

    search.time = time
    found = search.run(Goal(drop=40.0)).point
    near = list(search.space.neighbours(found.design))
    assert len(near) > 1 and all(search.space.holds(design) for design in near)
    assert found.time <= min(time(design, found.choices)[0] for design in near)


def test_widths_of_the_caller_are_taken_where_their_program_is_faster() -> None:
    """Programs with the caller's widths are much faster than the cost functions say."""
    search = search_of([drawn_model(5)])
    (model,) = search.models
    given = Choice({layer.name: 4 for layer in model.layers}, {tensor.name: 4 for tensor in model.tensors}, 0.0, 0.0)
    exact, asked = search.time, list[int]()

    def time(design: Design, choices: Sequence[Choice]) -> list[float]:
        return [spent / 9 if choices[0].weights == given.weights else spent for spent in exact(design, choices)]

    def time_programs(programs: Sequence[tuple[Design, Sequence[Choice]]]) -> list[list[float]]:
        asked.append(len(programs))
        return [time(*program) for program in programs]

    search.time, search.time_programs, search.widths = time, time_programs, [(given,)]
    found = search.run(Goal(drop=40.0)).point
    assert found.choices == (given,) and found.simulated == pytest.approx(time(found.design, found.choices)[0])
    assert set(asked) <= {1, 2} and sum(asked) <= 34
    assert search_of([drawn_model(5)]).run(Goal(drop=40.0)).point.choices != (given,)


def test_the_default_design_is_timed_only_where_the_board_holds_it() -> None:
    """On a smaller board the programs on the default design would still be the fastest."""
    search, asked = search_of([drawn_model(5)]), set[Design]()
    search.widths = [(search.models[0].uniform(SPACE.base, 4),)]
    exact = search.time

    def time(design: Design, choices: Sequence[Choice]) -> list[float]:
        asked.add(design)
        return [spent / 9 if design == SPACE.base else spent for spent in exact(design, choices)]

    search.time = time
    assert search.run(Goal(drop=1e9)).point.design == SPACE.base
    tight = replace(SPACE, board=replace(SPACE.board, resources={**SPACE.board.resources, "dsp": 190}))
    assert not tight.holds(SPACE.base)
    other = search_of(search.models)
    other.space, other.time, other.widths = tight, time, search.widths
    asked.clear()
    assert tight.holds(other.run(Goal(drop=1e9)).point.design)
    assert asked and all(tight.holds(design) for design in asked)


@pytest.mark.parametrize("bits", [4, 5, 8])
def test_uniform_widths_have_the_divergence_and_the_time_that_the_knapsack_counts(bits: int) -> None:
    model, design = drawn_model(5), DESIGNS[0]
    found = model.uniform(design, bits)
    expected = 8 if bits == 8 else 4
    assert {*found.weights.values(), *found.tensors.values()} == {expected}
    place = BITS.index(expected)
    summed = sum(layer.divergence[place] for layer in model.layers)
    summed += sum(tensor.divergence[TENSOR_BITS.index(expected)] for tensor in model.tensors)
    assert found.divergence == pytest.approx(summed) and (found.divergence > 0 or bits == 8)
    assert model.required(design, found.divergence + 1e-9).milliseconds <= found.milliseconds
    assert set(model.uniform(design, 3).tensors.values()) == {4}


def scratchpads() -> tuple[Scratchpad, ...]:
    """All that the smallest design of the space holds."""
    return tuple(scratchpads_of(SPACE.base))


def test_another_scratchpad_is_taken_where_the_program_is_faster() -> None:
    """A little with each doubling of its depth, of which the cost functions say nothing."""
    search = search_of([drawn_model(5)])
    search.space = replace(SPACE, scratchpads=scratchpads())
    exact = search.time

    def time(design: Design, choices: Sequence[Choice]) -> list[float]:
        return [spent / design.geometry.feature_words**0.05 for spent in exact(design, choices)]

    search.time = time
    chosen = search.run(Goal(drop=40.0)).point.design
    others = [chosen, *search.space.with_other_scratchpads(chosen)]
    assert chosen.geometry.feature_words == max(each.geometry.feature_words for each in others)
    assert chosen.geometry.feature_words > SPACE.base.geometry.feature_words and search.space.holds(chosen)


def test_scratchpads_that_the_cost_functions_call_faster_are_on_the_design_that_is_found() -> None:
    """A model that waits for AGG, which takes half the time with words of four groups."""
    (model,), wide = [drawn_model(5)], Scratchpad(4, SPACE.base.geometry.feature_words)

    def slowed(factor: float) -> ModelOptions:
        layers = [
            replace(layer, works=tuple(replace(each, others=(factor, factor)) for each in layer.works))
            for layer in model.layers
        ]
        return replace(model, layers=tuple(layers))

    search = search_of([replace(slowed(10.0), with_scratchpad={wide: slowed(5.0)})])
    search.space = replace(SPACE, scratchpads=tuple(sorted({Scratchpad.of(SPACE.base), wide})))
    assert len(search.designs) > len(DESIGNS) and {Scratchpad.of(d) for d in search.designs} == {
        *search.space.scratchpads
    }
    found = search.run(Goal(drop=1e9))
    assert Scratchpad.of(found.point.design) == wide
    assert found.solved < len(search.designs)


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


@given(st.integers(0, 10_000))
@settings(max_examples=10, deadline=None)
def test_times_on_many_designs_are_those_on_each(seed: int) -> None:
    random = np.random.default_rng(seed)
    model, wide = drawn_model(seed), Scratchpad(4, 2048)
    other = replace(drawn_model(seed + 1), layers=drawn_model(seed).layers)
    model = replace(model, with_scratchpad={wide: other})
    designs = [*DESIGNS, *(wide.on(design) for design in DESIGNS)]
    choice = Choice(
        {layer.name: int(random.choice(BITS)) for layer in model.layers},
        {tensor.name: int(random.choice(TENSOR_BITS)) for tensor in model.tensors},
        0.0,
        0.0,
    )
    expected = [model.milliseconds(design, choice.weights, choice.tensors) for design in designs]
    np.testing.assert_allclose(Times.of(model, designs).of_choice(choice), expected)


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


def test_the_most_accurate_within_a_time_keeps_it_by_the_simulator_too() -> None:
    fast = search_of([drawn_model(6)]).run(Goal(drop=1e9)).point.time
    near = search_of([drawn_model(6)]).run(Goal(drop=0.0)).point.time
    limit = (fast + near) / 2
    found = search_of([drawn_model(6)]).run(Goal(milliseconds=limit))
    assert found.point.time <= limit
    loose = search_of([drawn_model(6)]).run(Goal(milliseconds=2 * near))
    assert loose.point.drop <= found.point.drop


def test_two_choices_of_widths_are_timed_within_a_time() -> None:
    """Halving the curve comes to the same widths again and again."""
    search = search_of([drawn_model(6)])
    fast, near = (search_of([drawn_model(6)]).run(Goal(drop=drop)).point.time for drop in (1e9, 0.0))
    search.run(Goal(milliseconds=(fast + near) / 2))
    timed = [point for point in search.points if point.simulated is not None]
    programs = [(point.design, repr(point.choices[0].weights), repr(point.choices[0].tensors)) for point in timed]
    assert len(programs) == len(set(programs)) and len({program[1:] for program in programs}) > 1


def test_what_cannot_be_reached_is_named() -> None:
    with pytest.raises(LimitUnreachableError) as caught:
        search_of([drawn_model(7)]).run(Goal(1e-6, 10.0))
    assert caught.value.found == "no design and widths reach at most 1e-06 ms (modelled) and at most 10 points lost"
    assert "ms (modelled) with" in caught.value.expected


@pytest.mark.parametrize("share", [0.02, 0.3, 0.7])
@pytest.mark.parametrize("seed", [5, 6, 7])
def test_every_time_between_two_that_were_reached_is_reached(seed: int, share: float) -> None:
    """Whole programs take a tenth longer than the cost functions say."""
    fastest = search_of([drawn_model(seed)]).run(Goal(None, 1e9)).point.time
    nearest = search_of([drawn_model(seed)]).run(Goal(1e9, None)).point.time
    limit = fastest + share * (nearest - fastest)
    assert search_of([drawn_model(seed)]).run(Goal(limit, None)).point.time <= limit


def test_what_can_be_reached_is_slower_than_what_cannot() -> None:
    fastest = search_of([drawn_model(7)]).run(Goal(None, 1e9)).point.time
    with pytest.raises(LimitUnreachableError) as caught:
        search_of([drawn_model(7)]).run(Goal(0.99 * fastest, None))
    reached = float(caught.value.expected.removeprefix("what can be reached: ").split()[0])
    assert reached == pytest.approx(fastest, rel=0.01)


def test_a_stopped_search_keeps_the_best_so_far() -> None:
    search = search_of([drawn_model(8)])

    score = search.score

    def stopping(number: int, choice: Choice) -> Score:
        if len(search.points) == 4:
            raise KeyboardInterrupt
        return score(number, choice)

    search.score = stopping
    with pytest.raises(KeyboardInterrupt):
        search.run(Goal(drop=1e9))
    best = search.best_so_far(Goal(drop=1e9))
    assert best is not None and best.time == min(p.time for p in search.points)
    assert search.best_so_far(Goal(milliseconds=1e-9)) is None


def test_a_little_more_never_makes_it_slower() -> None:
    search = search_of([drawn_model(9)])
    found = search.run(Goal(drop=30.0))
    bought = gains(search, found.point)
    assert {"divergence"} <= {gain.of for gain in bought}
    assert all(gain.milliseconds <= gain.before * 1.006 for gain in bought)


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


def sides_of(design: Design) -> tuple[int, ...]:
    geometry = design.geometry
    return geometry.gemm_d_rows, geometry.gemm_d_cols, geometry.gemm_l_rows, geometry.gemm_l_cols


@pytest.mark.parametrize("best", [min, max])
def test_memories_that_the_compiler_cuts_best_are_timed_first(best: Callable[..., int]) -> None:
    """Times do not depend on memories."""
    search, first = search_of([drawn_model(3)]), dict[tuple[int, ...], Design]()
    search.space = replace(SPACE, activations=(1, 2), results=(0.5, 1, 2))
    sign = 1 if best is min else -1
    search.plan = lambda designs, choices: [float(sign * each.geometry.out_words) for each in designs]
    exact = search.time

    def time(design: Design, choices: Sequence[Choice]) -> list[float]:
        first.setdefault(sides_of(design), design)
        return list(exact(design, choices))

    search.time = time
    search.run(Goal(drop=1e9))
    several = False
    for design in first.values():
        words = {each.geometry.out_words for each in search.space.largest_memories(design)}
        assert design.geometry.out_words == best(words)
        several |= len(words) > 1
    assert several


def test_memories_with_the_buffers_of_the_base_are_timed_near_the_best() -> None:
    """Programs are faster with them, of which neither the cost functions nor the compiler's cuts say anything."""
    search = search_of([drawn_model(3)])
    search.space = replace(SPACE, activations=(1, 2), results=(0.5, 1, 2))
    exact, base = search.time, SPACE.base.geometry

    def is_base(design: Design) -> bool:
        names = ("act_d_words", "act_l_words", "out_words")
        return all(getattr(design.geometry, name) == getattr(base, name) for name in names)

    def time(design: Design, choices: Sequence[Choice]) -> list[float]:
        return [spent * (0.95 if is_base(design) else 1.0) for spent in exact(design, choices)]

    search.time, search.plan = time, lambda designs, choices: [float(is_base(each)) for each in designs]
    found = search.run(Goal(drop=1e9)).point
    assert is_base(found.design) and not any(is_base(each) for each in search.memories(found)[:3])


def test_arrays_whose_layers_no_memory_holds_are_not_timed() -> None:
    search, asked = search_of([drawn_model(3)]), set[tuple[int, ...]]()
    unheld = sides_of(search.run(Goal(drop=1e9)).point.design)
    search = search_of([drawn_model(3)])
    search.plan = lambda designs, choices: [np.inf if sides_of(each) == unheld else 0.0 for each in designs]
    exact = search.time

    def time(design: Design, choices: Sequence[Choice]) -> list[float]:
        asked.add(sides_of(design))
        return list(exact(design, choices))

    search.time = time
    search.run(Goal(drop=1e9))
    assert asked and unheld not in asked


@pytest.mark.parametrize("goal", [Goal(drop=1e9), Goal(milliseconds=1e9)])
def test_programs_that_a_design_does_not_hold_are_no_answer(goal: Goal) -> None:
    search = search_of([drawn_model(3)])
    exact = search.time

    def time(design: Design, choices: Sequence[Choice]) -> list[float]:
        return [np.inf] if sides_of(design) in unheld else list(exact(design, choices))

    unheld = set[tuple[int, ...]]()
    unheld.add(sides_of(search.run(goal).point.design))
    search = search_of([drawn_model(3)])
    search.time = time
    found = search.run(goal)
    assert np.isfinite(found.point.time) and sides_of(found.point.design) not in unheld
    assert all(np.isfinite(point.time) for point in search.points)
    search.time, search.points = lambda design, choices: [np.inf], []
    with pytest.raises(LimitUnreachableError) as caught:
        search.run(goal)
    assert caught.value.found == "no design that was tried holds the models' programs"


def test_other_memories_are_tried_where_the_first_do_not_hold_a_program() -> None:
    """Of each pair of arrays, the memories that are tried first hold nothing."""
    search = search_of([drawn_model(3)])
    search.space = replace(SPACE, activations=(1, 2), results=(0.5, 1, 2))
    exact = search.time

    def first(design: Design) -> Design:
        return search.memories(Point(design, (), 0.0, ()))[0]

    def time(design: Design, choices: Sequence[Choice]) -> list[float]:
        return [np.inf] if design == first(design) else list(exact(design, choices))

    search.time = time
    found = search.run(Goal(drop=1e9)).point
    assert np.isfinite(found.time) and found.design in search.memories(found)[1:]


def test_a_stopped_search_gives_a_design_with_memories_that_fit() -> None:
    search = search_of([drawn_model(3)])
    assert search.best_so_far(Goal(drop=1e9)) is None
    search.point(1.0)
    found = search.best_so_far(Goal(drop=1e9))
    assert found is not None and found.design in search.space.largest_memories(found.design)
    assert found.design != search.space.smallest(found.design)


def test_no_program_that_was_timed_before_is_faster() -> None:
    search = search_of([drawn_model(5)])
    search.run(Goal(drop=20.0))
    known = replace(search.points[-1], simulated=1e-3)
    search.points.append(known)
    assert search.run(Goal(drop=1e9)).point == known


def test_slower_widths_are_tried_beside_the_fastest() -> None:
    search = search_of([drawn_model(5, layers=12, tensors=4)])
    curve = sorted({search.point(place).milliseconds for place in np.linspace(0.0, 1.0, 24)})
    found = [point.milliseconds for point in search._allowed_widths(Goal(drop=1e9))]
    assert found[:3] == curve[:3] and len(found) == 5 and curve[3] < found[3] < found[4] == curve[-1]


def test_a_tensor_is_widened_where_its_program_is_faster_and_scored_only_then() -> None:
    """Programs take twice as long for each narrow tensor, of which the cost functions say nothing."""
    search, scored = search_of([drawn_model(5)]), list[str]()
    exact, score = search.time, search.score

    def time(design: Design, choices: Sequence[Choice]) -> list[float]:
        narrow = sum(bits == 4 for bits in choices[0].tensors.values())
        return [spent * 2**narrow for spent in exact(design, choices)]

    def noted(number: int, choice: Choice) -> Score:
        scored.append(repr(sorted(choice.tensors.items())))
        return score(number, choice)

    search.time, search.score = time, noted
    found = search.run(Goal(drop=1e9)).point
    assert set(found.choices[0].tensors.values()) == {8}
    assert found.simulated == pytest.approx(time(found.design, found.choices)[0])
    assert repr(sorted(found.choices[0].tensors.items())) in scored


def test_a_tensor_stays_narrow_where_widening_it_loses_too_much() -> None:
    search = search_of([drawn_model(6)])
    exact, score = search.time, search.score

    def time(design: Design, choices: Sequence[Choice]) -> list[float]:
        return [spent / (9 if set(choices[0].tensors.values()) == {8} else 1) for spent in exact(design, choices)]

    def refused(number: int, choice: Choice) -> Score:
        return Score(1e9, 1e9) if set(choice.tensors.values()) == {8} else score(number, choice)

    search.time, search.score = time, refused
    found = search.run(Goal(drop=1e6)).point
    assert set(found.choices[0].tensors.values()) != {8} and found.drop <= 1e6


def test_of_equally_fast_widths_those_of_the_least_divergence_are_taken() -> None:
    """Where AGG takes longer than any width on the matrix engines, all widths take as long."""
    (model,) = [drawn_model(7)]
    layers = tuple(
        replace(each, works=tuple(replace(work, others=(9.0, 9.0), factors=(1.0, 1.0)) for work in each.works))
        for each in model.layers
    )
    slow = replace(model, layers=layers)
    found = slow.required(DESIGNS[0], slow.range()[1])
    assert found.divergence == pytest.approx(slow.range()[0])
    assert found.milliseconds == pytest.approx(9.0 * len(layers) + slow.fixed)


def test_programs_end_where_none_gains_any_more() -> None:
    """All designs take as long; without an end there would be a program for each of the steps' programs."""
    search, asked = search_of([drawn_model(5)]), list[Design]()

    def time(design: Design, choices: Sequence[Choice]) -> list[float]:
        asked.append(design)
        return [1.0]

    search.time = time
    found = search.run(Goal(drop=1e9)).point
    assert found.simulated == 1.0 and len(asked) <= 6 + 6 + 6 + 6


def test_no_estimate_of_the_front_beats_the_choice() -> None:
    """The program is slower than thought on the arrays that are the fastest by the cost functions."""
    search = search_of([drawn_model(5)])
    exact, fastest = search.time, sides_of(search.run(Goal(drop=1e9)).point.design)

    def time(design: Design, choices: Sequence[Choice]) -> list[float]:
        return [spent * (4 if sides_of(design) == fastest else 1) for spent in exact(design, choices)]

    search = search_of([drawn_model(5)])
    search.time = time
    found = search.run(Goal(drop=1e9))
    assert sides_of(found.point.design) != fastest and len(found.front) > 1
    assert not any(p.time < found.point.time and p.drop <= found.point.drop for p in found.front)


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


@given(st.integers(1, 300), st.integers(1, 500), st.integers(1, 200), st.sampled_from(DESIGNS), st.integers(0, 1 << 26))
@settings(max_examples=60, deadline=None)
def test_work_is_positive_and_never_faster_with_more_bits(
    rows: int, inputs: int, channels: int, design: Design, reach: int
) -> None:
    asked = work(rows, inputs, channels, reach=reach)
    for packed, most in ((False, 8), (True, 4)):
        cycles = [asked.cycles(design.geometry, bits, packed) for bits in range(1, most + 1)]
        assert cycles == sorted(cycles) and cycles[0] > 0 and np.isfinite(cycles[-1])
    assert asked.cycles(design.geometry, 4, True) <= asked.cycles(design.geometry, 4, False)
