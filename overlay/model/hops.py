# SPDX-License-Identifier: Apache-2.0
"""Rewrites means of features along metapaths, which a float model reads as inputs, as layers that compute them.

A mean along relations commutes with the dense layer behind it, so the features are projected first and the projection
is averaged, relation by relation: ``mean(mean(x)) W + b = mean(mean(x W)) + b``. Without neighbours ``b`` is left.
"""

from collections.abc import Mapping
from dataclasses import replace

from hetfab.overlay.errors import OperatorsUnsupportedError
from hetfab.overlay.model.binding import Binding, End, Features, MetapathEnd, MetapathMean, NodeCount
from hetfab.overlay.model.layers import Bias, Dense, FloatArray, Layer, LayerGraph, SegMean


def has_metapath_means(bindings: Mapping[str, Binding]) -> bool:
    """Whether a model reads means along metapaths."""
    return any(isinstance(binding, MetapathMean) for binding in bindings.values())


def means_by_hops(
    graph: LayerGraph, bindings: Mapping[str, Binding], featured: Mapping[str, int]
) -> tuple[LayerGraph, dict[str, Binding]]:
    """Puts layers over features and edges in place of inputs that are means along metapaths.

    Args:
        graph: The layers.
        bindings: Resolved meaning of the inputs.
        featured: Columns of the features of each type that has some; another type counts as one-hot.

    Returns:
        The layers, and the meaning of their inputs.

    Raises:
        OperatorsUnsupportedError: Something other than a dense layer reads such a mean; all are named.
    """
    draft = _Draft(featured, dict(graph.tables), dict(graph.channels))
    layers: list[Layer] = []
    for layer in graph.layers:
        binding = bindings.get(layer.input) if isinstance(layer, Dense) else None
        if isinstance(layer, Dense) and isinstance(binding, MetapathMean):
            layers += draft.hops(layer, binding)
        else:
            layers.append(layer)
    means = {name for name, binding in bindings.items() if isinstance(binding, MetapathMean)}
    rewritten = replace(graph, layers=tuple(layers), tables=draft.tables, channels=draft.channels)
    readers = {layer.output: name for name in means for layer in rewritten.consumers(name)}
    if readers:
        raise OperatorsUnsupportedError(
            "means along metapaths are read by other layers than dense ones:",
            "a dense layer behind each mean",
            "project each mean before anything else is done with it",
            [f"'{output}' reads the input '{name}'" for output, name in readers.items()],
        )
    kept = {name: binding for name, binding in bindings.items() if name not in means}
    return rewritten, kept | draft.bindings


class _Draft:
    """Tables, widths and inputs that the new layers need."""

    def __init__(self, featured: Mapping[str, int], tables: dict[str, FloatArray], channels: dict[str, int]) -> None:
        self.tables = tables
        self.channels = channels
        self.bindings: dict[str, Binding] = {}
        self._featured = featured

    def hops(self, layer: Dense, mean: MetapathMean) -> list[Layer]:
        """The layers in place of a dense layer of a mean."""
        layers: list[Layer] = []
        projected, bias = f"{layer.output}.projected", None if not mean.relations else layer.bias
        if mean.type in self._featured:
            features = f"x_{mean.type}"
            self.bindings[features], self.channels[features] = Features(mean.type), layer.weight.shape[0]
            layers.append(Dense(projected, features, layer.weight, layer.bias if bias is None else None))
        else:
            self.tables[projected] = layer.weight if mean.relations or layer.bias is None else layer.weight + layer.bias
        names = [f"{layer.output}.hop{hop}" for hop in reversed(range(len(mean.relations)))]
        for name, relation in zip(names, reversed(mean.relations), strict=True):
            path = f"{relation.name}_once"
            source, destination = f"src_{path}", f"dst_{path}"
            self.bindings[source] = MetapathEnd(path, (relation,), End.SOURCE)
            self.bindings[destination] = MetapathEnd(path, (relation,), End.DESTINATION)
            count = f"n_{relation.source}"
            self.bindings[count] = NodeCount(relation.source)
            layers.append(SegMean(name, layers[-1].output if layers else projected, source, destination, count))
        if bias is not None:
            layers.append(Bias(layer.output, layers[-1].output, bias))
        elif layers:
            layers[-1] = replace(layers[-1], output=layer.output)
        else:
            self.tables[layer.output] = self.tables.pop(projected)
        self.channels |= {made.output: layer.weight.shape[1] for made in layers} | {projected: layer.weight.shape[1]}
        return layers
