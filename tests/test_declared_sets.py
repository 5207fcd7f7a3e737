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
from hetfab.overlay.isa.spec import Operation, isa
from hetfab.overlay.isa.words import pack, program_address
from tests.conftest import SMALL_GEOMETRY
from tests.cpp_sets import CONFIGURES, declared_sets
from tests.programs import SHARES, bound_to, compiled, quantized, run_emulated, run_golden
from tests.random_models import academic_case
from tests.sets_definition import Region, read_set, write_set
from tests.small_streams import BASES, SEGMENT_BYTES

DEFINES = [
    'HETFAB_DECLARED_HEADER="testbench/shortened_sets.hpp"',
    "HETFAB_DECLARED=hetfab::shortened",
]
FEATURES, GRAPH = program_address(Segment.FEATURES, 0), program_address(Segment.GRAPH, 0)
ROWS = {"rows": 2, "row_blocks": 1, "stride_blocks": 2, "address": FEATURES}
WORDS = {"ram": 0, "words": 3, "address": FEATURES}
VALUES = {"acc": 0, "par": 0, "out": 0, "rows": 2, "groups": 2, "row_blocks": 2}
JOINED = {**VALUES, "sum": 0, "sum_groups": 2, "shift": 0}
SUMS = {**JOINED, "with_acc": 1}
RESULTS = {"signed": 1, "packed": 0, "highest": 127}
BYTES = {**RESULTS, "row_words": 3}
SLOT, SCORES = 1, 0
#: The last two blocks of the scratchpad; a row takes a block.
CONTEXT = {
    "configure_features": codec.configure_features(
        slot=SLOT,
        row_blocks=1,
        first_block=SMALL_GEOMETRY.feature_words // 8 - 2,
        slot_bits=1,
        count=2,
        address=FEATURES,
    ),
    "configure_destinations": codec.configure_destinations(slot=SLOT, parts=0, count=2, address=GRAPH),
    "configure_ids": codec.configure_ids(slot=SLOT, edges=4, id_bytes=2, address=program_address(Segment.GRAPH, 64)),
    "configure_spilled": codec.configure_spilled(
        slot=SLOT, row_blocks=4, count=2, address=program_address(Segment.SPILL, 0)
    ),
}
#: Scores and keys share rows of two beats; one of either has two heads of a group each.
SCORE_ROWS = {"scores": SCORES, "row_beats": 2, "count": 2}
SCORES_CONTEXT = {
    "configure_sources": codec.configure_sources(
        **SCORE_ROWS, head_beats=1, address=program_address(Segment.FEATURES, 256)
    ),
    "configure_targets": codec.configure_targets(**SCORE_ROWS, address=program_address(Segment.FEATURES, 320)),
    "configure_types": codec.configure_types(scores=SCORES, count=2, address=program_address(Segment.FEATURES, 384)),
}
CONTEXT |= SCORES_CONTEXT
#: Ids of 4 bytes, with a type in each.
TYPED_CONTEXT = CONTEXT | {
    "configure_ids": codec.configure_ids(slot=SLOT, edges=4, id_bytes=4, address=program_address(Segment.GRAPH, 64)),
}
ATTEND = {"slot": SLOT, "scores": SCORES, "rows": 2, "unsigned": 0, "head_groups": 1, "destination": 0, "sum": 0}
ATTEND |= {"heads": 2, "shift": 0, "factor": 0, "maxima": 1, "weigh": 1, "merge": 0, "spill": 0}
REDUCE = {
    "slot": SLOT,
    "rows": 2,
    "mode": 0,
    "unsigned": 0,
    "weighted": 0,
    "from_fifo": 0,
    "groups": 8,
    "destination": 0,
    "sum": 0,
}
#: Of a run with two units and of one with two more: a row is read into the last slot, and found there twice.
RUNS = [[0, 1, 1 << 16, 1, 2, 0], [2, 2, 1 << 16, 1, 2, 1]]
UNITS = [(1 << 15) + 1, 1, 1, 1]
LEFT, RIGHT = program_address(Segment.GRAPH, 256), program_address(Segment.GRAPH, 512)
BITMAPS = program_address(Segment.GRAPH, 768)
#: Two rows that meet the rows of the right graph, which have one and three of four columns: the second one is dense.
#: The first row meets both, so that the bitmap is read, the second one only the dense row, which is copied.
SGB_CONTEXT = {
    "configure_left": codec.configure_left(edges=3, rows=2, address=LEFT),
    "configure_right": codec.configure_right(edges=4, rows=2, address=RIGHT),
    "configure_bitmap": codec.configure_bitmap(wide=1, threshold=0, columns=4, address=BITMAPS),
}
#: Three rows and two columns, their matching and walk: the last row and the first column cover.
RST_ROWS, RST_COLUMNS = program_address(Segment.GRAPH, 1024), program_address(Segment.GRAPH, 1152)
RST_CONTEXT = {
    "configure_graph": codec.configure_graph(edges=3, rows=3, address=RST_ROWS),
    "configure_turned": codec.configure_turned(edges=3, rows=2, address=RST_COLUMNS),
    "configure_matching": codec.configure_matching(of_turned=0, address=program_address(Segment.GRAPH, 1280)),
    "configure_walk": codec.configure_walk(address=program_address(Segment.GRAPH, 1344)),
}
TILES = {"most_edges_first": 0, "stride": 1, "tile_rows": 2, "address": FEATURES}
#: Strips of two lines for either core: an instruction finds the context that was configured last.
LOAD_LINES = {"slot": SLOT, "kernel_lines": 2, "line_stride": 1, "stride_blocks": 2}
LOAD_CONTEXTS = {
    f"{what} to {core}": {f"configure_{what}": word}
    for number, core in enumerate(("GEMM-D", "GEMM-L"))
    for what, word in (
        ("lines", codec.configure_lines(**LOAD_LINES, core=number, packed=0, line_beats=4)),
        ("windows", codec.configure_windows(**LOAD_LINES, core=number, run_beats=4, step_bytes=3)),
    )
}
#: Two strips of pixels, and windows of two lines by three columns.
VEC_CONTEXT = {
    "configure_pixels": codec.configure_pixels(
        banks=1, packed=0, signed=1, res_line_words=40, res_pixel_words=5, exp_line_words=30, exp_pixel_words=4
    ),
    "configure_pool": codec.configure_pool(
        lines=2, columns=3, line_words=13, column_words=4, reciprocal=1 << 16, exponent=0
    ),
}
ENGINE_CONTEXTS = {"sgb": SGB_CONTEXT, "vec": VEC_CONTEXT, "rst": RST_CONTEXT}
PIXELS = {"out": 0, "rows": 4, "row_blocks": 0, "row_words": 3, "to_exp": 0}
TO_EXP = {**PIXELS, "to_exp": 1}
JOIN = {**RESULTS, "acc": 0, "par": 0, "groups": 2, "res": 0, "shift": 0}
JOIN |= {"post_shift": 0, "wide": 0}
FUNCTION = {"signed": 1, "width": 8, "table": 1, "row_words": 3}
AVERAGE = {**RESULTS, "groups": 2, "res": 0, "post_shift": 0, "wide": 0}
DEPTHWISE = {"top": 1, "bottom": 0, "left": 1, "right": 1, "stride": 1, "lines": 2, "columns": 4, "line_words": 11}
DEPTHWISE |= {"exp": 0, "mid": 0, "par": 0, "unsigned": 0, "signed": 1, "highest": 127, "shift": 0}
BANKS = {"ram": 0, "first_bank": 0, "banks": 2, "slot": SLOT, "address": FEATURES}
STRIPS = {"act": 0, "wgt": 0, "acc": 0, "accumulate": 1, "unsigned": 0, "banks": 2, "columns": 2, "col_groups": 2}
STRIPS |= {"lines": 2, "line_words": 9, "step_words": 2}
#: Instructions by name that touch all that they declare, together all that their operations declare.
FULL = {
    "load_activations": codec.load_activations(**ROWS, ram_d=0, ram_l=0, to_d=1, to_l=1, packed=0),
    "load_weights": codec.load_weights(**WORDS),
    "load_planes": codec.load_planes(**WORDS),
    "load_parameters": codec.load_parameters(**WORDS),
    "store_rows": codec.store_rows(ram=0, rows=2, row_beats=8, stride_blocks=2, address=FEATURES),
    "matmul": codec.matmul(act=0, wgt=0, accumulate=1, unsigned=0, packed=0, acc=0, rows=8, row_beats=2, col_groups=2),
    "matmul_planes": codec.matmul_planes(
        act=0, wgt=0, accumulate=1, unsigned=0, bipolar=0, acc=0, rows=6, row_words=2, slices=2, planes=3, col_groups=2
    ),
    "matmul_lines": codec.matmul_lines(**STRIPS, packed=0, run=3),
    "matmul_planes_lines": codec.matmul_planes_lines(**STRIPS, bipolar=0, run=1, slices=2, planes=3),
    "store_runs apart": codec.store_runs(
        ram=0, banks=2, columns=2, ram_banks=3, row_beats=2, joined=0, pixel_stride=4, stride_blocks=2, address=FEATURES
    ),
    "store_runs joined": codec.store_runs(
        ram=0, banks=2, columns=2, ram_banks=3, row_beats=2, joined=1, pixel_stride=6, stride_blocks=2, address=FEATURES
    ),
    "load_residual": codec.load_residual(
        ram=0, rows=2, columns=2, run_stride=4, run_beats=3, stride_blocks=2, address=FEATURES
    ),
    **CONTEXT,
    "reduce": codec.reduce(**REDUCE, source=0, merge=0, spill=0, accumulate=1),
    "reduce by tags": codec.reduce(**REDUCE, source=1, merge=1, spill=0, accumulate=0),
    "reduce by schedule": codec.reduce(**REDUCE | {"destination": 6}, source=2, merge=0, spill=1, accumulate=0),
    "attend": codec.attend(**ATTEND, kind=0, source=0, accumulate=1),
    "attend by tags": codec.attend(
        **ATTEND | {"maxima": 0, "merge": 1, "head_groups": 4}, kind=2, source=1, accumulate=0
    ),
    "attend with types": codec.attend(**ATTEND, kind=1, source=0, accumulate=0),
    "attend for maxima": codec.attend(**ATTEND | {"weigh": 0, "spill": 1, "merge": 1}, kind=0, source=0, accumulate=0),
    "attend for sums": codec.attend(**ATTEND | {"maxima": 0, "spill": 1}, kind=0, source=0, accumulate=0),
    "load_depthwise": codec.load_depthwise(**WORDS),
    "store_middle apart": codec.store_middle(
        ram=0, lines=2, columns=2, row_beats=2, joined=0, pixel_stride=4, stride_blocks=2, address=FEATURES
    ),
    "store_middle joined": codec.store_middle(
        ram=0, lines=2, columns=2, row_beats=2, joined=1, pixel_stride=6, stride_blocks=2, address=FEATURES
    ),
    "load_function": codec.load_function(**WORDS),
    **VEC_CONTEXT,
    "pool_max": codec.pool_max(**PIXELS, res=0),
    "pool_max to exp_ram": codec.pool_max(**TO_EXP, res=0),
    "pool_average": codec.pool_average(**PIXELS, **AVERAGE),
    "pool_average to exp_ram": codec.pool_average(**TO_EXP, **AVERAGE),
    "depthwise of bytes": codec.depthwise(**DEPTHWISE, packed=0, out_packed=0, groups=2),
    "depthwise of nibbles": codec.depthwise(**DEPTHWISE, packed=1, out_packed=1, groups=4),
    **SGB_CONTEXT,
    "compose": codec.compose(to_fifo=0, edges=8, rows=2, address=FEATURES),
    "transpose": codec.transpose(edges=3, rows=2, address=FEATURES),
    "widen": codec.widen(),
    **RST_CONTEXT,
    "match": codec.match(columns=2, address=FEATURES),
    "walk": codec.walk(address=FEATURES),
    "recouple": codec.recouple(by_column=1, address=FEATURES),
    "grow_tiles": codec.grow_tiles(grown=1, **TILES),
}
for core, source in enumerate(("GEMM-D", "GEMM-L")):
    FULL |= {
        f"requantize_function of {source}": codec.requantize_function(
            **VALUES, **FUNCTION, shift=0, core=core, from_sum=0, mapped=core
        ),
        f"combine_function of {source}": codec.combine_function(
            **SUMS, **FUNCTION, core=core, mapped=core, post_shift=15
        ),
        f"normalize of {source}": codec.normalize(
            **VALUES, core=core, from_sum=0, signed=1, highest=9, row_words=3, shift=0, post_shift=0
        ),
        f"configure_lines to {source}": LOAD_CONTEXTS[f"lines to {source}"]["configure_lines"],
        f"configure_windows to {source}": LOAD_CONTEXTS[f"windows to {source}"]["configure_windows"],
        f"load_lines to {source}": codec.load_lines(**BANKS, lines=2, top=1, left=1, beats=3),
        f"load_windows to {source}": codec.load_windows(**BANKS, lines=3, offset=1, beats=5, columns=2),
        f"requantize of {source}": codec.requantize(**VALUES, **BYTES, core=core, from_sum=0, shift=0, to_exp=0),
        f"requantize of {source} to exp_ram": codec.requantize(
            **TO_EXP, **RESULTS, acc=0, par=0, groups=2, core=core, from_sum=0, shift=0
        ),
        f"join of {source}": codec.join(**PIXELS, **JOIN, core=core),
        f"join of {source} to exp_ram": codec.join(**TO_EXP, **JOIN, core=core),
        f"requantize_joined of {source}": codec.requantize_joined(**JOINED, **BYTES, core=core),
        f"requantize_joined_function of {source}": codec.requantize_joined_function(
            **JOINED, **FUNCTION, core=core, mapped=core
        ),
        f"combine of {source}": codec.combine(**SUMS, **BYTES, core=core, post_shift=0),
        f"export_sums of {source}": codec.export_sums(**SUMS, core=core, row_words=9),
        f"export_accumulators of {source}": codec.export_accumulators(**VALUES, core=core, from_sum=0, row_words=9),
    }
