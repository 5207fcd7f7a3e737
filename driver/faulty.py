# SPDX-License-Identifier: Apache-2.0
"""An emulated overlay that meets faults and then behaves as a board: it hangs where a board hangs."""

import errno
import random

import numpy as np

from hetfab.driver.device_memory import DeviceMemory
from hetfab.driver.emulated import EmulatedOverlay
from hetfab.driver.faults import Fault, FaultKind, FaultPlan
from hetfab.hls.build.emulator import Progress
from hetfab.overlay.design import Design
from hetfab.overlay.isa.codec import RegisterOffset, Segment
from hetfab.overlay.isa.spec import isa

_START, _BUSY = 1, 1
#: Bytes that a port moves in a cycle.
_BEAT = 8
_INSTRUCTION = isa().instruction_bits // 8
#: Steps of the scheduler that one read of the control register lets go by.
_STEPS_PER_READ = 2_000
_OF_MEMORY = (FaultKind.BEAT_DROPPED, FaultKind.BEAT_CORRUPTED, FaultKind.MEMORY_FLIP)
_OF_SIGNALS = (FaultKind.SIGNAL_LOST, FaultKind.SIGNAL_REPEATED)
#: What the host writes: a fault of a beat there is one of reading it, and memory stays as it was.
_READ_ONLY = (Segment.PROGRAM, Segment.CONSTANTS, Segment.FEATURES, Segment.GRAPH)
#: Registers that the driver writes and reads back.
_ARGUMENTS = range(RegisterOffset.PROGRAM_LENGTH, RegisterOffset.ISA_VERSION)
_IDENTITY = (RegisterOffset.GEOMETRY_HASH_LOW, RegisterOffset.GEOMETRY_HASH_HIGH)


