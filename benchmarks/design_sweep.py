# SPDX-License-Identifier: Apache-2.0
"""Compares arrays near those of the default design on its board: modelled resources and modelled time.

Both cores get two rows less, or two more. The memories keep their bytes; what the board cannot hold is named with what
it lacks.
"""

from collections.abc import Iterator
from typing import Any

from benchmarks.report import Report, argument_parser, publish
from benchmarks.workloads import Workload, reshaped, workloads
from hetfab.overlay.costs.program_cost import expected_log
from hetfab.overlay.costs.resources import resource_rows
from hetfab.overlay.design import Design, default_design
from hetfab.overlay.errors import DesignTooSmallError
from hetfab.overlay.timeline.machine import machine
from hetfab.overlay.timeline.simulate import simulate

_STEPS = (-2, 0, 2)


def main() -> None:
    """Prints the table and the JSON line."""
    arguments = argument_parser(__doc__).parse_args()
    chosen = list(workloads())
    rows, values = [], {}
    for design in neighbours(default_design()):
        needs = {name: need for name, need, _ in resource_rows(design)}
        short = [name for name, need, there in resource_rows(design) if need > there]
        times = [None if short else milliseconds(workload, design) for workload in chosen]
        verdict = "does not fit: " + ", ".join(short) if short else "fits"
        shown = ["" if value is None else round(value, 3) for value in times]
        rows.append([design.name, *(needs[name] for name in ("lut", "ff", "dsp", "bram36")), verdict, *shown])
        values[design.name] = _values(needs, not short, chosen, times)
    headings = [
        "GEMM-D + GEMM-L",
        "LUT",
        "FF",
        "DSP",
        "BRAM36",
        "board",
        *(f"{workload.name} ms" for workload in chosen),
    ]
    publish(Report("everything here is modelled", headings, rows, values), arguments.as_json)


def neighbours(design: Design) -> Iterator[Design]:
    """The design and those with other numbers of rows, each named by both arrays."""
    geometry = design.geometry
    for step_d in _STEPS:
        for step_l in _STEPS:
            on_d = geometry.gemm_d_rows + step_d, geometry.gemm_d_cols
            on_l = geometry.gemm_l_rows + step_l, geometry.gemm_l_cols
            if min(on_d[0], on_l[0]) > 0:
                yield reshaped(design, on_d, on_l)


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
