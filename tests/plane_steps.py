# SPDX-License-Identifier: Apache-2.0
"""Dot products as steps of GEMM-L's processing element, written from the definition: planes of slices of words."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

LANES = 32
SLICE_BITS = 4
BIPOLAR, NEGATIVE, LAST, CLEAR, NEXT_SLICE = (1 << bit for bit in range(5))


@dataclass(frozen=True)
class Steps:
    """Inputs of the element, and what belongs into the bias.

    Attributes:
        slices: uint8 [steps, 16], 32 nibbles each, the even channel in the low nibble.
        planes: uint32 [steps], bit i is channel i.
        controls: uint8 [steps].
        ends: int64 [dots], the step that finishes each dot product.
        corrections: int64 [dots], to be added to the result.
    """

    slices: npt.NDArray[np.uint8]
    planes: npt.NDArray[np.uint32]
    controls: npt.NDArray[np.uint8]
    ends: npt.NDArray[np.int64]
    corrections: npt.NDArray[np.int64]


def steps_of(
    weights: npt.NDArray[np.int64], activations: npt.NDArray[np.int64], weight_bits: int, act_bits: int, signed: bool
) -> Steps:
    """The steps of dot products over the last axis, back to back.

    Args:
        weights: [dots, channels]; with one bit -1 or +1.
        activations: [dots, channels].
        weight_bits: 1..8.
        act_bits: 2..8.
        signed: Whether activations are.
    """
    dots, channels = weights.shape
    words = -(-channels // LANES)
    padding = ((0, 0), (0, words * LANES - channels))
    stored_bits = SLICE_BITS if act_bits <= SLICE_BITS else 2 * SLICE_BITS
    offset = 1 << (stored_bits - 1) if signed else 0
    bipolar = weight_bits == 1
    # A padded channel has activation 0 and, where every bit counts, the weight +1: its offset is taken off too.
    bits = (weights > 0).astype(np.int64) if bipolar else weights
    padded_bits = np.pad(bits, padding, constant_values=1 if bipolar else 0)
    padded_weights = np.pad(weights, padding, constant_values=1 if bipolar else 0)
    stored = np.pad(activations, padding) + offset

    slices, planes, controls = [], [], []
    for part in reversed(range(stored_bits // SLICE_BITS)):
        for word in range(words):
            lanes = slice(word * LANES, (word + 1) * LANES)
            nibbles = stored[:, lanes] >> (part * SLICE_BITS) & 15
            for plane in reversed(range(weight_bits)):
                last, first_part = plane == 0, part == stored_bits // SLICE_BITS - 1
                control = BIPOLAR if bipolar else NEGATIVE if plane == weight_bits - 1 else 0
                control |= LAST if last else 0
                control |= CLEAR if last and word == 0 and first_part else 0
                control |= NEXT_SLICE if last and word == 0 and not first_part else 0
                slices.append(nibbles[:, 0::2] | nibbles[:, 1::2] << 4)
                planes.append(((padded_bits[:, lanes] >> plane & 1) << np.arange(LANES)).sum(axis=1))
                controls.append(np.full(dots, control))
    corrections = -offset * padded_weights.sum(axis=1)
    if bipolar:
        corrections -= ((1 << stored_bits) - 1) * (padded_weights < 0).sum(axis=1)
    each = len(planes)
    return Steps(
        np.stack(slices, axis=1).astype(np.uint8).reshape(dots * each, -1),
        np.stack(planes, axis=1).astype(np.uint32).ravel(),
        np.stack(controls, axis=1).astype(np.uint8).ravel(),
        np.arange(1, dots + 1) * each - 1,
        corrections,
    )
