# SPDX-License-Identifier: Apache-2.0
"""Ends a layer: a dense term or a sum in Q.8 becomes what VEC does with it, with multipliers and shifts in range."""

from dataclasses import dataclass

import numpy as np

from hetfab.overlay.compiler.lowered import (
    Aggregation,
    DenseTerm,
    IntArray,
    LayerKind,
    LoweredLayer,
    Scales,
    Stored,
)
from hetfab.overlay.errors import ModelStructureError, OperatorsUnsupportedError
from hetfab.overlay.isa.arithmetic import Q8_BITS
from hetfab.overlay.isa.spec import isa

#: Of an output channel's multiplier.
LARGEST_MULTIPLIER = (1 << isa().record("parameter").bits("multiplier")) - 1
_LARGEST_SHIFT = isa().operation("combine").field("shift").largest
_LARGEST_POST_LEFT = isa().operation("combine").field("post_left").largest
_OUTPUT_BITS = 32


@dataclass(frozen=True, eq=False)
class Sum:
    """Terms in Q.8 of the scale ``2**exponent`` (of the aggregated tensors; one step is ``2**(exponent - 8)``)."""

    exponent: int
    dense: DenseTerm | None
    aggregations: tuple[Aggregation, ...]


@dataclass(frozen=True, eq=False)
class Rectified:
    """A dense term or a sum whose negative results become 0."""

    value: "DenseTerm | Sum"


def channels_of(value: DenseTerm | Sum | Rectified) -> int:
    """Channels of a layer's result."""
    match value:
        case Rectified(inner):
            return channels_of(inner)
        case DenseTerm():
            return int(value.weight.shape[1])
        case Sum(_, dense, means):
            return means[0].input.channels if dense is None else int(dense.weight.shape[1])


def rounded_layer(value: DenseTerm | Sum | Rectified, output: Stored) -> LoweredLayer:
    """The layer that rounds a result to ``output``.

    Raises:
        ModelStructureError: Scales are too far apart.
    """
    relu = isinstance(value, Rectified)
    inner = value.value if isinstance(value, Rectified) else value
    if isinstance(inner, DenseTerm):
        multiplier, shift = _requantization(inner.scales, output.exponent, output.name)
        return LoweredLayer(LayerKind.REQUANTIZE, output, inner, multiplier, shift, (), 0, 0, relu)
    return _sum_layer(LayerKind.COMBINE, inner, output, relu=relu)


def exported_layer(value: object, name: str) -> tuple[LoweredLayer, int]:
    """The layer that writes the logits, and the exponent of their LSB.

    Args:
        value: What is known of the model's output.
        name: The output.

    Raises:
        OperatorsUnsupportedError: It has several scales, or is rounded.
        ModelStructureError: Scales are too far apart.
    """
    match value:
        case Sum(exponent):
            output = Stored(name, channels_of(value), _OUTPUT_BITS, True, exponent - Q8_BITS, "output")
            return _sum_layer(LayerKind.EXPORT_SUMS, value, output, relu=False), exponent
        case DenseTerm() if value.scales.uniform:
            mantissa, exponent = int(value.scales.mantissas[0]), int(value.scales.exponents[0])
            output = Stored(name, channels_of(value), _OUTPUT_BITS, True, exponent, "output", mantissa=mantissa)
            none = np.zeros(0, np.int64)
            layer = LoweredLayer(LayerKind.EXPORT_ACCUMULATORS, output, value, none, 0, (), 0, 0, False)
            return layer, value.input.exponent
    raise OperatorsUnsupportedError(
        f"the output '{name}' is neither a sum in Q.8 nor a dense layer with one scale for all classes",
        "logits at one scale",
        "quantize the float model again with this hetfab",
    )


def _sum_layer(kind: LayerKind, value: Sum, output: Stored, *, relu: bool) -> LoweredLayer:
    unit = value.exponent - Q8_BITS
    multiplier, shift = np.zeros(0, np.int64), 0
    if value.dense is not None:
        multiplier, shift = _requantization(value.dense.scales, unit, output.name)
    distance = output.exponent - unit if kind is LayerKind.COMBINE else 0
    if not -_LARGEST_POST_LEFT <= distance <= _LARGEST_SHIFT:
        raise _too_far(output.name)
    post_left, post_shift = max(0, -distance), max(0, distance)
    return LoweredLayer(kind, output, value.dense, multiplier, shift, value.aggregations, post_left, post_shift, relu)


def _requantization(scales: Scales, target: int, name: str) -> tuple[IntArray, int]:
    """Multipliers and shift that bring ``scales`` to ``2**target``; a left shift by j is a multiplier times 2^j."""
    right = target - scales.exponents
    shift = max(0, int(right.max()))
    left = shift - right
    if shift > _LARGEST_SHIFT or np.any(np.ldexp(scales.mantissas.astype(np.float64), left) > LARGEST_MULTIPLIER):
        raise _too_far(name)
    return np.left_shift(scales.mantissas, left), shift


def _too_far(name: str) -> ModelStructureError:
    return ModelStructureError(
        f"the scales before and after '{name}' are too far apart for a 16-bit multiplier and a 6-bit shift",
        "scales of one layer within 2^16 of each other and of the result's",
        "quantize the float model again with this hetfab",
    )