class FaultyOverlay(EmulatedOverlay):
    """DISPATCH's registers with engines behind them, of which some will fail.

    Unordered accesses do not stop it: a board has no such check.

    Args:
        design: The overlay's design.
        memory: The board's memory.
        plan: What it meets.
        seed: As of ``EmulatedOverlay``.
    """

    def __init__(self, design: Design, memory: DeviceMemory, plan: FaultPlan, *, seed: int = 0) -> None:
        super().__init__(design, memory, seed=seed, check_order=False)
        self._plan = plan
        self._armed: list[Fault] = []
        self._restored: list[tuple[np.ndarray[tuple[int], np.dtype[np.uint8]], bytes]] = []
        self._before: dict[Segment, bytes] = {}
        self._hung = self._without_clock = self._other = False
        self._gone: OSError | None = None
        self._noise: random.Random | None = None
        self._flipped: dict[int, int] = {}

    @property
    def clock_runs(self) -> bool:
        """Whether the fabric has its clock, as the processor's own registers tell."""
        return not self._without_clock

    def read(self, offset: int) -> int:
        """Reads a register.

        Raises:
            OSError: The bus or the device is gone.
        """
        self._check_there()
        if self._noise is not None:
            return self._noise.getrandbits(32)
        if offset == RegisterOffset.CONTROL and self._running and (self._hung or self._without_clock):
            return _BUSY
        value = super().read(offset)
        self._check_there()
        if self._noise is not None:
            return self._noise.getrandbits(32)
        if self._other and offset == RegisterOffset.ISA_VERSION:
            return isa().version[0] << 16 | isa().version[1]
        if self._other and offset in _IDENTITY:
            value ^= 0x5A5A_5A5A
        return value ^ self._flipped.get(offset, 0)

    def write(self, offset: int, value: int) -> None:
        """Writes a register; a start arms the faults of its number.

        Raises:
            OSError: The bus or the device is gone.
            StaleMemoryError: As ``EmulatedOverlay.write``.
        """
        self._check_there()
        if self._hung or self._without_clock or self._noise is not None:
            return
        for fault in self._plan.due(self._plan.next_start):
            if fault.kind is FaultKind.REGISTER_FLIP and fault.offset == offset in _ARGUMENTS:
                self._plan.happened(fault)
                value ^= 1 << fault.bit
        super().write(offset, value)
        if offset == RegisterOffset.CONTROL and value & _START:
            self._armed = self._plan.due(self._plan.next_start)
            self._plan.started()
            self._before = {segment: self._content(segment).tobytes() for segment in self._segments_of_beats()}
            self._change_signals()

    def advance(self) -> None:
        """Lets the engines take some steps, and faults happen; what a board would hang on hangs."""
        for _ in range(_STEPS_PER_READ):
            retired = self._emulator.read_register(RegisterOffset.RETIRED)
            begun = self._emulator.read_register(RegisterOffset.ISA_VERSION) != 0
            due = [each for each in self._armed if begun and each.retired <= retired]
            for fault in due:
                self._armed.remove(fault)
                self._plan.happened(fault)
                self._meet(fault)
            # Whoever reads the control register sees its flip before anything else happens.
            if RegisterOffset.CONTROL in self._flipped or not self._running or self._hung or self._without_clock:
                return
            progress = self._emulator.advance(1, self._seed)
            if progress is not Progress.RUNNING:
                self._end(progress)
                return

    def _end(self, progress: Progress) -> None:
        """A run ended, or no engine can go on: with a fault that DISPATCH has met, it says done."""
        fault = self._emulator.read_register(RegisterOffset.FAULT)
        self._running = self._hung = progress is not Progress.DONE and not fault
        for part, content in reversed(self._restored):
            part[:] = np.frombuffer(content, np.uint8)
        self._restored.clear()
        if progress is Progress.DONE:
            self._interrupt[RegisterOffset.INTERRUPT_STATUS] |= self._interrupt[RegisterOffset.INTERRUPT_ENABLE]

    def _meet(self, fault: Fault) -> None:
        match fault.kind:
            case FaultKind.ENGINE_STALLS:
                self._emulator.stall(fault.engine)
            case kind if kind in _OF_MEMORY:
                self._change_memory(fault)
            case FaultKind.BUS_ERROR:
                self._gone = OSError(errno.EIO, "the bus answers with an error")
            case FaultKind.POWER_LOSS:
                self._gone = OSError(errno.ENODEV, "No such device")
                self._memory.scramble()
            case FaultKind.REGISTER_FLIP:
                self._flipped[fault.offset] = 1 << fault.bit
            case FaultKind.RESET | FaultKind.OTHER_DESIGN:
                self._renew()
                self._other = fault.kind is FaultKind.OTHER_DESIGN
            case FaultKind.GARBAGE:
                self._noise = random.Random(fault.bit)
            case FaultKind.CLOCK_LOST:
                self._without_clock = True
            case FaultKind.INTERRUPT_SPURIOUS:
                self._interrupt[RegisterOffset.INTERRUPT_STATUS] |= 1
            case _:
                pass

    def _check_there(self) -> None:
        if self._gone is not None:
            raise OSError(self._gone.errno, self._gone.strerror)

    def _content(self, segment: Segment) -> np.ndarray[tuple[int], np.dtype[np.uint8]]:
        """A segment as the device sees it."""
        base, size = self._segments()[segment]
        allocation = self._memory.find(base)
        if allocation is None:
            return np.zeros(0, np.uint8)
        return allocation.device[base - allocation.address : base - allocation.address + size]

    def _segments_of_beats(self) -> set[Segment]:
        return {fault.segment for fault in self._armed if fault.kind is FaultKind.BEAT_DROPPED}

    def _change_memory(self, fault: Fault) -> None:
        content = self._content(fault.segment)
        if fault.kind is FaultKind.MEMORY_FLIP:
            content[fault.offset] ^= 1 << fault.bit
            return
        first = fault.offset // _BEAT * _BEAT
        beat = content[first : first + _BEAT]
        if fault.segment in _READ_ONLY:
            self._restored.append((beat, beat.tobytes()))
        if fault.kind is FaultKind.BEAT_CORRUPTED:
            content[fault.offset] ^= 1 << fault.bit
        elif fault.segment in _READ_ONLY:
            # What was read is the next beat of the burst.
            beat[:] = content[first + _BEAT : first + 2 * _BEAT]
        else:
            self._restored.append((beat, self._before[fault.segment][first : first + _BEAT]))

    def _change_signals(self) -> None:
        """An instruction that signals otherwise; memory is as it was when the run ends."""
        for fault in [each for each in self._armed if each.kind in _OF_SIGNALS]:
            self._armed.remove(fault)
            self._plan.happened(fault)
            first = fault.instruction * _INSTRUCTION
            raw = self._content(Segment.PROGRAM)[first : first + _INSTRUCTION]
            self._restored.append((raw, raw.tobytes()))
            word = int.from_bytes(raw.tobytes(), "little")
            given, other = (isa().header_field(name) for name in ("signal0", "signal1"))
            given, other = (given, other) if given.get(word) else (other, given)
            if fault.kind is FaultKind.SIGNAL_LOST:
                word &= ~(given.largest << given.lsb)
            else:
                word |= given.get(word) << other.lsb
            raw[:] = np.frombuffer(word.to_bytes(_INSTRUCTION, "little"), np.uint8)

    def _renew(self) -> None:
        """Registers and memories on the chip as after loading; DRAM stays."""
        for part, content in reversed(self._restored):
            part[:] = np.frombuffer(content, np.uint8)
        self._restored.clear()
        self._running = False
        self.reset()
