# SPDX-License-Identifier: Apache-2.0
"""Operators over edges: which edges, what each of them reads of its ends, and softmaxes over those into a node."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import onnx

from hetfab.overlay.model.binding import End
from hetfab.overlay.model.layers import attributes
from hetfab.overlay.model.lifting.context import Context, NotLiftedError, affine, axes_of, row_constant, whole
from hetfab.overlay.model.lifting.linear import Matrix
from hetfab.overlay.model.lifting.values import (
    AtNode,
    AtSpecial,
    Block,
    Blocks,
    EdgeIds,
    EdgeIndex,
    EdgeKinds,
    EdgeRows,
    Exponential,
    Expression,
    Fixed,
    Infinite,
    Known,
    Leaky,
    Loops,
    Mask,
    NodeSpecial,
    Plus,
    Positions,
    Product,
    Rows,
    Shape,
    Shares,
    Special,
    Times,
    Value,
    reshaped,
    width,
)

ENDS = (End.SOURCE, End.DESTINATION)
_LISTED = "use layers that docs/pyg.md lists"


def of_edges(value: Value) -> bool:
    """Whether a value is one of edges."""
    return isinstance(value, EdgeIndex | EdgeIds | EdgeKinds | Mask | Positions | EdgeRows | NodeSpecial | Infinite)


def gather(context: Context, node: onnx.NodeProto) -> Value:
    """Rows of an edge's ends, ends of edges, edges that a mask marks, what an edge's type says."""
    data, index = (context.values[name] for name in node.input)
    rank = len(context.shape(node.input[0]))
    axis = whole(node, "axis", 0) % rank if node.op_type != "GatherND" else 0
    match data, index:
        case EdgeIndex(blocks, turned), Known(array) if axis == int(turned) and array.size == 1:
            return EdgeIds(blocks, ENDS[int(array.reshape(-1)[0])])
        case EdgeIndex(blocks, turned), Positions(mask) if axis == int(not turned):
            return EdgeIndex(_marked(blocks, mask), turned)
        case EdgeIds(blocks, end), Positions(mask):
            return EdgeIds(_marked(blocks, mask), end)
        case EdgeRows(), Positions(mask):
            kept = _marked(data.blocks, mask)
            if mask.kind is None:
                return EdgeRows(tuple(zip(kept, (part for _, part in data.parts), strict=True)), data.shape)
            return EdgeRows(tuple(part for part in data.parts if part[0] in kept), data.shape)
        case Known(), EdgeKinds(edges) if axis == 0 and not data.free and edges.kinds is not None:
            shape = tuple(data.array.shape[1:])
            kinds = range(edges.kinds[1])
            rows = data.array.astype(np.float64)
            return EdgeRows(tuple((Block(edges, kind), Fixed(rows[kind], shape)) for kind in kinds), shape)
        case Known(), Positions(mask) if data.uniform() is not None:
            whole_edges = _all_blocks(mask)
            return _constant_rows(_marked(whole_edges, mask), data.uniform(), ())
        case NodeSpecial(), EdgeIds(blocks, end):
            shape = context.shape(node.input[0])[1:]
            return EdgeRows(tuple((block, AtSpecial(end, data, shape)) for block in blocks), shape)
        case ((Rows() | Known()), EdgeIds(blocks, end)) if axis == 0:
            return _at_ends(context, node.input[0], data, blocks, end)
    raise NotLiftedError(f"it gathers from {_name(data)} by {_name(index)}", _LISTED)


def _at_ends(context: Context, name: str, data: Rows | Known, blocks: Blocks, end: End) -> EdgeRows:
    if isinstance(data, Known):
        if data.free or data.array.ndim < 2:
            raise NotLiftedError("it reads a constant of each node, which depends on the graph's sizes", _LISTED)
        data = Rows(context.table(name, data), tuple(data.array.shape[1:]))
    for block in blocks:
        block.space(end).join(data.linear.space)
    return EdgeRows(tuple((block, AtNode(end, data.linear, data.shape)) for block in blocks), data.shape)


def _name(value: object) -> str:
    names = {
        "Known": "a constant",
        "Rows": "rows of nodes",
        "EdgeIds": "ids of edges' ends",
        "EdgeRows": "values of edges",
        "NodeSpecial": "sums over edges",
    }
    return names.get(type(value).__name__, type(value).__name__)


def _all_blocks(mask: Mask) -> Blocks:
    edges = mask.edges
    return (Block(edges),) if edges.kinds is None else tuple(Block(edges, kind) for kind in range(edges.kinds[1]))


def _marked(blocks: Blocks, mask: Mask) -> Blocks:
    """The blocks that are left of those that a mask picks from."""
    if any(block.edges is not mask.edges for block in blocks):
        raise NotLiftedError("it picks edges by a mark of others", _LISTED)
    if mask.kind is not None:
        return tuple(block for block in blocks if block.kind == mask.kind)
    if mask.loops or any(block.loops is not Loops.KEPT for block in blocks):
        raise NotLiftedError("it picks the edges from a node to itself", _LISTED)
    return tuple(replace(block, loops=Loops.REMOVED) for block in blocks)


def _constant_rows(blocks: Blocks, number: float | None, shape: Shape) -> EdgeRows:
    array = np.full(shape, number, np.float64)
    return EdgeRows(tuple((block, Fixed(array, shape)) for block in blocks), shape)


def join(context: Context, node: onnx.NodeProto) -> Value:
    """Concat along edges: several inputs' edges, or all nodes' edges to themselves behind the others."""
    values = [context.values[name] for name in node.input]
    first, *rest = values
    if isinstance(first, EdgeIds) and all(isinstance(v, Known) and v.array.size == 1 and v.array < 0 for v in rest):
        # The largest id of edges that may be none.
        return first
    if len(rest) == 1 and isinstance(rest[0], Known):
        return _with_loops(context, node, first, rest[0])
    if all(isinstance(value, EdgeIndex) for value in values):
        indices = [value for value in values if isinstance(value, EdgeIndex)]
        return EdgeIndex(tuple(block for value in indices for block in value.blocks), indices[0].turned)
    if all(isinstance(value, EdgeIds) for value in values):
        ids = [value for value in values if isinstance(value, EdgeIds)]
        if len({value.end for value in ids}) == 1:
            return EdgeIds(tuple(block for value in ids for block in value.blocks), ids[0].end)
    if all(isinstance(value, EdgeRows) for value in values):
        rows = [value for value in values if isinstance(value, EdgeRows)]
        return EdgeRows(tuple(part for value in rows for part in value.parts), rows[0].shape)
    raise NotLiftedError("it joins " + ", ".join(map(_name, values)), _LISTED)


def _with_loops(context: Context, node: onnx.NodeProto, value: Value, known: Known) -> Value:
    def looped(blocks: Blocks) -> Blocks:
        if len(blocks) != 1:
            raise NotLiftedError("it adds a node's edge to itself to several kinds of edges", "add it to one of them")
        [block] = blocks
        if block.loops not in (Loops.KEPT, Loops.REMOVED):
            raise NotLiftedError("it adds a node's edge to itself twice", _LISTED)
        block.edges.source.join(block.edges.destination)
        return (replace(block, loops=Loops.ADDED if block.loops is Loops.KEPT else Loops.REPLACED),)

    array = known.array
    match value:
        case EdgeIndex(blocks, turned):
            pairs = array.T if turned else array
            context.note_size(blocks[0].edges.source, pairs.shape[1])
            if pairs.shape[0] == 2 and (pairs == np.arange(pairs.shape[1])).all():
                return EdgeIndex(looped(blocks), turned)
        case EdgeIds(blocks, end) if (array == np.arange(len(array))).all():
            return EdgeIds(looped(blocks), end)
        case EdgeRows(((block, Fixed(fixed)),), shape) if known.uniform() is not None:
            if (fixed == known.uniform()).all():
                return EdgeRows(((looped((block,))[0], Fixed(fixed, shape)),), shape)
    raise NotLiftedError("it adds edges of its own to those of the graph", "give all edges to the model")


def equal(context: Context, node: onnx.NodeProto) -> Value:
    """Edges of a type, edges from a node to itself, infinities."""
    left, right = (context.values[name] for name in node.input)
    match left, right:
        case (EdgeKinds(edges), Known(array)) | (Known(array), EdgeKinds(edges)) if array.size == 1:
            kind, kinds = float(array.reshape(-1)[0]), 0 if edges.kinds is None else edges.kinds[1]
            if kind not in range(kinds):
                raise NotLiftedError(
                    f"it looks for edges of the type {kind:g}, and there are types 0 to {kinds - 1}", "leave it out"
                )
            return Mask(edges, int(kind))
        case EdgeIds(blocks, end), EdgeIds(others, other_end) if blocks == others and end != other_end:
            if len({block.edges for block in blocks}) == 1:
                return Mask(blocks[0].edges, None, loops=True)
        case (NodeSpecial(), Known(array)) if np.isinf(array).all():
            assert isinstance(left, NodeSpecial)
            return Infinite(left)
    raise NotLiftedError(f"it compares {_name(left)} with {_name(right)}", _LISTED)


def invert(context: Context, node: onnx.NodeProto) -> Value:
    """Not: edges that lead elsewhere."""
    value = context.values[node.input[0]]
    if not isinstance(value, Mask) or value.kind is not None:
        raise NotLiftedError("its form is not recognised", _LISTED)
    return replace(value, loops=not value.loops)


def positions(context: Context, node: onnx.NodeProto) -> Value:
    """NonZero of a mask."""
    value = context.values[node.input[0]]
    if not isinstance(value, Mask):
        raise NotLiftedError("it looks for values that are not 0", _LISTED)
    return Positions(value)


def compress(context: Context, node: onnx.NodeProto) -> Value:
    """Compress: edges that a mask marks."""
    data, mask = (context.values[name] for name in node.input)
    if not isinstance(mask, Mask):
        raise NotLiftedError("its form is not recognised", _LISTED)
    match data:
        case EdgeIndex(blocks, turned):
            return EdgeIndex(_marked(blocks, mask), turned)
        case EdgeIds(blocks, end):
            return EdgeIds(_marked(blocks, mask), end)
    raise NotLiftedError(f"it picks from {_name(data)}", _LISTED)


def edge_view(context: Context, node: onnx.NodeProto) -> Value:
    """Reshape, Squeeze, Unsqueeze, Expand, Tile, Cast, Identity, Transpose and whole slices of values of edges."""
    value, before, after = (
        context.values[node.input[0]],
        context.shape(node.input[0]),
        context.shape(node.output[0]),
    )
    if isinstance(value, EdgeIndex):
        if node.op_type == "Transpose":
            return replace(value, turned=not value.turned)
        if before != after:
            raise NotLiftedError("it brings both ends of edges to another form", _LISTED)
        return value
    if not isinstance(value, EdgeRows):
        return value
    if node.op_type == "Transpose" or before == after:
        if before != after:
            raise NotLiftedError("it transposes values of edges", _LISTED)
        return value
    if len(after) == 1 and after[0] == width(before) and after[:1] != before[:1]:
        # Values in one line, as assignments by a mask write them.
        return value
    if after[:1] != before[:1]:
        raise NotLiftedError("it brings values of edges to another number of edges", _LISTED)
    shape = after[1:]
    if width(shape) == width(value.shape):
        return EdgeRows(tuple((block, reshaped(part, shape)) for block, part in value.parts), shape)
    return over_edges(value, lambda rows: np.broadcast_to(rows, (len(rows), *shape)))


def over_edges(value: EdgeRows, apply: Callable[[Matrix], Matrix]) -> EdgeRows:
    """A linear map of each edge's values, given as a function of rows [E, *shape]."""
    parts = tuple((block, _mapped(part, apply)) for block, part in value.parts)
    return EdgeRows(parts, parts[0][1].shape)


