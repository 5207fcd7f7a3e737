# SPDX-License-Identifier: Apache-2.0
"""Which vertex leaves a full buffer where the order of edges is given."""

from hetfab.overlay.restructure.schedule import Numbers, Recorder, Schedule, Sides


def by_least_recent_use(graph: Sides, sources: Numbers, destinations: Numbers, slots: int) -> Schedule:
    """The vertex leaves that was used longest ago; a complete accumulator leaves at once, a feature stays."""
    left = graph.by_destination.out_degrees()
    used: dict[int, None] = {}
    written = Recorder()
    for source, destination in zip(sources.tolist(), destinations.tolist(), strict=True):
        ends = graph.sources + destination, source
        for vertex in ends:
            if vertex not in used:
                if len(used) == slots:
                    oldest = next(other for other in used if other not in ends)
                    del used[oldest]
                    written.leave(oldest)
                written.load(vertex)
            used.pop(vertex, None)
            used[vertex] = None
        written.edge(source, destination)
        left[destination] -= 1
        if left[destination] == 0:
            del used[ends[0]]
            written.leave(ends[0])
    for vertex in used:
        written.leave(vertex)
    return written.schedule()


def by_farthest_use(
    graph: Sides, sources: Numbers, destinations: Numbers, slots: int, accumulator_weight: int
) -> Schedule:
    """The vertex leaves whose next use is farthest (L. A. Belady, 1966); a vertex without further use leaves at once.

    Args:
        graph: The graph.
        sources: uint32 [edges], the source of each edge in order.
        destinations: uint32 [edges], the destination of each.
        slots: Vertices that the buffer holds.
        accumulator_weight: A feature's way to its next use counts this many times: an accumulator that leaves is
            written and read again.
    """
    uses: dict[int, list[int]] = {}
    pairs = list(zip(sources.tolist(), (destinations + graph.sources).tolist(), strict=True))
    for edge, ends in enumerate(pairs):
        for vertex in ends:
            uses.setdefault(vertex, []).append(edge)
    resident: set[int] = set()
    written = Recorder()

    def way(vertex: int, edge: int) -> tuple[int, bool]:
        is_feature = vertex < graph.sources
        return (uses[vertex][0] - edge) * (accumulator_weight if is_feature else 1), is_feature

    for edge, (source, destination) in enumerate(pairs):
        for vertex in (destination, source):
            if vertex not in resident:
                if len(resident) == slots:
                    farthest = max(resident, key=lambda other: way(other, edge))
                    resident.remove(farthest)
                    written.leave(farthest)
                resident.add(vertex)
                written.load(vertex)
        written.edge(source, destination - graph.sources)
        for vertex in (source, destination):
            uses[vertex].pop(0)
            if not uses[vertex]:
                resident.remove(vertex)
                written.leave(vertex)
    return written.schedule()
