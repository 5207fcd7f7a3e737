# SPDX-License-Identifier: Apache-2.0
"""Streams as lists of 128-bit integers, the inverse of ``hetfab.overlay.isa.words.pack``."""

import numpy as np
import numpy.typing as npt


def unpack(array: npt.NDArray[np.uint64]) -> list[int]:
    """The 128-bit instructions of halves, uint64 ``[n, 2]``, low half first."""
    return [low | high << 64 for low, high in array.tolist()]
