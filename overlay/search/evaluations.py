# SPDX-License-Identifier: Apache-2.0
"""Evaluates jobs, several at a time, and writes each result to the journal as soon as it is there.

A job is picklable and a function of it is pure, so that any process may evaluate it: those of this machine here.
"""

import warnings
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from hetfab.overlay.search.journal import Journal

_J = TypeVar("_J")


def evaluated(
    function: Callable[[_J], Any],
    jobs: Mapping[str, _J],
    journal: Journal,
    workers: int = 1,
    progress: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """Results by key.

    Args:
        function: Importable; gives a value that JSON has a form for.
        jobs: By key; those whose key the journal knows are not evaluated again.
        journal: What is known.
        workers: Processes; one is this one.
        progress: Called after each result.
    """
    import joblib

    missing = {key: job for key, job in jobs.items() if key not in journal}
    parallel = joblib.Parallel(n_jobs=max(min(workers, len(missing)), 1), return_as="generator_unordered")
    with warnings.catch_warnings():
        # A process whose memory has grown is replaced, and its jobs are not lost.
        warnings.filterwarnings("ignore", "A worker stopped while some jobs", UserWarning)
        for key, found in parallel(joblib.delayed(_keyed)(function, key, job) for key, job in missing.items()):
            journal.note(key, found)
            progress()
    return {key: journal.known(key) for key in jobs}


def _keyed(function: Callable[[_J], Any], key: str, job: _J) -> tuple[str, Any]:
    return key, function(job)
