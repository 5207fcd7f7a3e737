# SPDX-License-Identifier: Apache-2.0
"""Runs the steps of a build: keeps what is done, does the rest, and can be stopped at any moment and run again.

A step is done when its stamp is there, holds the digest of what the step depends on, and names outputs that are as it
left them. A stamp is written last, by renaming, so a step that was interrupted is done again from the beginning.
"""

import contextlib
import enum
import errno
import fcntl
import functools
import hashlib
import json
import os
import shutil
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

from hetfab.hls.build.bitstream.configuration import BuildConfiguration, Places
from hetfab.hls.build.bitstream.machine import Host, Machine, ThisMachine
from hetfab.hls.build.bitstream.steps import Bench, Step, build_steps, remove, step_names, write_script, write_text
from hetfab.hls.build.bitstream.tools import tool_version
from hetfab.overlay.costs.resources import check_fits
from hetfab.overlay.errors import BuildBusyError, DiskFullError, OutputUnwritableError
from hetfab.overlay.files import make_folder

_FORMAT = "hetfab build 1"
_LOCK = ".lock"


class State(enum.Enum):
    """What became of a step."""

    STARTED = "started"
    DONE = "done"
    KEPT = "kept"


@dataclass(frozen=True)
class Progress:
    """A step's news.

    Attributes:
        step: Name of the step.
        state: What happened.
        seconds: What the step took, now or when it was done; 0 where it has only started.
    """

    step: str
    state: State
    seconds: float = 0.0


@dataclass(frozen=True)
class Stamp:
    """What is kept of a step that is done: its digest, its time, and a hash of each output."""

    digest: str
    seconds: float
    outputs: dict[str, str]


def build(
    configuration: BuildConfiguration,
    first: str | None = None,
    last: str | None = None,
    watch: Callable[[Progress], None] = lambda news: None,
) -> list[Progress]:
    """Builds an overlay, or a part of the way.

    Args:
        configuration: Of the build.
        first: Family of the step from which on all is done again, even where it is done.
        last: Family of the last step.
        watch: Called with each news, from any thread.

    Returns:
        How each step ended.

    Raises:
        DesignTooLargeError: The board cannot hold the design, by the modelled resources; before anything else.
        ToolMissingError: A tool is not there. So are the other errors of ``tools.py``, ``machine.py``, ``steps.py``.
        DiskFullError: There is too little room.
        BuildBusyError: Another build, or a tool that it left, uses the folder.
    """
    check_fits(configuration.design)
    with _disk_errors(configuration.folder), _locked(make_folder(configuration.folder)) as lock:
        machine = _machine(configuration, lock)
        try:
            version = tool_version(machine, configuration.version)
            steps = build_steps(configuration, version)
            return _Run(Bench(configuration, version, machine), steps, watch).all(*_chosen(steps, first, last))
        finally:
            machine.stop()


def _machine(configuration: BuildConfiguration, lock: int) -> Machine:
    root = configuration.folder.resolve()
    if configuration.host is None:
        return ThisMachine(root, lock)
    # Two folders here, or two machines, must not meet in one folder there.
    key = hashlib.sha256(f"{socket.gethostname()}:{root}".encode()).hexdigest()[:12]
    return Host(root, lock, configuration.host, f"hetfab-builds/{configuration.design.name}-{key}")


def _chosen(steps: Sequence[Step], first: str | None, last: str | None) -> tuple[set[str], list[Step]]:
    """Names of the steps that are done in any case, and all steps up to the last."""
    order = step_names()
    start = order.index(first) if first else len(order)
    end = order.index(last) if last else len(order) - 1
    until = [step for step in steps if order.index(step.family) <= end]
    return {step.name for step in until if order.index(step.family) >= start}, until


