# SPDX-License-Identifier: Apache-2.0
"""Rows of nodes as affine sums of atoms, so that dense layers, concatenations and means over heads merge and move."""

import functools
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from hetfab.overlay.model.layers import is_identity

Matrix: TypeAlias = npt.NDArray[np.float64]


class TypesMixedError(Exception):
    """Nodes of two types would be one set."""

    def __init__(self, types: Collection[str]) -> None:
        super().__init__(f"it takes nodes of the types {' and '.join(sorted(types))} for the same nodes")


class Space:
    """A set of nodes that rows and ids may turn out to share: a type, or the rows of a learned table."""

    def __init__(self, node_type: str | None = None, rows: int | None = None) -> None:
        self._same: Space | None = None
        self._type, self._rows = node_type, rows

    def _root(self) -> "Space":
        return self if self._same is None else self._same._root()

    @property
    def node_type(self) -> str | None:
        """The node type, where features name it."""
        return self._root()._type

    @property
    def rows(self) -> int | None:
        """The number of nodes, where a constant fixes it."""
        return self._root()._rows

    def join(self, other: "Space") -> None:
        """Notes that both are one set.

        Raises:
            TypesMixedError: They are nodes of two types.
        """
        mine, others = self._root(), other._root()
        if mine is not others:
            types = {each._type for each in (mine, others) if each._type is not None}
            if len(types) > 1:
                raise TypesMixedError(types)
            others._same = mine
            mine._type = others._type if mine._type is None else mine._type
            mine._rows = others._rows if mine._rows is None else mine._rows

    def is_same(self, other: "Space") -> bool:
        """Whether both are known to be one set."""
        return self._root() is other._root()


@dataclass(frozen=True, eq=False)
class Atom:
    """Rows that something other than an affine map computes; ``source`` says what."""

    source: Any
    channels: int
    space: Space


@dataclass(frozen=True, eq=False)
class Term:
    """An atom times ``weight`` [channels of the atom, channels of the sum]; None is the identity."""

    atom: Atom
    weight: Matrix | None = None

    def matrix(self) -> Matrix:
        """The weight, written out."""
        return np.eye(self.atom.channels) if self.weight is None else self.weight


@dataclass(frozen=True, eq=False)
class Linear:
    """A sum of terms and a bias: rows [N, channels].

    Attributes:
        terms: At most one for each atom.
        bias: [channels] or None.
        channels: Columns.
        space: The nodes.
        name: The tensor of the model that it was first.
    """

    terms: tuple[Term, ...]
    bias: Matrix | None
    channels: int
    space: Space
    name: str = ""

    @staticmethod
    def of(atom: Atom, name: str = "") -> "Linear":
        """An atom as it is."""
        return Linear((Term(atom),), None, atom.channels, atom.space, name=name)

    @functools.cached_property
    def stored(self) -> "Linear":
        """The same rows as a tensor of their own."""
        if self.is_atom:
            return self
        return Linear.of(Atom(Sum(self), self.channels, self.space), self.name)

    @property
    def is_atom(self) -> bool:
        """Whether these are an atom's rows as they are."""
        return len(self.terms) == 1 and self.terms[0].weight is None and self.bias is None

    def times(self, matrix: Matrix, name: str = "") -> "Linear":
        """``self @ matrix``: of the stored rows, but what only scales or places columns goes into the terms.

        So does what is left of a single product when it is much narrower, such as scores of heads.
        """
        narrow = 2 * matrix.shape[1] <= self.channels or _chooses(self.terms[0].weight)
        if _chooses(matrix) or (len(self.terms) == 1 and self.bias is None and narrow):
            return self._times(matrix, name)
        return self.stored._times(matrix, name)

    def _times(self, matrix: Matrix, name: str) -> "Linear":
        terms = tuple(
            Term(term.atom, _plain(matrix if term.weight is None else term.weight @ matrix)) for term in self.terms
        )
        bias = None if self.bias is None else self.bias @ matrix
        return Linear(terms, bias, matrix.shape[1], self.space, name)

    def plus_row(self, row: Matrix, name: str = "") -> "Linear":
        """The same row added to all."""
        if not row.any():
            return self
        bias = row if self.bias is None else self.bias + row
        return Linear(self.terms, bias, self.channels, self.space, name=name)

    def plus(self, other: "Linear", name: str = "") -> "Linear":
        """The sum of both; terms of one atom become one."""
        self.space.join(other.space)
        weights: dict[int, Term] = {}
        for term in (*self.terms, *other.terms):
            found = weights.get(id(term.atom))
            weights[id(term.atom)] = term if found is None else Term(term.atom, found.matrix() + term.matrix())
        biases = [bias for bias in (self.bias, other.bias) if bias is not None]
        bias = sum(biases[1:], biases[0]) if biases else None
        return Linear(tuple(weights.values()), bias, self.channels, self.space, name=name)


def _plain(matrix: Matrix) -> Matrix | None:
    """A weight, None for the identity."""
    return None if is_identity(matrix) else matrix


def _chooses(matrix: Matrix | None) -> bool:
    """Whether each column of a product is a column of the rows times a number, or 0."""
    return matrix is None or bool(((matrix != 0).sum(axis=0) <= 1).all())


@dataclass(frozen=True, eq=False)
class Sum:
    """Rows that are stored, so that others read one tensor."""

    rows: Linear
