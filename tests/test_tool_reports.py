# SPDX-License-Identifier: Apache-2.0
"""Reading the tools' reports, and comparing them with the tables: what is found, what is missed, what is refused."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hetfab.hls.build.bitstream.differences import (
    loop_differences,
    missed,
    placed_differences,
    resource_differences,
)
from hetfab.hls.build.bitstream.reports import (
    LoopReport,
    SynthesisReport,
    read_synthesis,
    read_timing,
    read_utilization,
)
from hetfab.overlay.costs.resources import resource_rows
from hetfab.overlay.design import default_design
from hetfab.overlay.errors import ReportUnreadableError
from hetfab.overlay.isa.loops import loops
from tests.vendor_tools import products

HEADERS = Path(__file__).parents[1] / "hls" / "include" / "hetfab"
REPORT = SynthesisReport("x_top", 10, 7, (1, 2), {"lut": 1, "ff": 1, "dsp": 1, "bram36": 1, "uram": 0}, ())
#: A nested loop and one whose trip count is a range, in the form of Vitis HLS 2023.2.
NESTED = """<outer>
<TripCount>undef</TripCount><Latency>undef</Latency><IterationLatency>38837</IterationLatency>
<InstanceList/>
<inner>
<TripCount><range><min>1</min><max>512</max></range></TripCount><Latency>30 ~ 541</Latency>
<PipelineII>2</PipelineII><PipelineDepth>30</PipelineDepth>
<InstanceList/>
</inner>
</outer>
"""


def table_row(name: str) -> tuple[str, int, int]:
    loop = loops()[name]
    return loop.label, loop.ii, loop.depth


def test_loops_of_all_functions_are_found_nested_ones_too(tmp_path: Path) -> None:
    products_of = {"agg_top": NESTED, "agg_top_Pipeline_row_beats": products.loop_xml("row_beats", 1, 15)}
    for name, text in products_of.items():
        path = tmp_path / f"{name}_csynth.xml"
        path.write_text(products.csynth_xml(name, "xc7z020clg400-1", 10, text), encoding="utf-8")
    report = read_synthesis(tmp_path, "agg_top")
    assert report.loops == (LoopReport("inner", 2, 30), LoopReport("outer", None, None), LoopReport("row_beats", 1, 15))
    assert (report.top, report.clock_ns, report.estimated_ns) == ("agg_top", 10, 7)
    assert report.latency_cycles == (9, None)
    assert report.resources == {"lut": 2890, "ff": 3210, "dsp": 7, "bram36": 2, "uram": 0}


@settings(deadline=None)
@given(st.integers(1, 9), st.integers(1, 99))
def test_a_loop_differs_exactly_when_its_figures_do(ii: int, depth: int) -> None:
    label, table_ii, table_depth = table_row("store_beats")
    report = replace(REPORT, loops=(LoopReport(label, ii, depth), LoopReport(*table_row("store_responses"))))
    found = loop_differences("store", report, loops())
    assert bool(found) == ((ii, depth) != (table_ii, table_depth))
    assert bool(missed(found)) == (ii > table_ii)


@pytest.mark.parametrize(
    ("loop", "words"),
    [
        (LoopReport("store_beats", 3, 4), "interval 3 instead of 1"),
        (LoopReport("store_beats", 1, 9), "depth 9 instead of 4"),
        (LoopReport("store_beats", None, None), "it is not pipelined"),
        (LoopReport("store_beats2", 2, 4), "interval 2 instead of 1"),
        (LoopReport("other", 1, 1), "it is not in the report"),
    ],
)
def test_a_difference_is_said_in_words(loop: LoopReport, words: str) -> None:
    report = replace(REPORT, loops=(loop, LoopReport(*table_row("store_responses"))))
    assert [each.what for each in loop_differences("store", report, loops())] == [words]


def test_loops_that_two_engines_share_are_compared_where_they_are() -> None:
    slow = replace(REPORT, loops=(LoopReport("request_ahead", 2, 2),))
    assert [each.loop for each in loop_differences("dispatch", slow, loops())] == ["request_ahead"]
    assert loop_differences("dispatch", REPORT, loops()) == []


def test_each_loop_of_the_table_has_its_label_in_the_kernels_at_its_interval() -> None:
    text = "\n".join(path.read_text(encoding="utf-8") for path in sorted(HEADERS.glob("*.hpp")))
    labelled = {name: loop for name, loop in loops().items() if loop.label}
    # Once a call; and three loops at the same time, which have no row of their own in a report.
    assert set(loops()) - set(labelled) == {"instruction", "stage_rows"}
    for loop in labelled.values():
        behind = text.partition(f"\n{loop.label}:\n")[2] or text.partition(f" {loop.label}:\n")[2]
        head = behind.partition("PIPELINE")[2].partition("\n")[0].replace(" = ", "=").split()
        assert f"II={loop.ii}" in head, loop.label


def test_resources_stand_beside_what_is_modelled() -> None:
    design = default_design()
    found = resource_differences(design, {"vec": REPORT})
    assert [(each.part, each.resource, each.reported) for each in found][:2] == [("vec", "lut", 1), ("vec", "ff", 1)]
    assert all(each.modelled > 0 for each in found if each.resource == "lut")
    placed = {each.resource: each.modelled for each in placed_differences(design, REPORT.resources)}
    for name, need, _ in resource_rows(design):
        assert need - 1 < placed[name] <= need


@pytest.mark.parametrize("logic", ["Slice", "CLB"])
def test_utilization_of_both_families_is_read(tmp_path: Path, logic: str) -> None:
    path = tmp_path / "utilization.rpt"
    text = products.UTILIZATION.replace("Slice LUTs ", f"{logic} LUTs* " if logic == "CLB" else "Slice LUTs ")
    text = text.replace("Slice Registers", f"{logic} Registers")
    if logic == "CLB":
        text += "| URAM              |   12 |     0 |          0 |        96 | 12.50 |\n"
    path.write_text(text, encoding="utf-8")
    uram = 12 if logic == "CLB" else 0
    assert read_utilization(path) == {"lut": 41234, "ff": 50321, "dsp": 96, "bram36": 118.5, "uram": uram}


@pytest.mark.parametrize("slack", [0.221, 0.0, -10.12])
def test_the_timing_summary_is_read(tmp_path: Path, slack: float) -> None:
    path = tmp_path / "timing.rpt"
    path.write_text(products.timing(slack), encoding="utf-8")
    report = read_timing(path)
    assert (report.setup_slack_ns, report.hold_slack_ns, report.end_points) == (slack, 0.018, 93621)
    assert report.failing == (0 if slack >= 0 else 57)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "No such file or directory"),
        ("", "it has no 'Design Timing Summary'"),
        (products.timing(1).replace("    1.000", "       NA"), "no path of the design has a clock"),
        (products.timing(1).replace("    1.000", "    1.0.0"), "'1.0.0' is not a number"),
    ],
)
def test_a_timing_report_of_another_form_is_refused(tmp_path: Path, content: str | None, reason: str) -> None:
    path = tmp_path / "timing.rpt"
    if content is not None:
        path.write_text(content, encoding="utf-8")
    with pytest.raises(ReportUnreadableError) as caught:
        read_timing(path)
    assert caught.value.found == f"cannot read the report '{path}': {reason}"
    assert caught.value.expected == "a report in the form of Vitis HLS and Vivado 2023.2 to 2025.2"


def test_a_utilization_report_without_a_resource_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "utilization.rpt"
    path.write_text(products.UTILIZATION.replace("| DSPs", "| DSQs"), encoding="utf-8")
    with pytest.raises(ReportUnreadableError, match="no row of its tables is 'DSPs'"):
        read_utilization(path)


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("<profile>", "<profile", "it is not XML"),
        ("TopModelName", "TopName", "it has no element 'TopModelName'"),
        ("<LUT>2890", "<LUT>many", "'many' is not a number"),
    ],
)
def test_a_synthesis_report_of_another_form_is_refused(tmp_path: Path, old: str, new: str, reason: str) -> None:
    text = products.csynth_xml("vec_top", "xc7z020clg400-1", 10, "").replace(old, new)
    (tmp_path / "vec_top_csynth.xml").write_text(text, encoding="utf-8")
    with pytest.raises(ReportUnreadableError) as caught:
        read_synthesis(tmp_path, "vec_top")
    assert reason in caught.value.found
