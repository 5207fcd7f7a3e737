# SPDX-License-Identifier: Apache-2.0
"""Rules about memories: who holds state, who writes and reads a RAM, and that a store names its RAM."""

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from hetfab.hls.lint.findings import Found, Scope, rule
from hetfab.hls.lint.ports import ESCAPE, accesses, ports_of, steps_of
from hetfab.hls.lint.program import Program
from hetfab.hls.lint.syntax import LOOPS, Node


@rule(
    "HLS-M01",
    "no function keeps state from call to call, and none uses a global variable",
    do="make it a constant, or a variable of the top function that is set at its start",
    source="AMD UG1399, 'config_rtl': static variables are not reset by default, so a reset leaves the old state",
    scope=Scope.HOUSE,
)
def statics(program: Program) -> Iterator[Found]:
    """Static and global variables that are not constant."""
    for function in program.functions.values():
        for node in function.own_nodes:
            if node.kind == "VAR_DECL" and _outlives_call(node.cursor) and not _is_constant(node.cursor):
                yield Found(node.file, node.line, f"the static variable '{node.name}'")
            target = node.referenced if node.kind == "DECL_REF_EXPR" else None
            if target is None or target.kind.name != "VAR_DECL" or target.location.is_in_system_header:
                continue
            outside = target.semantic_parent is not None and target.semantic_parent.kind.name in {
                "TRANSLATION_UNIT",
                "NAMESPACE",
                "CLASS_DECL",
                "STRUCT_DECL",
            }
            if outside and not _is_constant(target):
                yield Found(node.file, node.line, f"the variable '{node.name}', which outlives a call")


def _outlives_call(variable: Any) -> bool:
    return bool(variable.storage_class.name == "STATIC" or variable.tls_kind.name != "NONE")


def _is_constant(variable: Any) -> bool:
    kind = variable.type.get_canonical()
    while kind.kind.name.endswith("ARRAY") and not kind.is_const_qualified():
        kind = kind.element_type
    return bool(kind.is_const_qualified())


@rule(
    "HLS-M02",
    "every store names one array: none goes through a pointer or a reference that a condition chose, and the two "
    "branches of a condition in a loop do not store to two arrays",
    do="write a loop or a call for each array: a compiler makes one store through a selected pointer of both",
    source="measured with an open HLS compiler, which refuses it as a memory operation that two arrays share",
    scope=Scope.HOUSE,
)
def selected_stores(program: Program) -> Iterator[Found]:
    """(c ? a : b)[i] = v, and if (c) a[i] = v; else b[i] = v."""
    for function in program.functions.values():
        for node in function.own_nodes:
            if node.kind == "CONDITIONAL_OPERATOR" and _chooses_array(node):
                yield Found(node.file, node.line, "a condition that chooses an array")
            elif node.kind == "IF_STMT" and len(node.children) == 3 and any(a.kind in LOOPS for a in node.ancestors()):
                first, second = (_stored(branch) for branch in node.children[1:])
                for name, kind in first.items():
                    other = next((n for n, k in second.items() if n != name and k == kind), None)
                    if other is not None and name not in second:
                        text = f"stores to '{name}' and '{other}' in the two branches of a condition in a loop"
                        yield Found(node.file, node.line, text)


def _chooses_array(node: Node) -> bool:
    return all(
        choice.inner().type.kind.name in {"POINTER", "CONSTANTARRAY", "INCOMPLETEARRAY"} for choice in node.children[1:]
    )


def _stored(branch: Node) -> dict[str, str]:
    """The arrays that a branch stores to itself, with the types of their elements."""
    found = {}
    for node in branch.walk():
        is_assignment = node.kind == "BINARY_OPERATOR" and node.operator() == "="
        if not is_assignment and not (node.kind == "CALL_EXPR" and node.name == "operator="):
            continue
        target = node.children[0].inner()
        if target.kind != "ARRAY_SUBSCRIPT_EXPR":
            continue
        base = target
        while base.kind == "ARRAY_SUBSCRIPT_EXPR":
            base = base.children[0].inner()
        if base.kind == "DECL_REF_EXPR" and base.referenced.kind.name == "PARM_DECL":
            found[base.name] = target.type.spelling
    return found


@rule(
    "HLS-M03",
    "over all top functions one engine writes a RAM, and at most one other reads it",
    do="give the second one a RAM of its own: a port has one user",
    source="this project: every physical RAM has one writer engine and one reader engine (docs/architecture.md)",
    scope=Scope.HOUSE,
)
def owners(program: Program) -> Iterator[Found]:
    """RAM ports of one name with two writers, or two readers beside the writer."""
    writers: dict[str, set[str]] = defaultdict(set)
    readers: dict[str, set[str]] = defaultdict(set)
    places = {}
    for top in program.tops:
        for port in ports_of(program, top).values():
            if port.kind == "ram":
                places[port.name] = top
        for access in accesses(steps_of(program, top)):
            if access.port.kind == "ram":
                (writers if access.kind == "write" else readers)[access.port.name].add(top.name)
    for name, top in places.items():
        others = readers[name] - writers[name]
        if len(writers[name]) > 1:
            yield Found(top.file, top.node.line, f"the RAM '{name}' written by {_list(writers[name])}")
        if len(others) > 1:
            yield Found(top.file, top.node.line, f"the RAM '{name}' read by {_list(others)}")


@rule(
    "HLS-M04",
    "every port of a top function is only indexed, passed to functions, named in a fence, or called",
    do="pass it as an argument: what a pointer, an object or a library function does with it cannot be followed",
    source="this project: the rules about order and owners hold for what they can follow",
    scope=Scope.HOUSE,
)
def escapes(program: Program) -> Iterator[Found]:
    """Ports in members, in chosen pointers, in library functions."""
    for top in program.tops:
        for access in accesses(steps_of(program, top)):
            if access.kind == ESCAPE and access.port.kind != "other":
                yield Found(
                    access.node.file, access.node.line, f"the port '{access.port.name}' leaves what can be followed"
                )


def _list(names: set[str]) -> str:
    return " and ".join(sorted(names))


RULES = (statics, selected_stores, owners, escapes)
