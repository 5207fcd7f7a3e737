# SPDX-License-Identifier: Apache-2.0
"""The order in which the parts of layers are emitted: both cores' steps of a convolution, pooling between them.

An engine executes in this order, so what one engine does should not stand before what another one needs sooner. Each
time the core that is behind makes a step. Pooling of a convolution's result is spread over the convolution's steps and,
where the next convolution reads it line by line, over that one's steps too: VEC has time there.
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hetfab.overlay.compiler.cnn.conv_code import ConvCode, Pixels
from hetfab.overlay.compiler.cnn.depthwise_code import DepthwiseCode
from hetfab.overlay.compiler.cnn.fused_code import FusedCode
from hetfab.overlay.compiler.cnn.pool_code import PoolCode

#: Of pooling, the share that waits for the next convolution where that is possible.
_CARRIED = 0.4
#: Steps of the next convolution before which lines that they read are pooled.
_AHEAD = 4
#: Share of its steps over which these lines are spread.
_SPREAD = 0.8
#: Pieces of a fused convolution behind a band before what reads the band begins: DW and STORE are not done before.
_LATE = 4


@dataclass(frozen=True)
class Pooling:
    """A layer of pooling, or on DW, and the tiles of it that are not emitted."""

    code: PoolCode | DepthwiseCode
    tiles: list[Any]
    #: Of tiles, by their ids, a pixel that they wait for; most wait for long.
    _awaited: dict[int, tuple[int, int]] = field(default_factory=dict)

    def spread(self, unit: "Unit", later: int) -> None:
        """Emits tiles that read no pending pixel: as many as fall to one of the steps that are left.

        Args:
            unit: What computes the pixels.
            later: Tiles to keep.
        """
        count = -(-max(0, len(self.tiles) - later) // (1 + unit.steps_left))
        if count:
            pending = unit.pending(self.code.source)
            complete = (tile for tile in self.tiles if not self._waits(tile, pending))
            self._emit(list(itertools.islice(complete, count)))

    def _waits(self, tile: Any, pending: Pixels) -> bool:
        """Whether a tile reads pending pixels."""
        awaited = self._awaited.get(id(tile))
        if awaited is not None and pending[awaited]:
            return True
        read = pending[tile.reads, tile.pixels]
        if not read.any():
            return False
        row, column = np.unravel_index(int(read.argmax()), read.shape)
        self._awaited[id(tile)] = tile.reads.start + int(row), tile.pixels.start + int(column)
        return True

    def order(self, readers: "Unit") -> None:
        """Puts the tiles in the order in which the next unit reads their pixels."""
        when = np.minimum.reduce([code.first_reads() for code in readers.codes])
        self.tiles.sort(key=lambda tile: float(when[tile.written].min()))

    def complete(self, needed: Pixels) -> None:
        """Emits the tiles of some output pixels."""
        self._emit([tile for tile in self.tiles if needed[tile.written].any()])

    def advance(self, steps: int) -> None:
        """Emits as many tiles as fall to one of some steps."""
        self._emit(self.tiles[: -(-len(self.tiles) // max(1, steps))])

    def finish(self) -> None:
        """Emits all tiles that are left."""
        self._emit(list(self.tiles))

    def _emit(self, chosen: Sequence[Any]) -> None:
        emitted = set(map(id, chosen))
        self.tiles[:] = [tile for tile in self.tiles if id(tile) not in emitted]
        for tile in chosen:
            self.code.emit(tile)


@dataclass(frozen=True)
class Unit:
    """What is emitted together: a convolution's parts on the cores, and pooling of its result; or one of the two.

    With ``fused`` the parts are those of a convolution that is fused with a depthwise one.
    """

    codes: tuple[ConvCode, ...]
    pools: tuple[Pooling, ...]
    fused: FusedCode | None = None

    @property
    def steps_left(self) -> int:
        """Steps of both cores."""
        return sum(code.steps_left for code in self.codes)

    def pending(self, tensor: str) -> Pixels:
        """Pixels of a tensor that the unit computes which are not complete, bool [rows, columns]."""
        return np.asarray(np.logical_or.reduce([code.pending() for code in self.codes if code.target == tensor]))

    def reads_by_lines(self, pooling: Pooling) -> bool:
        """Whether it reads a pooled tensor, and begins before that is complete."""
        return any(code.source == pooling.code.target for code in self.codes) and not any(
            code.waits_for_all for code in self.codes
        )


def emit_unit(unit: Unit, following: Unit, carried: Sequence[Pooling]) -> None:
    """Emits a unit.

    Half-way the weights of the next one begin to come, as far as there is room beside those of this one.

    Args:
        unit: The unit.
        following: The next one.
        carried: Pooling of the unit before, of which tiles may be left.
    """
    if unit.fused is not None:
        _emit_fused(unit, unit.fused, following)
        return
    for code in unit.codes:
        code.prefetch(() if code.waits_for_all else {code.layer - 1, code.layer - 2})
    for pooling in unit.pools:
        if following.reads_by_lines(pooling):
            pooling.order(following)
    later = [int(_CARRIED * len(one.tiles)) if following.reads_by_lines(one) else 0 for one in unit.pools]
    total, early = unit.steps_left, False
    for code in _by_time(unit.codes, carried):
        for pooling, kept in zip(unit.pools, later, strict=True):
            pooling.spread(unit, kept)
        if not early and 2 * unit.steps_left <= total:
            early = True
            for code in following.codes:
                code.prefetch({one.layer for one in unit.codes})
    for pooling, kept in zip(unit.pools, later, strict=True):
        if not kept:
            for code in following.codes:
                code.prefetch()
            pooling.finish()


def _emit_fused(unit: Unit, fused: FusedCode, following: Unit) -> None:
    """Emits two convolutions that are fused, piece by piece; what follows as soon as its input is complete."""
    for code in unit.codes:
        code.prefetch({code.layer - 1, code.layer - 2})
    projects = following.fused is None and all(code.source == fused.target for code in following.codes)
    for number, piece in enumerate(fused.pieces):
        fused.emit(*piece)
        if number == (len(fused.pieces) - 1) // 2:
            for code in following.codes:
                code.prefetch({one.layer for one in unit.codes})
        if projects:
            _emit_ready(following, fused, number)


def _emit_ready(following: Unit, fused: FusedCode, number: int) -> None:
    """Emits steps of the next convolution that read bands before that of a piece, spread over the band's pieces."""
    band, place = divmod(number, fused.band_pieces)
    if place < _LATE or not band:
        return
    complete = fused.complete(band)
    for code in following.codes:
        for _ in range(-(-code.ready(complete) // (fused.band_pieces - place))):
            code.advance()
            code.finish()


def _by_time(codes: Sequence[ConvCode], carried: Sequence[Pooling]) -> Iterator[ConvCode]:
    """Emits step after step, of the core that is behind; yields after each."""
    totals = [code.total_cycles for code in codes]
    while True:
        # Two layers at the same time advance together, the shorter one with longer pauses.
        times = [
            (code.time / total, number)
            for number, (code, total) in enumerate(zip(codes, totals, strict=True))
            if code.time is not None
        ]
        if not times:
            break
        code = codes[min(times)[1]]
        for pooling in carried:
            pooling.complete(code.pixels_read(_AHEAD))
            pooling.advance(int(_SPREAD * sum(one.steps_left for one in codes)))
        code.advance(codes)
        yield code
    for pooling in carried:
        pooling.finish()
