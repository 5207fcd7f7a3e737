# SPDX-License-Identifier: Apache-2.0
"""The page of a run: self-contained, safe for any name, its figures those of ``--json`` and of the trace."""

import contextlib
import html.parser
import io
import itertools
import json
import re
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hetfab.cli.main import main
from hetfab.driver.demo import model_path
from hetfab.driver.emulated import EmulatedTransport
from hetfab.driver.graph.arrays import graph_arrays
from hetfab.driver.graph.npz import read_graph, write_graph
from hetfab.driver.page.roofline_picture import draw_roofline
from hetfab.driver.page.run_page import page
from hetfab.driver.page.timeline_picture import bars, draw
from hetfab.driver.run_times import RunTimes
from hetfab.driver.session import RunResult, Session
from hetfab.overlay.bind import BoundProgram, bind
from hetfab.overlay.isa.spec import isa
from hetfab.overlay.program import read_program, write_program
from hetfab.overlay.run_log import RUN_LOG_DTYPE
from hetfab.overlay.timeline.machine import machine
from hetfab.overlay.timeline.simulate import Timeline, simulate
from tests.attention_models import attention_case
from tests.conftest import SMALL_GEOMETRY
from tests.demo_files import DemoFiles
from tests.programs import compiled, quantized

DIGITS = Path(__file__).parents[1] / "examples" / "digits"


