# SPDX-License-Identifier: Apache-2.0
"""What a method for weights is given: a layer's matrix, its width, and what the layer reads."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import scipy.sparse

from hetfab.quantize.methods.moments import DenseMoments, Doubles, Moments, ThinMoments
from hetfab.quantize.weights import LARGEST_SIGNIFICANCE, LOWEST_EXPONENT, FloatArray, QuantizedWeights
from hetfab.quantize.widths import POWER_OF_TWO_BITS

Matrix: TypeAlias = FloatArray | scipy.sparse.csr_matrix

#: Added to the diagonal of the second moments, as a share of its mean (Frantar et al., GPTQ, ICLR 2023, section 3.3).
_DAMPING = 0.01


@dataclass(frozen=True, eq=False)
class LayerInputs:
    """What a layer reads.

    Attributes:
        rows: Matrices [rows, K], one for each feed, rounded as the layer reads them.
    """

    rows: tuple[Matrix, ...]

    @cached_property
    def moments(self) -> Moments:
        """Mean of the outer products of rows, damped: H of GPTQ up to a factor."""
        count = sum(rows.shape[0] for rows in self.rows)
        if 2 * count < self.rows[0].shape[1] and not any(
            isinstance(rows, scipy.sparse.csr_matrix) for rows in self.rows
        ):
            thin = np.concatenate(self.rows).astype(np.float64) / np.sqrt(max(count, 1))
            return ThinMoments(thin, _damping(np.einsum("rk,rk->k", thin, thin)))
        moments = np.asarray(sum(_product(rows) for rows in self.rows) / max(count, 1), np.float64)
        diagonal = np.einsum("ii->i", moments)
        diagonal += _damping(diagonal)
        return DenseMoments(moments)

    @cached_property
    def mean(self) -> Doubles:
        """Mean of the rows, [K]."""
        total = sum(np.asarray(rows.sum(axis=0, dtype=np.float64)).reshape(-1) for rows in self.rows)
        return np.asarray(total / max(sum(rows.shape[0] for rows in self.rows), 1), np.float64)

    def largest_sum(self, integers: npt.NDArray[np.int64]) -> float:
        """Largest sum of magnitudes of products that a row makes with integer weights [K, N]."""
        magnitudes = np.abs(integers).astype(np.float32)
        return max((float((abs(rows) @ magnitudes).max(initial=0.0)) for rows in self.rows), default=0.0)


@dataclass(frozen=True, eq=False)
class LayerProblem:
    """A matrix to round.

    Attributes:
        weight: [K, N].
        bits: Width, 1 to 8.
        inputs: What it is multiplied with.
        shared_scale: One scale for all channels.
        significance: Most bits of a free scale's multiplier.
        lowest_exponent: Of a scale, where channels of other widths are in the same layer.
        free: Whether scales are other than powers of two; None for below 4 bits.
    """

    weight: FloatArray
    bits: int
    inputs: LayerInputs
    shared_scale: bool = False
    significance: int = LARGEST_SIGNIFICANCE
    lowest_exponent: int = LOWEST_EXPONENT
    free: bool | None = None

    @property
    def has_free_scales(self) -> bool:
        """Whether scales are other than powers of two."""
        return self.bits < POWER_OF_TWO_BITS if self.free is None else self.free

    def losses(self, restored: Doubles) -> Doubles:
        """Mean square error of each output channel, [N]: ``(w' - w)^T H (w' - w)``."""
        return self.inputs.moments.losses(restored - self.weight)


WeightMethod: TypeAlias = Callable[[LayerProblem], QuantizedWeights]


def _damping(diagonal: Doubles) -> float:
    return float(_DAMPING * float(diagonal.mean()) + np.finfo(np.float32).tiny)


def _product(rows: Matrix) -> Doubles:
    if isinstance(rows, scipy.sparse.csr_matrix):
        wide = rows.astype(np.float64)
        return np.asarray((wide.T @ wide).toarray())
    wide = rows.astype(np.float64)
    return np.asarray(wide.T @ wide)
