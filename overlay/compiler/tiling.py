# SPDX-License-Identifier: Apache-2.0
"""Chooses the tile of a layer: as many rows as the buffers' slots hold, then as many input channels."""

from dataclasses import dataclass

from hetfab.overlay.design import Geometry
from hetfab.overlay.errors import DesignTooSmallError, counted
from hetfab.overlay.isa.spec import isa
from hetfab.overlay.layouts import blocks_of, padded

#: Every on-chip buffer has two slots, so that its writer fills one while its reader empties the other.
SLOTS = 2
_BLOCK = isa().block_bytes
_LARGEST_ROWS = isa().operation("matmul").field("rows").largest
#: A tile is made shorter to hold all input channels, but not below this many blocks of the array's rows.
_FEWEST_BLOCKS = 2


@dataclass(frozen=True)
class LayerShape:
    """What tiling depends on.

    Attributes:
        inputs: Input channels of the dense term, 0 without one.
        channels: Output channels.
        aggregated: Whether it has aggregations.
        item_bytes: Bytes of an output value.
    """

    inputs: int
    channels: int
    aggregated: bool
    item_bytes: int


@dataclass(frozen=True)
class Tile:
    """A tile of a layer.

    Attributes:
        rows: Rows of a full tile.
        inputs: Input channels of one matmul, a multiple of the block; 0 without a dense term.
        columns: Output channels of one pass over the rows, padded.
        resident: Whether one weight tile serves all rows, so that it is loaded once.
    """

    rows: int
    inputs: int
    columns: int
    resident: bool


def choose_tile(shape: LayerShape, geometry: Geometry, name: str) -> Tile:
    """Chooses the tile.

    Args:
        shape: The layer's shape.
        geometry: The design's geometry.
        name: The layer, named in errors.

    Raises:
        DesignTooSmallError: A buffer cannot hold two tiles of one row, or of one block of input channels.
    """
    unit = geometry.gemm_cols if shape.inputs else geometry.lanes
    columns = min(padded(shape.channels, unit), _BLOCK)
    per_row = _words_per_row(shape, geometry, columns)
    slots = {memory: geometry.depth(memory) // SLOTS for memory in (*per_row, "wgt_ram", "par_ram")}
    if shape.aggregated and columns > geometry.agg_groups * geometry.lanes:
        raise DesignTooSmallError(
            f"layer '{name}' aggregates {counted(columns, 'channel')} at once, the design's agg_groups hold "
            f"{geometry.agg_groups * geometry.lanes}",
            f"agg_groups of at least {columns // geometry.lanes}",
            "use a design with more accumulators in AGG",
        )
    for memory, words in per_row.items():
        _check(name, memory, words, slots[memory])
    rows = min(_LARGEST_ROWS, *(slots[memory] // words for memory, words in per_row.items()))
    if rows > geometry.gemm_rows:
        rows -= rows % geometry.gemm_rows
    if not shape.inputs:
        return Tile(rows, 0, columns, False)
    col_groups = columns // geometry.gemm_cols
    _check(name, "wgt_ram", _BLOCK * col_groups, slots["wgt_ram"])
    _check(name, "par_ram", columns // geometry.lanes, slots["par_ram"])
    whole = padded(shape.inputs, _BLOCK)
    largest = min(slots["wgt_ram"] // col_groups, _largest_inputs(geometry))
    act_bytes = slots["act_ram"] * geometry.gemm_rows
    short = act_bytes // whole // geometry.gemm_rows * geometry.gemm_rows
    if whole <= largest and short >= _FEWEST_BLOCKS * geometry.gemm_rows:
        # All input channels at once: the weights are loaded once for all rows.
        return Tile(min(rows, short), whole, columns, True)
    # Tiles of about equal size, so that the next one is loaded while this one is multiplied.
    blocks, fitting = whole // _BLOCK, min(act_bytes // rows, largest) // _BLOCK
    tiles = -(-blocks // fitting)
    inputs = -(-blocks // tiles) * _BLOCK
    return Tile(rows, inputs, columns, tiles == 1)


def _words_per_row(shape: LayerShape, geometry: Geometry, columns: int) -> dict[str, int]:
    """Words that one row of the smallest tile takes in each buffer."""
    blocks = blocks_of(columns * shape.item_bytes)
    words = {"out_ram": blocks * _BLOCK // geometry.word_bytes("out_ram")}
    if shape.inputs:
        words["act_ram"] = _BLOCK // geometry.gemm_rows
        words["acc_ram"] = columns // geometry.gemm_cols
    if shape.aggregated:
        words["sum_ram"] = columns // geometry.lanes
    return words


def _largest_inputs(geometry: Geometry) -> int:
    return isa().operation("matmul").field("k_words").largest * geometry.gemm_rows


def _check(name: str, memory: str, need: int, has: int) -> None:
    if need > has:
        raise DesignTooSmallError(
            f"layer '{name}' needs {counted(need, 'word')} in each of the {SLOTS} slots of {memory}, which hold {has}",
            f"{memory.replace('_ram', '_words')} of at least {SLOTS * need}",
            "use a design with a larger buffer",
        )
