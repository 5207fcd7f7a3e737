# SPDX-License-Identifier: Apache-2.0
"""Orders the tiles of passes so that AGG sums for one while the other engines project for another (docs/overlap.md).

Two passes, or stretches of them, run side by side: one of those on which AGG works, one of the others. What is placed
next is the tile that would end first, by rough cycles; each comes after all tiles whose rows it reads. The order
changes no result.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from hetfab.overlay.passes import Pass, Passes, Rows

#: Cycles from the end of a tile's longest instruction until its rows are read, roughly. VEC, STORE and tokens take a
#: third of them; the rest is for the tiles between, as LOAD brings nothing to these while it waits for rows.
_STORE_CYCLES = 3000.0
#: Cycles from the end of a pass of products until the next one's first tile may be read, roughly: its parameters and
#: weights wait for a slot and for the rows that LOAD has queued before.
_ENTRY_CYCLES = 6000.0
_LANES = 2
#: Numbers of a pass and of one of its tiles.
_Tile: TypeAlias = tuple[int, int]


class Place(NamedTuple):
    """An entry, tile -1, or a tile of a pass, and what it must come after. A stretch may have no entry.

    Attributes:
        number: Number of the pass.
        tile: Number of the tile, -1 for the entry.
        slots: Of an entry, the slot of each ring that the pass takes; of rings that it takes whole, 0.
        stored: Places of the tiles whose rows it reads.
        ended: Passes that have used its slots before.
    """

    number: int
    tile: int
    slots: Mapping[int, int]
    stored: tuple[int, ...]
    ended: tuple[int, ...]


@dataclass
class _Lane:
    """Passes of one kind, one after the other."""

    waiting: list[int]
    current: int = -1
    last: int = -1
    tile: int = -1
    clock: float = 0.0


@dataclass(frozen=True)
class Order:
    """The order in which entries and tiles stand in the stream.

    Attributes:
        places: All of them.
        cycles: When the last one ends, roughly.
    """

    places: list[Place]
    cycles: float


def side_by_side(passes: Passes, slots: Sequence[int]) -> Order:
    """Puts passes side by side.

    Args:
        passes: Of a bound program.
        slots: Of each ring.
    """
    state = _State(passes, slots)
    return Order(list(state.places()), max(lane.clock for lane in state.lanes))


class _State:
    """The state of the list scheduler."""

    def __init__(self, passes: Passes, slots: Sequence[int]) -> None:
        self._passes = passes.passes
        self._writers = passes.writers
        self._numbers = {id(one): number for number, one in enumerate(passes.passes)}
        of_agg = [one.aggregates for one in passes.passes]
        self.lanes = [_Lane([n for n, agg in enumerate(of_agg) if agg is bool(lane)]) for lane in range(_LANES)]
        #: Of each pass, its tiles' places and when their rows are in DRAM.
        self._placed: list[list[tuple[int, float]]] = [[] for _ in self._passes]
        self._ended: set[int] = set()
        #: The pass that used each slot of a ring last, and of the table's place.
        self._users: dict[int, list[int]] = {ring: [-1] * count for ring, count in enumerate(slots)}
        self._table = -1
        self._taken: dict[int, dict[int, int]] = {}
        self._before: dict[int, tuple[int, ...]] = {}
        self._count = 0
        #: What passes read, and of each the tile that was asked for last.
        self._inputs_of: dict[int, tuple[tuple[_Tile, ...], tuple[_Tile, ...]]] = {}
        self._needed: dict[int, tuple[int, tuple[_Tile, ...]]] = {}
        #: Passes that run or have ended.
        self._begun: set[int] = set()
        #: Of passes that cannot begin, a tile before which they cannot, and a pass.
        self._awaited: dict[int, _Tile] = {}
        self._awaited_pass: dict[int, int] = {}

    def places(self) -> Iterator[Place]:
        """Entries and tiles in order."""
        while any(lane.waiting or lane.current >= 0 for lane in self.lanes):
            for lane in self.lanes:
                if lane.current < 0:
                    self._begin(lane)
            ready = [(end, lane) for lane in self.lanes if (end := self._end(lane)) is not None]
            end, lane = min(ready, key=lambda each: each[0])
            yield self._put(lane, end)

    def _begin(self, lane: _Lane) -> None:
        """Takes the pass that can begin first: one whose inputs are all computed before one that must wait for them."""
        best: tuple[bool, float, int] | None = None
        room: dict[int, bool] = {}
        for number in lane.waiting:
            if self._must_wait(number):
                continue
            one = self._passes[number]
            # What a layer's stretches claim is the same, and of those that are ready the first one will do.
            if one.layer not in room:
                room[one.layer] = self._has_room(one)
            if not room[one.layer] or not self._is_next_of_layer(number):
                continue
            key = self._beginning(lane, number)
            if key is not None and (best is None or key < best):
                best = key
                room[one.layer] = key[0]
        if best is not None:
            self._start(lane, best[2])

    def _must_wait(self, number: int) -> bool:
        """Whether what kept a pass from beginning last still does."""
        if number in self._awaited and not self._is_placed(self._awaited[number]):
            return True
        return number in self._awaited_pass and self._awaited_pass[number] not in self._begun

    def _beginning(self, lane: _Lane, number: int) -> tuple[bool, float, int] | None:
        """Whether a pass has to wait for rows one by one, when it can begin, and its number; None if it cannot."""
        gathered, rows = self._inputs(number)
        if not self._are_placed(gathered, number):
            return None
        found, waits = rows, False
        if not self._are_placed(rows):
            found, waits = self._needs(number, 0), True
            if not self._have_begun(rows, number) or not self._are_placed(found, number):
                return None
        return waits, max([lane.clock, *map(self._ready, gathered), *map(self._ready, found)]), number

    def _start(self, lane: _Lane, number: int) -> None:
        """Makes a pass the lane's; a stretch needs no entry where the one before is of the same pass."""
        lane.waiting.remove(number)
        self._begun.add(number)
        lane.current, lane.tile = number, -1
        if self._goes_on(lane.last, number):
            lane.tile = 0
            self._taken[number] = self._taken[lane.last]
        else:
            self._taken[number] = self._take(number)
        self._before[number] = self._claim(number)

    def _goes_on(self, last: int, number: int) -> bool:
        """Whether a stretch finds what its entry would bring, as the one before is of the same pass."""
        if last < 0 or not self._passes[last].is_beside(self._passes[number]):
            return False
        return all(self._users[ring][slot] == last for ring in self._taken[last] for slot in self._held(last, ring))

    def _have_begun(self, places: Sequence[_Tile], waiting: int) -> bool:
        """Whether these tiles' passes have, so that nobody waits for them for ever; else one that has not is noted."""
        for number, _ in places:
            if number not in self._begun:
                self._awaited_pass[waiting] = number
                return False
        return True

    def _is_next_of_layer(self, number: int) -> bool:
        """Whether the layer's passes over the same rows before it have ended; stretches have no order."""
        before, one = self._passes[number - 1], self._passes[number]
        return not number or before.layer != one.layer or before.is_beside(one) or number - 1 in self._ended

    def _has_room(self, one: Pass) -> bool:
        """Whether the other lane's pass leaves enough slots."""
        running = [self._passes[lane.current] for lane in self.lanes if lane.current >= 0]
        if one.table and any(other.table for other in running):
            return False
        return all(
            count + sum(other.claims.get(ring, 0) for other in running) <= len(self._users[ring])
            for ring, count in one.claims.items()
        )

    def _take(self, number: int) -> dict[int, int]:
        """A slot of each ring that the pass has one of: that whose last user has ended first."""
        one, running = self._passes[number], {lane.current for lane in self.lanes}
        found = {}
        for ring, count in one.claims.items():
            users = self._users[ring]
            free = [slot for slot, user in enumerate(users) if user < 0 or user not in running or user in self._ended]
            found[ring] = min(free, key=lambda slot: self._end_of(users[slot])) if count < len(users) else 0
        return found

    def _end_of(self, user: int) -> int:
        return self._placed[user][-1][0] if user >= 0 and self._placed[user] else -1

    def _end(self, lane: _Lane) -> float | None:
        """When what comes next in a lane would end, None where what it reads is not placed yet."""
        if lane.current < 0:
            return None
        needed = self._needs(lane.current, lane.tile)
        if not self._are_placed(needed):
            return None
        begin = max([lane.clock, *map(self._ready, needed)])
        one = self._passes[lane.current]
        if lane.tile >= 0:
            return begin + one.cycles[lane.tile]
        return begin if one.aggregates else begin + _ENTRY_CYCLES + one.entry_cycles

    def _put(self, lane: _Lane, end: float) -> Place:
        """Places what comes next in a lane."""
        number, tile, one = lane.current, lane.tile, self._passes[lane.current]
        stored = tuple(self._placed[writer][place][0] for writer, place in self._needs(number, tile))
        ended = self._before[number] if tile < 0 else ()
        if tile >= 0:
            self._placed[number].append((self._count, end + _STORE_CYCLES))
        self._count += 1
        lane.clock, lane.tile = end, tile + 1
        if lane.tile == len(one.tiles):
            self._ended.add(number)
            lane.current, lane.last = -1, number
        return Place(number, tile, self._taken[number], stored, ended)

    def _claim(self, number: int) -> tuple[int, ...]:
        """Makes the pass the last user of its slots; gives those before it."""
        one = self._passes[number]
        before: set[int] = set()
        for ring in one.claims:
            users = self._users[ring]
            before |= {users[slot] for slot in self._held(number, ring)}
            for slot in self._held(number, ring):
                users[slot] = number
        if one.table:
            before.add(self._table)
            self._table = number
        return tuple(sorted(before - {-1}))

    def _held(self, number: int, ring: int) -> Sequence[int]:
        """The slots of a ring that a pass has: all of one that it takes whole."""
        slots = range(len(self._users[ring]))
        return slots if self._passes[number].claims[ring] == len(slots) else [self._taken[number][ring]]

    def _inputs(self, number: int) -> tuple[tuple[_Tile, ...], tuple[_Tile, ...]]:
        """The last tiles of what a pass gathers from, and of all rows that it reads one by one."""
        if number not in self._inputs_of:
            one = self._passes[number]
            gathered = [
                Rows(tensor, start, start + writer.rows)
                for tensor in one.gathers
                for writer, start in self._writers.get(tensor, [])
            ]
            rows = [Rows(tensor, start, start + one.rows) for tensor, start in one.reads]
            self._inputs_of[number] = self._writing(gathered), self._writing(rows)
        return self._inputs_of[number]

    def _needs(self, number: int, tile: int) -> tuple[_Tile, ...]:
        """The last tiles of what a tile or an entry reads."""
        if tile < 0:
            return self._inputs(number)[0]
        if self._needed.get(number, (-1, ()))[0] != tile:
            one = self._passes[number]
            self._needed[number] = tile, self._writing(one.needs(tile) if one.tiles else [])
        return self._needed[number][1]

    def _are_placed(self, places: Sequence[_Tile], waiting: int = -1) -> bool:
        """Whether tiles are placed; else the first that is not is noted for a pass that needs all of them to begin."""
        for place in places:
            if not self._is_placed(place):
                if waiting >= 0:
                    self._awaited[waiting] = place
                return False
        return True

    def _is_placed(self, place: _Tile) -> bool:
        number, tile = place
        return tile < len(self._placed[number])

    def _writing(self, rows: Sequence[Rows]) -> tuple[_Tile, ...]:
        """The last tile of each pass that writes some of these rows."""
        return tuple(
            (self._numbers[id(writer)], (min(each.last - start, writer.rows) - 1) // writer.tile_rows)
            for each in rows
            for writer, start in self._writers.get(each.tensor, [])
            if each.last > start and each.first - start < writer.rows and writer.tiles
        )

    def _ready(self, place: _Tile) -> float:
        number, tile = place
        return self._placed[number][tile][1]
