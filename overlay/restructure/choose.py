# SPDX-License-Identifier: Apache-2.0
"""Chooses an order by its price: bytes that it is expected to save over all passes against what finding it costs.

Nothing is tried out. Traffic is predicted from degrees alone, as if neighbours were drawn at random: misses of a
least-recently-used buffer by its characteristic time (H. Che, Y. Tung, Z. Wang, 2002), tiles by the expected number of
distinct vertices, filled by degree where that is their order. What orders save beyond that, and what they cost, is
stated in ``prices.json`` with its origin. ``docs/restructuring.md`` has the formulas. ``hls/host/graph/choose.hpp``
chooses the same way, fast.
"""

import functools
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from hetfab.overlay.restructure.candidates import Candidate, Grow, Method
from hetfab.overlay.restructure.resident import log2_q8
from hetfab.overlay.restructure.schedule import Sides, Widths
from hetfab.overlay.semantic.adjacency import Ids

#: Halvings of the interval in which the characteristic time is looked for.
_HALVINGS = 14
#: Degree classes of an octave are 1 / 2 ** this of it.
_CLASS_SHIFT = 7
_NUMBER_BYTES = 2
#: What greedy destinations and growing tiles look at of a row, on average.
_SAMPLED_SOURCES, _SAMPLED_NEIGHBOURS = 16, 32


