# SPDX-License-Identifier: Apache-2.0
"""RST's instructions: golden orders = plain = host bodies = checked = ap_int, and cost functions give the run log."""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pytest

from hetfab.driver.counters import read_counters
from hetfab.hls.build.emulator import Emulator, Progress
from hetfab.overlay.costs.cycles import Cost
from hetfab.overlay.costs.graphs import PlacedGraph
from hetfab.overlay.costs.restructuring import Recoupled, match_cost, recouple_cost, tile_work, tiles_cost, walk_cost
from hetfab.overlay.design import default_design
from hetfab.overlay.errors import StreamInvalidError
from hetfab.overlay.isa import codec
from hetfab.overlay.isa.codec import Engine, Segment
from hetfab.overlay.isa.golden import GoldenMachine
from hetfab.overlay.isa.words import program_address
from hetfab.overlay.restructure.matching import match, matching_work
from hetfab.overlay.restructure.schedule import Sides
from hetfab.overlay.restructure.subgraphs import least_cover, three_subgraphs, walk
from hetfab.overlay.restructure.tiles import by_degree, grown_tiles
from hetfab.overlay.run_log import RUN_LOG_DTYPE
from hetfab.overlay.semantic.adjacency import Adjacency, adjacency, transpose
from hetfab.overlay.timeline.machine import machine
from hetfab.overlay.timeline.simulate import latency_cycles
from tests.conftest import NATIVE, SMALL_GEOMETRY, opened
from tests.log_totals import log_totals
from tests.test_sgb import image, run

BASE = 0x1000_0000
SIZE = 1 << 19
GRAPH = Segment.GRAPH * SIZE
#: Places in the graph segment, not all at the start of a page.
ROWS, COLUMNS, MATCHING, WALK, OUT = 0, 0x1_0FC0, 0x2_0040, 0x2_1000, 0x2_2F80


@dataclass(frozen=True, eq=False)
class Case:
    """A graph by rows, and the same turned; ids in any order."""

    sides: Sides

    @property
    def rows(self) -> Adjacency:
        return self.sides.by_destination

    @property
    def columns(self) -> Adjacency:
        return self.sides.by_source

    @property
    def placed(self) -> tuple[PlacedGraph, PlacedGraph]:
        return PlacedGraph(self.rows, BASE + GRAPH + ROWS), PlacedGraph(self.columns, BASE + GRAPH + COLUMNS)

    def configured(self) -> list[int]:
        """The instructions that say where everything is; there is room for more edges than there are."""
        graphs = [
            {"edges": graph.edges + 5, "rows": graph.rows, "address": at(offset)}
            for graph, offset in ((self.rows, ROWS), (self.columns, COLUMNS))
        ]
        turned = least_from_columns(self.sides)
        return [
            codec.configure_graph(**graphs[0]),
            codec.configure_turned(**graphs[1]),
            codec.configure_matching(of_turned=turned, address=at(MATCHING)),
            codec.configure_walk(address=at(WALK)),
        ]


def at(offset: int) -> int:
    return program_address(Segment.GRAPH, offset)


def least_from_columns(sides: Sides) -> bool:
    return sides.active_sources <= sides.active_destinations


def shuffled(graph: Adjacency, rng: np.random.Generator) -> Adjacency:
    ids = [rng.permutation(graph.row(row)) for row in range(graph.rows)]
    return Adjacency(graph.starts, np.concatenate([np.zeros(0, np.int64), *ids]), graph.columns)


def random_case(seed: int) -> Case:
    """Sparse and dense graphs, rows with hubs, rows of several chunks, sides without a vertex."""
    rng = np.random.default_rng(seed)
    rows, columns = map(int, rng.choice([0, 1, 7, 60, 130, 256], 2))
    # At most 8,000 edges or so: both sides have their places.
    share = min(rng.choice([0.0, 0.01, 0.03, 0.2, 0.9]), 6000 / max(rows * columns, 1))
    chances = share * rng.choice([0.2, 1.0, 3.0], columns)
    row, column = np.nonzero(rng.random((rows, columns)) < chances)
    graph = adjacency(row, column, rows, columns)
    return Case(Sides(shuffled(transpose(graph), rng), shuffled(graph, rng)))


def memory(words: list[int], case: Case, seed: int) -> npt.NDArray[np.uint8]:
    """DRAM with a program and both sides of a graph; the rest is random."""
    dram = np.random.default_rng(seed).integers(0, 256, len(Segment) * SIZE, dtype=np.uint8)
    program = np.frombuffer(b"".join(word.to_bytes(16, "little") for word in words), np.uint8)
    dram[: len(program)] = program
    for offset, graph in ((ROWS, case.rows), (COLUMNS, case.columns)):
        content = image(graph)
        dram[GRAPH + offset :][: len(content)] = content
    return dram


def write_numbers(dram: npt.NDArray[np.uint8], offset: int, numbers: list[int]) -> None:
    dram[GRAPH + offset :][: 4 * len(numbers)] = np.array(numbers, "<u4").view(np.uint8)


