# SPDX-License-Identifier: Apache-2.0
"""Writes a timeline as a Chrome JSON trace, which Perfetto opens: one track per engine, slices named by layer."""

import json
from typing import BinaryIO

from hetfab.overlay.isa.spec import isa
from hetfab.overlay.program import Program
from hetfab.overlay.timeline.simulate import Timeline

_PROCESS = 1


def write_trace(file: BinaryIO, timeline: Timeline, program: Program) -> None:
    """Writes the trace.

    A microsecond of the trace is one of modelled time. The slice "run" spans the whole.

    Args:
        file: Open for writing.
        timeline: What to write.
        program: Names the layers.
    """
    microseconds = 1.0 / timeline.machine.clock_mhz
    events: list[dict[str, object]] = [_name("process_name", 0, f"{program.model_name} (modelled)")]
    events.append(_name("thread_name", 0, "run"))
    events.append(_slice("run", 0, 0.0, timeline.total_cycles * microseconds, {}))
    operations = {
        (engine.id, operation.opcode): operation.name
        for engine in isa().engines
        for operation in isa().operations
        if operation.engine in ("*", engine.name)
    }
    events += [_name("thread_name", engine.id + 1, engine.name) for engine in isa().engines]
    for index in range(len(timeline.starts)):
        engine = int(timeline.engines[index])
        arguments = {
            "instruction": index,
            "operation": operations[engine, int(timeline.opcodes[index])],
            "cycles": float(timeline.busy[index]),
            "dram_stall_cycles": float(timeline.dram_stalls[index]),
            "bytes": int(timeline.bytes[index]),
        }
        start, end = float(timeline.starts[index]), float(timeline.ends[index])
        layer = program.layers[int(timeline.layers[index])].name
        events.append(_slice(layer, engine + 1, start * microseconds, (end - start) * microseconds, arguments))
    file.write(json.dumps({"displayTimeUnit": "ns", "traceEvents": events}).encode())


def _name(kind: str, thread: int, name: str) -> dict[str, object]:
    return {"ph": "M", "name": kind, "pid": _PROCESS, "tid": thread, "args": {"name": name}}


def _slice(name: str, thread: int, start: float, duration: float, arguments: dict[str, object]) -> dict[str, object]:
    return {
        "ph": "X", "name": name, "pid": _PROCESS, "tid": thread, "ts": start, "dur": duration, "args": arguments,
    }  # fmt: skip
