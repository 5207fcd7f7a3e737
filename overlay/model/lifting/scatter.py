# SPDX-License-Identifier: Apache-2.0
"""Sums over edges into nodes: aggregations of neighbours, and what softmaxes and means divide by."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnx

from hetfab.overlay.model.binding import End
from hetfab.overlay.model.layers import attributes
from hetfab.overlay.model.lifting.context import Context, NotLiftedError, affine
from hetfab.overlay.model.lifting.linear import Atom, Linear
from hetfab.overlay.model.lifting.values import (
    Additive,
    AtNode,
    AtSpecial,
    Block,
    Dot,
    EdgeIds,
    EdgeRows,
    Exponential,
    Expression,
    Fixed,
    Known,
    Leaky,
    Loops,
    NodeSpecial,
    Plus,
    Positions,
    Product,
    Rows,
    Segment,
    Shape,
    Shares,
    Special,
    Times,
    Value,
    Weighted,
    width,
)

_LISTED = "use layers that docs/pyg.md lists"


def scatter(context: Context, node: onnx.NodeProto) -> Value:
    """ScatterElements and ScatterND: a sum or a maximum over edges, or the values of edges that a mask marks."""
    data, index, updates = (context.values[name] for name in node.input)
    reduction = attributes(node).get("reduction", b"none")
    if isinstance(index, Positions):
        return _assigned(data, index, updates)
    if not isinstance(index, EdgeIds):
        raise NotLiftedError("it scatters by something other than an end of the edges", _LISTED)
    if index.end is not End.DESTINATION:
        raise NotLiftedError("it sums over edges into their sources", "flow from sources to destinations")
    after = context.shape(node.output[0])
    for block in index.blocks:
        context.note_size(block.edges.destination, after[0])
    if reduction in (b"max", b"min"):
        if not isinstance(updates, EdgeRows | Known):
            raise NotLiftedError("its form is not recognised", _LISTED)
        parts = updates.parts if isinstance(updates, EdgeRows) else ()
        return NodeSpecial(parts, Special.LARGEST, node.name or node.output[0])
    if reduction != b"add":
        raise NotLiftedError("it overwrites values of nodes", "aggregate by sum, mean or attention")
    total = _total(context, node, index, updates, after[1:])
    return _added(data, total, node.output[0])


def _added(data: Value, total: Value, name: str) -> Value:
    """The sum on top of what was there before, as a rule zeros."""
    if isinstance(data, Known) and not data.array.any():
        return total
    if isinstance(data, Rows) and isinstance(total, Rows) and data.shape == total.shape:
        return Rows(data.linear.plus(total.linear, name), data.shape)
    raise NotLiftedError("it adds to values that are not 0", "begin with zeros")


def _assigned(data: Value, index: Positions, updates: Value) -> Value:
    """Values of the edges of one type, beside those that were assigned before."""
    before = data.parts if isinstance(data, EdgeRows) else ()
    if not isinstance(updates, EdgeRows) or (isinstance(data, Known) and data.array.any()):
        raise NotLiftedError("it assigns something other than values of edges", _LISTED)
    if any(block.kind != index.mask.kind or block.edges is not index.mask.edges for block in updates.blocks):
        raise NotLiftedError("it assigns values of other edges than those that a mask marks", _LISTED)
    return EdgeRows((*before, *updates.parts), updates.shape)


def _total(context: Context, node: onnx.NodeProto, index: EdgeIds, updates: Value, shape: Shape) -> Value:
    maker = node.name or node.output[0]
    if isinstance(updates, Known):
        if updates.uniform() != 1:
            raise NotLiftedError("it sums a constant over edges", _LISTED)
        one = np.ones(())
        return NodeSpecial(tuple((block, Fixed(one, ())) for block in index.blocks), Special.DEGREE, maker)
    if not isinstance(updates, EdgeRows):
        raise NotLiftedError("it sums something other than values of edges", _LISTED)
    if not set(updates.blocks) <= set(index.blocks):
        raise NotLiftedError("it sums values of edges into the ends of others", _LISTED)
    parts = [part for _, part in updates.parts]
    if all(isinstance(part, Exponential) for part in parts):
        return NodeSpecial(updates.parts, Special.TOTAL, maker)
    if all(isinstance(part, Fixed) and (part.array == 1).all() for part in parts):
        return NodeSpecial(updates.parts, Special.DEGREE, maker)
    messages = [_Message.of(block, part) for block, part in updates.parts]
    if any(message.shares is not None for message in messages):
        return Rows(replace(_attended(messages), name=node.output[0]), shape)
    found = messages[0].summed()
    for message in messages[1:]:
        found = found.plus(message.summed())
    return Rows(replace(found, name=node.output[0]), shape)


@dataclass(frozen=True, eq=False)
class _Message:
    """What nodes receive over one block: rows of the sources, weighted by shares or by degrees or not at all."""

    block: Block
    values: Linear
    shares: Shares | None
    roots: tuple[AtSpecial, ...]

    @staticmethod
    def of(block: Block, expression: Expression) -> "_Message":
        """Reads a product of rows and weights."""
        factors = _factors(expression)
        rows = [factor for factor in factors if isinstance(factor, AtNode)]
        shares = [factor for factor in factors if isinstance(factor, Shares)]
        roots = tuple(factor for factor in factors if isinstance(factor, AtSpecial))
        fixed = [factor for factor in factors if isinstance(factor, Fixed)]
        known = len(rows) + len(shares) + len(roots) + len(fixed)
        if known < len(factors) or len(rows) != 1 or rows[0].end is not End.SOURCE:
            raise NotLiftedError("an edge's message is not its source's row times a weight of the edge", _LISTED)
        if len(shares) > 1 or (shares and roots):
            raise NotLiftedError("an edge has two weights", _LISTED)
        values, shape = rows[0].linear, tuple(np.broadcast_shapes(*(factor.shape for factor in factors)))
        if rows[0].shape != shape:
            values, _ = affine(values, rows[0].shape, lambda found: np.broadcast_to(found, (len(found), *shape)))
        for factor in fixed:
            array = factor.array.reshape(factor.shape)
            values, _ = affine(values, shape, lambda found, array=array: found * array)  # type: ignore[misc]
        _refuse_lone_loops(block)
        return _Message(block, values, shares[0] if shares else None, roots)

    def summed(self) -> Linear:
        """The sum over incoming edges."""
        if self.roots:
            return _normalized(self.block, self.values, self.roots)
        return Linear.of(Atom(Segment(self.block, self.values), self.values.channels, self.block.edges.destination))


def _refuse_lone_loops(block: Block) -> None:
    if block.loops is Loops.REMOVED:
        raise NotLiftedError("it leaves out edges from a node to itself", "leave them out of the graph")
    if block.loops is Loops.ADDED:
        raise NotLiftedError(
            "it adds a node's edge to itself beside those that the graph has", "remove those first (remove_self_loops)"
        )


def _factors(expression: Expression) -> "list[Expression]":
    if isinstance(expression, Times):
        return [*_factors(expression.left), *_factors(expression.right)]
    return [expression]


def _normalized(block: Block, values: Linear, roots: tuple[AtSpecial, ...]) -> Linear:
    """GCN (Kipf and Welling, 2017, eq. 2), with the destination's count of edges at both ends, as PyG takes it."""
    kinds = {root.special.kind for root in roots}
    if len(roots) != 2 or {root.end for root in roots} != set(End) or kinds != {Special.INVERSE_ROOT}:
        raise NotLiftedError("weights of edges are not those of GCN", _LISTED)
    if any(root.special.blocks != (block,) for root in roots):
        raise NotLiftedError("weights of edges count other edges", _LISTED)
    block.edges.source.join(block.edges.destination)
    return Linear.of(Atom(Weighted(block, values), values.channels, block.edges.destination))


