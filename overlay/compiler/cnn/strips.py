# SPDX-License-Identifier: Apache-2.0
"""Cuts the output lines of an image into strips, and these into tiles: a strip for each bank of a core's array.

Tiles of consecutive lines fill all banks; what is left over of the lines is cut into narrower strips, side by side in
one tile, so that banks are seldom empty.
"""

import functools
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


@functools.cache
def cut(rows: tuple[int, int], columns: int, banks: int, widest: int, *, fill: bool) -> tuple[Tile, ...]:
    """Tiles that cover lines of an image.

    Args:
        rows: First line, and the line behind the last.
        columns: Output pixels of a line.
        banks: Of the core.
        widest: Pixels of the widest strip.
        fill: Whether strips may be narrower so that fewer banks are empty; tiles are then more.
    """
    first, last = rows
    whole = (last - first) // banks
    tiles: list[Tile] = []
    for band in range(whole):
        row = first + band * banks
        tiles += _band(row, row + banks, columns, banks, _width(banks, columns, banks, widest, fill))
    left = first + whole * banks
    if left < last:
        tiles += _band(left, last, columns, banks, _width(last - left, columns, banks, widest, fill))
    return tuple(tiles)


@dataclass(frozen=True)
class Census:
    """What counts of the tiles of a cut, most of which are alike.

    Attributes:
        tiles: The tiles.
        kinds: Width of a strip and banks in use, to the number of such tiles.
        segments: Width of a strip, to the number of segments that wide, and of their strips.
        columns: Width of the widest strip.
        largest: Pixels of the largest tile.
        pixels: Of all tiles.
    """

    tiles: tuple[Tile, ...]
    kinds: tuple[tuple[tuple[int, int], int], ...]
    segments: tuple[tuple[int, int, int], ...]
    columns: int
    largest: int
    pixels: int


@functools.cache
def census(rows: tuple[int, int], columns: int, banks: int, widest: int, *, fill: bool) -> Census:
    """The tiles of ``cut``, counted."""
    tiles = cut(rows, columns, banks, widest, fill=fill)
    kinds = Counter((tile.columns, tile.banks) for tile in tiles)
    parts, strips = Counter[int](), Counter[int]()
    for tile in tiles:
        parts[tile.columns] += len(tile.segments)
        strips[tile.columns] += tile.banks
    return Census(
        tiles,
        tuple(kinds.items()),
        tuple((width, parts[width], strips[width]) for width in parts),
        max(width for width, _ in kinds),
        max(width * used for width, used in kinds),
        sum(width * used * count for (width, used), count in kinds.items()),
    )


def _width(lines: int, columns: int, banks: int, widest: int, fill: bool) -> int:
    """The width of the strips of some lines: as few as possible, or with the fewest steps and of these the widest."""
    if not fill:
        return -(-columns // -(-columns // widest))

    def cost(width: int) -> tuple[int, int]:
        return -(-(lines * -(-columns // width)) // banks) * width, -width

    return min(range(1, min(widest, columns) + 1), key=cost)


def _band(first: int, last: int, columns: int, banks: int, width: int) -> list[Tile]:
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
