# SPDX-License-Identifier: Apache-2.0
"""Passes side by side: the same integers as one after the other, every access ordered, slots that nobody shares."""

import math
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
from hetfab.overlay import interleaving
from hetfab.overlay import passes as passes_module
from hetfab.overlay.bind import BoundProgram, bind
from hetfab.overlay.compiler.compile import compile_model
from hetfab.overlay.costs.program_cost import expected_log
from hetfab.overlay.design import Geometry, default_design
from hetfab.overlay.isa.codec import ReduceSource, Segment
from hetfab.overlay.model.bound_model import BoundModel
from hetfab.overlay.passes import Pass, Passes, in_stretches
from hetfab.overlay.side_by_side import Place, _State, side_by_side
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
def test_results_are_those_of_layers_one_after_the_other(
    seed: int, small_emulators: dict[str, Emulator], monkeypatch: pytest.MonkeyPatch
) -> None:
    if seed % 2:
        cut_always(monkeypatch)
    case, emulator = random_case(seed), small_emulators["host"]
    assert_same(*both_ways(case, emulator.geometry, SHARES[seed % len(SHARES)]), emulator, seed % 3)


@pytest.mark.parametrize("name", ["rgat", "simple-hgn"])
@pytest.mark.parametrize("cut", [False, True], ids=["whole", "stretches"])
def test_attention_gives_the_same_results(
    name: str, cut: bool, small_emulators: dict[str, Emulator], monkeypatch: pytest.MonkeyPatch
) -> None:
    emulator = small_emulators["host"]
    plain = both_ways(attention_case(name), emulator.geometry)
    if cut:
        cut_always(monkeypatch)
        bound = both_ways(attention_case(name), emulator.geometry)
        assert len(bound[1].words) != len(plain[1].words)
        plain = bound
    assert_same(*plain, emulator, 1)


