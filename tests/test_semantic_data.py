# SPDX-License-Identifier: Apache-2.0
"""Semantic graphs of public graphs: their known numbers of edges, and the logits of models that read them."""

import numpy as np
import onnxruntime
import pytest

from hetfab.driver.graph.feeds import feeds
from hetfab.driver.graph.npz import read_graph
from hetfab.driver.graph.semantic import adjacencies, plan_metapaths
from hetfab.overlay.model.binding import parse
from hetfab.overlay.semantic.adjacency import Adjacency
from hetfab.overlay.semantic.build import build_semantic_graphs
from tests.data_folder import require_data
from tests.random_relations import product, same

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
def test_public_graphs_have_the_known_edges_and_models_their_logits(name: str) -> None:
    data = require_data()
    graph = read_graph(data / name / "graph.npz")
    relations = adjacencies(graph)
    by_name = {relation.name: found for relation, found in relations.items()}
    built = build_semantic_graphs(plan_metapaths(graph, relations), by_name)
    assert {metapath: found.edges for metapath, found in built.items()} == EDGES[name]
    assert all(same(built[metapath], product(path, by_name)) for metapath, path in graph.metapaths.items())

    model = data / "models" / f"{name}_han.onnx"
    session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    inputs = [value.name for value in session.get_inputs()]
    ends = {end for metapath in built for end in (f"src_{metapath}", f"dst_{metapath}")} & set(inputs)
    assert ends
    given = feeds(graph, parse([value for value in inputs if value not in ends]))
    for metapath, found in built.items():
        if f"dst_{metapath}" in ends:
            given |= {f"dst_{metapath}": rows_of_edges(found), f"src_{metapath}": found.ids}
    [logits] = session.run(None, given)
    np.testing.assert_allclose(logits, np.load(data / "models" / f"{name}_han_logits.npy"), rtol=0, atol=1e-4)


def rows_of_edges(graph: Adjacency) -> np.ndarray:
    return np.repeat(np.arange(graph.rows), graph.out_degrees())
