# SPDX-License-Identifier: Apache-2.0
"""Measures what the check for unordered accesses costs: alone, and inside the emulator."""

import statistics
import time
from collections.abc import Callable

from benchmarks.report import Report, argument_parser, publish
from benchmarks.workloads import Workload, workloads
from hetfab.driver.emulated import EmulatedTransport
from hetfab.driver.session import Session
from hetfab.hls.build.emulator import build_emulator
from hetfab.hls.build.order import build_order_check, check_accesses
from hetfab.overlay.design import default_design
from hetfab.overlay.isa.codec import Segment

_RUNS = 7
_HEADINGS = ["model", "instructions", "check alone s", "run s", "run with check s", "ratio"]


def main() -> None:
    """Prints the table and the JSON line."""
    arguments = argument_parser(__doc__).parse_args()
    build_emulator(default_design().geometry)
    build_order_check()
    rows: list[list[str]] = []
    values: dict[str, float] = {}
    for workload in workloads():
        found = measure(workload)
        rows.append([workload.name, *(f"{value:.4g}" for value in found.values())])
        values |= {f"{workload.name}_{name}": value for name, value in found.items()}
    title = f"seconds measured on this machine, median of {_RUNS} runs; runs with and without the check in turn"
    publish(Report(title, _HEADINGS, rows, values), arguments.as_json)


def measure(workload: Workload) -> dict[str, float]:
    """Times one workload."""
    design = default_design()
    bound = workload.bound(design)
    segments = {segment: ((int(segment) + 1) << 32, 1 << 32) for segment in Segment}

    def run(check: bool) -> None:
        with EmulatedTransport(design, check_order=check) as transport:
            Session(transport, design).run(bound)

    alone, without, checked = [], [], []
    for _ in range(_RUNS):
        alone.append(_seconds(lambda: check_accesses(bound.words, design.geometry, segments)))
        without.append(_seconds(lambda: run(False)))
        checked.append(_seconds(lambda: run(True)))
    return {
        "instructions": len(bound.words),
        "check_seconds": statistics.median(alone),
        "run_seconds": statistics.median(without),
        "checked_run_seconds": statistics.median(checked),
        "ratio": statistics.median(checked) / statistics.median(without),
    }


def _seconds(work: Callable[[], object]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


if __name__ == "__main__":
    main()
