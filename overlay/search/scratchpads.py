# SPDX-License-Identifier: Apache-2.0
"""Which of AGG's scratchpads a search looks at: those with which the models' programs are faster than with less.

Each takes a program of each model on the reference design. Where the deepest scratchpad is no faster than the
shallowest, those between are not asked for.
"""

from collections.abc import Callable, Mapping, Sequence

from hetfab.overlay.search.hardware import Scratchpad

#: Programs of which none gains more than this count as equally fast.
_EQUAL = 0.005

#: Milliseconds of each model's program with each of several scratchpads.
Timed = Mapping[Scratchpad, Sequence[float]]


def worthwhile(
    candidates: Sequence[Scratchpad], base: Scratchpad, timed: Callable[[Sequence[Scratchpad]], Timed]
) -> list[Scratchpad]:
    """The base's, the shallowest of each number of groups in a word that is faster than fewer, and faster deeper ones.

    Args:
        candidates: Scratchpads to look at.
        base: Of the reference design, which always stays.
        timed: Times programs.

    Returns:
        Ascending; none of no candidates.
    """
    lines = [
        sorted(each for each in candidates if each.word_beats == beats)
        for beats in sorted({each.word_beats for each in candidates})
    ]
    ends = timed(list(dict.fromkeys(each for line in lines for each in (line[0], line[-1]))))
    kept = {base} if lines else set[Scratchpad]()
    narrower: list[Scratchpad] = []
    for line in lines:
        first, last = line[0], line[-1]
        if narrower and not (_faster(ends[first], ends[narrower[0]]) or _faster(ends[last], ends[narrower[-1]])):
            continue
        narrower = line
        kept |= set(_deeper(line, timed(line)) if _faster(ends[last], ends[first]) else [first])
    return sorted(kept)


def _deeper(line: Sequence[Scratchpad], times: Timed) -> list[Scratchpad]:
    """The shallowest, and each that is faster than all kept before."""
    kept = [line[0]]
    for each in line[1:]:
        if _faster(times[each], times[kept[-1]]):
            kept.append(each)
    return kept


def _faster(one: Sequence[float], other: Sequence[float]) -> bool:
    """Whether a model gains."""
    return any(mine < (1 - _EQUAL) * its for mine, its in zip(one, other, strict=True))
