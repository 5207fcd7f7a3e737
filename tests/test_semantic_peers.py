# SPDX-License-Identifier: Apache-2.0
"""The ways to build semantic graphs that the benchmark compares with count the work that their definitions give."""

import importlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse

from hetfab.overlay.semantic.adjacency import Adjacency, adjacency, compose, expansions, transpose
from tests.random_relations import product

RNG = np.random.default_rng(3)
AP = adjacency(RNG.integers(0, 9, 25), RNG.integers(0, 12, 25), 9, 12)
PT = adjacency(RNG.integers(0, 12, 25), RNG.integers(0, 7, 25), 12, 7)
RELATIONS = {"ap": AP, "pa": transpose(AP), "pt": PT, "tp": transpose(PT)}
APA, APAPA = ("ap", "pa"), ("ap", "pa", "ap", "pa")


@pytest.fixture
def peers(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(Path(__file__).parents[1])
    return importlib.import_module("benchmarks.semantic_peers")


def chain(*names: str) -> Adjacency:
    reach = RELATIONS[names[0]]
    for name in names[1:]:
        reach = compose(reach, RELATIONS[name], 0)
    return reach


def work(left: tuple[str, ...], right: tuple[str, ...]) -> int:
    return expansions(chain(*left), chain(*right))


def test_each_way_counts_its_own_compositions(peers: Any) -> None:
    counts = peers.ReuseCounts(RELATIONS)
    first, second = work(APA, ("ap",)), work(("ap", "pa", "ap"), ("pa",))
    apa = work(("ap",), ("pa",))
    assert counts.naive([APA, APAPA]) == 2 * apa + first + second
    assert counts.prefix_trie([APA, APAPA]) == apa + first + second
    assert counts.longest_match([APAPA, APA]) == apa + work(APA, APA)


def test_every_way_of_scipy_gives_the_product(peers: Any) -> None:
    path = ("ap", "pt", "tp", "pa")
    ways = dict(peers.scipy_ways(path, RELATIONS, {"ap": "pa", "pa": "ap", "pt": "tp", "tp": "pt"}))
    # Five orders and the half, on two types.
    assert len(ways) == 12
    expected = product(path, RELATIONS).toarray()
    assert all(np.array_equal(scipy.sparse.csr_matrix(way()).toarray() != 0, expected) for way in ways.values())
