# SPDX-License-Identifier: Apache-2.0
"""Other features of a graph that a program is bound to: the same bytes as when it is bound again, or a refusal."""

from dataclasses import replace

import numpy as np
import pytest

from hetfab.driver.graph.arrays import graph_arrays
from hetfab.driver.graph.facts import graph_facts
from hetfab.driver.graph.heterograph import HeteroGraph
from hetfab.driver.graph.model_inputs import model_bindings
from hetfab.overlay.bind import BoundProgram, bind, bind_features
from hetfab.overlay.compiler.compile import compile_lowered
from hetfab.overlay.compiler.first_projection import FirstProjection
from hetfab.overlay.compiler.leading_columns import with_leading
from hetfab.overlay.compiler.lowering import lower
from hetfab.overlay.compiler.model_plan import plan_model
from hetfab.overlay.design import default_design
from hetfab.overlay.errors import FeaturesMissingError, LimitExceededError
from hetfab.overlay.isa.codec import Segment
from hetfab.overlay.program import Program
from tests.conftest import SMALL_GEOMETRY
from tests.programs import design_of, quantized
from tests.random_models import Case, ModelBuilder, academic_graph


def graph_and_program(form: FirstProjection, leading: int = 0) -> tuple[HeteroGraph, Program]:
    """A dense layer and a mean, whose features are read in one form; or some of their columns as rows."""
    random = np.random.default_rng(0)
    graph = academic_graph(random, 40, 30, 5)
    sparse = {
        name: (np.arange(table.size).reshape(table.shape) % 3 == 0) * np.float32(2)
        for name in graph.features
        for table in (graph.dense_features(name),)
    }
    graph = replace(graph, features=sparse)
    builder = ModelBuilder(random, graph)
    mean = builder.mean(builder.dense(builder.features("author"), 7), "writes", "paper")
    model = quantized(Case(builder.finish(mean), graph)).model
    design = design_of(SMALL_GEOMETRY)
    lowered = lower(model, model_bindings(model, graph))
    planned = plan_model(lowered, design, graph_facts(graph, lowered), form).lowered
    if leading:
        order = random.permutation(planned.stored["x_author"].channels)
        planned = with_leading(planned, "x_author", order, leading)
    return graph, compile_lowered(planned, design)


def with_features(graph: HeteroGraph, factor: float) -> HeteroGraph:
    features = {name: graph.dense_features(name) * np.float32(factor) for name in graph.features}
    return replace(graph, features=features)


def bound_to(program: Program, graph: HeteroGraph) -> BoundProgram:
    return bind(program, graph_arrays(program, graph))


@pytest.mark.parametrize(
    ("form", "leading"), [(FirstProjection.DENSE, 0), (FirstProjection.SPARSE, 0), (FirstProjection.SPARSE, 2)]
)
def test_other_features_give_the_bytes_of_binding_again(form: FirstProjection, leading: int) -> None:
    graph, program = graph_and_program(form, leading)
    other = with_features(graph, 3)
    bound, again = bound_to(program, graph), bound_to(program, other)
    contents = {segment: content.copy() for segment, content in bound.contents.items()}
    assert program.tensor("x_author").leading == leading
    assert any(not np.array_equal(again.contents[segment], content) for segment, content in contents.items())
    for piece in bind_features(bound, graph_arrays(program, other).features):
        contents[piece.segment][piece.offset : piece.offset + piece.content.size] = piece.content
    for segment, content in contents.items():
        np.testing.assert_array_equal(content, again.contents[segment], err_msg=segment.name)


@pytest.mark.parametrize(("leading", "source"), [(0, "of"), (2, "behind the leading columns of")])
def test_other_numbers_of_entries_are_refused(leading: int, source: str) -> None:
    graph, program = graph_and_program(FirstProjection.SPARSE, leading)
    fewer = {name: graph.dense_features(name).copy() for name in graph.features}
    for table in fewer.values():
        table[0] = 0
    entries = np.count_nonzero(
        fewer["author"][:, list(program.tensor("x_author").channel_order[leading:]) or slice(None)]
    )
    arrays = graph_arrays(program, replace(graph, features=fewer))
    found = rf"the non-zeros {source} 'x_author' make {entries} edges, \d+ units\n.*\d+ units, as in the bound program"
    with pytest.raises(LimitExceededError, match=found):
        bind_features(bound_to(program, graph), arrays.features)


def test_other_numbers_in_the_leading_columns_are_taken() -> None:
    graph, program = graph_and_program(FirstProjection.SPARSE, 2)
    fewer = graph.dense_features("author").copy()
    fewer[:, list(program.tensor("x_author").channel_order[:2])] = 0
    other = replace(graph, features={**graph.features, "author": fewer})
    bound, again = bound_to(program, graph), bound_to(program, other)
    assert np.count_nonzero(fewer) < np.count_nonzero(graph.dense_features("author"))
    features = bound.contents[Segment.FEATURES].copy()
    for piece in bind_features(bound, graph_arrays(program, other).features):
        if piece.segment is Segment.FEATURES:
            features[piece.offset : piece.offset + piece.content.size] = piece.content
    np.testing.assert_array_equal(features, again.contents[Segment.FEATURES])


def test_another_number_of_parts_is_refused() -> None:
    """As many entries, of few columns or of many: the pieces would not fit where the first ones are."""
    random = np.random.default_rng(0)
    few, many = np.zeros((2, 128, 3000), np.float32)
    few[:, :100] = 2
    for row in many:
        row[random.choice(3000, 100, replace=False)] = 2
    graph = academic_graph(random, 40, 128, 5)
    spread = replace(graph, features={**graph.features, "author": many})
    builder = ModelBuilder(random, spread)
    mean = builder.mean(builder.dense(builder.features("author"), 64), "writes", "paper")
    model = quantized(Case(builder.finish(mean), spread)).model
    design = default_design("pynq-z2-graphs")
    lowered = lower(model, model_bindings(model, spread))
    planned = plan_model(lowered, design, graph_facts(spread, lowered), FirstProjection.SPARSE).lowered
    names = [edges.name for edges in compile_lowered(planned, design).edges if edges.features]
    program = compile_lowered(planned, design, in_parts=names)
    narrow = replace(graph, features={**graph.features, "author": few})
    for bound, other in ((spread, narrow), (narrow, spread)):
        with pytest.raises(LimitExceededError, match=r"make [\d,]+ edges, \d parts?\n.*as in the bound"):
            bind_features(bound_to(program, bound), graph_arrays(program, other).features)


def test_missing_features_are_named() -> None:
    graph, program = graph_and_program(FirstProjection.DENSE)
    with pytest.raises(FeaturesMissingError, match="x_author"):
        bind_features(bound_to(program, graph), {})
