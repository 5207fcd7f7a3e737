# SPDX-License-Identifier: Apache-2.0
"""The contiguous memory (CMA) of an emulated board: allocations of limited size, each with two copies.

A cached allocation has a host's and a device's copy, as a board has with data in the processor's cache: what one side
writes reaches the other by ``flush`` or ``invalidate``. New memory holds noise, freed memory holds poison, and only
live allocations are mapped for the device.
"""

import mmap
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hetfab.hls.build.emulator import Emulator
from hetfab.overlay.board import Board
from hetfab.overlay.errors import DeviceMemoryError

Bytes = npt.NDArray[np.uint8]

_PAGE = 4096
#: Contents that nobody wrote, different on both sides, and what a freed allocation holds.
_HOST_NOISE, _DEVICE_NOISE, _POISON = 0xA5, 0x5A, 0xDD
#: Freed allocations that are remembered for messages.
_REMEMBERED = 64


@dataclass(frozen=True, eq=False)
class Allocation:
    """Contiguous memory.

    Attributes:
        address: The device's address of the first byte.
        size: Bytes.
        host: The host's copy, uint8 [size].
        device: The device's copy; the same array where the allocation is not cached.
    """

    address: int
    size: int
    host: Bytes
    device: Bytes

    @property
    def cached(self) -> bool:
        """Whether the two copies are apart."""
        return self.host is not self.device

    def flush(self, offset: int = 0, size: int | None = None) -> None:
        """Copies the host's bytes to the device."""
        if self.cached:
            part = slice(offset, self.size if size is None else offset + size)
            self.device[part] = self.host[part]

    def invalidate(self, offset: int = 0, size: int | None = None) -> None:
        """Copies the device's bytes to the host."""
        if self.cached:
            part = slice(offset, self.size if size is None else offset + size)
            self.host[part] = self.device[part]


class DeviceMemory:
    """The contiguous memory of a board.

    Args:
        board: Its size and place: the last ``contiguous_bytes`` of the low DRAM; where the board's file does not know
            them, as much as the smallest board has.
    """

    def __init__(self, board: Board) -> None:
        self.size = board.assumed_contiguous_bytes
        self.base = board.dram_low_bytes - self.size
        self._board = board.name
        self._host = np.frombuffer(mmap.mmap(-1, self.size), np.uint8)
        self._device = np.frombuffer(mmap.mmap(-1, self.size), np.uint8)
        self._free: list[tuple[int, int]] = [(0, self.size)]
        self._live: dict[int, Allocation] = {}
        self._freed: list[tuple[int, int]] = []
        self._emulator: Emulator | None = None

    @property
    def device_bytes(self) -> Bytes:
        """All of it, as the device sees it."""
        return self._device

    @property
    def used(self) -> int:
        """Bytes that cannot be allocated now."""
        return self.size - sum(size for _, size in self._free)

    @property
    def largest_free(self) -> int:
        """Bytes of the largest allocation that there is room for."""
        return max((piece - _PAGE for _, piece in self._free), default=0)

    def scramble(self) -> None:
        """Loses what the device's memory holds, as without power."""
        for allocation in self._live.values():
            allocation.device[:] = _DEVICE_NOISE

    def connect(self, emulator: Emulator | None) -> None:
        """Maps live and later allocations for an overlay, or for none."""
        self._emulator = emulator
        if emulator is not None:
            for allocation in self._live.values():
                emulator.map_memory(allocation.address, allocation.device)

    def allocate(self, size: int, *, cached: bool = True) -> Allocation:
        """Allocates ``size`` bytes at a multiple of a page, with an unmapped page behind.

        Raises:
            DeviceMemoryError: No free piece is large enough.
        """
        needed = size + -size % _PAGE + _PAGE
        index = next((i for i, (_, piece) in enumerate(self._free) if piece >= needed), None)
        if index is None:
            raise self._exhausted(size)
        offset, piece = self._free.pop(index)
        if piece > needed:
            self._free.insert(index, (offset + needed, piece - needed))
        device = self._device[offset : offset + size]
        host = self._host[offset : offset + size] if cached else device
        host[:] = _HOST_NOISE
        device[:] = _DEVICE_NOISE
        allocation = Allocation(self.base + offset, size, host, device)
        self._live[allocation.address] = allocation
        if self._emulator is not None:
            self._emulator.map_memory(allocation.address, device)
        return allocation

    def free(self, allocation: Allocation) -> None:
        """Gives an allocation back; again is allowed and does nothing."""
        if self._live.get(allocation.address) is not allocation:
            return
        del self._live[allocation.address]
        if self._emulator is not None:
            self._emulator.unmap_memory(allocation.address)
        allocation.device[:] = _POISON
        allocation.host[:] = _POISON
        self._freed = [(allocation.address, allocation.size), *self._freed[: _REMEMBERED - 1]]
        needed = allocation.size + -allocation.size % _PAGE + _PAGE
        self._free = _joined([*self._free, (allocation.address - self.base, needed)])

    def find(self, address: int) -> Allocation | None:
        """The live allocation that an address lies in."""
        for allocation in self._live.values():
            if allocation.address <= address < allocation.address + allocation.size:
                return allocation
        return None

    def explain(self, address: int) -> str:
        """Why the device may not use an address."""
        for base, size in self._freed:
            if base <= address < base + size:
                return f"{address:#x} is in a buffer of {size} bytes at {base:#x} that was freed"
        below = [base for base in self._live if base <= address]
        if not below:
            return f"{address:#x} is below every buffer"
        nearest = self._live[max(below)]
        beyond = address - nearest.address - nearest.size
        return f"{address:#x} is {beyond} bytes beyond the buffer of {nearest.size} bytes at {nearest.address:#x}"

    def _exhausted(self, size: int) -> DeviceMemoryError:
        free = sum(piece for _, piece in self._free)
        return DeviceMemoryError(
            f"out of CMA: {size} bytes were asked for; of {self.size} bytes on '{self._board}', {free} are free, "
            f"the largest piece has {self.largest_free}",
            "contiguous memory for all segments of the bound program",
            "free other buffers, use a smaller graph, or give the board's kernel more CMA",
        )


def _joined(pieces: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Free pieces in order, neighbours made one."""
    joined: list[tuple[int, int]] = []
    for offset, size in sorted(pieces):
        if joined and sum(joined[-1]) == offset:
            joined[-1] = (joined[-1][0], joined[-1][1] + size)
        else:
            joined.append((offset, size))
    return joined
