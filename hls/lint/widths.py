# SPDX-License-Identifier: Apache-2.0
"""The rule about widths: an integer becomes narrower only where the source says so."""

import re
from collections.abc import Iterator
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
_ARBITRARY = re.compile(r"(?:const )?ap_(u?)int<(\d+)>$")
_BASE = re.compile(r"(?:const )?(?:ap_int_base|ap_private)<(\d+), (true|false)>")


def width_of(kind: Any) -> tuple[int, bool] | None:
    """Bits of an integer type and whether it is signed; None for other types."""
    kind = kind.get_canonical()
    if kind.kind.name.endswith("REFERENCE"):
        kind = kind.get_pointee().get_canonical()
    if kind.kind.name in _NATIVE:
        return _NATIVE[kind.kind.name]
    match = _ARBITRARY.match(kind.spelling)
    if match:
        return int(match[2]), not match[1]
    match = _BASE.match(kind.spelling)
    return (int(match[1]), match[2] == "true") if match else None


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
            change = _change(node)
            if change is None:
                continue
            source, target = change
            if target == (1, False) and node.type.kind.name == "BOOL":
                continue
            wide, narrow = width_of(source.type), target
            if wide is not None and wide[0] > narrow[0] and not _fits(source, narrow):
                text = f"{_shown(wide)} become {_shown(narrow)}"
                yield Found(node.file, node.line, text)


def _change(node: Node) -> tuple[Node, tuple[int, bool]] | None:
    """What a node converts without being told to, and to which width."""
    if node.kind == "COMPOUND_ASSIGNMENT_OPERATOR" and len(node.children) == 2:
        target = width_of(node.children[0].type)
        shifts = node.operator() in {"<<=", ">>="}
        return (_source(node.children[1]), target) if target is not None and not shifts else None
    is_conversion = node.kind == "UNEXPOSED_EXPR" or (node.kind == "CALL_EXPR" and node.is_constructor())
    operands = [child for child in node.children if child.is_expression()]
    target = width_of(node.type)
    if not is_conversion or len(operands) != 1 or target is None or _is_written(node):
        return None
    if width_of(operands[0].type) is None:
        return None
    # The innermost of a chain of wrappers is what converts.
    return (operands[0], target) if width_of(operands[0].type) != target else None


def _source(node: Node) -> Node:
    """What an operand was before it was made as wide as its partner."""
    while node.kind in {"UNEXPOSED_EXPR", "PAREN_EXPR"} and len(node.children) == 1:
        below = width_of(node.children[0].type)
        if below is None:
            break
        node = node.children[0]
    return node


def _is_written(node: Node) -> bool:
    """Whether a cast or the form T x(value) in the source asks for it."""
    around = node.parent
    while around is not None and around.kind == "UNEXPOSED_EXPR":
        around = around.parent
    if around is None:
        return False
    if around.kind in CASTS:
        return True
    return around.kind == "VAR_DECL" and node.kind == "CALL_EXPR" and node.parent is around


def _fits(source: Node, target: tuple[int, bool]) -> bool:
    value = source.constant()
    if value is None:
        return False
    bits, signed = target
    return -(1 << (bits - 1)) <= value < (1 << (bits - 1)) if signed else 0 <= value < (1 << bits)


def _shown(width: tuple[int, bool]) -> str:
    return f"{width[0]} {'signed' if width[1] else 'unsigned'} bits"


RULES = (narrowing,)
