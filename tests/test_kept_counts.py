# SPDX-License-Identifier: Apache-2.0
"""What AGG meets in a graph is counted once for programs that ask the same of it, and again for all others."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from hetfab.overlay.bind import BoundProgram
from hetfab.overlay.costs import kept_counts, program_cost
from hetfab.overlay.costs.program_cost import expected_log
from hetfab.overlay.design import Geometry
from hetfab.overlay.isa.codec import Segment
from tests.conftest import SMALL_GEOMETRY
from tests.programs import bound_to, compiled, quantized
from tests.random_models import random_case

SEEDS = range(4)


@pytest.fixture(autouse=True)
def counted(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Names of the operations that were counted, with nothing kept at first."""
    kept_counts._kept.clear()
    names: list[str] = []

    def noting(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
        def count(given: Any) -> Any:
            names.append(function.__name__)
            return function(given)

        count.__name__ = function.__name__
        return count

    for name in ("gathers", "attend_costs"):
        monkeypatch.setattr(program_cost, name, noting(getattr(program_cost, name)))
    yield names
    kept_counts._kept.clear()


def bound(seed: int, geometry: Geometry = SMALL_GEOMETRY) -> BoundProgram:
    case = random_case(seed)
    return bound_to(compiled(quantized(case).model, case.graph, geometry), case.graph)


def alone(program: BoundProgram) -> np.ndarray[Any, Any]:
    """The log with nothing kept."""
    kept_counts._kept.clear()
    return expected_log(program)


@pytest.mark.parametrize("seed", SEEDS)
def test_arrays_change_nothing_of_what_agg_meets(seed: int, counted: list[str]) -> None:
    wide = replace(SMALL_GEOMETRY, gemm_d_rows=2 * SMALL_GEOMETRY.gemm_d_rows, wgt_d_words=1024, wgt_l_words=1024)
    expected_log(bound(seed))
    before, other = len(counted), bound(seed, wide)
    found = expected_log(other)
    assert before > 0 and len(counted) == before
    assert np.array_equal(found, alone(other))


@pytest.mark.parametrize("seed", SEEDS)
def test_another_scratchpad_is_counted_anew(seed: int, counted: list[str]) -> None:
    deep = replace(SMALL_GEOMETRY, feature_words=2 * SMALL_GEOMETRY.feature_words)
    expected_log(bound(seed))
    before, other = len(counted), bound(seed, deep)
    found = expected_log(other)
    assert len(counted) > before
    assert np.array_equal(found, alone(other))


@pytest.mark.parametrize("seed", SEEDS)
def test_another_graph_is_counted_anew(seed: int, counted: list[str]) -> None:
    program = bound(seed)
    expected_log(program)
    before = len(counted)
    # Sources that all are the first vertex: fewer rows are missing from the scratchpad.
    graph = np.array(program.contents[Segment.GRAPH])
    graph[len(graph) // 2 :] = 0
    other = replace(program, contents={**program.contents, Segment.GRAPH: graph})
    found = expected_log(other)
    assert len(counted) > before
    assert np.array_equal(found, alone(other))


def test_what_is_kept_cannot_be_written() -> None:
    expected_log(bound(0))
    for found in kept_counts._kept.values():
        for values in vars(found).values():
            with pytest.raises(ValueError, match="read-only"):
                values[...] = 0


def test_no_more_is_kept_than_some_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_counts, "_MOST", 2)
    for seed in SEEDS:
        expected_log(bound(seed))
    assert len(kept_counts._kept) == 2
