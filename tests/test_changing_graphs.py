# SPDX-License-Identifier: Apache-2.0
"""Graphs with other edges, and semantic graphs that follow them: after any change they are those of a full rebuild."""

import re
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hetfab.driver.emulated import EmulatedTransport
from hetfab.driver.graph.arrays import graph_arrays
from hetfab.driver.graph.changing import ChangingSemanticGraphs
from hetfab.driver.graph.feeds import semantic_edges
from hetfab.driver.graph.graph_rows import GraphRows
from hetfab.driver.graph.heterograph import Edges, HeteroGraph
from hetfab.driver.node_runs import NodeRuns
from hetfab.driver.session import Session
from hetfab.hls.build.changing import CompiledChangingGraphs
from hetfab.overlay.bind import bind
from hetfab.overlay.errors import CompilerMissingError, GraphInvalidError, LimitExceededError, RelationMissingError
from hetfab.overlay.model.schema import Relation
from hetfab.overlay.semantic.changing import ChangingGraphs
from tests.attention_models import attention_case
from tests.conftest import SMALL_GEOMETRY
from tests.programs import compiled, quantized

Random = np.random.Generator
Change = tuple[dict[Relation, Edges], dict[Relation, Edges]]


def drawn(random: Random, counts: dict[str, int], relation: Relation, number: int) -> Edges:
    ends = counts[relation.source], counts[relation.destination]
    source, destination = (random.integers(0, max(end, 1), number if min(ends) else 0) for end in ends)
    return Edges(source, destination)


def graph_of(random: Random) -> tuple[HeteroGraph, list[tuple[Relation, ...]]]:
    """A graph of three types, relations in both directions and within a type, and metapaths of 2 to 4 relations."""
    counts = {name: int(random.choice([0, 1, 3, 9, 30])) for name in "abc"}
    ends = [("a", "b"), ("b", "a"), ("b", "c"), ("c", "b"), ("a", "a"), ("a", "b")]
    relations = {}
    for number, (source, destination) in enumerate(ends):
        relation = Relation(source, f"r{number}", destination)
        relations[relation] = drawn(random, counts, relation, int(random.choice([0, 5, 40, 200])))
    graph = HeteroGraph("random", None, counts, relations)
    paths: set[tuple[Relation, ...]] = set()
    while len(paths) < 4:
        path = [list(relations)[random.integers(len(relations))]]
        for _ in range(int(random.integers(1, 4))):
            following = [each for each in relations if each.source == path[-1].destination]
            path.append(following[random.integers(len(following))])
        paths.add(tuple(path))
    return graph, sorted(paths)


def change_of(random: Random, graph: HeteroGraph) -> Change:
    """Edges that come, some of them there already, and edges that go, of some relations."""
    added, removed = {}, {}
    for relation, edges in graph.relations.items():
        if random.random() < 0.6:
            new = drawn(random, dict(graph.counts), relation, int(random.integers(0, 9)))
            again = random.integers(0, max(len(edges.source), 1), 2 if len(edges.source) else 0)
            source, destination = (
                np.concatenate(pair) for pair in zip(new, (edge[again] for edge in edges), strict=True)
            )
            added[relation] = Edges(source, destination)
        if random.random() < 0.6:
            gone = random.permutation(len(edges.source))[: random.integers(0, 9)]
            removed[relation] = Edges(edges.source[gone], edges.destination[gone])
    return added, removed


def all_go(_: Random, graph: HeteroGraph) -> Change:
    return {}, dict(graph.relations)


def go_and_come_back(random: Random, graph: HeteroGraph) -> Change:
    """The same edges in both: semantic graphs stay as they are."""
    removed = change_of(random, graph)[1]
    return removed, removed


def doubled(_: Random, graph: HeteroGraph) -> Change:
    """A parallel edge beside each: semantic graphs stay as they are."""
    return dict(graph.relations), {}


CHANGES = (change_of, all_go, go_and_come_back, doubled)
FOLLOWERS = ("compiled", "numpy")


def following(follower: str, graph: HeteroGraph, paths: Sequence[tuple[Relation, ...]]) -> ChangingSemanticGraphs:
    """Semantic graphs that follow a graph, with a compiler or as where there is none."""

    def none(*_: object) -> None:
        raise CompilerMissingError("no compiler", "one", "install one")

    with pytest.MonkeyPatch.context() as patch:
        if follower == "numpy":
            patch.setattr("hetfab.hls.build.changing.CompiledChangingGraphs", none)
        semantic = ChangingSemanticGraphs(graph, paths)
    kind = CompiledChangingGraphs if follower == "compiled" else ChangingGraphs
    assert isinstance(semantic._graphs, kind)
    return semantic


