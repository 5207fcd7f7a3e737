# SPDX-License-Identifier: Apache-2.0
"""Writes a program's stream with independent passes side by side: slots of rings, and the semaphores between passes.

Ring semaphores stay with their tiles, as each engine takes the tiles in the order in which they stand. Which pass has
freed a slot, and which tiles store the rows that another one reads, follows from that order. Only numpy.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from hetfab.overlay.compiler.semaphores import Milestones, Semaphore
from hetfab.overlay.expansion import expand, filled, iterations
from hetfab.overlay.isa.codec import Engine
from hetfab.overlay.isa.spec import isa
from hetfab.overlay.passes import Passes, in_stretches, passes_of
from hetfab.overlay.program import Program, Words
from hetfab.overlay.side_by_side import Order, Place, side_by_side

Array: TypeAlias = npt.NDArray[Any]

_ENGINE = isa().header_field("engine")
_SIGNALS = tuple(isa().header_field(name) for name in ("signal0", "signal1"))
#: Tiles whose sums AGG has at once, so that it may begin so many before VEC takes the first: slots of ``sum_ram``.
_SUMS_AHEAD = 2
#: Where stretches save less than this by rough cycles, they may cost more.
_WORTH_STRETCHES = 0.97


def interleave(
    program: Program, counts: Mapping[str, int], values: npt.NDArray[np.int64], edges: Mapping[str, Array]
) -> tuple[Words, npt.NDArray[np.uint16]]:
    """The stream of a program on a graph, as ``expand`` gives it, in another order: passes of one kind alone keep it.

    Args:
        program: Blocks and rings.
        counts: Vertices of each node type.
        values: int64, of each symbol.
        edges: Of each edge set, where each destination's edges begin.

    Returns:
        The stream, uint64 [n, 2], and the layer of each instruction, uint16 [n].

    Raises:
        LimitExceededError: A value does not fit its field.
    """
    passes = passes_of(program, counts, values, edges)
    if len({one.aggregates for one in passes.passes}) < len((True, False)):
        return expand(program, counts, values)
    passes, order = _faster(passes, [ring.slots for ring in program.rings])
    pieces = _Pieces(program, counts, values, passes, order.places)
    stream = _Stream(order.places, passes, pieces)
    stream.write()
    if not stream.words:
        return np.zeros((0, 2), np.uint64), np.zeros(0, np.uint16)
    return np.array(stream.words, np.uint64), np.array(stream.layers, np.uint16)


def _faster(passes: Passes, slots: Sequence[int]) -> tuple[Passes, Order]:
    """Passes as they are, or in stretches where these are worth the weights that they load again."""
    whole, stretches = side_by_side(passes, slots), in_stretches(passes)
    if len(stretches.passes) == len(passes.passes):
        return passes, whole
    cut = side_by_side(stretches, slots)
    return (stretches, cut) if cut.cycles < _WORTH_STRETCHES * whole.cycles else (passes, whole)


class _Pieces:
    """Instructions of each entry and tile, their slots filled in."""

    def __init__(
        self,
        program: Program,
        counts: Mapping[str, int],
        values: npt.NDArray[np.int64],
        passes: Passes,
        places: Sequence[Place],
    ) -> None:
        self._passes = passes
        #: Of each pass, which one it is of those that have its entry.
        self._entry_uses: list[int] = []
        self._steps = [iterations(block, counts) for block in passes.blocks]
        for entry, entered in self._count_entries().items():
            self._steps[entry] = np.zeros(entered, np.int64)
        uses = self._uses(program, places)
        self._words: list[list[list[list[int]]]] = []
        for number, (block, steps) in enumerate(zip(passes.blocks, self._steps, strict=True)):
            words = filled(program, block, steps, values, partial(_slots_of, uses[number]))
            self._words.append(words.tolist())

    def of(self, place: Place) -> list[list[int]]:
        """The instructions of a place."""
        one = self._passes.passes[place.number]
        if place.tile < 0:
            return self._words[one.entry][self._entry_uses[place.number]] if one.entry >= 0 else []
        block, step = one.tiles[place.tile]
        return self._words[block][step]

    def _count_entries(self) -> Counter[int]:
        """How many passes, stretches of one, begin with each entry."""
        counted: Counter[int] = Counter()
        for one in self._passes.passes:
            self._entry_uses.append(counted[one.entry])
            counted[one.entry] += 1
        del counted[-1]
        return counted

    def _uses(self, program: Program, places: Sequence[Place]) -> list[dict[tuple[int, int], Array]]:
        """The slot of each use of a ring, of each block in each of its iterations."""
        taken = [0] * len(program.rings)
        found: list[dict[tuple[int, int], Array]] = []
        for block, steps in zip(self._passes.blocks, self._steps, strict=True):
            wanted = {(int(patch["ring"]), int(patch["position"])) for patch in block.patches if patch["ring"] >= 0}
            found.append({key: np.zeros(len(steps), np.int64) for key in wanted})
        for place in places:
            one = self._passes.passes[place.number]
            entry = one.entry, self._entry_uses[place.number]
            number, step = entry if place.tile < 0 else one.tiles[place.tile]
            if number < 0:
                continue
            uses = self._passes.blocks[number].ring_uses
            for (ring, position), slots in found[number].items():
                # A ring that the pass holds, unless tiles take its slots in turn.
                held = ring in place.slots and (place.tile < 0 or not uses[ring])
                slots[step] = place.slots[ring] if held else (taken[ring] + position) % program.rings[ring].slots
            if place.tile >= 0:
                taken = [before + more for before, more in zip(taken, uses, strict=True)]
        return found


def _slots_of(uses: Mapping[tuple[int, int], Array], ring: int, position: int) -> Array:
    """The slots of one use of a ring."""
    return uses[ring, position]


@dataclass(frozen=True)
class _Event:
    """What an engine waits for at a place: the signal of another place, by its number."""

    semaphore: Semaphore
    engine: Engine
    number: int


class _Stream:
    """Puts places one behind the other, with what passes wait for."""

    def __init__(self, places: Sequence[Place], passes: Passes, pieces: _Pieces) -> None:
        self.words: list[list[int]] = []
        self.layers: list[int] = []
        self._places = places
        self._passes = passes.passes
        self._pieces = pieces
        self._last_places = {place.number: index for index, place in enumerate(places)}
        needs = list(self._needs())
        self._milestones = {
            semaphore: Milestones(each.number for _, each in needs if each.semaphore is semaphore)
            for semaphore in (Semaphore.PASS_ENDED, Semaphore.STORED_FOR_LOAD, Semaphore.STORED_FOR_AGG)
        }
        self._waits: dict[int, list[_Event]] = {}
        for index, event in needs:
            self._waits.setdefault(index, []).append(event)

    def write(self) -> None:
        """Writes all places."""
        sums = {
            (place.number, place.tile): [word for word in self._pieces.of(place) if _engine(word) == Engine.AGG]
            for place in self._places
            if place.tile >= 0
        }
        for index, place in enumerate(self._places):
            self._write_place(index, place)
            # AGG takes what comes next while the others are at this tile.
            following = range(_SUMS_AHEAD) if place.tile < 0 else (place.tile + _SUMS_AHEAD,)
            for tile in following:
                self._append(place, sums.get((place.number, tile), []))

    def _write_place(self, index: int, place: Place) -> None:
        begin = len(self.words)
        whole = self._pieces.of(place)
        before = [event for event in self._waits.get(index, []) if event.engine is Engine.LOAD]
        for event in before:
            if self._milestones[event.semaphore].waits(event.number):
                self._append(place, [_sync(event.engine, "wait0", event.semaphore)])
        self._append(place, whole if place.tile < 0 else [word for word in whole if _engine(word) != Engine.AGG])
        for event in self._waits.get(index, []):
            if event.engine is Engine.AGG and self._milestones[event.semaphore].waits(event.number):
                self._append(place, [_sync(event.engine, "wait0", event.semaphore)])
        for semaphore in (Semaphore.STORED_FOR_LOAD, Semaphore.STORED_FOR_AGG):
            if self._milestones[semaphore].signals(index):
                self._signal(place, begin, Engine.STORE, semaphore)
        if self._last_places[place.number] == index and self._milestones[Semaphore.PASS_ENDED].signals(index):
            self._signal(place, begin, Engine.VEC, Semaphore.PASS_ENDED)

    def _needs(self) -> Iterator[tuple[int, _Event]]:
        """What each place waits for; an event is the place after which it comes."""
        for index, place in enumerate(self._places):
            if place.ended:
                ended = max(self._last_places[number] for number in place.ended)
                yield index, _Event(Semaphore.PASS_ENDED, Engine.LOAD, ended)
            if place.stored and place.tile < 0:
                yield index, _Event(Semaphore.STORED_FOR_AGG, Engine.AGG, max(place.stored))
            elif place.stored:
                yield index, _Event(Semaphore.STORED_FOR_LOAD, Engine.LOAD, max(place.stored))

    def _signal(self, place: Place, begin: int, engine: Engine, semaphore: Semaphore) -> None:
        """Lets the last instruction of an engine signal, or a ``sync`` behind it."""
        own = [index for index in range(begin, len(self.words)) if _engine(self.words[index]) == engine]
        for field in _SIGNALS if own else ():
            if not field.get(self.words[own[-1]][0]):
                low, high = self.words[own[-1]]
                self.words[own[-1]] = [low | int(semaphore) << field.lsb, high]
                return
        self._append(place, [_sync(engine, "signal0", semaphore)])

    def _append(self, place: Place, words: Sequence[list[int]]) -> None:
        self.words += words
        self.layers += [self._passes[place.number].layer] * len(words)


def _engine(word: list[int]) -> int:
    return _ENGINE.get(word[0])


def _sync(engine: Engine, name: str, semaphore: Semaphore) -> list[int]:
    """An instruction that only waits or signals."""
    return [int(engine) | int(semaphore) << isa().header_field(name).lsb, 0]
