# SPDX-License-Identifier: Apache-2.0
"""Search of a design with widths: equal to trying everything, bounds that hold, goals that are kept or named."""

import itertools
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from hetfab.overlay.design import Design
from hetfab.overlay.errors import LimitUnreachableError
from hetfab.overlay.search.gains import gains
from hetfab.overlay.search.hardware import Scratchpad
from hetfab.overlay.search.options import Choice, ModelOptions, Times
from hetfab.overlay.search.points import Combine, Goal, Score, widths_key
from tests.search_cases import (
    BITS,
    DESIGNS,
    SPACE,
    TENSOR_BITS,
    drawn_model,
    search_of,
    sides_of,
    work,
)


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
@example(2384, 0.75, DESIGNS[0])  # There is time for a tensor in bytes that is packed all the same.
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


def test_the_most_accurate_within_a_time_keeps_it_by_the_simulator_too() -> None:
    fast = search_of([drawn_model(6)]).run(Goal(drop=1e9)).point.time
    near = search_of([drawn_model(6)]).run(Goal(drop=0.0)).point.time
    limit = (fast + near) / 2
    found = search_of([drawn_model(6)]).run(Goal(milliseconds=limit))
    assert found.point.time <= limit
    loose = search_of([drawn_model(6)]).run(Goal(milliseconds=2 * near))
    assert loose.point.drop <= found.point.drop


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


def test_widths_that_are_scored_together_give_the_same_answer_and_come_once() -> None:
    models = [drawn_model(seed) for seed in (1, 2)]
    one, together = search_of(models), search_of(models)
    asked: list[list[tuple[int, str]]] = []

    def score_several(several: Sequence[tuple[int, Choice]]) -> list[Score]:
        asked.append([(number, widths_key([choice])) for number, choice in several])
        return [one.score(number, choice) for number, choice in several]

    together.score_several = score_several
    goal = Goal(drop=30.0)
    expected, found = one.run(goal), together.run(goal)
    assert found.point == expected.point and found.full_evaluations == expected.full_evaluations
    every = [key for several in asked for key in several]
    assert len(set(every)) == len(every) and max(map(len, asked)) > 1


def test_widths_are_told_before_programs_with_them_are_planned() -> None:
    search = search_of([drawn_model(seed) for seed in (1, 2)])
    expected = search.run(Goal(drop=30.0))
    told, planned = list[str](), list[tuple[str, int]]()
    search = search_of([drawn_model(seed) for seed in (1, 2)])

    def plan(designs: Sequence[Design], choices: Sequence[Choice]) -> list[float]:
        planned.append((widths_key(choices), len(told)))
        return [0.0] * len(designs)

    search.plan = plan
    search.plan_ahead = lambda several: told.extend(widths_key(choices) for choices in several)
    assert search.run(Goal(drop=30.0)).point == expected.point
    assert planned and all(count == len(told) for _, count in planned)
    assert {key for key, _ in planned} & set(told)


def test_a_little_more_never_makes_it_slower() -> None:
    search = search_of([drawn_model(9)])
    found = search.run(Goal(drop=30.0))
    bought = gains(search, found.point)
    assert {"divergence"} <= {gain.of for gain in bought}
    assert all(gain.milliseconds <= gain.before * 1.006 for gain in bought)


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


@given(st.integers(1, 300), st.integers(1, 500), st.integers(1, 200), st.integers(1, 8), st.integers(0, 1 << 26))
@settings(max_examples=40, deadline=None)
def test_cycles_on_several_designs_are_those_on_each(
    rows: int, inputs: int, channels: int, bits: int, reach: int
) -> None:
    """Also where words of the vector engines, and so the ways to split channels, differ."""
    asked = work(rows, inputs, channels, reach=reach)
    geometries = [replace(design.geometry, bus_bits=bus) for design in DESIGNS for bus in (64, 128)]
    for read in (None, (64.0 * rows, 32.0 * rows)):
        each = replace(asked, read_bytes=read)
        for packed in (False, True):
            together = each.cycles_on(geometries, bits, packed)
            assert list(together) == [each.cycles(geometry, bits, packed) for geometry in geometries]
