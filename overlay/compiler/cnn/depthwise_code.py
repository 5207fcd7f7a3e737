# SPDX-License-Identifier: Apache-2.0
"""The instructions of a depthwise convolution on DW: VEC copies lines to exp_ram, STORE takes results from mid_ram."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from hetfab.overlay.compiler.cnn.chip import Chip
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


class DepthwiseCode:
    """Emits a depthwise convolution.

    Args:
        chip: Stream, buffers and constants.
        index: Number of the layer.
        layer: The layer.
        source: What it reads; packed where its weights have at most 4 bits.
        target: What it writes.
    """

    def __init__(self, chip: Chip, index: int, layer: Product, source: FeatureMap, target: FeatureMap) -> None:
        assert layer.window is not None
        self._chip = chip
        self._index = index
        self._layer = layer
        self._source = source
        self._target = target
        self._window = layer.window
        self._parts = list(self._channel_parts())

    @property
    def target(self) -> str:
        """Name of the tensor that it writes."""
        return self._target.name

    def tiles(self) -> list[DepthTile]:
        """All tiles, line by line."""
        lines, columns = self._size()
        return [
            self._tile(row, min(lines, self._target.rows - row), column, min(columns, self._target.columns - column))
            for row in range(0, self._target.rows, lines)
            for column in range(0, self._target.columns, columns)
        ]

    def emit(self, tile: DepthTile) -> None:
        """Emits a tile, part of the channels by part: its lines, the copy to exp_ram, DW, the store."""
        for first, words, offset in self._parts:
            height, width = tile.reads.stop - tile.reads.start, tile.pixels.stop - tile.pixels.start
            exp = self._chip.buffers["exp_ram"].take(height * width * words)
            self._copy(tile, first, words, exp)
            par = self._load_parameters(first, words, offset)
            ratio = self._source.item_bits, self._target.item_bits
            out_words = words * ratio[1] // ratio[0]
            mid = self._chip.buffers["mid_ram"].take(tile.lines * tile.columns * out_words)
            self._compute(tile, words, (exp, mid, par))
            self._store(tile, first * ratio[1] // ratio[0], out_words, mid)

    def _channel_parts(self) -> Iterator[tuple[int, int, int]]:
        """Words of a pixel that DW's parameters hold: first word, words, offset of their weights in the constants."""
        pixel, channels = self._source.pixel_beats, 64 // self._source.item_bits
        room = self._chip.buffers["dwp_ram"].words // (_TAPS * _TAPS + channels)
        unit = max(
            1, self._source.item_bits // self._target.item_bits, self._target.item_bits // self._source.item_bits
        )
        most = min(max(room // unit * unit, unit), pixel)
        missing = self._source.pixel_channels - self._source.channels
        weight, bias, multiplier = (
            np.pad(array, [(0, 0)] * (array.ndim - 1) + [(0, missing)])
            for array in (self._layer.weight[:, :, 0, :], self._layer.bias, self._layer.multiplier)
        )
        for first in range(0, pixel, most):
            words = min(most, pixel - first)
            chosen = slice(first * channels, (first + words) * channels)
            parameters = weight[:, :, chosen], bias[chosen], multiplier[chosen]
            content = depthwise_words(*parameters, packed=self._source.packed)
            yield first, words, self._chip.constants.add(content)

    def _tile(self, row: int, lines: int, column: int, columns: int) -> DepthTile:
        reads = self._under(row, lines, 0, self._source.rows)
        return DepthTile(row, lines, column, columns, reads, self._under(column, columns, 1, self._source.columns))

    def _under(self, first: int, count: int, axis: int, size: int) -> slice:
        """The input lines or pixels on the image under some output positions."""
        start = first * self._window.strides[axis] - self._window.pads[axis]
        stop = start + (count - 1) * self._window.strides[axis] + _TAPS
        return slice(max(start, 0), min(stop, size))

    def _beyond(self, first: int, count: int, axis: int, size: int) -> tuple[int, int]:
        """Lines or pixels of the windows before the image and behind it."""
        start = first * self._window.strides[axis] - self._window.pads[axis]
        stop = start + (count - 1) * self._window.strides[axis] + _TAPS
        return max(-start, 0), max(stop - size, 0)

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

    def _load_parameters(self, first: int, words: int, offset: int) -> int:
        buffer, key = self._chip.buffers["dwp_ram"], (self._index, first)
        found = buffer.find(key)
        if found is not None:
            return found
        count = words * (_TAPS * _TAPS + 64 // self._source.item_bits)
        ram = buffer.take(count, key)
        address = program_address(Segment.CONSTANTS, offset)
        self._chip.emit(self._index, "load_depthwise", ram=ram, words=count, address=address)
        return ram

    def _compute(self, tile: DepthTile, words: int, places: tuple[int, int, int]) -> None:
        width, (exp, mid, par) = tile.pixels.stop - tile.pixels.start, places
        top, bottom = self._beyond(tile.row, tile.lines, 0, self._source.rows)
        left, right = self._beyond(tile.column, tile.columns, 1, self._source.columns)
        fields = limited(self._layer.finish, self._target)
        self._chip.emit(
            self._index,
            "depthwise",
            top=top,
            bottom=bottom,
            left=left,
            right=right,
            stride=self._window.strides[0] - 1,
            packed=int(self._source.packed),
            unsigned=int(not self._source.signed),
            signed=fields["signed"],
            out_packed=fields["packed"],
            highest=fields["highest"],
            shift=self._layer.shift,
            lines=tile.lines,
            exp=exp,
            mid=mid,
            par=par,
            groups=words * 64 // self._source.item_bits // self._chip.geometry.lanes,
            columns=width,
            line_words=width * words,
        )

    def _store(self, tile: DepthTile, beat: int, words: int, mid: int) -> None:
        """Stores lines; where pixels are parts of pixels, one by one."""
        target = self._target
        if words == target.pixel_beats:
            address = target.address(tile.row, tile.column)
            self._store_rows(mid, tile.lines, tile.columns * words, address)
            return
        for line, column in itertools.product(range(tile.lines), range(tile.columns)):
            place = mid + (line * tile.columns + column) * words
            self._store_rows(place, 1, words, target.address(tile.row + line, tile.column + column, beat))

    def _store_rows(self, ram: int, rows: int, beats: int, address: int) -> None:
        blocks = self._target.row_blocks
        fields = {"ram": ram, "rows": rows, "row_beats": beats, "stride_blocks": blocks, "address": address}
        self._chip.emit(self._index, "store_middle", **fields)

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
        stride = self._window.strides[0]
        rows, pixels = (lines - 1) * stride + _TAPS, (columns - 1) * stride + _TAPS
        return min(rows, self._source.rows), min(pixels, self._source.columns)

    def _cost(self, lines: int, columns: int) -> float:
        rows, pixels = self._read_size(lines, columns)
        words = max(words for _, words, _ in self._parts)
        return (rows * pixels * words + _INSTRUCTION) / (lines * columns)

    def _fits(self, lines: int, columns: int, slots: int) -> bool:
        rows, pixels = self._read_size(lines, columns)
        words = max(words for _, words, _ in self._parts)
        out = words * self._target.item_bits // self._source.item_bits
        buffers = self._chip.buffers
        return (
            rows * pixels * words * slots <= buffers["exp_ram"].words
            and lines * columns * out * slots <= buffers["mid_ram"].words
            and pixels * words * slots <= buffers["res_ram"].words
            and pixels <= min(_LARGEST_ROWS, _DEPTHWISE.field("columns").largest)
        )
