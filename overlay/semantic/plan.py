# SPDX-License-Identifier: Apache-2.0
"""Plans how semantic graphs are built from relations: which parts are composed, in which order, and what is reused.

A callback trie (docs/semantic-graphs.md) holds every graph that is built under its path of relations. Longest matches
may cost more than no reuse at all, so each metapath is split where the expansions are fewest.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import numpy as np

from hetfab.overlay.errors import GraphInvalidError, LimitExceededError, RelationMissingError, counted
from hetfab.overlay.model.schema import Relation, chains
from hetfab.overlay.semantic.adjacency import Adjacency
from hetfab.overlay.semantic.bitmaps import is_dense, words_of
from hetfab.overlay.semantic.estimate import Degrees, counted_degrees, estimated_degrees

#: Names of relations in order: the path of a node of the trie.
Metapath: TypeAlias = tuple[str, ...]

#: A row is collected in a bitmap when its expansions exceed this part of the columns.
BITMAP_PART = 4
#: Memory that graphs may take at once unless stated otherwise, in bytes.
DEFAULT_LIMIT_BYTES = 1 << 30
_ID_BYTES = 4


@dataclass(frozen=True)
class Compose:
    """Builds ``path`` as the product of two graphs that are there.

    Attributes:
        path: What is built.
        left: The first part.
        right: The rest.
        threshold: Expansions above which a row is collected in a bitmap.
        expansions: Edges of ``right`` that edges of ``left`` lead to; an estimate unless ``exact``.
        word_ors: The same work where an edge costs a bitmap's words if these are fewer.
        exact: Whether both parts are relations, so that the work is counted.
        edges: Estimated edges of the result.
        most_edges: The result cannot have more.
        bitmap_bytes: Estimated memory of the dense rows of ``right`` as bitmaps, 0 where writing them does not pay.
    """

    path: Metapath
    left: Metapath
    right: Metapath
    threshold: int
    expansions: int
    word_ors: int
    exact: bool
    edges: int
    most_edges: int
    bitmap_bytes: int


@dataclass(frozen=True)
class Transpose:
    """Builds ``path`` by turning the graph of its reversed path, without expansions.

    Attributes:
        path: What is built.
        source: The reversed path.
        edges: Estimated edges.
        most_edges: The result cannot have more.
    """

    path: Metapath
    source: Metapath
    edges: int
    most_edges: int


@dataclass(frozen=True)
class Drop:
    """Gives back the memory of a graph that no later step reads."""

    path: Metapath


Step: TypeAlias = Compose | Transpose | Drop


@dataclass(frozen=True)
class Plan:
    """How semantic graphs are built.

    Attributes:
        steps: In order.
        outputs: The path of each metapath by name; a path of one relation needs no step.
        expansions: Estimated work of all steps.
        peak_bytes: Estimated largest memory of graphs that exist at once, relations apart.
    """

    steps: tuple[Step, ...]
    outputs: Mapping[str, Metapath]
    expansions: int
    peak_bytes: int


def plan_semantic_graphs(
    metapaths: Mapping[str, Metapath],
    relations: Mapping[Relation, Adjacency],
    reverses: Mapping[str, str] | None = None,
    limit_bytes: int = DEFAULT_LIMIT_BYTES,
) -> Plan:
    """Plans the semantic graphs of metapaths, shorter ones first.

    Args:
        metapaths: Names of relations along each metapath.
        relations: The graph's relations without duplicate edges.
        reverses: Relations that hold another relation's edges in the other direction, each with its partner.
        limit_bytes: Memory that graphs may take at once, relations apart.

    Raises:
        RelationMissingError: A metapath names an unknown relation.
        GraphInvalidError: A metapath is empty or its types do not chain.
        LimitExceededError: The estimate is above ``limit_bytes``; nothing has been built.
    """
    check_metapaths(metapaths, relations)
    trie = _Trie({relation.name: graph for relation, graph in relations.items()}, reverses or {})
    for path in sorted(set(metapaths.values()), key=lambda path: (len(path), path)):
        trie.add(path)
    steps = _with_drops(trie.steps, set(metapaths.values()))
    peak = _peak_bytes(steps, trie, metapaths, limit_bytes)
    work = sum(step.expansions for step in steps if isinstance(step, Compose))
    return Plan(tuple(steps), dict(metapaths), work, peak)


def check_metapaths(metapaths: Mapping[str, Metapath], relations: Iterable[Relation]) -> None:
    """Checks that metapaths name relations whose types chain.

    Raises:
        RelationMissingError: A metapath names an unknown relation.
        GraphInvalidError: A metapath is empty or its types do not chain.
    """
    by_name = {relation.name: relation for relation in relations}
    for name, path in metapaths.items():
        unknown = [step for step in path if step not in by_name]
        if unknown:
            raise RelationMissingError(
                f"metapath '{name}' names the relation '{unknown[0]}'",
                f"one of {', '.join(by_name) or 'none'}",
                "check the name, or use a graph that has this relation",
            )
        found = tuple(by_name[step] for step in path)
        if not found or not chains(found):
            raise GraphInvalidError(
                f"metapath '{name}' does not chain: {', '.join(map(str, found)) or 'it is empty'}",
                "at least one relation, each starting at the type where the one before it ends",
                "correct the metapath",
            )


class _Work(NamedTuple):
    """Work of a way to build a path, compared in this order."""

    expansions: int
    word_ors: int
    steps: int


class _Trie:
    """The callback trie: paths that are built, and the steps that build them.

    A node is known by its path, so the trie is kept flat. A callback is a step's ``right``: a path that starts at the
    root again.
    """

    def __init__(self, relations: Mapping[str, Adjacency], reverses: Mapping[str, str]) -> None:
        self.steps: list[Compose | Transpose] = []
        self._relations = relations
        self._reverses = reverses
        self._built: set[Metapath] = {(name,) for name in relations}
        self._degrees: dict[Metapath, Degrees] = {(name,): counted_degrees(graph) for name, graph in relations.items()}

    def add(self, path: Metapath) -> None:
        """Adds the steps that build a path from what is there."""
        for step in self._cheapest(path, {}):
            self.steps.append(step)
            self._built.add(step.path)

    def degrees(self, path: Metapath) -> Degrees:
        """Degrees of a path: counted for relations, else estimated."""
        if path not in self._degrees:
            self._degrees[path] = estimated_degrees([self._relations[name] for name in path])
        return self._degrees[path]

    def bytes_of(self, path: Metapath) -> int:
        """Estimated memory of a path's graph."""
        degrees = self.degrees(path)
        return _ID_BYTES * (degrees.edges + len(degrees.out) + 1)

    def _cheapest(self, path: Metapath, known: dict[Metapath, list[Compose | Transpose]]) -> list[Compose | Transpose]:
        """The steps with the least work that build a path and whatever it needs.

        Args:
            path: What is to be built.
            known: The results for other paths while the trie is as it is.
        """
        if path in self._built:
            return []
        if path not in known:
            turned = self._reversed(path)
            if turned in self._built:
                known[path] = [self._transpose(path, turned)]
            else:
                ways = [self._split(path, place, known) for place in range(1, len(path))]
                known[path] = min(ways, key=_work)
        return known[path]

    def _split(
        self, path: Metapath, place: int, known: dict[Metapath, list[Compose | Transpose]]
    ) -> list[Compose | Transpose]:
        left, right = path[:place], path[place:]
        steps = list(self._cheapest(left, known))
        made = {step.path for step in steps}
        turned = self._reversed(right)
        if right not in self._built and turned in self._built | made:
            steps += [self._transpose(right, turned)] if right not in made else []
        else:
            steps += [step for step in self._cheapest(right, known) if step.path not in made]
        return [*steps, self._compose(path, left, right)]

    def _compose(self, path: Metapath, left: Metapath, right: Metapath) -> Compose:
        x, y, result = self.degrees(left), self.degrees(right), self.degrees(path)
        words = words_of(len(result.into))
        return Compose(
            path,
            left,
            right,
            threshold=len(result.into) // BITMAP_PART,
            expansions=int(np.ceil(x.into @ y.out)),
            word_ors=int(np.ceil(x.into @ np.minimum(y.out, words))),
            exact=x.exact and y.exact,
            edges=result.edges,
            most_edges=result.most_edges,
            bitmap_bytes=_bitmap_bytes(x, y, words),
        )

    def _transpose(self, path: Metapath, source: Metapath) -> Transpose:
        result = self.degrees(source)
        return Transpose(path, source, result.edges, result.most_edges)

    def _reversed(self, path: Metapath) -> Metapath | None:
        """The path that runs the other way, None where a relation has no reverse."""
        if not all(name in self._reverses for name in path):
            return None
        return tuple(self._reverses[name] for name in reversed(path))


