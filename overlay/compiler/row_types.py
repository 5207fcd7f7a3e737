# SPDX-License-Identifier: Apache-2.0
"""Finds whose nodes the rows of each stored tensor are."""

from collections.abc import Collection, Mapping

from hetfab.overlay.compiler.lowered import LoweredLayer, Stored
from hetfab.overlay.errors import ModelStructureError
from hetfab.overlay.model.binding import Binding, Features


def row_types(
    stored: Collection[Stored], layers: Collection[LoweredLayer], bindings: Mapping[str, Binding]
) -> dict[str, str]:
    """Whose nodes the rows of each stored tensor are, from features and edges, carried through the layers.

    Raises:
        ModelStructureError: Rows of one tensor are of two types, or of none.
    """
    types: dict[str, str] = {}

    def note(tensor: Stored, node_type: str) -> None:
        found = types.setdefault(tensor.name, node_type)
        if found != node_type:
            raise ModelStructureError(
                f"the rows of '{tensor.name}' are nodes of type '{found}' and of type '{node_type}'",
                "one node type per tensor",
                "correct the input binding (`--bind FILE`), or the model",
            )

    for tensor in stored:
        binding = bindings.get(tensor.name)
        if tensor.origin == "features" and isinstance(binding, Features):
            note(tensor, binding.type)
    for layer in layers:
        for aggregation in layer.aggregations:
            note(aggregation.input, aggregation.edges.source_type)
            note(layer.output, aggregation.edges.destination_type)
    pairs = [(layer.dense.input, layer.output) for layer in layers if layer.dense is not None]
    while True:
        known = len(types)
        for left, right in pairs:
            if left.name in types:
                note(right, types[left.name])
            elif right.name in types:
                note(left, types[right.name])
        if len(types) == known:
            break
    missing = [tensor.name for tensor in stored if tensor.name not in types]
    if missing:
        raise ModelStructureError(
            "nothing says whose nodes the rows of these tensors are: " + ", ".join(missing),
            "a path of dense layers to features or to an aggregation",
            "remove the unused layers from the model",
        )
    return types
