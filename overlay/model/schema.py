# SPDX-License-Identifier: Apache-2.0
"""What model and compiler need to know of a graph's structure: names, counts and widths, no edges."""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple


class Relation(NamedTuple):
    """A kind of edge: source node type, name, destination node type."""

    source: str
    name: str
    destination: str

    def __str__(self) -> str:
        """The form in which messages name it."""
        return f"{self.name} ({self.source} -> {self.destination})"


@dataclass(frozen=True)
class GraphSchema:
    """The structure of a heterogeneous graph.

    Attributes:
        types: Node types in the graph's order.
        counts: Nodes of each type.
        relations: Relations in the graph's order; their names are unique.
        metapaths: Names of relations along each metapath; no metapath is named like a relation.
        feature_widths: Columns of the features of each type; types without features are absent.
        target: The node type to predict, None when the graph names none.
    """

    types: tuple[str, ...]
    counts: Mapping[str, int]
    relations: tuple[Relation, ...]
    metapaths: Mapping[str, tuple[str, ...]]
    feature_widths: Mapping[str, int]
    target: str | None

    def find_relation(self, name: str) -> Relation | None:
        """The relation of a name, None when there is none."""
        return next((relation for relation in self.relations if relation.name == name), None)


def chains(path: tuple[Relation, ...]) -> bool:
    """Whether each relation starts at the type where the one before it ends."""
    return all(left.destination == right.source for left, right in itertools.pairwise(path))
