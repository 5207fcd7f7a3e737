# SPDX-License-Identifier: Apache-2.0
"""Finds where a float convolutional network's tensors become integers, how wide, and how additions are rounded.

A tensor is stored as integers where a convolution, a dense layer, pooling or an addition reads it. An addition takes
one operand from the accumulators of the layer that computes it, if nothing else reads that, and all others as stored.
Pooling by the largest pixel and Flatten move stored integers and have no scale of their own.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from hetfab.overlay.model.cnn.layers import AveragePool, Clip, CnnGraph, Conv, Flatten, MaxPool, inputs_of
from hetfab.overlay.model.layers import Add, Dense, Relu
from hetfab.quantize.widths import Widths


@dataclass(frozen=True)
class Points:
    """What becomes an integer.

    Attributes:
        stored: Tensors that are rounded and stored, in the order in which they are computed.
        moved: Tensor to the tensor whose integers it repeats, for results of MaxPool and Flatten.
        terms: Layers that join an addition from their accumulators, to the stored operand that they join.
        families: Sets of stored tensors that share one scale because both operands of an addition are stored.
        edges: Layers with weights that read the input, or compute the output.
    """

    stored: tuple[str, ...]
    moved: Mapping[str, str]
    terms: Mapping[str, str]
    families: tuple[frozenset[str], ...]
    edges: frozenset[str]

    def source(self, tensor: str) -> str:
        """The tensor that was rounded to give the integers of ``tensor``."""
        while tensor in self.moved:
            tensor = self.moved[tensor]
        return tensor

    def family(self, tensor: str) -> frozenset[str]:
        """The stored tensors that share the scale of ``tensor``, itself included."""
        return next((family for family in self.families if tensor in family), frozenset((tensor,)))


def find_points(graph: CnnGraph) -> Points:
    """Analyses a network without BatchNormalization."""
    terms = dict(_terms(graph))
    moved = {layer.output: layer.input for layer in graph.layers if isinstance(layer, MaxPool | Flatten)}
    points = Points((), moved, {}, (), frozenset(_edges(graph)))
    read = {points.source(tensor) for tensor in _read_as_integers(graph, terms)}
    order = [graph.input, *(layer.output for layer in graph.layers)]
    joined = {term: points.source(other) for term, other in terms.items()}
    stored = tuple(name for name in order if name in read)
    return Points(stored, moved, joined, _families(graph, points, terms), points.edges)


def _terms(graph: CnnGraph) -> Iterator[tuple[str, str]]:
    """For each addition, the operand that is computed last of those that only it reads, and the other operand."""
    order = {layer.output: position for position, layer in enumerate(graph.layers)}
    for layer in graph.layers:
        if isinstance(layer, Add) and layer.left != layer.right:
            free = [name for name in (layer.left, layer.right) if _only_added(name, graph)]
            if free:
                last = max(free, key=order.__getitem__)
                yield last, layer.left if last == layer.right else layer.right


def _only_added(tensor: str, graph: CnnGraph) -> bool:
    computed = isinstance(graph.producer(tensor), Conv | Dense)
    return computed and len(graph.consumers(tensor)) == 1 and tensor != graph.output


def _read_as_integers(graph: CnnGraph, terms: Mapping[str, str]) -> Iterator[str]:
    for layer in graph.layers:
        leaves = isinstance(layer, Flatten) and layer.output == graph.output
        if not isinstance(layer, Relu | Clip) and not leaves:
            yield from (tensor for tensor in inputs_of(layer) if tensor not in terms)


def _families(graph: CnnGraph, points: Points, terms: Mapping[str, str]) -> tuple[frozenset[str], ...]:
    families: list[frozenset[str]] = []
    for layer in graph.layers:
        if isinstance(layer, Add) and not {layer.left, layer.right} & set(terms):
            pair = frozenset((points.source(layer.left), points.source(layer.right)))
            touching = [family for family in families if family & pair]
            families = [family for family in families if not family & pair]
            families.append(pair.union(*touching))
    return tuple(families)


def _edges(graph: CnnGraph) -> Iterator[str]:
    """The first and the last layers with weights: nothing with weights is before, or behind, them."""
    before, behind = {graph.input}, {graph.output}
    for layer in graph.layers:
        if before & set(inputs_of(layer)):
            if isinstance(layer, Conv | Dense):
                yield layer.output
            else:
                before.add(layer.output)
    for layer in reversed(graph.layers):
        if layer.output in behind:
            if isinstance(layer, Conv | Dense):
                yield layer.output
            else:
                behind.update(inputs_of(layer))


@dataclass(frozen=True)
class LayerWidths:
    """Bits of each layer's weights and each stored tensor.

    Attributes:
        weights: By layer.
        activations: By stored tensor; what a first or last layer reads has at least its bits.
    """

    weights: Mapping[str, int]
    activations: Mapping[str, int]


def layer_widths(graph: CnnGraph, points: Points, inner: Widths, edges: Widths) -> LayerWidths:
    """Distributes the widths: ``edges`` for first and last layers and what they read, ``inner`` for all others."""
    weights = {layer.output: (edges if layer.output in points.edges else inner).weights for layer in graph.products()}
    activations = dict.fromkeys(points.stored, 0)
    for layer in graph.products():
        source = points.source(layer.input)
        bits = (edges if layer.output in points.edges else inner).activations
        activations[source] = max(activations[source], bits)
    for name, bits in activations.items():
        activations[name] = bits or inner.activations
    for family in points.families:
        activations |= dict.fromkeys(family, max(activations[name] for name in family))
    return LayerWidths(weights, activations)


def nonnegative(tensor: str, graph: CnnGraph, points: Points, input_is: bool) -> bool:
    """Whether a tensor has no negative values, whatever the samples.

    Args:
        tensor: The tensor.
        graph: The layers.
        points: Their points.
        input_is: Whether the samples have none.
    """
    tensor = points.source(tensor)
    match graph.producer(tensor):
        case None:
            return input_is
        case Relu() | Clip():
            return True
        case AveragePool(input=read):
            return nonnegative(read, graph, points, input_is)
        case Add(left=left, right=right):
            return all(nonnegative(operand, graph, points, input_is) for operand in (left, right))
    return False
