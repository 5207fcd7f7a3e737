# SPDX-License-Identifier: Apache-2.0
"""Finds where a float model's tensors become integers: which tensors are stored, and which sums share a scale.

Sums across relations stay in Q.8 of one scale and are rounded once, so all tensors that are aggregated into one sum
share their scale (docs/arithmetic.md).
"""

from dataclasses import dataclass

from hetfab.overlay.model.layers import Dense, LayerGraph, SegMean
from hetfab.overlay.model.sums import SumGroup, find_sums


@dataclass(frozen=True)
class QuantizationPoints:
    """What becomes an integer.

    Attributes:
        stored: Tensors that are stored as integers because a dense layer or an aggregation reads them.
        groups: Sums in Q.8.
        families: Sets of stored tensors that share one scale because they meet in a sum.
    """

    stored: tuple[str, ...]
    groups: tuple[SumGroup, ...]
    families: tuple[frozenset[str], ...]

    def family(self, tensor: str) -> frozenset[str]:
        """The stored tensors that share the scale of ``tensor``, itself included."""
        return next((family for family in self.families if tensor in family), frozenset((tensor,)))


def find_points(graph: LayerGraph) -> QuantizationPoints:
    """Analyses a model without learned tables in its sums."""
    groups = find_sums(graph)
    return QuantizationPoints(_stored(graph), tuple(groups), _families(groups))


def _stored(graph: LayerGraph) -> tuple[str, ...]:
    readers = [layer for layer in graph.layers if isinstance(layer, Dense | SegMean)]
    return tuple(dict.fromkeys(layer.input for layer in readers))


def _families(groups: list[SumGroup]) -> tuple[frozenset[str], ...]:
    """Joins groups that share an aggregated tensor or a dense term; a family lists the aggregated tensors only."""
    joined: list[tuple[frozenset[str], frozenset[str]]] = []
    for group in groups:
        means = frozenset(mean.input for mean in group.aggregations)
        members = means | (frozenset((group.dense.output,)) if group.dense else frozenset())
        touching = [family for family in joined if family[0] & members]
        joined = [family for family in joined if not family[0] & members]
        joined.append((members.union(*(f[0] for f in touching)), means.union(*(f[1] for f in touching))))
    return tuple(means for _, means in joined)
