# SPDX-License-Identifier: Apache-2.0
"""The timeline simulator: replays a bound stream and its run log through queues, semaphores, ports and DRAM.

One sweep in program order suffices: DISPATCH queues in that order, and every wait pairs with an earlier signal
(``overlay.order.check_order``). All times are maxima of sums, so more bandwidth or a faster clock never makes a run
longer.
docs/timeline.md has the model and a worked example. All results are modelled.
"""

import enum
import itertools
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from hetfab.overlay.costs.bursts import BEAT_BYTES, rows_ahead
from hetfab.overlay.costs.program_cost import field_values
from hetfab.overlay.data_streams import stream_rows
from hetfab.overlay.isa.spec import isa
from hetfab.overlay.program import Words
from hetfab.overlay.timeline.machine import Machine

Array: TypeAlias = npt.NDArray[Any]


#: Of a timeline: cycles from the start register's write, and numbers of other instructions.
_TIMES = frozenset({"queued", "issued", "starts", "ends", "controller"})
_INDICES = frozenset({"holders", "room_makers"})


class Reason(enum.IntEnum):
    """Why DISPATCH did not issue an instruction earlier."""

    #: It was not queued earlier: fetching, and one instruction a turn.
    FETCH = 0
    #: It was not queued earlier: DISPATCH waited for room in the full queue of some engine.
    QUEUE = 1
    #: A semaphore was not signalled.
    SEMAPHORE = 2
    #: The engine's FIFO was full.
    CREDIT = 3
    #: DISPATCH issues one instruction to an engine in a pass.
    PASS = 4


@dataclass(frozen=True, eq=False)
class Timeline:
    """When each instruction ran, in modelled cycles from the start register's write.

    Attributes:
        machine: What was timed.
        engines: Engine id of each instruction, [n].
        opcodes: Opcode of each instruction, [n].
        layers: Layer of each instruction, [n].
        queued: When DISPATCH queued it, [n].
        issued: When DISPATCH issued it, [n].
        starts: When its engine began, [n].
        ends: When its engine ended, [n].
        busy: Cycles of its loops, [n].
        idle: Cycles that its engine stood still before it, [n].
        reasons: ``Reason`` that bound the issue, [n].
        semaphores: Semaphore that bound the issue, 0 for none, [n].
        holders: Instruction whose end or issue bound the issue, -1 for none, [n].
        room_makers: Instruction whose issue made room in the queue when it was full, -1 when it was not, [n].
        controller: Cycle at which the DRAM controller has moved its bytes and all before, [n].
        controller_bound: Whether the controller bound its end, [n].
        bytes: DRAM bytes of each instruction, [n].
        bursts: AXI bursts of each instruction, [n].
        total_cycles: From the start register's write to DISPATCH's last token.
    """

    machine: Machine
    engines: Array
    opcodes: Array
    layers: Array
    queued: Array
    issued: Array
    starts: Array
    ends: Array
    busy: Array
    idle: Array
    reasons: Array
    semaphores: Array
    holders: Array
    room_makers: Array
    controller: Array
    controller_bound: Array
    bytes: Array
    bursts: Array
    total_cycles: float

    @property
    def dram_stalls(self) -> Array:
        """Cycles beyond the loops, for DRAM's rate and latency and the other side of a data stream, [n]."""
        return np.asarray(np.maximum(self.ends - self.starts - self.busy, 0.0))

    @property
    def milliseconds(self) -> float:
        """The whole run, modelled."""
        return self.total_cycles / (self.machine.clock_mhz * 1e3)


def joined_timeline(timelines: Sequence[Timeline]) -> Timeline:
    """Runs on one machine, one after the other; instructions and layers keep their order and their numbers."""
    starts = list(itertools.accumulate((each.total_cycles for each in timelines), initial=0.0))
    counts = list(itertools.accumulate((len(each.ends) for each in timelines), initial=0))
    columns: dict[str, Array] = {}
    for field in fields(Timeline):
        if field.name not in ("machine", "total_cycles"):
            parts = [getattr(each, field.name) for each in timelines]
            if field.name in _TIMES:
                parts = [part + start for part, start in zip(parts, starts, strict=False)]
            elif field.name in _INDICES:
                parts = [np.where(part >= 0, part + first, -1) for part, first in zip(parts, counts, strict=False)]
            columns[field.name] = np.concatenate(parts)
    return Timeline(machine=timelines[0].machine, total_cycles=starts[-1], **columns)


