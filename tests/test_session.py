# SPDX-License-Identifier: Apache-2.0
"""Sessions on the emulated overlay: identities, deadlines, deadlocks, faults, buffers, run log."""

import dataclasses
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from hetfab.driver.emulated import EmulatedBuffer, EmulatedTransport
from hetfab.driver.graph.heterograph import HeteroGraph
from hetfab.driver.report import layer_rows
from hetfab.driver.session import RunResult, Session, check_geometry
from hetfab.overlay.bind import BoundProgram
from hetfab.overlay.board import read_board
from hetfab.overlay.compiler.semaphores import Semaphore
from hetfab.overlay.design import Design, Geometry, default_design
from hetfab.overlay.errors import (
    DeadlineError,
    DeadlockError,
    DeviceMemoryError,
    EngineFaultError,
    GeometryMismatchError,
    IsaVersionError,
    OverlayStateError,
    StaleMemoryError,
)
from hetfab.overlay.isa.codec import RegisterOffset, Segment
from hetfab.overlay.isa.spec import isa
from hetfab.overlay.run_log import RUN_LOG_DTYPE
from tests.conftest import SMALL_GEOMETRY
from tests.programs import bound_to, compiled, design_of, quantized, reference_logits
from tests.random_models import Case, ModelBuilder, academic_case


class WatchedTransport(EmulatedTransport):
    """Remembers buffers, and can answer registers or buffers differently."""

    def __init__(self, design: Design, *, registers: dict[int, int] | None = None) -> None:
        super().__init__(design)
        self.registers = registers or {}
        self.allocated: list[EmulatedBuffer] = []
        self.freed: list[EmulatedBuffer] = []
        self.memory_for = 99
        self.busy_reads = 0

    def read_register(self, offset: int) -> int:
        if offset == RegisterOffset.CONTROL and self.busy_reads:
            self.busy_reads -= 1
            return 1
        return self.registers[offset] if offset in self.registers else super().read_register(offset)

    def allocate(self, size: int) -> EmulatedBuffer:
        if len(self.allocated) >= self.memory_for:
            raise DeviceMemoryError("none left", "memory", "close something")
        self.allocated.append(super().allocate(size))
        return self.allocated[-1]

    def release(self, buffer: EmulatedBuffer) -> None:
        super().release(buffer)
        self.freed.append(buffer)


@pytest.fixture(scope="module")
def case() -> Case:
    """A model with dense layers, a mean, and more than one layer."""
    return academic_case()


@pytest.fixture(scope="module")
def small_design() -> Design:
    return design_of(SMALL_GEOMETRY)


@pytest.fixture(scope="module")
def bound(case: Case) -> BoundProgram:
    return bound_to(compiled(quantized(case).model, case.graph, SMALL_GEOMETRY), case.graph)


def changed(bound: BoundProgram, change: Callable[[npt.NDArray[np.uint64]], None]) -> BoundProgram:
    """The bound program with an altered stream."""
    words = bound.words.copy()
    change(words)
    return replace(bound, words=words, contents={**bound.contents, Segment.PROGRAM: words.view(np.uint8).reshape(-1)})


def without_first_signal(semaphore: Semaphore) -> Callable[[npt.NDArray[np.uint64]], None]:
    """Removes the first signal of a semaphore."""
    fields = [field for field in isa().header if field.name.startswith("signal")]

    def change(words: npt.NDArray[np.uint64]) -> None:
        for low in words[:, :1]:
            for field in fields:
                if field.get(int(low[0])) == semaphore:
                    low[0] &= ~np.uint64(field.largest << field.lsb)
                    return

    return change


def run(bound: BoundProgram, design: Design, **options: Any) -> RunResult:
    with EmulatedTransport(design) as transport:
        return Session(transport, design).run(bound, **options)


def test_a_run_gives_logits_a_log_and_the_streams_hash(case: Case, bound: BoundProgram, small_design: Design) -> None:
    steps: list[int] = []
    result = run(bound, small_design, progress=steps.append)
    np.testing.assert_array_equal(result.values, reference_logits(quantized(case).model, case.graph))
    assert result.logits.dtype == np.int32
    assert result.stream_hash == bound.hash()
    assert result.instructions == len(bound.words) == sum(steps)


