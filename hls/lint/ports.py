# SPDX-License-Identifier: Apache-2.0
"""What a top function does at its ports, in order: followed through calls, with branches and loops kept."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

from hetfab.hls.lint.pragmas import mode_of
from hetfab.hls.lint.program import Function, Program
from hetfab.hls.lint.syntax import LOOPS, Node

_STREAM = "hls::stream<"
_BURST = "hls::burst_maxi<"
_METHODS = {"read", "write", "read_nb", "write_nb", "read_request", "write_request", "write_response", "empty", "full"}


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
    """An access to a port: ``read``, ``write``, or the name of the method of a stream or a burst port."""

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
                yield from self._subscript(node, bound)
            case _:
                yield from self._below(node, bound)

    def _below(self, node: Node, bound: dict[str, Port]) -> Iterator[Step]:
        for child in node.children:
            yield from self.steps(child, bound)

    def _call(self, node: Node, bound: dict[str, Port]) -> Iterator[Step]:
        yield from self._below(node, bound)
        method = node.children[0] if node.children else None
        if method is not None and method.kind == "MEMBER_REF_EXPR" and method.children:
            port = self._port(method.children[0], bound)
            if port is not None and node.name in _METHODS:
                yield Access(port, node.name, node)
                return
        arguments = node.arguments()
        if node.name == "fence":
            yield Fence(frozenset(port for a in arguments if (port := self._port(a, bound)) is not None))
            return
        target = node.referenced
        definition = target.get_definition() if target is not None else None
        callee = self._program.functions.get(definition.get_usr()) if definition is not None else None
        if callee is None:
            return
        passed = {
            parameter.cursor.get_usr(): port
            for parameter, argument in zip(callee.parameters, arguments, strict=False)
            if (port := self._port(argument, bound)) is not None
        }
        # Without a port nothing can happen at one.
        if passed:
            yield Call(self.body(callee, passed))

    def _subscript(self, node: Node, bound: dict[str, Port]) -> Iterator[Step]:
        yield from self._below_index(node, bound)
        port = self._port(node, bound)
        if port is None or port.kind not in {"ram", "bus"}:
            return
        for kind in _uses(node):
            yield Access(port, kind, node)

    def _below_index(self, node: Node, bound: dict[str, Port]) -> Iterator[Step]:
        base = node.children[0].inner()
        if base.kind == "ARRAY_SUBSCRIPT_EXPR":
            yield from self._below_index(base, bound)
        yield from self.steps(node.children[1], bound)

    def _port(self, node: Node, bound: dict[str, Port]) -> Port | None:
        inner = node.inner()
        while inner.kind == "ARRAY_SUBSCRIPT_EXPR":
            inner = inner.children[0].inner()
        target = inner.referenced if inner.kind == "DECL_REF_EXPR" else None
        return bound.get(target.get_usr()) if target is not None else None


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
    kind = parameters[position].type.get_canonical()
    return kind.kind.name == "LVALUEREFERENCE" and not kind.get_pointee().is_const_qualified()
