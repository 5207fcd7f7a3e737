# SPDX-License-Identifier: Apache-2.0
"""Reads the tools' reports: ``*_csynth.xml`` of Vitis HLS, utilization and timing summary of Vivado.

The forms follow public reports (docs/build.md names them): loops stand under ``SummaryOfLoopLatency`` by their labels,
in the report of the function that holds them.
"""

import re
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from hetfab.overlay.errors import ReportUnreadableError, why_unreadable

#: Names of resources in a report of synthesis. ``BRAM_18K`` counts halves of a RAMB36.
_SYNTHESIS = {"lut": "LUT", "ff": "FF", "dsp": "DSP", "bram36": "BRAM_18K", "uram": "URAM"}
#: Rows of Vivado's table: 7-series devices have slices, UltraScale+ has CLBs. A star marks a footnote.
_UTILIZATION = {
    "lut": r"(?:Slice|CLB) LUTs\*?",
    "ff": r"(?:Slice|CLB) Registers",
    "dsp": r"DSPs",
    "bram36": r"Block RAM Tile",
    "uram": r"URAM",
}
_OPTIONAL = {"uram"}


@dataclass(frozen=True)
class LoopReport:
    """A pipelined loop as Vitis HLS scheduled it.

    Attributes:
        label: Its label in the source.
        ii: Cycles between two trips; None where it is not pipelined.
        depth: Cycles from a trip's start to its end; None where the report has none.
    """

    label: str
    ii: int | None
    depth: int | None


@dataclass(frozen=True)
class SynthesisReport:
    """What Vitis HLS reports of an engine.

    Attributes:
        top: Its top function.
        clock_ns: The period that was asked for.
        estimated_ns: The period that the tool expects.
        latency_cycles: Smallest and largest latency; None where it depends on data.
        resources: Units of each resource, as estimated before Vivado.
        loops: All loops, of all functions.
    """

    top: str
    clock_ns: float
    estimated_ns: float
    latency_cycles: tuple[int | None, int | None]
    resources: Mapping[str, float]
    loops: tuple[LoopReport, ...]


@dataclass(frozen=True)
class TimingReport:
    """The timing of a routed design, in ns.

    Attributes:
        setup_slack_ns: Worst negative slack (WNS); below zero the clock is too fast.
        hold_slack_ns: Worst hold slack (WHS).
        failing: End points that miss setup.
        end_points: All of them.
    """

    setup_slack_ns: float
    hold_slack_ns: float
    failing: int
    end_points: int


def read_synthesis(folder: Path, top: str) -> SynthesisReport:
    """Reads the reports of one engine.

    Args:
        folder: Holds ``<top>_csynth.xml`` and those of the functions that it calls.
        top: Name of the top function.

    Raises:
        ReportUnreadableError: The top's report is missing or has another form.
    """
    path = folder / f"{top}_csynth.xml"
    root = _xml(path)
    latency = [_whole(_text(root, f"./PerformanceEstimates/SummaryOfOverallLatency/{which}-caseLatency", path, "undef"))
               for which in ("Best", "Worst")]  # fmt: skip
    used = {name: _number(_text(root, f"./AreaEstimates/Resources/{tag}", path, "0"), path)
            for name, tag in _SYNTHESIS.items()}  # fmt: skip
    others = sorted(other for other in folder.glob("*_csynth.xml") if other != path)
    loops = {loop for each in [root, *map(_xml, others)] for loop in _loops(each)}
    return SynthesisReport(
        top=_text(root, "./UserAssignments/TopModelName", path),
        clock_ns=_number(_text(root, "./UserAssignments/TargetClockPeriod", path), path),
        estimated_ns=_number(_text(root, ".//SummaryOfTimingAnalysis/EstimatedClockPeriod", path), path),
        latency_cycles=(latency[0], latency[1]),
        resources=used | {"bram36": used["bram36"] / 2},
        loops=tuple(sorted(loops, key=lambda loop: (loop.label, loop.ii or 0, loop.depth or 0))),
    )


def _loops(root: ET.Element) -> Iterable[LoopReport]:
    """All loops of a report; an outer loop holds its inner ones."""
    for summary in root.iter("SummaryOfLoopLatency"):
        for loop in summary.iter():
            if loop is not summary and (
                loop.find("TripCount") is not None or loop.find("IterationLatency") is not None
            ):
                ii, depth = loop.findtext("PipelineII"), loop.findtext("PipelineDepth")
                yield LoopReport(loop.findtext("Name") or loop.tag, _whole(ii), _whole(depth))


def read_utilization(path: Path) -> dict[str, float]:
    """Units of each resource in Vivado's report of utilization.

    Raises:
        ReportUnreadableError: The file is missing or a resource is not in it.
    """
    text = _read(path)
    found: dict[str, float] = {}
    for name, row in _UTILIZATION.items():
        match = re.search(rf"^\|\s*{row}\s*\|\s*([\d.]+)\s*\|", text, re.MULTILINE)
        if match:
            found[name] = float(match[1])
        elif name in _OPTIONAL:
            found[name] = 0.0
        else:
            raise _unreadable(path, f"no row of its tables is '{row}'")
    return found


def read_timing(path: Path) -> TimingReport:
    """Reads Vivado's timing summary.

    Raises:
        ReportUnreadableError: The file is missing, has no summary, or the design has no constrained path.
    """
    lines = _read(path).splitlines()
    heading = next((number for number, line in enumerate(lines) if re.match(r"\s*WNS\(ns\)\s+TNS\(ns\)", line)), None)
    # Two lines on: the one between holds dashes.
    values = lines[heading + 2].split() if heading is not None and heading + 2 < len(lines) else []
    if len(values) < 8:
        raise _unreadable(path, "it has no 'Design Timing Summary'")
    if "NA" in values[:8]:
        raise _unreadable(path, "no path of the design has a clock")
    return TimingReport(
        setup_slack_ns=_number(values[0], path),
        failing=int(_number(values[2], path)),
        end_points=int(_number(values[3], path)),
        hold_slack_ns=_number(values[4], path),
    )


def _xml(path: Path) -> ET.Element:
    try:
        return ET.fromstring(_read(path))
    except ET.ParseError as error:
        raise _unreadable(path, f"it is not XML: {error}") from error


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise _unreadable(path, why_unreadable(error)) from error


def _text(root: ET.Element, where: str, path: Path, default: str | None = None) -> str:
    text = root.findtext(where)
    if text is None:
        text = default
    if text is None:
        raise _unreadable(path, f"it has no element '{where.rpartition('/')[2]}'")
    return text.strip()


def _number(text: str, path: Path) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise _unreadable(path, f"'{text}' is not a number") from error


def _whole(text: str | None) -> int | None:
    """A whole number; None where the tool writes that there is none, such as ``undef`` or ``n/a``."""
    return int(text) if text is not None and text.strip().isdigit() else None


def _unreadable(path: Path, reason: str) -> ReportUnreadableError:
    return ReportUnreadableError(
        f"cannot read the report '{path}': {reason}",
        "a report in the form of Vitis HLS and Vivado 2023.2 to 2025.2",
        "open the file; if the tool changed its form, report it with the file",
    )
