# SPDX-License-Identifier: Apache-2.0
"""Register files of the emulated board: an array whose elements have side effects, and the vendor's blocks in it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from hetfab.driver.emulated import EmulatedOverlay
from hetfab.overlay.errors import DeviceMemoryError, RunError
from hetfab.overlay.isa.codec import RegisterOffset

_WORD = 0xFFFF_FFFF
_BUSY, _IDLE = 1, 4


def _nothing() -> None:
    """Stands where nobody asked to be told of changes."""


class Block(Protocol):
    """A register file; offsets are multiples of 4, values have 32 bits."""

    def read(self, offset: int) -> int:
        """Reads a register as the processor does."""

    def write(self, offset: int, value: int) -> None:
        """Writes a register."""

    def peek(self, offset: int) -> int:
        """Reads a register without side effects."""


@dataclass(frozen=True)
class Place:
    """Where a block is."""

    base: int
    size: int
    block: Block


class Bus:
    """The addresses of all blocks."""

    def __init__(self) -> None:
        self.places: list[Place] = []

    def find(self, address: int) -> tuple[Block, int]:
        """The block at an address, and the offset in it.

        Raises:
            DeviceMemoryError: There is none.
        """
        for place in self.places:
            if place.base <= address < place.base + place.size:
                return place.block, address - place.base
        ranges = ", ".join(f"{place.base:#x} to {place.base + place.size - 1:#x}" for place in self.places)
        raise DeviceMemoryError(
            f"no registers are at {address:#x}; a board would hang or end the program",
            f"an address in one of the ranges {ranges or '(none: no overlay is loaded)'}",
            "take addresses from the loaded overlay's ip_dict",
        )

    def read(self, address: int) -> int:
        """Reads 32 bits."""
        block, offset = self.find(address)
        return block.read(offset)

    def write(self, address: int, value: int) -> None:
        """Writes 32 bits."""
        block, offset = self.find(address)
        block.write(offset, value)


class RegisterWindow(np.ndarray[Any, Any]):
    """uint32 view of registers, as ``Device.mmap`` returns it: reading or writing an element reaches the block.

    pynq's MMIO reads and writes elements. Its RegisterMap takes slices, and views as 32 or 64 bits, and then uses
    element 0. Each view knows its address from where its first byte lies in the storage. A slice holds the current
    values, read without side effects, so that they can be copied in one step.
    """

    _bus: Bus | None
    _address: int
    _origin: int

    def __array_finalize__(self, parent: Any) -> None:
        """Copies what a view needs to find its address."""
        self._bus = getattr(parent, "_bus", None)
        self._address = getattr(parent, "_address", 0)
        self._origin = getattr(parent, "_origin", 0)

    def __getitem__(self, key: Any) -> Any:
        """Reads an element through the bus, or takes a slice."""
        bus = self._bus
        if bus is None:
            return super().__getitem__(key)
        if isinstance(key, int | np.integer):
            address = self._place(int(key))
            value = bus.read(address)
            if self.itemsize == 8:
                value |= bus.read(address + 4) << 32
            return self.dtype.type(value)
        if isinstance(key, slice) and self.itemsize == 4:
            for index in range(*key.indices(len(self))):
                block, offset = bus.find(self._place(index))
                super().__setitem__(index, block.peek(offset))
        return super().__getitem__(key)

    def __setitem__(self, key: Any, value: Any) -> None:
        """Writes elements through the bus, in order."""
        bus = self._bus
        if bus is None:
            super().__setitem__(key, value)
        elif isinstance(key, int | np.integer):
            address = self._place(int(key))
            bus.write(address, int(value) & _WORD)
            if self.itemsize == 8:
                bus.write(address + 4, int(value) >> 32 & _WORD)
        else:
            indices = range(len(self))[key]
            for index, item in zip(indices, np.broadcast_to(np.asarray(value), (len(indices),)), strict=True):
                self[index] = item

    def _place(self, index: int) -> int:
        index += len(self) if index < 0 else 0
        if not 0 <= index < len(self):
            raise IndexError(f"register {index} of a window of {len(self)}")
        first: int = self.__array_interface__["data"][0]
        return self._address + first - self._origin + index * self.itemsize


def register_window(bus: Bus, address: int, length: int) -> npt.NDArray[np.uint32]:
    """A window of ``length`` bytes at a physical address; only an access shows whether something is there."""
    window = np.zeros(-(-length // 4), np.uint32).view(RegisterWindow)
    window._bus, window._address = bus, address
    window._origin = window.__array_interface__["data"][0]
    return window


class DispatchBlock:
    """DISPATCH. After a failure while an interrupt was awaited, the next access raises it."""

    def __init__(self, overlay: EmulatedOverlay) -> None:
        self.overlay = overlay
        self.failure: RunError | None = None
        self.changed: Callable[[], None] = _nothing

    @property
    def interrupt(self) -> bool:
        """Whether the interrupt line is high. A failure raises it, so that nobody waits for ever."""
        return self.overlay.interrupt or self.failure is not None

    def read(self, offset: int) -> int:
        """Reads a register; the control register lets time pass.

        Raises:
            RunError: The overlay deadlocked or stopped with a fault.
        """
        if self.failure is not None and offset == RegisterOffset.CONTROL:
            failure, self.failure = self.failure, None
            self.changed()
            raise failure
        value = self.overlay.read(offset)
        self.changed()
        return value

    def write(self, offset: int, value: int) -> None:
        """Writes a register."""
        self.overlay.write(offset, value)
        self.changed()

    def peek(self, offset: int) -> int:
        """Reads a register; of the control register, without the bit that reading clears."""
        if offset == RegisterOffset.CONTROL:
            return _BUSY if self.overlay.running else _IDLE
        return self.overlay.read(offset)

    def advance(self) -> None:
        """Lets time pass while an interrupt is awaited."""
        try:
            self.overlay.advance()
        except RunError as error:
            self.failure = error
        self.changed()


class StorageBlock:
    """Registers without side effects, such as the processing system's."""

    def __init__(self, values: dict[int, int] | None = None) -> None:
        self._values = dict(values or {})

    def read(self, offset: int) -> int:
        """Reads what was written last."""
        return self._values.get(offset, 0)

    def write(self, offset: int, value: int) -> None:
        """Keeps a value."""
        self._values[offset] = value

    peek = read


