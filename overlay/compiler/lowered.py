# SPDX-License-Identifier: Apache-2.0
"""Integer layers: what each instruction sequence of a program computes, with all its numbers (docs/arithmetic.md)."""

import enum
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from hetfab.overlay.isa.attention import LOGIT_BITS
from hetfab.overlay.isa.spec import isa
from hetfab.overlay.layouts import padded
from hetfab.overlay.model.scales import Scales
from hetfab.overlay.program import Edges, Stack

IntArray: TypeAlias = npt.NDArray[np.int64]

#: A tensor or weights of at most this width can be held two in a byte.
_NIBBLE_BITS = 4
#: Of scores and logits of attention.
SCORE_BITS = LOGIT_BITS


class LayerKind(enum.Enum):
    """The vector operation that ends a layer; its value is the operation's name in the instruction set."""

    REQUANTIZE = "requantize"
    COMBINE = "combine"
    EXPORT_SUMS = "export_sums"
    EXPORT_ACCUMULATORS = "export_accumulators"
    NORMALIZE = "normalize"


@dataclass(frozen=True, eq=False)
class Stored:
    """A tensor of integers, or the logits.

    Attributes:
        name: Name in the model; of a feature tensor, the model input.
        channels: Columns.
        bits: 2 to 8, 16 for scores, or 32 for logits.
        signed: Whether its integers are signed.
        exponent: The scale is ``mantissa * 2**exponent``.
        origin: "features", "constant", "computed", "host" or "output".
        values: The integers of a constant, [rows, channels].
        mantissa: 1, except where the last layer has a free scale.
        order: Of the channels in their stored order, the model's numbers; None for the model's order.
        leading: Of features, the columns in their stored order that stand in rows, beside the non-zeros of the others;
            0 where all stand there, or none.
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
    leading: int = 0

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
        input: What is multiplied; of several tensors the first.
        weight: [K, N]; columns of 1 bit are bipolar, -1 or 1.
        weight_bits: Width of each column, [N], 1 to 8.
        bias: [N].
        scales: Of the result, [N].
        parts: Tensors whose rows stand side by side, each padded to whole blocks: the parts of the input, a stack, or
            several tensors; else none.
    """

    input: Stored
    weight: IntArray
    weight_bits: IntArray
    bias: IntArray
    scales: Scales
    parts: tuple[Stored, ...] = ()

    @property
    def reads(self) -> tuple[Stored, ...]:
        """Tensors with a row for each of the result."""
        return self.parts or (self.input,)

    @property
    def lengths(self) -> list[int]:
        """Rows of weights that each of them meets."""
        if not self.parts:
            return [len(self.weight)]
        return [padded(part.channels, isa().block_bytes) for part in self.parts]

    @property
    def signed_inputs(self) -> npt.NDArray[np.bool_]:
        """Whether the activations that each row of weights meets are signed, [K]."""
        return np.repeat([tensor.signed for tensor in self.reads], self.lengths)

    @property
    def largest_inputs(self) -> IntArray:
        """The largest magnitude of the activations that each row of weights meets, [K]."""
        largest = [tensor.highest + tensor.signed for tensor in self.reads]
        return np.repeat(np.array(largest, np.int64), self.lengths)

    @property
    def inputs(self) -> int:
        """Input channels, with those that pad parts."""
        return len(self.weight)

    @cached_property
    def largest_sums(self) -> IntArray:
        """The larger sum of weights of one sign, of each column as a magnitude, [N]."""
        up, down = (np.maximum(signed, 0).sum(axis=0) for signed in (self.weight, -self.weight))
        return np.asarray(np.maximum(up, down), np.int64)


