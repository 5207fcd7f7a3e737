# SPDX-License-Identifier: Apache-2.0
"""Predictions of some nodes, and of graphs in parts, are rows of the full prediction, bit for bit."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from hetfab.driver.asked_nodes import FusionWeights
from hetfab.driver.emulated import EmulatedTransport
from hetfab.driver.graph.arrays import graph_arrays
from hetfab.driver.graph.graph_rows import GraphRows
from hetfab.driver.graph.heterograph import HeteroGraph
from hetfab.driver.graph.model_inputs import model_bindings
from hetfab.driver.graph.npz import read_graph
from hetfab.driver.layer_runs import LayerRuns
from hetfab.driver.node_runs import NodeRuns
from hetfab.driver.session import Session
from hetfab.overlay.bind import bind
from hetfab.overlay.compiler.compile import compile_lowered
from hetfab.overlay.compiler.lowering import lower
from hetfab.overlay.errors import LimitExceededError, NodesDependentError
from hetfab.overlay.model.reader import read_model
from hetfab.overlay.program import Program
from hetfab.overlay.stage_bytes import segment_bytes
from hetfab.overlay.stages import Role
from tests.attention_models import MODELS, attention_case
from tests.conftest import SMALL_GEOMETRY
from tests.data_folder import require_data
from tests.outside import module
from tests.programs import compiled, design_of, quantized
from tests.random_models import Case, random_case
from tests.test_leading_columns import Form, joined

ZOO = Path(__file__).parents[1] / "examples" / "zoo"
GRAPHS = module("examples.zoo.graphs")
LARGE = module("benchmarks.large_graph")
NODES_OF_ZOO = {"gcn": 40, "sage_sum": 1, "nars": 5}
LIMIT = 1 << 24


@pytest.fixture(scope="module")
def session() -> Iterator[Session]:
    """An emulated overlay of the small design."""
    design = design_of(SMALL_GEOMETRY)
    with EmulatedTransport(design) as transport:
        yield Session(transport, design)


@dataclass(frozen=True)
class Whole:
    """A program on a graph: logits and fusion weights of all nodes."""

    program: Program
    graph: HeteroGraph
    logits: npt.NDArray[np.int32]
    fusion: FusionWeights

    def check(self, session: Session, nodes: npt.NDArray[np.int64], limit: int = LIMIT) -> None:
        """Some nodes' logits are the rows of all."""
        runs = NodeRuns(GraphRows(self.program, self.graph), limit, self.fusion)
        found = runs.predict(session, nodes)
        np.testing.assert_array_equal(found.result.logits, self.logits[nodes])
        by_layers = runs.layers.run(session, runs.layers.plan(nodes)).result
        np.testing.assert_array_equal(by_layers.logits, self.logits[nodes])


def whole(program: Program, graph: HeteroGraph, session: Session) -> Whole:
    """Runs a program on a whole graph at once, and layer by layer, which gives the same."""
    logits = session.run(bind(program, graph_arrays(program, graph))).logits
    runs = LayerRuns(GraphRows(program, graph), LIMIT)
    outcome = runs.run(session, runs.plan())
    np.testing.assert_array_equal(outcome.result.logits, logits)
    return Whole(program, graph, logits, outcome.fusion)


def program_of(case: Case) -> Program:
    return compiled(quantized(case).model, case.graph, SMALL_GEOMETRY)


@pytest.mark.parametrize("name", MODELS)
def test_attention_models(name: str, session: Session) -> None:
    case = attention_case(name)
    found = whole(program_of(case), case.graph, session)
    assert bool(found.fusion) == (name == "han")
    for nodes in ([3], [5, 1, 5, 0], list(range(len(found.logits)))):
        found.check(session, np.array(nodes))


def test_features_whose_first_columns_lead(session: Session) -> None:
    case = attention_case("rgat")
    model = quantized(case).model
    layers = lower(model, model_bindings(model, case.graph))
    for form, features in ((Form(3), "x_paper"), (Form(2, weighted=True), "x_author")):
        layers = joined(layers, form, features)
    found = whole(compile_lowered(layers, design_of(SMALL_GEOMETRY)), case.graph, session)
    assert [found.program.tensor(name).leading for name in ("x_paper", "x_author")] == [3, 2]
    found.check(session, np.array([5, 1, 5, 0]))


@pytest.mark.parametrize("seed", range(6))
def test_random_models(seed: int, session: Session) -> None:
    case = random_case(seed, largest_count=65)
    found = whole(program_of(case), case.graph, session)
    random = np.random.default_rng(seed)
    for count in (1, 3):
        found.check(session, random.integers(0, len(found.logits), count))


@pytest.mark.parametrize("name", NODES_OF_ZOO)
def test_trained_models(name: str, session: Session) -> None:
    graph = (GRAPHS.academic_graph if name == "nars" else GRAPHS.papers_graph)()
    found = whole(program_of(Case(read_model(ZOO / f"{name}.onnx"), graph)), graph, session)
    found.check(session, np.random.default_rng(0).integers(0, len(found.logits), NODES_OF_ZOO[name]))


