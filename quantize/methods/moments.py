# SPDX-License-Identifier: Apache-2.0
"""Second moments H of what a layer reads, and what methods ask of them.

Both forms are ``H = X^T X + r I`` for the rows X and the damping r. Where there are many rows H is a matrix. Where
there are fewer rows than half the input channels, as for a convolution whose image has become small, H is never written
down: a product with it is two with X, and what GPTQ passes on follows from matrices as small as the rows are few.
"""

from functools import cached_property
from typing import Protocol

import numpy as np
import numpy.typing as npt
import scipy.linalg

Doubles = npt.NDArray[np.float64]
Columns = npt.NDArray[np.int64] | slice

#: Input channels after which a matrix passes errors on together, and after which few rows do: with them the work of a
#: block is what grows with its size.
_MATRIX_BATCH, _ROWS_BATCH = 128, 32


class Carry(Protocol):
    """What GPTQ passes on from the input channels that it has rounded to those that follow, in ``Moments.order``."""

    def inner(self, block: slice) -> Doubles:
        """Shares that channels of a block pass on to each other, [B, B]; errors are over those on the diagonal."""

    def arrive(self, block: slice) -> None:
        """Passes to a block what earlier ones owe it."""

    def leave(self, block: slice, errors: Doubles) -> None:
        """Takes the errors [B, N] of a block that is rounded."""


class Slopes(Protocol):
    """The slope ``H e`` of the loss, as integers move."""

    def at(self, block: slice) -> Doubles:
        """Of the input channels of a block, [B, N]; a copy."""

    def move(self, block: slice, columns: Columns, change: Doubles) -> None:
        """Adds a change [B, M] to the errors of a block in M columns."""


class Moments(Protocol):
    """The matrix H, [K, K]."""

    @property
    def batch(self) -> int:
        """Input channels after which errors are passed on together."""

    @property
    def diagonal(self) -> Doubles:
        """Its diagonal, [K]."""

    @property
    def order(self) -> npt.NDArray[np.int64]:
        """Input channels by falling second moment."""

    def times(self, values: Doubles) -> Doubles:
        """``H v`` of values [K, N]."""

    def losses(self, errors: Doubles) -> Doubles:
        """``e^T H e`` of each column of [K, N]."""

    def block(self, block: slice) -> Doubles:
        """A block on the diagonal, [B, B]."""

    def slopes(self, errors: Doubles) -> Slopes:
        """Slopes at the errors [K, N]."""

    def carry(self, left: Doubles) -> Carry:
        """Passes errors on in weights [K, N] that are left to be rounded, which are in ``order``."""


class DenseMoments:
    """A matrix.

    Attributes:
        matrix: H, [K, K].
    """

    batch = _MATRIX_BATCH

    def __init__(self, matrix: Doubles) -> None:
        self.matrix = matrix

    @property
    def diagonal(self) -> Doubles:
        """Its diagonal, [K]."""
        return np.diag(self.matrix)

    @cached_property
    def order(self) -> npt.NDArray[np.int64]:
        """Input channels by falling second moment."""
        return falling(self.diagonal)

    @cached_property
    def factor(self) -> Doubles:
        """Upper Cholesky factor of the inverse in ``order``, [K, K].

        With ``H = V V^T`` and V upper triangular, ``H^-1 = V^-T V^-1``, so that the factor is ``V^-1``.
        """
        backwards = self.order[::-1]
        lower = scipy.linalg.cholesky(self.matrix[np.ix_(backwards, backwards)], lower=True, overwrite_a=True)
        upper = np.ascontiguousarray(lower[::-1, ::-1])
        inverse, _ = scipy.linalg.lapack.dtrtri(upper, lower=0, overwrite_c=1)
        return np.triu(inverse)

    def times(self, values: Doubles) -> Doubles:
        """``H v`` of values [K, N]."""
        return np.asarray(self.matrix @ values)

    def losses(self, errors: Doubles) -> Doubles:
        """``e^T H e`` of each column of [K, N]."""
        return np.asarray(np.einsum("kn,kn->n", errors, self.matrix @ errors))

    def block(self, block: slice) -> Doubles:
        """A block on the diagonal, [B, B]."""
        return self.matrix[block, block]

    def slopes(self, errors: Doubles) -> Slopes:
        """Slopes at the errors [K, N]."""
        return _DenseSlopes(self.matrix, self.matrix @ errors)

    def carry(self, left: Doubles) -> Carry:
        """Passes errors on in weights [K, N] that are left to be rounded, which are in ``order``."""
        return _DenseCarry(self.factor, left)


class _DenseSlopes:
    def __init__(self, matrix: Doubles, slopes: Doubles) -> None:
        self._matrix, self._slopes = matrix, slopes

    def at(self, block: slice) -> Doubles:
        return self._slopes[block].copy()

    def move(self, block: slice, columns: Columns, change: Doubles) -> None:
        self._slopes[:, columns] += self._matrix[:, block] @ change


