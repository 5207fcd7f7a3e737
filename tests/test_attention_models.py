# SPDX-License-Identifier: Apache-2.0
"""Attention models are read as exporters write them, rewritten without changing a prediction, and quantized."""

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import pytest

from hetfab.driver.graph.heterograph import HeteroGraph
from hetfab.driver.graph.model_inputs import open_model, with_hops
from hetfab.driver.graph.npz import read_graph
from hetfab.driver.scores import model_scores
from hetfab.overlay.errors import CountFixedError, FeatureWidthError, GraphUnfitError
from hetfab.overlay.isa.codec import Segment
from hetfab.overlay.model import hgnn
from hetfab.overlay.model.bound_model import FedModel
from hetfab.overlay.model.float_writer import write_float
from hetfab.overlay.model.inspection import inspect_model
from hetfab.overlay.model.layers import Dense, EdgeAttention, LayerGraph, PartMean, RowNorm, constants_of
from hetfab.overlay.model.parser import parse_layers
from hetfab.overlay.model.reader import check_model
from hetfab.overlay.model.runtime import run_model
from hetfab.quantize.post_training import quantize
from hetfab.quantize.rewrites import REWRITES, means_before_products, scores_of_inputs, without_last_norm
from hetfab.quantize.widths import Widths
from tests.attention_models import MODELS, attention_case
from tests.conftest import SMALL_GEOMETRY
from tests.data_folder import require_data
from tests.programs import bound_to, compiled, reference_logits, run_golden
from tests.random_models import Case, academic_graph

CASES = {name: attention_case(name) for name in MODELS}
Floats = npt.NDArray[np.float32]


def assert_close(found: Floats, expected: Floats, message: str = "") -> None:
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5, err_msg=message)


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]


@pytest.fixture
def opened(case: Case, tmp_path: Path) -> FedModel:
    onnx.save(case.model, tmp_path / "model.onnx")
    return open_model(tmp_path / "model.onnx", case.graph)


def logits_of(graph: LayerGraph, opened: FedModel) -> Floats:
    model = check_model(write_float(graph, opened.bindings, constants_of(opened.model)), "written")
    return run_model(model, next(opened.samples()), [graph.output])[0]


def test_the_layers_compute_what_the_file_does(opened: FedModel) -> None:
    assert_close(logits_of(parse_layers(opened.model), opened), opened.logits())


def test_what_is_written_is_read_as_the_same_layers(opened: FedModel) -> None:
    graph = parse_layers(opened.model)
    again = parse_layers(write_float(graph, opened.bindings, constants_of(opened.model)))
    assert [type(layer) for layer in again.layers] == [type(layer) for layer in graph.layers]
    assert [layer.output for layer in again.layers] == [layer.output for layer in graph.layers]


def test_each_rewrite_keeps_the_logits(opened: FedModel) -> None:
    """All but the last norm, which scales the logits of a node."""
    graph = parse_layers(opened.model)
    for before, step in itertools.pairwise([None, *REWRITES]):
        expected = logits_of(graph, opened)
        graph = step(graph) if step is not None else graph
        found = logits_of(graph, opened)
        if step is without_last_norm:
            length = np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-12)
            found = found / length if np.allclose(np.linalg.norm(expected, axis=1), 1) else found
        assert_close(found, expected, f"{step} after {before}")


def test_scores_are_products_of_what_projections_read() -> None:
    graph = parse_layers(CASES["rgat"].model)
    rewritten = scores_of_inputs(graph)
    projections = {layer.input for layer in graph.layers if isinstance(layer, EdgeAttention)}
    scores = {layer.source_scores for layer in graph.layers if isinstance(layer, EdgeAttention)}
    inputs = {layer.output: layer.input for layer in rewritten.layers if isinstance(layer, Dense)}
    before = {layer.output: layer.input for layer in graph.layers if isinstance(layer, Dense)}
    assert {before[name] for name in scores} <= projections
    assert not {inputs[name] for name in scores} & projections


def test_the_mean_over_nodes_is_taken_before_the_product() -> None:
    graph = means_before_products(parse_layers(CASES["han"].model))
    (mean,) = (layer for layer in graph.layers if isinstance(layer, PartMean))
    assert isinstance(graph.consumers(mean.output)[0], Dense)


def test_the_last_norm_is_left_out() -> None:
    graph = parse_layers(CASES["simple-hgn"].model)
    assert isinstance(graph.layers[-1], RowNorm)
    assert not any(isinstance(layer, RowNorm) for layer in without_last_norm(graph).layers)


