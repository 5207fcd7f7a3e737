# SPDX-License-Identifier: Apache-2.0
"""The latency equations published with N3H-Core (FPGA 2022, arXiv 2112.08193), as a baseline: defects included.

hetfab plans with costs of its own; nothing of it uses this module. Times may be negative, and grow when work shrinks:
``docs/n3h.md`` shows how. Written from the equations in closed form, as derived from the search software that one of
the paper's authors published; the paper's hardware is not public. All times are at 100 MHz and *modelled*.
"""

from dataclasses import dataclass

from hetfab.overlay.errors import DesignTooSmallError

CLOCK_MHZ = 100

#: Bits that the port to DRAM delivers per cycle, and the cycles of a transfer besides: 32 base, 9 transfer, 5 sync.
_PORT_BITS = 64
_TRANSFER_CYCLES = 46

#: Output channels and input channels that the DSP core multiplies at once; twice the latter in 4 bits.
_DSP_LANES = 16


@dataclass(frozen=True)
class GemmLayer:
    """A layer as a matrix product, [rows, depth] x [depth, channels].

    Attributes:
        rows: Output pixels.
        depth: Input channels times the kernel's area.
        channels: Output channels.
    """

    rows: int
    depth: int
    channels: int

    @property
    def macs(self) -> int:
        """Multiply-accumulates."""
        return self.rows * self.depth * self.channels


@dataclass(frozen=True)
class Widths:
    """Bits of a layer's numbers; the DSP core knows 8-bit layers and others, which it takes as 4-bit."""

    weight_bits: int
    activation_bits: int
    int8_on_dsp: bool = False


@dataclass(frozen=True)
class LutCore:
    """The bit-serial core; defaults as in the published software.

    Attributes:
        rows: Pixels at once, M.
        depth: Bits of a popcount, K; a multiple of 64.
        columns: Output channels at once, N.
        activation_words: Depth of the activation buffer, Bm.
    """

    rows: int = 8
    depth: int = 128
    columns: int = 16
    activation_words: int = 1024


@dataclass(frozen=True)
class DspCore:
    """The DSP core's buffers, in words of 16 numbers; defaults as in the published software."""

    activation_words: int = 2048
    weight_words: int = 1024


@dataclass(frozen=True)
class Split:
    """How a layer is divided.

    Attributes:
        ratio: Share of the LUT core's output channels.
        lut_cycles: Of the LUT core.
        dsp_cycles: Of the DSP core.
    """

    ratio: float
    lut_cycles: float
    dsp_cycles: float

    @property
    def cycles(self) -> float:
        """The slower core's."""
        return max(self.lut_cycles, self.dsp_cycles)


def milliseconds(cycles: float) -> float:
    """Time of cycles at the published clock."""
    return cycles / (1000 * CLOCK_MHZ)


def lut_core_cycles(layer: GemmLayer, widths: Widths, core: LutCore) -> float:
    """Cycles of the LUT core; negative where its buffer holds fewer than three rows of tiles.

    Raises:
        DesignTooSmallError: The activation buffer holds none: the equations divide by zero.
    """
    if layer.channels == 0:
        return 0
    row_tiles, col_tiles = _ceil(layer.rows, core.rows), _ceil(layer.channels, core.columns)
    depth_tiles = _ceil(layer.depth, core.depth)
    resident = _resident_row_tiles(depth_tiles * widths.activation_bits, core)
    passes, last_rows = _ceil(row_tiles, resident), row_tiles % resident
    fetch_rows = _fetch_cycles(core.rows * core.depth * widths.activation_bits * depth_tiles)
    fetch_columns = _fetch_cycles(core.columns * core.depth * widths.weight_bits * depth_tiles)
    execute = (depth_tiles + 8) * widths.activation_bits * widths.weight_bits + 8
    drained = 0.0 if fetch_rows - 1 > execute else 10 + (resident - 3) * (execute - fetch_rows)
    if row_tiles * col_tiles <= resident + 3:
        stalled = 0
    elif passes > 1:
        stalled = ((resident - 3) * (col_tiles - 1) * passes + last_rows) * execute
    else:
        stalled = max(last_rows - 3, 0) * (col_tiles - 1) * execute
    return 238 + fetch_rows * row_tiles + fetch_columns * passes * col_tiles + stalled + drained * passes


def dsp_core_cycles(layer: GemmLayer, widths: Widths, core: DspCore) -> float:
    """Cycles of the DSP core."""
    if layer.channels == 0:
        return 0
    depth = _ceil(layer.depth, _DSP_LANES if widths.int8_on_dsp else 2 * _DSP_LANES)
    resident_rows, resident_cols = core.activation_words // depth, core.weight_words // (2 * depth)
    row_passes, last_rows = divmod(layer.rows, resident_rows)
    col_passes, last_cols = divmod(_ceil(layer.channels, _DSP_LANES), resident_cols)
    fetch_columns, fetch_rows = 40 + 16 * depth * resident_cols, 33 + 16 * depth
    fetch_last_columns = 16 * depth * last_cols
    whole = 2 * depth * resident_cols * resident_rows + 6 + fetch_columns + fetch_rows
    row_end = 2 * depth * last_rows * resident_cols + fetch_columns + fetch_rows
    col_end = 2 * depth * resident_rows * last_cols + fetch_rows + 96 + fetch_last_columns
    corner = 2 * depth * last_rows * last_cols + fetch_rows + 48 + fetch_last_columns
    return row_passes * col_passes * whole + col_passes * row_end + row_passes * col_end + corner + 32


def split_channels(channels: int, ratio: float) -> tuple[int, int]:
    """Output channels of the LUT core and of the DSP core; each is rounded alone, so the sum may be another."""
    return round(channels * ratio), round(channels * (1 - ratio))


def split_at(layer: GemmLayer, widths: Widths, ratio: float, lut: LutCore, dsp: DspCore) -> Split:
    """The cost of a split by output channel.

    Raises:
        DesignTooSmallError: As ``lut_core_cycles``.
    """
    on_lut, on_dsp = (
        GemmLayer(layer.rows, layer.depth, channels) for channels in split_channels(layer.channels, ratio)
    )
    return Split(ratio, lut_core_cycles(on_lut, widths, lut), dsp_core_cycles(on_dsp, widths, dsp))


def scan_split(layer: GemmLayer, widths: Widths, lut: LutCore, dsp: DspCore) -> Split:
    """The published choice: the first of 0, 0.01, ... 1 where the LUT core is slower, or the one before, if better.

    Raises:
        DesignTooSmallError: As ``lut_core_cycles``.
    """
    before = split_at(layer, widths, 0, lut, dsp)
    for percent in range(1, 101):
        split = split_at(layer, widths, percent / 100, lut, dsp)
        if split.lut_cycles > split.dsp_cycles:
            return before if before.cycles < split.cycles else split
        before = split
    return before


def _ceil(value: int, divisor: int) -> int:
    return -(-value // divisor)


def _fetch_cycles(bits: int) -> float:
    return _TRANSFER_CYCLES + bits / _PORT_BITS


def _resident_row_tiles(words: int, core: LutCore) -> int:
    """Rows of tiles that the activation buffer holds, each of ``words``."""
    if words > core.activation_words:
        raise DesignTooSmallError(
            f"the LUT core's activation buffer has {core.activation_words} words, a row of tiles takes {words}",
            "a buffer for at least one row of tiles",
            "give the core a deeper buffer or a wider popcount, or the layer fewer activation bits",
        )
    return core.activation_words // words
