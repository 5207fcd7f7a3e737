# SPDX-License-Identifier: Apache-2.0
"""Which rows of each tensor are worth computing where only some rows of the output are looked at.

Of a float model's layers; ``overlay/row_needs.py`` answers it for the layers of a program.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from hetfab.overlay.model.layers import (
    EdgeAggregation,
    EdgeAttention,
    EdgeDot,
    Fusion,
    JoinParts,
    Layer,
    LayerGraph,
    PartMean,
    RowSlice,
    Stack,
    TokenAttention,
    inputs_of,
)
from hetfab.overlay.model.runtime import Feed

Rows: TypeAlias = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class RowNeeds:
    """Rows that are computed.

    Attributes:
        rows: Of each tensor that the output depends on, ascending.
        read: Of each input of a layer, by the layer's output: the rows that it reads.
        graph: The layers.
        feed: Inputs, and the numbers of nodes that layers read.
    """

    rows: Mapping[str, Rows]
    read: Mapping[str, Sequence[Rows]]
    graph: LayerGraph
    feed: Feed

    @classmethod
    def of(cls, graph: LayerGraph, feed: Feed, rows: npt.NDArray[Any]) -> "RowNeeds":
        """What rows of the output depend on.

        Args:
            graph: The layers.
            feed: Inputs, and the numbers of nodes that layers read.
            rows: Of the output.
        """
        counts = _counts(graph, feed)
        needs, read = {graph.output: np.unique(rows).astype(np.int64)}, dict[str, Sequence[Rows]]()
        for layer in reversed(graph.layers):
            if layer.output not in needs:
                continue
            if isinstance(layer, TokenAttention):
                # The parts of a node are computed together.
                nodes = counts[layer.output] // layer.parts
                needs[layer.output] = _in_parts(np.unique(needs[layer.output] % nodes), layer.parts, nodes)
            read[layer.output] = _read(layer, needs[layer.output], counts, feed)
            for name, found in zip(inputs_of(layer), read[layer.output], strict=True):
                needs[name] = np.union1d(needs[name], found) if name in needs else found
        return cls(needs, read, graph, feed)

    @cached_property
    def places(self) -> Mapping[str, Sequence[Rows | None]]:
        """Of each input of a layer, places in its computed rows of those that are read; None for all of them."""
        return {
            layer.output: [
                None if len(self.rows[name]) == len(read) else np.searchsorted(self.rows[name], read)
                for name, read in zip(inputs_of(layer), self.read[layer.output], strict=True)
            ]
            for layer in self.graph.layers
            if layer.output in self.read
        }

    def keeps(self, layer: EdgeAggregation) -> npt.NDArray[np.bool_]:
        """Whether the edges into a destination count, [destinations]."""
        return _marked(self.rows[layer.output], int(self.feed[layer.count]))

    def renumbered(
        self, layer: EdgeAggregation, source: npt.NDArray[np.int32], destination: npt.NDArray[np.int32]
    ) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
        """Ends of edges as places in what the layer reads and computes; of edges that do not count, anything."""
        sources = self.read[layer.output][0]
        return (
            np.searchsorted(sources, source).astype(np.int32),
            np.searchsorted(self.rows[layer.output], destination).astype(np.int32),
        )


def _read(layer: Layer, rows: Rows, counts: Mapping[str, int], feed: Feed) -> list[Rows]:
    """Rows that a layer reads of each of its inputs for rows of its output."""
    match layer:
        case Stack():
            ends = np.cumsum([counts[name] for name in layer.inputs])
            starts = [0, *ends[:-1].tolist()]
            return [rows[(rows >= start) & (rows < end)] - start for start, end in zip(starts, ends, strict=True)]
        case JoinParts():
            return [_in_parts(rows, layer.parts, counts[layer.output])]
        case RowSlice():
            return [rows + layer.first]
        case EdgeAttention():
            sources = _sources(layer, rows, feed)
            return [sources, sources, rows]
        case EdgeDot():
            sources = _sources(layer, rows, feed)
            return [sources, rows, sources]
        case Fusion():
            return [_in_parts(rows, layer.parts, counts[layer.output]), np.arange(layer.parts)]
        case PartMean():
            return [np.arange(counts[layer.input])]
    if isinstance(layer, EdgeAggregation):
        return [_sources(layer, rows, feed)]
    return [rows for _ in inputs_of(layer)]


def _sources(layer: EdgeAggregation, rows: Rows, feed: Feed) -> Rows:
    """Sources of the edges into rows, ascending."""
    wanted = _marked(rows, int(feed[layer.count]))
    return np.unique(np.asarray(feed[layer.source])[wanted[np.asarray(feed[layer.destination])]]).astype(np.int64)


def _marked(rows: Rows, count: int) -> npt.NDArray[np.bool_]:
    marked = np.zeros(count, bool)
    marked[rows] = True
    return marked


def _in_parts(nodes: Rows, parts: int, count: int) -> Rows:
    """Rows of nodes in each part of a stack."""
    return np.asarray((np.arange(parts)[:, None] * count + nodes).reshape(-1), np.int64)


def _counts(graph: LayerGraph, feed: Feed) -> dict[str, int]:
    """Rows of each tensor as a whole."""
    counts = {name: len(array) for name, array in {**feed, **graph.tables}.items() if np.ndim(array)}
    for layer in graph.layers:
        counts[layer.output] = _rows_of(layer, counts, feed)
    return counts


def _rows_of(layer: Layer, counts: Mapping[str, int], feed: Feed) -> int:
    match layer:
        case Stack():
            return sum(counts[name] for name in layer.inputs)
        case JoinParts() | Fusion():
            return counts[layer.input] // layer.parts
        case RowSlice():
            return layer.end - layer.first
        case PartMean():
            return layer.parts
    if isinstance(layer, EdgeAggregation):
        return int(feed[layer.count])
    return counts[inputs_of(layer)[0]]