def assert_rebuilt(semantic: ChangingSemanticGraphs, paths: Sequence[tuple[Relation, ...]]) -> None:
    found = semantic.edges()
    for path in paths:
        expected = semantic_edges(semantic.graph, path)
        np.testing.assert_array_equal(found[path].source, expected.source)
        np.testing.assert_array_equal(found[path].destination, expected.destination)


@pytest.mark.parametrize("follower", FOLLOWERS)
@given(seed=st.integers(0, 2**32 - 1), changes=st.lists(st.sampled_from(CHANGES), min_size=1, max_size=4))
@settings(max_examples=40, deadline=None)
def test_updated_graphs_are_those_of_a_full_rebuild(
    follower: str, seed: int, changes: list[Callable[[Random, HeteroGraph], Change]]
) -> None:
    random = np.random.default_rng(seed)
    graph, paths = graph_of(random)
    semantic = following(follower, graph, paths)
    assert_rebuilt(semantic, paths)
    for change in changes:
        before = {path: semantic_edges(semantic.graph, path) for path in paths}
        changed_rows = semantic.update(*change(random, semantic.graph))
        assert_rebuilt(semantic, paths)
        for path in paths:
            expected = semantic_edges(semantic.graph, path)
            width = max(semantic.graph.counts[path[-1].destination], 1)
            keys = [edges.destination * width + edges.source for edges in (before[path], expected)]
            assert changed_rows[path].tolist() == np.unique(np.setxor1d(*keys) // width).tolist()
            rows = random.permutation(semantic.graph.counts[path[0].source])[:5]
            starts, ids = semantic.rows(path, rows)
            for number, row in enumerate(rows):
                assert (
                    ids[starts[number] : starts[number + 1]].tolist()
                    == expected.source[expected.destination == row].tolist()
                )


@pytest.mark.parametrize("follower", FOLLOWERS)
@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=10, deadline=None)
def test_a_graph_that_was_emptied_and_filled_again_is_the_same(follower: str, seed: int) -> None:
    random = np.random.default_rng(seed)
    graph, paths = graph_of(random)
    semantic = following(follower, graph, paths)
    filled = semantic.edges()
    gone = semantic.update(removed=graph.relations)
    assert all(len(edges.source) == 0 for edges in semantic.edges().values())
    assert all(gone[path].tolist() == np.unique(filled[path].destination).tolist() for path in paths)
    come = semantic.update(added=graph.relations)
    for path in paths:
        assert come[path].tolist() == gone[path].tolist()
        np.testing.assert_array_equal(semantic.edges()[path], filled[path])


@pytest.mark.parametrize("follower", FOLLOWERS)
def test_an_edge_goes_with_the_last_of_its_paths(follower: str) -> None:
    there, back = Relation("a", "to", "b"), Relation("b", "from", "a")
    # Two vertices between 0 and 1, and two parallel edges to one of them.
    relations = {
        there: Edges(np.array([0, 0, 0]), np.array([0, 0, 1])),
        back: Edges(np.array([0, 1]), np.array([1, 1])),
    }
    semantic = following(follower, HeteroGraph("two", None, {"a": 2, "b": 2}, relations), [(there, back)])
    for middle, changed in ((0, []), (1, []), (0, [0])):
        rows = semantic.update(removed={there: Edges(np.array([0]), np.array([middle]))})
        assert rows[there, back].tolist() == changed
        assert len(semantic.edges()[there, back].source) == 1 - len(changed)


@pytest.mark.parametrize("follower", FOLLOWERS)
def test_more_paths_join_two_vertices_than_16_bits_count(follower: str) -> None:
    there, back = Relation("a", "to", "b"), Relation("b", "from", "a")
    middles, zeros = np.arange(70_000), np.zeros(70_000, np.int64)
    graph = HeteroGraph("fan", None, {"a": 1, "b": 70_000}, {there: Edges(zeros, middles), back: Edges(middles, zeros)})
    semantic = following(follower, graph, [(there, back)])
    # What is left of the paths has the number 0 in 16 bits, then it is 0.
    for gone, edges in ((slice(0, 70_000 - (1 << 16)), 1), (slice(70_000 - (1 << 16), None), 0)):
        semantic.update(removed={there: Edges(zeros[gone], middles[gone])})
        assert len(semantic.edges()[there, back].source) == edges


def test_dense_graphs_are_kept_as_matrices_and_sparse_ones_as_pairs() -> None:
    random = np.random.default_rng(0)
    counts = {"a": 60, "b": 60}
    there, back = Relation("a", "to", "b"), Relation("b", "from", "a")
    for number, dense in ((30, False), (900, True)):
        relations = {relation: drawn(random, counts, relation, number) for relation in (there, back)}
        semantic = following("numpy", HeteroGraph("two", None, counts, relations), [(there, back)])
        assert isinstance(semantic._graphs, ChangingGraphs)
        kinds = {type(graph._counts).__name__ for path, graph in semantic._graphs._graphs.items() if len(path) == 2}
        assert kinds == {"_Matrix" if dense else "_Pairs"}
        for _ in range(3):
            semantic.update(*change_of(random, semantic.graph))
            assert_rebuilt(semantic, [(there, back)])


