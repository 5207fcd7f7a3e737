# SPDX-License-Identifier: Apache-2.0
"""Stacks of node types: their rows, edges among them, edges that follow from counts alone."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from hetfab.driver.graph.arrays import graph_arrays
from hetfab.driver.graph.heterograph import Edges as GraphEdges
from hetfab.driver.graph.heterograph import HeteroGraph
from hetfab.overlay import layouts
from hetfab.overlay.bind import bind
from hetfab.overlay.errors import LimitExceededError, ProgramUnreadableError
from hetfab.overlay.isa.codec import Segment
from hetfab.overlay.model.schema import Relation
from hetfab.overlay.patterns import pattern_edges
from hetfab.overlay.program import EdgePattern, Edges, Program, Stack, Symbol, SymbolKind, read_program, write_program
from tests.conftest import SMALL_GEOMETRY
from tests.programs import compiled, quantized
from tests.random_models import Case, ModelBuilder

AP, PP = Relation("author", "ap", "paper"), Relation("paper", "pp", "paper")
STACK = Stack("all", ("paper", "author"))
Numbers = npt.NDArray[np.integer[Any]]
#: Pairs of an edge's (destination, source, type).
Triples = list[tuple[int, int, int]]


def graph() -> HeteroGraph:
    """Five papers and three authors."""
    relations = {
        AP: GraphEdges(np.array([2, 0, 2]), np.array([1, 1, 4])),
        PP: GraphEdges(np.array([4, 3]), np.array([1, 0])),
    }
    features = {"paper": np.ones((5, 3), np.float32), "author": np.ones((3, 3), np.float32)}
    return HeteroGraph("small", "paper", {"paper": 5, "author": 3}, relations, features)


@pytest.fixture(scope="module")
def plain() -> Program:
    """A program without stacks."""
    builder = ModelBuilder(np.random.default_rng(0), graph())
    model = builder.finish(builder.mean(builder.dense(builder.features("author"), 4), "ap", "paper"))
    return compiled(
        quantized(Case(model, graph())).model, graph(), replace(SMALL_GEOMETRY, feature_words=0, agg_word_beats=1)
    )


def with_edges(program: Program, edges: Edges, *stacks: Stack) -> Program:
    """The program with one more edge set, whose arrays and counts its symbols name."""
    kinds = (SymbolKind.DESTINATIONS, SymbolKind.IDS, SymbolKind.EDGES, SymbolKind.ID_BYTES)
    symbols = (*program.symbols, *(Symbol(kind, edges.name) for kind in kinds))
    return replace(program, edges=(*program.edges, edges), symbols=symbols, stacks=stacks)


def triples(indptr: Numbers, sources: Numbers, types: Numbers | None) -> Triples:
    """Edges in their order."""
    assert types is not None
    rows = np.repeat(np.arange(len(indptr) - 1), np.diff(indptr))
    return list(zip(rows.tolist(), sources.tolist(), types.tolist(), strict=True))


@pytest.mark.parametrize("parts", [1, 2, 3])
@pytest.mark.parametrize("rows", [0, 1, 4])
def test_patterns_are_what_their_definitions_say(parts: int, rows: int) -> None:
    starts = [part * rows for part in range(parts + 1)]
    numbers, vertices = range(parts), range(rows)
    across = [(n, m * rows + n, m) for n in vertices for m in numbers]
    among = [(k * rows + n, m * rows + n, m) for k in numbers for n in vertices for m in numbers]
    within = [(m, m * rows + n, m) for m in numbers for n in vertices]
    for pattern, expected in zip(
        (EdgePattern.ACROSS, EdgePattern.AMONG, EdgePattern.WITHIN), (across, among, within), strict=True
    ):
        assert triples(*pattern_edges(pattern, starts)) == expected, pattern


def test_parts_of_different_rows_have_means_of_their_own() -> None:
    assert triples(*pattern_edges(EdgePattern.WITHIN, [0, 2, 2, 3])) == [(0, 0, 0), (0, 1, 0), (2, 2, 2)]


def test_stacked_edges_have_types_and_self_loops(plain: Program) -> None:
    edges = Edges("stacked", (AP, PP), False, "all", "all", stacked=True, self_loops=True, typed=True)
    arrays = graph_arrays(with_edges(plain, edges, STACK), graph())
    loops = [(row, row, 2) for row in range(8)]
    expected = [(1, 7, 0), (1, 5, 0), (4, 7, 0), (1, 4, 1), (0, 3, 1), *loops]
    indptr, sources, types, _ = arrays.edges["stacked"]
    assert types is not None
    assert triples(indptr, sources, types) == sorted(expected, key=lambda edge: edge[0])


def test_stacked_edges_into_one_type_are_a_part_of_all(plain: Program) -> None:
    whole = Edges("whole", (AP, PP), False, "all", "all", stacked=True, self_loops=True, typed=True)
    part = replace(whole, name="part", destination_type="author")
    arrays = graph_arrays(with_edges(with_edges(plain, whole), part, STACK), graph()).edges
    found, every = (triples(*arrays[name][:3]) for name in ("part", "whole"))
    assert found == [(row - 5, source, kind) for row, source, kind in every if row >= 5]


def test_types_stand_beside_vertices_in_ids(plain: Program) -> None:
    edges = Edges("fusion", (), False, "pair", "paper", typed=True, pattern=EdgePattern.ACROSS)
    program = with_edges(plain, edges, Stack("pair", ("paper", "paper")))
    bound = bind(program, graph_arrays(program, graph()))
    assert bound.counts["pair"] == 10
    ids = [n | 0 << 24 if m == 0 else (5 + n) | 1 << 24 for n in range(5) for m in range(2)]
    content = bound.contents[Segment.GRAPH].tobytes()
    assert np.array(ids, "<u4").tobytes() in content


def test_a_part_of_a_stacked_tensor_begins_behind_the_parts_before_it(plain: Program) -> None:
    own = next(tensor for tensor in plain.tensors if tensor.segment == "activations")
    whole = replace(own, name="whole", node_type="all")
    part = replace(own, name="part", node_type="author", whole="whole", part=1)
    stacked = replace(plain, tensors=(*plain.tensors, whole, part), stacks=(STACK,))
    bound, before = (bind(each, graph_arrays(each, graph())) for each in (stacked, plain))
    assert bound.offsets["part"] - bound.offsets["whole"] == 5 * own.row_bytes
    grown = bound.sizes[Segment.ACTIVATIONS] - before.sizes[Segment.ACTIVATIONS]
    assert grown == 8 * own.row_bytes


def test_more_vertices_than_an_id_beside_a_type_names_are_refused(
    plain: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layouts, "MARKED_ROWS", 9)
    edges = Edges("fusion", (), False, "pair", "paper", typed=True, pattern=EdgePattern.ACROSS)
    program = with_edges(plain, edges, Stack("pair", ("paper", "paper")))
    with pytest.raises(LimitExceededError, match="the edges 'fusion' have types and lead from 10 vertices"):
        bind(program, graph_arrays(program, graph()))


def test_a_program_file_keeps_stacks_and_patterns(plain: Program, tmp_path: Path) -> None:
    edges = Edges("fusion", (), False, "pair", "paper", typed=True, pattern=EdgePattern.ACROSS)
    program = with_edges(plain, edges, Stack("pair", ("paper", "paper"), 1))
    write_program(tmp_path / "a.hfp", program)
    found = read_program(tmp_path / "a.hfp")
    assert found.edges == program.edges
    assert found.stacks == program.stacks
    write_program(tmp_path / "b.hfp", replace(program, stacks=()))
    with pytest.raises(ProgramUnreadableError, match="there is no stack 'pair'"):
        read_program(tmp_path / "b.hfp")
