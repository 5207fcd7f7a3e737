# SPDX-License-Identifier: Apache-2.0
"""Dense rows of a graph as bitmaps, in the layout 'bitmaps': the golden form of what ``widen`` writes."""

from typing import Any

import numpy as np
import numpy.typing as npt

from hetfab.overlay.isa.spec import isa
from hetfab.overlay.semantic.adjacency import Adjacency

#: Bits of a word of a bitmap.
WORD_BITS = 64
#: Ids that take as much room as a word.
_IDS_PER_WORD = isa().size("beat_bytes") // 4


def words_of(columns: int) -> int:
    """Words of a bitmap of all columns."""
    return -(-columns // WORD_BITS)


def is_dense(degrees: npt.NDArray[Any], words: int) -> npt.NDArray[np.bool_]:
    """Rows whose ids take more room than ``words``, so that their bitmap fits in its place from a whole word on."""
    return np.asarray(degrees > _IDS_PER_WORD * words)


def bitmaps(graph: Adjacency) -> dict[int, npt.NDArray[np.uint8]]:
    """The bitmaps of a graph's dense rows.

    Returns:
        By the first byte of each in the array, uint8 [8 * words], column 0 in the lowest bit of the first byte.
    """
    words = words_of(graph.columns)
    found = {}
    for row in np.flatnonzero(is_dense(graph.out_degrees(), words)).tolist():
        bits = np.zeros(WORD_BITS * words, np.uint8)
        bits[graph.row(row)] = 1
        first = -(-int(graph.starts[row]) // _IDS_PER_WORD) * WORD_BITS // 8
        found[first] = np.packbits(bits, bitorder="little")
    return found
