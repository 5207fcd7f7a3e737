# SPDX-License-Identifier: Apache-2.0
"""Rules about sizes known before synthesis: loops that end, arrays of constant size, indices inside them."""

from collections.abc import Iterator
from typing import Any

from hetfab.hls.lint.findings import Found, Scope, rule
from hetfab.hls.lint.ports import accesses, steps_of
from hetfab.hls.lint.program import Function, Program
from hetfab.hls.lint.syntax import LOOPS, Node

_GUIDE = "AMD UG1399, '{}'"
_BRANCHES = {"IF_STMT", "CONDITIONAL_OPERATOR", "SWITCH_STMT"}


def _found(node: Node, text: str) -> Found:
    return Found(node.file, node.line, text)


def _loops(program: Program) -> Iterator[tuple[Function, Node]]:
    for function in program.functions.values():
        yield from ((function, node) for node in function.own_nodes if node.kind in LOOPS)


def condition_of(loop: Node) -> Node | None:
    """What a loop tests; None for ``for (;;)``."""
    if loop.kind == "WHILE_STMT":
        return loop.children[0]
    if loop.kind == "DO_STMT":
        return loop.children[-1]
    header = loop.children[:-1]
    tested = next((child for child in header if child.type.kind.name == "BOOL"), None)
    offsets = [t.extent.start.offset for t in loop.cursor.get_tokens() if t.spelling == ";"]
    if tested is not None or len(offsets) < 2:
        return tested
    return next((child for child in header if offsets[0] < child.cursor.extent.start.offset < offsets[1]), None)


@rule(
    "HLS-B01",
    "every loop has an end: a condition that can become false, a break or a return",
    do="give it a bound; an engine handles one instruction a call",
    source=_GUIDE.format("Loops"),
)
def endless_loops(program: Program) -> Iterator[Found]:
    """Loops such as ``while (true)``, without a way out."""
    for function, loop in _loops(program):
        if _is_endless(function, loop):
            yield _found(loop, "a loop that never ends")


def _is_endless(function: Function, loop: Node) -> bool:
    if loop.kind == "CXX_FOR_RANGE_STMT" or _is_left(loop):
        return False
    condition = condition_of(loop)
    return condition is None or (not function.is_general and bool(condition.constant()))


def _is_left(loop: Node) -> bool:
    for node in loop.walk():
        if node.kind == "RETURN_STMT":
            return True
        if node.kind == "BREAK_STMT":
            around = next(a for a in node.ancestors() if a.kind in LOOPS | {"SWITCH_STMT"})
            if around is loop:
                return True
    return False


@rule(
    "HLS-B02",
    "every loop whose trips are not constant states the least and the most with LOOP_TRIPCOUNT",
    do="add #pragma HLS LOOP_TRIPCOUNT min= max= to its body",
    source="this project: reports show a latency, and whoever writes the bound has thought of one",
    scope=Scope.HOUSE,
)
def unstated_bounds(program: Program) -> Iterator[Found]:
    """Run-time bounds without a statement of them."""
    for function, loop in _loops(program):
        if function.is_general or _constant_range(loop) is not None or _is_endless(function, loop):
            continue
        stated = [d for d in program.directives_of_loop(loop) if d.name == "loop_tripcount"]
        if not any(d.has("min") and d.has("max") for d in stated):
            yield _found(loop, "a loop with a bound that is known only at run time")


@rule(
    "HLS-B03",
    "every array has a constant size",
    do="declare it for the largest size that a design allows",
    source=_GUIDE.format("Arrays") + ": arrays are memories",
)
def variable_length_arrays(program: Program) -> Iterator[Found]:
    """Arrays whose size is a run-time value."""
    for function in program.functions.values():
        for node in function.own_nodes:
            if node.kind == "VAR_DECL" and node.type.kind.name == "VARIABLEARRAY":
                yield _found(node, f"the array '{node.name}' of a size that is known only at run time")


@rule(
    "HLS-B04",
    "every index that is known at compile time is inside its array",
    do="correct the index, the loop or the size: hardware reads another word without a word",
    source=_GUIDE.format("Arrays") + ": an address beyond a memory is not checked",
)
def indices(program: Program) -> Iterator[Found]:
    """Constant indices, and those made of counters of constant loops; of ports in functions that they are passed to."""
    for function in program.functions.values():
        for node in function.own_nodes if not function.is_general else ():
            if node.kind == "ARRAY_SUBSCRIPT_EXPR" and len(node.children) == 2:
                base = node.children[0].inner()
                if base.type.kind.name == "CONSTANTARRAY":
                    yield from _outside(node, base.name, base.type.element_count)
    for top in program.tops:
        arrays = {parameter.name: parameter.type for parameter in top.parameters}
        for access in accesses(steps_of(program, top)):
            for node, size in _dimensions(access.node, arrays[access.port.name]):
                yield from _outside(node, access.port.name, size)


