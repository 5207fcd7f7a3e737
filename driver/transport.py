# SPDX-License-Identifier: Apache-2.0
"""What a session needs of a device: registers and memory, nothing else. A board and the emulator both have it."""

from typing import Any, Protocol

import numpy as np
import numpy.typing as npt


class DeviceBuffer(Protocol):
    """Contiguous memory that host and device share, as ``pynq.allocate`` gives it.

    What the host writes reaches the device with ``sync_to_device``; what the device writes reaches the host with
    ``sync_from_device``.
    """

    @property
    def array(self) -> npt.NDArray[np.uint8]:
        """The host's view; its first content is not defined."""

    @property
    def physical_address(self) -> int:
        """The device's address of the first byte."""

    def sync_to_device(self) -> None:
        """Makes the host's bytes visible to the device."""

    def sync_from_device(self) -> None:
        """Makes the device's bytes visible to the host."""

    def device_view(self) -> npt.NDArray[np.uint8]:
        """The device's bytes, to look at and not to keep; where host and device have copies, the host's may stay."""

    def free(self) -> None:
        """Gives the memory back; again is allowed and does nothing."""


class Transport(Protocol):
    """Access to one overlay's DISPATCH. Not safe for several threads."""

    def read_register(self, offset: int) -> int:
        """Reads a 32-bit register."""

    def write_register(self, offset: int, value: int) -> None:
        """Writes a 32-bit register."""

    def allocate(self, size: int) -> DeviceBuffer:
        """Allocates memory of ``size`` bytes, aligned to 64.

        Raises:
            DeviceMemoryError: The device has not that much left.
        """

    def run_log(self) -> npt.NDArray[Any] | None:
        """Records of the last run as ``RUN_LOG_DTYPE`` without layers, None where the device keeps none."""

    def check_loaded(self) -> None:
        """Looks whether registers still belong to the overlay that was opened, without touching them.

        Raises:
            OverlayStateError: The transport is closed, or another overlay was loaded.
            ClockStoppedError: The overlay's clock does not run as when it was loaded.
        """

    def reload(self) -> None:
        """Loads the overlay again: its registers are as after loading; buffers stay allocated.

        Raises:
            OverlayStateError: The transport is closed.
            LoadDeadlineError: Loading does not end.
            DiskFullError: There is no room for what loading writes.
        """

    def close(self) -> None:
        """Lets the overlay go; again is allowed and does nothing."""
