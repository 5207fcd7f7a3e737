# SPDX-License-Identifier: Apache-2.0
"""Measures the restructurer's orders on public semantic graphs and on generated ones.

*Quality* is vectors moved over a lower bound, whatever the order costs; traffic is the replay of each schedule's log.
*Price* is what the chooser takes, which sees degrees alone: bytes of all passes, the time of the choice and of the
order included, over those of the graph as it is. Times are processor time of one thread here, times the board's
``cpu_ratio``; bytes of an order are its time at the board's bandwidth.
"""

import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse
import scipy.sparse.csgraph

from benchmarks.report import Report, argument_parser, publish
from hetfab.driver.graph.generate import academic
from hetfab.driver.graph.heterograph import HeteroGraph
from hetfab.driver.graph.npz import read_graph
from hetfab.driver.graph.semantic import adjacencies, plan_metapaths
from hetfab.hls.build.restructure import Restructurer, match
from hetfab.hls.build.semantic import SemanticGraphBuilder
from hetfab.overlay.board import read_board
from hetfab.overlay.restructure.candidates import Candidate, Method, portfolio
from hetfab.overlay.restructure.choose import Price
from hetfab.overlay.restructure.schedule import (
    VECTORS,
    Numbers,
    Schedule,
    Sides,
    Widths,
    both_sides,
    list_bytes,
    replay,
)
from hetfab.overlay.semantic.adjacency import Adjacency, adjacency, transpose
from tests.data_folder import find_data

_GRAPHS = ("acm", "dblp", "imdb")
_SLOTS = (128, 512, 2048, 8192)
_VECTOR_BYTES = (64, 256)
_PASSES = (1, 10, 100)
_BOARD = "pynq-z2"
_INT32_BYTES = 4
#: Edges for a vertex above which baselines that move single edges are left out: they lose by far, and take minutes.
_DENSE = 70
#: Orders that are baselines as well.
_SIMPLE = (Method.AS_IS, Method.WALKED_DESTINATIONS)
_REPEATS = 3
_MOST_REPEATS = 50
_LEAST_SECONDS = 0.005
_HEADINGS = ["graph", "edges", "buffer", "bound", "as is", "best baseline", "best order", "order", "visits an edge"]


@dataclass(frozen=True)
class Row:
    """A graph and a buffer; traffic in vectors."""

    graph: str
    slots: int
    sides: Sides
    bound: float
    baselines: dict[str, int]
    orders: dict[Candidate, int]

    @property
    def hard(self) -> bool:
        """Whether neither side fits the buffer."""
        return min(self.sides.active_sources, self.sides.active_destinations) > self.slots - 1

    @property
    def ratio(self) -> float:
        """Of the best order and the bound."""
        return min(self.orders.values()) / self.bound


@dataclass
class Found:
    """What is measured of all graphs."""

    rows: list[Row] = field(default_factory=list)
    priced: dict[int, list[float]] = field(default_factory=lambda: {passes: [] for passes in _PASSES})
    free: list[float] = field(default_factory=list)


def main() -> None:
    """Prints the table and the JSON line."""
    parser = argument_parser(__doc__)
    parser.add_argument("--data", type=Path, default=find_data(), help="folder of public graphs")
    arguments = parser.parse_args()
    if arguments.data is None:
        parser.error("no folder of public graphs: set HETFAB_DATA or give --data")
    found, held_out, drawn = Found(), Found(), Found()
    values: dict[str, Any] = {"board": _BOARD}
    matchings: dict[str, tuple[float, float]] = {}
    for name in _GRAPHS:
        public = read_graph(arguments.data / name / "graph.npz")
        if "APVPA" in public.metapaths:
            values["unsorted_apvpa_speedup"] = unsorted_speedup(public)
        for label, graph in semantic_graphs(public, name):
            measure(label, graph, found)
            matchings[label] = measure_matching(graph)
    for label, graph in generated():
        measure(label, graph, held_out)
    for label, graph in unstructured():
        measure(label, graph, drawn)
    values |= quality(found) | price(found)
    values["heldout_graphs"] = len({row.graph for row in held_out.rows})
    values["geomean_heldout"] = statistics.geometric_mean(row.ratio for row in held_out.rows)
    values["total_bytes_over_asis_heldout_100"] = statistics.geometric_mean(held_out.priced[100])
    values["geomean_unstructured"] = statistics.geometric_mean(row.ratio for row in drawn.rows)
    values["matching_over_scipy_max"] = max(ratio for _, ratio in matchings.values())
    values["edge_visits_max"] = max(visits for label, (visits, _) in matchings.items() if label.split()[1].islower())
    rows = [_shown(row, matchings.get(row.graph)) for row in found.rows + held_out.rows + drawn.rows if row.hard]
    title = "traffic over the bound, replayed; graphs and buffers where neither side fits"
    publish(Report(title, _HEADINGS, rows, values), arguments.as_json)


