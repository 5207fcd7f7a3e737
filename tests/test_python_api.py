# SPDX-License-Identifier: Apache-2.0
"""The steps as Python: the quickstart's blocks give what its commands give, and so does the notebook."""

import json
import re
import shlex
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import onnx
import pytest
from nbclient import NotebookClient

from hetfab.cli.main import main
from hetfab.driver.graph.model_inputs import model_bindings, open_model
from hetfab.driver.graph.npz import write_graph
from hetfab.driver.overlay import HetfabOverlay
from hetfab.driver.package import emulated_package, find_package
from hetfab.hls.build.cache import CACHE_VARIABLE, cache_content, clear_cache
from hetfab.overlay.compiler.compile import compile_model
from hetfab.overlay.design import default_design
from hetfab.overlay.errors import CountFixedError, ModelUnreadableError
from hetfab.overlay.model.bound_model import BoundModel
from hetfab.overlay.model.reader import bindings_of, read_model
from hetfab.overlay.package import Kind, read_package
from hetfab.overlay.program import Program
from hetfab.quantize.post_training import quantize
from tests.conftest import SMALL_GEOMETRY
from tests.programs import compiled, quantized, reference_logits
from tests.pynq_support import small_design_of
from tests.random_models import academic_case

ROOT = Path(__file__).parents[1]
NOTEBOOK = ROOT / "driver" / "notebooks" / "first_run.ipynb"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class Quickstart:
    """What the page's blocks left behind, run from top to bottom in a folder that stands for a clone."""

    def __init__(self, folder: Path) -> None:
        self.names: dict[str, Any] = {"__name__": "quickstart"}
        self.printed = ""
        self.expected = ""
        self.commands: list[list[str]] = []
        (folder / "driver").symlink_to(ROOT / "driver")

    def run(self, capsys: pytest.CaptureFixture[str]) -> None:
        for language, body in BLOCK.findall((ROOT / "docs" / "quickstart.md").read_text(encoding="utf-8")):
            if language == "python":
                exec(compile(body, "quickstart.md", "exec"), self.names)
                self.printed += capsys.readouterr().out
            elif language == "text":
                self.expected += body
            else:
                assert language == "sh"
                for line in body.splitlines():
                    program, *arguments = shlex.split(line)
                    assert program == "hetfab" and main(arguments) == 0
                    self.commands.append(arguments)
                capsys.readouterr()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, as the current one."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_blocks_of_the_quickstart_give_the_numbers_of_its_commands(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = Quickstart(folder)
    page.run(capsys)
    assert page.printed == page.expected != ""
    assert [arguments[0] for arguments in page.commands] == ["quantize", "compile", "run"]
    assert main([*page.commands[-1], "--json", "-o", "predictions.npz"]) == 0
    by_command = json.loads(capsys.readouterr().out)
    found = page.names["found"]
    assert by_command["stream_hash"] == found.result.stream_hash
    assert (by_command["micro_f1"], by_command["macro_f1"]) == (found.scores.micro, found.scores.macro)
    assert by_command["counters"] == vars(found.counters)
    assert by_command["agreement"] == 1.0 and by_command["max_logit_lsb"] == 0.0
    saved = np.load("predictions.npz")
    np.testing.assert_array_equal(saved["logits"], found.result.logits)
    np.testing.assert_array_equal(page.names["on_board"].result.logits, found.result.logits)


def test_the_quickstart_has_one_line_for_each_step() -> None:
    text = (ROOT / "docs" / "quickstart.md").read_text(encoding="utf-8")
    (_, body), *_ = BLOCK.findall(text)
    steps = body.split("\n\n")[1].splitlines()
    assert [len(steps), steps[4].rstrip(":")] == [6, "with HetfabOverlay(program.design, program) as overlay"]
    rows = re.findall(r"^\| `([^`(]+)\(", text, re.MULTILINE)
    assert all(any(name in step for step in steps) for name in rows) and len(rows) == 6


def outputs_of(notebook: Any) -> Iterator[tuple[str, Any]]:
    """Kind and content of each output of a notebook's cells."""
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            yield output.output_type, output.get("text", output.get("data"))


