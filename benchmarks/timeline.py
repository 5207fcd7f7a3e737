# SPDX-License-Identifier: Apache-2.0
"""Measures what it takes to emulate and to simulate runs of the default design; their time on a board is modelled."""

import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from benchmarks.report import Report, argument_parser, publish
from benchmarks.workloads import Workload, workloads
from hetfab.driver.emulated import EmulatedTransport
from hetfab.driver.session import Session
from hetfab.hls.build.emulator import build_emulator
from hetfab.overlay.costs.program_cost import expected_log
from hetfab.overlay.design import default_design
from hetfab.overlay.timeline.machine import COMPARISON_RATE, machine
from hetfab.overlay.timeline.simulate import simulate

_RUNS = 3
#: How much slower DISPATCH is in a further column: its constants are the least certain.
_SLOWER = 4
_HEADINGS = [
    "model", "instructions", "modelled ms", "modelled ms at 8 B a cycle", f"modelled ms, DISPATCH {_SLOWER}x slower",
    "emulate s", "simulate s",
]  # fmt: skip


def main() -> None:
    """Prints the table and the JSON line."""
    arguments = argument_parser(__doc__).parse_args()
    build_emulator(default_design().geometry)
    rows: list[list[object]] = []
    values: dict[str, Any] = {}
    for workload in workloads():
        found = measure(workload)
        rows.append([workload.name, *found.values()])
        values |= {f"{workload.name}_{name}": value for name, value in found.items()}
    title = f"milliseconds modelled; seconds measured on this machine, median of {_RUNS} runs"
    publish(Report(title, _HEADINGS, rows, values), arguments.as_json)


def measure(workload: Workload) -> dict[str, Any]:
    """Times one workload.

    Simulating is the cost functions and the timeline, from the bound program on; emulating is the driver's run.
    """
    design = default_design()
    bound = workload.bound(design, side_by_side=True)

    def emulate() -> None:
        with EmulatedTransport(design) as transport:
            Session(transport, design).run(bound)

    board = simulate(bound.words, expected_log(bound), machine(design))
    comparison = simulate(bound.words, expected_log(bound), machine(design, dram_rate=COMPARISON_RATE))
    on = machine(design)
    least_certain = ("queue_cycles", "pass_cycles", "issue_cycles", "token_cycles")
    slower = replace(on, **{name: _SLOWER * getattr(on, name) for name in least_certain})
    return {
        "instructions": len(bound.words),
        "modelled_milliseconds": board.milliseconds,
        "modelled_milliseconds_at_8_bytes_per_cycle": comparison.milliseconds,
        "modelled_milliseconds_with_slower_dispatch": simulate(bound.words, expected_log(bound), slower).milliseconds,
        "emulate_seconds": _median_seconds(emulate),
        "simulate_seconds": _median_seconds(lambda: simulate(bound.words, expected_log(bound), machine(design))),
    }


def _median_seconds(work: Callable[[], object]) -> float:
    seconds = []
    for _ in range(_RUNS):
        begin = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - begin)
    return statistics.median(seconds)


if __name__ == "__main__":
    main()
