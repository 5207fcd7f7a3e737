# SPDX-License-Identifier: Apache-2.0
"""DISPATCH in the emulated overlay: semaphores, queues, faults, registers, and independence of the schedule."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hetfab.hls.build.emulator import Bodies, Emulator, Progress, build_emulator
from hetfab.overlay.design import Geometry
from hetfab.overlay.isa import codec
from hetfab.overlay.isa.arithmetic import reciprocals
from hetfab.overlay.isa.codec import Engine, Fault, RegisterOffset, Segment
from hetfab.overlay.isa.loops import loops
from hetfab.overlay.isa.spec import isa
from hetfab.overlay.isa.words import program_address

BASE = 0x4000_0000
PROGRAM = 0x1000_0000
SIZE = 1 << 14
NONE = 0xFFFF_FFFF
MANY = 100_000
Log = npt.NDArray[np.void]


@dataclass
class Device:
    """An emulated overlay: a buffer with the program, and one in which the other segments follow each other."""

    emulator: Emulator
    dram: npt.NDArray[np.uint8] = field(default_factory=lambda: np.zeros(len(Segment) * SIZE, np.uint8))
    mapped: bool = False

    def start(self, words: list[int], program_bytes: int | None = None) -> None:
        """Maps the memory, writes the segments' registers and the start bit.

        Args:
            words: The program.
            program_bytes: Size of the program's segment, if it is not that of the program.
        """
        program = np.frombuffer(b"".join(word.to_bytes(16, "little") for word in words), np.uint8).copy()
        if self.mapped:
            self.emulator.unmap_memory(PROGRAM)
            self.emulator.unmap_memory(BASE)
        self.emulator.map_memory(PROGRAM, program)
        self.emulator.map_memory(BASE, self.dram)
        self.mapped = True
        for segment in Segment:
            base, size = BASE + segment.value * SIZE, SIZE
            if segment is Segment.PROGRAM:
                base, size = PROGRAM, len(program) if program_bytes is None else program_bytes
            self.emulator.write_register(RegisterOffset[f"SEGMENT_BASE_{segment.name}_LOW"], base)
            self.emulator.write_register(RegisterOffset[f"SEGMENT_SIZE_{segment.name}_LOW"], size)
        self.emulator.write_register(RegisterOffset.PROGRAM_LENGTH, len(words))
        self.emulator.write_register(RegisterOffset.CONTROL, 1)

    def run(self, words: list[int], seed: int = 0) -> Progress:
        """Starts a program and steps it to its end."""
        self.start(words)
        return self.emulator.advance(MANY, seed)

    def register(self, name: str) -> int:
        return self.emulator.read_register(RegisterOffset[name])


@pytest.fixture(params=list(Bodies), ids=lambda bodies: bodies.value)
def device(small_geometry: Geometry, request: pytest.FixtureRequest) -> Iterator[Device]:
    """A device of the small design, with each kind of bodies."""
    with Emulator(build_emulator(small_geometry, bodies=request.param), small_geometry) as emulator:
        yield Device(emulator)


def load(offset: int, ram: int, **fields: int) -> int:
    """Loads rows of 64 bytes of the features to both copies: 8 words of each for four rows."""
    place = {"rows": 1, "row_blocks": 1, "stride_blocks": 1, "address": program_address(Segment.FEATURES, offset)}
    return codec.load_activations(**{"ram_d": ram, "ram_l": ram, "to_d": 1, "to_l": 1, "packed": 0, **place, **fields})


def tiles(count: int) -> list[int]:
    """Load, multiply on both cores, requantize, store, tile by tile, with two buffers of activations and one behind.

    Semaphores: 1 and 2 of GEMM-D's copy, 7 and 8 of GEMM-L's, 3 and 4 of its accumulators, 9 and 10 likewise, 5 and
    6 of the output.
    """
    words = []
    requantized = {"acc": 0, "from_sum": 0, "signed": 1, "packed": 0, "highest": 127, "rows": 4, "row_blocks": 1}
    requantized["to_exp"] = 0
    for tile in range(count):
        half, again, later = tile % 2, tile >= 2, tile > 0
        reuse = {"wait0": 2, "wait1": 8} if again else {}
        words.append(load(64 * tile, 8 * half, rows=4, **reuse, signal0=1, signal1=7))
        words.append(
            codec.matmul(
                act=8 * half, wgt=0, accumulate=0, unsigned=0, packed=0, acc=0, rows=4, row_beats=8, col_groups=1,
                wait0=1, wait1=4 if later else 0, signal0=3, signal1=2,
            )
        )  # fmt: skip
        words.append(
            codec.matmul_planes(
                act=8 * half, wgt=0, accumulate=0, unsigned=0, bipolar=0, acc=0, rows=4, row_words=2, slices=2,
                planes=3, col_groups=1, wait0=7, wait1=10 if later else 0, signal0=9, signal1=8,
            )
        )  # fmt: skip
        words.append(
            codec.requantize(
                **requantized, core=0, out=0, par=0, groups=2, row_words=2, shift=0, wait0=3,
                wait1=6 if later else 0, signal0=4,
            )
        )  # fmt: skip
        words.append(
            codec.requantize(
                **requantized, core=1, out=2, par=2, groups=1, row_words=6, shift=0, wait0=9, signal0=10, signal1=5
            )
        )  # fmt: skip
        address = program_address(Segment.OUTPUT, 256 * tile)
        words.append(codec.store_rows(ram=0, rows=4, row_beats=8, stride_blocks=1, address=address, wait0=5, signal0=6))
    return words


def seeded(device: Device) -> Device:
    """Fills features, weights and parameters with fixed values."""
    random = np.random.default_rng(7)
    device.dram[:] = random.integers(0, 256, len(device.dram))
    geometry = device.emulator.geometry
    for memory in ("wgt_d_ram", "wgt_l_ram", "par_ram"):
        shape = (geometry.depth(memory), geometry.word_bytes(memory))
        content = random.integers(0, 256, shape, dtype=np.uint8)
        # GEMM-D's weights are narrow.
        content[content == 0x80] = 0x7F
        device.emulator.write_ram(memory, 0, content)
    return device


def test_registers_after_a_run(device: Device) -> None:
    assert device.register("CONTROL") == 4  # idle
    device.start([load(0, 0, signal0=1), load(0, 8, signal0=1), codec.sync(engine=Engine.VEC, wait0=1)])
    assert device.register("CONTROL") == 1  # started, neither done nor idle
    assert device.emulator.advance(MANY) is Progress.DONE
    assert device.register("CONTROL") == 6
    assert device.register("CONTROL") == 4  # done clears on read
    assert [device.register(name) for name in ("FETCHED", "RETIRED", "FAULT")] == [3, 3, 0]
    assert device.register("FAULT_INSTRUCTION") == NONE
    assert device.register("SEMAPHORE_1") == 1
    last = {engine: device.register(f"LAST_RETIRED_{engine.name}") for engine in Engine}
    assert last == dict.fromkeys(Engine, NONE) | {Engine.LOAD: 1, Engine.VEC: 2}
    assert {device.register(f"QUEUE_HEAD_{engine.name}") for engine in Engine} == {NONE}
    assert device.emulator.message() == ""


STATUS = ("ISA_VERSION", "GEOMETRY_HASH_LOW", "GEOMETRY_HASH_HIGH", "ENGINES", "GEMM_D_SHAPE", "GEMM_L_SHAPE", "LANES",
          "FETCHED", "RETIRED", "FAULT", "FAULT_INSTRUCTION", "QUEUE_HEAD_VEC", "LAST_RETIRED_LOAD",
          "SEMAPHORE_1")  # fmt: skip


def test_status_reads_zero_until_dispatch_has_made_a_pass(device: Device) -> None:
    """Its registers are written in each pass, and a board knows nothing before the first one."""
    assert {device.register(name) for name in STATUS} == {0}
    device.emulator.write_register(RegisterOffset.CONTROL, 1)
    assert {device.register(name) for name in STATUS} == {0}
    assert device.emulator.advance(MANY) is Progress.DONE
    assert device.register("LANES") == 8 and device.register("FAULT_INSTRUCTION") == NONE


def test_status_is_that_of_the_last_pass(device: Device) -> None:
    assert device.run([codec.sync(engine=Engine.LOAD)] * 3) is Progress.DONE
    device.start([codec.sync(engine=Engine.LOAD)])
    assert device.register("RETIRED") == 3
    assert device.emulator.advance(MANY) is Progress.DONE
    assert device.register("RETIRED") == 1


def test_the_empty_program_takes_one_pass_and_no_memory(device: Device) -> None:
    device.emulator.write_register(RegisterOffset.PROGRAM_LENGTH, 0)
    device.emulator.write_register(RegisterOffset.CONTROL, 1)
    # In turn: six engines with nothing to do, then DISPATCH.
    assert device.emulator.advance(len(Engine)) is Progress.RUNNING
    assert device.emulator.advance(1) is Progress.DONE
    assert device.register("CONTROL") == 6
    assert [device.register(name) for name in ("FETCHED", "RETIRED", "FAULT")] == [0, 0, 0]
    assert len(device.emulator.run_log()) == 0


def test_identity_registers(device: Device, small_geometry: Geometry) -> None:
    assert device.run([]) is Progress.DONE
    major, minor = isa().version
    assert device.register("ISA_VERSION") == major << 16 | minor
    assert device.register("GEOMETRY_HASH_HIGH") == int(small_geometry.hash()[:8], 16)
    assert device.register("GEOMETRY_HASH_LOW") == int(small_geometry.hash()[8:16], 16)
    assert device.register("ENGINES") == (1 << len(Engine)) - 1
    assert device.register("GEMM_D_SHAPE") == small_geometry.gemm_d_cols << 16 | small_geometry.gemm_d_rows
    assert device.register("GEMM_L_SHAPE") == small_geometry.gemm_l_cols << 16 | small_geometry.gemm_l_rows
    assert device.register("LANES") == 8


def test_arguments_read_back_and_other_offsets_read_zero(device: Device) -> None:
    for position, register in enumerate(entry for entry in isa().registers if entry.offset >= 16):
        device.emulator.write_register(register.offset, 0x1234_0000 + position)
        expected = 0x1234_0000 + position if register.writable else device.emulator.read_register(register.offset)
        assert device.emulator.read_register(register.offset) == expected, register.name
    assert device.register("RETIRED") == 0
    assert device.emulator.read_register(0x14) == 0
    assert device.emulator.read_register(0x10000) == 0


def test_state_can_be_read_while_it_runs(device: Device) -> None:
    device.start(tiles(4))
    retired = []
    while device.emulator.advance(5) is Progress.RUNNING:
        retired.append(device.register("RETIRED"))
    assert retired == sorted(retired)
    assert len(set(retired)) > 4
    assert device.register("RETIRED") == 24


def test_advance_takes_no_more_steps_than_asked(device: Device) -> None:
    device.start(tiles(4))
    assert device.emulator.advance(0) is Progress.RUNNING
    assert device.emulator.advance(6) is Progress.RUNNING
    assert device.register("RETIRED") == 0


def test_the_queues_have_the_depth_of_the_geometry(device: Device) -> None:
    depth = device.emulator.geometry.queue_depth
    waits = [codec.sync(engine=Engine.VEC, wait0=1)] * depth
    signal = codec.sync(engine=Engine.LOAD, signal0=1)
    assert device.run([*waits, *[signal] * depth]) is Progress.DONE
    assert device.run([*waits, waits[0], *[signal] * (depth + 1)]) is Progress.DEADLOCK
    assert device.register("FETCHED") == depth


@pytest.mark.parametrize(
    ("silent", "retired", "holds", "head"),
    [
        (
            7,
            10,
            "; store holds instruction 11, which waits for semaphore 5 (count 0)"
            "; gemm_d holds instruction 13, which waits for semaphore 1 (count 1)"
            ", which waits for semaphore 4 (count 0)"
            "; gemm_l holds instruction 14, which waits for semaphore 7 (count 1)"
            ", which waits for semaphore 10 (count 0)"
            "; vec holds instruction 9, which waits for semaphore 3 (count 0)"
            ", which waits for semaphore 6 (count 1)",
            9,
        ),
        (
            8,
            12,
            "; store holds instruction 11, which waits for semaphore 5 (count 0)"
            "; gemm_l holds instruction 14, which waits for semaphore 7 (count 1)"
            ", which waits for semaphore 10 (count 0)"
            "; vec holds instruction 10, which waits for semaphore 9 (count 0)",
            10,
        ),
    ],
    ids=["gemm_d", "gemm_l"],
)
def test_a_removed_signal_is_a_deadlock_with_a_dump(
    device: Device, silent: int, retired: int, holds: str, head: int
) -> None:
    """In the second tile one of the cores no longer tells VEC."""
    words = tiles(3)
    signal = isa().header_field("signal0")
    words[silent] &= ~(signal.largest << signal.lsb)
    assert device.run(words) is Progress.DEADLOCK
    assert device.emulator.message() == (f"no engine can step: {retired} of 18 instructions retired, 18 fetched{holds}")
    assert device.register("CONTROL") == 1
    assert device.register("QUEUE_HEAD_VEC") == head


def test_an_offset_outside_its_segment_is_a_fault(device: Device) -> None:
    words = [load(0, 0), load(SIZE, 0), load(0, 0)]
    assert device.run(words) is Progress.FAULT
    assert device.register("FAULT") == Fault.SEGMENT
    assert device.register("FAULT_INSTRUCTION") == 1
    assert device.emulator.message().startswith("instruction 1: its address lies outside the segment; 1 of 3")
    assert device.register("CONTROL") & 2  # drained: done


def test_a_program_longer_than_its_segment_is_a_fault(device: Device) -> None:
    device.start([codec.sync(engine=Engine.LOAD)] * 20, program_bytes=16 * 19)
    assert device.emulator.advance(MANY) is Progress.FAULT
    # Instructions are fetched sixteen at a time; the second fetch would leave the segment. By then twelve are issued.
    assert (device.register("FAULT"), device.register("FAULT_INSTRUCTION")) == (Fault.SEGMENT, 16)
    assert (device.register("FETCHED"), device.register("RETIRED")) == (16, 12)


@pytest.mark.parametrize("engine", list(Engine))
def test_an_unknown_opcode_is_a_fault(device: Device, engine: Engine) -> None:
    known = [codec.sync(engine=engine), codec.sync(engine=Engine.LOAD)]
    assert device.run([*known, codec.sync(engine=engine) | 15 << 4, *known]) is Progress.FAULT
    assert (device.register("FAULT"), device.register("FAULT_INSTRUCTION")) == (Fault.OPCODE, 2)
    assert "instruction 2: its engine does not know the opcode" in device.emulator.message()


def test_an_unknown_engine_is_a_fault(device: Device) -> None:
    assert device.run([codec.sync(engine=Engine.LOAD), 9]) is Progress.FAULT
    assert (device.register("FAULT"), device.register("FAULT_INSTRUCTION")) == (Fault.ENGINE, 1)
    assert "it names an engine that the design does not have" in device.emulator.message()


def test_a_semaphore_past_its_width_is_a_fault(device: Device) -> None:
    largest = (1 << isa().semaphore_bits) - 1
    pairs = [codec.sync(engine=Engine.LOAD, signal0=1, signal1=1)] * (largest // 2)
    one = codec.sync(engine=Engine.LOAD, signal1=1)
    device.start([*pairs, one])
    assert device.emulator.advance(10 * largest) is Progress.DONE
    assert device.register("SEMAPHORE_1") == largest
    device.start([*pairs, one, one])
    assert device.emulator.advance(10 * largest) is Progress.FAULT
    assert (device.register("FAULT"), device.register("FAULT_INSTRUCTION")) == (Fault.SEMAPHORE, len(pairs) + 1)
    assert device.register("SEMAPHORE_1") == largest
    assert "it signals a semaphore that is at its largest count" in device.emulator.message()


def test_an_unmapped_access_names_engine_instruction_and_address(device: Device) -> None:
    device.start([load(0, 0), load(0, 0, address=program_address(Segment.SPILL, 128))])
    device.emulator.unmap_memory(BASE)
    device.emulator.map_memory(BASE, device.dram[: Segment.SPILL * SIZE])
    assert device.emulator.advance(MANY) is Progress.FAULT
    address = BASE + Segment.SPILL * SIZE + 128
    assert device.emulator.message() == (
        f"engine 'load', instruction 1: read of 64 bytes at {address:#x}, which is not mapped memory"
    )
    assert device.register("CONTROL") == 1  # an engine hangs: neither done nor idle


def test_beats_that_were_requested_are_not_read_from_unmapped_memory(device: Device) -> None:
    """DISPATCH requests ahead: between the scheduler's steps, beats of the program are on their way."""
    words = [codec.sync(engine=Engine.LOAD)] * 64
    device.start(words)
    while not device.register("FETCHED"):
        device.emulator.advance(1)
    device.emulator.unmap_memory(PROGRAM)
    assert device.emulator.advance(MANY) is Progress.FAULT
    fetched = device.register("FETCHED")
    assert 0 < fetched < len(words)
    found = re.fullmatch(
        r"engine 'dispatch', at instruction (\d+): read of \d+ bytes at (0x\w+), which is not mapped memory",
        device.emulator.message(),
    )
    assert found and int(found[1]) == fetched and int(found[2], 16) == PROGRAM + 16 * fetched


