# SPDX-License-Identifier: Apache-2.0
"""Draws a graph's types and relations: circles that grow with the number of nodes, a line for each relation.

Relations that are each other's reverse share a line with two heads. Colours are those of Okabe and Ito, which
people with any colour vision tell apart; nothing is said by colour alone, so that the picture can be printed.
"""

import itertools
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from hetfab.driver.graph.summary import GraphSummary, RelationSummary
from hetfab.overlay.errors import OutputUnwritableError, PackageMissingError
from hetfab.overlay.files import write_atomic

SUFFIXES = (".svg", ".png", ".pdf")
_COLOURS = ("#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7", "#999999")
_INK = "#222222"
_CAPTION = "Area of a circle grows with the logarithm of its nodes. Double ring: target. Dashed: no features."
#: Beyond this many types on the ring, trying all orders takes too long.
_ALL_ORDERS = 7
#: Places for a label on its line, the middle first.
_PLACES = (0.5, 0.46, 0.54, 0.42, 0.58, 0.38, 0.62, 0.34, 0.66, 0.3, 0.7, 0.26, 0.74)
_ARROWS = "→↗↑↖←↙↓↘"
_INCHES_A_UNIT = 0.85

Point = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Box:
    """A rectangle by its centre and half its sides."""

    x: float
    y: float
    width: float
    height: float

    def overlap(self, other: "Box") -> float:
        """Area that two rectangles share."""
        across = self.width + other.width - abs(self.x - other.x)
        along = self.height + other.height - abs(self.y - other.y)
        return max(0.0, across) * max(0.0, along)

    def covers(self, centre: Point, radius: float) -> bool:
        """Whether it covers a part of a circle."""
        across = max(0.0, abs(self.x - float(centre[0])) - self.width)
        along = max(0.0, abs(self.y - float(centre[1])) - self.height)
        return math.hypot(across, along) < radius

    def holds(self, points: Point) -> int:
        """How many of the points [n, 2] lie in it."""
        inside = (abs(points[:, 0] - self.x) < self.width) & (abs(points[:, 1] - self.y) < self.height)
        return int(inside.sum())


@dataclass(frozen=True)
class Line:
    """A drawn relation: its curve [points, 2], the text beside it, and how many heads it has."""

    curve: Point
    text: str
    heads: int


@dataclass
class Drawing:
    """Where everything is: centre and radius of each type, lines, and the place of each line's text."""

    centres: dict[str, Point]
    radii: dict[str, float]
    lines: list[Line] = field(default_factory=list)
    labels: list[Box] = field(default_factory=list)


