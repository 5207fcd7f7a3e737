# SPDX-License-Identifier: Apache-2.0
"""The order of accesses by its definition, for small streams: happens-before is reachability, races are pairs.

Written apart from the check in C++, from the tables and ``sets_definition.py`` alone, to be compared with it.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from hetfab.overlay.design import Geometry
from hetfab.overlay.isa.codec import Segment
from hetfab.overlay.isa.spec import Field, Operation, isa
from tests.sets_definition import Region, read_set, write_set
from tests.word_lists import unpack

Words = npt.NDArray[np.uint64]
#: A word of an on-chip memory, or a block of DRAM.
Cell = tuple[str, int]


@dataclass(frozen=True)
class Pair:
    """The n-th signal and the n-th wait of a semaphore: instructions, and the header fields that hold them."""

    semaphore: int
    signaller: int
    signal: str
    waiter: int
    wait: str


def header(word: int) -> dict[str, int]:
    """The header's fields."""
    return {field.name: field.get(word) for field in isa().header}


def pairs(words: Words) -> list[Pair]:
    """All pairs; signals beyond the last wait are in none."""
    signals: dict[int, list[tuple[int, str]]] = {}
    waits: dict[int, list[tuple[int, str]]] = {}
    for index, low in enumerate(words[:, 0].tolist()):
        fields = header(low)
        for uses, names in ((signals, ("signal0", "signal1")), (waits, ("wait0", "wait1"))):
            for name in names:
                if fields[name]:
                    uses.setdefault(fields[name], []).append((index, name))
    return [
        Pair(semaphore, signaller, signal, waiter, wait)
        for semaphore, entries in sorted(waits.items())
        for (signaller, signal), (waiter, wait) in zip(signals[semaphore], entries, strict=False)
    ]


def without(words: Words, pair: Pair) -> Words:
    """The stream without one pair; all others stay pairs."""
    changed = words.copy()
    for index, name in ((pair.signaller, pair.signal), (pair.waiter, pair.wait)):
        field = isa().header_field(name)
        changed[index, 0] &= ~np.uint64(field.largest << field.lsb)
    return changed


class Order:
    """What must have ended before an instruction begins: the one before it on its engine, and those it waits for."""

    def __init__(self, words: Words) -> None:
        """Reads engines and pairs of a stream."""
        self.before: list[list[int]] = [[] for _ in range(len(words))]
        last: dict[int, int] = {}
        for index, low in enumerate(words[:, 0].tolist()):
            engine = header(low)["engine"]
            if engine in last:
                self.before[index].append(last[engine])
            last[engine] = index
        for pair in pairs(words):
            self.before[pair.waiter].append(pair.signaller)

    def reaches(self, first: int, second: int) -> bool:
        """Whether ``second`` certainly begins after ``first`` has ended."""
        seen = {second}
        open_ends = [second]
        while open_ends:
            for index in self.before[open_ends.pop()]:
                if index == first:
                    return True
                # Every edge leads forward in the stream, so nothing before `first` leads to it.
                if index > first and index not in seen:
                    seen.add(index)
                    open_ends.append(index)
        return False


def implied(words: Words, pair: Pair) -> bool:
    """Whether the other pairs already make the waiter come after the signaller."""
    return Order(without(words, pair)).reaches(pair.signaller, pair.waiter)


def races(words: Words, geometry: Geometry, segments: Mapping[Segment, tuple[int, int]]) -> set[tuple[int, int]]:
    """All pairs of instructions that touch a common cell, one of them writing, and that nothing orders."""
    order = Order(words)
    touched = cells(words, geometry, segments)
    return {
        (first, second)
        for second in range(len(words))
        for first in range(second)
        if conflict(touched[first], touched[second]) and not order.reaches(first, second)
    }


@dataclass
class _Known:
    """Who touched a cell: the last instruction that wrote it, and each engine's last one that has read it since."""

    write: int | None = None
    reads: dict[int, int] = field(default_factory=dict)


