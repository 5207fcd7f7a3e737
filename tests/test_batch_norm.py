# SPDX-License-Identifier: Apache-2.0
"""BatchNormalization of graph models is read, and taken into neighbouring weights without changing the logits."""

from collections.abc import Callable

import numpy as np
import onnx
import pytest

from hetfab.driver.graph.model_inputs import model_bindings, model_feeds
from hetfab.overlay.errors import OperatorsUnsupportedError
from hetfab.overlay.model.bound_model import FedModel
from hetfab.overlay.model.layers import Dense, LayerGraph, is_diagonal
from hetfab.overlay.model.parser import parse_layers
from hetfab.overlay.model.reader import check_model, normalise
from hetfab.overlay.model.runtime import run_model
from hetfab.quantize.channel_factors import factors_in_products
from hetfab.quantize.emulation import Emulation
from hetfab.quantize.points import find_points
from hetfab.quantize.post_training import quantize
from hetfab.quantize.study import Study
from hetfab.quantize.widths import Widths
from tests.random_models import ModelBuilder, random_graph

CHANNELS = 6


class Builder(ModelBuilder):
    """Adds BatchNormalization."""

    def norm(self, rows: str, *, training: int = 0) -> str:
        """Factors of both signs."""
        size = self.widths[rows]
        scale, bias, mean = (self.constant(self._random.normal(size=size)) for _ in range(3))
        variance = self.constant(self._random.random(size) + 0.1)
        node = self._node("BatchNormalization", rows, scale, bias, mean, variance, epsilon=1e-3, training_mode=training)
        return self._sized(node, size)


def after_a_sum(build: Builder, rows: str, edges: str) -> str:
    """The usual place: behind an RGCN layer, before its ReLU."""
    mean = build.mean(build.dense(rows, CHANNELS), edges, "t0")
    return build.relu(build.norm(build.total([mean, build.dense(rows, CHANNELS)])))


def after_means_alone(build: Builder, rows: str, edges: str) -> str:
    """Without a dense term the offset is a constant of its own."""
    means = [build.mean(build.dense(rows, CHANNELS), edges, "t0", operator) for operator in ("SegMean", "SegSum")]
    return build.relu(build.norm(build.total(means)))


def after_a_product(build: Builder, rows: str, edges: str) -> str:
    """Two in a row become one product, too."""
    return build.relu(build.norm(build.norm(build.dense(rows, CHANNELS))))


def before_products(build: Builder, rows: str, edges: str) -> str:
    """Of an input."""
    found = build.norm(rows)
    return build.total([build.dense(found, CHANNELS), build.dense(found, CHANNELS, bias=False)])


def of_what_else_reads(build: Builder, rows: str, edges: str) -> str:
    """ReLU reads what it normalizes, and its result: it stays a layer."""
    found = build.dense(rows, CHANNELS)
    return build.total([build.dense(build.relu(each), CHANNELS) for each in (found, build.norm(found))])


PLACES = (after_a_sum, after_means_alone, after_a_product, before_products, of_what_else_reads)


def fed(place: Callable[[Builder, str, str], str], seed: int, **norm: int) -> FedModel:
    random = np.random.default_rng(seed)
    while True:
        graph = random_graph(random, largest_count=40)
        edges = [relation for relation in graph.relations if relation.source == relation.destination == "t0"]
        if edges and "t0" in graph.features:
            break
    build = Builder(random, graph)
    rows = build.features("t0")
    model = build.finish(build.dense(place(build, rows, edges[0].name), 3))
    model = check_model(normalise(model), "the float model")
    bindings = model_bindings(model, graph)
    return FedModel(model, bindings, [model_feeds(model, bindings, graph)])


def factors(graph: LayerGraph) -> list[Dense]:
    return [layer for layer in graph.layers if isinstance(layer, Dense) and is_diagonal(layer.weight)]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("place", PLACES)
def test_the_logits_stay_and_the_layer_goes(place: Callable[[Builder, str, str], str], seed: int) -> None:
    given = fed(place, seed)
    (feed,) = given.samples()
    expected = run_model(given.model, feed, [given.model.graph.output[0].name])[0]
    read = parse_layers(given.model)
    folded = factors_in_products(read)
    assert len(factors(read)) == (2 if place is after_a_product else 1)
    assert len(factors(folded)) == (1 if place is of_what_else_reads else 0)
    for graph in (read, folded):
        found = Emulation(graph, find_points(folded), Study.open(given).samples[0]).logits()
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("place", PLACES)
def test_such_a_model_is_quantized(place: Callable[[Builder, str, str], str]) -> None:
    given = fed(place, 1)
    result = quantize(given, widths=Widths(8, 8))
    onnx.checker.check_model(result.model, full_check=True)
    assert all(node.op_type != "BatchNormalization" for node in result.model.graph.node)
    assert min(result.divergences.values()) < 0.05
    study = Study.open(given)
    for name, choice in study.uniform(Widths(1, 8)).weights.items():
        assert choice.widths(1)[0] >= 2 or not is_diagonal(study.layers[name].weight)


def test_one_that_still_trains_is_refused() -> None:
    model = fed(after_a_product, 0).model
    for node in model.graph.node:
        for attribute in node.attribute:
            if attribute.name == "training_mode":
                attribute.i = 1
    with pytest.raises(OperatorsUnsupportedError, match="it is exported for training; export the model after"):
        parse_layers(model)


def test_statistics_that_are_computed_are_refused() -> None:
    model = fed(after_a_product, 0).model
    node = next(node for node in model.graph.node if node.op_type == "BatchNormalization")
    node.input[3] = model.graph.input[0].name
    with pytest.raises(OperatorsUnsupportedError, match="its statistics are not constant"):
        parse_layers(model)
