# SPDX-License-Identifier: Apache-2.0
"""The golden composition and transpose of boolean graphs: scipy's products, and the stated order of ids."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from hetfab.overlay.semantic.adjacency import Adjacency, adjacency, compose, expansions, transpose
from tests.random_relations import graphs, matrix, same


def rows_of(graph: Adjacency) -> list[list[int]]:
    return [graph.row(row).tolist() for row in range(graph.rows)]


def of_rows(rows: list[list[int]], columns: int) -> Adjacency:
    starts = np.concatenate([[0], np.cumsum([len(row) for row in rows])]).astype(np.int64)
    return Adjacency(starts, np.array([column for row in rows for column in row], np.int64), columns)


def test_repeated_edges_of_a_relation_count_once_and_empty_rows_stay() -> None:
    graph = adjacency(np.array([2, 0, 2, 2]), np.array([1, 3, 0, 1]), 4, 5)
    assert rows_of(graph) == [[3], [], [0, 1], []]
    assert graph.columns == 5


def test_rows_on_the_bitmap_path_ascend_and_the_others_keep_the_order_seen() -> None:
    left = of_rows([[0, 1], [2], [], [2, 0, 1]], 3)
    right = of_rows([[4, 1], [3, 4], [5, 0]], 6)
    assert rows_of(compose(left, right, threshold=6)) == [[4, 1, 3], [5, 0], [], [5, 0, 4, 1, 3]]
    assert rows_of(compose(left, right, threshold=5)) == [[4, 1, 3], [5, 0], [], [0, 1, 3, 4, 5]]
    assert rows_of(compose(left, right, threshold=0)) == [[1, 3, 4], [5, 0], [], [0, 1, 3, 4, 5]]


def test_self_loops_are_kept() -> None:
    right = of_rows([[0], [1, 2], []], 3)
    assert rows_of(compose(transpose(right), right, 0)) == [[0], [1, 2], [1, 2]]


@given(st.data(), st.integers(0, 40), st.integers(0, 40), st.integers(0, 150), st.integers(0, 200))
def test_composition_is_the_boolean_product(data: st.DataObject, s: int, k: int, d: int, threshold: int) -> None:
    left, right = data.draw(graphs(s, k)), data.draw(graphs(k, d))
    expected = matrix(left) @ matrix(right)
    expected.sort_indices()
    assert same(compose(left, right, threshold), expected)
    counts = matrix(left).astype(np.int64) @ matrix(right).astype(np.int64)
    assert expansions(left, right) == counts.sum()


@given(st.data(), st.integers(0, 40), st.integers(0, 60))
def test_a_transpose_turns_every_edge_and_ascends(data: st.DataObject, rows: int, columns: int) -> None:
    graph = data.draw(graphs(rows, columns))
    turned = transpose(graph)
    expected = matrix(graph).T.tocsr()
    expected.sort_indices()
    assert same(turned, expected)
    assert all(row == sorted(row) for row in rows_of(turned))
