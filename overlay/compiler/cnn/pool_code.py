# SPDX-License-Identifier: Apache-2.0
"""The instructions of pooling: LOAD brings lines, VEC takes the largest or the mean of each window, STORE writes."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from hetfab.overlay.compiler.cnn.chip import Chip
from hetfab.overlay.compiler.cnn.feature_maps import FeatureMap
from hetfab.overlay.compiler.cnn.vector import ended
from hetfab.overlay.compiler.cnn.windows import Region, regions
from hetfab.overlay.errors import DesignTooSmallError, OperatorsUnsupportedError
from hetfab.overlay.isa.arithmetic import reciprocals
from hetfab.overlay.isa.spec import isa
from hetfab.overlay.layouts import padded
from hetfab.overlay.model.cnn.integer import Average, Largest
from hetfab.overlay.model.cnn.window import Window

_POOL = isa().operation("configure_pool")
_LARGEST_ROWS = isa().operation("pool_max").field("rows").largest
_LARGEST_WORDS = isa().operation("store_runs").field("row_beats").largest
#: Trips of VEC for one tile: while it pools, it keeps the cores waiting.
_LARGEST_TRIPS = 300
#: Cycles of an instruction beside its trips.
_INSTRUCTION = 60
_LARGEST_LINES = isa().operation("load_residual").field("rows").largest


@dataclass(frozen=True)
class _Cut:
    """Sizes of a tile: output lines and pixels, and beats of a pixel's channels in the input."""

    lines: int
    columns: int
    beats: int


@dataclass(frozen=True)
class PoolTile:
    """Output pixels of a region that are computed at once.

    Attributes:
        region: Where they are.
        row: First line.
        lines: Lines.
        column: First pixel.
        columns: Pixels of a line.
        beat: First beat of a pixel's channels in the input.
        beats: Beats.
        reads: Input lines that are read.
        pixels: Pixels of them.
    """

    region: Region
    row: int
    lines: int
    column: int
    columns: int
    beat: int
    beats: int
    reads: slice
    pixels: slice

    @property
    def written(self) -> tuple[slice, slice]:
        """Output lines and pixels."""
        return slice(self.row, self.row + self.lines), slice(self.column, self.column + self.columns)