def check_picture(path: Path) -> None:
    """Raises at once, before long work, if a picture could not be drawn.

    Raises:
        OutputUnwritableError: The file's name does not end as a form of pictures does.
        PackageMissingError: matplotlib is not installed.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise OutputUnwritableError(
            f"cannot draw '{path}': no form of pictures ends in '{path.suffix}'",
            f"a name that ends in {', '.join(SUFFIXES)}",
            "name another file",
        )
    _matplotlib()


def draw(graph: GraphSummary, path: Path) -> None:
    """Draws types and relations; equal graphs give equal SVG files.

    Args:
        graph: What to draw.
        path: A file that ends in .svg, .png or .pdf.

    Raises:
        OutputUnwritableError: The path cannot be written, or ends otherwise.
        PackageMissingError: matplotlib is not installed.
    """

    def paint(figure: Any) -> None:
        axes = figure.add_axes((0, 0, 1, 1))
        measure = _measure(figure, axes)
        drawing = lay_out(graph, measure)
        _paint(axes, graph, drawing)
        _fit(figure, axes, graph, drawing)

    save_picture(path, paint, (8, 6))


def save_picture(path: Path, paint: Callable[[Any], None], size: tuple[float, float]) -> None:
    """Writes a picture; what is painted equally gives equal SVG files.

    Args:
        path: A file that ends in .svg, .png or .pdf.
        paint: Paints on a matplotlib ``Figure``.
        size: Width and height in inches.

    Raises:
        OutputUnwritableError: The path cannot be written, or ends otherwise.
        PackageMissingError: matplotlib is not installed.
    """
    check_picture(path)
    figure_type, rc_context = _matplotlib()
    with rc_context({"svg.hashsalt": "hetfab", "font.family": "DejaVu Sans"}):
        figure = figure_type(figsize=size)
        paint(figure)
        form = path.suffix.lower()[1:]
        plain = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(form)
        content = BytesIO()
        figure.savefig(content, format=form, dpi=200, metadata=plain)

    def write(file: BinaryIO) -> None:
        file.write(content.getvalue())

    write_atomic(path, write)


def _matplotlib() -> tuple[Any, Any]:
    try:
        from matplotlib import rc_context
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise PackageMissingError(
            "the Python package 'matplotlib' is not installed",
            "matplotlib, which draws the picture",
            "pip install 'hetfab[plots]', or leave out --picture",
        ) from error
    return Figure, rc_context


def _measure(figure: Any, axes: Any) -> Any:
    """A function from text and size in points to half its width and height in units."""
    renderer = figure.canvas.get_renderer() if hasattr(figure.canvas, "get_renderer") else None

    def measure(text: str, points: float) -> tuple[float, float]:
        artist = axes.text(0, 0, text, fontsize=points, linespacing=1.25)
        box = artist.get_window_extent(renderer)
        artist.remove()
        scale = 2 * figure.dpi * _INCHES_A_UNIT
        return box.width / scale, box.height / scale

    return measure


def lay_out(graph: GraphSummary, measure: Any) -> Drawing:
    """Places types, lines and labels.

    Args:
        graph: What to draw.
        measure: Takes text and its size in points, gives half its width and height in units of the drawing.
    """
    merged = _merged(graph.relations)
    names = [t.name for t in graph.node_types]
    largest = max((measure(f"{t.name}\n{t.count:,}", 11)[0] for t in graph.node_types), default=0.0)
    sizes = {t.name: math.log10(1 + t.count) for t in graph.node_types}
    smallest, top = max(0.55, largest + 0.16), max([1.0, *sizes.values()])
    radii = {name: smallest * math.sqrt(1 + size / top) for name, size in sizes.items()}
    widest = max([0.0, *(2 * measure(_text(pair, "→"), 9)[0] for pair in merged)])
    centres = _centres(names, merged, max([0.0, *radii.values()]), widest)
    drawing = Drawing(centres, radii)
    groups: dict[frozenset[str], list[tuple[RelationSummary, ...]]] = {}
    for pair in merged:
        groups.setdefault(frozenset((pair[0].source, pair[0].destination)), []).append(pair)
    for ends, pairs in groups.items():
        for at, pair in enumerate(pairs):
            loop = len(ends) == 1
            drawing.lines.append(_loop(drawing, pair, at, merged) if loop else _curve(drawing, pair, at, len(pairs)))
    for line in drawing.lines:
        drawing.labels.append(_label_box(drawing, line, *measure(line.text, 9)))
    return drawing


def _merged(relations: Iterable[RelationSummary]) -> list[tuple[RelationSummary, ...]]:
    """Relations, each with its reverse where it has one."""
    by_name = {relation.name: relation for relation in relations}
    merged: list[tuple[RelationSummary, ...]] = []
    done: set[str] = set()
    for name, relation in by_name.items():
        if name not in done:
            merged.append((relation,) if relation.reverse is None else (relation, by_name[relation.reverse]))
            done |= {entry.name for entry in merged[-1]}
    return merged


def _centres(
    names: list[str], merged: list[tuple[RelationSummary, ...]], radius: float, text: float
) -> dict[str, Point]:
    """The type with most neighbours in the middle, the others on a ring around it, neighbours side by side."""
    links = {frozenset((pair[0].source, pair[0].destination)) for pair in merged}
    links = {link for link in links if len(link) == 2}
    neighbours = {name: sum(name in link for link in links) for name in names}
    hub = max(names, key=lambda name: neighbours[name]) if len(names) > 2 else None
    ring = _ring_order([name for name in names if name != hub], links)
    reach = 2 * radius + max(text, 1.2) + 1.0
    if hub is None:
        return {name: np.array([at * reach, 0.0]) for at, name in enumerate(ring)}
    around = len(ring) * (2 * radius + 0.9) / (2 * math.pi)
    across, along = max(reach, 1.15 * around), max(0.8 * reach, around)
    angles = {name: math.pi * (0.75 - 2 * at / len(ring)) for at, name in enumerate(ring)}
    placed = {name: np.array([across * math.cos(a), along * math.sin(a)]) for name, a in angles.items()}
    return placed | {hub: np.zeros(2)}


def _ring_order(ring: list[str], links: set[frozenset[str]]) -> list[str]:
    if not 3 < len(ring) <= _ALL_ORDERS:
        return ring

    def length(order: list[str]) -> int:
        place = {name: at for at, name in enumerate(order)}
        steps = [abs(place[a] - place[b]) for a, b in map(tuple, links) if a in place and b in place]
        return sum(min(step, len(ring) - step) for step in steps)

    return min(([ring[0], *rest] for rest in itertools.permutations(ring[1:])), key=length)


def _curve(drawing: Drawing, pair: tuple[RelationSummary, ...], at: int, count: int) -> Line:
    """A bent line between two circles; several between the same two fan out."""
    first = pair[0]
    ends = sorted((first.source, first.destination))
    left, right = drawing.centres[ends[0]], drawing.centres[ends[1]]
    along = right - left
    across = np.array([-along[1], along[0]]) / np.linalg.norm(along)
    bend = 1.5 * (at - (count - 1) / 2) + (0.0 if count > 1 else 0.35)
    curve = _bezier(left, (left + right) / 2 + bend * across, right)
    outside = np.linalg.norm(curve - left, axis=1) > drawing.radii[ends[0]] + 0.05
    outside &= np.linalg.norm(curve - right, axis=1) > drawing.radii[ends[1]] + 0.05
    curve = curve[outside]
    curve = curve if first.source == ends[0] else curve[::-1]
    way = curve[-1] - curve[0]
    arrow = round(math.atan2(way[1], way[0]) / (math.pi / 4)) % 8
    return Line(curve, _text(pair, _ARROWS[arrow]), len(pair))


def _loop(
    drawing: Drawing, pair: tuple[RelationSummary, ...], at: int, merged: list[tuple[RelationSummary, ...]]
) -> Line:
    """A loop at a circle, where most room is."""
    name = pair[0].source
    centre, radius = drawing.centres[name], drawing.radii[name]
    others = [r[0].destination if r[0].source == name else r[0].source for r in merged]
    linked = [drawing.centres[other] - centre for r, other in zip(merged, others, strict=True) if _leaves(r[0], name)]
    taken = sorted(math.atan2(way[1], way[0]) for way in linked)
    gaps = [(b - a, (a + b) / 2) for a, b in itertools.pairwise([*taken, taken[0] + 2 * math.pi])] if taken else []
    angle = max(gaps)[1] if gaps else math.pi / 2
    angle += 0.9 * ((at + 1) // 2) * (-1) ** at
    starts = [centre + radius * _unit(angle + turn) for turn in (-0.4, 0.4)]
    pulls = [centre + (radius + 1.5) * _unit(angle + turn) for turn in (-0.45, 0.45)]
    return Line(_bezier(starts[0], *pulls, starts[1]), _text(pair, ""), len(pair))


def _leaves(relation: RelationSummary, name: str) -> bool:
    return name in (relation.source, relation.destination) and relation.source != relation.destination


def _unit(angle: float) -> Point:
    return np.array([math.cos(angle), math.sin(angle)])


def _bezier(*controls: Point) -> Point:
    """Points of the curve with these controls, [81, 2]."""
    steps = np.linspace(0, 1, 81)[:, None]
    degree = len(controls) - 1
    weights = [math.comb(degree, i) * steps**i * (1 - steps) ** (degree - i) for i in range(degree + 1)]
    parts = [weight * control for weight, control in zip(weights, controls, strict=True)]
    return np.asarray(np.sum(parts, axis=0), dtype=np.float64)


def _text(pair: tuple[RelationSummary, ...], arrow: str) -> str:
    """Names with the way that each goes, and the number of edges."""
    back = _ARROWS[(_ARROWS.index(arrow) + 4) % 8] if arrow else ""
    names = [f"{r.name} {way}".strip() for r, way in zip(pair, (arrow, back), strict=False)]
    return "\n".join([*names, f"{pair[0].edges:,}"])


def _label_box(drawing: Drawing, line: Line, width: float, height: float) -> Box:
    """The place on a line where its text covers least."""
    others = [other.curve for other in drawing.lines if other is not line]
    points = np.concatenate([np.zeros((0, 2)), *others])
    heads = np.concatenate([other.curve[[0, 1, 2, -3, -2, -1]] for other in drawing.lines])

    def cost(box: Box) -> float:
        circles = sum(box.covers(centre, drawing.radii[name]) for name, centre in drawing.centres.items())
        texts = sum(box.overlap(other) for other in drawing.labels)
        return 1000 * circles + 100 * texts + 20 * box.holds(heads) + box.holds(points)

    spots = [line.curve[round(place * (len(line.curve) - 1))] for place in _PLACES]
    boxes = [Box(float(x), float(y), width + 0.06, height + 0.06) for x, y in spots]
    return min(boxes, key=cost)


def _paint(axes: Any, graph: GraphSummary, drawing: Drawing) -> None:
    from matplotlib.patches import Circle, FancyArrowPatch
    from matplotlib.path import Path as Outline

    for line in drawing.lines:
        style = "<|-|>" if line.heads == 2 else "-|>"
        outline = Outline(line.curve)
        axes.add_patch(
            FancyArrowPatch(path=outline, arrowstyle=style, mutation_scale=13, color=_INK, linewidth=1.2, zorder=1)
        )
    for line, box in zip(drawing.lines, drawing.labels, strict=True):
        edge = {"facecolor": "white", "edgecolor": "none", "pad": 1.5}
        middle = {"ha": "center", "va": "center", "fontsize": 9, "linespacing": 1.25, "color": _INK}
        axes.text(box.x, box.y, line.text, bbox=edge, zorder=3, **middle)
    for at, node_type in enumerate(graph.node_types):
        radius = drawing.radii[node_type.name]
        x, y = (float(part) for part in drawing.centres[node_type.name])
        dashes = "solid" if node_type.features else (0, (4, 3))
        fill = _pale(_COLOURS[at % len(_COLOURS)])
        axes.add_patch(Circle((x, y), radius, facecolor=fill, edgecolor=_INK, lw=1.4, ls=dashes, zorder=2))
        if node_type.name == graph.target:
            axes.add_patch(Circle((x, y), radius - 0.07, fill=False, edgecolor=_INK, lw=1.4, ls=dashes, zorder=2))
        inside = {"ha": "center", "fontsize": 11, "color": _INK, "zorder": 4}
        axes.text(x, y + 0.03, node_type.name, va="bottom", weight="bold", **inside)
        axes.text(x, y - 0.05, f"{node_type.count:,}", va="top", **inside)


def _pale(colour: str) -> tuple[float, ...]:
    """The colour mixed with white, so that black text on it is read easily."""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    return tuple(0.45 * part + 0.55 for part in parts)


def _fit(figure: Any, axes: Any, graph: GraphSummary, drawing: Drawing) -> None:
    """Sizes the figure to what is drawn, with a caption below."""
    corners = [drawing.centres[n] + sign * r for n, r in drawing.radii.items() for sign in (-1, 1)]
    corners += [np.array([b.x + s * b.width, b.y + s * b.height]) for b in drawing.labels for s in (-1, 1)]
    corners += [point for line in drawing.lines for point in line.curve]
    cloud = np.array(corners) if corners else np.zeros((1, 2))
    low, high = cloud.min(axis=0) - np.array([0.3, 1.0]), cloud.max(axis=0) + np.array([0.3, 0.75])
    slack = np.array([max(0.0, 9.6 - (high[0] - low[0])) / 2, 0])
    low, high = low - slack, high + slack
    middle = (low[0] + high[0]) / 2
    axes.text(middle, high[1] - 0.15, graph.name, ha="center", va="top", fontsize=13, weight="bold", color=_INK)
    axes.text(middle, low[1] + 0.2, _CAPTION, ha="center", va="bottom", fontsize=8.5, color=_INK)
    axes.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]), aspect="equal")
    axes.axis("off")
    figure.set_size_inches(*(float(side) * _INCHES_A_UNIT for side in high - low))
