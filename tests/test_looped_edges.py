# SPDX-License-Identifier: Apache-2.0
"""Edges with self loops, and GCN's weights by the edges into both ends, from their definitions."""

import json

import numpy as np
import pytest

from hetfab.driver.graph.feeds import feeds
from hetfab.driver.graph.heterograph import Edges, HeteroGraph
from hetfab.overlay.errors import BindingInvalidError
from hetfab.overlay.model.binding import Binding, End, InDegreeWeights, LoopedEnd, from_json, to_json
from hetfab.overlay.model.edges import EdgeSet, check_weights, edge_set
from hetfab.overlay.model.schema import Relation

LINKS, WRITES = Relation("node", "links", "node"), Relation("author", "writes", "node")
SOURCES, DESTINATIONS = [0, 1, 1, 2, 2, 0], [1, 1, 2, 0, 2, 1]
BOUND: dict[str, Binding] = {
    "src": LoopedEnd(LINKS, End.SOURCE),
    "dst": LoopedEnd(LINKS, End.DESTINATION),
    "w": InDegreeWeights(LINKS, self_loops=True),
}


def graph() -> HeteroGraph:
    edges = Edges(np.array(SOURCES), np.array(DESTINATIONS))
    return HeteroGraph("loops", "node", {"node": 4}, {LINKS: edges}, {})


def test_a_node_has_one_edge_to_itself_in_place_of_those_of_the_graph() -> None:
    found = feeds(graph(), BOUND)
    pairs = list(zip(found["src"].tolist(), found["dst"].tolist(), strict=True))
    assert pairs == [(0, 1), (1, 2), (2, 0), (0, 1), (0, 0), (1, 1), (2, 2), (3, 3)]


@pytest.mark.parametrize("self_loops", [True, False])
def test_weights_count_the_edges_into_both_ends(self_loops: bool) -> None:
    pairs = list(zip(SOURCES, DESTINATIONS, strict=True))
    if self_loops:
        pairs = [pair for pair in pairs if pair[0] != pair[1]] + [(node, node) for node in range(4)]
    into = [sum(end == node for _, end in pairs) for node in range(4)]
    expected = [1 / np.sqrt(into[u] * into[d]) for u, d in pairs]
    found = feeds(graph(), {"w": InDegreeWeights(LINKS, self_loops)})["w"]
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_edges_out_of_a_node_that_none_leads_into_weigh_nothing() -> None:
    edges = Edges(np.array([3, 0]), np.array([0, 1]))
    alone = HeteroGraph("alone", "node", {"node": 4}, {LINKS: edges}, {})
    assert feeds(alone, {"w": InDegreeWeights(LINKS, self_loops=False)})["w"].tolist() == [0.0, 1.0]


def test_bindings_go_through_json() -> None:
    assert from_json(to_json(BOUND), "a test") == BOUND


@pytest.mark.parametrize(
    "kind", [{"kind": "looped_end", "end": "source"}, {"kind": "in_degree_weights", "self_loops": True}]
)
def test_both_ends_are_of_one_type(kind: dict[str, object]) -> None:
    with pytest.raises(BindingInvalidError) as caught:
        from_json(json.dumps({"x": {**kind, "relation": list(WRITES)}}), "a test")
    assert caught.value.expected == "a relation between nodes of one type"


def test_weights_without_self_loops_are_not_those_of_edges_with_them() -> None:
    edges = edge_set(BOUND, "src", "dst")
    assert isinstance(edges, EdgeSet) and edges.self_loops and edges.name == "links with self loops"
    check_weights(BOUND, "w", edges)
    with pytest.raises(BindingInvalidError, match="'w' means weights of the edges of links"):
        check_weights(BOUND | {"w": InDegreeWeights(LINKS, self_loops=False)}, "w", edges)
