# SPDX-License-Identifier: Apache-2.0
"""The run log: one record per retired instruction, in bound-program order.

It holds no wall time and nothing that depends on the order in which engines were stepped. Its counts are those of
``isa/counters.json`` (docs/counters.md).
"""

from typing import Any

import numpy as np

from hetfab.overlay.isa.counter_table import LogField, counter_table


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
