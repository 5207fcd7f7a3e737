# SPDX-License-Identifier: Apache-2.0
"""The edges that a graph operator reads: a relation, or the semantic graph of a metapath."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

from hetfab.overlay.errors import BindingInvalidError
from hetfab.overlay.model.binding import (
    Binding,
    EdgeWeights,
    End,
    InDegreeWeights,
    JoinedEnd,
    LoopedEnd,
    MetapathEnd,
    RelationEnd,
    StackedEnd,
)
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
        self_loops: Whether each node has one edge to itself, behind the relation's edges between different nodes.
    """

    name: str
    relations: tuple[Relation, ...]
    metapath: bool
    source_type: str
    destination_type: str
    self_loops: bool = False

    @property
    def sources(self) -> tuple[str, ...]:
        """Types of the nodes that are read."""
        return (self.source_type,)

    @property
    def destinations(self) -> tuple[str, ...]:
        """Types of the nodes that are written."""
        return (self.destination_type,)


@dataclass(frozen=True)
class StackedEdges:
    """The edges of all relations between all nodes, whose types are stacked.

    Attributes:
        types: Node types in the order of their rows.
        relations: In the order of their edges; a relation's position is its edges' type.
        self_loops: Whether each node's edge to itself follows, with the next type.
    """

    types: tuple[str, ...]
    relations: tuple[Relation, ...]
    self_loops: bool

    @property
    def name(self) -> str:
        """As messages name it."""
        return "all relations"

    @property
    def sources(self) -> tuple[str, ...]:
        """Types of the nodes that are read."""
        return self.types

    @property
    def destinations(self) -> tuple[str, ...]:
        """Types of the nodes that are written."""
        return self.types

    @property
    def edge_types(self) -> int:
        """Number of edge types."""
        return len(self.relations) + self.self_loops


@dataclass(frozen=True)
class JoinedEdges:
    """The edges of several relations into a type, whose source rows are stacked relation by relation.

    Attributes:
        destination_type: Type of the nodes that are written.
        relations: At least two, in the order of their edges and of their source rows.
    """

    destination_type: str
    relations: tuple[Relation, ...]

    @property
    def name(self) -> str:
        """As messages name it."""
        return f"joined into {self.destination_type}"

    @property
    def sources(self) -> tuple[str, ...]:
        """Types of the rows that are read."""
        return tuple(relation.source for relation in self.relations)

    @property
    def destinations(self) -> tuple[str, ...]:
        """Types of the nodes that are written."""
        return (self.destination_type,)


#: What the two ends of an operator's edges can stand for.
AnyEdges: TypeAlias = EdgeSet | StackedEdges | JoinedEdges


def check_weights(bindings: Mapping[str, Binding], weights: str, edges: AnyEdges) -> None:
    """Checks that an input holds weights of the edges that an operator reads.

    Raises:
        BindingInvalidError: It does not.
    """
    found = bindings.get(weights)
    looped = isinstance(found, InDegreeWeights) and found.self_loops
    weighs = isinstance(found, EdgeWeights | InDegreeWeights) and edges.relations == (found.relation,)
    if not (weighs and isinstance(edges, EdgeSet) and edges.self_loops == looped):
        raise BindingInvalidError(
            f"'{weights}' means {meaning(found) if found else 'no input of the model'}, "
            f"beside the edges '{edges.name}'",
            "weights of the edges of that relation",
            "correct the input binding (`--bind FILE`), or the operator's inputs",
        )


def edge_set(bindings: Mapping[str, Binding], source: str, destination: str) -> AnyEdges:
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
        case LoopedEnd(relation, End.SOURCE), LoopedEnd(other, End.DESTINATION) if relation == other:
            name = f"{relation.name} with self loops"
            return EdgeSet(name, (relation,), False, relation.source, relation.destination, self_loops=True)
        case MetapathEnd(name, path, End.SOURCE), MetapathEnd(_, other_path, End.DESTINATION) if path == other_path:
            return EdgeSet(name, path, True, path[-1].destination, path[0].source)
        case JoinedEnd(into, relations, End.SOURCE), JoinedEnd(_, others, End.DESTINATION) if relations == others != ():
            if len(relations) > 1:
                return JoinedEdges(into, relations)
            return EdgeSet(relations[0].name, relations, False, relations[0].source, into)
        case StackedEnd(types, relations, loops, End.SOURCE), StackedEnd(end=End.DESTINATION) as other_end if (
            other_end == StackedEnd(types, relations, loops, End.DESTINATION)
        ):
            return StackedEdges(types, relations, loops)
    found = [meaning(bindings[name]) if name in bindings else "no input of the model" for name in (source, destination)]
    raise BindingInvalidError(
        f"'{source}' and '{destination}' mean {found[0]} and {found[1]}",
        "the source ids and the destination ids of the same relation or metapath",
        "correct the input binding (`--bind FILE`), or the order of the operator's inputs",
    )
