# SPDX-License-Identifier: Apache-2.0
"""Modelled time in which SGB builds the semantic graphs of a model: from left to right, as planned, and a bound.

As planned is the run log of the emulated engine. From left to right every metapath is built on its own, one relation
after the other, nothing is kept, and each product is told the exact degrees of what it multiplies; its cost is that of
the cost functions, which equal the run log (``overlay/costs/graphs.py``), as a product may follow more edges than one
instruction counts.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hetfab.driver.graph.heterograph import HeteroGraph
from hetfab.driver.graph.semantic import adjacencies
from hetfab.driver.graph.summary import reverse_pairs
from hetfab.hls.build.semantic import SemanticGraphBuilder
from hetfab.hls.build.semantic_run import SemanticRun
from hetfab.overlay.costs.bursts import BEAT_BYTES
from hetfab.overlay.costs.graphs import PlacedGraph, compose_cost, widen_cost
from hetfab.overlay.costs.program_cost import expected_records
from hetfab.overlay.design import Geometry
from hetfab.overlay.isa import codec
from hetfab.overlay.isa.spec import isa
from hetfab.overlay.isa.words import pack
from hetfab.overlay.layouts import padded
from hetfab.overlay.model.schema import Relation
from hetfab.overlay.program import Words
from hetfab.overlay.run_log import RUN_LOG_DTYPE
from hetfab.overlay.semantic.adjacency import Adjacency
from hetfab.overlay.semantic.plan import Compose, plan_semantic_graphs
from hetfab.overlay.timeline.machine import Machine
from hetfab.overlay.timeline.simulate import simulate

_ID_BYTES = 4
_REACHED, _NEXT = "what is reached", "the next relation"
#: Memory of the products between: more than any plan takes, as nothing is dropped for this baseline's sake.
_LIMIT_BYTES = 1 << 34


@dataclass(frozen=True)
class Builds:
    """Milliseconds, modelled, and work.

    Attributes:
        left_to_right: Each metapath on its own, from its first relation on.
        planned: By ``plan_semantic_graphs``.
        bound: A cycle for each edge of the results, or their bytes at the DRAM's rate, whichever takes longer.
        edges: Of all semantic graphs.
    """

    left_to_right: float
    planned: float
    bound: float
    edges: int


def builds(graph: HeteroGraph, paths: Sequence[tuple[Relation, ...]], geometry: Geometry, machine: Machine) -> Builds:
    """The builds of metapaths' semantic graphs; all are 0 without metapaths.

    Args:
        graph: The graph.
        paths: Relations along each metapath.
        geometry: Of SGB.
        machine: What it is timed on.
    """
    if not paths:
        return Builds(0.0, 0.0, 0.0, 0)
    relations = adjacencies(graph)
    by_name = {relation.name: found for relation, found in relations.items()}
    names = {", ".join(_names(path)): _names(path) for path in paths}
    plan = plan_semantic_graphs(names, relations, reverse_pairs(graph))
    with SemanticRun(plan, by_name, geometry) as overlay:
        overlay.run()
        planned = simulate(overlay.stream.words, overlay.emulator.run_log(), machine).milliseconds
        results = overlay.outputs()
    edges = sum(result.edges for result in results.values())
    words, log = left_to_right_stream(sorted(paths, key=lambda path: (len(path), _names(path))), by_name, geometry)
    return Builds(
        left_to_right=simulate(words, log, machine).milliseconds,
        planned=planned,
        bound=max(edges, edges * _ID_BYTES / machine.dram_rate) / (1e3 * machine.clock_mhz),
        edges=edges,
    )


def left_to_right_stream(
    paths: Sequence[tuple[Relation, ...]], relations: Mapping[str, Adjacency], geometry: Geometry
) -> tuple[Words, npt.NDArray[Any]]:
    """All products as instructions and their run log; graphs lie as ``semantic_stream`` places them."""
    placed: dict[str, PlacedGraph] = {}
    end = 0
    for name in dict.fromkeys(name for path in paths for name in _names(path)):
        placed[name] = PlacedGraph(relations[name], end)
        end = _end(placed[name], relations[name].edges)
    end = padded(end, isa().size("page_bytes"))
    parts = []
    for path in paths:
        left = placed[path[0].name]
        for relation, (step, result) in zip(path[1:], left_to_right(path, relations), strict=True):
            right, out = placed[relation.name], PlacedGraph(result, end)
            bitmaps = _end(out, step.most_edges)
            parts.append(product_stream(step, (left, right, out), bitmaps, geometry))
            end = bitmaps + (padded(_ID_BYTES * right.graph.edges, isa().block_bytes) if step.bitmap_bytes else 0)
            left = out
    words, logs = zip(*parts, strict=True)
    return np.concatenate(words), np.concatenate(logs)


def left_to_right(
    path: tuple[Relation, ...], relations: Mapping[str, Adjacency]
) -> Iterator[tuple[Compose, Adjacency]]:
    """The products of a metapath from its first relation on: how each is built, and its result."""
    reached = relations[path[0].name]
    for relation in path[1:]:
        factors = {_REACHED: reached, _NEXT: relations[relation.name]}
        ends = {
            Relation(path[0].source, _REACHED, relation.source): reached,
            Relation(relation.source, _NEXT, relation.destination): factors[_NEXT],
        }
        plan = plan_semantic_graphs({"product": (_REACHED, _NEXT)}, ends, None, _LIMIT_BYTES)
        builder = SemanticGraphBuilder(plan, factors)
        builder.build()
        reached = builder.outputs()["product"]
        (step,) = (step for step in plan.steps if isinstance(step, Compose))
        yield step, reached


def product_stream(
    step: Compose, graphs: tuple[PlacedGraph, PlacedGraph, PlacedGraph], bitmaps: int, geometry: Geometry
) -> tuple[Words, npt.NDArray[Any]]:
    """One product as instructions and their run log, the bitmaps of its right factor included where they pay."""
    left, right, result = graphs
    threshold, wide = min(step.threshold, geometry.sgb_ids), step.bitmap_bytes > 0
    fields = [{"rows": each.graph.rows, "edges": each.graph.edges, "address": 0} for each in graphs]
    configured = pack(
        [
            codec.configure_left(**fields[0]),
            codec.configure_right(**fields[1]),
            codec.configure_bitmap(wide=wide, threshold=threshold, columns=right.graph.columns, address=0),
        ]
    )
    costs = [widen_cost(right, bitmaps)] if wide else []
    costs.append(compose_cost(left, right, result, threshold, bitmaps=bitmaps if wide else None))
    log = np.zeros(len(costs), RUN_LOG_DTYPE)
    log["engine"] = isa().engine("sgb").id
    for name in ("cycles", "read_bytes", "read_bursts", "write_bytes", "write_bursts", "macs", "edges", "misses"):
        log[name] = np.concatenate([getattr(cost, name) for cost in costs])
    work = pack([codec.widen()] * wide + [codec.compose(**fields[2], to_fifo=0)])
    before = expected_records(configured, np.zeros(0, np.uint8), geometry)
    return np.concatenate([configured, work]), np.concatenate([before, log])


def _names(path: tuple[Relation, ...]) -> tuple[str, ...]:
    return tuple(relation.name for relation in path)


def _end(placed: PlacedGraph, room: int) -> int:
    """The first block behind a graph with room for so many edges."""
    return padded(placed.ids_beat * BEAT_BYTES + _ID_BYTES * room, isa().block_bytes)
