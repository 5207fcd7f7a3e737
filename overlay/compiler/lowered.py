# SPDX-License-Identifier: Apache-2.0
"""Integer layers: what each instruction sequence of a program computes, with all its numbers (docs/arithmetic.md)."""

import enum
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from hetfab.overlay.model.edges import EdgeSet
from hetfab.overlay.model.scales import Scales

IntArray: TypeAlias = npt.NDArray[np.int64]

#: A tensor or weights of at most this width can be held two in a byte.
_NIBBLE_BITS = 4


class LayerKind(enum.Enum):
    """The vector operation that ends a layer; its value is the operation's name in the instruction set."""

    REQUANTIZE = "requantize"
    COMBINE = "combine"
    EXPORT_SUMS = "export_sums"
    EXPORT_ACCUMULATORS = "export_accumulators"


@dataclass(frozen=True, eq=False)
class Stored:
    """A tensor of integers, or the logits.

    Attributes:
        name: Name in the model; of a feature tensor, the model input.
        channels: Columns.
        bits: 2 to 8, or 32 for logits.
        signed: Whether its integers are signed.
        exponent: The scale is ``mantissa * 2**exponent``.
        origin: "features", "constant", "computed" or "output".
        values: The integers of a constant, [rows, channels].
        mantissa: 1, except where the last layer has a free scale.
        order: Of the channels in their stored order, the model's numbers; None for the model's order.
    """

    name: str
    channels: int
    bits: int
    signed: bool
    exponent: int
    origin: str
    values: IntArray | None = None
    mantissa: int = 1
    order: IntArray | None = None

    @property
    def scale(self) -> float:
        """Value of one step."""
        return math.ldexp(self.mantissa, self.exponent)

    @property
    def highest(self) -> int:
        """Largest integer."""
        return (1 << (self.bits - self.signed)) - 1

    @property
    def item_bytes(self) -> int:
        """Bytes of an integer where it is not packed."""
        return -(-self.bits // 8)


@dataclass(frozen=True, eq=False)
class DenseTerm:
    """``input @ weight + bias`` in integers.

    Attributes:
        input: What is multiplied.
        weight: [K, N]; columns of 1 bit are bipolar, -1 or 1.
        weight_bits: Width of each column, [N], 1 to 8.
        bias: [N].
        scales: Of the result, [N].
    """

    input: Stored
    weight: IntArray
    weight_bits: IntArray
    bias: IntArray
    scales: Scales


@dataclass(frozen=True, eq=False)
class Aggregation:
    """Mean of a stored tensor's rows over edges."""

    input: Stored
    edges: EdgeSet


@dataclass(frozen=True, eq=False)
class LoweredLayer:
    """One layer of the overlay.

    Attributes:
        kind: How it ends.
        output: What it writes.
        dense: Its dense term, if any.
        multiplier: [N], of the dense term's requantization.
        shift: Of the dense term's requantization.
        aggregations: Its aggregated terms, summed in Q.8.
        post_left: Left shift of the sum before ``post_shift``.
        post_shift: Right shift of the sum.
        relu: Whether negative results become 0.
        parts: Where AGG computes the dense term, summing for each vertex the rows of weights that its non-zero features
            name: the parts that these are split into by their values. 0 where the matrix engines compute it.
        weighted: Whether AGG multiplies these rows by the features' values.
    """

    kind: LayerKind
    output: Stored
    dense: DenseTerm | None
    multiplier: IntArray
    shift: int
    aggregations: tuple[Aggregation, ...]
    post_left: int
    post_shift: int
    relu: bool
    parts: int = 0
    weighted: bool = False

    @property
    def gathered(self) -> bool:
        """Whether AGG computes the dense term."""
        return self.parts > 0

    @property
    def product(self) -> DenseTerm | None:
        """The dense term, if the matrix engines compute it."""
        return None if self.gathered else self.dense

    @property
    def aggregates(self) -> bool:
        """Whether AGG has a part in it."""
        return self.gathered or bool(self.aggregations)


@dataclass(frozen=True, eq=False)
class LoweredModel:
    """Layers in topological order, and whose nodes each tensor's rows are."""

    layers: tuple[LoweredLayer, ...]
    stored: Mapping[str, Stored]
    node_types: Mapping[str, str]
    fixed_counts: Mapping[str, int]
    output: Stored
    lsb_exponent: int

    def packs(self, tensor: Stored) -> bool:
        """Whether a tensor can be stored two channels a byte: it is narrow enough, and so are all its readers.

        Aggregations read bytes; a matrix engine takes nibbles where its weights have at most 4 bits too.
        """
        return tensor.bits <= _NIBBLE_BITS and not any(
            any(aggregation.input is tensor for aggregation in layer.aggregations)
            or (
                layer.product is not None
                and layer.product.input is tensor
                and layer.product.weight_bits.max() > _NIBBLE_BITS
            )
            for layer in self.layers
        )
