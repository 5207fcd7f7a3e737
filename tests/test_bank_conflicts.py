# SPDX-License-Identifier: Apache-2.0
"""No pipelined loop accesses an on-chip memory more often than its interval and the memory's port allow.

The checked emulator records the accesses of each trip; here one instruction of each mode of each engine runs in it.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hetfab.hls.build import emulator as emulator_module
from hetfab.hls.build.emulator import Emulator, build_emulator
from hetfab.overlay.design import Geometry
from hetfab.overlay.isa import codec
from hetfab.overlay.isa.arithmetic import reciprocals
from hetfab.overlay.isa.codec import AttendKind, AttendSource, Engine, ReduceMode, ReduceSource, Segment
from hetfab.overlay.isa.loops import Loop, loops
from hetfab.overlay.isa.spec import isa
from hetfab.overlay.isa.words import program_address
from hetfab.overlay.schedules import farthest_next_use, schedule_arrays
from tests.programs import SHARES, bound_to, compiled, quantized, run_emulated
from tests.random_models import random_case
from tests.test_instructions import SIZE, executed

KERNELS = Path(emulator_module.__file__).parents[1] / "kernels"
DEGREES = np.array([3, 0, 1, 20])
#: Of a schedule in the graph segment, behind the ids, and of graphs behind it.
RUNS, UNITS = 6144, 6400
LEFT, RIGHT, WIDE, PAIR, DENSE, BITMAPS, NEAR = 8192, 8704, 9216, 9728, 10240, 10816, 11328
ROWS, COLUMNS, MATCHING, WALK = 11584, 11840, 12096, 12160
Found = dict[str, dict[str, int]]
#: Ports that an engine has to a bank of an on-chip memory: reads and writes share it (``storage_type=ram_1p``).
PORTS = 1


def copies(geometry: Geometry) -> Iterator[tuple[str, list[int]]]:
    """LOAD and STORE; rows of three blocks, so that bursts begin and end within a row, and more rows than banks."""
    fields = {"row_blocks": 3, "stride_blocks": 4}
    source = program_address(Segment.FEATURES, 64)
    rows = max(geometry.gemm_d_rows, geometry.gemm_l_rows) + 1
    for packed in (0, 1):
        for copies_to in ("d", "l", "dl"):
            to = {"ram_d": 0, "ram_l": 0, "to_d": int("d" in copies_to), "to_l": int("l" in copies_to)}
            word = codec.load_activations(**fields, **to, rows=rows, packed=packed, address=source)
            yield f"load_activations to={copies_to} packed={packed}", [word]
    for name in ("load_weights", "load_planes", "load_parameters"):
        yield name, [getattr(codec, name)(ram=0, words=5, address=source)]
    target = program_address(Segment.OUTPUT, 64)
    for core, kernel in ((0, 1), (0, 2), (1, 3)):
        strips = {"slot": 2, "core": core, "kernel_lines": kernel, "line_stride": 1, "stride_blocks": 3}
        banks = {"slot": 2, "ram": 0, "first_bank": 1, "banks": 2, "address": source}
        for packed in (0, 1):
            words = [
                codec.configure_lines(**strips, packed=packed, line_beats=8),
                codec.load_lines(**banks, top=1, lines=kernel, left=3, beats=4),
            ]
            yield f"load_lines core={core} kernel={kernel} packed={packed}", words
        words = [
            codec.configure_windows(**strips, run_beats=4, step_bytes=3),
            codec.load_windows(**banks, lines=1 + kernel, offset=3, beats=7, columns=2),
        ]
        yield f"load_windows core={core} kernel={kernel}", words
    runs = {"ram": 0, "rows": 2, "columns": 2, "run_stride": 4, "run_beats": 3, "stride_blocks": 2}
    yield "load_residual", [codec.load_residual(**runs, address=source)]
    for joined, distance in ((0, 3), (1, 6)):
        pixels = {"ram": 0, "banks": 2, "columns": 2, "ram_banks": 3, "row_beats": 2, "stride_blocks": 2}
        word = codec.store_runs(**pixels, joined=joined, pixel_stride=distance, address=target)
        yield f"store_runs joined={joined}", [word]
    for beats in (24, 21):
        yield f"store_rows {beats}", [codec.store_rows(ram=0, rows=5, row_beats=beats, stride_blocks=4, address=target)]


def products(geometry: Geometry) -> Iterator[tuple[str, list[int]]]:
    """Both cores: a whole and a partial block of rows, two column groups, blocks that drain while others run.

    Blocks take longer than the drain of the one before, or less long.
    """
    for accumulate in (0, 1):
        for unsigned in (0, 1):
            common = {"act": 0, "wgt": 0, "acc": 0, "accumulate": accumulate, "unsigned": unsigned, "col_groups": 2}
            name = f"accumulate={accumulate} unsigned={unsigned}"
            strips = {"lines": 2, "columns": 2, "line_words": 5, "step_words": 2}
            for banks in (1, 3):
                for packed in (0, 1):
                    word = codec.matmul_lines(**common, **strips, banks=banks, run=2, packed=packed)
                    yield f"matmul_lines {name} packed={packed} banks={banks}", [word]
                for slices, planes, bipolar in ((1, 1, 1), (2, 3, 0)):
                    shape = {"banks": banks, "run": 1, "slices": slices, "planes": planes, "bipolar": bipolar}
                    kind = f"slices={slices} planes={planes} bipolar={bipolar} banks={banks}"
                    yield f"matmul_planes_lines {name} {kind}", [codec.matmul_planes_lines(**common, **strips, **shape)]
            for beats in (1, 3, 2 * geometry.gemm_d_rows):
                for packed in (0, 1):
                    shape = {"rows": geometry.gemm_d_rows + 3, "row_beats": beats, "packed": packed}
                    yield f"matmul {name} packed={packed} beats={beats}", [codec.matmul(**common, **shape)]
            for words in (1, 2):
                for slices, planes, bipolar in ((1, 1, 1), (1, 1, 0), (2, 1, 0), (1, 8, 0), (2, 8, 0)):
                    shape = {"rows": geometry.gemm_l_rows + 3, "row_words": words, "slices": slices}
                    word = codec.matmul_planes(**common, **shape, planes=planes, bipolar=bipolar)
                    kind = f"slices={slices} planes={planes} bipolar={bipolar} words={words}"
                    yield f"matmul_planes {name} {kind}", [word]


def vectors() -> Iterator[tuple[str, list[int]]]:
    """VEC from both cores: words beyond the channels, so that some output words are padding."""
    for core in (0, 1):
        fields = {"core": core, "acc": 0, "out": 0, "par": 0, "rows": 4, "groups": 3}
        for signed, packed in ((1, 0), (0, 0), (0, 1)):
            bits = {"signed": signed, "packed": packed, "highest": 15 if packed else 127, "row_words": 8}
            for from_sum in (0, 1):
                word = codec.requantize(**fields, **bits, from_sum=from_sum, row_blocks=1, shift=3, to_exp=0)
                yield f"requantize core={core} signed={signed} packed={packed} from_sum={from_sum}", [word]
            for with_acc in (0, 1):
                sums = {"sum": 0, "sum_groups": 3, "with_acc": with_acc, "shift": 3, "post_shift": 17}
                name = f"combine core={core} signed={signed} packed={packed} with_acc={with_acc}"
                yield name, [codec.combine(**fields, **bits, **sums, row_blocks=1)]
            word = codec.requantize_joined(**fields, **bits, sum=0, sum_groups=3, row_blocks=1, shift=3)
            yield f"requantize_joined core={core} signed={signed} packed={packed}", [word]
        wide = {"row_blocks": 2, "row_words": 13}
        for from_sum in (0, 1):
            word = codec.export_accumulators(**fields, **wide, from_sum=from_sum)
            yield f"export_accumulators core={core} from_sum={from_sum}", [word]
        for with_acc in (0, 1):
            sums = {"sum": 0, "sum_groups": 3, "with_acc": with_acc, "shift": 3}
            yield f"export_sums core={core} with_acc={with_acc}", [codec.export_sums(**fields, **sums, **wide)]


def functions() -> Iterator[tuple[str, list[int]]]:
    """VEC's tables, results of 16 bits, and normalization."""
    source = program_address(Segment.FEATURES, 64)
    for core in (0, 1):
        fields = {"core": core, "acc": 0, "out": 0, "par": 0, "rows": 4, "groups": 3, "row_blocks": 1, "row_words": 8}
        for mapped in (0, 1):
            ends = {"mapped": mapped, "width": 7, "table": 0, "signed": 1, "shift": 3}
            name = f"core={core} mapped={mapped}"
            yield f"requantize_function {name}", [codec.requantize_function(**fields, **ends, from_sum=0)]
            sums = {"sum": 0, "sum_groups": 3, "with_acc": 1, "post_shift": 17}
            yield f"combine_function {name}", [codec.combine_function(**fields, **ends, **sums)]
            word = codec.requantize_joined_function(**fields, **ends, sum=0, sum_groups=3)
            yield f"requantize_joined_function {name}", [word]
        ends = {"signed": 1, "highest": 127, "shift": 3, "post_shift": 17}
        yield f"normalize core={core}", [codec.normalize(**fields, **ends, from_sum=core)]
    yield "load_function", [codec.load_function(ram=0, words=5, address=source)]


