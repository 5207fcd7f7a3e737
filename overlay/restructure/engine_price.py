# SPDX-License-Identifier: Apache-2.0
"""What an order costs on RST, expected from degrees, and the choice between the engine and the processor. Modelled.

Cycles are those of ``costs/restructuring.py`` with expected counts, as if neighbours were drawn at random; each run of
ids waits for its first beat. The processor cuts tiles whoever finds the order of what they keep.
"""

import math
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np

from hetfab.overlay.design import Design
from hetfab.overlay.isa.loops import loops
from hetfab.overlay.isa.spec import isa
from hetfab.overlay.restructure.candidates import Candidate, Grow, Method
from hetfab.overlay.restructure.choose import Offer, Price, offers, prices
from hetfab.overlay.restructure.schedule import Sides
from hetfab.overlay.restructure.tiles import balanced_tiles, sample_stride
from hetfab.overlay.semantic.adjacency import Adjacency
from hetfab.overlay.timeline.machine import machine

_CHUNK = isa().size("rst_chunk")
_GROWN = (Grow.GROWN_FROM_FEWEST, Grow.GROWN_FROM_MOST)
_TILES = (Method.DESTINATION_TILES, Method.SOURCE_TILES)


class Finder(StrEnum):
    """Who finds an order."""

    ENGINE = "RST"
    PROCESSOR = "processor"


@dataclass(frozen=True)
class EnginePrice:
    """RST of a design.

    Attributes:
        vertices: Rows and columns of the largest graph that it takes.
        clock_hz: Its clock.
        read_latency: Cycles from a read request to its first beat.
    """

    vertices: int
    clock_hz: float
    read_latency: float


@dataclass(frozen=True)
class Choice:
    """An order and who finds it."""

    offer: Offer
    by: Finder


@dataclass(frozen=True)
class EngineWork:
    """What the engine is expected to do for an order.

    Attributes:
        cycles: Of its loops.
        runs: Runs of ids that wait for DRAM one after the other.
    """

    cycles: float
    runs: float

    def seconds(self, engine: EnginePrice) -> float:
        """How long that takes."""
        return (self.cycles + self.runs * engine.read_latency) / engine.clock_hz


def engine_price(design: Design) -> EnginePrice | None:
    """The engine of a design, None where it has none."""
    if "rst" not in design.geometry.engines:
        return None
    return EnginePrice(design.geometry.rst_vertices, design.clock_mhz * 1e6, machine(design).read_latency)


def choose_finder(graph: Sides, price: Price, engine: EnginePrice | None) -> Choice:
    """The cheapest order with the cheaper of both finders; the order as it is unless another one is clearly better.

    Args:
        graph: The graph.
        price: What the processor and the passes cost.
        engine: RST, None where there is none.
    """
    as_is, *others = offers(graph, price)
    found = [Choice(offer, Finder.PROCESSOR) for offer in others]
    if engine is not None and max(graph.sources, graph.destinations) <= engine.vertices:
        found += [
            Choice(replace(offer, order_bytes=order_bytes), Finder.ENGINE)
            for offer in others
            if (order_bytes := _engine_bytes(graph, price, engine, offer, others)) is not None
        ]
    unchanged = Choice(as_is, Finder.PROCESSOR)
    best = min(found, key=lambda choice: choice.offer.total(price.passes), default=unchanged)
    clearly = prices()["clearly"] * as_is.total(price.passes)
    return best if best.offer.total(price.passes) < clearly else unchanged


def _engine_bytes(graph: Sides, price: Price, engine: EnginePrice, offer: Offer, others: list[Offer]) -> float | None:
    """What an order costs that the engine finds; None where it does not, or would save nothing."""
    candidate = offer.candidate
    if candidate.method is Method.WALKED_DESTINATIONS:
        return _bytes(expected_walk(graph), price, engine)
    if candidate.method not in _TILES or candidate.grow not in (Grow.WALK, *_GROWN):
        return None
    cut = min(
        other.order_bytes
        for other in others
        if other.candidate.method is candidate.method and other.candidate.grow is Grow.FEWEST_EDGES_FIRST
    )
    work = expected_walk(graph) if candidate.grow is Grow.WALK else expected_tiles(graph, candidate)
    return cut + _bytes(work, price, engine)


def _bytes(work: EngineWork, price: Price, engine: EnginePrice) -> float:
    return work.seconds(engine) * price.bytes_per_second


def expected_walk(graph: Sides) -> EngineWork:
    """What a walk does; nothing of it depends on how neighbours lie but the looks for roots."""
    rows, columns = graph.by_destination, graph.by_source
    chunks, active = _chunks(rows), graph.active_sources
    cycles = _before(rows, columns) + _loop("rst_roots", rows.rows, 1)
    cycles += _loop("rst_near", graph.edges, chunks) + _loop("rst_far", graph.edges, active)
    cycles += _requests(chunks + active)
    cycles += _loop("rst_order", graph.active_destinations + active, 2)
    return EngineWork(cycles, chunks + active)


def expected_tiles(graph: Sides, candidate: Candidate) -> EngineWork:
    """What growing tiles does."""
    rows, columns = graph.by_destination, graph.by_source
    if candidate.method is Method.SOURCE_TILES:
        rows, columns = columns, rows
    active, stride = int(np.count_nonzero(rows.out_degrees())), sample_stride(rows)
    tiles = max(1, math.ceil(active / balanced_tiles(active, candidate.slots).kept))
    degrees = columns.out_degrees()
    # A column of degree d is in a tile with this probability.
    met = 1 - (1 - 1 / tiles) ** degrees
    columns_met, visits = tiles * float(met.sum()) / stride, tiles * float((met * degrees).sum()) / stride
    chunks, sampled = _chunks(rows), columns.rows / stride
    cycles = _before(rows, columns) + _loop("rst_clear", columns.rows, 1)
    cycles += _loop("rst_degrees", rows.rows, 1) + _loop("rst_begin", columns.rows, 1) + _loop("rst_sort", rows.rows, 1)
    cycles += _loop("rst_samples", graph.edges / stride, sampled)
    cycles += _loop("rst_next", active, active) + _loop("rst_inside", graph.edges, chunks)
    cycles += _loop("rst_visit", visits, columns_met) + _requests(chunks + sampled + columns_met)
    return EngineWork(cycles, chunks + sampled + columns_met)


def _before(rows: Adjacency, columns: Adjacency) -> float:
    """Reading the starts of both sides, and clearing marks."""
    starts = _loop("rst_numbers", rows.rows + columns.rows + 2, 2) + _requests(2)
    return starts + _loop("rst_clear", max(rows.rows, columns.rows), 1)


def _loop(name: str, trips: float, runs: float) -> float:
    loop = loops()[name]
    return loop.ii * trips + loop.depth * runs


def _requests(runs: float) -> float:
    """Requests ahead of runs, of which most take one burst."""
    return _loop("request_ahead", runs, runs)


def _chunks(rows: Adjacency) -> float:
    return float(np.sum(-(-rows.out_degrees() // _CHUNK)))
