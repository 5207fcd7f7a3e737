# SPDX-License-Identifier: Apache-2.0
"""Graph files: what is written is read back, equal graphs give equal bytes, and broken files are named."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hetfab.driver.graph.generate import academic
from hetfab.driver.graph.heterograph import CsrFeatures, Edges, HeteroGraph
from hetfab.driver.graph.npz import read_graph, write_graph
from hetfab.overlay.errors import (
    FeaturesNotFiniteError,
    GraphInvalidError,
    GraphUnreadableError,
    OutputUnwritableError,
)
from hetfab.overlay.model.schema import Relation
from tests.data_folder import require_data
from tests.same_graph import assert_same


def small() -> HeteroGraph:
    """A graph with all forms of features and labels, ids, names of classes, an empty type and an empty relation."""
    ids = np.array([0, 1], np.int32)
    return HeteroGraph(
        name="small",
        target="film",
        counts={"film": 2, "actor": 3, "studio": 0},
        relations={
            Relation("film", "stars", "actor"): Edges(ids, ids),
            Relation("studio", "makes", "film"): Edges(ids[:0], ids[:0]),
        },
        features={
            "film": CsrFeatures(np.array([0, 0, 2]), ids, np.array([2, 3], np.float32), 5),
            "actor": np.asfortranarray(np.arange(6, dtype=np.float32).reshape(3, 2)),
        },
        labels={"film": np.array([[1, 0], [1, 1]], np.uint8), "actor": np.array([-1, 1, 0])},
        splits={"film": {"train": ids[:1], "val": ids[:0], "test": ids[1:]}},
        metapaths={"FA": ("stars",)},
        ids={"actor": np.array(["Ada", "Bo, the second", "Čapek"]), "studio": np.array([], dtype=np.str_)},
        classes={"film": ("calm", "loud")},
    )


@pytest.mark.parametrize("make", [small, academic])
def test_what_is_written_is_read_back(make: Callable[[], HeteroGraph], tmp_path: Path) -> None:
    write_graph(tmp_path / "graph.npz", make())
    assert_same(make(), read_graph(tmp_path / "graph.npz"))


def test_equal_graphs_give_equal_bytes(tmp_path: Path) -> None:
    for name in ("a.npz", "b.npz"):
        write_graph(tmp_path / name, small())
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.npz", "b.npz"]


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(OutputUnwritableError, match="nowhere"):
        write_graph(tmp_path / "nowhere" / "graph.npz", small())


def test_truncated_files_and_other_files_are_refused(tmp_path: Path) -> None:
    whole, path = tmp_path / "whole.npz", tmp_path / "graph.npz"
    write_graph(whole, small())
    data = whole.read_bytes()
    for content in (data[: len(data) // 2], data[:-30], b"", b"not a graph at all", data[100:]):
        path.write_bytes(content)
        with pytest.raises(GraphUnreadableError, match=r"cannot read the graph '.*graph\.npz'"):
            read_graph(path)
    np.save(tmp_path / "array.npy", np.zeros(3))
    with pytest.raises(GraphUnreadableError, match="it is not a zip"):
        read_graph(tmp_path / "array.npy")
    with pytest.raises(GraphUnreadableError, match=r"absent\.npz"):
        read_graph(tmp_path / "absent.npz")


def test_any_altered_byte_is_refused_in_words_or_means_nothing(tmp_path: Path) -> None:
    path, again = tmp_path / "graph.npz", tmp_path / "again.npz"
    write_graph(path, replace(small(), splits={}))
    whole = path.read_bytes()
    refused = 0
    for position in range(0, len(whole), 7):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 0x55]) + whole[position + 1 :])
        try:
            write_graph(again, read_graph(path))
            assert again.read_bytes() == whole
        except GraphUnreadableError:
            refused += 1
    assert refused > 50


def test_an_altered_byte_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "graph.npz"
    write_graph(path, small())
    data = bytearray(path.read_bytes())
    with np.load(path) as archive:
        start = data.index(b"x.actor.npy") + len(b"x.actor.npy")
        assert archive["x.actor"].shape == (3, 2)
    data[start + 60] ^= 0xFF
    path.write_bytes(bytes(data))
    with pytest.raises(GraphUnreadableError, match=r"graph\.npz': the array 'x\.actor' cannot be read"):
        read_graph(path)


def altered(path: Path, change: Callable[[dict[str, Any], dict[str, Any]], None]) -> Path:
    """Writes the small graph with its arrays and its ``meta`` changed."""
    write_graph(path, small())
    with np.load(path) as archive:
        arrays = dict(archive)
    meta = json.loads(str(arrays["meta"]))
    change(arrays, meta)
    if "meta" in arrays and arrays["meta"].dtype.kind == "U":
        arrays["meta"] = np.array(json.dumps(meta))
    np.savez(path, **arrays)
    return path


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda arrays, meta: arrays.pop("e.0.dst"), "the array 'e.0.dst' is missing"),
        (lambda arrays, meta: arrays.pop("x.film.data"), "the array 'x.film.data' is missing"),
        (lambda arrays, meta: arrays.pop("y.film"), "the array 'y.film' is missing"),
        (lambda arrays, meta: arrays.pop("meta"), "the array 'meta' is missing"),
        (
            lambda arrays, meta: arrays.update({"x.actor": np.zeros((3, 2))}),
            "the array 'x.actor' is of float64",
        ),
        (
            lambda arrays, meta: arrays.update({"e.0.src": np.zeros(2, np.float32)}),
            "the array 'e.0.src' is of float32",
        ),
        (
            lambda arrays, meta: arrays.update({"y.film": np.array([{}, {}])}),
            "the array 'y.film' cannot be read: Object arrays cannot be loaded when allow_pickle=False",
        ),
        (
            lambda arrays, meta: arrays.update({"meta": np.array({"format": "hg-npz/1"})}),
            "the array 'meta' cannot be read: Object arrays cannot be loaded when allow_pickle=False",
        ),
        (
            lambda arrays, meta: meta.update(format="hg-npy/1"),
            "the array 'meta' states the format 'hg-npy/1'",
        ),
        (lambda arrays, meta: meta.pop("relations"), "the array 'meta' lacks or garbles 'relations'"),
        (
            lambda arrays, meta: meta["relations"][0].update(weighted=True),
            "the relation 'stars' has edge weights",
        ),
        (
            lambda arrays, meta: arrays.update({"ids.actor": np.arange(3)}),
            "the array 'ids.actor' is of int64",
        ),
        (
            lambda arrays, meta: meta["node_types"]["film"].update(features="blob"),
            "the array 'meta' states the features 'blob' for 'film'",
        ),
        (
            lambda arrays, meta: meta["node_types"]["film"].update(label="yes"),
            "the array 'meta' states the label 'yes' for 'film'",
        ),
    ],
)
def test_wrong_content_is_named_with_file_and_array(
    change: Callable[[dict[str, Any], dict[str, Any]], None], found: str, tmp_path: Path
) -> None:
    path = altered(tmp_path / "graph.npz", change)
    with pytest.raises(GraphUnreadableError) as caught:
        read_graph(path)
    assert caught.value.found == f"cannot read the graph '{path}': {found}"
    assert caught.value.expected
    assert caught.value.do


def test_a_graph_that_contradicts_itself_is_named_with_its_file(tmp_path: Path) -> None:
    path = altered(tmp_path / "a.npz", lambda arrays, meta: arrays.update({"e.0.src": np.array([0, 7])}))
    with pytest.raises(GraphInvalidError, match=r"in the graph '.*a\.npz': relation 'stars', source: entry 1"):
        read_graph(path)
    nan = np.full((3, 2), np.nan, np.float32)
    path = altered(tmp_path / "b.npz", lambda arrays, meta: arrays.update({"x.actor": nan}))
    with pytest.raises(FeaturesNotFiniteError, match=r"in the graph '.*b\.npz': features of 'actor': row 0"):
        read_graph(path)


@pytest.mark.parametrize(
    ("name", "nodes", "edges"),
    [("acm", 10_942, 547_872), ("dblp", 26_128, 239_566), ("imdb", 21_420, 86_642)],
)
def test_public_graphs_are_read_whole(name: str, nodes: int, edges: int) -> None:
    graph = read_graph(require_data() / name / "graph.npz")
    assert sum(graph.counts.values()) == nodes
    assert sum(len(ends.source) for ends in graph.relations.values()) == edges
    assert graph.target is not None
    assert set(graph.splits[graph.target]) == {"train", "val", "test"}
