# SPDX-License-Identifier: Apache-2.0
"""The timeline simulator: an event-driven one agrees, bounds hold, nothing is lost, and more is never slower."""

import math
from dataclasses import replace

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hetfab.driver.graph.heterograph import Edges
from hetfab.overlay.bind import BoundProgram
from hetfab.overlay.costs.program_cost import expected_log, expected_records
from hetfab.overlay.design import Geometry, default_design
from hetfab.overlay.isa import codec
from hetfab.overlay.isa.codec import Engine, Segment
from hetfab.overlay.isa.words import pack, program_address
from hetfab.overlay.order import check_order
from hetfab.overlay.timeline.bounds import free_transfers, lower_bounds
from hetfab.overlay.timeline.critical_path import critical_path
from hetfab.overlay.timeline.machine import COMPARISON_RATE, Machine, machine
from hetfab.overlay.timeline.simulate import Reason, Timeline, simulate
from hetfab.overlay.timeline.summary import engine_times, path_steps, short_share, summarise
from tests.conftest import SMALL_GEOMETRY
from tests.event_driven import EventDriven
from tests.programs import SHARES, bound_to, compiled, design_of, quantized
from tests.random_models import academic_case, academic_graph, random_case
from tests.streams import PAIRS, Array, Stream, machines, make_stream, streams
from tests.word_lists import unpack

CLOSE = 1e-9
BOARD = machine(default_design())


def timed(stream: Stream, on: Machine) -> Timeline:
    check_order(stream.words)
    return simulate(stream.words, stream.log, on)


@settings(max_examples=300)
@given(streams(), machines)
def test_an_event_driven_simulator_finds_the_same_times(stream: Stream, on: Machine) -> None:
    timeline = timed(stream, on)
    reference = EventDriven(unpack(stream.words), stream.log, on)
    assert reference.run() == timeline.total_cycles
    for name, times in (("queued", timeline.queued), ("issued", timeline.issued), ("start", timeline.starts)):
        assert [getattr(item, name) for item in reference.instructions] == times.tolist(), name
    assert [item.end for item in reference.instructions] == timeline.ends.tolist()


@given(streams(), machines)
def test_lower_bounds_hold(stream: Stream, on: Machine) -> None:
    total = timed(stream, on).total_cycles
    bounds = lower_bounds(stream.words, stream.log, on)
    assert total >= bounds.compute >= 0
    assert total >= bounds.dram >= 0
    assert total >= bounds.dependences >= bounds.compute


@given(st.data(), machines, st.sampled_from(list(Engine)))
def test_one_engine_alone_takes_the_sum_of_its_costs(data: st.DataObject, on: Machine, engine: Engine) -> None:
    stream = data.draw(streams(engines=(engine,)))
    total = timed(stream, free_transfers(on)).total_cycles
    assert total == stream.log["cycles"].sum() == lower_bounds(stream.words, stream.log, on).compute


def test_loads_alone_take_what_the_cost_function_says() -> None:
    fields = {"ram_d": 0, "ram_l": 0, "to_d": 1, "to_l": 1, "packed": 0, "rows": 3, "row_blocks": 5, "stride_blocks": 6}
    address = program_address(Segment.FEATURES, 64)
    words = pack([codec.load_activations(**fields, address=address)] * 9)
    log = expected_records(words, np.zeros(0, np.uint8), default_design().geometry)
    assert simulate(words, log, free_transfers(BOARD)).total_cycles == log["cycles"].sum() > 9 * 3 * 5 * 8


@given(streams(), machines)
def test_bytes_are_conserved(stream: Stream, on: Machine) -> None:
    timeline, log = timed(stream, on), stream.log
    in_log = int(log["read_bytes"].sum() + log["write_bytes"].sum())
    times = engine_times(timeline)
    assert timeline.bytes.sum() == in_log == sum(time.bytes for time in times)
    bursts = int(log["read_bursts"].sum() + log["write_bursts"].sum())
    assert timeline.bursts.sum() == bursts == sum(time.bursts for time in times)
    assert sum(time.instructions for time in times) == len(log)


