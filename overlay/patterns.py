# SPDX-License-Identifier: Apache-2.0
"""Edge sets that follow from counts alone: fusions, means and attention among the parts of a stack. Only numpy."""

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from hetfab.overlay.program import EdgePattern

IntArray: TypeAlias = npt.NDArray[np.int64]


def pattern_edges(pattern: EdgePattern, starts: Sequence[int]) -> tuple[IntArray, IntArray, IntArray]:
    """The edges of a pattern, ordered by destination.

    Args:
        pattern: Not ``NONE``.
        starts: First row of each part, and behind them the number of rows; but of ``WITHIN`` parts have equal rows.

    Returns:
        ``indptr`` [destinations + 1], sources and types [edges]; the type is the number of the source's part.
    """
    first = np.asarray(starts[:-1], np.int64)
    sizes = np.asarray(starts[1:], np.int64) - first
    parts, rows = len(sizes), int(sizes.max(initial=0))
    if pattern is EdgePattern.WITHIN:
        indptr = np.concatenate([[0], np.cumsum(sizes)])
        return indptr, np.arange(indptr[-1]), np.repeat(np.arange(parts), sizes)
    assert bool((sizes == rows).all())
    across = (np.arange(rows)[:, None] + first).reshape(-1)
    copies = 1 if pattern is EdgePattern.ACROSS else parts
    indptr = np.arange(copies * rows + 1) * parts
    return indptr, np.tile(across, copies), np.tile(np.arange(parts), copies * rows)


def pattern_rows(pattern: EdgePattern, starts: Sequence[int], rows: IntArray) -> tuple[IntArray, IntArray, IntArray]:
    """The edges of a pattern into some destinations, as ``pattern_edges`` gives those into all of them.

    Args:
        pattern: Not ``NONE``.
        starts: As for ``pattern_edges``.
        rows: Destinations, int64 [n].

    Returns:
        ``indptr`` [n + 1], sources and types [edges].
    """
    first = np.asarray(starts[:-1], np.int64)
    sizes = np.asarray(starts[1:], np.int64) - first
    if pattern is EdgePattern.WITHIN:
        indptr = np.concatenate([[0], np.cumsum(sizes[rows])])
        steps = np.arange(indptr[-1]) - np.repeat(indptr[:-1] - first[rows], sizes[rows])
        return indptr, steps, np.repeat(rows, sizes[rows])
    parts, nodes = len(sizes), rows % max(int(sizes.max(initial=0)), 1)
    indptr = np.arange(len(rows) + 1) * parts
    return indptr, (nodes[:, None] + first).reshape(-1), np.tile(np.arange(parts), len(rows))
