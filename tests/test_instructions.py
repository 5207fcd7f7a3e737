# SPDX-License-Identifier: Apache-2.0
"""Every operation, one instruction each: golden model = native = host bodies = checked native = ap_int, all memories.

After each, the counters' registers equal the sums over the run log, which is the same in all executions.
"""

import itertools
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest

from hetfab.driver.counters import read_counters
from hetfab.hls.build.emulator import Emulator, Progress
from hetfab.overlay.design import Geometry
from hetfab.overlay.isa import codec
from hetfab.overlay.isa.arithmetic import reciprocals
from hetfab.overlay.isa.codec import Engine, RegisterOffset, Segment
from hetfab.overlay.isa.golden import GoldenMachine
from hetfab.overlay.isa.spec import isa
from hetfab.overlay.isa.words import program_address
from tests.log_totals import log_totals

BASE = 0x1000_0000
SIZE = 1 << 16
#: Bytes of 40 records, and of these with 40 * 59 ids of 4 bytes.
RECORDS, RELATION = 640, 0x2800
TRIALS = 6
Bytes = npt.NDArray[np.uint8]
Random = np.random.Generator


def random_bytes(random: Random, shape: tuple[int, ...]) -> Bytes:
    """Bytes of all values, with many extremes, so that sums and shifts reach their limits."""
    values = random.integers(0, 256, shape, dtype=np.uint8)
    extremes = random.choice(np.array([0, 1, 0x7F, 0x80, 0xFF], np.uint8), shape)
    return np.where(random.random(shape) < random.choice([0.0, 0.3, 0.9]), extremes, values)


class Bench:
    """The golden model and the emulators of one geometry, with equal memories and DRAM each."""

    def __init__(self, geometry: Geometry, emulators: dict[str, Emulator], random: Random) -> None:
        self.geometry = geometry
        #: A relation of each reduction: a program reads all of them after they are written.
        self.relations = itertools.count(0, RELATION)
        self.random = random
        self.golden = GoldenMachine(geometry)
        self.dram = random_bytes(random, (len(Segment) * SIZE,))
        self.golden.map_memory(BASE, self.dram)
        self.golden.segments = {s.name.lower(): (BASE + s.value * SIZE, SIZE) for s in Segment}
        for memory in self.golden.memories.values():
            memory[...] = random_bytes(random, memory.shape)
        self.emulators = emulators

    def pick(self, low: int, high: int) -> int:
        """A number from ``low`` to ``high``, both included, often one of the two."""
        return int(self.random.choice([low, high, *self.random.integers(low, high + 1, 3)]))

    def put(self, segment: Segment, offset: int, values: npt.NDArray[np.generic]) -> None:
        """Writes an array to a segment."""
        content = np.frombuffer(values.tobytes(), np.uint8)
        start = segment * SIZE + offset
        self.dram[start : start + len(content)] = content

    def compare(self, words: list[int]) -> None:
        """Runs the instructions everywhere and compares all memories and the DRAM."""
        program = b"".join(word.to_bytes(16, "little") for word in words)
        self.put(Segment.PROGRAM, 0, np.frombuffer(program, np.uint8))
        before = {name: memory.copy() for name, memory in self.golden.memories.items()}
        dram = {name: self.dram.copy() for name in self.emulators}
        self.golden.run(program)
        logs = {}
        for name, emulator in self.emulators.items():
            found = executed(emulator, before, dram[name], len(words))
            logs[name] = emulator.run_log()
            assert np.array_equal(logs[name], logs["native"]), f"{name}: run log after {words[-1]:#034x}"
            for memory, content in self.golden.memories.items():
                assert np.array_equal(found[memory], content), f"{name}: {memory} after {words[-1]:#034x}"
            assert np.array_equal(dram[name], self.dram), f"{name}: DRAM after {words[-1]:#034x}"


