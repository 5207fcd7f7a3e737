# SPDX-License-Identifier: Apache-2.0
"""Random relations between node types and paths along them, for tests of semantic graphs."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse
from hypothesis import strategies as st

from hetfab.overlay.model.schema import Relation
from hetfab.overlay.semantic.adjacency import Adjacency, adjacency, transpose
from hetfab.overlay.semantic.plan import Metapath

TYPES = ("a", "b", "c")


@dataclass(frozen=True, eq=False)
class RandomRelations:
    """Relations, those that are each other's reverse, and metapaths."""

    relations: dict[Relation, Adjacency]
    reverses: dict[str, str]
    metapaths: dict[str, Metapath]

    @property
    def by_name(self) -> dict[str, Adjacency]:
        return {relation.name: graph for relation, graph in self.relations.items()}


@st.composite
def graphs(draw: st.DrawFn, rows: int, columns: int) -> Adjacency:
    """An adjacency, sparse or dense, whose rows are in any order."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    share = draw(st.sampled_from([0.0, 0.05, 0.3, 0.9, 1.0]))
    source, destination = np.nonzero(rng.random((rows, columns)) < share)
    ordered = adjacency(source, destination, rows, columns)
    shuffled = [rng.permutation(ordered.row(row)) for row in range(rows)]
    return Adjacency(ordered.starts, np.concatenate([np.zeros(0, np.int64), *shuffled]), columns)


@st.composite
def random_relations(draw: st.DrawFn) -> RandomRelations:
    """Three types, a relation and its reverse between some of them, and metapaths of up to 5 relations."""
    counts = {name: draw(st.integers(0, 90)) for name in TYPES}
    relations: dict[Relation, Adjacency] = {}
    reverses: dict[str, str] = {}
    ends = draw(st.lists(st.tuples(st.sampled_from(TYPES), st.sampled_from(TYPES)), min_size=1, max_size=4))
    for number, (source, destination) in enumerate(ends):
        graph = draw(graphs(counts[source], counts[destination]))
        relations[Relation(source, f"r{number}", destination)] = graph
        if draw(st.booleans()):
            relations[Relation(destination, f"t{number}", source)] = transpose(graph)
            reverses |= {f"r{number}": f"t{number}", f"t{number}": f"r{number}"}
    metapaths = {}
    for number in range(draw(st.integers(1, 4))):
        steps = [draw(st.sampled_from(list(relations)))]
        for _ in range(draw(st.integers(0, 4))):
            following = [relation for relation in relations if relation.source == steps[-1].destination]
            steps += [draw(st.sampled_from(following))] if following else []
        metapaths[f"m{number}"] = tuple(relation.name for relation in steps)
    return RandomRelations(relations, reverses, metapaths)


def matrix(graph: Adjacency) -> Any:
    """The graph as a boolean scipy matrix, indices sorted."""
    shape = graph.rows, graph.columns
    ones = np.ones(graph.edges, bool)
    made = scipy.sparse.csr_matrix((ones, graph.ids, graph.starts), shape=shape, copy=True)
    made.sort_indices()
    return made


def product(path: Metapath, relations: dict[str, Adjacency]) -> Any:
    """The boolean product along a path by scipy, left to right, indices sorted."""
    reach = matrix(relations[path[0]])
    for name in path[1:]:
        reach = reach @ matrix(relations[name])
    reach.sort_indices()
    return reach


def same(graph: Adjacency, expected: Any) -> bool:
    """Whether a graph has exactly the edges of a boolean scipy matrix, none twice."""
    found = matrix(graph)
    return bool(
        found.shape == expected.shape
        and np.array_equal(found.indptr, expected.indptr)
        and np.array_equal(found.indices, expected.indices)
    )
