# SPDX-License-Identifier: Apache-2.0
"""The check for unordered accesses: its sets, its verdicts, and that no semaphore of a compiled stream is idle."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from hetfab.driver.demo import model_path
from hetfab.driver.graph.arrays import graph_arrays
from hetfab.driver.graph.generate import academic
from hetfab.driver.graph.heterograph import HeteroGraph
from hetfab.driver.graph.npz import read_graph
from hetfab.hls.build.emulator import Emulator, Progress, build_emulator
from hetfab.hls.build.order import Race, check_accesses
from hetfab.overlay.bind import BoundProgram, bind
from hetfab.overlay.compiler.rings import SLOTS
from hetfab.overlay.compiler.semaphores import Milestones, Semaphore
from hetfab.overlay.design import Geometry, default_design
from hetfab.overlay.errors import StreamInvalidError
from hetfab.overlay.isa import codec
from hetfab.overlay.isa.codec import Engine, RegisterOffset, Segment
from hetfab.overlay.isa.spec import Operation, isa
from hetfab.overlay.isa.words import pack, program_address
from hetfab.overlay.model.reader import read_model
from hetfab.overlay.order import check_order
from tests.conftest import SMALL_GEOMETRY
from tests.cpp_sets import CONFIGURES, declared_sets
from tests.data_folder import require_data
from tests.order_definition import Pair, cells, conflict, first_race, header, implied, pairs, races, without
from tests.programs import bound_to, compiled, quantized
from tests.random_models import Case, academic_case
from tests.sets_definition import read_set, write_set
from tests.small_streams import BASES, SEGMENT_BYTES, SEGMENTS, streams

DEMO_MODEL = model_path()
DRAWN = 200
LARGEST_IMPLIED_SHARE = 0.05
#: Segments of 4 GiB each, so that every address of a bound stream lies in its own.
WIDE_SEGMENTS = {segment: ((int(segment) + 1) << 32, 1 << 32) for segment in Segment}
OPERATIONS = [operation for operation in isa().operations if operation.engine != "*"]
EMULATED = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


# The sets in C++ are those of the tables.


@st.composite
def words_of(draw: st.DrawFn, operation: Operation) -> int:
    """Any instruction of an operation, its address a physical one."""
    engine = 0 if operation.engine == "*" else isa().engine(operation.engine).id
    word = engine | operation.opcode << isa().header_field("opcode").lsb
    for field in operation.fields:
        word |= draw(st.integers(0, field.largest)) << field.lsb
    return word


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.name)
@pytest.mark.parametrize("geometry", [SMALL_GEOMETRY, default_design().geometry], ids=["small", "default"])
@settings(max_examples=100, deadline=None)  # Of each of a hundred cases.
@given(data=st.data())
def test_the_sets_in_cpp_are_those_of_the_tables(operation: Operation, geometry: Geometry, data: st.DataObject) -> None:
    word = data.draw(words_of(operation))
    names = {field.name: field.get(word) for field in operation.fields}
    slots = {name: names.get(name, 0) for name in ("slot", "scores")}
    # A slot holds one of the two contexts that an instruction may name.
    assume("scores" not in names or slots["slot"] != slots["scores"])
    boxes = (*operation.reads, *operation.writes)
    texts = [text for box in boxes for text in (box.base, box.rows, box.row_stride, box.row_length)]
    contexts = {}
    for configure in CONFIGURES:
        owner = configure.name.removeprefix("configure_")
        # Contexts of two kinds may be kept in one place: an operation finds its own.
        if not any(f"{owner}." in text for text in texts):
            continue
        contexts[configure.name] = data.draw(words_of(configure))
        names |= {f"{owner}.{field.name}": field.get(contexts[configure.name]) for field in configure.fields}
    names |= geometry.constants()
    assert declared_sets(word, contexts, slots, geometry) == (read_set(operation, names), write_set(operation, names))


# Verdicts.


@settings(max_examples=400, deadline=None)
@given(words=streams())
def test_the_verdict_is_that_of_the_definition(words: npt.NDArray[np.uint64]) -> None:
    check_order(words)
    expected = races(words, SMALL_GEOMETRY, SEGMENTS)
    found = check_accesses(words, SMALL_GEOMETRY, SEGMENTS)
    assert (found is None) == (not expected)
    assert found is None or (found.earlier, found.later) in expected


@settings(max_examples=400, deadline=None)
@given(words=streams())
def test_the_first_race_is_that_of_a_model_word_by_word(words: npt.NDArray[np.uint64]) -> None:
    found = check_accesses(words, SMALL_GEOMETRY, SEGMENTS)
    assert (None if found is None else found.text) == first_race(words, SMALL_GEOMETRY, SEGMENTS)


def copies(random: np.random.Generator, count: int) -> list[int]:
    """LOAD and STORE in turn; half of the time rows of a segment and words on chip that they have had before."""
    pools: list[list[int]] = [[], []]
    words: list[int] = []
    for number in range(count):
        pool = pools[number % 2]
        if not pool or random.random() < 0.5:
            address = program_address(Segment.ACTIVATIONS, 64 * int(random.integers(0, 100)))
            rows = {"rows": int(random.integers(1, 7)), "stride_blocks": int(random.integers(0, 9)), "address": address}
            if number % 2:
                ram, row_beats = 8 * int(random.integers(0, 20)), int(random.integers(1, 17))
                pool.append(codec.store_rows(**rows, ram=ram, row_beats=row_beats))
            else:
                pool.append(codec.load_activations(**BOTH, **rows, row_blocks=int(random.integers(1, 3))))
        words.append(int(random.choice(np.array(pool, object))))
    return words


def ordered(words: list[int]) -> list[int]:
    """The stream of two engines in turn with signals and waits where an instruction needs them, and nowhere else."""
    signal, wait = isa().header_field("signal0"), isa().header_field("wait0")
    touched = cells(pack(words), SMALL_GEOMETRY, SEGMENTS)
    result = list(words)
    for index in range(1, len(words)):
        # Instructions of the other engine that are known to have ended when this one begins.
        known = [place for place in range(1, index, 2) if wait.get(result[index - place + 1])]
        last = index - known[0] if known else -1
        before = range(index - 1, last, -2)
        if any(conflict(touched[other], touched[index]) for other in before):
            result[index - 1] |= (1 + index % 2) << signal.lsb
            result[index] |= (1 + index % 2) << wait.lsb
    return result


@pytest.mark.parametrize("seed", range(20))
def test_the_first_race_of_a_long_stream_is_that_of_the_model(seed: int) -> None:
    """Blocks come to have as many histories as there are blocks, and boxes come again when these have changed."""
    random = np.random.default_rng(seed)
    words = pack(ordered(copies(random, 240)))
    assert check_accesses(words, SMALL_GEOMETRY, SEGMENTS) is None
    everything = pairs(words)
    assert len(everything) > 20
    for number in random.choice(len(everything), 6, replace=False):
        stream = without(words, everything[number])
        found = check_accesses(stream, SMALL_GEOMETRY, SEGMENTS)
        assert (None if found is None else found.text) == first_race(stream, SMALL_GEOMETRY, SEGMENTS)


def start(emulator: Emulator, words: npt.NDArray[np.uint64]) -> None:
    """Maps zeroed segments and the stream, and sets the start bit."""
    for segment, base in BASES.items():
        memory = np.zeros(SEGMENT_BYTES, np.uint8)
        if segment is Segment.PROGRAM:
            memory[: words.nbytes] = words.view(np.uint8).reshape(-1)
        emulator.map_memory(base, memory)
        emulator.write_register(RegisterOffset[f"SEGMENT_BASE_{segment.name}_LOW"], base)
        emulator.write_register(RegisterOffset[f"SEGMENT_SIZE_{segment.name}_LOW"], SEGMENT_BYTES)
    emulator.write_register(RegisterOffset.PROGRAM_LENGTH, len(words))
    emulator.write_register(RegisterOffset.CONTROL, 1)


def verdict(words: npt.NDArray[np.uint64], seed: int) -> tuple[Progress, str]:
    """How a stream ends in a fresh emulator of the small design."""
    with Emulator(build_emulator(SMALL_GEOMETRY), SMALL_GEOMETRY) as emulator:
        start(emulator, words)
        return emulator.advance(1_000_000, seed), emulator.message()


@EMULATED
@given(words=streams(), seeds=st.lists(st.integers(1, 1 << 31), min_size=2, max_size=4))
def test_the_emulators_verdict_does_not_depend_on_the_schedule(words: npt.NDArray[np.uint64], seeds: list[int]) -> None:
    expected = check_accesses(words, SMALL_GEOMETRY, SEGMENTS)
    pairs_of_races = races(words, SMALL_GEOMETRY, SEGMENTS)
    for seed in (0, *seeds):
        progress, message = verdict(words, seed)
        if expected is None:
            assert (progress, message) == (Progress.DONE, "")
        else:
            assert progress is Progress.FAULT and "need not have ended" in message
            named = sorted(int(part.split(" ")[0]) for part in message.split("instruction ")[1:])
            assert (named[0], named[1]) in pairs_of_races


BOTH = {"ram_d": 0, "ram_l": 0, "to_d": 1, "to_l": 1, "packed": 0}
LOAD = codec.load_activations(
    **BOTH, rows=4, row_blocks=1, stride_blocks=1, address=program_address(Segment.FEATURES, 0), signal0=1
)
MATMUL = {"act": 0, "wgt": 0, "accumulate": 0, "unsigned": 0, "packed": 0, "acc": 0, "row_beats": 8, "col_groups": 1}
PLANES = {"act": 0, "wgt": 0, "accumulate": 0, "unsigned": 0, "bipolar": 0, "acc": 0, "row_words": 2, "col_groups": 1}
PLANES |= {"slices": 2, "planes": 3}
VEC = {"acc": 0, "out": 0, "par": 0, "groups": 1, "row_blocks": 1, "signed": 1, "packed": 0}
VEC |= {"highest": 127, "shift": 0, "to_exp": 0, "from_sum": 0}
STORE = {"ram": 0, "row_beats": 8, "address": program_address(Segment.ACTIVATIONS, 128)}


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (
            [LOAD, codec.matmul(**MATMUL, rows=4)],
            "instruction 1 (gemm_d matmul) reads act_d_ram words 0 to 7 while instruction 0 (load load_activations), "
            "which wrote them, need not have ended: no chain of semaphores orders them",
        ),
        (
            [LOAD, codec.matmul(**MATMUL, rows=4, wait0=1), codec.matmul_planes(**PLANES, rows=4)],
            "instruction 2 (gemm_l matmul_planes) reads act_l_ram words 0 to 7 while instruction 0 (load "
            "load_activations), which wrote them, need not have ended: no chain of semaphores orders them",
        ),
        (
            # Neither waits, so they begin in the stream's order.
            [codec.matmul_planes(**PLANES, rows=4), LOAD],
            "instruction 1 (load load_activations) writes act_l_ram words 0 to 7 while instruction 0 (gemm_l "
            "matmul_planes), which reads them, need not have ended: no chain of semaphores orders them",
        ),
        (
            [codec.matmul(**MATMUL, rows=4), codec.requantize(**VEC, core=0, rows=3, row_words=2)],
            "instruction 1 (vec requantize) reads acc_d_ram words 0 to 2 while instruction 0 (gemm_d matmul), which "
            "wrote them, need not have ended: no chain of semaphores orders them",
        ),
        (
            [codec.matmul_planes(**PLANES, rows=4), codec.requantize(**VEC, core=1, rows=3, row_words=2)],
            "instruction 1 (vec requantize) reads acc_l_ram words 0 to 2 while instruction 0 (gemm_l matmul_planes), "
            "which wrote them, need not have ended: no chain of semaphores orders them",
        ),
        (
            [codec.requantize(**VEC, core=0, rows=3, row_words=2), codec.store_rows(**STORE, rows=2, stride_blocks=1)],
            "instruction 1 (store store_rows) reads out_ram words 0 to 1 while instruction 0 (vec requantize), which "
            "wrote them, need not have ended: no chain of semaphores orders them",
        ),
        (
            [
                codec.store_rows(**STORE, rows=3, stride_blocks=2),
                codec.load_activations(
                    **BOTH, rows=1, row_blocks=4, stride_blocks=4, address=program_address(Segment.ACTIVATIONS, 192)
                ),
            ],
            "instruction 1 (load load_activations) reads dram bytes {0:#x} to {1:#x} while instruction 0 (store "
            "store_rows), which wrote them, need not have ended: no chain of semaphores orders them",
        ),
    ],
    ids=["read", "read by GEMM-L", "write", "acc_d", "acc_l", "out", "dram"],
)
def test_a_race_names_both_instructions_and_what_they_touch(words: list[int], text: str) -> None:
    expected = text.format(BASES[Segment.ACTIVATIONS] + 256, BASES[Segment.ACTIVATIONS] + 319)
    found = check_accesses(pack(words), SMALL_GEOMETRY, SEGMENTS)
    assert found is not None and found.text == expected
    numbers = [int(part.split(" ")[0]) for part in expected.split("instruction ")[1:]]
    assert [found.later, found.earlier] == numbers and found.memory in expected
    assert verdict(pack(words), 0) == (Progress.FAULT, expected)


def test_rows_between_the_rows_of_a_store_are_free() -> None:
    words = [
        codec.store_rows(**STORE, rows=3, stride_blocks=2),
        codec.load_activations(
            **BOTH, rows=2, row_blocks=1, stride_blocks=2, address=program_address(Segment.ACTIVATIONS, 192)
        ),
    ]
    assert check_accesses(pack(words), SMALL_GEOMETRY, SEGMENTS) is None


@pytest.mark.parametrize(("first", "free"), [(2, True), (1, False), (9, False)])
def test_words_between_the_parts_of_output_rows_are_free(first: int, free: bool) -> None:
    """A core's part of an output row leaves the rest of it to another instruction."""
    words = [
        codec.requantize(**{**VEC, "row_blocks": 2}, core=0, rows=3, row_words=2),
        codec.store_rows(**{**STORE, "ram": first}, rows=1, stride_blocks=1),
    ]
    assert (check_accesses(pack(words), SMALL_GEOMETRY, SEGMENTS) is None) == free


