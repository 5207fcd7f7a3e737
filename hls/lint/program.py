# SPDX-License-Identifier: Apache-2.0
"""The sources of a lint run, parsed as one unit: top functions, what they reach, directives.

libclang instantiates templates, so a body reached from a top function has the types that synthesis would see. Sources
without a top function are headers: their functions with directives are read, and what those call by name, templates in
their general form. The rest of a header may be for a host.
"""

import atexit
import functools
import itertools
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from clang import cindex

from hetfab.hls.build.compiler import find_compiler
from hetfab.hls.build.emulator import ap_types_folder
from hetfab.hls.lint.directives import Directive, read_directives
from hetfab.hls.lint.syntax import FUNCTIONS, Node
from hetfab.overlay.errors import SourceUnreadableError

_HEADERS = Path(__file__).parent / "include"
_UNIT = "hetfab_lint_unit.cpp"


@dataclass(eq=False)
class Function:
    """A function with a body.

    Attributes:
        name: Its name.
        key: Distinguishes it, instances of a template too.
        node: Its declaration and body.
        is_general: It is a template in its general form, without concrete types.
        callees: Each call, and each mention of a function, with the function's key.
    """

    name: str
    key: str
    node: Node
    is_general: bool
    callees: list[tuple[Node, str]] = field(default_factory=list)

    @property
    def file(self) -> str:
        """Path of its file."""
        return self.node.file

    @property
    def parameters(self) -> list[Node]:
        """Its parameters."""
        return [child for child in self.node.children if child.kind == "PARM_DECL"]

    @property
    def is_constexpr(self) -> bool:
        """Whether the compiler can evaluate it."""
        return any(token.spelling == "constexpr" for token in itertools.islice(self.node.cursor.get_tokens(), 32))

    @functools.cached_property
    def own_nodes(self) -> list[Node]:
        """All nodes, once."""
        return list(self.node.walk())


@dataclass
class Program:
    """What a lint run looks at.

    Attributes:
        functions: By key: what the top functions reach; without one, what functions with directives reach; without
            one of those, every function.
        tops: The top functions: those with an INTERFACE directive, or named ``*_top``.
        directives: Of all sources.
        sources: Paths of the files, headers included.
        problems: What the parser refused: file, line, message.
    """

    functions: dict[str, Function]
    tops: list[Function]
    directives: list[Directive]
    sources: list[str]
    problems: list[tuple[str, int, str]]

    def directives_of(self, function: Function) -> list[Directive]:
        """The directives in a function's body."""
        return _directives_in(function.node.cursor, self.directives)

    def directives_of_loop(self, loop: Node) -> list[Directive]:
        """The directives in a loop's body, without those of loops inside."""
        return [d for d in self.directives if d.file == loop.file and d.loop_line == loop.line]


def read_program(
    paths: Sequence[Path],
    include: Sequence[Path] = (),
    defines: Sequence[str] = (),
    generated: dict[str, str] | None = None,
) -> Program:
    """Parses sources as one unit.

    Args:
        paths: Sources and headers.
        include: Folders that they include from.
        defines: Macros.
        generated: Text of files that do not exist, by path.

    Raises:
        SourceUnreadableError: A path cannot be read.
        PackageMissingError: hls4ml, whose headers the sources need, is missing.
    """
    for path in paths:
        if not path.is_file():
            raise SourceUnreadableError(
                f"no file '{path}'", "C++ sources or headers, or folders of them", "correct the path"
            )
    unit = "".join(f'#include "{path.resolve()}"\n' for path in paths)
    unsaved = [(_UNIT, unit), *(generated or {}).items()]
    arguments = [*_flags(), "-include-pch", _prelude()]
    arguments += [*(f"-I{folder}" for folder in include), *(f"-D{define}" for define in defines)]
    tree = cindex.Index.create().parse(_UNIT, args=arguments, unsaved_files=unsaved)
    sources = _sources(tree)
    directives = [d for source in sources for d in read_directives(source, Path(source).read_bytes())]
    definitions = [c for c in _definitions(tree.cursor) if str(c.location.file) in sources]
    tops = [c for c in definitions if _is_top(c, directives)]
    directed = [c for c in definitions if _directives_in(c, directives)]
    functions = _reach(tops or directed or definitions, definitions)
    return Program(functions, [functions[c.get_usr()] for c in tops], directives, sources, _problems(tree))


