# SPDX-License-Identifier: Apache-2.0
"""A stream of instructions and its segments in device memory: starts it, and waits with a deadline."""

import contextlib
import time
from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt

from hetfab.driver.transport import DeviceBuffer, Transport
from hetfab.overlay.errors import DeadlineError, EngineFaultError
from hetfab.overlay.isa.codec import Fault, RegisterOffset, Segment
from hetfab.overlay.isa.spec import isa

_START = 1
_DONE = 2
#: Segments of size zero still get an address.
_SMALLEST_BUFFER = isa().block_bytes


class LoadedStream:
    """Buffers of all segments of a stream, which can run many times.

    Args:
        transport: Registers and memory of the overlay.
        instructions: How many the program segment has.
        contents: uint8 content of the segments that the driver fills.
        sizes: Bytes of every segment, 0 where it is left out.
        state: Describes DISPATCH's state, for errors.

    Raises:
        DeviceMemoryError: The segments do not fit.
    """

    def __init__(
        self,
        transport: Transport,
        instructions: int,
        contents: Mapping[Segment, npt.NDArray[np.uint8]],
        sizes: Mapping[Segment, int],
        state: Callable[[], str],
    ) -> None:
        self._transport = transport
        self._instructions = instructions
        self._sizes = {segment: sizes.get(segment, 0) for segment in Segment}
        self._state = state
        self._buffers: dict[Segment, DeviceBuffer] = {}
        with contextlib.ExitStack() as unless_complete:
            unless_complete.callback(self.free)
            for segment in Segment:
                self._buffers[segment] = self._fill(segment, contents.get(segment))
            unless_complete.pop_all()

    @property
    def loaded(self) -> bool:
        """Whether it was not freed."""
        return bool(self._buffers)

    def free(self) -> None:
        """Gives all buffers back; again is allowed and does nothing."""
        buffers, self._buffers = self._buffers, {}
        for buffer in buffers.values():
            buffer.free()

    def run(self, deadline_seconds: float, progress: Callable[[int], None] = lambda steps: None) -> None:
        """Runs the stream once.

        Args:
            deadline_seconds: How long to wait.
            progress: Called with the number of instructions retired since its last call.

        Raises:
            DeadlineError: The deadline passed; the text holds the state of DISPATCH.
            RunError: The overlay reports a fault or a deadlock.
        """
        self._start()
        self._wait(deadline_seconds, progress)

    def read(self, segment: Segment) -> npt.NDArray[np.uint8]:
        """What the device left in a segment: a view."""
        self._buffers[segment].sync_from_device()
        return self._buffers[segment].array

    def write(self, segment: Segment, content: npt.NDArray[np.uint8], offset: int = 0) -> None:
        """Puts other content into a segment that is at least as long, from an offset on."""
        self._buffers[segment].array[offset : offset + content.size] = content
        self._buffers[segment].sync_to_device()

    def _fill(self, segment: Segment, content: npt.NDArray[np.uint8] | None) -> DeviceBuffer:
        buffer = self._transport.allocate(max(self._sizes[segment], _SMALLEST_BUFFER))
        if content is not None:
            buffer.array[: content.size] = content
            buffer.sync_to_device()
        return buffer

    def _start(self) -> None:
        write = self._transport.write_register
        for segment, buffer in self._buffers.items():
            for name, value in (("BASE", buffer.physical_address), ("SIZE", self._sizes[segment])):
                write(RegisterOffset[f"SEGMENT_{name}_{segment.name}_LOW"], value & 0xFFFF_FFFF)
                write(RegisterOffset[f"SEGMENT_{name}_{segment.name}_HIGH"], value >> 32)
        write(RegisterOffset.PROGRAM_LENGTH, self._instructions)
        write(RegisterOffset.CONTROL, _START)

    def _wait(self, deadline_seconds: float, progress: Callable[[int], None]) -> None:
        read = self._transport.read_register
        end = time.monotonic() + deadline_seconds
        reported = 0
        while not read(RegisterOffset.CONTROL) & _DONE:
            # Until DISPATCH's first pass the register shows the run before.
            retired = min(max(read(RegisterOffset.RETIRED), reported), self._instructions)
            progress(retired - reported)
            reported = retired
            if time.monotonic() > end:
                raise DeadlineError(
                    f"the run did not end within {deadline_seconds:g} s\n{self._state()}",
                    f"{self._instructions} retired instructions",
                    "give a longer --deadline; if nothing moves, load the overlay again and report this",
                )
        progress(self._instructions - reported)
        fault = read(RegisterOffset.FAULT)
        if fault != Fault.NONE:
            raise EngineFaultError(
                f"the overlay stopped with fault {fault} ({Fault(fault).name.lower()}) at instruction "
                f"{read(RegisterOffset.FAULT_INSTRUCTION)}\n{self._state()}",
                "a program that was bound for this overlay and these buffers",
                "compile and bind again; report this if it stays",
            )
