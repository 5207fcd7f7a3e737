# SPDX-License-Identifier: Apache-2.0
"""Decoupling and recoupling: the cover of a matching divides the edges into three subgraphs.

SiHGNN's restructurer (arXiv:2408.15089) decouples a semantic graph by a matching and recouples it around the vertices
that cover all edges. docs/restructuring.md has the proof that each edge is in exactly one subgraph.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hetfab.overlay.restructure.matching import match
from hetfab.overlay.restructure.schedule import Numbers, Sides
from hetfab.overlay.semantic.adjacency import Ids


@dataclass(frozen=True, eq=False)
class Cover:
    """Vertices that between them meet every edge: the backbone.

    Attributes:
        sources: bool [sources].
        destinations: bool [destinations].
        matched: Pairs of the matching; as many vertices cover (D. König, 1931).
    """

    sources: npt.NDArray[np.bool_]
    destinations: npt.NDArray[np.bool_]
    matched: int


def least_cover(graph: Sides) -> Cover:
    """The cover that a matching from the side with fewer active vertices leaves: dead columns, rows of other pairs."""
    from_sources = graph.active_sources <= graph.active_destinations
    found = match(graph.by_source if from_sources else graph.by_destination)
    rows = (found.columns >= 0) & ~found.dead[found.columns] if len(found.dead) else found.columns >= 0
    sources, destinations = (rows, found.dead) if from_sources else (found.dead, rows)
    return Cover(sources, destinations, found.size)


@dataclass(frozen=True, eq=False)
class Community:
    """Orders of both sides in which neighbours are near.

    Attributes:
        destinations: int64 [active destinations], in order.
        sources: int64 [active sources], in order.
        roots: int64 [roots], the destinations from which the walk began.
    """

    destinations: Ids
    sources: Ids
    roots: Ids


def walk(graph: Sides) -> Community:
    """Walks breadth first from destination to destination by their sources, from the lowest id that is left."""
    destinations: dict[int, None] = {}
    sources: dict[int, None] = {}
    roots: list[int] = []
    for root in range(graph.destinations):
        if root in destinations or not len(graph.by_destination.row(root)):
            continue
        queue = [root]
        roots.append(root)
        destinations[root] = None
        for destination in queue:
            for source in graph.by_destination.row(destination).tolist():
                if source in sources:
                    continue
                sources[source] = None
                found = [near for near in graph.by_source.row(source).tolist() if near not in destinations]
                destinations |= dict.fromkeys(found)
                queue += found
    return Community(*(np.array([*part], np.int64) for part in (destinations, sources, roots)))


def three_subgraphs(graph: Sides, cover: Cover, community: Community, by_source: bool) -> tuple[Numbers, Numbers]:
    """The edges of the three subgraphs one behind the other.

    The first holds edges whose source alone covers, the second those that both ends cover, the third those whose
    destination alone covers.

    Args:
        graph: The graph.
        cover: Vertices that meet every edge.
        community: Orders inside the subgraphs.
        by_source: Whether the first two go by source; else, like the third, by destination.

    Returns:
        uint32 [edges], sources and destinations of the edges in order.
    """
    source_place, destination_place = np.zeros(graph.sources, np.int64), np.zeros(graph.destinations, np.int64)
    source_place[community.sources] = np.arange(len(community.sources))
    destination_place[community.destinations] = np.arange(len(community.destinations))
    source = np.repeat(np.arange(graph.sources), graph.by_source.out_degrees())
    destination = graph.by_source.ids
    subgraph = np.where(cover.sources[source], cover.destinations[destination].astype(int), 2)
    by_source_here = (subgraph < 2) & by_source
    major = np.where(by_source_here, source_place[source], destination_place[destination])
    minor = np.where(by_source_here, destination_place[destination], source_place[source])
    order = np.lexsort((minor, major, subgraph))
    return source[order].astype(np.uint32), destination[order].astype(np.uint32)
