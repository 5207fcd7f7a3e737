# SPDX-License-Identifier: Apache-2.0
"""Evaluations on the workers of a Dask cluster. Its scheduler runs those of a dead worker again on another one.

How many workers may die of one evaluation is the scheduler's setting ``distributed.scheduler.allowed-failures``.
"""

import asyncio
import functools
import time
import uuid
from collections.abc import Callable
from concurrent.futures import CancelledError
from typing import Any, TypeVar

from hetfab.overlay.errors import ClusterUnreachableError, PackageMissingError, counted
from hetfab.overlay.search.workers import Workers, check_versions, died, one_at_a_time, version

_J = TypeVar("_J")

_CONNECT_SECONDS = 10
#: How often a waiting evaluation looks whether there are workers, and how long it waits without any.
_LOOK_SECONDS, _WITHOUT_WORKERS_SECONDS = 5.0, 300.0


class DaskWorkers(Workers):
    """Workers of a Dask cluster.

    Args:
        address: Of the scheduler, such as ``tcp://machine:8786``.

    Raises:
        PackageMissingError: Dask is not installed.
        ClusterUnreachableError: It does not answer, has no workers, or has another hetfab.
    """

    is_near = False

    def __init__(self, address: str) -> None:
        try:
            import distributed
        except ModuleNotFoundError as error:
            raise PackageMissingError(
                f"the Python package '{error.name}' is not installed",
                "dask and distributed, which reach the cluster",
                "pip install 'hetfab[cluster]', or leave out --backend",
            ) from error
        self._address = address
        try:
            client: Any = distributed.Client  # It has types, but for its arguments.
            self._client = client(address, timeout=_CONNECT_SECONDS, set_as_default=False)
        except (OSError, ValueError) as error:
            raise self._unreachable(f"no Dask scheduler answers at '{address}'") from error
        try:
            check_versions(address, set(self._client.run(version).values()))
        except ModuleNotFoundError as error:
            self.stop()
            raise self._unreachable(f"workers of '{address}' lack the Python package '{error.name}'") from error
        except ClusterUnreachableError:
            self.stop()
            raise

    @property
    def count(self) -> int:
        """Processes, each of which evaluates one job at a time."""
        return max(len(self._client.nthreads()), 1)

    def call(self, name: str, function: Callable[[_J], Any], job: _J) -> Any:
        """As ``Workers.call``."""
        from distributed import KilledWorker

        key = f"{name} {uuid.uuid4().hex}"
        future = self._client.submit(functools.partial(one_at_a_time, function), job, key=key)
        try:
            return self._result(name, future)
        except KilledWorker as error:
            raise died(name, counted(error.allowed_failures + 1, "worker")) from error
        except CancelledError as error:
            raise self._unreachable(f"the Dask scheduler at '{self._address}' is gone") from error

    def stop(self) -> None:
        """Ends the connection; the scheduler then forgets what this process asked for."""
        self._client.close()

    def _result(self, name: str, future: Any) -> Any:
        """Waits for a result, as long as there are workers or may soon be some."""
        last = time.monotonic()
        while True:
            try:
                return future.result(timeout=_LOOK_SECONDS)
            except asyncio.TimeoutError:
                if future.done():  # It came just now, or the error is the job's own.
                    return future.result()
                if self._has_workers():
                    last = time.monotonic()
                elif time.monotonic() - last > _WITHOUT_WORKERS_SECONDS:
                    gone = f"the cluster '{self._address}' has no workers left, with '{name}' to do"
                    raise self._unreachable(gone) from None

    def _has_workers(self) -> bool:
        try:
            return bool(self._client.nthreads())
        except OSError:  # The scheduler does not answer.
            return False

    def _unreachable(self, found: str) -> ClusterUnreachableError:
        return ClusterUnreachableError(
            found,
            "a Dask cluster whose workers have hetfab and see the same files",
            "start it, or correct --cluster; results so far are in the journal",
        )
