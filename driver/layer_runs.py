# SPDX-License-Identifier: Apache-2.0
"""Runs a program layer by layer on an overlay, each layer on the rows that are asked for, in parts that fit its memory.

Between the layers their rows are in the host's memory, as they lie in DRAM: so the integers are those of a run of the
whole program, whatever the parts.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from hetfab.driver.edges_in_parts import make_parts
from hetfab.driver.graph.graph_rows import GraphRows, is_range
from hetfab.driver.host_runs import HostRuns, added
from hetfab.driver.session import DEADLINE_SECONDS, RunResult, Session
from hetfab.driver.stored_tensors import tensor_values
from hetfab.overlay.bind import GraphArrays, IncomingEdges, bind
from hetfab.overlay.features import Features, check_features, feature_rows
from hetfab.overlay.host_nodes import HostUse
from hetfab.overlay.isa.codec import Segment
from hetfab.overlay.isa.counters import Counters
from hetfab.overlay.layouts import score_rows
from hetfab.overlay.program import Program
from hetfab.overlay.row_needs import fusion_weights, place_of, rows_of_layers
from hetfab.overlay.stage_bytes import StageNeed
from hetfab.overlay.stages import ROWS, Read, Role, Stage, is_features, sources_of, stages

Ids: TypeAlias = npt.NDArray[np.int64]
Bytes: TypeAlias = npt.NDArray[np.uint8]
#: Of the vertices of a type, the share of edges above which their ids are found by a table.
_TABLE_SHARE = 8
_NO_IDS = np.zeros(0, np.int64)


@dataclass(frozen=True, eq=False)
class LayerPlan:
    """The rows of a layer, and the parts in which it computes them.

    Attributes:
        stage: The layer.
        rows: int64, in rising order.
        edges: Of each edge set that the graph gives, the edges into these rows.
        need: What the parts need; None of an operator of the host, which takes no device memory.
        parts: First row of each part and the one behind its last, as places in ``rows``.
    """

    stage: Stage
    rows: Ids
    edges: Mapping[str, IncomingEdges]
    need: StageNeed | None
    parts: Sequence[tuple[int, int]]

    @property
    def largest_bytes(self) -> int:
        """Device memory of the largest part, at most."""
        return 0 if self.need is None else max((self.need.bytes(*part) for part in self.parts), default=0)


@dataclass(frozen=True, eq=False)
class RunPlan:
    """What is run for some rows of the output.

    Attributes:
        wanted: Rows of the output, int64 in the order that was asked for.
        layers: Layers that have rows to compute, in order.
    """

    wanted: Ids
    layers: Sequence[LayerPlan]

    @property
    def parts(self) -> int:
        """Runs of the overlay."""
        return sum(len(layer.parts) for layer in self.layers if layer.need is not None)

    @property
    def largest_bytes(self) -> int:
        """Device memory of the largest part, at most."""
        return max((layer.largest_bytes for layer in self.layers), default=0)


@dataclass(frozen=True, eq=False)
class Outcome:
    """What a run gave.

    Attributes:
        result: Logits of the rows that were wanted; counters, instructions and run logs of all parts together; a hash
            of the parts' streams.
        fusion: The fusion weights that were computed, int64 [parts, heads] of each tensor.
    """

    result: RunResult
    fusion: Mapping[str, npt.NDArray[np.int64]]


class LayerRuns:
    """A program and a graph, ready to be run layer by layer.

    Args:
        rows: The graph for the program.
        limit_bytes: Device memory that a part may take.
        given: Integers of tensors that are not computed, int64 [rows, channels]: fusion weights of a run on the whole
            graph.
    """

    def __init__(self, rows: GraphRows, limit_bytes: int, given: Mapping[str, npt.NDArray[np.int64]] | None = None):
        self.program = rows.program
        self.stages = stages(rows.program)
        self._rows = rows
        self._limit_bytes = limit_bytes
        self._given = dict(given or {})
        self._host = HostRuns(rows.program)

    def plan(self, nodes: Ids | None = None) -> RunPlan:
        """Plans a run, before anything is allocated on the device.

        Args:
            nodes: Rows of the output, None for all.

        Raises:
            NodesDependentError: A mean over all nodes is needed, and is not given.
            LimitExceededError: A row alone needs more memory than there is; with the bytes.
        """
        counts = self._rows.counts
        if nodes is None:
            wanted = np.arange(counts[self.program.tensor(self.program.output.tensor).node_type])
            rows = [np.arange(counts[stage.output.node_type]) for stage in self.stages]
        else:
            wanted = nodes
            rows = rows_of_layers(self.program, self.stages, counts, wanted, self._rows.edges, self._given)
        computed = [stage for stage in self.stages if len(rows[stage.layer]) and stage.output.name not in self._given]
        return RunPlan(wanted, [self._layer_plan(stage, rows[stage.layer]) for stage in computed])

    def run(
        self,
        session: Session,
        plan: RunPlan,
        *,
        deadline_seconds: float = DEADLINE_SECONDS,
        progress: Callable[[int], None] = lambda parts: None,
    ) -> Outcome:
        """Runs a plan.

        Args:
            session: An overlay of the program's design.
            plan: As ``plan`` made it.
            deadline_seconds: How long to wait for each part.
            progress: Called with 1 after each part.

        Raises:
            HetfabError: As ``Session.run``.
        """
        held = _Held(self.program, self._rows, self._given)
        fusion = [layer.stage.output.name for layer in plan.layers if layer.stage.output.name in self.fusion_weights()]
        results: list[RunResult] = []
        uses: dict[str, HostUse] = {}
        for layer in plan.layers:
            held.make_room(layer.stage, layer.rows)
            if layer.stage.host is not None:
                contents = [self._content(name, layer.rows, held) for name in layer.stage.host.inputs]
                written, uses[layer.stage.host.operator] = self._host.rows(layer.stage.host, contents)
                held.put(layer.stage, layer.rows, written.reshape(-1))
            for first, last in layer.parts if layer.need is not None else ():
                arrays = self._arrays(layer, first, last, held)
                bound = bind(layer.stage.program, arrays, make_parts=make_parts)
                with session.load(bound) as resident:
                    results.append(resident.run(deadline_seconds=deadline_seconds))
                    written = resident.content(Segment.OUTPUT)
                held.put(layer.stage, layer.rows[first:last], written)
                progress(1)
            held.drop_unread(layer.stage, plan, fusion)
        output = self.program.tensor(self.program.output.tensor)
        content = held.rows(output.name, plan.wanted).reshape(-1)
        logits = tensor_values(output, len(plan.wanted), content).astype(np.int32)
        weights = {name: held.integers(name) for name in fusion}
        joined = joined_results(results, logits, self.program.output.scale)
        return Outcome(replace(joined, host=uses), weights)

    def table_rows(self, name: str, rows: Ids) -> Bytes:
        """Rows of a constant tensor as they lie in DRAM."""
        return _table_rows(self.program, self._rows.counts, name, rows)

    def fusion_weights(self) -> list[str]:
        """Tensors that can be given: weights that depend on all nodes."""
        return fusion_weights(self.program, self.stages)

    def _layer_plan(self, stage: Stage, rows: Ids) -> LayerPlan:
        if stage.host is not None:
            return LayerPlan(stage, rows, {}, None, [(0, len(rows))])
        edges = {each.name: self._rows.edges(each, rows) for each in stage.edges if not each.features}
        bounds = {name: np.asarray(found.indptr, np.int64) for name, found in edges.items()}
        bounds |= {each.name: self._nonzeros(each.destination_type, rows) for each in stage.edges if each.features}
        types = {each.source_type for each in stage.edges if not each.features}
        types |= {read.node_type for read in stage.read_as(Role.ALL)}
        need = StageNeed(stage, len(rows), bounds, {name: self._rows.counts[name] for name in types})
        return LayerPlan(stage, rows, edges, need, need.ranges(self._limit_bytes))

    def _content(self, name: str, rows: Ids, held: "_Held") -> Bytes:
        """Rows of a tensor as they lie in DRAM, of features too."""
        tensor = self.program.tensor(name)
        if not is_features(tensor):
            return held.rows(name, rows)
        features = check_features(tensor, self._rows.features(tensor.node_type, rows))
        content = feature_rows(tensor, features, len(rows))
        return content[: len(rows) * tensor.row_bytes].reshape(len(rows), tensor.row_bytes)

    def _nonzeros(self, node_type: str, rows: Ids) -> Ids:
        """Non-zeros of features before each row."""
        features = self._rows.features(node_type, rows)
        if not isinstance(features, np.ndarray):
            return np.asarray(features.indptr, np.int64)
        return np.concatenate([[0], np.cumsum(np.count_nonzero(features, axis=1))]).astype(np.int64)

    def _arrays(self, layer: LayerPlan, first: int, last: int, held: "_Held") -> GraphArrays:
        """What a part reads."""
        stage, rows = layer.stage, layer.rows[first:last]
        edges = {name: _part_of(found, first, last) for name, found in layer.edges.items()}
        sources: dict[str, Ids] = {}
        for node_type in {each.source_type for each in stage.edges if not each.features}:
            names = [each.name for each in stage.edges if each.source_type == node_type]
            ids, local = local_ids([edges[name].sources for name in names], self._rows.counts[node_type])
            sources[node_type] = ids
            edges |= {n: edges[n]._replace(sources=found) for n, found in zip(names, local, strict=True)}
        counts = {ROWS: len(rows)} | {sources_of(name): len(ids) for name, ids in sources.items()}
        features: dict[str, Features] = {}
        given: dict[str, Bytes] = {}
        for read in stage.reads:
            wanted = self._wanted(read, rows, sources)
            tensor = self.program.tensor(read.tensor)
            if is_features(tensor):
                features[read.name] = self._rows.features(tensor.node_type, wanted)
            else:
                given[read.name] = held.rows(read.tensor, wanted)
        return GraphArrays(counts, features, edges, given)

    def _wanted(self, read: Read, rows: Ids, sources: Mapping[str, Ids]) -> Ids:
        match read.role:
            case Role.ROWS:
                return rows
            case Role.SOURCES:
                return sources[read.node_type]
            case Role.ALL:
                return np.arange(self._rows.counts[read.node_type])


class _Held:
    """Rows of tensors in the host's memory, as they lie in DRAM."""

    def __init__(self, program: Program, graph: GraphRows, given: Mapping[str, npt.NDArray[np.int64]]) -> None:
        self._program = program
        self._counts = graph.counts
        self._ids: dict[str, Ids] = {}
        self._content: dict[str, Bytes] = {}
        for name, values in given.items():
            self._ids[name], self._content[name] = np.arange(len(values)), rows_of_scores(values)

    def make_room(self, stage: Stage, rows: Ids) -> None:
        """Makes room for the rows that a layer is going to write."""
        place = place_of(self._program, stage.output.name, self._counts)
        content = np.zeros((len(rows), stage.output.row_bytes), np.uint8)
        if place.tensor not in self._ids:
            self._ids[place.tensor], self._content[place.tensor] = rows + place.start, content
            return
        ids = np.concatenate([self._ids[place.tensor], rows + place.start])
        order = np.argsort(ids, kind="stable")
        self._ids[place.tensor] = ids[order]
        self._content[place.tensor] = np.concatenate([self._content[place.tensor], content])[order]

    def put(self, stage: Stage, rows: Ids, written: Bytes) -> None:
        """Keeps what a part has written."""
        place = place_of(self._program, stage.output.name, self._counts)
        size = len(rows) * stage.output.row_bytes
        where = np.searchsorted(self._ids[place.tensor], rows + place.start)
        self._content[place.tensor][where] = written[:size].reshape(len(rows), stage.output.row_bytes)

    def rows(self, name: str, rows: Ids) -> Bytes:
        """Rows of a tensor, uint8 [n, bytes of a row]; those that were not computed are zeros: nobody reads them."""
        tensor = self._program.tensor(name)
        if tensor.segment == "constants":
            return _table_rows(self._program, self._counts, name, rows)
        place = place_of(self._program, name, self._counts)
        found = np.zeros((len(rows), tensor.row_bytes), np.uint8)
        ids, wanted = self._ids.get(place.tensor, _NO_IDS), rows + place.start
        if len(ids):
            first = wanted - ids[0] if is_range(ids) else np.searchsorted(ids, wanted)
            where = np.clip(first, 0, len(ids) - 1)
            there = ids[where] == wanted
            found[there] = self._content[place.tensor][where[there]]
        return found

    def integers(self, name: str) -> npt.NDArray[np.int64]:
        """All rows of a tensor that has no row for each vertex, int64 [rows, channels]."""
        tensor = self._program.tensor(name)
        rows = np.arange(self._counts[tensor.node_type])
        return tensor_values(tensor, len(rows), self.rows(name, rows).reshape(-1))

    def drop_unread(self, stage: Stage, plan: RunPlan, kept: Sequence[str]) -> None:
        """Forgets the tensors that no layer behind this one reads, and that are not kept."""
        names = {read.tensor for layer in plan.layers if layer.stage.layer > stage.layer for read in layer.stage.reads}
        names |= {self._program.output.tensor, *kept}
        places = {place_of(self._program, name, self._counts).tensor for name in names}
        written = {layer.stage.output.name for layer in plan.layers}
        for name in {place_of(self._program, name, self._counts).tensor for name in written} - places:
            self._ids.pop(name, None)
            self._content.pop(name, None)