def test_counts_that_do_not_fit_into_memory_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = HeteroGraph(
        "none", None, {"a": 1}, {(relation := Relation("a", "to", "a")): Edges(*[np.zeros(0, int)] * 2)}
    )
    semantic = following("compiled", graph, [(relation,)])
    library = SimpleNamespace(hetfab_changing_create=lambda *_: None, hetfab_changing_update=lambda *_: 1)
    text = "the counts of the paths of all semantic graphs do not fit into memory"
    with monkeypatch.context() as patch:
        patch.setattr(semantic._graphs, "_library", library)
        with pytest.raises(LimitExceededError, match=text):
            semantic.update()
        patch.setattr("hetfab.hls.build.changing._library", lambda: library)
        with pytest.raises(LimitExceededError, match=text):
            ChangingSemanticGraphs(graph, [(relation,)])


@pytest.mark.parametrize("seed", range(3))
def test_a_change_that_is_refused_half_way_leaves_everything_as_it_was(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    random = np.random.default_rng(seed)
    graph, paths = graph_of(random)
    semantic = following("numpy", graph, paths)
    whole = ChangingGraphs.update

    def refused(graphs: ChangingGraphs, changes: Any) -> None:
        whole(graphs, changes)
        raise LimitExceededError("too many", "fewer", "change less")

    with monkeypatch.context() as patch:
        patch.setattr(ChangingGraphs, "update", refused)
        with pytest.raises(LimitExceededError):
            semantic.update(*change_of(random, graph))
    assert semantic.graph is graph
    assert_rebuilt(semantic, paths)
    semantic.update(*change_of(random, graph))
    assert_rebuilt(semantic, paths)


def test_edges_are_added_behind_the_others_and_removed_one_by_one() -> None:
    relation = Relation("a", "to", "a")
    edges = Edges(np.array([0, 1, 0, 2]), np.array([1, 1, 1, 0]))
    graph = HeteroGraph("few", None, {"a": 3}, {relation: edges})
    changed = graph.with_edges(
        added={relation: Edges(np.array([2]), np.array([2]))}, removed={relation: Edges(np.array([0]), np.array([1]))}
    )
    found = changed.relations[relation]
    assert list(zip(found.source.tolist(), found.destination.tolist(), strict=True)) == [(1, 1), (0, 1), (2, 0), (2, 2)]
    assert graph.relations[relation] is edges


def test_changes_that_cannot_be_are_named() -> None:
    relation = Relation("a", "to", "a")
    graph = HeteroGraph("few", None, {"a": 3}, {relation: Edges(np.array([0, 0]), np.array([1, 1]))})
    twice = Edges(np.array([0, 0, 0]), np.array([1, 1, 1]))
    text = "relation 'to': the edge from 0 to 1 is to go 3 times, and is there 2 times"
    with pytest.raises(GraphInvalidError, match=re.escape(text)):
        graph.with_edges(removed={relation: twice})
    with pytest.raises(GraphInvalidError, match="relation 'to', source: entry 0 is the id 3"):
        graph.with_edges(added={relation: Edges(np.array([3]), np.array([0]))})
    with pytest.raises(RelationMissingError, match="the graph 'few' has no relation 'other'"):
        graph.with_edges(added={Relation("a", "other", "a"): twice})
    semantic = ChangingSemanticGraphs(graph, [(relation, relation)])
    with pytest.raises(GraphInvalidError):
        semantic.update(removed={relation: twice})
    assert semantic.graph is graph


def test_nodes_are_predicted_of_the_changed_graph() -> None:
    case = attention_case("han")
    program = compiled(quantized(case).model, case.graph, SMALL_GEOMETRY)
    paths = [edges.relations for edges in program.edges if edges.metapath]
    random = np.random.default_rng(1)
    semantic = ChangingSemanticGraphs(case.graph, paths)
    semantic.update(*change_of(random, case.graph))
    with EmulatedTransport(program.design) as transport:
        session = Session(transport, program.design)
        expected = session.run(bind(program, graph_arrays(program, semantic.graph))).logits
        rows = GraphRows(program, semantic.graph, changing=semantic)
        layers = NodeRuns(rows, 1 << 24).layers
        fusion = layers.run(session, layers.plan()).fusion
        found = NodeRuns(rows, 1 << 24, fusion).predict(session, np.array([3, 8]))
    np.testing.assert_array_equal(found.result.logits, expected[[3, 8]])
