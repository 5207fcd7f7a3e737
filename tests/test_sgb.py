# SPDX-License-Identifier: Apache-2.0
"""SGB's instructions: golden model = plain = host bodies = checked = ap_int, and cost functions give the run log."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings

from hetfab.driver.counters import read_counters
from hetfab.hls.build.emulator import Emulator, Progress
from hetfab.overlay.costs.cycles import Cost
from hetfab.overlay.costs.graphs import PlacedGraph, compose_cost, transpose_cost, widen_cost
from hetfab.overlay.design import Geometry
from hetfab.overlay.errors import DesignTooSmallError, LimitExceededError, StreamInvalidError
from hetfab.overlay.isa import codec
from hetfab.overlay.isa.codec import RegisterOffset, Segment
from hetfab.overlay.isa.golden import GoldenMachine
from hetfab.overlay.isa.spec import isa
from hetfab.overlay.isa.words import program_address
from hetfab.overlay.layouts import padded
from hetfab.overlay.model.schema import Relation
from hetfab.overlay.run_log import RUN_LOG_DTYPE
from hetfab.overlay.semantic.adjacency import Adjacency, adjacency, compose, transpose
from hetfab.overlay.semantic.build import build_semantic_graphs
from hetfab.overlay.semantic.plan import Compose, Plan, plan_semantic_graphs
from hetfab.overlay.semantic.stream import graph_segment, semantic_stream
from tests.conftest import CHECKED, NATIVE, SMALL_GEOMETRY, opened
from tests.log_totals import log_totals
from tests.random_relations import RandomRelations, random_relations

#: A design whose bitmap and buffers are small, so that windows and limits are met.
GEOMETRY = replace(SMALL_GEOMETRY, engines=("load", "store", "sgb"), sgb_columns=512, sgb_ids=64)
BASE = 0x1000_0000
SIZE = 1 << 19
#: Not the first one, so that rows of graphs cross pages.
LEFT, RIGHT, OUT = 0, 0x6FC0, 0x10000
BITMAPS = SIZE - 0x2_0000


@pytest.fixture(scope="module")
def emulators() -> Iterator[dict[str, Emulator]]:
    with opened(GEOMETRY, NATIVE | CHECKED) as found:
        yield found


def random_graph(rng: np.random.Generator, rows: int, columns: int) -> Adjacency:
    """Rows of any degree, their ids in any order."""
    share = rng.choice([0.0, 0.01, 0.1, 0.5, 1.0])
    source, destination = np.nonzero(rng.random((rows, columns)) < share)
    graph = adjacency(source, destination, rows, columns)
    shuffled = [rng.permutation(graph.row(row)) for row in range(rows)]
    return Adjacency(graph.starts, np.concatenate([np.zeros(0, np.int64), *shuffled]), columns)


def mixed_graph(rng: np.random.Generator, rows: int, columns: int) -> Adjacency:
    """Rows each of a share of the columns, their ids in any order."""
    shares = rng.choice([0.0, 0.02, 0.04, 0.1, 0.9], rows)
    found = [rng.permutation(columns)[: int(share * columns)] for share in shares]
    starts = np.cumsum([0, *map(len, found)])
    return Adjacency(starts, np.concatenate([np.zeros(0, np.int64), *found]), columns)


def image(graph: Adjacency) -> npt.NDArray[np.uint8]:
    """A graph in the layout 'adjacency'."""
    size = padded(4 * (graph.rows + 1), 64)
    content = np.zeros(size + 4 * graph.edges, np.uint8)
    content[: 4 * (graph.rows + 1)] = graph.starts.astype("<u4").view(np.uint8)
    content[size:] = graph.ids.astype("<u4").view(np.uint8)
    return content


def graph_fields(graph: Adjacency, offset: int) -> dict[str, int]:
    """With room for more edges than there are: sizes of intermediate graphs are not known before they are built."""
    return {"edges": graph.edges + 5, "rows": graph.rows, "address": program_address(Segment.GRAPH, offset)}


def composition(
    left: Adjacency, right: Adjacency, threshold: int, room: int, to_fifo: int = 0, wide: int = 0
) -> list[int]:
    bitmaps = program_address(Segment.GRAPH, BITMAPS)
    return [
        codec.configure_left(**graph_fields(left, LEFT)),
        codec.configure_right(**graph_fields(right, RIGHT)),
        codec.configure_bitmap(wide=wide, threshold=threshold, columns=right.columns, address=bitmaps),
        *([codec.widen()] if wide else []),
        codec.compose(to_fifo=to_fifo, edges=room, rows=left.rows, address=program_address(Segment.GRAPH, OUT)),
    ]


def turning(graph: Adjacency) -> list[int]:
    return [
        codec.configure_left(**graph_fields(graph, LEFT)),
        codec.configure_right(edges=0, rows=0, address=program_address(Segment.GRAPH, RIGHT)),
        codec.configure_bitmap(wide=0, threshold=0, columns=0, address=program_address(Segment.GRAPH, 0)),
        codec.transpose(edges=graph.edges, rows=graph.columns, address=program_address(Segment.GRAPH, OUT)),
    ]


def memory(words: list[int], left: Adjacency, right: Adjacency | None, seed: int) -> npt.NDArray[np.uint8]:
    """DRAM with a program and its graphs; the rest is random."""
    dram = np.random.default_rng(seed).integers(0, 256, len(Segment) * SIZE, dtype=np.uint8)
    program = np.frombuffer(b"".join(word.to_bytes(16, "little") for word in words), np.uint8)
    dram[: len(program)] = program
    for offset, graph in ((LEFT, left), (RIGHT, right)):
        if graph is not None:
            content = image(graph)
            dram[Segment.GRAPH * SIZE + offset :][: len(content)] = content
    return dram


def golden(words: list[int], dram: npt.NDArray[np.uint8]) -> GoldenMachine:
    machine = GoldenMachine(GEOMETRY)
    machine.map_memory(BASE, dram)
    machine.segments = {s.name.lower(): (BASE + s.value * SIZE, SIZE) for s in Segment}
    machine.run(b"".join(word.to_bytes(16, "little") for word in words))
    return machine


def run(emulator: Emulator, dram: npt.NDArray[np.uint8], count: int) -> tuple[Progress, str]:
    emulator.map_memory(BASE, dram)
    try:
        emulator.write_register(RegisterOffset.PROGRAM_LENGTH, count)
        for segment in Segment:
            base = RegisterOffset[f"SEGMENT_BASE_{segment.name}_LOW"]
            emulator.write_register(base, BASE + segment.value * SIZE)
            emulator.write_register(RegisterOffset[f"SEGMENT_SIZE_{segment.name}_LOW"], SIZE)
        emulator.write_register(RegisterOffset.CONTROL, 1)
        return emulator.advance(100_000), emulator.message()
    finally:
        emulator.unmap_memory(BASE)


def check(emulators: dict[str, Emulator], words: list[int], before: npt.NDArray[np.uint8], *costs: Cost) -> None:
    """Runs everywhere; DRAM is the golden model's, the last records what the cost functions give."""
    expected = before.copy()
    machine = golden(words, expected)
    for name, emulator in emulators.items():
        found = before.copy()
        assert run(emulator, found, len(words)) == (Progress.DONE, ""), name
        assert np.array_equal(found, expected), name
        assert emulator.read_rows_fifo().tolist() == list(machine.streams["rows_fifo"]), name
        context = emulator.read_ram("sgb_context", 0, 3)
        assert np.array_equal(context, machine.memories["sgb_context"]), name
        log = emulator.run_log()
        for record, cost in zip(log[len(log) - len(costs) :], costs, strict=True):
            for field in RUN_LOG_DTYPE.names or ():
                if field not in ("index", "engine", "opcode", "layer", "misses"):
                    assert np.array_equal(record[field], getattr(cost, field)[0]), (name, field)
        assert read_counters(emulator.read_register) == log_totals(log), name


