# SPDX-License-Identifier: Apache-2.0
"""``hetfab compile --rows``: where AGG finds feature rows is what the program's instructions say."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hetfab.cli.main import main
from hetfab.driver.graph.arrays import graph_arrays
from hetfab.driver.graph.graph_rows import GraphRows
from hetfab.driver.graph.heterograph import HeteroGraph
from hetfab.driver.graph.model_inputs import model_bindings
from hetfab.driver.graph.npz import read_graph, write_graph
from hetfab.driver.graph.row_choice import RowChoice, cheapest_first, fastest, row_choices, trips_saved
from hetfab.driver.node_runs import NodeRuns
from hetfab.driver.overlay import HetfabOverlay
from hetfab.overlay.bind import IncomingEdges, bind
from hetfab.overlay.compiler.compile import compile_model
from hetfab.overlay.costs.program_cost import expected_log, operation_fields, operation_rows
from hetfab.overlay.design import default_design
from hetfab.overlay.isa.codec import ReduceSource, Segment
from hetfab.overlay.isa.spec import isa
from hetfab.overlay.model.bound_model import BoundModel
from hetfab.overlay.parts import Parts
from hetfab.overlay.program import Program, SymbolKind, read_program, write_program
from hetfab.overlay.timeline.machine import machine
from hetfab.overlay.timeline.simulate import simulate
from tests.conftest import SMALL_GEOMETRY
from tests.demo_files import DemoFiles
from tests.programs import bound_to, design_of, quantized, run_golden
from tests.random_models import random_case


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
    assert "'cache' is not one of 'dram', 'tags', 'schedule', 'auto'" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_auto_takes_the_fastest_way(demo_files: DemoFiles, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "p.hfp"
    asked = ["--rows", "auto", "--inferences", "1", "--graph", str(demo_files.graph)]
    assert main(["compile", str(demo_files.quantized), *asked, "-o", str(output), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    choices = said["row_choices"]
    assert [each["name"] for each in choices][:3] == ["tags", "dram", "schedule"]
    program = read_program(output)
    bound = bind(program, graph_arrays(program, read_graph(demo_files.graph)), side_by_side=True)
    taken = simulate(bound.words, expected_log(bound), machine(program.design)).milliseconds
    least = min(each["milliseconds"] + each["making"] for each in choices)
    assert taken in [each["milliseconds"] for each in choices if each["milliseconds"] + each["making"] == least]
    assert said["rows"] in [each["name"] for each in choices if each["milliseconds"] == taken]


@pytest.mark.parametrize("words", [4096, 128, 8], ids=lambda words: f"{words} words")
def test_edges_in_parts_give_the_same_results(words: int) -> None:
    """Also where the scratchpad has no room for a row of every table, which then reads DRAM."""
    design = default_design("pynq-z2-graphs")
    design = replace(design, geometry=replace(design.geometry, feature_words=words))
    in_parts = 0
    for seed in (0, 3, 5, 8):
        case = random_case(seed)
        model = quantized(case).model
        opened = BoundModel(model, model_bindings(model, case.graph))
        plain = compile_model(opened, design)
        names = [edges.name for edges in plain.edges if (edges.of_graph or edges.features) and not edges.weighted]
        program = compile_model(opened, design, row_source=ReduceSource.TAGS, in_parts=names)
        in_parts += sum(symbol.kind is SymbolKind.PARTS for symbol in program.symbols)
        bounds = [bound_to(each, case.graph) for each in (plain, program)]
        size = bounds[0].sizes[Segment.OUTPUT]
        expected, found = (run_golden(bound).dram[Segment.OUTPUT][:size] for bound in bounds)
        np.testing.assert_array_equal(found, expected)
    assert in_parts or words == 8


class MakerAskedError(Exception):
    """The driver's maker of parts was called."""


