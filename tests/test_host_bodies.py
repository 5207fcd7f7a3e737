# SPDX-License-Identifier: Apache-2.0
"""Host bodies do what plain bodies do: on programs of any instructions, at every width, and where one must stop."""

import ctypes
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hetfab.driver.graph.model_inputs import model_bindings, model_feeds
from hetfab.hls.build import emulator as emulator_module
from hetfab.hls.build.compiler import find_compiler, runs_code_for
from hetfab.hls.build.emulator import Bodies, Emulator, Progress, build_emulator
from hetfab.overlay.design import Geometry
from hetfab.overlay.isa import codec
from hetfab.overlay.isa.codec import RegisterOffset, Segment
from hetfab.overlay.isa.golden import GoldenMachine
from hetfab.overlay.isa.spec import isa
from hetfab.overlay.isa.words import program_address
from hetfab.overlay.model.bound_model import FedModel
from hetfab.overlay.model.reader import check_model, normalise
from hetfab.quantize.post_training import quantize
from hetfab.quantize.widths import Widths
from tests.random_models import Case, academic_case
from tests.test_instructions import BASE, MAKERS, SIZE, Bench, Bytes, executed
from tests.test_whole_programs import Emulators, check, natives

HLS = Path(emulator_module.__file__).parents[1]
FLAGS = ["-std=c++17", "-O3", "-shared", "-fPIC", "-Wall", "-Wextra", "-Wconversion", "-Werror"]
Lanes: TypeAlias = Callable[[Bytes, npt.NDArray[np.int8], bool, int, npt.NDArray[np.int32]], None]


