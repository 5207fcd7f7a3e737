# SPDX-License-Identifier: Apache-2.0
"""The page of a run: self-contained, complete, safe for any name, its picture true to the timeline."""

import html.parser
import itertools
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hetfab.driver.emulated import EmulatedTransport
from hetfab.driver.graph.arrays import graph_arrays
from hetfab.driver.graph.npz import read_graph
from hetfab.driver.page.run_page import Accuracy, write_page
from hetfab.driver.page.timeline_picture import bars, draw
from hetfab.driver.session import RunResult, Session
from hetfab.overlay.bind import BoundProgram, bind
from hetfab.overlay.isa.spec import isa
from hetfab.overlay.program import read_program
from hetfab.overlay.run_log import RUN_LOG_DTYPE
from hetfab.overlay.timeline.machine import machine
from hetfab.overlay.timeline.simulate import Timeline, simulate
from tests.demo_files import DemoFiles

ACCURACY = (Accuracy("float model", "onnxruntime", 0.93861, 0.9381), Accuracy("<b>program", "overlay", 0.5, 0.25))


@pytest.fixture(scope="module")
def run(demo_files: DemoFiles) -> tuple[RunResult, BoundProgram, Timeline]:
    program = read_program(demo_files.program)
    bound = bind(program, graph_arrays(program, read_graph(demo_files.graph)))
    with EmulatedTransport(program.design) as transport:
        result = Session(transport, program.design).run(bound)
    assert result.run_log is not None
    return result, bound, simulate(bound.words, result.run_log, machine(program.design))


def page(run: tuple[RunResult, BoundProgram, Timeline], path: Path) -> str:
    result, bound, timeline = run
    write_page(path, "A & B <run>", result, bound, timeline, ACCURACY)
    return path.read_text(encoding="utf-8")


class Tags(html.parser.HTMLParser):
    """Collects tags with their attributes, and checks that they nest."""

    VOID = frozenset({"meta", "rect", "line"})

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag


def test_it_is_well_formed_and_loads_nothing(run: tuple[RunResult, BoundProgram, Timeline], tmp_path: Path) -> None:
    text = page(run, tmp_path / "page.html")
    tags = Tags()
    tags.feed(text)
    assert tags.open == []
    assert not {"script", "link", "img", "iframe"} & {tag for tag, _ in tags.found}
    assert not any(name in ("src", "href") for _, attributes in tags.found for name in attributes)
    assert "url(" not in text


def test_names_are_escaped_and_scores_shown(run: tuple[RunResult, BoundProgram, Timeline], tmp_path: Path) -> None:
    text = page(run, tmp_path / "page.html")
    assert "<title>A &amp; B &lt;run&gt;</title>" in text
    assert "&lt;b&gt;program" in text and "<b>program" not in text
    assert "0.9386" in text and "0.2500" in text


def test_every_layer_and_engine_has_its_row(run: tuple[RunResult, BoundProgram, Timeline], tmp_path: Path) -> None:
    text = page(run, tmp_path / "page.html")
    for layer in run[1].program.layers:
        assert f"</span>{layer.name}</td>" in text
    for engine in isa().engines:
        assert f"<td>{engine.name}</td>" in text
    assert text.count("modelled") >= 3


def test_bars_cover_exactly_the_work(run: tuple[RunResult, BoundProgram, Timeline]) -> None:
    """Without merging, bars are runs of neighbours that touch; together they last as long as the instructions."""
    timeline = run[2]
    working = timeline.opcodes != isa().operation("sync").opcode
    for engine in isa().engines:
        own = working & (timeline.engines == engine.id)
        drawn = [bar for bar in bars(timeline, 0.0) if bar.engine == engine.id]
        length = sum(bar.end - bar.start for bar in drawn)
        assert length == pytest.approx(float((timeline.ends - timeline.starts)[own].sum()))
        assert all(before.end <= after.start for before, after in itertools.pairwise(drawn))


def test_layer_names_are_escaped_in_the_picture(run: tuple[RunResult, BoundProgram, Timeline]) -> None:
    names = ["<script>" for _ in run[1].program.layers]
    assert "<script>" not in draw(run[2], names)


def test_an_empty_run_has_an_empty_picture(run: tuple[RunResult, BoundProgram, Timeline]) -> None:
    empty = simulate(np.zeros((0, 2), np.uint64), np.zeros(0, RUN_LOG_DTYPE), run[2].machine)
    picture = draw(replace(empty, total_cycles=0.0), [])
    assert re.search(r'<text [^>]*class="axis">0</text>', picture)
