# SPDX-License-Identifier: Apache-2.0
"""A heterogeneous graph refuses what contradicts itself and answers questions about itself."""

import doctest
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hetfab.driver.graph.heterograph import CsrFeatures, Edges, HeteroGraph
from hetfab.overlay.errors import (
    FeaturesMissingError,
    FeaturesNotFiniteError,
    GraphInvalidError,
    RelationMissingError,
)
from hetfab.overlay.model.schema import GraphSchema, Relation

WRITES = Relation("author", "writes", "paper")
WRITTEN = Relation("paper", "written_by", "author")


def ids(*values: int) -> Any:
    return np.array(values, dtype=np.int32)


def csr(indptr: Any = None, indices: Any = None, data: Any = None, width: int = 3) -> CsrFeatures:
    """Features [[0, 5, 0], [0, 0, 0], [6, 0, 7]], or with some parts replaced."""
    return CsrFeatures(
        ids(0, 1, 1, 3) if indptr is None else indptr,
        ids(1, 0, 2) if indices is None else indices,
        np.array([5, 6, 7], np.float32) if data is None else data,
        width,
    )


def graph(**changes: Any) -> HeteroGraph:
    parts: dict[str, Any] = {
        "name": "tiny",
        "target": "paper",
        "counts": {"paper": 3, "author": 2, "venue": 0},
        "relations": {WRITES: Edges(ids(0, 1, 1), ids(2, 0, 0)), WRITTEN: Edges(ids(2, 0, 0), ids(0, 1, 1))},
        "features": {"paper": csr(), "author": np.ones((2, 4), np.float32)},
        "labels": {"paper": ids(0, -1, 2)},
        "splits": {"paper": {"train": ids(0), "test": ids(2)}},
        "metapaths": {"PAP": ("written_by", "writes")},
    }
    return HeteroGraph(**(parts | changes))


def test_graph_answers_questions_about_itself() -> None:
    made = graph()
    assert made.relation("writes") is WRITES
    assert made.metapath("PAP") == (WRITTEN, WRITES)
    assert made.dense_features("paper").tolist() == [[0, 5, 0], [0, 0, 0], [6, 0, 7]]
    assert made.dense_features("author").shape == (2, 4)
    assert made.schema() == GraphSchema(
        types=("paper", "author", "venue"),
        counts={"paper": 3, "author": 2, "venue": 0},
        relations=(WRITES, WRITTEN),
        metapaths={"PAP": ("written_by", "writes")},
        feature_widths={"paper": 3, "author": 4},
        target="paper",
    )


def test_empty_types_and_relations_are_allowed() -> None:
    empty = Relation("venue", "publishes", "paper")
    made = graph(
        relations={empty: Edges(ids(), ids())},
        metapaths={},
        features={"venue": CsrFeatures(ids(0), ids(), np.zeros(0, np.float32), 7)},
    )
    assert made.dense_features("venue").shape == (0, 7)
    assert HeteroGraph("nothing", None, {}).schema().types == ()


