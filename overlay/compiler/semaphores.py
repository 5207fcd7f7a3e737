# SPDX-License-Identifier: Apache-2.0
"""The semaphores of compiled programs: a FULL and a FREE for each ring of buffers, and the order of stored tensors."""

import enum


class Semaphore(enum.IntEnum):
    """Semaphores of compiled programs; each has one signalling and one waiting engine."""

    ACT_FULL = 1
    ACT_FREE = 2
    WGT_FREE = 3
    PAR_FREE = 4
    ACC_FULL = 5
    ACC_FREE = 6
    SUM_FULL = 7
    SUM_FREE = 8
    OUT_FULL = 9
    OUT_FREE = 10
    STORED_FOR_LOAD = 11
    STORED_FOR_AGG = 12
