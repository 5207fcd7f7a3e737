# SPDX-License-Identifier: Apache-2.0
"""Rules that every file of the repository keeps: licence line, no leftovers, no blind exception handlers."""

import ast
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGES = ("overlay", "quantize", "hls", "driver", "cli")
FOLDERS = (*PACKAGES, "tests", "benchmarks", "examples", "docs", ".ci")
ROOT_FILES = (
    "README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "Makefile",
    "pyproject.toml",
    ".clang-format",
    ".gitignore",
)

SOURCE_SUFFIXES = {".py", ".hpp", ".cpp", ".h", ".v", ".tcl", ".sh"}
SOURCE_NAMES = {"Makefile", "run", ".clang-format"}
TEXT_SUFFIXES = SOURCE_SUFFIXES | {".md", ".json", ".toml", ".txt", ".yml", ".yaml", ".cfg"}

# Spelled in halves, so that this file may hold them: reminders, and folders of somebody's machine.
REMINDERS = ["TO" + "DO", "FIX" + "ME", "XX" + "X", "HA" + "CK"]
MACHINE_FOLDERS = ["wo" + "rk", "tm" + "p", "ho" + "me", "ro" + "ot"]
LEFTOVERS = re.compile(rf"\b(?:{'|'.join(REMINDERS)})\b|(?<![\w.}}])/(?:{'|'.join(MACHINE_FOLDERS)})/")

#: Files of the repository in comments of C++ and Verilog.
NAMED_FILES = re.compile(
    rf"\b(?:{'|'.join((*PACKAGES, 'docs', 'tests', 'benchmarks'))})/[\w/.-]+\.(?:v|[ch]pp|py|md|json)\b"
)

#: File to the number of handlers of everything that it may have, each with its reason in the code.
CATCHES_ALL = {"cli/main.py": 1, "driver/device_failures.py": 1, "benchmarks/fuzz_worker.py": 1}


def files() -> Iterator[Path]:
    """Yields the text files of the repository, caches left out."""
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*")):
            if path.is_file() and not {"__pycache__", "build-cache"} & set(path.parts) and _is_text(path):
                yield path
    yield from (ROOT / name for name in ROOT_FILES if (ROOT / name).exists())


def _is_text(path: Path) -> bool:
    return path.suffix in TEXT_SUFFIXES or path.name in SOURCE_NAMES


def test_every_source_file_names_its_licence_first() -> None:
    line = "SPDX-License-Identifier: Apache-2.0"
    sources = [path for path in files() if path.suffix in SOURCE_SUFFIXES or path.name in SOURCE_NAMES]
    without = [
        str(path.relative_to(ROOT))
        for path in sources
        if not any(line in head for head in path.read_text(encoding="utf-8").splitlines()[:3])
    ]
    assert len(sources) > 20
    assert not without, f"these files lack '{line}' in their first three lines: {', '.join(without)}"


def test_files_that_kernels_name_exist() -> None:
    named = [
        (path, name)
        for path in files()
        if path.suffix in {".hpp", ".cpp", ".v"}
        for name in NAMED_FILES.findall(path.read_text(encoding="utf-8"))
    ]
    assert len(named) > 20
    missing = [f"{path.relative_to(ROOT)}: {name}" for path, name in named if not (ROOT / name).is_file()]
    assert not missing, f"these name files that there are not: {', '.join(missing)}"


def leftovers(text: str) -> list[tuple[int, str]]:
    """Lists line number and match of each leftover."""
    return [
        (number, match.group())
        for number, line in enumerate(text.splitlines(), 1)
        for match in LEFTOVERS.finditer(line)
    ]


def test_no_file_holds_reminders_or_paths_of_a_machine() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{number}: {match}"
        for path in files()
        for number, match in leftovers(path.read_text(encoding="utf-8"))
    ]
    assert not found, "\n".join(found)


def test_leftovers_are_recognised() -> None:
    reminder, folder = REMINDERS[0], MACHINE_FOLDERS[0]
    text = f"a = 1  # {reminder} later\nopen('/{folder}/x')\nsee docs/{folder}/plan and https://a.org/{folder}/x\n"
    assert leftovers(text) == [(1, reminder), (2, f"/{folder}/")]


def blind(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yields handlers that catch everything, and raises that say nothing of the kind of error."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ExceptHandler):
            types = node.type.elts if isinstance(node.type, ast.Tuple) else [node.type]
            for kind in types:
                if kind is None or (isinstance(kind, ast.Name) and kind.id in {"Exception", "BaseException"}):
                    yield node.lineno, "catches everything"
        elif isinstance(node, ast.Raise) and node.exc is not None:
            kind = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
            if isinstance(kind, ast.Name) and kind.id in {"Exception", "BaseException"}:
                yield node.lineno, "raises a bare Exception"


def test_no_code_catches_or_raises_a_bare_exception() -> None:
    found = {}
    for path in files():
        if path.suffix == ".py":
            name = str(path.relative_to(ROOT))
            found[name] = list(blind(ast.parse(path.read_text(encoding="utf-8"))))
    counts = Counter({name: len(places) for name, places in found.items() if places})
    extra = [
        f"{name}:{line}: {what}"
        for name, places in found.items()
        if counts[name] != CATCHES_ALL.get(name, 0)
        for line, what in places
    ]
    assert not extra, "\n".join(extra)
    assert {name: counts[name] for name in CATCHES_ALL} == CATCHES_ALL


def test_blind_handlers_are_recognised() -> None:
    text = """
try:
    pass
except (ValueError, Exception):
    raise Exception('x')
try:
    pass
except:
    raise
try:
    pass
except ValueError as error:
    raise KeyError from error
"""
    assert sorted(blind(ast.parse(text))) == [
        (4, "catches everything"),
        (5, "raises a bare Exception"),
        (8, "catches everything"),
    ]