def numbers_at(dram: npt.NDArray[np.uint8], offset: int, count: int) -> list[int]:
    return [int(number) for number in dram[GRAPH + offset :][: 4 * count].view("<u4")]


def golden(words: list[int], dram: npt.NDArray[np.uint8]) -> GoldenMachine:
    machine = GoldenMachine(SMALL_GEOMETRY)
    machine.map_memory(BASE, dram)
    machine.segments = {s.name.lower(): (BASE + s.value * SIZE, SIZE) for s in Segment}
    machine.run(b"".join(word.to_bytes(16, "little") for word in words))
    return machine


def check(
    emulators: dict[str, Emulator], words: list[int], before: npt.NDArray[np.uint8], *costs: Cost
) -> npt.NDArray[np.uint8]:
    """Runs everywhere; DRAM is the golden model's, the last records what the cost functions give."""
    expected = before.copy()
    machine = golden(words, expected)
    for name, emulator in emulators.items():
        found = before.copy()
        assert run(emulator, found, len(words)) == (Progress.DONE, ""), name
        assert np.array_equal(found, expected), name
        assert np.array_equal(emulator.read_ram("rst_context", 0, 4), machine.memories["rst_context"]), name
        log = emulator.run_log()
        for record, cost in zip(log[len(log) - len(costs) :], costs, strict=True):
            for field in RUN_LOG_DTYPE.names or ():
                if field not in ("index", "engine", "opcode", "layer", "misses"):
                    assert np.array_equal(record[field], getattr(cost, field)[0]), (name, field)
        assert read_counters(emulator.read_register) == log_totals(log), name
    return expected


@pytest.mark.parametrize("seed", range(20))
def test_matchings(seed: int, small_checked_emulators: dict[str, Emulator]) -> None:
    case = random_case(seed)
    words = [*case.configured(), codec.match(columns=case.rows.columns, address=at(OUT))]
    cost = match_cost(case.placed[0], matching_work(case.rows), BASE + GRAPH + OUT)
    found = check(small_checked_emulators, words, memory(words, case, seed), cost)
    matching = match(case.rows)
    pairs = [column % (1 << 32) for column in matching.columns.tolist()]
    assert numbers_at(found, OUT, case.rows.rows + case.rows.columns) == [*pairs, *map(int, matching.dead)]
    assert cost.edges[0] == matching.edge_visits


@pytest.mark.parametrize("seed", range(12))
def test_walks(seed: int, small_checked_emulators: dict[str, Emulator]) -> None:
    case = random_case(seed)
    words = [*case.configured(), codec.walk(address=at(OUT))]
    community = walk(case.sides)
    cost = walk_cost(*case.placed, community, BASE + GRAPH + OUT)
    found = check(small_checked_emulators, words, memory(words, case, seed), cost)
    order = community.destinations.tolist()
    assert numbers_at(found, OUT, 1 + len(order)) == [len(order), *order]


@pytest.mark.parametrize("by_column", [0, 1])
@pytest.mark.parametrize("seed", range(12))
def test_recouplings(seed: int, by_column: int, small_checked_emulators: dict[str, Emulator]) -> None:
    """The whole path: a matching from the side with fewer active vertices, a walk, and the three subgraphs."""
    case = random_case(seed)
    turned = least_from_columns(case.sides)
    rows, columns = case.configured()[:2]
    swapped = [codec.configure_graph(**fields(columns)), codec.configure_turned(**fields(rows))]
    words = [
        *(swapped if turned else [rows, columns]),
        codec.match(columns=case.rows.rows if turned else case.rows.columns, address=at(MATCHING)),
        *case.configured(),
        codec.walk(address=at(WALK)),
        codec.recouple(by_column=by_column, address=at(OUT)),
    ]
    cover, community = least_cover(case.sides), walk(case.sides)
    given = Recoupled(cover, community, BASE + GRAPH + MATCHING, turned, BASE + GRAPH + WALK)
    costs = (
        walk_cost(*case.placed, community, given.walk),
        recouple_cost(*case.placed, given, by_column=bool(by_column)),
    )
    found = check(small_checked_emulators, words, memory(words, case, seed), *costs)
    edges = np.stack(three_subgraphs(case.sides, cover, community, bool(by_column)), axis=1)
    assert numbers_at(found, OUT, 2 * case.rows.edges) == edges.reshape(-1).tolist()


def fields(word: int) -> dict[str, int]:
    """What a configure instruction says of a graph."""
    return {"edges": word >> 36 & (1 << 28) - 1, "rows": word >> 64 & (1 << 24) - 1, "address": word >> 88}


