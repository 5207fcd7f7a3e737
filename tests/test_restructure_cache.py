# SPDX-License-Identifier: Apache-2.0
"""Schedules are found once for a graph's content, with or without a compiler."""

from pathlib import Path

import numpy as np
import pytest

from hetfab.hls.build import restructure
from hetfab.hls.build.restructure import cached_schedule
from hetfab.overlay.restructure.candidates import Candidate, Method
from hetfab.overlay.restructure.make import make_schedule
from hetfab.overlay.restructure.schedule import both_sides
from hetfab.overlay.semantic.adjacency import adjacency
from tests.test_restructure_orders import assert_same

GRAPH = both_sides(adjacency(np.arange(40) % 7, np.arange(40) * 3 % 11, 7, 11))
WANTED = Candidate(Method.RESIDENT_SET, 5, farthest=True)


@pytest.fixture(autouse=True)
def without_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HETFAB_CACHE", str(tmp_path))
    monkeypatch.setenv("CXX", "no-such-compiler")
    monkeypatch.setattr(restructure, "_library", restructure._library.__wrapped__)


def test_without_a_compiler_the_golden_model_makes_the_schedule() -> None:
    made = cached_schedule(GRAPH, WANTED)
    assert_same(made, make_schedule(GRAPH, WANTED))


def test_a_schedule_is_found_once(monkeypatch: pytest.MonkeyPatch) -> None:
    first = cached_schedule(GRAPH, WANTED)
    monkeypatch.setattr(restructure, "make_schedule", None)
    assert_same(cached_schedule(GRAPH, WANTED), first)


def test_another_graph_or_buffer_is_another_schedule(tmp_path: Path) -> None:
    turned = type(GRAPH)(GRAPH.by_destination, GRAPH.by_source)
    for graph, slots in ((GRAPH, 5), (GRAPH, 6), (turned, 5)):
        cached_schedule(graph, Candidate(Method.RESIDENT_SET, slots, farthest=True))
    assert len(list(tmp_path.glob("schedule-*.npz"))) == 3
