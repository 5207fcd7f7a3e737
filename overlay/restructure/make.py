# SPDX-License-Identifier: Apache-2.0
"""Makes schedules by the golden models; ``hls/build/restructure.py`` makes the same ones fast."""

import numpy as np

from hetfab.overlay.restructure.candidates import Candidate, Grow, Method
from hetfab.overlay.restructure.greedy import greedy_destinations
from hetfab.overlay.restructure.replacement import by_farthest_use, by_least_recent_use
from hetfab.overlay.restructure.resident import resident_set
from hetfab.overlay.restructure.schedule import Numbers, Schedule, Sides
from hetfab.overlay.restructure.subgraphs import least_cover, three_subgraphs, walk
from hetfab.overlay.restructure.tiles import balanced_tiles, by_degree, grown_tiles, write_tiles


def make_schedule(graph: Sides, candidate: Candidate) -> Schedule:
    """The schedule of a candidate."""
    slots, weight = candidate.slots, candidate.accumulator_weight
    if candidate.method in (Method.DESTINATION_TILES, Method.SOURCE_TILES):
        return _tiles(graph, candidate, candidate.method is Method.DESTINATION_TILES)
    if candidate.method is Method.RESIDENT_SET:
        made = resident_set(graph, slots, weight)
        if not candidate.farthest:
            return made
        return by_farthest_use(graph, made.sources, made.destinations, slots, weight)
    if candidate.method is Method.AS_IS:
        order = np.flatnonzero(graph.by_destination.out_degrees()).tolist()
        return by_least_recent_use(graph, *by_destination(graph, order), slots)
    if candidate.method is Method.WALKED_DESTINATIONS:
        return by_least_recent_use(graph, *by_destination(graph, walk(graph).destinations.tolist()), slots)
    if candidate.method is Method.GREEDY_DESTINATIONS:
        edges = by_destination(graph, greedy_destinations(graph, slots - 2))
        if not candidate.farthest:
            return by_least_recent_use(graph, *edges, slots)
        return by_farthest_use(graph, *edges, slots, weight)
    by_source = candidate.method is Method.SUBGRAPHS_BY_SOURCE
    edges = three_subgraphs(graph, least_cover(graph), walk(graph), by_source)
    return by_farthest_use(graph, *edges, slots, weight)


def by_destination(graph: Sides, destinations: list[int]) -> tuple[Numbers, Numbers]:
    """Destinations in an order, the sources of each as they are listed."""
    rows = [graph.by_destination.row(row) for row in destinations]
    repeated = np.repeat(np.array(destinations, np.int64), [len(row) for row in rows])
    return np.concatenate([np.zeros(0, np.int64), *rows]).astype(np.uint32), repeated.astype(np.uint32)


def tiles_of_order(graph: Sides, candidate: Candidate, order: list[int]) -> Schedule:
    """The schedule of tiles whose kept side is in an order that was found already."""
    keeps_destinations = candidate.method is Method.DESTINATION_TILES
    kept = graph.by_destination if keeps_destinations else graph.by_source
    shape = balanced_tiles(int(np.count_nonzero(kept.out_degrees())), candidate.slots)
    return write_tiles(graph, keeps_destinations, order, shape, candidate.grow is Grow.BY_ID)


def _tiles(graph: Sides, candidate: Candidate, keeps_destinations: bool) -> Schedule:
    kept, streamed = graph.by_destination, graph.by_source
    if not keeps_destinations:
        kept, streamed = streamed, kept
    shape = balanced_tiles(int(np.count_nonzero(kept.out_degrees())), candidate.slots)
    if candidate.grow is Grow.BY_ID:
        order = np.flatnonzero(kept.out_degrees()).tolist()
    elif candidate.grow is Grow.WALK:
        community = walk(graph)
        order = (community.destinations if keeps_destinations else community.sources).tolist()
    elif candidate.grow in (Grow.FEWEST_EDGES_FIRST, Grow.MOST_EDGES_FIRST):
        order = by_degree(kept, candidate.grow is Grow.MOST_EDGES_FIRST)
    else:
        order = grown_tiles(kept, streamed, shape.kept, candidate.grow is Grow.GROWN_FROM_MOST)
    return tiles_of_order(graph, candidate, order)