def pixels() -> Iterator[tuple[str, list[int]]]:
    """VEC on stored pixels and DW: bytes and nibbles, to out_ram and to exp_ram."""
    source, target = program_address(Segment.FEATURES, 64), program_address(Segment.OUTPUT, 64)
    for packed in (0, 1):
        places = {"res_line_words": 20, "res_pixel_words": 3, "exp_line_words": 8, "exp_pixel_words": 4}
        window = {"lines": 2, "columns": 3, "line_words": 9, "column_words": 3, "reciprocal": 1 << 16, "exponent": 0}
        context = [
            codec.configure_pixels(**places, banks=1, packed=packed, signed=packed),
            codec.configure_pool(**window),
        ]
        results = {"signed": 1, "packed": packed, "highest": 7}
        for to_exp in (0, 1):
            name = f"packed={packed} to_exp={to_exp}"
            rows = {"out": 0, "rows": 4, "row_blocks": 0, "row_words": 3, "to_exp": to_exp}
            sums = {"acc": 0, "par": 0, "core": packed, "shift": 3}
            ends = {"groups": 3, "res": 0, "post_shift": 20}
            yield f"join {name}", [*context, codec.join(**rows, **results, **ends, **sums, wide=0)]
            yield f"pool_max {name}", [*context, codec.pool_max(**rows, res=0)]
            yield f"pool_average {name}", [*context, codec.pool_average(**rows, **results, **ends, wide=0)]
        shape = {"top": 1, "bottom": 0, "left": 1, "right": 0, "stride": 0, "lines": 2, "columns": 3, "line_words": 8}
        shape |= {"exp": 0, "mid": 0, "par": 0, "groups": 2, "unsigned": 0, "shift": 2}
        word = codec.depthwise(**shape, packed=packed, out_packed=packed, signed=1, highest=7)
        yield f"depthwise packed={packed}", [word]
    yield "load_depthwise", [codec.load_depthwise(ram=0, words=5, address=source)]
    for joined, distance in ((0, 3), (1, 6)):
        pixels = {"ram": 0, "lines": 2, "columns": 2, "row_beats": 2, "stride_blocks": 2}
        word = codec.store_middle(**pixels, joined=joined, pixel_stride=distance, address=target)
        yield f"store_middle joined={joined}", [word]


