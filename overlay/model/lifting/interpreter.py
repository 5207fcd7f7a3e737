# SPDX-License-Identifier: Apache-2.0
"""Interprets an exported model tensor by tensor; one rule for each operator, and a line for each that none covers."""

from collections.abc import Callable, Iterable

import onnx

from hetfab.overlay.model.layers import describe
from hetfab.overlay.model.lifting import edge_rules, row_rules
from hetfab.overlay.model.lifting.context import Context, NotLiftedError, whole
from hetfab.overlay.model.lifting.linear import TypesMixedError
from hetfab.overlay.model.lifting.scatter import scatter
from hetfab.overlay.model.lifting.values import (
    Blocked,
    EdgeIds,
    EdgeIndex,
    EdgeRows,
    Known,
    NodeSpecial,
    Rows,
    Special,
    Value,
)

#: Where types are mixed: by a layer's default, or by wrong meanings of inputs.
_MIXED = "give edges between types to layers with add_self_loops=False, or correct what the inputs mean"
Rule = Callable[[Context, onnx.NodeProto], Value | tuple[Value, ...]]


def interpret(context: Context, nodes: Iterable[onnx.NodeProto]) -> list[str]:
    """Gives every tensor its value.

    Returns:
        A line for each operator that is not recognised; those that only depend on such are not named.
    """
    refused: list[str] = []
    nodes = list(nodes)
    context.uses.update(name for node in nodes if node.op_type not in ("Shape", "Size") for name in node.input)
    for node in nodes:
        try:
            found = _value(context, node)
        except TypesMixedError as error:
            refused.append(f"{describe(node)}: {error}; {_MIXED}")
            found = Blocked()
        except NotLiftedError as error:
            refused.append(f"{describe(node)}: {error}")
            found = Blocked()
        results = found if isinstance(found, tuple) else (found,) * len(node.output)
        for name, value in zip(node.output, results, strict=True):
            context.values[name] = value
    return refused


def _value(context: Context, node: onnx.NodeProto) -> Value | tuple[Value, ...]:
    operands = [context.values[name] for name in node.input if name]
    if node.op_type in ("Shape", "Size"):
        return Known(context.probe[node.output[0]], free=True)
    if any(isinstance(value, Blocked) for value in operands):
        return Blocked()
    if all(isinstance(value, Known) for value in operands):
        free = any(isinstance(value, Known) and value.free for value in operands) and not _repeats(node, operands)
        return tuple(Known(context.probe[name], free) for name in node.output if name)
    for value in operands:
        if isinstance(value, NodeSpecial) and value.kind is Special.LARGEST and node.op_type not in _OF_LARGEST:
            raise NotLiftedError(
                f"it reads the largest of neighbours, of '{value.maker}', which is not executed",
                "aggregate by sum, mean or attention in place of max",
            )
    if node.domain or node.op_type not in _RULES:
        if any(edge_rules.of_edges(value) for value in operands):
            raise NotLiftedError(
                "it computes something of edges that no graph operator of hetfab does", "use layers of docs/pyg.md"
            )
        return row_rules.copied(context, node)
    return _RULES[node.op_type](context, node)


def _repeats(node: onnx.NodeProto, operands: list[Value]) -> bool:
    """Whether a row of a constant is gathered as often as the graph's size says: the numbers do not depend on it."""
    match node.op_type, operands:
        case "Gather", [Known(free=False), Known() as index]:
            return index.array.size > 1 and index.uniform() is not None
    return False


def _either(rows: Rule, edges: Rule) -> Rule:
    """One rule for rows of nodes, another where an operand is of edges."""

    def rule(context: Context, node: onnx.NodeProto) -> Value | tuple[Value, ...]:
        of_edges = any(edge_rules.of_edges(context.values[name]) for name in node.input if name)
        return (edges if of_edges else rows)(context, node)

    return rule


def _gather(context: Context, node: onnx.NodeProto) -> Value | tuple[Value, ...]:
    """Columns by constant positions, or anything by edges."""
    data, index = (context.values[name] for name in node.input)
    if isinstance(data, Rows) and isinstance(index, Known) and node.op_type == "Gather":
        axis = whole(node, "axis", 0) % len(context.shape(node.input[0]))
        if axis > 0:
            return row_rules.within_rows(context, node, lambda rows: rows.take(index.array, axis))
    return edge_rules.gather(context, node)


