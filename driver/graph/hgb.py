# SPDX-License-Identifier: Apache-2.0
"""Reads a folder of the Heterogeneous Graph Benchmark (Lv et al., KDD 2021; github.com/THUDM/HGB, node classification).

Files are tables with tabs between the cells and no line of names:

- ``node.dat``: id, name, type, features with commas between them (may be left out);
- ``link.dat``: source id, destination id, relation, weight;
- ``label.dat`` and ``label.dat.test``: id, name, type, class or classes with commas between them;
- ``info.dat``: JSON with the names of types, relations and classes, in some of the graphs.

Ids are those of the whole graph; the nodes of a type are numbered in the order of their ids.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hetfab.driver.graph.csv_table import CsvTable
from hetfab.driver.graph.heterograph import Edges, FeatureTable, HeteroGraph, smaller_table
from hetfab.overlay.archives import LARGEST_JSON_BYTES, read_limited
from hetfab.overlay.errors import GraphInvalidError, GraphUnreadableError, InputError
from hetfab.overlay.model.schema import Relation

#: What numbers in tables may lead to: nothing in the file backs the memory that they would take.
_LARGEST_TYPE, _LARGEST_CLASS, _LARGEST_TABLE_BYTES = 4095, 9_999_999, 1 << 30
_CORRECT = "copy the file again, or correct the line"
_LINKS = ("source", "destination", "relation", "weight")
#: The parts of the labels and the files that hold them.
_LABEL_FILES = {"train": "label.dat", "test": "label.dat.test"}
#: The files that make such a graph; some may be missing.
FILES = ("node.dat", "link.dat", *_LABEL_FILES.values(), "info.dat")

Ids = npt.NDArray[np.int64]


@dataclass(frozen=True)
class _Info:
    """Names from ``info.dat``, by the number that the tables use."""

    types: Mapping[str, str]
    relations: Mapping[str, str]
    classes: Mapping[str, Mapping[str, str]]


@dataclass(frozen=True)
class _Nodes:
    """All nodes by id: type of each [N], number within its type [N], and per type the features, if any."""

    types: Ids
    numbers: Ids
    features: Mapping[int, FeatureTable]


@dataclass(frozen=True)
class _Labels:
    """Labels of a part: nodes by id, and the classes of each."""

    nodes: Ids
    classes: list[list[int]]


def read_hgb(folder: Path, *, val: float = 0.0, seed: int = 0) -> HeteroGraph:
    """Reads a folder of the benchmark.

    The training split is ``label.dat``, the test split ``label.dat.test``. The benchmark has no validation split;
    ``val`` draws one from the training split.

    Args:
        folder: Holds ``node.dat`` and ``link.dat``, and where there are any ``label.dat``, ``label.dat.test`` and
            ``info.dat``.
        val: Share of the training split that becomes the validation split; at least 0, less than 1.
        seed: Of the draw.

    Returns:
        The graph; the ids of its nodes are those of the files.

    Raises:
        GraphUnreadableError: A file is missing or not UTF-8.
        GraphInvalidError: A line is wrong, or an edge has a weight other than 1.
    """
    info = _info(folder / "info.dat")
    nodes = _nodes(folder / "node.dat")
    names = _names(range(int(nodes.types.max(initial=-1)) + 1), info.types)
    counts = {name: int((nodes.types == number).sum()) for number, name in names.items()}
    relations = _relations(folder / "link.dat", nodes, names, info.relations)
    labels = {part: _labels(folder / file, nodes) for part, file in _LABEL_FILES.items() if (folder / file).is_file()}
    tables, splits, classes = _labelled(nodes, names, labels, info)
    if val:
        _draw_validation(splits, val, np.random.default_rng(seed))
    try:
        return HeteroGraph(
            name=folder.resolve().name,
            target=next(iter(tables), None),
            counts=counts,
            relations=relations,
            features={names[number]: table for number, table in nodes.features.items()},
            labels=tables,
            splits=splits,
            ids={name: np.flatnonzero(nodes.types == number).astype(np.str_) for number, name in names.items()},
            classes=classes,
        )
    except InputError as error:
        raise type(error)(f"in the folder '{folder}': {error.found}", error.expected, error.do) from error


def _info(path: Path) -> _Info:
    """Names; none where the file is missing or is not JSON, as that of Freebase."""
    try:
        found = json.loads(read_limited(path, LARGEST_JSON_BYTES).decode("utf-8-sig"))
        links = found["link.dat"]["link type"]
        return _Info(
            types={number: str(name) for number, name in found["node.dat"]["node type"].items()},
            relations={number: str(link["meaning"]) for number, link in links.items()},
            classes={
                number: {label: str(name) for label, name in names.items()}
                for number, names in found.get("label.dat", {}).get("node type", {}).items()
            },
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return _Info({}, {}, {})


def _names(numbers: Any, meanings: Mapping[str, str]) -> dict[int, str]:
    """A name for each number: what ``info.dat`` calls it, with underscores for what names cannot hold."""
    names: dict[int, str] = {}
    for number in numbers:
        name = re.sub(r"\W+", "_", meanings.get(str(number), "")).strip("_")
        names[number] = name if name and name not in names.values() else str(number)
    return names


def _lines(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Number and cells of each line that is not blank."""
    try:
        with path.open(encoding="utf-8-sig", newline="\n") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield number, line.rstrip("\r\n").split("\t")
    except OSError as error:
        raise GraphUnreadableError(
            f"cannot read '{path}': {error.strerror or error}", "a table of the benchmark", "check the path"
        ) from error
    except UnicodeDecodeError as error:
        raise GraphUnreadableError(f"'{path}' is not UTF-8: {error}", "text in UTF-8", "save it as UTF-8") from error


