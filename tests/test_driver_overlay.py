# SPDX-License-Identifier: Apache-2.0
"""The driver class over both transports: predictions, resident memory, and every failure in words and in time."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from hetfab.driver import package as packages
from hetfab.driver.checks import Checks
from hetfab.driver.device_memory import DeviceMemory
from hetfab.driver.emulated import EmulatedOverlay, EmulatedTransport
from hetfab.driver.graph.npz import write_graph
from hetfab.driver.overlay import HetfabOverlay, open_transport
from hetfab.driver.package import find_package, write_emulated_package
from hetfab.driver.session import Resident, Session
from hetfab.driver.transport import DeviceBuffer, Transport
from hetfab.overlay import bind as binding
from hetfab.overlay.bit_file import BitFile, decode_bit_file, emulated_bit_file
from hetfab.overlay.board import read_board
from hetfab.overlay.design import Design, default_design
from hetfab.overlay.errors import (
    DeadlineError,
    DeadlockError,
    DeviceMemoryError,
    EngineFaultError,
    GeometryMismatchError,
    IsaVersionError,
    OutputUnwritableError,
    OverlayPackageError,
    OverlayStateError,
    RelationMissingError,
    StaleMemoryError,
)
from hetfab.overlay.isa.codec import Segment
from hetfab.overlay.package import Kind, Package, read_package
from hetfab.overlay.program import Program, write_program
from tests.conftest import SMALL_GEOMETRY
from tests.programs import compiled, quantized, reference_logits
from tests.pynq_support import require_pynq, small_design_of, supported_boards
from tests.random_models import Case, academic_case

pytestmark = pytest.mark.filterwarnings("ignore")
ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def case() -> Case:
    """A case whose target has labels, a class for each column of the output."""
    found = academic_case()
    target = "paper"
    classes = found.model.graph.output[0].type.tensor_type.shape.dim[1].dim_value
    labels = {target: np.arange(found.graph.counts[target]) % classes}
    return Case(found.model, replace(found.graph, target=target, labels=labels))


@pytest.fixture(scope="module")
def program(case: Case) -> Program:
    return compiled(quantized(case).model, case.graph, SMALL_GEOMETRY)


@pytest.fixture(scope="module")
def logits(case: Case) -> npt.NDArray[np.float32]:
    return reference_logits(quantized(case).model, case.graph)


@pytest.fixture(params=["plain", "pynq"])
def over(request: pytest.FixtureRequest) -> str:
    """What the driver runs over."""
    if request.param == "pynq":
        require_pynq()
    return str(request.param)


@pytest.fixture
def design(over: str) -> Design:
    if over == "plain":
        return small_design_of("pynq-z2")
    import pynq

    return small_design_of(supported_boards(pynq.__version__)[0])


@pytest.fixture
def package(design: Design, tmp_path: Path) -> Package:
    return write_emulated_package(tmp_path / "overlays", design)


class Opened:
    """Opens overlays and watches the emulated memory and registers behind them."""

    def __init__(self, over: str, package: Package) -> None:
        self.over, self.package = over, package
        self.device: Any = None
        if over == "pynq":
            from hetfab.driver.pynq_device.device import EmulatedDevice

            self.device = EmulatedDevice()

    def __call__(self, **options: Any) -> HetfabOverlay:
        if self.over == "pynq":
            import pynq

            pynq.Device.active_device = self.device
            return HetfabOverlay(self.package, device=self.device, **options)
        return HetfabOverlay(self.package, transport=EmulatedTransport(self.package.design), **options)

    def memory(self, overlay: HetfabOverlay) -> DeviceMemory:
        found: DeviceMemory = self.device.memory if self.over == "pynq" else overlay.transport.memory  # type: ignore[attr-defined]
        return found


@pytest.fixture
def opened(over: str, package: Package) -> Iterator[Opened]:
    made = Opened(over, package)
    yield made
    if over == "pynq":
        import pynq

        if hasattr(pynq.Device, "_active_device"):
            del pynq.Device._active_device


def resident_of(overlay: HetfabOverlay) -> Resident:
    found = overlay._resident
    assert found is not None
    return found


def buffer_of(overlay: HetfabOverlay, segment: Segment) -> DeviceBuffer:
    return resident_of(overlay)._stream._buffers[segment]


def test_predictions_are_those_of_the_quantized_model(
    opened: Opened, program: Program, case: Case, logits: npt.NDArray[np.float32]
) -> None:
    with opened() as overlay:
        overlay.load(program)
        found = overlay.predict(case.graph)
    np.testing.assert_array_equal(found.logits, logits)
    np.testing.assert_array_equal(found.predictions, logits.argmax(axis=1))
    assert found.node_type == "paper" and found.scores is not None and found.scores.part == "labelled"
    assert len(found.result.stream_hash) == 64
    retired = {name: count for name, count in vars(found.counters).items() if name.endswith("_instructions")}
    assert sum(retired.values()) == found.result.instructions > 0


def test_files_are_read_from_paths(opened: Opened, program: Program, case: Case, tmp_path: Path) -> None:
    write_program(tmp_path / "p.hfp", program)
    write_graph(tmp_path / "g.npz", case.graph)
    with opened(program=tmp_path / "p.hfp") as overlay:
        by_path = overlay.predict(tmp_path / "g.npz")
        by_object = overlay.predict(case.graph)
    np.testing.assert_array_equal(by_path.logits, by_object.logits)


@pytest.mark.parametrize("checks", [Checks.STATE, Checks.MEMORY])
def test_a_further_inference_moves_only_the_output(
    opened: Opened, program: Program, case: Case, monkeypatch: pytest.MonkeyPatch, checks: Checks
) -> None:
    """And what it was told to look at again, by the device's side alone."""
    looked_at = [] if checks is Checks.STATE else [Segment.PROGRAM, Segment.CONSTANTS, Segment.FEATURES, Segment.GRAPH]
    with opened(program=program, checks=checks) as overlay:
        first = overlay.predict(case.graph)
        buffers = dict(resident_of(overlay)._stream._buffers)
        moves: list[tuple[str, DeviceBuffer]] = []
        kind: Any = type(buffers[Segment.OUTPUT])
        for name in ("sync_to_device", "sync_from_device", "device_view"):
            whole = getattr(kind, name)

            def noted(buffer: Any, name: str = name, whole: Any = whole) -> Any:
                moves.append((name, buffer))
                before = len(moves)
                found = whole(buffer)
                # Where a view is the host's own array, making it valid is part of it.
                del moves[before:]
                return found

            monkeypatch.setattr(kind, name, noted)
        monkeypatch.setattr(binding, "bind", None)
        monkeypatch.setattr(type(overlay.transport), "allocate", None)
        again = overlay.predict(case.graph)
        implicit = overlay.predict()
        looks = [("device_view", buffers[segment]) for segment in looked_at]
        assert moves == [*looks, ("sync_from_device", buffers[Segment.OUTPUT])] * 2
    np.testing.assert_array_equal(first.logits, again.logits)
    np.testing.assert_array_equal(first.logits, implicit.logits)


