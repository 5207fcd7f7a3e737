# SPDX-License-Identifier: Apache-2.0
"""Faults of a device as data, and what of them a device has met: kind, when, where (docs/faults.md)."""

import errno
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

from hetfab.driver.device_memory import Allocation, DeviceMemory
from hetfab.overlay.isa.codec import RegisterOffset, Segment


class FaultKind(Enum):
    """What goes wrong. The ``where`` of each is said in ``Fault``."""

    ENGINE_STALLS = "engine-stalls"
    SIGNAL_LOST = "signal-lost"
    SIGNAL_REPEATED = "signal-repeated"
    BEAT_DROPPED = "beat-dropped"
    BEAT_CORRUPTED = "beat-corrupted"
    BUS_ERROR = "bus-error"
    MEMORY_FLIP = "memory-flip"
    REGISTER_FLIP = "register-flip"
    RESET = "reset"
    POWER_LOSS = "power-loss"
    GARBAGE = "garbage"
    OTHER_DESIGN = "other-design"
    MEMORY_TAKEN = "memory-taken"
    CLOCK_LOST = "clock-lost"
    INTERRUPT_SPURIOUS = "interrupt-spurious"
    DISK_FULL = "disk-full"
    LOAD_HANGS = "load-hangs"


#: Those that loading meets, not a run.
_OF_LOADING = (FaultKind.DISK_FULL, FaultKind.LOAD_HANGS)


@dataclass(frozen=True)
class Fault:
    """A fault that an emulated device meets once.

    Attributes:
        kind: What goes wrong.
        start: When: during which start since the device was made, from 0. A session's first start is of the empty
            program. Of faults of loading, which loading.
        retired: When in that run: after how many retired instructions.
        engine: Number of the engine that stalls.
        instruction: Whose signal is lost or repeated.
        segment: Where memory flips, or a beat is dropped or corrupted.
        offset: Byte in the segment; of a flipped register, the register.
        bit: Of that byte or register.
        seconds: How long loading hangs.
    """

    kind: FaultKind
    start: int = 1
    retired: int = 0
    engine: int = 0
    instruction: int = 0
    segment: Segment = Segment.CONSTANTS
    offset: int = RegisterOffset.RETIRED
    bit: int = 0
    seconds: float = 1.0


class FaultPlan:
    """The faults that a device meets, and how far it is: it outlives the overlays that are loaded.

    Args:
        faults: In any order.
    """

    def __init__(self, faults: Iterable[Fault]) -> None:
        self._pending = list(faults)
        self._starts = self._loads = 0
        self._taken: list[tuple[DeviceMemory, Allocation]] = []

    def due(self, start: int) -> list[Fault]:
        """Those of a start that did not happen yet."""
        return [fault for fault in self._pending if fault.kind not in _OF_LOADING and fault.start == start]

    @property
    def next_start(self) -> int:
        """Number of the next start."""
        return self._starts

    def started(self) -> None:
        """Counts a start."""
        self._starts += 1

    def happened(self, fault: Fault) -> None:
        """Takes a fault out."""
        self._pending.remove(fault)

    def load(self) -> None:
        """What loading an overlay meets.

        Raises:
            OSError: The disk is full.
        """
        for memory, allocation in self._taken:
            memory.free(allocation)
        self._taken.clear()
        number, self._loads = self._loads, self._loads + 1
        for fault in [each for each in self._pending if each.kind in _OF_LOADING and each.start == number]:
            self.happened(fault)
            if fault.kind is FaultKind.DISK_FULL:
                raise OSError(errno.ENOSPC, "No space left on device")
            threading.Event().wait(fault.seconds)

    def allocate(self, memory: DeviceMemory) -> None:
        """What an allocation meets: somebody else took the contiguous memory, until the next loading."""
        for fault in [each for each in self.due(self._starts) if each.kind is FaultKind.MEMORY_TAKEN]:
            self.happened(fault)
            self._taken.append((memory, memory.allocate(memory.largest_free)))
