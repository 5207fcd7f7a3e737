# SPDX-License-Identifier: Apache-2.0
"""Reads a folder of CSV files, of which the file ``graph.json`` says what they mean.

``docs/graphs.md`` describes that file.
"""

import json
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from hetfab.driver.graph.csv_table import CsvTable, open_table
from hetfab.driver.graph.heterograph import SPLITS, Edges, FeatureTable, HeteroGraph, listed, smaller_table
from hetfab.overlay.archives import LARGEST_JSON_BYTES, read_limited
from hetfab.overlay.errors import GraphInvalidError, GraphUnreadableError, InputError, why_unreadable
from hetfab.overlay.model.schema import Relation

SCHEMA_FILE = "graph.json"
#: In place of names of columns: every column of numbers that has no other use.
ALL_NUMERIC = "numeric"
#: As many digits as a class may have: models have a logit for each.
_CLASS_DIGITS = 7
_CORRECT = f"correct {SCHEMA_FILE} as docs/graphs.md describes it"


@dataclass(frozen=True)
class NodeTable:
    """Where the nodes of a type come from: a row each, or nothing but their mention in relations."""

    file: str | None = None
    id: str | None = None
    features: tuple[str, ...] = ()
    label: tuple[str, ...] = ()
    multilabel: bool = False
    classes: tuple[str, ...] = ()
    split: str | None = None


@dataclass(frozen=True)
class EdgeTable:
    """Where the edges of a relation come from: a row each."""

    name: str
    source: str
    destination: str
    file: str
    source_column: str
    destination_column: str
    reverse: str | None = None


@dataclass(frozen=True)
class FolderSchema:
    """What ``graph.json`` says."""

    node_types: Mapping[str, NodeTable]
    relations: tuple[EdgeTable, ...] = ()
    name: str | None = None
    target: str | None = None
    metapaths: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    delimiter: str = ","


@dataclass(frozen=True)
class _Nodes:
    """Nodes of a type as read."""

    numbers: Mapping[str, int]
    features: FeatureTable | None = None
    labels: npt.NDArray[Any] | None = None
    classes: tuple[str, ...] = ()
    splits: Mapping[str, npt.NDArray[Any]] = field(default_factory=dict)


def csv_files(folder: Path) -> list[Path]:
    """``graph.json`` and the files that it names.

    Raises:
        GraphUnreadableError: ``graph.json`` is missing, or is not UTF-8 or JSON.
        GraphInvalidError: It contradicts itself.
    """
    schema = _Json(folder / SCHEMA_FILE).schema()
    tables = [table.file for table in schema.node_types.values() if table.file]
    return [folder / name for name in (SCHEMA_FILE, *tables, *(table.file for table in schema.relations))]


def read_csv_folder(folder: Path) -> HeteroGraph:
    """Reads a folder of CSV files.

    Args:
        folder: Holds ``graph.json`` and the files that it names.

    Returns:
        The graph; nodes are numbered in the order of their rows, and their ids are kept.

    Raises:
        GraphUnreadableError: A file or column is missing, or a file is not UTF-8, CSV or JSON.
        GraphInvalidError: A cell, row or id is wrong, or ``graph.json`` contradicts itself.
        RelationMissingError: A metapath names a relation that is not there.
    """
    path = folder / SCHEMA_FILE
    schema = _Json(path).schema()
    _check_names(path, schema)
    nodes = {name: _nodes(folder, table, schema.delimiter) for name, table in schema.node_types.items() if table.file}
    nodes |= _mentioned(folder, schema)
    relations: dict[Relation, Edges] = {}
    for table in schema.relations:
        types = table.source, table.destination
        columns = table.source_column, table.destination_column
        numbers = nodes[table.source].numbers, nodes[table.destination].numbers
        edges = Edges(*open_table(folder / table.file, schema.delimiter).ends(columns, numbers, types))
        relations[Relation(table.source, table.name, table.destination)] = edges
        if table.reverse is not None:
            relations[Relation(table.destination, table.reverse, table.source)] = Edges(*reversed(edges))
    ordered = {name: nodes[name] for name in schema.node_types}
    try:
        return HeteroGraph(
            name=schema.name or folder.resolve().name,
            target=schema.target,
            counts={name: len(found.numbers) for name, found in ordered.items()},
            relations=relations,
            features={name: found.features for name, found in ordered.items() if found.features is not None},
            labels={name: found.labels for name, found in ordered.items() if found.labels is not None},
            splits={name: found.splits for name, found in ordered.items() if found.splits},
            metapaths=schema.metapaths,
            ids={name: np.array(list(found.numbers), dtype=np.str_) for name, found in ordered.items()},
            classes={name: found.classes for name, found in ordered.items() if found.classes},
        )
    except InputError as error:
        raise type(error)(f"'{path}': {error.found}", error.expected, _CORRECT) from error