@pytest.mark.parametrize(("word", "use"), [(0, "d"), (8, "d"), (0, "l"), (8, "l")])
def test_what_was_not_overwritten_stays_known(word: int, use: str) -> None:
    address = program_address(Segment.FEATURES, 0)
    place = {**BOTH, "ram_d": word, "ram_l": word}
    whole = codec.load_activations(**BOTH, rows=5, row_blocks=1, stride_blocks=1, address=address)
    part = codec.load_activations(**place, rows=1, row_blocks=1, stride_blocks=1, address=address)
    matmul = codec.matmul(**{**MATMUL, "act": 8 - word}, rows=4)
    planes = codec.matmul_planes(**{**PLANES, "act": 4 if word == 0 else 0}, rows=3)
    found = check_accesses(pack([whole, part, matmul if use == "d" else planes]), SMALL_GEOMETRY, SEGMENTS)
    assert found is not None and (found.earlier, found.later) == (0, 2)


def test_without_the_check_a_race_runs_to_its_end(small_emulator: Emulator) -> None:
    small_emulator.check_order(False)
    start(small_emulator, pack([LOAD, codec.matmul(**MATMUL, rows=4)]))
    assert small_emulator.advance(1000) is Progress.DONE


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ([LOAD, LOAD | 15 << 4], "instruction 1 names no operation of the instruction set"),
        ([9], "instruction 0 names no operation of the instruction set"),
        ([LOAD | SEGMENT_BYTES << 88], "instruction 0 has an address outside its segment"),
        ([codec.sync(engine=Engine.VEC, wait0=2)], "instruction 0 waits for a semaphore before it is signalled"),
        (
            [codec.sync(engine=Engine.LOAD, signal0=2), codec.sync(engine=Engine.VEC, wait0=2, wait1=2)],
            "instruction 1 waits for a semaphore before it is signalled",
        ),
    ],
)
def test_a_stream_that_cannot_run_is_refused(words: list[int], reason: str) -> None:
    with pytest.raises(StreamInvalidError) as caught:
        check_accesses(pack(words), SMALL_GEOMETRY, SEGMENTS)
    assert caught.value.found == reason


