# SPDX-License-Identifier: Apache-2.0
"""The emulated overlay as a processor sees it, and a transport to it: the same registers and memory as a board."""

import re
from collections.abc import Iterable
from types import TracebackType
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from hetfab.driver.device_failures import LOAD_SECONDS, clock_stopped, load_within, lost_access
from hetfab.driver.device_memory import Allocation, DeviceMemory
from hetfab.driver.faults import Fault, FaultPlan
from hetfab.hls.build.emulator import Emulator, Progress, build_emulator
from hetfab.overlay.board import read_board
from hetfab.overlay.design import Design
from hetfab.overlay.errors import DeadlockError, EngineFaultError, OverlayStateError, StaleMemoryError
from hetfab.overlay.isa.codec import RegisterOffset, Segment

_Transport = TypeVar("_Transport", bound="EmulatedTransport")

#: Passes of the scheduler that one read of the control register lets go by.
_PASSES_PER_READ = 20_000
#: Reads of an idle control register in a row after which nobody can expect a change.
_IDLE_READS = 10_000
_START = 1
_DONE = 2
#: Segments that only the host writes.
_FILLED = (Segment.PROGRAM, Segment.CONSTANTS, Segment.FEATURES, Segment.GRAPH)
_UNMAPPED = re.compile(r" at (0x[0-9a-f]+), which is not mapped memory")


