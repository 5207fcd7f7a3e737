# SPDX-License-Identifier: Apache-2.0
"""Finds where a float model's tensors become integers: which tensors are stored, and which of them share a scale.

Sums across relations stay in Q.8 of one scale and are rounded once, so all tensors that are aggregated into one sum
share their scale, and so do the parts of a stack (docs/arithmetic.md).
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from hetfab.overlay.model.layers import (
    Aggregation,
    Dense,
    EdgeAttention,
    EdgeDot,
    Fusion,
    HostOperator,
    JoinParts,
    Layer,
    LayerGraph,
    LayerNorm,
    Stack,
    TokenAttention,
    Unary,
)
from hetfab.overlay.model.sums import SumGroup, find_sums


@dataclass(frozen=True)
class QuantizationPoints:
    """What becomes an integer.

    Attributes:
        stored: Tensors that are stored as activations because a dense layer, an aggregation or the host reads them.
        scores: Tensors that are stored as logits of attention, in 16 bits and Q.8.
        arguments: Tensors that a table function reads.
        norms: Tensors that a LayerNorm reads, and the parts of those that are stacks.
        groups: Sums in Q.8.
        copies: Sets of stored tensors that are made of each other's rows, so that scale and sign are one.
        families: Sets of stored tensors that share one scale because they meet in a sum or a stack.
    """

    stored: tuple[str, ...]
    scores: tuple[str, ...]
    arguments: tuple[str, ...]
    norms: tuple[frozenset[str], ...]
    groups: tuple[SumGroup, ...]
    copies: tuple[frozenset[str], ...]
    families: tuple[frozenset[str], ...]

    def family(self, tensor: str) -> frozenset[str]:
        """The stored tensors that share the scale of ``tensor``, itself included."""
        return _member(self.families, tensor)

    def copies_of(self, tensor: str) -> frozenset[str]:
        """The stored tensors that share the scale and the sign of ``tensor``, itself included."""
        return _member(self.copies, tensor)

    @property
    def observed(self) -> tuple[str, ...]:
        """All tensors whose values decide a scale."""
        norms = (name for members in self.norms for name in members)
        return tuple(dict.fromkeys((*self.stored, *self.arguments, *norms)))


def find_points(graph: LayerGraph) -> QuantizationPoints:
    """Analyses a model without learned tables in its sums."""
    groups = find_sums(graph)
    stored = _stored(graph)
    copies = tuple(_joined(_copies(graph, stored)))
    sums = [frozenset(term.input for term in group.aggregations) for group in groups]
    terms = [{group.product} if group.product else set() for group in groups]
    merged = _joined([*copies, *(means | term for means, term in zip(sums, terms, strict=True))])
    families = tuple(family for members in merged if (family := members & set(stored)))
    return QuantizationPoints(
        stored,
        tuple(dict.fromkeys(name for layer in graph.layers for name in _scores(layer))),
        tuple(dict.fromkeys(layer.input for layer in graph.layers if isinstance(layer, Unary))),
        tuple(_with_parts(graph, layer.input) for layer in graph.layers if isinstance(layer, LayerNorm)),
        tuple(groups),
        copies,
        families,
    )


def _stored(graph: LayerGraph) -> tuple[str, ...]:
    names = dict.fromkeys(name for layer in graph.layers for name in _rows_read(layer))
    for layer in reversed(graph.layers):
        if isinstance(layer, Stack | JoinParts) and layer.output in names:
            names |= dict.fromkeys(layer.inputs if isinstance(layer, Stack) else (layer.input,))
    return tuple(names)


def _rows_read(layer: Layer) -> tuple[str, ...]:
    """Tensors that a layer reads as activations."""
    if isinstance(layer, EdgeDot | TokenAttention):
        return layer.input, layer.queries, layer.keys
    if isinstance(layer, HostOperator):
        return layer.inputs
    return (layer.input,) if isinstance(layer, Dense | Aggregation) else ()


def _scores(layer: Layer) -> tuple[str, ...]:
    match layer:
        case EdgeAttention():
            return layer.source_scores, layer.destination_scores
        case Fusion():
            return (layer.weights,)
    return ()


def _copies(graph: LayerGraph, stored: Iterable[str]) -> Iterator[frozenset[str]]:
    for layer in graph.layers:
        if isinstance(layer, Stack) and layer.output in stored:
            yield frozenset((layer.output, *layer.inputs))
        elif isinstance(layer, JoinParts):
            yield frozenset((layer.output, layer.input))


def _with_parts(graph: LayerGraph, tensor: str) -> frozenset[str]:
    stack = next((layer for layer in graph.layers if layer.output == tensor and isinstance(layer, Stack)), None)
    return frozenset((tensor,) if stack is None else (tensor, *stack.inputs))


def _joined(sets: Iterable[frozenset[str]]) -> list[frozenset[str]]:
    """Sets that share a member become one."""
    joined: list[frozenset[str]] = []
    for members in sets:
        touching = [other for other in joined if other & members]
        joined = [other for other in joined if not other & members]
        joined.append(members.union(*touching))
    return joined


def _member(sets: Iterable[frozenset[str]], tensor: str) -> frozenset[str]:
    return next((members for members in sets if tensor in members), frozenset((tensor,)))