def _nodes(folder: Path, about: NodeTable, delimiter: str) -> _Nodes:
    table = open_table(folder / str(about.file), delimiter)
    numbers = table.ids(str(about.id))
    used = [str(about.id), *about.label, *([about.split] if about.split else [])]
    columns = table.numeric_columns(used) if about.features == (ALL_NUMERIC,) else about.features
    features = smaller_table(table.numbers(columns)) if columns else None
    splits = _splits(table, about.split) if about.split else {}
    if about.multilabel:
        return _Nodes(numbers, features, _multilabel(table, about.label), about.label, splits)
    if about.label:
        return _Nodes(numbers, features, *_multiclass(table, about.label[0], about.classes), splits)
    return _Nodes(numbers, features, splits=splits)


def _mentioned(folder: Path, schema: FolderSchema) -> dict[str, _Nodes]:
    """Nodes of types without a file, numbered as the relations mention them, column by column."""
    found: dict[str, dict[str, int]] = {name: {} for name, table in schema.node_types.items() if table.file is None}
    for about in schema.relations:
        ends = ((about.source, about.source_column), (about.destination, about.destination_column))
        for node_type, column in ends:
            if node_type in found:
                known = found[node_type]
                for name in filter(None, open_table(folder / about.file, schema.delimiter).column(column)):
                    known.setdefault(name, len(known))
    return {name: _Nodes(numbers) for name, numbers in found.items()}


def _multiclass(
    table: CsvTable, column: str, classes: tuple[str, ...]
) -> tuple[npt.NDArray[np.int64], tuple[str, ...]]:
    """Class of each row, -1 where the cell is empty, and the names of the classes where they are not numbers."""
    cells = table.column(column)
    if not classes:
        different = sorted(set(cells) - {""})
        if all(_is_class_number(cell) for cell in different):
            return np.array([_class_number(table, row, column, cell) for row, cell in enumerate(cells)], np.int64), ()
        classes = tuple(different)
    numbers = {name: number for number, name in enumerate(classes)} | {"": -1}
    for row, cell in enumerate(cells):
        if cell not in numbers:
            table.refuse_cell(row, column, cell, f"nothing, or one of the classes {listed(classes)}")
    return np.array([numbers[cell] for cell in cells], dtype=np.int64), classes


def _class_number(table: CsvTable, row: int, column: str, cell: str) -> int:
    if not cell:
        return -1
    if len(cell) > _CLASS_DIGITS:
        table.refuse_cell(row, column, cell, f"a class of at most {_CLASS_DIGITS} digits")
    return int(cell)


def _is_class_number(cell: str) -> bool:
    return cell.isdecimal() or cell == "-1"


def _multilabel(table: CsvTable, columns: tuple[str, ...]) -> npt.NDArray[np.uint8]:
    values = table.numbers(columns)
    wrong = np.argwhere((values != 0) & (values != 1))
    if len(wrong):
        row, column = map(int, wrong[0])
        table.refuse_cell(
            row, columns[column], f"{values[row, column]:g}", "0 or 1, as there are several labels a node"
        )
    return values.astype(np.uint8)


def _splits(table: CsvTable, column: str) -> dict[str, npt.NDArray[Any]]:
    cells = table.column(column)
    for row, cell in enumerate(cells):
        if cell and cell not in SPLITS:
            table.refuse_cell(row, column, cell, f"nothing, or one of {listed(SPLITS)}")
    parts = np.array(cells, dtype=np.str_)
    return {part: np.flatnonzero(parts == part) for part in SPLITS if part in cells}


def _check_names(path: Path, schema: FolderSchema) -> None:
    """Relations and reverses have names of their own; all else is checked when the graph is made."""
    names = [name for relation in schema.relations for name in (relation.name, relation.reverse) if name is not None]
    doubles = [name for name in names if names.count(name) > 1]
    if doubles:
        raise GraphInvalidError(
            f"'{path}': {len(doubles)} relations are named '{doubles[0]}'",
            "a name of its own for each relation and each reverse, as models refer to them by name",
            _CORRECT,
        )


_Table = TypeVar("_Table", NodeTable, EdgeTable, FolderSchema)


