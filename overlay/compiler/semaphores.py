# SPDX-License-Identifier: Apache-2.0
"""The semaphores of compiled programs: a FULL and a FREE for each ring of buffers, passes, stored tensors."""

import enum
from collections.abc import Iterable


class Semaphore(enum.IntEnum):
    """Semaphores of compiled programs; each has one signalling and one waiting engine."""

    ACT_D_FULL = 1
    ACT_D_FREE = 2
    ACT_L_FULL = 3
    ACT_L_FREE = 4
    PASS_ENDED = 5
    ACC_D_FULL = 6
    ACC_D_FREE = 7
    ACC_L_FULL = 8
    ACC_L_FREE = 9
    SUM_FULL = 10
    SUM_FREE = 11
    OUT_FULL = 12
    OUT_FREE = 13
    STORED_FOR_LOAD = 14
    STORED_FOR_AGG = 15
    PARAMETERS_LOADED = 16


#: The semaphore that says that a slot of a ring is free. All slots are free at the start, so bind leaves the first
#: waits out; weights and parameters are freed by ``PASS_ENDED``, pass by pass.
RING_FREE = {
    "act_d_ram": Semaphore.ACT_D_FREE,
    "act_l_ram": Semaphore.ACT_L_FREE,
    "acc_d_ram": Semaphore.ACC_D_FREE,
    "acc_l_ram": Semaphore.ACC_L_FREE,
    "sum_ram": Semaphore.SUM_FREE,
    "out_ram": Semaphore.OUT_FREE,
}


class Milestones:
    """Events of one engine that another waits for, such as tensors that are stored, numbered as they happen.

    Only those that somebody waits for are signalled, and nobody waits for one that an earlier wait implies: the n-th
    wait pairs with the n-th signal, so a signal too many would shift all that follow.
    """

    def __init__(self, needed: Iterable[int]) -> None:
        """Learns from the needs in program order, as numbers of events, which events to signal."""
        self._signalled: set[int] = set()
        highest = -1
        for number in needed:
            if number > highest:
                self._signalled.add(number)
                highest = number
        self._awaited = -1

    def signals(self, number: int) -> bool:
        """Whether this event is signalled."""
        return number in self._signalled

    def waits(self, number: int) -> bool:
        """Whether whoever needs this event now must wait, in the order of the needs."""
        if number <= self._awaited:
            return False
        self._awaited = number
        return True
