# SPDX-License-Identifier: Apache-2.0
"""The multiple-choice knapsack: equal to trying everything, ties, the K best, sweeps, a published instance."""

import itertools
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hetfab.overlay.errors import LimitUnreachableError, SearchInvalidError
from hetfab.overlay.search.knapsack import Group, Problem, Solution, Tie, best, least, solution_of


def everything(problem: Problem) -> list[Solution]:
    """All choices that keep limits and ties, by rising cost."""
    found = []
    for options in itertools.product(*(range(len(group.cost)) for group in problem.groups)):
        tied = all(len({labels[options[g]] for g, labels in tie.labels.items()}) == 1 for tie in problem.ties)
        solution = solution_of(problem, options)
        if tied and all(solution.totals[name] <= limit for name, limit in problem.limits.items()):
            found.append(solution)
    return sorted(found, key=lambda solution: solution.cost)


@st.composite
def problems(draw: st.DrawFn) -> Problem:
    """Up to five groups of up to four options, two quantities, limits from tight to loose, ties between some groups.

    Whole numbers: no total is within rounding of a limit that it exceeds.
    """
    sizes = draw(st.lists(st.integers(1, 4), min_size=1, max_size=5))
    unit = draw(st.sampled_from([1.0, 2.0**-20, 2.0**20]))

    def numbers(size: int) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        return np.array(draw(st.lists(st.integers(0, 50), min_size=size, max_size=size)), np.float64) * unit

    groups = tuple(Group(f"g{i}", numbers(s), {"time": numbers(s), "bytes": numbers(s)}) for i, s in enumerate(sizes))
    limits = {}
    for name in ("time", "bytes"):
        lowest = sum(group.weights[name].min() for group in groups)
        highest = sum(group.weights[name].max() for group in groups)
        limits[name] = float(lowest + np.floor((highest - lowest) / unit * draw(st.floats(0, 1))) * unit)
    tied = draw(st.lists(st.integers(0, len(sizes) - 1), unique=True, max_size=3))
    labels = {g: draw(st.lists(st.integers(0, 1), min_size=sizes[g], max_size=sizes[g])) for g in tied}
    return Problem(groups, limits, (Tie(labels),) if len(labels) > 1 else ())


@given(problems(), st.integers(1, 6))
@settings(max_examples=60, deadline=None)
def test_the_best_are_those_of_trying_everything(problem: Problem, count: int) -> None:
    expected, found = everything(problem)[:count], best(problem, count)
    assert [solution.cost for solution in found] == [solution.cost for solution in expected]
    assert len({solution.options for solution in found}) == len(found)
    for solution in found:
        assert solution == solution_of(problem, solution.options)
        assert all(solution.totals[name] <= limit for name, limit in problem.limits.items())
        assert all(len({labels[solution.options[g]] for g, labels in t.labels.items()}) == 1 for t in problem.ties)


@given(problems())
@settings(max_examples=30, deadline=None)
def test_the_least_sum_is_that_of_trying_everything(problem: Problem) -> None:
    others = Problem(problem.groups, {"bytes": problem.limits["bytes"]}, problem.ties)
    reachable = [solution.totals["time"] for solution in everything(others)]
    if reachable:
        assert least(problem, "time").totals["time"] == min(reachable)
    else:
        with pytest.raises(LimitUnreachableError):
            least(problem, "time")


def small() -> Problem:
    cost = np.array([9.0, 3.0, 1.0])
    groups = tuple(Group(name, cost, {"ms": np.array([1.0, 2.0, 4.0])}) for name in "ab")
    return Problem(groups)


