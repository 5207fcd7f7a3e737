# SPDX-License-Identifier: Apache-2.0
"""Chooses where AGG finds rows of features for a graph: each way is compiled, bound and timed; the fastest is taken.

Times are the timeline's, from the cost functions, modelled; the scratchpad's ways cost the board's processor what it
takes to order edges.
"""

import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass

import numpy as np

from hetfab.overlay.bind import BoundProgram, GraphArrays, IncomingEdges, bind
from hetfab.overlay.board import read_board
from hetfab.overlay.costs.cycles import WORDS_PER_TAG, held_trips
from hetfab.overlay.costs.gathers import Tags, held_edges
from hetfab.overlay.costs.program_cost import expected_log
from hetfab.overlay.design import Geometry
from hetfab.overlay.features import check_features, feature_edges
from hetfab.overlay.isa.codec import ReduceSource
from hetfab.overlay.isa.spec import isa
from hetfab.overlay.layouts import slot_beats
from hetfab.overlay.parts import PART_ROWS, in_parts
from hetfab.overlay.program import Edges, Program
from hetfab.overlay.schedules import Numbers, Schedule, pinned
from hetfab.overlay.timeline.machine import machine
from hetfab.overlay.timeline.simulate import simulate


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
    parted, seconds = _worthwhile(first, graph) if geometry.feature_words else ((), 0.0)
    timed = machine(first.design)
    sources.sort(key=lambda source: source is not ReduceSource.TAGS)
    ways: list[tuple[ReduceSource, tuple[str, ...], float]] = [(source, (), 0.0) for source in sources]
    ways += [(ReduceSource.TAGS, parted, seconds)] if parted else []
    for source, names, making in ways:
        schedules = _TimedSchedules()
        program = first if source is ReduceSource.TAGS and not names else compiles(source, names)
        bound = bind(program, graph, scheduler=schedules, side_by_side=True)
        milliseconds = simulate(bound.words, expected_log(bound), timed).milliseconds
        yield RowChoice(source, names, bound, milliseconds, 1e3 * ratio * (making + schedules.seconds))


def fastest(choices: Collection[RowChoice], inferences: int) -> RowChoice:
    """The way that takes least for so many inferences on the same graph."""
    return min(choices, key=lambda choice: choice.total(inferences))


class _TimedSchedules:
    """The scheduler that ``bind`` takes by itself, which counts the processor time that it takes."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self, indptr: Numbers, sources: Numbers, slots: int) -> Schedule:
        """Makes a schedule."""
        begin = time.thread_time()
        made = pinned(indptr, sources, slots)
        self.seconds += time.thread_time() - begin
        return made


def _worthwhile(program: Program, graph: GraphArrays) -> tuple[tuple[str, ...], float]:
    """Edge sets of which AGG takes fewer trips in parts, and the processor time that ordering these takes."""
    names, seconds = [], 0.0
    for edges in program.edges:
        if (edges.of_graph or edges.features) and not edges.weighted:
            saved, making = trips_saved(*_incoming(program, edges, graph), program.design.geometry)
            if saved > 0:
                names.append(edges.name)
                seconds += making
    return tuple(names), seconds


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
        Trips, and the processor time that ordering the edges takes.
    """
    groups, beats = geometry.agg_groups, geometry.agg_word_beats
    blocks = geometry.feature_words // WORDS_PER_TAG
    bits = min(geometry.feature_words // slot_beats(groups, beats), blocks).bit_length() - 1
    rows = min(isa().size("attend_words"), geometry.sum_words // 2) // groups
    degrees = np.diff(edges.indptr).astype(np.int64)
    if bits < 0 or rows < PART_ROWS or not len(edges.sources) or held_trips(groups, beats, True) >= groups:
        return 0, 0.0
    begin = time.thread_time()
    parts = in_parts(edges.indptr, edges.sources, vertices, 1 << bits, rows)
    in_order = parts.take(np.asarray(edges.sources))
    making = time.thread_time() - begin
    merges = np.zeros(len(parts.degrees), bool)
    merges[parts.places[1:][parts.places[1:] >= 0]] = True
    present = np.zeros(len(parts.degrees), bool)
    present[parts.places[parts.places >= 0]] = True

    def trips(ids: Numbers, runs: Numbers, merged: Numbers, empty: int) -> int:
        missed = Tags(geometry).misses(np.asarray(ids, np.int64), 0, bits)
        held = held_edges(np.asarray(runs, np.int64), ~missed, merged)
        return (len(ids) + empty - held) * max(groups, 2) + held * int(held_trips(groups, beats, True))

    empty = int(np.count_nonzero(degrees == 0))
    of_tags = trips(edges.sources, degrees, np.zeros(len(degrees), bool), empty)
    of_dram = (len(edges.sources) + empty) * groups
    of_parts = trips(in_order, parts.degrees, merges, int(np.count_nonzero(present & (parts.degrees == 0))))
    return min(of_tags, of_dram) - of_parts, making