class _DenseCarry:
    def __init__(self, factor: Doubles, left: Doubles) -> None:
        self._factor, self._left = factor, left

    def inner(self, block: slice) -> Doubles:
        return self._factor[block, block]

    def arrive(self, block: slice) -> None:
        """All was passed on at once."""

    def leave(self, block: slice, errors: Doubles) -> None:
        self._left[block.stop :] -= self._factor[block, block.stop :].T @ errors


class ThinMoments:
    """Few rows.

    Attributes:
        rows: X, [R, K], such that ``X^T X`` is the mean of the outer products.
        damping: r, on the diagonal.
    """

    batch = _ROWS_BATCH

    def __init__(self, rows: Doubles, damping: float) -> None:
        self.rows, self.damping = rows, damping
        self._blocks = dict[tuple[int, int], Doubles]()

    @cached_property
    def diagonal(self) -> Doubles:
        """Its diagonal, [K]."""
        return np.asarray(np.einsum("rk,rk->k", self.rows, self.rows) + self.damping)

    @cached_property
    def order(self) -> npt.NDArray[np.int64]:
        """Input channels by falling second moment."""
        return falling(self.diagonal)

    @cached_property
    def columns(self) -> Doubles:
        """Columns of X in ``order``, [K, R]."""
        return np.ascontiguousarray(self.rows.T[self.order])

    @cached_property
    def passed(self) -> Doubles:
        """What each channel in ``order`` passes on, [K, R]: to channel j its product with column j of X.

        Of the channels F that are not rounded yet, ``H_F^-1 = (I - X_F^T G X_F) / r`` with
        ``G = (r I + X_F X_F^T)^-1`` (Woodbury), and channel k, the first of them, passes
        ``[H_F^-1]_kj / [H_F^-1]_kk = -(G' x_k) x_j`` to channel j, where G' is G without k. From the last block B to
        the first, each is taken in by ``G = G' - P^T S^-1 P`` with ``P = X_B^T G'`` and ``S = I + P X_B``. With
        ``S = V V^T`` and V upper triangular, ``diag(V) V^-1 P`` is P with each channel's later ones of the block taken
        in.
        """
        columns = self.columns
        inverse = np.eye(len(self.rows)) / self.damping
        found = np.empty_like(columns)
        for end in range(len(columns), 0, -_MATRIX_BATCH):
            block = slice(max(end - _MATRIX_BATCH, 0), end)
            product = columns[block] @ inverse
            inner = product @ columns[block].T + np.eye(len(product))
            upper = scipy.linalg.cholesky(inner[::-1, ::-1], lower=True)[::-1, ::-1]
            solved = scipy.linalg.solve_triangular(upper, product)
            found[block] = -np.diag(upper)[:, None] * solved
            inverse -= solved.T @ solved
        return found

    def times(self, values: Doubles) -> Doubles:
        """``H v`` of values [K, N]."""
        return np.asarray(self.rows.T @ (self.rows @ values) + self.damping * values)

    def losses(self, errors: Doubles) -> Doubles:
        """``e^T H e`` of each column of [K, N]."""
        product = self.rows @ errors
        return np.asarray(
            np.einsum("rn,rn->n", product, product) + self.damping * np.einsum("kn,kn->n", errors, errors)
        )

    def block(self, block: slice) -> Doubles:
        """A block on the diagonal, [B, B]."""
        key = block.start, block.stop
        if key not in self._blocks:
            part = self.rows[:, block]
            self._blocks[key] = part.T @ part + self.damping * np.eye(part.shape[1])
        return self._blocks[key]

    def slopes(self, errors: Doubles) -> Slopes:
        """Slopes at the errors [K, N]."""
        return _ThinSlopes(self, errors)

    def carry(self, left: Doubles) -> Carry:
        """Passes errors on in weights [K, N] that are left to be rounded, which are in ``order``."""
        return _ThinCarry(self.columns, self.passed, left)


class _ThinSlopes:
    def __init__(self, moments: ThinMoments, errors: Doubles) -> None:
        self._moments, self._errors, self._product = moments, errors.copy(), moments.rows @ errors

    def at(self, block: slice) -> Doubles:
        return np.asarray(self._moments.rows[:, block].T @ self._product + self._moments.damping * self._errors[block])

    def move(self, block: slice, columns: Columns, change: Doubles) -> None:
        self._errors[block, columns] += change
        self._product[:, columns] += self._moments.rows[:, block] @ change


class _ThinCarry:
    def __init__(self, columns: Doubles, passed: Doubles, left: Doubles) -> None:
        self._columns, self._passed, self._left = columns, passed, left
        self._owed = np.zeros((columns.shape[1], left.shape[1]))

    def inner(self, block: slice) -> Doubles:
        found = self._passed[block] @ self._columns[block].T
        np.fill_diagonal(found, 1.0)
        return np.asarray(found)

    def arrive(self, block: slice) -> None:
        self._left[block] -= self._columns[block] @ self._owed

    def leave(self, block: slice, errors: Doubles) -> None:
        self._owed += self._passed[block].T @ errors


def falling(diagonal: Doubles) -> npt.NDArray[np.int64]:
    """Input channels by falling second moment."""
    return np.argsort(-diagonal, kind="stable")