def test_beats_that_were_requested_come_from_what_is_mapped_when_they_move(device: Device) -> None:
    words = [codec.sync(engine=Engine.LOAD)] * 64
    device.start(words)
    while not device.register("FETCHED"):
        device.emulator.advance(1)
    device.emulator.unmap_memory(PROGRAM)
    others = [*words[:40], codec.sync(engine=Engine.VEC), *words[41:]]
    other = np.frombuffer(b"".join(word.to_bytes(16, "little") for word in others), np.uint8)
    device.emulator.map_memory(PROGRAM, other.copy())
    assert device.emulator.advance(MANY) is Progress.DONE
    assert device.register("LAST_RETIRED_VEC") == 40


def test_after_a_hang_a_start_is_ignored(device: Device) -> None:
    assert device.run([codec.sync(engine=Engine.VEC, wait0=1)]) is Progress.DEADLOCK
    assert device.run([codec.sync(engine=Engine.VEC)]) is Progress.DEADLOCK
    assert device.register("RETIRED") == 0


@pytest.mark.parametrize(
    ("fields", "memory"), [({"ram_d": 121, "to_l": 0}, "act_d_ram"), ({"ram_l": 125, "to_d": 0}, "act_l_ram")]
)
def test_a_word_beyond_a_memory_names_it(device: Device, fields: dict[str, int], memory: str) -> None:
    depth = device.emulator.geometry.depth(memory)
    assert device.run([load(0, 0, **fields)]) is Progress.FAULT
    assert device.emulator.message() == (
        f"engine 'load', instruction 0: access to word {depth} of {memory}, which has {depth} words"
    )


