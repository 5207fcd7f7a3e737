# SPDX-License-Identifier: Apache-2.0
"""Whose nodes the rows of a float model's tensors are, and whether edges, counts and learned tables agree with it."""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from hetfab.overlay.errors import BindingInvalidError, CountFixedError, ModelStructureError
from hetfab.overlay.model.binding import Binding, Features, NodeCount
from hetfab.overlay.model.edges import edge_set
from hetfab.overlay.model.layers import Add, LayerGraph, SegMean


def check_aggregations(graph: LayerGraph, bindings: Mapping[str, Binding]) -> None:
    """Checks that each aggregation reads both ends of the same edges and the count of their destination.

    Args:
        graph: The layers.
        bindings: Resolved meaning of the inputs.

    Raises:
        BindingInvalidError: Inputs do not belong together; all are named.
    """
    wrong: dict[str, BindingInvalidError] = {}
    for layer in graph.layers:
        if not isinstance(layer, SegMean):
            continue
        try:
            _check_count(layer, bindings)
        except BindingInvalidError as error:
            wrong.setdefault(error.found, error)
    if wrong:
        first = next(iter(wrong.values()))
        raise BindingInvalidError("\n".join(wrong), first.expected, first.do)


def _check_count(layer: SegMean, bindings: Mapping[str, Binding]) -> None:
    edges, count = edge_set(bindings, layer.source, layer.destination), bindings.get(layer.count)
    if isinstance(count, NodeCount) and count.type != edges.destination_type:
        raise BindingInvalidError(
            f"'{layer.count}' counts the nodes of type '{count.type}', but the edges '{edges.name}' lead to "
            f"type '{edges.destination_type}'",
            "the number of the edges' destination nodes",
            "correct the input binding (`--bind FILE`), or the operator's input",
        )


def row_types(graph: LayerGraph, bindings: Mapping[str, Binding]) -> dict[str, str]:
    """The node type of each tensor's rows, from features and edges, carried through the layers.

    Args:
        graph: The layers.
        bindings: Resolved meaning of the inputs, as ``check_aggregations`` accepts it.

    Returns:
        Node types by tensor; a tensor that no features and no aggregation reach is absent.

    Raises:
        ModelStructureError: The rows of one tensor are of two types.
    """
    types: dict[str, str] = {}
    equal: list[tuple[str, str]] = []
    for name, binding in bindings.items():
        if isinstance(binding, Features):
            _note(types, name, binding.type)
    for layer in graph.layers:
        if isinstance(layer, SegMean):
            edges = edge_set(bindings, layer.source, layer.destination)
            _note(types, layer.input, edges.source_type)
            _note(types, layer.output, edges.destination_type)
        elif isinstance(layer, Add):
            equal += [(layer.left, layer.output), (layer.right, layer.output)]
        else:
            equal.append((layer.input, layer.output))
    known = -1
    while len(types) != known:
        known = len(types)
        for left, right in equal:
            if left in types:
                _note(types, right, types[left])
            elif right in types:
                _note(types, left, types[right])
    return types


def _note(types: dict[str, str], tensor: str, node_type: str) -> None:
    found = types.setdefault(tensor, node_type)
    if found != node_type:
        raise ModelStructureError(
            f"the rows of '{tensor}' are nodes of type '{found}' and of type '{node_type}'",
            "one node type per tensor",
            "correct the input binding (`--bind FILE`), or the model",
        )


def check_fixed_counts(
    graph: LayerGraph,
    bindings: Mapping[str, Binding],
    constants: Mapping[str, npt.NDArray[np.generic]],
    counts: Mapping[str, int],
) -> None:
    """Checks rows of learned tables, and counts that are constants, against the numbers of nodes of a graph.

    Args:
        graph: The layers.
        bindings: As ``row_types`` takes them.
        constants: The model's constants by name.
        counts: Nodes of each type.

    Raises:
        CountFixedError: The model was made for other numbers; all are named.
        ModelStructureError: As ``row_types``.
    """
    types = row_types(graph, bindings)
    fixed = [(f"the learned table '{name}'", types.get(name), len(table)) for name, table in graph.tables.items()]
    for layer in graph.layers:
        if isinstance(layer, SegMean) and layer.count in constants:
            node_type = edge_set(bindings, layer.source, layer.destination).destination_type
            fixed.append((f"the constant '{layer.count}'", node_type, int(constants[layer.count])))
    wrong = {what: (kind, rows) for what, kind, rows in fixed if kind is not None and rows != counts[kind]}
    if wrong:
        raise CountFixedError(
            "the graph has other numbers of nodes than the model is made for: "
            + "; ".join(
                f"{counts[kind]:,} of type '{kind}', {what} says {rows:,}" for what, (kind, rows) in wrong.items()
            ),
            "the numbers that the model says",
            "use the graph that the model was made for",
        )
