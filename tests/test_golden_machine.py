# SPDX-License-Identifier: Apache-2.0
"""The golden model against the definitions in plain Python loops, its order of execution and its errors."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction

import numpy as np
import numpy.typing as npt
import pytest

from hetfab.overlay.design import Geometry, default_design
from hetfab.overlay.errors import StreamInvalidError
from hetfab.overlay.isa import codec
from hetfab.overlay.isa.arithmetic import reciprocals
from hetfab.overlay.isa.codec import Engine, Segment
from hetfab.overlay.isa.golden import GoldenMachine
from hetfab.overlay.isa.words import pack, program_address

DEFAULT = default_design().geometry
SMALL = replace(
    DEFAULT, gemm_rows=8, gemm_cols=32, act_words=64, wgt_words=256, par_words=8, acc_words=16, sum_words=64,
    out_words=128, agg_contexts=2, agg_groups=4,
)  # fmt: skip
GEOMETRIES = pytest.mark.parametrize("geometry", [DEFAULT, SMALL], ids=["default", "small"])
BASE = 0x1000_0000
SIZE = 1 << 16


def wrapped(value: int) -> int:
    return (value + 2**31) % 2**32 - 2**31


def limited(value: int, low: int, high: int) -> int:
    return min(max(value, low), high)


def instruction(word: int) -> bytes:
    return word.to_bytes(16, "little")


def machine_of(geometry: Geometry) -> tuple[GoldenMachine, npt.NDArray[np.uint8]]:
    """A machine whose segments all lie in one buffer; segment i starts at i * SIZE."""
    machine = GoldenMachine(geometry)
    dram = np.zeros(8 * SIZE, np.uint8)
    machine.map_memory(BASE, dram)
    machine.segments = {s.name.lower(): (BASE + s.value * SIZE, SIZE) for s in Segment}
    return machine, dram


def put(machine: GoldenMachine, memory: str, first: int, values: npt.NDArray[np.generic]) -> None:
    """Writes an array to consecutive words."""
    flat = machine.memories[memory].reshape(-1)
    start = first * machine.memories[memory].shape[1]
    content = np.frombuffer(values.tobytes(), np.uint8)
    flat[start : start + len(content)] = content


def words(machine: GoldenMachine, memory: str, first: int, count: int, dtype: str) -> list[int]:
    view = machine.memories[memory][first : first + count].view(dtype).reshape(-1)
    return [int(value) for value in view]


@GEOMETRIES
@pytest.mark.parametrize("operation", ["load_activations", "load_weights", "load_parameters"])
def test_loads_gather_strided_rows(geometry: Geometry, operation: str) -> None:
    machine, dram = machine_of(geometry)
    memory = {"load_activations": "act_ram", "load_weights": "wgt_ram", "load_parameters": "par_ram"}[operation]
    dram[:] = np.random.default_rng(0).integers(0, 256, len(dram))
    address = program_address(Segment.FEATURES, 128)
    machine.execute(
        instruction(getattr(codec, operation)(ram=2, rows=3, row_blocks=2, stride_blocks=5, address=address))
    )
    start = Segment.FEATURES * SIZE + 128
    expected = b"".join(dram[start + r * 320 : start + r * 320 + 128].tobytes() for r in range(3))
    flat = machine.memories[memory].reshape(-1)
    first = 2 * geometry.word_bytes(memory)
    assert flat[first : first + 384].tobytes() == expected
    assert not flat[:first].any()
    assert not flat[first + 384 :].any()


@GEOMETRIES
def test_stores_scatter_rows_and_leave_the_gaps(geometry: Geometry) -> None:
    machine, dram = machine_of(geometry)
    content = np.random.default_rng(1).integers(1, 256, (2, 64)).astype(np.uint8)
    put(machine, "out_ram", 4, content)
    dram[:] = 0
    address = program_address(Segment.OUTPUT, 64)
    machine.execute(instruction(codec.store_rows(ram=4, rows=2, row_blocks=1, stride_blocks=3, address=address)))
    start = Segment.OUTPUT * SIZE + 64
    assert dram[start : start + 64].tobytes() == content[0].tobytes()
    assert dram[start + 192 : start + 256].tobytes() == content[1].tobytes()
    assert np.count_nonzero(dram) == 128


@GEOMETRIES
@pytest.mark.parametrize("unsigned", [0, 1])
@pytest.mark.parametrize("accumulate", [0, 1])
def test_matmul_is_its_definition(geometry: Geometry, unsigned: int, accumulate: int) -> None:
    machine, _ = machine_of(geometry)
    rows, k_words, groups, columns = 3, 2, 2, geometry.gemm_cols
    depth = k_words * geometry.gemm_rows
    random = np.random.default_rng(2)
    act = random.integers(0, 256, (rows, depth)).astype(np.uint8)
    wgt = random.integers(-127, 128, (groups, depth, columns)).astype(np.int8)
    acc = random.integers(-(2**31), 2**31, (rows, groups * columns)).astype("<i4")
    acc[0, :4] = [2**31 - 1, -(2**31), 2**31 - 1, -(2**31)]
    put(machine, "act_ram", 5, act)
    put(machine, "wgt_ram", 7, wgt)
    put(machine, "acc_ram", 1, acc)
    machine.execute(
        instruction(
            codec.matmul(
                act=5, wgt=7, accumulate=accumulate, unsigned=unsigned, acc=1, rows=rows, k_words=k_words,
                col_groups=groups,
            )
        )
    )  # fmt: skip
    expected = []
    for r in range(rows):
        for c in range(groups * columns):
            total = int(acc[r, c]) if accumulate else 0
            for k in range(depth):
                value = int(act[r, k]) if unsigned else int(act[r, k].astype(np.int8))
                total += value * int(wgt[c // columns, k, c % columns])
            expected.append(wrapped(total))
    assert words(machine, "acc_ram", 1, rows * groups, "<i4") == expected


@dataclass
class VecTile:
    """Operands of the vector operations, in plain integers, and the machine that holds them."""

    machine: GoldenMachine
    rows: int
    groups: int
    acc_groups: int
    acc: npt.NDArray[np.int32]
    sums: npt.NDArray[np.int32]
    bias: npt.NDArray[np.int32]
    multiplier: npt.NDArray[np.uint16]
    place: dict[str, int] = field(default_factory=lambda: {"acc": 2, "out": 8, "par": 1, "row_blocks": 2})

    @property
    def channels(self) -> int:
        return self.groups * self.machine.geometry.lanes

    def fields(self) -> dict[str, int]:
        return self.place | {"rows": self.rows, "groups": self.groups, "acc_groups": self.acc_groups}

    def q8(self, row: int, channel: int, shift: int) -> int:
        biased = wrapped(int(self.acc[row, channel]) + int(self.bias[channel]))
        term = round(Fraction(biased * int(self.multiplier[channel]), 2**shift))
        return wrapped(int(self.sums[row, channel]) + limited(term, -(2**23), 2**23 - 1))

    def expect(self, values: Sequence[Sequence[int]], bytes_per_value: int) -> None:
        """Compares out_ram: the values, zero up to the row's end, and nothing else touched."""
        row_bytes = 64 * self.place["row_blocks"]
        signed = any(value < 0 for row in values for value in row)
        content = b""
        for row in values:
            data = b"".join(value.to_bytes(bytes_per_value, "little", signed=signed) for value in row)
            content += data.ljust(row_bytes, b"\0")
        flat = self.machine.memories["out_ram"].reshape(-1)
        start = self.place["out"] * self.machine.geometry.word_bytes("out_ram")
        assert flat[start : start + len(content)].tobytes() == content
        assert set(flat[:start].tolist()) == {0xA5}
        assert set(flat[start + len(content) :].tolist()) == {0xA5}


