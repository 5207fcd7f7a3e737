# SPDX-License-Identifier: Apache-2.0
"""Every operation, one instruction each: golden model = native = host bodies = checked native = ap_int, all memories.

After each, the counters' registers equal the sums over the run log, which is the same in all executions.
"""

import itertools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from hetfab.driver.counters import read_counters
from hetfab.hls.build.emulator import Emulator, Progress
from hetfab.overlay.design import Geometry
from hetfab.overlay.isa import codec
from hetfab.overlay.isa.codec import Engine, ReduceSource, RegisterOffset, Segment
from hetfab.overlay.isa.golden import GoldenMachine
from hetfab.overlay.isa.spec import isa
from hetfab.overlay.isa.words import program_address
from hetfab.overlay.layouts import destination_records, slot_beats
from hetfab.overlay.schedules import Schedule, farthest_next_use, pinned, schedule_arrays
from tests.log_totals import log_totals

BASE = 0x1000_0000
SIZE = 1 << 16
#: Bytes of 40 runs, and of these with 40 * 29 entries of 6 bytes.
RECORDS, RELATION = 960, 0x2000
TRIALS = 6
POST_LEFT = isa().size("post_left")
PIXELS = ("configure_pixels", "configure_pool", "join", "pool_max", "pool_average", "load_depthwise", "store_middle")
ATTENTION = ("configure_sources", "configure_targets", "configure_types", "attend")
FUNCTIONS = ("load_function", "requantize_function", "combine_function", "normalize", "requantize_joined_function")
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


def context_fields(bench: Bench) -> dict[str, int]:
    """Fields that both contexts of LOAD have."""
    pick = bench.pick
    fields = {"slot": pick(0, 15), "core": pick(0, 1), "kernel_lines": pick(1, 5), "line_stride": pick(1, 3)}
    return fields | {"stride_blocks": pick(0, 6)}


def configure_lines(bench: Bench) -> list[int]:
    pick = bench.pick
    return [codec.configure_lines(**context_fields(bench), packed=pick(0, 1), line_beats=pick(0, 4095))]


def configure_windows(bench: Bench) -> list[int]:
    pick = bench.pick
    return [codec.configure_windows(**context_fields(bench), run_beats=pick(0, 31), step_bytes=pick(0, 127))]


def bank_fields(bench: Bench, core: int) -> dict[str, int]:
    """A run of banks of an activation RAM."""
    rows = bench.geometry.gemm_l_rows if core else bench.geometry.gemm_d_rows
    first = bench.pick(0, rows - 1)
    return {"first_bank": first, "banks": bench.pick(1, rows - first)}


