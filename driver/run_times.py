# SPDX-License-Identifier: Apache-2.0
"""Times the runs of a session while they end: of a program, of its parts, and of what builds its semantic graphs."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import numpy.typing as npt

from hetfab.driver.graph.arrays import metapaths_of
from hetfab.driver.session import RunResult
from hetfab.overlay.bind import BoundProgram
from hetfab.overlay.costs.program_cost import expected_log
from hetfab.overlay.design import Design
from hetfab.overlay.program import Program
from hetfab.overlay.timeline.critical_path import critical_path
from hetfab.overlay.timeline.machine import machine
from hetfab.overlay.timeline.simulate import simulate
from hetfab.overlay.timeline.summary import Summary, joined, summarise
from hetfab.overlay.timeline.work import Work, tally


class RunTimes:
    """A watcher of sessions that keeps what their runs take, modelled.

    Args:
        program: The whole program, which names layers and edge sets.
        design: Of the overlay.
    """

    def __init__(self, program: Program, design: Design) -> None:
        self._program = program
        self._design = design
        self._runs: list[Summary] = []
        self._builds = Work()
        self._build_cycles = 0.0

    def ran(self, bound: BoundProgram, result: RunResult) -> None:
        """Times a run of the program, or of a part of it."""
        log = expected_log(bound) if result.run_log is None else result.run_log
        self._runs.append(summarise(bound, log, self._design, self._program))

    def built(self, words: npt.NDArray[np.uint64], run_log: npt.NDArray[Any] | None) -> None:
        """Times a stream that built semantic graphs, where the device keeps a run log."""
        if run_log is None:
            return
        timeline = simulate(words, run_log, machine(self._design))
        one, nothing = np.zeros(len(words), np.int64), np.zeros(len(words), np.int64)
        self._builds += tally(one, 1, timeline, run_log, nothing, critical_path(timeline))[0]
        self._build_cycles += timeline.total_cycles

    @property
    def summary(self) -> Summary:
        """All runs of the program, at least one, one after the other."""
        return self._runs[0] if len(self._runs) == 1 else joined(self._runs)

    def semantic_graphs(self) -> Mapping[str, Any]:
        """Who built the program's semantic graphs before it ran, and what SGB took for that.

        Returns:
            ``metapaths``, how many there are; ``built_by``: ``sgb``, ``host``, or None where there are none; ``cycles``
            and ``milliseconds`` (modelled) and ``work`` of SGB, all zero where it built nothing.
        """
        paths = len(metapaths_of(self._program))
        by = "sgb" if self._build_cycles else "host" if paths else None
        milliseconds = self._build_cycles / (1e3 * self._design.clock_mhz)
        return {
            "metapaths": paths,
            "built_by": by,
            "cycles": self._build_cycles,
            "milliseconds": milliseconds,
            "work": asdict(self._builds),
        }
