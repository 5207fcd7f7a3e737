# SPDX-License-Identifier: Apache-2.0
"""Cost functions equal the emulator's run log in every field; they grow with sizes and are never negative."""

import re
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hetfab.driver.demo import model_path
from hetfab.driver.emulated import EmulatedTransport
from hetfab.driver.graph.generate import academic
from hetfab.driver.graph.npz import read_graph
from hetfab.driver.session import Session
from hetfab.hls.build import emulator as emulator_module
from hetfab.hls.build.emulator import Emulator, build_emulator
from hetfab.overlay.bind import BoundProgram
from hetfab.overlay.costs.bursts import (
    BURST_BEATS,
    ROW_BEATS_AHEAD,
    ROWS_AHEAD,
    aligned_bursts,
    bursts_of_run,
    bursts_of_runs,
    rows_ahead,
)
from hetfab.overlay.costs.cycles import COSTS, Cost, Gather, reduce_cost
from hetfab.overlay.costs.program_cost import expected_log, expected_records
from hetfab.overlay.design import Geometry, default_design
from hetfab.overlay.errors import StreamInvalidError
from hetfab.overlay.isa import codec
from hetfab.overlay.isa.arithmetic import reciprocals
from hetfab.overlay.isa.codec import Segment
from hetfab.overlay.isa.loops import loops
from hetfab.overlay.isa.spec import isa
from hetfab.overlay.isa.words import pack, program_address
from hetfab.overlay.run_log import RUN_LOG_DTYPE
from tests.conftest import SMALL_GEOMETRY
from tests.data_folder import require_data
from tests.programs import SHARES, bound_to, compiled, design_of, quantized, run_emulated
from tests.random_models import Case, random_case
from tests.test_instructions import MAKERS, SIZE, Bench, executed

Emulators = dict[str, Emulator]
Array = npt.NDArray[Any]
DEMO = model_path()
KERNELS = Path(emulator_module.__file__).parents[1] / "kernels"
GEOMETRIES = (default_design().geometry, SMALL_GEOMETRY)
RECORDED = [name for name in RUN_LOG_DTYPE.names or () if name != "layer"]


def assert_equal_logs(expected: Array, found: Array, names: list[str]) -> None:
    assert len(expected) == len(found)
    for name in names:
        assert np.array_equal(expected[name], found[name]), name


def check(bound: BoundProgram, emulator: Emulator) -> Array:
    """Compares all fields that an overlay records; the driver adds the layers."""
    log = run_emulated(bound, emulator).run_log
    assert log is not None
    expected = expected_log(bound)
    assert_equal_logs(expected, log, RECORDED)
    assert np.array_equal(expected["layer"], bound.layers)
    return expected


@pytest.mark.parametrize("seed", range(300, 320))
def test_random_programs(seed: int, default_emulators: Emulators, small_emulators: Emulators) -> None:
    case = random_case(seed)
    model = quantized(case).model
    for emulator in (default_emulators["native"], small_emulators["native"]):
        check(
            bound_to(compiled(model, case.graph, emulator.geometry, SHARES[seed % len(SHARES)]), case.graph), emulator
        )


def test_the_demo_through_a_session() -> None:
    case = Case(onnx.load(DEMO), academic())
    for geometry in GEOMETRIES:
        bound = bound_to(compiled(quantized(case).model, case.graph, geometry), case.graph)
        with EmulatedTransport(design_of(geometry)) as transport:
            log = Session(transport, design_of(geometry)).run(bound).run_log
        assert log is not None
        assert_equal_logs(expected_log(bound), log, list(RUN_LOG_DTYPE.names or ()))


@pytest.mark.parametrize("name", ["acm", "dblp", "imdb"])
def test_public_models(name: str, default_emulators: Emulators, small_emulators: Emulators) -> None:
    folder = require_data()
    case = Case(onnx.load(folder / "models" / f"{name}_rgcn.onnx"), read_graph(folder / name / "graph.npz"))
    model = quantized(case).model
    runs: list[tuple[Emulator, float | None]] = [(default_emulators["native"], None)]
    if name == "acm":
        runs += [(default_emulators["native"], 0.5), (small_emulators["native"], 0.5)]
    for emulator, share in runs:
        log = check(bound_to(compiled(model, case.graph, emulator.geometry, share), case.graph), emulator)
        assert log["edges"].sum() > 10_000


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("maker", MAKERS, ids=lambda maker: maker.__name__)
def test_single_instructions_of_any_size(maker: Any, seed: int, small_emulators: Emulators) -> None:
    """Also those without rows, columns, channels or edges."""
    bench = Bench(SMALL_GEOMETRY, small_emulators, np.random.default_rng(seed))
    words = maker(bench)
    program = b"".join(word.to_bytes(16, "little") for word in words)
    bench.put(Segment.PROGRAM, 0, np.frombuffer(program, np.uint8))
    emulator = small_emulators["native"]
    executed(emulator, dict(bench.golden.memories), bench.dram, len(words))
    graph = bench.dram[Segment.GRAPH * SIZE : (Segment.GRAPH + 1) * SIZE]
    assert_equal_logs(expected_records(pack(words), graph, SMALL_GEOMETRY), emulator.run_log(), RECORDED)


