# SPDX-License-Identifier: Apache-2.0
"""Writes a timeline as a Chrome JSON trace, which Perfetto opens: one track per engine, slices named by layer."""

import functools
import json
from pathlib import Path
from typing import BinaryIO

from hetfab.overlay.bind import BoundProgram
from hetfab.overlay.files import write_atomic
from hetfab.overlay.isa.spec import isa
from hetfab.overlay.timeline.model_stages import ModelStage, instruction_stages
from hetfab.overlay.timeline.simulate import Timeline

_PROCESS = 1
#: Tracks are numbered from 1: to Perfetto, thread 0 is the idle thread of a processor.
_RUN = 1
_ENGINES = 2


def save_trace(path: Path, timeline: Timeline, bound: BoundProgram) -> None:
    """Writes the trace to a file.

    Raises:
        OutputUnwritableError: The path cannot be written.
    """
    write_atomic(path, lambda file: write_trace(file, timeline, bound))


def write_trace(file: BinaryIO, timeline: Timeline, bound: BoundProgram) -> None:
    """Writes the trace.

    A microsecond of the trace is one of modelled time, in steps of a nanosecond. The slice "run" spans the whole.

    Args:
        file: Open for writing.
        timeline: What to write.
        bound: What ran; its program names the layers.
    """
    program, stages = bound.program, instruction_stages(bound, bound.program)
    events = [_name("process_name", _RUN, f"{program.model_name} (modelled)"), _name("thread_name", _RUN, "run")]
    events.append(
        _slice("run", _RUN, 0, nanoseconds(timeline.total_cycles, timeline), {"cycles": timeline.total_cycles})
    )
    events += [_name("thread_name", engine.id + _ENGINES, engine.name) for engine in isa().engines]
    for index in range(len(timeline.starts)):
        begin, end = (nanoseconds(float(times[index]), timeline) for times in (timeline.starts, timeline.ends))
        layer = program.layers[int(timeline.layers[index])].name
        arguments = _arguments(timeline, index) | {"stage": ModelStage(int(stages[index])).name}
        events.append(_slice(layer, int(timeline.engines[index]) + _ENGINES, begin, end, arguments))
    file.write(json.dumps({"displayTimeUnit": "ns", "traceEvents": events}).encode())


def nanoseconds(cycles: float, timeline: Timeline) -> int:
    """Modelled cycles as whole nanoseconds of the timeline's clock."""
    return round(cycles * 1e3 / timeline.machine.clock_mhz)


@functools.cache
def _operations() -> dict[tuple[int, int], str]:
    return {
        (engine.id, operation.opcode): operation.name
        for engine in isa().engines
        for operation in isa().operations
        if operation.engine in ("*", engine.name)
    }


def _arguments(timeline: Timeline, index: int) -> dict[str, object]:
    return {
        "instruction": index,
        "operation": _operations()[int(timeline.engines[index]), int(timeline.opcodes[index])],
        "busy_cycles": float(timeline.busy[index]),
        "dram_stall_cycles": float(timeline.dram_stalls[index]),
        "idle_before_cycles": float(timeline.idle[index]),
        "bytes": int(timeline.bytes[index]),
    }


def _name(kind: str, thread: int, name: str) -> dict[str, object]:
    return {"ph": "M", "name": kind, "pid": _PROCESS, "tid": thread, "args": {"name": name}}


def _slice(name: str, thread: int, begin: int, end: int, arguments: dict[str, object]) -> dict[str, object]:
    """A complete event; its times are microseconds with at most three decimals, so whole nanoseconds."""
    times = {"ts": begin / 1e3, "dur": (end - begin) / 1e3}
    return {"ph": "X", "name": name, "pid": _PROCESS, "tid": thread, **times, "args": arguments}