def _mapped(expression: Expression, apply: Callable[[Matrix], Matrix]) -> Expression:
    match expression:
        case AtNode(end, linear, shape):
            return AtNode(end, *affine(linear, shape, apply, bias=False))
        case Fixed(array, shape):
            found = apply(array.reshape(1, *shape))[0]
            return Fixed(found, tuple(found.shape))
        case Plus(left, right):
            both = _mapped(left, apply), _mapped(right, apply)
            return Plus(*both, both[0].shape)
        case Product(queries, keys, shape):
            heads = width(shape)
            factors = apply(np.eye(heads).reshape(heads, *shape))
            matrix = factors.reshape(heads, -1)
            if matrix.shape == (heads, heads) and np.array_equal(matrix, np.diag(np.diag(matrix))):
                spread = np.repeat(np.diag(matrix), keys.channels // heads)
                return Product(queries, keys.times(np.diag(spread)), tuple(factors.shape[1:]))
    raise NotLiftedError("it changes weights of edges behind a softmax or function", _LISTED)


def edge_arithmetic(context: Context, node: onnx.NodeProto) -> Value:
    """Add, Sub, Mul, Div and Pow where at least one operand is of edges."""
    left, right = (context.values[name] for name in node.input)
    operator, shape = node.op_type, context.shape(node.output[0])[1:]
    match left, right:
        case NodeSpecial(), Known() | Rows():
            return _special(left, operator, right)
        case Known(), NodeSpecial() if operator == "Add":
            return _special(right, operator, left)
        case EdgeRows(), Known():
            return _edges_with_constant(context, node, left, right)
        case Known(), EdgeRows() if operator in ("Add", "Mul"):
            return _edges_with_constant(context, node, right, left)
        case EdgeRows(), EdgeRows() if left.blocks == right.blocks:
            pairs = zip(left.parts, right.parts, strict=True)
            parts = tuple((block, _combined(operator, one, other, shape)) for (block, one), (_, other) in pairs)
            return EdgeRows(parts, shape)
    raise NotLiftedError(f"its form ({operator} of {_name(left)} and {_name(right)}) is not recognised", _LISTED)


def _special(value: NodeSpecial, operator: str, other: Value) -> Value:
    number = other.uniform() if isinstance(other, Known) else None
    if value.kind is Special.LARGEST:
        raise NotLiftedError("the largest of neighbours is not executed", "aggregate by sum, mean or attention")
    if operator == "Add" and value.kind is Special.TOTAL and number is not None and 0 <= number < 1e-6:
        return value
    if operator == "Add" and number == 0:
        return value
    if operator == "Pow" and value.kind is Special.DEGREE and number == -0.5:
        return replace(value, kind=Special.INVERSE_ROOT)
    raise NotLiftedError(f"its form ({operator} of {value.kind.value}) is not recognised", _LISTED)


def _edges_with_constant(context: Context, node: onnx.NodeProto, value: EdgeRows, known: Known) -> Value:
    name = next(given for given in node.input if context.values[given] is value)
    array = row_constant(known, value.shape, context.shape(name)[0])
    number = known.uniform()
    if (node.op_type == "Mul" and number == 1) or (node.op_type == "Add" and number == 0):
        return value
    if node.op_type in ("Mul", "Div"):
        ufunc = np.multiply if node.op_type == "Mul" else np.divide
        return over_edges(value, lambda rows: ufunc(rows, array))
    if node.op_type in ("Add", "Sub"):
        signed = array if node.op_type == "Add" else -array
        fixed = np.broadcast_to(signed, (1, *value.shape))[0]
        parts = tuple((b, Plus(p, Fixed(fixed, value.shape), value.shape)) for b, p in value.parts)
        return EdgeRows(parts, value.shape)
    raise NotLiftedError(f"{node.op_type} of values of edges is not recognised", _LISTED)


def _combined(operator: str, left: Expression, right: Expression, shape: Shape) -> Expression:
    match operator, left, right:
        case "Add", _, _:
            if isinstance(left, AtNode) and isinstance(right, AtNode) and left.end is right.end:
                return AtNode(left.end, left.linear.plus(right.linear), shape)
            if left.shape != right.shape:
                raise NotLiftedError("it adds values of edges of different shapes", _LISTED)
            return Plus(left, right, shape)
        case "Sub", _, AtSpecial(End.DESTINATION, NodeSpecial(kind=Special.LARGEST)):
            # A softmax does not change where a number of the destination is taken from all its logits.
            return Exponential(left, shape, shifted=True)
        case "Div", Exponential(logits), AtSpecial(End.DESTINATION, NodeSpecial(kind=Special.TOTAL, parts=parts)):
            if any(isinstance(part, Exponential) and part.logits is logits for _, part in parts):
                return Shares(logits, tuple(block for block, _ in parts), shape)
        case "Mul", Fixed(array), _ if (array == 1).all() and right.shape == shape:
            return right
        case "Mul", _, Fixed(array) if (array == 1).all() and left.shape == shape:
            return left
        case "Mul", _, _:
            return Times(left, right, shape)
    raise NotLiftedError(f"its form ({operator} of values of edges) is not recognised", _LISTED)


def exponential(context: Context, node: onnx.NodeProto) -> Value:
    """The exponential of logits."""
    value = _edge_rows(context, node)
    parts: list[tuple[Block, Expression]] = []
    for block, part in value.parts:
        logits = part.logits if isinstance(part, Exponential) else part
        parts.append((block, Exponential(logits, part.shape)))
    return EdgeRows(tuple(parts), value.shape)


def leaky(context: Context, node: onnx.NodeProto) -> Value:
    """LeakyRelu of logits; Relu has the slope 0."""
    value = _edge_rows(context, node)
    slope = attributes(node).get("alpha", 0.01) if node.op_type == "LeakyRelu" else 0.0
    assert isinstance(slope, float)
    return EdgeRows(tuple((block, Leaky(part, slope, part.shape)) for block, part in value.parts), value.shape)


def _edge_rows(context: Context, node: onnx.NodeProto) -> EdgeRows:
    value = context.values[node.input[0]]
    if not isinstance(value, EdgeRows):
        raise NotLiftedError(f"it is applied to {_name(value)}", _LISTED)
    return value


def edge_product(context: Context, node: onnx.NodeProto) -> Value:
    """MatMul of values of edges with a constant, or with a matrix of each edge's type."""
    left, right = (context.values[name] for name in node.input)
    if isinstance(left, EdgeRows) and isinstance(right, Known):
        weight = row_constant(right, left.shape, len(context.probe[node.input[0]]))
        return over_edges(left, lambda rows: rows @ weight)
    if isinstance(left, EdgeRows) and isinstance(right, EdgeRows) and left.blocks == right.blocks:
        parts: list[tuple[Block, Expression]] = []
        for (block, rows), (_, matrix) in zip(left.parts, right.parts, strict=True):
            if not isinstance(matrix, Fixed):
                raise NotLiftedError("it multiplies values of edges", _LISTED)
            fixed = matrix.array.reshape(matrix.shape)
            parts.append((block, _mapped(rows, lambda found, fixed=fixed: found @ fixed)))  # type: ignore[misc]
        return EdgeRows(tuple(parts), parts[0][1].shape)
    raise NotLiftedError(f"it multiplies {_name(left)} by {_name(right)}", _LISTED)


def edge_reduction(context: Context, node: onnx.NodeProto) -> Value:
    """Sums and means over axes of an edge's values; of products of both ends, the product of two rows."""
    name = node.input[0]
    value, rank = context.values[name], len(context.shape(name))
    axes, keep = axes_of(context, node, rank), bool(whole(node, "keepdims", 1))
    if isinstance(value, EdgeIds) or (isinstance(value, EdgeRows) and 0 in axes and node.op_type == "ReduceMin"):
        # The largest id, which sizes a buffer; the smallest logit, which fills one.
        return Known(context.probe[node.output[0]], free=True)
    if not isinstance(value, EdgeRows) or 0 in axes:
        raise NotLiftedError("it reduces over all edges", _LISTED)
    if node.op_type not in ("ReduceSum", "ReduceMean"):
        raise NotLiftedError("it takes other than a sum or mean of an edge's values", _LISTED)
    inner = tuple(axes)
    products = [_dot(part, inner, rank) for _, part in value.parts] if node.op_type == "ReduceSum" else [None]
    shape = context.shape(node.output[0])[1:]
    if all(products):
        parts = zip(value.blocks, products, strict=True)
        return EdgeRows(tuple((b, replace(p, shape=shape)) for b, p in parts if p is not None), shape)

    def apply(rows: Matrix) -> Matrix:
        found: Matrix = (np.mean if node.op_type == "ReduceMean" else np.sum)(rows, axis=inner, keepdims=keep)
        return found

    return over_edges(value, apply)


def _dot(expression: Expression, axes: tuple[int, ...], rank: int) -> Product | None:
    match expression:
        case Times(AtNode(one, left, shape), AtNode(other, right, other_shape)) if one is not other:
            if axes == (rank - 1,) and shape == other_shape:
                queries, keys = (left, right) if one is End.DESTINATION else (right, left)
                return Product(queries, keys, shape[:-1])
    return None


def choose(context: Context, node: onnx.NodeProto) -> Value:
    """Where: 0 in place of the infinite inverse root of no edges."""
    condition, yes, no = (context.values[name] for name in node.input)
    match condition, yes, no:
        case Infinite(special), Known(), NodeSpecial(kind=Special.INVERSE_ROOT) if special is no:
            if yes.uniform() == 0:
                return no
    raise NotLiftedError("it chooses between values of nodes or edges", _LISTED)