def simulate(words: Words, log: Array, machine: Machine) -> Timeline:
    """Times a bound stream.

    Args:
        words: uint64 [n, 2], a stream that ``check_order`` accepts.
        log: Its run log, from the emulator or from the cost functions.
        machine: What to time it on.
    """
    sweep = _Sweep(machine)
    headers = [field_values(words, isa().header_field(name)).tolist() for name in _HEADER]
    busy = log["cycles"].astype(np.float64)
    moved = (log["read_bytes"].sum(axis=1) + log["write_bytes"]).astype(np.float64)
    run = np.maximum(busy, transfer_cycles(log, machine))
    sent, taken = stream_rows(words, isa(), isa().stream("rows_fifo"))
    columns = (run, latency_cycles(log, machine), moved, sent, taken, log["edges"])
    for row in zip(*headers, *(column.tolist() for column in columns), strict=True):
        sweep.step(*row)
    ends = np.array(sweep.ends, dtype=np.float64)
    return Timeline(
        machine=machine,
        engines=log["engine"].astype(np.int64),
        opcodes=log["opcode"].astype(np.int64),
        layers=log["layer"].astype(np.int64),
        queued=np.array(sweep.queued, dtype=np.float64),
        issued=np.array(sweep.issued, dtype=np.float64),
        starts=np.array(sweep.starts, dtype=np.float64),
        ends=ends,
        busy=busy,
        idle=np.array(sweep.idle, dtype=np.float64),
        reasons=np.array(sweep.reasons, dtype=np.int64),
        semaphores=np.array(sweep.semaphores, dtype=np.int64),
        holders=np.array(sweep.holders, dtype=np.int64),
        room_makers=np.array(sweep.room_makers, dtype=np.int64),
        controller=np.array(sweep.controller, dtype=np.float64),
        controller_bound=np.array(sweep.controller_bound, dtype=bool),
        bytes=moved.astype(np.int64),
        bursts=(log["read_bursts"].sum(axis=1) + log["write_bursts"]).astype(np.int64),
        total_cycles=float(ends.max() + machine.token_cycles) if len(ends) else 0.0,
    )


_HEADER = ("engine", "wait0", "wait1", "signal0", "signal1")


def transfer_cycles(log: Array, machine: Machine) -> Array:
    """Cycles that each instruction's own traffic takes at least, if it has DRAM to itself, [n].

    The rates of its ports and of the DRAM, and what the requests ahead cover of the latency: with ``a`` requests under
    way, each of them takes a latency, so ``r`` of them take at least ``r * latency / a``. AGG's gathered rows
    are requested by their number, all other reads by bursts.
    """
    read, written = log["read_bytes"].astype(np.float64), log["write_bytes"].astype(np.float64)
    widest = np.maximum(read.max(axis=1, initial=0.0), written)
    gathered = _gathered(log)
    groups = log["read_bytes"][:, 0].astype(np.int64) // (BEAT_BYTES * np.maximum(gathered, 1))
    rows = rows_ahead(groups, most=machine.rows_ahead, beats=machine.row_beats_ahead)
    read_bursts, write_bursts = log["read_bursts"].astype(np.float64), log["write_bursts"].astype(np.float64)
    by_bursts = np.where(gathered > 0, read_bursts[:, 1], read_bursts.max(axis=1, initial=0.0))
    limits = (
        widest / machine.port_rate,
        (read.sum(axis=1) + written) / machine.dram_rate,
        by_bursts * (machine.read_latency / machine.bursts_ahead),
        gathered * (machine.read_latency / rows),
        write_bursts * (machine.write_latency / machine.bursts_ahead),
    )
    return np.asarray(np.max(np.stack(limits), axis=0, initial=0.0))


def _gathered(log: Array) -> Array:
    """Rows that AGG reads from DRAM, [n], each by a request of its own; what SGB follows is read in bursts."""
    return np.asarray(log["misses"], np.int64)


def latency_cycles(log: Array, machine: Machine) -> Array:
    """Latencies that nothing covers, as they follow one another, [n].

    LOAD waits for its first beat; AGG for its destinations, their ids and the first row; STORE for a response; SGB, for
    every burst from its left port, for that, the ends of the right rows that it names and the first of these rows; RST
    for every burst, as rows are short and each says which one comes next.
    """
    data = (log["read_bytes"][:, 0] > 0).astype(np.float64)
    data = np.where(log["engine"] == isa().engine("rst").id, log["read_bursts"][:, 0], data)
    aggregates = (log["engine"] == isa().engine("agg").id) & (log["edges"] > 0)
    graph = np.where(aggregates, 2.0, (log["read_bytes"][:, 1] > 0).astype(np.float64))
    graph = np.where(log["engine"] == isa().engine("sgb").id, 3.0 * log["read_bursts"][:, 1], graph)
    written = (log["write_bytes"] > 0).astype(np.float64)
    return np.asarray((data + graph) * machine.read_latency + written * machine.write_latency)


@dataclass
class _Sender:
    """An instruction that sends rows: when it has made those taken so far; the rest follow at an even pace."""

    index: int
    engine: int
    made: float
    cycles: float
    rows: int