class PoolCode:
    """Emits a pooling layer.

    Args:
        chip: Stream and buffers.
        index: Number of the layer.
        layer: The layer.
        source: What it reads.
        target: What it writes.
    """

    def __init__(
        self, chip: Chip, index: int, layer: Largest | Average, source: FeatureMap, target: FeatureMap
    ) -> None:
        self._chip = chip
        self._index = index
        self._layer = layer
        self._source = source
        self._target = target
        self._window: Window = layer.window

    @property
    def source(self) -> str:
        """Name of the tensor that it reads."""
        return self._source.name

    @property
    def target(self) -> str:
        """Name of the tensor that it writes."""
        return self._target.name

    def tiles(self) -> list[PoolTile]:
        """All tiles, in the order of the lines that they need."""
        numbers = self._layer.divisors if isinstance(self._layer, Average) else None
        size = self._source.rows, self._source.columns
        found = [tile for region in regions(self._window, size, numbers) for tile in self._cut(region)]
        return sorted(found, key=lambda tile: tile.reads.stop)

    def emit(self, tile: PoolTile) -> None:
        """Emits a tile: its load, what VEC does, its store."""
        ram, line_words = self._load(tile)
        reduced = self._window.dilations
        self._chip.configure_pixels(
            self._index,
            banks=tile.lines - 1,
            packed=int(self._source.packed),
            signed=int(self._source.signed),
            res_line_words=self._window.strides[0] * line_words,
            res_pixel_words=self._window.strides[1] * tile.beats,
        )
        window = self._taps(tile.region, reduced[0] * line_words, reduced[1] * tile.beats)
        words = self._words(tile)
        out = self._chip.buffers["out_ram"].take(tile.lines * tile.columns * words)
        fields = {"res": ram, "out": out, "rows": tile.lines * tile.columns, "row_words": words}
        if isinstance(self._layer, Average):
            reciprocal, exponent = reciprocals(np.array([tile.region.divisor]))
            window |= {"reciprocal": int(reciprocal[0]), "exponent": int(exponent[0])}
            fields |= ended(self._layer.finish, self._target) | {"groups": self._groups(tile)}
        operation = "pool_average" if isinstance(self._layer, Average) else "pool_max"
        self._chip.configure_pool(self._index, **window)
        self._chip.emit(self._index, operation, **fields)
        self._chip.store(
            self._index,
            self._target,
            ram=out,
            ram_banks=tile.lines,
            lines=tile.lines,
            columns=tile.columns,
            beats=words,
            place=(tile.row, tile.column, self._channel(tile.beat) * self._target.item_bits // 64),
        )

    @staticmethod
    def _taps(region: Region, line_words: int, column_words: int) -> dict[str, int]:
        """A window's taps and their distances; where one line or column has more than a field counts, as several."""
        lines, columns = region.rows.taps, region.columns.taps
        taps, most = max(lines, columns), _POOL.field("columns").largest
        if min(lines, columns) == 1 and taps > most:
            words = line_words if columns == 1 else column_words
            columns = next((count for count in range(most, 0, -1) if taps % count == 0), 1)
            lines, line_words, column_words = taps // columns, words * columns, words
        return {"lines": lines, "columns": columns, "line_words": line_words, "column_words": column_words}

    def _check_fields(self, region: Region) -> None:
        """Refuses windows with more taps than VEC's instructions count."""
        for name, value in self._taps(region, 0, 0).items():
            largest = _POOL.field(name).largest
            if value > largest:
                raise DesignTooSmallError(
                    f"layer '{self._target.name}' needs {value} in the field '{name}' of 'configure_pool', "
                    f"for a window of {region.rows.taps} x {region.columns.taps} pixels",
                    f"at most {largest}, what the field holds",
                    "pool in two steps, or use smaller images",
                )

    def _channel(self, beat: int) -> int:
        return beat * 64 // self._source.item_bits

    def _groups(self, tile: PoolTile) -> int:
        last = min(self._channel(tile.beat + tile.beats), self._target.pixel_channels)
        channels = last - self._channel(tile.beat)
        return -(-channels // self._chip.geometry.lanes)

    def _words(self, tile: PoolTile) -> int:
        """Words of an output pixel's part; the last one reaches to the end of the pixel."""
        first = self._channel(tile.beat) * self._target.item_bits // 64
        if tile.beat + tile.beats >= self._beats:
            return self._target.pixel_beats - first
        return self._channel(tile.beat + tile.beats) * self._target.item_bits // 64 - first

    def _load(self, tile: PoolTile) -> tuple[int, int]:
        """Brings the input's lines; the first word and those of a line."""
        source = self._source
        lines, columns = self._input_size(tile.region, tile.lines, tile.columns)
        line_words = columns * tile.beats
        ram = self._chip.buffers["res_ram"].take(lines * line_words)
        joined = tile.beats == source.pixel_beats
        for first in range(0, lines, _LARGEST_LINES):
            self._chip.emit(
                self._index,
                "load_residual",
                ram=ram + first * line_words,
                rows=min(lines - first, _LARGEST_LINES),
                columns=0 if joined else columns - 1,
                run_stride=source.pixel_beats,
                run_beats=line_words if joined else tile.beats,
                stride_blocks=source.row_blocks,
                address=source.address(tile.reads.start + first, tile.pixels.start, tile.beat),
            )
        return ram, line_words

    def _input_size(self, region: Region, lines: int, columns: int) -> tuple[int, int]:
        """Lines and pixels of the input under some positions of a region."""
        window = self._window
        rows = (lines - 1) * window.strides[0] + (region.rows.taps - 1) * window.dilations[0] + 1
        return rows, (columns - 1) * window.strides[1] + (region.columns.taps - 1) * window.dilations[1] + 1

    def _cut(self, region: Region) -> Iterator[PoolTile]:
        if not region.rows.taps or not region.columns.taps:
            raise OperatorsUnsupportedError(
                f"windows of '{self._target.name}' miss the image",
                "windows with at least one tap on the image",
                "use less padding",
            )
        self._check_fields(region)
        size = self._best_cut(region)
        for row in range(region.rows.first, region.rows.last, size.lines):
            lines = min(size.lines, region.rows.last - row)
            for column in range(region.columns.first, region.columns.last, size.columns):
                columns = min(size.columns, region.columns.last - column)
                reads, pixels = self._read(region, (row, column), (lines, columns))
                for beat in range(0, self._beats, size.beats):
                    beats = min(size.beats, self._beats - beat)
                    yield PoolTile(region, row, lines, column, columns, beat, beats, reads, pixels)

    def _read(self, region: Region, place: tuple[int, int], size: tuple[int, int]) -> tuple[slice, slice]:
        """Input lines and pixels under positions from ``place`` on."""
        first = [
            place[axis] * self._window.strides[axis] - self._window.pads[axis] + span.tap * self._window.dilations[axis]
            for axis, span in enumerate((region.rows, region.columns))
        ]
        rows, columns = self._input_size(region, *size)
        return slice(first[0], first[0] + rows), slice(first[1], first[1] + columns)

    def _best_cut(self, region: Region) -> _Cut:
        """The tile that brings the fewest beats for a pixel; buffers hold two of it, or where that is too much, one."""
        for slots in (2, 1):
            for parts in range(1, self._beats + 1):
                beats = padded(-(-self._beats // parts), self._beat_unit)
                found = [size for size in self._sizes(region, beats) if self._fits(region, size, slots)]
                if found:
                    return min(found, key=lambda size: self._cost(region, size))
        raise DesignTooSmallError(
            f"layer '{self._target.name}' needs more of res_ram or out_ram for a window of {region.rows.taps} x "
            f"{region.columns.taps} pixels than their {self._chip.buffers['res_ram'].words} and "
            f"{self._chip.buffers['out_ram'].words} words",
            "buffers for one window",
            "use a design with larger buffers",
        )

    def _sizes(self, region: Region, beats: int) -> Iterator[_Cut]:
        height, width = region.rows.last - region.rows.first, region.columns.last - region.columns.first
        widths = sorted({-(-width // count) for count in range(1, width + 1)})
        for lines, columns in itertools.product(range(1, min(height, _LARGEST_LINES) + 1), widths):
            yield _Cut(lines, columns, beats)

    def _cost(self, region: Region, size: _Cut) -> float:
        """Cycles of LOAD for a beat of an output pixel."""
        rows, pixels = self._input_size(region, size.lines, size.columns)
        return (rows * pixels * size.beats + _INSTRUCTION) / (size.lines * size.columns * size.beats)

    @property
    def _beats(self) -> int:
        """Beats of an input pixel that hold channels of the output, of which a pixel may have fewer that pad it."""
        needed = -(-self._target.pixel_channels * self._source.item_bits // 64)
        return min(self._source.pixel_beats, needed)

    @property
    def _beat_unit(self) -> int:
        """Beats whose channels are whole words of the output too: where bytes become nibbles, two."""
        return max(1, self._source.item_bits // self._target.item_bits)

    def _fits(self, region: Region, size: _Cut, slots: int) -> bool:
        rows, pixels = self._input_size(region, size.lines, size.columns)
        whole = PoolTile(region, 0, size.lines, 0, size.columns, 0, size.beats, slice(0), slice(0))
        last = replace(whole, beat=max(0, self._beats - size.beats))
        words, outputs = max(self._words(whole), self._words(last)), size.lines * size.columns
        trips = outputs * words * region.rows.taps * region.columns.taps
        distances = self._taps(
            region, self._window.dilations[0] * pixels * size.beats, self._window.dilations[1] * size.beats
        )
        return (
            outputs <= _LARGEST_ROWS
            and all(value <= _POOL.field(name).largest for name, value in distances.items())
            and words <= _LARGEST_WORDS
            and (outputs == 1 or trips <= _LARGEST_TRIPS)
            and rows * pixels * size.beats * slots <= self._chip.buffers["res_ram"].words
            and outputs * words * slots <= self._chip.buffers["out_ram"].words
        )