def test_an_address_within_a_beat_is_a_fault(device: Device) -> None:
    assert device.run([load(4, 0)]) is Progress.FAULT
    address = BASE + Segment.FEATURES * SIZE + 4
    assert device.emulator.message() == (f"engine 'load', instruction 0: address {address:#x} is not a multiple of 8")


def test_more_groups_than_the_design_has_is_a_fault(device: Device) -> None:
    groups = device.emulator.geometry.agg_groups + 1
    fields = {"slot": 0, "rows": 1, "mode": 0, "unsigned": 0, "accumulate": 0, "destination": 0, "sum": 0}
    assert (
        device.run([codec.reduce(source=0, merge=0, spill=0, weighted=0, from_fifo=0, **fields, groups=groups)])
        is Progress.FAULT
    )
    assert device.emulator.message() == (
        f"engine 'agg', instruction 0: reduce of {groups} groups, the design has {groups - 1}"
    )


def test_a_matmul_of_no_channels_is_a_fault(device: Device) -> None:
    fields = {"act": 0, "wgt": 0, "acc": 0, "accumulate": 0, "unsigned": 0, "packed": 0, "rows": 4, "col_groups": 1}
    assert device.run([codec.matmul(**fields, row_beats=0)]) is Progress.FAULT
    assert device.emulator.message() == "engine 'gemm_d', instruction 0: matmul of rows of 0 beats, not at least 1"


