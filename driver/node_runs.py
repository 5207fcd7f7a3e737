# SPDX-License-Identifier: Apache-2.0
"""Predictions of some nodes: the program narrowed to what they need of the graph, in one run or layer by layer.

docs/nodes.md describes it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from hetfab.driver.asked_nodes import checked_batch, checked_nodes
from hetfab.driver.edges_in_parts import make_parts
from hetfab.driver.graph.graph_rows import GraphRows
from hetfab.driver.layer_runs import LayerRuns, joined_results, rows_of_scores
from hetfab.driver.session import DEADLINE_SECONDS, RunResult, Session
from hetfab.overlay.bind import BoundProgram, GraphArrays, bind
from hetfab.overlay.row_needs import rows_of_layers
from hetfab.overlay.stage_bytes import segment_bytes
from hetfab.overlay.stages import is_features
from hetfab.overlay.subgraph import Subgraph, is_table, subgraph

Ids: TypeAlias = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class NodeResult:
    """Predictions of some nodes.

    Attributes:
        result: The run; its logits are those of the nodes, in the order that was asked for.
        vertices: Vertices of each node type whose rows were needed, of all batches together.
        rows: Rows that all layers computed.
        runs: Runs of the overlay: one, or those of all layers in parts.
    """

    result: RunResult
    vertices: Mapping[str, int]
    rows: int
    runs: int


class NodeRuns:
    """A program and a graph, ready to predict nodes.

    Args:
        rows: The graph for the program.
        limit_bytes: Device memory that a run may take.
        fusion: Weights of a run on the whole graph, int64 [parts, heads] of each tensor, where the model weighs its
            parts by a mean over all nodes.
    """

    def __init__(
        self, rows: GraphRows, limit_bytes: int, fusion: Mapping[str, npt.NDArray[np.int64]] | None = None
    ) -> None:
        self._graph = rows
        self._program = rows.program
        self._limit_bytes = limit_bytes
        self._fusion = dict(fusion or {})
        self._layers = LayerRuns(rows, limit_bytes, self._fusion)
        self._stacks = {stack.name for stack in self._program.stacks}

    @property
    def layers(self) -> LayerRuns:
        """The same layer by layer."""
        return self._layers

    def predict(
        self, session: Session, nodes: Ids, *, batch: int | None = None, deadline_seconds: float = DEADLINE_SECONDS
    ) -> NodeResult:
        """Predicts nodes: in one run where what they need fits the device's memory, else layer by layer.

        Args:
            session: An overlay of the program's design.
            nodes: Of the type that the program predicts, int64 [n]; a node may be asked for more than once.
            batch: How many are predicted at once; None for all.
            deadline_seconds: How long to wait for each run.

        Raises:
            NodesUnknownError: The graph lacks a node.
            NodesOptionsError: The batch is no whole number above 0.
            NodesDependentError: The model takes a mean over all nodes, and no fusion weights were given.
            LimitExceededError: A row of a layer alone needs more memory than there is; with the bytes.
            HetfabError: As ``bind`` and ``Session.run``.
        """
        output_type = self._program.tensor(self._program.output.tensor).node_type
        nodes = checked_nodes(nodes, self._graph.graph, output_type)
        size = checked_batch(batch) or max(len(nodes), 1)
        pieces = [nodes[first : first + size] for first in range(0, max(len(nodes), 1), size)]
        found = [self._predict(session, piece, deadline_seconds) for piece in pieces]
        if len(found) == 1:
            return found[0]
        logits = np.concatenate([each.result.logits for each in found])
        return NodeResult(
            joined_results([each.result for each in found], logits, self._program.output.scale),
            {name: sum(each.vertices[name] for each in found) for name in found[0].vertices},
            sum(each.rows for each in found),
            sum(each.runs for each in found),
        )

    def _predict(self, session: Session, nodes: Ids, deadline_seconds: float) -> NodeResult:
        rows = rows_of_layers(
            self._program, self._layers.stages, self._graph.counts, nodes, self._graph.edges, self._fusion
        )
        computed = sum(map(len, rows))
        kept = subgraph(self._program, self._layers.stages, self._graph.counts, rows, self._graph.edges, self._fusion)
        vertices = {name: len(found.ids) for name, found in kept.kept.items()}
        bound = None if self._program.host_nodes else self._bound(kept)
        if bound is None or segment_bytes(bound.sizes.values()) > self._limit_bytes:
            plan = self._layers.plan(nodes)
            result = self._layers.run(session, plan, deadline_seconds=deadline_seconds).result
            return NodeResult(result, vertices, computed, plan.parts)
        result = session.run(bound, deadline_seconds=deadline_seconds)
        output_type = self._program.tensor(self._program.output.tensor).node_type
        logits = result.logits[kept.kept[output_type].places_of(nodes)]
        return NodeResult(replace(result, logits=logits), vertices, computed, 1)

    def _bound(self, kept: Subgraph) -> BoundProgram:
        features = {}
        given = {name: rows_of_scores(values) for name, values in self._fusion.items()}
        for tensor in self._program.tensors:
            if is_features(tensor):
                features[tensor.name] = self._graph.features(tensor.node_type, kept.kept[tensor.node_type].ids)
            elif is_table(tensor, self._stacks):
                given[tensor.name] = self._layers.table_rows(tensor.name, kept.kept[tensor.node_type].ids)
        arrays = GraphArrays(kept.counts, features, kept.edges, given)
        return bind(kept.program, arrays, make_parts=make_parts)