# Compiled streams: every pair of signal and wait orders something, or others imply it.


def compile_and_bind(model: Path, graph: HeteroGraph, share: float | None) -> BoundProgram:
    """A float model, quantized on a graph, compiled for the default design and bound to the graph."""
    program = compiled(quantized(Case(read_model(model), graph)).model, graph, default_design().geometry, share)
    bound = bind(program, graph_arrays(program, graph))
    engines = {header(low)["engine"] for low in bound.words[:, 0].tolist()}
    assert share is None or {Engine.GEMM_D, Engine.GEMM_L} <= engines
    return bound


#: The compiler's choice of cores, and every layer on both.
CHOICES = (None, 0.5)


@pytest.fixture(scope="module", params=CHOICES, ids=["chosen", "both cores"])
def demo(request: pytest.FixtureRequest) -> BoundProgram:
    """The example's model on the generated graph."""
    return compile_and_bind(DEMO_MODEL, academic(), request.param)


@pytest.fixture(scope="module", params=CHOICES, ids=["chosen", "both cores"])
def dblp(request: pytest.FixtureRequest) -> BoundProgram:
    """The RGCN of the public graph DBLP."""
    data = require_data()
    return compile_and_bind(data / "models" / "dblp_rgcn.onnx", read_graph(data / "dblp" / "graph.npz"), request.param)


