# SPDX-License-Identifier: Apache-2.0
"""The timeline simulator: replays a bound stream and its run log through queues, semaphores, ports and DRAM.

One sweep in program order suffices: DISPATCH fetches in that order, and every wait pairs with an earlier signal
(``bind.check_order``). All times are maxima of sums, so more bandwidth or a faster clock never makes a run longer.
docs/timeline.md has the model and a worked example. All results are modelled.
"""

import enum
from collections import deque
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from hetfab.overlay.costs.program_cost import field_values
from hetfab.overlay.isa.spec import isa
from hetfab.overlay.program import Words
from hetfab.overlay.timeline.machine import Machine

Array: TypeAlias = npt.NDArray[Any]


class Reason(enum.IntEnum):
    """Why an instruction did not start when its engine became free, or took longer than its loops."""

    NONE = 0
    FETCH = 1
    SEMAPHORE = 2
    DRAM = 3


@dataclass(frozen=True, eq=False)
class Timeline:
    """When each instruction ran, in modelled cycles from the start register's write.

    Attributes:
        machine: What was timed.
        engines: Engine id of each instruction, [n].
        opcodes: Opcode of each instruction, [n].
        layers: Layer of each instruction, [n].
        queued: When DISPATCH queued it, [n].
        starts: When its engine began, [n].
        ends: When its engine ended, [n].
        busy: Cycles of its loops, [n].
        idle: Cycles that its engine stood still before it, [n].
        reasons: ``Reason`` of ``idle``, [n].
        semaphores: Semaphore that it waited for last, 0 for none, [n].
        dram_stalls: Cycles beyond its loops, for DRAM's rate and latency, [n].
        predecessors: Instruction that held it up last, -1 for none, [n].
        bytes: DRAM bytes of each instruction, [n].
        bursts: AXI bursts of each instruction, [n].
        total_cycles: From the start register's write to DISPATCH's last token.
    """

    machine: Machine
    engines: Array
    opcodes: Array
    layers: Array
    queued: Array
    starts: Array
    ends: Array
    busy: Array
    idle: Array
    reasons: Array
    semaphores: Array
    dram_stalls: Array
    predecessors: Array
    bytes: Array
    bursts: Array
    total_cycles: float

    @property
    def milliseconds(self) -> float:
        """The whole run, modelled."""
        return self.total_cycles / (self.machine.clock_mhz * 1e3)


def simulate(words: Words, log: Array, machine: Machine) -> Timeline:
    """Times a bound stream.

    Args:
        words: uint64 [n, 2], a stream that ``check_order`` accepts.
        log: Its run log, from the emulator or from the cost functions.
        machine: What to time it on.
    """
    count = len(words)
    sweep = _Sweep(machine, count)
    headers = {field.name: field_values(words, field).tolist() for field in isa().header}
    data, graph, written = log["read_bytes"][:, 0], log["read_bytes"][:, 1], log["write_bytes"]
    trips = _round_trips(log).tolist()
    busy = log["cycles"].astype(np.float64)
    moved = (data + graph + written).astype(np.float64)
    widest = np.maximum(np.maximum(data, graph), written).astype(np.float64)
    rows = zip(
        headers["engine"], headers["wait0"], headers["wait1"], headers["signal0"], headers["signal1"],
        busy.tolist(), moved.tolist(), widest.tolist(), trips, strict=True,
    )  # fmt: skip
    for index, row in enumerate(rows):
        sweep.step(index, *row)
    ends = np.array(sweep.ends)
    starts = np.array(sweep.starts)
    last = float(ends.max() + machine.token_cycles) if count else 0.0
    return Timeline(
        machine=machine,
        engines=log["engine"].astype(np.int64),
        opcodes=log["opcode"].astype(np.int64),
        layers=log["layer"].astype(np.int64),
        queued=np.array(sweep.queued),
        starts=starts,
        ends=ends,
        busy=busy,
        idle=np.array(sweep.idle),
        reasons=np.array(sweep.reasons, dtype=np.int64),
        semaphores=np.array(sweep.semaphores, dtype=np.int64),
        dram_stalls=ends - starts - busy,
        predecessors=np.array(sweep.predecessors, dtype=np.int64),
        bytes=moved,
        bursts=(log["read_bursts"].sum(axis=1) + log["write_bursts"]).astype(np.int64),
        total_cycles=last,
    )


