# SPDX-License-Identifier: Apache-2.0
"""Chooses how dense layers read features: as rows that are multiplied, or by their non-zeros (docs/planning.md).

Both forms give the same integers. Each is compiled alone and timed by the cost functions; the faster one is taken.
"""

import enum
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from hetfab.overlay.bind import GraphArrays, bind
from hetfab.overlay.compiler.compile import compile_lowered
from hetfab.overlay.compiler.graph_facts import FeatureCounts, GraphFacts
from hetfab.overlay.compiler.lowered import DenseTerm, IntArray, LoweredLayer, LoweredModel, Stored
from hetfab.overlay.costs.program_cost import additions, expected_log
from hetfab.overlay.design import Design
from hetfab.overlay.errors import DesignTooSmallError, LimitExceededError
from hetfab.overlay.features import Features, check_features, feature_edges, weighted_feature_edges
from hetfab.overlay.isa.spec import isa
from hetfab.overlay.program import Tensor
from hetfab.overlay.timeline.machine import machine
from hetfab.overlay.timeline.simulate import simulate

_RECORD_BEATS = isa().record("destination").bytes // 8
#: Into how many parts non-zeros may be split.
_PARTS = (1, 2, 3, 4, 6, 8, 12, 16)


class FirstProjection(enum.Enum):
    """What is asked for: the faster form, or one form wherever it can be had."""

    AUTO = "auto"
    DENSE = "dense"
    SPARSE = "sparse"


@dataclass(frozen=True)
class Work:
    """What one form of a layer takes on a graph.

    Attributes:
        macs: Products of the matrix engines, padding included.
        additions: Of weights that AGG gathers, padding included.
        bytes: DRAM bytes.
        milliseconds: Modelled time of the layer alone.
    """

    macs: int
    additions: int
    bytes: int
    milliseconds: float


@dataclass(frozen=True)
class Projection:
    """The form of a dense layer that reads features.

    Attributes:
        layer: Its name.
        features: The features' name.
        parts: Into how many parts the non-zeros are split that it reads, 0 where it reads rows.
        weighted: Whether they are edges with weights.
        reason: Why, in words.
        dense: What the dense form takes, None where no graph is known or the layer has aggregates.
        by_nonzeros: What the sparse form takes, None where no graph is known or the form cannot be had.
    """

    layer: str
    features: str
    parts: int
    weighted: bool
    reason: str
    dense: Work | None
    by_nonzeros: Work | None

    @property
    def sparse(self) -> bool:
        """Whether it reads non-zeros only."""
        return self.parts > 0


@dataclass(frozen=True, eq=False)
class _SyntheticRows:
    """Sparse features that take as much work as those of which only numbers are known."""

    indptr: np.ndarray[tuple[int], np.dtype[np.int64]]
    indices: np.ndarray[tuple[int], np.dtype[np.int64]]
    data: np.ndarray[tuple[int], np.dtype[np.float32]]
    width: int


def choose_projections(
    lowered: LoweredModel,
    design: Design,
    facts: GraphFacts | None,
    asked: FirstProjection,
    share_on_d: float | None = None,
) -> tuple[LoweredModel, tuple[Projection, ...]]:
    """The model with its first projections in the chosen forms, and why.

    Args:
        lowered: The layers.
        design: The design to compile for.
        facts: What is known of the graph; None leaves layers dense unless asked otherwise.
        asked: What the user asks for.
        share_on_d: As for ``compile_lowered``.

    Raises:
        InputError: As ``compile_lowered`` and ``bind`` of one of the layers.
    """
    chooser = _Chooser(lowered, design, facts, asked, share_on_d)
    found = {
        layer.output.name: chooser.choose(layer, layer.dense)
        for layer in lowered.layers
        if layer.dense is not None and layer.dense.input.origin == "features" and not layer.dense.parts
    }
    layers = tuple(
        replace(layer, parts=each.parts, weighted=each.weighted) if (each := found.get(layer.output.name)) else layer
        for layer in lowered.layers
    )
    return replace(lowered, layers=layers), tuple(found.values())