@dataclass(frozen=True)
class Price:
    """What a choice depends on beside the graph.

    Attributes:
        slots: Vertices that the buffer holds.
        widths: Bytes of a vector.
        passes: How often the order is used: layers, heads and inferences on the same graph.
        bytes_per_second: Rate of the board's DRAM.
        cpu_ratio: Time of the board's processor over that of the machine that ``prices.json`` was measured on.
        engine_hz: Clock of the engine rst, 0 where the design has none.
        engine_vertices: Rows and columns of the largest graph that the engine takes.
    """

    slots: int
    widths: Widths
    passes: int
    bytes_per_second: float
    cpu_ratio: float
    engine_hz: float = 0.0
    engine_vertices: int = 0

    def takes(self, graph: Sides) -> bool:
        """Whether the engine is there and takes the graph."""
        return self.engine_hz > 0 and max(graph.sources, graph.destinations) <= self.engine_vertices

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
        by_engine: Whether the engine rst finds it for less than the processor.
    """

    candidate: Candidate
    pass_bytes: float
    order_bytes: float
    by_engine: bool = False

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
    # No order reads more than a feature for each edge, and none less than one for each source.
    features = max(0, graph.edges - graph.sources) * price.widths.feature
    if least >= price.passes * (features + _NUMBER_BYTES * graph.edges):
        return [as_is]
    predicted = _Prediction(graph, price)
    if least >= price.passes * predicted.avoidable():
        return [as_is]
    return [predicted.offer(candidate_of(row, price.slots), row) for row in prices()["orders"]]


def candidate_of(row: Mapping[str, Any], slots: int) -> Candidate:
    """The candidate that a row of the table stands for."""
    return Candidate(Method(row["method"]), slots, Grow(row["grow"]))


#: Mean degree and number of vertices of each class of degrees, half octaves, fewest edges first.
_Classes: TypeAlias = list[tuple[float, float]]


def _classes(degrees: Ids) -> _Classes:
    """The classes of a side; vertices without edges are left out."""
    sums: dict[int, list[int]] = {}
    for degree in degrees[degrees > 0].tolist():
        entry = sums.setdefault(log2_q8(degree) >> _CLASS_SHIFT, [0, 0])
        entry[0] += degree
        entry[1] += 1
    return [(total / count, float(count)) for _, (total, count) in sorted(sums.items())]


def _active(classes: _Classes) -> float:
    return sum(count for _, count in classes)


def _characteristic_time(classes: _Classes, edges: int, slots: int) -> float:
    """Edges for which a least-recently-used buffer holds a vertex, when every edge draws one by its degree."""
    if _active(classes) <= slots:
        return math.inf
    low, high = float(slots), float(slots) * edges
    for _ in range(_HALVINGS):
        time = math.sqrt(low * high)
        held = sum(count * -math.expm1(-degree / edges * time) for degree, count in classes)
        low, high = (time, high) if held < slots else (low, time)
    return low


def _met(classes: _Classes, share: float) -> float:
    """Streamed vertices that a tile with this share of all edges meets when neighbours are drawn at random."""
    return sum(count * -math.expm1(-degree * share) for degree, count in classes)


class _Tiles:
    """Tiles of one side, as few as there can be, with neighbours drawn at random.

    Attributes:
        kept: Vertices that tiles keep, all tiles together.
        others: Vertices of the other side, those without edges too.
        streamed: Those with edges.
        tiles: Number of tiles.
        at_random: Streamed vertices that tiles meet, counted in each, when tiles take what comes.
        by_degree: The same when tiles are filled by degree.
        visits: Edges of the vertices that tiles meet.
    """

    def __init__(self, kept: _Classes, streamed: _Classes, others: int, edges: int, slots: int) -> None:
        self.kept, self.streamed, self.others = _active(kept), _active(streamed), others
        self.tiles = max(1, math.ceil(self.kept / (slots - 1)))
        away = -math.log1p(-1 / self.tiles) if self.tiles > 1 else math.inf
        self.at_random = self.tiles * _met(streamed, away)
        self.visits = self.tiles * sum(count * degree * -math.expm1(-degree * away) for degree, count in streamed)
        self.by_degree = self.streamed if self.tiles == 1 else self._by_degree(kept, streamed, edges)

    def _by_degree(self, kept: _Classes, streamed: _Classes, edges: int) -> float:
        """Classes are put together until they fill a tile."""
        met = vertices = share = 0.0
        for place, (degree, count) in enumerate(kept):
            vertices, share = vertices + count, share + count * degree / edges
            if vertices * self.tiles >= self.kept or place == len(kept) - 1:
                tiles = max(1.0, vertices * self.tiles / self.kept)
                met += tiles * _met(streamed, share / tiles)
                vertices = share = 0.0
        return max(self.streamed, met)


class _Prediction:
    """Predicts traffic and cost from degrees."""

    def __init__(self, graph: Sides, price: Price) -> None:
        self.graph, self.price = graph, price
        self.sources = _classes(graph.by_source.out_degrees())
        self.destinations = _classes(graph.by_destination.out_degrees())
        self.active_sources, self.active_destinations = _active(self.sources), _active(self.destinations)
        self.time = _characteristic_time(self.sources, graph.edges, price.slots - 1)
        self.as_is = max(self.active_sources, sum(count * self._misses(degree) for degree, count in self.sources))
        # log2 of the mean degree of both sides.
        self.octaves = math.log2(2 * graph.edges / max(1.0, self.active_sources + self.active_destinations))
        tiles = functools.partial(_Tiles, edges=graph.edges, slots=price.slots)
        self.destination_tiles = tiles(self.destinations, self.sources, graph.sources)
        self.source_tiles = tiles(self.sources, self.destinations, graph.destinations)

    def avoidable(self) -> float:
        """Bytes of features that the order as it is reads more than once, and of lists beyond the shortest."""
        fewest = min(2.0 * self.graph.edges, self.active_sources * self.active_destinations / 8)
        return (self.as_is - self.active_sources) * self.price.widths.feature + self._numbers() - fewest

    def offer(self, candidate: Candidate, row: Mapping[str, Any]) -> Offer:
        """Traffic and cost of a candidate, by its row of the table."""
        if candidate.method is Method.DESTINATION_TILES:
            return self._tiles(candidate, row, self.destination_tiles, self.price.widths.feature)
        if candidate.method is Method.SOURCE_TILES:
            return self._tiles(candidate, row, self.source_tiles, 2 * self.price.widths.accumulator)
        features = self.active_sources + self._share(row) * (self.as_is - self.active_sources)
        listed = self._numbers() + (candidate.method is not Method.AS_IS) * _NUMBER_BYTES * self.active_destinations
        stride = self._stride(_SAMPLED_SOURCES, self.active_destinations)
        visits = sum(count * degree * max(1.0, self._misses(degree)) for degree, count in self.sources)
        moved = (features - self.active_sources) * self.price.widths.feature + self._least()
        return Offer(candidate, moved + listed, *self._cost(row, stride, visits))

    def _tiles(self, candidate: Candidate, row: Mapping[str, Any], tiles: _Tiles, again_bytes: int) -> Offer:
        by_degree = candidate.grow in (Grow.FEWEST_EDGES_FIRST, Grow.MOST_EDGES_FIRST)
        random = tiles.by_degree if by_degree else tiles.at_random
        met = tiles.streamed + self._share(row) * (random - tiles.streamed)
        moved = self._least() + (met - tiles.streamed) * again_bytes
        bits = met * math.ceil(tiles.kept / tiles.tiles / 8)
        listed = min(2.0 * self.graph.edges + _NUMBER_BYTES * met, bits) + _NUMBER_BYTES * (met + tiles.kept)
        stride = self._stride(_SAMPLED_NEIGHBOURS, tiles.kept)
        looks = tiles.tiles * tiles.others
        return Offer(candidate, moved + listed, *self._cost(row, stride, tiles.visits, met, looks))

    def _misses(self, degree: float) -> float:
        """How often a vertex of this degree enters a least-recently-used buffer."""
        return degree * math.exp(-degree / self.graph.edges * self.time)

    def _share(self, row: Mapping[str, Any]) -> float:
        return float(min(1.0, max(0.0, row["share"] + row["share_octave"] * self.octaves)))

    def _numbers(self) -> float:
        """Bytes of the lists of the graph as it is."""
        kept = self.active_destinations
        return min(2.0 * self.graph.edges + _NUMBER_BYTES * kept, kept * math.ceil(self.graph.sources / 8))

    def _least(self) -> float:
        """Bytes of vectors that every order moves."""
        widths = self.price.widths
        return self.active_sources * widths.feature + self.active_destinations * widths.result

    def _stride(self, sampled: int, rows: float) -> int:
        return max(1, math.floor(self.graph.edges / (sampled * max(1.0, rows))))

    def _cost(
        self, row: Mapping[str, Any], stride: int, visits: float, met: float = 0.0, looks: float = 0.0
    ) -> tuple[float, bool]:
        """Of the processor or of the engine, whichever is cheaper, and whether it is the engine's."""
        sampled = self.graph.edges / stride
        counts: dict[str, float] = {
            "edge": self.graph.edges,
            "vertex": self.graph.sources + self.graph.destinations,
            "run": met,
            "look": looks,
            "sampled": sampled,
            "visit": max(0.0, visits / stride - sampled),
        }
        price = self.price
        by_processor = price.cost_bytes(sum(row[f"{name}_ns"] * count for name, count in counts.items()))
        if not row["engine_vertex_cycles"] or not price.takes(self.graph):
            return by_processor, False
        cycles = sum(row[f"engine_{name}_cycles"] * counts[name] for name in ("edge", "vertex", "sampled", "visit"))
        rest = price.cost_bytes(sum(row[f"engine_{name}_ns"] * counts[name] for name in ("edge", "run")))
        by_engine = cycles / price.engine_hz * price.bytes_per_second + rest
        return min(by_processor, by_engine), by_engine < by_processor
