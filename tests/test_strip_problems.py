# SPDX-License-Identifier: Apache-2.0
"""Instructions on strips that the instruction set does not define: golden model and emulator refuse them alike."""

from collections.abc import Iterator

import numpy as np
import pytest

from hetfab.hls.build.emulator import Bodies, Emulator, Progress, build_emulator
from hetfab.overlay.design import Geometry
from hetfab.overlay.errors import StreamInvalidError
from hetfab.overlay.isa import codec
from hetfab.overlay.isa.codec import Segment
from hetfab.overlay.isa.golden import GoldenMachine
from hetfab.overlay.isa.words import pack, program_address
from tests.test_dispatch import Device

SIZE = 1 << 14
PLACE = program_address(Segment.FEATURES, 0)
CONTEXT = {"slot": 3, "core": 0, "kernel_lines": 3, "line_stride": 1, "stride_blocks": 1}
LINES = {"packed": 0, "line_beats": 8}
WINDOWS = {"run_beats": 4, "step_bytes": 3}
LOAD = {"ram": 0, "first_bank": 1, "banks": 2, "slot": 3, "address": PLACE}
STRIP = {"act": 0, "wgt": 0, "acc": 0, "accumulate": 0, "unsigned": 0, "banks": 2, "columns": 1, "lines": 2}
STRIP |= {"line_words": 4, "step_words": 1, "col_groups": 1, "run": 1}
STORE = {"ram": 0, "banks": 2, "columns": 2, "ram_banks": 2, "row_beats": 2, "stride_blocks": 1, "joined": 1}
MIDDLE = {"ram": 0, "lines": 2, "columns": 2, "row_beats": 2, "stride_blocks": 1, "joined": 1}
PLANES = "at least 1 word, 1 or 2 slices, 1 to 8 planes, 1 when bipolar"


def lines(context: dict[str, int], **change: int) -> list[int]:
    """A load of lines with a change of its context and one of its own fields."""
    fields = {**LOAD, "lines": 3, "top": 1, "left": 2, "beats": 6, **change}
    return [codec.configure_lines(**CONTEXT | LINES | context), codec.load_lines(**fields)]


def windows(context: dict[str, int], **change: int) -> list[int]:
    fields = {**LOAD, "lines": 4, "offset": 1, "beats": 6, "columns": 2, **change}
    return [codec.configure_windows(**CONTEXT | WINDOWS | context), codec.load_windows(**fields)]


def product(**change: int) -> list[int]:
    return [codec.matmul_lines(**STRIP | {"packed": 0} | change)]


def planes(**change: int) -> list[int]:
    return [codec.matmul_planes_lines(**STRIP | {"slices": 1, "planes": 2, "bipolar": 0} | change)]


