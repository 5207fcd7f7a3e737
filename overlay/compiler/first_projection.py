# SPDX-License-Identifier: Apache-2.0
"""Chooses how dense layers read features: rows that are multiplied, non-zeros, or both (docs/planning.md).

All forms give the same integers. Each is compiled alone and timed by the cost functions; the fastest is taken.
"""

import enum
import hashlib
import math
import pickle
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from hetfab.overlay.compiler.compile import compile_lowered
from hetfab.overlay.compiler.graph_facts import FeatureCounts, GraphFacts
from hetfab.overlay.compiler.leading_columns import Joined, best_leading, can_lead, readers, with_leading
from hetfab.overlay.compiler.lowered import DenseTerm, IntArray, LoweredLayer, LoweredModel, Stored
from hetfab.overlay.compiler.projection_work import Work, alone, work_of
from hetfab.overlay.design import Design
from hetfab.overlay.errors import DesignTooSmallError, LimitExceededError
from hetfab.overlay.features import (
    Features,
    check_features,
    column_counts,
    feature_edges,
    weighted_feature_edges,
)
from hetfab.overlay.isa.spec import isa
from hetfab.overlay.program import Tensor

_RECORD_BEATS = isa().record("destination").bytes // 8
#: Into how many parts non-zeros may be split.
_PARTS = (1, 2, 3, 4, 6, 8, 12, 16)


class FirstProjection(enum.Enum):
    """What is asked for: the fastest form, or one form wherever it can be had."""

    AUTO = "auto"
    DENSE = "dense"
    SPARSE = "sparse"


@dataclass(frozen=True)
class Projection:
    """The form of a dense layer that reads features.

    Attributes:
        layer: Its name.
        features: The features' name.
        parts: Into how many parts the non-zeros are split that it reads, 0 where it reads rows alone.
        weighted: Whether they are edges with weights.
        reason: Why, in words.
        dense: What the dense form takes, None where no graph is known or the layer has aggregates.
        by_nonzeros: What the sparse form takes, None where no graph is known or the form cannot be had.
        leading: Of the columns by frequency, those that it reads as rows beside the non-zeros of the others.
        joined: What the form with these takes, None where it is not taken.
    """

    layer: str
    features: str
    parts: int
    weighted: bool
    reason: str
    dense: Work | None
    by_nonzeros: Work | None
    leading: int = 0
    joined: Work | None = None


@dataclass(frozen=True, eq=False)
class _Forms:
    """A layer by its non-zeros, and what each form takes.

    Attributes:
        layer: In the sparse form, with the better number of parts.
        dense: As in ``Projection``.
        by_nonzeros: As in ``Projection``.
        obstacle: What keeps it from its sparse form, empty if nothing does.
    """

    layer: LoweredLayer
    dense: Work | None
    by_nonzeros: Work | None
    obstacle: str


def choose_projections(
    lowered: LoweredModel,
    design: Design,
    facts: GraphFacts | None,
    asked: FirstProjection,
    share_on_d: float | None = None,
    *,
    may_lead: bool = True,
) -> tuple[LoweredModel, tuple[Projection, ...]]:
    """The model with its first projections in the chosen forms, and why.

    Args:
        lowered: The layers.
        design: The design to compile for.
        facts: What is known of the graph; None leaves layers dense unless asked otherwise.
        asked: What the user asks for.
        share_on_d: As for ``compile_lowered``.
        may_lead: Whether columns of features may lead.

    Raises:
        InputError: As ``compile_lowered`` and ``bind`` of one of the layers.
    """
    chooser = _Chooser(lowered, design, facts, asked, share_on_d)
    forms = {
        layer.output.name: chooser.forms(layer, layer.dense)
        for layer in lowered.layers
        if layer.dense is not None and layer.dense.input.origin == "features" and not layer.dense.parts
    }
    found = {name: chooser.choose(each) for name, each in forms.items()}
    chosen = lowered
    for features in dict.fromkeys(each.features for each in found.values()) if may_lead else ():
        reading = [name for name, each in found.items() if each.features == features]
        joined = chooser.joined(features, [forms[name] for name in reading], [found[name] for name in reading])
        if joined is not None:
            chosen = with_leading(chosen, features, joined.order, joined.leading)
            taken = sum(_milliseconds(found[name]) for name in reading)
            found |= {name: _joined(found[name], forms[name], joined, taken) for name in reading}
    layers = tuple(
        replace(layer, parts=each.parts, weighted=each.weighted) if (each := found.get(layer.output.name)) else layer
        for layer in chosen.layers
    )
    return replace(chosen, layers=layers), tuple(found.values())


