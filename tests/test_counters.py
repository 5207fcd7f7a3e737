# SPDX-License-Identifier: Apache-2.0
"""Event counters: registers = sums over the run log = cost functions, for demo and random programs and by hand.

``test_instructions`` compares registers and run log after each operation, in every execution.
"""

import json
import re
from dataclasses import asdict, fields, replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from hetfab.cli.main import main
from hetfab.driver.counters import read_counters
from hetfab.driver.demo import model_path
from hetfab.driver.emulated import EmulatedTransport
from hetfab.driver.graph.generate import academic
from hetfab.driver.graph.npz import write_graph
from hetfab.driver.report import counter_rows
from hetfab.driver.session import Session
from hetfab.hls.build.emulator import Bodies, Emulator, Progress, build_emulator
from hetfab.overlay.bind import BoundProgram
from hetfab.overlay.costs.program_cost import expected_log
from hetfab.overlay.design import Geometry, default_design, design_from_dict, largest_value
from hetfab.overlay.errors import DesignInvalidError
from hetfab.overlay.isa import codec
from hetfab.overlay.isa.codec import Engine, RegisterOffset
from hetfab.overlay.isa.counter_table import RETIRED, EventCounter, counter_table
from hetfab.overlay.isa.counters import Counters
from hetfab.overlay.isa.spec import isa
from hetfab.overlay.program import write_program
from hetfab.overlay.run_log import RUN_LOG_DTYPE
from hetfab.overlay.semantic.stream import MOST_FOLLOWED
from tests.log_totals import log_totals
from tests.programs import SHARES, bound_to, compiled, design_of, quantized, run_emulated
from tests.random_models import Case, random_case

ROOT = Path(__file__).parents[1]
BASE = 0x1000_0000
COUNTERS = counter_table().counters
Emulators = dict[str, Emulator]


def start(emulator: Emulator, words: list[int]) -> None:
    """Maps and starts a program that touches no DRAM but its own."""
    program = np.frombuffer(b"".join(word.to_bytes(16, "little") for word in words), np.uint8).copy()
    emulator.map_memory(BASE, program)
    emulator.write_register(RegisterOffset.SEGMENT_BASE_PROGRAM_LOW, BASE)
    emulator.write_register(RegisterOffset.SEGMENT_BASE_PROGRAM_HIGH, 0)
    emulator.write_register(RegisterOffset.SEGMENT_SIZE_PROGRAM_LOW, len(program))
    emulator.write_register(RegisterOffset.PROGRAM_LENGTH, len(words))
    emulator.write_register(RegisterOffset.CONTROL, 1)


def run(emulator: Emulator, words: list[int]) -> Progress:
    """Runs such a program to its end."""
    start(emulator, words)
    try:
        return emulator.advance(1_000_000)
    finally:
        emulator.unmap_memory(BASE)


def check(bound: BoundProgram, emulator: Emulator) -> Counters:
    """Runs a program; compares its log with the cost functions and its registers with the sums of both."""
    log = run_emulated(bound, emulator).run_log
    assert log is not None
    expected = expected_log(bound)
    for name in set(log.dtype.names or ()) - {"layer"}:
        np.testing.assert_array_equal(log[name], expected[name], name)
    found = read_counters(emulator.read_register)
    assert found == log_totals(log) == log_totals(expected)
    return found


def random_program(seed: int, geometry: Geometry, share: float | None, largest_count: int = 130) -> BoundProgram:
    case = random_case(seed, largest_count=largest_count)
    return bound_to(compiled(quantized(case).model, case.graph, geometry, share), case.graph)


def test_the_table_generates_registers_attributes_and_the_log() -> None:
    names = [counter.name for counter in COUNTERS]
    assert len(set(names)) == len(names)
    assert [field.name for field in fields(Counters)] == names
    for counter in COUNTERS:
        low, high = (isa().register(f"counter_{counter.name}_{half}") for half in ("low", "high"))
        assert high.offset == low.offset + 4 and not low.writable and counter.definition in low.meaning
        assert re.search(rf"^ +{counter.name}: {counter.definition[0].upper()}", Counters.__doc__ or "", re.MULTILINE)
        assert counter.source == RETIRED or counter.source in {field.name for field in isa().token}
    assert list(RUN_LOG_DTYPE.names or ())[4:] == [field.name for field in counter_table().log]
    assert RUN_LOG_DTYPE.itemsize == 88 and RUN_LOG_DTYPE["read_bytes"].shape == (2,)


