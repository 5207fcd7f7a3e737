# SPDX-License-Identifier: Apache-2.0
"""Where cycles and bytes go: per engine, per layer and on the critical path, at two DRAM rates. All modelled."""

import itertools
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, astuple, dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from hetfab.overlay.bind import BoundProgram
from hetfab.overlay.compiler.semaphores import Semaphore
from hetfab.overlay.costs.cycles import products_per_cycle
from hetfab.overlay.design import Design
from hetfab.overlay.isa.spec import isa
from hetfab.overlay.program import Program
from hetfab.overlay.timeline.bounds import Bounds, lower_bounds
from hetfab.overlay.timeline.critical_path import Link, critical_path
from hetfab.overlay.timeline.machine import COMPARISON_RATE, machine, measured_constants
from hetfab.overlay.timeline.model_stages import ModelStage, instruction_stages
from hetfab.overlay.timeline.simulate import Reason, Timeline, joined_timeline, simulate
from hetfab.overlay.timeline.work import Work, channels_added, tally

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


@dataclass(frozen=True)
class LayerTime:
    """A layer's time on the cores or on AGG, in modelled cycles.

    Attributes:
        layer: Its number.
        on_agg: Whether this is its work on AGG; else that of all other engines.
        begin: When its first instruction starts.
        end: When its last one ends.
        work: What it costs.
    """

    layer: int
    on_agg: bool
    begin: float
    end: float
    work: Work


@dataclass(frozen=True, eq=False)
class Summary:
    """A bound program's time on its board and at the rate of comparisons, or that of several, one after the other.

    Attributes:
        program: What ran.
        design: What it ran on.
        board: At the rate of the design's board.
        comparison: At ``COMPARISON_RATE``.
        bounds: Lower bounds of ``board``.
        path: The critical path of ``board`` by engine, layer and use, largest first.
        engines: Where each engine's cycles go on ``board``.
        layers: Times of layers on ``board``.
        stages: What each ``ModelStage`` costs on ``board``.
        runs: How many runs of the overlay this is.
    """

    program: Program
    design: Design
    board: Timeline
    comparison: Timeline
    bounds: Bounds
    path: list[PathStep]
    engines: list[EngineTime]
    layers: list[LayerTime]
    stages: list[Work]
    runs: int = 1


def summarise(
    bound: BoundProgram, log: npt.NDArray[Any], design: Design | None = None, program: Program | None = None
) -> Summary:
    """Times a bound program.

    Args:
        bound: The program.
        log: Its run log, from the emulator or from the cost functions.
        design: Where it runs; the program's own design when left out.
        program: The whole program, where ``bound`` is a part of it.

    Raises:
        DesignInvalidError: There is no board of the design's name.
    """
    design, program = design or bound.program.design, program or bound.program
    on_board = machine(design)
    board = simulate(bound.words, log, on_board)
    path, added = critical_path(board), channels_added(bound.words, log, design.geometry)
    return Summary(
        program=program,
        design=design,
        board=board,
        comparison=simulate(bound.words, log, machine(design, dram_rate=COMPARISON_RATE)),
        bounds=lower_bounds(bound.words, log, on_board),
        path=path_steps(board, path),
        engines=engine_times(board),
        layers=_layer_times(board, log, added, path),
        stages=tally(instruction_stages(bound, program), len(ModelStage), board, log, added, path),
    )


def joined(summaries: Sequence[Summary]) -> Summary:
    """What several runs take one after the other, at least one; what the host does between them takes no time here."""
    first = summaries[0]
    starts = list(itertools.accumulate((each.board.total_cycles for each in summaries), initial=0.0))[:-1]
    bounds = [each.bounds for each in summaries]
    return replace(
        first,
        board=joined_timeline([each.board for each in summaries]),
        comparison=joined_timeline([each.comparison for each in summaries]),
        bounds=Bounds(*(math.fsum(values) for values in zip(*map(astuple, bounds), strict=True))),
        path=_joined_path(summaries),
        engines=[_joined_engines(times) for times in zip(*(each.engines for each in summaries), strict=True)],
        layers=_joined_layers(
            [
                replace(time, begin=time.begin + start, end=time.end + start)
                for each, start in zip(summaries, starts, strict=True)
                for time in each.layers
            ]
        ),
        stages=[sum(works, Work()) for works in zip(*(each.stages for each in summaries), strict=True)],
        runs=sum(each.runs for each in summaries),
    )


def _joined_path(summaries: Sequence[Summary]) -> list[PathStep]:
    cycles: dict[tuple[str, int, str], float] = defaultdict(float)
    for step in itertools.chain.from_iterable(each.path for each in summaries):
        cycles[step.engine, step.layer, step.spent] += step.cycles
    return _largest_first(cycles)