def _split(context: Context, node: onnx.NodeProto) -> Value | tuple[Value, ...]:
    """Both ends of edges, or columns."""
    value = context.values[node.input[0]]
    if isinstance(value, EdgeIndex):
        if len(node.output) != 2 or whole(node, "axis", 0) != int(value.turned):
            raise NotLiftedError("it divides edges", "keep them together")
        return tuple(EdgeIds(value.blocks, end) for end in edge_rules.ENDS)
    return row_rules.split(context, node)


def _slice(context: Context, node: onnx.NodeProto) -> Value | tuple[Value, ...]:
    """One end of edges, or columns."""
    value = context.values[node.input[0]]
    before, after = context.shape(node.input[0]), context.shape(node.output[0])
    if isinstance(value, EdgeIndex) and after[int(value.turned)] == 1:
        start = int(context.known(node.input[1]).reshape(-1)[0]) % 2
        return EdgeIds(value.blocks, edge_rules.ENDS[start])
    if edge_rules.of_edges(value):
        if before != after:
            raise NotLiftedError("it takes some of the edges", "give the model only the edges it reads")
        return value
    return row_rules.sliced(context, node)


def _function(context: Context, node: onnx.NodeProto) -> Value | tuple[Value, ...]:
    if isinstance(context.values[node.input[0]], EdgeRows):
        return edge_rules.leaky(context, node)
    return row_rules.copied(context, node)


_VIEW = _either(row_rules.view, edge_rules.edge_view)
_ARITHMETIC = _either(row_rules.arithmetic, edge_rules.edge_arithmetic)


def _divided(context: Context, node: onnx.NodeProto) -> Value | tuple[Value, ...]:
    left, right = (context.values[name] for name in node.input)
    if isinstance(left, Rows) and isinstance(right, NodeSpecial):
        return row_rules.arithmetic(context, node)
    return _ARITHMETIC(context, node)


#: What may read the largest of neighbours: views, copies to edges, another maximum, and what takes it from logits.
_OF_LARGEST = (
    *("Identity", "Reshape", "Squeeze", "Unsqueeze", "Expand", "Cast", "Gather", "GatherND", "GatherElements"),
    *("ScatterElements", "ScatterND", "Sub"),
)

#: Operator -> rule. Adding an operator adds one line and its rule.
_RULES: dict[str, Rule] = {
    "Add": _ARITHMETIC,
    "Sub": _ARITHMETIC,
    "Mul": _ARITHMETIC,
    "Div": _divided,
    "Pow": _either(row_rules.copied, edge_rules.edge_arithmetic),
    "Gemm": row_rules.gemm,
    "MatMul": _either(row_rules.matmul, edge_rules.edge_product),
    "Einsum": row_rules.einsum,
    "ReduceSum": _either(row_rules.reduction, edge_rules.edge_reduction),
    "ReduceMean": _either(row_rules.reduction, edge_rules.edge_reduction),
    "ReduceMin": _either(row_rules.copied, edge_rules.edge_reduction),
    "ReduceMax": _either(row_rules.copied, edge_rules.edge_reduction),
    "ReduceL2": row_rules.length,
    "Reshape": _VIEW,
    "Squeeze": _VIEW,
    "Unsqueeze": _VIEW,
    "Flatten": _VIEW,
    "Identity": _VIEW,
    "Cast": _VIEW,
    "Expand": _VIEW,
    "Tile": _VIEW,
    "Transpose": _either(row_rules.transpose, edge_rules.edge_view),
    "Slice": _slice,
    "Split": _split,
    "Concat": _either(row_rules.concat, edge_rules.join),
    "Gather": _gather,
    "GatherND": _gather,
    "GatherElements": _gather,
    "Compress": edge_rules.compress,
    "Equal": edge_rules.equal,
    "Not": edge_rules.invert,
    "NonZero": edge_rules.positions,
    "Where": edge_rules.choose,
    "Exp": _either(row_rules.copied, edge_rules.exponential),
    "LeakyRelu": _function,
    "Relu": _function,
    "PRelu": row_rules.prelu,
    "Softmax": row_rules.softmax,
    "Max": row_rules.limited,
    "Clip": row_rules.limited,
    "BatchNormalization": row_rules.batch_norm,
    "ScatterElements": scatter,
    "ScatterND": scatter,
}
