# SPDX-License-Identifier: Apache-2.0
"""Both flows of a model on every board: whether the board holds the design, and how long a run takes. Modelled.

The programmable overlay is the board's default design; the accelerator of fixed weights is made for the model.
"""

from dataclasses import dataclass

from hetfab.driver.graph.arrays import graph_arrays
from hetfab.driver.graph.facts import graph_facts
from hetfab.driver.graph.heterograph import HeteroGraph
from hetfab.overlay.bind import bind
from hetfab.overlay.board import board_names
from hetfab.overlay.compiler.compile import compile_model, suited_design
from hetfab.overlay.compiler.dataflow import compile_dataflow
from hetfab.overlay.compiler.lowered import LoweredModel
from hetfab.overlay.compiler.lowering import lower
from hetfab.overlay.compiler.model_plan import plan_model
from hetfab.overlay.costs.program_cost import expected_log
from hetfab.overlay.costs.resources import check_fits
from hetfab.overlay.design import Design, default_design
from hetfab.overlay.errors import DesignInvalidError, DesignTooLargeError, DesignTooSmallError
from hetfab.overlay.model.bound_model import BoundModel
from hetfab.overlay.program import Program
from hetfab.overlay.timeline.machine import machine
from hetfab.overlay.timeline.simulate import simulate

OVERLAY, DATAFLOW = "overlay", "dataflow"


@dataclass(frozen=True)
class FlowEstimate:
    """A flow on a board.

    Attributes:
        board: The board.
        flow: ``overlay`` or ``dataflow``.
        milliseconds: Of a run on the graph, modelled; None where there is no design that fits.
        reason: Why there is none, empty otherwise.
    """

    board: str
    flow: str
    milliseconds: float | None
    reason: str = ""


def compare_flows(model: BoundModel, graph: HeteroGraph) -> list[FlowEstimate]:
    """Both flows on every board, board by board.

    Args:
        model: A quantized model with its binding in full.
        graph: What it runs on.

    Raises:
        HetfabError: As ``lower`` and ``bind``.
    """
    lowered = lower(model.model, model.bindings)
    return [_estimate(model, graph, lowered, board, flow) for board in board_names() for flow in (OVERLAY, DATAFLOW)]


def faster(estimates: list[FlowEstimate], board: str) -> str:
    """The faster flow of a board, empty where neither fits."""
    there = [each for each in estimates if each.board == board and each.milliseconds is not None]
    return min(there, key=lambda each: each.milliseconds or 0.0).flow if there else ""


def _estimate(model: BoundModel, graph: HeteroGraph, lowered: LoweredModel, board: str, flow: str) -> FlowEstimate:
    base = _base(lowered, board)
    try:
        program = _program(model, graph, lowered, base, flow)
        check_fits(program.design)
    except (DesignInvalidError, DesignTooLargeError, DesignTooSmallError) as error:
        return FlowEstimate(board, flow, None, error.found)
    bound = bind(program, graph_arrays(program, graph))
    return FlowEstimate(board, flow, simulate(bound.words, expected_log(bound), machine(program.design)).milliseconds)


def _base(lowered: LoweredModel, board: str) -> Design:
    suited = suited_design(lowered)
    return suited if suited.board == board else default_design(board)


def _program(model: BoundModel, graph: HeteroGraph, lowered: LoweredModel, base: Design, flow: str) -> Program:
    planned = plan_model(lowered, base, graph_facts(graph, lowered), may_lead=flow == OVERLAY).lowered
    if flow == DATAFLOW:
        return compile_dataflow(model, base.board, lowered=planned)
    return compile_model(model, base, lowered=planned)
