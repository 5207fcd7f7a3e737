# SPDX-License-Identifier: Apache-2.0
"""Scores of predictions, against their definitions written out."""

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hetfab.driver.graph.heterograph import HeteroGraph
from hetfab.driver.scores import agreement, f1_scores, predictions

NODES, CLASSES = 30, 4


def graph_of(labels: npt.NDArray[np.generic] | None, test: list[int] | None = None) -> HeteroGraph:
    splits = {} if test is None else {"paper": {"test": np.array(test, np.int64)}}
    return HeteroGraph(
        "scored", "paper", {"paper": NODES}, labels={} if labels is None else {"paper": labels}, splits=splits
    )


def f1_by_hand(truth: list[set[int]], found: list[set[int]]) -> tuple[float, float]:
    """Micro and macro F1 of sets of classes per vertex; a class that nobody has or predicts counts as 0."""
    pairs = list(zip(truth, found, strict=True))
    hits = [sum(c in t and c in f for t, f in pairs) for c in range(CLASSES)]
    sizes = [sum((c in t) + (c in f) for t, f in pairs) for c in range(CLASSES)]
    macro = sum(2 * hit / size if size else 0.0 for hit, size in zip(hits, sizes, strict=True)) / CLASSES
    return (2 * sum(hits) / sum(sizes) if sum(sizes) else 0.0), macro


@given(st.integers(0, 2**32 - 1), st.booleans())
def test_f1_of_one_class_per_vertex(seed: int, split: bool) -> None:
    random = np.random.default_rng(seed)
    labels, logits = random.integers(-1, CLASSES, NODES), random.normal(size=(NODES, CLASSES))
    # The classes are as many as the largest label says.
    labels[random.integers(NODES)] = CLASSES - 1
    rows = [int(row) for row in np.flatnonzero(labels >= 0)][:: 2 if split else 1]
    scores = f1_scores(graph_of(labels, rows if split else None), "paper", logits)
    micro, macro = f1_by_hand([{int(labels[row])} for row in rows], [{int(logits[row].argmax())} for row in rows])
    assert scores is not None and scores.part == ("test" if split else "labelled")
    assert (scores.micro, scores.macro) == pytest.approx((micro, macro))
    assert scores.micro == pytest.approx(np.mean(labels[rows] == logits[rows].argmax(axis=1)))


@given(st.integers(0, 2**32 - 1), st.booleans())
def test_f1_of_several_labels_per_vertex(seed: int, split: bool) -> None:
    random = np.random.default_rng(seed)
    labels = random.integers(0, 2, (NODES, CLASSES)).astype(np.uint8)
    logits = random.normal(size=(NODES, CLASSES)) - random.choice([0, 9])
    rows = list(range(NODES))[:: 2 if split else 1]
    scores = f1_scores(graph_of(labels, rows if split else None), "paper", logits)
    sets = [[set(np.flatnonzero(table[row] > 0).tolist()) for row in rows] for table in (labels, logits)]
    assert scores is not None
    assert (scores.micro, scores.macro) == pytest.approx(f1_by_hand(*sets))


def test_without_labels_there_is_no_score() -> None:
    logits = np.zeros((NODES, CLASSES))
    assert f1_scores(graph_of(None), "paper", logits) is None
    assert f1_scores(graph_of(np.full(NODES, -1)), "paper", logits) is None
    assert f1_scores(graph_of(np.zeros(NODES, np.int64), []), "paper", logits) is None


def test_an_output_that_is_no_logits_of_the_labels_has_no_score() -> None:
    graph = graph_of(np.arange(NODES) % CLASSES)
    assert f1_scores(graph, "paper", np.zeros((NODES, CLASSES))) is not None
    assert f1_scores(graph, "paper", np.zeros((NODES, CLASSES + 5))) is None
    assert f1_scores(graph, "paper", np.zeros((NODES + 1, CLASSES))) is None


def test_predictions_are_the_largest_or_the_positive_logits() -> None:
    logits = np.array([[1.0, 3.0, 3.0], [0.0, -1.0, -2.0]])
    assert predictions(logits, multilabel=False).tolist() == [1, 0]
    assert predictions(logits, multilabel=True).tolist() == [[True, True, True], [False, False, False]]


def test_vertices_agree_where_all_their_decisions_do() -> None:
    first = np.array([[1.0, -1.0], [1.0, 2.0], [3.0, 1.0], [-1.0, -2.0]])
    second = np.array([[2.0, 0.5], [1.0, 2.0], [0.5, 1.0], [-3.0, -4.0]])
    assert agreement(first, second, multilabel=False) == 0.75
    assert agreement(first, second, multilabel=True) == 0.75
    assert agreement(first, -second, multilabel=True) == 0.0
    assert agreement(first[:0], second[:0], multilabel=True) == 1.0