def test_another_graph_takes_the_place_of_the_first(opened: Opened, program: Program, case: Case) -> None:
    zeros = {name: np.zeros_like(table) for name, table in case.graph.features.items()}
    other = replace(case.graph, features=zeros)
    with opened(program=program) as overlay:
        first = overlay.predict(case.graph)
        used = opened.memory(overlay).used
        changed = overlay.predict(other)
        assert opened.memory(overlay).used == used and overlay.graph is other
        again = overlay.predict(case.graph)
    assert not np.array_equal(first.logits, changed.logits)
    np.testing.assert_array_equal(first.logits, again.logits)


def test_closing_frees_everything_twice_over(opened: Opened, program: Program, case: Case) -> None:
    overlay = opened(program=program)
    overlay.predict(case.graph)
    memory = opened.memory(overlay)
    assert memory.used > 0
    overlay.close()
    overlay.close()
    assert memory.used == 0
    with pytest.raises(OverlayStateError, match="the overlay 'small' cannot run: it was closed"):
        overlay.predict()


def test_throughput_is_of_resident_inferences(opened: Opened, program: Program, case: Case) -> None:
    with opened(program=program) as overlay:
        overlay.bind(case.graph)
        found = overlay.throughput_test(3)
    assert found.kind is Kind.EMULATED and found.repeats == 3
    assert 0 < found.smallest_seconds <= found.median_seconds
    assert found.vertices_per_second == pytest.approx(case.graph.counts["paper"] / found.median_seconds)


