# SPDX-License-Identifier: Apache-2.0
"""Folders of the Heterogeneous Graph Benchmark: what is written is read back, and what is wrong is named."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hetfab.driver.graph.formats import read_graph
from hetfab.driver.graph.generate import academic
from hetfab.driver.graph.heterograph import HeteroGraph
from hetfab.driver.graph.hgb import read_hgb
from hetfab.overlay.errors import GraphInvalidError, GraphUnreadableError
from tests.same_graph import assert_same


def in_the_benchmarks_way(graph: HeteroGraph) -> tuple[HeteroGraph, dict[str, int]]:
    """The graph as the benchmark can hold it (global ids, no validation split, no metapaths) and the first ids."""
    starts = dict(zip(graph.counts, np.cumsum([0, *graph.counts.values()]).tolist(), strict=False))
    ids = {t: (starts[t] + np.arange(count)).astype(np.str_) for t, count in graph.counts.items()}
    parts = graph.splits["paper"]
    splits = {"paper": {"train": parts["train"], "test": parts["test"]}}
    labels = np.full(graph.counts["paper"], -1)
    for members in splits["paper"].values():
        labels[members] = graph.labels["paper"][members]
    classes = {"paper": ("zero", "one", "two", "three")}
    changes: dict[str, Any] = {"ids": ids, "splits": splits, "labels": {"paper": labels}, "classes": classes}
    return replace(graph, metapaths={}, **changes), starts


def write_hgb(folder: Path, graph: HeteroGraph, starts: dict[str, int]) -> Path:
    """Writes what ``in_the_benchmarks_way`` returns; lines end as in one of the public graphs, with CR and LF."""
    types = {name: number for number, name in enumerate(graph.counts)}
    nodes, links = [], []
    for name, count in graph.counts.items():
        for node in range(count):
            cells = [str(starts[name] + node), f"a {name}", str(types[name])]
            if name in graph.features:
                cells.append(",".join(map(str, graph.dense_features(name)[node].tolist())))
            nodes.append("\t".join(cells))
    for number, (relation, edges) in enumerate(graph.relations.items()):
        for source, destination in zip(*edges, strict=True):
            ends = starts[relation.source] + source, starts[relation.destination] + destination
            links.append(f"{ends[0]}\t{ends[1]}\t{number}\t1.0\r")
    (folder / "node.dat").write_text("\n".join(nodes) + "\n", encoding="utf-8")
    (folder / "link.dat").write_text("\n".join(links) + "\n", encoding="utf-8")
    for part, file in (("train", "label.dat"), ("test", "label.dat.test")):
        lines = [
            f"{starts['paper'] + node}\t\t0\t{graph.labels['paper'][node]}" for node in graph.splits["paper"][part]
        ]
        (folder / file).write_text("\n".join(lines) + "\n", encoding="utf-8")
    info = {
        "node.dat": {"node type": {str(number): name for name, number in types.items()}},
        "link.dat": {
            "link type": {str(n): {"meaning": r.name.replace("_", "->")} for n, r in enumerate(graph.relations)}
        },
        "label.dat": {"node type": {"0": {str(n): name for n, name in enumerate(graph.classes["paper"])}}},
    }
    (folder / "info.dat").write_text(json.dumps(info), encoding="utf-8")
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder named as the generated graph, so that the names are equal too."""
    (tmp_path / "academic").mkdir()
    return write_hgb(tmp_path / "academic", *in_the_benchmarks_way(SMALL))


PAGE = Path(__file__).parents[1] / "docs" / "graphs.md"
SMALL = academic(papers=60, authors=40, terms=30)


def test_a_generated_graph_is_read_back(folder: Path) -> None:
    assert_same(in_the_benchmarks_way(SMALL)[0], read_graph(folder))


def test_without_names_everything_is_called_by_its_number(folder: Path) -> None:
    for text in (None, "TYPE\tMEANING\n0\tBOOK\n", "[]"):
        (folder / "info.dat").unlink(missing_ok=True)
        if text is not None:
            (folder / "info.dat").write_text(text, encoding="utf-8")
        graph = read_graph(folder)
        assert list(graph.counts) == ["0", "1", "2", "3"]
        assert [relation.name for relation in graph.relations] == [str(number) for number in range(8)]
        assert graph.target == "0"
        assert not graph.classes


def test_a_validation_split_is_drawn_only_on_demand(folder: Path) -> None:
    whole = read_hgb(folder).splits["paper"]
    assert set(whole) == {"train", "test"}
    drawn = read_hgb(folder, val=0.25, seed=3).splits["paper"]
    assert len(drawn["val"]) == round(0.25 * len(whole["train"])) > 0
    assert sorted([*drawn["train"], *drawn["val"]]) == whole["train"].tolist()
    assert drawn["test"].tolist() == whole["test"].tolist()
    again, other = (read_hgb(folder, val=0.25, seed=seed).splits["paper"]["val"].tolist() for seed in (3, 4))
    assert again == drawn["val"].tolist() != other


def tiny(folder: Path, labels: str, test: str | None = None, order: str = "abcd") -> Path:
    """Nodes 0 and 1 of type 0, 2 and 3 of type 1, with their lines in any order."""
    lines = {"a": "0\tx\t0\t1,0", "b": "1\ty\t0\t0,2.5", "c": "2\tz\t1", "d": "3\t\t1"}
    (folder / "node.dat").write_text("\n".join(lines[letter] for letter in order), encoding="utf-8")
    (folder / "link.dat").write_text("2\t1\t0\t1\n3\t0\t0\t1.0\n2\t1\t0\t1", encoding="utf-8")
    (folder / "label.dat").write_text(labels, encoding="utf-8")
    if test is not None:
        (folder / "label.dat.test").write_text(test, encoding="utf-8")
    return folder


