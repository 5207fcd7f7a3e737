# SPDX-License-Identifier: Apache-2.0
"""Where cycles and bytes go: per engine, per layer and on the critical path, at two DRAM rates. All modelled."""

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt

from hetfab.overlay.bind import BoundProgram
from hetfab.overlay.compiler.semaphores import Semaphore
from hetfab.overlay.design import Design
from hetfab.overlay.isa.spec import isa
from hetfab.overlay.program import Program
from hetfab.overlay.timeline.bounds import Bounds, lower_bounds
from hetfab.overlay.timeline.critical_path import critical_path
from hetfab.overlay.timeline.machine import COMPARISON_RATE, machine, measured_constants
from hetfab.overlay.timeline.simulate import Reason, Timeline, simulate

#: Idle after an engine's last instruction.
END = "end"
#: An instruction with fewer cycles of work is short: fetching, issuing and fencing it is no longer negligible.
SHORT_CYCLES = 100
_LARGEST_STEPS = 6
_SEMAPHORES = {semaphore.value: semaphore.name.lower() for semaphore in Semaphore}


@dataclass(frozen=True)
class EngineTime:
    """Modelled cycles of one engine; the parts add up to the run's total.

    Attributes:
        name: The engine.
        instructions: Instructions that it executed.
        short: Of these, those whose loops take less than ``SHORT_CYCLES``.
        busy: Cycles of its loops.
        dram: Cycles beyond its loops, for DRAM's rate and latency.
        idle: Cycles without work, by reason: the name of a ``Reason``, of a semaphore, or ``END``.
        bytes: DRAM bytes.
        bursts: AXI bursts.
    """

    name: str
    instructions: int
    short: int
    busy: float
    dram: float
    idle: dict[str, float]
    bytes: int
    bursts: int

    @property
    def main_reason(self) -> str:
        """The largest part that is not busy, ``dram`` or a reason of ``idle``; empty without any."""
        name, cycles = max({"dram": self.dram, **self.idle}.items(), key=lambda part: part[1])
        return name if cycles > 0 else ""


@dataclass(frozen=True)
class PathStep:
    """What the critical path spends on one engine, one layer and one use of time, in modelled cycles."""

    engine: str
    layer: int
    spent: str
    cycles: float


@dataclass(frozen=True, eq=False)
class Summary:
    """A bound program's time on its board and at the rate of comparisons.

    Attributes:
        program: What ran.
        design: What it ran on.
        board: At the rate of the design's board.
        comparison: At ``COMPARISON_RATE``.
        bounds: Lower bounds of ``board``.
        path: The critical path of ``board`` by engine, layer and use, largest first.
    """

    program: Program
    design: Design
    board: Timeline
    comparison: Timeline
    bounds: Bounds
    path: list[PathStep]


def summarise(bound: BoundProgram, log: npt.NDArray[Any], design: Design | None = None) -> Summary:
    """Times a bound program.

    Args:
        bound: The program.
        log: Its run log, from the emulator or from the cost functions.
        design: Where it runs; the program's own design when left out.

    Raises:
        DesignInvalidError: There is no board of the design's name.
    """
    design = design or bound.program.design
    on_board = machine(design)
    board = simulate(bound.words, log, on_board)
    return Summary(
        program=bound.program,
        design=design,
        board=board,
        comparison=simulate(bound.words, log, machine(design, dram_rate=COMPARISON_RATE)),
        bounds=lower_bounds(bound.words, log, on_board),
        path=path_steps(board),
    )


def engine_times(timeline: Timeline) -> list[EngineTime]:
    """Where each engine's cycles go."""
    times = []
    for engine in isa().engines:
        own = timeline.engines == engine.id
        idle: dict[str, float] = defaultdict(float)
        keys = zip(timeline.reasons[own].tolist(), timeline.semaphores[own].tolist(), strict=True)
        for (reason, semaphore), cycles in zip(keys, timeline.idle[own].tolist(), strict=True):
            idle[_reason(Reason(reason), semaphore)] += cycles
        idle[END] = timeline.total_cycles - float(timeline.ends[own].max(initial=0.0))
        times.append(
            EngineTime(
                name=engine.name,
                instructions=int(own.sum()),
                short=int((timeline.busy[own] < SHORT_CYCLES).sum()),
                busy=float(timeline.busy[own].sum()),
                dram=float(timeline.dram_stalls[own].sum()),
                idle={name: cycles for name, cycles in idle.items() if cycles},
                bytes=int(timeline.bytes[own].sum()),
                bursts=int(timeline.bursts[own].sum()),
            )
        )
    return times


def short_share(timeline: Timeline) -> float:
    """Share of all instructions whose loops take less than ``SHORT_CYCLES``, 0 without any."""
    return float((timeline.busy < SHORT_CYCLES).mean()) if len(timeline.busy) else 0.0


def _reason(reason: Reason, semaphore: int) -> str:
    if reason is not Reason.SEMAPHORE:
        return reason.name.lower()
    return _SEMAPHORES.get(semaphore, f"semaphore {semaphore}")