@pytest.mark.parametrize("seed", range(24))
def test_compositions(seed: int, emulators: dict[str, Emulator]) -> None:
    rng = np.random.default_rng(seed)
    rows, middles, columns = map(int, (rng.integers(0, 140), rng.integers(1, 60), rng.choice([1, 63, 64, 200, 512])))
    left, right = random_graph(rng, rows, middles), random_graph(rng, middles, columns)
    threshold = int(rng.choice([0, 8, 64]))
    out = compose(left, right, threshold)
    words = composition(left, right, threshold, out.edges)
    base = BASE + Segment.GRAPH * SIZE
    x, y, z = (PlacedGraph(graph, base + at) for graph, at in ((left, LEFT), (right, RIGHT), (out, OUT)))
    check(emulators, words, memory(words, left, right, seed), compose_cost(x, y, z, threshold))


@pytest.mark.parametrize("seed", range(16))
def test_compositions_of_wide_rows(seed: int, emulators: dict[str, Emulator]) -> None:
    """Rows of the right graph on both sides of the density, in left rows of one batch and more."""
    rng = np.random.default_rng(seed)
    rows, middles, columns = map(int, (rng.integers(0, 60), rng.integers(1, 60), rng.choice([1, 63, 64, 200, 512])))
    left, right = random_graph(rng, rows, middles), mixed_graph(rng, middles, columns)
    out = compose(left, right, threshold := int(rng.choice([0, 8, 64])))
    words = composition(left, right, threshold, out.edges, wide=1)
    base = BASE + Segment.GRAPH * SIZE
    x, y, z = (PlacedGraph(graph, base + at) for graph, at in ((left, LEFT), (right, RIGHT), (out, OUT)))
    costs = widen_cost(y, base + BITMAPS), compose_cost(x, y, z, threshold, bitmaps=base + BITMAPS)
    check(emulators, words, memory(words, left, right, seed), *costs)