def _wrong(path: Path, line: int, found: str, expected: str) -> GraphInvalidError:
    return GraphInvalidError(f"'{path}', line {line}: {found}", expected, _CORRECT)


def _nodes(path: Path) -> _Nodes:
    ids: list[int] = []
    types: list[int] = []
    vectors: dict[int, npt.NDArray[np.float32]] = {}
    for line, cells in _lines(path):
        if len(cells) not in (3, 4):
            raise _wrong(path, line, f"{len(cells)} cells", "id, name, type and perhaps features, with tabs between")
        try:
            ids.append(int(cells[0]))
            types.append(int(cells[2]))
            if len(cells) == 4 and cells[3]:
                vectors[ids[-1]] = np.fromiter(map(float, cells[3].split(",")), np.float32)
        except ValueError as error:
            raise _wrong(path, line, str(error), "whole numbers for id and type, and features as numbers") from error
    order = sorted(range(len(ids)), key=ids.__getitem__)
    if [ids[place] for place in order] != list(range(len(ids))) or min(types, default=0) < 0:
        raise GraphInvalidError(
            f"'{path}': the ids of {len(ids)} nodes are not 0 to {len(ids) - 1}, or a type is below 0",
            "each id from 0 once, and types from 0",
            _CORRECT,
        )
    if max(types, default=0) > _LARGEST_TYPE:
        raise GraphInvalidError(f"'{path}': there is a type {max(types)}", f"types up to {_LARGEST_TYPE}", _CORRECT)
    by_id = np.array(types, dtype=np.int64)[order]
    numbers = np.empty_like(by_id)
    features: dict[int, FeatureTable] = {}
    for number in np.unique(by_id).tolist():
        members = np.flatnonzero(by_id == number)
        numbers[members] = np.arange(len(members))
        rows = [vectors[node] for node in members.tolist() if node in vectors]
        if rows:
            features[number] = _stacked(path, number, rows, len(members))
    return _Nodes(by_id, numbers, features)


def _stacked(path: Path, number: int, rows: list[npt.NDArray[np.float32]], count: int) -> FeatureTable:
    widths = sorted({len(row) for row in rows})
    if len(rows) != count or len(widths) > 1:
        raise GraphInvalidError(
            f"'{path}': {len(rows)} of the {count} nodes of type {number} have features,"
            f" {' or '.join(map(str, widths))} of them",
            "features for all nodes of a type or for none, equally many for each",
            _CORRECT,
        )
    return smaller_table(np.stack(rows))


def _relations(
    path: Path, nodes: _Nodes, names: Mapping[int, str], meanings: Mapping[str, str]
) -> dict[Relation, Edges]:
    table = CsvTable(path, _LINKS, headed=False, delimiter="\t", quoted=False)
    links = table.numbers(_LINKS, np.float64)
    for column, count in enumerate((len(nodes.types), len(nodes.types), len(links))):
        _check_whole(table, links[:, column], _LINKS[column], count)
    weighted = np.flatnonzero(links[:, 3] != 1)
    if len(weighted):
        row = int(weighted[0])
        table.refuse_cell(row, "weight", f"{links[row, 3]:g}", "the weight 1, as edge weights are not read")
    source, destination, kinds = links[:, :3].astype(np.int64).T
    relations: dict[Relation, Edges] = {}
    for number, name in _names(np.unique(kinds).tolist(), meanings).items():
        rows = np.flatnonzero(kinds == number)
        ends = source[rows], destination[rows]
        types = [_one_type(table, rows, nodes.types[end], names, number) for end in ends]
        relations[Relation(types[0], name, types[1])] = Edges(*(nodes.numbers[end].astype(np.int32) for end in ends))
    return relations


