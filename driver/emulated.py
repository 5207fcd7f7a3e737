# SPDX-License-Identifier: Apache-2.0
"""A transport to the emulator: the same registers and memory as a board, in this process.

Device memory is apart from the host's arrays, so that a forgotten ``sync_to_device`` shows as a wrong result here too.
"""

from types import TracebackType
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from hetfab.hls.build.emulator import Emulator, Progress, build_emulator
from hetfab.overlay.design import Design
from hetfab.overlay.errors import DeadlockError, DeviceMemoryError, EngineFaultError
from hetfab.overlay.isa.codec import RegisterOffset

_Transport = TypeVar("_Transport", bound="EmulatedTransport")

_FIRST_ADDRESS = 0x1000_0000
#: Unmapped space between allocations, so that an access past an end is caught.
_GAP = 0x1_0000
_ADDRESS_LIMIT = 1 << 40
#: Passes of the scheduler that one read of the control register lets go by.
_PASSES_PER_READ = 20_000


class EmulatedBuffer:
    """Memory of the emulated device and the host's copy of it."""

    def __init__(self, transport: "EmulatedTransport", size: int, address: int) -> None:
        self._transport = transport
        self._device = np.zeros(size, np.uint8)
        self._host = np.zeros(size, np.uint8)
        self._address = address

    @property
    def array(self) -> npt.NDArray[np.uint8]:
        """The host's view."""
        return self._host

    @property
    def device_array(self) -> npt.NDArray[np.uint8]:
        """The device's view."""
        return self._device

    @property
    def physical_address(self) -> int:
        """The device's address of the first byte."""
        return self._address

    def sync_to_device(self) -> None:
        """Copies the host's bytes to the device."""
        self._device[:] = self._host

    def sync_from_device(self) -> None:
        """Copies the device's bytes to the host."""
        self._host[:] = self._device

    def free(self) -> None:
        """Unmaps the memory; the device's later accesses are faults."""
        self._transport.release(self)


class EmulatedTransport:
    """An emulated overlay of a design. Use as a context manager.

    Args:
        design: The overlay's design; its kernels are compiled on first use.
        seed: 0 steps the engines in turn, another value in an order drawn from it.
        check_order: Whether runs stop at accesses that no semaphores order.

    Raises:
        EnvironmentLacksError: No compiler, or no folder for what it builds.
    """

    def __init__(self, design: Design, *, seed: int = 0, check_order: bool = True) -> None:
        self._emulator = Emulator(build_emulator(design.geometry), design.geometry)
        self._emulator.check_order(check_order)
        self._next_address = _FIRST_ADDRESS
        self._seed = seed
        self._running = False

    def __enter__(self: _Transport) -> _Transport:
        """Returns the transport."""
        self._emulator.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Frees the emulated overlay."""
        self._emulator.__exit__(kind, error, trace)

    def read_register(self, offset: int) -> int:
        """Reads a register; reading the control register lets the overlay run on for a while.

        Raises:
            DeadlockError: No engine can step and instructions remain.
            EngineFaultError: An engine stopped with a fault.
        """
        if offset == RegisterOffset.CONTROL and self._running:
            self._advance()
        return self._emulator.read_register(offset)

    def write_register(self, offset: int, value: int) -> None:
        """Writes a register."""
        self._emulator.write_register(offset, value)
        if offset == RegisterOffset.CONTROL and value & 1:
            self._running = True

    def allocate(self, size: int) -> EmulatedBuffer:
        """Allocates device memory, zero at first.

        Raises:
            DeviceMemoryError: The host has not that much memory, or the addresses are used up.
        """
        reserved = size + -size % _GAP + _GAP
        try:
            if self._next_address + reserved > _ADDRESS_LIMIT:
                raise MemoryError
            buffer = EmulatedBuffer(self, size, self._next_address)
        except MemoryError as error:
            raise DeviceMemoryError(
                f"the emulated device cannot allocate {size} bytes",
                "memory for all segments of the bound program",
                "use a smaller graph, or a machine with more memory",
            ) from error
        self._next_address += reserved
        self._emulator.map_memory(buffer.physical_address, buffer.device_array)
        return buffer

    def release(self, buffer: EmulatedBuffer) -> None:
        """Unmaps a buffer."""
        self._emulator.unmap_memory(buffer.physical_address)

    def run_log(self) -> npt.NDArray[Any]:
        """Records of the last run, without layers."""
        return self._emulator.run_log()

    def _advance(self) -> None:
        progress = self._emulator.advance(_PASSES_PER_READ, self._seed)
        self._running = progress is Progress.RUNNING
        if progress is Progress.DEADLOCK:
            raise DeadlockError(
                self._emulator.message(),
                "a program in which every wait has its signal",
                "report this with the program: the compiler or the overlay is at fault",
            )
        if progress is Progress.FAULT:
            raise EngineFaultError(
                f"the overlay stopped with a fault\n{self._emulator.message()}",
                "a program that was bound for this overlay and these buffers",
                "compile and bind again; report this if it stays",
            )
