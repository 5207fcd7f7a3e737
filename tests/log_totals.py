# SPDX-License-Identifier: Apache-2.0
"""What the counters must show after a run, summed from its log."""

from typing import Any

import numpy.typing as npt

from hetfab.overlay.isa.counter_table import EventCounter, counter_table
from hetfab.overlay.isa.counters import Counters
from hetfab.overlay.isa.spec import isa


def log_totals(log: npt.NDArray[Any]) -> Counters:
    """The counters after a run with this log.

    Args:
        log: Records with ``RUN_LOG_DTYPE``, from the emulator or from the cost functions.
    """
    return Counters(**{counter.name: _total(log, counter) for counter in counter_table().counters})


def _total(log: npt.NDArray[Any], counter: EventCounter) -> int:
    own = log[log["engine"] == isa().engine(counter.engine).id]
    if not counter.log:
        return len(own)
    counts = own[counter.log]
    return int((counts[:, counter.port] if counts.ndim > 1 else counts).sum())
