# SPDX-License-Identifier: Apache-2.0
"""Tensors as bytes in DRAM, in the layouts of docs/isa.md. Only numpy is needed, so that a board can write them."""

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from hetfab.overlay.isa.arithmetic import reciprocals
from hetfab.overlay.isa.spec import isa

Bytes: TypeAlias = npt.NDArray[np.uint8]
IntArray: TypeAlias = npt.NDArray[np.int64]

_BLOCK = isa().block_bytes
_SMALL_ID_LIMIT = 1 << 16


def padded(count: int, unit: int) -> int:
    """The smallest multiple of ``unit`` that is at least ``count``."""
    return -(-count // unit) * unit


def blocks_of(count: int) -> int:
    """Blocks that hold this many bytes."""
    return -(-count // _BLOCK)


def stored_rows(rows: int) -> int:
    """Rows that a tensor takes, at least one: DISPATCH refuses an address beyond the end of a segment."""
    return max(rows, 1)


def pack(pieces: list[Bytes]) -> tuple[Bytes, list[int]]:
    """Puts pieces one behind the other, each at a multiple of the block; the second value is their offsets.

    A piece takes at least one block: DISPATCH refuses the address of an empty array at the end of a segment.
    """
    offsets, size = [], 0
    for piece in pieces:
        offsets.append(size)
        size += max(padded(piece.size, _BLOCK), _BLOCK)
    content = np.zeros(size, np.uint8)
    for offset, piece in zip(offsets, pieces, strict=True):
        content[offset : offset + piece.size] = piece
    return content, offsets


def activation_rows(rows: int, row_bytes: int, signed: bool) -> npt.NDArray[Any]:
    """Zeros for a tensor in the layout 'activations', int8 or uint8 ``[stored rows, row_bytes]``."""
    return np.zeros((stored_rows(rows), row_bytes), np.int8 if signed else np.uint8)


def weight_tile(weight: IntArray, columns: int) -> Bytes:
    """Weights ``[K, N]`` in the layout 'weights': column group, input channel, column.

    Args:
        weight: 8-bit integers.
        columns: Columns of the array, the width of a group.
    """
    inputs, outputs = padded(weight.shape[0], _BLOCK), padded(weight.shape[1], columns)
    tile = np.zeros((inputs, outputs), np.int8)
    tile[: weight.shape[0], : weight.shape[1]] = weight
    by_group = tile.reshape(inputs, outputs // columns, columns).transpose(1, 0, 2)
    return np.ascontiguousarray(by_group).view(np.uint8).reshape(-1)


def parameter_records(bias: IntArray, multiplier: IntArray, lanes: int) -> Bytes:
    """Bias and multiplier ``[N]`` in the layout 'parameters', in whole groups of ``lanes`` channels."""
    records = np.zeros(padded(len(bias), lanes), isa().record("parameter").dtype)
    records["bias"][: len(bias)] = bias
    records["multiplier"][: len(multiplier)] = multiplier
    return records.view(np.uint8)


def destination_records(indptr: npt.NDArray[np.integer[Any]]) -> Bytes:
    """The layout 'destinations' of edges in CSR form; ``indptr`` is ``[destinations + 1]``."""
    degrees = np.diff(indptr).astype(np.int64)
    records = np.zeros(len(degrees), isa().record("destination").dtype)
    records["first"], records["degree"] = indptr[:-1], degrees
    records["reciprocal"], records["exponent"] = reciprocals(degrees)
    return records.view(np.uint8)


def id_bytes(sources: int) -> int:
    """Bytes of an id that names one of this many source vertices."""
    return 2 if sources <= _SMALL_ID_LIMIT else 4


def id_array(ids: npt.NDArray[np.integer[Any]], sources: int) -> Bytes:
    """Source vertices of edges in the layout 'ids'."""
    return ids.astype(f"<u{id_bytes(sources)}").view(np.uint8)
