# SPDX-License-Identifier: Apache-2.0
"""What a run must leave behind, and why a run did not end: read from DISPATCH's registers and compared with the stream.

docs/faults.md says what each check finds and costs.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

import numpy as np
import numpy.typing as npt

from hetfab.overlay.errors import (
    AnswerGarbledError,
    DeviceResetError,
    EngineStalledError,
    InterruptSpuriousError,
    RegisterAlteredError,
    RunError,
    SemaphoreError,
)
from hetfab.overlay.isa.codec import RegisterOffset
from hetfab.overlay.isa.spec import isa

Read = Callable[[int], int]
Ints = npt.NDArray[np.int64]

_NONE = 0xFFFF_FFFF
#: Bits of the control register that Vitis HLS defines: start, done, idle, ready, auto restart, interrupt.
_CONTROL_BITS = 0x28F
DONE, IDLE = 2, 4
_RELOAD = "load the overlay again (HetfabOverlay.recover()); if this stays, the board or its supply is at fault"


class Checks(Enum):
    """How far a run is checked; each includes those before it.

    Attributes:
        STATE: The registers: what was written, and what a whole run of the stream leaves.
        MEMORY: After each run, that program, constants, features and graph are in memory as they were written.
        TWICE: Each run is made twice, and must give the same.
    """

    STATE = "state"
    MEMORY = "memory"
    TWICE = "twice"


@dataclass(frozen=True, eq=False)
class StreamEnd:
    """What a stream of instructions does to DISPATCH's state.

    Attributes:
        engines: Engine of each instruction, int64 [n].
        signals: Semaphores that each signals, 0 for none, int64 [n, 2].
        waits: Semaphores that each waits for, 0 for none, int64 [n, 2].
    """

    engines: Ints
    signals: Ints
    waits: Ints

    @classmethod
    def of(cls, words: npt.NDArray[np.uint64]) -> "StreamEnd":
        """Of instructions, uint64 [n, 2]."""

        def field(name: str) -> Ints:
            found = isa().header_field(name)
            return (words[:, 0] >> np.uint64(found.lsb) & np.uint64(found.largest)).astype(np.int64)

        pairs = (np.stack([field(f"{kind}0"), field(f"{kind}1")], axis=1) for kind in ("signal", "wait"))
        return cls(field("engine"), *pairs)

    def semaphores(self, retired: npt.NDArray[np.bool_], issued: npt.NDArray[np.bool_]) -> Ints:
        """Counts after some instructions retired and some were issued, int64 [semaphores + 1]."""
        size = isa().semaphores + 1
        given = np.bincount(self.signals[retired].ravel(), minlength=size)
        taken = np.bincount(self.waits[issued].ravel(), minlength=size)
        found = given - taken
        found[0] = 0
        return found

    @property
    def registers(self) -> dict[RegisterOffset, int]:
        """What a whole run leaves in DISPATCH's registers."""
        every = np.ones(len(self.engines), np.bool_)
        found = {RegisterOffset.FETCHED: len(self.engines), RegisterOffset.RETIRED: len(self.engines)}
        for engine in isa().engines:
            places = np.flatnonzero(self.engines == engine.id)
            name = engine.name.upper()
            found[RegisterOffset[f"LAST_RETIRED_{name}"]] = int(places[-1]) if len(places) else _NONE
            found[RegisterOffset[f"QUEUE_HEAD_{name}"]] = _NONE
            found[RegisterOffset[f"COUNTER_{name}_INSTRUCTIONS_LOW"]] = len(places) & 0xFFFF_FFFF
        for number, count in enumerate(self.semaphores(every, every).tolist()):
            found[RegisterOffset[f"SEMAPHORE_{number}"]] = count
        return found


def check_control(value: int) -> None:
    """Refuses a value of the control register that has bits that it has not.

    Raises:
        AnswerGarbledError: It is no value of such a register.
    """
    if value & ~_CONTROL_BITS:
        raise AnswerGarbledError(
            f"the control register reads as {value:#010x}, with bits that it does not have",
            "start, done, idle, ready and nothing else",
            _RELOAD,
        )


def check_not_reset(read: Read) -> None:
    """Refuses an overlay whose registers are as after loading.

    Raises:
        DeviceResetError: It was reset.
    """
    if read(RegisterOffset.ISA_VERSION) == 0:
        raise DeviceResetError(
            "the overlay was reset during the run: its registers read as zero",
            "an overlay that keeps its power and that nobody resets or loads during a run",
            _RELOAD,
        )


def check_end(read: Read, expected: dict[RegisterOffset, int]) -> None:
    """Compares DISPATCH's registers with what a whole run leaves.

    Raises:
        SemaphoreError: A signal was lost or repeated.
        RegisterAlteredError: Another register differs.
        InterruptSpuriousError: An interrupt is pending that was not enabled.
    """
    for offset, value in expected.items():
        found = read(offset)
        if found == value:
            continue
        if offset.name.startswith("SEMAPHORE_"):
            raise _semaphore(int(offset.name.removeprefix("SEMAPHORE_")), found, value, "after the run")
        raise RegisterAlteredError(
            f"after the run the register {offset.name.lower()} holds {found}",
            f"{value}, which a run of the whole stream leaves",
            _RELOAD,
        )
    enabled = read(RegisterOffset.INTERRUPT_ENABLE) and read(RegisterOffset.INTERRUPT_ENABLE_GLOBAL)
    if not enabled and (status := read(RegisterOffset.INTERRUPT_STATUS)):
        raise InterruptSpuriousError(
            f"an interrupt is pending (status {status}) that is not enabled",
            "no interrupt, as the driver polls",
            _RELOAD,
        )


def hang(read: Read, stream: StreamEnd, seconds: float) -> RunError | None:
    """Why a run did not end, None where the registers do not tell.

    Args:
        read: Reads a register.
        stream: What runs.
        seconds: How long it was waited for.
    """
    fetched = min(read(RegisterOffset.FETCHED), len(stream.engines))
    retired, issued = (np.zeros(len(stream.engines), np.bool_) for _ in range(2))
    held: list[str] = []
    for engine in isa().engines:
        places = np.flatnonzero(stream.engines[:fetched] == engine.id)
        last = read(RegisterOffset[f"LAST_RETIRED_{engine.name.upper()}"])
        head = read(RegisterOffset[f"QUEUE_HEAD_{engine.name.upper()}"])
        done = places[places <= last] if last != _NONE else places[:0]
        begun = places if head == _NONE else places[places < head]
        retired[done] = issued[begun] = True
        if len(begun) > len(done):
            held.append(f"engine '{engine.name}' took instruction {begun[len(done)]} and did not finish it")
    if held:
        return EngineStalledError(
            f"the run did not end within {seconds:g} s: " + "; ".join(held),
            "engines that finish what they take",
            f"give a longer deadline if the instruction is long; else {_RELOAD}",
        )
    for number, count in enumerate(stream.semaphores(retired, issued).tolist()):
        found = read(RegisterOffset[f"SEMAPHORE_{number}"])
        if found != count:
            return _semaphore(number, found, count, f"the run did not end within {seconds:g} s:")
    return None


def _semaphore(number: int, found: int, expected: int, when: str) -> SemaphoreError:
    what = "a signal was lost" if found < expected else "a signal was repeated"
    return SemaphoreError(
        f"{when} semaphore {number} counts {found}: {what}",
        f"{expected}, by the instructions that retired",
        _RELOAD,
    )
