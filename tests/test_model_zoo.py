# SPDX-License-Identifier: Apache-2.0
"""Trained models of every kind, from the float file to the emulated overlay: logits and scores hold."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from hetfab.driver.graph.heterograph import HeteroGraph
from hetfab.driver.scores import Logits, agreement, f1_scores
from hetfab.hls.build.emulator import Emulator
from hetfab.overlay.isa.codec import Segment
from hetfab.overlay.model.reader import read_model
from tests.conftest import SMALL_GEOMETRY
from tests.outside import module
from tests.programs import bound_to, compiled, quantized, reference_logits, run_emulated
from tests.random_models import Case

FOLDER = Path(__file__).parents[1] / "examples" / "zoo"
GRAPHS = module("examples.zoo.graphs")
#: Models that are trained and tested on one graph, with that graph.
MODELS = {
    "gcn": GRAPHS.papers_graph,
    "gat": GRAPHS.papers_graph,
    "sage_mean": GRAPHS.papers_graph,
    "sage_sum": GRAPHS.papers_graph,
    "gin": GRAPHS.papers_graph,
    "hgt": GRAPHS.academic_graph,
    "nars": GRAPHS.academic_graph,
}
LARGEST_DROP = 0.003


@dataclass(frozen=True)
class Outcome:
    """Logits of the float model, of the quantized one, and of the overlay."""

    float_logits: Logits
    quantized_logits: Logits
    overlay_logits: Logits

    def check(self, graph: HeteroGraph) -> None:
        """The overlay computes what onnxruntime does, and the score holds."""
        np.testing.assert_array_equal(self.overlay_logits, self.quantized_logits)
        assert agreement(self.overlay_logits, self.quantized_logits, multilabel=False) >= 0.999
        before, after = (f1_scores(graph, "paper", logits) for logits in (self.float_logits, self.overlay_logits))
        assert before is not None and after is not None
        assert before.micro - after.micro <= LARGEST_DROP


def outcome(name: str, trained_on: HeteroGraph, graph: HeteroGraph, emulator: Emulator) -> Outcome:
    """A model that is quantized on one graph and runs on another."""
    float_model = read_model(FOLDER / f"{name}.onnx")
    model = quantized(Case(float_model, trained_on)).model
    bound = bound_to(compiled(model, graph, SMALL_GEOMETRY), graph)
    integers = bound.logits(run_emulated(bound, emulator).dram[Segment.OUTPUT])
    values = (integers * bound.program.output.scale).astype(np.float32)
    return Outcome(reference_logits(float_model, graph), reference_logits(model, graph), values)


@pytest.mark.parametrize("name", MODELS)
def test_a_trained_model_keeps_its_score_on_the_overlay(name: str, small_emulator: Emulator) -> None:
    graph = MODELS[name]()
    outcome(name, graph, graph, small_emulator).check(graph)


def test_an_inductive_model_runs_on_a_graph_that_it_was_not_trained_on(small_emulator: Emulator) -> None:
    trained_on, graph = GRAPHS.words_graph(), GRAPHS.other_words_graph()
    assert trained_on.counts != graph.counts
    outcome("inductive", trained_on, graph, small_emulator).check(graph)