def _attended(messages: Sequence[_Message]) -> Linear:
    """The sum of attentions: one for each softmax."""
    found: Linear | None = None
    scopes = dict.fromkeys(() if message.shares is None else message.shares.scope for message in messages)
    for scope in scopes:
        members = [message for message in messages if message.shares is not None and message.shares.scope == scope]
        if not scope or {message.block for message in members} != set(scope):
            raise NotLiftedError("some edges of a softmax are left out, or edges without one join them", _LISTED)
        attention = _attention(members)
        found = attention if found is None else found.plus(attention)
    assert found is not None
    return found


def _attention(members: Sequence[_Message]) -> Linear:
    """Attention over the blocks of one softmax."""
    blocks, values = tuple(each.block for each in members), tuple(each.values for each in members)
    if len(blocks) > 1 and any(block.loops is not Loops.KEPT for block in blocks):
        raise NotLiftedError(
            "one softmax goes over several relations and a node's edge to itself",
            "put the edges to itself into the graph as a relation",
        )
    space, first = blocks[0].edges.destination, members[0].shares
    assert first is not None
    logits = [each.shares.logits for each in members if each.shares is not None]
    slopes = {found.slope if isinstance(found, Leaky) else None for found in logits}
    inner = [found.of if isinstance(found, Leaky) else found for found in logits]
    heads = width(inner[0].shape)
    products = [_as_product(each) for each in inner] if slopes == {None} else []
    if products and all(products):
        found = [product for product in products if product is not None]
        queries = _one([product.queries for product in found])
        dot = Dot(blocks, values, queries, tuple(product.keys for product in found), heads)
        return Linear.of(Atom(dot, values[0].channels, space))
    if len(slopes) > 1:
        raise NotLiftedError("one softmax has logits of several forms", _LISTED)
    sources: list[Linear] = []
    destinations: list[Linear] = []
    for scores in map(_scores, inner):
        for end, linear, ends in zip(("source", "destination"), scores, (sources, destinations), strict=True):
            if linear is None:
                raise NotLiftedError(f"logits have no term of the {end}", "use GATConv, RGATConv, HANConv or HGTConv")
            ends.append(linear)
    slope = slopes.pop()
    additive = Additive(blocks, values, tuple(sources), _one(destinations), 1.0 if slope is None else slope, heads)
    return Linear.of(Atom(additive, values[0].channels, space))