def test_a_slot_that_was_not_configured_is_refused() -> None:
    words = pack(
        [
            codec.configure_features(first_block=0, slot_bits=0, slot=1, row_blocks=1, count=1, address=0),
            reduce_of_slot(1),
        ]
    )
    with pytest.raises(StreamInvalidError) as caught:
        expected_records(words, np.zeros(64, np.uint8), SMALL_GEOMETRY)
    missing = "for which no 'configure_destinations' came before"
    assert caught.value.found == f"instruction 1 is a 'reduce' with slot 1, {missing}"


def test_rows_by_the_fifo_need_the_rows() -> None:
    with pytest.raises(StreamInvalidError) as caught:
        expected_records(pack([reduce_of_slot(1, from_fifo=1)]), np.zeros(64, np.uint8), SMALL_GEOMETRY)
    assert caught.value.found == "instruction 0 is a 'reduce' of rows that another instruction makes"


def reduce_of_slot(slot: int, from_fifo: int = 0) -> int:
    return codec.reduce(
        source=0,
        merge=0,
        spill=0,
        weighted=0,
        from_fifo=from_fifo,
        slot=slot,
        rows=1,
        mode=0,
        unsigned=0,
        accumulate=0,
        groups=1,
        destination=0,
        sum=0,
    )


#: Operations that need graphs which other instructions write: what has their costs.
OF_GRAPHS = {
    **dict.fromkeys(("compose", "widen", "transpose"), "graphs"),
    **dict.fromkeys(("match", "walk", "recouple", "grow_tiles"), "restructuring"),
}


def test_every_operation_has_a_cost() -> None:
    with_entries = {"reduce", "attend"}
    assert {*COSTS, *with_entries, *OF_GRAPHS} == {operation.name for operation in isa().operations}


@pytest.mark.parametrize("name", OF_GRAPHS)
def test_an_instruction_whose_cost_follows_from_a_graph_names_what_knows_it(name: str) -> None:
    operation = isa().operation(name)
    opcode = operation.opcode << isa().header_field("opcode").lsb
    words = pack([isa().engine(operation.engine).id | opcode])
    with pytest.raises(StreamInvalidError) as caught:
        expected_records(words, np.zeros(64, np.uint8), SMALL_GEOMETRY)
    assert caught.value.found.startswith(f"instruction 0 is a '{name}', whose cost depends")
    assert caught.value.do == f"use hetfab.overlay.costs.{OF_GRAPHS[name]} with the graphs"


# The functions alone

SIZES = {
    "load_activations": ("rows", "row_blocks"),
    "load_weights": ("words",),
    "load_planes": ("words",),
    "load_parameters": ("words",),
    "store_rows": ("rows", "row_beats"),
    "matmul": ("rows", "row_beats", "col_groups"),
    "matmul_planes": ("rows", "row_words", "slices", "planes", "col_groups"),
    "requantize": ("rows", "row_words"),
    "combine": ("rows", "row_words"),
    "export_sums": ("rows", "row_words"),
    "export_accumulators": ("rows", "row_words"),
}
#: Modes that a cost depends on; each makes it larger.
FLAGS = {
    "matmul": ("accumulate", "packed"),
    "matmul_planes": ("accumulate",),
    "requantize": ("packed",),
    "combine": ("packed",),
}
geometries = st.sampled_from(GEOMETRIES)


def one(**values: int) -> dict[str, Array]:
    return {name: np.array([value], np.int64) for name, value in values.items()}


def counts_of(cost: Cost) -> Array:
    return np.concatenate([np.asarray(getattr(cost, field.name)).ravel() for field in fields(Cost)])


def smallest(operation: str, size: str) -> int:
    """A product needs channels, and on GEMM-L slices and planes too."""
    products = {"matmul": {"row_beats"}, "matmul_planes": {"row_words", "slices", "planes"}}
    return int(size in products.get(operation, ()))


