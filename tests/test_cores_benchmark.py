# SPDX-License-Identifier: Apache-2.0
"""The benchmark of the two cores: its sweeps are fair, its search finds the best point, its totals are right."""

import json
from dataclasses import replace
from typing import Any

import pytest

from hetfab.overlay.design import Design, default_design
from tests.outside import module

CORES: Any = module("benchmarks.cores")
DESIGNS: Any = module("benchmarks.core_designs")
SEARCH: Any = module("benchmarks.core_search")
ROW: Any = module("benchmarks.core_row")

_OF_CORE = {
    core: [f"{core}_rows", f"{core}_cols", f"wgt_{core[-1]}_words", f"act_{core[-1]}_words", f"acc_{core[-1]}_words"]
    for core in ("gemm_d", "gemm_l")
}


@pytest.fixture
def coarse(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sweeps of few points, some of which the board does not hold."""
    monkeypatch.setattr(DESIGNS, "_ROWS", {"gemm_d": (4, 8), "gemm_l": (4, 8)})
    monkeypatch.setattr(DESIGNS, "_MORE_ROWS", {"gemm_d": (12, 32), "gemm_l": (16, 32)})
    monkeypatch.setattr(DESIGNS, "_WEIGHTS", (1024,))
    monkeypatch.setattr(DESIGNS, "_MORE_WEIGHTS", (2048,))
    monkeypatch.setattr(DESIGNS, "_MORE_TILES", (1024,))


@pytest.mark.parametrize("kind", ["GEMM-D", "GEMM-L"])
def test_a_core_alone_may_be_all_that_it_may_be_beside_the_other(kind: str) -> None:
    base = default_design("pynq-z2-attention").geometry
    (core,) = DESIGNS.CORES[kind]

    def sizes(cores: tuple[str, ...]) -> set[tuple[int, ...]]:
        return {tuple(getattr(point, name) for name in _OF_CORE[core]) for point in DESIGNS.candidates(base, cores)}

    beside, alone = sizes(DESIGNS.CORES["both"]), sizes((core,))
    assert beside < alone
    for point in DESIGNS.candidates(base, (core,)):
        assert {"gemm_d", "gemm_l"} & set(point.engines) == {core}
        assert set(base.engines) - set(point.engines) == {"gemm_d", "gemm_l"} - {core}


def test_what_is_left_out_is_reached_by_what_is_kept(coarse: None) -> None:
    base = default_design("pynq-z2")
    kept, points = DESIGNS.held_designs(base, ("gemm_d",))
    assert points == len(list(DESIGNS.candidates(base.geometry, ("gemm_d",)))) > len(kept) > 0
    assert all(DESIGNS.holds(design) for design in kept)

    def reaches(larger: Any, smaller: Any) -> bool:
        return all(getattr(larger, name) >= getattr(smaller, name) for name in _OF_CORE["gemm_d"])

    held = [g for g in DESIGNS.candidates(base.geometry, ("gemm_d",)) if DESIGNS.holds(replace(base, geometry=g))]
    assert all(any(reaches(design.geometry, geometry) for design in kept) for geometry in held)
    assert not any(reaches(a.geometry, b.geometry) for a in kept for b in kept if a is not b)


class Few:
    """A workload that is timed by a table."""

    def __init__(self, designs: list[Design]) -> None:
        self.designs = designs

    def base(self, kind: str) -> Design:
        return default_design("pynq-z2")

    def rankings(self, designs: list[Design]) -> list[list[Design]]:
        return [designs[:4], designs[:4][::-1]]


def test_the_best_of_the_most_promising_is_taken(coarse: None, monkeypatch: pytest.MonkeyPatch) -> None:
    timed: list[Design] = []

    def time(workload: Any, design: Design) -> Any:
        timed.append(design)
        return SEARCH.Timed(design, 10.0 - len(timed) % 3, None, [])

    monkeypatch.setattr(SEARCH, "timed", time)
    found = SEARCH.best_design(Few([]), "GEMM-D", at_once=1)
    assert (found.timed_designs, found.timed.milliseconds) == (2, 8.0)
    assert len({design.geometry.hash() for design in timed}) == 2 and found.timed.design is timed[1]
    SEARCH.best_design(Few([]), "both", at_once=1)
    assert timed[-1] == default_design("pynq-z2") and DESIGNS.holds(timed[-1])


def test_both_cores_share_a_dense_layer(coarse: None) -> None:
    layers = module("benchmarks.dense_layers")
    dense = layers.DenseWorkload("small", (layers.DenseLayer("a", 1024, 256, 128),), 4, 4)
    found = ROW.figures(SEARCH.Dense(dense), 1)
    assert CORES.gains(found)["over_dsp_only"] > 1.0
    assert set(found["both"]["arrays"]) == {"gemm_d", "gemm_l"} and set(found["GEMM-L"]["arrays"]) == {"gemm_l"}
    assert all(found[kind]["resources"]["lut"] <= 0.95 * 53_200 for kind in DESIGNS.CORES)
    (busy,) = found["layers"]
    assert 0 < busy["gemm_d"] <= 1 and 0 < busy["gemm_l"] <= 1


def row(both: float, on_d: float, on_l: float, *, counts: bool = True) -> dict[str, Any]:
    kinds = {"both": both, "GEMM-D": on_d, "GEMM-L": on_l}
    arrays = {kind: {core: [8, 8] for core in DESIGNS.CORES[kind]} for kind in kinds}
    found = {
        kind: {"milliseconds": ms, "arrays": arrays[kind], "cores_busy_share": 1.0, "busiest_engine": "agg"}
        for kind, ms in kinds.items()
    }
    return found | {"layers": [{"cycles": both, "gemm_d": 0.5, "gemm_l": 1.0, "counts": counts}]}


def test_totals_are_geometric_means_and_name_the_code() -> None:
    rows = {"mlp": row(1.0, 4.0, 2.0), "acm_han": row(2.0, 2.0, 3.0, counts=False)}
    values = CORES.report(rows, {"code": "0123", "older_rows": {"mlp": "4567"}}).values
    assert (values["over_dsp_only"], values["over_best_single"]) == (pytest.approx(2.0), pytest.approx(2**0.5))
    assert (values["graph_models_over_dsp_only"], values["graph_models_over_best_single"]) == (1.0, 1.0)
    assert values["busy"] == {"gemm_d": 0.5, "gemm_l": 1.0}
    assert (values["code"], values["older_rows"]) == ("0123", {"mlp": "4567"})
    assert CORES.report({"mlp": rows["mlp"]}, {}).values["graph_models_over_dsp_only"] is None
    json.dumps(values, allow_nan=False)
