# SPDX-License-Identifier: Apache-2.0
"""Evaluations on the workers of a Ray cluster, which runs those of a dead worker again on another one."""

import functools
from collections.abc import Callable
from typing import Any, TypeVar

from hetfab.overlay.errors import ClusterUnreachableError, PackageMissingError, counted
from hetfab.overlay.search.workers import TRIES, Workers, check_versions, died, one_at_a_time, version

_J = TypeVar("_J")


class RayWorkers(Workers):
    """Workers of a Ray cluster; each evaluation takes one of its CPUs.

    Args:
        address: Of the cluster, such as ``machine:6379``, or ``auto`` for one of this machine.

    Raises:
        PackageMissingError: Ray is not installed.
        ClusterUnreachableError: It does not answer, has no CPUs, or has another hetfab.
    """

    is_near = False

    def __init__(self, address: str) -> None:
        try:
            import ray
        except ModuleNotFoundError as error:
            raise PackageMissingError(
                f"the Python package '{error.name}' is not installed",
                "ray, which reaches the cluster",
                "pip install 'hetfab[ray]', or leave out --backend",
            ) from error
        try:
            ray.init(address=address, log_to_driver=False, logging_level="ERROR")
        except (OSError, ValueError, RuntimeError) as error:
            raise ClusterUnreachableError(
                f"no Ray cluster answers at '{address}'",
                "a Ray cluster whose workers have hetfab and see the same files",
                "start it, or correct --cluster",
            ) from error
        self._ray: Any = ray
        self._remote = ray.remote(max_retries=TRIES - 1)(_called)
        try:
            check_versions(address, {self.call("version", _version, None)} if self._cpus() else set())
        except ClusterUnreachableError:
            self.stop()
            raise

    @property
    def count(self) -> int:
        """CPUs of the cluster."""
        return max(self._cpus(), 1)

    def call(self, name: str, function: Callable[[_J], Any], job: _J) -> Any:
        """As ``Workers.call``."""
        errors = self._ray.exceptions
        try:
            return self._ray.get(
                self._remote.options(name=name).remote(functools.partial(one_at_a_time, function), job)
            )
        except errors.RayTaskError as error:
            raise error.cause from error
        except (errors.WorkerCrashedError, errors.NodeDiedError, errors.OutOfMemoryError) as error:
            raise died(name, counted(TRIES, "worker")) from error

    def stop(self) -> None:
        """Ends the connection, and with it what this process asked for."""
        self._ray.shutdown()

    def _cpus(self) -> int:
        return int(self._ray.cluster_resources().get("CPU", 0))


def _called(function: Callable[[_J], Any], job: _J) -> Any:
    return function(job)


def _version(job: None) -> str:
    return version()