def test_a_model_of_a_public_graph(session: Session) -> None:
    """Of all of them ``benchmarks.nodes`` tells."""
    folder = require_data()
    graph = read_graph(folder / "imdb" / "graph.npz")
    found = whole(program_of(Case(read_model(folder / "models" / "imdb_han.onnx"), graph)), graph, session)
    found.check(session, np.random.default_rng(0).integers(0, len(found.logits), 2), 1 << 26)


def test_only_what_the_nodes_need_is_computed(session: Session) -> None:
    """A chain of citations: a row more for each layer, whatever the graph's size."""
    case = attention_case("rgat")
    program = program_of(case)
    rows = GraphRows(program, case.graph)
    runs = LayerRuns(rows, LIMIT)
    plan = runs.plan(np.array([3]))
    output = next(layer for layer in plan.layers if layer.stage.output.name == program.output.tensor)
    assert output.rows.tolist() == [3]
    for layer in plan.layers:
        readers = [each for each in plan.layers if layer.stage.output.name in [r.tensor for r in each.stage.reads]]
        needed: list[npt.NDArray[Any]] = [np.zeros(0, np.int64)]
        for reader in readers:
            for read in reader.stage.reads:
                if read.tensor == layer.stage.output.name and read.role is Role.ROWS:
                    needed.append(reader.rows)
                elif read.tensor == layer.stage.output.name:
                    needed += [reader.edges[name].sources for name in read.edges]
        expected = np.unique(np.concatenate(needed)) if readers else np.array([3])
        assert layer.rows.tolist() == expected.tolist()


def test_vertices_keep_all_edges_of_the_whole_graph(session: Session) -> None:
    """So means divide by the same degrees."""
    case = random_case(1)
    program = program_of(case)
    rows = GraphRows(program, case.graph)
    expected = graph_arrays(program, case.graph).edges
    for edges in (each for each in program.edges if each.of_graph):
        asked = np.arange(case.graph.counts[edges.destination_type])[::3]
        found = rows.edges(edges, asked)
        degrees = np.diff(expected[edges.name].indptr)
        np.testing.assert_array_equal(np.diff(found.indptr), degrees[asked])


def test_parts_fit_the_memory_that_was_planned(session: Session) -> None:
    program = LARGE.compiled_rgcn()
    program = replace(program, design=replace(program.design, board="zcu104"))
    graph = LARGE.large_graph(3000, 40_000)
    limit = 600_000
    with LARGE.CountedTransport(program.design) as transport:
        session = Session(transport, program.design)
        expected = session.run(bind(program, graph_arrays(program, graph))).logits
        runs = LayerRuns(GraphRows(program, graph), limit)
        plan = runs.plan()
        assert GraphRows(program, graph).whole_bytes() > limit >= plan.largest_bytes
        assert plan.parts > len(plan.layers)
        transport.most_bytes = 0
        found = runs.run(session, plan).result
        assert 0 < transport.most_bytes <= plan.largest_bytes
        np.testing.assert_array_equal(found.logits, expected)
        nodes = np.arange(0, len(expected), 7)
        asked = NodeRuns(GraphRows(program, graph), limit).predict(session, nodes)
        assert asked.runs > 1
        np.testing.assert_array_equal(asked.result.logits, expected[nodes])


def test_what_a_whole_run_needs_is_known_from_counts(session: Session) -> None:
    for seed in range(3):
        case = random_case(seed, largest_count=65)
        program = program_of(case)
        bound = bind(program, graph_arrays(program, case.graph))
        needed = GraphRows(program, case.graph).whole_bytes()
        assert segment_bytes(bound.sizes.values()) <= needed + len(program.tensors) * 64


def test_batches_give_the_same(session: Session) -> None:
    case = attention_case("rgat")
    program = program_of(case)
    runs = NodeRuns(GraphRows(program, case.graph), LIMIT)
    nodes = np.array([7, 3, 3, 0, 9])
    at_once = runs.predict(session, nodes)
    in_batches = runs.predict(session, nodes, batch=2)
    assert (at_once.runs, in_batches.runs) == (1, 3)
    np.testing.assert_array_equal(at_once.result.logits, in_batches.result.logits)


def test_a_row_that_does_not_fit_is_refused_with_its_bytes() -> None:
    case = attention_case("rgat")
    runs = LayerRuns(GraphRows(program_of(case), case.graph), 70_000)
    with pytest.raises(LimitExceededError) as caught:
        runs.plan()
    message = str(caught.value)
    assert "row 0 of the layer" in message and "bytes of device memory" in message
    assert "expected: at most 70,000 bytes for the rows of a part" in message


def test_a_mean_over_all_nodes_needs_its_weights(session: Session) -> None:
    case = attention_case("han")
    program = program_of(case)
    with pytest.raises(NodesDependentError) as caught:
        NodeRuns(GraphRows(program, case.graph), LIMIT).predict(session, np.array([0]))
    assert str(caught.value) == (
        "the model takes a mean over all nodes ('within paper + paper'), "
        "so that each prediction depends on all of them\n"
        "  expected: the weights that one run over the whole graph gives\n"
        "  do: save them with `hetfab run --save-fusion FILE`, and give them with --fusion FILE"
    )
