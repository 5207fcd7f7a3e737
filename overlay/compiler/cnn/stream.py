# SPDX-License-Identifier: Apache-2.0
"""A stream of instructions in program order, whose semaphores follow from what the instructions read and write.

Each pair of engines has one semaphore. An instruction waits for the last instruction of another engine that it
conflicts with, unless what it waits for already, or its engine waited for before, implies that. The needs of an
engine on another one only rise, so the n-th wait pairs with the n-th signal.
"""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from hetfab.overlay.compiler.cnn.accesses import Access, accesses_of, form_of
from hetfab.overlay.compiler.emitter import Emitter
from hetfab.overlay.design import Geometry
from hetfab.overlay.isa.spec import isa
from hetfab.overlay.program import Block, Part

_ENGINES = {engine.name: number for number, engine in enumerate(isa().engines)}
_NONE = -1
#: Of each engine an instruction's number.
_Clock: TypeAlias = list[int]
_Numbers: TypeAlias = npt.NDArray[np.int64]


@dataclass
class _Instruction:
    operation: str
    fields: Mapping[str, int]
    layer: int
    engine: int
    clock: _Clock = field(default_factory=list)
    waits: list[int] = field(default_factory=list)
    signals: list[int] = field(default_factory=list)


class _Memory:
    """Of each unit of a memory, the last instruction of every engine that wrote it, and that read it since."""

    def __init__(self, units: int) -> None:
        self._units = units
        # Few engines touch a memory.
        self._writes: dict[int, _Numbers] = {}
        self._reads: dict[int, _Numbers] = {}

    def raise_needs(self, needs: _Clock, access: Access, engine: int) -> None:
        """Raises the last instruction of each engine that an access must come after; its own keeps its order."""
        for several in (self._writes, self._reads) if access.write else (self._writes,):
            for other, last in several.items():
                if other != engine:
                    needs[other] = max(needs[other], int(np.maximum.reduce(last[access.first : access.last])))

    def note(self, access: Access, engine: int, index: int) -> None:
        """Remembers an access; a write comes after all before it, and stands for them."""
        if access.write:
            for last in (*self._writes.values(), *self._reads.values()):
                last[access.first : access.last] = _NONE
        several = self._writes if access.write else self._reads
        if engine not in several:
            several[engine] = np.full(self._units, _NONE, np.int64)
        several[engine][access.first : access.last] = index


class Stream:
    """Instructions in program order, layer by layer.

    Args:
        geometry: The design's geometry.
    """

    def __init__(self, geometry: Geometry) -> None:
        self._constants = geometry.constants() | _UNCONFIGURED
        self._instructions: list[_Instruction] = []
        #: Of each operation its instructions' numbers, and what their boxes depend on.
        self._numbers: dict[str, list[int]] = defaultdict(list)
        self._values: dict[str, list[list[int]]] = defaultdict(list)
        #: Constants and fields of the contexts by slot; VEC's contexts have none, and stand with slot 0.
        self._contexts: dict[int, dict[str, int]] = {}

    def emit(self, layer: int, name: str, fields: Mapping[str, int]) -> None:
        """Appends an instruction.

        Args:
            layer: Its layer.
            name: Operation of the instruction set.
            fields: Values of its fields; those left out are 0.
        """
        form, slot = form_of(name), fields.get("slot", 0)
        context = self._contexts.get(slot)
        if context is None:
            context = self._contexts[slot] = self._constants.copy()
        self._numbers[name].append(len(self._instructions))
        self._values[name].append(form.values(fields, context))
        self._instructions.append(_Instruction(name, fields, layer, _ENGINES[form.engine]))
        context.update({key: fields.get(one, 0) for one, key in form.configured.items()})

    def blocks(self, geometry: Geometry) -> tuple[Block, ...]:
        """The instructions with their semaphores, a block for each run of one layer's."""
        self._synchronize()
        emitter = Emitter(geometry, rings=())
        layer = _NONE
        for one in self._instructions:
            if one.layer != layer:
                layer = one.layer
                emitter.begin(layer, Part.ONCE)
            emitter.emit(one.operation, one.fields, waits=one.waits, signals=one.signals)
        emitter.end()
        return tuple(emitter.blocks)

    def _synchronize(self) -> None:
        """Gives all instructions their waits and signals."""
        accesses, memories = self._accesses()
        clocks = [[_NONE] * len(_ENGINES) for _ in _ENGINES]
        semaphores: dict[tuple[int, int], int] = {}
        for index, (instruction, touched) in enumerate(zip(self._instructions, accesses, strict=True)):
            engine, needs = instruction.engine, [_NONE] * len(_ENGINES)
            instruction.waits, instruction.signals = [], []
            for access in touched:
                memories[access.memory].raise_needs(needs, access, engine)
            instruction.clock = clocks[engine].copy()
            self._wait(instruction, needs, semaphores)
            for access in touched:
                memories[access.memory].note(access, engine, index)
            instruction.clock[engine] = index
            clocks[engine] = instruction.clock

    def _accesses(self) -> tuple[list[list[Access]], dict[str, _Memory]]:
        """What each instruction reads and then writes, and the memories, as large as that asks for."""
        found: list[list[Access]] = [[] for _ in self._instructions]
        units: dict[str, int] = defaultdict(int)
        for name, numbers in self._numbers.items():
            for place, access in accesses_of(form_of(name), self._values[name]):
                found[numbers[place]].append(access)
                units[access.memory] = max(units[access.memory], access.last)
        return found, {memory: _Memory(count) for memory, count in units.items()}

    def _wait(self, instruction: _Instruction, needs: _Clock, semaphores: dict[tuple[int, int], int]) -> None:
        """Adds the waits that nothing implies, and the signals that end them."""
        known = instruction.clock
        open_needs = [other for other, need in enumerate(needs) if need > known[other]]
        clocks = {other: self._instructions[needs[other]].clock for other in open_needs}
        for other in open_needs:
            if any(clocks[third][other] >= needs[other] for third in open_needs if third != other):
                continue
            semaphore = semaphores.setdefault((other, instruction.engine), len(semaphores) + 1)
            instruction.waits.append(semaphore)
            self._instructions[needs[other]].signals.append(semaphore)
        for other in open_needs:
            instruction.clock = list(map(max, instruction.clock, clocks[other]))


#: Fields of contexts before they are configured; boxes that they bound are empty.
_UNCONFIGURED = {key: 0 for operation in isa().operations for key in form_of(operation.name).configured.values()}