@pytest.mark.parametrize(("packed", "narrow", "smallest", "weight"), [(0, 0x81, 0x80, -128), (1, 0x97, 0x87, -8)])
def test_a_weight_that_is_not_narrow_is_a_fault(
    device: Device, packed: int, narrow: int, smallest: int, weight: int
) -> None:
    """As often as the weights are loaded, and by whom."""
    fields = {"act": 0, "wgt": 0, "acc": 0, "accumulate": 0, "unsigned": 0, "rows": 4, "row_beats": 1, "col_groups": 1}
    weights = codec.load_weights(ram=0, words=2, address=program_address(Segment.CONSTANTS, 0), signal0=1)
    words = [weights, codec.matmul(**fields, packed=packed, wait0=1)]
    last = Segment.CONSTANTS * SIZE + 2 * 4 * device.emulator.geometry.gemm_d_cols - 1
    device.dram[last] = narrow
    assert device.run(words) is Progress.DONE
    device.dram[last + 1] = smallest
    assert device.run(words) is Progress.DONE
    device.dram[last] = smallest
    assert device.run(words) is Progress.FAULT
    bits = 4 if packed else 8
    assert device.emulator.message() == (
        f"engine 'gemm_d', instruction 1: matmul of a weight of {weight}, not narrow weights of {bits} bits"
    )