class _Json:
    """Takes ``graph.json`` apart, with errors that name the place in it."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def schema(self) -> FolderSchema:
        try:
            text = read_limited(self._path, LARGEST_JSON_BYTES).decode("utf-8-sig")
            found = json.loads(text)
        except (OSError, ValueError, RecursionError) as error:
            found = f"cannot read '{self._path}': {why_unreadable(error)}"
            raise GraphUnreadableError(found, "a file with JSON", _CORRECT) from error
        members = self._members(found, FolderSchema, "the file")
        types = self._mapping(members["node_types"], "node_types")
        relations = self._list(members.get("relations", []), "relations")
        paths = self._mapping(members.get("metapaths", {}), "metapaths")
        delimiter = self._text(members.get("delimiter", ","), "delimiter")
        if len(delimiter) != 1 or delimiter in '"\r\n\0 ':
            raise self._error("delimiter", delimiter, "one character that can stand between cells")
        tables = {name: self._node_table(entry, f"node type '{name}'") for name, entry in types.items()}
        return FolderSchema(
            node_types=tables,
            relations=tuple(self._edge_table(e, f"relation {at + 1}", tables) for at, e in enumerate(relations)),
            metapaths={name: self._texts(path, f"metapath '{name}'") for name, path in paths.items()},
            delimiter=delimiter,
            **{key: self._text(members[key], key) for key in ("name", "target") if members.get(key) is not None},
        )

    def _node_table(self, entry: Any, where: str) -> NodeTable:
        members = self._members(entry, NodeTable, where, hidden=("multilabel",))
        values: dict[str, Any] = {
            key: self._text(members[key], f"{where}, {key}") for key in ("file", "id", "split") if key in members
        }
        if "file" in values:
            self._check_inside(values["file"], f"{where}, file")
        if "file" in values and "id" not in values:
            raise self._error(f"{where}, id", None, "the name of the column with the ids")
        if "file" not in values and members:
            raise self._error(f"{where}, file", None, f"a file that has the columns for {listed(members)}")
        for key in ("features", "label", "classes"):
            if key in members:
                given = members[key]
                single = key != "classes" and isinstance(given, str)
                values[key] = (given,) if single else self._texts(given, f"{where}, {key}")
        multilabel = isinstance(members.get("label"), list)
        if multilabel and not members["label"]:
            raise self._error(f"{where}, label", [], "a column, or a list of columns")
        if "classes" in values and (multilabel or "label" not in values):
            raise self._error(f"{where}, classes", members["classes"], "classes only where 'label' is one column")
        return NodeTable(**values, multilabel=multilabel)

    def _edge_table(self, entry: Any, where: str, tables: Mapping[str, NodeTable]) -> EdgeTable:
        members = self._members(entry, EdgeTable, where, optional=("source_column", "destination_column"))
        values = {key: self._text(value, f"{where}, {key}") for key, value in members.items()}
        self._check_inside(values["file"], f"{where}, file")
        for end in ("source", "destination"):
            if values[end] not in tables:
                raise self._error(f"{where}, {end}", values[end], f"one of the node types {listed(tables)}")
            column = values.setdefault(f"{end}_column", tables[values[end]].id or "")
            if not column:
                raise self._error(f"{where}, {end}_column", None, f"a column, as '{values[end]}' names no id column")
        if values["source_column"] == values["destination_column"]:
            expected = "another column for the destination: give source_column and destination_column"
            raise self._error(f"{where}, both ends are in the column", values["source_column"], expected)
        return EdgeTable(**values)

    def _check_inside(self, name: str, where: str) -> None:
        """Refuses names that lead out of the folder, also by symbolic links."""
        folder = self._path.parent.resolve()
        if "\0" in name or not (folder / name).resolve().is_relative_to(folder):
            raise self._error(where, name, "a file in the folder of graph.json")

    def _members(
        self, value: Any, table: type[_Table], where: str, hidden: tuple[str, ...] = (), optional: tuple[str, ...] = ()
    ) -> dict[str, Any]:
        """Members of an object, all of them known and none that is needed missing."""
        known = [member for member in fields(table) if member.name not in hidden]
        names = [member.name for member in known]
        needed = [m.name for m in known if m.default is MISSING and m.default_factory is MISSING]
        needed = [name for name in needed if name not in optional]
        members = self._mapping(value, where)
        wrong = [name for name in members if name not in names]
        if wrong:
            raise self._error(where, wrong[0], f"only the members {listed(names)}")
        lacking = [name for name in needed if name not in members]
        if lacking:
            raise self._error(where, None, f"the members {listed(needed)}; it lacks {listed(lacking)}")
        return members

    def _mapping(self, value: Any, where: str) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise self._error(where, value, "an object, { }")
        return value

    def _list(self, value: Any, where: str) -> list[Any]:
        if not isinstance(value, list):
            raise self._error(where, value, "a list, [ ]")
        return value

    def _texts(self, value: Any, where: str) -> tuple[str, ...]:
        return tuple(self._text(entry, where) for entry in self._list(value, where))

    def _text(self, value: Any, where: str) -> str:
        if not isinstance(value, str) or not value:
            raise self._error(where, value, "text")
        return value

    def _error(self, where: str, value: Any, expected: str) -> GraphInvalidError:
        found = f"'{self._path}': {where}" + ("" if value is None else f": {json.dumps(value)}")
        return GraphInvalidError(found, expected, _CORRECT)