class InterruptControllerBlock:
    """AXI INTC 4.1 with one input that latches rising edges, as far as ``pynq.interrupt`` uses it (PG099)."""

    _ISR, _IPR, _IER, _IAR, _SIE, _CIE, _MER = 0x00, 0x04, 0x08, 0x0C, 0x10, 0x14, 0x1C

    def __init__(self) -> None:
        self._status = self._enabled = self._master = 0
        self._level = False
        self.changed: Callable[[], None] = _nothing

    @property
    def interrupt(self) -> bool:
        """Whether the output is high."""
        return bool(self._master & 1 and self._status & self._enabled)

    def set_level(self, high: bool) -> None:
        """Sets the input."""
        self._status |= int(high and not self._level)
        self._level = high

    def read(self, offset: int) -> int:
        """Reads a register."""
        values = {
            self._ISR: self._status,
            self._IPR: self._status & self._enabled,
            self._IER: self._enabled,
            self._MER: self._master,
        }
        return values.get(offset, 0)

    peek = read

    def write(self, offset: int, value: int) -> None:
        """Writes a register."""
        if offset == self._ISR:
            self._status = value
        elif offset == self._IER:
            self._enabled = value
        elif offset == self._IAR:
            self._status &= ~value
        elif offset == self._SIE:
            self._enabled |= value
        elif offset == self._CIE:
            self._enabled &= ~value
        elif offset == self._MER:
            self._master = value
        self.changed()
