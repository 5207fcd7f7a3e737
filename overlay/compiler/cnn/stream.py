# SPDX-License-Identifier: Apache-2.0
"""A stream of instructions in program order, whose semaphores follow from what the instructions read and write.

Each pair of engines has one semaphore. An instruction waits for the last instruction of another engine that it
conflicts with, unless what it waits for already, or its engine waited for before, implies that. The needs of an
engine on another one only rise, so the n-th wait pairs with the n-th signal.
"""

import functools
import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from hetfab.overlay.compiler.emitter import Emitter
from hetfab.overlay.design import Geometry
from hetfab.overlay.isa.codec import Segment
from hetfab.overlay.isa.spec import Box, Operation, evaluate, isa
from hetfab.overlay.program import Block, Part

_BLOCK = isa().block_bytes
_ENGINES = {engine.name: number for number, engine in enumerate(isa().engines)}
#: Segments that engines write, where order matters.
_WRITTEN = (Segment.ACTIVATIONS, Segment.OUTPUT)
_NONE = -1
#: Of each engine an instruction's number.
_Clock: TypeAlias = list[int]
_Numbers: TypeAlias = npt.NDArray[np.int64]


@dataclass
class _Instruction:
    operation: Operation
    fields: dict[str, int]
    layer: int
    engine: int
    clock: _Clock
    waits: list[int] = field(default_factory=list)
    signals: list[int] = field(default_factory=list)


class Interval(NamedTuple):
    """Units of a memory, from the first to before the last: words on chip, blocks of a segment in DRAM."""

    memory: str
    first: int
    last: int


class _Accesses:
    """Of each unit of a memory, the last instruction of every engine that wrote it, and that read it since."""

    def __init__(self) -> None:
        self._units = 0
        # Few engines touch a memory.
        self._writes: dict[int, _Numbers] = {}
        self._reads: dict[int, _Numbers] = {}

    def conflicts(self, interval: Interval, *, write: bool) -> _Clock:
        """The last instruction of each engine that an access must come after."""
        self._grow(interval.last)
        found = [_NONE] * len(_ENGINES)
        for several in (self._writes, self._reads) if write else (self._writes,):
            for engine, last in several.items():
                found[engine] = max(found[engine], int(np.maximum.reduce(last[interval.first : interval.last])))
        return found

    def note(self, interval: Interval, engine: int, index: int, *, write: bool) -> None:
        """Remembers an access; a write comes after all before it, and stands for them."""
        if write:
            for last in (*self._writes.values(), *self._reads.values()):
                last[interval.first : interval.last] = _NONE
        several = self._writes if write else self._reads
        if engine not in several:
            several[engine] = np.full(self._units, _NONE, np.int64)
        several[engine][interval.first : interval.last] = index

    def _grow(self, units: int) -> None:
        if units > self._units:
            more = np.full(max(units, 2 * self._units) - self._units, _NONE, np.int64)
            self._units += more.size
            for several in (self._writes, self._reads):
                several.update({engine: np.concatenate([last, more]) for engine, last in several.items()})