def vec_tile(geometry: Geometry, seed: int) -> VecTile:
    machine, _ = machine_of(geometry)
    random = np.random.default_rng(seed)
    rows, groups, acc_groups = 3, 3, 2
    channels = groups * geometry.lanes
    tile = VecTile(
        machine,
        rows,
        groups,
        acc_groups,
        random.integers(-(2**20), 2**20, (rows, acc_groups * geometry.gemm_cols)).astype(np.int32),
        random.integers(-(2**15), 2**15, (rows, channels)).astype(np.int32),
        random.integers(-(2**16), 2**16, channels).astype(np.int32),
        random.integers(0, 2**16, channels).astype(np.uint16),
    )
    tile.acc[0, :3] = [2**31 - 1, -(2**31), 2**30]
    tile.sums[0, :3] = [2**31 - 1, -(2**31), 0]
    parameters = np.zeros(channels, [("bias", "<i4"), ("multiplier", "<u2"), ("zero", "<u2")])
    parameters["bias"], parameters["multiplier"] = tile.bias, tile.multiplier
    put(machine, "acc_ram", 2, tile.acc)
    put(machine, "sum_ram", 9, tile.sums)
    put(machine, "par_ram", 1, parameters)
    machine.memories["out_ram"][...] = 0xA5
    return tile