class Page(html.parser.HTMLParser):
    """The tables of a page by id, rows of texts; its tags with attributes; the object that it holds."""

    VOID = frozenset({"meta", "rect", "line", "circle", "polygon"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.tables: dict[str, list[list[str]]] = {}
        self.embedded = ""
        self.lacks: list[str] = []
        self._table = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        self.tags.append((tag, attributes))
        if tag not in self.VOID:
            self.open.append(tag)
        if tag == "table":
            self._table = attributes["id"] or ""
            self.tables[self._table] = []
        elif tag == "tr":
            self.tables[self._table].append([])
        elif tag in ("td", "th"):
            self.tables[self._table][-1].append("")
        elif tag == "li":
            self.lacks.append("")

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "script" in self.open:
            self.embedded += data
        elif {"td", "th"} & set(self.open):
            self.tables[self._table][-1][-1] += data
        elif "li" in self.open:
            self.lacks[-1] += data

    def column(self, table: str, heading: str, occurrence: int = 0) -> list[str]:
        """The texts below a heading, which several columns may have."""
        headings, *rows = self.tables[table]
        places = [place for place, each in enumerate(headings) if each == heading]
        return [row[places[occurrence]] for row in rows]


@dataclass(frozen=True)
class Shown:
    """A run of the command: what ``--json`` printed, its page, and its trace's slices, where it has one."""

    found: dict[str, Any]
    text: str
    slices: list[dict[str, Any]] = field(default_factory=list)

    @property
    def page(self) -> Page:
        return Page(self.text)


Run = Callable[..., Shown]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Runs ``hetfab run --report`` on these arguments."""
    folder = tmp_path_factory.mktemp("pages")

    def command(name: str, *arguments: object, trace: bool = False) -> Shown:
        paths = {kind: folder / f"{name}.{kind}" for kind in ("html", "json")}
        options = ["--trace", paths["json"]] if trace else []
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            given = ["run", *arguments, "--report", paths["html"], "--json", *options]
            assert main([str(each) for each in given]) == 0
        slices = json.loads(paths["json"].read_bytes())["traceEvents"] if trace else []
        return Shown(
            json.loads(printed.getvalue()),
            paths["html"].read_text(encoding="utf-8"),
            [each for each in slices if each["ph"] == "X" and each["name"] != "run"],
        )

    return command


@pytest.fixture(scope="module")
def on_graph(run: Run, demo_files: DemoFiles) -> Shown:
    options = ["--reference", demo_files.quantized, "--float", model_path()]
    return run("graph", demo_files.program, "--graph", demo_files.graph, *options, trace=True)


@pytest.fixture(scope="module")
def of_han(run: Run, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Shown]:
    """A model that fuses metapaths, on an overlay with SGB: on a whole graph, in parts, and on two of its nodes."""
    folder, case = tmp_path_factory.mktemp("han"), attention_case("han")
    write_program(folder / "han.hfp", compiled(quantized(case).model, case.graph, SMALL_GEOMETRY))
    write_graph(folder / "graph.npz", case.graph)
    given, fusion = [folder / "han.hfp", "--graph", folder / "graph.npz"], folder / "fusion.npz"
    return {
        "graph": run("han", *given, trace=True),
        "parts": run("parts", *given, "--save-fusion", fusion),
        "nodes": run("nodes", *given, "--nodes", "1,7", "--fusion", fusion),
    }


@pytest.fixture(scope="module")
def on_samples(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Shown:
    folder, random = tmp_path_factory.mktemp("samples"), np.random.default_rng(0)
    samples, quantized_model, program = folder / "samples.npz", folder / "mlp.q.onnx", folder / "mlp.hfp"
    np.savez(samples, samples=random.random((20, 64), dtype=np.float32), labels=random.integers(0, 10, 20))
    assert main(["quantize", str(DIGITS / "mlp.onnx"), "--samples", str(samples), "-o", str(quantized_model)]) == 0
    assert main(["compile", str(quantized_model), "-o", str(program)]) == 0
    options = ["--reference", quantized_model, "--float", DIGITS / "mlp.onnx"]
    return run("samples", program, "--samples", samples, *options, trace=True)


@pytest.fixture(scope="module")
def shown(on_graph: Shown, of_han: dict[str, Shown], on_samples: Shown) -> dict[str, Shown]:
    """Pages of all kinds of runs."""
    return {"demo": on_graph, "samples": on_samples, **of_han}


KINDS = pytest.mark.parametrize("kind", ["demo", "samples", "graph", "parts", "nodes"])


def number(text: str) -> float:
    return float(text.replace(",", "").removesuffix(" %"))


@KINDS
def test_it_is_well_formed_and_loads_nothing(shown: dict[str, Shown], kind: str) -> None:
    text, found = shown[kind].text, shown[kind].page
    assert text.startswith("<!DOCTYPE html>") and found.open == []
    scripts = [attributes for tag, attributes in found.tags if tag == "script"]
    assert scripts == [{"type": "application/json", "id": "run"}]
    assert not {"link", "img", "iframe"} & {tag for tag, _ in found.tags}
    assert not any(name in ("src", "href") for _, attributes in found.tags for name in attributes)
    assert "url(" not in text and "@media print" in text


@KINDS
def test_it_holds_what_json_prints(shown: dict[str, Shown], kind: str) -> None:
    assert json.loads(shown[kind].page.embedded) == shown[kind].found


@KINDS
def test_tables_show_the_figures_of_json(shown: dict[str, Shown], kind: str) -> None:
    found, shows = shown[kind].found, shown[kind].page
    timeline, total = found["timeline"], found["timeline"]["board"]["cycles"]

    def column(table: str, heading: str, occurrence: int = 0) -> list[float]:
        return [number(text) for text in shows.column(table, heading, occurrence)]

    def equal(table: str, heading: str, values: list[float], occurrence: int = 0, digits: float = 0.5) -> None:
        assert column(table, heading, occurrence) == pytest.approx(values, abs=digits + 1e-6)

    works = {**timeline["stages"], "SGB": found["semantic_graphs"]["work"]}
    assert shows.column("stages", "stage") == ["SGB", "RST", "FP", "NA", "SF"]
    equal("stages", "cycles of the run", [work["path_cycles"] for work in works.values()])
    equal("stages", "DRAM bytes", [work["bytes"] for work in works.values()])
    moved = sum(work["bytes"] for work in works.values())
    equal("stages", "share", [100 * work["bytes"] / moved for work in works.values()], occurrence=1, digits=0.05)
    engines = timeline["engines"]
    assert shows.column("engines", "engine") == list(engines)
    equal("engines", "busy cycles", [each["busy_cycles"] for each in engines.values()])
    equal("engines", "busy", [100 * each["busy_cycles"] / total for each in engines.values()], digits=0.05)
    equal("engines", "DRAM bytes", [each["bytes"] for each in engines.values()])
    layers = timeline["layers"]
    assert shows.column("layer-costs", "layer") == [each["name"] for each in layers]
    for heading, key in (("cycles of the run", "path_cycles"), ("DRAM bytes", "bytes"), ("MACs", "macs")):
        equal("layer-costs", heading, [each[key] for each in layers])
    assert shows.column("placed", "layer") == [each["name"] for each in found["layers"]]
    assert shows.column("placed", "out") == [f"{each['channels']:,}" for each in found["layers"]]
    expected = [" + ".join(map(str, each["weight_bits_on_l"])) or "-" for each in found["layers"]]
    assert shows.column("bits", "weights on GEMM-L") == expected
    gathered = [each for each in layers if each["gathered"]]
    if gathered:
        equal("buffers", "held", [100 * (1 - each["misses"] / each["gathered"]) for each in gathered], digits=0.05)
    assert ("buffers" in shows.tables) == bool(gathered)
    assert {name: number(text) for name, text in shows.tables["counters"][1:]} == {
        name.replace("_", " "): value for name, value in found["counters"].items() if value
    }


@KINDS
def test_stages_and_layers_add_up_to_the_run(shown: dict[str, Shown], kind: str) -> None:
    timeline = shown[kind].found["timeline"]
    stages, total = timeline["stages"].values(), timeline["board"]["cycles"]
    assert sum(work["path_cycles"] for work in stages) == pytest.approx(total)
    assert sum(work["bytes"] for work in stages) == sum(each["bytes"] for each in timeline["engines"].values())
    for key in ("path_cycles", "busy_cycles", "bytes", "macs", "edges", "misses", "instructions"):
        layers = sum(each[key] for each in timeline["layers"])
        assert layers == pytest.approx(sum(work[key] for work in stages))
    for each in timeline["engines"].values():
        spent = each["busy_cycles"] + each["dram_cycles"] + sum(each["idle_cycles"].values())
        assert spent == pytest.approx(total)


@pytest.mark.parametrize("kind", ["demo", "samples", "graph"])
def test_the_trace_has_the_same_figures(shown: dict[str, Shown], kind: str) -> None:
    found: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    for each in shown[kind].slices:
        for key in (f"stage {each['args']['stage']}", f"layer {each['name']}"):
            found[key]["bytes"] += each["args"]["bytes"]
            found[key]["busy_cycles"] += each["args"]["busy_cycles"]
            found[key]["instructions"] += 1
    timeline = shown[kind].found["timeline"]
    expected = {f"layer {each['name']}": each for each in timeline["layers"]}
    expected |= {f"stage {name}": work for name, work in timeline["stages"].items() if work["instructions"]}
    assert set(found) == set(expected)
    for name, figures in found.items():
        for key, value in figures.items():
            assert value == pytest.approx(expected[name][key]), (name, key)
    microseconds = max(each["ts"] + each["dur"] for each in shown[kind].slices)
    assert microseconds / 1e3 <= timeline["board"]["milliseconds"] <= microseconds / 1e3 + 1e-2


def test_accuracy_of_all_executions(on_graph: Shown, on_samples: Shown, of_han: dict[str, Shown]) -> None:
    found = on_graph.found
    scores = [f"{found[f'{prefix}micro_f1']:.4f}" for prefix in ("float_", "reference_", "")]
    assert on_graph.page.column("accuracy", "test micro F1") == scores
    assert on_graph.page.column("accuracy", "model") == ["float model", "quantized model", "program"]
    shares = [f"{on_samples.found[f'{prefix}accuracy']:.4f}" for prefix in ("float_", "reference_", "")]
    assert on_samples.page.column("accuracy", "right of the samples") == shares
    assert "accuracy" not in of_han["nodes"].page.tables
    assert of_han["nodes"].page.column("nodes", "node") == ["1", "7"]
    assert "100.00% of the predictions agree, largest difference 0 LSB" in " ".join(on_graph.text.split())


def test_it_says_what_a_run_does_not_have(shown: dict[str, Shown]) -> None:
    said = {kind: " ".join(each.page.lacks) for kind, each in shown.items()}
    assert "the model reads no metapaths" in said["demo"] and "nothing is fused" in said["demo"]
    assert "--reference" not in said["demo"] and "--float" not in said["demo"]
    assert "there is no SGB, RST, NA or SF" in said["samples"] and "RST: no engine" not in said["samples"]
    assert "--reference" in said["graph"] and "--float" in said["graph"] and "SGB:" not in said["graph"]
    assert "The host's work between the runs" in said["parts"] and "only some nodes" in said["nodes"]
    assert all("every time and rate here is modelled" in text for text in said.values())


def test_sgb_works_before_the_program(of_han: dict[str, Shown]) -> None:
    for each in of_han.values():
        built = each.found["semantic_graphs"]
        assert built["built_by"] == "sgb" and built["metapaths"] == 2
        assert built["work"]["bytes"] > 0 and built["work"]["path_cycles"] == pytest.approx(built["cycles"])
    found = of_han["graph"].found["timeline"]["stages"]
    assert all(found[name]["instructions"] > 0 for name in ("FP", "NA", "SF"))


def test_parts_are_several_runs_of_the_same_work(of_han: dict[str, Shown]) -> None:
    whole, parts = (of_han[kind].found["timeline"] for kind in ("graph", "parts"))
    assert whole["runs"] == 1 and parts["runs"] == of_han["parts"].found["parts"] > 1
    assert [each["name"] for each in parts["layers"]] == [each["name"] for each in whole["layers"]]
    for name, work in whole["stages"].items():
        assert (work["edges"], work["additions"]) == (
            parts["stages"][name]["edges"],
            parts["stages"][name]["additions"],
        )
    starts = [each["begin_cycle"] for each in parts["layers"]]
    assert starts == sorted(starts)


def test_names_are_escaped(on_graph: Shown, run: Run, demo_files: DemoFiles, tmp_path: Path) -> None:
    program = read_program(demo_files.program)
    evil = "</script><b>a & b"
    write_program(tmp_path / "evil.hfp", replace(program, model_name=evil))
    found = run("evil", tmp_path / "evil.hfp", "--graph", demo_files.graph)
    assert "<title>&lt;/script&gt;&lt;b&gt;a &amp; b on pynq-z2</title>" in found.text
    assert "<b>a" not in found.text and json.loads(found.page.embedded)["program"]["model"] == evil


def test_a_page_without_work_has_no_roofline(on_graph: Shown, timed: tuple[RunResult, BoundProgram, Timeline]) -> None:
    roofline = on_graph.found["timeline"]["roofline"]
    assert draw_roofline({**roofline, "points": []}, {}) == ""
    changed = json.loads(on_graph.page.embedded)
    changed["timeline"]["roofline"]["points"] = []
    assert "Nothing was multiplied or added." in page(changed, timed[2])


def test_points_of_the_roofline_lie_below_its_roofs(shown: dict[str, Shown]) -> None:
    for each in shown.values():
        roofline = each.found["timeline"]["roofline"]
        roofs, rate = roofline["operations_per_cycle"], roofline["dram_bytes_per_cycle"]
        for point in roofline["points"]:
            roof = roofs["agg"] if point["on"] == "agg" else roofs["cores_w4a4"]
            assert point["operations"] <= point["cycles"] * roof
            assert point["bytes"] <= point["cycles"] * rate
        assert each.text.count('class="mark"') == len(roofline["points"])


def test_a_report_is_no_input(demo_files: DemoFiles, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["run", str(demo_files.program), "--graph", str(demo_files.graph), "--report", str(demo_files.program)]
    assert main(given) == 1
    assert "--report" in capsys.readouterr().err


@pytest.fixture(scope="module")
def timed(demo_files: DemoFiles) -> tuple[RunResult, BoundProgram, Timeline]:
    program = read_program(demo_files.program)
    bound = bind(program, graph_arrays(program, read_graph(demo_files.graph)))
    times = RunTimes(program, program.design)
    with EmulatedTransport(program.design) as transport:
        result = Session(transport, program.design, watcher=times).run(bound)
    assert result.run_log is not None
    expected = simulate(bound.words, result.run_log, machine(program.design))
    np.testing.assert_array_equal(times.summary.board.ends, expected.ends)
    return result, bound, expected


def test_bars_cover_exactly_the_work(timed: tuple[RunResult, BoundProgram, Timeline]) -> None:
    """Without merging, bars are runs of neighbours that touch; together they last as long as the instructions."""
    timeline = timed[2]
    working = timeline.opcodes != isa().operation("sync").opcode
    for engine in isa().engines:
        own = working & (timeline.engines == engine.id)
        drawn = [bar for bar in bars(timeline, 0.0) if bar.engine == engine.id]
        length = sum(bar.end - bar.start for bar in drawn)
        assert length == pytest.approx(float((timeline.ends - timeline.starts)[own].sum()))
        assert all(before.end <= after.start for before, after in itertools.pairwise(drawn))


def test_layer_names_are_escaped_in_the_picture(timed: tuple[RunResult, BoundProgram, Timeline]) -> None:
    program = timed[1].program
    picture = draw(timed[2], ["<script>" for _ in program.layers], program.design.geometry.engines)
    assert "<script>" not in picture and "&lt;script&gt;" in picture


def test_an_empty_run_has_an_empty_picture(timed: tuple[RunResult, BoundProgram, Timeline]) -> None:
    empty = simulate(np.zeros((0, 2), np.uint64), np.zeros(0, RUN_LOG_DTYPE), timed[2].machine)
    picture = draw(replace(empty, total_cycles=0.0), [], ["load"])
    assert re.search(r'<text [^>]*class="axis">0</text>', picture)