def aggregations() -> Iterator[tuple[str, list[int]]]:
    """AGG: vertices without, with one and with many edges."""
    for mode in (0, 1, 2):
        for accumulate in (0, 1):
            for id_bytes in (2, 4):
                for groups in (1, 5):
                    name = f"reduce mode={mode} accumulate={accumulate} id_bytes={id_bytes} groups={groups}"
                    graph = program_address(Segment.GRAPH, 0)
                    fields = {"mode": mode, "accumulate": accumulate, "groups": groups, "source": 0}
                    yield name, reduction(graph, graph + 1024 * id_bytes, id_bytes, **fields, merge=0, spill=0)
    for source in ReduceSource:
        records, entries = (RUNS, UNITS) if source is ReduceSource.SCHEDULE else (0, 2048)
        for merge, spill in ((0, 0), (1, 0), (0, 1), (1, 1)):
            for groups in (1, 5):
                name = f"reduce source={source.name} merge={merge} spill={spill} groups={groups}"
                graph = program_address(Segment.GRAPH, 0)
                fields = {"mode": 1, "accumulate": merge, "groups": groups, "source": source}
                yield name, reduction(graph + records, graph + entries, 2, **fields, merge=merge, spill=spill)


def reduction(records: int, entries: int, id_bytes: int, from_fifo: int = 0, **fields: int) -> list[int]:
    count = 1024 // id_bytes
    spilled = program_address(Segment.SPILL, 0)
    return [
        codec.configure_features(
            slot=1, row_blocks=1, first_block=2, slot_bits=2, count=9, address=program_address(Segment.FEATURES, 0)
        ),
        codec.configure_destinations(slot=1, parts=0, count=len(DEGREES), address=records),
        codec.configure_ids(slot=1, edges=count, id_bytes=id_bytes, address=entries),
        codec.configure_spilled(slot=1, row_blocks=3, count=len(DEGREES), address=spilled),
        codec.reduce(
            slot=1, rows=len(DEGREES), unsigned=0, weighted=0, from_fifo=from_fifo, destination=0, sum=0, **fields
        ),
    ]