def race_in(words: npt.NDArray[np.uint64], geometry: Geometry) -> Race | None:
    return check_accesses(words, geometry, WIDE_SEGMENTS)


def judge(words: npt.NDArray[np.uint64], chosen: list[Pair], geometry: Geometry) -> list[Pair]:
    """Removes each pair alone and returns the implied ones; fails at one that is neither missed nor implied."""
    assert race_in(words, geometry) is None
    spare = []
    for pair in chosen:
        found = race_in(without(words, pair), geometry)
        if found is None:
            assert implied(words, pair), f"{pair} orders nothing"
            spare.append(pair)
        else:
            assert f"instruction {found.earlier} (" in found.text and f"instruction {found.later} (" in found.text
    return spare


def test_every_semaphore_of_the_demo_is_needed(demo: BoundProgram) -> None:
    everything = pairs(demo.words)
    spare = judge(demo.words, everything, default_design().geometry)
    assert len(everything) > 700
    assert len(spare) <= LARGEST_IMPLIED_SHARE * len(everything), f"{len(spare)} of {len(everything)} are implied"


def test_every_semaphore_of_a_public_program_is_needed(dblp: BoundProgram) -> None:
    everything = pairs(dblp.words)
    picks = np.random.default_rng(0).choice(len(everything), DRAWN, replace=False)
    chosen = [everything[number] for number in picks]
    spare = judge(dblp.words, chosen, default_design().geometry)
    assert len(spare) <= LARGEST_IMPLIED_SHARE * DRAWN, f"{len(spare)} of {DRAWN} are implied"