def path_steps(timeline: Timeline) -> list[PathStep]:
    """The critical path's links by engine, layer and use of time, largest first."""
    names = {engine.id: engine.name for engine in isa().engines}
    cycles: dict[tuple[str, int, str], float] = defaultdict(float)
    for link in critical_path(timeline):
        engine = names[int(timeline.engines[link.instruction])]
        cycles[engine, int(timeline.layers[link.instruction]), link.spent.value] += link.cycles
    steps = [PathStep(*key, value) for key, value in cycles.items()]
    return sorted(steps, key=lambda step: -step.cycles)


def layer_cycles(timeline: Timeline, program: Program) -> list[tuple[str, float, float, int]]:
    """Per layer: name, modelled cycle of its first start and of its last end, DRAM bytes."""
    rows = []
    for number, layer in enumerate(program.layers):
        own = timeline.layers == number
        if own.any():
            begin, end = float(timeline.starts[own].min()), float(timeline.ends[own].max())
            rows.append((layer.name, begin, end, int(timeline.bytes[own].sum())))
    return rows


ENGINE_HEADINGS = [
    "engine",
    "instructions",
    f"below {SHORT_CYCLES} cycles %",
    "modelled cycles",
    "busy %",
    "dram %",
    "idle %",
    "stalls most on",
    "bytes",
]
PATH_HEADINGS = ["critical path", "layer", "spent on", "modelled cycles", "%"]
TOTAL_HEADINGS = ["DRAM rate", "bytes a cycle", "modelled cycles", "modelled ms"]


def tables(summary: Summary) -> list[tuple[list[str], list[list[object]]]]:
    """Headings and rows of what people read: totals, engines, critical path."""
    return [
        (TOTAL_HEADINGS, total_rows(summary)),
        (ENGINE_HEADINGS, engine_rows(summary)),
        (PATH_HEADINGS, path_rows(summary)),
    ]


def engine_rows(summary: Summary) -> list[list[object]]:
    """Table of engines at the board's rate."""
    total = summary.board.total_cycles
    share = 100 / total if total else 0.0
    rows: list[list[object]] = []
    for time in _present(summary):
        idle = sum(time.idle.values())
        parts = [round(share * part, 1) for part in (time.busy, time.dram, idle)]
        short = round(100 * time.short / time.instructions, 1) if time.instructions else 0.0
        rows.append([time.name, time.instructions, short, round(time.busy), *parts, time.main_reason, time.bytes])
    return rows


def _present(summary: Summary) -> list[EngineTime]:
    """The engines that the design has."""
    return [time for time in engine_times(summary.board) if time.name in summary.design.geometry.engines]


def path_rows(summary: Summary) -> list[list[object]]:
    """Table of the critical path's largest steps."""
    layers, total = summary.program.layers, summary.board.total_cycles
    return [
        [step.engine, layers[step.layer].name, step.spent, round(step.cycles), round(100 * step.cycles / total, 1)]
        for step in summary.path[:_LARGEST_STEPS]
    ]


def total_rows(summary: Summary) -> list[list[object]]:
    """Table of totals at both rates."""
    named = [(f"of the board {summary.design.board}", summary.board), ("for comparison", summary.comparison)]
    return [
        [name, round(times.machine.dram_rate, 2), round(times.total_cycles), round(times.milliseconds, 4)]
        for name, times in named
    ]


def as_dict(summary: Summary) -> dict[str, Any]:
    """The summary as plain values, for ``--json``; every figure is modelled."""
    layers = summary.program.layers
    return {
        "modelled": True,
        "clock_mhz": summary.board.machine.clock_mhz,
        "measured_constants": {
            name: {"value": constant.value, "origin": constant.origin}
            for name, constant in sorted(measured_constants(summary.design.board).items())
        },
        "board": _totals(summary.board),
        "comparison": _totals(summary.comparison),
        "bounds_cycles": {
            "compute": summary.bounds.compute,
            "dram": summary.bounds.dram,
            "dependences": summary.bounds.dependences,
        },
        "engines": {
            time.name: {
                "instructions": time.instructions,
                "short_instructions": time.short,
                "busy_cycles": time.busy,
                "dram_cycles": time.dram,
                "idle_cycles": time.idle,
                "main_reason": time.main_reason,
                "bytes": time.bytes,
                "bursts": time.bursts,
            }
            for time in _present(summary)
        },
        "short_instructions": {"below_cycles": SHORT_CYCLES, "share": short_share(summary.board)},
        "layers": [
            {"name": name, "begin_cycle": begin, "end_cycle": end, "bytes": size}
            for name, begin, end, size in layer_cycles(summary.board, summary.program)
        ],
        "critical_path": [
            {"engine": step.engine, "layer": layers[step.layer].name, "spent": step.spent, "cycles": step.cycles}
            for step in summary.path
        ],
    }


def _totals(timeline: Timeline) -> dict[str, float]:
    return {
        "dram_bytes_per_cycle": timeline.machine.dram_rate,
        "cycles": timeline.total_cycles,
        "milliseconds": timeline.milliseconds,
    }
