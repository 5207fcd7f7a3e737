# SPDX-License-Identifier: Apache-2.0
"""Compares graphs part by part, and draws random ones."""

from typing import Any

import numpy as np
from hypothesis import strategies as st

from hetfab.driver.graph.heterograph import CsrFeatures, Edges, HeteroGraph
from hetfab.overlay.model.schema import Relation

#: Text of ids and classes: anything that a cell can hold; spaces in front are not part of a cell.
CELLS = st.text(st.characters(codec="utf-8", exclude_characters="\x00\r"), min_size=1, max_size=8).filter(
    lambda text: not text.startswith((" ", "\ufeff"))
)


def assert_same(left: HeteroGraph, right: HeteroGraph, *, forms: bool = True) -> None:
    """Fails where two graphs differ.

    Args:
        left: One graph.
        right: The other.
        forms: Whether dense features must not equal sparse ones.
    """
    assert left.schema() == right.schema()
    assert left.name == right.name
    for relation, edges in left.relations.items():
        np.testing.assert_array_equal(edges.source, right.relations[relation].source)
        np.testing.assert_array_equal(edges.destination, right.relations[relation].destination)
    assert left.features.keys() == right.features.keys()
    for node_type, table in left.features.items():
        assert not forms or isinstance(right.features[node_type], type(table))
        np.testing.assert_array_equal(left.dense_features(node_type), right.dense_features(node_type))
    assert listed(left.labels) == listed(right.labels)
    assert {t: listed(parts) for t, parts in left.splits.items()} == {t: listed(p) for t, p in right.splits.items()}
    assert listed(left.ids) == listed(right.ids)
    assert left.classes == right.classes


def listed(arrays: Any) -> dict[str, Any]:
    return {name: array.tolist() for name, array in arrays.items()}


@st.composite
def graphs(draw: st.DrawFn) -> HeteroGraph:
    """Two types with ids, a relation and its reverse, features of both forms, classes and splits."""
    names = {t: draw(st.lists(CELLS, max_size=6, unique=True)) for t in ("a", "b")}
    counts = {t: len(found) for t, found in names.items()}
    number = st.floats(-1e6, 1e6, width=32)
    ends = [st.integers(0, max(0, counts[t] - 1)) for t in ("a", "b")]
    pairs = draw(st.lists(st.tuples(*ends), max_size=8)) if all(counts.values()) else []
    edges = Edges(*np.array(pairs, dtype=np.int32).reshape(-1, 2).T)
    columns = draw(st.integers(1, 3))
    table = np.array(draw(st.lists(number, min_size=counts["a"] * columns, max_size=counts["a"] * columns)), np.float32)
    classes = tuple(draw(st.lists(CELLS, min_size=1, max_size=3, unique=True)))
    labels = draw(st.lists(st.integers(-1, len(classes) - 1), min_size=counts["a"], max_size=counts["a"]))
    parts = np.array(
        draw(st.lists(st.sampled_from(("train", "val", "test", "")), min_size=counts["a"], max_size=counts["a"]))
    )
    splits = {part: np.flatnonzero(parts == part) for part in ("train", "val", "test") if part in parts}
    empty = CsrFeatures(np.zeros(counts["b"] + 1, np.int64), np.zeros(0, np.int32), np.zeros(0, np.float32), 2)
    return HeteroGraph(
        name="drawn",
        target="a",
        counts=counts,
        relations={Relation("a", "r", "b"): edges, Relation("b", "back", "a"): Edges(edges.destination, edges.source)},
        features={"a": table.reshape(counts["a"], columns), "b": empty},
        labels={"a": np.array(labels, dtype=np.int64)},
        splits={"a": splits} if splits else {},
        metapaths={"round": ("r", "back")},
        ids={t: np.array(found, dtype=np.str_) for t, found in names.items()},
        classes={"a": classes},
    )
