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
    Normalization,
    Stored,
)
from hetfab.overlay.errors import OperatorsUnsupportedError
from hetfab.overlay.isa.arithmetic import Q8_BITS
from hetfab.overlay.model.scales import LARGEST_POST_LEFT, LARGEST_POST_SHIFT, Scales, requantization, scales_too_far

_OUTPUT_BITS = 32
#: Of a unit matrix.
_UNIT_BITS = 2


@dataclass(frozen=True, eq=False)
class Sum:
    """Terms in Q.8 of the scale ``2**exponent`` (of the aggregated tensors; one step is ``2**(exponent - 8)``).

    Without a dense term there may be a bias in these steps, [N].
    """

    exponent: int
    dense: DenseTerm | None
    aggregations: tuple[Aggregation, ...]
    bias: IntArray | None = None


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
        case Sum(dense=dense, aggregations=means):
            return means[0].input.channels if dense is None else int(dense.weight.shape[1])


def rounded_layer(value: DenseTerm | Sum | Rectified, output: Stored) -> LoweredLayer:
    """The layer that rounds a result to ``output``.

    Raises:
        ModelStructureError: Scales are too far apart.
    """
    relu = isinstance(value, Rectified)
    inner = value.value if isinstance(value, Rectified) else value
    if isinstance(inner, DenseTerm):
        multiplier, shift = requantization(inner.scales, output.exponent, output.name)
        return LoweredLayer(LayerKind.REQUANTIZE, output, inner, multiplier, shift, (), 0, 0, relu)
    if inner.bias is not None:
        return _from_sum(LayerKind.REQUANTIZE, inner, output.exponent, output, relu=relu)
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
        case Sum(exponent, dense=None, bias=bias) if bias is not None:
            output = Stored(name, channels_of(value), _OUTPUT_BITS, True, exponent - Q8_BITS, "output")
            kind, none = LayerKind.EXPORT_ACCUMULATORS, np.zeros(0, np.int64)
            return LoweredLayer(kind, output, None, none, 0, value.aggregations, 0, 0, False, bias=bias), exponent
        case Sum(exponent, bias=None):
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
        multiplier, shift = requantization(value.dense.scales, unit, output.name)
    distance = output.exponent - unit if kind is LayerKind.COMBINE else 0
    if not -LARGEST_POST_LEFT <= distance <= LARGEST_POST_SHIFT:
        raise scales_too_far(output.name)
    post_left, post_shift = max(0, -distance), max(0, distance)
    return LoweredLayer(kind, output, value.dense, multiplier, shift, value.aggregations, post_left, post_shift, relu)


def normalized_layer(
    value: DenseTerm | Sum, exponent: int, output: Stored, normalization: Normalization
) -> LoweredLayer:
    """The layer that normalizes rows of a result.

    Args:
        value: A dense layer, or a sum without one.
        exponent: Of the scale of what is normalized.
        output: The normalized rows.
        normalization: Its numbers.

    Raises:
        ModelStructureError: Scales are too far apart.
        OperatorsUnsupportedError: The sum has a dense term.
    """
    kind = LayerKind.NORMALIZE
    if isinstance(value, DenseTerm):
        multiplier, shift = requantization(value.scales, exponent, output.name)
        return LoweredLayer(kind, output, value, multiplier, shift, (), 0, 0, False, normalization=normalization)
    return _from_sum(kind, value, exponent, output, normalization=normalization)


def _from_sum(
    kind: LayerKind,
    value: Sum,
    exponent: int,
    output: Stored,
    *,
    relu: bool = False,
    normalization: Normalization | None = None,
) -> LoweredLayer:
    """A sum with a bias takes the place of the accumulators; VEC adds and multiplies as in a dense layer."""
    if value.dense is not None:
        raise OperatorsUnsupportedError(
            f"the sum that becomes '{output.name}' has a dense term and is normalized, or has a bias of its own",
            "a dense layer, or a sum of aggregations",
            "quantize the float model again with this hetfab",
        )
    count = output.channels
    unit = Scales(np.ones(count, np.int64), np.full(count, value.exponent - Q8_BITS))
    multiplier, shift = requantization(unit, exponent, output.name)
    bias = np.zeros(count, np.int64) if value.bias is None else value.bias
    return LoweredLayer(
        kind, output, None, multiplier, shift, value.aggregations, 0, 0, relu, normalization=normalization, bias=bias
    )


def requantized_copy(source: Stored, output: Stored) -> LoweredLayer:
    """The layer that writes a tensor's rows to another place: a product with the unit matrix."""
    count = source.channels
    scales = Scales(np.ones(count, np.int64), np.full(count, source.exponent, np.int64))
    unit = np.eye(count, dtype=np.int64)
    bits = np.full(count, _UNIT_BITS)
    dense = DenseTerm(source, unit, bits, np.zeros(count, np.int64), scales)
    return rounded_layer(dense, output)