@given(streams(), machines)
def test_short_instructions_are_those_with_little_work(stream: Stream, on: Machine) -> None:
    timeline = timed(stream, on)
    cycles = stream.log["cycles"].tolist()
    assert short_share(timeline) == (sum(c < 100 for c in cycles) / len(cycles) if cycles else 0)
    engines = stream.log["engine"].tolist()
    assert [time.short for time in engine_times(timeline)] == [
        sum(c < 100 for c, e in zip(cycles, engines, strict=True) if e == engine) for engine in Engine
    ]


@given(streams(), machines)
def test_every_wait_takes_a_signal_of_its_own(stream: Stream, on: Machine) -> None:
    timeline = timed(stream, on)
    given_at: dict[int, list[float]] = {semaphore: [] for semaphore in PAIRS}
    taken_at: dict[int, list[float]] = {semaphore: [] for semaphore in PAIRS}
    for index, word in enumerate(unpack(stream.words)):
        for lsb in (18, 23):
            if semaphore := word >> lsb & 31:
                given_at[semaphore].append(float(timeline.ends[index]) + on.token_cycles)
        for lsb in (8, 13):
            if semaphore := word >> lsb & 31:
                taken_at[semaphore].append(float(timeline.issued[index]))
    for semaphore, taken in taken_at.items():
        signals = sorted(given_at[semaphore])
        assert len(taken) <= len(signals)
        assert all(wait >= signal for wait, signal in zip(sorted(taken), signals, strict=False)), semaphore


@given(streams(), machines)
def test_orders_are_kept(stream: Stream, on: Machine) -> None:
    timeline = timed(stream, on)
    assert (np.diff(timeline.queued) >= on.queue_cycles).all()
    assert (timeline.issued >= timeline.queued).all()
    assert (timeline.starts >= timeline.issued + on.issue_cycles).all()
    assert (timeline.ends >= timeline.starts + timeline.busy).all()
    for engine in Engine:
        own = timeline.engines == engine
        assert (np.diff(timeline.issued[own]) >= on.pass_cycles).all()
        assert (timeline.starts[own][1:] >= timeline.ends[own][:-1]).all()
        waiting = timeline.queued[own][on.queue_depth :] >= timeline.issued[own][: -on.queue_depth]
        assert waiting.all(), "more than the queue holds"
        credits = timeline.issued[own][on.engine_fifo_depth :] >= timeline.ends[own][: -on.engine_fifo_depth]
        assert credits.all(), "more than the FIFO holds"


@given(streams(), machines)
def test_parts_add_up_and_are_not_negative(stream: Stream, on: Machine) -> None:
    timeline = timed(stream, on)
    for values in (timeline.queued, timeline.idle, timeline.dram_stalls, timeline.busy, timeline.controller):
        assert (values >= 0).all()
    for time in engine_times(timeline):
        parts = [time.busy, time.dram, *time.idle.values()]
        assert min(parts) >= 0
        assert math.isclose(sum(parts), timeline.total_cycles, abs_tol=CLOSE), time.name


@given(streams(), machines)
def test_the_critical_path_fills_the_run(stream: Stream, on: Machine) -> None:
    timeline = timed(stream, on)
    links = critical_path(timeline)
    assert all(link.cycles >= 0 for link in links)
    assert math.isclose(sum(link.cycles for link in links), timeline.total_cycles, abs_tol=CLOSE)


@given(streams(), machines, st.sampled_from([1.0, 1.5, 4.0]))
def test_more_is_never_slower(stream: Stream, on: Machine, factor: float) -> None:
    timeline = timed(stream, on)
    for change in (
        {"dram_rate": on.dram_rate * factor},
        {"port_rate": on.port_rate * factor},
        {"read_latency": on.read_latency / factor, "write_latency": on.write_latency / factor},
        {"queue_cycles": on.queue_cycles / factor, "fetch_cycles": on.fetch_cycles / factor},
        {"pass_cycles": on.pass_cycles / factor, "start_cycles": on.start_cycles / factor},
        {"queue_depth": on.queue_depth + 3},
        {"engine_fifo_depth": on.engine_fifo_depth + 2},
    ):
        faster = timed(stream, replace(on, **change))
        assert (faster.ends <= timeline.ends + CLOSE).all(), change


