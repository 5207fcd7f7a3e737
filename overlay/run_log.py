# SPDX-License-Identifier: Apache-2.0
"""The run log: one record per retired instruction, in bound-program order.

It holds no wall time and nothing that depends on the order in which engines were stepped. Its counts are those of
``isa/counters.json`` (docs/counters.md).
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from hetfab.overlay.isa.counter_table import EventCounter, LogField, counter_table
from hetfab.overlay.isa.counters import Counters
from hetfab.overlay.isa.spec import isa


def _number(field: LogField) -> tuple[Any, ...]:
    return (field.name, np.uint64, (field.ports,)) if field.ports > 1 else (field.name, np.uint64)


#: ``index`` in the bound stream; ``layer`` indexes the program's layer table; the rest are the table's counts.
RUN_LOG_DTYPE = np.dtype(
    [
        ("index", np.uint32),
        ("engine", np.uint8),
        ("opcode", np.uint8),
        ("layer", np.uint16),
        *(_number(field) for field in counter_table().log),
    ]
)


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
