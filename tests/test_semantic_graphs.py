# SPDX-License-Identifier: Apache-2.0
"""Semantic graphs for a model's inputs: by SGB on the overlay or on the host, the same arrays as composed ones."""

from collections.abc import Iterator

import numpy as np
import pytest

from hetfab.driver.emulated import EmulatedTransport
from hetfab.driver.graph.arrays import graph_arrays, metapaths_of
from hetfab.driver.graph.feeds import semantic_edges
from hetfab.driver.graph.heterograph import Edges, HeteroGraph
from hetfab.driver.semantic_graphs import BuiltBy, build_semantic_graphs, program_graphs
from hetfab.driver.session import Session
from hetfab.driver.transport import DeviceBuffer
from hetfab.hls.build import semantic as host_builder
from hetfab.overlay.bind import bind
from hetfab.overlay.errors import CompilerMissingError, DeviceMemoryError, LimitExceededError
from hetfab.overlay.isa.codec import Segment
from hetfab.overlay.model.schema import Relation
from tests.conftest import SMALL_GEOMETRY
from tests.programs import compiled, design_of, quantized
from tests.random_models import random_case

TO, BACK = Relation("a", "ab", "b"), Relation("b", "ba", "a")
#: Both directions of a relation, and a longer path that has a part in common with the others.
PATHS = [(TO, BACK), (BACK, TO), (TO, BACK, TO)]


def random_graph(seed: int, columns: int = 70) -> HeteroGraph:
    rng = np.random.default_rng(seed)
    source, destination = rng.integers(0, 40, 150), rng.integers(0, columns, 150)
    relations = {TO: Edges(source, destination), BACK: Edges(destination, source)}
    return HeteroGraph("random", "a", {"a": 40, "b": columns}, relations)


@pytest.fixture(scope="module")
def session() -> Iterator[Session]:
    design = design_of(SMALL_GEOMETRY)
    with EmulatedTransport(design) as transport:
        yield Session(transport, design)


@pytest.mark.parametrize("seed", range(4))
def test_the_overlay_and_the_host_give_what_is_composed(seed: int, session: Session) -> None:
    graph = random_graph(seed)
    for built, by in (
        (build_semantic_graphs(graph, PATHS, session), BuiltBy.SGB),
        (build_semantic_graphs(graph, PATHS), BuiltBy.HOST),
    ):
        assert built.by is by
        assert list(built.graphs) == PATHS
        for path in PATHS:
            expected = semantic_edges(graph, path)
            for found, array in zip(built.graphs[path], expected, strict=True):
                assert found.dtype == array.dtype and np.array_equal(found, array)


def test_programs_bind_alike_to_built_and_composed_graphs(session: Session) -> None:
    """Over metapaths that a random model reads."""
    read = 0
    for seed in range(6):
        case = random_case(seed)
        program = compiled(quantized(case).model, case.graph, SMALL_GEOMETRY)
        graphs = program_graphs(program, case.graph, session)
        assert list(graphs) == metapaths_of(program)
        given, composed = (bind(program, graph_arrays(program, case.graph, made)) for made in (graphs, None))
        assert given.hash() == composed.hash()
        assert np.array_equal(given.contents[Segment.GRAPH], composed.contents[Segment.GRAPH])
        read += len(graphs)
    assert read


def test_graphs_that_the_design_cannot_build_are_the_hosts(session: Session) -> None:
    graph = random_graph(0, columns=session.design.geometry.sgb_columns + 1)
    built = build_semantic_graphs(graph, [(TO, BACK, TO)], session)
    assert built.by is BuiltBy.HOST
    assert np.array_equal(built.graphs[TO, BACK, TO].source, semantic_edges(graph, (TO, BACK, TO)).source)


def test_graphs_that_the_memory_has_no_room_for_are_the_hosts(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(size: int) -> DeviceBuffer:
        raise DeviceMemoryError("no memory", "some", "free some")

    with monkeypatch.context() as patch:
        patch.setattr(session.transport, "allocate", full)
        assert build_semantic_graphs(random_graph(2), PATHS, session).by is BuiltBy.HOST
    assert build_semantic_graphs(random_graph(2), PATHS, session).by is BuiltBy.SGB


def test_without_a_compiler_the_host_composes_by_definition(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*arguments: object) -> None:
        raise CompilerMissingError("no compiler", "one", "install one")

    monkeypatch.setattr(host_builder, "SemanticGraphBuilder", missing)
    graph = random_graph(1)
    found = build_semantic_graphs(graph, PATHS).graphs
    assert all(np.array_equal(found[path].source, semantic_edges(graph, path).source) for path in PATHS)


def test_more_memory_than_stated_is_refused_before_anything_is_built(session: Session) -> None:
    with pytest.raises(LimitExceededError, match="at most 100 bytes, the stated limit of memory"):
        build_semantic_graphs(random_graph(0), PATHS, session, limit_bytes=100)