FULL |= {
    "requantize_function of AGG": codec.requantize_function(
        **VALUES, **FUNCTION, shift=0, core=0, from_sum=1, mapped=0
    ),
    "normalize of AGG": codec.normalize(
        **VALUES, core=0, from_sum=1, signed=1, highest=9, row_words=3, shift=0, post_shift=0
    ),
    "requantize of AGG": codec.requantize(**VALUES, **BYTES, core=0, from_sum=1, shift=0, to_exp=0),
    "export_accumulators of AGG": codec.export_accumulators(**VALUES, core=0, from_sum=1, row_words=9),
}


def operation_of(name: str) -> Operation:
    """The operation of an instruction of ``FULL``."""
    return isa().operation(name.partition(" ")[0])


def context_of(name: str) -> dict[str, int]:
    """What is configured before an instruction of ``FULL``, by the operations' names."""
    if operation_of(name).engine in ENGINE_CONTEXTS:
        return ENGINE_CONTEXTS[operation_of(name).engine]
    if name == "attend with types":
        return TYPED_CONTEXT
    return LOAD_CONTEXTS.get(name.partition("_")[2], CONTEXT)


def regions(name: str) -> list[tuple[str, Region]]:
    """What an instruction of ``FULL`` declares by the tables: a verb, and where."""
    operation, names = operation_of(name), SMALL_GEOMETRY.constants()
    for configure in CONFIGURES:
        owner, word = configure.name.removeprefix("configure_"), context_of(name).get(configure.name, 0)
        names |= {f"{owner}.{field.name}": field.get(word) for field in configure.fields}
    names |= {field.name: field.get(FULL[name]) for field in operation.fields}
    reads, writes = read_set(operation, names), write_set(operation, names)
    return [("reads", region) for region in reads] + [("writes", region) for region in writes]