def test_weights_written_from_outside_are_looked_at(device: Device) -> None:
    fields = {"act": 0, "wgt": 0, "acc": 0, "accumulate": 0, "unsigned": 0, "rows": 4, "row_beats": 1, "col_groups": 1}
    word = codec.matmul(**fields, packed=0)
    assert device.run([word]) is Progress.DONE
    size = (1, device.emulator.geometry.word_bytes("wgt_d_ram"))
    device.emulator.write_ram("wgt_d_ram", 1, np.full(size, 0x80, np.uint8))
    assert device.run([word]) is Progress.FAULT
    assert "a weight of -128" in device.emulator.message()


@pytest.mark.parametrize(
    ("words", "slices", "planes", "bipolar"),
    [(0, 1, 1, 0), (2, 0, 1, 0), (2, 3, 1, 0), (2, 1, 0, 0), (2, 1, 9, 0), (2, 1, 0, 1), (2, 1, 2, 1)],
)
def test_shapes_that_gemm_l_does_not_have_are_faults(
    device: Device, words: int, slices: int, planes: int, bipolar: int
) -> None:
    fields = {"act": 0, "wgt": 0, "acc": 0, "accumulate": 0, "unsigned": 0, "rows": 4, "col_groups": 1}
    word = codec.matmul_planes(**fields, row_words=words, slices=slices, planes=planes, bipolar=bipolar)
    assert device.run([word]) is Progress.FAULT
    assert device.emulator.message() == (
        f"engine 'gemm_l', instruction 0: matmul_planes of row_words {words}, slices {slices}, planes {planes}, "
        f"bipolar {bipolar}, not at least 1 word, 1 or 2 slices, 1 to 8 planes, 1 when bipolar"
    )