class _Run:
    """One pass over the steps."""

    def __init__(self, bench: Bench, steps: Sequence[Step], watch: Callable[[Progress], None]) -> None:
        self._bench, self._watch = bench, watch
        self._steps = {step.name: step for step in steps}
        self._stamps: dict[str, Stamp] = {}
        self._ended: dict[str, Progress] = {}

    def all(self, forced: set[str], steps: Sequence[Step]) -> list[Progress]:
        """Brings all steps to their end; those of one family that do not need each other, several at a time."""
        waiting = list(steps)
        while waiting:
            ready = [step for step in waiting if step.family == waiting[0].family]
            waiting = waiting[len(ready) :]
            self._together([functools.partial(self._bring, step, step.name in forced) for step in ready])
        return [self._ended[step.name] for step in steps]

    def _together(self, works: Sequence[Callable[[], None]]) -> None:
        if len(works) == 1 or self._bench.configuration.jobs == 1:
            for work in works:
                work()
            return
        with ThreadPoolExecutor(self._bench.configuration.jobs) as pool, contextlib.ExitStack() as unless_done:
            unless_done.callback(self._stop, pool)
            for future in as_completed([pool.submit(work) for work in works]):
                future.result()
            unless_done.pop_all()

    def _stop(self, pool: ThreadPoolExecutor) -> None:
        pool.shutdown(wait=False, cancel_futures=True)
        self._bench.machine.stop()

    def _bring(self, step: Step, forced: bool) -> None:
        """Leaves a step done: keeps it or does it."""
        stamp = None if forced else self._stamp(step)
        if stamp is not None:
            self._note(step, stamp, State.KEPT)
            return
        if step.spends is not None and (self._root / self._places.spent(step.spends)).exists():
            self._perform(self._steps[step.spends])
        self._perform(step)

    def _perform(self, step: Step) -> None:
        self._watch(Progress(step.name, State.STARTED))
        self._check_space(step)
        stamp_path = self._root / self._places.stamp(step.name)
        make_folder(stamp_path.parent)
        stamp_path.unlink(missing_ok=True)
        for path in (*step.outputs, *step.scratch):
            remove(self._root / path)
        if step.script is not None:
            write_script(self._bench.configuration, step)
        if step.spends is not None:
            (self._root / self._places.spent(step.spends)).touch()
        start = time.monotonic()
        step.work(self._bench)
        seconds = time.monotonic() - start
        (self._root / self._places.spent(step.name)).unlink(missing_ok=True)
        outputs = {str(path): content_hash(self._root / path) for path in step.outputs}
        stamp = Stamp(self._digest(step), seconds, outputs)
        write_text(stamp_path, json.dumps(stamp.__dict__, indent=1, sort_keys=True) + "\n")
        self._note(step, stamp, State.DONE)

    def _note(self, step: Step, stamp: Stamp, state: State) -> None:
        self._stamps[step.name] = stamp
        self._ended[step.name] = Progress(step.name, state, stamp.seconds)
        self._watch(self._ended[step.name])

    def _stamp(self, step: Step) -> Stamp | None:
        """The stamp of a step that is done; None where it is to be done."""
        try:
            table = json.loads((self._root / self._places.stamp(step.name)).read_text(encoding="utf-8"))
            stamp = Stamp(**table)
        except (OSError, ValueError, TypeError):
            return None
        if stamp.digest != self._digest(step) or set(stamp.outputs) != set(map(str, step.outputs)):
            return None
        same = all(content_hash(self._root / path) == stamp.outputs[str(path)] for path in step.outputs)
        return stamp if same else None

    def _digest(self, step: Step) -> str:
        """A hash of all that a step depends on: its recipe, and what the steps before it left."""
        before = [[name, self._stamps[name].digest, self._stamps[name].outputs] for name in step.after]
        content = json.dumps([_FORMAT, step.name, step.recipe, before], sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()

    def _check_space(self, step: Step) -> None:
        # On another host the tools write there.
        free = shutil.disk_usage(self._root).free
        if self._bench.configuration.host is None and free < step.disk_bytes:
            raise DiskFullError(
                f"step '{step.name}': {free / 2**30:.1f} GiB are free in '{self._root}'",
                f"{step.disk_bytes / 2**30:.1f} GiB",
                "make room or give another folder with -o; steps that are done are kept",
            )

    @property
    def _root(self) -> Path:
        return self._bench.root

    @property
    def _places(self) -> Places:
        return self._bench.configuration.places


def content_hash(path: Path) -> str:
    """SHA-256 of a file, or of a folder's names and files; empty where nothing is there."""
    if path.is_file():
        return hashlib.sha256(path.read_bytes()).hexdigest()
    if not path.is_dir():
        return ""
    files = sorted(file for file in path.rglob("*") if file.is_file())
    lines = [f"{content_hash(file)} {file.relative_to(path)}" for file in files]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[int]:
    """Holds the lock of a build's folder; yields its descriptor."""
    lock = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise BuildBusyError(
                f"another build uses '{folder}', or a tool that it started still runs",
                "one build in a folder at a time",
                "wait for it or end it, or give another folder with -o",
            ) from error
        yield lock
    finally:
        os.close(lock)


@contextlib.contextmanager
def _disk_errors(folder: Path) -> Iterator[None]:
    """Turns a full disk that hetfab itself meets into its own error."""
    try:
        yield
    except (OSError, OutputUnwritableError) as error:
        cause = error.__cause__ if isinstance(error, OutputUnwritableError) else error
        if not isinstance(cause, OSError) or cause.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise DiskFullError(
            f"the disk of '{folder}' is full", "free space for the build", "make room, then run the same command again"
        ) from error
