# SPDX-License-Identifier: Apache-2.0
"""What two GEMM cores gain: the best design with both, with GEMM-D alone and with GEMM-L alone, for the same board.

Three sweeps with the same code, the same packing, the same limits and the same number of points: array sizes and
buffers of designs that the board holds, ranked by the compiler's own estimate, the best few timed by the simulator at
8 bytes of DRAM a cycle. Everything here is modelled.
"""

import functools
import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from benchmarks.dense_layers import DenseWorkload, mlp, sehgnn
from benchmarks.report import Report, argument_parser, publish
from benchmarks.workloads import workloads
from hetfab.overlay.board import read_board
from hetfab.overlay.compiler.planning import plan_layers
from hetfab.overlay.costs.program_cost import expected_log
from hetfab.overlay.costs.resources import CROWDED_SHARE, resource_rows
from hetfab.overlay.design import Design, Geometry, default_design
from hetfab.overlay.errors import DesignTooSmallError
from hetfab.overlay.isa.codec import Engine
from hetfab.overlay.timeline.machine import COMPARISON_RATE, machine
from hetfab.overlay.timeline.simulate import Timeline, simulate

BOARD = "pynq-z2"
_CORES = {"both": ("gemm_d", "gemm_l"), "GEMM-D": ("gemm_d",), "GEMM-L": ("gemm_l",)}
#: Designs of each sweep that are timed.
_TIMED = 6
#: A layer counts for ``busy`` where DRAM needs less than this share of what the cores compute.
_DRAM_SHARE = 0.8


@dataclass(frozen=True)
class Timed:
    """A design and what it does to a workload."""

    design: Design
    milliseconds: float
    timeline: Timeline
    layers: Sequence[str]


def main() -> None:
    """Prints the table and the JSON line."""
    arguments = argument_parser(__doc__).parse_args()
    rows: list[list[object]] = []
    values: dict[str, Any] = {"board": BOARD, "dram_bytes_per_cycle": COMPARISON_RATE, "lut_share": CROWDED_SHARE}
    gains: dict[str, list[float]] = {"over_dsp_only": [], "over_best_single": []}
    listed: list[dict[str, Any]] = []
    if len({len(candidates(cores)) for cores in _CORES.values()}) != 1:
        raise ValueError("the three sweeps have different numbers of points")
    for workload in (mlp(), sehgnn()):
        best = {name: best_design(workload, cores) for name, cores in _CORES.items()}
        for name, (timed, points) in best.items():
            rows.append([workload.name, name, *_row(workload, timed), points])
            values[f"{workload.name} {name}"] = {"milliseconds": timed.milliseconds, "points": points, **_sizes(timed)}
        times = {name: timed.milliseconds for name, (timed, _) in best.items()}
        gains["over_dsp_only"].append(times["GEMM-D"] / times["both"])
        gains["over_best_single"].append(min(times["GEMM-D"], times["GEMM-L"]) / times["both"])
        listed += [{"workload": workload.name, **found} for found in busy_layers(best["both"][0])]
    values |= {name: math.prod(found) ** (1 / len(found)) for name, found in gains.items()}
    counted = [found for found in listed if found["counts"]]
    spans = sum(found["cycles"] for found in counted)
    values["busy"] = {
        core: sum(found[core] * found["cycles"] for found in counted) / spans if spans else None
        for core in ("gemm_d", "gemm_l")
    }
    values["layers"] = listed
    values["models_of_64_channels"] = dict(narrow_models())
    headings = ["workload", "cores", "GEMM-D", "GEMM-L", "MAC/cycle", "ms", "LUT", "DSP", "BRAM36", "points"]
    title = f"W4A4 on {BOARD}, {COMPARISON_RATE:g} DRAM bytes a cycle, LUTs up to {CROWDED_SHARE:.0%}: modelled"
    publish(Report(title, headings, rows, values), arguments.as_json)


def best_design(workload: DenseWorkload, cores: Sequence[str]) -> tuple[Timed, int]:
    """The fastest design with these cores, and the number of points that were compared."""
    lowered, ranked, points = workload.lowered(), [], 0
    for geometry in candidates(tuple(cores)):
        points += 1
        design = replace(default_design(BOARD), geometry=geometry)
        if not holds(design):
            continue
        try:
            planned = plan_layers(lowered, geometry)
        except DesignTooSmallError:
            continue
        cycles = sum(layer.rows * plan.tile.row_cycles for layer, plan in zip(workload.layers, planned, strict=True))
        ranked.append((cycles, design))
    ranked.sort(key=lambda found: found[0])
    return min((timed(workload, design) for _, design in ranked[:_TIMED]), key=lambda found: found.milliseconds), points


def timed(workload: DenseWorkload, design: Design) -> Timed:
    """A workload on a design in the timeline simulator."""
    bound = workload.bound(design)
    found = simulate(bound.words, expected_log(bound), replace(machine(design), dram_rate=COMPARISON_RATE))
    return Timed(design, found.milliseconds, found, [layer.name for layer in bound.program.layers])


def holds(design: Design) -> bool:
    """Whether the board holds a design with room to place it."""
    limits = {"lut": CROWDED_SHARE}
    return all(need <= limits.get(name, 1) * there for name, need, there in resource_rows(design, read_board(BOARD)))


