# SPDX-License-Identifier: Apache-2.0
"""Reads columns of text tables (CSV and the like) in chunks, with errors that name file, line and column.

A file of a few million lines takes seconds: columns are taken apart in chunks, by C code of the standard
library, and the line of a wrong cell is only looked for when there is one.
"""

import csv
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, TextIO

import numpy as np
import numpy.typing as npt

from hetfab.driver.graph.heterograph import listed
from hetfab.overlay.errors import GraphInvalidError, GraphUnreadableError

_CHUNK = 1 << 16
_LARGEST = float(np.finfo(np.float32).max)
_SAVE_AGAIN = "save the file again as CSV in UTF-8"


@dataclass(frozen=True)
class CsvTable:
    """A text table: rows of equally many cells, separated by one character.

    Attributes:
        path: The file; UTF-8, with or without byte order mark. Blank lines count for nothing.
        columns: Names of its columns.
        headed: Whether its first line holds the names.
        delimiter: Separates cells.
        quoted: Whether cells in quotation marks may hold delimiters and line ends.
    """

    path: Path
    columns: tuple[str, ...]
    headed: bool = True
    delimiter: str = ","
    quoted: bool = True

    def position(self, column: str) -> int:
        """Place of a column.

        Raises:
            GraphUnreadableError: There is none of that name; the message lists what there is.
        """
        if column not in self.columns:
            raise GraphUnreadableError(
                f"'{self.path}' has no column '{column}'",
                f"one of its columns: {listed(self.columns)}",
                "correct the name of the column, or the delimiter if these are not the columns",
            )
        return self.columns.index(column)

    def chunks(self, columns: Sequence[str]) -> Iterator[tuple[int, list[tuple[str, ...]]]]:
        """Reads columns piece by piece.

        Yields:
            The number of the first row, and for each of the columns its cells.

        Raises:
            GraphUnreadableError: The file or a column is missing, it is not UTF-8 or not CSV.
            GraphInvalidError: A row has more or fewer cells than there are columns.
        """
        positions = [self.position(column) for column in columns]
        first = 0
        with _opened(self.path) as file:
            rows = self._rows(file)
            while chunk := list(itertools.islice(rows, _CHUNK)):
                if set(map(len, chunk)) != {len(self.columns)}:
                    chunk = [row for row in chunk if row]
                    self._check_lengths(first, chunk)
                cells = list(zip(*chunk, strict=True)) or [()] * len(self.columns)
                yield first, [cells[position] for position in positions]
                first += len(chunk)

    def column(self, name: str) -> list[str]:
        """The cells of one column."""
        return [cell for _, [cells] in self.chunks([name]) for cell in cells]

    def numbers(self, columns: Sequence[str], dtype: type[np.floating[Any]] = np.float32) -> npt.NDArray[Any]:
        """Columns of finite numbers as an array [rows, columns] of the dtype.

        Raises:
            GraphInvalidError: A cell is empty, or holds no number that single precision can hold.
        """
        pieces = [np.zeros((0, len(columns)), dtype=dtype)]
        for first, cells in self.chunks(columns):
            named = zip(columns, cells, strict=True)
            parsed = [self._parsed(first, name, values).astype(dtype) for name, values in named]
            pieces.append(np.stack(parsed, axis=1))
        return np.concatenate(pieces)

    def _parsed(self, first: int, column: str, values: tuple[str, ...]) -> npt.NDArray[np.float64]:
        try:
            parsed = np.fromiter(map(float, values), np.float64, len(values))
        except ValueError:
            row = next(row for row, value in enumerate(values) if not is_number(value))
            self.refuse_cell(first + row, column, values[row], "a number")
        wrong = np.flatnonzero(~(np.abs(parsed) <= _LARGEST))
        if len(wrong):
            self.refuse_cell(first + int(wrong[0]), column, values[wrong[0]], f"a number of at most {_LARGEST:.3g}")
        return parsed

    def numeric_columns(self, apart_from: Sequence[str] = ()) -> tuple[str, ...]:
        """The columns whose first cell that is not empty holds a number.

        A wrong cell further down does not make a column another kind: it is an error when the column is read.
        """
        candidates = [column for column in self.columns if column not in apart_from]
        numeric: set[str] = set()
        open_columns = list(candidates)
        for _, cells in self.chunks(candidates):
            by_name = dict(zip(candidates, cells, strict=True))
            seen = {name: cell for name in open_columns if (cell := next(filter(None, by_name[name]), None))}
            numeric |= {name for name, cell in seen.items() if is_number(cell)}
            open_columns = [name for name in open_columns if name not in seen]
            if not open_columns:
                break
        return tuple(column for column in candidates if column in numeric)

    def ids(self, column: str) -> dict[str, int]:
        """Numbers the ids of a column in the order of their rows.

        Raises:
            GraphInvalidError: An id is empty or occurs twice.
        """
        names = self.column(column)
        numbers = dict(zip(names, range(len(names)), strict=True))
        if len(numbers) != len(names) or "" in numbers:
            seen: set[str] = set()
            for row, name in enumerate(names):
                if not name or name in seen:
                    self.refuse_cell(row, column, name, "an id that no row above has" if name else "an id")
                seen.add(name)
        return numbers

    def ends(
        self, columns: tuple[str, str], numbers: tuple[Mapping[str, int], Mapping[str, int]], types: tuple[str, str]
    ) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
        """Two columns of ids as numbers, each int32 [rows].

        Args:
            columns: Names of the columns.
            numbers: Number of each id.
            types: What the ids name, for messages.

        Raises:
            GraphInvalidError: An id is empty or unknown.
        """
        pieces: tuple[list[npt.NDArray[np.int32]], list[npt.NDArray[np.int32]]] = ([], [])
        for first, cells in self.chunks(columns):
            for column, known, node_type, names, found in zip(columns, numbers, types, cells, pieces, strict=True):
                if "" in names:
                    self.refuse_cell(first + names.index(""), column, "", f"the id of a node of type '{node_type}'")
                try:
                    found.append(np.fromiter(map(known.__getitem__, names), np.int32, len(names)))
                except KeyError:
                    row = next(row for row, name in enumerate(names) if name not in known)
                    expected = f"the id of a node of type '{node_type}'{_examples(known)}"
                    self.refuse_cell(first + row, column, names[row], expected)
        none = np.zeros(0, dtype=np.int32)
        return np.concatenate([none, *pieces[0]]), np.concatenate([none, *pieces[1]])

    def refuse_cell(self, row: int, column: str, cell: str, expected: str) -> NoReturn:
        """Raises that a cell is wrong.

        Raises:
            GraphInvalidError: Always; the message names file, line, column and cell.
        """
        what = f"the cell '{cell}'" if cell else "an empty cell"
        raise GraphInvalidError(
            f"'{self.path}', line {self._line(row)}, column '{column}': {what}",
            expected,
            "correct the cell, or take out its row",
        )

    def _check_lengths(self, first: int, chunk: list[list[str]]) -> None:
        for row, cells in enumerate(chunk):
            if len(cells) != len(self.columns):
                raise GraphInvalidError(
                    f"'{self.path}', line {self._line(first + row)}: {len(cells)} cells",
                    f"{len(self.columns)} cells, one for each of the columns {listed(self.columns)}",
                    "correct the row; a cell that holds the delimiter must stand in quotation marks",
                )

    def _rows(self, file: TextIO) -> Iterator[list[str]]:
        """The rows below the names, blank lines as empty lists."""
        rows = _reader(file, self.delimiter, self.quoted)
        found = _guarded(self.path, rows)
        return itertools.islice(found, 1, None) if self.headed else found

    def _line(self, row: int) -> int:
        """The line in which a row ends, from 1; cells may hold line ends."""
        with _opened(self.path) as file:
            rows = _reader(file, self.delimiter, self.quoted)
            lines = (rows.line_num for cells in rows if cells)
            return int(next(itertools.islice(lines, row + self.headed, None)))