@dataclass(frozen=True, eq=False)
class Additive:
    """Weights of edges from scores in Q.8, a softmax for each head: of the source, the destination and the edge's type.

    Attributes:
        source: int16 [sources, heads], None for zeros.
        destination: int16 [destinations, heads], None for zeros.
        types: int16 [types, heads], None for edges without types.
        slope: Of negative sums, in Q.12.
    """

    source: Stored | None
    destination: Stored | None
    types: Stored | None
    slope: int

    @property
    def scores(self) -> tuple[Stored, ...]:
        """All tensors that it reads."""
        return tuple(score for score in (self.source, self.destination, self.types) if score is not None)

    @property
    def heads(self) -> int:
        """Number of heads."""
        return self.scores[0].channels


@dataclass(frozen=True, eq=False)
class Product:
    """Weights of edges from products of a query and a key, a softmax for each head.

    Attributes:
        queries: [destinations, heads * A].
        keys: [sources, heads * A].
        heads: Number of heads.
        exponent: The scale of the products is ``2**exponent``.
    """

    queries: Stored
    keys: Stored
    heads: int
    exponent: int

    @property
    def scores(self) -> tuple[Stored, ...]:
        """All tensors that it reads."""
        return self.queries, self.keys


@dataclass(frozen=True, eq=False)
class Aggregation:
    """A sum of a stored tensor's rows over edges, by default their mean.

    Attributes:
        input: Rows of the sources.
        edges: The edges.
        attention: What weights them instead.
    """

    input: Stored
    edges: Edges
    attention: Additive | Product | None = None

    @property
    def reads(self) -> tuple[Stored, ...]:
        """All tensors that it reads."""
        return self.input, *(self.attention.scores if self.attention is not None else ())

    def reading(self, tensors: Mapping[str, Stored]) -> "Aggregation":
        """The same with other tensors in the place of those that are named."""

        def other(tensor: Stored) -> Stored:
            return tensors.get(tensor.name, tensor)

        attention = self.attention
        match attention:
            case Additive(source, destination, types):
                attention = replace(
                    attention,
                    source=source and other(source),
                    destination=destination and other(destination),
                    types=types and other(types),
                )
            case Product(queries, keys):
                attention = replace(attention, queries=other(queries), keys=other(keys))
        return replace(self, input=other(self.input), attention=attention)


@dataclass(frozen=True, eq=False)
class Table:
    """A unary function of integers.

    Attributes:
        bits: Width of its argument.
        signed: Whether the argument is signed.
        entries: Results in the order of the argument's bits read as unsigned, [2**bits].
    """

    bits: int
    signed: bool
    entries: IntArray


@dataclass(frozen=True, eq=False)
class Normalization:
    """LayerNorm or L2 of a layer's result in 16 bits, as ``overlay.isa.normalization`` states it.

    Attributes:
        gain: [C].
        offset: [C].
        factor: Channels, or 1 for L2.
        epsilon: In the units of the formula.
        centred: Whether the mean is subtracted.
        shift: After gain and offset.
    """

    gain: IntArray
    offset: IntArray
    factor: int
    epsilon: int
    centred: bool
    shift: int


@dataclass(frozen=True)
class HostStep:
    """An operator of the host between layers.

    Attributes:
        operator: The operator and its name.
        inputs: The tensors that it reads, by name.
        output: The tensor that it writes, by name; its origin is "host", of logits "output".
        model: The ONNX model that makes the one of the others.
    """

    operator: str
    inputs: tuple[str, ...]
    output: str
    model: bytes


