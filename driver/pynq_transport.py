# SPDX-License-Identifier: Apache-2.0
"""A transport over pynq: what a board runs. Importing this module imports pynq.

Registers go by ``MMIO``, memory by ``allocate(cacheable=1)`` with explicit flush and invalidate.
"""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pynq import MMIO, Clocks, DefaultIP, Overlay
from pynq.buffer import allocate

from hetfab.driver.device_failures import LOAD_SECONDS, clock_stopped, load_within, lost_access
from hetfab.overlay.blockdesign.build import hls_vlnv
from hetfab.overlay.errors import DeviceMemoryError, OverlayPackageError, OverlayStateError

_MEMORY_STATE = Path("/proc/meminfo")


class Dispatch(DefaultIP):
    """pynq's driver of DISPATCH: ``register_map``, ``read`` and ``write`` of its registers, its interrupt."""

    bindto = [hls_vlnv("dispatch")]  # noqa: RUF012  pynq reads the class attribute


class PynqBuffer:
    """A buffer of ``pynq.allocate``."""

    def __init__(self, buffer: Any) -> None:
        self._buffer: Any = buffer
        self._array: npt.NDArray[np.uint8] = buffer.view(np.ndarray)
        self._address = int(buffer.physical_address)

    @property
    def array(self) -> npt.NDArray[np.uint8]:
        """The host's view."""
        return self._array

    @property
    def physical_address(self) -> int:
        """The device's address of the first byte."""
        return self._address

    def sync_to_device(self) -> None:
        """Flushes the host's bytes."""
        self._buffer.flush()

    def sync_from_device(self) -> None:
        """Invalidates the host's bytes, so that the device's are read."""
        self._buffer.invalidate()

    def device_view(self) -> npt.NDArray[np.uint8]:
        """The device's bytes: the host's own, behind an invalidation."""
        self.sync_from_device()
        return self._array

    def free(self) -> None:
        """Frees the memory; ``array`` must not be used any more."""
        buffer, self._buffer = self._buffer, None
        if buffer is not None:
            self._array = self._array[:0].copy()
            buffer.freebuffer()


class PynqTransport:
    """DISPATCH of an overlay that pynq loads.

    Args:
        bit: Path of the .bit file; the .hwh file is beside it.
        device: The pynq device, None for the active one.
        load_seconds: How long loading may take.

    Raises:
        OverlayPackageError: The overlay has no DISPATCH of this version of the instruction set.
        LoadDeadlineError: Loading does not end.
        DiskFullError: There is no room for what loading writes.
    """

    def __init__(self, bit: Path, device: Any = None, *, load_seconds: float = LOAD_SECONDS) -> None:
        self._bit = bit
        self._device = device
        self._load_seconds = load_seconds
        self._overlay: Any = None
        self._mmio: Any = None
        self._clock_mhz = 0.0
        self._load()

    def _load(self) -> None:
        load_within(self._load_seconds, self._load_overlay)
        names = [name for name, entry in self._overlay.ip_dict.items() if entry["type"] in Dispatch.bindto]
        if len(names) != 1:
            types = ", ".join(sorted(entry["type"] for entry in self._overlay.ip_dict.values()))
            raise OverlayPackageError(
                f"the overlay '{self._bit}' has {len(names)} of {Dispatch.bindto[0]}; it holds {types}",
                "an overlay that hetfab built for this version of the instruction set",
                "load another overlay, or build it again with this hetfab",
            )
        # Not the IP's driver: it would look for its interrupt on the active device, which may be another one.
        entry = self._overlay.ip_dict[names[0]]
        self._mmio = MMIO(entry["phys_addr"], entry["addr_range"], device=self._overlay.device)
        self._clock_mhz = float(Clocks.fclk0_mhz)

    def _load_overlay(self) -> None:
        self._overlay = Overlay(str(self._bit.resolve()), device=self._device)

    def reload(self) -> None:
        """Loads the overlay again.

        Raises:
            OverlayStateError: It is closed.
            HetfabError: As when it was opened.
        """
        self._check_open()
        self._load()

    def check_loaded(self) -> None:
        """Asks pynq whether the overlay is still the loaded one, and the processor's registers for its clock.

        Raises:
            OverlayStateError: It is closed, or another overlay was loaded since.
            ClockStoppedError: The clock is another one than when it was loaded.
        """
        self._check_open()
        if not self._overlay.is_loaded():
            raise OverlayStateError(
                f"another overlay was loaded after '{self._bit.name}'",
                f"'{self._bit.name}' in the fabric",
                "open this overlay again; one overlay is in the fabric at a time",
            )

        clock_mhz = float(Clocks.fclk0_mhz)
        if clock_mhz != self._clock_mhz:
            raise clock_stopped(clock_mhz, self._clock_mhz)

    def _check_open(self) -> None:
        if self._overlay is None:
            raise OverlayStateError("the overlay is closed", "an open overlay", "open it again")

    def read_register(self, offset: int) -> int:
        """Reads a register.

        Raises:
            RunError: The bus or the device is gone.
        """
        try:
            value: int = self._mmio.read(int(offset))
        except OSError as error:
            raise lost_access(error, offset) from error
        return value

    def write_register(self, offset: int, value: int) -> None:
        """Writes a register.

        Raises:
            RunError: The bus or the device is gone.
        """
        try:
            self._mmio.write(int(offset), int(value))
        except OSError as error:
            raise lost_access(error, offset) from error

    def wrap(self, buffer: Any) -> PynqBuffer:
        """A buffer of pynq as one of this transport."""
        return PynqBuffer(buffer)

    def allocate(self, size: int) -> PynqBuffer:
        """Allocates cacheable memory.

        Raises:
            DeviceMemoryError: The board has not that much contiguous memory left.
        """
        try:
            return self.wrap(allocate((size,), np.uint8, target=self._device, cacheable=1))
        except (RuntimeError, MemoryError) as error:
            raise DeviceMemoryError(
                f"out of CMA: {size} bytes were asked for{_free_cma()}; pynq says: {error}",
                "contiguous memory for all segments of the bound program",
                "free other buffers, use a smaller graph, or give the board's kernel more CMA",
            ) from error

    def run_log(self) -> npt.NDArray[Any] | None:
        """Boards keep no run log."""
        return None

    def close(self) -> None:
        """Lets the overlay go; it stays in the fabric until another one is loaded."""
        self._overlay = None


def _free_cma() -> str:
    """What Linux says of its contiguous memory, in words; nothing where it has none."""
    try:
        lines = _MEMORY_STATE.read_text(encoding="ascii").splitlines()
    except OSError:
        return ""
    found = {name: int(rest.split()[0]) * 1024 for name, _, rest in (line.partition(":") for line in lines)}
    if not found.get("CmaTotal"):
        return ""
    return f", {found.get('CmaFree', 0)} of {found['CmaTotal']} bytes are free"
