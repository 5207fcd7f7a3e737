# SPDX-License-Identifier: Apache-2.0
"""The rule about widths: an integer becomes narrower only where the source says so."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from hetfab.hls.lint.findings import Found, Scope, rule
from hetfab.hls.lint.program import Program
from hetfab.hls.lint.syntax import CASTS, Node

_NATIVE = {
    "BOOL": (1, False),
    "CHAR_S": (8, True),
    "CHAR_U": (8, False),
    "SCHAR": (8, True),
    "UCHAR": (8, False),
    "SHORT": (16, True),
    "USHORT": (16, False),
    "INT": (32, True),
    "UINT": (32, False),
    "LONG": (64, True),
    "ULONG": (64, False),
    "LONGLONG": (64, True),
    "ULONGLONG": (64, False),
}
_FRACTIONS = {"HALF", "FLOAT", "DOUBLE", "LONGDOUBLE"}
#: Assignments with an operator that keeps the high bits of its operands.
_GROWING = {"+=", "-=", "*=", "|=", "^="}
_ARBITRARY = re.compile(r"(?:const )?ap_(u?)int<(\d+)>$")
_BASE = re.compile(r"(?:const )?(?:ap_int_base|ap_private)<(\d+), (true|false)>")


@dataclass(frozen=True)
class Width:
    """What values a type has room for: an integer's bits, and whether it is signed."""

    bits: int
    is_signed: bool

    def __str__(self) -> str:
        return f"{self.bits} {'signed' if self.is_signed else 'unsigned'} bits"

    def holds(self, value: int) -> bool:
        """Whether it has room for a value."""
        if self.is_signed:
            return -(1 << (self.bits - 1)) <= value < 1 << (self.bits - 1)
        return 0 <= value < 1 << self.bits


def width_of(kind: Any) -> Width | None:
    """The width of an integer type, references included; None for other types."""
    kind = kind.get_canonical()
    if kind.kind.name.endswith("REFERENCE"):
        kind = kind.get_pointee().get_canonical()
    if kind.kind.name in _NATIVE:
        return Width(*_NATIVE[kind.kind.name])
    match = _ARBITRARY.match(kind.spelling)
    if match:
        return Width(int(match[2]), not match[1])
    match = _BASE.match(kind.spelling)
    return Width(int(match[1]), match[2] == "true") if match else None


@rule(
    "HLS-W01",
    "an integer becomes narrower only by wrap<T>, saturate<T> or a written conversion",
    do="write wrap or saturate, whichever is meant, or make the target wider",
    source="this project: docs/arithmetic.md; a silent cut is a wrong result",
    scope=Scope.HOUSE,
)
def narrowing(program: Program) -> Iterator[Found]:
    """Implicit conversions and assignments that lose bits."""
    for function in program.functions.values():
        for node in function.own_nodes if not function.is_general else ():
            change = _assigned(node) or _converted(node)
            if change is None:
                continue
            source, target = change
            if source.type.kind.name in _FRACTIONS:
                yield Found(node.file, node.line, f"{source.type.spelling} become {target}")
                continue
            width = _width_of_value(source)
            value = source.constant()
            if width is not None and width.bits > target.bits and not (value is not None and target.holds(value)):
                yield Found(node.file, node.line, f"{width} become {target}")


def _assigned(node: Node) -> tuple[Node, Width] | None:
    """The value and the target of an assignment such as ``+=``, one whose result can be as wide as the value."""
    is_native = node.kind == "COMPOUND_ASSIGNMENT_OPERATOR" and node.operator() in _GROWING
    is_arbitrary = node.kind == "CALL_EXPR" and node.name.removeprefix("operator") in _GROWING
    if not (is_native or is_arbitrary) or len(node.children) < 2:
        return None
    target = width_of(node.children[0].type)
    value = node.children[-1]
    # What it was before it was made as wide as its partner.
    while value.kind in {"UNEXPOSED_EXPR", "PAREN_EXPR"} and len(value.children) == 1:
        if width_of(value.children[0].type) is None:
            break
        value = value.children[0]
    return (value, target) if target is not None else None


def _converted(node: Node) -> tuple[Node, Width] | None:
    """The operand and the target of a conversion that is not written."""
    operands = [child for child in node.children if child.is_expression()]
    is_conversion = node.kind == "UNEXPOSED_EXPR" or (node.kind == "CALL_EXPR" and node.is_constructor())
    target = width_of(node.type)
    if not is_conversion or len(operands) != 1 or target is None or node.type.kind.name == "BOOL" or _is_written(node):
        return None
    return operands[0], target


def _width_of_value(node: Node) -> Width | None:
    """The width of an expression's type, or of a slice with constant ends."""
    width = width_of(node.type)
    inner = node.inner()
    if width is not None or inner.kind != "CALL_EXPR" or inner.name not in {"range", "operator()"}:
        return width
    ends = [argument.constant() for argument in inner.arguments()[-2:]]
    if len(ends) != 2 or ends[0] is None or ends[1] is None:
        return None
    return Width(abs(ends[0] - ends[1]) + 1, False)


def _is_written(node: Node) -> bool:
    """Whether a cast or the form T x(value) in the source asks for it."""
    around = node.parent
    while around is not None and around.kind == "UNEXPOSED_EXPR":
        around = around.parent
    if around is None:
        return False
    return around.kind in CASTS or (around.kind == "VAR_DECL" and node.kind == "CALL_EXPR" and node.parent is around)


RULES = (narrowing,)
