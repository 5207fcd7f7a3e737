# SPDX-License-Identifier: Apache-2.0
"""``hetfab compile --rows``: where AGG finds feature rows is what the program's instructions say."""

import json
from pathlib import Path

import pytest

from hetfab.cli.main import main
from hetfab.driver.graph.arrays import graph_arrays
from hetfab.driver.graph.npz import read_graph
from hetfab.overlay.bind import bind
from hetfab.overlay.costs.program_cost import operation_fields, operation_rows
from hetfab.overlay.isa.codec import ReduceSource
from hetfab.overlay.isa.spec import isa
from hetfab.overlay.program import read_program
from tests.demo_files import DemoFiles


@pytest.mark.parametrize("rows", ["dram", "tags", "schedule", None])
def test_reductions_take_rows_from_where_they_are_told(
    rows: str | None, demo_files: DemoFiles, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "p.hfp"
    asked = [] if rows is None else ["--rows", rows]
    assert main(["compile", str(demo_files.quantized), *asked, "-o", str(output), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["rows"] == (rows or "schedule")
    program = read_program(output)
    words = bind(program, graph_arrays(program, read_graph(demo_files.graph))).words
    reduce = isa().operation("reduce")
    sources = operation_fields(words, reduce, operation_rows(words, reduce))["source"]
    assert set(sources.tolist()) == {ReduceSource[(rows or "schedule").upper()]}


def test_another_source_is_a_mistake_of_usage(
    demo_files: DemoFiles, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compile", str(demo_files.quantized), "--rows", "cache", "-o", str(tmp_path / "p.hfp")]) == 2
    assert "'cache' is not one of 'dram', 'tags', 'schedule'" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
