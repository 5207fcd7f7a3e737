# SPDX-License-Identifier: Apache-2.0
"""What whole programs take beside the cost functions, from programs of near designs."""

import pytest

from hetfab.overlay.design import Design
from hetfab.overlay.search.corrections import Corrections
from hetfab.overlay.search.hardware import Array
from tests.search_cases import small_space

SPACE = small_space()


def design(rows: int, words: int = 1024) -> Design:
    return SPACE.design(Array(rows, 8), Array(8, 8), words, words)


def test_nothing_known_changes_nothing() -> None:
    assert Corrections().ratio(design(4), "w") == 1.0


def test_the_ratio_is_that_of_the_nearest_programs() -> None:
    found = Corrections()
    found.note(design(4), "w", 1.5)
    found.note(design(32), "w", 0.75)
    ratios = [found.ratio(design(rows), "w") for rows in (4, 8, 16, 32)]
    assert ratios == sorted(ratios, reverse=True) and 0.75 < ratios[-1] < 0.9 and 1.3 < ratios[0] < 1.5
    assert found.ratio(design(4), "w") > found.ratio(design(4, 2048), "w") > found.ratio(design(8), "w")


def test_other_widths_on_the_same_design_count_less() -> None:
    found = Corrections()
    found.note(design(4), "narrow", 2.0)
    found.note(design(4), "wide", 1.0)
    assert found.ratio(design(4), "narrow") > found.ratio(design(4), "others") > found.ratio(design(4), "wide")
    assert found.ratio(design(4), "others") == pytest.approx(2.0**0.5, rel=0.05)


def test_widths_bring_their_ratio_to_other_designs() -> None:
    """One program with narrow widths says more of them than many with others."""
    found = Corrections()
    for rows in (4, 8, 16):
        found.note(design(rows), "wide", 1.0)
    found.note(design(4), "narrow", 0.75)
    assert found.ratio(design(8), "narrow") == pytest.approx(0.75, rel=0.05)


def test_what_a_design_takes_more_is_told_apart_from_what_widths_take_more() -> None:
    found = Corrections()
    for rows, share in ((4, 1.0), (32, 1.3)):
        for widths, factor in (("narrow", 0.8), ("wide", 1.1)):
            if (rows, widths) != (32, "narrow"):
                found.note(design(rows), widths, share * factor)
    assert found.ratio(design(32), "narrow") == pytest.approx(1.3 * 0.8, rel=0.01)
    assert found.ratio(design(32), "narrow") > found.ratio(design(4), "narrow")