def limits(bits: int, relu: int, unsigned: int) -> tuple[int, int]:
    """Smallest and largest result of a width."""
    if unsigned:
        return 0, 2**bits - 1
    return (0 if relu else -(2 ** (bits - 1))), 2 ** (bits - 1) - 1


@GEOMETRIES
@pytest.mark.parametrize("relu", [0, 1])
@pytest.mark.parametrize("unsigned", [0, 1])
@pytest.mark.parametrize("shift", [0, 1, 28])
@pytest.mark.parametrize("bits", [1, 2, 4, 7, 8])
def test_requantize_is_its_definition(geometry: Geometry, relu: int, unsigned: int, shift: int, bits: int) -> None:
    tile = vec_tile(geometry, 3)
    word = codec.requantize(relu=relu, unsigned=unsigned, out_bits=bits - 1, shift=shift, **tile.fields())
    tile.machine.execute(instruction(word))
    low, high = limits(bits, relu, unsigned)
    tile.expect(
        [
            [
                limited(
                    round(
                        Fraction(
                            wrapped(int(tile.acc[r, c]) + int(tile.bias[c])) * int(tile.multiplier[c]),
                            2**shift,
                        )
                    ),
                    low,
                    high,
                )
                for c in range(tile.channels)
            ]
            for r in range(tile.rows)
        ],
        1,
    )


@GEOMETRIES
@pytest.mark.parametrize("with_acc", [0, 1])
@pytest.mark.parametrize(("relu", "unsigned"), [(0, 0), (1, 0), (1, 1)])
@pytest.mark.parametrize(("post_left", "post_shift"), [(0, 8), (3, 11), (15, 0)])
@pytest.mark.parametrize("bits", [1, 3, 8])
def test_combine_is_its_definition(
    geometry: Geometry, with_acc: int, relu: int, unsigned: int, post_left: int, post_shift: int, bits: int
) -> None:
    tile = vec_tile(geometry, 4)
    word = codec.combine(
        sum=9, relu=relu, unsigned=unsigned, out_bits=bits - 1, with_acc=with_acc, shift=22,
        post_shift=post_shift, post_left=post_left, **tile.fields(),
    )  # fmt: skip
    tile.machine.execute(instruction(word))
    low, high = limits(bits, relu, unsigned)
    expected = []
    for r in range(tile.rows):
        q8 = [tile.q8(r, c, 22) if with_acc else int(tile.sums[r, c]) for c in range(tile.channels)]
        expected.append([limited(round(Fraction(v * 2**post_left, 2**post_shift)), low, high) for v in q8])
    tile.expect(expected, 1)


@GEOMETRIES
@pytest.mark.parametrize("with_acc", [0, 1])
def test_export_sums_is_its_definition(geometry: Geometry, with_acc: int) -> None:
    tile = vec_tile(geometry, 5)
    word = codec.export_sums(sum=9, with_acc=with_acc, shift=3, **tile.fields())
    tile.machine.execute(instruction(word))
    rows, channels = range(tile.rows), range(tile.channels)
    tile.expect([[tile.q8(r, c, 3) if with_acc else int(tile.sums[r, c]) for c in channels] for r in rows], 4)


