# SPDX-License-Identifier: Apache-2.0
"""Unmodified pynq on the emulated device: registers, memory, clocks, interrupts, and what a board would hide."""

import asyncio
import os
import subprocess
import sys
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hetfab.driver.package import write_emulated_package
from hetfab.driver.session import Session
from hetfab.overlay.bind import BoundProgram
from hetfab.overlay.blockdesign.build import block_design
from hetfab.overlay.board import board_names, read_board
from hetfab.overlay.design import Design
from hetfab.overlay.errors import (
    DeadlockError,
    DeviceMemoryError,
    EngineFaultError,
    OverlayPackageError,
    OverlayStateError,
    PynqVersionError,
    StaleMemoryError,
)
from hetfab.overlay.isa.codec import RegisterOffset, Segment
from hetfab.overlay.isa.spec import isa
from hetfab.overlay.package import Package
from tests.conftest import SMALL_GEOMETRY
from tests.programs import bound_to, compiled, quantized, reference_logits
from tests.pynq_support import require_pynq, small_design_of, supported_boards
from tests.random_models import Case, academic_case

pytestmark = pytest.mark.filterwarnings("ignore")
ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def pynq() -> Any:
    """The package pynq."""
    require_pynq()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import pynq

    return pynq


@pytest.fixture(scope="module")
def case() -> Case:
    return academic_case()


@pytest.fixture(scope="module")
def bound(case: Case) -> BoundProgram:
    return bound_to(compiled(quantized(case).model, case.graph, SMALL_GEOMETRY), case.graph)


@pytest.fixture
def design(pynq: Any) -> Design:
    """A small design of the first board that this pynq loads: a Zynq-7000 where it can."""
    return small_design_of(supported_boards(pynq.__version__)[0])


@pytest.fixture
def package(design: Design, tmp_path: Path) -> Package:
    return write_emulated_package(tmp_path, design)


@pytest.fixture
def device(pynq: Any) -> Iterator[Any]:
    """A fresh emulated device, the active one."""
    from hetfab.driver.pynq_device.device import EmulatedDevice

    made = EmulatedDevice()
    pynq.Device.active_device = made
    pynq.ps.Clocks.device = made
    yield made
    del pynq.Device._active_device


@pytest.fixture
def overlay(pynq: Any, device: Any, package: Package) -> Any:
    return pynq.Overlay(str(package.bit))


def start(overlay: Any, bound: BoundProgram, buffers: dict[Segment, Any]) -> None:
    """Writes the segments' places by offsets and starts by ``register_map``, as a notebook does."""
    dispatch = overlay.dispatch_0
    for segment, buffer in buffers.items():
        for kind, value in (("BASE", buffer.physical_address), ("SIZE", bound.sizes[segment])):
            dispatch.write(RegisterOffset[f"SEGMENT_{kind}_{segment.name}_LOW"], value & 0xFFFF_FFFF)
            dispatch.write(RegisterOffset[f"SEGMENT_{kind}_{segment.name}_HIGH"], value >> 32)
    dispatch.write(RegisterOffset.PROGRAM_LENGTH, len(bound.words))
    dispatch.register_map.CTRL.AP_START = 1


def filled(pynq: Any, bound: BoundProgram, cacheable: int = 0) -> dict[Segment, Any]:
    """A buffer with its content for each segment, not flushed."""
    buffers = {}
    for segment in Segment:
        buffers[segment] = pynq.allocate((max(bound.sizes[segment], 64),), np.uint8, cacheable=cacheable)
        content = bound.contents.get(segment)
        if content is not None:
            buffers[segment][: content.size] = content
    return buffers


def test_a_notebook_runs_a_program_by_register_map(pynq: Any, overlay: Any, case: Case, bound: BoundProgram) -> None:
    buffers = filled(pynq, bound)
    start(overlay, bound, buffers)
    registers = overlay.dispatch_0.register_map
    while not registers.CTRL.AP_DONE:
        pass
    logits = bound.logits(np.asarray(buffers[Segment.OUTPUT])) * bound.program.output.scale
    np.testing.assert_array_equal(logits, reference_logits(quantized(case).model, case.graph))
    assert overlay.dispatch_0.read(RegisterOffset.RETIRED) == len(bound.words)
    assert int(registers.CTRL.AP_DONE) == 0, "reading clears it"


