# SPDX-License-Identifier: Apache-2.0
"""Options of commands that evaluate: how many processes, or which cluster."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from hetfab.cli.output import Result

if TYPE_CHECKING:
    from hetfab.overlay.search.workers import Workers

_BACKENDS = ("local", "dask", "ray")


@dataclass(frozen=True)
class AskedWorkers:
    """What the options say.

    Attributes:
        count: Processes of this machine.
        backend: Name of a ``Backend``.
        cluster: Address of a cluster, empty for this machine.
    """

    count: int
    backend: str
    cluster: str

    @property
    def several(self) -> bool:
        """Whether other processes than this one evaluate."""
        return self.count > 1 or bool(self.cluster)

    def open(self) -> "Workers":
        """The workers, as a context.

        Raises:
            EnvironmentLacksError: The cluster is not there, or the package that reaches it.
        """
        from hetfab.overlay.search.workers import Backend, open_workers

        return open_workers(Backend(self.backend), self.count, self.cluster)


def workers_options(callback: Callable[..., Result]) -> Callable[..., Result]:
    """Adds ``--workers``, ``--backend`` and ``--cluster``; the callback gets ``workers``, an ``AskedWorkers``."""

    @functools.wraps(callback)
    def with_workers(*, workers: int | None, backend: str, cluster: str | None, **others: Any) -> Result:
        if (backend != "local") != (cluster is not None):
            raise click.UsageError("--backend dask or ray goes with --cluster, and --cluster with one of them.")
        if cluster is not None and workers is not None:
            raise click.UsageError("--workers counts processes of this machine; a cluster has as many as it has.")
        return callback(workers=AskedWorkers(workers or 1, backend, cluster or ""), **others)

    for name, kind, default, text in (
        ("--cluster", None, None, "Address of the cluster that evaluates."),
        ("--backend", click.Choice(_BACKENDS), "local", "Processes of this machine, or an existing cluster."),
        ("--workers", click.IntRange(min=1), None, "Processes of this machine that evaluate; one without."),
    ):
        show = default is not None
        with_workers = click.option(name, type=kind, default=default, show_default=show, help=text)(with_workers)
    return with_workers
