# SPDX-License-Identifier: Apache-2.0
"""Runs bound programs on an overlay: compares identities, fills the segments, starts, waits with a deadline, reads."""

import contextlib
import dataclasses
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from hetfab.driver.checks import DONE, Checks, check_control
from hetfab.driver.counters import read_counters
from hetfab.driver.edges_in_parts import make_parts
from hetfab.driver.energy import Energy, PowerMeter
from hetfab.driver.loaded_stream import LoadedStream
from hetfab.driver.transport import Transport
from hetfab.overlay.bind import BoundProgram, bind_features
from hetfab.overlay.design import Design, Geometry
from hetfab.overlay.errors import (
    DeadlineError,
    GeometryMismatchError,
    IsaVersionError,
    OverlayStateError,
    RunOptionError,
)
from hetfab.overlay.features import Features
from hetfab.overlay.host_nodes import HostUse
from hetfab.overlay.isa.codec import RegisterOffset, Segment
from hetfab.overlay.isa.counters import Counters
from hetfab.overlay.isa.spec import isa

_START = 1
_NONE = 0xFFFF_FFFF
DEADLINE_SECONDS = 600.0
#: How long the empty program may take, of which DISPATCH makes one pass.
_EMPTY_RUN_SECONDS = 1.0


@dataclass(frozen=True, eq=False)
class RunResult:
    """What a run gave.

    Attributes:
        logits: int32 [rows, classes].
        scale: Value of one step of the logits.
        stream_hash: SHA-256 of the bound stream.
        instructions: Instructions retired.
        counters: Event counters, from the overlay's registers.
        run_log: Records with ``RUN_LOG_DTYPE``, None where the device keeps none.
        host: What operators of the host took, by operator.
        energy: What the board's power sensors say of the run, None where it has none, or the run was too short.
    """

    logits: npt.NDArray[np.int32]
    scale: float
    stream_hash: str
    instructions: int
    counters: Counters
    run_log: npt.NDArray[Any] | None
    host: Mapping[str, HostUse] = field(default_factory=dict)
    energy: Energy | None = None

    @property
    def values(self) -> npt.NDArray[np.float64]:
        """The logits as numbers of the float model, exact."""
        return self.logits.astype(np.float64) * self.scale


class RunWatcher(Protocol):
    """Is told of each run of a session's overlay when it has ended."""

    def ran(self, bound: BoundProgram, result: "RunResult") -> None:
        """A bound program ran."""
        ...

    def built(self, words: npt.NDArray[np.uint64], run_log: npt.NDArray[Any] | None) -> None:
        """A stream built semantic graphs; it has no layers."""
        ...


