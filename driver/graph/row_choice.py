# SPDX-License-Identifier: Apache-2.0
"""Chooses where AGG finds rows of features for a graph: each way is compiled, bound and timed; the fastest is taken.

Times are the timeline's, from the cost functions, modelled; the scratchpad's ways cost the board's processor what it
takes to order edges.
"""

import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from hetfab.driver.edges_in_parts import make_parts
from hetfab.overlay.bind import BoundProgram, GraphArrays, IncomingEdges, bind
from hetfab.overlay.board import read_board
from hetfab.overlay.costs.cycles import WORDS_PER_TAG, held_trips
from hetfab.overlay.costs.gathers import Tags, held_edges
from hetfab.overlay.costs.program_cost import expected_log
from hetfab.overlay.design import Geometry
from hetfab.overlay.features import check_features, feature_edges
from hetfab.overlay.isa.codec import ReduceSource
from hetfab.overlay.isa.spec import isa
from hetfab.overlay.layouts import id_array, id_bytes, slot_beats
from hetfab.overlay.parts import PART_ROWS, Ids, Parts
from hetfab.overlay.program import Edges, Program
from hetfab.overlay.schedules import Numbers, Schedule, pinned
from hetfab.overlay.timeline.machine import machine
from hetfab.overlay.timeline.simulate import simulate

_MOST_GROUPS, _TRIES = 4, 3


@dataclass(frozen=True, eq=False)
class RowChoice:
    """A way to find rows, and what it takes.

    Attributes:
        source: Of edges that are in no parts.
        in_parts: Edge sets in parts.
        bound: The program, bound to the graph.
        milliseconds: Of an inference, modelled.
        making: Milliseconds of the board's processor, modelled, before the first inference.
    """

    source: ReduceSource
    in_parts: tuple[str, ...]
    bound: BoundProgram
    milliseconds: float
    making: float

    @property
    def name(self) -> str:
        """As people read it."""
        parts = f", {len(self.in_parts)} in parts" if self.in_parts else ""
        return f"{self.source.name.lower()}{parts}"

    @property
    def taken(self) -> tuple[ReduceSource, Program, BoundProgram]:
        """The source, the program and the bound program."""
        return self.source, self.bound.program, self.bound

    def total(self, inferences: int) -> float:
        """Milliseconds of so many inferences on the same graph."""
        return self.making + self.milliseconds * inferences


Compiles = Callable[[ReduceSource, Collection[str]], Program]


def row_choices(compiles: Compiles, arrays: Callable[[Program], GraphArrays]) -> Iterator[RowChoice]:
    """Every way that there is for a graph; direct-mapped tags come first.

    Args:
        compiles: Compiles the model for a source of rows and edge sets in parts.
        arrays: The graph as a program's arrays.
    """
    first = compiles(ReduceSource.TAGS, ())
    graph = arrays(first)
    geometry, ratio = first.design.geometry, read_board(first.design.board).cpu_ratio
    sources = list(ReduceSource) if geometry.feature_words else [ReduceSource.DRAM]
    timed = machine(first.design)
    sources.sort(key=lambda source: source is not ReduceSource.TAGS)
    ways: list[tuple[ReduceSource, tuple[str, ...]]] = [(source, ()) for source in sources]
    if geometry.feature_words:
        ways += [(ReduceSource.TAGS, names) for names in cheapest_first(_worthwhile(first, graph))]
    for source, names in ways:
        orders = _TimedOrders()
        program = first if source is ReduceSource.TAGS and not names else compiles(source, names)
        bound = bind(program, graph, scheduler=orders.schedule, make_parts=orders.make_parts, side_by_side=True)
        milliseconds = simulate(bound.words, expected_log(bound), timed).milliseconds
        yield RowChoice(source, names, bound, milliseconds, 1e3 * ratio * orders.seconds)


def fastest(choices: Collection[RowChoice], inferences: int) -> RowChoice:
    """The way that takes least for so many inferences on the same graph."""
    return min(choices, key=lambda choice: choice.total(inferences))


