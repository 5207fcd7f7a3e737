# SPDX-License-Identifier: Apache-2.0
"""Builds the semantic graphs that a model reads: by SGB on the overlay, where the design has it, or on the host.

Either way the graphs are the same arrays, so that they can be given to ``feeds`` and ``graph_arrays`` in place of those
that these compose.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum

import numpy as np

from hetfab.driver.graph.arrays import metapaths_of
from hetfab.driver.graph.feeds import SemanticGraphs
from hetfab.driver.graph.heterograph import Edges, HeteroGraph
from hetfab.driver.graph.semantic import adjacencies
from hetfab.driver.graph.summary import reverse_pairs
from hetfab.driver.loaded_stream import LoadedStream
from hetfab.driver.session import DEADLINE_SECONDS, Session
from hetfab.overlay.errors import CompilerMissingError, DesignTooSmallError, DeviceMemoryError, LimitExceededError
from hetfab.overlay.isa.codec import Segment
from hetfab.overlay.model.binding import Binding, MetapathEnd
from hetfab.overlay.model.schema import Relation
from hetfab.overlay.program import Program
from hetfab.overlay.semantic.adjacency import Adjacency
from hetfab.overlay.semantic.build import build_semantic_graphs as build_by_definition
from hetfab.overlay.semantic.plan import DEFAULT_LIMIT_BYTES, Plan, plan_semantic_graphs
from hetfab.overlay.semantic.stream import GraphStream, graph_segment, semantic_stream


class BuiltBy(Enum):
    """Who builds semantic graphs."""

    SGB = "sgb"
    HOST = "host"


@dataclass(frozen=True, eq=False)
class BuiltGraphs:
    """Semantic graphs and who built them.

    Attributes:
        graphs: Edges of each metapath, as ``semantic_edges`` gives them.
        by: The overlay or the host.
    """

    graphs: SemanticGraphs
    by: BuiltBy


def bound_metapaths(bindings: Mapping[str, Binding]) -> list[tuple[Relation, ...]]:
    """The metapaths whose semantic graphs a model's inputs are."""
    return list(dict.fromkeys(found.relations for found in bindings.values() if isinstance(found, MetapathEnd)))


def program_graphs(program: Program, graph: HeteroGraph, session: Session) -> SemanticGraphs:
    """The semantic graphs that a program reads, as ``graph_arrays`` takes them.

    Args:
        program: The program.
        graph: The graph; what it lacks is left to ``graph_arrays`` to name.
        session: The overlay that builds them, if it can.

    Raises:
        HetfabError: As ``build_semantic_graphs``.
    """
    paths = [path for path in metapaths_of(program) if all(relation in graph.relations for relation in path)]
    return build_semantic_graphs(graph, paths, session).graphs if paths else {}


def build_semantic_graphs(
    graph: HeteroGraph,
    paths: Iterable[tuple[Relation, ...]],
    session: Session | None = None,
    *,
    limit_bytes: int = DEFAULT_LIMIT_BYTES,
    deadline_seconds: float = DEADLINE_SECONDS,
) -> BuiltGraphs:
    """Builds semantic graphs together, so that they share what they have in common.

    Args:
        graph: The graph.
        paths: Relations along each metapath.
        session: The overlay that builds them if its design has the engine sgb, and design and memory
            have room for them; None for the host.
        limit_bytes: Memory that semantic graphs may take at once.
        deadline_seconds: How long to wait for the overlay.

    Raises:
        RelationMissingError: The graph lacks a relation.
        GraphInvalidError: A metapath's types do not chain.
        LimitExceededError: The estimated memory is above the limit; nothing has been built.
        RunError: The overlay stopped.
    """
    relations = adjacencies(graph)
    by_name = {relation.name: found for relation, found in relations.items()}
    names = {path: tuple(relation.name for relation in path) for path in paths}
    metapaths = {", ".join(name): name for name in names.values()}
    plan = plan_semantic_graphs(metapaths, relations, reverse_pairs(graph), limit_bytes)
    built = None if session is None else _by_sgb(plan, by_name, session, deadline_seconds)
    by = BuiltBy.HOST if built is None else BuiltBy.SGB
    built = _on_host(plan, by_name) if built is None else built
    return BuiltGraphs({path: _edges(built[", ".join(name)]) for path, name in names.items()}, by)


def _by_sgb(
    plan: Plan, relations: Mapping[str, Adjacency], session: Session, deadline_seconds: float
) -> dict[str, Adjacency] | None:
    """By the overlay, None where the design or its memory has no room for the plan."""
    try:
        stream = semantic_stream(plan, relations, session.design.geometry)
        loaded = _loaded(stream, relations, session)
    except (DesignTooSmallError, LimitExceededError, DeviceMemoryError):
        return None
    try:
        loaded.run(deadline_seconds)
        if session.watcher is not None:
            session.watcher.built(stream.words, session.transport.run_log())
        segment = loaded.read(Segment.GRAPH)
        return {name: stream.places[path].read(segment) for name, path in plan.outputs.items()}
    finally:
        loaded.free()


def _loaded(stream: GraphStream, relations: Mapping[str, Adjacency], session: Session) -> LoadedStream:
    content = np.zeros(stream.read_bytes, np.uint8)
    graph_segment(stream, relations, content)
    program = stream.words.reshape(-1).view(np.uint8)
    return LoadedStream(
        session,
        len(stream.words),
        {Segment.PROGRAM: program, Segment.GRAPH: content},
        {Segment.PROGRAM: program.size, Segment.GRAPH: stream.size},
    )


def _on_host(plan: Plan, relations: Mapping[str, Adjacency]) -> dict[str, Adjacency]:
    """By the compiled builder; a board may lack a compiler."""
    from hetfab.hls.build.semantic import SemanticGraphBuilder

    try:
        builder = SemanticGraphBuilder(plan, relations)
    except CompilerMissingError:
        return build_by_definition(plan, relations)
    builder.build()
    return builder.outputs()


def _edges(graph: Adjacency) -> Edges:
    """Edges sorted by row, then by column: a row is a destination."""
    degrees = graph.out_degrees()
    rows = np.repeat(np.arange(graph.rows, dtype=np.int64), degrees)
    falls = np.flatnonzero(graph.ids[1:] < graph.ids[:-1])
    falling = np.zeros(graph.rows, np.bool_)
    falling[rows[falls[rows[falls] == rows[falls + 1]]]] = True
    ids = graph.ids.astype(np.int64)
    # Dense rows come from bitmaps and ascend; the others are short.
    places = np.flatnonzero(np.repeat(falling, degrees))
    keys = np.sort(rows[places] * max(graph.columns, 1) + ids[places])
    ids[places] = keys - rows[places] * max(graph.columns, 1)
    return Edges(ids, rows)
