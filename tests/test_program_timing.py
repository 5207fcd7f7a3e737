# SPDX-License-Identifier: Apache-2.0
"""Which whole programs a search times, and what it does where they take longer than the cost functions say."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest

from hetfab.overlay.design import Design
from hetfab.overlay.errors import LimitUnreachableError
from hetfab.overlay.search.hardware import Array, Scratchpad
from hetfab.overlay.search.options import Choice, ModelOptions
from hetfab.overlay.search.points import Goal, Point, Score, widths_key
from hetfab.overlay.search.program_timing import ProgramTiming
from tests.search_cases import DESIGNS, SPACE, drawn_model, scratchpads, search_of, sides_of


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


@pytest.mark.parametrize("is_known", [False, True])
def test_programs_that_are_known_say_where_others_are_fast(is_known: bool) -> None:
    """Programs on the base take half of what the cost functions say, and one is known that no goal asks for."""
    search, asked = search_of([drawn_model(5)]), list[Design]()
    exact = search.time

    def time(design: Design, choices: Sequence[Choice]) -> list[float]:
        asked.append(design)
        return [spent / (2 if design == SPACE.base else 1) for spent in exact(design, choices)]

    search.time = time
    choices = (search.models[0].uniform(SPACE.base, 8),)
    search.known = [((SPACE.base, choices), exact(SPACE.base, choices)[0] / 2)] if is_known else []
    found = search.run(Goal(drop=1e9)).point
    assert (asked[0] == SPACE.base) == is_known
    assert found.design == SPACE.base or not is_known


@pytest.mark.parametrize("slower", [0.99, 3.0])
def test_the_callers_widths_are_timed_on_the_default_design_unless_they_are_known_to_be_slower(slower: float) -> None:
    """What is known may be of weights that were rounded in another way."""
    search, asked = search_of([drawn_model(5)]), set[Design]()
    given = (search.models[0].uniform(SPACE.base, 4),)
    fastest = search_of([drawn_model(5)]).run(Goal(drop=1e9)).point.time
    exact = search.time

    def time(design: Design, choices: Sequence[Choice]) -> list[float]:
        if widths_key(choices) == widths_key(given):
            asked.add(design)
        return [fastest] if design == SPACE.base else [max(fastest, *exact(design, choices))]

    search.time, search.widths = time, [given]
    search.known = [((SPACE.base, given), slower * fastest)]
    search.space = replace(SPACE, arrays_d=(Array(8, 8),), arrays_l=(Array(8, 8),))
    search.run(Goal(drop=1e9))
    assert (SPACE.base in asked) == (slower < 1)


def test_the_default_design_is_left_where_no_memory_holds_a_layer() -> None:
    """On arrays of the space no memory does, on the default design one does."""
    search = search_of([drawn_model(3)])
    search.plan = lambda designs, choices: [np.inf] * len(designs)
    exact = search.time
    search.time = lambda design, choices: list(exact(design, choices)) if design == SPACE.base else [np.inf]
    assert search.run(Goal(drop=1e9)).point.design == SPACE.base
    search.space = replace(SPACE, board=replace(SPACE.board, resources={**SPACE.board.resources, "dsp": 190}))
    with pytest.raises(LimitUnreachableError) as caught:
        search.run(Goal(drop=1e9))
    assert caught.value.found == "no design that was tried holds the models' programs"


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


def test_two_choices_of_widths_are_timed_within_a_time() -> None:
    """Halving the curve comes to the same widths again and again."""
    search = search_of([drawn_model(6)])
    fast, near = (search_of([drawn_model(6)]).run(Goal(drop=drop)).point.time for drop in (1e9, 0.0))
    search.run(Goal(milliseconds=(fast + near) / 2))
    timed = [point for point in search.points if point.simulated is not None]
    programs = [(point.design, repr(point.choices[0].weights), repr(point.choices[0].tensors)) for point in timed]
    assert len(programs) == len(set(programs)) and len({program[1:] for program in programs}) > 1


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


def test_widths_that_are_far_from_the_best_are_not_timed() -> None:
    search = search_of([drawn_model(3)])
    point, other = search.point(1.0), search.point(0.0).choices
    for factor, asked in ((1.5, 1), (2.5, 0)):
        timing = ProgramTiming(search)
        timing.time(timing.first([point]))
        far = factor * timing.best.time
        assert other != point.choices
        assert len(timing.first([replace(point, milliseconds=far, choices=other)])) == asked


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


def test_designs_near_the_best_are_tried_again_with_its_wider_tensors(monkeypatch: pytest.MonkeyPatch) -> None:
    """Programs take a third longer for each narrow tensor, of which the cost functions say nothing."""
    search, tried = search_of([drawn_model(7)]), list[int]()
    exact, near = search.time, search._near

    def narrow(choices: Sequence[Choice]) -> int:
        return sum(bits == 4 for bits in choices[0].tensors.values())

    def time(design: Design, choices: Sequence[Choice]) -> list[float]:
        return [spent * 1.3 ** narrow(choices) for spent in exact(design, choices)]

    def noted(best: Point, allowed: Sequence[Point]) -> list[Point]:
        tried.append(narrow(best.choices))
        return near(best, allowed)

    search.time = time
    monkeypatch.setattr(search, "_near", noted)
    assert narrow(search.run(Goal(drop=1e9)).point.choices) == 0
    assert tried[0] == 1 and tried[-1] == 0


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


def test_programs_end_where_none_gains_any_more() -> None:
    """All designs take as long; without an end there would be a program for each of the steps' programs."""
    search, asked = search_of([drawn_model(5)]), list[Design]()

    def time(design: Design, choices: Sequence[Choice]) -> list[float]:
        asked.append(design)
        return [1.0]

    search.time = time
    found = search.run(Goal(drop=1e9)).point
    assert found.simulated == 1.0 and len(asked) <= 6 + 6 + 6 + 6
