# SPDX-License-Identifier: Apache-2.0
"""The generated academic graph is seeded and learnable, and the committed model learned it."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from click.testing import CliRunner

from hetfab.driver.demo import model_path
from hetfab.driver.graph.feeds import feeds
from hetfab.driver.graph.generate import CLASSES, VENUES, WORDS, academic, main
from hetfab.driver.graph.heterograph import CsrFeatures, HeteroGraph
from hetfab.driver.graph.npz import read_graph, write_graph
from hetfab.overlay.model.binding import METADATA_KEY, from_json, parse, resolve, to_json
from tests.reference_session import reference_session

MODEL = model_path()


def written(graph: HeteroGraph, path: Path) -> bytes:
    write_graph(path, graph)
    return path.read_bytes()


def test_the_seed_decides_the_graph(tmp_path: Path) -> None:
    first = written(academic(3), tmp_path / "a.npz")
    assert first == written(academic(3), tmp_path / "b.npz")
    assert first != written(academic(4), tmp_path / "c.npz")


def test_the_graph_has_the_forms_that_matter() -> None:
    graph = academic()
    assert sum(graph.counts.values()) == 2000
    assert isinstance(graph.features["paper"], CsrFeatures)
    assert graph.schema().feature_widths["paper"] == WORDS
    assert set(graph.counts) - set(graph.features) == {"venue"}
    assert graph.counts["venue"] == VENUES
    assert set(graph.labels["paper"].tolist()) == set(range(CLASSES))
    relations = list(graph.relations.items())
    for (relation, edges), (reverse, back) in zip(relations[::2], relations[1::2], strict=True):
        assert (relation.source, relation.destination) == (reverse.destination, reverse.source)
        pairs = list(zip(edges.source.tolist(), edges.destination.tolist(), strict=True))
        assert pairs == list(zip(back.destination.tolist(), back.source.tolist(), strict=True))
        assert len(set(pairs)) == len(pairs)
    parts = graph.splits["paper"]
    assert sorted(np.concatenate(list(parts.values())).tolist()) == list(range(1000))
    assert {name: len(ids) for name, ids in parts.items()} == {"train": 240, "val": 60, "test": 700}
    cites = graph.relations[graph.relation("cites")]
    assert not (cites.source == cites.destination).any()
    assert (np.bincount(cites.destination, minlength=1000) == 0).any(), "some papers are never cited"


def shared(graph: HeteroGraph, name: str) -> npt.NDArray[np.float64]:
    """Papers by papers: how many nodes a relation from papers leads both to."""
    relation = graph.relation(name)
    edges = graph.relations[relation]
    incidence = np.zeros((graph.counts["paper"], graph.counts[relation.destination]))
    np.add.at(incidence, (edges.source, edges.destination), 1)
    return incidence @ incidence.T


def score(graph: HeteroGraph, votes: npt.NDArray[Any]) -> float:
    test = graph.splits["paper"]["test"]
    return float((votes[test].argmax(1) == graph.labels["paper"][test]).mean())


@pytest.mark.parametrize("seed", [7, 8, 9])
def test_classes_show_in_words_and_more_so_with_neighbours(seed: int) -> None:
    graph = academic(seed)
    train = graph.splits["paper"]["train"]
    known = np.zeros((graph.counts["paper"], CLASSES))
    known[train, graph.labels["paper"][train]] = 1
    frequencies = known.T @ graph.dense_features("paper") + 1
    words = graph.dense_features("paper") @ np.log(frequencies / frequencies.sum(1, keepdims=True)).T
    votes = sum(shared(graph, name) @ known for name in ("written_by", "published_in"))
    guess = 1 / CLASSES
    assert guess + 0.1 < score(graph, words) < 0.75
    assert score(graph, votes + 0.3 * words) > score(graph, words) + 0.05


def test_the_command_writes_the_graph(tmp_path: Path) -> None:
    path = tmp_path / "graph.npz"
    done = CliRunner().invoke(main, ["-o", str(path), "--seed", "5", "--papers", "50"])
    assert done.exit_code == 0
    assert "1,050 nodes" in done.output
    assert path.read_bytes() == written(academic(5, 50), tmp_path / "same.npz")
    assert read_graph(path).counts["paper"] == 50
    done = CliRunner().invoke(main, ["-o", str(tmp_path / "nowhere" / "graph.npz")])
    assert done.exit_code == 1
    assert "cannot write" in done.output


def logits(graph: HeteroGraph) -> npt.NDArray[np.float32]:
    model = onnx.load(MODEL)
    metadata = {entry.key: entry.value for entry in model.metadata_props}[METADATA_KEY]
    session = reference_session(MODEL)
    inputs = {value.name: value.shape for value in session.get_inputs()}
    widths = {name: shape[1] for name, shape in inputs.items() if len(shape) == 2}
    result: npt.NDArray[np.float32] = session.run(None, feeds(graph, parse(list(inputs), metadata), widths))[0]
    return result


def test_the_committed_model_is_valid_and_says_what_its_inputs_mean() -> None:
    model = onnx.load(MODEL)
    onnx.checker.check_model(model, full_check=True)
    assert model.ir_version == 10
    assert {entry.domain: entry.version for entry in model.opset_import} == {"": 20, "hgnn": 2}
    metadata = {entry.key: entry.value for entry in model.metadata_props}[METADATA_KEY]
    names = [value.name for value in model.graph.input]
    complete = from_json(metadata, "test")
    assert list(complete) == names
    assert complete == resolve(parse(names), academic().schema()) == resolve(complete, academic().schema())
    assert to_json(complete) == metadata
    assert MODEL.stat().st_size < 1_000_000


def test_the_committed_model_uses_the_graph() -> None:
    graph = academic()
    whole = score(graph, logits(graph))
    assert 0.85 < whole < 0.98
    alone = HeteroGraph(
        graph.name,
        graph.target,
        graph.counts,
        {relation: type(edges)(*(ids[:0] for ids in edges)) for relation, edges in graph.relations.items()},
        graph.features,
        graph.labels,
        graph.splits,
    )
    assert score(alone, logits(alone)) < whole - 0.15


def test_the_committed_model_runs_on_a_graph_of_another_size() -> None:
    graph = academic(seed=11, papers=150, authors=90, terms=40)
    assert logits(graph).shape == (150, CLASSES)
