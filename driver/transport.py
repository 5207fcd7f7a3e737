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
        """The host's view."""

    @property
    def physical_address(self) -> int:
        """The device's address of the first byte."""

    def sync_to_device(self) -> None:
        """Makes the host's bytes visible to the device."""

    def sync_from_device(self) -> None:
        """Makes the device's bytes visible to the host."""

    def free(self) -> None:
        """Gives the memory back."""


class Transport(Protocol):
    """Access to one overlay's DISPATCH."""

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
