# SPDX-License-Identifier: Apache-2.0
"""Vectors of DISPATCH: every engine signals and waits for semaphores of each place in an instruction."""

from hetfab.driver.selftest.draft import Draft
from hetfab.overlay.isa.spec import isa

#: A wait behind its signal, which comes too early where it is not waited for, and several signals ahead of their waits.
_TURNS = ("signal", "wait", "signal", "signal", "wait", "wait")


def sync(draft: Draft) -> None:
    """The engine of the mode signals to another one, by the first or the second place, or by both."""
    engine, other, place = draft.flag("engine"), draft.flag("other"), draft.flag("place")
    places = [place] if place < 2 else [0, 1]
    for name in _TURNS:
        fields = {f"{name}{number}": 1 + number for number in places}
        draft.issue("sync", engine=engine if name == "signal" else other, **fields)


def sync_modes(engines: tuple[str, ...]) -> list[dict[str, int]]:
    """Each engine of a design signals to the next one and to one half a turn away, by each place and by both.

    So every engine waits for two others. DISPATCH serves the second one in the turn in which it issues the signaller's
    instruction: a wait that is not kept comes before its signal.
    """
    ids = [isa().engine(name).id for name in engines]
    distances = sorted({1 % len(ids), len(ids) // 2} - {0})
    return [
        {"engine": engine, "other": ids[(number + distance) % len(ids)], "place": place}
        for number, engine in enumerate(ids)
        for distance in distances
        for place in (0, 1, 2)
    ]
