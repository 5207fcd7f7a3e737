# SPDX-License-Identifier: Apache-2.0
"""Where cycles and bytes go: totals per engine and layer, stall reasons, bounds and the critical path. All modelled."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from hetfab.overlay.compiler.semaphores import Semaphore
from hetfab.overlay.isa.spec import isa
from hetfab.overlay.program import Program
from hetfab.overlay.timeline.simulate import Reason, Timeline


@dataclass(frozen=True)
class EngineTime:
    """Modelled cycles of one engine; the four parts add up to the run's total.

    Attributes:
        name: The engine.
        instructions: Instructions that it executed.
        busy: Cycles of its loops.
        dram: Cycles beyond its loops, for DRAM's rate and latency.
        idle: Cycles without work, by reason: "fetch", "end", or the semaphore's name.
        bytes: DRAM bytes.
        bursts: AXI bursts.
    """

    name: str
    instructions: int
    busy: float
    dram: float
    idle: dict[str, float]
    bytes: int
    bursts: int


@dataclass(frozen=True)
class Bounds:
    """Lower bounds of the total, in modelled cycles: the busiest engine, and all bytes at the DRAM's rate."""

    compute: float
    dram: float


def engine_times(timeline: Timeline) -> list[EngineTime]:
    """Where each engine's cycles go."""
    times = []
    for engine in isa().engines:
        own = timeline.engines == engine.id
        idle: dict[str, float] = {}
        for reason in (Reason.FETCH, Reason.SEMAPHORE):
            for semaphore in np.unique(timeline.semaphores[own & (timeline.reasons == reason)]):
                chosen = own & (timeline.reasons == reason) & (timeline.semaphores == semaphore)
                idle[_reason(reason, int(semaphore))] = float(timeline.idle[chosen].sum())
        last = float(timeline.ends[own].max(initial=0.0))
        idle["end"] = timeline.total_cycles - last
        times.append(
            EngineTime(
                name=engine.name,
                instructions=int(own.sum()),
                busy=float(timeline.busy[own].sum()),
                dram=float(timeline.dram_stalls[own].sum()),
                idle=idle,
                bytes=int(timeline.bytes[own].sum()),
                bursts=int(timeline.bursts[own].sum()),
            )
        )
    return times


def _reason(reason: Reason, semaphore: int) -> str:
    return "fetch" if reason is Reason.FETCH else Semaphore(semaphore).name.lower()


def bounds(timeline: Timeline) -> Bounds:
    """Lower bounds that no order of the same instructions can beat."""
    busiest = max((float(timeline.busy[timeline.engines == e.id].sum()) for e in isa().engines), default=0.0)
    return Bounds(busiest, float(timeline.bytes.sum()) / timeline.machine.dram_rate)


@dataclass(frozen=True)
class PathStep:
    """Consecutive instructions of one engine and one layer on the critical path, and their cycles with waits."""

    engine: str
    layer: int
    instructions: int
    cycles: float


def critical_path(timeline: Timeline) -> list[PathStep]:
    """The chain of instructions, each held up by the one before, that ends with the last instruction."""
    if not len(timeline.ends):
        return []
    steps: list[PathStep] = []
    index = int(np.argmax(timeline.ends))
    end = float(timeline.ends[index])
    names = {engine.id: engine.name for engine in isa().engines}
    while index >= 0:
        before = int(timeline.predecessors[index])
        # A predecessor that only queued this instruction handed over before its own end.
        fetched = timeline.reasons[index] == Reason.FETCH and timeline.idle[index] > 0
        begin = 0.0 if before < 0 else float(timeline.queued[before] if fetched else timeline.ends[before])
        begin = min(begin, end)
        engine, layer, cycles = names[int(timeline.engines[index])], int(timeline.layers[index]), end - begin
        if steps and (steps[-1].engine, steps[-1].layer) == (engine, layer):
            last = steps.pop()
            steps.append(PathStep(engine, layer, last.instructions + 1, last.cycles + cycles))
        else:
            steps.append(PathStep(engine, layer, 1, cycles))
        index, end = before, begin
    return steps[::-1]


def layer_cycles(timeline: Timeline, program: Program) -> list[tuple[str, float, float, int]]:
    """Per layer: name, modelled cycle of its first start and of its last end, DRAM bytes."""
    rows = []
    for number, layer in enumerate(program.layers):
        own = timeline.layers == number
        if own.any():
            begin, end = float(timeline.starts[own].min()), float(timeline.ends[own].max())
            rows.append((layer.name, begin, end, int(timeline.bytes[own].sum())))
    return rows


def as_dict(timeline: Timeline) -> dict[str, Any]:
    """The summary as plain values, for ``--json``."""
    found = bounds(timeline)
    return {
        "modelled_cycles": timeline.total_cycles,
        "modelled_milliseconds": timeline.milliseconds,
        "modelled_compute_bound_cycles": found.compute,
        "modelled_dram_bound_cycles": found.dram,
        "engines": {
            time.name: {
                "instructions": time.instructions,
                "busy_cycles": time.busy,
                "dram_cycles": time.dram,
                "idle_cycles": time.idle,
                "bytes": time.bytes,
                "bursts": time.bursts,
            }
            for time in engine_times(timeline)
        },
    }