def cut_always(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every pass that may be cut is, tile by tile, whether that pays or not."""
    monkeypatch.setattr(passes_module, "_STRETCH_TILES", 1)
    monkeypatch.setattr(passes_module, "_STRETCH_ENTRIES", 0.001)
    monkeypatch.setattr(interleaving, "_WORTH_STRETCHES", math.inf)


@pytest.mark.parametrize("name", sorted(MODELS))
@pytest.mark.parametrize("cut", [False, True], ids=["whole", "stretches"])
def test_every_access_of_attention_is_ordered(name: str, cut: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fusion over all nodes, several scores, attention over a vertex's parts; edges as they are and in parts."""
    if cut:
        cut_always(monkeypatch)
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
    """Layers of one or two passes, whole or in stretches, that read rows of those before them, or gather from these."""
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
    whole = Passes((), found, writers)
    return in_stretches(whole) if draw(st.booleans()) else whole


@settings(max_examples=40, deadline=None)
@given(passes())
def test_every_tile_comes_once_and_after_the_rows_that_it_reads(given_passes: Passes) -> None:
    places = side_by_side(given_passes, [_SLOTS, _SLOTS]).places
    index = {(place.number, place.tile): number for number, place in enumerate(places)}
    everything = {(n, tile) for n, one in enumerate(given_passes.passes) for tile in range(-1, len(one.tiles))}
    assert len(places) == len(index) and set(index) <= everything
    assert all(tile < 0 and is_stretch(given_passes, number) for number, tile in everything - set(index))
    numbers = {id(one): number for number, one in enumerate(given_passes.passes)}
    for (number, tile), at in index.items():
        place, one = places[at], given_passes.passes[number]
        assert tile <= 0 or index[number, tile - 1] < at
        assert tile != 0 or index.get((number, -1), -1) < at
        wanted = [(name, 0, 10**6) for name in one.gathers] if tile < 0 else []
        begin = one.first + tile * one.tile_rows
        wanted += [
            (name, begin, min(begin + one.tile_rows, one.first + one.rows)) for name, _ in one.reads if tile >= 0
        ]
        for name, first, last in wanted:
            for writer, start in given_passes.writers[name]:
                assert start == writer.first
                read = [
                    n
                    for n in range(len(writer.tiles))
                    if first < start + (n + 1) * writer.tile_rows and start + n * writer.tile_rows < last
                ]
                if read:
                    assert max(place.stored) >= index[numbers[id(writer)], read[-1]]
        assert all(each < at for each in place.stored)


def is_stretch(given_passes: Passes, number: int) -> bool:
    """Whether a pass is a stretch of one."""
    return any(other.is_beside(given_passes.passes[number]) for other in given_passes.passes)


@settings(max_examples=40, deadline=None)
@given(passes())
def test_no_slot_has_two_users_at_a_time(given_passes: Passes) -> None:
    places = side_by_side(given_passes, [_SLOTS, _SLOTS]).places
    users: dict[tuple[int, int], int] = {}
    left = {number: len(one.tiles) for number, one in enumerate(given_passes.passes)}
    begun: set[int] = set()
    table = -1
    for place in places:
        one = given_passes.passes[place.number]
        goes_on = place.tile == 0 and place.number not in begun
        begun.add(place.number)
        if place.tile < 0 or goes_on:
            for ring, count in one.claims.items():
                for slot in range(_SLOTS) if count == _SLOTS else [place.slots[ring]]:
                    before = users.get((ring, slot), -1)
                    assert before < 0 or left[before] == 0
                    # Without an entry, what the slot holds is what the stretch before has read.
                    assert not goes_on or given_passes.passes[before].is_beside(one)
                    assert goes_on or before < 0 or before in place.ended
                    users[ring, slot] = place.number
        if place.tile >= 0:
            left[place.number] -= 1
        elif one.table:
            assert table < 0 or (left[table] == 0 and table in place.ended)
            table = place.number


@given(tiles=st.integers(1, 50), tile_rows=st.integers(1, 9), missing=st.integers(0, 8), entry=st.floats(0.0, 50.0))
def test_stretches_have_the_rows_and_tiles_of_their_pass(
    tiles: int, tile_rows: int, missing: int, entry: float
) -> None:
    rows = max(tiles * tile_rows - missing, (tiles - 1) * tile_rows + 1)
    whole = replace(alone(0, tiles, 100.0, aggregates=False), rows=rows, tile_rows=tile_rows, reads=[("x", 7)])
    whole.entry_cycles = entry
    parts = whole.stretches()
    assert [tile for part in parts for tile in part.tiles] == whole.tiles
    assert [part.first for part in parts] == [0, *np.cumsum([part.rows for part in parts])[:-1]]
    assert sum(part.rows for part in parts) == rows
    read = [each for part in parts for tile in range(len(part.tiles)) for each in part.needs(tile)]
    assert read == [each for tile in range(tiles) for each in whole.needs(tile)]
    # An entry takes a twentieth of its tiles at most.
    assert len(parts) == 1 or len(parts) * 20 * entry <= 100.0 * tiles


def test_products_turn_from_layer_to_layer_behind_the_sums_that_all_read() -> None:
    """The last sums gather from three products of the first ones: cut, these end with them, and not one by one."""
    sums = alone(0, 40, 20000.0, aggregates=True)
    products = [replace(alone(n, 40, 6000.0, aggregates=False), rows=40, reads=[("sums", 0)]) for n in (1, 2, 3)]
    last = replace(alone(4, 40, 20000.0, aggregates=True), gathers=["1", "2", "3"])
    writers = {"sums": [(sums, 0)]} | {str(one.layer): [(one, 0)] for one in products}
    whole = Passes((), [sums, *products, last], writers)
    cut = in_stretches(whole)
    assert [len([one for one in cut.passes if one.layer == layer]) for layer in range(5)] == [1, 10, 10, 10, 1]
    assert side_by_side(cut, []).cycles < 0.85 * side_by_side(whole, []).cycles


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


@pytest.mark.parametrize("others", [[], [0], [1], [0, 1]])
def test_a_stretch_goes_on_where_nobody_else_used_its_slots(others: list[int]) -> None:
    """Of a ring that its pass takes whole, any of them."""
    first, second = (replace(alone(0, 3, 10.0, aggregates=False), first=row, claims={0: _SLOTS}) for row in (0, 3))
    state = _State(Passes((), [first, second], {}), [_SLOTS])
    state._taken[0] = {0: 0}
    for slot in range(_SLOTS):
        state._users[0][slot] = 5 if slot in others else 0
    assert state._goes_on(0, 1) is (not others)


def test_sums_and_products_take_turns_by_what_they_take() -> None:
    both = Passes((), [alone(0, 10, 30000.0, aggregates=True), alone(1, 30, 10000.0, aggregates=False)], {})
    found = tiles_of(side_by_side(both, []).places)
    # Three products for each sum, from the first to the last.
    assert [sum(place < sums for place in found[1]) for sums in found[0]] == pytest.approx(range(3, 31, 3), abs=1)


def test_passes_of_one_kind_follow_each_other() -> None:
    both = Passes((), [alone(0, 3, 10.0, aggregates=False), alone(1, 3, 10.0, aggregates=False)], {})
    found = tiles_of(side_by_side(both, []).places)
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
