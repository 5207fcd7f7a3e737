# SPDX-License-Identifier: Apache-2.0
"""Sweeps array sizes and buffers of all designs that a board holds, and times the best: how the defaults were chosen.

Points are ranked by the compiler's own estimate for dense layers of 8 and of 4 bits; the best few are timed by the
simulator, with the demo and the public models too. Everything here is modelled.
"""

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

from benchmarks.dense_layers import DenseWorkload, mlp, sehgnn
from benchmarks.report import Report, argument_parser, publish
from benchmarks.workloads import Workload, workloads
from hetfab.overlay.board import read_board
from hetfab.overlay.compiler.planning import plan_layers
from hetfab.overlay.costs.program_cost import expected_log
from hetfab.overlay.costs.resources import resource_rows
from hetfab.overlay.design import Design, Geometry, default_design
from hetfab.overlay.errors import DesignTooSmallError
from hetfab.overlay.timeline.machine import machine
from hetfab.overlay.timeline.simulate import simulate

#: LUTs stay below this share of the board's: the figures of adapters and control are unchecked.
LUT_SHARE = 0.95
_SIDES = {"rows": (6, 8, 10, 12, 14, 16), "cols": (8, 16)}
_WEIGHT_WORDS = (1024, 1536, 2048, 3072)
_TIMED = 5


def main() -> None:
    """Prints the table and the JSON line."""
    parser = argument_parser(__doc__)
    parser.add_argument("--board", default="pynq-z2", help="the board whose designs are compared")
    parser.add_argument(
        "--design", help="the default design whose arrays and buffers vary; that of the board if left out"
    )
    arguments = parser.parse_args()
    base = default_design(arguments.design or arguments.board)
    dense = [mlp(8, 8), mlp(4, 4), sehgnn(64, 8, 8), sehgnn(512, 4, 4)]
    lowered = [workload.lowered() for workload in dense]
    ranked: list[tuple[float, Design]] = []
    points = 0
    for geometry in candidates(base.geometry):
        points += 1
        design = replace(base, geometry=geometry)
        if not holds(design):
            continue
        try:
            # Each layer has its own order of channels: none is added to another.
            plans = [plan_layers(layers, geometry, any_order=True) for layers in lowered]
        except DesignTooSmallError:
            continue
        cycles = [
            sum(layer.rows * plan.tile.row_cycles for layer, plan in zip(workload.layers, planned, strict=True))
            for workload, planned in zip(dense, plans, strict=True)
        ]
        ranked.append((math.prod(cycles) ** (1 / len(cycles)), design))
    ranked.sort(key=lambda found: found[0])
    models = list(workloads())
    rows = [_row(design, [*dense, *models]) for _, design in ranked[:_TIMED]]
    names = [*(f"{w.name} w{w.weight_bits}a{w.activation_bits}" for w in dense), *(w.name for w in models)]
    headings = ["GEMM-D", "GEMM-L", "weight words", "LUT", "FF", "DSP", "BRAM36", *(f"{name} ms" for name in names)]
    values = {"board": base.board, "points": points, "fitting": len(ranked), "best": ranked[0][1].as_dict()}
    title = f"the best of {points} designs like {base.name}, modelled"
    publish(Report(title, headings, rows, values), arguments.as_json)


def candidates(base: Geometry) -> Iterator[Geometry]:
    """Geometries with all engines."""
    arrays = list(itertools.product(_SIDES["rows"], _SIDES["cols"]))
    for (d_rows, d_cols), (l_rows, l_cols) in itertools.product(arrays, arrays):
        for d_words, l_words in itertools.product(_WEIGHT_WORDS, _WEIGHT_WORDS):
            yield replace(
                base,
                gemm_d_rows=d_rows,
                gemm_d_cols=d_cols,
                gemm_l_rows=l_rows,
                gemm_l_cols=l_cols,
                wgt_d_words=d_words,
                wgt_l_words=l_words,
            )


def holds(design: Design) -> bool:
    """Whether the board holds a design with some room for what the figures miss."""
    board = read_board(design.board)
    limits = {"lut": LUT_SHARE}
    return all(need <= limits.get(name, 1) * there for name, need, there in resource_rows(design, board))


def _row(design: Design, taken: Sequence[DenseWorkload | Workload]) -> list[object]:
    geometry = design.geometry
    needs = {name: need for name, need, _ in resource_rows(design)}
    times = []
    for workload in taken:
        bound = workload.bound(design)
        times.append(round(simulate(bound.words, expected_log(bound), machine(design)).milliseconds, 3))
    return [
        f"{geometry.gemm_d_rows} x {geometry.gemm_d_cols}",
        f"{geometry.gemm_l_rows} x {geometry.gemm_l_cols}",
        f"{geometry.wgt_d_words} + {geometry.wgt_l_words}",
        *(needs[name] for name in ("lut", "ff", "dsp", "bram36")),
        *times,
    ]


if __name__ == "__main__":
    main()
