# SPDX-License-Identifier: Apache-2.0
"""Folders of CSV files: what is written is read back, and what is wrong is named with file, line and column."""

import csv
import json
import re
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given

from hetfab.driver.graph import csv_table
from hetfab.driver.graph.formats import read_graph
from hetfab.driver.graph.generate import academic
from hetfab.driver.graph.heterograph import CsrFeatures, HeteroGraph
from hetfab.driver.graph.npz import write_graph
from hetfab.overlay.errors import GraphInvalidError, GraphUnreadableError, RelationMissingError
from tests.same_graph import assert_same, graphs

PAGE = Path(__file__).parents[1] / "docs" / "graphs.md"


def write_rows(path: Path, rows: list[list[Any]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(rows)


def write_folder(folder: Path, graph: HeteroGraph) -> Path:
    """Writes a graph whose relations come in pairs, each second the reverse of the one before."""
    names = {t: graph.ids[t].tolist() if t in graph.ids else list(map(str, range(n))) for t, n in graph.counts.items()}
    types: dict[str, Any] = {}
    for node_type, ids in names.items():
        table = graph.dense_features(node_type) if node_type in graph.features else np.zeros((len(ids), 0))
        features = [f"f{at}" for at in range(table.shape[1])]
        types[node_type] = {"file": f"{node_type}.csv", "id": "id", "features": features, "split": "part"}
        parts = [""] * len(ids)
        for part, members in graph.splits.get(node_type, {}).items():
            for node in members:
                parts[node] = part
        columns = [ids, *([float(x) for x in column] for column in table.T), parts]
        header = ["id", *features, "part"]
        if node_type in graph.labels:
            classes = graph.classes.get(node_type, tuple(map(str, range(10))))
            columns.append(["" if label < 0 else classes[label] for label in graph.labels[node_type]])
            header.append("class")
            types[node_type] |= {"label": "class"}
            if node_type in graph.classes:
                types[node_type] |= {"classes": list(classes)}
        write_rows(folder / f"{node_type}.csv", [header, *map(list, zip(*columns, strict=True))])
    relations = []
    pairs = list(graph.relations.items())
    for (relation, edges), (back, _) in zip(pairs[::2], pairs[1::2], strict=True):
        ends = [[names[relation.source][s], names[relation.destination][d]] for s, d in zip(*edges, strict=True)]
        write_rows(folder / f"{relation.name}.csv", [["s", "d"], *ends])
        relations.append(
            {"name": relation.name, "source": relation.source, "destination": relation.destination}
            | {"file": f"{relation.name}.csv", "source_column": "s", "destination_column": "d", "reverse": back.name}
        )
    metapaths = {name: list(path) for name, path in graph.metapaths.items()}
    schema = {"name": graph.name, "target": graph.target, "node_types": types, "relations": relations}
    (folder / "graph.json").write_text(json.dumps(schema | {"metapaths": metapaths}), encoding="utf-8")
    return folder


def test_a_generated_graph_is_read_back(tmp_path: Path) -> None:
    graph = academic(papers=60, authors=40, terms=30)
    ids = {t: np.arange(count).astype(np.str_) for t, count in graph.counts.items()}
    read = read_graph(write_folder(tmp_path, graph))
    assert_same(replace(graph, ids=ids), read)
    assert isinstance(read.features["paper"], CsrFeatures)


@given(graph=graphs())
def test_random_graphs_survive_a_folder_and_then_a_file(graph: HeteroGraph) -> None:
    with tempfile.TemporaryDirectory() as name:
        read = read_graph(write_folder(Path(name), graph))
        assert_same(graph, read, forms=False)
        write_graph(Path(name) / "graph.npz", read)
        assert_same(read, read_graph(Path(name) / "graph.npz"))


@given(graph=graphs())
def test_chunks_do_not_show(graph: HeteroGraph) -> None:
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        patch.setattr(csv_table, "_CHUNK", 2)
        assert_same(graph, read_graph(write_folder(Path(name), graph)), forms=False)


def page_folder(folder: Path) -> Path:
    """Writes the example of the page, file by file."""
    text = PAGE.read_text(encoding="utf-8").partition("## CSV folders")[2].partition("## HGB")[0]
    for name, body in re.findall(r"`(\w+\.csv)`:\n\n((?: {4}.*\n)+)", text):
        (folder / name).write_text(re.sub(r"^ {4}", "", body, flags=re.MULTILINE), encoding="utf-8")
    [schema] = re.findall(r"```json\n(.*?)```", text, re.DOTALL)
    (folder / "graph.json").write_text(schema, encoding="utf-8")
    return folder


def test_the_example_of_the_page(tmp_path: Path) -> None:
    graph = read_graph(page_folder(tmp_path) / "graph.json")
    assert graph.counts == {"patient": 4, "doctor": 2, "drug": 3}
    assert [r.name for r in graph.relations] == ["treats", "treated_by", "takes", "taken_by", "refers_to"]
    assert graph.dense_features("patient").tolist()[1] == [37, 60]
    assert graph.dense_features("doctor").tolist() == [[12], [3]]
    assert "drug" not in graph.features
    assert graph.ids["drug"].tolist() == ["aspirin", "heparin", "morphine"]
    assert graph.ids["doctor"].tolist() == ["Dr. Abe", "Dr. Chen"]
    assert graph.classes == {"patient": ("died", "recovered")}
    assert graph.labels["patient"].tolist() == [1, 1, 0, -1]
    assert {part: ids.tolist() for part, ids in graph.splits["patient"].items()} == {"train": [0, 1], "test": [2]}
    treats, takes = (graph.relations[graph.relation(name)] for name in ("treats", "takes"))
    assert list(zip(*treats, strict=True)) == [(0, 0), (0, 2), (1, 1), (1, 3)]
    assert list(zip(*takes, strict=True)) == [(0, 0), (0, 1), (2, 2)]


def change(name: str, old: str, new: str) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        text = (folder / name).read_text(encoding="utf-8")
        assert old in text
        (folder / name).write_text(text.replace(old, new, 1), encoding="utf-8")

    return apply


def test_marks_blank_lines_quotes_and_delimiters_are_understood(tmp_path: Path) -> None:
    page_folder(tmp_path)
    whole = read_graph(tmp_path)
    for file in tmp_path.glob("*.csv"):
        text = file.read_text(encoding="utf-8").replace(",", ";").replace("P-001", '"P-001"').replace("\n", "\r\n\r\n")
        file.write_bytes(b"\xef\xbb\xbf" + text.encode("utf-8"))
    change("graph.json", '"name": "hospital"', '"name": "hospital", "delimiter": ";"')(tmp_path)
    assert_same(whole, read_graph(tmp_path))


def test_several_labels_a_node(tmp_path: Path) -> None:
    (tmp_path / "n.csv").write_text("id,warm,loud\nx,0,1\ny,1,1\n", encoding="utf-8")
    node = {"file": "n.csv", "id": "id", "label": ["warm", "loud"]}
    (tmp_path / "graph.json").write_text(json.dumps({"node_types": {"n": node}}), encoding="utf-8")
    graph = read_graph(tmp_path)
    assert graph.labels["n"].tolist() == [[0, 1], [1, 1]]
    assert graph.labels["n"].dtype == np.uint8
    assert graph.classes == {"n": ("warm", "loud")}
    assert graph.name == tmp_path.name
    change("n.csv", "0,1", "2,1")(tmp_path)
    with pytest.raises(GraphInvalidError, match=r"n\.csv', line 2, column 'warm': the cell '2'"):
        read_graph(tmp_path)


WRONG = [
    ("treats.csv", "P-002", "P-999", "'{}/treats.csv', line 4, column 'patient': the cell 'P-999'", "'P-001', 'P-002'"),
    ("takes.csv", "aspirin", "", "'{}/takes.csv', line 2, column 'drug': an empty cell", "a node of type 'drug'"),
    ("patients.csv", "66.2", "heavy", "'{}/patients.csv', line 4, column 'weight': the cell 'heavy'", "a number"),
    ("patients.csv", "66.2", "", "'{}/patients.csv', line 4, column 'weight': an empty cell", "a number"),
    ("patients.csv", "66.2", "nan", "'{}/patients.csv', line 4, column 'weight': the cell 'nan'", "at most 3.4e+38"),
    ("patients.csv", "66.2", "1e39", "'{}/patients.csv', line 4, column 'weight': the cell '1e39'", "at most"),
    ("patients.csv", "66.2", '"6\n6"', "'{}/patients.csv', line 5, column 'weight': the cell '6\n6'", "a number"),
    ("patients.csv", "P-003", "P-001", "'{}/patients.csv', line 4, column 'patient': the cell 'P-001'", "no row above"),
    ("patients.csv", "P-003", "", "'{}/patients.csv', line 4, column 'patient': an empty cell", "an id"),
    ("patients.csv", ",ICU", "", "'{}/patients.csv', line 4: 5 cells", "6 cells, one for each of the columns patient,"),
    ("patients.csv", ",test", ",tset", "'{}/patients.csv', line 4, column 'part': the cell 'tset'", "train, val, test"),
    ("patients.csv", "age", "weight", "'{}/patients.csv' has 2 columns 'weight'", "a name of its own"),
    ("patients.csv", "outcome", "result", "'{}/patients.csv' has no column 'outcome'", "age, weight, ward, result"),
    ("patients.csv", "3A", '"3A', "'{}/patients.csv', line 5: unexpected end of data", "quotation mark"),
    ("graph.json", '"takes.csv"', '"take.csv"', "cannot read '{}/take.csv': No such file", "takes.csv, treats.csv"),
    ("graph.json", '"label"', '"lable"', "'{}/graph.json': node type 'patient': \"lable\"", "label, classes, split"),
    (
        "graph.json",
        '"doctor", "dest',
        '"nurse", "dest',
        "'{}/graph.json': relation 1, source: \"nurse\"",
        "patient, doctor",
    ),
    ("graph.json", '"drug",\n', '"patient",\n', 'both ends are in the column: "patient"', "another column"),
    ("graph.json", '"destination_column": "drug",', "", "relation 2, destination_column", "'drug' names no id"),
    ("graph.json", '"reverse": "taken_by"', '"reverse": "takes"', "2 relations are named 'takes'", "a name of its own"),
    ("graph.json", '"node_types"', '"nodes"', "'{}/graph.json': the file: \"nodes\"", "only the members node_types,"),
    ("graph.json", '"drug": {}', '"drug": {"id": "x"}', "node type 'drug', file", "a file that has the columns for id"),
    ("graph.json", '"drug": {}', '"drug": []', "node type 'drug': []", "an object, { }"),
    ("graph.json", '"label": "outcome"', '"label": []', "node type 'patient', label: []", "a column, or a list"),
    ("graph.json", '["years"]', "[3]", "node type 'doctor', features: 3", "text"),
    ("graph.json", '"target": "patient"', '"target": "nurse"', "the target: 'nurse' is not a node type", "doctor"),
    ("graph.json", '"metapaths"', "metapaths", "cannot read '{}/graph.json': Expecting property name", "JSON"),
]


@pytest.mark.parametrize(("name", "old", "new", "found", "expected"), WRONG)
def test_what_is_wrong_is_named(name: str, old: str, new: str, found: str, expected: str, tmp_path: Path) -> None:
    change(name, old, new)(page_folder(tmp_path))
    with pytest.raises((GraphInvalidError, GraphUnreadableError)) as caught:
        read_graph(tmp_path)
    assert found.replace("{}", str(tmp_path)) in caught.value.found
    assert expected in caught.value.expected
    assert caught.value.do


def test_a_metapath_of_unknown_relations_is_named_with_the_file(tmp_path: Path) -> None:
    change("graph.json", '["takes",', '["eats",')(page_folder(tmp_path))
    with pytest.raises(RelationMissingError, match=r"graph\.json': the graph 'hospital' has no relation 'eats'"):
        read_graph(tmp_path)


def test_a_wrong_cell_far_down_is_found_in_its_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csv_table, "_CHUNK", 10)
    rows = [["id", "x"], *([f"n{at}", str(at)] for at in range(57))]
    rows[44][1] = "?"
    write_rows(tmp_path / "n.csv", rows)
    node = {"file": "n.csv", "id": "id", "features": "numeric"}
    (tmp_path / "graph.json").write_text(json.dumps({"node_types": {"n": node}}), encoding="utf-8")
    with pytest.raises(GraphInvalidError, match=r"n\.csv', line 45, column 'x': the cell '\?'"):
        read_graph(tmp_path)


def test_empty_files_and_other_encodings_are_refused(tmp_path: Path) -> None:
    page_folder(tmp_path)
    (tmp_path / "takes.csv").write_bytes(b"")
    with pytest.raises(GraphUnreadableError, match=r"takes\.csv' is empty"):
        read_graph(tmp_path)
    for encoding in ("latin-1", "utf-16"):
        (tmp_path / "takes.csv").write_bytes("patient,drug\nP-001,Ü\n".encode(encoding))
        with pytest.raises(GraphUnreadableError, match=r"takes\.csv' is not UTF-8"):
            read_graph(tmp_path)
    (tmp_path / "takes.csv").write_text("patient,drug\n", encoding="utf-8")
    assert read_graph(tmp_path).counts["drug"] == 0


def test_a_folder_without_a_graph_says_what_it_could_hold(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("none", encoding="utf-8")
    with pytest.raises(GraphUnreadableError) as caught:
        read_graph(tmp_path)
    assert caught.value.found == f"the folder '{tmp_path}' holds no graph, but notes.txt"
    assert "graph.json (CSV folder)" in caught.value.expected
    with pytest.raises(GraphUnreadableError, match="No such file"):
        read_graph(tmp_path / "absent")