def cheapest_first(worthwhile: Mapping[str, tuple[int, float]]) -> list[tuple[str, ...]]:
    """Groups of edge sets to put in parts, each holding the one before it: of few inferences only some sets pay.

    Args:
        worthwhile: Of each edge set the trips that parts save, and the processor time that they take.

    Returns:
        At most four groups, of which the last one holds all; first come those that take least for what they save.
    """
    names = sorted(worthwhile, key=lambda name: worthwhile[name][1] / worthwhile[name][0])
    sizes = sorted({-(-len(names) * group // _MOST_GROUPS) for group in range(1, _MOST_GROUPS + 1)})
    return [tuple(names[:size]) for size in sizes if size]


class _TimedOrders:
    """Schedules and parts as programs are bound with them by themselves, and the processor time that these take."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def schedule(self, indptr: Numbers, sources: Numbers, slots: int) -> Schedule:
        """Makes a schedule."""
        begin = time.thread_time()
        made = pinned(indptr, sources, slots)
        self.seconds += time.thread_time() - begin
        return made

    def make_parts(self, indptr: Numbers, ids: Ids, vertices: int, slots: int, tile_rows: int) -> Parts:
        """Puts edges in parts; their records, which are made later, count too.

        Milliseconds as they are, other work on the machine shows in them: the least of a few times counts.
        """
        destinations = np.zeros(isa().record("destination").dtype.itemsize * (len(indptr) - 1), np.uint8)
        seconds = []
        for _ in range(_TRIES):
            given = ids.copy()
            begin = time.thread_time()
            made = make_parts(indptr, given, vertices, slots, tile_rows)
            made.records(destinations)
            seconds.append(time.thread_time() - begin)
        self.seconds += min(seconds)
        return made


def _worthwhile(program: Program, graph: GraphArrays) -> dict[str, tuple[int, float]]:
    """Edge sets of which AGG takes fewer trips in parts: how many fewer, and the processor time that parts take."""
    found = {}
    for edges in program.edges:
        if (edges.of_graph or edges.features) and not edges.weighted:
            saved, seconds = trips_saved(*_incoming(program, edges, graph), program.design.geometry)
            if saved > 0:
                found[edges.name] = saved, seconds
    return found


def _incoming(program: Program, edges: Edges, graph: GraphArrays) -> tuple[IncomingEdges, int]:
    """An edge set of the graph, or the non-zeros of features, and the rows that its sources name."""
    if not edges.features:
        return graph.edges[edges.name], program.all_counts(graph.counts)[edges.source_type]
    tensor = program.tensor(edges.features)
    parts = feature_edges(tensor, check_features(tensor, graph.features.get(tensor.name)), edges.parts)
    return IncomingEdges(parts[edges.part].indptr, parts[edges.part].ids), edges.table_rows


def trips_saved(edges: IncomingEdges, vertices: int, geometry: Geometry) -> tuple[int, float]:
    """Trips of AGG that an edge set in parts saves over the better of DRAM and tags, in a layer as wide as AGG's sums.

    Args:
        edges: By destination.
        vertices: Vertices of the sources' type.
        geometry: The design's.

    Returns:
        Trips, and the processor time that the parts take.
    """
    groups, beats = geometry.agg_groups, geometry.agg_word_beats
    blocks = geometry.feature_words // WORDS_PER_TAG
    bits = min(geometry.feature_words // slot_beats(groups, beats), blocks).bit_length() - 1
    rows = min(isa().size("attend_words"), geometry.sum_words // 2) // groups
    degrees = np.diff(edges.indptr).astype(np.int64)
    if bits < 0 or rows < PART_ROWS or not len(edges.sources) or held_trips(groups, beats, True) >= groups:
        return 0, 0.0
    ids = id_array(edges.sources, vertices).view(f"<u{id_bytes(vertices)}")
    orders = _TimedOrders()
    parts = orders.make_parts(edges.indptr, ids, vertices, 1 << bits, rows)
    places = parts.places()
    merges = np.zeros(len(parts.degrees), bool)
    merges[places[1:][places[1:] >= 0]] = True
    present = np.zeros(len(parts.degrees), bool)
    present[places[places >= 0]] = True

    def trips(ids: Numbers, runs: Numbers, merged: Numbers, empty: int) -> int:
        missed = Tags(geometry).misses(np.asarray(ids, np.int64), 0, bits)
        held = held_edges(np.asarray(runs, np.int64), ~missed, merged)
        return (len(ids) + empty - held) * max(groups, 2) + held * int(held_trips(groups, beats, True))

    empty = int(np.count_nonzero(degrees == 0))
    of_tags = trips(edges.sources, degrees, np.zeros(len(degrees), bool), empty)
    of_dram = (len(edges.sources) + empty) * groups
    of_parts = trips(parts.ids, parts.degrees, merges, int(np.count_nonzero(present & (parts.degrees == 0))))
    return min(of_tags, of_dram) - of_parts, orders.seconds