def test_an_implied_pair_is_not_reported(demo: BoundProgram) -> None:
    """The two judgements agree from the other side too: what others imply can be removed without a race."""
    spare = [pair for pair in pairs(demo.words) if implied(demo.words, pair)]
    assert spare
    assert all(race_in(without(demo.words, pair), default_design().geometry) is None for pair in spare)


# A stream that lacks a pair never gives a wrong result: the check comes first.


@pytest.fixture(scope="module")
def small() -> BoundProgram:
    """Dense layers, each on both cores, and means on the small design."""
    case = academic_case()
    return bound_to(compiled(quantized(case).model, case.graph, SMALL_GEOMETRY, 0.9), case.graph)


def outputs(bound: BoundProgram, words: npt.NDArray[np.uint64], seeds: list[int], check: bool) -> Iterator[bytes | str]:
    """Per seed the bytes of the output segment, or the message of the fault."""
    changed = replace(
        bound, words=words, contents={**bound.contents, Segment.PROGRAM: words.view(np.uint8).reshape(-1)}
    )
    for seed in seeds:
        with Emulator(build_emulator(SMALL_GEOMETRY), SMALL_GEOMETRY) as emulator:
            emulator.check_order(check)
            dram = place(emulator, changed)
            progress = emulator.advance(10_000_000, seed)
            assert progress in (Progress.DONE, Progress.FAULT)
            yield dram[Segment.OUTPUT].tobytes() if progress is Progress.DONE else emulator.message()


