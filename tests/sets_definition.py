# SPDX-License-Identifier: Apache-2.0
"""Read and write sets of an instruction, from the tables alone: what the generated C++ is compared with."""

from collections.abc import Mapping
from dataclasses import dataclass

from hetfab.overlay.isa.spec import Box, Operation, evaluate


@dataclass(frozen=True)
class Region:
    """A box with numbers: ``rows`` runs of ``row_length`` units from ``base``, ``row_stride`` apart.

    The unit is the memory's: bytes in DRAM, words on chip.
    """

    memory: str
    base: int
    rows: int
    row_stride: int
    row_length: int

    @property
    def empty(self) -> bool:
        """Whether nothing is touched."""
        return self.rows == 0 or self.row_length == 0


def region(box: Box, names: Mapping[str, int]) -> Region:
    """Evaluates a box.

    Args:
        box: From the instruction set.
        names: Fields of the instruction (``rows``), of its context (``ids.edges``), constants of the design
            (``Design.constants``).
    """
    return Region(
        memory=box.memory,
        base=evaluate(box.base, names),
        rows=evaluate(box.rows, names),
        row_stride=evaluate(box.row_stride, names),
        row_length=evaluate(box.row_length, names),
    )


def read_set(operation: Operation, names: Mapping[str, int]) -> list[Region]:
    """Regions that an instruction reads, empty ones left out."""
    return [r for r in (region(box, names) for box in operation.reads) if not r.empty]


def write_set(operation: Operation, names: Mapping[str, int]) -> list[Region]:
    """Regions that an instruction writes, empty ones left out."""
    return [r for r in (region(box, names) for box in operation.writes) if not r.empty]