def attentions() -> Iterator[tuple[str, list[int]]]:
    """AGG's attention: of all kinds in two passes, from either source, and in parts that are spilled and merged."""
    graph = program_address(Segment.GRAPH, 0)
    passes = {"maxima": 1, "weigh": 1, "merge": 0, "spill": 0}
    for kind in AttendKind:
        for source in AttendSource:
            for groups, accumulate in ((1, 0), (2, 1)):
                name = f"attend kind={kind.name} source={source.name} groups={groups} accumulate={accumulate}"
                fields = {"kind": kind, "source": source, "head_groups": groups, "accumulate": accumulate}
                yield name, attention(graph, **fields, **passes)
    fields = {"kind": 0, "source": 0, "head_groups": 1, "accumulate": 0}
    for maxima, merge, spill in ((1, 0, 1), (1, 1, 1), (0, 0, 1), (0, 1, 0)):
        passes = {"maxima": maxima, "weigh": 1 - maxima, "merge": merge, "spill": spill}
        yield f"attend maxima={maxima} merge={merge} spill={spill}", attention(graph, **fields, **passes)


def attention(graph: int, **fields: int) -> list[int]:
    count, heads = int(DEGREES.sum()), 3
    context = reduction(graph, graph + 4096, 4, mode=0, accumulate=0, groups=1, source=0, merge=0, spill=0)[:-1]
    scores = [program_address(Segment.FEATURES, 1024 * (1 + number)) for number in range(3)]
    return [
        *context[:2],
        codec.configure_ids(slot=1, edges=count, id_bytes=4, address=graph + 4096),
        codec.configure_spilled(
            slot=1, row_blocks=8, count=len(DEGREES), address=program_address(Segment.SPILL, 0)
        ),
        codec.configure_sources(scores=0, row_beats=3, head_beats=1, count=9, address=scores[0]),
        codec.configure_targets(scores=0, row_beats=3, count=len(DEGREES), address=scores[1]),
        codec.configure_types(scores=0, count=1, address=scores[2]),
        codec.attend(
            slot=1, scores=0, rows=len(DEGREES), unsigned=0, destination=0, sum=0, heads=heads, shift=4, factor=819,
            **fields,
        ),
    ]  # fmt: skip