def test_the_example_of_the_page(tmp_path: Path) -> None:
    text = PAGE.read_text(encoding="utf-8").partition("## HGB folders")[2].partition("## HeteroData")[0]
    blocks = re.findall(r"(?:^ {4}.*\n)+", text, re.MULTILINE)
    for name, block in zip(("node.dat", "link.dat", "label.dat"), blocks, strict=True):
        (tmp_path / name).write_text(re.sub(r"^ {4}", "", block, flags=re.MULTILINE), encoding="utf-8")
    graph = read_graph(tmp_path)
    assert graph.counts == {"0": 2, "1": 1}
    assert graph.dense_features("0").tolist() == [[1, 0, 0], [0, 1, 1]]
    assert graph.ids["1"].tolist() == ["2"]
    [(relation, edges)] = graph.relations.items()
    assert relation == ("1", "0", "0")
    assert list(zip(*edges, strict=True)) == [(0, 0), (0, 1)]
    assert graph.labels["0"].tolist() == [1, -1]


def test_several_labels_a_node(tmp_path: Path) -> None:
    graph = read_graph(tiny(tmp_path, "3\t\t1\t2\n", "2\t\t1\t0,1\n"))
    assert graph.target == "1"
    assert graph.labels["1"].tolist() == [[1, 1, 0], [0, 0, 1]]
    assert {part: ids.tolist() for part, ids in graph.splits["1"].items()} == {"train": [1], "test": [0]}
    [edges] = graph.relations.values()
    assert list(zip(*edges, strict=True)) == [(0, 1), (1, 0), (0, 1)]


@given(order=st.permutations("abcd"))
def test_the_order_of_lines_does_not_matter(order: list[str], tmp_path_factory: pytest.TempPathFactory) -> None:
    folders = [tmp_path_factory.mktemp("hgb") for _ in range(2)]
    left, right = (
        tiny(at, "0\t\t0\t1", order=text) for at, text in zip(folders, ("abcd", "".join(order)), strict=True)
    )
    assert_same(replace(read_graph(left), name=""), replace(read_graph(right), name=""))


def test_unlabelled_nodes_are_minus_one(tmp_path: Path) -> None:
    graph = read_graph(tiny(tmp_path, "1\t\t0\t4"))
    assert graph.labels["0"].tolist() == [-1, 4]
    assert set(graph.splits["0"]) == {"train"}


@pytest.mark.parametrize(
    ("name", "text", "found", "expected"),
    [
        ("node.dat", "0\tx\n", "node.dat', line 1: 2 cells", "id, name, type and perhaps features"),
        ("node.dat", "0\tx\t0\t1,?\n", "node.dat', line 1: could not convert string to float: '?'", "numbers"),
        ("node.dat", "0\tx\t0\n\n2\ty\t0\n", "node.dat': the ids of 2 nodes are not 0 to 1", "each id from 0 once"),
        ("node.dat", "0\tx\t0\t1,2\n1\ty\t0\n", "node.dat': 1 of the 2 nodes of type 0 have features", "for none"),
        ("node.dat", "0\tx\t0\t1,2\n1\ty\t0\t1\n", "2 of the 2 nodes of type 0 have features, 1 or 2", "equally many"),
        ("link.dat", "0\t2\t0\t0.5\n", "link.dat', line 1, column 'weight': the cell '0.5'", "the weight 1"),
        ("link.dat", "0\t2\t0\t1\n0\t4\t0\t1\n", "line 2, column 'destination': the cell '4'", "from 0 to 3"),
        ("link.dat", "0\t2\t0\t1\n0.5\t2\t0\t1\n", "line 2, column 'source': the cell '0.5'", "whole number"),
        ("link.dat", "0\t2\t0\t1\n0\t1\t0\t1\n", "line 2, column 'relation': the cell '0, with an end of", "here '1'"),
        ("link.dat", "0\t2\t0\n", "link.dat', line 1: 3 cells", "4 cells, one for each of the columns source,"),
        ("link.dat", "0\t2\tx\t1\n", "link.dat', line 1, column 'relation': the cell 'x'", "a number"),
        ("label.dat", "0\t\t0\n", "label.dat', line 1: list index out of range", "id, name, type and classes"),
        ("label.dat", "9\t\t0\t1\n", "label.dat', line 1: node 9, classes 1", "a node of node.dat"),
        ("label.dat.test", "0\t\t0\t1,x\n", "label.dat.test', line 1: invalid literal", "classes"),
    ],
)
def test_what_is_wrong_is_named(name: str, text: str, found: str, expected: str, tmp_path: Path) -> None:
    tiny(tmp_path, "0\t\t0\t1")
    (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(GraphInvalidError) as caught:
        read_graph(tmp_path)
    assert found in caught.value.found
    assert expected in caught.value.expected


def test_other_encodings_are_refused(tmp_path: Path) -> None:
    (tiny(tmp_path, "0\t\t0\t1") / "node.dat").write_bytes("0\tÜ\t0\n".encode("latin-1"))
    with pytest.raises(GraphUnreadableError, match=r"node\.dat' is not UTF-8"):
        read_graph(tmp_path)
