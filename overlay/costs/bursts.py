# SPDX-License-Identifier: Apache-2.0
"""Number of AXI bursts that a copy takes: the same cuts as the kernels' burst cursor and the port's adapter."""

from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from hetfab.overlay.isa.spec import isa

Array: TypeAlias = npt.NDArray[Any]

BEAT_BYTES = isa().size("beat_bytes")
BURST_BEATS = isa().size("burst_beats")
#: Bursts that a kernel requests ahead of its reads.
BURSTS_AHEAD = isa().size("bursts_ahead")
#: Rows that AGG requests ahead at most, and beats of them: half of what its feature port keeps outstanding.
ROWS_AHEAD = isa().size("outstanding_rows") // 2
ROW_BEATS_AHEAD = BURSTS_AHEAD * BURST_BEATS
_PAGE_BEATS = isa().size("page_bytes") // BEAT_BYTES
_BLOCK_BEATS = isa().block_bytes // BEAT_BYTES
_BURST_SHIFT = BURST_BEATS.bit_length() - 1


def rows_ahead(groups: Array, *, most: int = ROWS_AHEAD, beats: int = ROW_BEATS_AHEAD) -> Array:
    """Feature rows that AGG requests ahead of its sums, as ``rows_ahead`` of ``agg.hpp``.

    Args:
        groups: Beats of a row.
        most: Largest number of rows.
        beats: Largest number of beats, unless one row has more.
    """
    return np.asarray(np.clip(beats // np.maximum(groups, 1), 1, most))


def aligned_bursts(first_beat: Array, beats: Array) -> Array:
    """Bursts of a run that is cut at multiples of 16 beats; a run of no beats has none.

    Args:
        first_beat: Address of the first beat, in beats.
        beats: Length.
    """
    return np.where(beats > 0, (first_beat % BURST_BEATS + beats + BURST_BEATS - 1) // BURST_BEATS, 0)


def bursts_of_run(first_beat: int, beats: int) -> int:
    """The same of one run."""
    return (first_beat % BURST_BEATS + beats + BURST_BEATS - 1) // BURST_BEATS if beats > 0 else 0


def bursts_of_runs(first_beat: int, runs: int, beats: int, distance: int) -> int:
    """Bursts of equal runs so many beats apart; each is cut as the 16th after it."""
    alike = ((runs + BURST_BEATS - 1 - i, first_beat + i * distance) for i in range(min(runs, BURST_BEATS)))
    return sum(count // BURST_BEATS * bursts_of_run(first, beats) for count, first in alike)


def row_bursts(address: Array, rows: Array, row_beats: Array, stride_blocks: Array) -> Array:
    """Bursts of rows a stride of whole blocks apart.

    Two blocks make a burst, so rows have at most two alignments, that of the first row and that of the second.

    Args:
        address: Byte address of the first row.
        rows: Number of rows.
        row_beats: Length of a row in beats.
        stride_blocks: Distance of two rows in blocks.
    """
    first = address // BEAT_BYTES
    second = first + stride_blocks * _BLOCK_BEATS
    odd_rows, even_rows = (rows + 1) // 2, rows // 2
    return np.asarray(odd_rows * aligned_bursts(first, row_beats) + even_rows * aligned_bursts(second, row_beats))


def run_bursts(address: Array, rows: Array, stride_blocks: Array, columns: Array, fields: Mapping[str, Array]) -> Array:
    """Bursts of rows of runs: each run is cut at multiples of 16 beats.

    Args:
        address: Byte address of the first run.
        rows: Number of rows.
        stride_blocks: Distance of two rows in blocks.
        columns: Runs of a row.
        fields: run_stride and run_beats, distance and length of a row's runs in beats.
    """
    first = address // BEAT_BYTES
    bursts = np.zeros(len(first), np.int64)
    for row in range(2):
        rows_alike = (rows + 1 - row) // 2
        for column in range(BURST_BEATS):
            # Runs 16 apart have the same place among the multiples, and rows 2 apart.
            place = first + row * stride_blocks * _BLOCK_BEATS + column * fields["run_stride"]
            runs_alike = (columns + BURST_BEATS - 1 - column) // BURST_BEATS
            bursts += rows_alike * runs_alike * aligned_bursts(place, fields["run_beats"])
    return bursts


def request_bursts(first_beat: Array, beats: int) -> Array:
    """Bursts of single requests: the adapter cuts at 16 beats from the request's start and at 4 KiB.

    Args:
        first_beat: Address of each request, in beats.
        beats: Length of each request, at most a page.
    """
    # Both are powers of two: masks and shifts take a fraction of a division's time.
    before = np.minimum(_PAGE_BEATS - (first_beat & _PAGE_BEATS - 1), beats)
    pieces = before + (BURST_BEATS - 1) >> _BURST_SHIFT
    return np.asarray(pieces + (beats + (BURST_BEATS - 1) - before >> _BURST_SHIFT))
