# SPDX-License-Identifier: Apache-2.0
"""Keeps what a long search has computed, so that an interrupted one goes on where it stopped.

A journal is a text file of JSON lines: what the search is of, then a key and a value for each result. A line is written
as soon as there is a result; a last line that is cut off is ignored.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, TextIO, TypeVar

from hetfab.overlay.errors import OutputUnwritableError
from hetfab.overlay.files import write_atomic

_V = TypeVar("_V")


class Journal:
    """Results by key, of one search; used as a context, whose orderly end removes the file.

    Args:
        path: The file; None keeps nothing beyond the process.
        identity: What the search is of. A file of another search is replaced.

    Raises:
        OutputUnwritableError: The file cannot be written.
    """

    def __init__(self, path: Path | None, identity: str) -> None:
        self._path = path
        self._results: dict[str, Any] = {}
        self._file: TextIO | None = None
        if path is None:
            return
        known = _lines(path)
        if known[:1] == [{"search": identity}]:
            self._results = {entry["key"]: entry["value"] for entry in known[1:]}
        kept = [{"search": identity}, *({"key": key, "value": value} for key, value in self._results.items())]
        content = "".join(json.dumps(entry) + "\n" for entry in kept).encode()

        def write(file: BinaryIO) -> None:
            file.write(content)

        # Nothing that is known is missing on the disk meanwhile.
        write_atomic(path, write)
        with self._writing():
            self._file = path.open("a", encoding="utf-8")

    def __enter__(self) -> "Journal":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None and self._path is not None:
            with nullcontext() if kind is None else suppress(OSError):
                self._file.close()
            if kind is None:
                self._path.unlink(missing_ok=True)

    def __len__(self) -> int:
        return len(self._results)

    def __contains__(self, key: object) -> bool:
        return key in self._results

    def result(self, key: str, compute: Callable[[], _V]) -> _V:
        """What is known under a key, else what ``compute`` returns, which is then known.

        Args:
            key: Of the result.
            compute: Gives a value that JSON has a form for.
        """
        if key not in self:
            self.note(key, compute())
        found: _V = self.known(key)
        return found

    def known(self, key: str) -> Any:
        """What is known under a key that the journal has."""
        return self._results[key]

    def note(self, key: str, value: Any) -> None:
        """Keeps a result that is not known yet."""
        self._results[key] = value
        self._write({"key": key, "value": value})

    def part(self, name: str) -> "Journal":
        """The same journal for results of which the keys begin with a name."""
        return _Part(self, name)

    def _write(self, entry: dict[str, Any]) -> None:
        if self._file is not None:
            with self._writing():
                self._file.write(json.dumps(entry) + "\n")
                self._file.flush()

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Names the file where the system writes no more to it."""
        try:
            yield
        except OSError as error:
            raise OutputUnwritableError(
                f"cannot write the journal '{self._path}': {error.strerror or error}",
                "a folder that can be written, with room",
                "make room, or choose another output; the same command goes on from what is in it",
            ) from error


class _Part(Journal):
    """Results of one part of a search, in the whole's journal."""

    def __init__(self, whole: Journal, name: str) -> None:
        super().__init__(None, "")
        self._whole, self._name = whole, name

    def __contains__(self, key: object) -> bool:
        return f"{self._name} {key}" in self._whole

    def known(self, key: str) -> Any:
        return self._whole.known(f"{self._name} {key}")

    def note(self, key: str, value: Any) -> None:
        self._whole.note(f"{self._name} {key}", value)


def _lines(path: Path) -> list[Any]:
    """The entries of a file, up to the first that is cut off or is none."""
    entries: list[Any] = []
    with suppress(OSError, ValueError, RecursionError):
        for line in path.read_text(encoding="utf-8").splitlines():
            entry = json.loads(line)
            if not isinstance(entry, dict) or not ({"search"} == set(entry) or {"key", "value"} == set(entry)):
                break
            if not isinstance(entry.get("key", ""), str) or ("search" in entry) != (not entries):
                break
            entries.append(entry)
    return entries
