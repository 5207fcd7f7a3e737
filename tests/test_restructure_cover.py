# SPDX-License-Identifier: Apache-2.0
"""Matching with dead trees and the cover that it leaves: sizes against scipy, covering, the three subgraphs."""

import numpy as np
import pytest
import scipy.sparse.csgraph
from hypothesis import given, settings
from hypothesis import strategies as st

from hetfab.driver.graph.npz import read_graph
from hetfab.driver.graph.semantic import adjacencies
from hetfab.hls.build.restructure import match as fast_match
from hetfab.overlay.restructure.matching import match
from hetfab.overlay.restructure.schedule import both_sides
from hetfab.overlay.restructure.subgraphs import least_cover, three_subgraphs, walk
from hetfab.overlay.semantic.adjacency import Adjacency, adjacency, transpose
from tests.data_folder import require_data
from tests.random_relations import graphs, matrix


@st.composite
def bipartite(draw: st.DrawFn) -> Adjacency:
    return draw(graphs(draw(st.integers(0, 40)), draw(st.integers(0, 40))))


@settings(max_examples=100, deadline=None)
@given(graph=bipartite())
def test_a_matching_is_as_large_as_it_can_be(graph: Adjacency) -> None:
    found = match(graph)
    fast = fast_match(graph)
    np.testing.assert_array_equal(fast.columns, found.columns)
    np.testing.assert_array_equal(fast.dead, found.dead)
    assert fast.edge_visits == found.edge_visits
    pairs = [(row, int(column)) for row, column in enumerate(found.columns) if column >= 0]
    assert all(column in graph.row(row) for row, column in pairs)
    assert len({column for _, column in pairs}) == len(pairs)
    assert found.size == scipy_size(graph)


def scipy_size(graph: Adjacency) -> int:
    if graph.edges == 0:
        return 0
    columns = scipy.sparse.csgraph.maximum_bipartite_matching(matrix(graph), perm_type="column")
    return int(np.count_nonzero(columns >= 0))


@settings(max_examples=100, deadline=None)
@given(graph=bipartite())
def test_the_cover_meets_every_edge_with_as_few_vertices_as_pairs(graph: Adjacency) -> None:
    sides = both_sides(graph)
    cover = least_cover(sides)
    source = np.repeat(np.arange(graph.rows), sides.by_source.out_degrees())
    assert (cover.sources[source] | cover.destinations[sides.by_source.ids]).all()
    assert np.count_nonzero(cover.sources) + np.count_nonzero(cover.destinations) == cover.matched


@settings(max_examples=100, deadline=None)
@given(graph=bipartite(), by_source=st.booleans())
def test_three_subgraphs_follow_each_other(graph: Adjacency, by_source: bool) -> None:
    sides = both_sides(graph)
    cover = least_cover(sides)
    sources, destinations = three_subgraphs(sides, cover, walk(sides), by_source)
    assert set(zip(sources.tolist(), destinations.tolist(), strict=True)) == {
        (source, int(destination)) for source in range(graph.rows) for destination in graph.row(source)
    }
    kinds = cover.sources[sources] * (1 + cover.destinations[destinations])
    assert list(dict.fromkeys(kinds.tolist())) == sorted(set(kinds.tolist()), key=[1, 2, 0].index)
    majors = np.where((kinds > 0) & by_source, sources, destinations + graph.rows)
    runs = np.flatnonzero(np.diff(majors, prepend=-1) | np.diff(kinds, prepend=-1))
    assert len(runs) == len({(kind, major) for kind, major in zip(kinds.tolist(), majors.tolist(), strict=True)})


def test_a_search_that_fails_is_not_repeated() -> None:
    # Many rows want the same two columns: without dead columns each would search what the first one has searched.
    graph = adjacency(np.repeat(np.arange(50), 2), np.tile([0, 1], 50), 50, 2)
    assert match(graph).edge_visits == 1 + 2 + 48 * 2 + 2 * 2 + 2 + 47 * 2


@pytest.mark.parametrize("name", ["acm", "dblp", "imdb"])
def test_relations_are_matched_with_few_edge_visits(name: str) -> None:
    graph = read_graph(require_data() / name / "graph.npz")
    for relation, found in adjacencies(graph).items():
        active = [np.count_nonzero(side.out_degrees()) for side in (found, transpose(found))]
        rows = found if active[0] <= active[1] else transpose(found)
        matching = fast_match(rows)
        assert matching.size == scipy_size(found), relation
        assert matching.edge_visits <= 5 * found.edges, relation
