# SPDX-License-Identifier: Apache-2.0
"""Operators on rows that the overlay does not execute run in onnxruntime, between its layers, where that is allowed."""

from collections.abc import Callable, Iterator

import numpy as np
import pytest

from hetfab.driver.emulated import EmulatedTransport
from hetfab.driver.graph.graph_rows import GraphRows
from hetfab.driver.graph.model_inputs import on_graph
from hetfab.driver.node_runs import NodeRuns
from hetfab.driver.session import Session
from hetfab.overlay.compiler.compile import compile_model
from hetfab.overlay.host_nodes import Fallback
from hetfab.overlay.model.bound_model import BoundModel
from hetfab.overlay.model.reader import check_model, normalise
from hetfab.overlay.program import Program
from hetfab.quantize.post_training import QuantizedModel, quantize
from tests.conftest import SMALL_GEOMETRY
from tests.programs import design_of, reference_logits
from tests.random_models import Case, ModelBuilder, academic_graph

LIMIT = 1 << 24
Build = Callable[[ModelBuilder], str]


@pytest.fixture(scope="module")
def session() -> Iterator[Session]:
    """An emulated overlay of the small design."""
    design = design_of(SMALL_GEOMETRY)
    with EmulatedTransport(design) as transport:
        yield Session(transport, design)


def layer(builder: ModelBuilder, paper: str, author: str, width: int) -> str:
    return builder.total([builder.mean(builder.dense(author, width), "writes", "paper"), builder.dense(paper, width)])


def between(builder: ModelBuilder) -> str:
    """A function of hidden rows that has no table on the overlay."""
    paper, author = builder.features("paper"), builder.features("author")
    hidden = builder.operator("Softplus", layer(builder, paper, author, 9))
    return builder.total([builder.mean(hidden, "cites", "paper"), builder.dense(hidden, 9)])


def at_the_beginning(builder: ModelBuilder) -> str:
    paper, author = builder.features("paper"), builder.features("author")
    return layer(builder, builder.operator("Sin", paper), author, 5)


def at_the_end(builder: ModelBuilder) -> str:
    paper, author = builder.features("paper"), builder.features("author")
    return builder.operator("LogSoftmax", layer(builder, paper, author, 4), axis=-1)


def everywhere(builder: ModelBuilder) -> str:
    """Of one and of two inputs, of several widths, one behind another, before sums and before means."""
    paper, author = builder.features("paper"), builder.features("author")
    start = builder.operator("Softsign", author)
    first = layer(builder, paper, start, 8)
    gate = builder.operator("HardSigmoid", builder.dense(paper, 8))
    gated = builder.operator("Mul", first, gate)
    joined = builder.operator("Concat", gated, builder.operator("Relu", gated), paper, axis=1, width=33)
    hidden = builder.relu(builder.dense(joined, 9))
    plus = builder.total([builder.mean(hidden, "cites", "paper"), builder.operator("Mish", builder.dense(hidden, 9))])
    return builder.operator("Tanh", plus)


def of_a_table(builder: ModelBuilder) -> str:
    paper, term = builder.features("paper"), builder.table("term", 6)
    hidden = builder.mean(builder.operator("Sin", term), "in", "paper")
    return builder.total([hidden, builder.dense(paper, 6)])


def of_a_function_in_a_wrong_place(builder: ModelBuilder) -> str:
    """Sigmoid is a table on the overlay, but not behind another function."""
    paper, author = builder.features("paper"), builder.features("author")
    hidden = builder.operator("Sigmoid", builder.relu(layer(builder, paper, author, 7)))
    return builder.dense(hidden, 3)


MODELS = (between, at_the_beginning, at_the_end, everywhere, of_a_table, of_a_function_in_a_wrong_place)


def case_of(build: Build) -> Case:
    random = np.random.default_rng(3)
    graph = academic_graph(random, 40, 30, 5)
    builder = ModelBuilder(random, graph)
    return Case(check_model(normalise(builder.finish(build(builder))), "the float model"), graph)


def quantized(case: Case, fallback: Fallback = Fallback.HOST) -> QuantizedModel:
    return quantize(on_graph(case.model, case.graph), fallback=fallback)


def program_of(model: BoundModel, fallback: Fallback = Fallback.HOST) -> Program:
    return compile_model(model, design_of(SMALL_GEOMETRY), fallback=fallback)


@pytest.mark.parametrize("build", MODELS)
def test_results_are_those_of_the_quantized_model(build: Build, session: Session) -> None:
    case = case_of(build)
    model = quantized(case)
    program = program_of(model)
    runs = NodeRuns(GraphRows(program, case.graph), LIMIT)
    plan = runs.layers.plan()
    result = runs.layers.run(session, plan).result
    expected = reference_logits(model.model, case.graph)
    print(build.__name__, np.abs(result.values - expected).max() / program.output.lsb, np.abs(expected).max())
    np.testing.assert_array_equal(result.values, expected)
    some = runs.predict(session, np.array([3, 17, 3]))
    np.testing.assert_array_equal(some.result.logits, result.logits[[3, 17, 3]])
    batched = runs.predict(session, np.arange(7), batch=2)
    np.testing.assert_array_equal(batched.result.logits, result.logits[:7])
    print(result.host, batched.result.host, [l.name + ":" + l.kind for l in program.layers])
