# SPDX-License-Identifier: Apache-2.0
"""A stream of instructions and its segments in device memory: starts it, waits with a deadline, checks what it left."""

import contextlib
import functools
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager
from typing import Protocol

import numpy as np
import numpy.typing as npt

from hetfab.driver.checks import DONE, IDLE, Checks, StreamEnd, check_control, check_end, check_not_reset, hang
from hetfab.driver.transport import DeviceBuffer, Transport
from hetfab.overlay.errors import (
    AnswerGarbledError,
    DeadlineError,
    EngineFaultError,
    MemoryAlteredError,
    RegisterAlteredError,
    ResultsDifferError,
    RunError,
)
from hetfab.overlay.isa.codec import Fault, RegisterOffset, Segment
from hetfab.overlay.isa.spec import isa

_START = 1
#: Segments that a run may write.
_WRITTEN = (Segment.GRAPH, Segment.ACTIVATIONS, Segment.OUTPUT)
#: What a program only reads.
_KEPT = (Segment.PROGRAM, Segment.CONSTANTS, Segment.FEATURES, Segment.GRAPH)
#: Segments of size zero still get an address.
_SMALLEST_BUFFER = isa().block_bytes


class Overseer(Protocol):
    """What a stream needs of its session."""

    @property
    def transport(self) -> Transport:
        """Registers and memory of the overlay."""

    @property
    def checks(self) -> Checks:
        """How far runs are checked."""

    def state_dump(self) -> str:
        """DISPATCH's state in words."""

    def check_identity(self) -> None:
        """Compares the overlay's registers with the design."""


