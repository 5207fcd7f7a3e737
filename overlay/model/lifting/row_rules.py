# SPDX-License-Identifier: Apache-2.0
"""Operators over rows of nodes: dense layers, views and means within a row merge into sums; others are copied."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import onnx

from hetfab.overlay.model.layers import attributes
from hetfab.overlay.model.lifting.context import (
    Context,
    NotLiftedError,
    affine,
    axes_of,
    row_constant,
    whole,
)
from hetfab.overlay.model.lifting.linear import Atom, Linear, Matrix, Space, Term
from hetfab.overlay.model.lifting.values import (
    Applied,
    Array,
    FusedParts,
    Known,
    MeanOfParts,
    Mixture,
    NodeSpecial,
    PartMeans,
    RowLength,
    Rows,
    Segment,
    Shape,
    SharedParts,
    Special,
    StackedRows,
    UnitRows,
    Value,
    width,
)

#: Functions of single numbers, which act on heads as on rows.
ELEMENTWISE = ("Relu", "Elu", "LeakyRelu", "Gelu", "Sigmoid", "Tanh", "Erf", "Softplus", "Selu", "Exp", "Sqrt", "PRelu")
_UFUNCS: dict[str, Callable[[Array, Array], Array]] = {
    "Add": np.add,
    "Sub": np.subtract,
    "Mul": np.multiply,
    "Div": np.divide,
}
Mapped = Rows | Mixture | PartMeans


def mapped(value: Rows | Mixture | PartMeans, linear: Linear, shape: Shape) -> Rows | Mixture | PartMeans:
    """Other rows in place of a value's."""
    if isinstance(value, PartMeans):
        if len(shape) > 1 and width(shape) != linear.channels:
            raise NotLiftedError("means of parts are given further axes", "leave it out")
        return replace(value, linear=linear)
    return replace(value, linear=linear, shape=shape)


def shape_of(value: Rows | Mixture | PartMeans) -> Shape:
    """Axes of a row."""
    return (value.linear.channels,) if isinstance(value, PartMeans) else value.shape


def arithmetic(context: Context, node: onnx.NodeProto) -> Value:
    """Add, Sub, Mul and Div where at least one operand is rows of nodes."""
    left, right = (context.values[name] for name in node.input)
    operator = node.op_type
    match left, right:
        case (Rows() | Mixture() | PartMeans()) as value, Known() as known:
            return _with_constant(context, node, value, known, _UFUNCS[operator])
        case Known() as known, (Rows() | Mixture() | PartMeans()) as value if operator in ("Add", "Mul", "Sub"):
            table = _table(context, node.input[0], known, value)
            if table is not None:
                return _sum(context, node, table, value)
            return _with_constant(context, node, value, known, lambda a, b: _UFUNCS[operator](b, a))
        case (Rows() as value, StackedRows() | Mixture()) | (StackedRows() | Mixture(), Rows() as value):
            raise NotLiftedError(
                "stacked rows meet others", "stack tensors for a sum, a mean or an attention over them"
            )
        case Rows(), Rows() if operator in ("Add", "Sub"):
            return _sum(context, node, left, right)
        case Rows(), NodeSpecial(kind=Special.CLAMPED) if operator == "Div":
            return _mean(left, right, node.output[0])
        case Rows(), RowLength() if operator == "Div":
            if left.linear is not right.linear:
                raise NotLiftedError("rows are divided by the length of others", "divide by their own")
            source = UnitRows(left.linear, right.smallest)
            return replace(left, linear=Linear.of(Atom(source, left.linear.channels, left.linear.space)))
        case (Mixture() | StackedRows() as value, PartMeans(shares=True) as shares) | (
            PartMeans(shares=True) as shares,
            Mixture() | StackedRows() as value,
        ) if operator == "Mul":
            return _shared(context, value, shares)
        case StackedRows() as value, Known() as known:
            found = [
                _affine_constant(context, node, part, value.shape, known, _UFUNCS[operator]) for part in value.parts
            ]
            return StackedRows(tuple(linear for linear, _ in found), found[0][1])
        case Rows(), Rows():
            return _gelu(node, left, right) or _gelu(node, right, left) or copied(context, node)
    raise NotLiftedError(_words(operator, left, right), "use layers that docs/pyg.md lists")


