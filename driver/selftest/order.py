# SPDX-License-Identifier: Apache-2.0
"""Vectors of DISPATCH: every engine signals and waits for semaphores of each place in an instruction."""

from hetfab.driver.selftest.draft import Draft
from hetfab.overlay.isa.spec import isa

#: So many signals before the first wait.
_REPEATS = 3


def sync(draft: Draft) -> None:
    """The engine of the mode signals to the next one of the design, by the first or the second place, or by both."""
    engine, place = draft.flag("engine"), draft.flag("place")
    present = [isa().engine(name).id for name in draft.geometry.engines]
    other = present[(present.index(engine) + 1) % len(present)]
    places = [place] if place < 2 else [0, 1]
    for name, of in (("signal", engine), ("wait", other)):
        fields = {f"{name}{number}": 1 + number for number in places}
        for _ in range(_REPEATS):
            draft.issue("sync", engine=of, **fields)


def sync_modes(engines: tuple[str, ...]) -> list[dict[str, int]]:
    """Each engine of a design with each place of a semaphore, and with both."""
    return [{"engine": isa().engine(name).id, "place": place} for name in engines for place in (0, 1, 2)]
