# SPDX-License-Identifier: Apache-2.0
"""Passes side by side: the same integers as one after the other, every access ordered, slots that nobody shares."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hetfab.driver.graph.arrays import graph_arrays
from hetfab.driver.graph.model_inputs import model_bindings
from hetfab.hls.build.emulator import Emulator
from hetfab.hls.build.order import check_accesses
from hetfab.overlay.bind import BoundProgram, bind
from hetfab.overlay.compiler.compile import compile_model
from hetfab.overlay.costs.program_cost import expected_log
from hetfab.overlay.design import Geometry, default_design
from hetfab.overlay.isa.codec import ReduceSource, Segment
from hetfab.overlay.model.bound_model import BoundModel
from hetfab.overlay.passes import Pass, Passes
from hetfab.overlay.side_by_side import Place, side_by_side
from hetfab.overlay.timeline.machine import machine
from hetfab.overlay.timeline.simulate import simulate
from tests.attention_models import METAPATHS, MODELS, attention_case
from tests.programs import SHARES, compiled, quantized, run_emulated
from tests.random_models import Case, ModelBuilder, academic_graph, random_case

_SEGMENTS = {segment: ((int(segment) + 1) << 32, 1 << 32) for segment in Segment}
_SLOTS = 2
GRAPHS = default_design("pynq-z2-graphs").geometry


def both_ways(case: Case, geometry: Geometry, share: float | None = None) -> tuple[BoundProgram, BoundProgram]:
    """A case bound one layer after the other, and side by side."""
    program = compiled(quantized(case).model, case.graph, geometry, share)
    arrays = graph_arrays(program, case.graph)
    return bind(program, arrays), bind(program, arrays, side_by_side=True)


def assert_same(first: BoundProgram, second: BoundProgram, emulator: Emulator, seed: int) -> None:
    """Both leave the same bytes in every tensor that the program writes, and cost what the cost functions say."""
    one, other = run_emulated(first, emulator), run_emulated(second, emulator, seed)
    for tensor in first.program.tensors:
        if tensor.segment in ("activations", "output"):
            segment, begin = Segment[tensor.segment.upper()], first.offsets[tensor.name]
            rows = slice(begin, begin + first.counts[tensor.node_type] * tensor.row_bytes)
            assert np.array_equal(one.dram[segment][rows], other.dram[segment][rows]), tensor.name
    assert other.run_log is not None
    assert np.array_equal(other.run_log["cycles"], expected_log(second)["cycles"])
    assert check_accesses(second.words, emulator.geometry, _SEGMENTS) is None


@pytest.mark.parametrize("seed", range(400, 405))
def test_results_are_those_of_layers_one_after_the_other(seed: int, small_emulators: dict[str, Emulator]) -> None:
    case, emulator = random_case(seed), small_emulators["host"]
    assert_same(*both_ways(case, emulator.geometry, SHARES[seed % len(SHARES)]), emulator, seed % 3)


@pytest.mark.parametrize("name", ["rgat", "simple-hgn"])
def test_attention_gives_the_same_results(name: str, small_emulators: dict[str, Emulator]) -> None:
    emulator = small_emulators["host"]
    assert_same(*both_ways(attention_case(name), emulator.geometry), emulator, 1)


@pytest.mark.parametrize("name", sorted(MODELS))
def test_every_access_of_attention_is_ordered(name: str) -> None:
    """Fusion over all nodes, several scores, attention over a vertex's parts; edges as they are and in parts."""
    case = attention_case(name)
    model = quantized(case).model
    given = BoundModel(model, model_bindings(model, case.graph))
    plain = compile_model(given, default_design("pynq-z2-graphs"))
    names = [edges.name for edges in plain.edges if not edges.weighted]
    for program in (plain, compile_model(given, plain.design, row_source=ReduceSource.TAGS, in_parts=names)):
        bound = bind(program, graph_arrays(program, case.graph), side_by_side=True)
        assert check_accesses(bound.words, GRAPHS, _SEGMENTS) is None


