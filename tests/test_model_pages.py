# SPDX-License-Identifier: Apache-2.0
"""docs/timeline.md and docs/costs.md: tables are those of the data files, the example is what the simulator finds."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hetfab.overlay.costs.area import area_constants
from hetfab.overlay.costs.program_cost import expected_records
from hetfab.overlay.costs.resources import resource_rows
from hetfab.overlay.design import default_design
from hetfab.overlay.isa import codec
from hetfab.overlay.isa.codec import Engine
from hetfab.overlay.isa.loops import loops
from hetfab.overlay.isa.words import pack
from hetfab.overlay.timeline.bounds import lower_bounds
from hetfab.overlay.timeline.critical_path import Spent, critical_path
from hetfab.overlay.timeline.machine import COMPARISON_RATE, Machine, constants, machine
from hetfab.overlay.timeline.simulate import Reason, Timeline, simulate
from hetfab.overlay.timeline.summary import engine_times
from tests.event_driven import EventDriven
from tests.streams import Stream, make_stream
from tests.word_lists import unpack

DOCS = Path(__file__).parents[1] / "docs"
TIMELINE = (DOCS / "timeline.md").read_text(encoding="utf-8")
COSTS = (DOCS / "costs.md").read_text(encoding="utf-8")
Row = dict[str, str]


def table(page: str, *headings: str) -> list[Row]:
    """The rows of the page's table with these headings."""
    lines = page.splitlines()
    start = lines.index("| " + " | ".join(headings) + " |") + 2
    rows = []
    for line in lines[start:]:
        if not line.startswith("|"):
            break
        rows.append(dict(zip(headings, [cell.strip(" `") for cell in line.strip("|").split(" | ")], strict=True)))
    return rows


def cells(*values: object) -> list[str]:
    return [f"{value:g}" if isinstance(value, float | int) else str(value) for value in values]


def test_constants_of_the_timeline() -> None:
    rows = table(TIMELINE, "constant", "value", "unit", "origin")
    assert [list(row.values()) for row in rows] == [
        cells(c.name, c.value, c.unit, c.origin) for c in constants().values()
    ]


def test_constants_of_the_resources() -> None:
    rows = table(COSTS, "constant", "value", "unit", "origin")
    expected = [cells(c.name, c.value, c.unit, c.origin) for c in area_constants().values()]
    assert [list(row.values()) for row in rows] == expected


def test_loops() -> None:
    rows = table(COSTS, "loop", "interval", "depth", "reason")
    assert [list(row.values()) for row in rows] == [cells(p.name, p.ii, p.depth, p.reason) for p in loops().values()]


def test_both_dram_rates() -> None:
    rates = {row["rate"]: row["bytes a cycle"] for row in table(TIMELINE, "rate", "bytes a cycle", "for")}
    assert float(rates["for comparison"]) == COMPARISON_RATE
    assert rates["of the board"].endswith(f": {machine(default_design()).dram_rate:g} for the PYNQ-Z2 at 100 MHz")


def test_the_default_design_leads_the_sweeps_table() -> None:
    headings = next(line for line in COSTS.splitlines() if line.startswith("| GEMM-D | GEMM-L | weight words |"))
    best = table(COSTS, *headings.strip("| ").split(" | "))[0]
    design = default_design()
    geometry = design.geometry
    assert best["GEMM-D"] == f"{geometry.gemm_d_rows} x {geometry.gemm_d_cols}"
    assert best["GEMM-L"] == f"{geometry.gemm_l_rows} x {geometry.gemm_l_cols}"
    assert best["weight words"] == f"{geometry.wgt_d_words} + {geometry.wgt_l_words}"
    needs = {name: f"{need:,}" for name, need, _ in resource_rows(design)}
    assert [best[name] for name in ("LUT", "FF", "DSP", "BRAM36")] == [
        needs[name] for name in ("lut", "ff", "dsp", "bram36")
    ]


# The example


def example_machine() -> Machine:
    values: dict[str, Any] = {row["parameter"]: int(row["value"]) for row in table(TIMELINE, "parameter", "value")}
    return Machine(clock_mhz=100.0, **values)


