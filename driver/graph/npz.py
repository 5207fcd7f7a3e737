# SPDX-License-Identifier: Apache-2.0
"""Reads and writes graph files of the format hg-npz/1: one numpy zip, never with pickled content.

``docs/graphs.md`` describes the format. Equal graphs give equal bytes.
"""

import json
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import numpy.typing as npt

from hetfab.driver.graph.heterograph import SPLITS, CsrFeatures, Edges, FeatureTable, HeteroGraph
from hetfab.overlay.archives import DAMAGE, ArrayArchive
from hetfab.overlay.errors import GraphUnreadableError, InputError, why_unreadable
from hetfab.overlay.files import write_atomic
from hetfab.overlay.model.schema import Relation
from hetfab.overlay.versions import GRAPH

_REMAKE = "hetfab graph SOURCE -o GRAPH.npz"
_IDS = ("int32", "int64")
_FIXED_DATE = (1980, 1, 1, 0, 0, 0)


def read_graph(path: Path) -> HeteroGraph:
    """Reads a graph file.

    Raises:
        GraphUnreadableError: The file is missing, truncated, no zip of arrays, of another format, or an array
            is missing, pickled or of the wrong dtype; the message names file and array.
        InputError: The graph contradicts itself; as ``HeteroGraph``, with the file's name.
    """
    try:
        with path.open("rb") as file:
            if not zipfile.is_zipfile(file):
                raise ValueError("it is not a zip, or not a complete one")
            file.seek(0)
            with ArrayArchive(file) as archive:
                return _read(_Archive(path, archive))
    except DAMAGE as error:
        raise GraphUnreadableError(
            f"cannot read the graph '{path}': {why_unreadable(error)}",
            f"a numpy zip (.npz) of the format {GRAPH.mark}",
            "check the path, and copy or write the file again if it is incomplete",
        ) from error


def write_graph(path: Path, graph: HeteroGraph) -> None:
    """Writes a graph file; the file is complete or it is not there.

    Raises:
        OutputUnwritableError: The folder is missing or read-only, or the disk is full.
    """
    arrays = _arrays(graph)

    def write(file: BinaryIO) -> None:
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, array in arrays.items():
                entry = zipfile.ZipInfo(f"{name}.npy", _FIXED_DATE)
                entry.compress_type = zipfile.ZIP_DEFLATED
                with archive.open(entry, "w", force_zip64=True) as member:
                    np.lib.format.write_array(member, array, version=(1, 0), allow_pickle=False)

    write_atomic(path, write)


class _Archive:
    """Arrays of an open file, read with errors that name the file and the array."""

    def __init__(self, path: Path, archive: ArrayArchive) -> None:
        self.path = path
        self._archive = archive

    def array(self, name: str, dtypes: tuple[str, ...]) -> npt.NDArray[Any]:
        array = self._read(name)
        if array.dtype.name not in dtypes:
            raise self.error(f"the array '{name}' is of {array.dtype.name}", " or ".join(dtypes))
        return array

    def text(self, name: str) -> npt.NDArray[np.str_]:
        array = self._read(name)
        if array.dtype.kind != "U":
            raise self.error(f"the array '{name}' is of {array.dtype.name}", "text")
        return array

    def _read(self, name: str) -> npt.NDArray[Any]:
        if name not in self._archive:
            raise self.error(f"the array '{name}' is missing", "every array that the array 'meta' announces")
        try:
            array = self._archive[name]
        except DAMAGE as error:
            found = f"the array '{name}' cannot be read: {error}"
            raise self.error(found, "a complete array, not pickled") from error
        return np.asarray(array, dtype=array.dtype.newbyteorder("="))

    def has(self, name: str) -> bool:
        return name in self._archive

    def meta(self) -> dict[str, Any]:
        if not self.has("meta"):
            raise self.error("the array 'meta' is missing", f"an array 'meta' as the format {GRAPH.mark} has it")
        try:
            meta = json.loads(str(self._archive["meta"]))
        except (*DAMAGE, RecursionError) as error:
            raise self.error(f"the array 'meta' cannot be read: {error}", "a text array with JSON") from error
        found = meta.get("format") if isinstance(meta, dict) else None
        version = GRAPH.stated(found)
        if not isinstance(meta, dict) or version is None:
            raise self.error(f"the array 'meta' states the format {found!r}", f"the format '{GRAPH.mark}'")
        return GRAPH.current(meta, version, str(self.path), _REMAKE)

    def error(self, found: str, expected: str) -> GraphUnreadableError:
        return GraphUnreadableError(
            f"cannot read the graph '{self.path}': {found}",
            expected,
            "write the file again with hetfab.driver.graph.npz.write_graph, or as docs/graphs.md describes",
        )


def _read(archive: _Archive) -> HeteroGraph:
    meta = archive.meta()
    try:
        header = _header(meta)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise archive.error(
            f"the array 'meta' lacks or garbles {error}", "the keys that docs/graphs.md lists"
        ) from error
    if header.weighted:
        raise archive.error(f"the relation '{header.weighted[0]}' has edge weights", "relations without weights")
    relations = {relation: _edges(archive, number) for number, relation in header.relations.items()}
    features = {name: _features(archive, name, *form) for name, form in header.features.items()}
    labels = {name: _labels(archive, name, form) for name, form in header.labels.items()}
    parts = relations, features, labels, _splits(archive, header.counts), header.metapaths
    ids = {name: archive.text(f"ids.{name}") for name in header.ids}
    try:
        return HeteroGraph(header.name, header.target, header.counts, *parts, ids, header.classes)
    except InputError as error:
        found = f"in the graph '{archive.path}': {error.found}"
        raise type(error)(found, error.expected, error.do) from error