def test_steps_out_of_order_are_named(opened: Opened, program: Program, case: Case) -> None:
    with opened() as overlay:
        with pytest.raises(OverlayStateError, match="no program was loaded"):
            overlay.predict(case.graph)
        overlay.load(program)
        with pytest.raises(OverlayStateError, match="no graph is bound"):
            overlay.predict()
        assert overlay.state_dump().startswith("fetched 0, retired 0\n")


def test_a_graph_that_does_not_fit_leaves_the_bound_one(opened: Opened, program: Program, case: Case) -> None:
    wrong = replace(case.graph, relations={}, metapaths={})
    with opened(program=program) as overlay:
        before = overlay.predict(case.graph)
        with pytest.raises(RelationMissingError):
            overlay.predict(wrong)
        np.testing.assert_array_equal(before.logits, overlay.predict().logits)


def test_a_program_for_another_geometry_is_refused(opened: Opened, case: Case) -> None:
    other = compiled(quantized(case).model, case.graph, default_design().geometry)
    rows = default_design().geometry.gemm_d_rows
    with (
        opened() as overlay,
        pytest.raises(GeometryMismatchError, match=rf"gemm_d_rows {rows} / {SMALL_GEOMETRY.gemm_d_rows}"),
    ):
        overlay.load(other)


@pytest.mark.parametrize("ran", [False, True])
def test_another_overlay_in_the_fabric_is_noticed(
    opened: Opened, program: Program, case: Case, tmp_path: Path, ran: bool
) -> None:
    """Over pynq another download; without it another overlay behind the same registers, nameless until it has run."""
    with opened(program=program) as overlay:
        overlay.bind(case.graph)
        other = replace(opened.package.design, name="other", geometry=replace(SMALL_GEOMETRY, queue_depth=5))
        if opened.over == "pynq":
            import pynq

            pynq.Overlay(str(write_emulated_package(tmp_path, other).bit), device=opened.device)
            with pytest.raises(OverlayStateError, match=r"another overlay was loaded after 'small\.bit'"):
                overlay.predict()
        else:
            transport: Any = overlay.transport
            transport._overlay.close()
            transport._overlay = EmulatedOverlay(other, transport.memory)
            if ran:
                Session(transport, other)
            text = "the overlay has the geometry" if ran else "identity registers read as zero"
            with pytest.raises(GeometryMismatchError if ran else OverlayStateError, match=text):
                overlay.predict()


ARRAYS = (
    f"with arrays of {SMALL_GEOMETRY.gemm_d_rows} x {SMALL_GEOMETRY.gemm_d_cols} and "
    f"{SMALL_GEOMETRY.gemm_l_rows} x {SMALL_GEOMETRY.gemm_l_cols}"
)


def test_an_overlay_of_another_geometry_is_not_opened(opened: Opened, program: Program) -> None:
    design = replace(opened.package.design, geometry=default_design().geometry)
    opened.package = replace(opened.package, design=replace(design, name="small"))
    if opened.over == "plain":
        transport: Transport = EmulatedTransport(small_design_of("pynq-z2"))
        with pytest.raises(GeometryMismatchError, match=ARRAYS):
            HetfabOverlay(opened.package, transport=transport)
        with pytest.raises(OverlayStateError):
            transport.check_loaded()
    else:
        with pytest.raises(GeometryMismatchError, match=ARRAYS):
            opened()


def failing(
    opened: Opened, program: Program, case: Case, spoil: Callable[[HetfabOverlay], object], **options: Any
) -> tuple[HetfabOverlay, Callable[[], Any]]:
    overlay = opened(program=program, **options)
    overlay.predict(case.graph)
    spoil(overlay)
    return overlay, overlay.predict


