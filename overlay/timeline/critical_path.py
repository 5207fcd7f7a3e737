# SPDX-License-Identifier: Apache-2.0
"""The critical path: the chain of events, each set off by the one before, that ends with the run. Modelled."""

import enum
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from hetfab.overlay.timeline.simulate import Reason, Timeline


class Spent(enum.Enum):
    """What the cycles of a link are spent on."""

    RUN = "run"
    DRAM = "dram"
    FETCH = "fetch"
    ISSUE = "issue"
    TOKEN = "token"


@dataclass(frozen=True)
class Link:
    """A piece of the path: what an instruction spends cycles on."""

    spent: Spent
    instruction: int
    cycles: float


class _Event(enum.Enum):
    QUEUED = enum.auto()
    ISSUED = enum.auto()
    START = enum.auto()
    END = enum.auto()


#: The event before another, its instruction (-1: the start register's write), and what the time between was spent on.
_Cause: TypeAlias = tuple[_Event, int, list[Link]]


def critical_path(timeline: Timeline) -> list[Link]:
    """The path from the start register's write to the last token; its cycles add up to the total."""
    return list(_backwards(timeline))[::-1] if len(timeline.ends) else []


def _backwards(timeline: Timeline) -> Iterator[Link]:
    event, index = _Event.END, int(np.argmax(timeline.ends))
    yield Link(Spent.TOKEN, index, timeline.machine.token_cycles)
    previous = _previous_of_engine(timeline)
    while index >= 0:
        match event:
            case _Event.END:
                event, index, links = _cause_of_end(timeline, index)
            case _Event.START:
                event, index, links = _cause_of_start(timeline, index, previous)
            case _Event.ISSUED:
                event, index, links = _cause_of_issue(timeline, index)
            case _Event.QUEUED:
                event, index, links = _cause_of_queueing(timeline, index)
        yield from (link for link in links if link.cycles)


def _previous_of_engine(timeline: Timeline) -> list[int]:
    last: dict[int, int] = {}
    previous = []
    for index, engine in enumerate(timeline.engines.tolist()):
        previous.append(last.get(engine, -1))
        last[engine] = index
    return previous


def _cause_of_end(timeline: Timeline, index: int) -> _Cause:
    if not timeline.controller_bound[index]:
        whole = float(timeline.ends[index] - timeline.starts[index])
        stall = max(whole - float(timeline.busy[index]), 0.0)  # As ``Timeline.dram_stalls``.
        return _Event.START, index, [Link(Spent.DRAM, index, stall), Link(Spent.RUN, index, whole - stall)]
    links = [Link(Spent.DRAM, index, float(timeline.ends[index] - timeline.controller[index]))]
    while True:
        before = float(timeline.controller[index - 1]) if index else 0.0
        begin = max(before, float(timeline.queued[index])) if timeline.bytes[index] else before
        links.append(Link(Spent.DRAM, index, float(timeline.controller[index]) - begin))
        if timeline.bytes[index] and begin == timeline.queued[index]:
            return _Event.QUEUED, index, links
        index -= 1


def _cause_of_start(timeline: Timeline, index: int, previous: list[int]) -> _Cause:
    arrival = timeline.issued[index] + timeline.machine.issue_cycles
    if timeline.starts[index] > arrival:
        return _Event.END, previous[index], []
    return _Event.ISSUED, index, [Link(Spent.ISSUE, index, timeline.machine.issue_cycles)]


def _cause_of_issue(timeline: Timeline, index: int) -> _Cause:
    holder = int(timeline.holders[index])
    match Reason(int(timeline.reasons[index])):
        case Reason.FETCH | Reason.QUEUE:
            return _Event.QUEUED, index, []
        case Reason.SEMAPHORE | Reason.CREDIT:
            return _Event.END, holder, [Link(Spent.TOKEN, holder, timeline.machine.token_cycles)]
        case Reason.PASS:
            return _Event.ISSUED, holder, [Link(Spent.ISSUE, index, timeline.machine.pass_cycles)]


def _cause_of_queueing(timeline: Timeline, index: int) -> _Cause:
    room_maker = int(timeline.room_makers[index])
    if room_maker >= 0:
        return _Event.ISSUED, room_maker, []
    before = float(timeline.queued[index - 1]) if index else 0.0
    return _Event.QUEUED, index - 1, [Link(Spent.FETCH, index, float(timeline.queued[index]) - before)]
