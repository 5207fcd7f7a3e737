# SPDX-License-Identifier: Apache-2.0
"""What the rules of the interpreter share: the model's tensors on the probe graph, their values, what is not lifted."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx

from hetfab.overlay.model.layers import attributes, is_identity
from hetfab.overlay.model.lifting.linear import Atom, Linear, Matrix, Space
from hetfab.overlay.model.lifting.values import Array, Known, Shape, StackedRows, StackOf, Table, Value


class NotLiftedError(Exception):
    """An operator has a form that is not recognised: why, and what to use instead. Caught where all are collected."""

    def __init__(self, reason: str, alternative: str) -> None:
        super().__init__(f"{reason}; {alternative}")


@dataclass
class Context:
    """The state of one interpretation.

    Attributes:
        probe: Every tensor of the model on the probe graph.
        sizes: The nodes whose number a size of the probe graph is.
        values: What tensors mean, so far.
        tables: Learned rows by the tensor that holds them.
        uses: How many operators read each tensor, other than its shape.
    """

    probe: Mapping[str, Array]
    sizes: Mapping[int, Space]
    values: dict[str, Value] = field(default_factory=dict)
    tables: dict[str, Linear] = field(default_factory=dict)
    uses: Counter[str] = field(default_factory=Counter)
    _stacks: dict[tuple[int, ...], Linear] = field(default_factory=dict)

    def shape(self, name: str) -> Shape:
        """Sizes of a tensor on the probe graph."""
        return tuple(self.probe[name].shape)

    def known(self, name: str) -> Array:
        """A constant operand.

        Raises:
            NotLiftedError: It is none.
        """
        value = self.values.get(name)
        if not isinstance(value, Known):
            raise NotLiftedError("an operand that has to be constant is not", "export the trained model in eval mode")
        return value.array

    def term(self, name: str, linear: Linear) -> Linear:
        """Rows as a term of a sum: those that other operators read too are stored, not computed again."""
        return linear.stored if self.uses[name] > 1 else linear

    def table(self, name: str, known: Known) -> Linear:
        """A constant as learned rows of nodes."""
        if name not in self.tables:
            array = known.array.reshape(len(known.array), -1)
            space = Space(rows=len(array))
            self.tables[name] = Linear.of(Atom(Table(array, name), array.shape[1], space), name)
        return self.tables[name]

    def note_size(self, space: Space, rows: int) -> None:
        """Notes how many nodes a sum over edges has, as the model says it."""
        if rows in self.sizes:
            space.join(self.sizes[rows])

    def stack(self, stacked: StackedRows) -> Linear:
        """Stacked rows as one tensor, the same whenever the same rows are stacked."""
        key = tuple(id(part) for part in stacked.parts)
        if key not in self._stacks:
            for part in stacked.parts[1:]:
                stacked.parts[0].space.join(part.space)
            # The key's ids stay taken as long as the stack holds the parts.
            self._stacks[key] = Linear.of(Atom(StackOf(stacked.parts), stacked.parts[0].channels, Space()))
        return self._stacks[key]


def affine(
    linear: Linear, shape: Shape, apply: Callable[[Matrix], Matrix], name: str = "", *, bias: bool = True
) -> tuple[Linear, Shape]:
    """Applies what maps each row affinely, given as a function of rows [N, *shape].

    Returns:
        The result and its shape without the first axis.

    Raises:
        NotLiftedError: The function adds something although ``bias`` is False.
    """
    channels = linear.channels
    rows = np.concatenate([np.zeros((1, channels)), np.eye(channels)]).reshape(channels + 1, *shape)
    found = apply(rows)
    flat = np.asarray(found, np.float64).reshape(channels + 1, -1)
    matrix, row = flat[1:] - flat[0], flat[0]
    if row.any() and not bias:
        raise NotLiftedError("a constant is added inside of attention", "leave it out")
    result = linear if is_identity(matrix) else linear.times(matrix, name)
    return result.plus_row(row, name), tuple(found.shape[1:])


def row_constant(known: Known, shape: Shape, rows: int) -> Array:
    """A constant that is spread over rows [N, *shape], as numpy broadcasts it to them, without what repeats.

    Raises:
        NotLiftedError: It differs from row to row, or with the graph's sizes.
    """
    array = known.array
    if array.ndim == len(shape) + 1 and array.shape[0] == rows and rows != 1:
        if not (array == array[:1]).all():
            raise NotLiftedError("a constant differs from node to node", "make it a feature")
        array = array[:1]
    if known.free and known.uniform() is None:
        raise NotLiftedError("a factor depends on the graph's sizes", "use a constant")
    return array.astype(np.float64)


def whole(node: onnx.NodeProto, name: str, default: int) -> int:
    """A whole number among a node's attributes."""
    value = attributes(node).get(name, default)
    assert isinstance(value, int)
    return value


def axes_of(context: Context, node: onnx.NodeProto, rank: int) -> tuple[int, ...]:
    """The axes of a reduction or of an (Un)squeeze, from its attribute or its second operand, none negative."""
    values: Any = attributes(node).get("axes")
    if values is None and len(node.input) > 1 and node.input[1]:
        values = context.known(node.input[1]).reshape(-1).tolist()
    if values is None:
        values = range(rank)
    return tuple(int(axis) % rank for axis in values)
