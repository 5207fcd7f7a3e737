# SPDX-License-Identifier: Apache-2.0
"""Draws what widths were chosen for a model, layer by layer, beside the curve of time and divergence."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hetfab.driver.graph.picture import save_picture


@dataclass(frozen=True)
class LayerBits:
    """A layer of a quantized model.

    Attributes:
        name: The layer.
        weights: Number of its weights.
        weight_bits: Bits of each, the mean where channels have several widths.
        input_bits: Bits of what it reads.
        milliseconds: Modelled time, None where it is not known.
    """

    name: str
    weights: int
    weight_bits: float
    input_bits: int
    milliseconds: float | None

    @property
    def bytes(self) -> float:
        """Size of the weights."""
        return self.weights * self.weight_bits / 8


@dataclass(frozen=True)
class CurvePoint:
    """A point of the curve: modelled milliseconds, divergence in nats, whether it was chosen."""

    milliseconds: float
    divergence: float
    chosen: bool


def draw_bits(path: Path, layers: Sequence[LayerBits], curve: Sequence[CurvePoint]) -> None:
    """Draws the picture.

    Args:
        path: A file that ends in .svg, .png or .pdf.
        layers: The layers, in order.
        curve: Points of the curve; with fewer than two there is none.

    Raises:
        OutputUnwritableError: The path cannot be written, or ends otherwise.
        PackageMissingError: matplotlib is not installed.
    """

    def paint(figure: Any) -> None:
        bars, *others = figure.subplots(1, 2 if len(curve) > 1 else 1, squeeze=False)[0]
        _paint_layers(bars, layers)
        for axes in others:
            _paint_curve(axes, curve)
        figure.tight_layout()

    save_picture(path, paint, (11 if len(curve) > 1 else 6, max(3.5, 0.28 * len(layers) + 1.2)))


def _paint_layers(axes: Any, layers: Sequence[LayerBits]) -> None:
    """Two bars a layer, told apart by hatching too."""
    places = range(len(layers))
    axes.barh([place - 0.2 for place in places], [each.weight_bits for each in layers], 0.4, label="weights")
    inputs = [each.input_bits for each in layers]
    axes.barh([place + 0.2 for place in places], inputs, 0.4, label="what it reads", hatch="//", edgecolor="white")
    axes.set_yticks(list(places), [each.name for each in layers], fontsize=7)
    axes.invert_yaxis()
    axes.set_xlim(0, 8.5)
    axes.set_xlabel("bits")
    axes.legend(loc="lower right", fontsize=7)


def _paint_curve(axes: Any, curve: Sequence[CurvePoint]) -> None:
    points = sorted(curve, key=lambda point: point.milliseconds)
    axes.plot([p.milliseconds for p in points], [p.divergence for p in points], marker="o", markersize=4)
    chosen = [point for point in points if point.chosen]
    axes.plot([p.milliseconds for p in chosen], [p.divergence for p in chosen], "k*", markersize=12, label="chosen")
    axes.set_yscale("log")
    axes.set_xlabel("modelled ms")
    axes.set_ylabel("KL from the float model, nats")
    axes.legend(fontsize=7)