def _gelu(node: onnx.NodeProto, rows: Rows, other: Rows) -> Rows | None:
    """``x * (1 + erf(x / sqrt(2)))``, twice the Gelu (Hendrycks and Gimpel, 2016), as exporters write it."""
    [inner, *more] = other.linear.terms
    source, bias = inner.atom.source, other.linear.bias
    if more or inner.weight is not None or bias is None or (bias != 1).any() or rows.shape != other.shape:
        return None
    if not isinstance(source, Applied) or source.node.op_type != "Erf" or not isinstance(source.operands[0], Linear):
        return None
    [read, *others] = source.operands[0].terms
    stored, channels = rows.linear.stored, rows.linear.channels
    scaled = read.atom is stored.terms[0].atom and np.allclose(read.matrix(), np.eye(channels) / np.sqrt(2), atol=1e-6)
    if others or not scaled or source.operands[0].bias is not None:
        return None
    gelu = onnx.helper.make_node("Gelu", [node.input[0]], [node.output[0]], node.name)
    atom = Atom(Applied(gelu, (stored,)), channels, rows.linear.space)
    return Rows(Linear((Term(atom, 2 * np.eye(channels)),), None, channels, rows.linear.space), rows.shape)


def _words(operator: str, *values: object) -> str:
    kinds = " and ".join(type(value).__name__ for value in values)
    return f"its form ({operator} of {kinds}) is not recognised"


def _with_constant(
    context: Context,
    node: onnx.NodeProto,
    value: Rows | Mixture | PartMeans,
    known: Known,
    apply: Callable[[Array, Array], Array],
) -> Value:
    name = node.input[0] if context.values[node.input[0]] is value else node.input[1]
    rows = context.term(name, value.linear) if isinstance(value, Rows) else value.linear
    linear, shape = _affine_constant(context, node, rows, shape_of(value), known, apply, value)
    return mapped(value, linear, shape)


def _affine_constant(
    context: Context,
    node: onnx.NodeProto,
    linear: Linear,
    shape: Shape,
    known: Known,
    apply: Callable[[Array, Array], Array],
    value: Value | None = None,
) -> tuple[Linear, Shape]:
    name = node.input[0] if context.values[node.input[0]] is not known else node.input[1]
    rows = context.shape(name)
    rows = rows[1:] if isinstance(value, Mixture) else rows
    if apply is np.add and isinstance(value, Rows):
        table = _table(context, node.input[1], known, value)
        if table is not None:
            return value.linear.plus(table.linear, node.output[0]), value.shape
    array = row_constant(known, shape, rows[0] if rows else 1)
    if array.ndim == len(shape) + 2 and array.shape[0] == 1:
        array = array[0]
    if apply is np.add and array.size == linear.channels:
        return linear.plus_row(array.reshape(-1), node.output[0]), shape
    return affine(linear, shape, lambda found: apply(found, array), node.output[0])


def _table(context: Context, name: str, known: Known, value: Value) -> Rows | None:
    """A constant as learned rows, where it has a row of its own for each of a value's."""
    if not isinstance(value, Rows) or known.free or known.array.ndim != len(value.shape) + 1:
        return None
    rows = len(known.array)
    if rows == 1 or tuple(known.array.shape[1:]) != value.shape or (known.array == known.array[:1]).all():
        return None
    return Rows(context.table(name, known), value.shape)


