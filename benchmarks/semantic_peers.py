# SPDX-License-Identifier: Apache-2.0
"""What semantic graph builds are compared with: scipy in its best order, and other ways to reuse parts."""

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import scipy.sparse

from hetfab.overlay.semantic.adjacency import Adjacency
from hetfab.overlay.semantic.plan import Metapath

#: An order of products: the number of a relation in its path, or two orders.
Order: TypeAlias = int | tuple["Order", "Order"]


def scipy_ways(
    path: Metapath, relations: Mapping[str, Adjacency], reverses: Mapping[str, str]
) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Every way that scipy is tried in: all orders, and half the path times its transpose, on bool and float32.

    Args:
        path: A metapath.
        relations: Each relation by name.
        reverses: Each relation's reverse by name.

    Yields:
        A name, and what computes the product from matrices that are there.
    """
    half = len(path) // 2
    symmetric = len(path) % 2 == 0 and all(
        reverses.get(left) == right for left, right in zip(path[:half], reversed(path[half:]), strict=True)
    )
    for kind in (np.bool_, np.float32):
        factors = [_matrix(relations[name], kind) for name in path]
        for order in _orders(0, len(path)):
            yield f"{_shown(order)} {kind.__name__}", functools.partial(_product, order, factors)
        if symmetric:
            yield f"half and its transpose, {kind.__name__}", functools.partial(_half_squared, factors[:half])


def _matrix(graph: Adjacency, kind: type[np.generic]) -> Any:
    arrays = np.ones(graph.edges, kind), graph.ids.astype(np.int32), graph.starts.astype(np.int32)
    return scipy.sparse.csr_matrix(arrays, shape=(graph.rows, graph.columns))


def _orders(first: int, end: int) -> Iterator[Order]:
    if end - first == 1:
        yield first
    for place in range(first + 1, end):
        for left in _orders(first, place):
            for right in _orders(place, end):
                yield left, right


def _shown(order: Order) -> str:
    return str(order) if isinstance(order, int) else f"({_shown(order[0])} {_shown(order[1])})"


def _product(order: Order, factors: Sequence[Any]) -> Any:
    return factors[order] if isinstance(order, int) else _product(order[0], factors) @ _product(order[1], factors)


def _half_squared(factors: Sequence[Any]) -> Any:
    half = factors[0]
    for factor in factors[1:]:
        half = half @ factor
    return half @ half.T


class ReuseCounts:
    """Expansions of ways to build several metapaths, counted on the graphs that they meet."""

    def __init__(self, relations: Mapping[str, Adjacency]) -> None:
        """Takes each relation by name."""
        self._relations = relations
        self._degrees: dict[Metapath, tuple[Any, Any]] = {}

    def naive(self, paths: Sequence[Metapath]) -> int:
        """Each metapath from left to right, nothing reused."""
        return sum(self._expansions(path[:end], path[end : end + 1]) for path in paths for end in range(1, len(path)))

    def prefix_trie(self, paths: Sequence[Metapath]) -> int:
        """From left to right, each common beginning once."""
        built = {path[: end + 1] for path in paths for end in range(1, len(path))}
        return sum(self._expansions(path[:-1], path[-1:]) for path in built)

    def longest_match(self, paths: Sequence[Metapath]) -> int:
        """Shorter metapaths first; the longest part that is there, then the longest that continues it, and so on."""
        built: set[Metapath] = {(name,) for name in self._relations}
        total = 0
        for path in sorted(dict.fromkeys(paths), key=len):
            place = _longest(path, 0, built)
            while place < len(path):
                end = _longest(path, place, built)
                total += self._expansions(path[:place], path[place:end])
                built.add(path[:end])
                place = end
        return total

    def _expansions(self, left: Metapath, right: Metapath) -> int:
        return int(self._of(left)[1] @ self._of(right)[0])

    def _of(self, path: Metapath) -> tuple[Any, Any]:
        """Out-degrees and in-degrees of a path's graph, int64."""
        if path not in self._degrees:
            reach = _matrix(self._relations[path[0]], np.bool_)
            for name in path[1:]:
                reach = reach @ _matrix(self._relations[name], np.bool_)
            into = np.bincount(reach.indices, minlength=reach.shape[1]).astype(np.int64)
            self._degrees[path] = np.diff(reach.indptr).astype(np.int64), into
        return self._degrees[path]


def _longest(path: Metapath, first: int, built: set[Metapath]) -> int:
    """Where the longest part that begins at ``first`` and is there ends."""
    return max(end for end in range(first + 1, len(path) + 1) if path[first:end] in built)
