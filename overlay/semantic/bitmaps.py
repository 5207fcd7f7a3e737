# SPDX-License-Identifier: Apache-2.0
"""Which rows of a graph are dense, so that the layout 'bitmaps' has them, and how much room they take."""

from typing import Any

import numpy as np
import numpy.typing as npt

from hetfab.overlay.isa.spec import isa

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