def _sum(context: Context, node: onnx.NodeProto, left: Value, right: Value) -> Value:
    assert isinstance(left, Rows) and isinstance(right, Rows)
    shape = context.shape(node.output[0])[1:]
    terms = []
    for name, value in zip(node.input, (left, right), strict=True):
        spread = context.term(name, value.linear)
        if value.shape != shape:
            spread, _ = affine(spread, value.shape, lambda rows: np.broadcast_to(rows, (len(rows), *shape)))
        terms.append(spread)
    if node.op_type == "Sub":
        terms[1] = terms[1].times(-np.eye(terms[1].channels))
    return Rows(terms[0].plus(terms[1], node.output[0]), tuple(shape))


def _mean(rows: Rows, degree: NodeSpecial, name: str) -> Rows:
    """Sums over edges, divided by their number."""
    terms = []
    for term in rows.linear.terms:
        source = term.atom.source
        if not isinstance(source, Segment) or (source.block,) != degree.blocks or rows.linear.bias is not None:
            raise NotLiftedError("a sum is divided by the number of other edges", "use a mean over the same edges")
        atom = Atom(Segment(source.block, source.rows, mean=True), term.atom.channels, term.atom.space)
        terms.append(replace(term, atom=atom))
    return replace(rows, linear=Linear(tuple(terms), None, rows.linear.channels, rows.linear.space, name=name))


def _shared(context: Context, value: Mixture | StackedRows, shares: PartMeans) -> SharedParts:
    stack = value.linear if isinstance(value, Mixture) else context.stack(value)
    return SharedParts((stack,), shares.linear, value.shape)


def gemm(context: Context, node: onnx.NodeProto) -> Value:
    """``alpha x W + beta b``."""
    value, settings = context.values[node.input[0]], attributes(node)
    weight = context.known(node.input[1]).astype(np.float64)
    if not isinstance(value, Rows) or settings.get("transA", 0):
        raise NotLiftedError("it multiplies something other than rows of nodes", "use a dense layer")
    matrix = (weight.T if settings.get("transB", 0) else weight) * _number(settings.get("alpha", 1.0))
    linear = value.linear.times(matrix, node.output[0])
    if len(node.input) > 2 and node.input[2]:
        bias = np.broadcast_to(context.known(node.input[2]).astype(np.float64), (1, matrix.shape[1]))[0]
        linear = linear.plus_row(bias * _number(settings.get("beta", 1.0)), node.output[0])
    return Rows(linear, (matrix.shape[1],))


def _number(value: object) -> float:
    assert isinstance(value, int | float)
    return float(value)


def matmul(context: Context, node: onnx.NodeProto) -> Value:
    """Rows, or each head of them, times a constant matrix."""
    value = context.values[node.input[0]]
    if isinstance(value, StackedRows):
        value = mixture(context, value)
    if not isinstance(value, Rows | Mixture | PartMeans):
        raise NotLiftedError("it multiplies something other than rows of nodes", "use a dense layer")
    weight = context.known(node.input[1]).astype(np.float64)
    if len(shape_of(value)) == 1 and weight.ndim == 2:
        return mapped(value, value.linear.times(weight, node.output[0]), (weight.shape[1],))
    linear, shape = affine(value.linear, shape_of(value), lambda rows: rows @ weight, node.output[0])
    return mapped(value, linear, shape)


def einsum(context: Context, node: onnx.NodeProto) -> Value:
    """Rows and a constant, by an equation whose first letter is the node."""
    equation = attributes(node)["equation"]
    assert isinstance(equation, bytes)
    text = equation.decode().replace(" ", "")
    operands, result = text.split("->")
    values = [context.values[name] for name in node.input]
    found = [position for position, value in enumerate(values) if isinstance(value, Rows)]
    letters = operands.split(",")
    if len(values) != 2 or len(found) != 1 or result[:1] != letters[found[0]][:1]:
        raise NotLiftedError(f"the equation '{text}' is not one of rows and a constant", "use a dense layer")
    value, constant = values[found[0]], context.known(node.input[1 - found[0]]).astype(np.float64)
    assert isinstance(value, Rows)

    def apply(rows: Matrix) -> Matrix:
        result: Matrix = np.einsum(text, *((rows, constant) if found[0] == 0 else (constant, rows)))
        return result

    linear, shape = affine(value.linear, value.shape, apply, node.output[0])
    return Rows(linear, shape)