class EmulatedOverlay:
    """DISPATCH's registers and interrupt, with the emulated engines behind them.

    Time passes in it only while the control register is read, or ``advance`` is called. What a board would hide or
    hang on becomes an error of the access that meets it.

    Args:
        design: The overlay's design; its kernels are compiled on first use.
        memory: The board's memory.
        seed: 0 steps the engines in turn, another value in an order drawn from it.
        check_order: Whether runs stop at accesses that no semaphores order.

    Raises:
        EnvironmentLacksError: No compiler, or no folder for what it builds.
    """

    def __init__(self, design: Design, memory: DeviceMemory, *, seed: int = 0, check_order: bool = True) -> None:
        self._library = build_emulator(design.geometry, stages=design.stages)
        self._design = design
        self._check_order = check_order
        self._memory = memory
        self._seed = seed
        self._begin()

    def _begin(self) -> None:
        self._emulator = Emulator(self._library, self._design.geometry, self._design.stages)
        self._emulator.check_order(self._check_order)
        self._running = False
        self._idle_reads = 0
        self._interrupt = {
            RegisterOffset.INTERRUPT_ENABLE_GLOBAL: 0,
            RegisterOffset.INTERRUPT_ENABLE: 0,
            RegisterOffset.INTERRUPT_STATUS: 0,
        }
        self._memory.connect(self._emulator)

    def reset(self) -> None:
        """Gives registers and memories on the chip the content that they have after loading."""
        self._memory.connect(None)
        self._emulator.close()
        self._begin()

    @property
    def clock_runs(self) -> bool:
        """Whether the fabric has its clock."""
        return True

    @property
    def interrupt(self) -> bool:
        """Whether the interrupt line is high."""
        enabled = self._interrupt[RegisterOffset.INTERRUPT_ENABLE_GLOBAL] & 1
        return bool(enabled and self._interrupt[RegisterOffset.INTERRUPT_STATUS])

    @property
    def running(self) -> bool:
        """Whether a program was started and has not ended."""
        return self._running

    def read(self, offset: int) -> int:
        """Reads a register; reading the control register lets the overlay run on for a while.

        Raises:
            DeadlockError: No engine can step and instructions remain, or an idle overlay is polled for ever.
            EngineFaultError: An engine stopped with a fault.
        """
        if offset in self._interrupt:
            return self._interrupt[RegisterOffset(offset)]
        if offset != RegisterOffset.CONTROL:
            return self._emulator.read_register(offset)
        if self._running:
            self.advance()
        value = self._emulator.read_register(offset)
        self._idle_reads = 0 if value & _DONE or self._running else self._idle_reads + 1
        if self._idle_reads > _IDLE_READS:
            raise DeadlockError(
                f"the control register was read {_IDLE_READS} times in a row while nothing ran",
                "a start before a wait",
                "start the program, and wait for done once",
            )
        return value

    def write(self, offset: int, value: int) -> None:
        """Writes a register.

        Raises:
            StaleMemoryError: A start, while the host has changes in a segment that it did not flush.
        """
        self._idle_reads = 0
        if offset == RegisterOffset.INTERRUPT_STATUS:
            self._interrupt[RegisterOffset(offset)] &= ~value
        elif offset in self._interrupt:
            self._interrupt[RegisterOffset(offset)] = value & 3
        else:
            starts = offset == RegisterOffset.CONTROL and bool(value & _START)
            if starts:
                self._check_flushed()
            self._emulator.write_register(offset, value)
            self._running |= starts

    def advance(self) -> None:
        """Lets the engines take some steps.

        Raises:
            DeadlockError: No engine can step and instructions remain.
            EngineFaultError: An engine stopped with a fault.
        """
        progress = self._emulator.advance(_PASSES_PER_READ, self._seed)
        self._running = progress is Progress.RUNNING
        if progress is Progress.DONE:
            enabled = self._interrupt[RegisterOffset.INTERRUPT_ENABLE]
            self._interrupt[RegisterOffset.INTERRUPT_STATUS] |= enabled
        elif progress is Progress.DEADLOCK:
            raise DeadlockError(
                self._emulator.message(),
                "a program in which every wait has its signal",
                "report this with the program: the compiler or the overlay is at fault",
            )
        elif progress is Progress.FAULT:
            raise EngineFaultError(
                f"the overlay stopped with a fault\n{self._explained(self._emulator.message())}",
                "a program that was bound for this overlay and these buffers",
                "compile and bind again; report this if it stays",
            )

    def run_log(self) -> npt.NDArray[Any]:
        """Records of the last run, without layers."""
        return self._emulator.run_log()

    def close(self) -> None:
        """Frees the emulated overlay."""
        self._memory.connect(None)
        self._emulator.close()

    def _segments(self) -> dict[Segment, tuple[int, int]]:
        """Base and size of each segment, as the driver wrote them."""

        def read(name: str) -> int:
            low, high = (self._emulator.read_register(RegisterOffset[f"{name}_{half}"]) for half in ("LOW", "HIGH"))
            return high << 32 | low

        return {s: (read(f"SEGMENT_BASE_{s.name}"), read(f"SEGMENT_SIZE_{s.name}")) for s in Segment}

    def _check_flushed(self) -> None:
        segments = self._segments()
        for segment in _FILLED:
            base, size = segments[segment]
            allocation = self._memory.find(base)
            if allocation is None or not allocation.cached or not size:
                continue
            part = slice(base - allocation.address, base - allocation.address + size)
            host, device = allocation.host[part], allocation.device[part]
            if not _equal(host, device):
                stale = np.flatnonzero(host != device)
                raise StaleMemoryError(
                    f"the device would read {len(stale)} stale bytes of the segment '{segment.name.lower()}', the "
                    f"first at {base + int(stale[0]):#x}",
                    "a flush between the host's last write to a cached buffer and the start",
                    "call sync_to_device() (flush() of a pynq buffer) before the start",
                )

    def _explained(self, message: str) -> str:
        """Adds to an access outside memory which segment it was meant for, and what was there."""
        found = _UNMAPPED.search(message)
        if found is None:
            return message
        address = int(found[1], 16)
        text = f"{message}\n{self._memory.explain(address)}"
        for segment, (base, size) in self._segments().items():
            if base <= address < base + size:
                text += f"; it is byte {address - base} of the segment '{segment.name.lower()}'"
        return text


def _equal(first: npt.NDArray[np.uint8], second: npt.NDArray[np.uint8]) -> bool:
    """Equality of byte arrays, by words: this runs before every start."""
    whole = first.size - first.size % 8
    same = np.array_equal(first[:whole].view(np.uint64), second[:whole].view(np.uint64))
    return same and np.array_equal(first[whole:], second[whole:])


class EmulatedBuffer:
    """Memory of the emulated board."""

    def __init__(self, transport: "EmulatedTransport", allocation: Allocation) -> None:
        self._transport = transport
        self.allocation = allocation

    @property
    def array(self) -> npt.NDArray[np.uint8]:
        """The host's view."""
        return self.allocation.host

    @property
    def physical_address(self) -> int:
        """The device's address of the first byte."""
        return self.allocation.address

    def sync_to_device(self) -> None:
        """Copies the host's bytes to the device."""
        self.allocation.flush()

    def sync_from_device(self) -> None:
        """Copies the device's bytes to the host."""
        self.allocation.invalidate()

    def device_view(self) -> npt.NDArray[np.uint8]:
        """The device's bytes, without a copy."""
        return self.allocation.device

    def free(self) -> None:
        """Unmaps the memory; the device's later accesses are faults."""
        self._transport.release(self)


