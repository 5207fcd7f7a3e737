# SPDX-License-Identifier: Apache-2.0
"""Draws a Pareto front of a search: modelled time and points lost, coloured by the scarcest resource's share."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hetfab.driver.graph.picture import save_picture


@dataclass(frozen=True)
class FrontPoint:
    """A design with widths.

    Attributes:
        milliseconds: Modelled.
        drop: Points of accuracy lost.
        used: Share of the scarcest resource that the design needs, modelled.
        chosen: Whether it is the search's choice.
    """

    milliseconds: float
    drop: float
    used: float
    chosen: bool


def draw_front(path: Path, points: Sequence[FrontPoint]) -> None:
    """Draws the picture.

    Args:
        path: A file that ends in .svg, .png or .pdf.
        points: Of the front.

    Raises:
        OutputUnwritableError: The path cannot be written, or ends otherwise.
        PackageMissingError: matplotlib is not installed.
    """

    def paint(figure: Any) -> None:
        axes = figure.subplots()
        times, drops = [p.milliseconds for p in points], [p.drop for p in points]
        shown = axes.scatter(times, drops, c=[100 * p.used for p in points], cmap="viridis", s=24)
        figure.colorbar(shown, label="% of the scarcest resource, modelled")
        chosen = [p for p in points if p.chosen]
        rings = [p.milliseconds for p in chosen], [p.drop for p in chosen]
        axes.scatter(*rings, facecolors="none", edgecolors="black", s=110, label="chosen")
        axes.set_xlabel("ms, modelled")
        axes.set_ylabel("points lost")
        axes.legend()

    save_picture(path, paint, (7.0, 4.5))