def test_every_engine_counts_instructions_and_every_count_has_one_meaning() -> None:
    assert {counter.engine for counter in COUNTERS if counter.source == RETIRED} == {e.name for e in isa().engines}
    places = [(counter.engine, counter.source) for counter in COUNTERS]
    assert len(set(places)) == len(places)


def largest(operation: str, *names: str) -> int:
    """Product of the largest values of an operation's fields."""
    values = {field.name: field.largest for field in isa().operation(operation).fields}
    return int(np.prod([values[name] for name in names], dtype=object))


def largest_count(counter: EventCounter, geometry: Geometry) -> int:
    """Largest count of one instruction; a ``reduce`` may have all edges of its context, and a beat for each group."""
    edges = largest("configure_ids", "edges")
    match counter.name:
        case "load_read_bytes":
            copies = {"load_weights": "wgt_d_ram", "load_planes": "wgt_l_ram", "load_parameters": "par_ram"}
            copies["load_depthwise"] = "dwp_ram"
            beats = {name: largest(name, "words") * geometry.word_bytes(ram) // 8 for name, ram in copies.items()}
            beats["load_function"] = largest("load_function", "words")
            beats["load_activations"] = largest("load_activations", "rows", "row_blocks") * isa().block_bytes // 8
            beats |= {name: largest(name, "lines", "beats") for name in ("load_lines", "load_windows")}
            pixels = largest("load_residual", "columns") + 1
            beats["load_residual"] = largest("load_residual", "rows", "run_beats") * pixels
            beats |= dict.fromkeys(("configure_lines", "configure_windows"), 0)
            assert {o.name for o in isa().operations if o.engine == "load"} == set(beats)
            return max(beats.values())
        case "store_write_bytes":
            pixels = largest("store_runs", "columns") + 1
            beats = {"store_rows": largest("store_rows", "rows", "row_beats")}
            beats["store_runs"] = largest("store_runs", "banks", "row_beats") * pixels
            beats["store_middle"] = largest("store_middle", "lines", "row_beats") * pixels
            assert {o.name for o in isa().operations if o.engine == "store"} == set(beats)
            return max(beats.values())
        case "gemm_d_macs":
            # Two steps for a beat, which count twice when packed.
            # Rows of strips are bounded by the accumulators, one for each row of each group.
            rows = largest("matmul_lines", "banks", "col_groups") * (largest("matmul_lines", "columns") + 1)
            strips = min(rows, largest_value("acc_d_words")) * largest("matmul_lines", "lines", "run")
            assert {o.name for o in isa().operations if o.engine == "gemm_d"} == {"matmul", "matmul_lines"}
            return 2 * 2 * max(largest("matmul", "rows", "row_beats", "col_groups"), strips)
        case "gemm_l_macs":
            strips = largest("matmul_planes_lines", "banks", "lines", "run", "col_groups")
            strips *= largest("matmul_planes_lines", "columns") + 1
            operations = {o.name for o in isa().operations if o.engine == "gemm_l"}
            assert operations == {"matmul_planes", "matmul_planes_lines"}
            return max(largest("matmul_planes", "rows", "row_words", "col_groups"), strips)
        case "dw_macs":
            # A result for each place of a window, with a stride of 1.
            sides = sum(largest("depthwise", name) for name in ("left", "columns", "right"))
            return largest("depthwise", "lines", "groups") * (sides - isa().size("window_taps") + 1)
        case "agg_edges":
            return edges
        case "agg_feature_bytes":
            return edges * geometry.agg_groups
        case "agg_graph_bytes":
            records = 2 * largest("reduce", "rows")
            return records + edges * 4 // 8 + 1  # ids of 4 bytes that begin within a beat
        case "sgb_edges":
            return MOST_FOLLOWED  # streams of plans have no more
        case "sgb_right_bytes":
            # Of each edge of the left graph two beats of ends and what its row has beyond a beat for each id.
            return MOST_FOLLOWED + 3 * largest("configure_left", "edges")
        case "sgb_write_bytes":
            return largest("compose", "edges") // 2 + 1 + largest("compose", "rows") // 2 + 1
        case "rst_edges":
            return MOST_FOLLOWED  # streams of restructurings have no more
        case "rst_read_bytes":
            # A beat for each edge, and all that is read once.
            graphs = 2 * (largest("configure_graph", "rows") // 2 + 1)
            return MOST_FOLLOWED + 3 * graphs
        case "rst_write_bytes":
            return largest("configure_graph", "edges")  # of a recoupling, a beat for each edge
    raise KeyError(counter.name)


@pytest.mark.parametrize("counter", [c for c in COUNTERS if c.source != RETIRED], ids=lambda counter: counter.name)
def test_the_largest_instruction_fits_its_field_of_the_token(counter: EventCounter) -> None:
    table = default_design().as_dict()
    arrays = {"gemm_d_rows": 32, "gemm_d_cols": 64, "gemm_l_rows": 32, "gemm_l_cols": 64}
    limits = {**arrays, "agg_groups": largest("reduce", "groups")}
    geometry = design_from_dict({**table, "geometry": {**table["geometry"], **limits}}, "the largest").geometry
    width = next(field for field in isa().token if field.name == counter.source)
    assert 0 < largest_count(counter, geometry) <= width.largest
    for larger in ({name: limit + 8} if name in arrays else {name: limit + 1} for name, limit in limits.items()):
        with pytest.raises(DesignInvalidError):
            design_from_dict({**table, "geometry": {**table["geometry"], **larger}}, "too large")


@pytest.mark.parametrize("seed", range(300, 312))
def test_random_programs(seed: int, default_emulators: Emulators, small_emulators: Emulators) -> None:
    for emulator in (default_emulators["native"], small_emulators["native"]):
        bound = random_program(seed, emulator.geometry, SHARES[seed % len(SHARES)])
        found = check(bound, emulator)
        total = sum(getattr(found, f"{engine.name}_instructions") for engine in isa().engines)
        assert total == len(bound.words) == emulator.read_register(RegisterOffset.RETIRED)


@pytest.mark.parametrize("seed", [100, 103])
def test_all_arithmetics_count_alike(seed: int, default_emulators: Emulators, default_geometry: Geometry) -> None:
    bound = random_program(seed, default_geometry, 0.5, 17)
    native, debug, exact = (check(bound, default_emulators[name]) for name in ("native", "native-debug", "ap_int"))
    assert native == debug == exact
    assert native.load_read_bytes and native.store_write_bytes and native.gemm_d_macs and native.gemm_l_macs


def test_no_counter_depends_on_the_schedule(small_emulators: Emulators, small_geometry: Geometry) -> None:
    emulator = small_emulators["native"]
    bound = random_program(200, small_geometry, 0.5)
    expected = check(bound, emulator)
    for schedule in (1, 2):
        run_emulated(bound, emulator, schedule)
        assert read_counters(emulator.read_register) == expected


@pytest.fixture(scope="module")
def demo() -> tuple[BoundProgram, Case]:
    """The program of ``make demo``."""
    case = Case(onnx.load(str(model_path())), academic())
    return bound_to(compiled(quantized(case).model, case.graph, default_design().geometry), case.graph), case


def test_the_demo_program(demo: tuple[BoundProgram, Case]) -> None:
    bound, _ = demo
    design = design_of(default_design().geometry)
    with EmulatedTransport(design) as transport:
        result = Session(transport, design).run(bound)
    assert result.run_log is not None
    assert result.counters == log_totals(result.run_log) == log_totals(expected_log(bound))
    used = {counter.name: counter.engine in design.geometry.engines for counter in COUNTERS}
    assert {name: value > 0 for name, value in asdict(result.counters).items()} == used
    assert ["load read bytes", result.counters.load_read_bytes, "byte"] in counter_rows(result)


def test_the_command_prints_the_counters(
    demo: tuple[BoundProgram, Case], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    in_turn, case = demo
    bound = bound_to(in_turn.program, case.graph, side_by_side=True)
    program, graph = tmp_path / "demo.hfp", tmp_path / "demo.npz"
    write_program(program, bound.program)
    write_graph(graph, case.graph)
    assert main(["run", str(program), "--graph", str(graph), "--json"]) == 0
    out, err = capsys.readouterr()
    counters = json.loads(out)["counters"]
    assert counters == asdict(log_totals(expected_log(bound)))
    for name, value in counters.items():
        assert re.search(rf"^{name.replace('_', ' ')} +{value:,}  \w+$", err, re.MULTILINE)


def test_a_start_resets_and_a_run_can_be_watched(small_emulator: Emulator) -> None:
    words = [codec.sync(engine=engine) for engine in Engine] * 20
    start(small_emulator, words)
    seen = []
    while small_emulator.advance(60) is Progress.RUNNING:
        seen.append(read_counters(small_emulator.read_register).vec_instructions)
    small_emulator.unmap_memory(BASE)
    assert seen == sorted(seen) and len(set(seen)) > 3
    every = dict.fromkeys((f"{engine.name}_instructions" for engine in isa().engines), 20)
    none = Counters(**dict.fromkeys((counter.name for counter in COUNTERS), 0))
    assert read_counters(small_emulator.read_register) == replace(none, **every)
    assert run(small_emulator, [codec.sync(engine=Engine.AGG)]) is Progress.DONE
    assert read_counters(small_emulator.read_register) == replace(none, agg_instructions=1)


def test_an_unknown_opcode_adds_nothing_else(small_emulator: Emulator) -> None:
    for engine in Engine:
        assert run(small_emulator, [codec.sync(engine=engine) | 15 << 4]) is Progress.FAULT
        counters = asdict(read_counters(small_emulator.read_register))
        assert {name for name, value in counters.items() if value} == {f"{engine.name.lower()}_instructions"}


def test_a_counter_carries_into_its_high_word(default_geometry: Geometry) -> None:
    """On GEMM-D with int4, on GEMM-L with one slice and one plane: the most multiply-accumulates for the least work.

    What a fresh overlay has in its memories of weights is valid at any width.
    """
    geometry = default_geometry
    common = {"act": 0, "wgt": 0, "acc": 0, "accumulate": 0, "unsigned": 0, "col_groups": 1}
    beats = min(geometry.wgt_d_words // 2, geometry.act_d_words)
    rows = min(255, geometry.acc_d_words, geometry.act_d_words // beats * geometry.gemm_d_rows)
    packed = codec.matmul(**common, packed=1, rows=rows, row_beats=beats)
    with Emulator(build_emulator(geometry, bodies=Bodies.HOST), geometry) as emulator:
        carries(emulator, "gemm_d_macs", packed, rows * 16 * beats * geometry.gemm_d_cols)
        row_words = min(geometry.wgt_l_words, geometry.act_l_words)
        rows = min(255, geometry.acc_l_words, geometry.act_l_words // row_words * geometry.gemm_l_rows)
        shape = {"rows": rows, "row_words": row_words, "slices": 1, "planes": 1, "bipolar": 1}
        plane = codec.matmul_planes(**common, **shape)
        carries(emulator, "gemm_l_macs", plane, rows * 32 * row_words * geometry.gemm_l_cols)


def carries(emulator: Emulator, name: str, word: int, each: int) -> None:
    """Repeats an instruction until its count needs the high word."""
    count = (1 << 32) // each + 1
    assert run(emulator, [word] * count) is Progress.DONE, emulator.message()
    assert getattr(read_counters(emulator.read_register), name) == count * each > 1 << 32
    assert emulator.read_register(RegisterOffset[f"COUNTER_{name.upper()}_HIGH"]) == 1
