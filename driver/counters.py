# SPDX-License-Identifier: Apache-2.0
"""Reads the event counters of a run from DISPATCH's registers (docs/counters.md)."""

from collections.abc import Callable
from dataclasses import fields

from hetfab.overlay.isa.codec import RegisterOffset
from hetfab.overlay.isa.counters import Counters

#: Offsets of the halves of each counter.
_OFFSETS = {
    field.name: (
        RegisterOffset[f"COUNTER_{field.name.upper()}_LOW"],
        RegisterOffset[f"COUNTER_{field.name.upper()}_HIGH"],
    )
    for field in fields(Counters)
}


def read_counters(read_register: Callable[[int], int]) -> Counters:
    """Reads all counters of an overlay that is idle; while it runs, the halves of one may not belong together.

    Args:
        read_register: Reads 32 bits at a byte offset.
    """
    return Counters(**{name: _read(read_register, *halves) for name, halves in _OFFSETS.items()})


def _read(read_register: Callable[[int], int], low: int, high: int) -> int:
    return read_register(high) << 32 | read_register(low)