def test_the_log_has_each_instruction_with_its_layer(bound: BoundProgram, small_design: Design) -> None:
    log = run(bound, small_design).run_log
    assert log is not None and log.dtype == RUN_LOG_DTYPE
    np.testing.assert_array_equal(log["index"], np.arange(len(bound.words)))
    np.testing.assert_array_equal(log["layer"], bound.layers)
    np.testing.assert_array_equal(log["engine"], bound.words[:, 0] & np.uint64(0xF))
    assert set(log["layer"]) == set(range(len(bound.program.layers)))


def test_the_table_of_layers_counts_products_and_edges(case: Case, bound: BoundProgram, small_design: Design) -> None:
    rows = layer_rows(run(bound, small_design), bound)
    assert sum(int(str(row[3])) for row in rows) == len(bound.words)
    edges = {edges.name: edges for edges in bound.program.edges}
    for row, layer in zip(rows, bound.program.layers, strict=True):
        passes = -(-layer.channels // 64)
        expected = sum(len(case.graph.relations[edges[name].relations[0]].source) for name in layer.aggregations)
        if not any(edges[name].metapath for name in layer.aggregations):
            assert row[5] == passes * expected
        assert (row[4] != 0) == (layer.inputs > 0 and bound.counts[layer.node_type] > 0)


def test_one_session_runs_again_and_gives_the_same(bound: BoundProgram, small_design: Design) -> None:
    with EmulatedTransport(small_design) as transport:
        session = Session(transport, small_design)
        first, second = session.run(bound), session.run(bound)
    np.testing.assert_array_equal(first.logits, second.logits)
    assert first.run_log is not None and second.run_log is not None
    np.testing.assert_array_equal(first.run_log, second.run_log)


@pytest.mark.parametrize("seed", [1, 2])
def test_the_order_of_engines_does_not_matter(bound: BoundProgram, small_design: Design, seed: int) -> None:
    with EmulatedTransport(small_design, seed=seed) as transport:
        drawn = Session(transport, small_design).run(bound)
    in_turn = run(bound, small_design)
    np.testing.assert_array_equal(drawn.logits, in_turn.logits)
    assert drawn.run_log is not None and in_turn.run_log is not None
    np.testing.assert_array_equal(drawn.run_log, in_turn.run_log)


def test_a_program_of_another_geometry_is_refused_before_anything_runs(bound: BoundProgram) -> None:
    design = default_design()
    with WatchedTransport(design) as transport, pytest.raises(GeometryMismatchError) as caught:
        Session(transport, design).run(bound)
    assert not transport.allocated
    assert caught.value.found.startswith(
        "the program was compiled for the design 'test', the overlay is of the design 'pynq-z2': "
    )
    differing = dict(re.findall(r"(\w+) (\d+ / \d+)", caught.value.found.partition("': ")[2]))
    for name in ("gemm_d_rows", "acc_l_words", "agg_contexts", "queue_depth"):
        assert differing[name] == f"{getattr(SMALL_GEOMETRY, name)} / {getattr(design.geometry, name)}"
    assert set(differing) <= {field.name for field in dataclasses.fields(SMALL_GEOMETRY)} - {"bus_bits"}
    assert caught.value.expected == "equal geometries"
    assert caught.value.do == "compile the model with the overlay's design (`hetfab compile --design`)"


def test_missing_engines_are_named() -> None:
    design = default_design()
    other = replace(design, name="no-agg", geometry=replace(design.geometry, engines=("load", "store", "vec")))
    both = f"engines {'+'.join(design.geometry.engines)} / load+store+vec"
    with pytest.raises(GeometryMismatchError, match=re.escape(both)):
        check_geometry(design, other)
    check_geometry(design, replace(design, name="renamed", clock_mhz=50))


def arrays(geometry: Geometry) -> str:
    """Both arrays as messages name them."""
    return (
        f"arrays of {geometry.gemm_d_rows} x {geometry.gemm_d_cols} and {geometry.gemm_l_rows} x {geometry.gemm_l_cols}"
    )


def test_an_overlay_of_another_geometry_is_refused(small_design: Design) -> None:
    with EmulatedTransport(small_design) as transport, pytest.raises(GeometryMismatchError) as caught:
        Session(transport, default_design())
    ours, theirs = default_design().geometry.hash()[:16], SMALL_GEOMETRY.hash()[:16]
    assert caught.value.args == (
        f"the overlay has the geometry {theirs} with {arrays(SMALL_GEOMETRY)}",
        f"the geometry {ours} of the design 'pynq-z2' with {arrays(default_design().geometry)}",
        "load the overlay of this design, or choose the overlay's design with --design",
    )


def test_an_overlay_of_another_instruction_set_is_refused(small_design: Design) -> None:
    registers = {int(RegisterOffset.ISA_VERSION): 9 << 16 | 4}
    with WatchedTransport(small_design, registers=registers) as transport, pytest.raises(IsaVersionError) as caught:
        Session(transport, small_design)
    major, minor = isa().version
    assert caught.value.args == (
        "the overlay has version 9.4 of the instruction set",
        f"version {major}.{minor}, which this hetfab drives",
        "load an overlay that was built with this hetfab",
    )


def test_a_passed_deadline_shows_the_state(bound: BoundProgram, small_design: Design) -> None:
    """A control register that never says done, as of an overlay that hangs."""
    with WatchedTransport(small_design) as transport:
        session = Session(transport, small_design)
        transport.registers[RegisterOffset.CONTROL] = 0
        with pytest.raises(DeadlineError) as caught:
            session.run(bound, deadline_seconds=0.01)
        assert transport.freed == transport.allocated and len(transport.freed) == len(Segment)
    lines = caught.value.found.splitlines()
    assert lines[0] == "the run did not end within 0.01 s"
    assert re.fullmatch(r"fetched \d+, retired \d+", lines[1])
    assert [line.partition(":")[0] for line in lines[2:-1]] == [engine.name for engine in isa().engines]
    assert lines[-1].startswith("semaphores ")
    assert caught.value.expected == f"{len(bound.words)} retired instructions"


def test_identity_is_read_after_the_empty_program(small_design: Design) -> None:
    """As on a board, whose registers are zero after loading."""
    with EmulatedTransport(small_design) as transport:
        assert transport.read_register(RegisterOffset.ISA_VERSION) == 0
        Session(transport, small_design)
        major, minor = isa().version
        assert transport.read_register(RegisterOffset.ISA_VERSION) == major << 16 | minor
        assert transport.read_register(RegisterOffset.RETIRED) == 0


def test_an_overlay_that_does_not_answer_is_named(small_design: Design, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hetfab.driver.session._EMPTY_RUN_SECONDS", 0.01)
    registers = {int(RegisterOffset.CONTROL): 0}
    with WatchedTransport(small_design, registers=registers) as transport, pytest.raises(DeadlineError) as caught:
        Session(transport, small_design)
    assert caught.value.args == (
        "the overlay did not run the empty program within 0.01 s",
        "an idle overlay whose DISPATCH answers",
        "load the overlay again; if this stays, it is no overlay of hetfab, or its clock does not run",
    )


def test_an_overlay_without_identity_is_named(small_design: Design) -> None:
    registers = {int(RegisterOffset.ISA_VERSION): 0}
    with WatchedTransport(small_design, registers=registers) as transport, pytest.raises(OverlayStateError) as caught:
        Session(transport, small_design)
    assert caught.value.args == (
        "the overlay's identity registers read as zero, as after loading and before a first start",
        "the overlay that this session opened, which has run the empty program",
        "open the overlay again; if this stays, it is no overlay of hetfab",
    )


def test_progress_never_runs_backwards_or_beyond(bound: BoundProgram, small_design: Design) -> None:
    """Until the first pass of a run the register still shows the run before."""
    steps: list[int] = []
    with WatchedTransport(small_design) as transport:
        session = Session(transport, small_design)
        shown = iter([0, 0, 10**6, 10**6, 5])

        class Late(dict[int, int]):
            def __contains__(self, offset: object) -> bool:
                return offset == RegisterOffset.RETIRED

            def __getitem__(self, offset: int) -> int:
                return next(shown, len(bound.words))

        transport.registers = Late()
        transport.busy_reads = 5
        session.run(bound, progress=steps.append)
    assert len(steps) == 6
    assert min(steps) == 0 and sum(steps) == len(bound.words)


def test_a_lost_signal_is_a_deadlock_with_the_state(bound: BoundProgram, small_design: Design) -> None:
    with WatchedTransport(small_design) as transport:
        session = Session(transport, small_design)
        with pytest.raises(DeadlockError) as caught:
            session.run(changed(bound, without_first_signal(Semaphore.OUT_FULL)))
        assert transport.freed == transport.allocated
        held = r"(load|store|gemm_d|vec|agg) holds instruction \d+, which waits for semaphore \d+ \(count 0\)"
        counts = rf"no engine can step: \d+ of {len(bound.words)} instructions retired, \d+ fetched"
        assert re.fullmatch(rf"{counts}(; {held})+", caught.value.found)
        assert caught.value.expected == "a program in which every wait has its signal"
        assert session.state_dump().splitlines()[0].startswith("fetched ")


def test_an_unknown_opcode_is_a_fault(bound: BoundProgram, small_design: Design) -> None:
    def change(words: npt.NDArray[np.uint64]) -> None:
        words[len(words) // 2, 0] |= np.uint64(0xF0)

    with WatchedTransport(small_design) as transport:
        with pytest.raises(EngineFaultError) as caught:
            Session(transport, small_design).run(changed(bound, change))
        assert transport.freed == transport.allocated
    assert f"instruction {len(bound.words) // 2}" in caught.value.found
    assert "opcode" in caught.value.found


def test_buffers_are_freed_where_memory_runs_out(bound: BoundProgram, small_design: Design) -> None:
    with WatchedTransport(small_design) as transport:
        transport.memory_for = 3
        with pytest.raises(DeviceMemoryError):
            Session(transport, small_design).run(bound)
        assert transport.freed == transport.allocated and len(transport.freed) == 3


def test_more_memory_than_the_board_reserves_is_refused_in_bytes(small_design: Design) -> None:
    limit = read_board(small_design.board).contiguous_bytes
    assert limit is not None
    with EmulatedTransport(small_design) as transport:
        kept = transport.allocate(1000)
        with pytest.raises(DeviceMemoryError) as caught:
            transport.allocate(limit)
        assert caught.value.found == (
            f"out of CMA: {limit} bytes were asked for; of {limit} bytes on 'pynq-z2', {limit - 8192} are free, "
            f"the largest piece has {limit - 8192 - 4096}"
        )
        kept.free()
        transport.allocate(limit - 4096).free()
        assert transport.memory.used == 0


def test_a_freed_buffer_is_unmapped(bound: BoundProgram, small_design: Design) -> None:
    class Careless(WatchedTransport):
        """Frees the constants when the run starts."""

        def write_register(self, offset: int, value: int) -> None:
            super().write_register(offset, value)
            if offset == RegisterOffset.CONTROL and self.allocated:
                self.allocated[Segment.CONSTANTS].free()

    with Careless(small_design) as transport:
        with pytest.raises(EngineFaultError) as caught:
            Session(transport, small_design).run(bound)
        constants = transport.allocated[Segment.CONSTANTS]
        assert (constants.device_view() == 0xDD).all() and (constants.array == 0xDD).all()
    found = re.search(
        r"engine 'load',.* at (0x[0-9a-f]+), which is not mapped memory\n"
        r"\1 is in a buffer of (\d+) bytes at (0x[0-9a-f]+) that was freed; "
        r"it is byte (\d+) of the segment 'constants'$",
        caught.value.found,
    )
    assert found
    assert int(found[3], 16) == constants.physical_address and int(found[2]) == constants.array.size
    assert int(found[1], 16) == constants.physical_address + int(found[4])


def test_an_address_beyond_a_buffer_is_named(bound: BoundProgram, small_design: Design) -> None:
    class Wrong(WatchedTransport):
        """Moves the features behind their buffer."""

        def write_register(self, offset: int, value: int) -> None:
            moved = offset == RegisterOffset.SEGMENT_BASE_FEATURES_LOW
            super().write_register(offset, value + 0x10_0000 if moved else value)

        def read_register(self, offset: int) -> int:
            moved = offset == RegisterOffset.SEGMENT_BASE_FEATURES_LOW
            return super().read_register(offset) - (0x10_0000 if moved else 0)

    with Wrong(small_design) as transport, pytest.raises(EngineFaultError) as caught:
        Session(transport, small_design).run(bound)
    assert re.search(
        r"is \d+ bytes beyond the buffer of \d+ bytes at 0x[0-9a-f]+; it is byte \d+ of the segment 'features'",
        str(caught.value),
    )


@pytest.mark.parametrize("segment", [Segment.PROGRAM, Segment.FEATURES, Segment.CONSTANTS, Segment.GRAPH])
def test_a_forgotten_sync_to_device_is_named(
    bound: BoundProgram, small_design: Design, monkeypatch: pytest.MonkeyPatch, segment: Segment
) -> None:
    """What the host wrote does not reach the device by itself."""
    whole = EmulatedBuffer.sync_to_device
    calls: list[EmulatedBuffer] = []

    def forgets_one(buffer: EmulatedBuffer) -> None:
        calls.append(buffer)
        if len(calls) - 1 != int(segment):
            whole(buffer)

    monkeypatch.setattr(EmulatedBuffer, "sync_to_device", forgets_one)
    with pytest.raises(StaleMemoryError) as caught:
        run(bound, small_design)
    assert len(calls) == 4
    count = int(np.sum(bound.contents[segment] != 0x5A))
    first = calls[int(segment)].physical_address + int(np.argmax(bound.contents[segment] != 0x5A))
    assert caught.value.found == (
        f"the device would read {count} stale bytes of the segment '{segment.name.lower()}', the first at {first:#x}"
    )


def test_a_forgotten_sync_from_device_shows(
    bound: BoundProgram, small_design: Design, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(EmulatedBuffer, "sync_from_device", lambda buffer: None)
    assert (run(bound, small_design).logits.view(np.uint32) == 0xA5A5A5A5).all()


def test_a_resident_program_runs_again_from_the_same_memory(bound: BoundProgram, small_design: Design) -> None:
    """Only the output comes back, and nothing goes to the device again."""
    with WatchedTransport(small_design) as transport, Session(transport, small_design).load(bound) as resident:
        first = resident.run()
        transport.allocated[Segment.OUTPUT].array[:] = 0
        assert len(transport.allocated) == len(Segment)
        second = resident.run()
        assert len(transport.allocated) == len(Segment) and not transport.freed
        resident.free()
        assert transport.freed == transport.allocated
        with pytest.raises(OverlayStateError, match="memory was freed"):
            resident.run()
    np.testing.assert_array_equal(first.logits, second.logits)
    assert first.stream_hash == second.stream_hash == bound.hash()


def test_another_overlay_in_the_same_place_is_noticed(bound: BoundProgram, small_design: Design) -> None:
    with WatchedTransport(small_design) as transport, Session(transport, small_design).load(bound) as resident:
        transport.registers[RegisterOffset.GEOMETRY_HASH_LOW] = 7
        with pytest.raises(GeometryMismatchError, match=r"the overlay has the geometry [0-9a-f]{8}00000007"):
            resident.run()


def test_a_closed_transport_refuses_to_run(bound: BoundProgram, small_design: Design) -> None:
    with EmulatedTransport(small_design) as transport:
        resident = Session(transport, small_design).load(bound)
    transport.close()
    with pytest.raises(OverlayStateError, match="the overlay is closed"):
        resident.run()
    resident.free()


def test_polling_an_idle_overlay_ends(small_design: Design) -> None:
    with EmulatedTransport(small_design) as transport, pytest.raises(DeadlockError, match="while nothing ran"):
        while True:
            transport.read_register(RegisterOffset.CONTROL)


def test_a_target_without_vertices_has_no_logits(case: Case, small_design: Design) -> None:
    none = np.zeros(0, np.int64)
    graph = HeteroGraph("n", "t0", {"t0": 2, "t1": 1}, {}, {"t0": np.ones((2, 3), np.float32)})
    builder = ModelBuilder(np.random.default_rng(0), graph)
    model = quantized(Case(builder.finish(builder.dense(builder.features("t0"), 4)), graph)).model
    empty = replace(graph, counts={"t0": 0, "t1": 0}, features={"t0": np.zeros((0, 3), np.float32)})
    result = run(bound_to(compiled(model, graph, SMALL_GEOMETRY), empty), small_design)
    assert result.logits.shape == (0, 4) and none.size == 0