class LoadedStream:
    """Buffers of all segments of a stream, which can run many times.

    Args:
        session: The overlay's.
        instructions: How many the program segment has.
        contents: uint8 content of the segments that the driver fills.
        sizes: Bytes of every segment, 0 where it is left out.
        kept: Of the segments that the driver fills, those whose content no run changes; behind it a run may write.
        checks_end: Whether the registers after a run are compared with what the stream leaves; not for who does so.

    Raises:
        DeviceMemoryError: The segments do not fit.
    """

    def __init__(
        self,
        session: Overseer,
        instructions: int,
        contents: Mapping[Segment, npt.NDArray[np.uint8]],
        sizes: Mapping[Segment, int],
        *,
        kept: Collection[Segment] = _KEPT,
        checks_end: bool = True,
    ) -> None:
        self._kept = kept
        self._checks_end = checks_end
        self._session = session
        self._transport = session.transport
        self._instructions = instructions
        self._sizes = {segment: sizes.get(segment, 0) for segment in Segment}
        self._words = contents[Segment.PROGRAM].view(np.uint64).reshape(-1, 2)[:instructions]
        self._buffers: dict[Segment, DeviceBuffer] = {}
        #: Of each segment that stays as it was filled: bytes, and their sum.
        self._sums: dict[Segment, tuple[int, int]] = {}
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

    def run(
        self,
        deadline_seconds: float,
        progress: Callable[[int], None] = lambda steps: None,
        metered: AbstractContextManager[object] | None = None,
    ) -> None:
        """Runs the stream, twice where the session's checks say so.

        Args:
            deadline_seconds: How long to wait for each run.
            progress: Called with the number of instructions retired since its last call.
            metered: Entered for the first run alone, from its start to its end, without the checks behind it.

        Raises:
            DeadlineError: The deadline passed; the text holds the state of DISPATCH, or what keeps it.
            ResultsDifferError: Two runs gave different results.
            RunError: The overlay reports a fault or a deadlock, or what it left is not what a run leaves.
        """
        self._run_once(deadline_seconds, progress, contextlib.nullcontext() if metered is None else metered)
        if self._session.checks is not Checks.TWICE:
            return
        first = self._results()
        self._run_once(deadline_seconds, lambda steps: None, contextlib.nullcontext())
        differing = [segment for segment, found in self._results().items() if found != first[segment]]
        if differing:
            raise ResultsDifferError(
                "two runs of the same program left different bytes in the segment "
                + ", ".join(f"'{segment.name.lower()}'" for segment in differing),
                "the same integers from each run",
                "run again; if this stays, load the overlay again (HetfabOverlay.recover()) or lower its clock",
            )

    def _results(self) -> dict[Segment, bytes]:
        return {
            segment: self.read(segment)[: self._sizes[segment]].tobytes()
            for segment in _WRITTEN
            if self._sizes[segment]
        }

    def _run_once(
        self, deadline_seconds: float, progress: Callable[[int], None], metered: AbstractContextManager[object]
    ) -> None:
        with metered:
            self._start()
            self._wait(deadline_seconds, progress)
        check_not_reset(self._transport.read_register)
        self._session.check_identity()
        if self._checks_end:
            check_end(self._transport.read_register, self._end_registers)
        if self._session.checks is not Checks.STATE:
            self._check_memory()

    @functools.cached_property
    def _stream_end(self) -> StreamEnd:
        return StreamEnd.of(self._words)

    @functools.cached_property
    def _end_registers(self) -> dict[RegisterOffset, int]:
        return self._stream_end.registers

    def read(self, segment: Segment) -> npt.NDArray[np.uint8]:
        """What the device left in a segment: a view."""
        self._buffers[segment].sync_from_device()
        return self._buffers[segment].array

    def write(self, segment: Segment, content: npt.NDArray[np.uint8], offset: int = 0) -> None:
        """Puts other content into a segment that is at least as long, from an offset on."""
        self._buffers[segment].array[offset : offset + content.size] = content
        self._buffers[segment].sync_to_device()
        if segment in self._sums:
            size, _ = self._sums[segment]
            self._sums[segment] = size, _sum(self._buffers[segment].array[:size])

    def _fill(self, segment: Segment, content: npt.NDArray[np.uint8] | None) -> DeviceBuffer:
        buffer = self._transport.allocate(max(self._sizes[segment], _SMALLEST_BUFFER))
        if content is not None:
            buffer.array[: content.size] = content
            buffer.sync_to_device()
            if segment in self._kept:
                self._sums[segment] = content.size, _sum(content)
        return buffer

    def _check_memory(self) -> None:
        """Reads what the driver wrote, as the device sees it.

        Raises:
            MemoryAlteredError: It is not there any more.
        """
        altered = [
            segment
            for segment, (size, expected) in self._sums.items()
            if _sum(self._buffers[segment].device_view()[:size]) != expected
        ]
        if altered:
            names = ", ".join(f"'{segment.name.lower()}'" for segment in altered)
            raise MemoryAlteredError(
                f"the device's memory does not hold what was written into the segment {names}",
                "bytes that stay as they were written: no run writes there",
                "bind the graph again; if this stays, the board's memory or its supply is at fault",
            )

    def _start(self) -> None:
        write, read = self._transport.write_register, self._transport.read_register
        values = {RegisterOffset.PROGRAM_LENGTH: self._instructions}
        for segment, buffer in self._buffers.items():
            for name, value in (("BASE", buffer.physical_address), ("SIZE", self._sizes[segment])):
                values[RegisterOffset[f"SEGMENT_{name}_{segment.name}_LOW"]] = value & 0xFFFF_FFFF
                values[RegisterOffset[f"SEGMENT_{name}_{segment.name}_HIGH"]] = value >> 32
        for offset, value in values.items():
            write(offset, value)
        for offset, value in values.items():
            if (found := read(offset)) != value:
                raise RegisterAlteredError(
                    f"the register {offset.name.lower()} reads as {found:#x}",
                    f"{value:#x}, which was written",
                    "load the overlay again (HetfabOverlay.recover()); if this stays, the board is at fault",
                )
        write(RegisterOffset.CONTROL, _START)

    def _wait(self, deadline_seconds: float, progress: Callable[[int], None]) -> None:
        read = self._transport.read_register
        end = time.monotonic() + deadline_seconds
        reported = 0
        while not (control := read(RegisterOffset.CONTROL)) & DONE:
            check_control(control)
            if control & IDLE:
                check_not_reset(read)
                self._session.check_identity()
                raise RegisterAlteredError(
                    "the overlay is idle, and has not said that it is done",
                    "a run that ends with done, which nobody else reads",
                    "load the overlay again (HetfabOverlay.recover()), and let one process use it",
                )
            # Until DISPATCH's first pass the register shows the run before.
            retired = min(max(read(RegisterOffset.RETIRED), reported), self._instructions)
            progress(retired - reported)
            reported = retired
            if time.monotonic() > end:
                raise self._hung(deadline_seconds)
        check_control(control)
        progress(self._instructions - reported)
        fault = read(RegisterOffset.FAULT)
        if fault != Fault.NONE:
            raise self._stopped(fault)

    def _hung(self, deadline_seconds: float) -> RunError:
        """Why a run passed its deadline: the nearest cause that can be told."""
        self._transport.check_loaded()
        check_not_reset(self._transport.read_register)
        self._session.check_identity()
        self._check_memory()
        found = hang(self._transport.read_register, self._stream_end, deadline_seconds)
        return found or DeadlineError(
            f"the run did not end within {deadline_seconds:g} s\n{self._session.state_dump()}",
            f"{self._instructions} retired instructions",
            "give a longer --deadline; if nothing moves, load the overlay again and report this",
        )

    def _stopped(self, fault: int) -> RunError:
        """Why DISPATCH reports a fault."""
        if fault not in list(Fault):
            return AnswerGarbledError(
                f"the register fault holds {fault}",
                f"one of {', '.join(str(int(known)) for known in Fault)}",
                "load the overlay again (HetfabOverlay.recover())",
            )
        self._session.check_identity()
        self._check_memory()
        read = self._transport.read_register
        return EngineFaultError(
            f"the overlay stopped with fault {fault} ({Fault(fault).name.lower()}) at instruction "
            f"{read(RegisterOffset.FAULT_INSTRUCTION)}\n{self._session.state_dump()}",
            "a program that was bound for this overlay and these buffers",
            "compile and bind again; report this if it stays",
        )


def _sum(content: npt.NDArray[np.uint8]) -> int:
    """Sum of 64-bit words: as fast as memory, and different for every flipped bit and every word that another takes."""
    whole = content.size - content.size % 8
    rest = int.from_bytes(content[whole:].tobytes(), "little")
    return (int(np.add.reduce(content[:whole].view(np.uint64), dtype=np.uint64)) + rest) % (1 << 64)
