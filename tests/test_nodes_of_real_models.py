# SPDX-License-Identifier: Apache-2.0
"""Of all public models, predictions of one node and of some are rows of the full prediction, bit for bit.

HAN's weights of metapaths are means over all nodes: given as fusion weights they belong to the run on the whole graph.
"""

from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from hetfab.driver.emulated import EmulatedTransport
from hetfab.driver.graph.graph_rows import GraphRows
from hetfab.driver.graph.heterograph import HeteroGraph
from hetfab.driver.graph.model_inputs import open_model, with_hops
from hetfab.driver.graph.npz import read_graph
from hetfab.driver.layer_runs import LayerRuns
from hetfab.driver.node_runs import NodeRuns
from hetfab.driver.session import Session
from hetfab.overlay.bind import bind
from hetfab.overlay.compiler.compile import compile_model
from hetfab.overlay.design import default_design
from hetfab.overlay.errors import NodesDependentError
from hetfab.overlay.model.bound_model import BoundModel
from hetfab.overlay.model.reader import bindings_of
from hetfab.overlay.program import Program
from hetfab.quantize.study import Study
from hetfab.quantize.widths import Widths
from tests.data_folder import require_data

KINDS = ("rgcn", "rgat", "han", "simplehgn", "sehgnn")
MODELS = [(data, kind) for data in ("acm", "dblp", "imdb") for kind in KINDS]
SOME = 20
#: Its design has room for every model; the pages' examples build it too.
BOARD = "zcu104"
MEMORY = 1 << 29


@pytest.fixture(scope="module")
def session() -> Iterator[Session]:
    """An emulated overlay."""
    design = default_design(BOARD)
    with EmulatedTransport(design) as transport:
        yield Session(transport, design)


@cache
def graph_of(folder: Path) -> HeteroGraph:
    return read_graph(folder / "graph.npz")


def program_of(model: Path, graph: HeteroGraph) -> Program:
    """A program of a public model, whose numbers are those of one criterion: which ones plays no part here."""
    study = Study.open(with_hops(open_model(model, graph), graph))
    written = study.write(study.uniform(Widths(), weights="nearest"))
    return compile_model(BoundModel(written, bindings_of(written)), default_design(BOARD))


@pytest.mark.parametrize(("data", "kind"), MODELS)
def test_nodes_are_rows_of_the_full_prediction(data: str, kind: str, session: Session) -> None:
    folder = require_data()
    graph = graph_of(folder / data)
    rows = GraphRows(program_of(folder / "models" / f"{data}_{kind}.onnx", graph), graph)
    logits = session.run(bind(rows.program, rows.arrays())).logits
    layers, fusion = LayerRuns(rows, MEMORY), {}
    assert bool(layers.fusion_weights()) == (kind == "han")
    nodes = np.random.default_rng(0).choice(len(logits), SOME, replace=False)
    if kind == "han":
        with pytest.raises(NodesDependentError):
            NodeRuns(rows, MEMORY).predict(session, nodes[:1])
        whole = layers.run(session, layers.plan())
        np.testing.assert_array_equal(whole.result.logits, logits)
        fusion = dict(whole.fusion)
    runs = NodeRuns(rows, MEMORY, fusion)
    for asked in (nodes[:1], nodes):
        np.testing.assert_array_equal(runs.predict(session, asked).result.logits, logits[asked])
