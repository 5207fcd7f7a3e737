# SPDX-License-Identifier: Apache-2.0
"""Whose nodes the rows of a float model's tensors are, and whether edges, counts and learned tables agree with it."""

import itertools
from collections.abc import Iterator, Mapping
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from hetfab.overlay.errors import BindingInvalidError, CountFixedError, ModelStructureError
from hetfab.overlay.model.binding import Binding, EdgeTypes, Features, NodeCount
from hetfab.overlay.model.edges import AnyEdges, StackedEdges, edge_set
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
    SegMean,
    SegSum,
    Stack,
    inputs_of,
)

#: Node types of a tensor's rows, one after the other; of a stack, those of its parts.
RowTypes: TypeAlias = tuple[str, ...]


def check_aggregations(graph: LayerGraph, bindings: Mapping[str, Binding]) -> None:
    """Checks that each aggregation reads both ends of the same edges, their types and the count of their destination.

    Args:
        graph: The layers.
        bindings: Resolved meaning of the inputs.

    Raises:
        BindingInvalidError: Inputs do not belong together; all are named.
    """
    wrong: dict[str, BindingInvalidError] = {}
    for layer in graph.layers:
        if not isinstance(layer, EdgeAggregation):
            continue
        try:
            edges = edge_set(bindings, layer.source, layer.destination)
            _check_count(layer, edges, bindings)
            if isinstance(layer, EdgeAttention):
                _check_types(layer, edges, bindings)
        except BindingInvalidError as error:
            wrong.setdefault(error.found, error)
    if wrong:
        first = next(iter(wrong.values()))
        raise BindingInvalidError("\n".join(wrong), first.expected, first.do)


def _check_count(layer: EdgeAggregation, edges: AnyEdges, bindings: Mapping[str, Binding]) -> None:
    count = bindings.get(layer.count)
    if isinstance(count, NodeCount) and (count.type,) != edges.destinations:
        raise BindingInvalidError(
            f"'{layer.count}' counts the nodes of type '{count.type}', but the edges '{edges.name}' lead to "
            + ("all types" if isinstance(edges, StackedEdges) else f"type '{edges.destinations[0]}'"),
            "the number of the edges' destination nodes",
            "correct the input binding (`--bind FILE`), or the operator's input",
        )


def _check_types(layer: EdgeAttention, edges: AnyEdges, bindings: Mapping[str, Binding]) -> None:
    if layer.types is None or layer.bias is None:
        return
    match edges, bindings.get(layer.types):
        case StackedEdges(types, relations, loops), EdgeTypes() as found if found == EdgeTypes(types, relations, loops):
            pass
        case _:
            raise BindingInvalidError(
                f"'{layer.types}' is not the types of the edges '{layer.source}' to '{layer.destination}'",
                "edge types of the same stacked relations",
                "correct the input binding (`--bind FILE`), or the operator's input",
            )
    if len(layer.bias) != edges.edge_types:
        raise BindingInvalidError(
            f"'{layer.output}' has a bias for each of {len(layer.bias)} edge types, the graph has {edges.edge_types}",
            "a bias for each relation, and one for the self loops",
            "use the graph that the model was made for, or correct the input binding (`--bind FILE`)",
        )


def row_types(
    graph: LayerGraph, bindings: Mapping[str, Binding], counts: Mapping[str, int] | None = None
) -> dict[str, RowTypes]:
    """The node types of each tensor's rows, from features and edges, carried through the layers.

    Args:
        graph: The layers.
        bindings: Resolved meaning of the inputs, as ``check_aggregations`` accepts it.
        counts: Nodes of each type; without them nothing is known of a slice of a stack.

    Returns:
        Node types by tensor; a tensor that no features and no aggregation reach is absent, and so are means of parts.

    Raises:
        ModelStructureError: The rows of one tensor are of two types.
    """
    types: dict[str, RowTypes] = {}
    for name, binding in bindings.items():
        if isinstance(binding, Features):
            _note(types, name, (binding.type,))
    edges_first = sorted(graph.layers, key=lambda layer: not isinstance(layer, EdgeAggregation))
    known = -1
    while len(types) != known:
        known = len(types)
        for layer in edges_first:
            for tensor, rows in _row_facts(layer, types, bindings, counts):
                _note(types, tensor, rows)
    return types


