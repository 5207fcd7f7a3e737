# SPDX-License-Identifier: Apache-2.0
"""Debug builds stop at an access outside the declared sets: every set of every operation, made too small, is caught.

The library of these tests is a debug build whose sets can be shortened by their last word or beat.
"""

import ctypes
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from hetfab.hls.build.emulator import Emulator, Progress, build_emulator
from hetfab.overlay.isa import codec
from hetfab.overlay.isa.codec import RegisterOffset, Segment
from hetfab.overlay.isa.spec import isa
from hetfab.overlay.isa.words import pack, program_address
from tests.conftest import SMALL_GEOMETRY
from tests.cpp_sets import declared_sets
from tests.programs import bound_to, compiled, quantized, run_emulated, run_golden
from tests.random_models import academic_case
from tests.small_streams import BASES, SEGMENT_BYTES

DEFINES = [
    'HETFAB_DECLARED_HEADER="testbench/shortened_sets.hpp"',
    "HETFAB_DECLARED=hetfab::shortened",
]
FEATURES, GRAPH = program_address(Segment.FEATURES, 0), program_address(Segment.GRAPH, 0)
COPY = {"ram": 0, "rows": 2, "row_blocks": 1, "stride_blocks": 2, "address": FEATURES}
SUMS = {"acc": 0, "sum": 0, "with_acc": 1, "acc_groups": 1, "par": 0, "out": 0, "rows": 2, "groups": 1, "shift": 0}
VALUES = {name: value for name, value in SUMS.items() if name not in ("sum", "with_acc", "shift")}
BYTES = {"relu": 0, "unsigned": 0, "out_bits": 7, "row_blocks": 1}
CONTEXT = [
    codec.configure_features(slot=1, row_blocks=1, count=2, address=FEATURES),
    codec.configure_destinations(slot=1, count=2, address=GRAPH),
    codec.configure_ids(slot=1, edges=4, id_bytes=2, address=program_address(Segment.GRAPH, 64)),
]
#: Of each operation an instruction that touches all that it declares.
FULL = {
    "load_activations": codec.load_activations(**COPY),
    "load_weights": codec.load_weights(**COPY),
    "load_parameters": codec.load_parameters(**COPY),
    "store_rows": codec.store_rows(**COPY),
    "matmul": codec.matmul(act=0, wgt=0, accumulate=1, unsigned=0, acc=0, rows=8, k_words=2, col_groups=2),
    "requantize": codec.requantize(**VALUES, **BYTES, shift=0),
    "combine": codec.combine(**SUMS, **BYTES, post_shift=0, post_left=0),
    "export_sums": codec.export_sums(**SUMS, row_blocks=1),
    "export_accumulators": codec.export_accumulators(**VALUES, row_blocks=1),
    "configure_features": CONTEXT[0],
    "configure_destinations": CONTEXT[1],
    "configure_ids": CONTEXT[2],
    "reduce": codec.reduce(slot=1, rows=2, mode=0, unsigned=0, accumulate=1, groups=2, destination=0, sum=0),
}


def regions(name: str) -> int:
    """How many regions the operation's instruction has."""
    reads, writes = declared_sets(FULL[name], [0] * 4 + CONTEXT, SMALL_GEOMETRY)
    return len(reads) + len(writes)


#: Number of boxes of each operation: all of the instructions' regions are there.
BOXES = [
    (operation.name, box)
    for operation in isa().operations
    for box in range(len(operation.reads) + len(operation.writes))
]


@pytest.fixture(scope="module")
def library() -> Path:
    """A debug build whose sets can be shortened."""
    return build_emulator(SMALL_GEOMETRY, debug=True, defines=DEFINES)


@pytest.fixture
def emulator(library: Path) -> Iterator[Emulator]:
    """An emulator with whole sets."""
    shorten(library, -1, 0)
    with Emulator(library, SMALL_GEOMETRY) as emulator:
        yield emulator
    shorten(library, -1, 0)


