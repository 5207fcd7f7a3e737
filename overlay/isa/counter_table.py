# SPDX-License-Identifier: Apache-2.0
"""The table of counters, ``isa/counters.json``: 64-bit event counters of a run, and counts of a run log's record.

DISPATCH's registers, the run log's layout, the driver's ``Counters`` and docs/counters.md are generated from it.
"""

import functools
import json
from dataclasses import dataclass
from pathlib import Path

#: ``EventCounter.source`` of the counters that DISPATCH keeps without an engine's count.
RETIRED = "retired"


@dataclass(frozen=True)
class LogField:
    """A count in a record of the run log, 64 bits.

    Attributes:
        name: Its name in ``RUN_LOG_DTYPE``.
        unit: What is counted.
        ports: Number of values; with more than one, an array by port.
        source: What the emulator counts it from.
        definition: What it means.
    """

    name: str
    unit: str
    ports: int
    source: str
    definition: str


@dataclass(frozen=True)
class EventCounter:
    """A 64-bit counter of DISPATCH: a total since the start.

    Attributes:
        name: Its name; the registers are ``counter_<name>_low`` and ``_high``.
        unit: What is counted.
        engine: The engine whose tokens it accumulates.
        source: ``retired``, one for each token, or the token's field that is added.
        factor: What the field is multiplied by: an expression of numbers and constants of the design.
        definition: What it means.
        event: What the engine counts in that field.
        log: Field of the run log whose sum it equals, empty for the number of records.
        port: Port of that field.
    """

    name: str
    unit: str
    engine: str
    source: str
    factor: str
    definition: str
    event: str = ""
    log: str = ""
    port: int = 0


@dataclass(frozen=True)
class CounterTable:
    """The whole table."""

    log: tuple[LogField, ...]
    counters: tuple[EventCounter, ...]


@functools.cache
def counter_table() -> CounterTable:
    """The table of this version of hetfab."""
    table = json.loads((Path(__file__).parent / "counters.json").read_text(encoding="utf-8"))
    return CounterTable(
        log=tuple(LogField(**entry) for entry in table["log"]),
        counters=tuple(EventCounter(**entry) for entry in table["counters"]),
    )
