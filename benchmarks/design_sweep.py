# SPDX-License-Identifier: Apache-2.0
"""Compares shapes of the GEMM array within the default design's board: modelled resources and modelled time.

The memories keep their bytes; a shape that the board cannot hold is named with what it lacks.
"""

from typing import Any

from benchmarks.report import Report, argument_parser, publish
from benchmarks.workloads import Workload, reshaped, workloads
from hetfab.overlay.costs.program_cost import expected_log
from hetfab.overlay.costs.resources import resource_rows
from hetfab.overlay.design import Design, default_design
from hetfab.overlay.errors import DesignTooSmallError
from hetfab.overlay.timeline.machine import machine
from hetfab.overlay.timeline.simulate import simulate

_SIDES = (8, 16, 32)


def main() -> None:
    """Prints the table and the JSON line."""
    arguments = argument_parser(__doc__).parse_args()
    chosen = list(workloads())
    rows, values = [], {}
    for design in (reshaped(default_design(), rows, columns) for rows in _SIDES for columns in _SIDES):
        needs = {name: need for name, need, _ in resource_rows(design)}
        short = [name for name, need, there in resource_rows(design) if need > there]
        times = [None if short else milliseconds(workload, design) for workload in chosen]
        verdict = "does not fit: " + ", ".join(short) if short else "fits"
        shown = ["" if value is None else round(value, 3) for value in times]
        rows.append([design.name, *(needs[name] for name in ("lut", "ff", "dsp", "bram36")), verdict, *shown])
        values[design.name] = _values(needs, not short, chosen, times)
    headings = ["array", "LUT", "FF", "DSP", "BRAM36", "board", *(f"{workload.name} ms" for workload in chosen)]
    publish(Report("everything here is modelled", headings, rows, values), arguments.as_json)


def milliseconds(workload: Workload, design: Design) -> float | None:
    """Modelled time of a workload; None when a memory cannot hold one of its tiles."""
    try:
        bound = workload.bound(design)
    except DesignTooSmallError:
        return None
    return simulate(bound.words, expected_log(bound), machine(design)).milliseconds


def _values(needs: dict[str, int], fits: bool, chosen: list[Workload], times: list[float | None]) -> dict[str, Any]:
    modelled = {f"{w.name}_modelled_milliseconds": time for w, time in zip(chosen, times, strict=True)}
    return {"fits": fits, "modelled_resources": needs, **modelled}


if __name__ == "__main__":
    main()