def _joined_engines(times: Sequence[EngineTime]) -> EngineTime:
    idle: dict[str, float] = defaultdict(float)
    for name, cycles in itertools.chain.from_iterable(each.idle.items() for each in times):
        idle[name] += cycles
    return EngineTime(
        name=times[0].name,
        instructions=sum(each.instructions for each in times),
        short=sum(each.short for each in times),
        busy=sum(each.busy for each in times),
        dram=sum(each.dram for each in times),
        idle=dict(idle),
        bytes=sum(each.bytes for each in times),
        bursts=sum(each.bursts for each in times),
    )


def _joined_layers(times: Sequence[LayerTime]) -> list[LayerTime]:
    found: dict[tuple[int, bool], LayerTime] = {}
    for time in times:
        last = found.setdefault((time.layer, time.on_agg), time)
        if last is not time:
            found[time.layer, time.on_agg] = replace(last, end=time.end, work=last.work + time.work)
    return [found[key] for key in sorted(found)]


def _layer_times(
    timeline: Timeline, log: npt.NDArray[Any], added: npt.NDArray[Any], path: Sequence[Link]
) -> list[LayerTime]:
    groups = 2 * timeline.layers + (timeline.engines == isa().engine("agg").id)
    number = int(groups.max(initial=-1)) + 1
    works = tally(groups, number, timeline, log, added, path)
    found = []
    for group in np.unique(groups).tolist():
        own = groups == group
        begin, end = float(timeline.starts[own].min()), float(timeline.ends[own].max())
        found.append(LayerTime(group // 2, bool(group % 2), begin, end, works[group]))
    return found


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


def path_steps(timeline: Timeline, path: Sequence[Link]) -> list[PathStep]:
    """The critical path's links by engine, layer and use of time, largest first."""
    names = {engine.id: engine.name for engine in isa().engines}
    cycles: dict[tuple[str, int, str], float] = defaultdict(float)
    for link in path:
        engine = names[int(timeline.engines[link.instruction])]
        cycles[engine, int(timeline.layers[link.instruction]), link.spent.value] += link.cycles
    return _largest_first(cycles)


def _largest_first(cycles: Mapping[tuple[str, int, str], float]) -> list[PathStep]:
    return sorted((PathStep(*key, value) for key, value in cycles.items()), key=lambda step: -step.cycles)


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
    return [time for time in summary.engines if time.name in summary.design.geometry.engines]


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
        "runs": summary.runs,
        "layers": _layer_dicts(summary),
        "stages": {stage.name: asdict(work) for stage, work in zip(ModelStage, summary.stages, strict=True)},
        "roofline": roofline(summary),
        "critical_path": [
            {"engine": step.engine, "layer": layers[step.layer].name, "spent": step.spent, "cycles": step.cycles}
            for step in summary.path
        ],
    }


def _layer_dicts(summary: Summary) -> list[dict[str, Any]]:
    """Per layer that ran: when, what it costs, and the share of gathered rows that AGG's scratchpad held."""
    found = []
    for number, times in itertools.groupby(summary.layers, key=lambda time: time.layer):
        parts = list(times)
        work = sum((part.work for part in parts), Work())
        span = {"begin_cycle": min(part.begin for part in parts), "end_cycle": max(part.end for part in parts)}
        name = summary.program.layers[number].name
        found.append({"name": name, **span, **asdict(work), "hit_rate": work.hit_rate})
    return found


def roofline(summary: Summary) -> dict[str, Any]:
    """Roofs of the design on its board, and what layers reach below them.

    A point is a layer on the cores, whose operations are multiply-accumulates, or on AGG, where they are channels that
    are added. Its cycles are those from the first start to the last end.
    """
    geometry = summary.design.geometry
    points = []
    for time in summary.layers:
        operations = time.work.additions if time.on_agg else time.work.macs
        if operations:
            point = {"layer": summary.program.layers[time.layer].name, "on": "agg" if time.on_agg else "cores"}
            points.append(point | {"operations": operations, "bytes": time.work.bytes, "cycles": time.end - time.begin})
    return {
        "dram_bytes_per_cycle": summary.board.machine.dram_rate,
        "operations_per_cycle": {
            "cores_w8a8": products_per_cycle(geometry, 8, 8),
            "cores_w4a4": products_per_cycle(geometry, 4, 4),
            "agg": geometry.lanes * geometry.agg_word_beats if "agg" in geometry.engines else 0,
        },
        "points": points,
    }


def _totals(timeline: Timeline) -> dict[str, float]:
    return {
        "dram_bytes_per_cycle": timeline.machine.dram_rate,
        "cycles": timeline.total_cycles,
        "milliseconds": timeline.milliseconds,
    }