@pytest.fixture
def asked_maker(monkeypatch: pytest.MonkeyPatch) -> None:
    def maker(*_: object) -> Parts:
        raise MakerAskedError

    monkeypatch.setattr("hetfab.driver.edges_in_parts._maker", lambda: maker)


def program_in_parts() -> tuple[Program, HeteroGraph]:
    case, design = random_case(7), design_of(SMALL_GEOMETRY)
    model = quantized(case).model
    opened = BoundModel(model, model_bindings(model, case.graph))
    names = [edges.name for edges in compile_model(opened, design).edges]
    return compile_model(opened, design, row_source=ReduceSource.TAGS, in_parts=names), case.graph


@pytest.mark.usefixtures("asked_maker")
def test_the_driver_makes_parts_by_its_own_maker() -> None:
    """Of a whole graph, of a graph that is larger than memory, and of some nodes."""
    program, graph = program_in_parts()
    whole = GraphRows(program, graph).whole_bytes()
    for memory in (whole, whole - 1):
        with HetfabOverlay(program.design, program, memory_bytes=memory) as overlay, pytest.raises(MakerAskedError):
            overlay.predict(graph)
    with HetfabOverlay(program.design, program) as overlay, pytest.raises(MakerAskedError):
        NodeRuns(GraphRows(program, graph), 1 << 24).predict(overlay._session, np.arange(8))
    with pytest.raises(MakerAskedError):
        list(row_choices(lambda source, names: program, lambda each: graph_arrays(each, graph)))


@pytest.mark.usefixtures("asked_maker")
def test_run_makes_parts_by_the_drivers_maker(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    program, graph = program_in_parts()
    write_program(tmp_path / "p.hfp", program)
    write_graph(tmp_path / "g.npz", graph)
    assert main(["run", str(tmp_path / "p.hfp"), "--graph", str(tmp_path / "g.npz"), "--json"]) != 0
    assert json.loads(capsys.readouterr().out)["error"]["found"] == "MakerAskedError: "


def test_what_takes_least_for_its_gain_is_put_in_parts_first() -> None:
    """Never more than four programs, and the last one has all."""
    assert cheapest_first({}) == []
    assert cheapest_first({"dear": (10, 5.0), "cheap": (10, 1.0)}) == [("cheap",), ("cheap", "dear")]
    many = {str(number): (100 - number, 1.0) for number in range(10)}
    assert [len(group) for group in cheapest_first(many)] == [3, 5, 8, 10]
    assert cheapest_first(many)[0] == ("0", "1", "2")


def test_few_inferences_take_few_edge_sets_in_parts() -> None:
    """What orders cost counts once, what they save with each inference."""
    bound = bound_to(*program_in_parts())
    choices = [
        RowChoice(ReduceSource.TAGS, names, bound, milliseconds, making)
        for names, milliseconds, making in (((), 10.0, 0.0), (("a",), 7.0, 2.0), (("a", "b"), 6.5, 4.0))
    ]
    assert [fastest(choices, inferences).name for inferences in (1, 10)] == ["tags, 1 in parts", "tags, 2 in parts"]


def test_auto_needs_a_graph(demo_files: DemoFiles, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compile", str(demo_files.quantized), "--rows", "auto", "-o", str(tmp_path / "p.hfp")]) == 2
    assert "--rows auto times every way to read a graph; give it with --graph." in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_parts_pay_where_destinations_have_sources_in_common() -> None:
    """Of 1,024 vertices, twice as many as there are slots: 64 destinations share all, or have their own."""
    geometry = replace(default_design("pynq-z2-graphs").geometry, feature_words=4096)
    dense = IncomingEdges(np.arange(65) * 1024, np.tile(np.arange(1024), 64))
    sparse = IncomingEdges(np.arange(65) * 16, np.arange(1024))
    assert trips_saved(dense, 1024, geometry)[0] > 65536 * 8 // 2
    assert trips_saved(sparse, 1024, geometry)[0] <= 0
    assert trips_saved(dense, 1024, replace(geometry, agg_word_beats=1))[0] <= 0