REGIONS = [(name, number) for name in FULL for number in range(len(regions(name)))]


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


def run(emulator: Emulator, name: str) -> tuple[Progress, str]:
    """Runs one instruction after its engine's context is filled, on two destinations with an edge each."""
    program = pack([*context_of(name).values(), FULL[name]])
    # Results of -1, which are the last entry of a table.
    parameters = np.zeros((SMALL_GEOMETRY.par_words, SMALL_GEOMETRY.lanes), isa().record("parameter").dtype)
    parameters["bias"], parameters["multiplier"] = -1, 1
    emulator.write_ram("par_ram", 0, parameters.view(np.uint8))
    for segment, base in BASES.items():
        memory = np.zeros(SEGMENT_BYTES, np.uint8)
        if segment is Segment.PROGRAM:
            memory[: program.nbytes] = program.view(np.uint8).reshape(-1)
        elif segment is Segment.GRAPH:
            memory[:32] = np.array([[0, 2, 1 << 16, 1], [2, 2, 1 << 16, 1]], "<u4").view(np.uint8).reshape(-1)
            memory[144:192] = np.array(RUNS, "<u4").view(np.uint8).reshape(-1)
            memory[64:72] = np.array(UNITS if name == "reduce by schedule" else [0, 1, 1, 0], "<u2").view(np.uint8)
            if name == "attend with types":
                memory[64:80] = np.array([0, 1, 1 << 24, 1 | 1 << 24], "<u4").view(np.uint8)
            for first, starts, ids in ((256, [0, 2, 3], [0, 1, 1, 0]), (512, [0, 1, 4], [0, 1, 2, 3])):
                memory[first : first + 12] = np.array(starts, "<u4").view(np.uint8)
                memory[first + 64 : first + 80] = np.array(ids, "<u4").view(np.uint8)
            memory[776] = 0b1110
            for first, numbers in (
                *((1024, [0, 1, 2, 3]), (1088, [0, 0, 1]), (1152, [0, 2, 3]), (1216, [0, 1, 2])),
                *((1280, [0, 0xFFFFFFFF, 1, 1, 0]), (1344, [3, 0, 1, 2]), (1408, [2, 0, 1])),
            ):
                memory[first : first + 4 * len(numbers)] = np.array(numbers, "<u4").view(np.uint8)
        emulator.map_memory(base, memory)
        emulator.write_register(RegisterOffset[f"SEGMENT_BASE_{segment.name}_LOW"], base)
        emulator.write_register(RegisterOffset[f"SEGMENT_SIZE_{segment.name}_LOW"], SEGMENT_BYTES)
    emulator.write_register(RegisterOffset.PROGRAM_LENGTH, len(program))
    emulator.write_register(RegisterOffset.CONTROL, 1)
    return emulator.advance(10_000), emulator.message()