def example_stream() -> Stream:
    rows = []
    for row in table(TIMELINE, "instruction", "engine", "waits", "signals", "cycles", "reads", "writes"):
        fields = {"engine": int(Engine[row["engine"].upper()]), "cycles": int(row["cycles"])}
        fields |= {"read": int(row["reads"]), "written": int(row["writes"])}
        fields |= {
            kind: int(row[name]) for kind, name in (("wait0", "waits"), ("signal0", "signals")) if row[name] != "-"
        }
        rows.append(fields)
    return make_stream(rows)


@pytest.fixture(scope="module")
def example() -> Timeline:
    stream = example_stream()
    return simulate(stream.words, stream.log, example_machine())


def test_the_example_has_the_size_that_the_page_says() -> None:
    stream = example_stream()
    assert len(stream.words) == 6 and len(set(stream.log["engine"].tolist())) == 3
    waits = {int(word) >> 8 & 31 for word in stream.words[:, 0]} - {0}
    assert waits == {1, 2}


def test_every_time_of_the_example(example: Timeline) -> None:
    headings = ("instruction", "queued", "issued", "begun", "controller", "ended", "issue bound by")
    rows = table(TIMELINE, *headings)
    arrays = (example.queued, example.issued, example.starts, example.controller, example.ends)
    for index, row in enumerate(rows):
        assert [float(row[name]) for name in headings[:-1]] == [index, *(float(array[index]) for array in arrays)]
        assert row["issue bound by"] == Reason(int(example.reasons[index])).name.lower()
    stream = example_stream()
    assert EventDriven(unpack(stream.words), stream.log, example_machine()).run() == example.total_cycles


def test_the_totals_of_the_example(example: Timeline) -> None:
    times = {time.name: time for time in engine_times(example)}
    for row in table(TIMELINE, "engine", "busy", "dram", "idle", "total"):
        time = times[row["engine"]]
        found = [time.busy, time.dram, sum(time.idle.values()), example.total_cycles]
        assert [float(row[name]) for name in ("busy", "dram", "idle", "total")] == found


def test_the_sentences_of_the_example(example: Timeline) -> None:
    text = " ".join(TIMELINE.split())
    stream = example_stream()
    bounds = lower_bounds(stream.words, stream.log, example_machine())
    found = re.search(r"The bounds are (\d+) \(compute.*?\), (\d+) \(dram\) and (\d+) \(dependences", text)
    assert found is not None
    assert [float(value) for value in found.groups()] == [bounds.compute, bounds.dram, bounds.dependences]
    path = critical_path(example)
    spent = {kind: [link.cycles for link in path if link.spent is kind] for kind in Spent}
    assert "57 of fetch, four transfers of 256, 15 of latency and 6 of token" in text
    assert spent[Spent.FETCH] == [57.0]
    assert spent[Spent.DRAM] == [256.0, 256.0, 256.0, 256.0, 15.0]
    assert spent[Spent.TOKEN] == [6.0]
    assert f"1096 + 6 = **{example.total_cycles:g}**" in text


def test_cycles_of_the_examples_copies_are_those_of_the_cost_functions() -> None:

    store = {"rows": 1, "stride_blocks": 32, "address": 0}
    load = codec.load_activations(ram_d=0, ram_l=0, to_d=1, to_l=1, packed=0, row_blocks=32, **store)
    words = pack([load, codec.store_rows(ram=0, row_beats=256, **store)])
    log = expected_records(words, np.zeros(0, np.uint8), default_design().geometry)
    assert log["cycles"].tolist() == [276, 276]
    assert log["read_bytes"][0, 0] == log["write_bytes"][1] == 2048
    assert log["read_bursts"][0, 0] == log["write_bursts"][1] == 16


def test_a_fetch_is_as_long_as_the_kernels() -> None:
    header = (DOCS.parent / "hls" / "include" / "hetfab" / "dispatch.hpp").read_text(encoding="utf-8")
    found = re.search(r"constexpr unsigned fetch_words = (\d+);", header)
    assert found is not None
    assert constants()["fetch_instructions"].value == int(found[1])
    assert constants()["fetch_cycles"].value == int(found[1]) * 128 / default_design().geometry.bus_bits