@GEOMETRIES
def test_export_accumulators_is_its_definition(geometry: Geometry) -> None:
    tile = vec_tile(geometry, 6)
    tile.machine.execute(instruction(codec.export_accumulators(**tile.fields())))
    rows, channels = range(tile.rows), range(tile.channels)
    tile.expect([[wrapped(int(tile.acc[r, c]) + int(tile.bias[c])) for c in channels] for r in rows], 4)


DEGREES = [3, 0, 1, 0, 0, 7, 2]
SOURCES = 40


@dataclass
class Relation:
    """A relation in the machine's DRAM, with a gap of unused ids before the edges."""

    machine: GoldenMachine
    dram: npt.NDArray[np.uint8]
    features: npt.NDArray[np.uint8]
    ids: list[int]
    first: list[int]


def relation(geometry: Geometry, id_bytes: int, slot: int = 1) -> Relation:
    machine, dram = machine_of(geometry)
    random = np.random.default_rng(7)
    features = random.integers(0, 256, (SOURCES, 128)).astype(np.uint8)
    dram[Segment.ACTIVATIONS * SIZE : Segment.ACTIVATIONS * SIZE + features.size] = features.reshape(-1)
    ids = [SOURCES - 1, *(int(i) for i in random.integers(0, SOURCES, sum(DEGREES)))]
    ids[2] = ids[1]
    first = [1 + sum(DEGREES[:i]) for i in range(len(DEGREES))]
    reciprocal, exponent = reciprocals(np.array(DEGREES))
    records = np.stack([np.array(first), np.array(DEGREES), reciprocal, exponent], axis=1).astype("<u4")
    graph = Segment.GRAPH * SIZE
    dram[graph : graph + records.nbytes] = records.view(np.uint8).reshape(-1)
    content = np.array(ids, f"<u{id_bytes}").view(np.uint8)
    dram[graph + 1024 : graph + 1024 + len(content)] = content
    configures = [
        codec.configure_features(
            slot=slot, row_blocks=2, count=SOURCES, address=program_address(Segment.ACTIVATIONS, 8)
        ),
        codec.configure_destinations(slot=slot, count=len(DEGREES), address=program_address(Segment.GRAPH, 0)),
        codec.configure_ids(slot=slot, edges=len(ids), id_bytes=id_bytes, address=program_address(Segment.GRAPH, 1024)),
    ]
    machine.run(pack(configures).tobytes())
    return Relation(machine, dram, features, ids, first)


@GEOMETRIES
@pytest.mark.parametrize("id_bytes", [2, 4])
@pytest.mark.parametrize("mode", [0, 1])
@pytest.mark.parametrize(("unsigned", "accumulate"), [(0, 0), (1, 0), (0, 1)])
def test_reduce_is_its_definition(geometry: Geometry, id_bytes: int, mode: int, unsigned: int, accumulate: int) -> None:
    case = relation(geometry, id_bytes)
    channels, destination, rows = 3 * geometry.lanes, 1, len(DEGREES) - 1
    old = np.random.default_rng(8).integers(-(2**31), 2**31, (rows, channels)).astype("<i4")
    old[2:5, :2] = [2**31 - 1, -(2**31)]
    put(case.machine, "sum_ram", 4, old)
    word = codec.reduce(
        slot=1, rows=rows, mode=mode, unsigned=unsigned, accumulate=accumulate, groups=3,
        destination=destination, sum=4,
    )  # fmt: skip
    case.machine.execute(instruction(word))
    expected = []
    for r in range(rows):
        degree, first = DEGREES[destination + r], case.first[destination + r]
        for c in range(channels):
            values = [case.features[case.ids[e], 8 + c] for e in range(first, first + degree)]
            total = sum(int(v) if unsigned else int(v.astype(np.int8)) for v in values)
            q8 = 256 * total if mode == 0 else mean_by_fractions(total, degree)
            expected.append(wrapped(q8 + (int(old[r, c]) if accumulate else 0)))
    assert words(case.machine, "sum_ram", 4, rows * 3, "<i4") == expected


