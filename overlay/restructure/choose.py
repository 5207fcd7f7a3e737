# SPDX-License-Identifier: Apache-2.0
"""Chooses an order by its price: bytes that it is expected to save over all passes against what finding it costs.

Nothing is tried out. Traffic is predicted from degrees alone, as if neighbours were drawn at random: misses of a
least-recently-used buffer by its characteristic time (H. Che, Y. Tung, Z. Wang, 2002), tiles by the expected number of
distinct vertices. What orders save beyond that, and what they cost for each edge, is stated in ``prices.json`` with its
origin. ``docs/restructuring.md`` has the formulas. ``hls/host/graph/choose.hpp`` chooses the same way, fast.
"""

import functools
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hetfab.overlay.restructure.candidates import Candidate, Grow, Method
from hetfab.overlay.restructure.resident import log2_q8
from hetfab.overlay.restructure.schedule import Sides, Widths
from hetfab.overlay.semantic.adjacency import Ids

#: Halvings of the interval in which the characteristic time is looked for.
_HALVINGS = 14
#: Degree classes of an octave are 1 / 2 ** this of it.
_CLASS_SHIFT = 7


@dataclass(frozen=True)
class Price:
    """What a choice depends on beside the graph.

    Attributes:
        slots: Vertices that the buffer holds.
        widths: Bytes of a vector.
        passes: How often the order is used: layers, heads and inferences on the same graph.
        bytes_per_second: Rate of the board's DRAM.
        cpu_ratio: Time of the board's processor over that of the machine that ``prices.json`` was measured on.
    """

    slots: int
    widths: Widths
    passes: int
    bytes_per_second: float
    cpu_ratio: float

    def cost_bytes(self, host_ns: float) -> float:
        """What DRAM could move while the board's processor does this."""
        return host_ns * 1e-9 * self.cpu_ratio * self.bytes_per_second


@dataclass(frozen=True)
class Offer:
    """A candidate as the chooser sees it.

    Attributes:
        candidate: The order.
        pass_bytes: Predicted traffic of a pass.
        order_bytes: What finding the order costs, as bytes.
    """

    candidate: Candidate
    pass_bytes: float
    order_bytes: float

    def total(self, passes: int) -> float:
        """Bytes of all passes with the order."""
        return passes * self.pass_bytes + self.order_bytes


@functools.cache
def prices() -> dict[str, Any]:
    """Measured costs and shares of every order, each with its origin."""
    table: dict[str, Any] = json.loads((Path(__file__).parent / "prices.json").read_text(encoding="utf-8"))
    return table


def choose(graph: Sides, price: Price) -> Offer:
    """The offer with the fewest predicted bytes; the order as it is unless another one is clearly better.

    An offer of 0 bytes is the order as it is, where no other one could pay and none was looked at.
    """
    as_is, *others = offers(graph, price)
    best = min(others, key=lambda offer: offer.total(price.passes), default=as_is)
    clearly = prices()["clearly"] * as_is.total(price.passes)
    return best if best.total(price.passes) < clearly else as_is


def offers(graph: Sides, price: Price) -> list[Offer]:
    """All orders that could pay, the order as it is first; alone where no order could."""
    as_is = Offer(Candidate(Method.AS_IS, price.slots), 0.0, 0.0)
    least = price.cost_bytes(prices()["least_vertex_ns"] * min(graph.sources, graph.destinations))
    feature_bytes = price.passes * price.widths.feature
    # No order reads more than a feature for each edge, and none less than one for each source.
    if least >= max(0, graph.edges - graph.sources) * feature_bytes:
        return [as_is]
    predicted = _Prediction(graph, price)
    if least >= (predicted.as_is - predicted.active_sources) * feature_bytes:
        return [as_is]
    return [predicted.offer(candidate_of(row, price.slots), row) for row in prices()["orders"]]


def candidate_of(row: Mapping[str, Any], slots: int) -> Candidate:
    """The candidate that a row of the table stands for."""
    return Candidate(Method(row["method"]), slots, Grow(row["grow"]))


def _classes(degrees: Ids) -> list[tuple[float, float]]:
    """Mean degree and number of vertices of each class of degrees, half octaves; vertices without edges left out."""
    sums: dict[int, list[int]] = {}
    for degree in degrees[degrees > 0].tolist():
        entry = sums.setdefault(log2_q8(degree) >> _CLASS_SHIFT, [0, 0])
        entry[0] += degree
        entry[1] += 1
    return [(total / count, float(count)) for _, (total, count) in sorted(sums.items())]


