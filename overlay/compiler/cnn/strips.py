# SPDX-License-Identifier: Apache-2.0
"""Cuts the output lines of an image into strips, and these into tiles: a strip for each bank of a core's array.

Tiles of consecutive lines fill all banks; what is left over of the lines is cut into narrower strips, side by side in
one tile, so that banks are seldom empty.
"""

import functools
import math
from collections import Counter
from dataclasses import dataclass


@dataclass(frozen=True)
class Segment:
    """Strips one above the other.

    Attributes:
        bank: Bank of the first.
        banks: How many.
        row: Output line of the first.
        column: Output pixel that they begin with.
    """

    bank: int
    banks: int
    row: int
    column: int


@dataclass(frozen=True)
class Tile:
    """Strips of one width that a core works on at once.

    Attributes:
        columns: Output pixels of a strip.
        segments: The strips, in the order of banks.
    """

    columns: int
    segments: tuple[Segment, ...]

    @property
    def banks(self) -> int:
        """Banks in use."""
        return self.segments[-1].bank + self.segments[-1].banks

    @property
    def pixels(self) -> int:
        """Output pixels."""
        return self.banks * self.columns

    @property
    def end_row(self) -> int:
        """The line behind its last one."""
        return max(segment.row + segment.banks for segment in self.segments)


@dataclass(frozen=True)
class Band:
    """Lines that are cut into strips of one width, and as many again below them, so many times.

    Attributes:
        first: The first line.
        lines: Lines of one time.
        times: How often.
        width: Pixels of a strip.
    """

    first: int
    lines: int
    times: int
    width: int


@dataclass(frozen=True)
class Census:
    """What counts of the tiles of a cut, most of which are alike.

    Attributes:
        bands: What is cut alike; two cuts of the same lines are equal where these are.
        line: Output pixels of a line.
        banks: Of the core.
        kinds: Width of a strip and banks in use, to the number of such tiles.
        segments: Width of a strip, to the number of segments that wide, and of their strips.
        columns: Width of the widest strip.
        largest: Pixels of the largest tile.
        pixels: Of all tiles.
        count: Tiles.
    """

    bands: tuple[Band, ...]
    line: int
    banks: int
    kinds: tuple[tuple[tuple[int, int], int], ...]
    segments: tuple[tuple[int, int, int], ...]
    columns: int
    largest: int
    pixels: int
    count: int

    @property
    def tiles(self) -> tuple[Tile, ...]:
        """The tiles, from the first line to the last."""
        return tuple(
            tile
            for band in self.bands
            for row in range(band.first, band.first + band.times * band.lines, band.lines)
            for tile in _tiles(row, row + band.lines, self.line, self.banks, band.width)
        )


@functools.cache
def census(rows: tuple[int, int], columns: int, banks: int, widest: int, *, fill: bool) -> Census:
    """The tiles that cover lines of an image, counted.

    Args:
        rows: First line, and the line behind the last.
        columns: Output pixels of a line.
        banks: Of the core.
        widest: Pixels of the widest strip.
        fill: Whether strips may be narrower so that fewer banks are empty; tiles are then more.
    """
    (first, last), found = rows, list[Band]()
    whole, left = divmod(last - first, banks)
    if whole:
        found.append(Band(first, banks, whole, _width(banks, columns, banks, widest, fill)))
    if left:
        found.append(Band(last - left, left, 1, _width(left, columns, banks, widest, fill)))
    kinds, parts, strips = Counter[tuple[int, int]](), Counter[int](), Counter[int]()
    for band in found:
        across = -(-columns // band.width)
        full, rest = divmod(band.lines * across, banks)
        kinds[band.width, banks] += band.times * full
        kinds[band.width, rest] += band.times
        # A tile goes on at the top of the next strips unless it ends with those before.
        ends = (across - 1) // (banks // math.gcd(band.lines, banks))
        parts[band.width] += band.times * (full + (rest > 0) + across - 1 - ends)
        strips[band.width] += band.times * band.lines * across
    used = {kind: count for kind, count in kinds.items() if kind[1] and count}
    return Census(
        tuple(found),
        columns,
        banks,
        tuple(used.items()),
        tuple((width, parts[width], strips[width]) for width in parts),
        max(width for width, _ in used),
        max(width * taken for width, taken in used),
        sum(width * taken * count for (width, taken), count in used.items()),
        sum(used.values()),
    )


@functools.cache
def _width(lines: int, columns: int, banks: int, widest: int, fill: bool) -> int:
    """The width of the strips of some lines: as few as possible, or with the fewest steps and of these the widest."""
    if not fill:
        return -(-columns // -(-columns // widest))

    def cost(width: int) -> tuple[int, int]:
        return -(-(lines * -(-columns // width)) // banks) * width, -width

    return min(range(1, min(widest, columns) + 1), key=cost)


def _tiles(first: int, last: int, columns: int, banks: int, width: int) -> list[Tile]:
    """Tiles of all strips of some lines, column by column; the last strips begin earlier rather than end later."""
    lines, strips = last - first, (last - first) * -(-columns // width)
    tiles = []
    for start in range(0, strips, banks):
        segments, place, end = list[Segment](), start, min(start + banks, strips)
        while place < end:
            band, row = divmod(place, lines)
            count = min(lines - row, end - place)
            segments.append(Segment(place - start, count, first + row, min(band * width, columns - width)))
            place += count
        tiles.append(Tile(width, tuple(segments)))
    return tiles