def joined_results(results: Sequence[RunResult], logits: npt.NDArray[np.int32], scale: float) -> RunResult:
    """What several runs say together; of none that nothing ran.

    Args:
        results: Of the runs.
        logits: Of all.
        scale: Of the logits.
    """
    counters = [asdict(result.counters) for result in results]
    logs = [result.run_log for result in results if result.run_log is not None]
    return RunResult(
        logits=logits,
        scale=scale,
        stream_hash=hashlib.sha256("".join(result.stream_hash for result in results).encode()).hexdigest(),
        instructions=sum(result.instructions for result in results),
        counters=Counters(**{field.name: sum(each[field.name] for each in counters) for field in fields(Counters)}),
        run_log=np.concatenate(logs) if logs and len(logs) == len(results) else None,
        host=added([result.host for result in results]),
    )


def _part_of(edges: IncomingEdges, first: int, last: int) -> IncomingEdges:
    """The edges into a range of destinations."""
    begin, end = int(edges.indptr[first]), int(edges.indptr[last])
    types = None if edges.types is None else edges.types[begin:end]
    weights = None if edges.weights is None else edges.weights[begin:end]
    return IncomingEdges(edges.indptr[first : last + 1] - begin, edges.sources[begin:end], types, weights)


def local_ids(ids: Sequence[npt.NDArray[np.integer[Any]]], limit: int) -> tuple[Ids, list[Ids]]:
    """Numbers the vertices that several lists name.

    Args:
        ids: The lists, of numbers below ``limit``.
        limit: Vertices of the type.

    Returns:
        The vertices, int64 in rising order, and the lists with the place of each vertex there.
    """
    if sum(map(len, ids)) * _TABLE_SHARE < limit:
        found = np.unique(np.concatenate(ids)).astype(np.int64)
        return found, [np.searchsorted(found, each) for each in ids]
    named = np.zeros(limit, np.bool_)
    for each in ids:
        named[each] = True
    place = np.cumsum(named) - 1
    return np.flatnonzero(named), [place[each] for each in ids]


def _table_rows(program: Program, counts: Mapping[str, int], name: str, rows: Ids) -> Bytes:
    tensor = program.tensor(name)
    size = counts[tensor.node_type] * tensor.row_bytes
    table = program.constants[tensor.constant_offset : tensor.constant_offset + size]
    return np.asarray(table.reshape(-1, tensor.row_bytes)[rows])


def rows_of_scores(values: npt.NDArray[np.int64]) -> Bytes:
    """Scores [rows, heads] as they lie in DRAM, uint8 [rows, bytes of a row]."""
    return score_rows(values).reshape(len(values), -1)
