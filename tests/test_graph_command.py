# SPDX-License-Identifier: Apache-2.0
"""The command ``graph``: what it counts, what it finds for a model, what it writes and draws."""

import itertools
import json
import math
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from xml.etree import ElementTree

import numpy as np
import onnx
import pytest

from hetfab.cli.main import main
from hetfab.driver.demo import model_path
from hetfab.driver.graph.fit import find_inputs
from hetfab.driver.graph.generate import academic
from hetfab.driver.graph.heterograph import CsrFeatures, Edges, HeteroGraph
from hetfab.driver.graph.npz import read_graph, write_graph
from hetfab.driver.graph.picture import draw, lay_out
from hetfab.driver.graph.summary import reverse_pairs, summarise
from hetfab.driver.report import save_predictions
from hetfab.overlay.errors import BindingInvalidError, OutputUnwritableError, PackageMissingError
from hetfab.overlay.model.binding import Features
from hetfab.overlay.model.reader import read_model
from hetfab.overlay.model.schema import Relation

MODEL = model_path()


def ids(*values: int) -> Any:
    return np.array(values, dtype=np.int32)


def shop() -> HeteroGraph:
    """Users buy items, once twice, and like users; the numbers are small enough to count."""
    buys = Edges(ids(0, 0, 0, 2), ids(1, 1, 0, 1))
    return HeteroGraph(
        name="shop",
        target="user",
        counts={"user": 4, "item": 3, "maker": 0},
        relations={
            Relation("user", "buys", "item"): buys,
            Relation("item", "bought_by", "user"): Edges(buys.destination[::-1], buys.source[::-1]),
            Relation("user", "likes", "user"): Edges(ids(0, 1), ids(1, 0)),
            Relation("user", "views", "item"): Edges(ids(0, 0, 0, 1), ids(1, 1, 0, 1)),
        },
        features={
            "user": CsrFeatures(ids(0, 1, 1, 1, 2), ids(2, 0), np.array([1, 0], np.float32), 5),
            "item": np.array([[1, 0], [0, 0], [2, 3]], np.float32),
        },
        labels={"user": np.array([0, -1, 1, 1]), "item": np.ones((3, 2), np.uint8)},
        splits={"user": {"train": ids(0, 2), "test": ids(3)}},
        metapaths={"UIU": ("buys", "bought_by")},
        classes={"user": ("low", "mid", "high")},
    )


def test_types_and_relations_are_counted() -> None:
    found = summarise(shop())
    user, item, maker = found.node_types
    assert (user.features, user.width, user.nonzeros) == ("csr", 5, 1)
    assert (item.features, item.width, item.nonzeros) == ("dense", 2, 3)
    assert (maker.features, maker.width, maker.count) == (None, 0, 0)
    assert (user.labels, user.classes, user.labelled, user.splits) == ("multiclass", 3, 3, {"train": 2, "test": 1})
    assert (item.labels, item.classes, item.labelled) == ("multilabel", 2, 3)
    buys = found.relations[0]
    assert (buys.edges, buys.duplicates, buys.reverse) == (4, 1, "bought_by")
    assert (buys.out.mean_degree, buys.out.max_degree, buys.out.without_edges) == (1.0, 3, 2)
    assert (buys.into.mean_degree, buys.into.max_degree, buys.into.without_edges) == (4 / 3, 3, 1)


def test_only_true_reverses_are_pairs() -> None:
    assert reverse_pairs(shop()) == {"buys": "bought_by", "bought_by": "buys"}
    pairs = reverse_pairs(academic(papers=50))
    assert pairs["cites"] == "cited_by" and pairs["term_of"] == "has_term" and len(pairs) == 8


@pytest.fixture
def graph_file(tmp_path: Path) -> Path:
    write_graph(tmp_path / "shop.npz", shop())
    return tmp_path / "shop.npz"


