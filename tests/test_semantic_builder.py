# SPDX-License-Identifier: Apache-2.0
"""The host's semantic graph builder makes what the golden operations make, in the same order of ids."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hetfab.hls.build.compiler import runs_code_for
from hetfab.hls.build.semantic import SemanticGraphBuilder
from hetfab.overlay.errors import DeviceMemoryError
from hetfab.overlay.semantic.adjacency import Adjacency, adjacency, compose, expansions
from hetfab.overlay.semantic.build import build_semantic_graphs
from hetfab.overlay.semantic.plan import Compose, Plan, plan_semantic_graphs
from tests.random_relations import RandomRelations, graphs, random_relations

PRODUCT = ("x", "y")
PROCESSORS = [
    pytest.param(march, marks=pytest.mark.skipif(not runs_code_for(march), reason=f"cpu: code for {march}"))
    for march in ("native", "x86-64")
]


def of_product(left: Adjacency, right: Adjacency, threshold: int, most_edges: int) -> Plan:
    step = Compose(PRODUCT, ("x",), ("y",), threshold, 0, 0, True, most_edges, most_edges, 0)
    return Plan((step,), {"product": PRODUCT}, 0, 0)


def identical(found: Adjacency, expected: Adjacency) -> bool:
    return (
        found.columns == expected.columns
        and np.array_equal(found.starts, expected.starts)
        and np.array_equal(found.ids, expected.ids)
    )


@pytest.mark.parametrize("march", PROCESSORS)
@given(data=st.data())
@settings(deadline=None)
def test_products_are_the_golden_ones(march: str, data: st.DataObject) -> None:
    rows, middles, columns = (data.draw(st.integers(0, most)) for most in (30, 30, 700))
    left, right = data.draw(graphs(rows, middles)), data.draw(graphs(middles, columns))
    expected = compose(left, right, threshold := data.draw(st.sampled_from([0, 3, 40, 10_000])))
    builder = SemanticGraphBuilder(
        of_product(left, right, threshold, expected.edges), {"x": left, "y": right}, march=march
    )
    totals = builder.build()
    assert identical(builder.outputs()["product"], expected)
    assert totals.expansions == expansions(left, right)
    assert totals.peak_bytes >= 4 * (expected.edges + expected.rows + 1)


@given(random_relations())
@settings(deadline=None)
def test_plans_build_the_golden_graphs(random: RandomRelations) -> None:
    plan = plan_semantic_graphs(random.metapaths, random.relations, random.reverses)
    expected = build_semantic_graphs(plan, random.by_name)
    builder = SemanticGraphBuilder(plan, random.by_name)
    for _ in range(2):
        builder.build()
        found = builder.outputs()
        assert all(identical(found[name], graph) for name, graph in expected.items())
        builder.release()


def test_a_graph_larger_than_its_space_stops_the_build() -> None:
    dense = adjacency(*(np.repeat(np.arange(5), 5), np.tile(np.arange(5), 5)), rows=5, columns=5)
    builder = SemanticGraphBuilder(of_product(dense, dense, 0, 24), {"x": dense, "y": dense})
    with pytest.raises(DeviceMemoryError) as caught:
        builder.build()
    assert str(caught.value) == (
        "a semantic graph has more than 24 edges, the space that it was given\n"
        "  expected: relations as the plan was made for\n"
        "  do: plan with these relations"
    )