def bank_place(bench: Bench, core: int, bank_beats: int) -> int:
    """Where so many beats of a bank begin."""
    depth = bench.geometry.act_l_words * 2 if core else bench.geometry.act_d_words
    return bench.pick(0, (depth - bank_beats) // (1 + core))


def load_lines(bench: Bench) -> list[int]:
    """Zeros on any side of the lines that are read, as few as none."""
    pick, context, packed = bench.pick, context_fields(bench), bench.pick(0, 1)
    banks = bank_fields(bench, context["core"])
    total = (banks["banks"] - 1) * context["line_stride"] + context["kernel_lines"]
    multiple = (4 - 2 * packed) if context["core"] else 1
    line_beats = multiple * pick(0, 12 // multiple)
    top, left = pick(0, min(total, 4)), pick(0, line_beats)
    words = codec.configure_lines(**context, packed=packed, line_beats=line_beats)
    return [
        words,
        codec.load_lines(
            **banks,
            slot=context["slot"],
            ram=bank_place(bench, context["core"], context["kernel_lines"] * line_beats),
            top=top,
            lines=pick(0, total - top),
            left=left,
            beats=pick(0, line_beats - left),
            address=program_address(Segment.FEATURES, 8 * pick(0, 40)),
        ),
    ]


def load_windows(bench: Bench) -> list[int]:
    """Windows at any byte; a design that cannot cut them has none to try."""
    pick, context = bench.pick, context_fields(bench)
    most = bench.geometry.gather_beats
    if most == 0:
        return [codec.sync(engine=Engine.LOAD)]
    banks = bank_fields(bench, context["core"])
    run_beats = 4 if context["core"] else pick(1, 4)
    offset, columns = pick(0, 7) if 8 * most > 8 * run_beats + 6 else 0, pick(0, 5)
    step = min(pick(0, 20), (8 * most - offset - 8 * run_beats) // max(columns, 1))
    beats = pick(-(-(offset + columns * step + 8 * run_beats) // 8), most)
    return [
        codec.configure_windows(**context, run_beats=run_beats, step_bytes=step),
        codec.load_windows(
            **banks,
            slot=context["slot"],
            ram=bank_place(bench, context["core"], context["kernel_lines"] * (columns + 1) * run_beats),
            lines=(banks["banks"] - 1) * context["line_stride"] + context["kernel_lines"],
            offset=offset,
            beats=beats,
            columns=columns,
            address=program_address(Segment.FEATURES, 8 * pick(0, 40)),
        ),
    ]


def load_residual(bench: Bench) -> list[int]:
    pick, depth = bench.pick, bench.geometry.res_words
    if depth == 0:
        return [codec.sync(engine=Engine.LOAD)]
    columns, run_beats = pick(0, 4), pick(0, 20)
    rows = min(pick(0, 9), depth // ((columns + 1) * max(run_beats, 1)))
    return [
        codec.load_residual(
            ram=pick(0, depth - rows * (columns + 1) * run_beats),
            rows=rows,
            columns=columns,
            run_stride=pick(0, 30),
            run_beats=run_beats,
            stride_blocks=pick(0, 12),
            address=program_address(Segment.FEATURES, 8 * pick(0, 40)),
        )
    ]


def store_rows(bench: Bench) -> list[int]:
    fields = row_fields(bench, 8, bench.geometry.out_words, Segment.OUTPUT)
    blocks = fields.pop("row_blocks")
    last = bench.geometry.out_words - fields["rows"] * blocks * 8
    row_beats = bench.pick(max(8 * blocks - 7, 0), 8 * blocks)
    return [codec.store_rows(ram=bench.pick(0, last), row_beats=row_beats, **fields)]


def store_runs(bench: Bench) -> list[int]:
    """Pixels apart, so that no two are stored in one place, or joined."""
    pick, depth = bench.pick, bench.geometry.out_words
    banks, row_beats, joined = pick(0, 6), pick(0, 9), pick(0, 1)
    ram_banks = pick(banks, banks + 2)
    columns = min(pick(1, 9), depth // max(1, ram_banks * row_beats))
    distance = columns * row_beats if joined else pick(row_beats, row_beats + 9)
    length = distance if joined else columns * distance
    return [
        codec.store_runs(
            ram=pick(0, depth - columns * ram_banks * row_beats),
            banks=banks,
            columns=columns - 1,
            ram_banks=ram_banks,
            row_beats=row_beats,
            joined=joined,
            pixel_stride=distance,
            stride_blocks=pick(-(-length // 8), -(-length // 8) + 2),
            address=program_address(Segment.OUTPUT, 8 * pick(0, 40)),
        )
    ]


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


def strip_fields(bench: Bench, depth: int, array_rows: int, slices: int) -> dict[str, int]:
    """What the operations on strips share: words of an activation RAM of so many words."""
    pick = bench.pick
    banks, columns, lines, run = pick(1, array_rows), pick(0, 6), pick(1, 4), pick(1, 4)
    step, line_words = pick(0, 6), pick(0, min(20, (depth - slices * run - 6 * 6) // 4))
    last = (lines - 1) * line_words + columns * step + slices * run
    fields = {"act": pick(0, depth - last), "banks": banks, "columns": columns, "lines": lines, "run": run}
    return fields | {"step_words": step, "line_words": line_words}


def matmul_lines(bench: Bench) -> list[int]:
    geometry, pick = bench.geometry, bench.pick
    packed = pick(0, 1)
    make_narrow(bench, packed)
    strips = strip_fields(bench, geometry.act_d_words, geometry.gemm_d_rows, 1)
    beats, rows = strips["lines"] * strips["run"], strips["banks"] * (strips["columns"] + 1)
    col_groups = pick(0, min(5, geometry.wgt_d_words // (2 * beats), geometry.acc_d_words // rows))
    return [
        codec.matmul_lines(
            **strips,
            wgt=pick(0, geometry.wgt_d_words - col_groups * 2 * beats),
            acc=pick(0, geometry.acc_d_words - rows * col_groups),
            col_groups=col_groups,
            accumulate=pick(0, 1),
            unsigned=pick(0, 1),
            packed=packed,
        )
    ]


def matmul_planes_lines(bench: Bench) -> list[int]:
    geometry, pick = bench.geometry, bench.pick
    bipolar, slices = pick(0, 1), pick(1, 2)
    planes = 1 if bipolar else pick(1, 8)
    strips = strip_fields(bench, geometry.act_l_words, geometry.gemm_l_rows, slices)
    words, rows = strips["lines"] * strips["run"], strips["banks"] * (strips["columns"] + 1)
    col_groups = pick(0, min(5, geometry.wgt_l_words // (words * planes), geometry.acc_l_words // rows))
    return [
        codec.matmul_planes_lines(
            **strips,
            wgt=pick(0, geometry.wgt_l_words - col_groups * words * planes),
            acc=pick(0, geometry.acc_l_words - rows * col_groups),
            slices=slices,
            planes=planes,
            bipolar=bipolar,
            col_groups=col_groups,
            accumulate=pick(0, 1),
            unsigned=pick(0, 1),
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
    row_blocks = pick(0, 1) * pick(-(-row_words // 8), -(-row_words // 8) + 1)
    distance = 8 * row_blocks or row_words
    rows = pick(0, min(12, geometry.out_words // max(1, distance)))
    acc_words = rows * -(-groups * geometry.lanes // columns)
    return {
        "core": core,
        "acc": pick(0, (geometry.acc_l_words if core else geometry.acc_d_words) - acc_words),
        "out": pick(0, geometry.out_words - rows * distance),
        "par": pick(0, geometry.par_words - groups),
        "rows": rows,
        "groups": groups,
        "row_blocks": row_blocks,
        "row_words": row_words,
    }


def byte_fields(bench: Bench) -> dict[str, int]:
    """Fields of the operations that write bytes or nibbles."""
    packed = bench.pick(0, 1)
    flags = {"signed": bench.pick(0, 1), "packed": packed, "highest": bench.pick(0, 15 if packed else 255)}
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
    return [codec.requantize(**(fields | source_fields(bench, fields)), to_exp=0, shift=bench.pick(1, 6))]


def requantize_shifts(bench: Bench) -> list[int]:
    powers = make_powers(bench)
    fields = byte_fields(bench)
    return [codec.requantize(**(fields | source_fields(bench, fields)), to_exp=0, **powers)]


def make_powers(bench: Bench) -> dict[str, int]:
    """Multipliers that are powers of two, of small values with ties or of any: products are shifted sums.

    Returns:
        A shift that suits them.
    """
    parameters = bench.golden.memories["par_ram"].view([("bias", "<i4"), ("multiplier", "<u2"), ("zero", "<u2")])
    if bench.pick(0, 1):
        make_ties(bench)
    largest = bench.pick(0, 15)
    parameters["multiplier"] = 1 << bench.random.integers(max(largest - 3, 0), largest + 1, parameters.shape)
    return {"shift": bench.pick(max(largest - 1, 0), min(largest + 45, 63))}


def combine_ties(bench: Bench) -> list[int]:
    make_ties(bench)
    pick, fields = bench.pick, byte_fields(bench)
    sums = sum_fields(bench, fields) | {"shift": pick(1, 6)}
    return [codec.combine(**fields, **sums, post_shift=POST_LEFT + pick(0, 6))]


def requantize(bench: Bench) -> list[int]:
    fields = byte_fields(bench)
    shift = int(bench.random.choice([0, 1, 30, 40, 46, 63]))
    return [codec.requantize(**(fields | source_fields(bench, fields)), to_exp=0, shift=shift)]


def combine(bench: Bench) -> list[int]:
    fields = byte_fields(bench)
    return [
        codec.combine(
            **fields,
            **sum_fields(bench, fields),
            post_shift=int(bench.random.choice([0, 1, POST_LEFT, 39, 45, 63])),
        )
    ]


def joined_fields(bench: Bench, fields: dict[str, int]) -> dict[str, int]:
    """Fields of operations that add sums to accumulators before the product."""
    sums = sum_fields(bench, fields)
    return fields | {name: sums[name] for name in ("sum", "sum_groups")}


def requantize_joined(bench: Bench) -> list[int]:
    fields = joined_fields(bench, byte_fields(bench))
    return [codec.requantize_joined(**fields, shift=int(bench.random.choice([0, 1, 30, 40, 46, 63])))]


def requantize_joined_ties(bench: Bench) -> list[int]:
    make_ties(bench)
    return [codec.requantize_joined(**joined_fields(bench, byte_fields(bench)), shift=bench.pick(1, 6))]


def requantize_joined_shifts(bench: Bench) -> list[int]:
    powers = make_powers(bench)
    return [codec.requantize_joined(**joined_fields(bench, byte_fields(bench)), **powers)]


def export_sums(bench: Bench) -> list[int]:
    fields = vec_fields(bench, 4)
    return [codec.export_sums(**fields, **sum_fields(bench, fields))]


def export_accumulators(bench: Bench) -> list[int]:
    fields = vec_fields(bench, 4)
    return [codec.export_accumulators(**(fields | source_fields(bench, fields)))]


def configure_features(bench: Bench) -> list[int]:
    address = program_address(Segment.FEATURES, 64 * bench.pick(0, 100))
    slot = bench.pick(0, bench.geometry.agg_contexts - 1)
    return [codec.configure_features(first_block=0, slot_bits=0, slot=slot, row_blocks=3, count=1000, address=address)]


def configure_destinations(bench: Bench) -> list[int]:
    address = program_address(Segment.GRAPH, 64 * bench.pick(0, 100))
    slot = bench.pick(0, bench.geometry.agg_contexts - 1)
    return [codec.configure_destinations(slot=slot, parts=0, count=1000, address=address)]


def configure_ids(bench: Bench) -> list[int]:
    address = program_address(Segment.GRAPH, 64 * bench.pick(0, 100))
    slot = bench.pick(0, bench.geometry.agg_contexts - 1)
    return [codec.configure_ids(slot=slot, edges=99, id_bytes=bench.pick(1, 2) * 2, address=address)]


def configure_spilled(bench: Bench) -> list[int]:
    address = program_address(Segment.SPILL, 64 * bench.pick(0, 100))
    slot = bench.pick(0, bench.geometry.agg_contexts - 1)
    return [codec.configure_spilled(slot=slot, row_blocks=2, count=1000, address=address)]


def reduce(bench: Bench) -> list[int]:
    """A whole relation: degrees from 0 on, ids of both widths, rows at any distance, any source of rows."""
    pick, random = bench.pick, bench.random
    sources, destinations = pick(1, 200), pick(1, 40)
    degrees = random.integers(0, int(random.choice([1, 2, 5, 30])), destinations)
    indptr = np.concatenate([[0], np.cumsum(degrees)])
    ids = random.integers(0, sources, int(degrees.sum()))
    return reduction(bench, indptr, ids, sources, pick(0, 2) if bench.geometry.feature_words else 0)


def reduction(bench: Bench, indptr: npt.NDArray[Any], ids: npt.NDArray[Any], sources: int, source: int) -> list[int]:
    """A ``reduce`` of some destinations with its context.

    Args:
        bench: Where the arrays go.
        indptr: [destinations + 1], edges ordered by destination.
        ids: Source of each edge, not yet in the vertices' count when it is small.
        sources: Number of source vertices.
        source: Where rows come from.
    """
    geometry, pick, random = bench.geometry, bench.pick, bench.random
    groups = pick(1, geometry.agg_groups)
    row_blocks, skipped = pick(1, 3), 8 * pick(0, 7)
    destinations = len(indptr) - 1
    weighted = pick(0, 1) if geometry.agg_weights and source != ReduceSource.SCHEDULE else 0
    id_bytes = 4 if weighted else int(random.choice([2, 4]))
    blocks = geometry.feature_words // 8
    first_block = pick(0, max(blocks - 1, 0))
    slot_bits = pick(0, min(max(blocks - first_block, 1).bit_length() - 1, 5))
    slots = (geometry.feature_words - 8 * first_block) // slot_beats(groups, geometry.agg_word_beats)
    if source == ReduceSource.SCHEDULE:
        made = scheduled(bench, indptr, ids, slots)
        records, entries = schedule_arrays(made, destination_records(indptr), 1 << 17 if id_bytes == 4 else 1 << 16)
        start, rows = 0, destinations
        if rows * groups > geometry.sum_words // 2:
            return []
    else:
        records = destination_records(indptr)
        weights = random.integers(0, 256, len(ids)) * weighted
        entries = (ids + (weights << 24)).astype(f"<u{id_bytes}").view(np.uint8)
        start = pick(0, destinations - 1)
        rows = pick(0, min(destinations - start, geometry.sum_words // groups))
    merge = pick(0, 1) if 2 * rows * groups <= geometry.sum_words else 0
    place = next(bench.relations)
    assert place + RELATION <= SIZE, "more relations than the segment holds"
    bench.put(Segment.GRAPH, place, records)
    bench.put(Segment.GRAPH, place + RECORDS, entries)
    slot = pick(0, geometry.agg_contexts - 1)
    features = program_address(Segment.FEATURES, 64 * pick(0, 5) + skipped)
    graph, spill = program_address(Segment.GRAPH, place), program_address(Segment.SPILL, 64 * pick(0, 9))
    count = len(entries) // (2 if source == ReduceSource.SCHEDULE else id_bytes)
    return [
        codec.configure_features(
            slot=slot, row_blocks=row_blocks, first_block=first_block, slot_bits=slot_bits, count=sources,
            address=features,
        ),
        codec.configure_destinations(slot=slot, parts=0, count=destinations, address=graph),
        codec.configure_ids(slot=slot, edges=count, id_bytes=id_bytes, address=graph + RECORDS),
        codec.configure_spilled(slot=slot, row_blocks=-(-groups // 2) + pick(0, 1), count=destinations, address=spill),
        codec.reduce(
            slot=slot,
            rows=rows,
            mode=pick(0, 2),
            unsigned=pick(0, 1),
            accumulate=pick(0, 1),
            groups=groups,
            source=source,
            merge=merge,
            spill=pick(0, 1),
            weighted=weighted,
            from_fifo=0,
            destination=start,
            sum=pick(0, geometry.sum_words - rows * groups),
        ),
    ]  # fmt: skip


def scheduled(bench: Bench, indptr: npt.NDArray[Any], ids: npt.NDArray[Any], slots: int) -> Schedule:
    """A schedule with its destinations in any order."""
    order = bench.random.permutation(len(indptr) - 1)
    edges = [np.arange(indptr[row], indptr[row + 1]) for row in order]
    turned = np.concatenate([[0], np.cumsum(np.diff(indptr)[order])])
    make = pinned if bench.pick(0, 1) else farthest_next_use
    made = make(turned, ids[np.concatenate(edges)], slots)
    return replace(made, rows=order)


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
    configure_lines,
    configure_windows,
    load_lines,
    load_windows,
    load_residual,
    store_rows,
    store_runs,
    matmul,
    matmul_lines,
    matmul_planes,
    matmul_planes_lines,
    requantize,
    combine,
    export_sums,
    export_accumulators,
    requantize_joined,
    configure_features,
    configure_destinations,
    configure_ids,
    configure_spilled,
    reduce,
    requantize_ties,
    requantize_shifts,
    combine_ties,
    requantize_joined_ties,
    requantize_joined_shifts,
]


def test_every_operation_has_a_maker() -> None:
    """Those of SGB, DW, RST, attention, VEC's pixels and functions are in other files, on a design that has them."""
    names = [operation.name for operation in isa().operations if operation.engine not in ("sgb", "dw", "rst")]
    names = [name for name in names if name not in (*PIXELS, *ATTENTION, *FUNCTIONS)]
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