def _bitmap_bytes(left: Degrees, right: Degrees, words: int) -> int:
    """Memory of the bitmaps of dense rows, 0 where the ids that they save are not twice what making them takes."""
    dense = is_dense(right.out, words)
    saved = left.into[dense] @ (right.out[dense] - words)
    made = (right.out[dense] + words).sum()
    return int(np.ceil(_ID_BYTES * right.out[dense].sum())) if saved > 2 * made else 0


def _work(steps: list[Compose | Transpose]) -> _Work:
    composed = [step for step in steps if isinstance(step, Compose)]
    return _Work(sum(s.expansions for s in composed), sum(s.word_ors for s in composed), len(steps))


def _read_by(step: Compose | Transpose) -> tuple[Metapath, ...]:
    return (step.left, step.right) if isinstance(step, Compose) else (step.source,)


def _with_drops(steps: list[Compose | Transpose], kept: set[Metapath]) -> list[Step]:
    """The steps, each followed by drops of what it was the last to read."""
    readers: dict[Metapath, int] = {}
    for step in steps:
        for path in set(_read_by(step)):
            readers[path] = readers.get(path, 0) + 1
    result: list[Step] = []
    for step in steps:
        result.append(step)
        for path in dict.fromkeys(_read_by(step)):
            readers[path] -= 1
            if readers[path] == 0 and len(path) > 1 and path not in kept:
                result.append(Drop(path))
    return result


def _peak_bytes(steps: list[Step], trie: _Trie, metapaths: Mapping[str, Metapath], limit_bytes: int) -> int:
    """The most memory of the graphs that exist at once; refuses more than the limit."""
    live, peak = 0, 0
    for step in steps:
        size = trie.bytes_of(step.path)
        live += -size if isinstance(step, Drop) else size
        needed = live + (step.bitmap_bytes if isinstance(step, Compose) else 0)
        peak = max(peak, needed)
        if peak > limit_bytes:
            names = [name for name, path in metapaths.items() if path == step.path]
            what = f"semantic graph '{names[0]}'" if names else f"path {', '.join(step.path)} between metapaths"
            degrees = trie.degrees(step.path)
            raise LimitExceededError(
                f"the {what} is estimated at {counted(degrees.edges, 'edge')}, {counted(size, 'byte')}, and takes all "
                f"graphs that exist at once to {counted(needed, 'byte')}",
                f"at most {counted(limit_bytes, 'byte')}, the stated limit of memory",
                "state a higher limit, leave the metapath out, or use a model that aggregates along its relations",
            )
    return peak