def semantic_graphs(graph: HeteroGraph, name: str) -> Iterator[tuple[str, Sides]]:
    """Relations and semantic graphs of all metapaths."""
    relations = adjacencies(graph)
    by_name = {relation.name: found for relation, found in relations.items()}
    builder = SemanticGraphBuilder(plan_metapaths(graph, relations), by_name)
    builder.build()
    for label, found in (by_name | builder.outputs()).items():
        yield f"{name} {label}", both_sides(found)


def generated() -> Iterator[tuple[str, Sides]]:
    """Graphs that no order, share or price was tuned on: of the demo's generator, other seeds, densities, skews."""
    for seed, papers, authors, terms, skew in (
        (101, 6000, 9000, 2500, 2.0),
        (102, 12000, 5000, 700, 2.0),
        (105, 9000, 3000, 1500, 3.0),
        (106, 5000, 8000, 4000, 1.0),
    ):
        graph = academic(seed, papers, authors, terms, skew)
        for relation, found in adjacencies(graph).items():
            if relation.name in ("cites", "written_by", "has_term"):
                yield f"seed {seed} {relation.name}", both_sides(found)


def unstructured() -> Iterator[tuple[str, Sides]]:
    """The same, with nothing but degrees: every edge draws its ends at random, evenly or skewed."""
    for seed, edges, skew in ((103, 40_000, 1.0), (104, 120_000, 3.0)):
        rng = np.random.default_rng(seed)
        ends = [(rng.random(edges) ** skew * vertices).astype(np.int64) for vertices in (5000, 4000)]
        source, destination = (rng.permutation(vertices)[end] for vertices, end in zip((5000, 4000), ends, strict=True))
        yield f"seed {seed} skew {skew:.0f}", both_sides(adjacency(source, destination, 5000, 4000))


def measure(label: str, graph: Sides, found: Found) -> None:
    """Measures all buffers of a graph."""
    restructurer = Restructurer(graph)
    for slots in _SLOTS:
        candidates = portfolio(graph, slots)
        made = {candidate: restructurer.make(candidate) for candidate in candidates}
        vectors = {candidate: replay(schedule, graph).bytes(VECTORS) for candidate, schedule in made.items()}
        orders = {candidate: count for candidate, count in vectors.items() if candidate.method not in _SIMPLE}
        baselines = measure_baselines(graph, restructurer, slots, vectors[candidates[0]])
        found.rows.append(Row(label, slots, graph, lower_bound(graph, slots), baselines, orders))
        for vector in _VECTOR_BYTES:
            measure_price(graph, restructurer, slots, Widths(vector, _INT32_BYTES * vector, vector), made, found)


def lower_bound(graph: Sides, slots: int) -> float:
    """Vectors that any order moves.

    Each edge is charged to the end that enters later. A first entry does at most as many edges as the vertex has and as
    the buffer holds other vertices; another one at most that many, and costs a vector.
    """
    others = slots - 1
    first = sum(int(np.minimum(side.out_degrees(), others).sum()) for side in (graph.by_source, graph.by_destination))
    active = graph.active_sources + graph.active_destinations
    return max(active + max(0, (graph.edges - first) / others), graph.edges / slots)