def mean_by_fractions(total: int, degree: int) -> int:
    """The mean as the arithmetic contract states it, on Python integers."""
    if degree == 0:
        return 0
    k = (degree - 1).bit_length()
    reciprocal = round(Fraction(1 << (16 + k), degree))
    return (total * reciprocal + (1 << (k + 7))) >> (k + 8)


def test_reduce_of_destinations_without_edges_is_zero() -> None:
    case = relation(SMALL, 2)
    put(case.machine, "sum_ram", 0, np.full(16, 77, "<i4"))
    word = codec.reduce(slot=1, rows=2, mode=1, unsigned=0, accumulate=0, groups=1, destination=3, sum=0)
    case.machine.execute(instruction(word))
    assert words(case.machine, "sum_ram", 0, 2, "<i4") == [0] * 16


def test_configure_keeps_the_issued_instruction() -> None:
    machine, _ = machine_of(SMALL)
    address = program_address(Segment.GRAPH, 640)
    machine.execute(instruction(codec.configure_ids(slot=1, edges=9, id_bytes=4, address=address, signal0=3)))
    physical = BASE + Segment.GRAPH * SIZE + 640
    issued = codec.configure_ids(slot=1, edges=9, id_bytes=4, address=physical, signal0=3)
    assert machine.memories["agg_context"][6].tobytes() == instruction(issued)
    assert not machine.memories["agg_context"][[0, 1, 2, 3, 4, 5, 7]].any()


def sync(engine: Engine, **semaphores: int) -> int:
    return codec.sync(engine=engine, **semaphores)


def test_a_program_runs_in_its_order() -> None:
    machine, dram = machine_of(SMALL)
    source, target = program_address(Segment.FEATURES, 0), program_address(Segment.FEATURES, 64)
    dram[Segment.FEATURES * SIZE : Segment.FEATURES * SIZE + 64] = 1
    put(machine, "out_ram", 0, np.full(64, 2, np.uint8))
    load = {"rows": 1, "row_blocks": 1, "stride_blocks": 1}
    program = [
        codec.load_weights(ram=0, address=target, signal0=1, **load),
        codec.store_rows(ram=0, address=target, wait0=1, signal0=2, signal1=3, **load),
        codec.load_activations(ram=0, address=source, **load),
        codec.load_activations(ram=8, address=target, wait0=2, wait1=3, **load),
    ]
    machine.run(pack(program).tobytes())
    assert set(words(machine, "wgt_ram", 0, 2, "<u1")) == {0}
    assert set(words(machine, "act_ram", 0, 8, "<u1")) == {1}
    assert set(words(machine, "act_ram", 8, 8, "<u1")) == {2}


def test_signals_are_counted() -> None:
    machine, _ = machine_of(SMALL)
    program = [
        sync(Engine.LOAD, signal0=5, signal1=5),
        sync(Engine.VEC, wait0=5),
        sync(Engine.VEC, wait0=5),
        sync(Engine.VEC, wait0=5),
    ]
    machine.run(pack(program[:3]).tobytes())
    with pytest.raises(StreamInvalidError) as error:
        machine.run(pack(program).tobytes())
    assert str(error.value) == (
        "instruction 3 (sync) waits for semaphore 5 without an earlier signal of its own\n"
        "  expected: an earlier signal for every wait, the n-th for the n-th\n"
        "  do: signal the semaphore before the wait in program order"
    )