@pytest.mark.parametrize("name", FULL)
def test_whole_sets_are_enough(emulator: Emulator, name: str) -> None:
    assert run(emulator, name) == (Progress.DONE, "")


def test_the_instructions_declare_every_box() -> None:
    boxes = {
        (operation.name, verb, box.memory)
        for operation in isa().operations
        for verb, group in (("reads", operation.reads), ("writes", operation.writes))
        for box in group
    }
    assert {(operation_of(name).name, verb, region.memory) for name in FULL for verb, region in regions(name)} == boxes
    for name, word in FULL.items():
        reads, writes = declared_sets(word, context_of(name), {"slot": SLOT, "scores": SCORES}, SMALL_GEOMETRY)
        expected = regions(name)
        assert [region for verb, region in expected if verb == "reads"] == reads
        assert [region for verb, region in expected if verb == "writes"] == writes


@pytest.mark.parametrize(("name", "number"), REGIONS)
def test_a_set_that_is_too_small_is_caught(emulator: Emulator, library: Path, name: str, number: int) -> None:
    operation = operation_of(name)
    shorten(library, isa().engine(operation.engine).id << 4 | operation.opcode, number)
    progress, message = run(emulator, name)
    verb, region = regions(name)[number]
    assert progress is Progress.FAULT
    assert message.startswith(f"engine '{operation.engine}', instruction ")
    assert f": {verb} " in message and f" of {region.memory}; declared are " in message