#: What is wrong: the program, what the last instruction uses, what is expected.
PROBLEMS = {
    "no bank": (lines({}, banks=0), "0 banks from bank 1 on", "at least 1, below bank 4"),
    "a bank that GEMM-D lacks": (lines({}, banks=4), "4 banks from bank 1 on", "at least 1, below bank 4"),
    "a bank that GEMM-L lacks": (lines({"core": 1}, banks=3), "3 banks from bank 1 on", "at least 1, below bank 3"),
    "no line of the kernel": (lines({"kernel_lines": 0}), "kernel_lines 0, line_stride 1", "at least 1 each"),
    "no stride": (windows({"line_stride": 0}), "kernel_lines 3, line_stride 0", "at least 1 each"),
    "half a word of bytes": (
        lines({"core": 1, "line_beats": 10}), "lines of 10 beats", "a multiple of 4, whole words of act_l_ram"
    ),
    "half a packed word": (
        lines({"core": 1, "packed": 1, "line_beats": 9}),
        "lines of 9 beats",
        "a multiple of 2, whole words of act_l_ram",
    ),
    "lines below the last bank's": (
        lines({}, top=2), "top 2, lines 3, left 2, beats 6", "at most 4 lines and 8 beats with the zeros"
    ),
    "beats beyond a line": (
        lines({}, left=3), "top 1, lines 3, left 3, beats 6", "at most 4 lines and 8 beats with the zeros"
    ),
    "other lines than the banks need": (windows({}, lines=5), "5 lines", "4, what the banks need"),
    "a window beyond a line": (
        windows({}, columns=6),
        "lines of 6 beats with windows up to byte 50",
        "windows within lines of at most 8 beats, the gather_beats",
    ),
    "lines longer than the memories for windows": (
        windows({}, beats=9),
        "lines of 9 beats with windows up to byte 38",
        "windows within lines of at most 8 beats, the gather_beats",
    ),
    "joined pixels of another length": (
        [codec.store_runs(**STORE, pixel_stride=5, address=PLACE)], "joined runs of 5 beats", "6, those of all pixels"
    ),
    "joined pixels of mid_ram of another length": (
        [codec.store_middle(**MIDDLE, pixel_stride=5, address=PLACE)],
        "joined runs of 5 beats",
        "6, those of all pixels",
    ),
    "a strip in no bank": (
        product(banks=0), "banks 0, lines 2, run 1", "1 to 4 banks, at least 1 line and a run of at least 1"
    ),
    "a strip in a bank that GEMM-D lacks": (
        product(banks=5), "banks 5, lines 2, run 1", "1 to 4 banks, at least 1 line and a run of at least 1"
    ),
    "a strip without lines": (
        planes(lines=0), "banks 2, lines 0, run 1", "1 to 3 banks, at least 1 line and a run of at least 1"
    ),
    "a run of no words": (
        product(run=0), "banks 2, lines 2, run 0", "1 to 4 banks, at least 1 line and a run of at least 1"
    ),
    "a run of no words on GEMM-L": (planes(run=0), "run 0, slices 1, planes 2, bipolar 0", PLANES),
    "no planes": (planes(planes=0), "run 1, slices 1, planes 0, bipolar 0", PLANES),
    "two bipolar planes": (planes(bipolar=1), "run 1, slices 1, planes 2, bipolar 1", PLANES),
}  # fmt: skip


@pytest.fixture(params=list(Bodies), ids=lambda bodies: bodies.value)
def device(small_geometry: Geometry, request: pytest.FixtureRequest) -> Iterator[Device]:
    """A device of the small design, with each kind of bodies; a fault is the last thing that it does."""
    with Emulator(build_emulator(small_geometry, bodies=request.param), small_geometry) as emulator:
        yield Device(emulator)


@pytest.mark.parametrize("problem", PROBLEMS)
def test_both_refuse_it_in_the_same_words(problem: str, small_geometry: Geometry, device: Device) -> None:
    words, found, expected = PROBLEMS[problem]
    with pytest.raises(StreamInvalidError) as error:
        machine_of(small_geometry).run(pack(words).tobytes())
    assert error.value.found.endswith(f") uses {found}")
    assert error.value.expected == expected
    assert device.run(words) is Progress.FAULT
    assert f"instruction {len(words) - 1}: " in device.emulator.message()
    assert device.emulator.message().endswith(f"{found}, not {expected}")


def machine_of(geometry: Geometry) -> GoldenMachine:
    """A golden model with empty segments."""
    machine = GoldenMachine(geometry)
    machine.map_memory(0, np.zeros(len(Segment) * SIZE, np.uint8))
    machine.segments = {segment.name.lower(): (segment * SIZE, SIZE) for segment in Segment}
    return machine


def test_a_design_without_the_memories_does_not_know_the_operations(default_geometry: Geometry) -> None:
    machine = machine_of(default_geometry)
    load = codec.load_residual(ram=0, rows=1, columns=0, run_stride=0, run_beats=1, stride_blocks=0, address=PLACE)
    for word, found in (
        (windows({})[1], "lines of 6 beats with windows up to byte 38"),
        (load, "words 0 to 0 of res_ram"),
    ):
        with pytest.raises(StreamInvalidError) as error:
            machine.run(pack([windows({})[0], word]).tobytes())
        assert error.value.found.endswith(f"uses {found}")