def compositions() -> Iterator[tuple[str, list[int]]]:
    """SGB: rows without, with one and with several edges, in both orders; and a transpose."""
    left = {"edges": 6, "rows": 4, "address": program_address(Segment.GRAPH, LEFT)}
    right = {"edges": 6, "rows": 3, "address": program_address(Segment.GRAPH, RIGHT)}
    out = program_address(Segment.OUTPUT, 64)
    for threshold in (0, 8):
        context = [codec.configure_left(**left), codec.configure_right(**right)]
        bitmap = {"columns": 100, "address": program_address(Segment.GRAPH, BITMAPS)}
        context.append(codec.configure_bitmap(wide=0, threshold=threshold, **bitmap))
        yield f"compose threshold={threshold}", [*context, codec.compose(to_fifo=0, edges=400, rows=4, address=out)]
    wide = codec.configure_left(edges=100, rows=1, address=program_address(Segment.GRAPH, WIDE))
    pair = codec.configure_left(edges=2, rows=1, address=program_address(Segment.GRAPH, PAIR))
    dense = codec.configure_right(edges=120, rows=2, address=program_address(Segment.GRAPH, DENSE))
    bitmaps = codec.configure_bitmap(wide=1, threshold=0, **bitmap)
    near = codec.configure_right(edges=3, rows=3, address=program_address(Segment.GRAPH, NEAR))
    for groups in (1, 5):
        rows = {"mode": ReduceMode.MEAN, "accumulate": 0, "groups": groups, "source": ReduceSource.DRAM}
        aggregation = reduction(0, 0, 2, **rows, merge=0, spill=0, from_fifo=1)
        send = codec.compose(to_fifo=1, edges=0, rows=4, address=out)
        yield f"compose to AGG groups={groups}", [context[0], near, context[2], send, *aggregation]
    yield "widen", [pair, dense, bitmaps, codec.widen(), codec.compose(to_fifo=0, edges=100, rows=1, address=out)]
    yield "transpose", [wide, *context[1:], codec.transpose(edges=100, rows=100, address=out)]


def restructurings() -> Iterator[tuple[str, list[int]]]:
    """RST: a search that succeeds and one that fails, two parts that a walk does not connect, tiles of two rows."""
    out = program_address(Segment.OUTPUT, 64)
    matching, walked = program_address(Segment.GRAPH, MATCHING), program_address(Segment.GRAPH, WALK)
    context = [
        codec.configure_graph(edges=5, rows=4, address=program_address(Segment.GRAPH, ROWS)),
        codec.configure_turned(edges=5, rows=3, address=program_address(Segment.GRAPH, COLUMNS)),
        codec.configure_matching(of_turned=0, address=matching),
        codec.configure_walk(address=walked),
    ]
    found = [codec.match(columns=3, address=matching), codec.walk(address=walked)]
    for by_column in (0, 1):
        yield f"recouple by_column={by_column}", [*context, *found, codec.recouple(by_column=by_column, address=out)]
    for grown in (0, 1):
        rule = {"grown": grown, "most_edges_first": 0, "stride": 1, "tile_rows": 2}
        yield f"grow_tiles grown={grown}", [*context, codec.grow_tiles(**rule, address=out)]


def graphs() -> dict[int, tuple[list[int], list[int]]]:
    """Starts and ids of the graphs that SGB and RST read, by offset in the graph segment."""
    return {
        LEFT: ([0, 0, 1, 3, 6], [0, 1, 2, 0, 1, 2]),
        RIGHT: ([0, 2, 4, 6], [99, 1, 1, 2, 70, 3]),
        WIDE: ([0, 100], [*range(100)]),
        PAIR: ([0, 2], [0, 1]),
        NEAR: ([0, 1, 2, 3], [8, 1, 2]),
        ROWS: ([0, 2, 3, 4, 5], [0, 2, 0, 0, 1]),
        COLUMNS: ([0, 3, 4, 5], [0, 1, 2, 3, 0]),
        DENSE: ([0, 60, 120], [*range(60), *range(40, 100)]),
    }


