# SPDX-License-Identifier: Apache-2.0
"""The emulated board as a subclass of ``pynq.Device``; importing this module makes it known to pynq (docs/pynq.md)."""

import inspect
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pynq
import pynq.interrupt
import pynq.ps
from pynq.buffer import PynqBuffer
from pynq.pl_server.device import Device

from hetfab.driver.device_memory import Allocation, DeviceMemory
from hetfab.driver.emulated import EmulatedOverlay
from hetfab.driver.faults import FaultPlan
from hetfab.driver.pynq_device import selected
from hetfab.driver.pynq_device.interrupts import FabricInterrupt
from hetfab.driver.pynq_device.registers import (
    Block,
    Bus,
    DispatchBlock,
    InterruptControllerBlock,
    Place,
    StorageBlock,
    register_window,
)
from hetfab.overlay.blockdesign.build import hls_vlnv
from hetfab.overlay.blockdesign.platform import platform_of
from hetfab.overlay.board import Board, read_board
from hetfab.overlay.design import Design
from hetfab.overlay.errors import (
    DeviceMemoryError,
    OverlayPackageError,
    OverlayStateError,
    PynqVersionError,
)
from hetfab.overlay.package import read_emulated_bit

_SLCR, _CRL_APB = 0xF800_0000, 0xFF5E_0000
#: Clock registers of the processing systems after boot, which ``pynq.Clocks`` reads: (base, size, values by offset).
#: Zynq-7000: 50 MHz times 26 and 21, fabric clocks divided by 10. UltraScale+: 33.333 MHz times 90, 72 and 64, halved.
#: The IO PLL's register follows the board.
_SYSTEM_REGISTERS = {
    "armv7l": [
        (
            _SLCR,
            0x1000,
            {0x100: 26 << 12, 0x104: 21 << 12, 0x120: 2 << 8}
            | {0x170 + 16 * clock: 1 << 20 | 10 << 8 for clock in range(4)},
        )
    ],
    "aarch64": [
        (
            _CRL_APB,
            0x1000,
            {0x30: 1 << 16 | 90 << 8} | {0xC0 + 4 * clock: 1 << 24 | 1 << 16 | 15 << 8 for clock in range(4)},
        ),
        (
            0xFD1A_0000,
            0x1000,
            {0x20: 1 << 16 | 72 << 8, 0x2C: 1 << 16 | 64 << 8, 0x38: 1 << 16 | 90 << 8, 0x60: 1 << 8},
        ),
    ],
}
#: Offsets of fabric clock 0 in the registers of Zynq-7000 and of UltraScale+.
_FABRIC_CLOCKS = (0x170, 0xC0)
_INTERRUPT_CONTROLLER = "xilinx.com:ip:axi_intc:4.1"


class EmulatedPynqBuffer(PynqBuffer):
    """A buffer of ``pynq.allocate`` in emulated memory."""

    #: numpy 2 arrays have a read-only ``device``; a class attribute lets pynq set its own.
    device = None


class _Returns:
    """Takes freed buffers back, by the hook that pynq has for pools of buffers."""

    def __init__(self, memory: DeviceMemory) -> None:
        self._memory = memory

    def return_pointer(self, allocation: Allocation) -> None:
        self._memory.free(allocation)


class EmulatedMemory:
    """What pynq takes for a memory of the device."""

    def __init__(self, device: "EmulatedDevice", description: dict[str, Any]) -> None:
        self.device = device
        self.desc = description
        self.base_address, self.size = description["base_address"], description["size"]

    def allocate(self, shape: Any, dtype: Any, **options: Any) -> Any:
        """Allocates a buffer on the device."""
        return self.device.allocate(shape, dtype, **options)


class _SystemBlock(StorageBlock):
    """Registers of the processing system; fabric clocks read as slow as can be while the overlay lacks its clock."""

    _DIVISOR = 0x3F00

    def __init__(self, device: "EmulatedDevice", values: dict[int, int]) -> None:
        super().__init__(values)
        self._device = device

    def read(self, offset: int) -> int:
        """Reads what was written last, or a clock that is lost."""
        value, overlay = super().read(offset), self._device.overlay
        lost = overlay is not None and not overlay.clock_runs
        return value | self._DIVISOR if lost and offset in _FABRIC_CLOCKS else value

    peek = read


