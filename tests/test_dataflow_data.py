# SPDX-License-Identifier: Apache-2.0
"""Accelerators of trained models: their C simulation equals the golden model on random nodes of public graphs."""

from dataclasses import replace

import numpy as np
import pytest

from hetfab.driver.graph.heterograph import CsrFeatures, Edges, FeatureTable, HeteroGraph
from hetfab.driver.graph.model_inputs import model_bindings, open_model, with_hops
from hetfab.driver.graph.npz import read_graph
from hetfab.hls.build.emulator import Arithmetic, Emulator, build_emulator
from hetfab.overlay.compiler.dataflow import compile_dataflow
from hetfab.overlay.design import ATTENTION_DESIGN, default_design
from hetfab.overlay.isa.codec import Segment
from hetfab.overlay.model.bound_model import BoundModel
from hetfab.quantize.post_training import quantize
from tests.data_folder import require_data
from tests.programs import bound_to, compiled, run_emulated, run_golden

TARGETS, OTHERS = 256, 192
Ids = np.ndarray[tuple[int], np.dtype[np.int64]]


def sampled(graph: HeteroGraph, seed: int = 0) -> HeteroGraph:
    """Random nodes of each type, all edges among them, no labels."""
    random = np.random.default_rng(seed)
    # Nodes without features may have rows in a learned table: all of them stay.
    most = {name: OTHERS if name in graph.features else count for name, count in graph.counts.items()}
    most |= {graph.target: TARGETS} if graph.target else {}
    kept = {
        name: np.sort(random.choice(count, min(count, most[name]), replace=False))
        for name, count in graph.counts.items()
    }
    relations = {
        relation: _among(edges, kept[relation.source], kept[relation.destination])
        for relation, edges in graph.relations.items()
    }
    features = {name: _rows(table, kept[name]) for name, table in graph.features.items()}
    counts = {name: len(ids) for name, ids in kept.items()}
    return replace(
        graph, counts=counts, relations=relations, features=features, labels={}, splits={}, ids={}, classes={}
    )


def _among(edges: Edges, sources: Ids, destinations: Ids) -> Edges:
    both = np.isin(edges[0], sources) & np.isin(edges[1], destinations)
    return Edges(np.searchsorted(sources, edges[0][both]), np.searchsorted(destinations, edges[1][both]))


def _rows(table: FeatureTable, ids: Ids) -> FeatureTable:
    return (table.dense() if isinstance(table, CsrFeatures) else table)[ids]


@pytest.mark.parametrize("name", ["imdb_rgcn", "acm_han", "imdb_sehgnn"])
def test_the_c_simulation_equals_the_golden_model(name: str) -> None:
    """The kernels and the projects of all stages with ap_int; first projections have weights in DRAM."""
    folder = require_data()
    whole = read_graph(folder / name.partition("_")[0] / "graph.npz")
    model = quantize(with_hops(open_model(folder / "models" / f"{name}.onnx", whole), whole)).model
    graph = sampled(whole)
    loaded = bound_to(compiled(model, graph, default_design(ATTENTION_DESIGN).geometry), graph)
    expected = loaded.logits(run_golden(loaded).dram[Segment.OUTPUT])
    program = compile_dataflow(BoundModel(model, model_bindings(model, graph)), "zcu104")
    design = program.design
    library = build_emulator(design.geometry, Arithmetic.AP_INT, stages=design.stages)
    bound = bound_to(program, graph)
    with Emulator(library, design.geometry, design.stages) as emulator:
        found = bound.logits(run_emulated(bound, emulator).dram[Segment.OUTPUT])
    assert len(found) >= TARGETS and design.stages and np.ptp(found) > 0
    np.testing.assert_array_equal(found, expected)