@pytest.fixture(scope="module")
def lanes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Lanes]:
    """All ways of this machine to multiply: activations [rows, channels], weights [channels, columns]."""
    library = tmp_path_factory.mktemp("lanes") / "lanes.so"
    source = HLS / "testbench" / "host_lanes.cpp"
    includes = [f"-I{HLS / 'include'}", f"-I{HLS}"]
    find_compiler().run([*FLAGS, "-march=native", *includes, "-o", str(library), str(source)])
    functions = ctypes.CDLL(str(library))
    functions.lanes_name.restype = ctypes.c_char_p

    def bound(number: int) -> Lanes:
        def run(
            acts: Bytes, weights: npt.NDArray[np.int8], accumulate: bool, cut: int, sums: npt.NDArray[np.int32]
        ) -> None:
            channels, columns = weights.shape
            units = np.ascontiguousarray(weights.reshape(channels // 4, 4, columns // 8, 8).transpose(2, 0, 3, 1))
            pointers = [ctypes.c_void_p(array.ctypes.data) for array in (acts, units)]
            sizes = [len(acts), channels // 4, columns // 8, int(accumulate), cut]
            functions.lanes_run(number, *pointers, *sizes, ctypes.c_void_p(sums.ctypes.data))

        return run

    return {functions.lanes_name(number).decode(): bound(number) for number in range(functions.lanes_count())}


@given(
    rows=st.integers(1, 20),
    channels=st.integers(1, 12).map(lambda steps: 4 * steps),
    columns=st.integers(1, 7).map(lambda units: 8 * units),
    accumulate=st.booleans(),
    cut=st.sampled_from([0, 8]),
    extreme=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
@settings(max_examples=60, deadline=None)
def test_every_vector_instruction_multiplies_exactly(
    lanes: dict[str, Lanes],
    rows: int,
    channels: int,
    columns: int,
    accumulate: bool,
    cut: int,
    extreme: bool,
    seed: int,
) -> None:
    random = np.random.default_rng(seed)
    acts = random.integers(0, 256, (rows, channels), dtype=np.uint8)
    weights = random.integers(-128, 128, (channels, columns), dtype=np.int8)
    if extreme:
        acts[...], weights[...] = 255, random.choice(np.array([-128, 127], np.int8), columns)
    before = random.integers(-(1 << 31), 1 << 31, (rows, columns)).astype(np.int32)
    exact = acts.astype(np.int64) @ weights.astype(np.int64) + np.arange(columns)
    low = exact << (32 + cut) >> (32 + cut)
    expected = (low + before if accumulate else low).astype(np.int32)
    assert "portable" in lanes
    for name, run in lanes.items():
        sums = before.copy()
        run(acts, weights, accumulate, cut, sums)
        np.testing.assert_array_equal(sums, expected, name)


def chained(words: list[int]) -> list[int]:
    """The instructions, each waiting for the one before it, by a semaphore that no other waits for."""
    wait, signal = (isa().header_field(name).lsb for name in ("wait0", "signal0"))
    last = len(words) - 1
    assert last <= isa().semaphores
    return [word | place << wait | (place + 1 if place < last else 0) << signal for place, word in enumerate(words)]


def make_narrow(content: Bytes) -> None:
    """Replaces the smallest weights of both widths, which GEMM-D must not meet."""
    low, high = content & 15, content >> 4
    content[...] = np.where(low == 8, 7, low) | np.where(high == 8, 7, high) << 4


@pytest.mark.parametrize("seed", range(60))
def test_programs_of_any_instructions(seed: int, small_geometry: Geometry, small_emulators: Emulators) -> None:
    """Weights are loaded anew between products, so that nothing made of the old ones may be left."""
    random = np.random.default_rng(seed)
    bench = Bench(small_geometry, {}, random)
    make_narrow(bench.dram)
    makers = [maker for maker in MAKERS if maker.__name__ != "sync"]
    often = [maker for maker in makers if maker.__name__ in ("matmul", "matmul_planes", "load_weights", "load_planes")]
    words: list[int] = []
    while len(words) < 24:
        chosen = often if random.random() < 0.6 else makers
        words += chosen[random.integers(len(chosen))](bench)
    words = chained(words)
    make_narrow(bench.golden.memories["wgt_d_ram"])
    bench.put(Segment.PROGRAM, 0, np.frombuffer(b"".join(word.to_bytes(16, "little") for word in words), np.uint8))
    before = {name: memory.copy() for name, memory in bench.golden.memories.items()}
    outcomes = []
    for emulator in natives(small_emulators):
        dram = bench.dram.copy()
        memories = executed(emulator, before, dram, len(words))
        outcomes.append(({**memories, "dram": dram}, emulator.run_log()))
    (plain, plain_log), (host, host_log) = outcomes
    for name, content in plain.items():
        np.testing.assert_array_equal(host[name], content, name)
    assert np.array_equal(host_log, plain_log)


def quantized_at(case: Case, widths: Widths) -> onnx.ModelProto:
    model = check_model(normalise(case.model), "the float model")
    bindings = model_bindings(model, case.graph)
    fed = FedModel(model, bindings, [model_feeds(model, bindings, case.graph)])
    return quantize(fed, widths=widths).model


@pytest.mark.parametrize("weights", range(1, 9))
@pytest.mark.parametrize("activations", [2, 4, 5, 8])
def test_programs_of_every_width(
    weights: int, activations: int, default_emulators: Emulators, small_emulators: Emulators
) -> None:
    case = academic_case()
    check(
        quantized_at(case, Widths(weights, activations)),
        case.graph,
        [natives(default_emulators), natives(small_emulators)],
    )


def instruction(name: str, **fields: int) -> int:
    """An instruction; fields that are not given are 0."""
    operation = isa().operation(name)
    word: int = getattr(codec, name)(**{field.name: 0 for field in operation.fields} | fields)
    return word


def gathers(geometry: Geometry) -> dict[str, list[int]]:
    """Reduces, each with the context that it reads, that leave a memory: see ``relation`` for the graph segment."""
    graph = {"records": program_address(Segment.GRAPH, 0), "ids": program_address(Segment.GRAPH, RELATION_IDS)}
    near = program_address(Segment.LOG, SIZE - 128)

    def program(sum_word: int, rows: int, features: int, records: int, ids: int, id_bytes: int) -> list[int]:
        return [
            codec.configure_features(first_block=0, slot_bits=0, slot=1, row_blocks=1, count=1 << 16, address=features),
            codec.configure_destinations(slot=1, parts=0, count=rows, address=records),
            codec.configure_ids(slot=1, edges=RELATION_EDGES, id_bytes=id_bytes, address=ids),
            instruction("reduce", slot=1, rows=rows, groups=2, sum=sum_word),
        ]

    features = program_address(Segment.FEATURES, 0)
    return {
        "records": program(0, 9, features, near, graph["ids"], 2),
        "ids": program(0, 3, features, graph["records"], near, 2),
        "rows of features": program(0, 3, near, graph["records"], graph["ids"], 2),
        "sums": program(geometry.sum_words - 3, 3, features, graph["records"], graph["ids"], 2),
    }


RELATION_IDS = 0x2000
RELATION_EDGES = 90


def relation(dram: Bytes) -> None:
    """Puts three destinations to the graph segment, and ids up to 3."""
    graph = dram[Segment.GRAPH * SIZE :]
    records = np.array([[0, 40, 1, 0], [40, 0, 1, 0], [40, 50, 1, 0], [0] * 4], "<u4")
    content = records.tobytes()
    graph[: len(content)] = np.frombuffer(content, np.uint8)
    ids = np.arange(RELATION_EDGES, dtype="<u2") % 4
    graph[RELATION_IDS : RELATION_IDS + ids.nbytes] = ids.view(np.uint8)


def beyond(geometry: Geometry) -> dict[str, int]:
    """Instructions whose last accesses are outside a memory, by what is too short."""
    near = program_address(Segment.LOG, SIZE - 128)
    tile = {"act": 0, "wgt": 0, "acc": 0, "rows": 2 * geometry.gemm_d_rows, "row_beats": 8, "col_groups": 2}
    planes = {"act": 0, "wgt": 0, "acc": 0, "rows": 2 * geometry.gemm_l_rows, "row_words": 2, "slices": 2, "planes": 3}
    planes |= {"col_groups": 2}
    rows = {"acc": 0, "out": 0, "par": 0, "rows": 3, "groups": 2, "row_blocks": 1, "row_words": 8}
    copy = {"address": program_address(Segment.FEATURES, 0), "rows": 5, "row_blocks": 1, "stride_blocks": 2}
    stored = {**copy, "row_beats": 8}
    del stored["row_blocks"]
    words = {"address": program_address(Segment.CONSTANTS, 0), "words": 9}
    return {
        "act_d_ram": instruction("matmul", **tile | {"act": geometry.act_d_words - 15}),
        "wgt_d_ram": instruction("matmul", **tile | {"wgt": geometry.wgt_d_words - 31}),
        "acc_d_ram": instruction("matmul", **tile | {"acc": geometry.acc_d_words - 4 * geometry.gemm_d_rows + 1}),
        "act_l_ram": instruction("matmul_planes", **planes | {"act": geometry.act_l_words - 7}),
        "wgt_l_ram": instruction("matmul_planes", **planes | {"wgt": geometry.wgt_l_words - 11}),
        "acc_l_ram": instruction(
            "matmul_planes", **planes | {"acc": geometry.acc_l_words - 4 * geometry.gemm_l_rows + 1}
        ),
        "accumulators of requantize": instruction("requantize", **rows | {"acc": geometry.acc_d_words - 2}),
        "accumulators of core 1": instruction("requantize", **rows | {"core": 1, "acc": geometry.acc_l_words - 5}),
        "par_ram": instruction("requantize", **rows | {"par": geometry.par_words - 1}),
        "out_ram": instruction("requantize", **rows | {"out": geometry.out_words - 23}),
        "sum_ram": instruction("combine", **rows, sum=geometry.sum_words - 5, sum_groups=1),
        "joined sums": instruction("requantize_joined", **rows, sum=geometry.sum_words - 5, sum_groups=1),
        "tile of load_activations, D": instruction("load_activations", **copy, ram_d=geometry.act_d_words - 15, to_d=1),
        "tile of load_activations, L": instruction("load_activations", **copy, ram_l=geometry.act_l_words - 7, to_l=1),
        "words of load_weights": instruction("load_weights", **words, ram=geometry.wgt_d_words - 8),
        "words of load_planes": instruction("load_planes", **words, ram=geometry.wgt_l_words - 8),
        "words of load_parameters": instruction("load_parameters", **words, ram=geometry.par_words - 8),
        "rows of store_rows": instruction("store_rows", **stored, ram=geometry.out_words - 39),
        "read of rows": instruction("load_activations", **copy | {"address": near}, to_d=1, to_l=1),
        "read of words": instruction("load_weights", **words | {"address": near}),
        "write of rows": instruction("store_rows", **stored | {"address": near}),
    }


def strips_beyond(geometry: Geometry) -> dict[str, list[int]]:
    """The same for strips: programs by what is too short."""
    near = program_address(Segment.LOG, SIZE - 128)
    strip = {"act": 0, "wgt": 0, "acc": 0, "banks": 2, "columns": 2, "lines": 2, "line_words": 5, "step_words": 1}
    strip |= {"run": 2, "col_groups": 2}
    planes = {"slices": 2, "planes": 3}
    runs = {"ram": 0, "rows": 2, "columns": 2, "run_stride": 4, "run_beats": 3, "stride_blocks": 2, "address": near}
    pixels = {"ram": 0, "banks": 2, "columns": 2, "ram_banks": 3, "row_beats": 2, "pixel_stride": 3}
    pixels |= {"stride_blocks": 2, "address": near}
    far = {"address": program_address(Segment.FEATURES, 0)}
    words = {
        "act_d_ram": instruction("matmul_lines", **strip | {"act": geometry.act_d_words - 8}),
        "wgt_d_ram": instruction("matmul_lines", **strip | {"wgt": geometry.wgt_d_words - 15}),
        "acc_d_ram": instruction("matmul_lines", **strip | {"acc": geometry.acc_d_words - 11}),
        "act_l_ram": instruction("matmul_planes_lines", **strip | planes | {"act": geometry.act_l_words - 10}),
        "wgt_l_ram": instruction("matmul_planes_lines", **strip | planes | {"wgt": geometry.wgt_l_words - 23}),
        "acc_l_ram": instruction("matmul_planes_lines", **strip | planes | {"acc": geometry.acc_l_words - 11}),
        "res_ram": instruction("load_residual", **runs | far | {"ram": geometry.res_words - 17}),
        "read of runs": instruction("load_residual", **runs),
        "out_ram": instruction("store_runs", **pixels | far | {"ram": geometry.out_words - 15}),
        "write of runs": instruction("store_runs", **pixels),
    }
    programs = {f"strips, {what}": [word] for what, word in words.items()}
    for core, depth in enumerate((geometry.act_d_words - 15, geometry.act_l_words - 7)):
        context = {"slot": 1, "core": core, "kernel_lines": 2, "line_stride": 1, "stride_blocks": 1, "line_beats": 8}
        lines = {"slot": 1, "ram": 0, "lines": 3, "banks": 2, "left": 1, "beats": 6}
        configure = instruction("configure_lines", **context)
        for what, change in (("lines", far | {"ram": depth}), ("read of lines", {"address": near})):
            programs[f"{what}, core {core}"] = [configure, instruction("load_lines", **lines | change)]
    return programs


def stopped(library: Path, geometry: Geometry, words: list[int], memories: dict[str, Bytes], dram: Bytes) -> object:
    """What is left where a program stops: the message and all memories."""
    with Emulator(library, geometry) as emulator:
        for name, content in memories.items():
            emulator.write_ram(name, 0, content)
        program = b"".join(word.to_bytes(16, "little") for word in words)
        dram = dram.copy()
        dram[: len(program)] = np.frombuffer(program, np.uint8)
        emulator.map_memory(BASE, dram)
        emulator.write_register(RegisterOffset.PROGRAM_LENGTH, len(words))
        for segment in Segment:
            emulator.write_register(RegisterOffset[f"SEGMENT_BASE_{segment.name}_LOW"], BASE + segment.value * SIZE)
            emulator.write_register(RegisterOffset[f"SEGMENT_SIZE_{segment.name}_LOW"], SIZE)
        emulator.write_register(RegisterOffset.CONTROL, 1)
        assert emulator.advance(10_000) is Progress.FAULT
        left = {name: emulator.read_ram(name, 0, len(content)).tobytes() for name, content in memories.items()}
        return emulator.message(), left, dram.tobytes()


def test_both_bodies_stop_at_the_same_access(small_geometry: Geometry) -> None:
    random = np.random.default_rng(0)
    golden = GoldenMachine(small_geometry)
    memories = {name: random.integers(0, 256, m.shape, dtype=np.uint8) for name, m in golden.memories.items()}
    dram = random.integers(0, 256, len(Segment) * SIZE, dtype=np.uint8)
    relation(dram)
    libraries = [build_emulator(small_geometry, bodies=bodies) for bodies in Bodies]
    programs = {what: [word] for what, word in beyond(small_geometry).items()} | gathers(small_geometry)
    programs |= strips_beyond(small_geometry)
    for what, words in programs.items():
        plain, host = (stopped(library, small_geometry, words, memories, dram) for library in libraries)
        assert host == plain, what
    assert len(programs) == 39


@pytest.mark.parametrize("march", ["x86-64", "x86-64-v3"])
def test_bodies_for_other_processors(march: str, small_geometry: Geometry, small_emulators: Emulators) -> None:
    """What this machine has of the levels below its own gives the same program the same memories."""
    if not runs_code_for(march):
        pytest.skip(f"cpu: this processor does not run code for {march}")
    with Emulator(build_emulator(small_geometry, march=march), small_geometry) as emulator:
        case = academic_case()
        for widths in (Widths(8, 8), Widths(4, 4), Widths(1, 8)):
            check(quantized_at(case, widths), case.graph, [[small_emulators["native"], emulator]])
