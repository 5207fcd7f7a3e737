# SPDX-License-Identifier: Apache-2.0
"""The import order: overlay <- quantize; overlay <- hls <- driver <- cli; inside functions too."""

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]

#: What each package may import besides itself.
ALLOWED = {
    "overlay": frozenset[str](),
    "quantize": frozenset({"overlay"}),
    "hls": frozenset({"overlay"}),
    "driver": frozenset({"overlay", "hls"}),
    "cli": frozenset({"overlay", "quantize", "hls", "driver"}),
}
#: Folders that use the packages and that no package may use.
OUTSIDE = {"tests", "benchmarks", "examples"}
_BY_NAME = {"import_module", "__import__", "resolve_name"}


def imported(tree: ast.AST, module: str) -> Iterator[tuple[int, str]]:
    """Yields line and dotted name of each import, relative ones resolved, those by name included."""
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                yield from ((node.lineno, name.name) for name in names)
            case ast.ImportFrom(module=source, names=names, level=level):
                parents = module.split(".")[:-level] if level else []
                base = ".".join([*parents, source or ""]).strip(".")
                yield from ((node.lineno, f"{base}.{name.name}") for name in names)
            case ast.Call(
                func=ast.Name(id=function) | ast.Attribute(attr=function),
                args=[ast.Constant(value=str(name)), *_],
            ):
                if function in _BY_NAME:
                    yield node.lineno, name


def violations(root: Path) -> list[str]:
    """Lists each import that breaks the order as ``file:line: message``."""
    found = []
    for package, allowed in ALLOWED.items():
        for path in sorted((root / package).rglob("*.py")):
            parts = path.relative_to(root).with_suffix("").parts
            for line, name in imported(ast.parse(path.read_text(encoding="utf-8")), ".".join(("hetfab", *parts))):
                top, _, rest = name.partition(".")
                target = rest.partition(".")[0] if top == "hetfab" else top
                own = top == "hetfab" and target in {package, *allowed}
                if (top == "hetfab" or target in OUTSIDE) and not own:
                    may = ", ".join(sorted(allowed)) or "no other package"
                    found.append(f"{path.relative_to(root)}:{line}: {package} imports {name}; it may import {may}")
    return found


def test_the_packages_keep_the_order() -> None:
    assert not violations(ROOT), "\n".join(violations(ROOT))


def _tree(root: Path, file: str, text: str) -> list[str]:
    (root / file).parent.mkdir(parents=True)
    (root / file).write_text(text, encoding="utf-8")
    return violations(root)


def test_an_import_inside_a_function_is_found_with_file_and_line(tmp_path: Path) -> None:
    text = "import json\n\ndef f():\n    from hetfab.driver import graph\n    return graph\n"
    assert _tree(tmp_path, "overlay/model/onnx.py", text) == [
        "overlay/model/onnx.py:4: overlay imports hetfab.driver.graph; it may import no other package"
    ]


def test_relative_imports_are_resolved(tmp_path: Path) -> None:
    assert _tree(tmp_path, "hls/build/host.py", "from ...driver import graph\nfrom ..lint import rules\n") == [
        "hls/build/host.py:1: hls imports hetfab.driver.graph; it may import overlay"
    ]


def test_imports_through_the_namespace_and_by_name_are_found(tmp_path: Path) -> None:
    text = "from hetfab import cli\nimport importlib\nimportlib.import_module('hetfab.quantize')\n"
    assert _tree(tmp_path, "driver/session.py", text) == [
        "driver/session.py:1: driver imports hetfab.cli; it may import hls, overlay",
        "driver/session.py:3: driver imports hetfab.quantize; it may import hls, overlay",
    ]


def test_no_package_imports_what_uses_it(tmp_path: Path) -> None:
    assert _tree(tmp_path, "cli/run.py", "from benchmarks.report import publish\n") == [
        "cli/run.py:1: cli imports benchmarks.report.publish; it may import driver, hls, overlay, quantize"
    ]