class Session:
    """An overlay ready to run programs of one design. Not safe for several threads.

    DISPATCH writes its registers in each pass, and a freshly loaded overlay has made none: its identity reads as zero.
    So a session begins with the empty program, one pass that touches no memory.

    Args:
        transport: Registers and memory of the overlay.
        design: What the overlay should be.
        checks: How far runs are checked (docs/faults.md).
        meter: The board's power sensors, None where it has none.
        watcher: Is told of each run.

    Raises:
        DeadlineError: The overlay does not even run the empty program.
        OverlayStateError: Its registers read as zero even then.
        IsaVersionError: The overlay has another version of the instruction set.
        GeometryMismatchError: The overlay has another geometry.
    """

    def __init__(
        self,
        transport: Transport,
        design: Design,
        *,
        checks: Checks = Checks.MEMORY,
        meter: PowerMeter | None = None,
        watcher: RunWatcher | None = None,
    ) -> None:
        self.transport = transport
        self.checks = checks
        self.meter = meter
        self.watcher = watcher
        self._design = design
        self._geometry_hash = design.identity
        self._run_empty_program()
        self.check_identity()

    @property
    def design(self) -> Design:
        """What the overlay is."""
        return self._design

    def run(
        self,
        bound: BoundProgram,
        *,
        deadline_seconds: float = DEADLINE_SECONDS,
        progress: Callable[[int], None] = lambda steps: None,
    ) -> RunResult:
        """Runs a bound program once.

        Args:
            bound: Bound for this design.
            deadline_seconds: How long to wait.
            progress: Called with the number of instructions retired since its last call.

        Raises:
            HetfabError: As ``load`` and ``Resident.run``.
        """
        with self.load(bound) as resident:
            return resident.run(deadline_seconds=deadline_seconds, progress=progress)

    def load(self, bound: BoundProgram) -> "Resident":
        """Puts a bound program with its features and graph into device memory, where it can run many times.

        Raises:
            GeometryMismatchError: The program was compiled for another geometry.
            DeviceMemoryError: The segments do not fit.
        """
        check_geometry(bound.program.design, self._design)
        return Resident(self, bound)

    def state_dump(self) -> str:
        """DISPATCH's state as of its last pass, in words: progress, semaphores, the head of each queue."""
        read = self.transport.read_register
        lines = [f"fetched {read(RegisterOffset.FETCHED)}, retired {read(RegisterOffset.RETIRED)}"]
        for engine in isa().engines:
            name = engine.name.upper()
            head, last = read(RegisterOffset[f"QUEUE_HEAD_{name}"]), read(RegisterOffset[f"LAST_RETIRED_{name}"])
            waiting = "nothing queued" if head == _NONE else f"next is instruction {head}"
            lines.append(f"{engine.name}: {waiting}, last retired {'none' if last == _NONE else last}")
        counts = [read(RegisterOffset[f"SEMAPHORE_{number}"]) for number in range(isa().semaphores + 1)]
        held = [f"{number}: {count}" for number, count in enumerate(counts) if count]
        return "\n".join([*lines, "semaphores " + (", ".join(held) or "all zero")])

    def _run_empty_program(self) -> None:
        self.transport.write_register(RegisterOffset.PROGRAM_LENGTH, 0)
        self.transport.write_register(RegisterOffset.CONTROL, _START)
        end = time.monotonic() + _EMPTY_RUN_SECONDS
        while not (control := self.transport.read_register(RegisterOffset.CONTROL)) & DONE:
            check_control(control)
            if time.monotonic() > end:
                self.transport.check_loaded()
                raise DeadlineError(
                    f"the overlay did not run the empty program within {_EMPTY_RUN_SECONDS:g} s",
                    "an idle overlay whose DISPATCH answers",
                    "load the overlay again; if this stays, it is no overlay of hetfab, or its clock does not run",
                )

    def check_identity(self) -> None:
        """Compares the overlay's registers with the design.

        Raises:
            OverlayStateError: The registers read as zero: the overlay was loaded again since, and has not run.
            IsaVersionError: The overlay has another version of the instruction set.
            GeometryMismatchError: The overlay has another geometry.
        """
        read = self.transport.read_register
        version = read(RegisterOffset.ISA_VERSION)
        if version == 0:
            raise OverlayStateError(
                "the overlay's identity registers read as zero, as after loading and before a first start",
                "the overlay that this session opened, which has run the empty program",
                "open the overlay again; if this stays, it is no overlay of hetfab",
            )
        found = divmod(version, 1 << 16)
        if found != isa().version:
            raise IsaVersionError(
                f"the overlay has version {found[0]}.{found[1]} of the instruction set",
                f"version {isa().version[0]}.{isa().version[1]}, which this hetfab drives",
                "load an overlay that was built with this hetfab",
            )
        low, high = read(RegisterOffset.GEOMETRY_HASH_LOW), read(RegisterOffset.GEOMETRY_HASH_HIGH)
        expected = self._geometry_hash
        if f"{high << 32 | low:016x}" != expected:
            on_d, on_l = read(RegisterOffset.GEMM_D_SHAPE), read(RegisterOffset.GEMM_L_SHAPE)
            geometry = self._design.geometry
            raise GeometryMismatchError(
                f"the overlay has the geometry {high << 32 | low:016x} with arrays of "
                f"{on_d & 0xFFFF} x {on_d >> 16} and {on_l & 0xFFFF} x {on_l >> 16}",
                f"the geometry {expected} of the design '{self._design.name}' with arrays of "
                f"{geometry.gemm_d_rows} x {geometry.gemm_d_cols} and {geometry.gemm_l_rows} x {geometry.gemm_l_cols}",
                "load the overlay of this design, or choose the overlay's design with --design",
            )