def modes(geometry: Geometry) -> dict[str, list[int]]:
    """Programs by name: one instruction of each mode, with what it needs before it."""
    syncs = [("sync", [codec.sync(engine=engine) for engine in Engine])]
    return dict(
        [
            *syncs,
            *copies(geometry),
            *products(geometry),
            *vectors(),
            *functions(),
            *pixels(),
            *aggregations(),
            *attentions(),
            *compositions(),
            *restructurings(),
        ]
    )


def device_memory(words: list[int]) -> np.ndarray[tuple[int], np.dtype[np.uint8]]:
    """DRAM with the program, and a relation with ids of 2 and of 4 bytes."""
    dram = np.zeros(len(Segment) * SIZE, np.uint8)
    records = np.stack([np.cumsum(DEGREES) - DEGREES, DEGREES, *reciprocals(DEGREES)], axis=1).astype("<u4")
    ids = np.arange(DEGREES.sum()) % 9
    indptr = np.concatenate([[0], np.cumsum(DEGREES)])
    runs, units = schedule_arrays(farthest_next_use(indptr, ids, 4), records.view(np.uint8).reshape(-1), 9)
    arrays = ((0, records), (2048, ids.astype("<u2")), (4096, ids.astype("<u4")), (RUNS, runs), (UNITS, units))
    for offset, values in arrays:
        content = np.frombuffer(values.tobytes(), np.uint8)
        dram[Segment.GRAPH * SIZE + offset :][: len(content)] = content
    for offset, (starts, ids_of_graph) in graphs().items():
        content = np.array(starts + [0] * (16 - len(starts)) + ids_of_graph, "<u4").view(np.uint8)
        dram[Segment.GRAPH * SIZE + offset :][: len(content)] = content
    program = np.frombuffer(b"".join(word.to_bytes(16, "little") for word in words), np.uint8)
    dram[: len(program)] = program
    return dram


def bank_conflicts(found: Mapping[str, Mapping[str, int]], table: Mapping[str, Loop]) -> list[str]:
    """What contradicts a table: accesses that it does not state, and intervals too short for one port.

    Args:
        found: By loop and memory, the largest number of accesses seen in one trip.
        table: Loops by name.

    Returns:
        One sentence for each contradiction.
    """
    problems = []
    for name, memories in found.items():
        loop = table[name]
        for memory, accesses in memories.items():
            stated = loop.accesses.get(memory, 0)
            if accesses > stated:
                problems.append(
                    f"loop '{name}' accesses {memory} {accesses} times in a trip, the table states {stated}"
                )
            if accesses > loop.ii * PORTS:
                room = f"its interval of {loop.ii} and {PORTS} port allow {loop.ii * PORTS}"
                problems.append(f"loop '{name}' accesses {memory} {accesses} times in a trip, {room}")
    return problems


@pytest.fixture(scope="module")
def found(default_geometry: Geometry) -> dict[str, Found]:
    """By mode: what a fresh checked emulator of the default design, with all engines, has recorded."""
    # A window smaller than the transposed graph, so that it is walked twice.
    geometry = replace(default_geometry, engines=tuple(engine.name for engine in isa().engines), sgb_ids=64)
    geometry = replace(geometry, res_words=64, exp_words=64, dwp_words=64, mid_words=64, gather_beats=8)
    functions = replace(geometry, fun_words=64, norm_words=64, agg_heads=4)
    plain = {f"plain {name}": words for name, words in (*vectors(), *pixels())}
    return recorded(functions, modes(functions)) | recorded(geometry, plain)


def recorded(geometry: Geometry, programs: dict[str, list[int]]) -> dict[str, Found]:
    """What a fresh checked emulator records of each program."""
    library, records = build_emulator(geometry, debug=True), {}
    for name, words in programs.items():
        with Emulator(library, geometry) as emulator:
            executed(emulator, {}, device_memory(words), len(words))
            records[name] = emulator.bank_accesses()
    return records