def measure_baselines(graph: Sides, restructurer: Restructurer, slots: int, as_is: int) -> dict[str, int]:
    """Vectors that simple orders move."""
    found = {"as is": as_is, "destination tiling": destination_tiling(graph, slots)}
    if graph.edges > _DENSE * (graph.active_sources + graph.active_destinations):
        return found
    walked = Candidate(Method.WALKED_DESTINATIONS, slots)
    found["BFS"] = replay(restructurer.make(walked), graph).bytes(VECTORS)
    orders = {"RCM": reverse_cuthill_mckee(graph)} | dict(subgraphs_by_id(graph))
    for name, (sources, destinations) in orders.items():
        found[name] = replay(restructurer.replay(sources, destinations, slots), graph).bytes(VECTORS)
    return found


def destination_tiling(graph: Sides, slots: int) -> int:
    """Tiles of all slots but one, by id: sources of each tile and results."""
    rows = np.flatnonzero(graph.by_destination.out_degrees())
    tile = np.zeros(graph.destinations, np.int64)
    tile[rows] = np.arange(len(rows)) // (slots - 1)
    of_edge = np.repeat(tile, graph.by_destination.out_degrees())
    met = np.unique(of_edge * graph.sources + graph.by_destination.ids)
    return len(met) + len(rows)


def reverse_cuthill_mckee(graph: Sides) -> tuple[Numbers, Numbers]:
    """Edges by the place of their destination, then source, in scipy's reverse Cuthill-McKee order of both sides."""
    half = _matrix(graph.by_source)
    whole = scipy.sparse.bmat([[None, half], [half.T, None]], format="csr")
    place = np.argsort(scipy.sparse.csgraph.reverse_cuthill_mckee(whole, symmetric_mode=True))
    sources = graph.by_destination.ids
    destinations = np.repeat(np.arange(graph.destinations), graph.by_destination.out_degrees())
    order = np.lexsort((place[sources], place[graph.sources + destinations]))
    return sources[order].astype(np.uint32), destinations[order].astype(np.uint32)


def subgraphs_by_id(graph: Sides) -> Iterator[tuple[str, tuple[Numbers, Numbers]]]:
    """The three subgraphs of a least cover, edges by id: around the cover, and by destination throughout."""
    turned = graph.active_sources > graph.active_destinations
    found = match(graph.by_destination if turned else graph.by_source)
    rows = (found.columns >= 0) & ~found.dead[found.columns]
    covering, covered = (found.dead, rows) if turned else (rows, found.dead)
    sources = np.repeat(np.arange(graph.sources), graph.by_source.out_degrees())
    destinations = graph.by_source.ids
    subgraph = np.where(covering[sources], covered[destinations].astype(int), 2)
    for name, around in (("three subgraphs around the cover", subgraph < 2), ("three subgraphs by destination", False)):
        order = np.lexsort((np.where(around, destinations, sources), np.where(around, sources, destinations), subgraph))
        yield name, (sources[order].astype(np.uint32), destinations[order].astype(np.uint32))


def measure_price(
    graph: Sides,
    restructurer: Restructurer,
    slots: int,
    widths: Widths,
    made: dict[Candidate, Schedule],
    found: Found,
) -> None:
    """Bytes of what the chooser takes, over those of the graph as it is, for every number of passes."""
    board = read_board(_BOARD)

    def pass_bytes(candidate: Candidate) -> int:
        moved = replay(made[candidate], graph).bytes(widths)
        return moved + list_bytes(made[candidate], graph, candidate.listed_slots)

    as_is = pass_bytes(Candidate(Method.AS_IS, slots))
    found.free.append(min(pass_bytes(candidate) for candidate in made) / as_is)
    costs: dict[Candidate, float] = {Candidate(Method.AS_IS, slots): 0.0}
    for passes in _PASSES:
        given = Price(slots, widths, passes, board.dram_bytes_per_second, board.cpu_ratio)
        taken = restructurer.choose(given).candidate
        if taken not in costs:
            costs[taken] = seconds(partial(restructurer.find, taken))
            made.setdefault(taken, restructurer.make(taken))
        spent = given.cost_bytes(1e9 * (costs[taken] + seconds(restructurer.choice(given))))
        found.priced[passes].append((passes * pass_bytes(taken) + spent) / (passes * as_is))


