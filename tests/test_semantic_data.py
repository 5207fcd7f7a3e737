# SPDX-License-Identifier: Apache-2.0
"""Semantic graphs of public graphs: their known numbers of edges, and the logits of models that read them."""

import numpy as np
import pytest

from hetfab.driver.emulated import EmulatedTransport
from hetfab.driver.graph.feeds import feeds
from hetfab.driver.graph.npz import read_graph
from hetfab.driver.graph.semantic import adjacencies, plan_metapaths
from hetfab.driver.semantic_graphs import BuiltBy, bound_metapaths, build_semantic_graphs
from hetfab.driver.session import Session
from hetfab.overlay.model.binding import parse, resolve
from hetfab.overlay.semantic.build import build_semantic_graphs as build_by_definition
from tests.conftest import SMALL_GEOMETRY
from tests.data_folder import require_data
from tests.programs import design_of
from tests.random_relations import product, same
from tests.reference_session import reference_session

EDGES = {
    "acm": {
        "PAP": 29_767,
        "PSP": 2_217_089,
        "PTP": 9_150_595,
        "PcPSP": 1_933_761,
        "PrPSP": 1_440_299,
        "PcPAP": 70_711,
        "PrPAP": 52_965,
    },
    "dblp": {"APA": 11_113, "APTPA": 7_043_571, "APVPA": 5_000_495},
    "imdb": {
        "MDM": 21_282,
        "MAM": 99_782,
        "MKM": 403_848,
        "DMD": 2_393,
        "DMAMD": 70_077,
        "AMA": 34_206,
        "AMDMA": 138_272,
    },
}


@pytest.mark.parametrize("name", EDGES)
def test_public_graphs_have_the_known_edges(name: str) -> None:
    data = require_data()
    graph = read_graph(data / name / "graph.npz")
    relations = adjacencies(graph)
    by_name = {relation.name: found for relation, found in relations.items()}
    built = build_by_definition(plan_metapaths(graph, relations), by_name)
    assert {metapath: found.edges for metapath, found in built.items()} == EDGES[name]
    assert all(same(built[metapath], product(path, by_name)) for metapath, path in graph.metapaths.items())


@pytest.mark.parametrize("name", EDGES)
def test_han_models_give_their_logits_on_graphs_that_sgb_builds(name: str) -> None:
    """In onnxruntime; the overlay's columns are enough for all of them."""
    data = require_data()
    graph = read_graph(data / name / "graph.npz")
    model = data / "models" / f"{name}_han.onnx"
    session = reference_session(model)
    bindings = resolve(parse([value.name for value in session.get_inputs()]), graph.schema())
    paths = bound_metapaths(bindings)
    assert paths
    design = design_of(SMALL_GEOMETRY)
    with EmulatedTransport(design) as transport:
        built = build_semantic_graphs(graph, paths, Session(transport, design))
    assert built.by is BuiltBy.SGB
    [logits] = session.run(None, feeds(graph, bindings, semantic=built.graphs))
    np.testing.assert_allclose(logits, np.load(data / "models" / f"{name}_han_logits.npy"), rtol=0, atol=1e-4)
