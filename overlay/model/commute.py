# SPDX-License-Identifier: Apache-2.0
"""Puts dense layers before the means and sums that they follow, where a sum would have two dense terms else.

``mean(x) W + b`` is ``mean(x W) + b``: GraphSAGE adds it to a dense layer of the vertex itself, and a sum has one dense
term on the overlay.
"""

from dataclasses import replace

from hetfab.overlay.model.layers import Dense, Layer, LayerGraph, SegMean, SegSum
from hetfab.overlay.model.sums import sum_roots, terms_of


def products_before_aggregations(graph: LayerGraph) -> LayerGraph:
    """Exchanges a dense layer and the mean or sum that it alone reads, in sums of two dense terms."""
    for root in sum_roots(graph):
        producers = {layer.output: layer for layer in graph.layers}
        dense = [layer for term in terms_of(root, producers) if isinstance(layer := producers.get(term), Dense)]
        if len(dense) == 2:
            for moved, kept in (dense, dense[::-1]):
                read = producers.get(moved.input)
                alone = len(graph.consumers(moved.input)) == 1 and len(graph.consumers(kept.output)) == 1
                if isinstance(read, SegMean | SegSum) and alone and len(graph.consumers(moved.output)) == 1:
                    graph = _exchanged(graph, read, moved, kept)
                    break
    return graph


def _exchanged(graph: LayerGraph, read: SegMean | SegSum, moved: Dense, kept: Dense) -> LayerGraph:
    """The bias of the layer that moves goes to the one that stays."""
    projected = f"{moved.output}.projected"
    before: dict[str, Layer] = {
        read.output: replace(moved, output=projected, input=read.input, bias=None),
        moved.output: replace(read, output=moved.output, input=projected),
    }
    if moved.bias is not None:
        before[kept.output] = replace(kept, bias=moved.bias if kept.bias is None else kept.bias + moved.bias)
    layers = tuple(before.get(layer.output, layer) for layer in graph.layers)
    channels = {name: count for name, count in graph.channels.items() if name != read.output}
    return replace(graph, layers=layers, channels=channels | {projected: graph.channels[moved.output]})