def measure_matching(graph: Sides) -> tuple[float, float]:
    """Edge visits of an edge from the better side, and time over scipy's on sorted rows."""
    rows = graph.by_source if graph.active_sources <= graph.active_destinations else graph.by_destination
    matrix = _matrix(graph.by_source)
    size = np.count_nonzero(scipy.sparse.csgraph.maximum_bipartite_matching(matrix, "column") >= 0)
    found = match(rows)
    if found.size != size:
        raise AssertionError(f"a matching has {found.size} pairs, scipy's has {size}")
    theirs = seconds(lambda: scipy.sparse.csgraph.maximum_bipartite_matching(matrix, "column"))
    return found.edge_visits / graph.edges, seconds(Restructurer(graph).matching()) / theirs


def unsorted_speedup(graph: HeteroGraph) -> float:
    """Scipy's time over ours on APVPA with rows in the order in which scipy's product leaves them."""
    by_name = {relation.name: _matrix(found) for relation, found in adjacencies(graph).items()}
    first, *others = graph.metapaths["APVPA"]
    reach = by_name[first]
    for name in others:
        reach = reach @ by_name[name]
    rows = Adjacency(reach.indptr.astype(np.int64), reach.indices.astype(np.int64), reach.shape[1])
    ours = Restructurer(Sides(rows, transpose(rows))).matching()
    theirs = seconds(lambda: scipy.sparse.csgraph.maximum_bipartite_matching(reach, "column"))
    return theirs / seconds(ours)


def quality(found: Found) -> dict[str, Any]:
    """Order quality alone."""
    hard = [row.ratio for row in found.rows if row.hard]
    worst = max(found.rows, key=lambda row: min(row.orders.values()) / min(row.baselines.values()))
    return {
        "rows": len(found.rows),
        "hard_rows": len(hard),
        "geomean_all": statistics.geometric_mean(row.ratio for row in found.rows),
        "geomean_hard": statistics.geometric_mean(hard),
        "worst_vs_best_baseline": min(worst.orders.values()) / min(worst.baselines.values()),
        "geomean_best_baseline": statistics.geometric_mean(min(r.baselines.values()) / r.bound for r in found.rows),
    }


def price(found: Found) -> dict[str, Any]:
    """Orders chosen by price."""
    totals = {f"total_bytes_over_asis_{passes}": statistics.geometric_mean(found.priced[passes]) for passes in _PASSES}
    return totals | {"free_order": statistics.geometric_mean(found.free)}


def seconds(work: Callable[[], object]) -> float:
    """Processor time of this thread, the best of several calls; of more calls where they are short."""
    taken: list[float] = []
    while len(taken) < _REPEATS or (sum(taken) < _LEAST_SECONDS and len(taken) < _MOST_REPEATS):
        begin = time.thread_time()
        work()
        taken.append(time.thread_time() - begin)
    return min(taken)


def _shown(row: Row, matching: tuple[float, float] | None) -> list[str]:
    best = min(row.orders, key=lambda candidate: row.orders[candidate])
    ratios = [f"{count / row.bound:.2f}" for count in (row.baselines["as is"], min(row.baselines.values()))]
    return [
        *(row.graph, f"{row.sides.edges:,}", str(row.slots), f"{row.bound:,.0f}", *ratios, f"{row.ratio:.2f}"),
        str(best),
        f"{matching[0]:.2f}" if matching else "",
    ]


def _matrix(graph: Adjacency) -> Any:
    arrays = np.ones(graph.edges, np.bool_), graph.ids.astype(np.int32), graph.starts.astype(np.int32)
    return scipy.sparse.csr_matrix(arrays, shape=(graph.rows, graph.columns))


if __name__ == "__main__":
    main()
