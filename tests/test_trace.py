# SPDX-License-Identifier: Apache-2.0
"""The trace opens in Perfetto's trace processor, which finds the simulator's times in it, to the nanosecond."""

import io
import itertools
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hetfab.cli.main import main
from hetfab.overlay.bind import BoundProgram
from hetfab.overlay.costs.program_cost import expected_log
from hetfab.overlay.design import default_design
from hetfab.overlay.isa.spec import isa
from hetfab.overlay.timeline.machine import machine
from hetfab.overlay.timeline.simulate import Timeline, simulate
from hetfab.overlay.timeline.trace import nanoseconds, write_trace
from tests.demo_files import DemoFiles
from tests.programs import bound_to, compiled, quantized
from tests.random_models import random_case
from tests.trace_processor import TraceProcessor

SLICES = """
select slice.ts, slice.dur, slice.name, thread.name as track, process.name as process,
    extract_arg(slice.arg_set_id, 'args.instruction') as instruction,
    extract_arg(slice.arg_set_id, 'args.operation') as operation,
    extract_arg(slice.arg_set_id, 'args.bytes') as bytes
from slice join thread_track on slice.track_id = thread_track.id join thread using (utid) join process using (upid)
order by slice.ts, slice.id
"""
COUNT = "select count(*) as slices from slice"
ERRORS = "select name, value from stats where severity in ('error', 'data_loss') and value > 0"


def bound_and_timed(seed: int, clock_mhz: float) -> tuple[BoundProgram, Timeline]:
    case = random_case(seed)
    bound = bound_to(compiled(quantized(case).model, case.graph, default_design().geometry), case.graph)
    design = default_design()
    on = machine(replace(design, clock_mhz=clock_mhz))
    return bound, simulate(bound.words, expected_log(bound), on)


@pytest.mark.parametrize(("seed", "clock_mhz"), [(0, 100.0), (1, 142.857)])
def test_the_trace_processor_finds_what_the_simulator_found(seed: int, clock_mhz: float) -> None:
    bound, timeline = bound_and_timed(seed, clock_mhz)
    file = io.BytesIO()
    write_trace(file, timeline, bound)
    processor = TraceProcessor(file.getvalue())
    assert processor.query(ERRORS) == []
    slices = processor.query(SLICES)
    assert {entry.process for entry in slices} == {f"{bound.program.model_name} (modelled)"}
    (run,) = [entry for entry in slices if entry.track == "run"]
    assert (run.name, run.ts, run.dur) == ("run", 0, nanoseconds(timeline.total_cycles, timeline))
    assert abs(run.dur - timeline.milliseconds * 1e6) <= 1
    for engine in isa().engines:
        own = [entry for entry in slices if entry.track == engine.name]
        indices = np.flatnonzero(timeline.engines == engine.id)
        assert [entry.instruction for entry in own] == indices.tolist()
        assert [entry.ts for entry in own] == [nanoseconds(timeline.starts[i], timeline) for i in indices]
        assert [entry.ts + entry.dur for entry in own] == [nanoseconds(timeline.ends[i], timeline) for i in indices]
        assert all(first.ts + first.dur <= second.ts for first, second in itertools.pairwise(own))
        assert all(entry.ts + entry.dur <= run.dur for entry in own)
        assert [entry.name for entry in own] == [bound.program.layers[timeline.layers[i]].name for i in indices]
        assert sum(entry.bytes for entry in own) == timeline.bytes[indices].sum()
        operations = {operation.name for operation in isa().operations if operation.engine in ("*", engine.name)}
        assert {entry.operation for entry in own} <= operations
    assert len(slices) == len(bound.words) + 1


def test_the_trace_of_a_run_lasts_as_long_as_the_run_says(
    demo_files: DemoFiles, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trace = tmp_path / "trace.json"
    status = main(["run", str(demo_files.program), "--graph", str(demo_files.graph), "--trace", str(trace), "--json"])
    assert status == 0
    timeline = json.loads(capsys.readouterr().out)["timeline"]
    (run,) = TraceProcessor(trace.read_bytes()).query("select dur from slice where name = 'run'")
    assert run.dur == round(timeline["board"]["milliseconds"] * 1e6)


def test_the_trace_processor_refuses_what_is_no_trace() -> None:
    """A check of the check: damaged JSON does not pass."""
    bound, timeline = bound_and_timed(0, 100.0)
    file = io.BytesIO()
    write_trace(file, timeline, bound)
    broken = file.getvalue().replace(b'"ph": "X"', b'"ph" "X"')
    assert TraceProcessor(file.getvalue()).query(COUNT)[0].slices == len(bound.words) + 1
    try:
        processor = TraceProcessor(broken)
    except ValueError:
        return
    assert processor.query(ERRORS) or processor.query(COUNT)[0].slices == 0