@pytest.mark.parametrize(
    "program",
    [
        [sync(Engine.AGG, wait1=31), sync(Engine.VEC, signal0=31)],
        [sync(Engine.AGG, wait1=31, signal0=31)],
        [sync(Engine.AGG, wait0=31, wait1=31)],
    ],
    ids=["later", "own", "twice"],
)
def test_a_wait_needs_a_signal_before_it(program: list[int]) -> None:
    machine, _ = machine_of(SMALL)
    with pytest.raises(StreamInvalidError, match=r"instruction 0 \(sync\) waits for semaphore 31 "):
        machine.run(pack(program).tobytes())


def test_a_program_is_whole_instructions() -> None:
    with pytest.raises(StreamInvalidError, match="the program has 17 bytes"):
        machine_of(SMALL)[0].run(bytes(17))


def failure(word: int, geometry: Geometry = SMALL) -> StreamInvalidError:
    with pytest.raises(StreamInvalidError) as error:
        machine_of(geometry)[0].run(pack([sync(Engine.LOAD), word]).tobytes())
    return error.value


def test_an_unknown_engine_is_refused() -> None:
    error = failure(9)
    assert str(error) == (
        "instruction 1 uses engine 9\n"
        "  expected: an engine of the design: load, store, gemm_d, vec, agg\n"
        "  do: correct the program, or report this if hetfab compiled it"
    )


def test_an_engine_that_the_design_lacks_is_refused() -> None:
    error = failure(sync(Engine.AGG), replace(SMALL, engines=("load", "store", "gemm_d", "vec")))
    assert error.found == "instruction 1 uses engine agg"
    assert error.expected == "an engine of the design: load, store, gemm_d, vec"


def test_an_unknown_opcode_is_refused() -> None:
    error = failure(Engine.STORE | 7 << 4)
    assert error.found == "instruction 1 uses opcode 7 of engine store"
    assert error.expected == "one of: 0 sync, 1 store_rows"


def load_error(ram: int, rows: int, stride_blocks: int, address: int) -> StreamInvalidError:
    return failure(
        codec.load_activations(ram=ram, rows=rows, row_blocks=1, stride_blocks=stride_blocks, address=address)
    )


def test_words_beyond_a_memory_are_refused() -> None:
    error = load_error(ram=57, rows=1, stride_blocks=1, address=0)
    assert error.found == "instruction 1 (load_activations) uses words 57 to 64 of act_ram"
    assert error.expected == "words below 64"


def test_an_offset_beyond_its_segment_is_refused() -> None:
    error = load_error(ram=0, rows=1, stride_blocks=1, address=program_address(Segment.GRAPH, SIZE))
    assert error.found == "instruction 1 (load_activations) uses offset 65536 in segment 'graph'"
    assert error.expected == "an offset below its size, 65536 bytes"


def test_a_segment_number_beyond_the_eighth_is_refused() -> None:
    error = load_error(ram=0, rows=1, stride_blocks=1, address=8 << 32)
    assert error.found == "instruction 1 (load_activations) uses segment 8"


def test_unmapped_memory_is_refused() -> None:
    error = load_error(ram=0, rows=2, stride_blocks=4095, address=program_address(Segment.LOG, 0))
    first, last = BASE + 7 * SIZE, BASE + 7 * SIZE + 4095 * 64 + 63
    assert error.found == f"instruction 1 (load_activations) uses bytes {first:#x} to {last:#x} of DRAM"
    assert error.expected == "bytes of one mapped buffer"


def test_an_address_beyond_40_bits_is_refused() -> None:
    machine, _ = machine_of(SMALL)
    machine.segments["program"] = (2**40 - 64, 256)
    word = codec.load_activations(ram=0, rows=1, row_blocks=1, stride_blocks=1, address=64)
    with pytest.raises(StreamInvalidError, match="physical address 0x10000000000"):
        machine.execute(instruction(word))


def test_an_address_between_beats_is_refused() -> None:
    error = load_error(ram=0, rows=1, stride_blocks=1, address=4)
    assert error.found == f"instruction 1 (load_activations) uses physical address {BASE + 4:#x}"
    assert error.expected == "a multiple of 8, a port's width"


