# SPDX-License-Identifier: Apache-2.0
"""A second timeline simulator, written from the rules of docs/timeline.md: it steps from event to event.

It counts semaphores instead of pairing signals with waits, keeps queues and FIFOs as lists, and lets time pass.
"""

import heapq
from collections import deque
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from hetfab.overlay.isa.words import decode
from hetfab.overlay.timeline.machine import Machine


@dataclass(eq=False)
class Instruction:
    """What time depends on, and when things happened."""

    engine: int
    waits: list[int]
    signals: list[int]
    run: float
    latency: float
    bytes: int
    queued: float = 0.0
    issued: float = 0.0
    start: float = 0.0
    end: float = 0.0
    moved: float = 0.0


@dataclass
class Engine:
    """An engine with its queue and FIFO in DISPATCH and before it."""

    queue: deque[Instruction] = field(default_factory=deque)
    arrived: deque[Instruction] = field(default_factory=deque)
    credits_used: int = 0
    next_issue: float = 0.0
    running: Instruction | None = None


def instruction(word: int, record: Any, machine: Machine) -> Instruction:
    """An instruction of a stream and its run-log record."""
    fields = decode(word).fields
    data, graph = (int(value) for value in record["read_bytes"])
    written, edges, gathered = int(record["write_bytes"]), int(record["edges"]), int(record["misses"])
    bursts, write_bursts = [int(value) for value in record["read_bursts"]], int(record["write_bursts"])
    # A gathered row is requested as a whole; its length follows from the bytes.
    row_bytes = data // gathered if gathered else 8
    rows_ahead = min(machine.rows_ahead, max(1, 8 * machine.row_beats_ahead // row_bytes))
    run = max(
        int(record["cycles"]),
        max(data, graph, written) / machine.port_rate,
        (data + graph + written) / machine.dram_rate,
        (bursts[1] if gathered else max(bursts)) * machine.read_latency / machine.bursts_ahead,
        gathered * machine.read_latency / rows_ahead,
        write_bursts * machine.write_latency / machine.bursts_ahead,
    )
    reads = (1 if data else 0) + (2 if edges else 1 if graph else 0)
    latency = reads * machine.read_latency + (machine.write_latency if written else 0)
    return Instruction(
        fields["engine"],
        [fields[name] for name in ("wait0", "wait1") if fields[name]],
        [fields[name] for name in ("signal0", "signal1") if fields[name]],
        run,
        latency,
        data + graph + written,
    )


class EventDriven:
    """Runs a stream to its end."""

    def __init__(self, words: list[int], log: npt.NDArray[Any], machine: Machine) -> None:
        self.machine = machine
        self.instructions = [instruction(word, record, machine) for word, record in zip(words, log, strict=True)]
        self.engines = [Engine() for _ in range(16)]
        self.semaphores = np.zeros(32, np.int64)
        self.next = 0
        self.next_at = machine.start_cycles + machine.read_latency + machine.fetch_cycles
        self.controller = 0.0
        self.now = 0.0
        self.times = [self.next_at]
        self.tokens: list[tuple[float, int]] = []

    def run(self) -> float:
        """Runs; returns the time of the last token."""
        last = 0.0
        while self.times:
            self.now = heapq.heappop(self.times)
            while self._step():
                last = self.now
        assert self.next == len(self.instructions), "the stream stands still"
        assert all(not e.queue and not e.arrived and e.running is None for e in self.engines)
        return last if self.instructions else 0.0

    def _wake(self, time: float) -> None:
        heapq.heappush(self.times, time)

    def _step(self) -> bool:
        """Does everything that this moment allows, once; whether it was anything."""
        done = self._take_tokens() | self._queue()
        for engine in self.engines:
            done |= self._finish(engine) | self._issue(engine) | self._begin(engine)
        return done

    def _take_tokens(self) -> bool:
        due = [entry for entry in self.tokens if entry[0] == self.now]
        self.tokens = [entry for entry in self.tokens if entry[0] != self.now]
        for _, index in due:
            done = self.instructions[index]
            self.engines[done.engine].credits_used -= 1
            for semaphore in done.signals:
                self.semaphores[semaphore] += 1
        return bool(due)

    def _queue(self) -> bool:
        if self.next == len(self.instructions) or self.now < self.next_at:
            return False
        item = self.instructions[self.next]
        queue = self.engines[item.engine].queue
        if len(queue) == self.machine.queue_depth:
            return False
        item.queued = self.now
        if item.bytes:
            self.controller = max(self.controller, self.now) + item.bytes / self.machine.dram_rate
            item.moved = self.controller
        queue.append(item)
        self.next += 1
        self.next_at = self.now + self.machine.queue_cycles
        if self.next % self.machine.fetch_instructions == 0:
            self.next_at += self.machine.read_latency + self.machine.fetch_cycles
        self._wake(self.next_at)
        return True

    def _issue(self, engine: Engine) -> bool:
        if not engine.queue or engine.credits_used == self.machine.engine_fifo_depth or self.now < engine.next_issue:
            return False
        head = engine.queue[0]
        needed = np.bincount(head.waits, minlength=32) if head.waits else np.zeros(32, np.int64)
        if (needed > self.semaphores).any():
            return False
        self.semaphores -= needed
        engine.queue.popleft()
        engine.credits_used += 1
        head.issued = self.now
        engine.next_issue = self.now + self.machine.pass_cycles
        engine.arrived.append(head)
        self._wake(engine.next_issue)
        self._wake(self.now + self.machine.issue_cycles)
        return True

    def _begin(self, engine: Engine) -> bool:
        if engine.running or not engine.arrived:
            return False
        if self.now < engine.arrived[0].issued + self.machine.issue_cycles:
            return False
        item = engine.running = engine.arrived.popleft()
        item.start = self.now
        item.end = max(item.start + item.run, item.moved) + item.latency
        self._wake(item.end)
        return True

    def _finish(self, engine: Engine) -> bool:
        item = engine.running
        if item is None or self.now != item.end:
            return False
        engine.running = None
        token = item.end + self.machine.token_cycles
        self.tokens.append((token, self.instructions.index(item)))
        self._wake(token)
        return True