def test_bitmaps_of_another_graph_stop_the_run() -> None:
    left = adjacency(np.array([0, 0]), np.array([0, 1]), 1, 2)
    right = adjacency(np.array([0, 1, 1, 1]), np.array([3, 0, 1, 2]), 2, 5)
    words = [word for word in composition(left, right, 0, 9, wide=1) if word != codec.widen()]
    dram = memory(words, left, right, 0)
    dram[Segment.GRAPH * SIZE + BITMAPS :][:16] = 0
    with opened(GEOMETRY, NATIVE) as fresh:
        for emulator in fresh.values():
            found = "engine 'sgb', instruction 3: the bitmap of row 1 of the right graph is not its ids"
            assert run(emulator, dram.copy(), 4) == (Progress.FAULT, found)
    with pytest.raises(StreamInvalidError) as caught:
        golden(words, dram)
    assert caught.value.found == "instruction 3 (compose) uses bitmaps of another graph"


@pytest.mark.parametrize("seed", range(8))
def test_compositions_by_fifo(seed: int, emulators: dict[str, Emulator]) -> None:
    """Every row with its degree, whatever the room; nothing is written."""
    rng = np.random.default_rng(seed)
    rows, middles, columns = map(int, (rng.integers(0, 140), rng.integers(1, 60), rng.choice([1, 64, 200])))
    left, right = random_graph(rng, rows, middles), random_graph(rng, middles, columns)
    out = compose(left, right, threshold := int(rng.choice([0, 8, 64])))
    words = composition(left, right, threshold, room := int(rng.integers(0, 9)), to_fifo=1)
    before = memory(words, left, right, seed)
    x, y, z = (
        PlacedGraph(graph, BASE + Segment.GRAPH * SIZE + at) for graph, at in ((left, LEFT), (right, RIGHT), (out, OUT))
    )
    check(emulators, words, before, compose_cost(x, y, z, threshold, to_fifo=True))
    machine = golden(words, dram := before.copy())
    sent = [number for row in range(rows) for number in (len(out.row(row)), *out.row(row).tolist())]
    assert list(machine.streams["rows_fifo"]) == sent and np.array_equal(dram, before), room


@pytest.mark.parametrize("seed", range(12))
def test_transposes(seed: int, emulators: dict[str, Emulator]) -> None:
    rng = np.random.default_rng(seed)
    graph = random_graph(rng, int(rng.integers(0, 140)), int(rng.choice([0, 1, 63, 64, 130])))
    words = turning(graph)
    base = BASE + Segment.GRAPH * SIZE
    cost = transpose_cost(PlacedGraph(graph, base + LEFT), PlacedGraph(transpose(graph), base + OUT), GEOMETRY)
    check(emulators, words, memory(words, graph, None, seed), cost)


def test_ids_beyond_the_room_are_counted_but_not_written(emulators: dict[str, Emulator]) -> None:
    rng = np.random.default_rng(1)
    left = adjacency(rng.integers(0, 70, 300), rng.integers(0, 40, 300), 70, 40)
    right = adjacency(rng.integers(0, 40, 300), rng.integers(0, 90, 300), 40, 90)
    out = compose(left, right, 20)
    words = composition(left, right, 20, room := out.edges - 31)
    before = memory(words, left, right, 0)
    expected = before.copy()
    golden(words, expected)
    place = Segment.GRAPH * SIZE + OUT
    assert expected[place + 4 * 70 : place + 4 * 71].view("<u4")[0] == out.edges > room
    for name, emulator in emulators.items():
        found = before.copy()
        assert run(emulator, found, len(words)) == (Progress.DONE, ""), name
        assert np.array_equal(found, expected), name