def open_table(path: Path, delimiter: str = ",") -> CsvTable:
    """Opens a CSV file whose first line names the columns.

    Raises:
        GraphUnreadableError: The file is missing, empty or not UTF-8, or two columns have one name.
    """
    with _opened(path) as file:
        names = next(_guarded(path, _reader(file, delimiter, True)), [])
    if not names:
        raise GraphUnreadableError(
            f"'{path}' is empty, or its first line is",
            "a first line with the names of the columns",
            "write the names of the columns into the first line",
        )
    columns = tuple(name.strip() for name in names)
    doubles = [name for name in columns if columns.count(name) > 1]
    if doubles:
        raise GraphUnreadableError(
            f"'{path}' has {len(doubles)} columns '{doubles[0]}'",
            "a name of its own for each column",
            "rename the columns in the first line",
        )
    return CsvTable(path, columns, delimiter=delimiter)


def is_number(text: str) -> bool:
    """Whether a cell holds a number, NaN and infinity included."""
    try:
        float(text)
    except ValueError:
        return False
    return True


def _examples(known: Mapping[str, int]) -> str:
    names = list(itertools.islice(known, 3))
    return ", such as " + ", ".join(f"'{name}'" for name in names) if names else "; there are none"


def _opened(path: Path) -> TextIO:
    try:
        return path.open(encoding="utf-8-sig", newline="")
    except OSError as error:
        there = sorted(other.name for other in path.parent.glob("*") if other.is_file())
        raise GraphUnreadableError(
            f"cannot read '{path}': {error.strerror or error}",
            f"a file; the folder has {listed(there)}",
            "correct the name of the file, or copy the file there",
        ) from error


def _reader(file: TextIO, delimiter: str, quoted: bool) -> Any:
    if not quoted:
        return csv.reader(file, delimiter=delimiter, quoting=csv.QUOTE_NONE)
    return csv.reader(file, delimiter=delimiter, skipinitialspace=True, strict=True)


def _guarded(path: Path, rows: Any) -> Iterator[list[str]]:
    try:
        yield from rows
    except UnicodeDecodeError as error:
        raise GraphUnreadableError(f"'{path}' is not UTF-8: {error}", "text in UTF-8", _SAVE_AGAIN) from error
    except csv.Error as error:
        raise GraphUnreadableError(
            f"'{path}', line {rows.line_num}: {error}",
            "CSV in which each quotation mark that opens is closed",
            f"correct the line, or {_SAVE_AGAIN}",
        ) from error