@functools.cache
def _prelude() -> str:
    """The parsed headers of AMD's types, which take longer than the sources: parsed once in a process."""
    folder = tempfile.TemporaryDirectory(prefix="hetfab-lint-")
    atexit.register(folder.cleanup)
    file = Path(folder.name) / "prelude.pch"
    # The value says that the header is incomplete by itself, as a precompiled one may be.
    incomplete = cindex.TranslationUnit.PARSE_INCOMPLETE
    cindex.Index.create().parse(str(_HEADERS / "prelude.hpp"), args=_flags(), options=incomplete).save(str(file))
    return str(file)


@functools.cache
def _flags() -> list[str]:
    # libclang has no headers of its own; those of the compiler are found by the same question to g++ and clang++.
    compiler_headers = find_compiler().output(["-print-file-name=include"]).strip()
    return [
        *("-x", "c++", "-std=c++17", "-Wno-everything", "-ferror-limit=0"),
        *("-isystem", str(_HEADERS), "-isystem", str(ap_types_folder()), "-isystem", compiler_headers),
    ]


def _sources(tree: Any) -> list[str]:
    """The files of the unit that are neither a compiler's nor a vendor's."""
    found: dict[str, None] = {}
    for inclusion in tree.get_includes():
        file = str(inclusion.include)
        start = cindex.SourceLocation.from_position(tree, inclusion.include, 1, 1)
        if not start.is_in_system_header and Path(file).is_file() and not Path(file).is_relative_to(_HEADERS):
            found[file] = None
    return list(found)


def _definitions(cursor: Any) -> Iterator[Any]:
    for child in cursor.get_children():
        if child.location.is_in_system_header:
            continue
        if child.kind.name in FUNCTIONS:
            if child.is_definition():
                yield child
        elif child.kind.name in {
            "NAMESPACE",
            "STRUCT_DECL",
            "CLASS_DECL",
            "CLASS_TEMPLATE",
            "CLASS_TEMPLATE_PARTIAL_SPECIALIZATION",
            "LINKAGE_SPEC",
            "UNEXPOSED_DECL",
        }:
            yield from _definitions(child)


def _is_top(cursor: Any, directives: list[Directive]) -> bool:
    if cursor.kind.name != "FUNCTION_DECL":
        return False
    return str(cursor.spelling).endswith("_top") or any(
        d.name == "interface" for d in _directives_in(cursor, directives)
    )


def _directives_in(cursor: Any, directives: list[Directive]) -> list[Directive]:
    file, first, last = str(cursor.location.file), cursor.extent.start.line, cursor.extent.end.line
    return [d for d in directives if d.file == file and first <= d.line <= last]


def _is_general(cursor: Any) -> bool:
    """Whether a definition is inside a template, so that its types are not concrete."""
    if cursor.kind.name == "FUNCTION_TEMPLATE":
        return True
    parent = cursor.semantic_parent
    while parent is not None:
        if parent.kind.name in {"CLASS_TEMPLATE", "CLASS_TEMPLATE_PARTIAL_SPECIALIZATION"}:
            return True
        parent = parent.semantic_parent
    return False


def _reach(roots: list[Any], definitions: list[Any]) -> dict[str, Function]:
    functions: dict[str, Function] = {}
    sources = {str(c.location.file) for c in definitions}
    by_name: dict[str, list[Any]] = {}
    for cursor in definitions:
        by_name.setdefault(cursor.spelling, []).append(cursor)
    waiting = list(roots)
    while waiting:
        cursor = waiting.pop()
        key = cursor.get_usr()
        if key in functions:
            continue
        function = Function(cursor.spelling, key, Node(cursor), _is_general(cursor))
        functions[key] = function
        for node in function.own_nodes:
            if node.kind == "OVERLOADED_DECL_REF":
                # In a general form the compiler does not know yet which of them is meant.
                waiting += by_name.get(node.name, [])
            target = node.referenced if node.kind in {"CALL_EXPR", "DECL_REF_EXPR", "MEMBER_REF_EXPR"} else None
            if target is None or target.kind.name not in FUNCTIONS or _is_compile_time(node):
                continue
            definition = target.get_definition()
            if definition is not None and str(definition.location.file) in sources:
                function.callees.append((node, definition.get_usr()))
                waiting.append(definition)
    return functions


def _is_compile_time(node: Node) -> bool:
    """Whether it is in the value of a constexpr variable, which the compiler computes."""
    variable = next((around for around in node.ancestors() if around.kind == "VAR_DECL"), None)
    return variable is not None and any(t.spelling == "constexpr" for t in variable.cursor.get_tokens())


def _problems(tree: Any) -> list[tuple[str, int, str]]:
    return [
        (str(d.location.file or ""), d.location.line, d.spelling)
        for d in tree.diagnostics
        if d.severity >= cindex.Diagnostic.Error
    ]
