# SPDX-License-Identifier: Apache-2.0
"""The HLS directives of a source: their options, and the statement that each belongs to, read by tree-sitter."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

import tree_sitter_cpp
from tree_sitter import Language, Node, Parser

_LOOPS = {"for_statement", "while_statement", "do_statement", "for_range_loop"}
_FUNCTIONS = {"function_definition", "lambda_expression"}
_CLASSES = {"class_specifier", "struct_specifier"}
#: A token that ends so, or begins so, is a part of an expression.
_OPEN_END = re.compile(r"[-+*/%&|^?:,(=]$|(^|\s)[<>]$")
_OPEN_START = re.compile(r"^[-+*/%&|^?:,)]|^[<>]$")

#: Line, first line and name of an enclosing function.
Owner: TypeAlias = tuple[int, int, str]


@dataclass(frozen=True)
class Directive:
    """``#pragma HLS name option=value flag``.

    Attributes:
        file: Path of the file.
        line: Its line.
        keyword: What follows ``#pragma``.
        name: In lower case; empty if there is none.
        options: Names in lower case with their values as written; None for a flag.
        place: ``function``, ``loop`` or ``region``, by the braces around it; ``outside`` without a function.
        loop_line: The line of the loop whose body it is in directly, or 0.
        before_loop: Whether a loop begins right after it, and it is not at the beginning of its block.
        function: First and last line and the name of the function around it.
        names: All identifiers of the function, or of the class around it.
    """

    file: str
    line: int
    keyword: str
    name: str
    options: tuple[tuple[str, str | None], ...]
    place: str
    loop_line: int
    before_loop: bool
    function: Owner
    names: frozenset[str]

    def option(self, name: str) -> str | None:
        """The value of an option; None without it."""
        return next((value for key, value in self.options if key == name), None)

    def has(self, name: str) -> bool:
        """Whether the option or flag is there."""
        return any(key == name for key, _ in self.options)


def read_directives(file: str, text: bytes) -> list[Directive]:
    """All HLS directives of a source, in its order."""
    root = Parser(Language(tree_sitter_cpp.language())).parse(text).root_node
    return [_directive(file, node, match) for node in _pragmas(root) if (match := _HLS.match(_text(node)))]


_HLS = re.compile(r"#\s*pragma\s+(hls)\b\s*(.*)", re.IGNORECASE | re.DOTALL)


def _pragmas(node: Node) -> Iterator[Node]:
    if node.type == "preproc_call":
        yield node
    for child in node.children:
        yield from _pragmas(child)


def _directive(file: str, node: Node, match: re.Match[str]) -> Directive:
    body = re.sub(r"//.*", "", match[2].replace("\\\n", " "))
    name, options = split_options(body)
    block = _ancestor(node, {"compound_statement"})
    function = _ancestor(node, _FUNCTIONS)
    scope = _ancestor(node, _CLASSES) or function
    owner = block.parent if block is not None else None
    while owner is not None and owner.type == "labeled_statement":
        owner = owner.parent
    place = "region"
    if block is None or function is None:
        place = "outside"
    elif owner is not None and owner.type in _FUNCTIONS:
        place = "function"
    elif owner is not None and owner.type in _LOOPS:
        place = "loop"
    return Directive(
        file=file,
        line=node.start_point[0] + 1,
        keyword=match[1],
        name=name,
        options=options,
        place=place,
        loop_line=owner.start_point[0] + 1 if place == "loop" and owner is not None else 0,
        before_loop=_before_loop(node),
        function=_owner(function),
        names=frozenset(_identifiers(scope)) if scope is not None else frozenset(),
    )


def split_options(body: str) -> tuple[str, tuple[tuple[str, str | None], ...]]:
    """Splits what follows ``#pragma HLS`` into the directive's name and its options.

    Values may be expressions with blanks: a token without ``=`` belongs to the value before it if either is open.
    A condition in front, ``if (X) pipeline``, is left out.
    """
    body = re.sub(r"^\s*if\s*\((?:[^()]|\([^()]*\))*\)", "", body, flags=re.IGNORECASE)
    tokens = re.sub(r"(?<![<>=!])\s*=(?!=)\s*", "=", body).split()
    if not tokens:
        return "", ()
    options: list[tuple[str, str | None]] = []
    for token in tokens[1:]:
        key, equals, value = token.partition("=")
        last = options[-1] if options else ("", None)
        if re.fullmatch(r"\w+", key) and equals and not _is_open(last[1]):
            options.append((key.lower(), value))
        elif last[1] is not None and (_is_open(last[1]) or _OPEN_START.match(token)):
            options[-1] = (last[0], f"{last[1]} {token}")
        else:
            options.append((token.lower(), None))
    return tokens[0].lower(), tuple(options)


def _is_open(value: str | None) -> bool:
    return value is not None and (value.count("(") > value.count(")") or bool(_OPEN_END.search(value)))


def _before_loop(node: Node) -> bool:
    following = node.next_named_sibling
    while following is not None and following.type in {"preproc_call", "comment"}:
        following = following.next_named_sibling
    before = node.prev_named_sibling
    while before is not None and before.type in {"preproc_call", "comment"}:
        before = before.prev_named_sibling
    if following is not None and following.type == "labeled_statement":
        following = following.named_children[-1]
    return following is not None and following.type in _LOOPS and before is not None


def _ancestor(node: Node, kinds: set[str]) -> Node | None:
    found = node.parent
    while found is not None and found.type not in kinds:
        found = found.parent
    return found


def _owner(function: Node | None) -> Owner:
    if function is None:
        return (0, 0, "")
    declarator = function.child_by_field_name("declarator")
    while declarator is not None and declarator.type != "function_declarator":
        declarator = declarator.child_by_field_name("declarator") or next(
            (child for child in declarator.named_children if child.type == "function_declarator"), None
        )
    named = declarator.child_by_field_name("declarator") if declarator is not None else None
    return (function.start_point[0] + 1, function.end_point[0] + 1, _text(named) if named is not None else "")


def _identifiers(node: Node) -> Iterator[str]:
    if node.type in {"identifier", "field_identifier"}:
        yield _text(node)
    for child in node.children:
        yield from _identifiers(child)


def _text(node: Node) -> str:
    return (node.text or b"").decode("utf-8", errors="replace")
