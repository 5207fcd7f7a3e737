# SPDX-License-Identifier: Apache-2.0
"""Makes a graph from a ``HeteroData`` of PyTorch Geometric, without importing that or torch.

Whatever has ``node_types``, ``edge_types`` and their stores, with arrays or tensors in them, will do.
"""

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from hetfab.driver.graph.heterograph import SPLITS, Edges, HeteroGraph, listed
from hetfab.overlay.errors import GraphInvalidError, RelationMissingError
from hetfab.overlay.model.schema import Relation

_EDGE_VALUES = ("edge_weight", "edge_attr")


def from_hetero_data(
    data: Any,
    target: str | None = None,
    name: str = "hetero_data",
    metapaths: Mapping[str, tuple[str, ...]] | None = None,
) -> HeteroGraph:
    """Makes a graph from a ``HeteroData``.

    Relations keep their names; one that several edge types share becomes ``<source>_<name>_<destination>``.

    Args:
        data: A ``torch_geometric.data.HeteroData`` or what looks like one: of each node type ``x`` [N, D] or
            ``num_nodes``, where there are any ``y`` ([N], [N, 1], or [N, C] of 0 and 1) and ``train_mask``,
            ``val_mask`` and ``test_mask`` (bool [N]); of each edge type ``edge_index`` [2, E].
        target: Node type to predict; without it the one that has labels, if it is the only one.
        name: Name of the graph.
        metapaths: Names of the relations along each metapath.

    Returns:
        The graph, in arrays of its own.

    Raises:
        GraphInvalidError: Arrays are missing, contradict each other or have other shapes, or edges have weights.
        RelationMissingError: The target is not a node type.
    """
    types = list(data.node_types)
    features = {t: _features(t, data[t].x) for t in types if _has(data[t], "x")}
    labels = {t: _labels(t, data[t].y) for t in types if _has(data[t], "y")}
    counts = {t: len(features[t]) if t in features else _count(t, data[t]) for t in types}
    shared = Counter(relation for _, relation, _ in data.edge_types)
    relations: dict[Relation, Edges] = {}
    for source, relation, destination in data.edge_types:
        unique = relation if shared[relation] == 1 else f"{source}_{relation}_{destination}"
        edges = _edges(unique, data[source, relation, destination])
        relations[Relation(source, unique, destination)] = edges
    if target is None and len(labels) == 1:
        [target] = labels
    if target is not None and target not in types:
        raise RelationMissingError(
            f"the data has no node type '{target}'", f"one of {listed(types)}", "correct the target"
        )
    splits = {t: _splits(t, data[t], counts[t]) for t in types}
    return HeteroGraph(
        name=name,
        target=target,
        counts=counts,
        relations=relations,
        features=features,
        labels=labels,
        splits={t: parts for t, parts in splits.items() if parts},
        metapaths=metapaths or {},
    )


def _has(store: Any, key: str) -> bool:
    """Whether a store has a value; those of PyTorch Geometric raise or give None for what they do not hold."""
    return getattr(store, key, None) is not None


def _array(value: Any) -> npt.NDArray[Any]:
    """A tensor or an array as numpy array of its own."""
    for step in ("detach", "cpu", "to_dense", "numpy"):
        value = getattr(value, step, lambda found=value: found)()
    return np.array(value)


def _features(node_type: str, value: Any) -> npt.NDArray[np.float32]:
    table = _array(value)
    if table.ndim != 2 or table.dtype.kind not in "fiub":
        raise _invalid(f"'x' of '{node_type}' is {table.dtype.name} {list(table.shape)}", "numbers [N, D]")
    return table.astype(np.float32)


def _count(node_type: str, store: Any) -> int:
    if not _has(store, "num_nodes"):
        raise _invalid(
            f"the nodes of type '{node_type}' have neither 'x' nor 'num_nodes'",
            "features, or the number of nodes",
            f"set data['{node_type}'].num_nodes",
        )
    return int(store.num_nodes)


def _labels(node_type: str, value: Any) -> npt.NDArray[Any]:
    labels = _array(value)
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim == 1 and labels.dtype.kind in "iub":
        return labels.astype(np.int64)
    if labels.ndim == 2 and labels.dtype.kind in "fiub" and np.isin(labels, (0, 1)).all():
        return labels.astype(np.uint8)
    raise _invalid(
        f"'y' of '{node_type}' is {labels.dtype.name} {list(labels.shape)}",
        "whole numbers [N], -1 for unlabelled nodes, or [N, classes] of 0 and 1",
        f"set data['{node_type}'].y to classes, or take it out with del data['{node_type}'].y",
    )


def _edges(name: str, store: Any) -> Edges:
    values = [key for key in _EDGE_VALUES if _has(store, key)]
    if values:
        raise _invalid(
            f"the edges of '{name}' have '{values[0]}'",
            "edges without weights and attributes, as hetfab does not read them",
            f"take it out if the model does not use it: del data[...].{values[0]}",
        )
    if not _has(store, "edge_index"):
        raise _invalid(f"the edges of '{name}' have no 'edge_index'", "edge_index [2, E]")
    index = _array(store.edge_index)
    if index.ndim != 2 or len(index) != 2 or index.dtype.kind not in "iu":
        raise _invalid(f"'edge_index' of '{name}' is {index.dtype.name} {list(index.shape)}", "whole numbers [2, E]")
    return Edges(*index.astype(np.int64))


def _splits(node_type: str, store: Any, count: int) -> dict[str, npt.NDArray[np.int64]]:
    masks = {part: _array(getattr(store, f"{part}_mask")) for part in SPLITS if _has(store, f"{part}_mask")}
    for part, mask in masks.items():
        if mask.dtype != np.bool_ or mask.shape != (count,):
            raise _invalid(f"'{part}_mask' of '{node_type}' is {mask.dtype.name} {list(mask.shape)}", f"bool [{count}]")
    return {part: np.flatnonzero(mask) for part, mask in masks.items()}


def _invalid(found: str, expected: str, do: str = "correct the data where it is made") -> GraphInvalidError:
    return GraphInvalidError(found, expected, do)