def shorten(library: Path, operation: int, region: int) -> None:
    """Takes the last word or beat from a region of an operation; -1 for none."""
    ctypes.CDLL(str(library)).hetfab_shorten(operation, region)


def run(emulator: Emulator, word: int) -> tuple[Progress, str]:
    """Runs one instruction after AGG's context is filled, on two destinations with an edge each."""
    program = pack([*CONTEXT, word])
    for segment, base in BASES.items():
        memory = np.zeros(SEGMENT_BYTES, np.uint8)
        if segment is Segment.PROGRAM:
            memory[: program.nbytes] = program.view(np.uint8).reshape(-1)
        elif segment is Segment.GRAPH:
            memory[:32] = np.array([[0, 2, 1 << 16, 1], [2, 2, 1 << 16, 1]], "<u4").view(np.uint8).reshape(-1)
            memory[64:72] = np.array([0, 1, 1, 0], "<u2").view(np.uint8)
        emulator.map_memory(base, memory)
        emulator.write_register(RegisterOffset[f"SEGMENT_BASE_{segment.name}_LOW"], base)
        emulator.write_register(RegisterOffset[f"SEGMENT_SIZE_{segment.name}_LOW"], SEGMENT_BYTES)
    emulator.write_register(RegisterOffset.PROGRAM_LENGTH, len(program))
    emulator.write_register(RegisterOffset.CONTROL, 1)
    return emulator.advance(10_000), emulator.message()


@pytest.mark.parametrize("name", FULL)
def test_whole_sets_are_enough(emulator: Emulator, name: str) -> None:
    assert run(emulator, FULL[name]) == (Progress.DONE, "")


def test_the_instructions_touch_every_box() -> None:
    assert {name for name, _ in BOXES} == set(FULL)
    assert [(name, box) for name in FULL for box in range(regions(name))] == BOXES


@pytest.mark.parametrize(("name", "box"), BOXES)
def test_a_set_that_is_too_small_is_caught(emulator: Emulator, library: Path, name: str, box: int) -> None:
    operation = isa().operation(name)
    engine = isa().engine(operation.engine).id
    shorten(library, engine << 4 | operation.opcode, box)
    progress, message = run(emulator, FULL[name])
    memory = (*operation.reads, *operation.writes)[box].memory
    verb = "reads" if box < len(operation.reads) else "writes"
    assert progress is Progress.FAULT
    assert message.startswith(f"engine '{operation.engine}', instruction ")
    assert f": {verb} " in message and f" of {memory}; declared are " in message


def test_the_message_names_the_access_and_the_declared_set(emulator: Emulator, library: Path) -> None:
    operation = isa().operation("matmul")
    shorten(library, isa().engine("gemm_d").id << 4 | operation.opcode, 0)
    assert run(emulator, FULL["matmul"])[1] == (
        "engine 'gemm_d', instruction 3: reads word 15 of act_ram; declared are words 0 to 14"
    )


def test_rows_of_dram_are_named_with_their_distance(emulator: Emulator, library: Path) -> None:
    operation = isa().operation("store_rows")
    shorten(library, isa().engine("store").id << 4 | operation.opcode, 1)
    base = BASES[Segment.FEATURES]
    assert run(emulator, FULL["store_rows"])[1] == (
        f"engine 'store', instruction 3: writes bytes {base:#x} to {base + 63:#x} of dram; "
        f"declared are bytes {base:#x} to {base + 55:#x} in 2 rows, 128 bytes apart"
    )


def test_a_compiled_program_keeps_to_its_sets(emulator: Emulator) -> None:
    case = academic_case()
    bound = bound_to(compiled(quantized(case).model, case.graph, SMALL_GEOMETRY), case.graph)
    found, expected = run_emulated(bound, emulator), run_golden(bound)
    np.testing.assert_array_equal(found.dram[Segment.OUTPUT], expected.dram[Segment.OUTPUT])