def test_registers_name_the_design_after_the_first_start(overlay: Any, design: Design) -> None:
    read, registers = overlay.dispatch_0.read, overlay.dispatch_0.register_map
    identity = (RegisterOffset.GEOMETRY_HASH_LOW, RegisterOffset.GEOMETRY_HASH_HIGH, RegisterOffset.ISA_VERSION)
    assert [read(offset) for offset in identity] == [0, 0, 0]
    assert int(registers.Memory_status) == 0
    registers.Memory_arguments = 0
    registers.CTRL.AP_START = 1
    while not registers.CTRL.AP_DONE:
        pass
    found = read(RegisterOffset.GEOMETRY_HASH_HIGH) << 32 | read(RegisterOffset.GEOMETRY_HASH_LOW)
    assert f"{found:016x}" == design.geometry.hash()[:16]
    major, minor = isa().version
    assert read(RegisterOffset.ISA_VERSION) == int(registers.Memory_status) == major << 16 | minor


def test_a_driver_is_bound_by_vlnv(pynq: Any, device: Any, package: Package) -> None:
    from hetfab.driver.pynq_transport import Dispatch

    overlay = pynq.Overlay(str(package.bit))
    assert type(overlay.dispatch_0) is Dispatch
    assert type(overlay.interrupts) is pynq.DefaultIP


