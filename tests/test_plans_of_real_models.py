# SPDX-License-Identifier: Apache-2.0
"""Trained RGCNs on public graphs: the same logits with first projections of any form and edge sets in any order."""

from dataclasses import replace

import numpy as np
import pytest

from hetfab.driver.graph.facts import graph_facts
from hetfab.driver.graph.model_inputs import model_bindings, model_feeds
from hetfab.driver.graph.npz import read_graph
from hetfab.hls.build.emulator import Emulator
from hetfab.overlay.compiler.compile import compile_lowered
from hetfab.overlay.compiler.lowered import LoweredModel
from hetfab.overlay.compiler.lowering import lower
from hetfab.overlay.compiler.model_plan import plan_model
from hetfab.overlay.design import default_design
from hetfab.overlay.isa.codec import Segment
from hetfab.overlay.model.bound_model import FedModel
from hetfab.overlay.model.reader import read_model
from hetfab.quantize.post_training import quantize
from tests.data_folder import require_data
from tests.programs import bound_to, run_emulated


def in_reverse(lowered: LoweredModel) -> LoweredModel:
    """Each layer's edge sets in the other order."""
    return replace(
        lowered, layers=tuple(replace(layer, aggregations=layer.aggregations[::-1]) for layer in lowered.layers)
    )


@pytest.mark.parametrize("data", ["acm", "dblp", "imdb"])
def test_no_choice_changes_a_logit(data: str, default_emulators: dict[str, Emulator]) -> None:
    folder, design = require_data(), default_design()
    graph = read_graph(folder / data / "graph.npz")
    model = read_model(folder / "models" / f"{data}_rgcn.onnx")
    bindings = model_bindings(model, graph)
    quantized = quantize(FedModel(model, bindings, [model_feeds(model, bindings, graph)])).model
    lowered = lower(quantized, model_bindings(quantized, graph))
    facts = graph_facts(graph, lowered)
    auto = plan_model(lowered, design, facts)
    parts = {each.layer: max(each.parts, 1) for each in auto.projections}
    sparse = replace(
        lowered, layers=tuple(replace(layer, parts=parts.get(layer.output.name, 0)) for layer in lowered.layers)
    )
    logits, macs, moved = [], [], []
    for layers in (lowered, sparse, auto.lowered, in_reverse(auto.lowered)):
        bound = bound_to(compile_lowered(layers, design), graph)
        executed = run_emulated(bound, default_emulators["host"])
        log = executed.run_log
        assert log is not None
        logits.append(bound.logits(executed.dram[Segment.OUTPUT]))
        macs.append(int(log["macs"].sum()))
        moved.append(int(log["read_bytes"].sum() + log["write_bytes"].sum()))
    assert all(np.array_equal(logits[0], other) for other in logits[1:])
    assert macs[1] <= macs[2] == macs[3] <= macs[0] and macs[1] < macs[0] / 3
    assert moved[2] == moved[3] <= moved[0]
    if data == "dblp":
        # Its papers have 6.6 words of 4,231, its terms dense embeddings.
        forms = {each.features: each for each in auto.projections}
        assert forms["x_paper"].parts and not forms["x_term"].parts
        rows, nonzeros = forms["x_paper"].dense, forms["x_paper"].by_nonzeros
        assert rows is not None and nonzeros is not None
        assert nonzeros.additions * 100 < rows.macs
        assert nonzeros.bytes * 10 < rows.bytes