def check_stopped(opened: Opened, overlay: HetfabOverlay, code: str) -> None:
    """After a failed run the memory is free, and only a new overlay runs."""
    assert opened.memory(overlay).used == 0
    with pytest.raises(OverlayStateError, match=rf"cannot run: a run failed \({code}\)"):
        overlay.predict()
    overlay.close()


def test_a_forgotten_flush_names_its_segment(opened: Opened, program: Program, case: Case) -> None:
    def write_only(overlay: HetfabOverlay) -> None:
        buffer_of(overlay, Segment.FEATURES).array[64:66] ^= 1

    overlay, predict = failing(opened, program, case, write_only)
    address = buffer_of(overlay, Segment.FEATURES).physical_address + 64
    with pytest.raises(StaleMemoryError) as caught:
        predict()
    assert caught.value.found == (
        f"the device would read 2 stale bytes of the segment 'features', the first at {address:#x}"
    )
    check_stopped(opened, overlay, "stale-memory")


def test_a_buffer_freed_early_names_its_segment_and_address(opened: Opened, program: Program, case: Case) -> None:
    def free_graph(overlay: HetfabOverlay) -> None:
        buffer_of(overlay, Segment.GRAPH).free()

    overlay, predict = failing(opened, program, case, free_graph)
    address = buffer_of(overlay, Segment.GRAPH).physical_address
    with pytest.raises(EngineFaultError) as caught:
        predict()
    assert f"bytes at {address:#x} that was freed; it is byte " in caught.value.found
    assert caught.value.found.endswith("of the segment 'graph'")
    check_stopped(opened, overlay, "engine-fault")