def test_means_along_metapaths_are_computed_hop_by_hop(tmp_path: Path) -> None:
    case = CASES["sehgnn"]
    onnx.save(case.model, tmp_path / "model.onnx")
    opened = open_model(tmp_path / "model.onnx", case.graph)
    found = with_hops(opened, case.graph)
    assert_close(found.logits(), opened.logits())
    assert {name for name in found.bindings if name.startswith("x_")} == {"x_paper", "x_author"}
    assert not any(name.startswith("M_") for name in found.bindings)
    assert sum(node.op_type == "SegMean" for node in found.model.graph.node) == 4


def test_a_quantized_model_is_read_and_predicts_alike(case: Case, opened: FedModel, tmp_path: Path) -> None:
    quantized = quantize(with_hops(opened, case.graph))
    onnx.save(quantized.model, tmp_path / "model.q.onnx")
    found = open_model(tmp_path / "model.q.onnx", case.graph)
    kinds = [layer.kind for layer in inspect_model(found.model, found.bindings).layers]
    assert any("attention" in kind for kind in kinds) and not any(
        "mean" in kind for kind in kinds if "function" in kind
    )
    agreement = np.mean(found.logits().argmax(axis=1) == opened.logits().argmax(axis=1))
    assert agreement >= 0.9
    operators = {node.op_type for node in quantized.model.graph.node if node.domain == hgnn.DOMAIN}
    assert all(name.startswith("Q") or name == "JoinParts" for name in operators)


@pytest.mark.parametrize(
    ("name", "widths"), [*((name, Widths(4, 4)) for name in MODELS), ("sehgnn", Widths(1, 8))], ids=str
)
def test_the_overlay_computes_what_onnxruntime_does_at_narrow_widths(name: str, widths: Widths, tmp_path: Path) -> None:
    case = CASES[name]
    onnx.save(case.model, tmp_path / "model.onnx")
    model = quantize(with_hops(open_model(tmp_path / "model.onnx", case.graph), case.graph), widths=widths).model
    bound = bound_to(compiled(model, case.graph, SMALL_GEOMETRY), case.graph)
    logits = bound.logits(run_golden(bound).dram[Segment.OUTPUT])
    values = (logits * bound.program.output.scale).astype(np.float32)
    np.testing.assert_array_equal(values, reference_logits(model, case.graph))


def test_all_differences_between_model_and_graph_are_named_at_once(tmp_path: Path) -> None:
    case = CASES["rgat"]
    onnx.save(case.model, tmp_path / "model.onnx")
    relations = {relation: edges for relation, edges in case.graph.relations.items() if relation.name != "cites"}
    features = {"paper": case.graph.dense_features("paper")[:, :11]}
    other = replace(case.graph, relations=relations, features=features, metapaths={})
    with pytest.raises(GraphUnfitError) as caught:
        open_model(tmp_path / "model.onnx", other)
    assert caught.value.found.splitlines() == [
        "the graph 'academic' differs in 3 ways from what the model wants:",
        "    the graph lacks what the model reads: input 'src_cites' needs a relation or metapath 'cites'; "
        "input 'dst_cites' needs a relation or metapath 'cites'",
        "    the graph 'academic' gives the input 'x_paper' 11 columns",
        "    the nodes of type 'author' of the graph 'academic' have no features",
    ]
    found = [difference["code"] for difference in caught.value.as_dict()["differences"]]
    assert found == ["relation-missing", "feature-width", "features-missing"]


def test_counts_and_widths_differ_at_once(tmp_path: Path) -> None:
    case = CASES["simple-hgn"]
    onnx.save(case.model, tmp_path / "model.onnx")
    other = academic_graph(np.random.default_rng(1), 41, 30, 6)
    other = replace(other, features={name: table[:, :3] for name, table in case_features(other).items()})
    with pytest.raises(GraphUnfitError) as caught:
        open_model(tmp_path / "model.onnx", other)
    assert [type(error) for error in caught.value.differences] == [
        FeatureWidthError,
        FeatureWidthError,
        CountFixedError,
    ]


def case_features(graph: HeteroGraph) -> dict[str, Floats]:
    return {name: graph.dense_features(name) for name in graph.features}


@pytest.mark.parametrize("name", ["han", "sehgnn"])
def test_a_trained_model_keeps_its_f1(name: str) -> None:
    folder = require_data()
    graph = read_graph(folder / "imdb" / "graph.npz")
    opened = open_model(folder / "models" / f"imdb_{name}.onnx", graph)
    quantized = quantize(with_hops(opened, graph))
    expected, found = model_scores(opened, graph), model_scores(quantized, graph)
    assert expected is not None and found is not None and found.micro >= expected.micro - 0.003
