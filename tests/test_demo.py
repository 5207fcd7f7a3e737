# SPDX-License-Identifier: Apache-2.0
"""The demo: its table holds what its files give."""

import re
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from hetfab.driver.demo import model_path
from hetfab.driver.graph.feeds import feeds
from hetfab.driver.graph.heterograph import HeteroGraph
from hetfab.driver.graph.npz import read_graph
from hetfab.overlay.model.binding import from_json, parse
from hetfab.overlay.model.reader import graph_inputs, metadata, read_model
from hetfab.overlay.program import read_program
from tests.programs import bound_to
from tests.reference_session import reference_session


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the demo leaves behind, and its output."""
    folder = tmp_path_factory.mktemp("demo") / "kept"
    done = subprocess.run(
        [sys.executable, "-m", "hetfab.cli.main", "demo", "-o", str(folder)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    (folder / "output.txt").write_text(done.stdout)
    return folder


def logits_of(model: Path, graph: HeteroGraph) -> npt.NDArray[np.float32]:
    read = read_model(model)
    bindings = parse([value.name for value in graph_inputs(read)], metadata(read))
    session = reference_session(read.SerializeToString())
    logits: npt.NDArray[np.float32] = session.run(None, feeds(graph, bindings))[0]
    return logits


def test_the_table_holds_what_the_files_give(folder: Path) -> None:
    text = (folder / "output.txt").read_text()
    graph = read_graph(folder / "academic.npz")
    assert graph.target is not None
    rows, labels = graph.splits[graph.target]["test"], graph.labels[graph.target]
    table = dict(re.findall(r"^(float model|quantized model, W8A8|program) .* (0\.\d{4})", text, re.MULTILINE))
    models = {"float model": model_path(), "quantized model, W8A8": folder / "rgcn.q.onnx"}
    for name, path in models.items():
        accuracy = np.mean(logits_of(path, graph)[rows].argmax(axis=1) == labels[rows])
        assert table[name] == f"{accuracy:.4f}"
    assert table["program"] == table["quantized model, W8A8"]
    assert abs(float(table["program"]) - float(table["float model"])) <= 0.01
    assert float(table["float model"]) > 0.5


def test_it_shows_instructions_agreement_and_the_commands(folder: Path) -> None:
    text = (folder / "output.txt").read_text()
    program = read_program(folder / "rgcn.hfp")
    bound = bound_to(program, read_graph(folder / "academic.npz"), side_by_side=True)
    assert re.search(rf"^program +emulated overlay .* {len(bound.words):,}$", text, re.MULTILINE)
    assert "100.00% of the predictions agree, largest difference 0 LSB" in text
    commands = [line.split()[2] for line in text.splitlines() if line.startswith("$ hetfab ")]
    assert commands == ["inspect", "quantize", "compile", "run"]


def test_the_readme_shows_what_it_prints(folder: Path) -> None:
    """File names without their folders; what is left out is marked by dots."""
    readme = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    begin, end = readme.index("    $ hetfab quantize"), readme.index("It ends with a page")
    shown = [line for line in textwrap.dedent(readme[begin:end]).splitlines() if line not in ("", "...")]
    printed = re.sub(r"(/[^/ \n]+)+/(?=[\w.]+\.(?:onnx|npz|hfp))", "", (folder / "output.txt").read_text()).splitlines()
    assert len(shown) > 15
    assert [line for line in shown if line.rstrip() not in [found.rstrip() for found in printed]] == []


def test_the_quantized_model_carries_its_binding(folder: Path) -> None:
    read = read_model(folder / "rgcn.q.onnx")
    text = metadata(read)
    assert text is not None
    assert list(from_json(text, "the model")) == [value.name for value in graph_inputs(read)]
