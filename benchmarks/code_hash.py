# SPDX-License-Identifier: Apache-2.0
"""A hash of the code that results of a long benchmark depend on, so that those of other code are not taken for them."""

import hashlib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import hetfab.cli
import hetfab.driver
import hetfab.hls
import hetfab.overlay
import hetfab.quantize

_PARTS = (hetfab.cli, hetfab.driver, hetfab.hls, hetfab.overlay, hetfab.quantize)
_PACKAGES = {part.__name__: Path(part.__path__[0]) for part in _PARTS} | {"benchmarks": Path(__file__).parent}
_IMPORT = re.compile(r"^\s*from ([\w.]+) import (\([\w\s,]+|[\w ,]+)|^\s*import ([\w.]+)", re.MULTILINE)


def code_hash(module: str, packages: Mapping[str, Path] = _PACKAGES) -> str:
    """Of all ``files_of`` a module."""
    digest = hashlib.sha256()
    for path in sorted(files_of(module, packages)):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def files_of(module: str, packages: Mapping[str, Path] = _PACKAGES) -> set[Path]:
    """Files of a module and of all that it imports, inside functions too, with the tables beside them.

    Args:
        module: Its name, ``benchmarks.search``.
        packages: Folders of the packages that count, by name.
    """
    found, waiting = set[Path](), [module]
    while waiting:
        path = _file_of(waiting.pop(), packages)
        if path is not None and path not in found:
            found.add(path)
            waiting += _imported(path.read_text(encoding="utf-8"))
    return found | {table for path in found for table in path.parent.glob("*.json")}


def _file_of(name: str, packages: Mapping[str, Path]) -> Path | None:
    """The file of a module; None where the name is of something in a module, or of another package."""
    for package, folder in packages.items():
        if name == package or name.startswith(f"{package}."):
            path = folder.joinpath(*name[len(package) :].split("."))
            return next((file for file in (path.with_suffix(".py"), path / "__init__.py") if file.is_file()), None)
    return None


def _imported(text: str) -> Iterator[str]:
    """Names that a file imports: modules, and what may be a module of a package."""
    for package, names, alone in _IMPORT.findall(text):
        yield alone or package
        yield from (f"{package}.{name}" for name in re.findall(r"\w+", names))