@st.composite
def passes(draw: st.DrawFn) -> Passes:
    """Layers of one or two passes, each of which reads rows of those before it, or gathers from them."""
    found: list[Pass] = []
    writers: dict[str, list[tuple[Pass, int]]] = {}
    rows_of = [draw(st.integers(0, 40)) for _ in range(3)]
    for layer in range(draw(st.integers(1, 8))):
        rows = draw(st.sampled_from(rows_of))
        alike = [name for name, ((writer, _),) in writers.items() if writer.rows == rows]
        reads = draw(st.lists(st.sampled_from(alike), max_size=2, unique=True)) if alike else []
        gathers = draw(st.lists(st.sampled_from(sorted(writers)), max_size=2, unique=True)) if writers else []
        aggregates = bool(gathers) or draw(st.booleans())
        tile_rows, count = draw(st.integers(1, 9)), draw(st.integers(1, 2))
        for number in range(count):
            claims = {0: 1, 1: draw(st.integers(1, _SLOTS))} if draw(st.booleans()) else {0: 1}
            tiles = -(-rows // tile_rows)
            found.append(
                Pass(
                    layer=layer,
                    final=number == count - 1,
                    rows=rows,
                    tile_rows=tile_rows,
                    reads=[(name, 0) for name in reads],
                    gathers=list(gathers),
                    entry=0,
                    tiles=[(0, tile) for tile in range(tiles)],
                    cycles=[float(draw(st.integers(1, 5000)))] * tiles,
                    aggregates=aggregates,
                    claims=claims,
                    table=draw(st.booleans()),
                )
            )
        writers[f"t{layer}"] = [(found[-1], 0)]
    return Passes((), found, writers)


@settings(max_examples=40, deadline=None)
@given(passes())
def test_every_tile_comes_once_and_after_the_rows_that_it_reads(given_passes: Passes) -> None:
    places = side_by_side(given_passes, [_SLOTS, _SLOTS])
    index = {(place.number, place.tile): number for number, place in enumerate(places)}
    everything = [(n, tile) for n, one in enumerate(given_passes.passes) for tile in range(-1, len(one.tiles))]
    assert sorted(index) == everything and len(places) == len(everything)
    numbers = {id(one): number for number, one in enumerate(given_passes.passes)}
    for number, one in enumerate(given_passes.passes):
        for tile in range(-1, len(one.tiles)):
            place = places[index[number, tile]]
            assert tile < 0 or index[number, tile - 1] < index[number, tile]
            wanted = [(name, 0, 10**6) for name in one.gathers] if tile < 0 else []
            wanted += [(n, tile * one.tile_rows, (tile + 1) * one.tile_rows) for n, _ in one.reads if tile >= 0]
            for name, first, last in wanted:
                ((writer, _),) = given_passes.writers[name]
                read = [
                    n
                    for n in range(len(writer.tiles))
                    if first < (n + 1) * writer.tile_rows and n * writer.tile_rows < last
                ]
                if read:
                    assert max(place.stored) >= index[numbers[id(writer)], read[-1]]
            assert all(each < index[number, tile] for each in place.stored)


@settings(max_examples=40, deadline=None)
@given(passes())
def test_no_slot_has_two_users_at_a_time(given_passes: Passes) -> None:
    places = side_by_side(given_passes, [_SLOTS, _SLOTS])
    users: dict[tuple[int, int], int] = {}
    left = {number: len(one.tiles) for number, one in enumerate(given_passes.passes)}
    table = -1
    for place in places:
        one = given_passes.passes[place.number]
        if place.tile >= 0:
            left[place.number] -= 1
            continue
        for ring, count in one.claims.items():
            for slot in range(_SLOTS) if count == _SLOTS else [place.slots[ring]]:
                before = users.get((ring, slot), -1)
                assert before < 0 or (left[before] == 0 and before in place.ended)
                users[ring, slot] = place.number
        if one.table:
            assert table < 0 or (left[table] == 0 and table in place.ended)
            table = place.number


def alone(layer: int, tiles: int, cycles: float, *, aggregates: bool) -> Pass:
    """A pass that reads what no layer computes."""
    rows = [(0, tile) for tile in range(tiles)]
    return Pass(layer, rows=tiles, tiles=rows, cycles=[cycles] * tiles, aggregates=aggregates)


def tiles_of(places: Sequence[Place]) -> dict[int, list[int]]:
    """Where the tiles of each pass stand."""
    found: dict[int, list[int]] = defaultdict(list)
    for index, place in enumerate(places):
        if place.tile >= 0:
            found[place.number].append(index)
    return found


def test_sums_and_products_take_turns_by_what_they_take() -> None:
    both = Passes((), [alone(0, 10, 3000.0, aggregates=True), alone(1, 30, 1000.0, aggregates=False)], {})
    found = tiles_of(side_by_side(both, []))
    # Three products for each sum, from the first to the last.
    assert [sum(place < sums for place in found[1]) for sums in found[0]] == pytest.approx(range(3, 31, 3), abs=1)


def test_passes_of_one_kind_follow_each_other() -> None:
    both = Passes((), [alone(0, 3, 10.0, aggregates=False), alone(1, 3, 10.0, aggregates=False)], {})
    found = tiles_of(side_by_side(both, []))
    assert max(found[0]) < min(found[1])


def milliseconds(bound: BoundProgram) -> float:
    """Modelled time."""
    return simulate(bound.words, expected_log(bound), machine(bound.program.design)).milliseconds


def test_a_model_takes_less_time() -> None:
    """Modelled: sums into one type while another is projected."""
    random = np.random.default_rng(1)
    graph = replace(academic_graph(random, 900, 700, 50), metapaths=METAPATHS)
    first, second = both_ways(Case(MODELS["rgat"](random, graph), graph), GRAPHS)
    assert milliseconds(second) < 0.95 * milliseconds(first)


def test_layers_of_one_kind_keep_their_stream() -> None:
    """Products alone: nothing can run beside them."""
    random = np.random.default_rng(3)
    graph = academic_graph(random, 40, 30, 5)
    builder = ModelBuilder(random, graph)
    hidden = builder.relu(builder.dense(builder.features("paper"), 20))
    first, second = both_ways(Case(builder.finish(builder.dense(hidden, 3)), graph), GRAPHS)
    assert np.array_equal(first.words, second.words)
