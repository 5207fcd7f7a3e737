# SPDX-License-Identifier: Apache-2.0
"""Chooses how many output channels the stages of an accelerator sum at once, so that its board holds them all.

Layers run one after the other, so what counts is the sum of the stages' times. The slowest stage grows first, by
whichever kind of sums shortens it, until nothing fits or nothing is shortened.
"""

import heapq
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import fields, replace

from hetfab.overlay.board import Board
from hetfab.overlay.costs.elements import Form
from hetfab.overlay.costs.resources import CROWDED_SHARE, Resources, design_resources, stage_resources, total
from hetfab.overlay.dense_stages import Stage
from hetfab.overlay.design import Geometry
from hetfab.overlay.layouts import padded

_SMALLEST_COLUMNS = 2


def sized(stages: Sequence[Stage], geometry: Geometry, form: Form, board: Board) -> tuple[Stage, ...]:
    """The stages with their outputs split between DSPs and LUTs, and the columns of both.

    Args:
        stages: In whatever sizes.
        geometry: Of the accelerator, without its stages.
        form: How the elements are written.
        board: What holds it.

    Returns:
        The stages; the smallest that there are where the board cannot hold them.
    """
    chosen = [_smallest(stage) for stage in stages]
    used = total(design_resources(geometry, form, board, chosen))
    waiting = [(-stage.multiply_cycles, number) for number, stage in enumerate(chosen)]
    heapq.heapify(waiting)
    while waiting:
        _, number = heapq.heappop(waiting)
        before = chosen[number]
        own = stage_resources(before, form)
        for larger in _larger(before):
            after = used + stage_resources(larger, form) + _negative(own)
            if _fits(after, board):
                chosen[number], used = larger, after
                heapq.heappush(waiting, (-larger.multiply_cycles, number))
                break
    return tuple(chosen)


def _smallest(stage: Stage) -> Stage:
    """All outputs on DSPs, two at once: the fewest LUTs."""
    return replace(stage, on_dsps=stage.outputs, dsp_columns=_SMALLEST_COLUMNS, lut_columns=_SMALLEST_COLUMNS)


def _larger(stage: Stage) -> Iterator[Stage]:
    """Stages with more columns of either kind that are faster, in the order in which they are tried."""
    outputs = padded(stage.outputs, _SMALLEST_COLUMNS)
    if stage.on_dsps == stage.outputs:
        yield from _faster(stage, split(stage))
    for on_dsps, on_luts in ((2, 1), (1, 2), (2, 2)):
        columns = min(stage.dsp_columns * on_dsps, outputs), min(stage.lut_columns * on_luts, outputs)
        wider = replace(stage, dsp_columns=columns[0], lut_columns=columns[1])
        if stage.on_dsps == stage.outputs:
            yield from _faster(stage, wider)
        yield from _faster(stage, split(wider))


def _faster(stage: Stage, other: Stage) -> Iterator[Stage]:
    if other.multiply_cycles < stage.multiply_cycles:
        yield other


def split(stage: Stage) -> Stage:
    """The stage with the split of its outputs that takes the fewest cycles; of equal ones the most on LUTs."""
    steps = itertools.chain(range(0, stage.outputs, stage.dsp_columns), (stage.outputs,))
    return min((replace(stage, on_dsps=count) for count in steps), key=lambda each: each.multiply_cycles)


def _negative(resources: Resources) -> Resources:
    return Resources(*(-getattr(resources, field.name) for field in fields(resources)))


def _fits(need: Resources, board: Board) -> bool:
    there = board.resources
    return all(getattr(need, name) <= CROWDED_SHARE * there[name] for name in ("lut", "ff", "dsp", "bram36"))
