# SPDX-License-Identifier: Apache-2.0
"""Reads the event counters of a run from DISPATCH's registers (docs/counters.md)."""

from collections.abc import Callable
from dataclasses import fields

from hetfab.overlay.isa.codec import RegisterOffset
from hetfab.overlay.isa.counters import Counters


def read_counters(read_register: Callable[[int], int]) -> Counters:
    """Reads all counters of an overlay that is idle; while it runs, the halves of one may not belong together.

    Args:
        read_register: Reads 32 bits at a byte offset.
    """
    return Counters(**{field.name: _read(read_register, field.name) for field in fields(Counters)})


def _read(read_register: Callable[[int], int], name: str) -> int:
    low, high = (read_register(RegisterOffset[f"COUNTER_{name.upper()}_{half}"]) for half in ("LOW", "HIGH"))
    return high << 32 | low