def executed(emulator: Emulator, memories: dict[str, Bytes], dram: Bytes, count: int) -> dict[str, Bytes]:
    """Runs a program of ``count`` instructions from the start of ``dram``; returns all memories."""
    for name, content in memories.items():
        emulator.write_ram(name, 0, content)
    emulator.map_memory(BASE, dram)
    try:
        emulator.write_register(RegisterOffset.PROGRAM_LENGTH, count)
        for segment in Segment:
            base = RegisterOffset[f"SEGMENT_BASE_{segment.name}_LOW"]
            emulator.write_register(base, BASE + segment.value * SIZE)
            emulator.write_register(RegisterOffset[f"SEGMENT_SIZE_{segment.name}_LOW"], SIZE)
        emulator.write_register(RegisterOffset.CONTROL, 1)
        assert emulator.advance(100_000) is Progress.DONE, emulator.message()
        assert len(emulator.run_log()) == count
        assert read_counters(emulator.read_register) == log_totals(emulator.run_log())
    finally:
        emulator.unmap_memory(BASE)
    return {name: emulator.read_ram(name, 0, len(content)) for name, content in memories.items()}


def row_fields(bench: Bench, row_words: int, depth: int, segment: Segment) -> dict[str, int]:
    """Fields of a strided copy of rows, ``row_words`` words a block, that fits a memory's depth and the segment."""
    row_blocks = bench.pick(0, min(40, depth // row_words))
    rows = bench.pick(0, 30 if row_blocks == 0 else min(30, depth // (row_blocks * row_words)))
    stride = bench.pick(row_blocks, row_blocks + 3)
    offset = 64 * bench.pick(0, (SIZE - 64 * (stride * max(rows, 1) + row_blocks)) // 64 - 1)
    address = program_address(segment, offset)
    return {"rows": rows, "row_blocks": row_blocks, "stride_blocks": stride, "address": address}


def word_fields(bench: Bench, memory: str) -> dict[str, int]:
    """Fields of a copy of words that fits the memory."""
    depth, word_bytes = bench.geometry.depth(memory), bench.geometry.word_bytes(memory)
    count = bench.pick(0, min(100, depth))
    offset = 64 * bench.pick(0, (SIZE - count * word_bytes) // 64 - 1)
    ram = bench.pick(0, depth - count)
    return {"ram": ram, "words": count, "address": program_address(Segment.CONSTANTS, offset)}


def load_activations(bench: Bench) -> list[int]:
    geometry, pick = bench.geometry, bench.pick
    packed = pick(0, 1)
    fields = row_fields(bench, 8, min(geometry.act_d_words, geometry.act_l_words), Segment.FEATURES)
    if fields["row_blocks"]:
        fields["rows"] = min(fields["rows"], geometry.act_l_words // (4 * fields["row_blocks"]))
    d_words = -(-fields["rows"] // geometry.gemm_d_rows) * fields["row_blocks"] * 8
    l_words = -(-fields["rows"] // geometry.gemm_l_rows) * fields["row_blocks"] * 4
    return [
        codec.load_activations(
            **fields,
            ram_d=pick(0, geometry.act_d_words - d_words),
            ram_l=pick(0, geometry.act_l_words - l_words),
            to_d=pick(0, 1),
            to_l=pick(0, 1),
            packed=packed,
        )
    ]


def load_weights(bench: Bench) -> list[int]:
    return [codec.load_weights(**word_fields(bench, "wgt_d_ram"))]


def load_planes(bench: Bench) -> list[int]:
    return [codec.load_planes(**word_fields(bench, "wgt_l_ram"))]


def load_parameters(bench: Bench) -> list[int]:
    return [codec.load_parameters(**word_fields(bench, "par_ram"))]


def store_rows(bench: Bench) -> list[int]:
    fields = row_fields(bench, 8, bench.geometry.out_words, Segment.OUTPUT)
    blocks = fields.pop("row_blocks")
    last = bench.geometry.out_words - fields["rows"] * blocks * 8
    row_beats = bench.pick(max(8 * blocks - 7, 0), 8 * blocks)
    return [codec.store_rows(ram=bench.pick(0, last), row_beats=row_beats, **fields)]


def make_narrow(bench: Bench, packed: int) -> None:
    """Replaces the smallest weights, which GEMM-D must not meet."""
    weights = bench.golden.memories["wgt_d_ram"]
    if packed:
        low, high = weights & 15, weights >> 4
        weights[...] = np.where(low == 8, 7, low) | np.where(high == 8, 7, high) << 4
    else:
        weights[weights == 0x80] = 0x81


def matmul(bench: Bench) -> list[int]:
    geometry, pick = bench.geometry, bench.pick
    packed = pick(0, 1)
    make_narrow(bench, packed)
    rows, row_beats = pick(0, 3 * geometry.gemm_d_rows), 8 * pick(1, 4)
    col_groups = pick(0, min(5, geometry.wgt_d_words // (2 * row_beats)))
    rows = min(rows, geometry.act_d_words // row_beats * geometry.gemm_d_rows)
    row_blocks = -(-rows // geometry.gemm_d_rows)
    return [
        codec.matmul(
            act=pick(0, geometry.act_d_words - row_blocks * row_beats),
            wgt=pick(0, geometry.wgt_d_words - col_groups * 2 * row_beats),
            acc=pick(0, geometry.acc_d_words - rows * col_groups),
            rows=rows,
            row_beats=row_beats,
            col_groups=col_groups,
            accumulate=pick(0, 1),
            unsigned=pick(0, 1),
            packed=packed,
        )
    ]


def matmul_planes(bench: Bench) -> list[int]:
    geometry, pick = bench.geometry, bench.pick
    bipolar = pick(0, 1)
    planes = 1 if bipolar else pick(1, 8)
    rows, slices, row_words = pick(0, 3 * geometry.gemm_l_rows), pick(1, 2), 2 * pick(1, 3)
    col_groups = pick(0, min(5, geometry.wgt_l_words // (row_words * planes)))
    rows = min(rows, geometry.act_l_words // (slices * row_words) * geometry.gemm_l_rows)
    row_blocks = -(-rows // geometry.gemm_l_rows)
    return [
        codec.matmul_planes(
            act=pick(0, geometry.act_l_words - row_blocks * slices * row_words),
            wgt=pick(0, geometry.wgt_l_words - col_groups * row_words * planes),
            acc=pick(0, geometry.acc_l_words - rows * col_groups),
            rows=rows,
            row_words=row_words,
            slices=slices,
            planes=planes,
            bipolar=bipolar,
            col_groups=col_groups,
            accumulate=pick(0, 1),
            unsigned=pick(0, 1),
        )
    ]


def vec_fields(bench: Bench, value_bytes: int, *, packed: bool = False) -> dict[str, int]:
    """Fields that all operations of VEC have."""
    geometry, pick = bench.geometry, bench.pick
    core = pick(0, 1)
    columns = geometry.gemm_l_cols if core else geometry.gemm_d_cols
    groups = pick(0, min(6, 2 * columns // geometry.lanes))
    needed = (groups + 1) // 2 if packed else groups * value_bytes
    row_words = pick(needed, needed + 9)
    row_blocks = pick(-(-row_words // 8), -(-row_words // 8) + 1)
    rows = pick(0, min(12, geometry.out_words // max(1, row_blocks * 8)))
    acc_words = rows * -(-groups * geometry.lanes // columns)
    return {
        "core": core,
        "acc": pick(0, (geometry.acc_l_words if core else geometry.acc_d_words) - acc_words),
        "out": pick(0, geometry.out_words - rows * row_blocks * 8),
        "par": pick(0, geometry.par_words - groups),
        "rows": rows,
        "groups": groups,
        "row_blocks": row_blocks,
        "row_words": row_words,
    }


def byte_fields(bench: Bench) -> dict[str, int]:
    """Fields of the operations that write bytes or nibbles."""
    packed = bench.pick(0, 1)
    out_bits = bench.pick(1, 3) if packed else bench.pick(0, 7)
    flags = {"relu": bench.pick(0, 1), "unsigned": bench.pick(0, 1), "packed": packed, "out_bits": out_bits}
    return vec_fields(bench, 1, packed=bool(packed)) | flags


def sum_fields(bench: Bench, fields: dict[str, int]) -> dict[str, int]:
    """Fields of the operations that read sum_ram."""
    most = min(8, bench.geometry.sum_words // max(1, fields["rows"]))
    fields["groups"] = min(fields["groups"], most)
    sum_groups = bench.pick(max(fields["groups"], 1), most)
    last = bench.geometry.sum_words - fields["rows"] * sum_groups
    return {
        "sum": bench.pick(0, last),
        "sum_groups": sum_groups - 1,
        "with_acc": bench.pick(0, 1),
        "shift": bench.pick(0, 63),
    }


def source_fields(bench: Bench, fields: dict[str, int]) -> dict[str, int]:
    """Whether accumulators are sums of AGG; their first word then fits sum_ram."""
    words = fields["rows"] * fields["groups"]
    if words > bench.geometry.sum_words or not bench.pick(0, 1):
        return {"from_sum": 0}
    return {"from_sum": 1, "acc": bench.pick(0, bench.geometry.sum_words - words)}


def make_ties(bench: Bench) -> None:
    """Small values and multipliers, so that products fall exactly between two results."""
    random, memories = bench.random, bench.golden.memories
    for name in ("acc_d_ram", "acc_l_ram", "sum_ram"):
        values = memories[name].view("<i4")
        values[...] = random.integers(-600, 600, values.shape)
    parameters = memories["par_ram"].view([("bias", "<i4"), ("multiplier", "<u2"), ("zero", "<u2")])
    parameters["bias"] = random.integers(-9, 9, parameters.shape)
    parameters["multiplier"] = random.choice([1, 2, 3, 6], parameters.shape)


def requantize_ties(bench: Bench) -> list[int]:
    make_ties(bench)
    fields = byte_fields(bench)
    return [codec.requantize(**(fields | source_fields(bench, fields)), shift=bench.pick(1, 6))]


def requantize_shifts(bench: Bench) -> list[int]:
    """Multipliers that are powers of two, of small values with ties or of any: products are shifted sums."""
    parameters = bench.golden.memories["par_ram"].view([("bias", "<i4"), ("multiplier", "<u2"), ("zero", "<u2")])
    if bench.pick(0, 1):
        make_ties(bench)
    largest = bench.pick(0, 15)
    parameters["multiplier"] = 1 << bench.random.integers(max(largest - 3, 0), largest + 1, parameters.shape)
    fields = byte_fields(bench)
    shift = bench.pick(max(largest - 1, 0), min(largest + 45, 63))
    return [codec.requantize(**(fields | source_fields(bench, fields)), shift=shift)]


def combine_ties(bench: Bench) -> list[int]:
    make_ties(bench)
    pick, fields = bench.pick, byte_fields(bench)
    sums = sum_fields(bench, fields) | {"shift": pick(1, 6)}
    return [codec.combine(**fields, **sums, post_shift=pick(1, 6), post_left=pick(0, 1))]


def requantize(bench: Bench) -> list[int]:
    fields = byte_fields(bench)
    shift = int(bench.random.choice([0, 1, 30, 40, 46, 63]))
    return [codec.requantize(**(fields | source_fields(bench, fields)), shift=shift)]


def combine(bench: Bench) -> list[int]:
    pick, fields = bench.pick, byte_fields(bench)
    return [
        codec.combine(
            **fields,
            **sum_fields(bench, fields),
            post_shift=int(bench.random.choice([0, 1, 24, 30, 63])),
            post_left=pick(0, 15),
        )
    ]


def export_sums(bench: Bench) -> list[int]:
    fields = vec_fields(bench, 4)
    return [codec.export_sums(**fields, **sum_fields(bench, fields))]


def export_accumulators(bench: Bench) -> list[int]:
    fields = vec_fields(bench, 4)
    return [codec.export_accumulators(**(fields | source_fields(bench, fields)))]


def configure_features(bench: Bench) -> list[int]:
    address = program_address(Segment.FEATURES, 64 * bench.pick(0, 100))
    slot = bench.pick(0, bench.geometry.agg_contexts - 1)
    return [codec.configure_features(slot=slot, row_blocks=3, count=1000, address=address)]


def configure_destinations(bench: Bench) -> list[int]:
    address = program_address(Segment.GRAPH, 64 * bench.pick(0, 100))
    slot = bench.pick(0, bench.geometry.agg_contexts - 1)
    return [codec.configure_destinations(slot=slot, count=1000, address=address)]


def configure_ids(bench: Bench) -> list[int]:
    address = program_address(Segment.GRAPH, 64 * bench.pick(0, 100))
    slot = bench.pick(0, bench.geometry.agg_contexts - 1)
    return [codec.configure_ids(slot=slot, edges=99, id_bytes=bench.pick(1, 2) * 2, address=address)]


def reduce(bench: Bench) -> list[int]:
    """A whole relation: degrees from 0 on, ids of both widths, rows at any distance."""
    geometry, pick, random = bench.geometry, bench.pick, bench.random
    groups = pick(1, geometry.agg_groups)
    row_blocks, skipped = pick(1, 3), 8 * pick(0, 7)
    sources, destinations = pick(1, 200), pick(1, 40)
    degrees = random.integers(0, int(random.choice([1, 2, 5, 60])), destinations)
    first = np.cumsum(degrees) - degrees
    records = np.stack([first, degrees, *reciprocals(degrees)], axis=1).astype("<u4")
    id_bytes = int(random.choice([2, 4]))
    ids = random.integers(0, sources, int(degrees.sum())).astype(f"<u{id_bytes}")
    place = next(bench.relations)
    assert place + RELATION <= SIZE, "more relations than the segment holds"
    bench.put(Segment.GRAPH, place, records)
    bench.put(Segment.GRAPH, place + RECORDS, ids)
    start = pick(0, destinations - 1)
    rows = pick(0, min(destinations - start, geometry.sum_words // groups))
    slot = pick(0, geometry.agg_contexts - 1)
    features = program_address(Segment.FEATURES, 64 * pick(0, 5) + skipped)
    return [
        codec.configure_features(slot=slot, row_blocks=row_blocks, count=sources, address=features),
        codec.configure_destinations(slot=slot, count=destinations, address=program_address(Segment.GRAPH, place)),
        codec.configure_ids(
            slot=slot, edges=len(ids), id_bytes=id_bytes, address=program_address(Segment.GRAPH, place + RECORDS)
        ),
        codec.reduce(
            slot=slot,
            rows=rows,
            mode=pick(0, 2),
            unsigned=pick(0, 1),
            accumulate=pick(0, 1),
            groups=groups,
            destination=start,
            sum=pick(0, geometry.sum_words - rows * groups),
        ),
    ]


def sync(bench: Bench) -> list[int]:
    """On every engine of the design, a signal with each of its own waits."""
    engines = [engine for engine in Engine if engine.name.lower() in bench.geometry.engines]
    words = [codec.sync(engine=engine, signal0=1 + engine, signal1=20) for engine in engines]
    return words + [codec.sync(engine=engine, wait0=1 + engine, wait1=20) for engine in engines]


MAKERS: list[Callable[[Bench], list[int]]] = [
    sync,
    load_activations,
    load_weights,
    load_planes,
    load_parameters,
    store_rows,
    matmul,
    matmul_planes,
    requantize,
    combine,
    export_sums,
    export_accumulators,
    configure_features,
    configure_destinations,
    configure_ids,
    reduce,
    requantize_ties,
    requantize_shifts,
    combine_ties,
]


def test_every_operation_has_a_maker() -> None:
    """Those of SGB are in ``test_sgb.py``, on a design that has it."""
    names = [operation.name for operation in isa().operations if operation.engine != "sgb"]
    assert [maker.__name__ for maker in MAKERS[: len(names)]] == names


@pytest.mark.parametrize("seed", range(TRIALS))
@pytest.mark.parametrize("maker", MAKERS, ids=lambda maker: maker.__name__)
def test_default_design(
    maker: Callable[[Bench], list[int]],
    seed: int,
    default_geometry: Geometry,
    default_emulators: dict[str, Emulator],
) -> None:
    bench = Bench(default_geometry, default_emulators, np.random.default_rng(seed))
    bench.compare(maker(bench))


@pytest.mark.parametrize("seed", range(4 * TRIALS))
@pytest.mark.parametrize("maker", MAKERS, ids=lambda maker: maker.__name__)
def test_small_design(
    maker: Callable[[Bench], list[int]],
    seed: int,
    small_geometry: Geometry,
    small_emulators: dict[str, Emulator],
) -> None:
    bench = Bench(small_geometry, small_emulators, np.random.default_rng(1000 + seed))
    bench.compare(maker(bench))