class Resident:
    """A bound program whose segments are in device memory. Use as a context manager, or call ``free``.

    Each run starts with the same features and graph; only the output comes back. Made by ``Session.load``.
    """

    def __init__(self, session: Session, bound: BoundProgram) -> None:
        self.bound = bound
        self._session = session
        self._transport = session.transport
        self._stream_hash = bound.hash()
        self._stream = LoadedStream(session, len(bound.words), bound.contents, bound.sizes)

    def __enter__(self) -> "Resident":
        """Returns itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Frees the memory."""
        self.free()

    def free(self) -> None:
        """Gives all buffers back; again is allowed and does nothing."""
        self._stream.free()

    def replace_features(self, content: npt.NDArray[np.uint8]) -> None:
        """Puts other features into device memory, such as those of the next sample.

        Args:
            content: uint8, as long as the features that the program was bound with.

        Raises:
            OverlayStateError: The memory was freed.
        """
        self._check_held()
        self._stream.write(Segment.FEATURES, content)

    def replace_graph_features(self, features: Mapping[str, Features]) -> None:
        """Puts other features of the same graph into device memory.

        Args:
            features: Of each feature tensor, as ``bind`` takes them.

        Raises:
            OverlayStateError: The memory was freed.
            HetfabError: As ``bind_features``.
        """
        self._check_held()
        for piece in bind_features(self.bound, features, make_parts=make_parts):
            self._stream.write(piece.segment, piece.content, piece.offset)

    def content(self, segment: Segment) -> npt.NDArray[np.uint8]:
        """What the device left in a segment.

        Raises:
            OverlayStateError: The memory was freed.
        """
        self._check_held()
        return self._stream.read(segment)[: self.bound.sizes[segment]].copy()

    def _check_held(self) -> None:
        if not self._stream.loaded:
            raise OverlayStateError("the bound program's memory was freed", "a resident program", "load it again")

    def run(
        self,
        *,
        deadline_seconds: float = DEADLINE_SECONDS,
        progress: Callable[[int], None] = lambda steps: None,
    ) -> RunResult:
        """Runs the program.

        Args:
            deadline_seconds: How long to wait.
            progress: Called with the number of instructions retired since its last call.

        Raises:
            OverlayStateError: The memory was freed, the overlay is no longer loaded, or it was loaded again.
            IsaVersionError: Another overlay was loaded, of another version of the instruction set.
            GeometryMismatchError: Another overlay was loaded, of another geometry.
            DeadlineError: The deadline passed; the text holds the state of DISPATCH.
            RunError: The overlay reports a fault or a deadlock.
        """
        self._check_held()
        self._transport.check_loaded()
        self._session.check_identity()
        meter = self._session.meter
        self._stream.run(deadline_seconds, progress, contextlib.nullcontext() if meter is None else meter.running())
        energy = None if meter is None else meter.energy()
        counters = read_counters(self._transport.read_register)
        bound = self.bound
        log = self._transport.run_log()
        if log is not None:
            log["layer"] = bound.layers
        logits = bound.logits(self._stream.read(Segment.OUTPUT))
        scale = bound.program.output.scale
        result = RunResult(logits, scale, self._stream_hash, len(bound.words), counters, log, energy=energy)
        if self._session.watcher is not None:
            self._session.watcher.ran(bound, result)
        return result


def checked_seconds(deadline: float) -> float:
    """A deadline that a wait reaches, in seconds.

    Raises:
        RunOptionError: It is not above 0, or no number: a wait would never reach that.
    """
    if not deadline > 0:
        raise RunOptionError(f"a deadline of {deadline} s", "a time above 0", "give a larger number of seconds")
    return deadline


def check_geometry(compiled: Design, chosen: Design) -> None:
    """Refuses a program of another geometry.

    Raises:
        GeometryMismatchError: Names the parameters that differ.
    """
    if compiled.geometry == chosen.geometry:
        _check_stages(compiled, chosen)
        return
    pairs = {
        field.name: (getattr(compiled.geometry, field.name), getattr(chosen.geometry, field.name))
        for field in dataclasses.fields(Geometry)
        if field.name != "engines"
    }
    differing = [f"{name} {ours} / {theirs}" for name, (ours, theirs) in pairs.items() if ours != theirs]
    if compiled.geometry.engines != chosen.geometry.engines:
        differing.append(f"engines {'+'.join(compiled.geometry.engines)} / {'+'.join(chosen.geometry.engines)}")
    names = [f"'{design.name}'" for design in (compiled, chosen)]
    if compiled.name == chosen.name:
        names = [
            f"{name} with geometry {d.geometry.hash()[:16]}" for name, d in zip(names, (compiled, chosen), strict=True)
        ]
    raise GeometryMismatchError(
        f"the program was compiled for the design {names[0]}, the overlay is of the design {names[1]}: "
        + ", ".join(differing),
        "equal geometries",
        "compile the model with the overlay's design (`hetfab compile --design`)",
    )


def _check_stages(compiled: Design, chosen: Design) -> None:
    if compiled.identity != chosen.identity:
        raise GeometryMismatchError(
            f"the program was compiled for the fixed weights {compiled.identity} of '{compiled.name}', the overlay has "
            + (f"{chosen.identity} of '{chosen.name}'" if chosen.stages else "none"),
            "an accelerator with the weights of the program's model",
            "use the program and the package that one `hetfab build --flow dataflow` made",
        )