@given(streams(), st.floats(10, 400), st.floats(1, 4))
def test_a_faster_clock_is_never_slower_in_milliseconds(stream: Stream, clock: float, factor: float) -> None:
    design = default_design()
    slow, fast = (timed(stream, machine(replace(design, clock_mhz=mhz))) for mhz in (clock, clock * factor))
    assert fast.milliseconds <= slow.milliseconds * (1 + CLOSE)


@given(streams(), machines, st.data())
def test_larger_instructions_never_end_earlier(stream: Stream, on: Machine, data: st.DataObject) -> None:
    log = stream.log.copy()
    for index in range(len(log)):
        grown = data.draw(st.integers(0, 300))
        log[index]["cycles"] += np.uint64(grown)
        if log[index]["write_bytes"]:
            log[index]["write_bytes"] += np.uint64(64 * grown)
    assert (timed(Stream(stream.words, log), on).ends >= timed(stream, on).ends).all()


def test_an_empty_stream_takes_no_time() -> None:
    timeline = timed(make_stream([]), BOARD)
    assert timeline.total_cycles == 0
    assert critical_path(timeline) == [] == path_steps(timeline, [])
    assert lower_bounds(pack([]), timeline_log(timeline), BOARD).dependences == 0


def timeline_log(timeline: Timeline) -> Array:
    return make_stream([]).log[: len(timeline.ends)]


# Rules of DISPATCH


def test_a_full_queue_holds_up_every_engine() -> None:
    """VEC's instruction stands behind GEMM-D's, which has no room."""
    gemm = {"engine": int(Engine.GEMM_D), "cycles": 1000}
    rows = [gemm] * 3 + [{"engine": int(Engine.VEC), "cycles": 10}]
    on = replace(BOARD, queue_depth=1, engine_fifo_depth=1)
    timeline = timed(make_stream(rows), on)
    assert timeline.room_makers.tolist() == [-1, -1, 1, -1]
    assert timeline.queued[2] == timeline.issued[1] == timeline.ends[0] + on.token_cycles
    assert timeline.queued[3] == timeline.queued[2] + on.queue_cycles
    assert timeline.reasons[3] == Reason.QUEUE
    deeper = timed(make_stream(rows), replace(on, queue_depth=3))
    assert deeper.starts[3] < timeline.starts[3]
    assert deeper.reasons[3] == Reason.FETCH


def test_the_head_of_a_queue_holds_up_what_is_behind_it() -> None:
    """LOAD's second instruction waits for nothing, but it stands behind one that does."""
    rows = [
        {"engine": int(Engine.GEMM_D), "cycles": 5000, "signal0": 3},
        {"engine": int(Engine.LOAD), "cycles": 10, "wait0": 3},
        {"engine": int(Engine.LOAD), "cycles": 10},
    ]
    timeline = timed(make_stream(rows), BOARD)
    assert timeline.issued[1] == timeline.ends[0] + BOARD.token_cycles
    assert timeline.issued[2] == timeline.issued[1] + BOARD.pass_cycles
    assert timeline.reasons.tolist()[1:] == [Reason.SEMAPHORE, Reason.PASS]


def test_two_waits_for_one_semaphore_take_two_signals() -> None:
    load = {"engine": int(Engine.LOAD), "cycles": 500, "signal0": 1}
    rows = [load, load, {"engine": int(Engine.GEMM_D), "cycles": 9, "wait0": 1, "wait1": 1}]
    timeline = timed(make_stream(rows), BOARD)
    assert timeline.issued[2] == timeline.ends[1] + BOARD.token_cycles


def test_a_semaphore_is_taken_at_issue() -> None:
    """One signal serves the first of two waits only, although its engine is busy long after."""
    rows = [
        {"engine": int(Engine.LOAD), "cycles": 10, "signal0": 1},
        {"engine": int(Engine.GEMM_D), "cycles": 3000, "wait0": 1},
        {"engine": int(Engine.LOAD), "cycles": 9000, "signal0": 1},
        {"engine": int(Engine.GEMM_D), "cycles": 10, "wait0": 1},
    ]
    timeline = timed(make_stream(rows), BOARD)
    assert timeline.issued[3] == timeline.ends[2] + BOARD.token_cycles > timeline.ends[1]