def test_tables_for_people(graph_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["graph", str(graph_file)]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["user", "4", "csr", "5", "1", "3:", "low,", "mid,", "high", "3", "2", "-", "1"] in lines
    assert ["maker", "0", *"-" * 8] in lines
    assert ["buys", "user", "item", "4", "1", "1", "3", "2", "1.333", "3", "1"] in lines
    assert ["UIU", "buys,", "bought_by"] in lines


def test_json_for_programs(graph_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["graph", str(graph_file), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert list(found) == ["name", "target", "node_types", "relations", "metapaths"]
    assert found["node_types"][0]["class_names"] == ["low", "mid", "high"]
    assert found["relations"][1]["into"] == {"mean_degree": 1.0, "max_degree": 3, "without_edges": 2}


def test_any_form_becomes_an_npz_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "n.csv").write_text("id,x\none,1\ntwo,2\n", encoding="utf-8")
    node = {"file": "n.csv", "id": "id", "features": "numeric"}
    (tmp_path / "graph.json").write_text(json.dumps({"node_types": {"n": node}}), encoding="utf-8")
    assert main(["graph", str(tmp_path), "-o", str(tmp_path / "n.npz")]) == 0
    graph = read_graph(tmp_path / "n.npz")
    assert graph.ids["n"].tolist() == ["one", "two"]
    assert f"next: hetfab inspect MODEL --graph {tmp_path / 'n.npz'}" in capsys.readouterr().out


def test_a_model_that_fits(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_graph(tmp_path / "g.npz", academic())
    assert main(["graph", str(tmp_path / "g.npz"), "--model", str(MODEL)]) == 0
    out = capsys.readouterr().out
    assert f"{MODEL} fits this graph" in out
    assert "lacks" not in out


def problems(model: onnx.ModelProto, graph: HeteroGraph) -> dict[str, str]:
    return {found.input: found.problem for found in find_inputs(model, graph) if found.problem is not None}


def test_everything_that_a_model_misses_is_said_at_once() -> None:
    whole = academic(papers=50)
    gone = {"cites", "cited_by"}
    narrow = np.zeros((whole.counts["author"], 7), np.float32)
    graph = replace(
        whole,
        counts={**whole.counts, "venue": 21},
        relations={r: edges for r, edges in whole.relations.items() if r.name not in gone},
        features={"paper": whole.features["paper"], "author": narrow},
    )
    found = problems(read_model(MODEL), graph)
    lacks = {
        f"{end}_{name}": f"the graph lacks relation {name} (paper -> paper)" for end in ("src", "dst") for name in gone
    }
    assert found == lacks | {
        "x_author": "the features have 7 columns, the model reads 48",
        "x_term": "nodes of type 'term' have no features",
        "table.venue": "no node type has 20 nodes",
    }


def test_fixed_numbers_of_nodes_and_edges_and_unknown_inputs_are_said() -> None:
    model, graph = read_model(MODEL), academic(papers=50)
    for value in model.graph.input:
        if value.name in ("x_paper", "src_cites"):
            value.type.tensor_type.shape.dim[0].dim_value = 49
    model.graph.input.append(onnx.helper.make_tensor_value_info("mystery", onnx.TensorProto.FLOAT, [None, 3]))
    found = problems(model, graph)
    edges = len(graph.relations[graph.relation("cites")].source)
    assert found["x_paper"] == "the graph has 50 nodes, the model is fixed to 49"
    assert found["src_cites"] == f"the graph has {edges} edges, the model is fixed to 49"
    assert found["mystery"].startswith("nothing says what it means")
    assert set(found) == {"x_paper", "src_cites", "mystery"}
    bound = {f.input: f.problem for f in find_inputs(model, graph, {"mystery": Features("paper")})}
    assert bound["mystery"] == "the features have 300 columns, the model reads 3"
    with pytest.raises(BindingInvalidError, match="nobody"):
        find_inputs(model, graph, {"nobody": Features("paper")})


def test_a_binding_needs_a_model(graph_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["graph", str(graph_file), "--bind", "b.json"]) == 2
    assert "give the model with --model" in capsys.readouterr().err


def many_types() -> HeteroGraph:
    """Eight types, of which most pairs are linked, and some are linked to themselves."""
    names = ["book", "film", "music", "sports", "people", "location", "organization", "business"]
    links = [pair for at, pair in enumerate(itertools.combinations_with_replacement(names, 2)) if at % 2 == 0]
    one = Edges(ids(0), ids(0))
    relations = {Relation(a, f"{a}_and_{b}", b): one for a, b in links}
    return HeteroGraph("many", "book", {name: 10**at for at, name in enumerate(names)}, relations)


def estimate(text: str, points: float) -> tuple[float, float]:
    """Half the width and height of text, about as DejaVu Sans has them."""
    lines = text.split("\n")
    return 0.0052 * points * max(map(len, lines)), 0.011 * points * len(lines)


GRAPHS: dict[str, Callable[[], HeteroGraph]] = {
    "academic": lambda: academic(papers=50),
    "shop": shop,
    "one type": lambda: HeteroGraph("one", None, {"a": 5}),
    "nothing": lambda: HeteroGraph("none", None, {}),
    "many": many_types,
}


@pytest.mark.parametrize("name", GRAPHS)
def test_nothing_lies_on_a_type(name: str) -> None:
    graph = GRAPHS[name]()
    drawing = lay_out(summarise(graph), estimate)
    assert set(drawing.centres) == set(graph.counts)
    for (a, left), (b, right) in itertools.combinations(drawing.centres.items(), 2):
        assert math.dist(left, right) > drawing.radii[a] + drawing.radii[b]
    for box in drawing.labels:
        assert not [t for t, centre in drawing.centres.items() if box.covers(centre, drawing.radii[t])]
    assert len(drawing.lines) == len(graph.relations) - len(reverse_pairs(graph)) // 2


@pytest.mark.parametrize("name", ["academic", "shop"])
def test_labels_do_not_touch(name: str) -> None:
    labels = lay_out(summarise(GRAPHS[name]()), estimate).labels
    assert not [pair for pair in itertools.combinations(labels, 2) if pair[0].overlap(pair[1])]


def test_circles_grow_with_the_number_of_nodes() -> None:
    graph = many_types()
    radii = lay_out(summarise(graph), estimate).radii
    assert sorted(radii, key=radii.__getitem__) == sorted(graph.counts, key=graph.counts.__getitem__)


@pytest.mark.parametrize("name", GRAPHS)
def test_pictures_are_written_and_equal_graphs_give_equal_ones(name: str, tmp_path: Path) -> None:
    for file in ("a.svg", "b.svg"):
        draw(summarise(GRAPHS[name]()), tmp_path / file)
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
    assert ElementTree.parse(tmp_path / "a.svg").getroot().tag.endswith("svg")


@pytest.mark.parametrize(("suffix", "start"), [(".png", b"\x89PNG"), (".PDF", b"%PDF")])
def test_the_command_draws(graph_file: Path, suffix: str, start: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    picture = graph_file.with_suffix(suffix)
    assert main(["graph", str(graph_file), "--picture", str(picture)]) == 0
    assert picture.read_bytes().startswith(start)
    assert f"picture in {picture}" in capsys.readouterr().out


def test_an_unknown_form_of_pictures_is_refused_first(tmp_path: Path) -> None:
    with pytest.raises(OutputUnwritableError, match=r"no form of pictures ends in '\.jpg'"):
        draw(summarise(shop()), tmp_path / "a.jpg")


def test_a_missing_matplotlib_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(PackageMissingError) as caught:
        draw(summarise(shop()), tmp_path / "a.svg")
    assert caught.value.do == "pip install 'hetfab[plots]', or leave out --picture"
    assert not list(tmp_path.iterdir())


def test_predictions_name_nodes_and_classes(tmp_path: Path) -> None:
    logits = np.array([[1, 2, 3], [3, 2, 1], [0, 9, 0], [5, 5, 6]], np.int32)
    result: Any = SimpleNamespace(logits=logits, scale=0.5, values=logits * 0.5)
    tensor = SimpleNamespace(node_type="user")
    program: Any = SimpleNamespace(output=SimpleNamespace(tensor="out"), tensor=lambda name: tensor)
    named = replace(shop(), ids={"user": np.array(["Ada", "Bo", "Cy", "Di"])})
    save_predictions(tmp_path / "named.npz", result, program, named)
    with np.load(tmp_path / "named.npz") as saved:
        words = saved["classes"][saved["predictions"]]
        assert dict(zip(saved["ids"].tolist(), words.tolist(), strict=True)) == {
            "Ada": "high",
            "Bo": "low",
            "Cy": "mid",
            "Di": "high",
        }
    save_predictions(tmp_path / "plain.npz", result, program, replace(shop(), classes={}))
    with np.load(tmp_path / "plain.npz") as saved:
        assert set(saved) == {"logits", "scale", "predictions", "node_type"}
