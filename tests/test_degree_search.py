# SPDX-License-Identifier: Apache-2.0
"""Exponents by what errors of vertices count in the sums that read them."""

from dataclasses import replace

import numpy as np

from hetfab.overlay.model.layers import LayerGraph, SegMean, SegSum
from hetfab.overlay.model.runtime import Feed
from hetfab.quantize.degree_search import degree_ranges, reads_of
from hetfab.quantize.emulation import Emulation
from hetfab.quantize.points import find_points
from hetfab.quantize.widths import Widths
from tests.random_models import random_case
from tests.test_study import study_of


def test_a_row_counts_by_the_square_of_its_share_of_each_sum() -> None:
    """The error of sums is what independent errors of rows add up to, from the edges one by one."""
    random = np.random.default_rng(0)
    source, destination = random.integers(0, 7, 40), random.integers(0, 5, 40)
    layers = (SegMean("m", "x", "src", "dst", "n"), SegSum("s", "x", "src", "dst", "n"))
    graph = LayerGraph(layers, {}, {"x": 3, "m": 3, "s": 3}, "m")
    feed: Feed = {"x": random.random((7, 3)).astype(np.float32), "src": source, "dst": destination, "n": np.array(6)}
    expected = np.zeros(7)
    for u, v in zip(source, destination, strict=True):
        expected[u] += 1.0 / np.sum(destination == v) ** 2 + 1.0
    found = reads_of(Emulation(graph, find_points(graph), feed))
    assert list(found) == ["x"]
    np.testing.assert_allclose(found["x"][:, 0], expected, rtol=1e-6)


def test_the_exponent_has_the_least_weighted_error_and_others_stay() -> None:
    study = study_of(random_case(2, largest_count=33))
    start = study.uniform(Widths(8, 3), weights="nearest", activations="percentile 99.99")
    found = degree_ranges(study, start)
    weights, ranges = reads_of(study.emulations[0]), study.numbers(found).ranges
    moved = 0
    for group, members in study.groups.items():
        exponent = found.activations[group].exponent
        if not set(members) & set(weights):
            assert found.activations[group] == start.activations[group]
        elif exponent is not None:
            moved += 1
            errors = []
            for near in (exponent, exponent - 1):
                errors.append(0.0)
                for name in set(members) & set(weights):
                    rows = study.emulations[0].values(name).astype(np.float64)
                    chosen = replace(ranges[name], exponent=near)
                    steps = np.clip(np.rint(rows / chosen.scale), chosen.lowest, chosen.highest) * chosen.scale
                    errors[-1] += float(np.sum(weights[name] * (steps - rows) ** 2))
            assert errors[0] <= errors[1] * (1 + 1e-5)
    assert moved
