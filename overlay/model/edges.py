# SPDX-License-Identifier: Apache-2.0
"""The edges that a graph operator reads: a relation, or the semantic graph of a metapath."""

from collections.abc import Mapping
from dataclasses import dataclass

from hetfab.overlay.errors import BindingInvalidError
from hetfab.overlay.model.binding import Binding, End, MetapathEnd, RelationEnd
from hetfab.overlay.model.meaning import meaning
from hetfab.overlay.model.schema import Relation


@dataclass(frozen=True)
class EdgeSet:
    """Edges between two node types.

    Attributes:
        name: Name of the relation or the metapath.
        relations: The relation alone, or the relations along the metapath.
        metapath: Whether it is a semantic graph, without duplicate edges.
        source_type: Type of the nodes that are read.
        destination_type: Type of the nodes that are written.
    """

    name: str
    relations: tuple[Relation, ...]
    metapath: bool
    source_type: str
    destination_type: str


def edge_set(bindings: Mapping[str, Binding], source: str, destination: str) -> EdgeSet:
    """The edges that two id inputs of an operator stand for.

    Args:
        bindings: Resolved meaning of the model's inputs.
        source: Name of the input with source ids.
        destination: Name of the input with destination ids.

    Raises:
        BindingInvalidError: The two inputs are not the two ends of the same edges.
    """
    match bindings.get(source), bindings.get(destination):
        case RelationEnd(relation, End.SOURCE), RelationEnd(other, End.DESTINATION) if relation == other:
            return EdgeSet(relation.name, (relation,), False, relation.source, relation.destination)
        case MetapathEnd(name, path, End.SOURCE), MetapathEnd(_, other_path, End.DESTINATION) if path == other_path:
            return EdgeSet(name, path, True, path[-1].destination, path[0].source)
    found = [meaning(bindings[name]) if name in bindings else "no input of the model" for name in (source, destination)]
    raise BindingInvalidError(
        f"'{source}' and '{destination}' mean {found[0]} and {found[1]}",
        "the source ids and the destination ids of the same relation or metapath",
        "correct the input binding (`--bind FILE`), or the order of the operator's inputs",
    )
