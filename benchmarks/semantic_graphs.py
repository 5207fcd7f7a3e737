# SPDX-License-Identifier: Apache-2.0
"""Times semantic graph builds against scipy's best order, and counts expansions against other ways to reuse parts.

A call is a run of the emulated overlay, from its start register to the last token, with host bodies: it finds the
relations' CSR arrays in the emulated DRAM and leaves the semantic graph's there, transposes and parts included; scipy
gets matrices of the same arrays. Ratios compare the best of several calls, on one thread, peers in turn. The pages of
the emulated DRAM are there before the call, as a board's are, and huge where the system grants them; ``fresh`` calls
find none in place and so wait for the system to clear them. Memory and expansions are counted by the host's builder,
which makes the same graphs by the same functions.
"""

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.report import Report, argument_parser, publish
from benchmarks.semantic_peers import ReuseCounts, scipy_ways
from hetfab.driver.graph.npz import read_graph
from hetfab.driver.graph.semantic import adjacencies, plan_metapaths
from hetfab.driver.graph.summary import reverse_pairs
from hetfab.hls.build.semantic import SemanticGraphBuilder
from hetfab.hls.build.semantic_run import SemanticRun
from hetfab.overlay.design import Geometry, default_design
from hetfab.overlay.semantic.plan import plan_semantic_graphs
from tests.data_folder import find_data

_GRAPHS = ("acm", "dblp", "imdb")
_DENSE = ("PSP", "PTP", "APTPA", "APVPA")
_LEAST_EDGES = 50_000
_MIB = 1 << 20
_PEAK_FACTOR = 1.2
_ROUNDS = 5
_CALLS = 5
_ID_BYTES = 4
_HUGE_PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")
_HEADINGS = ["graph", "metapath", "edges", "scipy ms", "scipy's order", "ms", "fresh ms", "ratio", "fresh", "peak MiB"]


@dataclass(frozen=True)
class Timing:
    """A metapath's build: seconds are the best of several calls."""

    graph: str
    metapath: str
    edges: int
    peer_seconds: float
    peer: str
    seconds: float
    fresh_seconds: float
    peak_bytes: int
    output_bytes: int

    @property
    def ratio(self) -> float:
        """Of scipy's time and ours."""
        return self.peer_seconds / self.seconds

    @property
    def fresh_ratio(self) -> float:
        """The same with fresh pages."""
        return self.peer_seconds / self.fresh_seconds


def main() -> None:
    """Prints the table and the JSON line."""
    parser = argument_parser(__doc__)
    parser.add_argument("--data", type=Path, default=find_data(), help="folder of public graphs")
    arguments = parser.parse_args()
    if arguments.data is None:
        parser.error("no folder of public graphs: set HETFAB_DATA or give --data")
    timings: list[Timing] = []
    counts: dict[str, dict[str, int]] = {}
    for name in _GRAPHS:
        found, counts[name] = measure(arguments.data / name / "graph.npz", name)
        timings += found
    title = "milliseconds measured on this machine, one thread, best of calls in turn; huge pages: " + huge_pages()
    rows = [_row(timing) for timing in timings]
    publish(Report(title, _HEADINGS, rows, _values(timings, counts)), arguments.as_json)


def measure(path: Path, name: str) -> tuple[list[Timing], dict[str, int]]:
    """Times the metapaths of a graph, and counts the expansions of all of them together."""
    graph = read_graph(path)
    relations = adjacencies(graph)
    by_name = {relation.name: found for relation, found in relations.items()}
    reverses = reverse_pairs(graph)
    timings = []
    for metapath, steps in graph.metapaths.items():
        plan = plan_semantic_graphs({metapath: steps}, relations, reverses)
        ours, fresh = [], []
        peers: dict[str, float] = {}
        with SemanticRun(plan, by_name, with_sgb()) as overlay:
            for _ in range(_ROUNDS):
                ours += [_seconds(overlay.run) for _ in range(_CALLS)]
                fresh += [_fresh_seconds(overlay) for _ in range(_CALLS)]
                for way, multiply in scipy_ways(steps, by_name, reverses):
                    peers[way] = min(peers.get(way, float("inf")), _seconds(multiply))
            result = overlay.outputs()[metapath]
        peer = min(peers, key=lambda way: peers[way])
        totals = SemanticGraphBuilder(plan, by_name).build()
        size = _ID_BYTES * (result.edges + result.rows + 1)
        timings.append(
            Timing(name, metapath, result.edges, peers[peer], peer, min(ours), min(fresh), totals.peak_bytes, size)
        )
    together = SemanticGraphBuilder(plan_metapaths(graph, relations), by_name).build().expansions
    reuse, paths = ReuseCounts(by_name), list(graph.metapaths.values())
    return timings, {
        "planned": together,
        "naive": reuse.naive(paths),
        "prefix_trie": reuse.prefix_trie(paths),
        "longest_match": reuse.longest_match(paths),
    }


def huge_pages() -> str:
    """How the system grants huge pages: ``madvise`` or ``always`` where the emulated DRAM gets them."""
    try:
        return _HUGE_PAGES.read_text(encoding="utf-8").split("[")[1].split("]")[0]
    except (OSError, IndexError):
        return "unknown"


def _row(timing: Timing) -> list[str]:
    milliseconds = [f"{1e3 * value:.3f}" for value in (timing.peer_seconds, timing.seconds, timing.fresh_seconds)]
    return [
        *(timing.graph, timing.metapath, f"{timing.edges:,}", milliseconds[0], timing.peer, *milliseconds[1:]),
        *(f"{timing.ratio:.1f}", f"{timing.fresh_ratio:.1f}", f"{timing.peak_bytes / _MIB:.2f}"),
    ]


def _values(timings: list[Timing], counts: Mapping[str, Mapping[str, int]]) -> dict[str, object]:
    large = [t for t in timings if t.edges >= _LEAST_EDGES]
    dense = [t for t in timings if t.metapath in _DENSE]
    return {
        "median_ratio": statistics.median(t.ratio for t in large),
        "dense_min_ratio": min(t.ratio for t in dense),
        "fresh_median_ratio": statistics.median(t.fresh_ratio for t in large),
        "fresh_dense_min_ratio": min(t.fresh_ratio for t in dense),
        "peak_excess_mib": max((t.peak_bytes - _PEAK_FACTOR * t.output_bytes) / _MIB for t in timings),
        "huge_pages": huge_pages(),
        "ratios": {f"{t.graph} {t.metapath}": t.ratio for t in large},
        "expansions": {name: dict(ways) for name, ways in counts.items()},
        "expansions_of_naive": {name: ways["planned"] / ways["naive"] for name, ways in counts.items()},
        "expansions_above_a_peer": sum(ways["planned"] > min(ways.values()) for ways in counts.values()),
    }


def with_sgb() -> Geometry:
    """The default design's geometry with the engine sgb alone: no other one has work here."""
    return replace(default_design().geometry, engines=("sgb",))


def _fresh_seconds(overlay: SemanticRun) -> float:
    overlay.release()
    return _seconds(overlay.run)


def _seconds(work: Callable[[], object]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


if __name__ == "__main__":
    main()
