# SPDX-License-Identifier: Apache-2.0
"""Draws a timeline as SVG: a row per engine, bars coloured and numbered by layer. All times are modelled."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup, escape

from hetfab.overlay.isa.spec import isa
from hetfab.overlay.timeline.simulate import Timeline

#: Okabe and Ito's colours, told apart with any colour vision; bars also carry their layer's number.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#999999")
_WIDTH, _LEFT, _ROW, _BAR, _TOP = 1120, 74, 34, 24, 8
_AXIS = 34
_NUMBER_WIDTH = 16
#: Bars nearer than this many pixels are drawn as one.
_MERGE = 0.75


@dataclass(frozen=True)
class Bar:
    """Consecutive instructions of one layer on one engine, in modelled cycles."""

    engine: int
    layer: int
    start: float
    end: float


def bars(timeline: Timeline, merge_cycles: float) -> list[Bar]:
    """Joins an engine's neighbouring instructions of one layer whose gap is at most ``merge_cycles``.

    Instructions that only wait and signal take no bar of their own.
    """
    found: list[Bar] = []
    working = timeline.opcodes != isa().operation("sync").opcode
    for engine in isa().engines:
        rows = np.flatnonzero((timeline.engines == engine.id) & working)
        for index in rows.tolist():
            layer, start, end = int(timeline.layers[index]), float(timeline.starts[index]), float(timeline.ends[index])
            last = found[-1] if found and found[-1].engine == engine.id else None
            if last is not None and last.layer == layer and start - last.end <= merge_cycles:
                found[-1] = Bar(engine.id, layer, last.start, end)
            else:
                found.append(Bar(engine.id, layer, start, end))
    return found


def draw(timeline: Timeline, layer_names: Sequence[str], engines: Sequence[str]) -> Markup:
    """The picture as an SVG element for an HTML page.

    Args:
        timeline: What to draw.
        layer_names: Name of each layer, shown when the pointer rests on a bar.
        engines: Those that the design has, from top to bottom.
    """
    scale = (_WIDTH - _LEFT - 10) / max(timeline.total_cycles, 1.0)
    places = {isa().engine(name).id: row for row, name in enumerate(engines)}
    height = _TOP + _ROW * len(engines) + _AXIS
    parts = [
        f'<svg viewBox="0 0 {_WIDTH} {height}" role="img" aria-label="Modelled timeline, one row per engine">',
        *_rows(engines),
    ]
    for bar in bars(timeline, _MERGE / scale):
        parts.append(_bar(bar, places[bar.engine], scale, layer_names[bar.layer]))
    parts += _axis(timeline, len(engines), scale)
    return Markup("\n".join([*parts, "</svg>"]))


def _rows(engines: Sequence[str]) -> list[str]:
    parts = []
    for row, name in enumerate(engines):
        y = _TOP + row * _ROW
        parts.append(f'<text x="{_LEFT - 8}" y="{y + 17}" text-anchor="end" class="engine">{name}</text>')
        parts.append(f'<rect x="{_LEFT}" y="{y}" width="{_WIDTH - _LEFT - 10}" height="{_BAR}" class="lane"/>')
    return parts


def _bar(bar: Bar, row: int, scale: float, name: str) -> str:
    x, width = _LEFT + bar.start * scale, max((bar.end - bar.start) * scale, 0.4)
    y = _TOP + row * _ROW
    label = ""
    if width >= _NUMBER_WIDTH:
        label = f'<text x="{x + width / 2:.1f}" y="{y + 16}" text-anchor="middle" class="number">{bar.layer + 1}</text>'
    return (
        f"<g><title>{bar.layer + 1} {escape(name)}: cycles {bar.start:,.0f} to {bar.end:,.0f}</title>"
        f'<rect x="{x:.2f}" y="{y}" width="{width:.2f}" height="{_BAR}" fill="{COLOURS[bar.layer % len(COLOURS)]}"/>'
        f"{label}</g>"
    )


def _axis(timeline: Timeline, rows: int, scale: float) -> list[str]:
    y = _TOP + _ROW * rows
    cycles_per_ms = timeline.machine.clock_mhz * 1e3
    step = _step(timeline.milliseconds)
    parts = []
    for tick in range(int(timeline.milliseconds / step) + 1):
        x = _LEFT + tick * step * cycles_per_ms * scale
        parts.append(f'<line x1="{x:.1f}" y1="{_TOP}" x2="{x:.1f}" y2="{y}" class="tick"/>')
        parts.append(f'<text x="{x:.1f}" y="{y + 14}" text-anchor="middle" class="axis">{tick * step:g}</text>')
    middle = (_WIDTH + _LEFT) / 2
    parts.append(f'<text x="{middle}" y="{y + 30}" text-anchor="middle" class="axis">modelled milliseconds</text>')
    return parts


def _step(milliseconds: float) -> float:
    """A tick distance of 1, 2 or 5 times a power of ten that gives five to twelve ticks."""
    power = 10.0 ** math.floor(math.log10(max(milliseconds, 1e-6) / 5))
    return next(factor * power for factor in (1, 2, 5, 10) if milliseconds / (factor * power) <= 12)
