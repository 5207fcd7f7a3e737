# SPDX-License-Identifier: Apache-2.0
"""Draws the roofline of a run as SVG: operations a cycle over operations a DRAM byte, both logarithmic. All modelled.

Williams, Waterman and Patterson, "Roofline", CACM 2009.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup, escape

from hetfab.driver.page.timeline_picture import COLOURS

_WIDTH, _HEIGHT = 1120, 400
_LEFT, _RIGHT, _TOP, _BOTTOM = 74, 210, 14, 46
#: A roof is dashed as its engine says, so that no colour is needed.
_ROOFS = {"cores_w4a4": ("cores, 4 bits", ""), "cores_w8a8": ("cores, 8 bits", "7 4"), "agg": ("AGG", "2 3")}
_RADIUS = 7


class _Axes:
    """Places of values; both axes span whole powers of ten."""

    def __init__(self, xs: Sequence[float], ys: Sequence[float]) -> None:
        self.x_range = math.floor(math.log10(min(xs))), math.ceil(math.log10(max(xs)) + 1e-9)
        self.y_range = math.floor(math.log10(min(ys))), math.ceil(math.log10(max(ys)) + 1e-9)

    def x(self, value: float) -> float:
        low, high = self.x_range
        return _LEFT + (math.log10(value) - low) / (high - low) * (_WIDTH - _LEFT - _RIGHT)

    def y(self, value: float) -> float:
        low, high = self.y_range
        return _HEIGHT - _BOTTOM - (math.log10(value) - low) / (high - low) * (_HEIGHT - _TOP - _BOTTOM)


def draw_roofline(roofline: Mapping[str, Any], numbers: Mapping[str, int]) -> Markup:
    """The picture as an SVG element, empty where nothing was computed.

    Args:
        roofline: As ``--json`` has it.
        numbers: Of each layer, from 1.
    """
    points = roofline["points"]
    roofs = {name: found for name, found in roofline["operations_per_cycle"].items() if found}
    if not points or not roofs:
        return Markup("")
    rate = roofline["dram_bytes_per_cycle"]
    intensities = [each["operations"] / max(each["bytes"], 1) for each in points]
    reached = [each["operations"] / each["cycles"] for each in points]
    ridges = [roof / rate for roof in roofs.values()]
    axes = _Axes([*intensities, *ridges], [*reached, *roofs.values()])
    low, high = (10.0**power for power in axes.x_range)
    parts = [
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="Roofline: layers below DRAM and engines">',
        *_grid(axes),
        _line(axes, low, low * rate, max(ridges), max(roofs.values()), "roof"),
        *(_roof(axes, name, roof, rate, high) for name, roof in roofs.items()),
    ]
    for point, x, y in zip(points, intensities, reached, strict=True):
        parts.append(_point(axes, point, x, y, numbers[point["layer"]]))
    return Markup("\n".join([*parts, "</svg>"]))


def _grid(axes: _Axes) -> list[str]:
    bottom, right = _HEIGHT - _BOTTOM, _WIDTH - _RIGHT
    parts = []
    for power in range(axes.x_range[0], axes.x_range[1] + 1):
        x = axes.x(10.0**power)
        parts.append(f'<line x1="{x:.1f}" y1="{_TOP}" x2="{x:.1f}" y2="{bottom}" class="tick"/>')
        parts.append(f'<text x="{x:.1f}" y="{bottom + 16}" text-anchor="middle" class="axis">{10.0**power:g}</text>')
    for power in range(axes.y_range[0], axes.y_range[1] + 1):
        y = axes.y(10.0**power)
        parts.append(f'<line x1="{_LEFT}" y1="{y:.1f}" x2="{right}" y2="{y:.1f}" class="tick"/>')
        parts.append(f'<text x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end" class="axis">{10.0**power:g}</text>')
    middle = (_LEFT + right) / 2
    parts.append(
        f'<text x="{middle}" y="{bottom + 36}" text-anchor="middle" class="axis">operations a DRAM byte</text>'
    )
    up = (_TOP + bottom) / 2
    parts.append(
        f'<text x="16" y="{up}" text-anchor="middle" class="axis" transform="rotate(-90 16 {up})">'
        "operations a modelled cycle</text>"
    )
    return parts


def _line(axes: _Axes, x1: float, y1: float, x2: float, y2: float, kind: str, dashes: str = "") -> str:
    """A line between two points, of which the first may lie below the picture: it then begins at the edge."""
    lowest = 10.0 ** axes.y_range[0]
    if y1 < lowest:
        x1, y1 = x1 * lowest / y1, lowest
    places = (axes.x(x1), axes.y(y1), axes.x(x2), axes.y(y2))
    x1, y1, x2, y2 = places
    dashed = f' stroke-dasharray="{dashes}"' if dashes else ""
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{kind}"{dashed}/>'


def _roof(axes: _Axes, name: str, roof: float, rate: float, right: float) -> str:
    words, dashes = _ROOFS[name]
    label = (
        f'<text x="{axes.x(right) + 8:.1f}" y="{axes.y(roof) + 4:.1f}" class="axis">{words}: {roof:,} a cycle</text>'
    )
    return _line(axes, roof / rate, roof, right, roof, "roof", dashes) + label


def _point(axes: _Axes, point: Mapping[str, Any], intensity: float, reached: float, number: int) -> str:
    """A circle for the cores, a diamond for AGG, with the layer's number."""
    x, y, colour = axes.x(intensity), axes.y(reached), COLOURS[(number - 1) % len(COLOURS)]
    where = "AGG" if point["on"] == "agg" else "the cores"
    shape = f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{_RADIUS}" fill="{colour}" class="mark"/>'
    if point["on"] == "agg":
        r = _RADIUS + 1
        corners = f"{x:.1f},{y - r:.1f} {x + r:.1f},{y:.1f} {x:.1f},{y + r:.1f} {x - r:.1f},{y:.1f}"
        shape = f'<polygon points="{corners}" fill="{colour}" class="mark"/>'
    return (
        f"<g><title>{number} {escape(point['layer'])} on {where}: {intensity:.3g} operations a byte, "
        f"{reached:.3g} a cycle</title>{shape}"
        f'<text x="{x + _RADIUS + 3:.1f}" y="{y - _RADIUS + 2:.1f}" class="number">{number}</text></g>'
    )