@given(st.data(), st.sampled_from(sorted(SIZES)), geometries)
def test_costs_grow_with_every_size(data: st.DataObject, name: str, geometry: Geometry) -> None:
    largest = {field.name: field.largest for field in isa().operation(name).fields} | {"slices": 2, "planes": 8}
    sizes = {size: data.draw(st.integers(smallest(name, size), largest[size] - 1), size) for size in SIZES[name]}
    flags = {flag: data.draw(st.integers(0, 1), flag) for flag in FLAGS.get(name, ())}
    rest = {"address": 8 * data.draw(st.integers(0, 1000), "beat"), "stride_blocks": sizes.get("row_blocks", 0) + 1}
    cost = counts_of(COSTS[name](one(engine=0, **sizes, **flags, **rest), geometry))
    assert (cost >= 0).all()
    for size in SIZES[name]:
        larger = {**sizes, size: sizes[size] + 1}
        assert (counts_of(COSTS[name](one(engine=0, **larger, **flags, **rest), geometry)) >= cost).all(), size
    for flag in flags:
        assert (counts_of(COSTS[name](one(engine=0, **sizes, **{**flags, flag: 1}, **rest), geometry)) >= cost).all()


@given(st.sampled_from(sorted(SIZES)), geometries, st.data())
def test_nothing_to_do_costs_the_instruction_alone(name: str, geometry: Geometry, data: st.DataObject) -> None:
    empty = data.draw(st.sampled_from([size for size in SIZES[name] if not smallest(name, size)]))
    flags = {flag: data.draw(st.integers(0, 1), flag) for flag in FLAGS.get(name, ())}
    values = dict.fromkeys(SIZES[name], 2) | {empty: 0}
    cost = COSTS[name](one(engine=0, address=0, stride_blocks=5, **values, **flags), geometry)
    assert cost.cycles[0] == loops()["instruction"].cycles(1)
    assert counts_of(replace(cost, cycles=np.zeros(1, np.int64))).sum() == 0


@pytest.mark.parametrize(
    ("fields", "trips", "macs"),
    [
        # Two blocks of 4 rows, 6 steps each, the last drained in 4 trips.
        ({"rows": 5, "row_beats": 3, "col_groups": 1, "accumulate": 0, "packed": 0}, 2 * 6 + 4, 5 * 24 * 16),
        # Drains of 8 trips, a read and a write of each row, longer than the steps.
        ({"rows": 5, "row_beats": 3, "col_groups": 1, "accumulate": 1, "packed": 0}, 2 * 8 + 8, 5 * 24 * 16),
        ({"rows": 5, "row_beats": 3, "col_groups": 2, "accumulate": 0, "packed": 1}, 4 * 6 + 4, 5 * 48 * 32),
    ],
)
def test_a_matmul_by_hand(fields: dict[str, int], trips: int, macs: int) -> None:
    cost = COSTS["matmul"](one(**fields), SMALL_GEOMETRY)
    assert cost.cycles[0] == loops()["gemm_d_steps"].cycles(trips) + loops()["instruction"].cycles(1)
    assert cost.macs[0] == macs


@pytest.mark.parametrize(
    ("fields", "trips", "macs"),
    [
        # Two blocks of 3 rows, 2 slices of 2 words of 5 planes each, the last drained in 3 trips.
        (
            {"rows": 4, "row_words": 2, "slices": 2, "planes": 5, "col_groups": 1, "accumulate": 0},
            2 * 20 + 3,
            4 * 64 * 8,
        ),
        # One step a block: its drain decides.
        (
            {"rows": 4, "row_words": 1, "slices": 1, "planes": 1, "col_groups": 1, "accumulate": 0},
            2 * 3 + 3,
            4 * 32 * 8,
        ),
        (
            {"rows": 4, "row_words": 1, "slices": 1, "planes": 1, "col_groups": 3, "accumulate": 1},
            6 * 6 + 6,
            4 * 32 * 24,
        ),
    ],
)
def test_a_matmul_of_planes_by_hand(fields: dict[str, int], trips: int, macs: int) -> None:
    cost = COSTS["matmul_planes"](one(**fields), SMALL_GEOMETRY)
    assert cost.cycles[0] == loops()["gemm_l_steps"].cycles(trips) + loops()["instruction"].cycles(1)
    assert cost.macs[0] == macs


def reduce_counts(*, rows: int, groups: int, edges: int, accumulate: int, first: int) -> Array:
    context = {"destinations.address": 0, "destination": 3, "ids.address": 64, "source": 0, "merge": 0, "spill": 0}
    context |= {"destinations.parts": 0}
    empty = max(rows - edges, 0)
    gather = Gather(*(np.array([value], np.int64) for value in (edges, empty, 1, 0, first, edges, edges, edges, 0, 0)))
    return counts_of(
        reduce_cost(one(rows=rows, groups=groups, accumulate=accumulate, **context), gather, SMALL_GEOMETRY)
    )


@given(
    st.integers(0, 200),
    st.integers(0, 8),
    st.integers(0, 5000),
    st.integers(0, 1),
    st.integers(0, 9),
)
def test_reduce_grows_with_rows_groups_and_edges(
    rows: int, groups: int, edges: int, accumulate: int, first: int
) -> None:
    edges = edges if rows and groups else 0
    sizes = {"rows": rows, "groups": groups, "edges": edges}
    cost = reduce_counts(**sizes, accumulate=accumulate, first=first)
    assert (cost >= 0).all()
    for size in sizes:
        if size == "edges" and not (rows and groups):
            continue
        larger = reduce_counts(**{**sizes, size: sizes[size] + 1}, accumulate=accumulate, first=first)
        assert (larger >= cost).all(), size