@pytest.mark.parametrize(
    ("operation", "packed", "needed"), [("requantize", 0, 3), ("requantize", 1, 2), ("export_accumulators", 0, 12)]
)
def test_results_beyond_their_row_are_a_fault(device: Device, operation: str, packed: int, needed: int) -> None:
    fields = {"core": 0, "from_sum": 0, "acc": 0, "out": 0, "par": 0, "rows": 2, "groups": 3, "row_blocks": 2}
    if operation == "requantize":
        fields |= {"signed": 1, "packed": packed, "highest": 7, "shift": 0, "to_exp": 0}
    assert device.run([getattr(codec, operation)(**fields, row_words=needed)]) is Progress.DONE
    assert device.run([getattr(codec, operation)(**fields, row_words=needed - 1)]) is Progress.FAULT
    assert device.emulator.message() == (
        f"engine 'vec', instruction 0: {needed} words of results in {needed - 1} words of an output row"
    )


def test_waiting_twice_for_one_semaphore_needs_two_signals(device: Device) -> None:
    wait = codec.sync(engine=Engine.VEC, wait0=1, wait1=1)
    signal = codec.sync(engine=Engine.LOAD, signal0=1)
    assert device.run([wait, signal, signal]) is Progress.DONE
    assert device.run([wait, signal]) is Progress.DEADLOCK