@pytest.mark.parametrize("most_first", [0, 1])
@pytest.mark.parametrize("seed", range(12))
def test_grown_tiles(seed: int, most_first: int, small_checked_emulators: dict[str, Emulator]) -> None:
    case, rng = random_case(seed), np.random.default_rng(seed)
    stride, tile_rows = int(rng.choice([1, 1, 2, 5, 300])), int(rng.choice([1, 3, 40, 300]))
    rule = {"most_edges_first": most_first, "stride": stride, "tile_rows": tile_rows}
    words = [*case.configured(), codec.grow_tiles(grown=1, **rule, address=at(OUT))]
    order = grown_tiles(case.rows, case.columns, tile_rows, bool(most_first), stride=stride)
    work = tile_work(case.rows, by_degree(case.rows, bool(most_first)), order, tile_rows, stride)
    cost = tiles_cost(*case.placed, work, stride=stride, out=BASE + GRAPH + OUT)
    found = check(small_checked_emulators, words, memory(words, case, seed), cost)
    assert numbers_at(found, OUT, 1 + len(order)) == [len(order), *order]


@pytest.mark.parametrize("most_first", [0, 1])
@pytest.mark.parametrize("seed", range(6))
def test_rows_by_degree(seed: int, most_first: int, small_checked_emulators: dict[str, Emulator]) -> None:
    case = random_case(seed)
    rule = {"most_edges_first": most_first, "stride": 1, "tile_rows": 1}
    words = [*case.configured(), codec.grow_tiles(grown=0, **rule, address=at(OUT))]
    cost = tiles_cost(*case.placed, None, stride=1, out=BASE + GRAPH + OUT)
    found = check(small_checked_emulators, words, memory(words, case, seed), cost)
    order = by_degree(case.rows, bool(most_first))
    assert numbers_at(found, OUT, 1 + len(order)) == [len(order), *order]


def test_each_burst_waits_for_dram() -> None:
    """A search finds out from one row which one it reads next; other engines wait for their first beat."""
    log = np.zeros(2, RUN_LOG_DTYPE)
    log["engine"], log["read_bytes"][:, 0], log["read_bursts"][:, 0] = [Engine.RST, Engine.LOAD], 8 * 40, 7
    board = machine(default_design())
    assert latency_cycles(log, board).tolist() == [7 * board.read_latency, board.read_latency]


def small_case() -> Case:
    graph = adjacency(np.array([0, 0, 1, 2]), np.array([0, 1, 1, 0]), 3, 2)
    return Case(Sides(transpose(graph), graph))


def broken(part: str) -> tuple[list[int], npt.NDArray[np.uint8]]:
    """A recoupling with one thing wrong, or another instruction."""
    case = small_case()
    words = [*case.configured(), codec.recouple(by_column=0, address=at(OUT))]
    if part == "rows":
        words[0] = codec.configure_graph(edges=9, rows=257, address=at(ROWS))
    if part == "columns":
        words[4] = codec.match(columns=257, address=at(OUT))
    if part == "stride":
        words[4] = codec.grow_tiles(grown=1, most_edges_first=0, stride=0, tile_rows=1, address=at(OUT))
    if part == "twice":
        case = Case(replace(case.sides, by_destination=Adjacency(case.rows.starts, np.array([1, 1, 1, 0]), 2)))
    if part == "turned":
        case = Case(replace(case.sides, by_source=Adjacency(case.columns.starts, np.array([1, 2, 0, 1]), 3)))
    dram = memory(words, case, 0)
    pairs = {"pair": [3, 1], "uncovered": [0xFFFFFFFF, 1]}.get(part, [0, 1])
    write_numbers(dram, MATCHING, [*pairs, 0, 2 if part == "mark" else 0, 0])
    write_numbers(dram, WALK, [3, 0, 1, 3 if part == "vertex" else 2])
    write_numbers(dram, WALK + 64, [2, 0, 0 if part == "order" else 1])
    return words, dram


@pytest.mark.parametrize(
    ("part", "found", "by_golden"),
    [
        ("rows", "rows 257, not at most 256, the design's rst_vertices", "257 rows"),
        ("columns", "columns 257, not at most 256, the design's rst_vertices", "257 columns"),
        ("stride", "tiles of 0 rows or every 0th column, not at least 1", "tiles of 0 rows or every 0th column"),
        ("twice", "the graph has the edge from 0 to 1 twice", "an edge twice"),
        ("turned", "the turned graph has other edges than the graph", "a turned graph with other edges"),
        ("pair", "the matching has the column 3, not one below 3", "a pair with a column that is not there"),
        ("mark", "the matching marks a column with 2, not 0 or 1", "a mark of a matching of 2"),
        ("uncovered", "the matching leaves the edge from 0 to 0 without a cover", "leaves an edge without a cover"),
        ("vertex", "the walk has the vertex 3, not one below 3 that it has once", "a walk of other vertices"),
        ("order", "the walk has the vertex 0, not one below 2 that it has once", "a walk of other vertices"),
    ],
)
def test_what_the_engine_cannot_take_stops_the_run(part: str, found: str, by_golden: str) -> None:
    words, dram = broken(part)
    with opened(SMALL_GEOMETRY, NATIVE) as fresh:
        for emulator in fresh.values():
            expected = (Progress.FAULT, f"engine 'rst', instruction 4: {found}")
            assert run(emulator, dram.copy(), len(words)) == expected
    with pytest.raises(StreamInvalidError) as caught:
        golden(words, dram)
    assert by_golden in caught.value.found