def broken(part: str) -> tuple[list[int], Adjacency, Adjacency]:
    """A composition with one thing wrong."""
    left = adjacency(np.array([0, 1]), np.array([1, 0]), 2, 3)
    right = adjacency(np.array([0, 1]), np.array([4, 2]), 3, 5)
    words = composition(left, right, 0, 9)
    fields = {"threshold": 0, "columns": 5} | {"threshold": {"threshold": 65}, "columns": {"columns": 513}}.get(
        part, {}
    )
    if part in ("threshold", "columns"):
        words[2] = codec.configure_bitmap(**fields, wide=0, address=program_address(Segment.GRAPH, 0))
    if part == "rows":
        words[3] = codec.compose(to_fifo=0, edges=9, rows=3, address=program_address(Segment.GRAPH, OUT))
    if part == "left":
        left = Adjacency(left.starts, np.array([1, 3]), 3)
    if part == "right":
        right = Adjacency(right.starts, np.array([4, 5]), 5)
    if part == "starts":
        left = Adjacency(np.array([0, 2, 1]), left.ids, 3)
    return words, left, right


@pytest.mark.parametrize(
    ("part", "found", "by_golden"),
    [
        ("threshold", "threshold 65, not at most 64, the design's sgb_ids", "threshold 65"),
        ("columns", "columns 513, not at most 512, the design's sgb_columns", "513 columns"),
        ("rows", "compose of 3 rows, the left graph has 2", "3 rows"),
        ("left", "the left graph has the id 3, not one below 3", "id 3"),
        ("right", "the right graph has the id 5, not one below 5", "id 5"),
        ("starts", "the left graph's starts do not ascend from 0 to at most 7", "starts of a graph"),
    ],
)
def test_graphs_that_the_engine_cannot_take_stop_the_run(part: str, found: str, by_golden: str) -> None:
    words, left, right = broken(part)
    dram = memory(words, left, right, 0)
    with opened(GEOMETRY, NATIVE) as fresh:
        for emulator in fresh.values():
            assert run(emulator, dram.copy(), 4) == (Progress.FAULT, f"engine 'sgb', instruction 3: {found}")
    with pytest.raises(StreamInvalidError) as caught:
        golden(words, dram)
    assert caught.value.found == f"instruction 3 (compose) uses {by_golden}"


def test_a_design_without_the_engine_refuses_its_instructions() -> None:
    without: Geometry = replace(GEOMETRY, engines=("load", "store"))
    with pytest.raises(StreamInvalidError) as caught:
        GoldenMachine(without).execute(
            codec.configure_bitmap(wide=0, threshold=0, columns=0, address=0).to_bytes(16, "little")
        )
    assert caught.value.found == "instruction 0 uses engine sgb"


@given(random_relations())
@settings(deadline=None, max_examples=25)
def test_plans_run_as_streams(emulators: dict[str, Emulator], random: RandomRelations) -> None:
    plan = plan_semantic_graphs(random.metapaths, random.relations, random.reverses)
    expected = build_semantic_graphs(plan, random.by_name)
    stream = semantic_stream(plan, random.by_name, GEOMETRY)
    before = np.zeros(len(Segment) * SIZE, np.uint8)
    before[: stream.words.nbytes] = stream.words.reshape(-1).view(np.uint8)
    graph_segment(stream, random.by_name, before[Segment.GRAPH * SIZE :])
    for name in ("native", "host"):
        dram = before.copy()
        assert run(emulators[name], dram, len(stream.words)) == (Progress.DONE, "")
        for metapath, path in plan.outputs.items():
            found = stream.places[path].read(dram[Segment.GRAPH * SIZE :])
            assert found.starts.tolist() == expected[metapath].starts.tolist()
            capped = any(isinstance(step, Compose) and step.threshold > GEOMETRY.sgb_ids for step in plan.steps)
            assert capped or found.ids.tolist() == expected[metapath].ids.tolist()