@given(*(st.integers(0, most) for most in (99, 40, 70, 99)))
def test_bursts_of_one_run_and_of_equal_ones_are_those_of_each(
    first: int, runs: int, beats: int, distance: int
) -> None:
    each = aligned_bursts(first + distance * np.arange(runs), np.full(runs, beats))
    assert bursts_of_runs(first, runs, beats, distance) == each.sum()
    assert [bursts_of_run(first + distance * run, beats) for run in range(runs)] == each.tolist()


@given(st.sampled_from(sorted(loops())), st.integers(0, 99))
def test_a_loop_that_runs_once_takes_as_long_as_one_of_many(name: str, trips: int) -> None:
    assert loops()[name].cycles_once(trips) == loops()[name].cycles([trips])[0]


GROUPS = range(1, next(f for f in isa().operation("reduce").fields if f.name == "groups").largest + 1)


@pytest.mark.parametrize("groups", GROUPS)
def test_rows_ahead_stay_within_half_of_what_the_port_keeps(groups: int) -> None:
    """In requests and in beats.

    With the last beat of a row the one ``ahead`` rows on is requested: more trips before its first beat than the
    gather's pipeline has stages, or it could hang.
    """
    ahead = int(rows_ahead(np.array(groups)))
    assert 1 <= ahead <= ROWS_AHEAD
    assert ahead == 1 or ahead * groups <= ROW_BEATS_AHEAD
    assert ahead == ROWS_AHEAD or (ahead + 1) * groups > ROW_BEATS_AHEAD
    depths = [loops()[name].depth for name in ("agg_gather", "attend_scores", "attend_weighted")]
    assert (ahead - 1) * groups + 1 > max(depths)


def test_the_feature_port_keeps_twice_the_rows_ahead() -> None:
    kernel = (KERNELS / "agg.cpp").read_text(encoding="utf-8").replace("\\\n", " ")
    (stated,) = re.findall(r"port=features .*?num_read_outstanding=(\d+) max_read_burst_length=(\d+)", kernel)
    assert [int(number) for number in stated] == [2 * ROWS_AHEAD, BURST_BEATS]


@pytest.mark.parametrize("groups", [1, 2, 5, 8, 9, 16, 17, 33, 63])
def test_the_kernel_requests_as_many_rows_ahead(groups: int) -> None:
    """Rows of all lengths, many edges: the counts are exact only if kernel and cost function agree."""
    # Wider words than one beat are for rows of fewer groups.
    geometry = replace(SMALL_GEOMETRY, agg_groups=max(GROUPS), agg_word_beats=1, sum_words=64)
    with Emulator(build_emulator(geometry), geometry) as emulator:
        words, dram = wide_reduction(groups)
        executed(emulator, {}, dram, len(words))
        graph = dram[Segment.GRAPH * SIZE : (Segment.GRAPH + 1) * SIZE]
        assert_equal_logs(expected_records(pack(words), graph, geometry), emulator.run_log(), RECORDED)


def wide_reduction(groups: int) -> tuple[list[int], Array]:
    """One destination with forty edges to rows of ``groups`` beats, and the DRAM for it."""
    edges = 40
    dram = np.zeros(len(Segment) * SIZE, np.uint8)
    record = np.array([0, edges, *(int(part[0]) for part in reciprocals(np.array([edges])))], "<u4")
    ids = (np.arange(edges) % 9).astype("<u2")
    for offset, values in ((0, record), (64, ids)):
        content = np.frombuffer(values.tobytes(), np.uint8)
        dram[Segment.GRAPH * SIZE + offset :][: len(content)] = content
    graph, features = program_address(Segment.GRAPH, 0), program_address(Segment.FEATURES, 0)
    words = [
        codec.configure_features(
            first_block=0, slot_bits=0, slot=0, row_blocks=-(-groups // 8), count=9, address=features
        ),
        codec.configure_destinations(slot=0, parts=0, count=1, address=graph),
        codec.configure_ids(slot=0, edges=edges, id_bytes=2, address=graph + 64),
        codec.reduce(
            source=0,
            merge=0,
            spill=0,
            weighted=0,
            from_fifo=0,
            slot=0,
            rows=1,
            mode=1,
            unsigned=0,
            accumulate=1,
            groups=groups,
            destination=0,
            sum=0,
        ),
    ]
    program = np.frombuffer(b"".join(word.to_bytes(16, "little") for word in words), np.uint8)
    dram[: len(program)] = program
    return words, dram
