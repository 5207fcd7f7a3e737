# SPDX-License-Identifier: Apache-2.0
"""Rows of a long benchmark as files of a folder, each with the code that made it: a stopped run goes on, none is stale.

A row of other code is made anew. ``--keep-older`` takes it as it is, and the report names it.
"""

import argparse
import functools
import hashlib
import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

from hetfab.overlay.files import write_atomic

Row: TypeAlias = dict[str, Any]

_ROOT = Path(__file__).parents[1]
#: What decides about a benchmark's figures.
_FOLDERS = ("overlay", "quantize", "hls", "driver", "cli", "benchmarks")
_SOURCES = frozenset({".py", ".json", ".hpp", ".cpp", ".h"})
_SHOWN_DIGITS = 16


@functools.cache
def code_identity(root: Path = _ROOT) -> str:
    """The first digits of a SHA-256 over the names and contents of all sources that a benchmark runs."""
    digest = hashlib.sha256()
    found = (path for folder in _FOLDERS for path in (root / folder).rglob("*") if path.suffix in _SOURCES)
    for path in sorted(found):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(root).as_posix()} {len(content)}\n".encode())
        digest.update(content)
    return digest.hexdigest()[:_SHOWN_DIGITS]


class KeptRows:
    """Rows by name.

    Args:
        folder: Where they are files.
        keep_older: Whether rows of other code are taken.
        identity: Of this code.
    """

    def __init__(self, folder: Path, *, keep_older: bool = False, identity: str | None = None) -> None:
        self.folder = folder
        self._keep_older = keep_older
        self._identity = code_identity() if identity is None else identity
        self._codes: dict[str, str] = {}
        folder.mkdir(parents=True, exist_ok=True)

    def row(self, name: str, compute: Callable[[], Row]) -> Row:
        """The row of a name: that of the folder, else what ``compute`` returns, which is then kept there."""
        path = self.folder / f"{name}.json"
        kept = _read(path)
        if kept is not None and kept["code"] != self._identity and not self._keep_older:
            print(f"{path} is of the code {kept['code']}, not of {self._identity}: made anew", file=sys.stderr)
            kept = None
        if kept is None:
            kept = {"code": self._identity, "row": compute()}
            text = json.dumps(kept, allow_nan=False).encode()

            def write(file: BinaryIO) -> None:
                file.write(text)

            write_atomic(path, write)
        self._codes[name] = kept["code"]
        found: Row = kept["row"]
        return found

    @property
    def made(self) -> Path:
        """Folder of what rows are made from, such as quantized models: of this code alone."""
        folder = self.folder / self._identity
        folder.mkdir(exist_ok=True)
        return folder

    @property
    def origin(self) -> dict[str, Any]:
        """For a report: ``code``, this code's identity, and ``older_rows``, the code of each row that is of another."""
        older = {name: code for name, code in self._codes.items() if code != self._identity}
        return {"code": self._identity, "older_rows": older}


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds ``--folder`` and ``--keep-older``."""
    parser.add_argument("--folder", type=Path, help="where rows and what they need are kept, so that a run can go on")
    parser.add_argument("--keep-older", action="store_true", help="take rows that other code made, and name them")


@contextmanager
def kept_rows(arguments: argparse.Namespace) -> Iterator[KeptRows]:
    """The rows of the folder that was given, else of a temporary one."""
    with tempfile.TemporaryDirectory() as scratch:
        yield KeptRows(arguments.folder or Path(scratch), keep_older=arguments.keep_older)


def _read(path: Path) -> Row | None:
    """A kept row with its code, None without one; files of before rows had a code are of unknown code."""
    if not path.exists():
        return None
    found: Row = json.loads(path.read_bytes())
    return found if set(found) == {"code", "row"} else {"code": "unknown", "row": found}
