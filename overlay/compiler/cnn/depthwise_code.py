# SPDX-License-Identifier: Apache-2.0
"""The instructions of a depthwise convolution on DW: lines in exp_ram, windows, what STORE takes from mid_ram.

The lines are those that VEC copies there from DRAM, or those of a convolution that is fused with this one.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from hetfab.overlay.compiler.cnn.chip import Chip, depth
from hetfab.overlay.compiler.cnn.feature_maps import FeatureMap
from hetfab.overlay.compiler.cnn.vector import limited
from hetfab.overlay.design import Geometry
from hetfab.overlay.errors import DesignTooSmallError
from hetfab.overlay.isa.codec import Segment
from hetfab.overlay.isa.spec import isa
from hetfab.overlay.isa.words import program_address
from hetfab.overlay.layouts import depthwise_words
from hetfab.overlay.model.cnn.integer import Ending, Product

_TAPS = isa().size("window_taps")
_DEPTHWISE = isa().operation("depthwise")
_LARGEST_ROWS = isa().operation("pool_max").field("rows").largest
_STORE = isa().operation("store_middle")
_LARGEST_LOAD = isa().operation("load_residual").field("rows").largest
#: Cycles of an instruction beside its trips.
_INSTRUCTION = 100


@dataclass(frozen=True)
class DepthTile:
    """Output pixels that are computed at once.

    Attributes:
        row: First line.
        lines: Lines.
        column: First pixel.
        columns: Pixels of a line.
        reads: Input lines.
        pixels: Pixels of them.
    """

    row: int
    lines: int
    column: int
    columns: int
    reads: slice
    pixels: slice

    @property
    def written(self) -> tuple[slice, slice]:
        """Output lines and pixels."""
        return slice(self.row, self.row + self.lines), slice(self.column, self.column + self.columns)


def runs_on_dw(layer: object, geometry: Geometry) -> bool:
    """Whether a layer is a depthwise convolution that DW computes."""
    if not isinstance(layer, Product) or not layer.depthwise or layer.window is None or "dw" not in geometry.engines:
        return False
    window = layer.window
    return (
        window.kernel == (_TAPS, _TAPS)
        and window.dilations == (1, 1)
        and window.strides[0] == window.strides[1] <= _DEPTHWISE.field("stride").largest + 1
        and max(window.pads) < _TAPS
        and layer.finish.ending is Ending.REQUANTIZE
    )


@dataclass(frozen=True)
class DepthPart:
    """Words of a pixel whose parameters DW holds at once: the first one, how many, their offset in the constants."""

    first: int
    words: int
    offset: int


class DepthwiseWindows:
    """What DW makes of lines in exp_ram.

    Args:
        chip: Stream, buffers and constants.
        index: Number of the layer.
        layer: The layer.
        source: What it reads; packed where its weights have at most 4 bits.
        target: What it writes.
    """

    def __init__(self, chip: Chip, index: int, layer: Product, source: FeatureMap, target: FeatureMap) -> None:
        assert layer.window is not None
        self.source = source
        self.target = target
        self.window = layer.window
        self._chip = chip
        self._index = index
        self._layer = layer

    def parts(self, words: int) -> list[DepthPart]:
        """A pixel in parts of some words, whose parameters are added to the constants."""
        pixel, channels = self.source.pixel_beats, 64 // self.source.item_bits
        missing = self.source.pixel_channels - self.source.channels
        weight, bias, multiplier = (
            np.pad(array, [(0, 0)] * (array.ndim - 1) + [(0, missing)])
            for array in (self._layer.weight[:, :, 0, :], self._layer.bias, self._layer.multiplier)
        )
        found = []
        for first in range(0, pixel, words):
            last = min(first + words, pixel)
            chosen = slice(first * channels, last * channels)
            parameters = weight[:, :, chosen], bias[chosen], multiplier[chosen]
            content = depthwise_words(*parameters, packed=self.source.packed)
            found.append(DepthPart(first, last - first, self._chip.constants.add(content)))
        return found

    def tile(self, row: int, lines: int, column: int, columns: int) -> DepthTile:
        """Output pixels, and what they read."""
        reads = self._under(row, lines, 0, self.source.rows)
        return DepthTile(row, lines, column, columns, reads, self._under(column, columns, 1, self.source.columns))

    def emit(self, tile: DepthTile, part: DepthPart, exp: int, line: int) -> None:
        """Emits windows and their store.

        Args:
            tile: Output pixels.
            part: Words of a pixel; pixels in exp_ram have no others.
            exp: First word of the input pixels in exp_ram.
            line: Pixels there from a line to the next.
        """
        ratio = self.source.item_bits, self.target.item_bits
        words = part.words * ratio[1] // ratio[0]
        par = self._load_parameters(part)
        mid = self._chip.buffers["mid_ram"].take(tile.lines * tile.columns * words)
        self._compute(tile, part.words, (exp, mid, par), line)
        self._store(tile, part.first * ratio[1] // ratio[0], words, mid)

    def _under(self, first: int, count: int, axis: int, size: int) -> slice:
        """The input lines or pixels on the image under some output positions."""
        start = first * self.window.strides[axis] - self.window.pads[axis]
        stop = start + (count - 1) * self.window.strides[axis] + _TAPS
        return slice(max(start, 0), min(stop, size))

    def _beyond(self, first: int, count: int, axis: int, size: int) -> tuple[int, int]:
        """Lines or pixels of the windows before the image and behind it."""
        start = first * self.window.strides[axis] - self.window.pads[axis]
        stop = start + (count - 1) * self.window.strides[axis] + _TAPS
        return max(-start, 0), max(stop - size, 0)

    def _load_parameters(self, part: DepthPart) -> int:
        buffer, key = self._chip.buffers["dwp_ram"], (self._index, part)
        found = buffer.find(key)
        if found is not None:
            return found
        count = part.words * (_TAPS * _TAPS + 64 // self.source.item_bits)
        ram = buffer.take(count, key)
        address = program_address(Segment.CONSTANTS, part.offset)
        self._chip.emit(self._index, "load_depthwise", ram=ram, words=count, address=address)
        return ram

    def _compute(self, tile: DepthTile, words: int, places: tuple[int, int, int], line: int) -> None:
        width, (exp, mid, par) = tile.pixels.stop - tile.pixels.start, places
        top, bottom = self._beyond(tile.row, tile.lines, 0, self.source.rows)
        left, right = self._beyond(tile.column, tile.columns, 1, self.source.columns)
        fields = limited(self._layer.finish, self.target)
        self._chip.emit(
            self._index,
            "depthwise",
            top=top,
            bottom=bottom,
            left=left,
            right=right,
            stride=self.window.strides[0] - 1,
            packed=int(self.source.packed),
            unsigned=int(not self.source.signed),
            signed=fields["signed"],
            out_packed=fields["packed"],
            highest=fields["highest"],
            shift=self._layer.shift,
            lines=tile.lines,
            exp=exp,
            mid=mid,
            par=par,
            groups=words * 64 // self.source.item_bits // self._chip.geometry.lanes,
            columns=width,
            line_words=line * words,
        )

    def _store(self, tile: DepthTile, beat: int, words: int, mid: int) -> None:
        target = self.target
        joined = words == target.pixel_beats
        self._chip.emit(
            self._index,
            "store_middle",
            ram=mid,
            lines=tile.lines,
            columns=tile.columns - 1,
            row_beats=words,
            stride_blocks=target.row_blocks,
            joined=int(joined),
            pixel_stride=tile.columns * words if joined else target.pixel_beats,
            address=target.address(tile.row, tile.column, beat),
        )


class DepthwiseCode:
    """Emits a depthwise convolution whose input is in DRAM.

    Args:
        windows: The convolution.
        chip: Stream, buffers and constants.
        index: Number of the layer.
    """

    def __init__(self, windows: DepthwiseWindows, chip: Chip, index: int) -> None:
        self._chip = chip
        self._index = index
        self._windows = windows
        self._source = windows.source
        self._target = windows.target
        self._parts = windows.parts(part_words(windows.source, windows.target, chip.geometry))

    @property
    def source(self) -> str:
        """Name of the tensor that it reads."""
        return self._source.name

    @property
    def target(self) -> str:
        """Name of the tensor that it writes."""
        return self._target.name

    def tiles(self) -> list[DepthTile]:
        """All tiles, line by line."""
        lines, columns = self._size()
        target = self._target
        return [
            self._windows.tile(row, min(lines, target.rows - row), column, min(columns, target.columns - column))
            for row in range(0, target.rows, lines)
            for column in range(0, target.columns, columns)
        ]

    def emit(self, tile: DepthTile) -> None:
        """Emits a tile, part of the channels by part: its lines, the copy to exp_ram, the windows."""
        for part in self._parts:
            height, width = tile.reads.stop - tile.reads.start, tile.pixels.stop - tile.pixels.start
            exp = self._chip.buffers["exp_ram"].take(height * width * part.words)
            self._copy(tile, part.first, part.words, exp)
            self._windows.emit(tile, part, exp, width)

    def _copy(self, tile: DepthTile, first: int, words: int, exp: int) -> None:
        """Brings lines to res_ram and copies them to exp_ram, as many pixels at once as fit."""
        source, width = self._source, tile.pixels.stop - tile.pixels.start
        room = self._chip.buffers["res_ram"].words // 2
        most = max(1, min(room // (width * words), _LARGEST_ROWS // width, _LARGEST_LOAD))
        for line in range(tile.reads.start, tile.reads.stop, most):
            lines = min(most, tile.reads.stop - line)
            ram = self._chip.buffers["res_ram"].take(lines * width * words)
            joined = words == source.pixel_beats
            self._chip.emit(
                self._index,
                "load_residual",
                ram=ram,
                rows=lines,
                columns=0 if joined else width - 1,
                run_stride=source.pixel_beats,
                run_beats=width * words if joined else words,
                stride_blocks=source.row_blocks,
                address=source.address(line, tile.pixels.start, first),
            )
            self._chip.configure_pixels(
                self._index,
                banks=lines - 1,
                packed=int(source.packed),
                signed=int(source.signed),
                res_line_words=width * words,
                res_pixel_words=words,
                exp_line_words=width * words,
                exp_pixel_words=words,
            )
            self._chip.configure_pool(self._index, lines=1, columns=1)
            out = exp + (line - tile.reads.start) * width * words
            self._chip.emit(self._index, "pool_max", res=ram, out=out, rows=lines * width, row_words=words, to_exp=1)

    def _size(self) -> tuple[int, int]:
        """Lines and pixels of a tile: those that bring the fewest words for a result, where buffers hold two."""
        for slots in (2, 1):
            found = [size for size in self._sizes() if self._fits(*size, slots)]
            if found:
                return min(found, key=lambda size: self._cost(*size))
        raise DesignTooSmallError(
            f"layer '{self._target.name}' does not fit the design: exp_ram, mid_ram or res_ram hold no window",
            "buffers for a window of all channels that dwp_ram holds",
            "use a design with larger buffers",
        )

    def _sizes(self) -> Iterator[tuple[int, int]]:
        target = self._target
        widths = sorted({-(-target.columns // parts) for parts in range(1, target.columns + 1)})
        return itertools.product(range(1, min(target.rows, _DEPTHWISE.field("lines").largest) + 1), widths)

    def _read_size(self, lines: int, columns: int) -> tuple[int, int]:
        stride = self._windows.window.strides[0]
        rows, pixels = (lines - 1) * stride + _TAPS, (columns - 1) * stride + _TAPS
        return min(rows, self._source.rows), min(pixels, self._source.columns)

    def _cost(self, lines: int, columns: int) -> float:
        rows, pixels = self._read_size(lines, columns)
        words = max(part.words for part in self._parts)
        return (rows * pixels * words + _INSTRUCTION) / (lines * columns)

    def _fits(self, lines: int, columns: int, slots: int) -> bool:
        rows, pixels = self._read_size(lines, columns)
        words = max(part.words for part in self._parts)
        out = words * self._target.item_bits // self._source.item_bits
        buffers = self._chip.buffers
        return (
            rows * pixels * words * slots <= buffers["exp_ram"].words
            and lines * columns * out * slots <= buffers["mid_ram"].words
            and pixels * words * slots <= buffers["res_ram"].words
            and pixels <= min(_LARGEST_ROWS, _DEPTHWISE.field("columns").largest)
            and columns * out <= _STORE.field("pixel_stride").largest
        )


def part_words(source: FeatureMap, target: FeatureMap, geometry: Geometry) -> int:
    """The most words of a pixel whose parameters dwp_ram holds, and that one instruction stores."""
    most = depth(geometry, "dwp_ram") // (_TAPS * _TAPS + 64 // source.item_bits)
    stored = _STORE.field("row_beats").largest * source.item_bits // target.item_bits
    unit = word_unit(source, target)
    return min(max(min(most, stored) // unit * unit, unit), source.pixel_beats)


def word_unit(source: FeatureMap, target: FeatureMap) -> int:
    """Words of a pixel that become whole words."""
    return max(1, source.item_bits // target.item_bits, target.item_bits // source.item_bits)