class Stream:
    """Instructions in program order, layer by layer.

    Args:
        geometry: The design's geometry.
    """

    def __init__(self, geometry: Geometry) -> None:
        self._constants = geometry.constants() | _UNCONFIGURED
        self._instructions: list[_Instruction] = []
        self._accesses: dict[str, _Accesses] = defaultdict(_Accesses)
        self._clocks: list[_Clock] = [[_NONE] * len(_ENGINES) for _ in _ENGINES]
        #: Constants and fields of the contexts by slot; VEC's contexts have none, and stand with slot 0.
        self._contexts: dict[int, dict[str, int]] = {}
        self._semaphores: dict[tuple[int, int], int] = {}

    def emit(self, layer: int, name: str, fields: Mapping[str, int]) -> None:
        """Appends an instruction.

        Args:
            layer: Its layer.
            name: Operation of the instruction set.
            fields: Values of its fields; those left out are 0.
        """
        operation = isa().operation(name)
        index, engine = len(self._instructions), _ENGINES[operation.engine]
        values = {**_zeros(operation.name), **fields}
        context = self._contexts.setdefault(values.get("slot", 0), self._constants.copy())
        names = {one: values[one] if one in values else context[one] for one in _names(operation.name)}
        accesses = [(interval, False) for box in operation.reads for interval in intervals(box, names)]
        accesses += [(interval, True) for box in operation.writes for interval in intervals(box, names)]
        needs = [_NONE] * len(_ENGINES)
        for interval, write in accesses:
            needs = list(map(max, needs, self._accesses[interval.memory].conflicts(interval, write=write)))
        instruction = _Instruction(operation, dict(fields), layer, engine, self._clocks[engine].copy())
        self._wait(instruction, needs)
        for interval, write in accesses:
            self._accesses[interval.memory].note(interval, engine, index, write=write)
        instruction.clock[engine] = index
        self._clocks[engine] = instruction.clock
        self._instructions.append(instruction)
        if name.startswith("configure_"):
            context |= {f"{name.removeprefix('configure_')}.{key}": value for key, value in values.items()}

    def blocks(self, geometry: Geometry) -> tuple[Block, ...]:
        """The instructions with their semaphores, a block for each run of one layer's."""
        emitter = Emitter(geometry, rings=())
        layer = _NONE
        for one in self._instructions:
            if one.layer != layer:
                layer = one.layer
                emitter.begin(layer, Part.ONCE)
            emitter.emit(one.operation.name, dict(one.fields), waits=one.waits, signals=one.signals)
        emitter.end()
        return tuple(emitter.blocks)

    def _wait(self, instruction: _Instruction, needs: _Clock) -> None:
        """Adds the waits that nothing implies, and the signals that end them."""
        known, own = instruction.clock, instruction.engine
        open_needs = [other for other, need in enumerate(needs) if need > known[other] and other != own]
        clocks = {other: self._instructions[needs[other]].clock for other in open_needs}
        for other in open_needs:
            if any(clocks[third][other] >= needs[other] for third in open_needs if third != other):
                continue
            semaphore = self._semaphore(other, instruction.engine)
            instruction.waits.append(semaphore)
            self._instructions[needs[other]].signals.append(semaphore)
        for other in open_needs:
            instruction.clock = list(map(max, instruction.clock, clocks[other]))

    def _semaphore(self, signaller: int, waiter: int) -> int:
        return self._semaphores.setdefault((signaller, waiter), len(self._semaphores) + 1)


def intervals(box: Box, names: Mapping[str, int]) -> list[Interval]:
    """What a box touches, from its first unit to its last; nothing where it is empty or only ever read."""
    base, rows, stride, length = (
        evaluate(text, names) for text in (box.base, box.rows, box.row_stride, box.row_length)
    )
    if not rows or not length:
        return []
    last = base + (rows - 1) * stride + length
    if box.memory != "dram":
        return [Interval(box.memory, base, last)]
    segment, first = divmod(base, 1 << isa().offset_bits)
    if Segment(segment) not in _WRITTEN:
        return []
    return [Interval(f"segment {segment}", first // _BLOCK, (first + last - base - 1) // _BLOCK + 1)]


#: Fields of contexts before they are configured; boxes that they bound are empty.
_UNCONFIGURED = {
    f"{operation.name.removeprefix('configure_')}.{field.name}": 0
    for operation in isa().operations
    if operation.name.startswith("configure_")
    for field in operation.fields
}


@functools.cache
def _names(name: str) -> frozenset[str]:
    """Fields and constants that the boxes of an operation depend on."""
    operation = isa().operation(name)
    boxes = (*operation.reads, *operation.writes)
    texts = " ".join(f"{box.base} {box.rows} {box.row_stride} {box.row_length}" for box in boxes)
    return frozenset(re.findall(r"[A-Za-z_][\w.]*", texts))


@functools.cache
def _zeros(name: str) -> Mapping[str, int]:
    """All fields of an operation."""
    return {one.name: 0 for one in isa().operation(name).fields}
