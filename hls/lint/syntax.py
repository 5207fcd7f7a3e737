# SPDX-License-Identifier: Apache-2.0
"""The syntax tree of a function as libclang gives it, with parents: of an instance of a template, with its types."""

import ctypes
from collections.abc import Iterator
from typing import Any

from clang import cindex

FUNCTIONS = {"FUNCTION_DECL", "CXX_METHOD", "CONSTRUCTOR", "DESTRUCTOR", "CONVERSION_FUNCTION", "FUNCTION_TEMPLATE"}
LOOPS = {"FOR_STMT", "WHILE_STMT", "DO_STMT", "CXX_FOR_RANGE_STMT"}
CASTS = {
    "CSTYLE_CAST_EXPR",
    "CXX_STATIC_CAST_EXPR",
    "CXX_REINTERPRET_CAST_EXPR",
    "CXX_CONST_CAST_EXPR",
    "CXX_FUNCTIONAL_CAST_EXPR",
}
#: Wrappers that change nothing about which object an expression means.
_TRANSPARENT = {"UNEXPOSED_EXPR", "PAREN_EXPR"}


class Node:
    """A cursor and its place in the tree.

    Attributes:
        kind: The cursor's kind, as ``CALL_EXPR``.
        name: What it is called, or what it refers to.
        parent: The node around it; None for a function.
        children: In the order of the source.
    """

    def __init__(self, cursor: Any, parent: "Node | None" = None) -> None:
        self.cursor = cursor
        self.kind: str = cursor.kind.name
        self.name: str = cursor.spelling
        self.parent = parent
        # A static assertion is gone before synthesis, so what it calls is not part of the design.
        inner = [] if self.kind == "STATIC_ASSERT" else cursor.get_children()
        self.children = [Node(child, self) for child in inner]

    @property
    def line(self) -> int:
        """Line in the file."""
        return int(self.cursor.location.line)

    @property
    def file(self) -> str:
        """Path of the file."""
        file = self.cursor.location.file
        return str(file) if file else ""

    @property
    def type(self) -> Any:
        """The type without aliases, as a libclang type."""
        return self.cursor.type.get_canonical()

    @property
    def referenced(self) -> Any:
        """The declaration that it refers to, as a cursor, or None."""
        return self.cursor.referenced

    def walk(self) -> Iterator["Node"]:
        """This node and all below it, in the order of the source."""
        yield self
        for child in self.children:
            yield from child.walk()

    def ancestors(self) -> Iterator["Node"]:
        """The nodes around it, innermost first."""
        node = self.parent
        while node is not None:
            yield node
            node = node.parent

    def inner(self) -> "Node":
        """The expression without implicit conversions, copies and parentheses around it."""
        node = self
        while True:
            expressions = [child for child in node.children if child.is_expression()]
            copies = node.kind == "CALL_EXPR" and node.is_constructor() and len(expressions) == 1
            if len(expressions) != 1 or not (node.kind in _TRANSPARENT or copies):
                return node
            node = expressions[0]

    def is_expression(self) -> bool:
        """Whether it has a value."""
        return bool(self.cursor.kind.is_expression())

    def is_constructor(self) -> bool:
        """Whether it calls a constructor."""
        target = self.referenced
        return target is not None and target.kind.name == "CONSTRUCTOR"

    def arguments(self) -> list["Node"]:
        """The arguments of a call."""
        expressions = [child for child in self.children if child.is_expression()]
        count = sum(1 for _ in self.cursor.get_arguments())
        return expressions[len(expressions) - count :] if count else []

    def operator(self) -> str:
        """The operator of a binary expression, as ``<=``; empty where it cannot be read."""
        left = self.children[0].cursor.extent.end.offset if self.children else 0
        return next(
            (
                token.spelling
                for token in self.cursor.get_tokens()
                if token.extent.start.offset >= left and token.kind.name == "PUNCTUATION" and token.spelling != ")"
            ),
            "",
        )

    def constant(self) -> int | None:
        """The value, if it is an integer known at compile time."""
        return _evaluate(self.cursor)


def _evaluate(cursor: Any) -> int | None:
    """An integer constant expression's value; libclang's Python side does not offer it."""
    library = cindex.conf.lib
    library.clang_Cursor_Evaluate.argtypes = [cindex.Cursor]
    library.clang_Cursor_Evaluate.restype = ctypes.c_void_p
    library.clang_EvalResult_getKind.argtypes = [ctypes.c_void_p]
    library.clang_EvalResult_getAsLongLong.argtypes = [ctypes.c_void_p]
    library.clang_EvalResult_getAsLongLong.restype = ctypes.c_longlong
    library.clang_EvalResult_dispose.argtypes = [ctypes.c_void_p]
    result = library.clang_Cursor_Evaluate(cursor)
    if not result:
        return None
    try:
        is_integer = library.clang_EvalResult_getKind(result) == 1
        return int(library.clang_EvalResult_getAsLongLong(result)) if is_integer else None
    finally:
        library.clang_EvalResult_dispose(result)