class EmulatedDevice(Device):
    """A board whose fabric is software. It becomes the board of the first overlay that it gets."""

    # Before all devices of pynq itself, which begin at 40; found only where the environment asks for it.
    _probe_priority_ = 5

    @classmethod
    def _probe_(cls) -> list["EmulatedDevice"]:
        return [cls()] if selected() else []

    def __init__(self, tag: str = "hetfab-emulated") -> None:
        super().__init__(tag)
        self.name = tag
        self.arch = ""
        self.capabilities = {"MEMORY_MAPPED": True}
        self.memory: DeviceMemory | None = None
        self.overlay: EmulatedOverlay | None = None
        #: What the device meets; None for nothing.
        self.faults: FaultPlan | None = None
        self._board: Board | None = None
        self._design: Design | None = None
        self._bus = Bus()
        self._system: list[Place] = []

    def get_bitfile_metadata(self, bitfile_name: str, partial: bool = False) -> Any:
        """Reads the .hwh file beside a .bit file.

        Raises:
            OverlayPackageError: The files are no emulated overlay, damaged, or for another board.
            PynqVersionError: This pynq cannot load overlays of the board.
            OverlayStateError: Partial reconfiguration.
        """
        if partial:
            raise OverlayStateError(
                "a partial bitstream", "a whole overlay", "load overlays whole: hetfab has no regions"
            )
        design = read_emulated_bit(Path(bitfile_name))
        board = read_board(design.board)
        self._become(board)
        self._design = design
        parser = metadata(Path(bitfile_name).with_suffix(".hwh"))
        parser.mem_dict["PSDDR"] = {
            "raw_type": 2,
            "used": 1,
            "base_address": 0,
            "size": board.dram_bytes,
            "type": "MEM_DDR4",
            "streaming": False,
            "idx": 0,
            "tag": "PSDDR",
        }
        parser.refresh_hierarchy_dict()
        return parser

    def download(self, bitstream: Any, parser: Any = None) -> None:
        """Loads the overlay whose metadata was read last; registers of the one before are gone."""
        design, memory = self._design, self.memory
        if design is None or memory is None:
            raise OverlayStateError("a download before the metadata was read", "pynq.Overlay(...)", "use pynq.Overlay")
        if self.faults is not None:
            self.faults.load()
        if self.overlay is not None:
            self.overlay.close()
        self.overlay = self._overlay_of(design, memory)
        dispatch, controller = DispatchBlock(self.overlay), InterruptControllerBlock()
        blocks: dict[str, Block] = {hls_vlnv("dispatch"): dispatch, _INTERRUPT_CONTROLLER: controller}
        places = [
            Place(entry["phys_addr"], entry["addr_range"], blocks[entry["type"]])
            for entry in parser.ip_dict.values()
            if entry["type"] in blocks
        ]
        self._bus.places = [*self._system, *places]
        pynq.interrupt._InterruptController._controllers.clear()
        line = FabricInterrupt(controller, dispatch)
        for entry in parser.interrupt_controllers.values():
            # pynq looks here before it asks Linux for a UIO device.
            pynq.interrupt._InterruptController._uio_devices[entry["raw_irq"]] = line
        bitstream.binfile_name = Path(bitstream.bitfile_name).stem + ".bin"
        # pynq 3.0 takes two arguments.
        arguments = (bitstream, parser, self.name)
        super().post_download(*arguments[: len(inspect.signature(Device.post_download).parameters) - 1])

    def _overlay_of(self, design: Design, memory: DeviceMemory) -> EmulatedOverlay:
        if self.faults is None:
            return EmulatedOverlay(design, memory)
        from hetfab.driver.faulty import FaultyOverlay

        return FaultyOverlay(design, memory, self.faults)

    def mmap(self, base_address: int, length: int) -> npt.NDArray[np.uint32]:
        """Maps memory or registers: memory as the device sees it, registers with their side effects."""
        memory = self.memory
        if memory is not None and memory.base <= base_address < memory.base + memory.size:
            first = base_address - memory.base
            return memory.device_bytes[first : first + length].view(np.uint32)
        return register_window(self._bus, base_address, length)

    def allocate(self, shape: Any, dtype: Any = "u4", cacheable: int = 0, **options: Any) -> Any:
        """Allocates a buffer; a cacheable one needs ``flush`` and ``invalidate``.

        Raises:
            RuntimeError: No overlay was loaded, or the memory is used up, as pynq says it on a board.
        """
        if self.memory is None:
            raise RuntimeError("Overlay is not downloaded")
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        if self.faults is not None:
            self.faults.allocate(self.memory)
        try:
            allocation = self.memory.allocate(max(size, 1), cached=bool(cacheable))
        except DeviceMemoryError as error:
            raise RuntimeError(error.found) from error
        buffer = EmulatedPynqBuffer(
            shape,
            dtype,
            buffer=allocation.host,
            device=self,
            device_address=allocation.address,
            bo=allocation,
            coherent=False,
        )
        buffer.memory = self.default_memory
        buffer.pointer, buffer.return_to = allocation, _Returns(self.memory)
        # Freed a second time, a buffer without a pointer would be unmapped by libc.
        buffer.freed = True
        return buffer

    def flush(self, bo: Allocation, offset: int, virtual_address: int, nbytes: int) -> None:
        """Makes the host's bytes visible to the device.

        Raises:
            DeviceMemoryError: The buffer was freed, or the array is none of its views.
        """
        self._check(bo, offset, nbytes, "flush")
        bo.flush(offset, nbytes)

    def invalidate(self, bo: Allocation, offset: int, virtual_address: int, nbytes: int) -> None:
        """Makes the device's bytes visible to the host.

        Raises:
            DeviceMemoryError: The buffer was freed, or the array is none of its views.
        """
        self._check(bo, offset, nbytes, "invalidate")
        bo.invalidate(offset, nbytes)

    @property
    def default_memory(self) -> EmulatedMemory:
        """The board's contiguous memory."""
        if self.memory is None:
            raise RuntimeError("Overlay is not downloaded")
        return EmulatedMemory(self, {"base_address": self.memory.base, "size": self.memory.size})

    def get_memory(self, description: dict[str, Any]) -> EmulatedMemory:
        """A memory of ``mem_dict``."""
        return EmulatedMemory(self, description)

    def gen_cache(self, bitstream: Any, parser: Any = None) -> None:
        """Does nothing: metadata are always read from the files."""

    def shutdown(self) -> None:
        """Does nothing: there is no bitstream to remove."""

    def insert_device_tree(self, abs_dtbo: str) -> None:
        """Does nothing: there is no kernel."""

    def remove_device_tree(self, abs_dtbo: str) -> None:
        """Does nothing: there is no kernel."""

    def _become(self, board: Board) -> None:
        """Takes over a board's memory and clocks, once."""
        if pynq.__version__ not in board.pynq:
            raise PynqVersionError(
                f"pynq {pynq.__version__} cannot load overlays on '{board.name}' ({board.family})",
                "pynq " + ", ".join(board.pynq),
                f"pip install 'pynq=={board.pynq[-1]}' 'pycparser<3', or use an overlay of another board",
            )
        if self._board is not None and self._board != board:
            raise OverlayPackageError(
                f"the overlay is for the board '{board.name}', the device is a '{self._board.name}'",
                f"an overlay for '{self._board.name}'",
                "load an overlay of this board, or start another process for another board",
            )
        if self._board is None:
            self._board = board
            self.arch = platform_of(board).architecture
            self.memory = DeviceMemory(board)
            self._system = [
                Place(base, size, _SystemBlock(self, values | _io_pll(board, base)))
                for base, size, values in _SYSTEM_REGISTERS[self.arch]
            ]
            self._bus.places = list(self._system)
        self._select_clocks()

    def _select_clocks(self) -> None:
        """Lets ``pynq.Clocks`` look at this device again: it keeps the first one's registers for the process."""
        if "_real_instance" in vars(pynq.ps.Clocks):
            del pynq.ps.Clocks._real_instance
        if not hasattr(pynq.ps.Clocks, "set_device"):
            # pynq 3.0 goes by the processor that it was imported on.
            pynq.ps.CPU_ARCH = self.arch

    def _check(self, allocation: Allocation, offset: int, size: int, action: str) -> None:
        memory = self.memory
        address = allocation.address + offset
        if memory is None or memory.find(allocation.address) is not allocation:
            raise DeviceMemoryError(
                f"{action} of a freed buffer of {allocation.size} bytes at {allocation.address:#x}",
                "a buffer that was not freed",
                "free buffers after their last use",
            )
        if offset < 0 or offset + size > allocation.size:
            raise DeviceMemoryError(
                f"{action} of {size} bytes at {address:#x}, outside their buffer of {allocation.size} bytes at "
                f"{allocation.address:#x}",
                "a buffer, or a contiguous view of one",
                "copy into the buffer: the result of arithmetic on a buffer lies elsewhere",
            )


def metadata(hwh: Path) -> Any:
    """What pynq reads from a .hwh file."""
    from pynqmetadata.frontends import Metadata

    try:
        from pynqmetadata.views.runtime import RuntimeMetadataParser
    except ImportError:  # before pynqmetadata 0.2
        from pynq.metadata.runtime_metadata_parser import RuntimeMetadataParser
    return RuntimeMetadataParser(Metadata(input=str(hwh)))


def _io_pll(board: Board, base: int) -> dict[int, int]:
    """The IO PLL's register in the registers at ``base``: fabric clocks come from it."""
    if base == _SLCR:
        return {0x108: round(board.clock_source_mhz / 50) << 12}
    if base == _CRL_APB:
        return {0x20: 1 << 16 | round(board.clock_source_mhz * 2 * 3 / 100) << 8}
    return {}
