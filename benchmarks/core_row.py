# SPDX-License-Identifier: Apache-2.0
"""One row of ``benchmarks.cores``: the best designs of all kinds for one workload, as one JSON object. All modelled."""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.core_designs import CORES
from benchmarks.core_search import GRAPH_MODELS, WITHOUT_DATA, Best, Timed, Workload, best_design, graph_model
from hetfab.overlay.costs.resources import resource_rows
from hetfab.overlay.isa.codec import Engine
from hetfab.overlay.isa.spec import isa
from hetfab.overlay.timeline.machine import COMPARISON_RATE
from hetfab.overlay.timeline.summary import engine_times

#: Of the graph models.
BITS = "w4a4"
#: Designs of each ranking that are timed; networks on samples take minutes to compile for a design.
_TIMED_OF_SAMPLES, _TIMED = 2, 3
#: A layer counts for ``busy`` where DRAM needs less than this share of what the cores compute.
_DRAM_SHARE = 0.8
_SIZES = ("rows", "cols")


def figures(workload: Workload, at_once: int) -> dict[str, Any]:
    """The best design of each kind with its time, and how busy the cores are in layers that DRAM does not decide."""
    best = {kind: best_design(workload, kind, at_once) for kind in CORES}
    return {kind: _found(one) for kind, one in best.items()} | {"layers": list(busy_layers(best["both"].timed))}


def _found(best: Best) -> dict[str, Any]:
    design, geometry, timeline = best.timed.design, best.timed.design.geometry, best.timed.timeline
    of_cores = np.isin(timeline.engines, [isa().engine(core).id for core in CORES["both"]])
    slowest = max(engine_times(timeline), key=lambda each: each.busy + each.dram)
    return {
        "milliseconds": best.timed.milliseconds,
        "dram_bytes": int(timeline.bytes.sum()),
        "cores_busy_share": float(timeline.busy[of_cores].sum() / timeline.total_cycles),
        "busiest_engine": slowest.name,
        "arrays": {
            core: [getattr(geometry, f"{core}_{size}") for size in _SIZES]
            for core in geometry.engines
            if core in CORES["both"]
        },
        "words": {
            name: getattr(geometry, name) for name in ("wgt_d_words", "wgt_l_words", "act_d_words", "act_l_words")
        },
        "resources": {name: need for name, need, _ in resource_rows(design)},
        "points": best.points,
        "timed_designs": best.timed_designs,
    }


def busy_layers(found: Timed) -> Iterator[dict[str, Any]]:
    """Per layer with products: its cycles, each core's share of them, and DRAM's bound over the cores' bound."""
    timeline = found.timeline
    for number, name in enumerate(found.layers):
        of_layer = timeline.layers == number
        cores = {core.name.lower(): of_layer & (timeline.engines == core) for core in (Engine.GEMM_D, Engine.GEMM_L)}
        working = np.logical_or.reduce(list(cores.values()))
        if not working.any():
            continue
        cycles = float(timeline.ends[working].max() - timeline.starts[working].min())
        busy = {core: float(timeline.busy[chosen].sum()) for core, chosen in cores.items()}
        dram = float(timeline.bytes[of_layer].sum()) / COMPARISON_RATE
        share = dram / max(busy.values()) if max(busy.values()) else None
        yield {
            "layer": name,
            "cycles": cycles,
            **{core: cycles_busy / cycles for core, cycles_busy in busy.items()},
            "dram_bound_over_compute_bound": share,
            "counts": share is not None and share < _DRAM_SHARE,
        }


def main() -> None:
    """Prints the figures of a row."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=(*WITHOUT_DATA, *GRAPH_MODELS))
    parser.add_argument("folder", type=Path)
    parser.add_argument("data", type=Path)
    given = parser.parse_args()
    on_graph = given.name in GRAPH_MODELS
    workload = graph_model(given.name, BITS, given.folder, given.data) if on_graph else WITHOUT_DATA[given.name]()
    on_samples = given.name in ("resnet18", "mobilenetv2")
    print(json.dumps(figures(workload, _TIMED_OF_SAMPLES if on_samples else _TIMED), allow_nan=False))


if __name__ == "__main__":
    main()
