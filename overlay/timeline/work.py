# SPDX-License-Identifier: Apache-2.0
"""What groups of a run's instructions cost: cycles of engines and of the critical path, bytes, products and edges."""

from collections.abc import Sequence
from dataclasses import astuple, dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from hetfab.overlay.costs.program_cost import operation_fields, operation_rows
from hetfab.overlay.design import Geometry
from hetfab.overlay.isa.spec import isa
from hetfab.overlay.program import Words
from hetfab.overlay.timeline.critical_path import Link
from hetfab.overlay.timeline.simulate import Timeline

Array: TypeAlias = npt.NDArray[Any]


@dataclass(frozen=True)
class Work:
    """What some instructions cost; cycles are modelled, all other figures counted.

    Attributes:
        instructions: How many there are.
        busy_cycles: Cycles of their loops, on all engines together.
        dram_cycles: Cycles beyond the loops, for DRAM's rate and latency, on all engines together.
        path_cycles: Their part of the critical path: those of all groups add up to the run.
        bytes: DRAM bytes.
        macs: Multiply-accumulates, padding included.
        additions: Channels of gathered rows that AGG adds, padding included.
        edges: Edges that AGG visits.
        gathered: Of these, the edges whose row of features it adds.
        misses: Rows of features that it read from DRAM for them.
    """

    instructions: int = 0
    busy_cycles: float = 0.0
    dram_cycles: float = 0.0
    path_cycles: float = 0.0
    bytes: int = 0
    macs: int = 0
    additions: int = 0
    edges: int = 0
    gathered: int = 0
    misses: int = 0

    def __add__(self, other: "Work") -> "Work":
        return Work(*(mine + theirs for mine, theirs in zip(astuple(self), astuple(other), strict=True)))

    @property
    def hit_rate(self) -> float | None:
        """Share of the gathered rows that AGG's scratchpad held, None where none were gathered."""
        return 1 - self.misses / self.gathered if self.gathered else None


def tally(groups: Array, number: int, timeline: Timeline, log: Array, added: Array, path: Sequence[Link]) -> list[Work]:
    """The work of each group.

    Args:
        groups: Group of each instruction, int64 [n].
        number: How many groups there are.
        timeline: Times of the instructions.
        log: Their run log.
        added: Of each, as ``channels_added`` gives them.
        path: The critical path.
    """
    on_path = np.zeros(len(groups))
    for link in path:
        on_path[link.instruction] += link.cycles
    of_agg = log["engine"] == isa().engine("agg").id
    columns = (
        np.ones(len(groups), np.int64),
        *(timeline.busy, timeline.dram_stalls, on_path, timeline.bytes, log["macs"], added),
        *(
            np.where(chosen, log[name], 0)
            for chosen, name in ((of_agg, "edges"), (added > 0, "edges"), (of_agg, "misses"))
        ),
    )
    kinds = [field.type for field in Work.__dataclass_fields__.values()]
    sums = [np.bincount(groups, column.astype(np.float64), number) for column in columns]
    values = [
        [(int if kind is int else float)(value) for value in found] for kind, found in zip(kinds, sums, strict=True)
    ]
    return [Work(*each) for each in zip(*values, strict=True)]


def channels_added(words: Words, log: Array, geometry: Geometry) -> Array:
    """Channels that AGG adds in each instruction, int64 [n]: of the rows of an edge's source, padding included."""
    found = np.zeros(len(words), np.int64)
    reduce, attend = isa().operation("reduce"), isa().operation("attend")
    rows = operation_rows(words, reduce)
    found[rows] = operation_fields(words, reduce, rows)["groups"]
    rows = operation_rows(words, attend)
    fields = operation_fields(words, attend, rows)
    found[rows] = fields["weigh"] * fields["heads"] * fields["head_groups"]
    return found * log["edges"].astype(np.int64) * geometry.lanes