class EmulatedTransport:
    """A transport to an emulated overlay without PYNQ. Use as a context manager.

    Args:
        design: The overlay's design; its kernels are compiled on first use.
        seed: 0 steps the engines in turn, another value in an order drawn from it.
        check_order: Whether runs stop at accesses that no semaphores order.
        faults: What the device meets (docs/faults.md). With any, it hangs where a board hangs, and unordered accesses
            do not stop it.
        load_seconds: How long loading may take.

    Raises:
        EnvironmentLacksError: No compiler, or no folder for what it builds; a fault of loading.
        DesignInvalidError: The design's board is not known.
    """

    def __init__(
        self,
        design: Design,
        *,
        seed: int = 0,
        check_order: bool = True,
        faults: Iterable[Fault] = (),
        load_seconds: float = LOAD_SECONDS,
    ) -> None:
        self.memory = DeviceMemory(read_board(design.board))
        self._design, self._seed, self._check_order = design, seed, check_order
        self._load_seconds = load_seconds
        faults = tuple(faults)
        self._plan = FaultPlan(faults) if faults else None
        self._overlay = self._loaded()
        self._is_loaded = True
        self._closed = False

    def _loaded(self) -> EmulatedOverlay:
        if self._plan is None:
            return EmulatedOverlay(self._design, self.memory, seed=self._seed, check_order=self._check_order)
        from hetfab.driver.faulty import FaultyOverlay

        load_within(self._load_seconds, self._plan.load)
        return FaultyOverlay(self._design, self.memory, self._plan, seed=self._seed)

    def reload(self) -> None:
        """Loads the overlay again.

        Raises:
            OverlayStateError: It is closed.
            LoadDeadlineError: Loading does not end.
            DiskFullError: There is no room for what loading writes.
        """
        self._check_open()
        self._overlay.close()
        self._is_loaded = False
        self._overlay = self._loaded()
        self._is_loaded = True

    def __enter__(self: _Transport) -> _Transport:
        """Returns the transport."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Closes."""
        self.close()

    def close(self) -> None:
        """Frees the emulated overlay."""
        if not self._closed:
            self._closed = True
            self._overlay.close()

    def check_loaded(self) -> None:
        """Refuses a closed transport, and a fabric without its clock.

        Raises:
            OverlayStateError: It is closed, or was not loaded again.
            ClockStoppedError: The clock does not run.
        """
        self._check_there()
        if not self._overlay.clock_runs:
            raise clock_stopped(0.0, self._design.clock_mhz)

    def _check_open(self) -> None:
        if self._closed:
            raise OverlayStateError("the overlay is closed", "an open overlay", "open it again")

    def _check_there(self) -> None:
        self._check_open()
        if not self._is_loaded:
            raise OverlayStateError(
                "loading the overlay again did not end",
                "a loaded overlay",
                "load it again: HetfabOverlay.recover()",
            )

    def read_register(self, offset: int) -> int:
        """Reads a register; reading the control register lets the overlay run on for a while.

        Raises:
            OverlayStateError: As ``check_loaded``.
            RunError: As ``EmulatedOverlay.read``; the bus or the device is gone.
        """
        self._check_there()
        try:
            return self._overlay.read(offset)
        except OSError as error:
            raise lost_access(error, offset) from error

    def write_register(self, offset: int, value: int) -> None:
        """Writes a register.

        Raises:
            OverlayStateError: As ``check_loaded``.
            RunError: As ``EmulatedOverlay.write``; the bus or the device is gone.
        """
        self._check_there()
        try:
            self._overlay.write(offset, value)
        except OSError as error:
            raise lost_access(error, offset) from error

    def allocate(self, size: int) -> EmulatedBuffer:
        """Allocates memory of the board.

        Raises:
            DeviceMemoryError: The board has not that much left.
        """
        if self._plan is not None:
            self._plan.allocate(self.memory)
        return EmulatedBuffer(self, self.memory.allocate(size))

    def release(self, buffer: EmulatedBuffer) -> None:
        """Frees a buffer."""
        self.memory.free(buffer.allocation)

    def run_log(self) -> npt.NDArray[Any]:
        """Records of the last run, without layers."""
        return self._overlay.run_log()