@pytest.mark.parametrize(
    ("changes", "found", "expected"),
    [
        (
            {"relations": {WRITES: Edges(ids(0, 2, 9), ids(0, 0, 0))}},
            "relation 'writes', source: entry 1 is the id 2 (entries outside: 2)",
            "ids from 0 to 1, as type 'author' has 2 nodes",
        ),
        (
            {"relations": {WRITES: Edges(ids(0), ids(-1))}},
            "relation 'writes', destination: entry 0 is the id -1 (entries outside: 1)",
            "ids from 0 to 2, as type 'paper' has 3 nodes",
        ),
        (
            {"relations": {Relation("venue", "publishes", "paper"): Edges(ids(0), ids(0))}},
            "relation 'publishes', source: entry 0 is the id 0 (entries outside: 1)",
            "no ids at all, as type 'venue' has no nodes",
        ),
        (
            {"relations": {WRITES: Edges(ids(0, 1), ids(0))}},
            "relation 'writes' has 2 sources and 1 destinations",
            "one source and one destination for each edge",
        ),
        (
            {"relations": {WRITES: Edges(np.zeros(2, np.uint8), ids(0, 0))}},
            "relation 'writes', source: an array of uint8 [2]",
            "an array of int32 or int64 with 1 dimension(s)",
        ),
        (
            {
                "relations": {
                    WRITES: Edges(ids(), ids()),
                    Relation("paper", "writes", "paper"): Edges(ids(), ids()),
                }
            },
            "two relations or metapaths are named 'writes'",
            "a name of its own for each relation and metapath, as models refer to them by name",
        ),
        (
            {"relations": {Relation("author", "likes", "film"): Edges(ids(), ids())}},
            "relation 'likes': 'film' is not a node type",
            "one of the node types paper, author, venue",
        ),
        (
            {"target": "film"},
            "the target: 'film' is not a node type",
            "one of the node types paper, author, venue",
        ),
        (
            {"labels": {"film": ids()}},
            "labels: 'film' is not a node type",
            "one of the node types paper, author, venue",
        ),
        ({"counts": {"paper": -1}}, "node type 'paper' has the count -1", "a whole number of at least 0"),
        ({"counts": {"paper": 2.5}}, "node type 'paper' has the count 2.5", "a whole number of at least 0"),
        (
            {"counts": {"a.b": 1}},
            "a node type is named 'a.b'",
            "a name without spaces, full stops, commas and slashes",
        ),
        (
            {"features": {"author": np.ones((3, 4), np.float32)}},
            "features of 'author' have 3 rows",
            "one row for each of the 2 nodes",
        ),
        (
            {"features": {"author": np.ones((2, 4))}},
            "features of 'author': an array of float64 [2, 4]",
            "an array of float32 with 2 dimension(s)",
        ),
        (
            {"features": {"author": [[1.0]]}},
            "features of 'author': a value of type list",
            "an array of float32 with 2 dimension(s)",
        ),
        (
            {"features": {"paper": csr(indptr=ids(0, 1, 3))}},
            "features of 'paper': indptr has 3 entries",
            "4, one more than nodes",
        ),
        (
            {"features": {"paper": csr(indptr=ids(0, 2, 1, 3))}},
            "features of 'paper': indptr is not a row index",
            "values that ascend from 0 to 3",
        ),
        (
            {"features": {"paper": csr(indptr=ids(0, 1, 1, 2))}},
            "features of 'paper': indptr is not a row index",
            "values that ascend from 0 to 3",
        ),
        (
            {"features": {"paper": csr(indices=ids(1, 0))}},
            "features of 'paper': 2 indices",
            "as many as data, 3",
        ),
        (
            {"features": {"paper": csr(indices=ids(1, 0, 3))}},
            "features of 'paper': row 2 has the column 3",
            "columns from 0 to 2",
        ),
        (
            {"features": {"paper": csr(indices=ids(1, 2, 2))}},
            "features of 'paper': the columns of row 2 do not ascend",
            "ascending columns without duplicates in each row",
        ),
        (
            {"labels": {"paper": ids(0, 1)}},
            "labels of 'paper': an array of int32 [2]",
            "an array [3] of classes, or [3, classes] of 0 and 1",
        ),
        (
            {"labels": {"paper": ids(0, -2, 1)}},
            "labels of 'paper': -2",
            "classes from 0, and -1 for unlabelled nodes",
        ),
        (
            {"labels": {"paper": np.full((3, 2), 2, np.uint8)}},
            "labels of 'paper': 2 in a table of several labels a node",
            "0 or 1",
        ),
        (
            {"splits": {"paper": {"train": ids(3)}}},
            "split 'train' of 'paper': entry 0 is the id 3 (entries outside: 1)",
            "ids from 0 to 2, as type 'paper' has 3 nodes",
        ),
        ({"splits": {"paper": {"dev": ids(0)}}}, "split 'dev' of 'paper'", "one of train, val, test"),
        (
            {"metapaths": {"PP": ("written_by", "written_by")}},
            "metapath 'PP' does not chain: written_by (paper -> author), written_by (paper -> author)",
            "at least one relation, each starting at the type where the one before it ends",
        ),
        (
            {"metapaths": {"P": ()}},
            "metapath 'P' does not chain: none",
            "at least one relation, each starting at the type where the one before it ends",
        ),
        (
            {"metapaths": {"writes": ("writes",)}},
            "two relations or metapaths are named 'writes'",
            "a name of its own for each relation and metapath, as models refer to them by name",
        ),
    ],
)
def test_contradictions_are_refused(changes: dict[str, Any], found: str, expected: str) -> None:
    alone: dict[str, Any] = {"relations": {}, "metapaths": {}, "features": {}, "labels": {}, "splits": {}}
    with pytest.raises(GraphInvalidError) as caught:
        graph(**(alone | changes if {"counts", "relations"} & set(changes) else changes))
    assert caught.value.found == found
    assert caught.value.expected == expected
    assert caught.value.do


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_features_that_are_not_finite_are_named_by_row_and_column(value: float) -> None:
    dense = np.ones((2, 4), np.float32)
    dense[1, 2] = value
    with pytest.raises(FeaturesNotFiniteError, match=r"'author': row 1, column 2 is .*such values: 1"):
        graph(features={"author": dense})
    sparse = csr(data=np.array([5, 6, value], np.float32))
    with pytest.raises(FeaturesNotFiniteError, match=r"'paper': row 2, column 2 is"):
        graph(features={"paper": sparse})


def test_missing_parts_are_named_with_what_there_is() -> None:
    made = graph()
    with pytest.raises(RelationMissingError, match="no relation 'cites'") as missing:
        made.relation("cites")
    assert missing.value.expected == "one of writes (author -> paper), written_by (paper -> author)"
    with pytest.raises(RelationMissingError, match=r"no metapath 'PVP'.*\n.*one of PAP"):
        made.metapath("PVP")
    with pytest.raises(RelationMissingError, match="no node type 'film'"):
        made.dense_features("film")
    with pytest.raises(FeaturesMissingError, match=re.escape("'venue' of the graph 'tiny' have no features")):
        made.dense_features("venue")
    with pytest.raises(RelationMissingError, match="no relation 'cites'"):
        graph(metapaths={"PcP": ("cites",)})


def test_graphs_need_only_numpy() -> None:
    script = (
        "import sys, hetfab.driver.graph.heterograph, hetfab.driver.graph.npz, hetfab.driver.graph.feeds;"
        "print(sorted({'scipy', 'onnx', 'onnxruntime', 'rich', 'qonnx'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_examples_of_the_page_are_right() -> None:
    page = Path(__file__).parents[1] / "docs" / "graphs.md"
    failed, attempted = doctest.testfile(str(page), module_relative=False)
    assert attempted > 0
    assert failed == 0