def mixture(context: Context, value: StackedRows) -> Mixture:
    """Stacked rows as one tensor."""
    return Mixture(context.stack(value), len(value.parts), value.shape)


def reduction(context: Context, node: onnx.NodeProto) -> Value:
    """ReduceSum and ReduceMean: over axes of a row, over stacked tensors, over the nodes of each part."""
    name = node.input[0]
    value, rank = context.values[name], len(context.shape(name))
    axes, keep = axes_of(context, node, rank), bool(whole(node, "keepdims", 1))
    mean = node.op_type == "ReduceMean"
    if isinstance(value, SharedParts) and axes == (0,) and not mean and not keep:
        [stack], weights = value.parts, value.weights
        source = stack.terms[0].atom.source
        parts = len(source.parts)
        linear = Linear.of(
            Atom(FusedParts(stack, weights, parts), stack.channels, source.parts[0].space), node.output[0]
        )
        return Rows(linear, value.shape)
    if isinstance(value, StackedRows) and axes == (0,) and not keep:
        total = value.parts[0]
        for part in value.parts[1:]:
            total = total.plus(part, node.output[0])
        total = total.times(np.eye(total.channels) / len(value.parts), node.output[0]) if mean else total
        return Rows(total, value.shape)
    if isinstance(value, StackedRows | Mixture) and axes == (1,) and mean:
        found = mixture(context, value) if isinstance(value, StackedRows) else value
        channels = found.linear.channels
        return PartMeans(Linear.of(Atom(MeanOfParts(found.linear, found.parts), channels, Space())), found.parts)
    lead = 2 if isinstance(value, Mixture) else 1
    if not isinstance(value, Rows | Mixture | PartMeans) or not axes or min(axes) < lead:
        raise NotLiftedError("it reduces over nodes or edges", "use a layer that docs/pyg.md lists")
    inner = tuple(axis - lead + 1 for axis in axes)

    def apply(rows: Matrix) -> Matrix:
        found: Matrix = (np.mean if mean else np.sum)(rows, axis=inner, keepdims=keep)
        return found

    linear, shape = affine(value.linear, shape_of(value), apply, node.output[0])
    return mapped(value, linear, shape)


def view(context: Context, node: onnx.NodeProto) -> Value:
    """Reshape, Squeeze, Unsqueeze, Flatten, Identity, Cast, Expand: the same numbers, or copies of them."""
    value, name = context.values[node.input[0]], node.input[0]
    before, after = context.shape(name), context.shape(node.output[0])
    if before == after or isinstance(value, RowLength):
        return value
    match value:
        case PartMeans():
            return value
        case Rows() if after[:1] == before[:1] and width(after[1:]) == width(before[1:]):
            return replace(value, shape=after[1:])
        case Rows() if after[:1] == before[:1] and node.op_type == "Expand":
            linear, shape = affine(
                value.linear, value.shape, lambda rows: np.broadcast_to(rows, (len(rows), *after[1:]))
            )
            return Rows(linear, shape)
        case Rows() if after == (1, *before):
            return StackedRows((value.linear,), value.shape)
        case StackedRows() | Mixture() if after[:2] == before[:2] and width(after[2:]) == width(before[2:]):
            return replace(value, shape=after[2:])
        case StackedRows(parts=(part,)) if after == before[1:]:
            return Rows(part, value.shape)
    raise NotLiftedError(
        f"it brings rows of nodes from {list(before[1:])} to another number of rows", "keep nodes as the first axis"
    )