def test_there_is_a_mode_for_every_operation_and_loop(found: dict[str, Found], default_geometry: Geometry) -> None:
    executed_operations = {
        operation.name
        for words in modes(default_geometry).values()
        for word in words
        if (operation := isa().find(word & 15, word >> 4 & 15)) is not None
    }
    assert executed_operations == {operation.name for operation in isa().operations}
    # Stages of fixed weights are in designs of their own (test_dataflow.py).
    assert {loop for record in found.values() for loop in record} == set(loops()) - {"stage_rows"}


def test_no_mode_hits_a_memory_more_often_than_it_has_ports(found: dict[str, Found]) -> None:
    assert {name: bank_conflicts(record, loops()) for name, record in found.items()} == {name: [] for name in found}


@pytest.mark.parametrize("loop", loops().values(), ids=lambda loop: loop.name)
def test_the_table_states_the_accesses_that_happen(found: dict[str, Found], loop: Loop) -> None:
    seen: dict[str, int] = {}
    for record in found.values():
        for memory, accesses in record.get(loop.name, {}).items():
            seen[memory] = max(seen.get(memory, 0), accesses)
    assert seen == dict(loop.accesses)


def test_an_interval_that_is_too_short_is_found() -> None:
    """A loop that reads and writes a word in each trip, as none of the table does."""
    found = {"update": {"sum_ram": 2}}
    loop = Loop("update", ii=2, depth=4, accesses={"sum_ram": 2}, reason="a read and a write through one port")
    assert bank_conflicts(found, {"update": loop}) == []
    assert bank_conflicts(found, {"update": replace(loop, ii=1)}) == [
        "loop 'update' accesses sum_ram 2 times in a trip, its interval of 1 and 1 port allow 1"
    ]


@pytest.mark.parametrize("loop", [loop for loop in loops().values() if loop.accesses], ids=lambda loop: loop.name)
def test_one_more_access_is_found(found: dict[str, Found], loop: Loop) -> None:
    """As if a kernel read a word twice in a trip of any loop."""
    for memory in loop.accesses:
        record = next(r for r in found.values() if r.get(loop.name, {}).get(memory) == loop.accesses[memory])
        more = {**record, loop.name: {**record[loop.name], memory: loop.accesses[memory] + 1}}
        stated = f"accesses {memory} {loop.accesses[memory] + 1} times in a trip, the table states"
        problems = bank_conflicts(more, loops())
        assert stated in problems[0]
        assert len(problems) == (1 if loop.accesses[memory] < loop.ii * PORTS else 2)
        assert "1 port allow" in problems[-1] or len(problems) == 1


@pytest.mark.parametrize("seed", [101, 102])
def test_whole_programs_have_no_conflicts(seed: int, default_geometry: Geometry) -> None:
    case = random_case(seed, largest_count=17)
    model = quantized(case).model
    with Emulator(build_emulator(default_geometry, debug=True), default_geometry) as emulator:
        for share in SHARES:
            bound = bound_to(compiled(model, case.graph, default_geometry, share), case.graph)
            run_emulated(bound, emulator)
        assert bank_conflicts(emulator.bank_accesses(), loops()) == []
        assert {"vec_groups", "gemm_d_steps", "gemm_l_steps"} <= set(emulator.bank_accesses())


def test_fast_builds_record_nothing(small_emulator: Emulator) -> None:
    words = [codec.sync(engine=engine) for engine in Engine]
    executed(small_emulator, {}, device_memory(words), len(words))
    assert small_emulator.bank_accesses() == {}


def test_each_engine_has_one_port_to_each_memory() -> None:
    text = "\n".join(path.read_text(encoding="utf-8") for path in sorted(KERNELS.glob("*.cpp")))
    ports = re.findall(r"mode=ap_memory port=(\w+)(.*)", text)
    assert {name for name, _ in ports} == {memory.name for memory in isa().memories if memory.word_bits}
    assert all(options == " storage_type=ram_1p latency=1" for _, options in ports)