def test_a_plan_of_dense_graphs_makes_bitmaps_once_and_reuses_places(emulators: dict[str, Emulator]) -> None:
    """Two products with the same right relation, and one that is dropped when the next is built."""
    rng = np.random.default_rng(5)
    there, back = mixed_graph(rng, 70, 80), mixed_graph(rng, 80, 500)
    relations = {
        Relation("a", "r", "b"): there,
        Relation("b", "s", "c"): back,
        Relation("c", "t", "b"): transpose(back),
    }
    metapaths = {"long": ("r", "s", "t", "s"), "short": ("r", "s")}
    plan = plan_semantic_graphs(metapaths, relations)
    by_name = {relation.name: graph for relation, graph in relations.items()}
    composed = [step for step in plan.steps if isinstance(step, Compose)]
    assert [step.right for step in composed if step.bitmap_bytes].count(("s",)) == 2
    stream = semantic_stream(plan, by_name, GEOMETRY)
    opcodes = (stream.words[:, 0] >> np.uint64(isa().header_field("opcode").lsb) & np.uint64(15)).tolist()
    assert opcodes.count(isa().operation("widen").opcode) == len({s.right for s in composed if s.bitmap_bytes})
    before = np.zeros(len(Segment) * SIZE, np.uint8)
    before[: stream.words.nbytes] = stream.words.reshape(-1).view(np.uint8)
    graph_segment(stream, by_name, before[Segment.GRAPH * SIZE :])
    expected = build_semantic_graphs(plan, by_name)
    for name in ("native", "host"):
        dram = before.copy()
        assert run(emulators[name], dram, len(stream.words)) == (Progress.DONE, "")
        for metapath, path in plan.outputs.items():
            found = stream.places[path].read(dram[Segment.GRAPH * SIZE :])
            assert found.starts.tolist() == expected[metapath].starts.tolist()
            assert all(sorted(found.row(r)) == sorted(expected[metapath].row(r)) for r in range(found.rows))


def test_places_of_dropped_graphs_are_reused() -> None:
    """A long path drops what it is built from, and the next part takes that place."""
    rng = np.random.default_rng(6)
    relations = {Relation("a", f"r{number}", "a"): random_graph(rng, 40, 40) for number in range(6)}
    by_name = {relation.name: graph for relation, graph in relations.items()}
    plan = plan_semantic_graphs({"long": tuple(by_name)}, relations)
    stream = semantic_stream(plan, by_name, GEOMETRY)
    built = [place for path, place in stream.places.items() if len(path) > 1]
    assert stream.size < stream.read_bytes + sum(place.end - place.offset for place in built)


def test_designs_that_cannot_build_a_plan_are_refused() -> None:
    wide = adjacency(np.array([0]), np.array([600]), 2, 601)
    relations = {Relation("a", "ab", "b"): wide, Relation("b", "ba", "a"): transpose(wide)}
    plan = plan_semantic_graphs({"BAB": ("ba", "ab")}, relations)
    by_name = {relation.name: graph for relation, graph in relations.items()}
    with pytest.raises(DesignTooSmallError) as caught:
        semantic_stream(plan, by_name, GEOMETRY)
    assert str(caught.value) == (
        "the graph along ba, ab has 601 columns\n"
        "  expected: at most 512 columns, the design's sgb_columns\n"
        "  do: use a design with more, or build the graph on the host"
    )
    with pytest.raises(DesignTooSmallError) as caught:
        semantic_stream(plan, by_name, replace(GEOMETRY, engines=("load", "store")))
    assert str(caught.value) == (
        "the design has the engines load, store\n"
        "  expected: the engine sgb, which builds semantic graphs\n"
        "  do: use a design with it, or build the graphs on the host"
    )


def test_an_instruction_that_could_not_count_its_edges_is_refused() -> None:
    """Two ends of 512 and 65,536 vertices between them: 2^25 edges, and up to 2^34 expansions."""
    step = Compose(("x", "y"), ("x",), ("y",), 0, 0, 0, False, 1, 1, 0)
    full = Adjacency(np.zeros(2, np.int64), np.zeros(0, np.int64), 512)
    left = replace(full, ids=np.broadcast_to(np.int64(0), 1 << 25))
    with pytest.raises(LimitExceededError) as caught:
        semantic_stream(Plan((step,), {}, 0, 0), {"x": left, "y": full}, GEOMETRY)
    assert str(caught.value) == (
        "the graph along x, y may take 17,179,869,184 steps along edges\n"
        "  expected: at most 4,294,967,295, what an instruction counts\n"
        "  do: build the graph on the host"
    )