def _check_whole(table: CsvTable, values: npt.NDArray[np.float64], column: str, count: int) -> None:
    wrong = np.flatnonzero((values < 0) | (values >= count) | (values != np.floor(values)))
    if len(wrong):
        row = int(wrong[0])
        table.refuse_cell(row, column, f"{values[row]:g}", f"a whole number from 0 to {count - 1}")


def _one_type(table: CsvTable, rows: Ids, types: Ids, names: Mapping[int, str], relation: int) -> str:
    other = np.flatnonzero(types != types[0])
    if len(other):
        first, second = names[int(types[0])], names[int(types[other[0]])]
        expected = f"edges of relation {relation} with the ends that its first edge has, here '{first}'"
        table.refuse_cell(int(rows[other[0]]), "relation", f"{relation}, with an end of type '{second}'", expected)
    return names[int(types[0])]


def _labels(path: Path, nodes: _Nodes) -> _Labels:
    ids: list[int] = []
    classes: list[list[int]] = []
    for line, cells in _lines(path):
        try:
            ids.append(int(cells[0]))
            classes.append([int(cell) for cell in cells[3].split(",")])
        except (IndexError, ValueError) as error:
            raise _wrong(path, line, str(error), "id, name, type and classes, with tabs between") from error
        if not 0 <= ids[-1] < len(nodes.types) or min(classes[-1]) < 0 or max(classes[-1]) > _LARGEST_CLASS:
            expected = f"a node of node.dat and classes from 0 to {_LARGEST_CLASS}"
            raise _wrong(path, line, f"node {ids[-1]}, classes {cells[3]}", expected)
    return _Labels(np.array(ids, dtype=np.int64), classes)


def _labelled(
    nodes: _Nodes, names: Mapping[int, str], parts: Mapping[str, _Labels], info: _Info
) -> tuple[dict[str, npt.NDArray[Any]], dict[str, dict[str, Ids]], dict[str, tuple[str, ...]]]:
    """Labels, splits and names of classes by type; several labels a node where any node has several."""
    everything = [entry for part in parts.values() for entry in part.classes]
    multilabel = any(len(entry) > 1 for entry in everything)
    labelled = [int(number) for part in parts.values() for number in dict.fromkeys(nodes.types[part.nodes].tolist())]
    tables: dict[str, npt.NDArray[Any]] = {}
    splits: dict[str, dict[str, Ids]] = {}
    classes: dict[str, tuple[str, ...]] = {}
    for number in dict.fromkeys(labelled):
        name = names[number]
        class_names = info.classes.get(str(number), {})
        named = [int(c) for c in class_names if c.isdecimal() and len(c) < 8 and int(c) <= _LARGEST_CLASS]
        width = 1 + max([c for entry in everything for c in entry] + named)
        count = int((nodes.types == number).sum())
        if multilabel and count * width > _LARGEST_TABLE_BYTES:
            raise GraphInvalidError(
                f"{count} nodes of type '{name}' have a table of {width} classes each",
                f"at most {_LARGEST_TABLE_BYTES:,} entries",
                "number the classes from 0 without gaps",
            )
        table = np.zeros((count, width), np.uint8) if multilabel else np.full(count, -1, np.int64)
        splits[name] = {}
        for part, found in parts.items():
            of_type = np.flatnonzero(nodes.types[found.nodes] == number)
            members = nodes.numbers[found.nodes[of_type]]
            for node, at in zip(members.tolist(), of_type.tolist(), strict=True):
                if multilabel:
                    table[node, found.classes[at]] = 1
                else:
                    table[node] = found.classes[at][0]
            splits[name][part] = np.sort(members)
        tables[name] = table
        if class_names:
            classes[name] = tuple(class_names.get(str(label), str(label)) for label in range(width))
    return tables, splits, classes


def _draw_validation(splits: dict[str, dict[str, Ids]], share: float, rng: np.random.Generator) -> None:
    """Moves a share of each training split to a validation split."""
    for parts in splits.values():
        if "train" in parts:
            order = rng.permutation(parts["train"])
            count = round(share * len(order))
            parts |= {"train": np.sort(order[count:]), "val": np.sort(order[:count])}