def test_what_cannot_be_reached_is_an_empty_list_and_the_least_is_named() -> None:
    assert best(small().limited("ms", 1.5), 3) == []
    assert least(small().limited("ms", 1.5), "ms") == solution_of(small(), (0, 0))
    problem = small().limited("ms", 1.5)
    doubled = [Group(g.name, g.cost, {**g.weights, "kB": 3 * g.weights["ms"]}) for g in problem.groups]
    with pytest.raises(LimitUnreachableError) as error:
        least(Problem(tuple(doubled), {"ms": 1.5, "kB": 6.0}), "kB")
    assert str(error.value) == (
        "no choice keeps the limits ms 1.5\n"
        "  expected: limits that hold together; each alone can be as low as ms 2\n"
        "  do: raise one of the limits"
    )


def test_a_group_without_options_or_with_numbers_missing_is_refused() -> None:
    with pytest.raises(SearchInvalidError, match="'a' has 0 options"):
        Problem((Group("a", np.empty(0)),))
    with pytest.raises(SearchInvalidError, match="finite ms"):
        Problem((Group("a", np.ones(2)),), {"ms": 1.0})
    with pytest.raises(SearchInvalidError):
        Problem((Group("a", np.array([1.0, np.nan])),))


def test_costs_of_very_different_size_are_told_apart() -> None:
    """Divergences of layers lie orders of magnitude apart; the smallest still decides between its options."""
    groups = (Group("large", np.array([0.0, 1.0])), Group("small", np.array([2e-7, 1e-7, 3e-7])))
    assert [solution.options for solution in best(Problem(groups), 4)] == [(0, 1), (0, 0), (0, 2), (1, 1)]


def test_all_solutions_can_be_asked_for() -> None:
    assert len(best(small(), 100)) == 9


# HAWQ-V3, ResNet-18: the notebook ILP.ipynb of github.com/Zhen-Dong/HAWQ. The three layers of shortcuts have the
# width of the layer beside them.

_TRACE = [
    *(0.06857826, 0.03162379, 0.03298575, 0.01205663, 0.02222431, 0.00596336, 0.06931772, 0.00807129, 0.00372905),
    *(0.00530698, 0.00209011, 0.00737569, 0.00210454, 0.00151197, 0.00158041, 0.00078146, 0.00451841, 0.00098745),
    0.00072944,
]
_ERROR_8 = [
    *(0.0235, 0.0125, 0.0102, 0.0082, 0.0145, 0.0344, 0.0023, 0.0287, 0.0148, 0.0333, 0.0682, 0.0027, 0.0448),
    *(0.0336, 0.0576, 0.1130, 0.0102, 0.0947, 0.0532),
]
_ERROR_4 = [
    *(6.7430, 3.9691, 3.3281, 2.6796, 4.7277, 10.5966, 0.6827, 9.0942, 4.8857, 10.7599, 21.7546, 0.8603, 14.5324),
    *(10.9651, 18.7706, 36.4044, 3.1572, 29.6994, 17.4016),
]
_MS_4 = [
    *(0.21094404, 0.21092674, 0.21104113, 0.21086851, 0.13642465, 0.19167506, 0.02532183, 0.19148203, 0.19142914),
    *(0.11395316, 0.20556011, 0.01917474, 0.20566918, 0.20566509, 0.13185102, 0.22287786, 0.01790088, 0.22304611),
    0.22286099,
]
_MS_8 = [
    *(0.36189111, 0.36211718, 0.31141909, 0.30454471, 0.19184896, 0.38948934, 0.0334169, 0.38904905, 0.3892859),
    *(0.19134735, 0.34307431, 0.02802354, 0.34313329, 0.34310756, 0.21117103, 0.37376585, 0.02896843, 0.37398187),
    0.37405185,
]
_WEIGHTS = [36864] * 4 + [73728, 147456, 8192, 147456, 147456, 294912, 589824, 32768, 589824, 589824]
_WEIGHTS += [1179648, 2359296, 131072, 2359296, 2359296]
_TIED = ((4, 6), (9, 11), (14, 16))


