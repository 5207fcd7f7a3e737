# SPDX-License-Identifier: Apache-2.0
"""Small evaluations that other processes import, of which some kill their process."""

import os
import signal
import time
from pathlib import Path

import numpy as np

from hetfab.overlay.errors import SearchInvalidError

_taken: list[object] = []


def grown(megabytes: int) -> int:
    """The process, which keeps some more memory."""
    _taken.append(np.ones(megabytes << 17))
    time.sleep(1.1)
    return os.getpid()


def square(number: int) -> int:
    """A pure function."""
    return number * number


def killed_once(job: tuple[int, Path]) -> int:
    """The process that takes job 1 first is killed in the middle of it."""
    number, folder = job
    (folder / f"{number} {os.getpid()} {time.monotonic_ns()}").touch()
    time.sleep(0.15)
    if number == 1 and len(list(folder.glob("1 *"))) == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(0.15)
    return square(number)


def always_killed(number: int) -> int:
    """Kills every worker that takes job 1."""
    if number == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return square(number)


def marked(folder: Path) -> None:
    """Leaves a file that is named after the process."""
    (folder / str(os.getpid())).touch()


def refused(number: int) -> int:
    """A job that has no result."""
    raise SearchInvalidError(f"{number} is odd", "an even number", "add one")


def left(number: int) -> int:
    """Ends its worker at job 1."""
    if number == 1:
        raise SystemExit
    return square(number)


def process_of(_: int) -> int:
    """The process that evaluates."""
    return os.getpid()
