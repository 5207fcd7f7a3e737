# SPDX-License-Identifier: Apache-2.0
"""The table of pipelined loops, ``isa/loops.json``: interval and depth of each, with the reason.

The kernels' constants are generated from the same file, so a cost function and the emulator count with one table.
"""

import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Loop:
    """A pipelined loop.

    Attributes:
        name: Its name in the kernels' event counters.
        ii: Cycles between two trips.
        depth: Cycles from a trip's start to its end.
        accesses: Largest number of reads and writes of each on-chip memory, or of a bank of it, in one trip.
        reason: Ports per bank and carried dependences that give the two.
        label: Its label in the kernels; empty where it is no loop of its own.
    """

    name: str
    ii: int
    depth: int
    accesses: Mapping[str, int]
    reason: str
    label: str = ""

    def cycles(self, trips: npt.ArrayLike) -> npt.NDArray[Any]:
        """``trips * ii + depth``, 0 for no trip."""
        count = np.asarray(trips, dtype=np.int64)
        return np.where(count > 0, count * self.ii + self.depth, 0)

    def cycles_once(self, trips: int) -> int:
        """The same of one run."""
        return trips * self.ii + self.depth if trips > 0 else 0


@functools.cache
def loops() -> dict[str, Loop]:
    """All loops by name."""
    table = Path(__file__).parents[1] / "isa" / "loops.json"
    return {entry["name"]: Loop(**entry) for entry in json.loads(table.read_text(encoding="utf-8"))}