def test_mmio_reads_and_writes_words_and_slices(pynq: Any, overlay: Any) -> None:
    entry = overlay.ip_dict["dispatch_0"]
    mmio = pynq.MMIO(entry["phys_addr"], entry["addr_range"])
    base = int(RegisterOffset.SEGMENT_BASE_FEATURES_LOW)
    mmio.write(base, 0x1234_5678)
    mmio.write(base + 4, b"\x01\0\0\0")
    assert mmio.read(base, 8) == 0x1_1234_5678
    mmio.array[base // 4 : base // 4 + 2] = np.array([5, 6], np.uint32)
    assert list(np.copy(mmio.array[base // 4 : base // 4 + 2])) == [5, 6]
    assert int(mmio.array[np.int64(base // 4)]) == 5
    assert overlay.dispatch_0.read(base) == 5


def test_an_address_without_registers_is_named(pynq: Any, overlay: Any) -> None:
    with pytest.raises(DeviceMemoryError, match="no registers are at 0xdead0000; a board would hang"):
        pynq.MMIO(0xDEAD_0000, 16).read(0)


def test_clocks_are_the_boards(pynq: Any, overlay: Any, design: Design) -> None:
    assert pynq.Clocks.fclk0_mhz == pytest.approx(block_design(design).clock_mhz, rel=1e-4)
    pynq.Clocks.fclk0_mhz = 50
    assert pynq.Clocks.fclk0_mhz == pytest.approx(50, rel=1e-2)


async def awaited(overlay: Any, bound: BoundProgram, buffers: dict[Segment, Any]) -> None:
    registers = overlay.dispatch_0.register_map
    registers.GIER = 1
    registers.IP_IER = 1
    start(overlay, bound, buffers)
    await asyncio.wait_for(overlay.dispatch_0.interrupt.wait(), 30)


def test_an_interrupt_says_done(pynq: Any, overlay: Any, bound: BoundProgram) -> None:
    buffers = filled(pynq, bound)
    registers = overlay.dispatch_0.register_map

    async def twice() -> None:
        # In one event loop: pynq's interrupt belongs to the loop of its first wait.
        for _ in range(2):
            await awaited(overlay, bound, buffers)
            assert int(registers.IP_ISR) == 1
            assert registers.CTRL.AP_DONE == 1
            registers.IP_ISR = 1
            assert int(registers.IP_ISR) == 0

    asyncio.run(twice())


def test_an_awaited_deadlock_wakes_and_is_named(pynq: Any, overlay: Any, bound: BoundProgram) -> None:
    """The first instruction waits for a semaphore that nobody signals."""
    buffers = filled(pynq, bound)
    words = buffers[Segment.PROGRAM].view("u8")
    words[0] |= np.uint64(31 << 8)
    asyncio.run(awaited(overlay, bound, buffers))
    with pytest.raises(DeadlockError, match="waits for semaphore 31"):
        overlay.dispatch_0.read(0)


def test_cached_buffers_need_a_flush_and_an_invalidate(pynq: Any, overlay: Any, bound: BoundProgram) -> None:
    buffers = filled(pynq, bound, cacheable=1)
    for segment in (Segment.PROGRAM, Segment.CONSTANTS, Segment.GRAPH):
        buffers[segment].flush()
    with pytest.raises(StaleMemoryError, match=r"stale bytes of the segment 'features', the first at 0x[0-9a-f]+"):
        start(overlay, bound, buffers)
    buffers[Segment.FEATURES].flush()
    start(overlay, bound, buffers)
    while not overlay.dispatch_0.read(0) & 2:
        pass
    output = buffers[Segment.OUTPUT]
    before = output.copy()
    output.invalidate()
    assert (np.asarray(before) == 0xA5).all() and not (np.asarray(output) == 0xA5).all()


def test_a_view_flushes_its_own_bytes(pynq: Any, overlay: Any, device: Any) -> None:
    buffer = pynq.allocate((64,), np.uint8, cacheable=1)
    buffer[:] = 9
    buffer[16:32].flush()
    seen = np.frombuffer(device.mmap(buffer.physical_address, 64), np.uint8)
    assert (seen[16:32] == 9).all() and (seen[:16] != 9).all() and (seen[32:] != 9).all()


def test_an_uncached_buffer_is_shared(pynq: Any, overlay: Any, device: Any) -> None:
    buffer = pynq.allocate((4,), np.uint32)
    buffer[:] = 7
    assert list(device.mmap(buffer.physical_address, 16)) == [7, 7, 7, 7]


def test_a_buffer_freed_early_is_named_with_its_segment(pynq: Any, overlay: Any, bound: BoundProgram) -> None:
    buffers = filled(pynq, bound)
    address = buffers[Segment.CONSTANTS].physical_address
    start(overlay, bound, buffers)
    buffers[Segment.CONSTANTS].freebuffer()
    with pytest.raises(EngineFaultError) as caught:
        while not overlay.dispatch_0.read(0) & 2:
            pass
    assert f"bytes at {address:#x} that was freed" in caught.value.found
    assert "of the segment 'constants'" in caught.value.found


def test_freed_and_derived_arrays_are_refused(pynq: Any, overlay: Any) -> None:
    buffer = pynq.allocate((64,), np.int64, cacheable=1)
    with pytest.raises(DeviceMemoryError, match=r"flush of 512 bytes at .*, outside their buffer of 512 bytes"):
        (buffer * 2).flush()
    kept = buffer[:8]
    address = buffer.physical_address
    buffer.freebuffer()
    buffer.freebuffer()
    with pytest.raises(DeviceMemoryError, match=f"invalidate of a freed buffer of 512 bytes at {address:#x}"):
        kept.invalidate()
    assert (np.asarray(kept).view(np.uint8) == 0xDD).all()


def test_memory_ends_at_the_boards_cma(pynq: Any, overlay: Any, device: Any, design: Design) -> None:
    # Where the board's file does not know it, what Zynq-7000 images have.
    limit = read_board(design.board).contiguous_bytes or 128 << 20
    used = device.memory.used
    with pytest.raises(RuntimeError, match=f"out of CMA: {limit} bytes were asked for; of {limit} bytes"):
        pynq.allocate((limit,), np.uint8)
    buffer = pynq.allocate((1000,), np.uint8)
    view = buffer[10:20]
    del buffer
    assert device.memory.used > used, "a view keeps its buffer"
    del view
    assert device.memory.used == used


def test_nothing_is_allocated_before_an_overlay(pynq: Any, device: Any) -> None:
    with pytest.raises(RuntimeError, match="Overlay is not downloaded"):
        pynq.allocate((4,))


def test_a_second_overlay_replaces_the_first(pynq: Any, overlay: Any, design: Design, tmp_path: Path) -> None:
    overlay.dispatch_0.write(RegisterOffset.PROGRAM_LENGTH, 9)
    second = pynq.Overlay(str(write_emulated_package(tmp_path, replace(design, name="second")).bit))
    assert second.is_loaded() and not overlay.is_loaded()
    assert second.dispatch_0.read(RegisterOffset.PROGRAM_LENGTH) == 0
    with pytest.raises(RuntimeError, match="not currently loaded"):
        _ = overlay.dispatch_0


def test_polling_what_was_never_started_ends(overlay: Any) -> None:
    with pytest.raises(DeadlockError, match="while nothing ran"):
        while not overlay.dispatch_0.register_map.CTRL.AP_DONE:
            pass


def test_an_overlay_of_another_board_is_refused(pynq: Any, device: Any, tmp_path: Path) -> None:
    boards = supported_boards(pynq.__version__)
    first, second = (write_emulated_package(tmp_path / name, small_design_of(name)) for name in boards[:2])
    pynq.Overlay(str(first.bit))
    with pytest.raises(OverlayPackageError, match=f"is for the board '{boards[1]}', the device is a '{boards[0]}'"):
        pynq.Overlay(str(second.bit))


def test_boards_that_this_pynq_does_not_know_are_refused(pynq: Any, device: Any, tmp_path: Path) -> None:
    for board in set(board_names()) - set(supported_boards(pynq.__version__)):
        package = write_emulated_package(tmp_path / board, small_design_of(board))
        with pytest.raises(PynqVersionError, match=f"pynq {pynq.__version__} cannot load overlays on '{board}'"):
            pynq.Overlay(str(package.bit))


def test_damaged_files_are_refused(pynq: Any, device: Any, package: Package) -> None:
    whole = package.bit.read_bytes()
    package.bit.write_bytes(whole[:-8])
    with pytest.raises(OverlayPackageError, match="it ends 8 bytes early"):
        pynq.Overlay(str(package.bit))
    package.bit.write_bytes(whole)
    package.hwh.write_text(package.hwh.read_text() + "\n")
    with pytest.raises(OverlayPackageError, match=r"small\.hwh' is of another overlay"):
        pynq.Overlay(str(package.bit))


def test_partial_reconfiguration_is_refused(device: Any, package: Package) -> None:
    with pytest.raises(OverlayStateError, match="a partial bitstream"):
        device.get_bitfile_metadata(str(package.bit), partial=True)


def test_pynq_reads_the_header(pynq: Any, package: Package) -> None:
    from pynq.pl_server.embedded_device import parse_bit_header

    header = parse_bit_header(package.bit.read_bytes())
    assert header["design"] == "emulated_small" and header["date"] == "2000/01/01"
    assert "xc" + header["part"] == read_board(package.design.board).part
    assert bytes.fromhex("aa995566") not in header["data"] and len(header["data"]) % 4 == 0


def run_python(arguments: list[str], **environment: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if name != "HETFAB_DEVICE"}
    command = [sys.executable, "-W", "ignore", *arguments]
    return subprocess.run(command, env=kept | environment, capture_output=True, text=True, check=False)


def test_the_device_is_found_only_where_it_is_asked_for(pynq: Any) -> None:
    code = (
        "import hetfab.driver.pynq_device as d; d.register(); import pynq; "
        "print([type(x).__name__ for x in pynq.Device.devices])"
    )
    assert run_python(["-c", code], HETFAB_DEVICE="emulated").stdout == "['EmulatedDevice']\n"
    assert run_python(["-c", code]).stdout == "[]\n"


def test_a_program_that_knows_only_pynq_runs_on_it(pynq: Any, package: Package, tmp_path: Path) -> None:
    program = tmp_path / "user.py"
    program.write_text(
        "import sys\nfrom pynq import Overlay\n"
        "overlay = Overlay(sys.argv[1])\nprint(overlay.device.name, hex(overlay.dispatch_0.mmio.base_addr), __name__)\n"
    )
    process = run_python(["-m", "hetfab.driver.pynq_device", str(program), str(package.bit)])
    assert process.returncode == 0, process.stderr
    base = block_design(package.design).ranges[0].base
    assert process.stdout.splitlines()[-1] == f"hetfab-emulated {base:#x} __main__"


def test_what_the_device_relies_on_in_pynq_is_there(pynq: Any) -> None:
    """Names that pynq does not promise; a new release that changes one fails here first."""
    from pynq.buffer import PynqBuffer

    assert isinstance(pynq.interrupt._InterruptController._uio_devices, dict)
    assert isinstance(pynq.interrupt._InterruptController._controllers, list)
    assert isinstance(pynq.pl_server.device.DeviceMeta._subclasses, dict)
    assert {"memory", "pointer", "return_to", "freed"} <= set(
        PynqBuffer.freebuffer.__code__.co_names + PynqBuffer.freebuffer.__code__.co_consts
    )
    assert hasattr(pynq.ps.Clocks, "set_device") or pynq.__version__.startswith("3.0.")


def test_sessions_run_over_pynq(pynq: Any, device: Any, package: Package, bound: BoundProgram, case: Case) -> None:
    from hetfab.driver.pynq_transport import PynqTransport

    transport = PynqTransport(package.bit, device)
    result = Session(transport, package.design).run(bound)
    np.testing.assert_array_equal(result.values, reference_logits(quantized(case).model, case.graph))
    assert result.run_log is None and device.memory.used == 0
