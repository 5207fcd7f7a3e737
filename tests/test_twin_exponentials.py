# SPDX-License-Identifier: Apache-2.0
"""Why exponentials of attention have 12 uniform bits: a twin range that AGG's 12-bit table can hold is never nearer."""

import numpy as np
import numpy.typing as npt
import pytest

from hetfab.overlay.isa.attention import EXPONENTIALS, LARGEST_WEIGHT, exponentials

Doubles = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
GAPS = np.exp(-np.arange(EXPONENTIALS) / 256)
#: Bits of a code, one of them the flag, and the shift of the large range, of which decoded integers fit the table.
TWINS = [(b, m) for b in range(3, 12) for m in range(1, 12) if ((1 << (b - 1)) - 1) << m <= LARGEST_WEIGHT]


def twin_table(bits: int, shift: int) -> Integers:
    """Decoded integers of each gap: the magnitude, shifted left where the flag is set; 0 has the largest."""
    most = (1 << (bits - 1)) - 1
    steps = GAPS * (most << shift)
    table: Integers = np.where(steps <= most, np.rint(steps), np.rint(steps / 2**shift) * 2**shift).astype(np.int64)
    return table


def decibels(table: Integers, logits: Doubles, rows: Doubles) -> float:
    """Signal to noise of weighted means, of logits and rows [destinations, edges]."""
    gaps = np.rint((logits.max(axis=1, keepdims=True) - logits) * 256).astype(np.int64)
    kept = np.append(table, 0)[np.minimum(gaps, EXPONENTIALS)].astype(np.float64)
    found, expected = ((w * rows).sum(axis=1) / w.sum(axis=1) for w in (kept, np.exp(-gaps / 256)))
    return float(10 * np.log10(np.square(expected).sum() / np.square(found - expected).sum()))


@pytest.mark.parametrize(("bits", "shift"), TWINS)
def test_no_entry_is_nearer_than_the_nearest_integer(bits: int, shift: int) -> None:
    table = twin_table(bits, shift)
    largest = int(table.max())
    assert largest == ((1 << (bits - 1)) - 1) << shift and set(table % (1 << shift)) != {0}
    error, least = (np.abs(each - GAPS * largest) for each in (table, np.rint(GAPS * largest)))
    assert (error >= least).all() and error.sum() > 1.01 * least.sum()


@pytest.mark.parametrize("degree", [4, 32, 197])
def test_no_weighted_mean_is_nearer(degree: int) -> None:
    random = np.random.default_rng(degree)
    logits, rows = random.normal(0, 2, (2000, degree)), random.normal(size=(2000, degree))
    ours = decibels(exponentials(), logits, rows)
    assert max(decibels(twin_table(*twin), logits, rows) for twin in TWINS) < ours
