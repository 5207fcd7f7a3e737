# SPDX-License-Identifier: Apache-2.0
"""Multiple-choice knapsack: one option of each group, least cost, several linear limits, exact, the K best in order.

The integer program is that of HAWQ-V3 (Yao et al., ICML 2021, arXiv 2011.10680) and of Chen et al. (ICCV 2021, arXiv
2110.06554), solved by HiGHS through ``scipy.optimize.milp``. The second best is the best that is not the first: a cut
forbids each solution that was found (Balas and Jeroslow, SIAM J. Appl. Math. 23, 1972).
"""

import ctypes
import itertools
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import scipy.optimize
import scipy.sparse

from hetfab.overlay.errors import LimitUnreachableError, SearchInvalidError

Vector: TypeAlias = npt.NDArray[np.float64]

#: The solver stops at an absolute gap of 1e-6, so costs are brought to this range.
_COST_RANGE = 1e3
#: Totals are compared with limits up to this share of the limit, which is what float sums of exact tables may lose.
_ROUNDING = 1e-9
#: ``scipy.optimize.milp``: solved; no solution exists.
_SOLVED, _INFEASIBLE = 0, 2


@dataclass(frozen=True, eq=False)
class Group:
    """Options of which one is chosen.

    Attributes:
        name: What is chosen, for reports.
        cost: Of each option, [options]; less is better.
        weights: Of each option for each quantity that may be limited, [options] each.
    """

    name: str
    cost: Vector
    weights: Mapping[str, Vector] = field(default_factory=dict)


@dataclass(frozen=True)
class Tie:
    """Groups whose chosen options must have one label, such as the width of a tensor that several layers read.

    Attributes:
        labels: By group's index, a label for each of its options.
    """

    labels: Mapping[int, Sequence[int]]


@dataclass(frozen=True, eq=False)
class Problem:
    """A multiple-choice knapsack; every group has the same quantities.

    Attributes:
        groups: What is chosen from.
        limits: Largest sum of quantities; a quantity without a limit is only reported.
        ties: Between options of different groups.

    Raises:
        SearchInvalidError: A group has no option, misses a quantity, or has one that is not finite.
    """

    groups: tuple[Group, ...]
    limits: Mapping[str, float] = field(default_factory=dict)
    ties: tuple[Tie, ...] = ()

    def __post_init__(self) -> None:
        for group in self.groups:
            vectors = [group.cost, *(group.weights.get(name, np.empty(0)) for name in self.limits)]
            if not len(group.cost) or any(len(v) != len(group.cost) or not np.isfinite(v).all() for v in vectors):
                raise SearchInvalidError(
                    f"'{group.name}' has {len(group.cost)} options, whose costs and quantities are not all given",
                    f"at least one option, each with a finite cost and finite {', '.join(self.limits) or 'nothing'}",
                    "give each option a number for each",
                )

    def limited(self, name: str, limit: float) -> "Problem":
        """The same with one more limit, or another one."""
        return replace(self, limits={**self.limits, name: limit})


@dataclass(frozen=True)
class Solution:
    """One option of each group.

    Attributes:
        options: Index of the chosen option of each group.
        cost: Sum of their costs.
        totals: Sum of each quantity, whether it is limited or not.
    """

    options: tuple[int, ...]
    cost: float
    totals: Mapping[str, float]


def best(problem: Problem, count: int = 1) -> list[Solution]:
    """The solutions of least cost, in rising order; fewer than ``count`` where there are no more, [] where none is.

    Args:
        problem: What to choose.
        count: How many.
    """
    program = _Program.of(problem, count)
    found: list[Solution] = []
    while len(found) < count and (options := program.solve()) is not None:
        solution = solution_of(problem, options)
        program.forbid(options)
        if _keeps_limits(problem, solution):
            found.append(solution)
    return sorted(found, key=lambda solution: solution.cost)


def least(problem: Problem, name: str) -> Solution:
    """The solution with the least sum of a quantity, whatever its own limit; the other limits hold.

    Raises:
        LimitUnreachableError: The other limits cannot hold together; each one's least sum alone is named.
    """
    others = {key: limit for key, limit in problem.limits.items() if key != name}
    groups = tuple(replace(group, cost=group.weights[name]) for group in problem.groups)
    found = best(replace(problem, groups=groups, limits=others))
    if not found:
        reached = ", ".join(f"{key} {least(replace(problem, limits={}), key).totals[key]:,.6g}" for key in others)
        raise LimitUnreachableError(
            "no choice keeps the limits " + ", ".join(f"{key} {limit:,.6g}" for key, limit in others.items()),
            f"limits that hold together; each alone can be as low as {reached}",
            "raise one of the limits",
        )
    return solution_of(problem, found[0].options)


def solution_of(problem: Problem, options: Sequence[int]) -> Solution:
    """Cost and totals of given options."""
    chosen = list(zip(problem.groups, options, strict=True))
    names = dict.fromkeys(name for group in problem.groups for name in group.weights)
    totals = {name: float(sum(group.weights[name][option] for group, option in chosen)) for name in names}
    return Solution(tuple(options), float(sum(group.cost[option] for group, option in chosen)), totals)


def _keeps_limits(problem: Problem, solution: Solution) -> bool:
    """The solver accepts sums that exceed a limit by its tolerance; they are not solutions."""
    return all(solution.totals[name] <= limit + _ROUNDING * abs(limit) for name, limit in problem.limits.items())