def _row_facts(
    layer: Layer, types: Mapping[str, RowTypes], bindings: Mapping[str, Binding], counts: Mapping[str, int] | None
) -> Iterator[tuple[str, RowTypes]]:
    """What a layer, and what is known already, say of the rows of tensors."""
    match layer:
        case SegMean() | SegSum() | EdgeAttention() | EdgeDot():
            yield from _rows_of_edges(layer, bindings)
        case Stack():
            yield from _rows_of_stack(layer, types)
        case JoinParts() | Fusion():
            if layer.input in types:
                rows = types[layer.input]
                yield layer.output, rows[: len(rows) // layer.parts]
        case RowSlice():
            if layer.input in types and counts is not None:
                yield from _rows_of_slice(layer, types[layer.input], counts)
        case PartMean():
            pass
        case _:
            read = inputs_of(layer)
            yield from ((layer.output, types[tensor]) for tensor in read if tensor in types)
            if layer.output in types:
                yield from ((tensor, types[layer.output]) for tensor in read if tensor not in types)


def _rows_of_edges(layer: EdgeAggregation, bindings: Mapping[str, Binding]) -> Iterator[tuple[str, RowTypes]]:
    edges = edge_set(bindings, layer.source, layer.destination)
    yield layer.input, edges.sources
    yield layer.output, edges.destinations
    if isinstance(layer, EdgeAttention):
        yield layer.source_scores, edges.sources
        yield layer.destination_scores, edges.destinations
    elif isinstance(layer, EdgeDot):
        yield layer.keys, edges.sources
        yield layer.queries, edges.destinations


def _rows_of_stack(layer: Stack, types: Mapping[str, RowTypes]) -> Iterator[tuple[str, RowTypes]]:
    if all(part in types for part in layer.inputs):
        yield layer.output, tuple(itertools.chain.from_iterable(types[part] for part in layer.inputs))
    elif len(types.get(layer.output, ())) == len(layer.inputs):
        yield from ((part, (kind,)) for part, kind in zip(layer.inputs, types[layer.output], strict=True))


def _rows_of_slice(layer: RowSlice, rows: RowTypes, counts: Mapping[str, int]) -> Iterator[tuple[str, RowTypes]]:
    """A slice of whole parts."""
    ends = [0, *itertools.accumulate(counts[kind] for kind in rows)]
    if layer.first in ends and layer.end in ends:
        yield layer.output, rows[ends.index(layer.first) : ends.index(layer.end)]


def _note(types: dict[str, RowTypes], tensor: str, rows: RowTypes) -> None:
    found = types.setdefault(tensor, rows)
    if found != rows:
        raise ModelStructureError(
            f"the rows of '{tensor}' are nodes of type {_listed(found)} and of type {_listed(rows)}",
            "one node type per tensor",
            "correct the input binding (`--bind FILE`), or the model",
        )


def _listed(rows: RowTypes) -> str:
    return " then ".join(f"'{kind}'" for kind in rows)


def check_fixed_counts(
    graph: LayerGraph,
    bindings: Mapping[str, Binding],
    constants: Mapping[str, npt.NDArray[np.generic]],
    counts: Mapping[str, int],
) -> None:
    """Checks rows of learned tables and of slices, and counts that are constants, against a graph's numbers of nodes.

    Args:
        graph: The layers.
        bindings: As ``row_types`` takes them.
        constants: The model's constants by name.
        counts: Nodes of each type.

    Raises:
        CountFixedError: The model was made for other numbers; all are named.
        ModelStructureError: As ``row_types``.
    """
    types = row_types(graph, bindings, counts)
    fixed = [(f"the learned table '{name}'", types.get(name), len(table)) for name, table in graph.tables.items()]
    for layer in graph.layers:
        if isinstance(layer, EdgeAggregation) and layer.count in constants:
            rows = edge_set(bindings, layer.source, layer.destination).destinations
            fixed.append((f"the constant '{layer.count}'", rows, int(constants[layer.count])))
    wrong = [
        f"{found:,} of type {_listed(rows)}, {what} says {said:,}"
        for what, rows, said in dict.fromkeys(fixed)
        if rows is not None and said != (found := sum(counts[kind] for kind in rows))
    ]
    wrong += [
        f"'{layer.output}' takes the rows {layer.first:,} to {layer.end - 1:,} of a stack, not those of a type"
        for layer in graph.layers
        if isinstance(layer, RowSlice) and layer.input in types and layer.output not in types
    ]
    if wrong:
        raise CountFixedError(
            "the graph has other numbers of nodes than the model is made for: " + "; ".join(wrong),
            "the numbers that the model says",
            "use the graph that the model was made for",
        )