def _one(found: Sequence[Linear]) -> Linear:
    """What all relations of a softmax have in common: the destination's rows or scores."""
    if any(linear is not found[0] for linear in found):
        raise NotLiftedError(
            f"one softmax goes over {len(found)} relations that project the destination's rows each in its own way",
            "take a softmax within each relation (RGATConv: attention_mechanism='within-relation')",
        )
    return found[0]


def _as_product(logits: Expression) -> Product | None:
    match logits:
        case Product():
            return logits
        case Times(AtNode(one, left, shape), AtNode(other, right, other_shape)) if one is not other:
            if shape == other_shape:
                queries, keys = (left, right) if one is End.DESTINATION else (right, left)
                return Product(queries, keys, shape)
    return None


def _scores(logits: Expression) -> tuple[Linear | None, Linear | None]:
    """The terms of the source and of the destination in a sum; a constant joins the source's."""
    match logits:
        case AtNode(End.SOURCE, linear):
            return linear, None
        case AtNode(End.DESTINATION, linear):
            return None, linear
        case Plus(left, Fixed(array)):
            source, destination = _scores(left)
            if source is not None:
                return source.plus_row(np.broadcast_to(array, left.shape).reshape(-1)), destination
        case Plus(left, right):
            terms = _scores(left), _scores(right)
            both = []
            for position in range(2):
                found = [term[position] for term in terms]
                present = [linear for linear in found if linear is not None]
                both.append(None if not present else present[0] if len(present) == 1 else present[0].plus(present[1]))
            return both[0], both[1]
    raise NotLiftedError(
        "logits of edges are neither a sum of scores of both ends nor a product of their rows",
        "use GATConv, RGATConv, HANConv or HGTConv",
    )