def resnet18() -> Problem:
    sensitivity = zip(_TRACE, _ERROR_4, _ERROR_8, strict=True)
    groups = [
        Group(
            f"layer {index}",
            np.array([trace * error_4, trace * error_8]),
            {"ms": np.array([_MS_4[index], _MS_8[index]]), "MB": np.array([0.5, 1.0]) * _WEIGHTS[index] / 2**20},
        )
        for index, (trace, error_4, error_8) in enumerate(sensitivity)
    ]
    return Problem(tuple(groups), ties=tuple(Tie({a: (4, 8), b: (4, 8)}) for a, b in _TIED))


@pytest.mark.parametrize("share", [0.25, 0.5, 0.75])
@pytest.mark.parametrize("quantity", ["ms", "MB"])
def test_the_published_resnet_18_is_solved_as_trying_everything_does(quantity: str, share: float) -> None:
    """All 2^16 choices that keep the ties."""
    problem = resnet18()
    tables = [(group.cost, group.weights[quantity]) for group in problem.groups]
    limit = sum(w[0] for _, w in tables) + share * sum(w[1] - w[0] for _, w in tables)
    pairs = dict(_TIED)
    free = [index for index in range(19) if index not in pairs.values()]
    costs, totals = np.zeros(1), np.zeros(1)
    for index in free:
        members = [index, *([pairs[index]] if index in pairs else [])]
        costs = np.add.outer(costs, sum(tables[member][0] for member in members)).ravel()
        totals = np.add.outer(totals, sum(tables[member][1] for member in members)).ravel()
    expected = np.sort(costs[totals <= limit])[:20]
    found = best(problem.limited(quantity, limit), 20)
    np.testing.assert_allclose([solution.cost for solution in found], expected, rtol=1e-9)
    assert all(solution.options[a] == solution.options[b] for solution in found for a, b in _TIED)


def test_the_published_assignment_at_a_quarter_of_the_latency_comes_out() -> None:
    problem = resnet18()
    limit = sum(_MS_4) + 0.25 * (sum(_MS_8) - sum(_MS_4))
    (found,) = best(problem.limited("ms", limit))
    assert [(4, 8)[option] for option in found.options[:8]] == [8, 8, 8, 4, 8, 4, 8, 4]


def test_150_layers_of_many_options_are_solved_with_ties() -> None:
    """The largest problem that is planned for: widths of activations and of both cores' weights, shares of channels."""
    random = np.random.default_rng(0)
    activations = np.repeat([4, 8], 32)
    groups, ties = [], []
    for index in range(150):
        time = random.random(64) * activations
        groups.append(Group(str(index), random.random(64) * (20 - activations), {"ms": time}))
        if index % 3 == 2:
            ties.append(Tie({index: activations.tolist(), index - 1: activations.tolist()}))
    problem = Problem(tuple(groups), ties=tuple(ties))
    limit = 1.3 * least(problem, "ms").totals["ms"]
    (found,) = best(problem.limited("ms", limit))
    assert found.totals["ms"] <= limit
    relaxed = best(problem.limited("ms", 1.05 * limit))[0]
    assert relaxed.cost < found.cost


def test_lines_that_the_solver_prints_stay_off_stdout() -> None:
    """The solver's lines come from compiled code, which has a buffer of its own on a pipe."""
    script = (
        "import ctypes, os, numpy as np, scipy.optimize\n"
        "from hetfab.overlay.search.knapsack import Group, Problem, best\n"
        "solve = scipy.optimize.milp\n"
        "def noisy(*args, **options):\n"
        "    ctypes.CDLL(None).puts(b'HighsMipSolverData::transformNewIntegerFeasibleSolution')\n"
        "    os.write(1, b'unbuffered')\n"
        "    return solve(*args, **options)\n"
        "scipy.optimize.milp = noisy\n"
        "print('before', end='')\n"
        "best(Problem((Group('a', np.array([1.0, 0.0])),)))\n"
        "print(', after')\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "before, after\n"
