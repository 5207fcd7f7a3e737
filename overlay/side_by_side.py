# SPDX-License-Identifier: Apache-2.0
"""Orders the tiles of passes so that AGG sums for one while the other engines project for another (docs/overlap.md).

Two passes, or stretches of them, run side by side: one of those on which AGG works, one of the others. What is placed
next is the tile that would end first, by rough cycles; each comes after all tiles whose rows it reads. The order
changes no result.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from hetfab.overlay.passes import Pass, Passes, Rows

#: Cycles from the end of a tile's longest instruction until its rows are read, roughly. VEC, STORE and tokens take a
#: third of them; the rest is for the tiles between, as LOAD brings nothing to these while it waits for rows.
_STORE_CYCLES = 3000.0
_LANES = 2


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

    def _beginning(self, lane: _Lane, number: int) -> tuple[bool, float, int] | None:
        """Whether a pass has to wait for rows one by one, when it can begin, and its number; None if it cannot."""
        one = self._passes[number]
        found = self._stored([*self._gathered(one), *self._all_rows(one)])
        waits = found is None
        if found is None and self._is_being_written(one):
            found = self._stored([*self._gathered(one), *(one.needs(0) if one.tiles else [])])
        if found is None:
            return None
        return waits, max([lane.clock, *(self._ready(place) for place in found)]), number

    def _start(self, lane: _Lane, number: int) -> None:
        """Makes a pass the lane's; a stretch needs no entry where the one before is of the same pass."""
        lane.waiting.remove(number)
        lane.current, lane.tile = number, -1
        if lane.last >= 0 and self._passes[lane.last].is_beside(self._passes[number]):
            lane.tile = 0
            self._taken[number] = self._taken[lane.last]
        else:
            self._taken[number] = self._take(number)
        self._before[number] = self._claim(number)

    def _is_being_written(self, one: Pass) -> bool:
        """Whether passes that have not ended and whose rows it reads are running, so that neither waits for ever."""
        running = {lane.current for lane in self.lanes}
        writers = [writer for rows in self._all_rows(one) for writer, _ in self._writing(rows)]
        return all(number in running or number in self._ended for number in writers)

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
        stored = self._needed(lane)
        if stored is None:
            return None
        begin = max([lane.clock, *(self._ready(place) for place in stored)])
        return begin + (self._passes[lane.current].cycles[lane.tile] if lane.tile >= 0 else 0.0)

    def _needed(self, lane: _Lane) -> list[tuple[int, int]] | None:
        one = self._passes[lane.current]
        return self._stored(one.needs(lane.tile) if lane.tile >= 0 else list(self._gathered(one)))

    def _put(self, lane: _Lane, end: float) -> Place:
        """Places what comes next in a lane."""
        number, tile, one = lane.current, lane.tile, self._passes[lane.current]
        stored = tuple(self._placed[writer][place][0] for writer, place in self._needed(lane) or [])
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
        for ring, count in one.claims.items():
            users = self._users[ring]
            chosen = range(len(users)) if count == len(users) else [self._taken[number][ring]]
            before |= {users[slot] for slot in chosen}
            for slot in chosen:
                users[slot] = number
        if one.table:
            before.add(self._table)
            self._table = number
        return tuple(sorted(before - {-1}))

    def _gathered(self, one: Pass) -> Iterator[Rows]:
        for tensor in one.gathers:
            for writer, start in self._writers.get(tensor, []):
                yield Rows(tensor, start, start + writer.rows)

    def _all_rows(self, one: Pass) -> list[Rows]:
        return [Rows(tensor, start, start + one.rows) for tensor, start in one.reads]

    def _stored(self, rows: Sequence[Rows]) -> list[tuple[int, int]] | None:
        """The last tile of each pass that writes some rows, None where one of them is not placed yet."""
        found = [place for each in rows for place in self._writing(each)]
        return None if any(tile >= len(self._placed[number]) for number, tile in found) else found

    def _writing(self, rows: Rows) -> Iterator[tuple[int, int]]:
        """The passes that write some of these rows, and the last tile of each that does."""
        for writer, start in self._writers.get(rows.tensor, []):
            last = min(rows.last - start, writer.rows)
            if last > 0 and rows.first - start < writer.rows and writer.tiles:
                yield self._numbers[id(writer)], (last - 1) // writer.tile_rows

    def _ready(self, place: tuple[int, int]) -> float:
        number, tile = place
        return self._placed[number][tile][1]
