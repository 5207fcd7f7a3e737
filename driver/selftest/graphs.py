# SPDX-License-Identifier: Apache-2.0
"""Vectors of SGB and RST, from graphs to graphs."""

import numpy as np

from hetfab.driver.selftest.draft import Bytes, Draft
from hetfab.driver.selftest.tiles import BLOCK
from hetfab.overlay.isa.codec import Segment
from hetfab.overlay.layouts import padded
from hetfab.overlay.semantic.adjacency import Adjacency, adjacency, compose, transpose

#: Rows of a left graph, vertices between the graphs, and columns of a right graph whose rows are wide bitmaps.
_ROWS, _MIDDLE, _COLUMNS = 17, 9, 64
#: Share of the pairs that are edges, and in a graph of several components.
_SHARE, _SPARSE = 0.25, 0.1
_THRESHOLD = 8


def random_graph(draft: Draft, rows: int, columns: int, share: float = _SHARE) -> Adjacency:
    """A graph whose rows have their ids in any order; some rows have none."""
    source, destination = np.nonzero(draft.random.random((rows, columns)) < share)
    kept = source % 5 != 1
    graph = adjacency(source[kept], destination[kept], rows, columns)
    shuffled = [draft.random.permutation(graph.row(row)) for row in range(rows)]
    return Adjacency(graph.starts, np.concatenate([np.zeros(0, np.int64), *shuffled]), columns)


def adjacency_bytes(graph: Adjacency) -> Bytes:
    """A graph in the layout 'adjacency'."""
    size = padded(4 * (graph.rows + 1), BLOCK)
    content = np.zeros(size + 4 * graph.edges, np.uint8)
    content[: 4 * (graph.rows + 1)] = graph.starts.astype("<u4").view(np.uint8)
    content[size:] = graph.ids.astype("<u4").view(np.uint8)
    return content


def _fields(draft: Draft, graph: Adjacency) -> dict[str, int]:
    address = draft.put(Segment.GRAPH, adjacency_bytes(graph))
    return {"edges": graph.edges + 1, "rows": graph.rows, "address": address}


def configure_composition(
    draft: Draft, left: Adjacency, right: Adjacency, *, threshold: int, wide: bool = False
) -> None:
    """Contexts of a composition, with the bitmaps of the right graph when it has wide rows."""
    draft.issue("configure_left", **_fields(draft, left))
    draft.issue("configure_right", **_fields(draft, right))
    bitmaps = draft.room("bitmaps", Segment.GRAPH, (1, right.edges + right.edges % 2 + 2), "<u4")
    draft.issue("configure_bitmap", wide=int(wide), threshold=threshold, columns=right.columns, address=bitmaps)
    if wide:
        draft.issue("widen")


def _room(draft: Draft, name: str, graph: Adjacency) -> int:
    """Room for a graph: its starts in whole blocks, and behind them its ids."""
    numbers = padded(4 * (graph.rows + 2), BLOCK) // 4 + graph.edges + 2
    return draft.room(name, Segment.GRAPH, (1, numbers), "<u4")


def compose_graphs(draft: Draft) -> None:
    """A product of graphs, some of whose rows are collected in bitmaps."""
    wide = draft.operation == "widen" or bool(draft.flag("wide"))
    columns = min(_COLUMNS, draft.geometry.sgb_columns)
    left, right = random_graph(draft, _ROWS, _MIDDLE), random_graph(draft, _MIDDLE, columns)
    configure_composition(draft, left, right, threshold=_THRESHOLD, wide=wide)
    out = compose(left, right, _THRESHOLD)
    address = _room(draft, "product", out)
    draft.issue("compose", to_fifo=0, edges=out.edges, rows=left.rows, address=address)


def transpose_graph(draft: Draft) -> None:
    """A graph turned."""
    graph = random_graph(draft, _ROWS, _COLUMNS - 1)
    draft.issue("configure_left", **_fields(draft, graph))
    unused = draft.put(Segment.GRAPH, draft.noise(BLOCK))
    draft.issue("configure_right", edges=0, rows=0, address=unused)
    draft.issue("configure_bitmap", wide=0, threshold=0, columns=0, address=unused)
    address = _room(draft, "turned graph", transpose(graph))
    draft.issue("transpose", edges=graph.edges, rows=graph.columns, address=address)


def restructured(draft: Draft) -> None:
    """A matching, a walk, the edges of three subgraphs, and tiles, of one graph."""
    graph = random_graph(draft, _ROWS, _MIDDLE + 4, _SPARSE)
    turned = transpose(graph)
    sides = [_fields(draft, graph), _fields(draft, turned)]
    of_turned = draft.flag("of_turned")
    pairs = graph.rows + graph.columns
    matching = draft.room("matching", Segment.GRAPH, (1, pairs + pairs % 2), "<u4")
    walked = draft.room("walk", Segment.GRAPH, (1, padded(4 * (graph.rows + 1), BLOCK) // 4 + graph.columns + 2), "<u4")

    def configure(first: dict[str, int], second: dict[str, int]) -> None:
        draft.issue("configure_graph", **first)
        draft.issue("configure_turned", **second)
        draft.issue("configure_matching", of_turned=of_turned, address=matching)
        draft.issue("configure_walk", address=walked)

    if of_turned:
        configure(sides[1], sides[0])
        draft.issue("match", columns=graph.rows, address=matching)
    configure(sides[0], sides[1])
    if not of_turned:
        draft.issue("match", columns=graph.columns, address=matching)
    if draft.operation in ("match", "configure_graph"):
        return
    if draft.operation == "grow_tiles":
        order = draft.room("order of rows", Segment.GRAPH, (1, graph.rows + 2), "<u4")
        draft.issue(
            "grow_tiles", grown=draft.flag("grown"), most_edges_first=draft.flag("most_edges_first"), stride=2,
            tile_rows=4, address=order,
        )  # fmt: skip
        return
    draft.issue("walk", address=walked)
    if draft.operation in ("walk", "configure_turned", "configure_walk"):
        return
    edges = draft.room("edges", Segment.GRAPH, (graph.edges, 2), "<u4", 8)
    draft.issue("recouple", by_column=draft.flag("by_column"), address=edges)