def _outside(node: Node, name: str, size: int) -> Iterator[Found]:
    reached = _values(node.children[1], node)
    if reached is not None and (reached[0] < 0 or reached[1] >= size):
        shown = str(reached[0]) if reached[0] == reached[1] else f"{reached[0]} to {reached[1]}"
        yield _found(node, f"the index {shown} of '{name}', which has {size} elements")


def _dimensions(element: Node, array: Any) -> Iterator[tuple[Node, int]]:
    """Each index of an element of a port, with the size of its dimension; none for one behind a pointer."""
    indexed = []
    while element.kind == "ARRAY_SUBSCRIPT_EXPR":
        indexed.append(element)
        element = element.children[0].inner()
    target = element.referenced if element.kind == "DECL_REF_EXPR" else None
    sizes = []
    while array.kind.name == "CONSTANTARRAY":
        sizes.append(array.element_count)
        array = array.element_type.get_canonical()
    # A function may have got a part of the array.
    if target is not None and target.kind.name == "PARM_DECL" and len(sizes) == len(indexed):
        yield from zip(reversed(indexed), sizes, strict=True)


def _values(expression: Node, place: Node) -> tuple[int, int] | None:
    """The least and the greatest value of an index; None if it is not known at compile time."""
    node = expression.inner()
    value = node.constant()
    if value is not None:
        return value, value
    if node.kind == "DECL_REF_EXPR":
        return _counter_values(node, place)
    if node.kind != "BINARY_OPERATOR" or node.operator() not in {"+", "-", "*"}:
        return None
    left, right = (_values(child, place) for child in node.children)
    if left is None or right is None:
        return None
    combine = {"+": int.__add__, "-": int.__sub__, "*": int.__mul__}[node.operator()]
    ends = [combine(a, b) for a in left for b in right]
    return min(ends), max(ends)


def _counter_values(reference: Node, place: Node) -> tuple[int, int] | None:
    """The values of a constant loop's counter, where no condition stands between the loop and its use."""
    target = reference.referenced
    for around in place.ancestors():
        if around.kind in _BRANCHES:
            return None
        if around.kind == "FOR_STMT" and target is not None:
            counter = _counter(around)
            if counter is not None and counter.cursor == target:
                return _constant_range(around)
    return None


def _counter(loop: Node) -> Node | None:
    first = loop.children[0]
    variables = [child for child in first.children if child.kind == "VAR_DECL"] if first.kind == "DECL_STMT" else []
    return variables[0] if len(variables) == 1 else None


def _constant_range(loop: Node) -> tuple[int, int] | None:
    """First and last value of a counter that goes from one constant to another; None for other loops."""
    if loop.kind == "CXX_FOR_RANGE_STMT":
        return 0, 0
    counter = _counter(loop) if loop.kind == "FOR_STMT" else None
    condition = condition_of(loop) if counter is not None else None
    if counter is None or condition is None or condition.kind != "BINARY_OPERATOR":
        return None
    start = next((child.constant() for child in reversed(counter.children) if child.is_expression()), None)
    compared, bound = condition.children
    end = bound.constant()
    if start is None or end is None or compared.inner().referenced != counter.cursor:
        return None
    last = {"<": end - 1, "!=": end - 1, "<=": end, ">": end + 1, ">=": end}.get(condition.operator())
    step = _step(loop)
    if last is None or step is None:
        return None
    last = start + (last - start) // step * step
    return min(start, last), max(start, last)


def _step(loop: Node) -> int | None:
    """What a counter changes by in each trip, if that is constant."""
    change = loop.children[-2]
    match change.kind:
        case "UNARY_OPERATOR":
            return 1 if any(token.spelling == "++" for token in change.cursor.get_tokens()) else -1
        case "COMPOUND_ASSIGNMENT_OPERATOR":
            amount = change.children[1].constant() or 0
            return {"+=": amount, "-=": -amount}.get(change.operator()) or None
    return None


RULES = (endless_loops, unstated_bounds, variable_length_arrays, indices)