@functools.cache
def candidates(cores: tuple[str, ...]) -> tuple[Geometry, ...]:
    """The points of a sweep: as many for one core as for both, where a core that is missing leaves finer steps."""
    with_d, with_l = "gemm_d" in cores, "gemm_l" in cores
    rows_d = range(6, 17, 2) if with_l else range(2, 33, 2)
    rows_l = range(6, 17, 2) if with_d else range(1, 33)
    arrays_d = list(itertools.product(rows_d, (8, 16) if with_l else (8, 16, 24))) if with_d else [(2, 8)]
    arrays_l = list(itertools.product(rows_l, (8, 16) if with_d else (8, 16, 24))) if with_l else [(1, 8)]
    weights = (1024, 1536, 2048, 3072) if with_d and with_l else (512, 1024, 1536, 2048, 3072, 4096, 6144, 8192)
    one_core: dict[tuple[str, ...], tuple[int, ...]] = {
        ("gemm_d",): (256, 512, 768, 1024, 1536, 2048),
        ("gemm_l",): (256, 512, 1024),
    }
    tiles = one_core.get(cores, (512,))
    return tuple(_geometries(cores, arrays_d, arrays_l, weights, tiles))


def _geometries(
    cores: Sequence[str],
    arrays_d: Sequence[tuple[int, int]],
    arrays_l: Sequence[tuple[int, int]],
    weights: Sequence[int],
    tiles: Sequence[int],
) -> Iterator[Geometry]:
    smallest = 16
    with_d, with_l = "gemm_d" in cores, "gemm_l" in cores
    base = default_design(BOARD).geometry
    engines = tuple(name for name in base.engines if name not in ("gemm_d", "gemm_l", "agg") or name in cores)
    for (d_rows, d_cols), (l_rows, l_cols), d_words, l_words, tile in itertools.product(
        arrays_d, arrays_l, weights if with_d else (smallest,), weights if with_l else (smallest,), tiles
    ):
        yield replace(
            base,
            engines=engines,
            gemm_d_rows=d_rows,
            gemm_d_cols=d_cols,
            gemm_l_rows=l_rows,
            gemm_l_cols=l_cols,
            act_d_words=tile if with_d else smallest,
            act_l_words=tile if with_l else smallest,
            wgt_d_words=d_words,
            wgt_l_words=l_words,
            acc_d_words=512 if with_d else smallest,
            acc_l_words=512 if with_l else smallest,
            par_words=256,
            out_words=2048,
        )


def busy_layers(found: Timed) -> Iterator[dict[str, Any]]:
    """Per layer: its cycles, the share that each core computes, and DRAM's bound over the cores' bound."""
    timeline = found.timeline
    for number, name in enumerate(found.layers):
        of_layer = timeline.layers == number
        cores = {core.name.lower(): of_layer & (timeline.engines == core) for core in (Engine.GEMM_D, Engine.GEMM_L)}
        working = np.logical_or.reduce(list(cores.values()))
        cycles = float(timeline.ends[working].max() - timeline.starts[working].min())
        busy = {core: float(timeline.busy[chosen].sum()) for core, chosen in cores.items()}
        dram = float(timeline.bytes[of_layer].sum()) / COMPARISON_RATE
        share = dram / max(busy.values())
        yield {
            "layer": name,
            "cycles": cycles,
            **{core: cycles_busy / cycles for core, cycles_busy in busy.items()},
            "dram_bound_over_compute_bound": share,
            "counts": share < _DRAM_SHARE,
        }


def narrow_models() -> Iterator[tuple[str, dict[str, float]]]:
    """The models with 64 channels on the default design: both cores, and all channels on one of them."""
    design = default_design(BOARD)
    on = replace(machine(design), dram_rate=COMPARISON_RATE)
    for workload in workloads(bits="w4a4"):
        times = {}
        for name, share in (("both", None), ("GEMM-D", 1.0), ("GEMM-L", 0.0)):
            bound = workload.bound(design, share_on_d=share)
            times[name] = simulate(bound.words, expected_log(bound), on).milliseconds
        yield workload.name, times


def _row(workload: DenseWorkload, found: Timed) -> list[object]:
    needs = {name: need for name, need, _ in resource_rows(found.design)}
    cycles = found.milliseconds * 1e3 * found.design.clock_mhz
    shapes = [
        f"{getattr(found.design.geometry, f'{core}_rows')} x {getattr(found.design.geometry, f'{core}_cols')}"
        if core in found.design.geometry.engines
        else ""
        for core in ("gemm_d", "gemm_l")
    ]
    figures = [round(workload.macs / cycles), round(found.milliseconds, 3)]
    return [*shapes, *figures, *(needs[name] for name in ("lut", "dsp", "bram36"))]


def _sizes(found: Timed) -> dict[str, Any]:
    geometry = found.design.geometry
    names = ("gemm_d_rows", "gemm_d_cols", "gemm_l_rows", "gemm_l_cols", "wgt_d_words", "wgt_l_words", "act_d_words")
    return {name: getattr(geometry, name) for name in names} | {"engines": list(geometry.engines)}


if __name__ == "__main__":
    main()
