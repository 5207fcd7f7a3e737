# SPDX-License-Identifier: Apache-2.0
"""Instructions as 128-bit integers and as arrays of 64-bit halves: packing, field positions, decoding."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hetfab.overlay.errors import FieldRangeError, StreamInvalidError
from hetfab.overlay.isa.codec import Segment
from hetfab.overlay.isa.spec import Operation, isa

_HALF_BITS = 64
_HALF = (1 << _HALF_BITS) - 1


@dataclass(frozen=True)
class Decoded:
    """An instruction taken apart.

    Attributes:
        operation: Its operation.
        fields: Value of each field of the header and of the operation.
    """

    operation: Operation
    fields: dict[str, int]


def pack(words: Sequence[int]) -> npt.NDArray[np.uint64]:
    """Little-endian halves of 128-bit instructions, low half first, uint64 ``[n, 2]``."""
    halves = [(word & _HALF, word >> _HALF_BITS) for word in words]
    return np.array(halves, dtype="<u8").reshape(len(words), 2)


@functools.cache
def field_slot(operation: str, field: str) -> tuple[int, int, int]:
    """Where a field stands in ``pack``'s array: half (0 or 1), shift, bits; header fields included."""
    candidates = (*isa().header, *isa().operation(operation).fields)
    entry = next(candidate for candidate in candidates if candidate.name == field)
    half, shift = divmod(entry.lsb, _HALF_BITS)
    return half, shift, entry.bits


def program_address(segment: Segment, offset: int) -> int:
    """The value of an address field in a program.

    Raises:
        FieldRangeError: The offset does not fit.
    """
    if not 0 <= offset < 1 << isa().offset_bits:
        raise FieldRangeError(
            f"offset {offset} in segment '{segment.name.lower()}'",
            f"0 to {(1 << isa().offset_bits) - 1} ({isa().offset_bits} bits)",
            "split the graph or the model: a segment holds at most 4 GiB",
        )
    return segment << isa().offset_bits | offset


def decode(word: int) -> Decoded:
    """Takes an instruction apart by the tables.

    Raises:
        StreamInvalidError: No operation has this engine and opcode.
    """
    header = {field.name: field.get(word) for field in isa().header}
    operation = isa().find(header["engine"], header["opcode"])
    if operation is None:
        raise StreamInvalidError(
            f"an instruction names engine {header['engine']}, opcode {header['opcode']}",
            "an engine and an opcode of docs/isa.md",
            "correct the program, or report this if hetfab compiled it",
        )
    return Decoded(operation, header | {field.name: field.get(word) for field in operation.fields})
