# SPDX-License-Identifier: Apache-2.0
"""What a graph gives to each input of a model; the reference models reproduce their logits on it."""

from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hetfab.driver.graph.feeds import feeds, incoming, semantic_edges
from hetfab.driver.graph.heterograph import CsrFeatures, Edges, HeteroGraph
from hetfab.driver.graph.npz import read_graph
from hetfab.overlay.errors import FeaturesMissingError, FeatureWidthError, RelationMissingError
from hetfab.overlay.model.binding import Binding, EdgeTypes, End, StackedEnd, parse
from hetfab.overlay.model.schema import Relation
from tests.data_folder import MODELS, require_data
from tests.reference_session import reference_session

PA = Relation("paper", "pa", "author")
AP = Relation("author", "ap", "paper")


def ids(*values: int) -> Any:
    return np.array(values, dtype=np.int32)


def tiny() -> HeteroGraph:
    """Papers 0, 1, 2 and authors 0, 1; the edge from paper 0 to author 1 is there twice, paper 2 has none."""
    return HeteroGraph(
        name="tiny",
        target="paper",
        counts={"paper": 3, "author": 2},
        relations={PA: Edges(ids(0, 0, 0, 1), ids(0, 1, 1, 1)), AP: Edges(ids(0, 1, 1), ids(0, 0, 1))},
        features={
            "paper": CsrFeatures(ids(0, 1, 1, 2), ids(1, 0), np.array([4, 8], np.float32), 2),
        },
        metapaths={"PAP": ("pa", "ap"), "PA": ("pa",)},
    )


def test_each_input_is_built_as_its_name_says() -> None:
    names = ["x_paper", "n_author", "src_pa", "dst_pa", "src_PAP", "dst_PAP", "src", "dst", "etype"]
    made = feeds(tiny(), parse(names))
    assert list(made) == names
    assert {name: array.dtype.name for name, array in made.items()} == {
        name: "float32" if name == "x_paper" else "int64" for name in names
    }
    assert made["x_paper"].tolist() == [[0, 4], [0, 0], [8, 0]]
    assert made["n_author"].shape == ()
    assert made["n_author"] == 2
    assert (made["src_pa"].tolist(), made["dst_pa"].tolist()) == ([0, 0, 0, 1], [0, 1, 1, 1])
    assert (made["dst_PAP"].tolist(), made["src_PAP"].tolist()) == ([0, 0, 1, 1], [0, 1, 0, 1])
    assert made["src"].tolist() == [0, 0, 0, 1, 3, 4, 4, 0, 1, 2, 3, 4]
    assert made["dst"].tolist() == [3, 4, 4, 4, 0, 0, 1, 0, 1, 2, 3, 4]
    assert made["etype"].tolist() == [0, 0, 0, 0, 1, 1, 1, 2, 2, 2, 2, 2]


def test_the_destination_of_a_metapath_is_its_first_type() -> None:
    made = feeds(tiny(), parse(["src_PA", "dst_PA"]))
    assert (made["dst_PA"].tolist(), made["src_PA"].tolist()) == ([0, 0, 1], [0, 1, 1])


def test_stacks_may_leave_self_loops_out_and_order_types_anew() -> None:
    types, relations = ("author", "paper"), (AP,)
    bindings: dict[str, Binding] = {
        "s": StackedEnd(types, relations, False, End.SOURCE),
        "d": StackedEnd(types, relations, False, End.DESTINATION),
        "t": EdgeTypes(types, relations, False),
    }
    made = {name: array.tolist() for name, array in feeds(tiny(), bindings).items()}
    assert made == {"s": [0, 1, 1], "d": [2, 2, 3], "t": [0, 0, 0]}


def test_means_count_each_neighbour_once() -> None:
    made = feeds(tiny(), parse(["M_self", "M_pa", "M_pa_ap"]))
    assert made["M_self"].tolist() == [[0, 4], [0, 0], [8, 0]]
    assert made["M_pa"].tolist() == [[0.5, 0.5], [0, 1], [0, 0]]
    assert made["M_pa_ap"].tolist() == [[0, 3], [0, 2], [0, 0]]
    assert {array.dtype.name for array in made.values()} == {"float32"}


def test_missing_features_and_wrong_widths_are_refused() -> None:
    with pytest.raises(FeaturesMissingError, match="type 'author' of the graph 'tiny' have no features"):
        feeds(tiny(), parse(["x_author"]))
    with pytest.raises(FeatureWidthError) as caught:
        feeds(tiny(), parse(["x_paper"]), widths={"x_paper": 5})
    assert caught.value.found == "the graph 'tiny' gives the input 'x_paper' 2 columns"
    assert caught.value.expected == "5 columns, as the model has them"
    with pytest.raises(RelationMissingError, match="needs a relation or metapath 'cites'"):
        feeds(tiny(), parse(["src_cites"]))
    assert feeds(tiny(), parse(["x_paper"]), widths={"x_paper": 2, "other": 3})["x_paper"].shape == (3, 2)


EDGE_LISTS = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 3)), max_size=20)


def edges_of(pairs: list[tuple[int, int]]) -> Edges:
    table = np.array(pairs, dtype=np.int32).reshape(-1, 2)
    return Edges(table[:, 0], table[:, 1])


@given(EDGE_LISTS)
def test_incoming_keeps_order_and_duplicates(pairs: list[tuple[int, int]]) -> None:
    indptr, sources, *_ = incoming(edges_of(pairs), 4)
    assert indptr.dtype == np.int64
    assert sources.dtype == np.int32
    for node in range(4):
        assert sources[indptr[node] : indptr[node + 1]].tolist() == [s for s, d in pairs if d == node]
    assert indptr[-1] == len(pairs)


@given(EDGE_LISTS, EDGE_LISTS)
def test_semantic_edges_are_reachability(first: list[tuple[int, int]], second: list[tuple[int, int]]) -> None:
    left, right = Relation("a", "left", "b"), Relation("b", "right", "a")
    there, back = edges_of(first), edges_of([(middle, end) for end, middle in second])
    graph = HeteroGraph("random", None, {"a": 6, "b": 4}, {left: there, right: back})
    source, destination = semantic_edges(graph, (left, right))
    expected = sorted({(a, c) for (a, b), (c, d) in product(first, second) if b == d})
    assert list(zip(destination.tolist(), source.tolist(), strict=True)) == expected


@pytest.mark.parametrize("name", MODELS)
def test_reference_models_reproduce_their_logits(name: str) -> None:
    data = require_data()
    session = reference_session(data / "models" / f"{name}.onnx")
    inputs = {value.name: value.shape for value in session.get_inputs()}
    widths = {key: shape[1] for key, shape in inputs.items() if len(shape) == 2}
    graph = read_graph(data / name.partition("_")[0] / "graph.npz")
    logits = session.run(None, feeds(graph, parse(list(inputs)), widths))[0]
    np.testing.assert_allclose(logits, np.load(data / "models" / f"{name}_logits.npy"), rtol=0, atol=1e-4)