def _round_trips(log: Array) -> Array:
    """Latencies that an instruction meets one after the other, as a multiple of 1 read (low) and 1 write (high byte).

    LOAD waits for its first beat; AGG for its destinations, their ids and the first row; STORE for a response.
    """
    reads = (log["read_bytes"][:, 0] > 0).astype(np.int64)
    chain = np.where(log["read_bytes"][:, 1] > 0, np.where(log["edges"] > 0, 3, 1), reads)
    return chain + 256 * (log["write_bytes"] > 0).astype(np.int64)


class _Sweep:
    """The state of one pass over the stream in program order."""

    def __init__(self, machine: Machine, count: int) -> None:
        engines = len(isa().engines)
        self.machine = machine
        self.queued: list[float] = [0.0] * count
        self.starts: list[float] = [0.0] * count
        self.ends: list[float] = [0.0] * count
        self.idle: list[float] = [0.0] * count
        self.reasons: list[int] = [0] * count
        self.semaphores: list[int] = [0] * count
        self.predecessors: list[int] = [-1] * count
        self._previous: list[int] = [-1] * engines
        self._free: list[float] = [0.0] * engines
        #: Issue times of the instructions that may still stand in an engine's queue, and ends of those in its FIFO.
        self._issues: list[deque[float]] = [deque(maxlen=machine.queue_depth) for _ in range(engines)]
        self._recent: list[deque[float]] = [deque(maxlen=machine.engine_fifo_depth) for _ in range(engines)]
        self._signals: list[deque[tuple[float, int]]] = [deque() for _ in range(isa().semaphores + 1)]
        self._next_queue = 0.0
        self._controller = 0.0

    def step(
        self,
        index: int,
        engine: int,
        wait0: int,
        wait1: int,
        signal0: int,
        signal1: int,
        busy: float,
        moved: float,
        widest: float,
        trips: int,
    ) -> None:
        """Places one instruction."""
        machine = self.machine
        queued = self._queue(index, engine)
        ready, reason, semaphore, holder = queued, Reason.FETCH, 0, index - 1
        for wait in (wait0, wait1):
            if wait:
                signalled, signaller = self._signals[wait].popleft()
                if signalled > ready:
                    ready, reason, semaphore, holder = signalled, Reason.SEMAPHORE, wait, signaller
        recent = self._recent[engine]
        if len(recent) == machine.engine_fifo_depth and recent[0] + machine.token_cycles > ready:
            ready = recent[0] + machine.token_cycles
        issues = self._issues[engine]
        if issues and issues[-1] > ready:
            ready = issues[-1]
        issues.append(ready)
        arrival = ready + machine.issue_cycles
        free = self._free[engine]
        if arrival > free:
            start = arrival
            self.idle[index], self.reasons[index], self.semaphores[index] = arrival - free, reason, semaphore
            self.predecessors[index] = holder
        else:
            start = free
            self.predecessors[index] = self._previous[engine]
        end = start + busy
        if moved:
            latency = (trips & 255) * machine.read_latency + (trips >> 8) * machine.write_latency
            self._controller = max(self._controller, queued) + moved / machine.dram_rate
            end = max(end, start + widest / machine.port_rate, self._controller) + latency
        self.queued[index], self.starts[index], self.ends[index] = queued, start, end
        self._free[engine] = end
        self._previous[engine] = index
        recent.append(end)
        for signal in (signal0, signal1):
            if signal:
                self._signals[signal].append((end + machine.token_cycles, index))

    def _queue(self, index: int, engine: int) -> float:
        """When DISPATCH queues an instruction: in program order, one a pass, when its engine's queue has room."""
        machine = self.machine
        time = self._next_queue
        if index % machine.fetch_instructions == 0:
            time += machine.read_latency + machine.fetch_cycles
        issues = self._issues[engine]
        if len(issues) == machine.queue_depth and issues[0] > time:
            time = issues[0]
        self._next_queue = time + machine.pass_cycles
        return time