@dataclass(frozen=True, eq=False)
class _Chooser:
    lowered: LoweredModel
    design: Design
    facts: GraphFacts | None
    asked: FirstProjection
    share_on_d: float | None

    def choose(self, layer: LoweredLayer, dense: DenseTerm) -> Projection:
        parts, weighted = self._best_split(layer, dense.input)
        obstacle, nonzeros = self._by_nonzeros(replace(layer, parts=parts, weighted=weighted), dense.input)
        rows = None
        if self.facts is not None and not layer.aggregations:
            rows = self._work(layer, dense.input, self.facts)
        sparse, reason = self._decide(rows, nonzeros, obstacle)
        return Projection(
            layer=layer.output.name,
            features=dense.input.name,
            parts=parts if sparse else 0,
            weighted=sparse and weighted,
            reason=reason,
            dense=rows,
            by_nonzeros=nonzeros,
        )

    def _best_split(self, layer: LoweredLayer, features: Stored) -> tuple[int, bool]:
        """The number of parts from which on AGG's cycles grow again, or weights where they take fewer.

        Where values are not known: weights if the design has them, else one part.
        """
        has_weights = self.design.geometry.agg_weights > 0
        node_type = self.lowered.node_types[features.name]
        given = None if self.facts is None else self.facts.features.get(node_type)
        if given is None or isinstance(given, FeatureCounts):
            uniform = isinstance(given, FeatureCounts) and given.uniform
            return 1, has_weights and not uniform
        tensor = Tensor(
            name=features.name,
            segment="graph",
            node_type=node_type,
            channels=features.channels,
            bits=features.bits,
            packed=False,
            signed=features.signed,
            scale=features.scale,
        )
        groups = -(-layer.output.channels // self.design.geometry.lanes)
        checked = check_features(tensor, given)
        best, fewest = 1, math.inf
        for parts in _PARTS:
            cycles = _gather_cycles([part.indptr for part in feature_edges(tensor, checked, parts)], groups)
            if cycles >= fewest:
                break
            best, fewest = parts, cycles
        if has_weights and _gather_cycles([weighted_feature_edges(tensor, checked).indptr], groups) < fewest:
            return 1, True
        return best, False

    def _by_nonzeros(self, layer: LoweredLayer, features: Stored) -> tuple[str, Work | None]:
        """What keeps a layer from its sparse form, empty if nothing does, and what that form takes."""
        if layer.aggregations:
            return "its sum has aggregates besides, and AGG's sums go to VEC as one kind", None
        if "agg" not in self.design.geometry.engines:
            return f"the design '{self.design.name}' has no AGG", None
        try:
            if self.facts is None:
                compile_lowered(self._alone(layer, features), self.design)
                return "", None
            return "", self._work(layer, features, self.facts)
        except (DesignTooSmallError, LimitExceededError) as error:
            return error.found, None

    def _decide(self, rows: Work | None, nonzeros: Work | None, obstacle: str) -> tuple[bool, str]:
        if obstacle:
            return False, obstacle
        if self.asked is not FirstProjection.AUTO:
            return self.asked is FirstProjection.SPARSE, "as asked"
        if rows is None or nonzeros is None:
            return False, "no graph is given"
        if nonzeros.milliseconds < rows.milliseconds:
            return True, f"faster by {rows.milliseconds / nonzeros.milliseconds:.1f} times, modelled"
        return False, f"faster by {nonzeros.milliseconds / rows.milliseconds:.1f} times, modelled"

    def _work(self, layer: LoweredLayer, features: Stored, facts: GraphFacts) -> Work:
        """Compiles a layer alone, binds it to its part of the graph and times it."""
        program = compile_lowered(self._alone(layer, features), self.design, share_on_d=self.share_on_d)
        node_type = self.lowered.node_types[features.name]
        found = facts.features.get(node_type)
        given = _synthetic(found, facts.counts[node_type], features) if isinstance(found, FeatureCounts) else found
        bound = bind(program, GraphArrays(facts.counts, {} if given is None else {features.name: given}, {}))
        log = expected_log(bound)
        return Work(
            macs=int(log["macs"].sum()),
            additions=additions(bound.words, log, self.design.geometry),
            bytes=int(log["read_bytes"].sum() + log["write_bytes"].sum()),
            milliseconds=simulate(bound.words, log, machine(self.design)).milliseconds,
        )

    def _alone(self, layer: LoweredLayer, features: Stored) -> LoweredModel:
        """A model of one layer."""
        stored = {features.name: features, layer.output.name: layer.output}
        types: Mapping[str, str] = {name: self.lowered.node_types[name] for name in stored}
        return LoweredModel((layer,), stored, types, {}, layer.output, 0)


def _synthetic(known: FeatureCounts, rows: int, features: Stored) -> Features:
    """Features of as many non-zeros, spread evenly; of several magnitudes, one entry for each step of their sum."""
    entries = known.nonzeros if known.uniform else max(known.nonzeros, round(known.total / features.scale))
    value = max(known.total / max(known.nonzeros, 1), features.scale) if known.uniform else features.scale
    indptr = np.arange(rows + 1, dtype=np.int64) * entries // max(rows, 1)
    indices = np.arange(entries, dtype=np.int64) % max(known.width, 1)
    return _SyntheticRows(indptr, indices, np.full(entries, value, np.float32), known.width)


def _gather_cycles(parts: Sequence[IntArray], groups: int) -> int:
    """Trips of AGG's loops: a group of each edge or empty vertex, a vertex's record, and what parts add up to."""
    cycles = 0
    for number, starts in enumerate(parts):
        vertices, empty = len(starts) - 1, int((np.diff(starts) == 0).sum())
        held = vertices * groups if number > 0 else 0
        cycles += (int(starts[-1]) + empty) * groups + held + vertices * _RECORD_BEATS
    return cycles