class _Sweep:
    """The state of one pass over the stream in program order."""

    def __init__(self, machine: Machine) -> None:
        engines = max(engine.id for engine in isa().engines) + 1
        self.machine = machine
        self.queued: list[float] = []
        self.issued: list[float] = []
        self.starts: list[float] = []
        self.ends: list[float] = []
        self.idle: list[float] = []
        self.reasons: list[Reason] = []
        self.semaphores: list[int] = []
        self.holders: list[int] = []
        self.room_makers: list[int] = []
        self.controller: list[float] = []
        self.controller_bound: list[bool] = []
        self._free = [0.0] * engines
        #: The instructions of each engine that its queue and its FIFO have to let go first.
        self._in_queue: list[deque[int]] = [deque(maxlen=machine.queue_depth) for _ in range(engines)]
        self._in_fifo: list[deque[int]] = [deque(maxlen=machine.engine_fifo_depth) for _ in range(engines)]
        self._signals: list[deque[int]] = [deque() for _ in range(isa().semaphores + 1)]
        self._sender = _Sender(-1, 0, 0.0, 0.0, 1)
        self._next_turn = machine.start_cycles
        self._held_until = 0.0
        self._moved_until = 0.0

    def step(
        self,
        engine: int,
        wait0: int,
        wait1: int,
        signal0: int,
        signal1: int,
        run: float,
        latency: float,
        moved: float,
        sent: int,
        taken: int,
        edges: int,
    ) -> None:
        """Places the next instruction."""
        index = len(self.queued)
        queued = self._queue(index, engine)
        issued = self._issue(index, engine, (wait0, wait1), queued)
        arrival, free = issued + self.machine.issue_cycles, self._free[engine]
        start = max(arrival, free)
        end, bound = start + run, False
        if moved:
            self._moved_until = max(self._moved_until, queued) + moved / self.machine.dram_rate
            bound = self._moved_until > end
            end = max(end, self._moved_until) + latency
        if sent:
            self._sender = _Sender(index, engine, start, end - start, sent)
        if taken:
            end = max(end, self._take(start, taken, edges))
        self.starts.append(start)
        self.ends.append(end)
        self.idle.append(start - free)
        self.controller.append(self._moved_until)
        self.controller_bound.append(bound)
        self._free[engine] = end
        self._in_fifo[engine].append(index)
        for signal in (signal0, signal1):
            if signal:
                self._signals[signal].append(index)

    def _take(self, start: float, rows: int, ids: int) -> float:
        """When the next rows of the sender, and their ids, are all in the FIFO.

        Nothing in between depends on the sender's end, so it may move on as they are taken.
        """
        sender = self._sender
        whole = sender.cycles * rows / sender.rows
        sender.made += whole
        # Of a row a degree and its ids. What the FIFO does not hold is made only when its reader has begun.
        words, depth = rows + ids, self.machine.rows_fifo_words
        if words > depth:
            sender.made = max(sender.made, start + whole * (words - depth) / words)
        self.ends[sender.index] = max(self.ends[sender.index], sender.made)
        self._free[sender.engine] = max(self._free[sender.engine], sender.made)
        return sender.made

    def _queue(self, index: int, engine: int) -> float:
        """When DISPATCH queues it: in program order, one a turn, when its engine's queue has room."""
        machine, waiting = self.machine, self._in_queue[engine]
        time, room_maker = self._next_turn, -1
        if index % machine.fetch_instructions == 0:
            time += machine.read_latency + machine.fetch_cycles
        if len(waiting) == machine.queue_depth and self.issued[waiting[0]] > time:
            room_maker = waiting[0]
            time = self._held_until = self.issued[room_maker]
        waiting.append(index)
        self._next_turn = time + machine.queue_cycles
        self.queued.append(time)
        self.room_makers.append(room_maker)
        return time

    def _issue(self, index: int, engine: int, waits: tuple[int, int], queued: float) -> float:
        """When DISPATCH issues it: at the head of its queue, with its semaphores signalled and room in the FIFO."""
        machine, fifo = self.machine, self._in_fifo[engine]
        # A full queue matters to an engine only if DISPATCH still stood before it when the engine had nothing to do.
        held = self._held_until > self._free[engine]
        time, reason, semaphore, holder = queued, Reason.QUEUE if held else Reason.FETCH, 0, -1
        for wait in waits:
            if wait:
                signaller = self._signals[wait].popleft()
                if (signalled := self.ends[signaller] + machine.token_cycles) > time:
                    time, reason, semaphore, holder = signalled, Reason.SEMAPHORE, wait, signaller
        if len(fifo) == machine.engine_fifo_depth and (room := self.ends[fifo[0]] + machine.token_cycles) > time:
            time, reason, semaphore, holder = room, Reason.CREDIT, 0, fifo[0]
        previous = fifo[-1] if fifo else -1
        if previous >= 0 and (following := self.issued[previous] + machine.pass_cycles) > time:
            time, reason, semaphore, holder = following, Reason.PASS, 0, previous
        self.issued.append(time)
        self.reasons.append(reason)
        self.semaphores.append(semaphore)
        self.holders.append(holder)
        return time
