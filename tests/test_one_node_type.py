# SPDX-License-Identifier: Apache-2.0
"""GraphSAGE, GIN, GAT and GCN are the case of one node type: what the overlay computes is what onnxruntime does."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from hetfab.driver.graph.arrays import graph_arrays
from hetfab.driver.graph.feeds import edge_weights
from hetfab.driver.graph.heterograph import HeteroGraph
from hetfab.overlay import layouts
from hetfab.overlay.bind import bind
from hetfab.overlay.compiler.compile import compile_model
from hetfab.overlay.errors import BindingInvalidError, DesignInvalidError, LimitExceededError
from hetfab.overlay.isa.codec import Segment
from hetfab.overlay.model.binding import EdgeWeights
from hetfab.overlay.model.bound_model import BoundModel
from hetfab.overlay.model.float_writer import write_float
from hetfab.overlay.model.layers import Dense, SegMean, constants_of
from hetfab.overlay.model.parser import parse_layers, try_layers
from hetfab.overlay.model.reader import bindings_of
from hetfab.overlay.model.runtime import run_model
from hetfab.overlay.model.schema import Relation
from tests.attention_models import HEADS, WIDTH, AttentionBuilder
from tests.conftest import SMALL_GEOMETRY
from tests.programs import bound_to, compiled, design_of, quantized, reference_logits, run_golden
from tests.random_models import Case, random_edges

LINKS = Relation("node", "links", "node")
NODES, FEATURES, CLASSES = 60, 12, 3


def graph() -> HeteroGraph:
    random = np.random.default_rng(0)
    edges = {LINKS: random_edges(random, NODES, NODES)}
    features = {"node": random.normal(size=(NODES, FEATURES)).astype(np.float32)}
    return HeteroGraph("plain", "node", {"node": NODES}, edges, features)


def total(builder: AttentionBuilder, rows: str) -> str:
    """The sum over neighbours."""
    return builder.mean(rows, "links", "node", operator="SegSum")


def sage(builder: AttentionBuilder) -> str:
    """Dense layers of the neighbours' mean and of the node itself, both with a bias."""
    rows = builder.features("node")
    for width in (16, CLASSES):
        mean = builder.mean(rows, "links", "node")
        rows = builder.total([builder.dense(mean, width), builder.dense(rows, width)])
        rows = builder.relu(rows) if width == 16 else rows
    return rows


def gin(builder: AttentionBuilder) -> str:
    """Dense layers of the neighbours' sum and the node's own row times 1 + eps."""
    rows = builder.features("node")
    for _ in range(2):
        own = builder.op("Mul", rows, builder.constant(1.25))
        hidden = builder.relu(builder.dense(builder.total([own, total(builder, rows)]), 16))
        rows = builder.relu(builder.dense(hidden, 16))
    return builder.dense(rows, CLASSES)


def own_and_sum(builder: AttentionBuilder) -> str:
    """Features and their neighbours' sum, without a factor."""
    rows = builder.features("node")
    return builder.dense(builder.total([total(builder, rows), rows]), CLASSES)


def gat(builder: AttentionBuilder) -> str:
    """Attention over one relation, with a bias behind it."""
    rows = builder.features("node")
    view = builder.heads(builder.dense(rows, HEADS * WIDTH, bias=False))
    found = builder.attention(view, builder.scores(view), builder.scores(view), "links", "node", HEADS * WIDTH)
    biased = builder.op("Add", found, builder.weights(HEADS * WIDTH))
    return builder.dense(builder.relu(biased), CLASSES)


def gcn(builder: AttentionBuilder) -> str:
    """Sums over neighbours, weighted by the degrees of both ends."""
    rows = builder.dense(builder.features("node"), 16, bias=False)
    rows = builder.op("Add", builder.weighted_sum(rows, "links", "node"), builder.weights(16))
    rows = builder.dense(builder.relu(rows), CLASSES, bias=False)
    return builder.weighted_sum(rows, "links", "node")


MODELS: tuple[Callable[[AttentionBuilder], str], ...] = (sage, gin, own_and_sum, gat, gcn)


@pytest.fixture(params=MODELS, ids=lambda model: str(model.__name__))
def case(request: pytest.FixtureRequest) -> Case:
    builder = AttentionBuilder(np.random.default_rng(1), graph())
    return Case(builder.finish(request.param(builder)), graph())