def _missed(classes: list[tuple[float, float]], edges: int, slots: int) -> float:
    """Features that a least-recently-used buffer reads when every edge draws a source by its degree."""
    if sum(count for _, count in classes) <= slots:
        return sum(count for _, count in classes)
    low, high = float(slots), float(slots) * edges
    for _ in range(_HALVINGS):
        time = math.sqrt(low * high)
        held = sum(count * -math.expm1(-degree / edges * time) for degree, count in classes)
        low, high = (time, high) if held < slots else (low, time)
    return sum(count * degree * math.exp(-degree / edges * low) for degree, count in classes)


def _distinct(classes: list[tuple[float, float]], tiles: int) -> float:
    """Streamed vertices that tiles meet, counted in each tile, when neighbours are drawn at random."""
    if tiles == 1:
        return sum(count for _, count in classes)
    away = math.log1p(-1 / tiles)
    return tiles * sum(count * -math.expm1(degree * away) for degree, count in classes)


def _visits(classes: list[tuple[float, float]], tiles: int, stride: int) -> float:
    """Edges that growing tiles looks at: those of each sampled vertex, once a tile."""
    away = math.log1p(-1 / tiles) if tiles > 1 else -math.inf
    return tiles / stride * sum(count * degree * -math.expm1(degree * away) for degree, count in classes)


class _Prediction:
    """Predicts traffic and cost from degrees."""

    def __init__(self, graph: Sides, price: Price) -> None:
        self.graph, self.price = graph, price
        self.sources = _classes(graph.by_source.out_degrees())
        self.destinations = _classes(graph.by_destination.out_degrees())
        self.active_sources = sum(count for _, count in self.sources)
        self.active_destinations = sum(count for _, count in self.destinations)
        self.as_is = max(self.active_sources, _missed(self.sources, graph.edges, price.slots - 1))

    def offer(self, candidate: Candidate, row: dict[str, Any]) -> Offer:
        """Traffic and cost of a candidate, by its row of the table."""
        if candidate.method in (Method.DESTINATION_TILES, Method.SOURCE_TILES):
            return self._tiles(candidate, row)
        features = self.active_sources + row["share"] * (self.as_is - self.active_sources)
        kept = self.active_destinations
        numbers = min(2.0 * self.graph.edges + 2 * kept, kept * -(-self.graph.sources // 8))
        listed = numbers + (0 if row["share"] == 1 else 2) * kept
        moved = features * self.price.widths.feature + kept * self.price.widths.result
        return Offer(candidate, moved + listed, self._cost(row, sampled=self.graph.edges / self._stride(16, kept)))

    def _tiles(self, candidate: Candidate, row: dict[str, Any]) -> Offer:
        keeps_destinations = candidate.method is Method.DESTINATION_TILES
        kept, streamed = self.active_destinations, self.active_sources
        classes, others = self.sources, self.graph.sources
        if not keeps_destinations:
            kept, streamed, classes, others = streamed, kept, self.destinations, self.graph.destinations
        tiles = max(1, math.ceil(kept / (self.price.slots - 1)))
        met = streamed + row["share"] * (_distinct(classes, tiles) - streamed)
        widths = self.price.widths
        moved = self.active_sources * widths.feature + self.active_destinations * widths.result
        again = widths.feature if keeps_destinations else 2 * widths.accumulator
        listed = min(2 * self.graph.edges + 2 * met, met * math.ceil(kept / tiles / 8)) + 2 * met + 2 * kept
        visits = _visits(classes, tiles, self._stride(32, kept)) if row["visit_ns"] else 0.0
        cost = self._cost(row, met=met, visits=visits, looks=tiles * others)
        return Offer(candidate, moved + (met - streamed) * again + listed, cost)

    def _stride(self, sampled: int, rows: float) -> int:
        return max(1, math.floor(self.graph.edges / (sampled * max(1.0, rows))))

    def _cost(self, row: dict[str, Any], **work: float) -> float:
        counts: dict[str, float] = {
            "edge_ns": self.graph.edges,
            "vertex_ns": self.graph.sources + self.graph.destinations,
        }
        counts |= {"run_ns": work.get("met", 0.0), "visit_ns": work.get("visits", 0.0)}
        counts |= {"look_ns": work.get("looks", 0.0), "sampled_ns": work.get("sampled", 0.0)}
        return self.price.cost_bytes(sum(row[name] * count for name, count in counts.items()))