class _Header(NamedTuple):
    """What ``meta`` announces."""

    name: str
    target: str | None
    counts: dict[str, int]
    relations: dict[int, Relation]
    weighted: list[str]
    features: dict[str, tuple[str, int]]
    labels: dict[str, str]
    metapaths: dict[str, tuple[str, ...]]
    ids: list[str]
    classes: dict[str, tuple[str, ...]]


def _header(meta: dict[str, Any]) -> _Header:
    types = meta["node_types"]
    relations = meta["relations"]
    return _Header(
        name=str(meta["name"]),
        target=None if meta["target"] is None else str(meta["target"]),
        counts={name: entry["count"] for name, entry in types.items()},
        relations={int(entry["id"]): _relation(entry) for entry in relations},
        weighted=[str(entry["rel"]) for entry in relations if entry.get("weighted")],
        features={
            name: (str(entry["features"]), int(entry["feature_dim"]))
            for name, entry in types.items()
            if entry["features"]
        },
        labels={name: str(entry["label"]) for name, entry in types.items() if entry["label"]},
        metapaths={name: tuple(map(str, path)) for name, path in meta["metapaths"].items()},
        ids=[name for name, entry in types.items() if entry.get("ids")],
        classes={name: tuple(map(str, entry["classes"])) for name, entry in types.items() if entry.get("classes")},
    )


def _relation(entry: dict[str, Any]) -> Relation:
    return Relation(str(entry["src"]), str(entry["rel"]), str(entry["dst"]))


def _edges(archive: _Archive, number: int) -> Edges:
    return Edges(archive.array(f"e.{number}.src", _IDS), archive.array(f"e.{number}.dst", _IDS))


def _features(archive: _Archive, name: str, form: str, width: int) -> FeatureTable:
    if form == "dense":
        return archive.array(f"x.{name}", ("float32",))
    if form != "csr":
        raise archive.error(f"the array 'meta' states the features {form!r} for '{name}'", "dense or csr")
    return CsrFeatures(
        indptr=archive.array(f"x.{name}.indptr", _IDS),
        indices=archive.array(f"x.{name}.indices", _IDS),
        data=archive.array(f"x.{name}.data", ("float32",)),
        width=width,
    )


def _labels(archive: _Archive, name: str, form: str) -> npt.NDArray[Any]:
    dtypes = {"multiclass": _IDS, "multilabel": ("uint8",)}
    if form not in dtypes:
        raise archive.error(f"the array 'meta' states the label {form!r} for '{name}'", " or ".join(dtypes))
    return archive.array(f"y.{name}", dtypes[form])


def _splits(archive: _Archive, types: Iterable[str]) -> dict[str, dict[str, npt.NDArray[Any]]]:
    splits: dict[str, dict[str, npt.NDArray[Any]]] = {}
    for name in types:
        there = [part for part in SPLITS if archive.has(f"{part}.{name}")]
        if there:
            splits[name] = {part: archive.array(f"{part}.{name}", _IDS) for part in there}
    return splits


def _arrays(graph: HeteroGraph) -> dict[str, npt.NDArray[Any]]:
    """The arrays of a graph's file by name, ``meta`` first."""
    arrays: dict[str, npt.NDArray[Any]] = {}
    for number, edges in enumerate(graph.relations.values()):
        arrays |= {f"e.{number}.src": edges.source, f"e.{number}.dst": edges.destination}
    for name, table in graph.features.items():
        if isinstance(table, CsrFeatures):
            csr = {"indptr": table.indptr, "indices": table.indices, "data": table.data}
            arrays |= {f"x.{name}.{part}": array for part, array in csr.items()}
        else:
            arrays[f"x.{name}"] = np.ascontiguousarray(table)
    arrays |= {f"y.{name}": labels for name, labels in graph.labels.items()}
    for name, parts in graph.splits.items():
        arrays |= {f"{part}.{name}": parts[part] for part in SPLITS if part in parts}
    arrays |= {f"ids.{name}": ids for name, ids in graph.ids.items()}
    return {"meta": np.array(json.dumps(_meta(graph)))} | arrays


def _meta(graph: HeteroGraph) -> dict[str, Any]:
    return {
        "format": GRAPH.mark,
        "name": graph.name,
        "target": graph.target,
        "node_types": {name: _type_entry(graph, name) for name in graph.counts},
        "relations": [
            {"id": number, "src": relation.source, "rel": relation.name, "dst": relation.destination}
            | {"edges": len(edges.source)}
            for number, (relation, edges) in enumerate(graph.relations.items())
        ],
        "metapaths": {name: list(path) for name, path in graph.metapaths.items()},
    }


def _type_entry(graph: HeteroGraph, name: str) -> dict[str, Any]:
    table, labels = graph.features.get(name), graph.labels.get(name)
    entry: dict[str, Any] = {"count": int(graph.counts[name])}
    entry |= {"features": None, "feature_dim": 0, "label": None}
    if isinstance(table, CsrFeatures):
        entry |= {"features": "csr", "feature_dim": int(table.width), "feature_nnz": len(table.data)}
    elif table is not None:
        entry |= {"features": "dense", "feature_dim": table.shape[1]}
    if labels is not None and labels.ndim == 1:
        entry |= {"label": "multiclass", "num_classes": int(labels.max(initial=-1)) + 1}
    elif labels is not None:
        entry |= {"label": "multilabel", "num_classes": labels.shape[1]}
    if name in graph.ids:
        entry |= {"ids": True}
    if name in graph.classes:
        entry |= {"classes": list(graph.classes[name])}
    parts = graph.splits.get(name, {})
    return entry | {part: len(parts[part]) for part in SPLITS if part in parts}