@dataclass(frozen=True)
class StackPart:
    """Which part of a stacked tensor a tensor is."""

    whole: str
    number: int


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
            name: the parts that these are split into by their values. 0 where the matrix engines compute all of it.
        weighted: Whether AGG multiplies these rows by the features' values.
        table: The function of what is rounded, None for none.
        normalization: What becomes of the rows of ``NORMALIZE``, None otherwise.
        bias: Of a sum without a dense term, in its steps, [N]; None for none.
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
    table: Table | None = None
    normalization: Normalization | None = None
    bias: IntArray | None = None

    @property
    def operation(self) -> str:
        """Name of the vector operation."""
        wide = self.table is not None or self.output.bits == SCORE_BITS
        name = "requantize_joined" if self.leading else self.kind.value
        return f"{name}_function" if wide else name

    @property
    def from_sum(self) -> bool:
        """Whether AGG's sums take the place of the accumulators."""
        of_features = self.gathered and not self.leading
        return of_features or (self.kind is LayerKind.NORMALIZE and self.dense is None) or self.bias is not None

    @property
    def has_parameters(self) -> bool:
        """Whether VEC reads bias and multipliers."""
        return self.dense is not None or self.from_sum

    @property
    def is_loaded(self) -> bool:
        """Whether LOAD brings numbers of the layer for VEC."""
        return self.has_parameters or self.table is not None

    @property
    def gathered(self) -> bool:
        """Whether AGG computes the dense term, or what the matrix engines leave of it."""
        return self.parts > 0

    @property
    def leading(self) -> int:
        """Columns of the features that the matrix engines multiply where AGG sums the others."""
        return self.dense.input.leading if self.gathered and self.dense is not None else 0

    @cached_property
    def product(self) -> DenseTerm | None:
        """The dense term, or its part, that the matrix engines compute."""
        if self.leading and self.dense is not None:
            return replace(self.dense, weight=self.dense.weight[: self.leading])
        return None if self.gathered else self.dense

    @property
    def aggregates(self) -> bool:
        """Whether AGG has a part in it."""
        return self.gathered or bool(self.aggregations)


@dataclass(frozen=True, eq=False)
class LoweredModel:
    """Layers in topological order, and whose nodes each tensor's rows are.

    Attributes:
        layers: The layers.
        stored: All tensors in DRAM by name.
        node_types: Of each tensor, whose nodes its rows are; a stack's name where they are those of several types.
        fixed_counts: Nodes of types that a learned table fixes.
        output: The logits.
        lsb_exponent: Of the logits' LSB.
        stacks: Types whose rows are those of others.
        parts: Tensors that are parts of others.
        host: Operators of the host between the layers, in topological order.
    """

    layers: tuple[LoweredLayer, ...]
    stored: Mapping[str, Stored]
    node_types: Mapping[str, str]
    fixed_counts: Mapping[str, int]
    output: Stored
    lsb_exponent: int
    stacks: tuple[Stack, ...] = ()
    parts: Mapping[str, StackPart] = field(default_factory=dict)
    host: tuple[HostStep, ...] = ()

    def writers(self, name: str) -> list[int]:
        """The layers that write a tensor or parts of it, by number."""
        names = {name, *(part for part, place in self.parts.items() if place.whole == name)}
        found = [number for number, layer in enumerate(self.layers) if layer.output.name in names]
        return found or (self.writers(self.parts[name].whole) if name in self.parts else [])

    @cached_property
    def packed(self) -> frozenset[str]:
        """Tensors that can be stored two channels a byte."""
        return frozenset(tensor.name for tensor in self.stored.values() if self.packs(tensor))

    def packs(self, tensor: Stored) -> bool:
        """Whether a tensor can be stored two channels a byte: it is narrow enough, and so are all its readers.

        Aggregations read bytes; stacks, terms of one product and normalized rows are bytes; a matrix engine takes
        nibbles where weights have at most 4 bits.
        """
        stacked = tensor.name in self.parts or tensor.name in {part.whole for part in self.parts.values()}
        return (
            tensor.bits <= _NIBBLE_BITS
            and not stacked
            and not any(
                (layer.product is not None and tensor in layer.product.parts)
                or any(tensor in aggregation.reads for aggregation in layer.aggregations)
                or (layer.kind is LayerKind.NORMALIZE and layer.output is tensor)
                or (
                    layer.product is not None
                    and layer.product.input is tensor
                    and layer.product.weight_bits.max() > _NIBBLE_BITS
                )
                for layer in self.layers
            )
        )