@pytest.mark.parametrize(
    ("name", "number", "text"),
    [
        ("matmul", 0, "engine 'gemm_d', instruction 7: reads word 3 of act_d_ram; declared are words 0 to 2"),
        ("matmul_planes", 0, "engine 'gemm_l', instruction 7: reads word 7 of act_l_ram; declared are words 0 to 6"),
        (
            "requantize of GEMM-L",
            2,
            "engine 'vec', instruction 2: writes word 2 of out_ram; declared are words 0 to 1 in 2 rows, "
            "16 words apart",
        ),
    ],
)
def test_the_message_names_the_access_and_the_declared_set(
    emulator: Emulator, library: Path, name: str, number: int, text: str
) -> None:
    operation = operation_of(name)
    shorten(library, isa().engine(operation.engine).id << 4 | operation.opcode, number)
    assert run(emulator, name)[1] == text


def test_rows_of_dram_are_named_with_their_distance(emulator: Emulator, library: Path) -> None:
    operation = isa().operation("store_rows")
    shorten(library, isa().engine("store").id << 4 | operation.opcode, 1)
    base = BASES[Segment.FEATURES]
    assert run(emulator, "store_rows")[1] == (
        f"engine 'store', instruction 7: writes bytes {base:#x} to {base + 63:#x} of dram; "
        f"declared are bytes {base:#x} to {base + 55:#x} in 2 rows, 128 bytes apart"
    )


@pytest.mark.parametrize("share", SHARES)
def test_a_compiled_program_keeps_to_its_sets(emulator: Emulator, share: float | None) -> None:
    case = academic_case()
    bound = bound_to(compiled(quantized(case).model, case.graph, SMALL_GEOMETRY, share), case.graph)
    found, expected = run_emulated(bound, emulator), run_golden(bound)
    np.testing.assert_array_equal(found.dram[Segment.OUTPUT], expected.dram[Segment.OUTPUT])
