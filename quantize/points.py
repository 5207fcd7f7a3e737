# SPDX-License-Identifier: Apache-2.0
"""Finds where a float model's tensors become integers: which tensors are stored, and which sums share a scale.

Sums across relations stay in Q.8 of one scale and are rounded once, so all tensors that are aggregated into one sum
share their scale (docs/arithmetic.md).
"""

from collections.abc import Iterator
from dataclasses import dataclass

from hetfab.overlay.errors import OperatorsUnsupportedError
from hetfab.overlay.model.layers import Add, Dense, Layer, LayerGraph, Relu, SegMean


@dataclass(frozen=True)
class SumGroup:
    """A sum of aggregations and at most one dense term.

    Attributes:
        root: The tensor that holds the complete sum.
        means: The aggregated terms, at least one.
        dense: The dense term, None if there is none.
    """

    root: str
    means: tuple[SegMean, ...]
    dense: Dense | None


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
    """Analyses a model.

    Raises:
        OperatorsUnsupportedError: Combinations of layers that the overlay does not execute, all at once.
    """
    producers: dict[str, Layer] = {layer.output: layer for layer in graph.layers}
    refused = list(_refused_uses(graph, producers))
    groups = []
    for root in _roots(graph):
        terms = list(_terms(root, producers))
        dense = [term for term in terms if isinstance(term, Dense)]
        means = [term for term in terms if isinstance(term, SegMean)]
        if len(dense) > 1:
            names = ", ".join(f"'{term.output}'" for term in dense)
            refused.append(
                f"Add '{root}': {names} are dense layers of one sum; write them as one MatMul of joined inputs"
            )
        if len(dense) + len(means) < len(terms) or not means:
            refused.append(f"Add '{root}': a sum needs aggregations and at most one dense term; add nothing else")
        groups.append(SumGroup(root, tuple(means), dense[0] if dense else None))
    if refused:
        raise OperatorsUnsupportedError(
            f"{len(refused)} uses of operators are not supported:\n    " + "\n    ".join(refused),
            "dense layers, ReLU, and sums of relation means with at most one dense term",
            "change the model as each line says",
        )
    stored = _stored(graph)
    return QuantizationPoints(stored, tuple(groups), _families(groups))


def _stored(graph: LayerGraph) -> tuple[str, ...]:
    readers = [layer for layer in graph.layers if isinstance(layer, Dense | SegMean)]
    return tuple(dict.fromkeys(layer.input for layer in readers))


def _roots(graph: LayerGraph) -> Iterator[str]:
    """Complete sums: results of Add or SegMean that something other than an Add reads."""
    for layer in graph.layers:
        if not isinstance(layer, Add | SegMean):
            continue
        readers = graph.consumers(layer.output)
        if layer.output == graph.output or any(not isinstance(reader, Add) for reader in readers):
            yield layer.output


def _terms(tensor: str, producers: dict[str, Layer]) -> Iterator[Layer | None]:
    layer = producers.get(tensor)
    if isinstance(layer, Add):
        yield from _terms(layer.left, producers)
        yield from _terms(layer.right, producers)
    else:
        yield layer


def _refused_uses(graph: LayerGraph, producers: dict[str, Layer]) -> Iterator[str]:
    for layer in graph.layers:
        if isinstance(layer, Relu):
            if layer.input not in producers and layer.input not in graph.tables:
                yield f"Relu '{layer.output}': it reads the input '{layer.input}'; apply it to the features beforehand"
            if layer.output == graph.output:
                yield f"Relu '{layer.output}': it is the model's output; leave it out, predictions stay the same"
            if isinstance(producers.get(layer.input), Relu):
                yield f"Relu '{layer.output}': it follows another Relu; leave it out"
    if not isinstance(producers.get(graph.output), Dense | Add | SegMean | Relu):
        yield f"output '{graph.output}': no layer computes it"


def _families(groups: list[SumGroup]) -> tuple[frozenset[str], ...]:
    """Joins groups that share an aggregated tensor or a dense term; a family lists the aggregated tensors only."""
    joined: list[tuple[frozenset[str], frozenset[str]]] = []
    for group in groups:
        means = frozenset(mean.input for mean in group.means)
        members = means | (frozenset((group.dense.output,)) if group.dense else frozenset())
        touching = [family for family in joined if family[0] & members]
        joined = [family for family in joined if not family[0] & members]
        joined.append((members.union(*(f[0] for f in touching)), means.union(*(f[1] for f in touching))))
    return tuple(means for _, means in joined)
