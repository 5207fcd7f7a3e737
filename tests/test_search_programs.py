# SPDX-License-Identifier: Apache-2.0
"""Whole programs of a search: each model's time stands in its own place, whatever several programs share."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from hetfab.cli import model_search, search_jobs
from hetfab.cli.model_search import ModelSearch
from hetfab.cli.search_jobs import Action, Job, Opened, Source, evaluate
from hetfab.overlay.design import Design
from hetfab.overlay.errors import DesignTooSmallError
from hetfab.overlay.search.journal import Journal
from hetfab.overlay.search.options import Choice
from hetfab.overlay.search.points import Combine
from hetfab.quantize.assignment import Assignment, WeightChoice
from tests.search_cases import small_space

SPACE = small_space()
SOURCES = Source(Path("a.onnx"), Path("a.npz")), Source(Path("b.onnx"), Path("b.npz"))


def choice(bits: int) -> Choice:
    return Choice({"layer": bits}, {}, 0.0, 0.0)


def milliseconds(number: int, bits: int, design: Design) -> float:
    return 1000.0 * number + 100 * bits + design.geometry.gemm_d_rows


def timed(job: Job) -> float:
    assert job.design is not None
    (bits,) = job.assignment.weights["layer"].kinds
    return milliseconds(SOURCES.index(job.source), bits, job.design)


def test_programs_that_share_a_models_widths_have_their_own_times(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = list[Job]()

    def noted(job: Job) -> float:
        asked.append(job)
        return timed(job)

    def assignment(self: ModelSearch, number: int, choice: Choice) -> Assignment:
        return Assignment({"layer": WeightChoice(choice.weights["layer"])}, {})

    monkeypatch.setattr(model_search, "evaluate", noted)
    monkeypatch.setattr(ModelSearch, "_timed_assignment", assignment)
    one, two = list(SPACE.fitting())[:2]
    widths = [(one, (4, 4)), (one, (8, 4)), (two, (8, 4)), (one, (8, 2)), (one, (4, 4))]
    programs = [(design, [choice(bits) for bits in row]) for design, row in widths]
    search = ModelSearch(SOURCES, SPACE, Combine.SUM)
    found = search._program_times(programs, Journal(None, ""), lambda: None)
    assert found == [[milliseconds(n, bits, design) for n, bits in enumerate(row)] for design, row in widths]
    assert len(asked) == 6


def test_a_program_that_a_design_does_not_hold_takes_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(self: Opened, assignment: Assignment, design: Design | None) -> float:
        raise DesignTooSmallError("a tile", "a smaller one", "another design")

    monkeypatch.setattr(Opened, "milliseconds", refused)
    monkeypatch.setattr(search_jobs, "opened", lambda source: Opened(cast(Any, None), None))
    job = Job(SOURCES[0], Action.TIME_IF_HELD, Assignment({}, {}), SPACE.base)
    assert evaluate(job) == math.inf
    with pytest.raises(DesignTooSmallError):
        evaluate(replace(job, action=Action.TIME))
