# SPDX-License-Identifier: Apache-2.0
"""What a graph and its workload tell the compiler, the commands that plan with them, and workloads that are refused."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hetfab.cli.main import main
from hetfab.driver.graph.facts import graph_facts, read_workload
from hetfab.driver.graph.feeds import semantic_edges
from hetfab.driver.graph.heterograph import Edges, HeteroGraph
from hetfab.driver.graph.model_inputs import model_bindings
from hetfab.driver.graph.npz import write_graph
from hetfab.overlay.compiler.first_projection import FirstProjection
from hetfab.overlay.compiler.graph_facts import FeatureCounts
from hetfab.overlay.compiler.lowered import LoweredModel
from hetfab.overlay.compiler.lowering import lower
from hetfab.overlay.errors import RelationMissingError, WorkloadUnreadableError
from hetfab.overlay.model.schema import Relation
from tests.demo_files import DemoFiles
from tests.programs import quantized
from tests.random_models import Case, ModelBuilder

PA, AP = Relation("paper", "pa", "author"), Relation("author", "ap", "paper")


def papers_and_authors() -> HeteroGraph:
    """Papers 0 to 2 have authors, paper 3 has none; author 4 has no paper."""
    paper, author = np.array([0, 0, 1, 2]), np.array([0, 1, 1, 3])
    features = {"paper": np.array([[0, 2, 0], [2, 0, 0], [0, 0, -2], [0, 0, 0]], np.float32)}
    return HeteroGraph(
        "small",
        "paper",
        {"paper": 4, "author": 5},
        {PA: Edges(paper, author), AP: Edges(author, paper)},
        features,
        metapaths={"PAP": ("pa", "ap")},
    )


def layers_of(graph: HeteroGraph) -> LoweredModel:
    """A mean over each relation and over the metapath."""
    builder = ModelBuilder(np.random.default_rng(0), graph)
    rows = builder.dense(builder.features("paper"), 5)
    authors = builder.relu(builder.mean(rows, "pa", "author"))
    terms = [builder.mean(rows, "PAP", "paper"), builder.mean(builder.dense(authors, 5), "ap", "paper")]
    model = quantized(Case(builder.finish(builder.total(terms)), graph)).model
    return lower(model, model_bindings(model, graph))


@pytest.fixture
def workload(tmp_path: Path) -> Path:
    write_graph(tmp_path / "small.npz", papers_and_authors())
    assert main(["graph", str(tmp_path / "small.npz"), "--workload", str(tmp_path / "workload.json")]) == 0
    return tmp_path / "workload.json"


def test_sources_of_a_graph_are_the_vertices_that_edges_lead_from() -> None:
    graph = papers_and_authors()
    found = graph_facts(graph, layers_of(graph))
    sources = {edges.name: each for edges, each in found.sources.items()}
    assert {name: None if each.ids is None else each.ids.tolist() for name, each in sources.items()} == {
        "pa": [0, 1, 2],
        "PAP": np.unique(semantic_edges(graph, (PA, AP)).source).tolist(),
        "ap": [0, 1, 3],
    }
    assert all(each.ids is not None and each.count == len(each.ids) for each in sources.values())


def test_a_workload_tells_their_numbers(workload: Path) -> None:
    graph = papers_and_authors()
    layers = layers_of(graph)
    known, facts = read_workload(workload, layers), graph_facts(graph, layers)
    assert (known.name, known.counts) == ("small", {"paper": 4, "author": 5})
    assert {e.name: s.count for e, s in known.sources.items()} == {e.name: s.count for e, s in facts.sources.items()}
    assert known.features == {"paper": FeatureCounts(3, 3, 6.0, uniform=True)}


def test_a_graph_that_lacks_a_relation_of_the_model_is_refused(workload: Path) -> None:
    graph = papers_and_authors()
    layers = layers_of(graph)
    other = HeteroGraph("other", "paper", graph.counts, {PA: graph.relations[PA]}, graph.features)
    with pytest.raises(RelationMissingError) as caught:
        graph_facts(other, layers)
    assert caught.value.found == "the graph 'other' lacks relations that the model reads: ap (author -> paper)"
    found = json.loads(workload.read_text("utf-8"))
    workload.write_text(json.dumps(found | {"semantic_graphs": []}), "utf-8")
    with pytest.raises(RelationMissingError) as caught:
        read_workload(workload, layers)
    assert str(caught.value) == (
        f"the workload '{workload}' lacks the edges 'PAP'\n  expected: the semantic graph that the model reads\n"
        "  do: use the workload of a graph that the model was made for"
    )


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda found: found | {"format": "hetfab workload 9"}, "format is 'hetfab workload 9', not one of "),
        (lambda found: found["node_types"][0].pop("uniform") and None, "node_types[0].uniform is missing, not a value"),
        (lambda found: found["relations"][0]["out"].update(without_edges=-1), "relations[0].out.without_edges is -1, "),
        (lambda found: [], "the file is [], not object"),
    ],
)
def test_a_workload_that_is_none_is_refused(workload: Path, change: Any, reason: str) -> None:
    found = json.loads(workload.read_text("utf-8"))
    changed = change(found)
    workload.write_text(json.dumps(found if changed is None else changed), "utf-8")
    with pytest.raises(WorkloadUnreadableError) as caught:
        read_workload(workload, layers_of(papers_and_authors()))
    assert caught.value.found.startswith(f"cannot read the workload '{workload}': {reason}")


@pytest.mark.parametrize(
    ("content", "reason"), [(None, "No such file or directory"), (b"{", "Expecting property name")]
)
def test_a_file_that_is_no_json_is_refused(tmp_path: Path, content: bytes | None, reason: str) -> None:
    path = tmp_path / "workload.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(WorkloadUnreadableError, match=reason):
        read_workload(path, layers_of(papers_and_authors()))


def compiled(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    capsys.readouterr()
    assert main(["compile", *arguments, "--json"]) == 0, capsys.readouterr().err
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_compile_plans_for_a_graph_or_its_workload(
    demo_files: DemoFiles, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    workload, model, output = tmp_path / "workload.json", str(demo_files.quantized), str(tmp_path / "a.hfp")
    assert main(["graph", str(demo_files.graph), "--workload", str(workload)]) == 0
    graph = compiled(capsys, model, "--graph", str(demo_files.graph), "-o", output)["plan"]
    known = compiled(capsys, model, "--workload", str(workload), "-o", output)["plan"]
    assert all(p["leading"] == 0 for p in known["first_projections"])
    for plain, numbers in zip(graph["first_projections"], known["first_projections"], strict=True):
        assert plain["leading"] or plain["parts"] == numbers["parts"]
    assert [p["dense"] for p in graph["first_projections"]] == [p["dense"] for p in known["first_projections"]]
    assert [o["edges"] for o in graph["relation_orders"]] == [o["edges"] for o in known["relation_orders"]]
    neither = compiled(capsys, model, "-o", output)["plan"]
    assert {p["reason"] for p in neither["first_projections"]} == {"no graph is given"}
    assert neither["relation_orders"] == []


def test_inspect_says_what_compile_chooses(demo_files: DemoFiles, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [str(demo_files.quantized), "--graph", str(demo_files.graph)]
    plan = compiled(capsys, *arguments, "-o", str(demo_files.program.with_name("again.hfp")))["plan"]
    assert main(["inspect", *arguments, "--json"]) == 0
    out, shown = capsys.readouterr()
    assert json.loads(out)["plan"] == plan
    (paper,) = (p for p in plan["first_projections"] if p["features"] == "x_paper")
    for word in ("first projection", paper["reason"], f"{paper['dense']['macs']:,}", "sum over edge sets"):
        assert word in shown


def test_a_form_that_is_asked_for_is_taken(
    demo_files: DemoFiles, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """And the program predicts the same."""
    streams, predicted = [], []
    for form in (each.value for each in FirstProjection):
        program, saved = str(tmp_path / f"{form}.hfp"), tmp_path / f"{form}.npz"
        graph = ["--graph", str(demo_files.graph)]
        compiled(capsys, str(demo_files.quantized), *graph, "--first-projection", form, "-o", program)
        assert main(["run", program, *graph, "-o", str(saved), "--json"]) == 0
        streams.append(json.loads(capsys.readouterr().out)["stream_hash"])
        with np.load(saved) as arrays:
            predicted.append(arrays["logits"])
    assert len(set(streams)) == 2
    assert all(np.array_equal(predicted[0], each) for each in predicted)


def test_graph_and_workload_together_and_unknown_forms_are_usage_errors(
    demo_files: DemoFiles, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["compile", str(demo_files.quantized), "-o", str(tmp_path / "a.hfp")]
    assert main([*arguments, "--graph", "a.npz", "--workload", "b.json"]) == 2
    assert "--graph and --workload say the same of a graph; give one of them." in capsys.readouterr().err
    assert main([*arguments, "--first-projection", "fast"]) == 2
    assert "'fast' is not one of" in capsys.readouterr().err
    assert not (tmp_path / "a.hfp").exists()
