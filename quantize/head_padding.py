# SPDX-License-Identifier: Apache-2.0
"""Pads the heads of attention with channels of zeros, since AGG weighs whole groups of 8 channels by a head's weight.

The dense layers around attention take the zeros: their output channels before it, their rows of weights behind it. No
other number changes.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from hetfab.overlay.errors import OperatorsUnsupportedError
from hetfab.overlay.isa.spec import isa
from hetfab.overlay.layouts import padded
from hetfab.overlay.model.layers import (
    Bias,
    Dense,
    EdgeAttention,
    EdgeDot,
    FloatArray,
    Fusion,
    HostOperator,
    JoinParts,
    Layer,
    LayerGraph,
    LayerNorm,
    RowNorm,
    SegMean,
    SegSum,
    Stack,
    TokenAttention,
    inputs_of,
)

#: Channels that one weight applies to: a beat of features.
_GROUP = isa().size("beat_bytes")


@dataclass(frozen=True)
class _Heads:
    """Channels that are heads of some width, side by side."""

    heads: int
    width: int

    @property
    def channels(self) -> int:
        """Channels with those that pad the heads."""
        return self.heads * padded(self.width, _GROUP)

    def places(self) -> npt.NDArray[np.int64]:
        """Where each channel comes to."""
        starts = np.arange(self.heads)[:, None] * padded(self.width, _GROUP)
        return np.asarray((starts + np.arange(self.width)).reshape(-1), np.int64)


def padded_heads(graph: LayerGraph) -> LayerGraph:
    """Pads the heads of all attentions of more than one head.

    Raises:
        OperatorsUnsupportedError: Something other than dense layers would have to take the zeros; all are named.
    """
    layouts = _layouts(graph)
    if not layouts:
        return graph
    _check(graph, layouts)
    tables = {name: _columns(table, layouts.get(name)) for name, table in graph.tables.items()}
    channels = {name: layouts[name].channels if name in layouts else count for name, count in graph.channels.items()}
    producers = {layer.output: layer for layer in graph.layers}
    for layer in graph.layers:
        if isinstance(layer, JoinParts):
            channels[layer.output] = layer.parts * channels[layer.input]
    layers = tuple(_padded(layer, layouts, producers) for layer in graph.layers)
    return replace(graph, layers=layers, tables=tables, channels=channels)


def _layouts(graph: LayerGraph) -> dict[str, _Heads]:
    """The heads of each tensor whose channels are padded."""
    group = {name: name for name in (*graph.channels, *graph.tables)}
    for layer in graph.layers:
        for left, right in _alike(layer):
            old, new = group[left], group[right]
            group = {name: new if own == old else own for name, own in group.items()}
    found: dict[str, _Heads] = {}
    differing = []
    for name, heads in _heads(graph):
        if found.setdefault(group[name], heads) != heads:
            differing.append(f"'{name}' has {heads.heads} heads of {heads.width} channels, and others in other places")
    if differing and any(heads.width % _GROUP for heads in found.values()):
        raise _refusal(differing)
    uneven = {root: heads for root, heads in found.items() if heads.width % _GROUP}
    return {name: uneven[own] for name, own in group.items() if own in uneven}


def _heads(graph: LayerGraph) -> Iterator[tuple[str, _Heads]]:
    """The tensors that attentions of several heads weigh or compare."""
    for layer in graph.layers:
        match layer:
            case EdgeAttention():
                count, names = graph.channels[layer.source_scores], [layer.input]
            case EdgeDot():
                count, names = layer.heads, [layer.input, layer.keys]
            case _:
                continue
        if count > 1:
            yield from ((name, _Heads(count, graph.channels[name] // count)) for name in names)


def _alike(layer: Layer) -> Iterator[tuple[str, str]]:
    """Pairs of tensors whose channels are in the same places."""
    match layer:
        case Dense() | JoinParts() | HostOperator():
            return
        case EdgeAttention() | SegMean() | SegSum() | Fusion():
            yield layer.input, layer.output
        case EdgeDot() | TokenAttention():
            yield layer.input, layer.output
            yield layer.keys, layer.queries
        case Stack():
            yield from ((name, layer.output) for name in layer.inputs)
        case _:
            yield from ((name, layer.output) for name in inputs_of(layer))


def _check(graph: LayerGraph, layouts: Mapping[str, _Heads]) -> None:
    computed = {layer.output for layer in graph.layers} | set(graph.tables)
    norms = {layer.input for layer in graph.layers if isinstance(layer, LayerNorm | RowNorm)}
    of_host = {name for layer in graph.layers if isinstance(layer, HostOperator) for name in layer.inputs}
    places = dict.fromkeys(of_host, "is read by the host") | dict.fromkeys(norms, "is normalized")
    places[graph.output] = "is the model's output"
    refused = [
        f"'{name}' has heads of {heads.width} channels and " + places.get(name, "is an input")
        for name, heads in layouts.items()
        if name in places or name not in computed
    ]
    if refused:
        raise _refusal(refused)


def _refusal(refused: list[str]) -> OperatorsUnsupportedError:
    return OperatorsUnsupportedError(
        "heads cannot be padded with channels of zeros:",
        f"heads of a multiple of {_GROUP} channels, or dense layers before and behind attention",
        "put a dense layer between, or train heads of such a width",
        refused,
    )


def _padded(layer: Layer, layouts: Mapping[str, _Heads], producers: Mapping[str, Layer]) -> Layer:
    match layer:
        case Dense():
            before = producers.get(layer.input)
            parts, read = (before.parts, before.input) if isinstance(before, JoinParts) else (1, layer.input)
            weight = _rows(_columns(layer.weight, layouts.get(layer.output)), layouts.get(read), parts)
            bias = None if layer.bias is None else _columns(layer.bias[None], layouts.get(layer.output))[0]
            return replace(layer, weight=weight, bias=bias)
        case Bias():
            return replace(layer, values=_columns(layer.values[None], layouts.get(layer.output))[0])
    return layer


def _columns(array: FloatArray, heads: _Heads | None) -> FloatArray:
    """Columns [N, C] in their places."""
    if heads is None:
        return array
    found = np.zeros((len(array), heads.channels), np.float32)
    found[:, heads.places()] = array
    return found


def _rows(weight: FloatArray, heads: _Heads | None, parts: int) -> FloatArray:
    """Rows of weights, of parts side by side, in their places."""
    if heads is None:
        return weight
    found = np.zeros((parts, heads.channels, weight.shape[1]), np.float32)
    found[:, heads.places()] = weight.reshape(parts, -1, weight.shape[1])
    return found.reshape(-1, weight.shape[1])
