# SPDX-License-Identifier: Apache-2.0
"""Where evaluations run: in this process, in processes of this machine, or on a Dask or Ray cluster that exists.

All of them keep one promise: a worker that dies takes no other evaluation with it; its own is tried again elsewhere, a
bounded number of times. ``docs/decisions/0013-evaluations-wait-in-threads.md`` says why joblib's backends do not do it.
"""

import enum
import gc
import importlib.metadata
import os
import queue
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

from hetfab.overlay.errors import ClusterUnreachableError, WorkerDiedError

if TYPE_CHECKING:
    from concurrent.futures import Executor

_J = TypeVar("_J")

#: Workers that may die of one evaluation before it is given up.
TRIES = 3
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
#: New objects after which a process looks for garbage.
_OBJECTS = 50_000
_alone = threading.Lock()


class Backend(enum.Enum):
    """Kinds of workers."""

    LOCAL = "local"
    DASK = "dask"
    RAY = "ray"


class Workers:
    """This process; the base of all others. Used as a context, whose end lets the workers go.

    Attributes:
        is_near: Whether this process is as good a place for a single evaluation as any.
    """

    is_near = True

    @property
    def count(self) -> int:
        """Evaluations at a time."""
        return 1

    @property
    def folder(self) -> Path | None:
        """A folder that all workers and this process see, as long as the context lasts; None where there is none."""
        return None

    def call(self, name: str, function: Callable[[_J], Any], job: _J) -> Any:
        """The result of a function; waits for it, in any thread.

        Args:
            name: Of the evaluation, for errors and for what a cluster shows.
            function: Importable, or one that cloudpickle can carry.
            job: Picklable.

        Raises:
            WorkerDiedError: So did all workers that tried.
            ClusterUnreachableError: The cluster is gone.
        """
        return function(job)

    def prepare(self, function: Callable[[_J], None], job: _J) -> None:
        """Has each process of its own do something first, without waiting for it; errors are left to who asks next.

        Args:
            function: As for ``call``; does twice nothing more than once.
            job: Picklable.
        """

    def stop(self) -> None:
        """Lets the workers go at once, whatever they do."""

    def __enter__(self) -> "Workers":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


#: This process.
HERE = Workers()


class LocalProcesses(Workers):
    """Processes of this machine, started when they are needed, which keep what they have opened.

    From then on a single evaluation is theirs too: this process may not have opened what it needs. Each is a pool of
    its own, because a pool whose process dies loses the work of all its processes.

    Args:
        count: How many.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._idle: queue.LifoQueue[Executor | None] = queue.LifoQueue()
        self._started: list[Executor] = []
        self._folder = tempfile.TemporaryDirectory(prefix="hetfab-")
        for _ in range(count):
            self._idle.put(None)

    @property
    def count(self) -> int:
        """Processes."""
        return self._count

    @property
    def folder(self) -> Path:
        """A folder of its own, which goes with the context."""
        return Path(self._folder.name)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, trace)
        self._folder.cleanup()

    def call(self, name: str, function: Callable[[_J], Any], job: _J) -> Any:
        """As ``Workers.call``."""
        from joblib.externals.loky.process_executor import TerminatedWorkerError

        process = self._idle.get()
        try:
            for _ in range(TRIES):
                process = process or self._start()
                try:
                    return process.submit(function, job).result()
                except TerminatedWorkerError as error:
                    process, cause = None, error
        finally:
            self._idle.put(process)
        raise died(name, f"{TRIES} processes") from cause

    def prepare(self, function: Callable[[_J], None], job: _J) -> None:
        """As ``Workers.prepare``."""
        from joblib.externals.loky.process_executor import TerminatedWorkerError

        for known in [self._idle.get() for _ in range(self._count)]:
            process: Executor | None = None
            try:
                process = known or self._start()
                process.submit(function, job)
            except TerminatedWorkerError:
                process = None
            finally:
                self._idle.put(process)

    def stop(self) -> None:
        """Kills the processes."""
        while self._started:
            process: Any = self._started.pop()
            process.shutdown(wait=True, kill_workers=True)

    def _start(self) -> "Executor":
        from joblib.externals.loky import ProcessPoolExecutor

        # As joblib: the threads of all processes together are no more than there are cores.
        threads = str(max((os.cpu_count() or 1) // self._count, 1))
        env = {name: os.environ.get(name, threads) for name in _THREADS}
        process: Executor = ProcessPoolExecutor(max_workers=1, env=env, initializer=_keep_memory)
        self._started.append(process)
        self.is_near = False
        return process


def _keep_memory() -> None:
    """Keeps loky from ending this process for memory that it has taken, which is what it has opened and found.

    The instructions of a program are many objects, none of them garbage, so that garbage is also looked for less often.
    """
    from joblib.externals.loky import process_executor

    process_executor._MAX_MEMORY_LEAK_SIZE = sys.maxsize
    gc.set_threshold(_OBJECTS)


def open_workers(backend: Backend = Backend.LOCAL, count: int = 1, cluster: str = "") -> Workers:
    """Workers of a kind.

    Args:
        backend: The kind.
        count: Local processes; one is this one. A cluster has as many workers as it has.
        cluster: Address of the cluster's scheduler.

    Raises:
        PackageMissingError: The package of the cluster is not installed.
        ClusterUnreachableError: It does not answer, has no workers, or has another hetfab.
    """
    if backend is Backend.DASK:
        from hetfab.overlay.search.dask_workers import DaskWorkers

        return DaskWorkers(cluster)
    if backend is Backend.RAY:
        from hetfab.overlay.search.ray_workers import RayWorkers

        return RayWorkers(cluster)
    return HERE if count == 1 else LocalProcesses(count)


def one_at_a_time(function: Callable[[_J], Any], job: _J) -> Any:
    """Calls a function in a worker whose threads share what evaluations open."""
    with _alone:
        return function(job)


def version() -> str:
    """The version of hetfab in this process."""
    return importlib.metadata.version("hetfab")


def check_versions(cluster: str, of_workers: "set[str]") -> None:
    """Refuses a cluster without workers, or with a hetfab other than this one, whose results might differ.

    Raises:
        ClusterUnreachableError: It is such a one.
    """
    if not of_workers:
        raise ClusterUnreachableError(
            f"the cluster '{cluster}' has no workers", "one worker or more", "start workers, then run it again"
        )
    others = sorted(of_workers - {version()})
    if others:
        raise ClusterUnreachableError(
            f"workers of '{cluster}' have hetfab {' and '.join(others)}",
            f"hetfab {version()}, as here",
            "install the same hetfab where the workers run",
        )


def died(name: str, which: str) -> WorkerDiedError:
    """The error of an evaluation that no worker survived."""
    return WorkerDiedError(
        f"{which} died while they computed '{name}'",
        "a worker that lives until its evaluation ends",
        "look for what kills them, often too little memory: fewer workers on a machine, or one with more; all other "
        "results are kept where there is a journal",
    )
