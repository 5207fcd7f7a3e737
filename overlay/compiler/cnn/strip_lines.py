# SPDX-License-Identifier: Apache-2.0
"""The lines of a strip in a bank of a core's memory: their beats, and fields of instructions that may not hold them."""

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from hetfab.overlay.compiler.cnn.conv import Conv
from hetfab.overlay.compiler.cnn.cores import Core
from hetfab.overlay.isa.spec import isa

_BEAT = 8


@dataclass(frozen=True)
class Piece:
    """A part of a window whose weights and activations fit: lines and taps."""

    lines: tuple[int, int]
    taps: tuple[int, int]


class FieldNeed(NamedTuple):
    """A value that a layer needs in a field of an instruction, and the largest one that the field holds."""

    operation: str
    field: str
    value: int
    largest: int


def line_beats(core: Core, conv: Conv, piece: Piece, columns: int) -> int:
    """Beats that a line of a strip takes in a bank."""
    taps = piece.taps[1] - piece.taps[0]
    if conv.gathered:
        return columns * core.run_beats(conv, taps)
    return ((columns - 1) * conv.strides[1] + taps) * conv.source.pixel_beats


def gathered_beats(core: Core, conv: Conv, columns: int) -> int:
    """Beats of a line of samples that LOAD cuts the windows of a strip out of, at most; 0 of other tensors."""
    if not conv.gathered:
        return 0
    return -(-(_BEAT - 1 + (columns - 1) * conv.strides[1] * conv.source.channels) // _BEAT) + core.run_beats(
        conv, conv.taps
    )


def step_beats(core: Core, conv: Conv, piece: Piece, columns: int) -> int:
    """Beats from an output pixel's window to the next one's in a line of a strip; 0 where there is no next one."""
    if columns == 1:
        return 0
    if conv.gathered:
        return core.run_beats(conv, piece.taps[1] - piece.taps[0])
    return conv.strides[1] * conv.source.pixel_beats


def exceeded_field(core: Core, conv: Conv, piece: Piece, columns: int) -> FieldNeed | None:
    """The first field that does not hold what strips of some pixels need, None where all hold it."""
    return next((need for need in _needs(core, conv, piece, columns) if need.value > need.largest), None)


def _needs(core: Core, conv: Conv, piece: Piece, columns: int) -> Iterator[FieldNeed]:
    configure, multiply = "configure_lines", "matmul_planes_lines" if core.on_l else "matmul_lines"
    beats = line_beats(core, conv, piece, columns)
    if conv.gathered:
        configure = "configure_windows"
    else:
        yield _need(configure, "line_beats", beats)
        yield _need("load_lines", "left", _padding_beats(conv, piece, columns))
    yield _need(configure, "line_stride", conv.strides[0])
    yield _need(configure, "stride_blocks", conv.source.row_blocks)
    yield _need(multiply, "line_words", beats // core.line_unit)
    yield _need(multiply, "step_words", step_beats(core, conv, piece, columns) // core.line_unit)


def _padding_beats(conv: Conv, piece: Piece, columns: int) -> int:
    """Beats of padding to the left of a line of the first strips; a line of nothing else has none."""
    first, last = piece.taps
    reach = (columns - 1) * conv.strides[1] + last - first
    return min(max(conv.left - first, 0), reach - 1) * conv.source.pixel_beats


def _need(operation: str, field: str, value: int) -> FieldNeed:
    return FieldNeed(operation, field, value, _largest(operation, field))


@functools.cache
def _largest(operation: str, field: str) -> int:
    return isa().operation(operation).field(field).largest
