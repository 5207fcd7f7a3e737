# SPDX-License-Identifier: Apache-2.0
"""Resident-set greedy: features and accumulators share the buffer, and edges are done as soon as both ends are there.

The vertex that does most with what is resident enters next. All its edges to residents are done at once; vertices
without edges left leave. A full buffer gives up what it has not touched for longest.
"""

from hetfab.overlay.restructure.schedule import Recorder, Schedule, Sides

_SCORES = 2048


def log2_q8(value: int) -> int:
    """log2 with 8 fractional bits, linear between powers of two."""
    whole = value.bit_length() - 1
    return whole * 256 + ((value << 8) >> whole) - 256


def resident_set(graph: Sides, slots: int, accumulator_weight: int) -> Schedule:
    """The schedule of the greedy.

    Args:
        graph: The graph.
        slots: Vertices that the buffer holds.
        accumulator_weight: An accumulator's last touch counts as this many times as late.
    """
    greedy = _Greedy(graph, slots, accumulator_weight)
    while any(greedy.left):
        greedy.enter(greedy.best())
        if len(greedy.touched) == slots:
            greedy.give_up(greedy.oldest())
    return greedy.written.schedule()


class _Greedy:
    """The state: edges not done of each vertex, in a list whose order is part of the definition.

    ``touched`` holds residents, least recently touched first, with the entry at which they were touched.
    """

    def __init__(self, graph: Sides, slots: int, accumulator_weight: int) -> None:
        self.sources, self.slots, self.weight = graph.sources, slots, accumulator_weight
        neighbours = [(graph.by_source.row(row) + graph.sources).tolist() for row in range(graph.sources)]
        neighbours += [graph.by_destination.row(row).tolist() for row in range(graph.destinations)]
        self.left = neighbours
        self.seeds = sorted(range(len(neighbours)), key=lambda vertex: len(neighbours[vertex]))
        self.touched: dict[int, int] = {}
        self.rank: dict[int, tuple[int, int]] = {}
        self.entries = self.clock = 0
        self.written = Recorder()

    def best(self) -> int:
        """The vertex that enters next: the highest score, among equals the one that got it last."""
        if self.rank:
            return max(self.rank, key=lambda vertex: self.rank[vertex])
        return next(seed for seed in self.seeds if self.left[seed] and seed not in self.touched)

    def enter(self, vertex: int) -> None:
        self.entries += 1
        self.written.load(vertex)
        self.rank.pop(vertex, None)
        self.touched[vertex] = self.entries
        waiting = [other for other in self.left[vertex] if other not in self.touched]
        for other in [other for other in self.left[vertex] if other in self.touched]:
            self.do_edge(vertex, other)
        self.left[vertex] = waiting
        if not waiting:
            self.leave(vertex)
        for other in waiting:
            self.rate(other)

    def do_edge(self, vertex: int, other: int) -> None:
        self.written.edge(min(vertex, other), max(vertex, other) - self.sources)
        # The last edge takes the place of the one that is done.
        edges = self.left[other]
        edges[edges.index(vertex)] = edges[-1]
        edges.pop()
        del self.touched[other]
        self.touched[other] = self.entries
        if not edges:
            self.leave(other)

    def leave(self, vertex: int) -> None:
        del self.touched[vertex]
        self.written.leave(vertex)

    def oldest(self) -> int:
        """Of the oldest feature and the oldest accumulator the one that was touched earlier, weight applied."""
        feature = next((vertex for vertex in self.touched if vertex < self.sources), None)
        accumulator = next((vertex for vertex in self.touched if vertex >= self.sources), None)
        if feature is None or accumulator is None:
            return next(iter(self.touched))
        keeps_accumulator = self.touched[feature] <= self.touched[accumulator] * self.weight
        return feature if keeps_accumulator else accumulator

    def give_up(self, vertex: int) -> None:
        self.leave(vertex)
        for other in self.left[vertex]:
            self.rate(other)
        self.rate(vertex)

    def rate(self, vertex: int) -> None:
        """Scores what entering would do: all that is left of it, or much of it and much in all."""
        gain, left = sum(other in self.touched for other in self.left[vertex]), len(self.left[vertex])
        if gain == 0:
            self.rank.pop(vertex, None)
            return
        much = min(1024, 1024 * log2_q8(gain) // log2_q8(self.slots + 1))
        share = 1024 * gain // left
        score = _SCORES - 1 if gain == left else (6 * much + 4 * share) * (_SCORES - 2) // 10240
        self.clock += 1
        if vertex not in self.rank or self.rank[vertex][0] != score:
            self.rank[vertex] = score, self.clock