def test_values_wider_than_their_row_are_refused() -> None:
    tile = {"acc": 0, "acc_groups": 1, "out": 0, "par": 0, "rows": 1, "row_blocks": 1}
    error = failure(codec.export_accumulators(groups=3, **tile))
    assert error.found == "instruction 1 (export_accumulators) uses 96 bytes in an output row of 64"
    error = failure(codec.export_accumulators(groups=5, **tile))
    assert error.found == "instruction 1 (export_accumulators) uses 40 channels of a tile of 32"


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"mode": 2}, "mode 2"),
        ({"groups": 5}, "5 groups"),
        ({"destination": 1, "rows": 7}, "destinations up to 7"),
        ({"sum": 63, "rows": 2}, "words 63 to 64 of sum_ram"),
        ({"slot": 2}, "words 8 to 10 of agg_context"),
    ],
)
def test_reduce_refuses_what_its_context_does_not_have(change: dict[str, int], found: str) -> None:
    case = relation(SMALL, 2)
    fields = {"slot": 1, "rows": 1, "mode": 0, "unsigned": 0, "accumulate": 0, "groups": 1}
    word = codec.reduce(**{**fields, "destination": 0, "sum": 0, **change})
    with pytest.raises(StreamInvalidError) as error:
        case.machine.execute(instruction(word), 12)
    assert error.value.found == f"instruction 12 (reduce) uses {found}"


@pytest.mark.parametrize(
    ("operation", "change", "found"),
    [
        ("configure_ids", {"edges": 3, "id_bytes": 2}, "edges up to 3"),
        ("configure_ids", {"edges": 20, "id_bytes": 3}, "ids of 3 bytes"),
    ],
)
def test_reduce_refuses_edges_outside_the_arrays(operation: str, change: dict[str, int], found: str) -> None:
    case = relation(SMALL, 2)
    address = program_address(Segment.GRAPH, 1024)
    case.machine.execute(instruction(getattr(codec, operation)(slot=1, address=address, **change)))
    word = codec.reduce(slot=1, rows=1, mode=0, unsigned=0, accumulate=0, groups=1, destination=0, sum=0)
    with pytest.raises(StreamInvalidError, match=rf"instruction 0 \(reduce\) uses {found}"):
        case.machine.execute(instruction(word))


def test_reduce_refuses_the_first_source_beyond_the_count() -> None:
    case = relation(SMALL, 2)
    largest = max(case.ids[1 : 1 + DEGREES[0]])
    address = program_address(Segment.ACTIVATIONS, 8)
    word = codec.reduce(slot=1, rows=1, mode=0, unsigned=0, accumulate=0, groups=1, destination=0, sum=0)
    configure = codec.configure_features(slot=1, row_blocks=2, count=largest + 1, address=address)
    case.machine.run(pack([configure, word]).tobytes())
    configure = codec.configure_features(slot=1, row_blocks=2, count=largest, address=address)
    with pytest.raises(StreamInvalidError) as error:
        case.machine.run(pack([configure, word]).tobytes())
    assert error.value.found == f"instruction 1 (reduce) uses source vertex {largest}"
    assert error.value.expected == f"source vertices below {largest}"


@pytest.mark.parametrize(
    ("column", "value", "found", "expected"),
    [
        (0, 5, "destination 2", "one whose edges follow those of destination 1"),
        (2, 1 << 17, "reciprocal 131072", "17 bits"),
        (3, 32, "exponent 32", "5 bits"),
    ],
)
def test_reduce_refuses_records_that_no_layout_allows(column: int, value: int, found: str, expected: str) -> None:
    case = relation(SMALL, 2)
    start = Segment.GRAPH * SIZE
    records = case.dram[start : start + 16 * len(DEGREES)].view("<u4").reshape(-1, 4)
    records[2, column] = value
    word = codec.reduce(slot=1, rows=2, mode=1, unsigned=0, accumulate=0, groups=1, destination=1, sum=0)
    with pytest.raises(StreamInvalidError) as error:
        case.machine.execute(instruction(word))
    assert error.value.found == f"instruction 0 (reduce) uses {found}"
    assert error.value.expected == expected