def test_a_start_resets_state_and_log_but_not_memories(device: Device) -> None:
    seeded(device)
    assert device.run(tiles(2)) is Progress.DONE
    memories = {name: device.emulator.read_ram(name, 0, 4) for name in ("acc_d_ram", "acc_l_ram", "act_l_ram")}
    assert device.run([codec.sync(engine=Engine.AGG)]) is Progress.DONE
    assert device.register("RETIRED") == len(device.emulator.run_log()) == 1
    for name, memory in memories.items():
        assert np.array_equal(device.emulator.read_ram(name, 0, 4), memory)
        assert memory.any()


def executed(geometry: Geometry, words: list[int], seed: int) -> tuple[npt.NDArray[np.uint8], Log]:
    with Emulator(build_emulator(geometry), geometry) as emulator:
        device = seeded(Device(emulator))
        assert device.run(words, seed) is Progress.DONE, emulator.message()
        return device.dram, emulator.run_log()


@given(count=st.integers(1, 6), seed=st.integers(1, 2**32 - 1))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_memory_and_log_do_not_depend_on_the_schedule(small_geometry: Geometry, count: int, seed: int) -> None:
    dram, log = executed(small_geometry, tiles(count), 0)
    random_dram, random_log = executed(small_geometry, tiles(count), seed)
    assert np.array_equal(dram, random_dram)
    assert np.array_equal(log, random_log)
    assert dram[Segment.OUTPUT * SIZE : Segment.OUTPUT * SIZE + 256 * count].any()


def test_the_run_log_counts_what_each_instruction_did(device: Device) -> None:
    geometry = device.emulator.geometry
    assert device.run(tiles(2)) is Progress.DONE
    log = device.emulator.run_log()
    assert list(log["index"]) == list(range(12))
    assert list(log["engine"]) == [Engine.LOAD, Engine.GEMM_D, Engine.GEMM_L, Engine.VEC, Engine.VEC, Engine.STORE] * 2
    assert list(log["opcode"]) == [1] * 12
    # Four rows of 64 bytes; each row is a burst of its own.
    assert list(log["read_bytes"][:, 0]) == [256, 0, 0, 0, 0, 0] * 2
    assert list(log["read_bursts"][:, 0]) == [4, 0, 0, 0, 0, 0] * 2
    assert list(log["write_bytes"]) == [0, 0, 0, 0, 0, 256] * 2
    assert list(log["write_bursts"]) == [0, 0, 0, 0, 0, 4] * 2
    macs = [4 * 64 * geometry.gemm_d_cols, 4 * 64 * geometry.gemm_l_cols]
    assert list(log["macs"]) == [0, *macs, 0, 0, 0] * 2
    assert np.array_equal(log["cycles"][:6], log["cycles"][6:])
    # GEMM-D: a block of 16 steps, and 4 trips to drain it. GEMM-L: two blocks of 3 rows, 2 slices of 2 words of 3
    # planes each, and 3 trips to drain the second. The design has functions.
    trips = [
        {"request_ahead": 4, "load_tile_beats": 32},
        {"gemm_d_steps": 16 + 4},
        {"gemm_l_steps": 2 * 12 + 3},
        {"vec_functions": 4 * 2},
        {"vec_functions": 4 * 6},
        {"store_beats": 32, "store_responses": 4},
    ]
    for cycles, own in zip(log["cycles"], trips, strict=False):
        assert cycles == sum(loops()[name].cycles(count) for name, count in (own | {"instruction": 1}).items())