def place(emulator: Emulator, bound: BoundProgram) -> dict[Segment, npt.NDArray[np.uint8]]:
    """Maps the segments of a bound program, and sets the start bit."""
    dram = {}
    for segment, (base, _) in WIDE_SEGMENTS.items():
        memory = np.full(max(bound.sizes[segment], 64), 0x5A, np.uint8)
        content = bound.contents.get(segment, memory[:0])
        memory[: content.size] = content
        emulator.map_memory(base, memory)
        dram[segment] = memory
        for name, value in (("BASE", base), ("SIZE", bound.sizes[segment])):
            emulator.write_register(RegisterOffset[f"SEGMENT_{name}_{segment.name}_LOW"], value & 0xFFFF_FFFF)
            emulator.write_register(RegisterOffset[f"SEGMENT_{name}_{segment.name}_HIGH"], value >> 32)
    emulator.write_register(RegisterOffset.PROGRAM_LENGTH, len(bound.words))
    emulator.write_register(RegisterOffset.CONTROL, 1)
    return dram


def test_a_missing_pair_never_gives_a_wrong_result(small: BoundProgram) -> None:
    (right,) = outputs(small, small.words, [0], check=True)
    assert isinstance(right, bytes)
    seeds = [0, 1, 2, 3, 4]
    wrong_without_check = 0
    for pair in pairs(small.words)[::3]:
        words = without(small.words, pair)
        expected = race_in(words, SMALL_GEOMETRY)
        for found in outputs(small, words, seeds, check=True):
            assert found == right if expected is None else "need not have ended" in str(found)
        if expected is not None:
            wrong_without_check += any(found != right for found in outputs(small, words, seeds, check=False))
    assert wrong_without_check > 3


def uses(words: npt.NDArray[np.uint64], semaphore: Semaphore, names: tuple[str, str]) -> int:
    """How often header fields hold a semaphore."""
    fields = [isa().header_field(name) for name in names]
    return sum(field.get(low) == semaphore for low in words[:, 0].tolist() for field in fields)


@pytest.mark.parametrize("ring", ["ACT_D", "ACT_L", "ACC_D", "ACC_L", "SUM", "OUT"])
def test_nobody_waits_for_a_slot_that_nobody_has_used(small: BoundProgram, ring: str) -> None:
    full = uses(small.words, Semaphore[f"{ring}_FULL"], ("signal0", "signal1"))
    assert full > SLOTS
    assert uses(small.words, Semaphore[f"{ring}_FREE"], ("wait0", "wait1")) == full - SLOTS


def test_instructions_that_only_waited_for_fresh_slots_are_left_out(small: BoundProgram) -> None:
    assert not any(low >> isa().header_field("opcode").lsb == 0 for low in small.words[:, 0].tolist())


def test_milestones_are_signalled_and_awaited_once() -> None:
    needs = [-2, -1, 3, 1, 3, 5]
    milestones = Milestones(needs)
    assert [number for number in range(7) if milestones.signals(number)] == [3, 5]
    assert [milestones.waits(number) for number in needs] == [False, False, True, False, False, True]