def test_the_layers_compute_what_the_file_does(case: Case) -> None:
    layers = parse_layers(case.model)
    feed_of = {"x_node": case.graph.dense_features("node"), "n_node": np.array(NODES)}
    edges = case.graph.relations[LINKS]
    feed = feed_of | {"src_links": edges.source.astype(np.int64), "dst_links": edges.destination.astype(np.int64)}
    feed["w_links"] = edge_weights(case.graph, LINKS)
    written = write_float(layers, quantized(case).bindings, constants_of(case.model))
    expected = run_model(case.model, feed, [layers.output])[0]
    np.testing.assert_allclose(run_model(written, feed, [layers.output])[0], expected, rtol=1e-4, atol=1e-5)


def test_the_overlay_computes_what_onnxruntime_does(case: Case) -> None:
    model = quantized(case).model
    bound = bound_to(compiled(model, case.graph, SMALL_GEOMETRY), case.graph)
    logits = bound.logits(run_golden(bound).dram[Segment.OUTPUT])
    values = (logits * bound.program.output.scale).astype(np.float32)
    np.testing.assert_array_equal(values, reference_logits(model, case.graph))


@pytest.fixture
def weighted() -> Case:
    """GCN and its graph."""
    builder = AttentionBuilder(np.random.default_rng(1), graph())
    return Case(builder.finish(gcn(builder)), graph())


def test_weights_of_edges_need_a_design_that_has_them(weighted: Case) -> None:
    with pytest.raises(DesignInvalidError) as caught:
        compiled(quantized(weighted).model, weighted.graph, replace(SMALL_GEOMETRY, agg_weights=0))
    assert "has agg_weights 0" in caught.value.found
    assert "agg_weights 1" in caught.value.expected


def test_weights_above_one_are_refused(weighted: Case) -> None:
    program = compiled(quantized(weighted).model, weighted.graph, SMALL_GEOMETRY)
    arrays = graph_arrays(program, weighted.graph)
    name, edges = next(iter(arrays.edges.items()))
    assert edges.weights is not None
    with pytest.raises(LimitExceededError, match="a weight of 2"):
        bind(program, replace(arrays, edges={name: edges._replace(weights=2 * np.ones_like(edges.weights))}))


def test_weights_keep_seven_bits_of_the_largest_of_their_destination() -> None:
    indptr, weights = np.array([0, 2, 2, 4]), np.array([1.0, -0.5, 0.01, 0.004], np.float32)
    integers, fractions = layouts.edge_weights(indptr, weights)
    assert fractions.tolist() == [6, 16, 13]
    assert integers.tolist() == [64, -32, 82, 33]


def test_weights_are_those_of_the_edges_that_are_summed(weighted: Case) -> None:
    model = quantized(weighted).model
    bindings = bindings_of(model) | {"w_links": EdgeWeights(Relation("node", "likes", "node"))}
    with pytest.raises(BindingInvalidError, match="'w_links' means weights of the edges of likes"):
        compile_model(BoundModel(model, bindings), design_of(SMALL_GEOMETRY))


def test_a_dense_layer_behind_a_mean_moves_before_it() -> None:
    builder = AttentionBuilder(np.random.default_rng(1), graph())
    layers = parse_layers(builder.finish(sage(builder))).layers
    means = [layer for layer in layers if isinstance(layer, SegMean)]
    producers = {layer.output: layer for layer in layers}
    assert len(means) == 2 and all(isinstance(producers[mean.input], Dense) for mean in means)


def test_the_largest_of_neighbours_is_refused_by_name() -> None:
    builder = AttentionBuilder(np.random.default_rng(1), graph())
    model = builder.finish(builder.mean(builder.dense(builder.features("node"), CLASSES), "links", "node"))
    largest = next(node for node in model.graph.node if node.op_type == "SegMean")
    largest.op_type = "SegMax"
    assert try_layers(model).refused == (
        f"hgnn::SegMax '{largest.output[0]}': the largest of neighbours is not executed, nor edges that the model "
        "spells out; use a graph operator of the domain hgnn, such as SegMean or SegSum",
    )
