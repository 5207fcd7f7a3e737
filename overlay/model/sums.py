# SPDX-License-Identifier: Apache-2.0
"""Sums of aggregations, which the overlay keeps in Q.8 until they are complete, and uses of layers that it refuses."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

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
class Gaps:
    """Tensors that operators without a layer write, and those that they read other than to add them."""

    written: frozenset[str] = frozenset()
    read: frozenset[str] = frozenset()


_NO_GAPS = Gaps()


def find_sums(graph: LayerGraph) -> list[SumGroup]:
    """The sums of a model that ``refused_uses`` has nothing against, and whose learned tables are dense terms."""
    producers = _producers(graph)
    groups = []
    for root in _roots(graph, _NO_GAPS):
        layers = [producers[term] for term in _terms(root, producers)]
        means = tuple(layer for layer in layers if isinstance(layer, SegMean))
        groups.append(SumGroup(root, means, next((layer for layer in layers if isinstance(layer, Dense)), None)))
    return groups


def refused_uses(graph: LayerGraph, gaps: Gaps = _NO_GAPS) -> Iterator[str]:
    """Yields a line for each combination of layers that the overlay does not execute.

    Args:
        graph: The layers; a learned table in a sum counts as its dense term.
        gaps: Where operators had to be left out. What they hide is not refused.
    """
    producers = _producers(graph)
    for layer in graph.layers:
        if isinstance(layer, Relu):
            yield from _refused_relu(layer, graph, producers, gaps)
    for root in _roots(graph, gaps):
        yield from _refused_sum(root, graph, producers, gaps)
    if graph.output not in producers and graph.output not in gaps.written:
        yield f"output '{graph.output}': no layer computes it; end the model with a dense layer or a sum"


def _refused_relu(layer: Relu, graph: LayerGraph, producers: Mapping[str, Layer], gaps: Gaps) -> Iterator[str]:
    if layer.input not in producers and layer.input not in graph.tables and layer.input not in gaps.written:
        yield f"Relu '{layer.output}': it reads the input '{layer.input}'; apply it to the features beforehand"
    if layer.output == graph.output:
        yield f"Relu '{layer.output}': it is the model's output; leave it out, predictions stay the same"
    if isinstance(producers.get(layer.input), Relu):
        yield f"Relu '{layer.output}': it follows another Relu; leave it out"


def _refused_sum(root: str, graph: LayerGraph, producers: Mapping[str, Layer], gaps: Gaps) -> Iterator[str]:
    terms = list(_terms(root, producers))
    means = [term for term in terms if isinstance(producers.get(term), SegMean)]
    dense = [term for term in terms if isinstance(producers.get(term), Dense) or term in graph.tables]
    hidden = [term for term in terms if term not in producers and term in gaps.written]
    if len(dense) > 1:
        names = ", ".join(f"'{term}'" for term in dense)
        yield f"Add '{root}': {names} are dense layers of one sum; write them as one MatMul of joined inputs"
    if len(dense) + len(means) + len(hidden) < len(terms) or not means + hidden:
        yield f"Add '{root}': a sum needs aggregations and at most one dense term; add nothing else"


def _producers(graph: LayerGraph) -> dict[str, Layer]:
    return {layer.output: layer for layer in graph.layers}


def _roots(graph: LayerGraph, gaps: Gaps) -> Iterator[str]:
    """Complete sums: results of Add or SegMean that something other than an Add reads."""
    for layer in graph.layers:
        if not isinstance(layer, Add | SegMean):
            continue
        readers = graph.consumers(layer.output)
        read = any(not isinstance(reader, Add) for reader in readers) or layer.output in gaps.read
        if read or layer.output == graph.output:
            yield layer.output


def _terms(tensor: str, producers: Mapping[str, Layer]) -> Iterator[str]:
    layer = producers.get(tensor)
    if isinstance(layer, Add):
        yield from _terms(layer.left, producers)
        yield from _terms(layer.right, producers)
    else:
        yield tensor