@pytest.mark.parametrize(("accumulate", "trips"), [(0, 2 * 4 + 4), (1, 2 * 8 + 8)])
def test_a_drain_that_takes_longer_than_a_block_holds_it_up(device: Device, accumulate: int, trips: int) -> None:
    """Blocks of 2 steps, whose 4 rows drain in 4 trips, or in 8 when each is read before."""
    word = codec.matmul(
        act=0, wgt=0, acc=0, accumulate=accumulate, unsigned=0, packed=0, rows=8, row_beats=1, col_groups=1
    )
    assert device.run([word]) is Progress.DONE
    expected = loops()["gemm_d_steps"].cycles(trips) + loops()["instruction"].cycles(1)
    assert list(device.emulator.run_log()["cycles"]) == [expected]


def test_bursts_end_at_multiples_of_128_bytes(device: Device) -> None:
    assert device.run([load(4096 - 64, 0, rows=2, row_blocks=4, stride_blocks=4)]) is Progress.DONE
    # Each row of 256 bytes starts 64 bytes before a boundary: 64, 128 and 64 bytes, none across 4 KiB.
    assert list(device.emulator.run_log()["read_bursts"][0]) == [6, 0]


@pytest.mark.parametrize("accumulate", [0, 1])
def test_the_run_log_counts_gathered_rows(device: Device, accumulate: int) -> None:
    degrees = np.array([2, 0, 3])
    records = np.stack([np.cumsum(degrees) - degrees, degrees, *reciprocals(degrees)], axis=1).astype("<u4")
    start = Segment.GRAPH * SIZE
    device.dram[start : start + 48] = np.frombuffer(records.tobytes(), np.uint8)
    features, ids = program_address(Segment.FEATURES, 0), program_address(Segment.GRAPH, 64)
    words = [
        codec.configure_features(first_block=0, slot_bits=0, slot=1, row_blocks=1, count=1, address=features),
        codec.configure_destinations(slot=1, parts=0, count=3, address=program_address(Segment.GRAPH, 0)),
        codec.configure_ids(slot=1, edges=5, id_bytes=2, address=ids),
        codec.reduce(
            source=0,
            merge=0,
            spill=0,
            weighted=0,
            from_fifo=0,
            slot=1,
            rows=3,
            mode=1,
            unsigned=0,
            accumulate=accumulate,
            groups=4,
            destination=0,
            sum=0,
        ),
    ]
    assert device.run(words) is Progress.DONE, device.emulator.message()
    record = device.emulator.run_log()[3]
    assert record["edges"] == 5
    # Rows of four beats; three records of 16 bytes and two beats of four ids each.
    assert list(record["read_bytes"]) == [5 * 4 * 8, 3 * 16 + 2 * 8]
    assert list(record["read_bursts"]) == [5, 2]
    # A destination without edges takes the trips of one edge. Rows are requested up to sixteen ahead.
    trips = {"instruction": 1, "agg_context": 4, "agg_descriptors": 6, "agg_rows_ahead": 5, "agg_gather": 4 * 6}
    trips |= {"agg_sums": 4 * 3} if accumulate else {}
    cycles = sum(trips[loop.name] * loop.ii + loop.depth for loop in loops().values() if loop.name in trips)
    ahead = loops()["request_ahead"]
    assert record["cycles"] == cycles + 2 * (ahead.ii + ahead.depth)
