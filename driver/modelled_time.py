# SPDX-License-Identifier: Apache-2.0
"""The modelled time of a quantized model, layer by layer, from the cost functions and the timeline."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from hetfab.driver.graph.arrays import graph_arrays
from hetfab.driver.graph.facts import graph_facts
from hetfab.driver.graph.heterograph import HeteroGraph
from hetfab.overlay.bind import BoundProgram, bind
from hetfab.overlay.bind_samples import bind_sample, sample_shape
from hetfab.overlay.compiler.graph_facts import GraphFacts
from hetfab.overlay.costs.program_cost import expected_log
from hetfab.overlay.design import IMAGE_DESIGN, Design, default_design
from hetfab.overlay.isa.spec import isa
from hetfab.overlay.timeline.critical_path import critical_path
from hetfab.overlay.timeline.machine import machine
from hetfab.overlay.timeline.simulate import simulate, transfer_cycles

if TYPE_CHECKING:
    from hetfab.overlay.model.bound_model import BoundModel  # A board has no onnx.
    from hetfab.overlay.model.cnn.integer import IntegerCnn


#: Kinds of layers of a network on samples (``LayerInfo``).
_WITHOUT_WEIGHTS = {"largest", "mean", "add"}


def layer_milliseconds(
    given: "BoundModel", graph: HeteroGraph, design: Design | None = None, facts: GraphFacts | None = None
) -> dict[str, float]:
    """Modelled milliseconds on the critical path by layer's result; their sum is the time of the whole run.

    Args:
        given: A quantized model with its binding in full.
        graph: What it runs on.
        design: Where; the default design for its layers when left out.
        facts: What is known of the graph, where that is at hand.

    Raises:
        InputError: The model does not compile for the design, or does not fit the graph.
    """
    bound = _bound(given, graph, design, facts)
    return _by_layer(bound, expected_log(bound))


def layer_milliseconds_on_samples(network: "IntegerCnn", design: Design | None = None) -> dict[str, float]:
    """The same of a network on samples, for one sample.

    Raises:
        InputError: The network does not compile for the design.
    """
    bound = _bound_to_zeros(network, design)
    return _by_layer(bound, expected_log(bound))


@dataclass(frozen=True)
class LayerProfile:
    """Modelled milliseconds of a run by layer's result.

    Attributes:
        path: On the critical path; their sum is the time of the whole run.
        aggregation: Of AGG alone, DRAM included; of a network on samples, of the layers on the path without weights.
    """

    path: Mapping[str, float]
    aggregation: Mapping[str, float]


def layer_profile(
    given: "BoundModel", graph: HeteroGraph, design: Design, facts: GraphFacts | None = None
) -> LayerProfile:
    """What the layers of a model on a graph take; arguments and errors as ``layer_milliseconds``."""
    bound = _bound(given, graph, design, facts)
    log = expected_log(bound)
    on_agg = log["engine"] == isa().engine("agg").id
    spent = np.maximum(log["cycles"], transfer_cycles(log, machine(design)))[on_agg] / (design.clock_mhz * 1e3)
    totals = np.bincount(bound.layers[on_agg], spent, len(bound.program.layers))
    names = [layer.name for layer in bound.program.layers]
    return LayerProfile(_by_layer(bound, log), dict(zip(names, totals.tolist(), strict=True)))


def layer_profile_on_samples(network: "IntegerCnn", design: Design) -> LayerProfile:
    """The same of a network on samples, for one sample."""
    bound = _bound_to_zeros(network, design)
    path = _by_layer(bound, expected_log(bound))
    without = {layer.name for layer in bound.program.layers if layer.kind in _WITHOUT_WEIGHTS}
    return LayerProfile(path, {name: spent for name, spent in path.items() if name in without})


def _bound(given: "BoundModel", graph: HeteroGraph, design: Design | None, facts: GraphFacts | None) -> BoundProgram:
    from hetfab.overlay.compiler.compile import compile_model, suited_design
    from hetfab.overlay.compiler.lowering import lower
    from hetfab.overlay.compiler.model_plan import plan_model

    layers = lower(given.model, given.bindings)
    chosen = design or suited_design(layers)
    plan = plan_model(layers, chosen, facts or graph_facts(graph, layers))
    program = compile_model(given, chosen, lowered=plan.lowered)
    return bind(program, graph_arrays(program, graph), side_by_side=True)


def _bound_to_zeros(network: "IntegerCnn", design: Design | None) -> BoundProgram:
    from hetfab.overlay.compiler.cnn.compile import compile_integers

    program = compile_integers(network, design or default_design(IMAGE_DESIGN))
    return bind_sample(program, np.zeros(sample_shape(program), np.float32))


def _by_layer(bound: BoundProgram, log: npt.NDArray[Any]) -> dict[str, float]:
    timeline = simulate(bound.words, log, machine(bound.program.design))
    cycles: dict[str, float] = defaultdict(float)
    for link in critical_path(timeline):
        cycles[bound.program.layers[int(timeline.layers[link.instruction])].name] += link.cycles
    # What the path leaves out at both ends, the start and the last token, belongs to no layer.
    rest = timeline.total_cycles - sum(cycles.values())
    share = timeline.milliseconds / timeline.total_cycles if timeline.total_cycles else 0.0
    return {name: spent * share for name, spent in cycles.items()} | ({"": rest * share} if rest > 0 else {})
