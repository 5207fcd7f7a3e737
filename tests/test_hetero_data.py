# SPDX-License-Identifier: Apache-2.0
"""Graphs from what looks like a ``HeteroData``: tensors and stores are stood in for by small classes."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from hetfab.driver.graph.generate import academic
from hetfab.driver.graph.hetero_data import from_hetero_data
from hetfab.driver.graph.heterograph import HeteroGraph
from hetfab.overlay.errors import GraphInvalidError, RelationMissingError
from tests.same_graph import assert_same


class Tensor:
    """A tensor on a device, with a gradient and perhaps sparse: what numpy alone cannot read."""

    def __init__(self, values: Any, ready: frozenset[str] = frozenset()) -> None:
        self._values, self._ready = np.asarray(values), ready

    def detach(self) -> "Tensor":
        return Tensor(self._values, self._ready | {"detached"})

    def cpu(self) -> "Tensor":
        return Tensor(self._values, self._ready | {"on the host"})

    def to_dense(self) -> "Tensor":
        return Tensor(self._values, self._ready | {"dense"})

    def numpy(self) -> Any:
        assert self._ready == {"detached", "on the host", "dense"}
        return self._values


class Store:
    """Values of a node or edge type; like those of PyTorch Geometric, num_nodes is None where nothing is known."""

    def __init__(self, **values: Any) -> None:
        self.__dict__ |= {"num_nodes": None} | values


class Data:
    """Stores by node type and by (source, name, destination)."""

    def __init__(self, nodes: dict[str, Store], edges: dict[tuple[str, str, str], Store]) -> None:
        self.node_types, self.edge_types = list(nodes), list(edges)
        self._stores: dict[Any, Store] = {**nodes, **edges}

    def __getitem__(self, key: Any) -> Store:
        return self._stores[key]


def as_data(graph: HeteroGraph, tensor: Callable[[Any], Any]) -> Data:
    nodes = {}
    for name, count in graph.counts.items():
        values: dict[str, Any] = {"num_nodes": count}
        if name in graph.features:
            values["x"] = tensor(graph.dense_features(name))
        if name in graph.labels:
            values["y"] = tensor(graph.labels[name].astype(np.int64))
        for part, ids in graph.splits.get(name, {}).items():
            values[f"{part}_mask"] = tensor(np.isin(np.arange(count), ids))
        nodes[name] = Store(**values)
    edges = {
        (r.source, r.name, r.destination): Store(edge_index=tensor(np.stack(ends).astype(np.int64)))
        for r, ends in graph.relations.items()
    }
    return Data(nodes, edges)


@pytest.mark.parametrize("tensor", [Tensor, np.asarray, lambda values: values.tolist()])
def test_a_generated_graph_survives(tensor: Callable[[Any], Any]) -> None:
    graph = academic(papers=60, authors=40, terms=30)
    made = from_hetero_data(as_data(graph, tensor), name="academic", metapaths=graph.metapaths)
    assert_same(replace(graph), made, forms=False)


def small(**paper: Any) -> Data:
    edges = {
        ("author", "to", "paper"): Store(edge_index=np.array([[0, 1], [2, 0]])),
        ("paper", "to", "paper"): Store(edge_index=np.zeros((2, 0), np.int64)),
        ("paper", "by", "author"): Store(edge_index=np.array([[2], [1]], np.int32)),
    }
    return Data({"paper": Store(**({"x": np.ones((3, 2))} | paper)), "author": Store(num_nodes=2)}, edges)


def test_names_that_edge_types_share_become_unique() -> None:
    graph = from_hetero_data(small())
    assert [relation.name for relation in graph.relations] == ["author_to_paper", "paper_to_paper", "by"]
    assert graph.target is None


@pytest.mark.parametrize(
    ("y", "labels"),
    [
        (np.array([0, -1, 4]), [0, -1, 4]),
        (np.array([[1], [0], [2]], np.int32), [1, 0, 2]),
        (np.array([[1.0, 0.0], [1.0, 1.0], [0.0, 0.0]]), [[1, 0], [1, 1], [0, 0]]),
        (np.array([[True, False]] * 3), [[1, 0]] * 3),
    ],
)
def test_forms_of_labels(y: Any, labels: Any) -> None:
    graph = from_hetero_data(small(y=y))
    assert graph.labels["paper"].tolist() == labels
    assert graph.target == "paper"


def test_the_graph_does_not_share_arrays_with_the_data() -> None:
    data = small(x=np.ones((3, 2), np.float32))
    graph = from_hetero_data(data)
    vars(data["paper"])["x"][:] = 7
    assert graph.dense_features("paper").max() == 1


@pytest.mark.parametrize(
    ("paper", "found"),
    [
        ({"x": np.ones(3)}, "'x' of 'paper' is float64 [3]"),
        ({"x": np.array([["a"]] * 3)}, "'x' of 'paper' is str32 [3, 1]"),
        ({"x": None}, "the nodes of type 'paper' have neither 'x' nor 'num_nodes'"),
        ({"y": np.array([0.5, 1, 2])}, "'y' of 'paper' is float64 [3]"),
        ({"y": np.array([[0, 3]] * 3)}, "'y' of 'paper' is int64 [3, 2]"),
        ({"y": np.array([0, 1])}, "labels of 'paper': an array of int64 [2]"),
        ({"train_mask": np.array([0, 2])}, "'train_mask' of 'paper' is int64 [2]"),
    ],
)
def test_arrays_of_other_shapes_are_named(paper: dict[str, Any], found: str) -> None:
    with pytest.raises(GraphInvalidError) as caught:
        from_hetero_data(small(**paper))
    assert caught.value.found == found


@pytest.mark.parametrize(
    ("store", "found"),
    [
        (Store(), "the edges of 'r' have no 'edge_index'"),
        (Store(edge_index=np.zeros((3, 2), np.int64)), "'edge_index' of 'r' is int64 [3, 2]"),
        (Store(edge_index=np.zeros((2, 2))), "'edge_index' of 'r' is float64 [2, 2]"),
        (Store(edge_index=np.zeros((2, 2), np.int64), edge_weight=np.ones(2)), "the edges of 'r' have 'edge_weight'"),
        (Store(edge_index=np.zeros((2, 2), np.int64), edge_attr=np.ones((2, 3))), "the edges of 'r' have 'edge_attr'"),
        (Store(edge_index=np.full((2, 1), 9)), "relation 'r', source: entry 0 is the id 9 (entries outside: 1)"),
    ],
)
def test_edges_of_other_forms_are_named(store: Store, found: str) -> None:
    with pytest.raises(GraphInvalidError) as caught:
        from_hetero_data(Data({"a": Store(num_nodes=1)}, {("a", "r", "a"): store}))
    assert caught.value.found == found


def test_an_unknown_target_is_named() -> None:
    with pytest.raises(RelationMissingError, match="no node type 'venue'"):
        from_hetero_data(small(), target="venue")
