# SPDX-License-Identifier: Apache-2.0
"""What a tensor of an exported model means: constants, rows of nodes, ids of edges, values of edges, marks of edges.

Shapes leave out the first axis, that of nodes or edges.
"""

import enum
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from hetfab.overlay.model.binding import End
from hetfab.overlay.model.lifting.linear import Linear, Matrix, Space

Shape: TypeAlias = tuple[int, ...]
Array: TypeAlias = npt.NDArray[Any]


class Loops(enum.Enum):
    """What a model does with edges from a node to itself."""

    KEPT = "kept"
    REMOVED = "removed"
    REPLACED = "replaced"
    ADDED = "added"


@dataclass(frozen=True, eq=False)
class EdgeInput:
    """An input ``edge_index`` [2, E]; ``kinds`` names the input with the edges' types and says how many there are."""

    name: str
    source: Space
    destination: Space
    kinds: tuple[str, int] | None = None


@dataclass(frozen=True)
class Block:
    """Edges of one input, of one type where it has types."""

    edges: EdgeInput
    kind: int | None = None
    loops: Loops = Loops.KEPT

    def space(self, end: End) -> Space:
        """The nodes at an end."""
        return self.edges.source if end is End.SOURCE else self.edges.destination


Blocks: TypeAlias = tuple[Block, ...]


@dataclass(frozen=True, eq=False)
class Known:
    """A tensor that follows from constants and sizes; ``array`` is its value on the probe graph."""

    array: Array
    free: bool = False

    def uniform(self) -> float | None:
        """The one value that all its elements have, None where they differ or there are none."""
        flat = self.array.reshape(-1)
        return float(flat[0]) if flat.size and (flat == flat[0]).all() else None


@dataclass(frozen=True, eq=False)
class Rows:
    """Rows of nodes, [N, *shape]."""

    linear: Linear
    shape: Shape


@dataclass(frozen=True, eq=False)
class StackedRows:
    """Rows of several tensors along a new first axis, [M, N, *shape]."""

    parts: tuple[Linear, ...]
    shape: Shape


@dataclass(frozen=True, eq=False)
class Part:
    """Rows with a new first axis, [1, N, *shape]."""

    linear: Linear
    shape: Shape


@dataclass(frozen=True, eq=False)
class Mixture:
    """Stacked rows as one tensor of the lifted model, [M * N, *shape]."""

    linear: Linear
    parts: int
    shape: Shape


@dataclass(frozen=True, eq=False)
class PartMeans:
    """The mean over the nodes of each part, [M, C]; ``shares`` once a softmax over parts is taken."""

    linear: Linear
    parts: int
    shares: bool = False


@dataclass(frozen=True, eq=False)
class SharedParts:
    """Stacked rows times the parts' shares."""

    parts: tuple[Linear, ...]
    weights: Linear
    shape: Shape


@dataclass(frozen=True, eq=False)
class RowLength:
    """The Euclidean length of rows, at least ``smallest``."""

    linear: Linear
    smallest: float = 0.0


@dataclass(frozen=True)
class EdgeIndex:
    """Both ends of edges, [2, E]; ``turned`` where it is [E, 2]."""

    blocks: Blocks
    turned: bool = False


@dataclass(frozen=True)
class EdgeIds:
    """One end of edges, [E] or spread over further axes."""

    blocks: Blocks
    end: End


@dataclass(frozen=True, eq=False)
class EdgeKinds:
    """The types of edges, [E]."""

    edges: EdgeInput


@dataclass(frozen=True)
class Mask:
    """Which edges are of a type, or, where ``kind`` is None, which lead from a node to itself or do not."""

    edges: EdgeInput
    kind: int | None
    loops: bool = False


@dataclass(frozen=True)
class Positions:
    """The positions of the edges that a mask marks."""

    mask: Mask


# Expressions over the edges of one block.


@dataclass(frozen=True, eq=False)
class AtNode:
    """Rows of the node at an end."""

    end: End
    linear: Linear
    shape: Shape


@dataclass(frozen=True, eq=False)
class Fixed:
    """The same numbers for all edges."""

    array: Matrix
    shape: Shape


@dataclass(frozen=True, eq=False)
class Plus:
    """Both added; operands have the shape of the sum."""

    left: "Expression"
    right: "Expression"
    shape: Shape


@dataclass(frozen=True, eq=False)
class Times:
    """Both multiplied, spread over each other's axes of size 1."""

    left: "Expression"
    right: "Expression"
    shape: Shape


@dataclass(frozen=True, eq=False)
class Leaky:
    """LeakyRelu."""

    of: "Expression"
    slope: float
    shape: Shape