@dataclass(frozen=True, eq=False)
class _Chooser:
    lowered: LoweredModel
    design: Design
    facts: GraphFacts | None
    asked: FirstProjection
    share_on_d: float | None

    def forms(self, layer: LoweredLayer, dense: DenseTerm) -> _Forms:
        parts, weighted = self._best_split(layer, dense.input)
        by_nonzeros = replace(layer, parts=parts, weighted=weighted)
        obstacle, nonzeros = self._by_nonzeros(by_nonzeros, dense)
        rows = None
        if self.facts is not None and not layer.aggregations:
            rows = self._work(layer, dense, self.facts)
        return _Forms(by_nonzeros, rows, nonzeros, obstacle)

    def choose(self, forms: _Forms) -> Projection:
        """The faster of rows alone and non-zeros alone, or what is asked for."""
        layer = forms.layer
        assert layer.dense is not None
        sparse, reason = self._decide(forms.dense, forms.by_nonzeros, forms.obstacle)
        return Projection(
            layer=layer.output.name,
            features=layer.dense.input.name,
            parts=layer.parts if sparse else 0,
            weighted=sparse and layer.weighted,
            reason=reason,
            dense=forms.dense,
            by_nonzeros=forms.by_nonzeros,
        )

    def joined(self, features: str, forms: Sequence[_Forms], taken: Sequence[Projection]) -> Joined | None:
        """How columns of features lead where that is faster for the layers that read them, None where it is not.

        Args:
            features: Their name.
            forms: Of these layers.
            taken: What is chosen for them so far.
        """
        stored, facts = self.lowered.stored[features], self.facts
        given = self._given(stored)
        if self.asked is not FirstProjection.AUTO or given is None or isinstance(given, FeatureCounts) or facts is None:
            return None
        dense = [each.dense.core_milliseconds for each in forms if each.dense is not None]
        nonzeros = [each.by_nonzeros.agg_milliseconds for each in forms if each.by_nonzeros is not None]
        if not len(dense) == len(nonzeros) == len(forms) or not can_lead(self.lowered, features):
            return None
        by_name = {each.layer.output.name: each.layer for each in forms}
        gathered = tuple(by_name.get(layer.output.name, layer) for layer in self.lowered.layers)
        model = replace(self.lowered, layers=gathered)

        def tried(order: IntArray, leading: int) -> dict[str, Work] | None:
            split = readers(with_leading(model, features, order, leading), features)
            try:
                return {
                    each.output.name: self._work(each, each.dense, facts) for each in split if each.dense is not None
                }
            except (DesignTooSmallError, LimitExceededError):
                return None

        tensor = self._tensor(stored)
        counts = column_counts(tensor, check_features(tensor, given))
        found = [each.by_nonzeros if each.parts else each.dense for each in taken]
        return best_leading(counts, sum(dense), sum(nonzeros), [each for each in found if each is not None], tried)

    def _best_split(self, layer: LoweredLayer, features: Stored) -> tuple[int, bool]:
        """The number of parts from which on AGG's cycles grow again, or weights where they take fewer.

        Where values are not known: weights if the design has them, else one part.
        """
        has_weights = self.design.geometry.agg_weights > 0
        given = self._given(features)
        if given is None or isinstance(given, FeatureCounts) or self.facts is None:
            uniform = isinstance(given, FeatureCounts) and given.uniform
            return 1, has_weights and not uniform
        tensor = self._tensor(features)
        key = tensor, -(-layer.output.channels // self.design.geometry.lanes), has_weights
        if key not in self.facts.splits:
            self.facts.splits[key] = _fewest_cycles(*key, check_features(tensor, given))
        return self.facts.splits[key]

    def _given(self, features: Stored) -> Features | FeatureCounts | None:
        """What is known of features."""
        return None if self.facts is None else self.facts.features.get(self.lowered.node_types[features.name])

    def _tensor(self, features: Stored) -> Tensor:
        """Features as edges."""
        return Tensor(
            name=features.name,
            segment="graph",
            node_type=self.lowered.node_types[features.name],
            channels=features.channels,
            bits=features.bits,
            packed=False,
            signed=features.signed,
            scale=features.scale,
        )

    def _work(self, layer: LoweredLayer, dense: DenseTerm, facts: GraphFacts) -> Work:
        model = alone(layer, dense, self.lowered)
        # Models whose bytes differ although they are equal are only asked for twice.
        key = hashlib.blake2b(pickle.dumps(model)).digest(), self.design, self.share_on_d
        if key not in facts.works:
            facts.works[key] = work_of(model, self.design, facts, self.share_on_d)
        return facts.works[key]

    def _by_nonzeros(self, layer: LoweredLayer, dense: DenseTerm) -> tuple[str, Work | None]:
        """What keeps a layer from its sparse form, empty if nothing does, and what that form takes."""
        if layer.aggregations:
            return "its sum has aggregates besides, and AGG's sums go to VEC as one kind", None
        if "agg" not in self.design.geometry.engines:
            return f"the design '{self.design.name}' has no AGG", None
        try:
            if self.facts is None:
                compile_lowered(alone(layer, dense, self.lowered), self.design)
                return "", None
            return "", self._work(layer, dense, self.facts)
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


def _milliseconds(found: Projection) -> float:
    """Modelled time of the faster of rows alone and non-zeros alone."""
    return min(each.milliseconds for each in (found.dense, found.by_nonzeros) if each is not None)


def _joined(found: Projection, forms: _Forms, joined: Joined, taken: float) -> Projection:
    """The projection of a layer whose features' first columns lead.

    Args:
        found: What was taken so far.
        forms: Of the layer.
        joined: The columns, which suit all layers that read the features together, though not each of them.
        taken: Milliseconds of these layers so far.
    """
    work = joined.works[found.layer]
    alone_faster = work.milliseconds < _milliseconds(found)
    times = _milliseconds(found) / work.milliseconds if alone_faster else taken / joined.milliseconds
    together = "" if alone_faster else "with the other layers that read its features, "
    return replace(
        found,
        parts=forms.layer.parts,
        weighted=forms.layer.weighted,
        leading=joined.leading,
        joined=work,
        reason=f"{together}faster by {times:.1f} times, modelled",
    )


def _fewest_cycles(tensor: Tensor, groups: int, has_weights: bool, features: Features) -> tuple[int, bool]:
    """Into how many parts features are best split for a result of some groups, and whether edges get weights."""
    best, fewest = 1, math.inf
    for parts in _PARTS:
        cycles = _gather_cycles([part.indptr for part in feature_edges(tensor, features, parts)], groups)
        if cycles >= fewest:
            break
        best, fewest = parts, cycles
    if has_weights and _gather_cycles([weighted_feature_edges(tensor, features).indptr], groups) < fewest:
        return 1, True
    return best, False


def _gather_cycles(parts: Sequence[IntArray], groups: int) -> int:
    """Trips of AGG's loops: a group of each edge or empty vertex, a vertex's record, and what parts add up to."""
    cycles = 0
    for number, starts in enumerate(parts):
        vertices, empty = len(starts) - 1, int((np.diff(starts) == 0).sum())
        held = vertices * groups if number > 0 else 0
        cycles += (int(starts[-1]) + empty) * groups + held + vertices * _RECORD_BEATS
    return cycles