def concat(context: Context, node: onnx.NodeProto) -> Value:
    """Rows side by side, and tensors that are stacked."""
    values = [context.values[name] for name in node.input]
    rank = len(context.shape(node.output[0]))
    axis = whole(node, "axis", 0) % rank
    if axis == 0 and all(isinstance(value, StackedRows) for value in values):
        stacked = [value for value in values if isinstance(value, StackedRows)]
        if len({value.shape for value in stacked}) == 1:
            return StackedRows(tuple(part for value in stacked for part in value.parts), stacked[0].shape)
    if axis == 0:
        raise NotLiftedError("it puts rows of different nodes below each other", "keep node types apart")
    found: list[Rows] = []
    for name, value in zip(node.input, values, strict=True):
        if isinstance(value, Known) and not value.free and value.array.ndim == 2:
            value = Rows(context.table(name, value), tuple(value.array.shape[1:]))
        if not isinstance(value, Rows):
            raise NotLiftedError("it joins rows of nodes with something else", "join rows of nodes only")
        found.append(value)
    shape = context.shape(node.output[0])[1:]
    total: Linear | None = None
    places = np.arange(width(shape)).reshape(shape)
    first = 0
    for value in found:
        size = value.shape[axis - 1]
        columns = places.take(range(first, first + size), axis=axis - 1).reshape(-1)
        first += size
        placed = np.zeros((value.linear.channels, width(shape)))
        placed[np.arange(len(columns)), columns] = 1
        term = value.linear.stored.times(placed)
        total = term if total is None else total.plus(term, node.output[0])
    assert total is not None
    return Rows(replace(total, name=node.output[0]), tuple(shape))


def within_rows(context: Context, node: onnx.NodeProto, apply: Callable[[Matrix], Matrix]) -> Value:
    """What picks or turns columns."""
    value = context.values[node.input[0]]
    if not isinstance(value, Rows):
        raise NotLiftedError("its form is not recognised", "use layers that docs/pyg.md lists")
    linear, shape = affine(value.linear, value.shape, apply, node.output[0])
    return Rows(linear, shape)


def transpose(context: Context, node: onnx.NodeProto) -> Value:
    """Axes of a row in another order."""
    perm = attributes(node).get("perm")
    if not isinstance(perm, list) or perm[0] != 0:
        raise NotLiftedError("it transposes nodes", "keep nodes as the first axis")
    return within_rows(context, node, lambda rows: rows.transpose(perm))


def sliced(context: Context, node: onnx.NodeProto) -> Value:
    """Columns of rows; the TorchScript exporter also slices whole tensors."""
    name = node.input[0]
    before, after = context.shape(name), context.shape(node.output[0])
    if before == after:
        return context.values[name]
    if before[0] != after[0]:
        raise NotLiftedError("it takes some of the nodes or edges", "compute all nodes, and take rows of the result")
    starts, ends, axes, steps = (*(context.known(given) for given in node.input[1:]), None, None)[:4]
    assert starts is not None and ends is not None
    over = range(len(starts)) if axes is None else axes.tolist()
    index = [slice(None)] * len(before)
    for position, axis in enumerate(over):
        step = 1 if steps is None else int(steps[position])
        index[axis] = slice(int(starts[position]), int(ends[position]), step)
    return within_rows(context, node, lambda rows: rows[tuple(index)])


def split(context: Context, node: onnx.NodeProto) -> tuple[Value, ...]:
    """Columns of rows, one part after the other."""
    axis = whole(node, "axis", 0) % len(context.shape(node.input[0]))
    if axis == 0:
        raise NotLiftedError("it divides nodes or edges", "keep them together")
    found: list[Value] = []
    first = 0
    for output in node.output:
        end = first + context.shape(output)[axis]
        columns = range(first, end)
        found.append(within_rows(context, node, lambda rows, columns=columns: rows.take(columns, axis)))  # type: ignore[misc]
        first = end
    return tuple(found)