@dataclass(frozen=True, eq=False)
class Product:
    """The product of a row of the destination and one of the source, for each head: [heads]."""

    queries: Linear
    keys: Linear
    shape: Shape


@dataclass(frozen=True, eq=False)
class Exponential:
    """The exponential of logits, less a number of the destination."""

    logits: "Expression"
    shape: Shape
    shifted: bool = False


@dataclass(frozen=True, eq=False)
class Shares:
    """A softmax of logits over all edges of ``scope`` into a destination."""

    logits: "Expression"
    scope: Blocks
    shape: Shape


@dataclass(frozen=True, eq=False)
class AtSpecial:
    """What ``NodeSpecial`` has for the node at an end."""

    end: End
    special: "NodeSpecial"
    shape: Shape


Expression: TypeAlias = AtNode | Fixed | Plus | Times | Leaky | Product | Exponential | Shares | AtSpecial


@dataclass(frozen=True, eq=False)
class OfBlocks:
    """An expression for each block."""

    parts: tuple[tuple[Block, Expression], ...]

    @property
    def blocks(self) -> Blocks:
        """The edges."""
        return tuple(block for block, _ in self.parts)


@dataclass(frozen=True, eq=False)
class EdgeRows(OfBlocks):
    """Values of edges, [E, *shape]."""

    shape: Shape


class Special(enum.Enum):
    """Numbers of nodes that only attention, means and normalizations know what to do with."""

    LARGEST = "the largest value of incoming edges"
    TOTAL = "the sum of incoming exponentials"
    DEGREE = "the number of incoming edges"
    CLAMPED = "the number of incoming edges, at least 1"
    INVERSE_ROOT = "1 / sqrt of the number of incoming edges"


@dataclass(frozen=True, eq=False)
class NodeSpecial(OfBlocks):
    """A number, or one for each head, that is summed up over edges into a node."""

    kind: Special
    maker: str


@dataclass(frozen=True)
class Infinite:
    """Where ``of`` is infinite."""

    of: NodeSpecial


class Blocked:
    """A tensor behind something that is not recognised."""


Value: TypeAlias = (
    Known
    | Rows
    | StackedRows
    | Part
    | Mixture
    | PartMeans
    | SharedParts
    | RowLength
    | EdgeIndex
    | EdgeIds
    | EdgeKinds
    | Mask
    | Positions
    | EdgeRows
    | NodeSpecial
    | Infinite
    | Blocked
)


def reshaped(expression: Expression, shape: Shape) -> Expression:
    """The same numbers with other axes."""
    return expression if expression.shape == shape else replace(expression, shape=shape)


def width(shape: Shape) -> int:
    """Numbers in a row."""
    return int(np.prod(shape, dtype=np.int64))


# What atoms of the lifted model stand for.


@dataclass(frozen=True)
class Stored:
    """An input with features."""

    name: str


@dataclass(frozen=True, eq=False)
class Table:
    """A learned row for each node."""

    array: Array
    name: str


@dataclass(frozen=True, eq=False)
class Applied:
    """An operator that is copied: its node, and its operands, rows or constants, in order."""

    node: Any
    operands: tuple[Linear | Array, ...]


@dataclass(frozen=True, eq=False)
class Segment:
    """The sum or mean of the source's rows over incoming edges."""

    block: Block
    rows: Linear
    mean: bool = False


@dataclass(frozen=True, eq=False)
class Weighted:
    """The sum of the source's rows, weighted by 1 / sqrt of both ends' numbers of incoming edges."""

    block: Block
    rows: Linear


@dataclass(frozen=True, eq=False)
class Additive:
    """Attention by scores of both ends: one softmax over all blocks, each with values and source scores of its own."""

    blocks: Blocks
    values: tuple[Linear, ...]
    sources: tuple[Linear, ...]
    destinations: Linear
    slope: float
    heads: int


@dataclass(frozen=True, eq=False)
class Dot:
    """Attention by products of queries and keys: one softmax over all blocks, each with values and keys of its own."""

    blocks: Blocks
    values: tuple[Linear, ...]
    queries: Linear
    keys: tuple[Linear, ...]
    heads: int


@dataclass(frozen=True, eq=False)
class StackOf:
    """Tensors one behind the other."""

    parts: tuple[Linear, ...]


@dataclass(frozen=True, eq=False)
class MeanOfParts:
    """The mean of each part of a stack."""

    stack: Linear
    parts: int


@dataclass(frozen=True, eq=False)
class FusedParts:
    """A stack's parts, weighted by a softmax of one weight for each."""

    stack: Linear
    weights: Linear
    parts: int


@dataclass(frozen=True, eq=False)
class UnitRows:
    """Rows divided by their length."""

    rows: Linear
    smallest: float
