# SPDX-License-Identifier: Apache-2.0
"""Rules about the C++ that synthesis takes: AMD's ten, and what its user guide excludes beyond them."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hetfab.hls.lint.findings import Found, Scope, rule
from hetfab.hls.lint.program import Function, Program
from hetfab.hls.lint.syntax import CASTS, FUNCTIONS, Node

_AMD = "Xilinx/ross-ai-assistant 0bfe805, skills/hls-synthesizable/SKILL.md, rule {}"
_NAMES = json.loads((Path(__file__).parent / "language.json").read_text(encoding="utf-8"))
_SYSTEM, _MEMORY, _STL_ALLOWED = (set(_NAMES[key]) for key in ("system", "memory", "library"))
_SYSTEM_STREAMS = {"cin", "cout", "cerr", "clog"}
#: What the compiler evaluates, so that it never reaches synthesis.
_STL_COMPILE_TIME = {"integral_constant", "numeric_limits", "move", "forward", "declval", "initializer_list"}
_ARBITRARY = re.compile(r"\b(ap_u?int|ap_u?fixed|ap_float|half)\b")
_INCLUDE = re.compile(r"\s*#\s*include\s*[<\"]((?:hls|ap)_\w+\.h)[>\"]")
_HEADERS = {"ap_int.h", "ap_utils.h", "hls_stream.h", "hls_burst_maxi.h", "hls_fence.h"}
_DECLARATIONS = {"VAR_DECL", "PARM_DECL", "FIELD_DECL"}
_POINTERS = {"POINTER", "LVALUEREFERENCE", "RVALUEREFERENCE"}


def _found(node: Node, text: str) -> Found:
    return Found(node.file, node.line, text)


def _nodes(program: Program) -> Iterator[Node]:
    for function in program.functions.values():
        yield from function.own_nodes


def _declarations(program: Program) -> Iterator[tuple[Node, Any]]:
    """Variables, parameters and members, with their types; those of elsewhere where they are used."""
    for node in _nodes(program):
        if node.kind in _DECLARATIONS:
            yield node, node.type
        elif node.kind in {"DECL_REF_EXPR", "MEMBER_REF_EXPR"}:
            target = node.referenced
            if target is not None and target.kind.name in {"VAR_DECL", "FIELD_DECL"} and _is_elsewhere(target):
                yield node, target.type.get_canonical()


def _is_elsewhere(variable: Any) -> bool:
    """Whether it is declared in the sources, but in no function."""
    around = variable.semantic_parent
    return around is not None and around.kind.name not in FUNCTIONS and not variable.location.is_in_system_header


def _namespaces(cursor: Any) -> list[str]:
    names = []
    while cursor is not None and not cursor.kind.is_translation_unit():
        names.append(cursor.spelling)
        cursor = cursor.semantic_parent
    # A block of extern "C" has no name.
    return [name for name in names[::-1] if name]


@rule(
    "HLS-L01",
    "no function reaches a system call: files, the terminal, time, the process",
    do="put it between #ifndef __SYNTHESIS__ and #endif",
    source=_AMD.format(1),
)
def system_calls(program: Program) -> Iterator[Found]:
    """Calls of the operating system."""
    for node in _nodes(program):
        if node.kind == "CALL_EXPR" and node.name in _SYSTEM and not _is_member(node):
            yield _found(node, f"a call of '{node.name}'")
        elif node.kind == "DECL_REF_EXPR" and node.name in _SYSTEM_STREAMS:
            yield _found(node, f"a use of 'std::{node.name}'")


@rule(
    "HLS-L02",
    "all memory is declared, none is allocated while running",
    do="declare an array of constant size",
    source=_AMD.format(2),
)
def dynamic_memory(program: Program) -> Iterator[Found]:
    """Allocation and release."""
    for node in _nodes(program):
        if node.kind in {"CXX_NEW_EXPR", "CXX_DELETE_EXPR"}:
            yield _found(node, "'new'" if node.kind == "CXX_NEW_EXPR" else "'delete'")
        elif node.kind == "CALL_EXPR" and node.name in _MEMORY and not _is_member(node):
            yield _found(node, f"a call of '{node.name}'")


@rule(
    "HLS-L03",
    "every call is decided at compile time: nothing is virtual",
    do="make the class a template parameter instead of a base",
    source=_AMD.format(3),
)
def virtual_functions(program: Program) -> Iterator[Found]:
    """Virtual functions, called or defined."""
    for function in program.functions.values():
        if function.node.kind == "CXX_METHOD" and function.node.cursor.is_virtual_method():
            yield _found(function.node, f"the virtual function '{function.name}'")
        for node in function.own_nodes:
            target = node.referenced if node.kind == "CALL_EXPR" else None
            if target is not None and target.kind.name == "CXX_METHOD" and target.is_virtual_method():
                yield _found(node, f"a call of the virtual function '{node.name}'")
            if node.kind == "VAR_DECL" and _has_virtual_functions(node.type.get_declaration()):
                yield _found(node, f"'{node.name}' of the class '{node.type.spelling}', which has virtual functions")


def _has_virtual_functions(declaration: Any) -> bool:
    # The open headers of AMD's types are models for a host; the tool has its own.
    if declaration.location.is_in_system_header:
        return False
    for child in declaration.get_children():
        if child.kind.name in {"CXX_METHOD", "DESTRUCTOR"} and child.is_virtual_method():
            return True
        if child.kind.name == "CXX_BASE_SPECIFIER" and _has_virtual_functions(child.type.get_declaration()):
            return True
    return False


@rule(
    "HLS-L04",
    "no function reaches itself, through a pointer to it neither",
    do="write a loop, or a template that recurs over a constant",
    source=_AMD.format(4),
)
def recursion(program: Program) -> Iterator[Found]:
    """Cycles of calls and mentions of functions."""
    finished: set[str] = set()

    def visit(function: Function, path: list[Function]) -> Iterator[Found]:
        for node, key in function.callees:
            if key in {f.key for f in path}:
                cycle = path[[f.key for f in path].index(key) :]
                # Without a top function, one that the compiler can evaluate is taken for one that it does.
                if program.tops or not all(f.is_constexpr for f in cycle):
                    names = [f.name for f in [*cycle, program.functions[key]]]
                    yield _found(node, "recursion: " + " -> ".join(names))
            elif key not in finished:
                callee = program.functions[key]
                yield from visit(callee, [*path, callee])
        finished.add(function.key)

    for function in program.functions.values():
        if function.key not in finished:
            yield from visit(function, [function])


@rule(
    "HLS-L05",
    "of the standard library only mathematics, std::complex, comparisons, and what the compiler evaluates",
    do="write it out, or use the tool's own library",
    source=_AMD.format(5),
)
def standard_library(program: Program) -> Iterator[Found]:
    """Containers, algorithms and other parts of std."""
    for node, kind in _declarations(program):
        match = re.match(r"(?:const )?std::(?:__\w+::)?(\w+)", kind.spelling)
        if match and match[1] not in _STL_ALLOWED | _STL_COMPILE_TIME and not match[1].startswith(("is_", "enable_if")):
            yield _found(node, f"'{node.name}' of type 'std::{match[1]}'")
    for node in _nodes(program):
        target = node.referenced if node.kind == "CALL_EXPR" else None
        names = _namespaces(target) if target is not None else []
        # std::complex and its like bring their members; an operator belongs to its operands.
        if len(names) < 2 or names[0] != "std" or node.name.startswith("operator"):
            continue
        if not (set(names) & (_STL_ALLOWED | _STL_COMPILE_TIME)) and not names[1].startswith(("is_", "__")):
            yield _found(node, f"a call of 'std::{'::'.join(names[1:])}'")


@rule("HLS-L06", "no value has the type 'long double'", do="use double or a fixed-point type", source=_AMD.format(6))
def long_double(program: Program) -> Iterator[Found]:
    """Declarations of long double."""
    for node, kind in _declarations(program):
        if "long double" in kind.spelling:
            yield _found(node, f"'{node.name}' of type '{kind.spelling}'")


@rule(
    "HLS-L07",
    "no pointer to a function",
    do="pass the function as a template parameter",
    source=_AMD.format(7),
)
def function_pointers(program: Program) -> Iterator[Found]:
    """Variables, parameters and members that hold a function."""
    for node, kind in _declarations(program):
        if kind.kind.name in _POINTERS and kind.get_pointee().kind.name == "FUNCTIONPROTO":
            yield _found(node, f"'{node.name}' of type '{kind.spelling}'")


@rule(
    "HLS-L08",
    "no pointer to a member function",
    do="pass the class as a template parameter",
    source=_AMD.format(8),
)
def member_pointers(program: Program) -> Iterator[Found]:
    """Pointers to members."""
    for node, kind in _declarations(program):
        if kind.kind.name == "MEMBERPOINTER":
            yield _found(node, f"'{node.name}' of type '{kind.spelling}'")


@rule(
    "HLS-L09",
    "no pointer to a pointer, also as an array of pointers that is an argument",
    do="pass an array of two dimensions, or an index",
    source=_AMD.format(9),
)
def pointers_to_pointers(program: Program) -> Iterator[Found]:
    """Two levels of pointers."""
    for node, kind in _declarations(program):
        outer = kind.element_type if node.kind == "PARM_DECL" and kind.kind.name.endswith("ARRAY") else None
        if outer is None and kind.kind.name == "POINTER":
            outer = kind.get_pointee()
        if outer is not None and outer.get_canonical().kind.name == "POINTER":
            yield _found(node, f"'{node.name}' of type '{kind.spelling}'")


@rule(
    "HLS-L10",
    "no cast between pointers of which one leads to an arbitrary precision type",
    do="convert the values one by one",
    source=_AMD.format(10),
)
def arbitrary_precision_casts(program: Program) -> Iterator[Found]:
    """Reinterpreted ap_int, ap_fixed and half."""
    for node in _nodes(program):
        if node.kind not in CASTS or node.type.kind.name != "POINTER":
            continue
        operand = next((child for child in reversed(node.children) if child.is_expression()), None)
        ends = [_pointee(operand.inner().type) if operand is not None else "", _pointee(node.type)]
        if all(ends) and ends[0] != ends[1] and any(map(_ARBITRARY.search, ends)):
            yield _found(node, f"a cast of '{ends[0]} *' to '{ends[1]} *'")


def _pointee(kind: Any) -> str:
    """What a pointer or an array leads to; empty for other types."""
    if kind.kind.name == "POINTER":
        target = kind.get_pointee()
    elif kind.kind.name.endswith("ARRAY"):
        target = kind.element_type
    else:
        return ""
    return re.sub(r"\bconst ", "", target.get_canonical().spelling)


@rule(
    "HLS-L11",
    "no exceptions, no types at run time, no goto",
    do="return a status; decide types at compile time",
    source="AMD UG1399, 'Unsupported C/C++ Constructs'; clang's front end has no code for them on an FPGA",
)
def exceptions(program: Program) -> Iterator[Found]:
    """throw, try, typeid, dynamic_cast, goto."""
    words = {
        "CXX_THROW_EXPR": "throw",
        "CXX_TRY_STMT": "try",
        "CXX_TYPEID_EXPR": "typeid",
        "CXX_DYNAMIC_CAST_EXPR": "dynamic_cast",
        "GOTO_STMT": "goto",
    }
    for node in _nodes(program):
        if node.kind in words:
            yield _found(node, f"'{words[node.kind]}'")


@rule(
    "HLS-L12",
    "of the tool's headers only those of integers, streams, bursts and the fence",
    do="leave it out: engines have no side channels, no tasks, and say their ports with INTERFACE",
    source="this project: docs/synthesis.md lists what is used, and what stands in for it elsewhere",
    scope=Scope.HOUSE,
)
def vendor_headers(program: Program) -> Iterator[Found]:
    """Includes of other headers named as the tool's are."""
    for source in program.sources:
        lines = Path(source).read_text(encoding="utf-8", errors="replace").splitlines()
        for number, line in enumerate(lines, 1):
            match = _INCLUDE.match(line)
            if match and match[1] not in _HEADERS:
                yield Found(source, number, f"the header '{match[1]}'")


def _is_member(node: Node) -> bool:
    target = node.referenced
    if target is None:
        return bool(node.children) and node.children[0].kind == "MEMBER_REF_EXPR"
    return target.kind.name in FUNCTIONS - {"FUNCTION_DECL"} or not _is_global(target)


def _is_global(cursor: Any) -> bool:
    return _namespaces(cursor)[:-1] in ([], ["std"])


RULES = (
    system_calls,
    dynamic_memory,
    virtual_functions,
    recursion,
    standard_library,
    long_double,
    function_pointers,
    member_pointers,
    pointers_to_pointers,
    arbitrary_precision_casts,
    exceptions,
    vendor_headers,
)
