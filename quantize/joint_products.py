# SPDX-License-Identifier: Apache-2.0
"""Weights of the dense terms of one sum: their products are added as integers, so they have one scale per channel.

A product's scale is that of its weights times that of what they multiply. The coarsest of a sum's terms decides, and
the weights of the others are rounded to it.
"""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from hetfab.overlay.model.layers import Dense, FloatArray
from hetfab.quantize.ranges import ActivationRange
from hetfab.quantize.weights import LayerWeights, QuantizedWeights


def with_one_scale(
    terms: tuple[Dense, ...],
    weights: Mapping[str, LayerWeights],
    ranges: Mapping[str, ActivationRange],
    *,
    uniform: bool,
) -> dict[str, LayerWeights]:
    """The weights of a sum's dense terms, scales brought together.

    Args:
        terms: The dense terms.
        weights: Of each, with powers of two as scales.
        ranges: Of what they multiply.
        uniform: Whether all channels have one scale, as logits have.
    """
    of_products = [
        np.concatenate([part.exponents for part in weights[term.output].parts]) + ranges[term.input].exponent
        for term in terms
    ]
    shared = np.max(of_products, axis=0)
    shared = np.full_like(shared, shared.max()) if uniform else shared
    return {term.output: _at(term.weight, weights[term.output], shared - ranges[term.input].exponent) for term in terms}


def _at(weight: FloatArray, found: LayerWeights, exponents: npt.NDArray[np.int64]) -> LayerWeights:
    """Weights at other scales; channels whose scale stays keep their integers."""
    parts, first = [], 0
    for part in found.parts:
        columns = slice(first, first + len(part.exponents))
        parts.append(_rounded(weight[:, columns], part, exponents[columns]))
        first = columns.stop
    return replace(found, parts=tuple(parts))


def _rounded(weight: FloatArray, part: QuantizedWeights, exponents: npt.NDArray[np.int64]) -> QuantizedWeights:
    limit = (1 << (part.bits - 1)) - 1
    steps = np.rint(np.ldexp(weight.astype(np.float64), -exponents))
    moved = np.clip(steps, -limit, limit).astype(np.int64)
    integers = np.where(exponents == part.exponents, part.integers, moved)
    return replace(part, integers=integers, exponents=exponents)