def test_few_rows_ahead_leave_latency_uncovered() -> None:
    row = {"engine": int(Engine.AGG), "cycles": 100, "read": 800, "graph": 64, "edges": 100}
    covered = timed(make_stream([row]), replace(BOARD, rows_ahead=100))
    uncovered = timed(make_stream([row]), replace(BOARD, rows_ahead=1))
    assert covered.ends[0] - covered.starts[0] == 100 + 3 * BOARD.read_latency
    assert uncovered.ends[0] - uncovered.starts[0] == (100 + 3) * BOARD.read_latency


# Whole programs


@pytest.fixture(scope="module")
def programs() -> list[BoundProgram]:
    found = []
    for seed in range(400, 406):
        case = random_case(seed)
        model = quantized(case).model
        for geometry in (default_design().geometry, SMALL_GEOMETRY):
            found.append(bound_to(compiled(model, case.graph, geometry, SHARES[seed % len(SHARES)]), case.graph))
    return found


def test_whole_programs_drain_at_depth_one(programs: list[BoundProgram]) -> None:
    for bound in programs:
        on = replace(BOARD, queue_depth=1, engine_fifo_depth=1)
        log = expected_log(bound)
        timeline = simulate(bound.words, log, on)
        assert np.isfinite(timeline.ends).all()
        assert timeline.total_cycles >= simulate(bound.words, log, BOARD).total_cycles


def test_summaries_of_whole_programs_add_up(programs: list[BoundProgram]) -> None:
    for bound in programs:
        found = summarise(bound, expected_log(bound))
        total = found.board.total_cycles
        assert math.isclose(sum(step.cycles for step in found.path), total, rel_tol=CLOSE)
        assert found.comparison.total_cycles >= total
        assert found.comparison.machine.dram_rate == COMPARISON_RATE
        assert max(found.bounds.compute, found.bounds.dram, found.bounds.dependences) <= total


def test_an_event_driven_simulator_agrees_on_whole_programs(programs: list[BoundProgram]) -> None:
    for bound in programs[:6]:
        on = machine(bound.program.design, dram_rate=COMPARISON_RATE)
        log = expected_log(bound)
        assert EventDriven(unpack(bound.words), log, on).run() == simulate(bound.words, log, on).total_cycles


def total_cycles(bound: BoundProgram) -> float:
    return simulate(bound.words, expected_log(bound), machine(bound.program.design)).total_cycles


@pytest.mark.parametrize("geometry", [default_design().geometry, SMALL_GEOMETRY], ids=["default", "small"])
def test_larger_graphs_take_longer(geometry: Geometry) -> None:
    case = academic_case()
    model: onnx.ModelProto = quantized(case).model
    program = compiled(model, case.graph, geometry)
    sizes = [(10, 10, 5), (40, 30, 5), (80, 60, 10), (300, 200, 40)]
    graphs = [academic_graph(np.random.default_rng(0), *counts) for counts in sizes]
    totals = [total_cycles(bound_to(program, graph)) for graph in graphs]
    assert totals == sorted(totals)
    graph = graphs[1]
    more = {r: Edges(np.tile(e.source, 4), np.tile(e.destination, 4)) for r, e in graph.relations.items()}
    assert total_cycles(bound_to(program, replace(graph, relations=more))) > totals[1]


def test_the_small_design_is_slower_where_arrays_matter() -> None:
    case = academic_case()
    model = quantized(case).model
    graph = academic_graph(np.random.default_rng(0), 300, 200, 40)
    for engine, share in ((Engine.GEMM_D, 1.0), (Engine.GEMM_L, 0.0)):
        busy = []
        for geometry in (default_design().geometry, SMALL_GEOMETRY):
            bound = bound_to(compiled(model, graph, geometry, share), graph)
            busy.append(engine_times(summarise(bound, expected_log(bound)).board)[engine].busy)
        assert 0 < busy[0] < busy[1]
    assert machine(design_of(SMALL_GEOMETRY)).queue_depth == SMALL_GEOMETRY.queue_depth
