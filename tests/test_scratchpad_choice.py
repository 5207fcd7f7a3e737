# SPDX-License-Identifier: Apache-2.0
"""Which scratchpads of AGG a search looks at: those with which a model gains, with no more programs than that takes."""

from collections.abc import Callable, Sequence

from hypothesis import given
from hypothesis import strategies as st

from hetfab.overlay.search.hardware import Scratchpad
from hetfab.overlay.search.scratchpads import worthwhile

DEPTHS = (2048, 4096, 8192, 16384)
ALL = [Scratchpad(beats, words) for beats in (1, 4, 8) for words in DEPTHS]
BASE = Scratchpad(1, 4096)


class Bench:
    """Times programs, and keeps what it was asked for."""

    def __init__(self, *models: Callable[[Scratchpad], float]) -> None:
        self._models = models
        self.asked: list[Scratchpad] = []

    def __call__(self, several: Sequence[Scratchpad]) -> dict[Scratchpad, list[float]]:
        self.asked += several
        return {each: [model(each) for model in self._models] for each in several}


def test_where_deeper_and_wider_ones_are_faster_all_are_looked_at() -> None:
    assert worthwhile(ALL, BASE, Bench(lambda each: 1e6 / each.words / each.word_beats)) == ALL


def test_where_depth_gains_nothing_the_shallowest_of_each_width_are_left_and_the_base() -> None:
    bench = Bench(lambda each: 9.0 / each.word_beats)
    assert worthwhile(ALL, BASE, bench) == [Scratchpad(1, 2048), BASE, Scratchpad(4, 2048), Scratchpad(8, 2048)]
    assert {each.words for each in bench.asked} == {DEPTHS[0], DEPTHS[-1]}


def test_words_that_gain_nothing_are_left_out() -> None:
    bench = Bench(lambda each: 9.0 / min(each.word_beats, 4) * (1 + 1 / each.words))
    assert {each.word_beats for each in worthwhile(ALL, BASE, bench)} == {1, 4}


def test_one_model_that_gains_is_enough() -> None:
    bench = Bench(lambda each: 5.0, lambda each: 1e6 / each.words)
    assert {each.words for each in worthwhile(ALL, BASE, bench)} == {*DEPTHS}


def test_a_depth_at_which_nothing_changes_is_left_out() -> None:
    bench = Bench(lambda each: 2.0 if each.words < 8192 else 1.0)
    assert worthwhile(ALL, BASE, bench) == [Scratchpad(1, 2048), BASE, Scratchpad(1, 8192)]


def test_without_candidates_nothing_is_timed() -> None:
    bench = Bench(lambda each: 1.0)
    assert worthwhile([], Scratchpad(1, 0), bench) == [] == bench.asked


@given(st.dictionaries(st.sampled_from(ALL), st.floats(1, 100), min_size=len(ALL)))
def test_what_is_kept_is_ascending_has_the_base_and_each_depth_gains(times: dict[Scratchpad, float]) -> None:
    found = worthwhile(ALL, BASE, Bench(times.__getitem__))
    assert found == sorted(found) and BASE in found and {*found} <= {*ALL}
    for beats in (1, 4, 8):
        kept = [times[each] for each in found if each.word_beats == beats and each != BASE]
        assert kept == sorted(kept, reverse=True)