def first_race(words: Words, geometry: Geometry, segments: Mapping[Segment, tuple[int, int]]) -> str | None:
    """What the check says of the first access, in the order of the stream, that is not ordered; None without one.

    Cell by cell: an access is compared with the cell's last write and, if it writes, with the last reads.
    """
    order = Order(words)
    known: dict[Cell, _Known] = {}
    for index, (engine, name, regions) in enumerate(_accesses(words, geometry, segments)):
        for region, writes in regions:
            touched = sorted(_all_cells([region]))
            others = [_other(known.setdefault(cell, _Known()), writes, index, order) for cell in touched]
            for start, other in enumerate(others):
                if other is not None:
                    end = start
                    while (
                        end + 1 < len(touched)
                        and touched[end + 1][1] == touched[end][1] + 1
                        and others[end + 1] == other
                    ):
                        end += 1
                    place = _place(region.memory, touched[start][1], touched[end][1])
                    action = "writes" if writes else "reads"
                    earlier = _named(words, other[0])
                    one = end == start and region.memory != "dram"
                    return (
                        f"instruction {index} ({engine} {name}) {action} {place} while {earlier}, which {other[1]} "
                        f"{'it' if one else 'them'}, need not have ended: no chain of semaphores orders them"
                    )
            for cell in touched:
                if writes:
                    known[cell] = _Known(index)
                else:
                    known[cell].reads[isa().engine(engine).id] = index
    return None


def _other(known: _Known, writes: bool, index: int, order: Order) -> tuple[int, str] | None:
    """The instruction that an access must come after and need not, and what that one did."""
    if known.write is not None and not order.reaches(known.write, index):
        return known.write, "wrote"
    reads = [read for read in sorted(known.reads.items()) if writes and read[1] != index]
    return next(((read, "reads") for _, read in reads if not order.reaches(read, index)), None)


def _named(words: Words, index: int) -> str:
    fields = header(int(words[index, 0]))
    operation = isa().find(fields["engine"], fields["opcode"])
    assert operation is not None
    return f"instruction {index} ({isa().engines[fields['engine']].name} {operation.name})"


def _place(memory: str, first: int, last: int) -> str:
    if memory == "dram":
        block = isa().block_bytes
        return f"dram bytes {first * block:#x} to {(last + 1) * block - 1:#x}"
    return f"{memory} word {first}" if first == last else f"{memory} words {first} to {last}"


def conflict(first: tuple[set[Cell], set[Cell]], second: tuple[set[Cell], set[Cell]]) -> bool:
    """Whether one of two instructions writes what the other touches."""
    return bool(first[1] & (second[0] | second[1]) or first[0] & second[1])


def cells(
    words: Words, geometry: Geometry, segments: Mapping[Segment, tuple[int, int]]
) -> list[tuple[set[Cell], set[Cell]]]:
    """Cells that each instruction reads and writes."""
    return [
        (
            _all_cells([region for region, writes in regions if not writes]),
            _all_cells([region for region, writes in regions if writes]),
        )
        for _, _, regions in _accesses(words, geometry, segments)
    ]


#: Fields of contexts that nothing has filled.
_EMPTY = {
    f"{operation.name.removeprefix('configure_')}.{field.name}": 0
    for operation in isa().operations
    if operation.name.startswith("configure_")
    for field in operation.fields
}


def _accesses(
    words: Words, geometry: Geometry, segments: Mapping[Segment, tuple[int, int]]
) -> Iterator[tuple[str, str, list[tuple[Region, bool]]]]:
    """Each instruction's engine, name and regions, with whether it writes them: first what it reads."""
    contexts: dict[int, dict[str, int]] = {}
    for word in unpack(words):
        fields = header(word)
        operation = isa().find(fields["engine"], fields["opcode"])
        assert operation is not None
        names = issued_fields(operation, word, segments)
        if operation.name.startswith("configure_"):
            owner = operation.name.removeprefix("configure_")
            context = contexts.setdefault(names.get("slot", -1), {})
            context.update({f"{owner}.{name}": value for name, value in names.items()})
        names = {**_EMPTY, **geometry.constants(), **contexts.get(names.get("slot", -1), {}), **names}
        reads = [(region, False) for region in read_set(operation, names)]
        writes = [(region, True) for region in write_set(operation, names)]
        yield isa().engines[fields["engine"]].name, operation.name, reads + writes


def issued_fields(operation: Operation, word: int, segments: Mapping[Segment, tuple[int, int]]) -> dict[str, int]:
    """An instruction's fields, its address a physical one."""
    return {field.name: _issued(field, field.get(word), segments) for field in operation.fields}


def _issued(field: Field, value: int, segments: Mapping[Segment, tuple[int, int]]) -> int:
    if not field.address:
        return value
    segment, offset = divmod(value, 1 << isa().offset_bits)
    return segments[Segment(segment)][0] + offset


def _all_cells(regions: list[Region]) -> set[Cell]:
    cells: set[Cell] = set()
    for region in regions:
        unit = isa().block_bytes if region.memory == "dram" else 1
        for row in range(region.rows):
            first = region.base + row * region.row_stride
            cells |= {(region.memory, at) for at in range(first // unit, (first + region.row_length - 1) // unit + 1)}
    return cells