def test_a_stray_address_is_named(
    opened: Opened, program: Program, case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stray(overlay: HetfabOverlay) -> None:
        buffer: Any = buffer_of(overlay, Segment.OUTPUT)
        address = buffer.physical_address + 0x100_0000
        monkeypatch.setattr(type(buffer), "physical_address", property(lambda b: address))

    overlay, predict = failing(opened, program, case, stray)
    with pytest.raises(EngineFaultError, match=r"0x[0-9a-f]+ is \d+ bytes beyond the buffer of \d+ bytes at 0x"):
        predict()
    monkeypatch.undo()
    check_stopped(opened, overlay, "engine-fault")


def test_an_engine_that_never_finishes_meets_the_deadline(
    opened: Opened, program: Program, case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Steps happen no more, as with an engine that hangs on a bus."""

    def hang(overlay: HetfabOverlay) -> None:
        monkeypatch.setattr(EmulatedOverlay, "advance", lambda overlay: None)

    overlay, predict = failing(opened, program, case, hang, deadline_seconds=0.05)
    count = len(resident_of(overlay).bound.words)
    with pytest.raises(DeadlineError) as caught:
        predict()
    lines = caught.value.found.splitlines()
    assert lines[0] == "the run did not end within 0.05 s"
    # DISPATCH makes no pass either, so its registers still show the run before.
    assert lines[1] == f"fetched {count}, retired {count}" and lines[-1].startswith("semaphores ")
    check_stopped(opened, overlay, "deadline")


def test_a_wait_that_cannot_end_is_a_deadlock(opened: Opened, program: Program, case: Case) -> None:
    def never_signalled(overlay: HetfabOverlay) -> None:
        buffer = buffer_of(overlay, Segment.PROGRAM)
        buffer.array.view("<u8")[0] |= np.uint64(31 << 8)
        buffer.sync_to_device()

    overlay, predict = failing(opened, program, case, never_signalled)
    with pytest.raises(DeadlockError, match=r"holds instruction 0, which waits for semaphore 31 \(count 0\)"):
        predict()
    check_stopped(opened, overlay, "deadlock")


def test_an_interrupted_run_stops_the_overlay(
    opened: Opened, program: Program, case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C while the engines run: they would go on in memory that a later graph gets."""

    def interrupted(overlay: EmulatedOverlay) -> None:
        raise KeyboardInterrupt

    def interrupt(overlay: HetfabOverlay) -> None:
        monkeypatch.setattr(EmulatedOverlay, "advance", interrupted)

    overlay, predict = failing(opened, program, case, interrupt)
    with pytest.raises(KeyboardInterrupt):
        predict()
    assert opened.memory(overlay).used == 0
    with pytest.raises(OverlayStateError, match="cannot run: a run was interrupted"):
        overlay.predict()
    overlay.close()


def test_boards_say_how_much_memory_linux_has_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a board's /proc/meminfo; hosts have no contiguous memory."""
    require_pynq()
    import pynq

    from hetfab.driver import pynq_transport
    from hetfab.driver.pynq_device.device import EmulatedDevice

    package = write_emulated_package(tmp_path, small_design_of(supported_boards(pynq.__version__)[0]))
    device = EmulatedDevice()
    # pynq 3.0 sets clocks of the active device, whatever the overlay's is.
    monkeypatch.setattr(pynq.Device, "_active_device", device, raising=False)
    transport = pynq_transport.PynqTransport(package.bit, device)
    memory = tmp_path / "meminfo"
    memory.write_text("MemTotal:  496000 kB\nCmaTotal:   131072 kB\nCmaFree:     1000 kB\n", encoding="ascii")
    monkeypatch.setattr(pynq_transport, "_MEMORY_STATE", memory)
    with pytest.raises(
        DeviceMemoryError, match="asked for, 1024000 of 134217728 bytes are free; pynq says: out of CMA"
    ):
        transport.allocate(1 << 40)
    memory.write_text("MemTotal:  496000 kB\n", encoding="ascii")
    with pytest.raises(DeviceMemoryError, match="bytes were asked for; pynq says: out of CMA"):
        transport.allocate(1 << 40)


def test_too_little_memory_is_named_in_bytes(opened: Opened, program: Program, case: Case) -> None:
    with opened(program=program) as overlay:
        overlay.predict(case.graph)
        memory = opened.memory(overlay)
        overlay.load(program)
        assert memory.used == 0 and overlay.graph is None
        limit = read_board(opened.package.design.board).contiguous_bytes or 128 << 20
        taken = memory.allocate(limit - 30_000)
        used = memory.used
        with pytest.raises(DeviceMemoryError, match=rf"out of CMA: \d+ bytes were asked for.* of {limit} bytes"):
            overlay.predict(case.graph)
        assert memory.used == used and overlay.graph is None
        memory.free(taken)
        assert overlay.predict(case.graph).scores is not None


def test_reopening_after_a_failure_runs_again(opened: Opened, program: Program, case: Case) -> None:
    def free_graph(overlay: HetfabOverlay) -> None:
        buffer_of(overlay, Segment.GRAPH).free()

    overlay, predict = failing(opened, program, case, free_graph)
    with pytest.raises(EngineFaultError):
        predict()
    overlay.close()
    with opened(program=program) as fresh:
        assert fresh.predict(case.graph).scores is not None


def test_without_a_device_the_plain_transport_serves(
    package: Package, program: Program, case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hetfab.driver import overlay as module

    monkeypatch.setattr(module, "_pynq_has_a_device", lambda: False)
    with HetfabOverlay(package, program) as overlay:
        assert isinstance(overlay.transport, EmulatedTransport)
        assert overlay.predict(case.graph).scores is not None
    with pytest.raises(OverlayStateError, match="is a bitstream, and pynq finds no device here"):
        open_transport(replace(package, kind=Kind.HARDWARE))


# Packages


@pytest.fixture
def plain(tmp_path: Path) -> Package:
    return write_emulated_package(tmp_path / "overlays", small_design_of("pynq-z2"))


def test_a_package_is_found_by_path_and_by_name(
    plain: Package, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (plain.bit, plain.hwh, plain.bit.with_suffix(".json"), plain.bit.parent, str(plain.bit)):
        assert find_package(name) == plain
    with pytest.raises(OverlayPackageError, match=r"there is no overlay package 'small': none of 'small/small\.json'"):
        find_package("small")
    monkeypatch.setenv(packages.FOLDERS_VARIABLE, f"{tmp_path / 'none'}:{tmp_path / 'overlays'}")
    assert find_package("small") == plain
    monkeypatch.delenv(packages.FOLDERS_VARIABLE)
    monkeypatch.chdir(tmp_path)
    assert find_package("small").design == plain.design


def test_equal_designs_give_equal_bytes(plain: Package, tmp_path: Path) -> None:
    again = write_emulated_package(tmp_path / "again", plain.design)
    for suffix in (".bit", ".hwh", ".json"):
        assert again.bit.with_suffix(suffix).read_bytes() == plain.bit.with_suffix(suffix).read_bytes()


def change_json(package: Package, change: Callable[[dict[str, Any]], object]) -> None:
    path = package.bit.with_suffix(".json")
    table = json.loads(path.read_text(encoding="utf-8"))
    change(table)
    path.write_text(json.dumps(table), encoding="utf-8")


@pytest.mark.parametrize("suffix", [".bit", ".hwh"])
def test_a_damaged_or_missing_file_is_named(plain: Package, suffix: str) -> None:
    path = plain.bit.with_suffix(suffix)
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)
    with pytest.raises(OverlayPackageError, match=rf"small\{suffix}': it is not the file that 'small.json' describes"):
        read_package(plain.bit.with_suffix(".json"))
    path.unlink()
    with pytest.raises(OverlayPackageError, match=rf"small\{suffix}': No such file"):
        read_package(plain.bit.with_suffix(".json"))


@pytest.mark.parametrize(
    ("change", "error", "text"),
    [
        (lambda t: t.update(format="other"), OverlayPackageError, "it is not in the format 'hetfab overlay 2'"),
        (lambda t: t.update(isa_version=[9, 4]), IsaVersionError, r"is for version \[9, 4\]"),
        (lambda t: t.update(kind="hardware"), OverlayPackageError, r"it says 'hardware', the \.bit file does not"),
        (lambda t: t.update(kind="other"), OverlayPackageError, "'other' is not a valid Kind"),
        (lambda t: t.pop("sha256"), OverlayPackageError, "it has no hashes"),
        (lambda t: t.update(geometry_hash="0"), OverlayPackageError, "does not have the stored hash"),
        (lambda t: t["design"].pop("board"), OverlayPackageError, "missing: board"),
    ],
)
def test_a_wrong_description_is_refused(
    plain: Package, change: Callable[[dict[str, Any]], object], error: type[Exception], text: str
) -> None:
    change_json(plain, change)
    with pytest.raises(error, match=text):
        read_package(plain.bit.with_suffix(".json"))


def test_no_json_is_no_package(plain: Package) -> None:
    plain.bit.with_suffix(".json").write_text("{", encoding="utf-8")
    with pytest.raises(OverlayPackageError, match=r"cannot use '.*small\.json'"):
        find_package(plain.bit)


def test_an_unwritable_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(OutputUnwritableError, match="cannot make the folder"):
        write_emulated_package(tmp_path / "file", small_design_of("pynq-z2"))


def test_headers_survive_a_round_trip() -> None:
    file = emulated_bit_file("small", "xc7z020clg400-1", {"a": [1, 2]})
    assert decode_bit_file(file.encode()) == file
    assert file.part == "7z020clg400-1" and file.emulated() == {"a": [1, 2]}
    assert len(file.data) % 4 == 0 and bytes.fromhex("aa995566") not in file.data
    assert BitFile("d", "p", "2026/01/02", "03:04:05", b"\xaa\x99\x55\x66").emulated() is None


@pytest.mark.parametrize("cut", [0, 5, 30, 60, 100])
def test_short_headers_are_refused(cut: int) -> None:
    raw = emulated_bit_file("small", "xc7z020clg400-1", {}).encode()
    with pytest.raises(ValueError, match=r"ends|begin"):
        decode_bit_file(raw[:cut])


def test_longer_and_foreign_files_are_refused() -> None:
    raw = emulated_bit_file("small", "xc7z020clg400-1", {}).encode()
    with pytest.raises(ValueError, match="it is 3 bytes longer"):
        decode_bit_file(raw + b"abc")
    with pytest.raises(ValueError, match="does not begin as a bitstream does"):
        decode_bit_file(b"\0\x09" + b"P" * 200)
    with pytest.raises(ValueError, match="has the field b'z' where 'a' belongs"):
        decode_bit_file(raw[:13] + b"z" + raw[14:])


# What a board has


def test_a_board_needs_numpy_alone() -> None:
    """Importing the driver loads nothing that boards lack."""
    heavy = {"scipy", "onnx", "onnxruntime", "rich", "qonnx", "jinja2", "platformdirs", "joblib", "pynq", "click"}
    code = (
        "import sys; import hetfab.driver.overlay; "
        f"print(sorted({heavy!r} & {{name.partition('.')[0] for name in sys.modules}}))"
    )
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert process.stdout == "[]\n"


def test_predictions_need_numpy_alone(
    package: Package, program: Program, case: Case, over: str, tmp_path: Path
) -> None:
    """A whole inference on relations, in a process in which the host's packages cannot be imported."""
    write_program(tmp_path / "p.hfp", program)
    relations_only = not any(edges.metapath for edges in program.edges)
    write_graph(tmp_path / "g.npz", case.graph)
    blocked = ["onnx", "onnxruntime", "rich", "qonnx", "jinja2", "joblib"] + (["scipy"] if relations_only else [])
    code = (
        f"import sys\nfor name in {blocked!r}: sys.modules[name] = None\n"
        "from hetfab.driver.overlay import HetfabOverlay\n"
        f"with HetfabOverlay({str(package.bit)!r}, {str(tmp_path / 'p.hfp')!r}) as overlay:\n"
        f"    print(type(overlay.transport).__name__, overlay.predict({str(tmp_path / 'g.npz')!r}).logits.shape)\n"
    )

    environment = {**os.environ, "HETFAB_DEVICE": "emulated" if over == "pynq" else ""}
    process = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    assert process.returncode == 0, process.stderr
    kind = "PynqTransport" if over == "pynq" else "EmulatedTransport"
    rows = case.graph.counts["paper"]
    assert process.stdout.splitlines()[-1].startswith(f"{kind} ({rows}, ")


def test_the_example_for_boards_runs_on_the_emulated_device(case: Case, tmp_path: Path) -> None:
    require_pynq()
    import pynq

    design = small_design_of(supported_boards(pynq.__version__)[0])
    package = write_emulated_package(tmp_path, design)
    write_program(tmp_path / "p.hfp", compiled(quantized(case).model, case.graph, SMALL_GEOMETRY))
    write_graph(tmp_path / "g.npz", case.graph)
    files = [str(path) for path in (package.bit, tmp_path / "p.hfp", tmp_path / "g.npz")]
    process = subprocess.run(
        [sys.executable, "-W", "ignore", str(ROOT / "examples" / "board" / "predict.py"), *files, "--repeats", "2"],
        env={**os.environ, "HETFAB_DEVICE": "emulated"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    first, *lines = process.stdout.splitlines()
    assert first.startswith("small on hetfab-emulated, ") and first.endswith(" MHz")
    counts = [int(line.split()[2]) for line in lines if line.startswith("class ")]
    assert sum(counts) == case.graph.counts["paper"]
    assert "ms per inference (host time, overlay: emulated)" in lines[-1]


def test_the_benchmark_reports_its_figures() -> None:
    process = subprocess.run(
        [sys.executable, "-m", "benchmarks.driver", "--json", "--repeats", "1", "--inferences", "2"],
        cwd=ROOT,
        env={name: value for name, value in os.environ.items() if name not in ("HETFAB_DATA", "HETFAB_DEVICE")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    found = json.loads(process.stdout)
    assert found["transport"] == "EmulatedTransport"
    assert found["workload"] == "demo RGCN, generated academic graph"
    assert 0 < found["overhead_ms"] < found["first_ms"] and found["inferences"] == 2
    assert isinstance(found["rss_growth_kib"], int)


def test_the_example_imports_pynq_numpy_and_the_driver_alone() -> None:
    text = (ROOT / "examples" / "board" / "predict.py").read_text(encoding="utf-8")
    names = {name.partition(".")[0] for name in re.findall(r"^(?:import|from) (\S+)", text, re.MULTILINE)}
    assert names == {"argparse", "typing", "numpy", "pynq", "hetfab"}
    assert re.findall(r"^from (hetfab\S+)", text, re.MULTILINE) == ["hetfab.driver.overlay"]