def test_the_notebook_runs_and_shows_a_table_and_a_picture(folder: Path) -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)  # type: ignore[no-untyped-call]
    nbformat.validate(notebook)
    assert not list(outputs_of(notebook)), "outputs are not committed"
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(folder)}}).execute()
    shown = list(outputs_of(notebook))
    assert [kind for kind, _ in shown] == ["execute_result", "stream", "stream"]
    assert "<svg" in shown[0][1]["image/svg+xml"] and "author" in shown[0][1]["image/svg+xml"]
    model, program = shown[1][1].splitlines()[1:]
    assert re.fullmatch(r"float model +onnxruntime +0\.9386 +0\.\d{4}", model)
    assert re.fullmatch(r"program, W8A8 +emulated overlay +0\.9386 +0\.\d{4}", program)
    assert re.fullmatch(
        r"[\d,]+ instructions\n[\d,]+ multiply-accumulates\n[\d,]+ edges aggregated over\n", shown[2][1]
    )


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A folder with a small model and its graph."""
    case = academic_case()
    onnx.save(case.model, str(tmp_path / "model.onnx"))
    write_graph(tmp_path / "graph.npz", case.graph)
    return tmp_path


def test_an_opened_model_has_what_the_parts_give(files: Path) -> None:
    graph = academic_case().graph
    opened = open_model(str(files / "model.onnx"), graph)
    read = read_model(files / "model.onnx")
    assert opened.model == read and opened.bindings == model_bindings(read, graph)
    assert opened.evaluation.rows is None and not opened.evaluation.multilabel


def test_an_opened_model_is_compared_on_validation_vertices(files: Path) -> None:
    graph = academic_case().graph
    count = graph.counts["paper"]
    splits = {"paper": {"val": np.arange(2), "test": np.arange(2, 4)}}
    labels = {"paper": np.ones((count, 3), np.uint8)}
    opened = open_model(files / "model.onnx", replace(graph, target="paper", labels=labels, splits=splits))
    assert opened.evaluation.rows is not None and list(opened.evaluation.rows) == [0, 1]
    assert opened.evaluation.multilabel
    empty = replace(graph, target="paper", splits={"paper": {"val": np.zeros(0, np.int64)}})
    assert open_model(files / "model.onnx", empty).evaluation.rows is None


def test_a_model_that_does_not_open_is_refused_in_words(files: Path) -> None:
    with pytest.raises(ModelUnreadableError, match="cannot read the model"):
        open_model(files / "none.onnx", academic_case().graph)
    read = read_model(files / "model.onnx")
    first = next(value for value in read.graph.input if value.name.startswith("x_"))
    first.type.tensor_type.shape.dim[0].dim_value = 3
    onnx.save(read, str(files / "fixed.onnx"))
    with pytest.raises(CountFixedError):
        open_model(files / "fixed.onnx", academic_case().graph)


def test_a_quantized_model_carries_a_binding_that_needs_no_graph() -> None:
    case = academic_case()
    result = quantized(case)
    assert result.bindings == bindings_of(result.model) == model_bindings(result.model, case.graph)
    program = compile_model(result, default_design())
    again = compile_model(BoundModel(result.model, result.bindings), default_design())
    assert isinstance(program, Program) and program.model_hash == again.model_hash


def test_quantize_takes_an_opened_model(files: Path) -> None:
    opened = open_model(files / "model.onnx", academic_case().graph)
    steps: list[str] = []
    result = quantize(opened, progress=steps.append)
    assert steps[0] == "float model" and steps[1:] == list(result.divergences)


def test_a_design_stands_for_its_emulated_overlay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    case = academic_case()
    result = quantized(case)
    program = compiled(result.model, case.graph, SMALL_GEOMETRY)
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    design = small_design_of("pynq-z2")
    with HetfabOverlay(design, program) as overlay:
        package = overlay.package
        found = overlay.predict(case.graph)
    np.testing.assert_array_equal(found.logits, reference_logits(result.model, case.graph))
    assert package.kind is Kind.EMULATED and read_package(package.bit.with_suffix(".json")) == package
    assert {package.bit, package.hwh} <= set(cache_content())
    clear_cache()
    assert not package.bit.exists()


def test_packages_of_designs_with_one_name_do_not_meet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path))
    first = emulated_package(default_design())
    other = emulated_package(replace(default_design(), geometry=SMALL_GEOMETRY))
    assert first.name == other.name and first.bit != other.bit
    assert find_package(first.bit).design.geometry != find_package(other.bit).design.geometry
    assert emulated_package(default_design()) == first
