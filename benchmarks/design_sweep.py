# SPDX-License-Identifier: Apache-2.0
"""Sweeps array sizes and buffers of all designs that a board holds, and times the best: how the defaults were chosen.

Points are ranked by the compiler's own estimate for dense layers of 8 and of 4 bits; the best few are timed by the
simulator, with the demo and the public models too. Everything here is modelled.
"""

from dataclasses import replace
from pathlib import Path

from benchmarks.design_points import candidates, dense, models, rank, row
from benchmarks.kept_rows import code_identity
from benchmarks.report import Report, argument_parser, publish
from hetfab.overlay.design import default_design
from hetfab.overlay.search.evaluations import evaluated
from hetfab.overlay.search.journal import Journal
from hetfab.overlay.search.workers import Backend, open_workers

_TIMED = 5


def main() -> None:
    """Prints the table and the JSON line."""
    parser = argument_parser(__doc__)
    parser.add_argument("--board", default="pynq-z2", help="the board whose designs are compared")
    parser.add_argument(
        "--design", help="the default design whose arrays and buffers vary; that of the board if left out"
    )
    parser.add_argument("--workers", type=int, default=1, help="processes of this machine that evaluate")
    parser.add_argument("--backend", choices=[each.value for each in Backend], default=Backend.LOCAL.value)
    parser.add_argument("--cluster", default="", help="address of the cluster that evaluates")
    parser.add_argument("--journal", type=Path, help="file that keeps evaluations until the end")
    arguments = parser.parse_args()
    base = default_design(arguments.design or arguments.board)
    geometries = list(candidates(base.geometry))
    points = {f"rank {geometry.hash()}": replace(base, geometry=geometry) for geometry in geometries}
    with (
        Journal(arguments.journal, f"{base.geometry.hash()} on {base.board}, code {code_identity()}") as journal,
        open_workers(Backend(arguments.backend), arguments.workers, arguments.cluster) as workers,
    ):
        found = evaluated(rank, points, journal, workers)
        ranks = {key: cycles for key, cycles in found.items() if cycles is not None}
        ranked = [points[key] for key in sorted(ranks, key=ranks.__getitem__)]
        timed = {f"time {design.geometry.hash()}": design for design in ranked[:_TIMED]}
        rows = list(evaluated(row, timed, journal, workers).values())
    names = [*(f"{w.name} w{w.weight_bits}a{w.activation_bits}" for w in dense()), *(w.name for w in models())]
    headings = ["GEMM-D", "GEMM-L", "weight words", "LUT", "FF", "DSP", "BRAM36", *(f"{name} ms" for name in names)]
    values = {"board": base.board, "points": len(points), "fitting": len(ranked), "best": ranked[0].as_dict()}
    title = f"the best of {len(points)} designs like {base.name}, modelled"
    publish(Report(title, headings, rows, values), arguments.as_json)


if __name__ == "__main__":
    main()
