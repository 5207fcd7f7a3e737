# SPDX-License-Identifier: Apache-2.0
"""Evaluates jobs, several at a time, and writes each result to the journal as soon as it is there.

A job is picklable and a function of it is pure, so that any process may evaluate it, here or on a cluster
(``workers.py``), and every kind and number of workers gives the same results.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

from hetfab.overlay.errors import WorkerDiedError
from hetfab.overlay.search.journal import Journal
from hetfab.overlay.search.workers import HERE, Workers

_J = TypeVar("_J")


def evaluated(
    function: Callable[[_J], Any],
    jobs: Mapping[str, _J],
    journal: Journal,
    workers: Workers = HERE,
    progress: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """Results by key.

    Args:
        function: Importable; gives a value that JSON has a form for.
        jobs: By key; those whose key the journal knows are not evaluated again.
        journal: What is known.
        workers: Where they are evaluated.
        progress: Called after each result.

    Raises:
        WorkerDiedError: All workers that tried one of the jobs died; all others are done, and in the journal.
        ClusterUnreachableError: The cluster is gone.
    """
    missing = {key: job for key, job in jobs.items() if key not in journal}
    at_a_time = min(workers.count, len(missing)) if missing else 0
    died: list[WorkerDiedError] = []
    for key, found in _several(function, missing, workers, at_a_time):
        if isinstance(found, WorkerDiedError):
            died.append(found)
            continue
        journal.note(key, found)
        progress()
    if died:
        raise WorkerDiedError("\n".join(error.found for error in died), died[0].expected, died[0].do)
    return {key: journal.known(key) for key in jobs}


def _several(
    function: Callable[[_J], Any], jobs: Mapping[str, _J], workers: Workers, at_a_time: int
) -> Iterator[tuple[str, Any]]:
    """Keys and results, in the order in which they come."""
    if not jobs or (at_a_time <= 1 and workers.is_near):
        yield from ((key, function(job)) for key, job in jobs.items())
        return
    import joblib

    # The threads only wait; ``n_jobs`` as ``pre_dispatch`` leaves what has not begun out of reach of an interruption.
    parallel = joblib.Parallel(at_a_time, backend="threading", return_as="generator_unordered", pre_dispatch="n_jobs")
    calls = (joblib.delayed(_called)(workers, function, key, job) for key, job in jobs.items())
    with contextlib.ExitStack() as interrupted:
        interrupted.callback(workers.stop)
        yield from parallel(calls)
        interrupted.pop_all()


def _called(workers: Workers, function: Callable[[_J], Any], key: str, job: _J) -> tuple[str, Any]:
    """A death is a result, so that it ends no other evaluation."""
    try:
        return key, workers.call(key, function, job)
    except WorkerDiedError as error:
        return key, error
