# SPDX-License-Identifier: Apache-2.0
"""Tensors as bytes in DRAM, in the layouts of docs/isa.md. Only numpy is needed, so that a board can write them."""

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from hetfab.overlay.isa.arithmetic import Q8_BITS, reciprocals
from hetfab.overlay.isa.spec import isa

Bytes: TypeAlias = npt.NDArray[np.uint8]
IntArray: TypeAlias = npt.NDArray[np.int64]
#: Signed integers of any width; 8 bits hold all weights.
WeightArray: TypeAlias = npt.NDArray[np.signedinteger[Any]]

_BLOCK = isa().block_bytes
#: Input channels whose bits make a word of GEMM-L's weights.
PLANE_CHANNELS = 32
_SMALL_ID_LIMIT = 1 << 16
#: Bytes of an id that holds a weight or a type, and the lowest bit of that.
MARKED_ID_BYTES = 4
_MARK_PLACE = 24
#: Vertices that such an id can name.
MARKED_ROWS = 1 << _MARK_PLACE
#: What rounds to more than the largest weight.
_WEIGHT_LIMIT = 127.5


def padded(count: int, unit: int) -> int:
    """The smallest multiple of ``unit`` that is at least ``count``."""
    return -(-count // unit) * unit


def slot_beats(groups: int, word_beats: int) -> int:
    """Beats from one row of AGG's scratchpad to the next: whole words, or within one a power of two.

    Args:
        groups: Beats of a row, at least 1.
        word_beats: Beats of a word, the design's ``agg_word_beats``.
    """
    return padded(groups, word_beats) if groups >= word_beats else 1 << (groups - 1).bit_length()


def blocks_of(count: int) -> int:
    """Blocks that hold this many bytes."""
    return -(-count // _BLOCK)


def stored_bits(bits: int, packed: bool) -> int:
    """Bits that an integer of this width takes in DRAM: half a byte when packed, else whole bytes."""
    return 4 if packed else padded(bits, 8)


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


def activation_rows(rows: int, row_channels: int, signed: bool) -> npt.NDArray[Any]:
    """Zeros for a tensor in the layout 'activations' before it is packed, int8 or uint8 ``[stored rows, channels]``.

    Args:
        rows: Rows with content.
        row_channels: Channels of a row with those that pad it.
        signed: Whether its integers are signed.
    """
    return np.zeros((stored_rows(rows), row_channels), np.int8 if signed else np.uint8)


def packed_rows(values: npt.NDArray[Any]) -> Bytes:
    """Rows of values of at most 4 bits as bytes: two channels each, the even one in the low nibble.

    Args:
        values: Integers ``[rows, channels]`` with an even number of channels.
    """
    nibbles = values.astype(np.uint8) & 15
    return np.asarray(nibbles[:, 0::2] | nibbles[:, 1::2] << 4, np.uint8)


def weight_words(weight: WeightArray, columns: int, inputs: int, *, packed: bool) -> Bytes:
    """Weights ``[K, N]`` in the layout 'weights': column group, step of 4 bytes, column.

    Args:
        weight: 8-bit integers, or of 4 bits when ``packed``.
        columns: Columns of GEMM-D's array, the width of a group.
        inputs: Input channels of the tile, whole blocks of them.
        packed: Whether two input channels share a byte.
    """
    by_column = np.zeros((padded(weight.shape[1], columns), inputs), np.int8)
    by_column[: weight.shape[1], : weight.shape[0]] = weight.T
    content = packed_rows(by_column) if packed else by_column.view(np.uint8)
    steps = content.reshape(-1, columns, content.shape[1] // 4, 4).transpose(0, 2, 1, 3)
    return np.ascontiguousarray(steps).reshape(-1)


def plane_words(weight: WeightArray, columns: int, inputs: int, planes: int, *, bipolar: bool) -> Bytes:
    """Weights ``[K, N]`` in the layout 'planes': column group, 32 input channels, bit, column.

    Args:
        weight: Integers of ``planes`` bits, or -1 and 1 when ``bipolar``.
        columns: Columns of GEMM-L's array, the width of a group.
        inputs: Input channels of the tile, a multiple of 32.
        planes: Bits of a weight.
        bipolar: Whether a bit means -1 or 1; channels beyond the weights are then 1.
    """
    by_column = np.full((padded(weight.shape[1], columns), inputs), int(bipolar), np.int8)
    by_column[: weight.shape[1], : weight.shape[0]] = weight.T
    stored = (by_column > 0).view(np.uint8) if bipolar else by_column.view(np.uint8)
    bits = [np.packbits(stored >> plane & 1, axis=-1, bitorder="little") for plane in range(planes - 1, -1, -1)]
    words = np.stack(bits).reshape(planes, -1, columns, inputs // PLANE_CHANNELS, PLANE_CHANNELS // 8)
    return np.ascontiguousarray(words.transpose(1, 3, 0, 2, 4)).reshape(-1)


def parameter_records(bias: IntArray, multiplier: IntArray, lanes: int) -> Bytes:
    """Bias and multiplier ``[N]`` in the layout 'parameters', in whole groups of ``lanes`` channels."""
    records = np.zeros(padded(len(bias), lanes), isa().record("parameter").dtype)
    records["bias"][: len(bias)] = bias
    records["multiplier"][: len(multiplier)] = multiplier
    return records.view(np.uint8)


def gain_records(gain: IntArray, offset: IntArray, lanes: int) -> Bytes:
    """Gain and offset ``[N]`` of a normalization, in whole groups of ``lanes`` channels."""
    records = np.zeros(padded(len(gain), lanes), isa().record("gain").dtype)
    records["offset"][: len(offset)] = offset
    records["gain"][: len(gain)] = gain
    return records.view(np.uint8)


def spread_record(epsilon: int, channels: int, lanes: int) -> Bytes:
    """What a normalization adds to the spread of a row, and its channels (0: L2), as a word of ``par_ram``."""
    records = np.zeros(lanes, isa().record("spread").dtype)
    records["epsilon_low"][0], records["epsilon_high"][0] = epsilon & 0xFFFF_FFFF, epsilon >> 32
    records["channels"][0] = channels
    return records.view(np.uint8)


def score_row_bytes(heads: int) -> int:
    """Bytes of a row of scores, whole beats."""
    return padded(2 * heads, isa().size("beat_bytes"))


def score_rows(scores: IntArray) -> Bytes:
    """Scores ``[rows, heads]`` in the layout 'scores', row behind row."""
    rows = np.zeros((len(scores), score_row_bytes(scores.shape[1]) // 2), "<i2")
    rows[:, : scores.shape[1]] = scores
    return rows.view(np.uint8).reshape(-1)


def depthwise_words(weight: IntArray, bias: IntArray, multiplier: IntArray, *, packed: bool) -> Bytes:
    """Weights, bias and multiplier in the layout 'depthwise'.

    Args:
        weight: [3, 3, channels], of 8-bit integers, or of 4 bits when ``packed``; channels fill whole words.
        bias: [channels].
        multiplier: [channels].
        packed: Whether a word has 16 channels, else 8.
    """
    channels, own = weight.shape[2], 16 if packed else 8
    taps = weight.reshape(-1, channels)
    content = packed_rows(taps) if packed else taps.astype(np.uint8)
    by_word = content.reshape(len(taps), channels // own, -1).transpose(1, 0, 2).reshape(channels // own, -1)
    records = parameter_records(bias, multiplier, own).reshape(channels // own, -1)
    return np.concatenate([by_word, records], axis=1).reshape(-1)


def destination_records(indptr: npt.NDArray[np.integer[Any]]) -> Bytes:
    """The layout 'destinations' of edges in CSR form; ``indptr`` is ``[destinations + 1]``."""
    return _records(indptr, *reciprocals(np.diff(indptr).astype(np.int64)))


def scaled_records(indptr: npt.NDArray[np.integer[Any]], factors: IntArray) -> Bytes:
    """The layout 'destinations' of edges whose sums are multiplied: a mean by ``256 * f / 2^0`` is the sum times f.

    Args:
        indptr: ``[destinations + 1]``.
        factors: Of each destination, 0 to 511, so that the product fits the reciprocal's 17 bits.
    """
    return _records(indptr, factors << Q8_BITS, np.zeros_like(factors))


def weighted_records(indptr: npt.NDArray[np.integer[Any]], fractions: IntArray) -> Bytes:
    """The layout 'destinations' of edges whose integer weights have ``fractions`` (0 to 16) fraction bits, [N]."""
    return _records(indptr, 1 << 16 - fractions, np.zeros_like(fractions))


def edge_weights(
    indptr: npt.NDArray[np.integer[Any]], weights: npt.NDArray[np.floating[Any]]
) -> tuple[IntArray, IntArray]:
    """Weights of edges as int8, with as many fraction bits as the largest weight of their destination leaves room for.

    Args:
        indptr: ``[destinations + 1]``.
        weights: Of each edge, at most 1 in magnitude.

    Returns:
        The integers, and the fraction bits of each destination, 0 to 16.
    """
    wide, degrees = weights.astype(np.float64), np.diff(indptr)
    largest = np.zeros(len(degrees))
    np.maximum.at(largest, np.repeat(np.arange(len(degrees)), degrees), np.abs(wide))
    fits = largest[:, None] * np.exp2(np.arange(17)) < _WEIGHT_LIMIT
    fractions = fits.sum(axis=1) - 1
    return np.floor(np.ldexp(wide, np.repeat(fractions, degrees)) + 0.5).astype(np.int64), fractions


def _records(indptr: npt.NDArray[np.integer[Any]], reciprocal: IntArray, exponent: IntArray) -> Bytes:
    degrees = np.diff(indptr)
    records = np.zeros(len(degrees), isa().record("destination").dtype)
    records["first"], records["degree"] = indptr[:-1], degrees
    records["reciprocal"], records["exponent"] = reciprocal, exponent
    return records.view(np.uint8)


def id_bytes(sources: int) -> int:
    """Bytes of an id that names one of this many source vertices."""
    return 2 if sources <= _SMALL_ID_LIMIT else 4


def marked_ids(ids: npt.NDArray[np.integer[Any]], marks: IntArray) -> Bytes:
    """Source vertices of edges below 2^24 with an int8 weight or a type of 8 bits each, in the layout 'ids'."""
    return (ids.astype(np.int64) | (marks & 255) << _MARK_PLACE).astype("<u4").view(np.uint8)


def id_array(ids: npt.NDArray[np.integer[Any]], sources: int) -> Bytes:
    """Source vertices of edges in the layout 'ids'."""
    return ids.astype(f"<u{id_bytes(sources)}").view(np.uint8)
