# SPDX-License-Identifier: Apache-2.0
"""What a top function does at its ports, in order: followed through calls, with branches and loops kept."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

from hetfab.hls.lint.pragmas import mode_of
from hetfab.hls.lint.program import Function, Program
from hetfab.hls.lint.syntax import LOOPS, Node

_STREAM = "hls::stream<"
_BURST = "hls::burst_maxi<"
#: The kind of an access that cannot be followed.
ESCAPE = "escape"
#: Expressions of a part of an array: an index, an offset, an address, what a pointer leads to.
_PLACES = {"ARRAY_SUBSCRIPT_EXPR", "BINARY_OPERATOR", "UNARY_OPERATOR"}


@dataclass(frozen=True)
class Port:
    """An argument of a top function.

    Attributes:
        name: Its name.
        kind: ``stream``, ``burst`` (a manual burst port), ``bus`` (a pointer to a bus), ``ram`` or ``other``.
    """

    name: str
    kind: str


@dataclass(frozen=True)
class Access:
    """An access to a port: ``read``, ``write``, a method of a stream or a burst port, or ``ESCAPE``."""

    port: Port
    kind: str
    node: Node


@dataclass(frozen=True)
class Fence:
    """A fence that names ports."""

    ports: frozenset[Port]


@dataclass(frozen=True)
class Branch:
    """One of several sequences happens."""

    choices: "tuple[tuple[Step, ...], ...]"


@dataclass(frozen=True)
class Loop:
    """A sequence happens again and again."""

    body: "tuple[Step, ...]"


@dataclass(frozen=True)
class Call:
    """A sequence that a return inside it ends."""

    body: "tuple[Step, ...]"


@dataclass(frozen=True)
class Return:
    """The end of the function."""


Step: TypeAlias = Access | Fence | Branch | Loop | Call | Return


def ports_of(program: Program, top: Function) -> dict[str, Port]:
    """The ports of a top function by the key of their parameter."""
    modes: dict[str, str | None] = {}
    for directive in program.directives_of(top):
        if directive.name == "interface":
            modes |= dict.fromkeys((directive.option("port") or "").split(","), mode_of(directive))
    return {p.cursor.get_usr(): Port(p.name, _kind(p, modes.get(p.name))) for p in top.parameters}


def _kind(parameter: Node, mode: str | None) -> str:
    spelling = parameter.type.spelling
    if _STREAM in spelling:
        return "stream"
    if _BURST in spelling:
        return "burst"
    if mode == "m_axi":
        return "bus"
    is_array = parameter.type.kind.name.endswith("ARRAY")
    return "ram" if mode in {"ap_memory", "bram"} or (is_array and mode is None) else "other"


def steps_of(program: Program, top: Function) -> tuple[Step, ...]:
    """All that a top function does at its ports."""
    return _Walker(program).body(top, ports_of(program, top))


def accesses(steps: tuple[Step, ...]) -> Iterator[Access]:
    """The accesses of a sequence, without their order."""
    for step in steps:
        match step:
            case Access():
                yield step
            case Branch(choices):
                for choice in choices:
                    yield from accesses(choice)
            case Loop(body) | Call(body):
                yield from accesses(body)


class _Walker:
    def __init__(self, program: Program) -> None:
        self._program = program

    def body(self, function: Function, bound: dict[str, Port]) -> tuple[Step, ...]:
        block = [child for child in function.node.children if child.kind != "PARM_DECL"]
        return tuple(step for child in block for step in self.steps(child, bound))

    def steps(self, node: Node, bound: dict[str, Port]) -> Iterator[Step]:
        match node.kind:
            case "IF_STMT" | "CONDITIONAL_OPERATOR":
                condition, *choices = node.children
                yield from self.steps(condition, bound)
                sequences = [tuple(self.steps(choice, bound)) for choice in choices]
                yield Branch(tuple([*sequences, ()] if len(sequences) == 1 else sequences))
            case "SWITCH_STMT":
                yield Branch((tuple(self._below(node, bound)), ()))
            case kind if kind in LOOPS:
                yield Loop(tuple(self._below(node, bound)))
            case "RETURN_STMT":
                yield from self._below(node, bound)
                yield Return()
            case "CALL_EXPR":
                yield from self._call(node, bound)
            case "ARRAY_SUBSCRIPT_EXPR":
                yield from self._element(node, bound)
            case "UNARY_OPERATOR" if self._port(node, bound) is None:
                yield from self._element(node, bound)
            case "VAR_DECL":
                yield from self._variable(node, bound)
            case "DECL_REF_EXPR" if (port := self._port(node, bound)) is not None:
                yield Access(port, ESCAPE, node)
            case _:
                yield from self._below(node, bound)

    def _below(self, node: Node, bound: dict[str, Port]) -> Iterator[Step]:
        for child in node.children:
            yield from self.steps(child, bound)

    def _call(self, node: Node, bound: dict[str, Port]) -> Iterator[Step]:
        method = node.children[0] if node.children else None
        if method is not None and method.kind == "MEMBER_REF_EXPR" and method.children:
            port = self._port(method.children[0], bound)
            if port is not None:
                yield from self._indices(method.children[0], bound)
                yield from self._arguments(node, bound)
                yield Access(port, node.name, node)
                return
        arguments = node.arguments()
        if node.name == "fence":
            yield Fence(frozenset(port for a in arguments if (port := self._port(a, bound)) is not None))
            return
        callee = self._callee(node)
        if callee is None:
            yield from self._below(node, bound)
            return
        if method is not None and method not in arguments:
            yield from self.steps(method, bound)
        yield from self._arguments(node, bound)
        passed = {
            parameter.cursor.get_usr(): port
            for parameter, argument in zip(callee.parameters, arguments, strict=False)
            if (port := self._port(argument, bound)) is not None
        }
        # Without a port nothing can happen at one.
        if passed:
            yield Call(self.body(callee, passed))

    def _callee(self, node: Node) -> Function | None:
        target = node.referenced
        definition = target.get_definition() if target is not None else None
        return self._program.functions.get(definition.get_usr()) if definition is not None else None

    def _arguments(self, node: Node, bound: dict[str, Port]) -> Iterator[Step]:
        for argument in node.arguments():
            if self._port(argument, bound) is None:
                yield from self.steps(argument, bound)
            else:
                yield from self._indices(argument, bound)

    def _element(self, node: Node, bound: dict[str, Port]) -> Iterator[Step]:
        """A word of a RAM or a bus, by its index or by a pointer to it."""
        base = self._base(node, bound)
        if base is None or base.kind not in {"ram", "bus"}:
            yield from self._below(node, bound)
            return
        yield from self._indices(node, bound)
        for kind in _uses(node):
            yield Access(base, kind, node)

    def _variable(self, node: Node, bound: dict[str, Port]) -> Iterator[Step]:
        """A local variable, which may be another name of a port."""
        value = next((child for child in reversed(node.children) if child.is_expression()), None)
        port = self._port(value, bound) if value is not None else None
        if value is None or port is None:
            yield from self._below(node, bound)
            return
        bound[node.cursor.get_usr()] = port
        yield from self._indices(value, bound)

    def _indices(self, node: Node, bound: dict[str, Port]) -> Iterator[Step]:
        """What is done in the indices and offsets of an expression that means a port or a word."""
        inner = node.inner()
        if inner.kind in _PLACES and inner.children:
            yield from self._indices(inner.children[0], bound)
            for child in inner.children[1:]:
                yield from self.steps(child, bound)

    def _base(self, node: Node, bound: dict[str, Port]) -> Port | None:
        inner = node.inner()
        while inner.kind in _PLACES and inner.children:
            inner = inner.children[0].inner()
        target = inner.referenced if inner.kind == "DECL_REF_EXPR" else None
        return bound.get(target.get_usr()) if target is not None else None

    def _port(self, node: Node, bound: dict[str, Port]) -> Port | None:
        """The port that an expression means, a part of its arrays included; None for a word of it."""
        base = self._base(node, bound)
        is_word = node.inner().type.kind.name not in {"POINTER", "CONSTANTARRAY", "INCOMPLETEARRAY"}
        return None if base is not None and base.kind in {"ram", "bus"} and is_word else base


def _uses(node: Node) -> list[str]:
    """Whether an element is read, written or both, by what is around it."""
    child, around = node, node.parent
    while around is not None and around.kind in {"UNEXPOSED_EXPR", "PAREN_EXPR"}:
        child, around = around, around.parent
    if around is None:
        return ["read"]
    is_left = bool(around.children) and around.children[0] is child
    if around.kind == "BINARY_OPERATOR" and is_left and around.operator() == "=":
        return ["write"]
    if around.kind in {"COMPOUND_ASSIGNMENT_OPERATOR"} and is_left:
        return ["read", "write"]
    if around.kind == "CALL_EXPR" and around.name == "operator=" and is_left:
        return ["write"]
    if around.kind == "UNARY_OPERATOR" and any(t.spelling in {"++", "--"} for t in around.cursor.get_tokens()):
        return ["read", "write"]
    if around.kind == "CALL_EXPR" and _by_reference(around, child):
        return ["read", "write"]
    if around.kind == "VAR_DECL" and _may_change(around.type):
        return ["read", "write"]
    return ["read"]


def _by_reference(call: Node, argument: Node) -> bool:
    """Whether a call may change this argument."""
    target = call.referenced
    if target is None or argument not in call.arguments():
        return False
    parameters = list(target.get_arguments())
    position = call.arguments().index(argument)
    if position >= len(parameters):
        return False
    return _may_change(parameters[position].type.get_canonical())


def _may_change(kind: Any) -> bool:
    return bool(kind.kind.name == "LVALUEREFERENCE" and not kind.get_pointee().is_const_qualified())
