# SPDX-License-Identifier: Apache-2.0
"""Compares what the tools report with the tables that modelled figures come from.

Loops: interval and depth in ``overlay/isa/loops.json``. Resources: ``overlay/costs/resources.py``. A difference is a
result, not an error: it says which figure to correct.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from hetfab.hls.build.bitstream.reports import LoopReport, SynthesisReport
from hetfab.overlay.board import read_board
from hetfab.overlay.costs.elements import Form
from hetfab.overlay.costs.resources import design_resources, total
from hetfab.overlay.design import Design
from hetfab.overlay.isa.loops import Loop

RESOURCES = ("lut", "ff", "dsp", "bram36", "uram")


@dataclass(frozen=True)
class LoopDifference:
    """A loop whose schedule is not that of the table.

    Attributes:
        engine: Whose.
        loop: Its name in the table.
        ii: Interval in the table.
        found_ii: In the report; None where the loop is not pipelined or not there.
        depth: Depth in the table.
        found_depth: In the report.
        what: The difference in words.
    """

    engine: str
    loop: str
    ii: int
    found_ii: int | None
    depth: int
    found_depth: int | None
    what: str


@dataclass(frozen=True)
class ResourceDifference:
    """What one part takes of a resource: modelled and reported."""

    part: str
    resource: str
    modelled: float
    reported: float


def loop_differences(engine: str, report: SynthesisReport, table: Mapping[str, Loop]) -> list[LoopDifference]:
    """Loops of an engine whose interval or depth is not the table's, and loops of its own that are not reported."""
    found: list[LoopDifference] = []
    for name, loop in table.items():
        seen = [each for each in report.loops if _is(loop, each)]
        if not seen and name.startswith(f"{engine}_") and loop.label:
            found.append(_difference(engine, loop, None, "it is not in the report"))
        found += [_difference(engine, loop, each, what) for each in seen if (what := _what(loop, each))]
    return found


def resource_differences(design: Design, reports: Mapping[str, SynthesisReport]) -> list[ResourceDifference]:
    """Each engine's resources, as modelled and as Vitis HLS estimates them; memories are outside of both."""
    parts = design_resources(design.geometry, Form(design.elements), read_board(design.board), design.stages)
    return [
        ResourceDifference(engine, name, getattr(parts[engine], name), report.resources[name])
        for engine, report in reports.items()
        for name in RESOURCES
    ]


def placed_differences(design: Design, reported: Mapping[str, float]) -> list[ResourceDifference]:
    """The whole overlay's resources, as modelled and as Vivado placed them."""
    need = total(design_resources(design.geometry, Form(design.elements), read_board(design.board), design.stages))
    return [ResourceDifference("overlay", name, getattr(need, name), reported[name]) for name in RESOURCES]


def missed(differences: Iterable[LoopDifference]) -> list[LoopDifference]:
    """Those that make programs slower than modelled: an interval above the table's, or none."""
    return [each for each in differences if each.found_ii is None or each.found_ii > each.ii]


def _is(loop: Loop, report: LoopReport) -> bool:
    """Whether a report's loop is one of the table; Vitis HLS numbers a label that is inlined more than once."""
    return bool(loop.label) and re.fullmatch(rf"{re.escape(loop.label)}\d*", report.label) is not None


def _what(loop: Loop, report: LoopReport) -> str:
    if report.ii is None:
        return "it is not pipelined"
    if report.ii != loop.ii:
        return f"interval {report.ii} instead of {loop.ii}"
    if report.depth is not None and report.depth != loop.depth:
        return f"depth {report.depth} instead of {loop.depth}"
    return ""


def _difference(engine: str, loop: Loop, report: LoopReport | None, what: str) -> LoopDifference:
    ii, depth = (report.ii, report.depth) if report else (None, None)
    return LoopDifference(engine, loop.name, loop.ii, ii, loop.depth, depth, what)
