# SPDX-License-Identifier: Apache-2.0
"""Binding a program to a graph: the arrays that it writes, and what it refuses."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest

from hetfab.driver.graph.arrays import graph_arrays
from hetfab.driver.graph.heterograph import CsrFeatures, Edges, HeteroGraph
from hetfab.overlay.bind import BoundProgram, GraphArrays, IncomingEdges, bind
from hetfab.overlay.errors import (
    CountFixedError,
    FeaturesMissingError,
    FeaturesNotFiniteError,
    FeatureWidthError,
    GraphInvalidError,
    LimitExceededError,
    RelationMissingError,
    StreamInvalidError,
)
from hetfab.overlay.isa import arithmetic
from hetfab.overlay.isa.codec import Engine, Segment
from hetfab.overlay.isa.spec import isa
from hetfab.overlay.model.schema import Relation
from hetfab.overlay.order import check_order
from hetfab.overlay.program import Program, SymbolKind
from tests.conftest import SMALL_GEOMETRY
from tests.programs import compiled, quantized
from tests.random_models import Case, ModelBuilder

#: Reads destinations and ids, not runs and units.
WITHOUT_SCRATCHPAD = replace(SMALL_GEOMETRY, feature_words=0, agg_word_beats=1)
WRITES = Relation("author", "writes", "paper")
CITES = Relation("paper", "cites", "paper")


def graph_of(papers: int, authors: int, edges: int = 60, *, venues: int = 4) -> HeteroGraph:
    """Papers with features, authors without, venues with a learned table."""
    random = np.random.default_rng(papers + authors)
    counts = {"paper": papers, "author": authors, "venue": venues}
    relations = {
        relation: Edges(
            random.integers(0, counts[relation.source], edges), random.integers(0, counts[relation.destination], edges)
        )
        for relation in (WRITES, CITES)
    }
    features = {"paper": random.normal(size=(papers, 5)), "author": random.integers(0, 9, (authors, 7))}
    table = {name: values.astype(np.float32) for name, values in features.items()}
    return HeteroGraph("small", "paper", counts, relations, table)


@pytest.fixture(scope="module")
def program() -> Program:
    """Two relations, features of two types."""
    graph = graph_of(40, 30)
    builder = ModelBuilder(np.random.default_rng(0), graph)
    paper, author = builder.features("paper"), builder.features("author")
    terms = [
        builder.mean(author, "writes", "paper"),
        builder.mean(builder.dense(paper, 7), "cites", "paper"),
        builder.dense(paper, 7),
    ]
    return compiled(quantized(Case(builder.finish(builder.total(terms)), graph)).model, graph, WITHOUT_SCRATCHPAD)


@pytest.fixture
def arrays(program: Program) -> GraphArrays:
    return graph_arrays(program, graph_of(40, 30))


def with_edges(arrays: GraphArrays, name: str, indptr: npt.ArrayLike, sources: npt.ArrayLike) -> GraphArrays:
    edges = IncomingEdges(np.asarray(indptr, np.int64), np.asarray(sources, np.int64))
    return replace(arrays, edges={**arrays.edges, name: edges})


def with_features(arrays: GraphArrays, name: str, table: npt.NDArray[np.float32] | CsrFeatures) -> GraphArrays:
    return replace(arrays, features={**arrays.features, name: table})


def segment(bound: BoundProgram, kind: Segment, place: int, size: int) -> npt.NDArray[np.uint8]:
    return bound.contents[kind][place : place + size]


def places(bound: BoundProgram, operation: str, field_name: str) -> list[int]:
    """A field of every instruction of an operation, in order."""
    found = isa().operation(operation)
    field = next(field for field in found.fields if field.name == field_name)
    header = isa().engine(found.engine).id | found.opcode << 4
    words = [int(low) | int(high) << 64 for low, high in bound.words if int(low) & 0xFF == header]
    return [field.get(word) for word in words]


def test_destinations_and_ids_are_written_in_their_layout(program: Program, arrays: GraphArrays) -> None:
    bound = bind(program, arrays)
    edges = arrays.edges["writes"]
    number = [e.name for e in program.edges].index("writes")
    first = places(bound, "configure_destinations", "address")[number] & 0xFFFF_FFFF
    table = segment(bound, Segment.GRAPH, first, 40 * 16).view("<u4").reshape(40, 4)
    degrees = np.diff(edges.indptr)
    reciprocal, exponent = arithmetic.reciprocals(degrees)
    np.testing.assert_array_equal(table, np.stack([edges.indptr[:-1], degrees, reciprocal, exponent], axis=1))
    first = places(bound, "configure_ids", "address")[number] & 0xFFFF_FFFF
    np.testing.assert_array_equal(segment(bound, Segment.GRAPH, first, 120).view("<u2"), edges.sources)
    assert places(bound, "configure_ids", "edges")[number] == 60
    assert places(bound, "configure_ids", "id_bytes")[number] == 2
    assert first % 64 == 0


@pytest.mark.parametrize(("authors", "id_bytes"), [(65_535, 2), (65_536, 2), (65_537, 4)])
def test_ids_have_32_bits_where_16_do_not_name_the_last(program: Program, authors: int, id_bytes: int) -> None:
    graph = graph_of(40, authors)
    relations = {**graph.relations, WRITES: Edges(np.array([authors - 1, 0]), np.array([3, 39]))}
    bound = bind(program, graph_arrays(program, replace(graph, relations=relations)))
    number = [edges.name for edges in program.edges].index("writes")
    assert places(bound, "configure_ids", "id_bytes")[number] == id_bytes
    place = places(bound, "configure_ids", "address")[number] & 0xFFFF_FFFF
    ids = segment(bound, Segment.GRAPH, place, 2 * id_bytes).view(f"<u{id_bytes}")
    assert ids.tolist() == [authors - 1, 0]


def test_sparse_features_are_written_like_dense_ones(program: Program, arrays: GraphArrays) -> None:
    dense = np.zeros((30, 7), np.float32)
    dense[[0, 3, 3, 29], [6, 0, 5, 1]] = [1.0, 0.3, 1e9, 2.5]
    rows, columns = np.nonzero(dense)
    indptr = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=30))])
    sparse = CsrFeatures(indptr, columns, dense[rows, columns], 7)
    bound = [bind(program, with_features(arrays, "x_author", table)) for table in (dense, sparse)]
    np.testing.assert_array_equal(bound[0].contents[Segment.FEATURES], bound[1].contents[Segment.FEATURES])
    tensor = program.tensor("x_author")
    stored = segment(bound[0], Segment.FEATURES, bound[0].offsets["x_author"], 30 * 64).reshape(30, 64)
    assert not tensor.signed and stored[3, 5] == 255 and stored[3, 0] == round(0.3 / tensor.scale)
    assert not stored[:, 7:].any()


def test_types_without_vertices_and_relations_without_edges_can_be_bound(program: Program) -> None:
    none = np.zeros(0, np.int64)
    counts = {"paper": 0, "author": 0}
    features = {"x_paper": np.zeros((0, 5), np.float32), "x_author": np.zeros((0, 7), np.float32)}
    edges = {name: IncomingEdges(np.zeros(1, np.int64), none) for name in ("writes", "cites")}
    bound = bind(program, GraphArrays(counts, features, edges))
    assert bound.logits(np.zeros(0, np.uint8)).shape == (0, 7)
    for kind in (Segment.FEATURES, Segment.GRAPH, Segment.OUTPUT, Segment.ACTIVATIONS):
        assert bound.sizes[kind] >= 64, "an address in an empty segment is refused by DISPATCH"


def test_an_edge_set_without_edges_keeps_a_place(program: Program, arrays: GraphArrays) -> None:
    bound = bind(program, with_edges(arrays, "cites", np.zeros(41), []))
    for operation in ("configure_destinations", "configure_ids"):
        found = places(bound, operation, "address")
        assert len(set(found)) == len(found)
        assert all(place & 0xFFFF_FFFF < bound.sizes[Segment.GRAPH] for place in found)


def test_the_same_graph_gives_the_same_stream(program: Program, arrays: GraphArrays) -> None:
    first, second = bind(program, arrays), bind(program, graph_arrays(program, graph_of(40, 30)))
    assert first.hash() == second.hash()
    assert bind(program, graph_arrays(program, graph_of(41, 30))).hash() != first.hash()


@pytest.mark.parametrize("papers", [0, 1, 3, 4, 5, 8, 41])
def test_every_row_is_stored_once(program: Program, papers: int) -> None:
    """Full tiles and the tail cover the rows of each pass, whatever the count."""
    graph = graph_of(max(papers, 1), 30)
    if not papers:
        counts = {**graph.counts, "paper": 0}
        none = Edges(np.zeros(0, np.int64), np.zeros(0, np.int64))
        features = {**graph.features, "paper": np.zeros((0, 5), np.float32)}
        graph = replace(graph, counts=counts, relations=dict.fromkeys(graph.relations, none), features=features)
    bound = bind(program, graph_arrays(program, graph))
    assert sum(places(bound, "store_rows", "rows")) == papers * len(program.layers)
    assert 0 not in places(bound, "store_rows", "rows")


def refusal(program: Program, arrays: GraphArrays, kind: type[Exception]) -> tuple[str, str, str]:
    with pytest.raises(kind) as caught:
        bind(program, arrays)
    found, expected, do = caught.value.args
    return found, expected, do


def test_a_missing_type_and_missing_edges_are_named_at_once(program: Program, arrays: GraphArrays) -> None:
    lacking = replace(arrays, counts={"author": 30}, edges={"writes": arrays.edges["writes"]})
    assert refusal(program, lacking, RelationMissingError) == (
        "the graph lacks node type 'paper', edges 'cites'",
        "every node type and relation that the model reads",
        "use a graph of the kind that the model was made for",
    )


def test_missing_relations_of_a_graph_are_named_at_once(program: Program) -> None:
    graph = graph_of(40, 30)
    with pytest.raises(RelationMissingError) as caught:
        graph_arrays(program, replace(graph, relations={}))
    assert caught.value.args == (
        "the graph 'small' lacks relations that the program reads: "
        + ", ".join(f"{r.name} ({r.source} -> {r.destination})" for r in (WRITES, CITES)),
        "a graph with them; this one has none",
        "use the graph that the model was made for, or compile a model for this one",
    )


def test_edges_of_another_count_are_refused(program: Program, arrays: GraphArrays) -> None:
    assert refusal(program, with_edges(arrays, "cites", np.zeros(40), []), RelationMissingError) == (
        "the edges 'cites' have 39 destinations",
        "40, the nodes of type 'paper'",
        "build the edges from the same graph as the counts",
    )


@pytest.mark.parametrize(
    ("starts", "found"),
    [
        ({0: 1}, "go from 1 to 120"),
        ({40: 119}, "go from 0 to 119"),
        ({40: 121}, "go from 0 to 121"),
        ({20: 64}, "go from 0 to 120 and fall"),
    ],
)
def test_starts_that_are_not_those_of_the_edges_are_refused(
    program: Program, arrays: GraphArrays, starts: Mapping[int, int], found: str
) -> None:
    """Also by counts of edges without a sign."""
    indptr = np.arange(41, dtype=np.uint32) * 3
    for row, start in starts.items():
        indptr[row] = start
    edges = IncomingEdges(indptr, np.arange(120, dtype=np.uint32) % 40)
    wrong = replace(arrays, edges={**arrays.edges, "cites": edges})
    assert refusal(program, wrong, GraphInvalidError) == (
        f"the starts of the edges 'cites' {found}",
        "ascending ones from 0 to 120, the number of edges",
        "order the edges by destination, and count those of each",
    )


@pytest.mark.parametrize("node", [-1, 30])
def test_sources_that_there_are_not_are_refused(program: Program, arrays: GraphArrays, node: int) -> None:
    indptr = np.append(np.arange(40), 42)
    bind(program, with_edges(arrays, "writes", indptr, np.arange(42) % 30))
    sources = np.append(np.arange(41) % 30, node)
    assert refusal(program, with_edges(arrays, "writes", indptr, sources), GraphInvalidError) == (
        f"the edges 'writes' lead from node {node}",
        "nodes from 0 to below 30, those of type 'author'",
        "build the edges from the same graph as the counts",
    )


def test_the_degree_is_limited_to_what_is_proven(program: Program, arrays: GraphArrays) -> None:
    for degree in (65_535, 65_536):
        indptr = np.full(41, degree)
        indptr[0] = 0
        crowded = with_edges(arrays, "cites", indptr, np.zeros(degree))
        if degree == 65_535:
            bind(program, crowded)
    assert refusal(program, crowded, LimitExceededError) == (
        "a node of type 'paper' has 65,536 edges of 'cites'",
        "at most 65,535, for which the program's sums are proven",
        "remove edges of that node",
    )


def test_a_table_fixes_the_count() -> None:
    graph = graph_of(20, 10)
    random = np.random.default_rng(0)
    in_venue = Relation("venue", "holds", "paper")
    relations = {**graph.relations, in_venue: Edges(np.array([0, 3]), np.array([1, 2]))}
    graph = replace(graph, relations=relations)
    builder = ModelBuilder(random, graph)
    model = quantized(Case(builder.finish(builder.mean(builder.table("venue", 3), "holds", "paper")), graph)).model
    program = compiled(model, graph, WITHOUT_SCRATCHPAD)
    other = replace(graph, counts={**graph.counts, "venue": 5})
    assert refusal(program, graph_arrays(program, other), CountFixedError) == (
        "the graph has 5 nodes of type 'venue'",
        "4: the model holds a learned row for each of them",
        "use the graph that the model was trained on, or a model without learned tables",
    )


def test_features_are_checked(program: Program, arrays: GraphArrays) -> None:
    without: Mapping[str, npt.NDArray[np.float32]] = {"x_paper": np.zeros((40, 5), np.float32)}
    assert refusal(program, replace(arrays, features=without), FeaturesMissingError) == (
        "the graph gives no features for the input 'x_author'",
        "features of the type 'author'",
        "use a graph with these features",
    )
    wide = with_features(arrays, "x_paper", np.zeros((40, 6), np.float32))
    assert refusal(program, wide, FeatureWidthError) == (
        "the features of 'paper' have 6 columns",
        "5, the width of the model's input 'x_paper'",
        "use the features that the model was trained on",
    )
    for value in (np.nan, np.inf):
        table = np.zeros((40, 5), np.float32)
        table[39, 4] = value
        assert refusal(program, with_features(arrays, "x_paper", table), FeaturesNotFiniteError) == (
            "the features of 'paper' contain NaN or infinity",
            "finite values",
            "clean the features where the graph is made",
        )


def test_a_segment_larger_than_offsets_can_name_is_refused(program: Program, arrays: GraphArrays) -> None:
    huge = replace(program.tensors[-1], name="huge", segment="activations", channels=1 << 28)
    with pytest.raises(LimitExceededError) as caught:
        bind(replace(program, tensors=(*program.tensors, huge)), arrays)
    assert caught.value.expected == f"less than {1 << 32} bytes, what a program's offsets can name"
    assert caught.value.found.startswith("the segment 'activations' needs ")


def test_a_value_that_does_not_fit_its_field_is_refused(program: Program, arrays: GraphArrays) -> None:
    """More edges than the field of ``configure_ids`` holds, without making them."""
    field = next(f for f in isa().operation("configure_ids").fields if f.name == "edges")
    number = next(i for i, symbol in enumerate(program.symbols) if symbol.kind is SymbolKind.EDGES)
    blocks = []
    for block in program.blocks:
        patches = block.patches.copy()
        patches["constant"][patches["symbol"] == number] = field.largest
        blocks.append(replace(block, patches=patches))
    with pytest.raises(LimitExceededError) as caught:
        bind(replace(program, blocks=tuple(blocks)), arrays)
    layer = program.layers[-1].name
    assert caught.value.args == (
        f"layer '{layer}' needs the value {field.largest + 60} in an instruction field of {field.bits} bits",
        f"at most {field.largest}",
        "use a smaller graph",
    )


def header(engine: Engine, *, wait: int = 0, wait1: int = 0, signal: int = 0) -> tuple[int, int]:
    fields = {"engine": int(engine), "opcode": 0, "wait0": wait, "wait1": wait1, "signal0": signal, "signal1": 0}
    return sum(fields[f.name] << f.lsb for f in isa().header), 0


def stream(*instructions: tuple[int, int]) -> npt.NDArray[np.uint64]:
    return np.array(instructions, np.uint64).reshape(-1, 2)


RULE = "one signalling and one waiting engine per semaphore, every signal before its wait in program order"
REPORT = "report this: the compiler wrote a wrong program"


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (
            stream(header(Engine.LOAD, signal=3), header(Engine.VEC, wait=3), header(Engine.VEC, wait=3)),
            "instruction 2 waits for semaphore 3 before it is signalled",
        ),
        (
            stream(header(Engine.VEC, wait=31), header(Engine.LOAD, signal=31)),
            "instruction 0 waits for semaphore 31 before it is signalled",
        ),
        (
            stream(header(Engine.LOAD, signal=1), header(Engine.VEC, wait=1, wait1=1), header(Engine.LOAD, signal=1)),
            "instruction 1 waits for semaphore 1 before it is signalled",
        ),
        (
            stream(
                header(Engine.LOAD, signal=2),
                header(Engine.LOAD, signal=2),
                header(Engine.VEC, wait=2),
                header(Engine.AGG, wait=2),
            ),
            f"more than one engine waits for semaphore 2: [{Engine.VEC:d}, {Engine.AGG:d}]",
        ),
        (
            stream(header(Engine.LOAD, signal=2), header(Engine.STORE, signal=2), header(Engine.VEC, wait=2)),
            f"more than one engine signals semaphore 2: [{Engine.LOAD:d}, {Engine.STORE:d}]",
        ),
        (stream(header(Engine.VEC, wait=2, signal=2)), "instruction 0 waits for semaphore 2 before it is signalled"),
    ],
)
def test_streams_that_could_hang_are_refused(words: npt.NDArray[np.uint64], found: str) -> None:
    with pytest.raises(StreamInvalidError) as caught:
        check_order(words)
    assert caught.value.args == (found, RULE, REPORT)


def test_a_stream_in_order_passes() -> None:
    check_order(stream())
    check_order(
        stream(header(Engine.LOAD, signal=1), header(Engine.VEC, wait=1, signal=2), header(Engine.LOAD, wait=2))
    )


def hangs_in_order(words: npt.NDArray[np.uint64]) -> bool:
    """Whether a machine that executes one instruction after the other meets a wait without a signal."""
    counts = [0] * (isa().semaphores + 1)
    for low in words[:, 0].tolist():
        fields = {field.name: field.get(low) for field in isa().header}
        for semaphore in filter(None, (fields["wait0"], fields["wait1"])):
            counts[semaphore] -= 1
            if counts[semaphore] < 0:
                return True
        for semaphore in filter(None, (fields["signal0"], fields["signal1"])):
            counts[semaphore] += 1
    return False


def test_every_removed_signal_that_a_wait_needs_is_noticed(program: Program, arrays: GraphArrays) -> None:
    words = bind(program, arrays).words
    verdicts = []
    for name in ("signal0", "signal1"):
        field = next(field for field in isa().header if field.name == name)
        for index in np.flatnonzero(words[:, 0] >> np.uint64(field.lsb) & np.uint64(field.largest)):
            broken = words.copy()
            broken[index, 0] &= ~np.uint64(field.largest << field.lsb)
            verdicts.append(hangs_in_order(broken))
            if not verdicts[-1]:  # the last signals of a ring have no wait
                check_order(broken)
                continue
            with pytest.raises(StreamInvalidError, match="before it is signalled"):
                check_order(broken)
    assert any(verdicts) and not all(verdicts)