@dataclass
class _Program:
    """The integer program: a variable for each option that is kept, 1 where it is chosen."""

    kept: tuple[npt.NDArray[np.int64], ...]
    cost: Vector
    constraints: list[scipy.optimize.LinearConstraint]

    @classmethod
    def of(cls, problem: Problem, count: int) -> "_Program":
        kept = tuple(_kept(problem, index, count) for index in range(len(problem.groups)))
        costs = [group.cost[options] for group, options in zip(problem.groups, kept, strict=True)]
        spread = sum(float(np.ptp(cost)) for cost in costs)
        # Costs from the least of each group on: only differences decide, and large constants would hide them.
        cost = np.concatenate([cost - cost.min() for cost in costs]) * (_COST_RANGE / spread if spread > 0 else 0.0)
        program = cls(kept, cost, [])
        program._choose_one()
        for name, limit in problem.limits.items():
            program._limit(problem, name, limit)
        for tie in problem.ties:
            program._tie(tie)
        return program

    def solve(self) -> tuple[int, ...] | None:
        """Chosen options of each group, None where there are none.

        Raises:
            SearchInvalidError: The solver gives up.
        """
        with _silent():
            result = scipy.optimize.milp(
                self.cost,
                integrality=np.ones(len(self.cost)),
                bounds=scipy.optimize.Bounds(0, 1),
                constraints=self.constraints,
                options={"mip_rel_gap": 0.0},
            )
        if result.status == _INFEASIBLE:
            return None
        if result.status != _SOLVED:
            raise SearchInvalidError(
                f"the solver gave up: {result.message}", "a solution, or none", "give costs within 10^9 of each other"
            )
        parts = np.split(result.x, self._starts()[1:])
        return tuple(int(options[part.argmax()]) for options, part in zip(self.kept, parts, strict=True))

    def forbid(self, options: tuple[int, ...]) -> None:
        """Cuts off one solution: not all of its options again."""
        row = np.zeros(len(self.cost))
        for start, kept, option in zip(self._starts(), self.kept, options, strict=True):
            row[start + int(np.flatnonzero(kept == option)[0])] = 1.0
        self.constraints.append(scipy.optimize.LinearConstraint(row[None, :], -np.inf, len(self.kept) - 1))

    def _starts(self) -> npt.NDArray[np.int64]:
        sizes = [len(options) for options in self.kept]
        return np.cumsum([0, *sizes[:-1]], dtype=np.int64)

    def _choose_one(self) -> None:
        rows = np.repeat(np.arange(len(self.kept)), [len(options) for options in self.kept])
        shape = len(self.kept), len(self.cost)
        matrix = scipy.sparse.csr_array((np.ones(len(self.cost)), (rows, np.arange(len(self.cost)))), shape)
        self.constraints.append(scipy.optimize.LinearConstraint(matrix, 1, 1))

    def _limit(self, problem: Problem, name: str, limit: float) -> None:
        """A sum up to a limit, brought to about 1: the solver's tolerances are absolute."""
        row = np.concatenate([group.weights[name][kept] for group, kept in zip(problem.groups, self.kept, strict=True)])
        scale = max(abs(limit), float(np.abs(row).max()), np.finfo(np.float64).tiny)
        self.constraints.append(scipy.optimize.LinearConstraint(row[None, :] / scale, -np.inf, limit / scale))

    def _tie(self, tie: Tie) -> None:
        starts = self._starts()
        for (first, left), (second, right) in itertools.pairwise(tie.labels.items()):
            for label in sorted({*left, *right}):
                row = np.zeros(len(self.cost))
                for group, labels, sign in ((first, left, 1.0), (second, right, -1.0)):
                    of_group = slice(starts[group], starts[group] + len(self.kept[group]))
                    row[of_group] += sign * (np.asarray(labels)[self.kept[group]] == label)
                self.constraints.append(scipy.optimize.LinearConstraint(row[None, :], 0, 0))


def _kept(problem: Problem, index: int, count: int) -> npt.NDArray[np.int64]:
    """Options that can be in one of the ``count`` best: fewer than ``count`` others are no worse in everything.

    Of equal options the earlier ones count as better. Labels of ties must be the same.
    """
    group = problem.groups[index]
    columns = np.stack([group.cost, *(group.weights[name] for name in problem.limits)])
    labels = [np.asarray(tie.labels[index]) for tie in problem.ties if index in tie.labels]
    kept = []
    for option in range(len(group.cost)):
        no_worse = (columns <= columns[:, option, None]).all(axis=0)
        equal = (columns == columns[:, option, None]).all(axis=0)
        better = no_worse & (~equal | (np.arange(len(equal)) < option))
        for label in labels:
            better &= label == label[option]
        if better.sum() < count:
            kept.append(option)
    return np.array(kept, dtype=np.int64)


@contextmanager
def _silent() -> Iterator[None]:
    """Keeps what compiled code prints on stdout out of it: HiGHS has lines that no option turns off."""
    library: Any = None
    with suppress(OSError, TypeError):
        library = ctypes.CDLL(None)
    sys.stdout.flush()
    saved, nowhere = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    try:
        if library is not None:
            library.fflush(None)
        os.dup2(nowhere, 1)
        yield
    finally:
        if library is not None:
            library.fflush(None)
        os.dup2(saved, 1)
        os.close(saved)
        os.close(nowhere)