def batch_norm(context: Context, node: onnx.NodeProto) -> Value:
    """A factor and an offset for each column (Ioffe and Szegedy, 2015), with the statistics of training."""
    value = context.values[node.input[0]]
    if not isinstance(value, Rows) or len(value.shape) != 1 or len(node.output) > 1:
        raise NotLiftedError("it does not normalise columns with fixed statistics", "export the model in eval mode")
    scale, bias, mean, variance = (context.known(name).astype(np.float64) for name in node.input[1:5])
    epsilon = attributes(node).get("epsilon", 1e-5)
    factor = scale / np.sqrt(variance + _number(epsilon))
    linear = value.linear.times(np.diag(factor)).plus_row(bias - mean * factor, node.output[0])
    return Rows(linear, value.shape)


def copied(context: Context, node: onnx.NodeProto) -> Value:
    """An operator that the lifted model has too: a function of single numbers, or anything over rows [N, C]."""
    operands: list[Linear | Array] = []
    first: Rows | Mixture | None = None
    for name in node.input:
        value = context.values[name] if name else Known(np.zeros(0))
        if isinstance(value, StackedRows):
            value = mixture(context, value)
        match value:
            case Rows() | Mixture():
                first = value if first is None else first
                operands.append(value.linear)
            case Known(array, free) if not free:
                operands.append(array)
            case _:
                raise NotLiftedError("its form is not recognised", "use layers that docs/pyg.md lists")
    assert first is not None
    before, after = context.shape(node.input[0]), context.shape(node.output[0])
    flat = len(first.shape) == 1 and isinstance(first, Rows) and len(after) == 2
    if node.op_type not in ELEMENTWISE and not flat:
        raise NotLiftedError("no layer of hetfab computes it of rows of nodes", "use layers that docs/pyg.md lists")
    if before[0] != after[0]:
        raise NotLiftedError("its result has other rows than its operand", "keep nodes as the first axis")
    shape = first.shape if node.op_type in ELEMENTWISE else after[1:]
    atom = Atom(Applied(node, tuple(operands)), width(shape), first.linear.space)
    return mapped(first, Linear.of(atom, node.output[0]), shape)


def prelu(context: Context, node: onnx.NodeProto) -> Value:
    """A PRelu with one slope is a LeakyRelu."""
    slope = context.known(node.input[1]).reshape(-1)
    if slope.size != 1:
        return copied(context, node)
    leaky = onnx.helper.make_node("LeakyRelu", [node.input[0]], list(node.output), node.name, alpha=float(slope[0]))
    return copied(context, leaky)


def softmax(context: Context, node: onnx.NodeProto) -> Value:
    """A softmax over the parts of a stack; any other is copied."""
    value = context.values[node.input[0]]
    if isinstance(value, PartMeans):
        if value.linear.channels != 1 or whole(node, "axis", -1) % len(context.shape(node.input[0])) != 0:
            raise NotLiftedError("it is no softmax over stacked tensors", "take it over the first axis")
        return replace(value, shares=True)
    return copied(context, node)


def length(context: Context, node: onnx.NodeProto) -> Value:
    """The Euclidean length of rows."""
    value, rank = context.values[node.input[0]], len(context.shape(node.input[0]))
    if not isinstance(value, Rows) or axes_of(context, node, rank) != (1,) or rank != 2:
        raise NotLiftedError("it is not the length of rows", "reduce the last axis")
    return RowLength(value.linear)


def limited(context: Context, node: onnx.NodeProto) -> Value:
    """Clip and Max: a number of edges that is at least 1, a length that is not 0, a sum that is not 0."""
    values = [context.values[name] for name in node.input if name]
    value = next(found for found in values if not isinstance(found, Known))
    bounds = [found for found in values if isinstance(found, Known)]
    smallest = bounds[0].uniform() if len(bounds) == 1 and len(values) == 2 else None
    if len(values) == 1:
        return value
    match value:
        case RowLength() if smallest is not None:
            return replace(value, smallest=max(value.smallest, smallest))
        case NodeSpecial(kind=Special.DEGREE) if smallest == 1:
            return replace(value, kind=Special.CLAMPED)
        case NodeSpecial(kind=Special.TOTAL) if smallest is not None and 0 <= smallest < 1e-6:
            return value
    return copied(context, node)
