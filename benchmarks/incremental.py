# SPDX-License-Identifier: Apache-2.0
"""Semantic graphs of a public graph (with ``$HETFAB_DATA``) after changes of some edges: updated, and rebuilt.

Half of the changed edges go and as many new ones come, drawn evenly, in each relation and alike in its reverse. The
update counts the paths that changed; the rebuild is ``build_semantic_graphs`` on the changed graph, by the compiled
builder, to lists of edges. Both have the changed graph before them; ``change`` is what ``with_edges`` takes to make
it, and ``ratio_with_change`` counts it for the update alone. Medians of processor time of this thread; after each
update all semantic graphs are compared.
"""

import os
import statistics
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.report import Report, argument_parser, publish
from hetfab.driver.graph.changing import ChangingSemanticGraphs
from hetfab.driver.graph.heterograph import Edges, HeteroGraph
from hetfab.driver.graph.npz import read_graph
from hetfab.driver.graph.semantic import adjacencies
from hetfab.driver.graph.summary import reverse_pairs
from hetfab.driver.semantic_graphs import build_semantic_graphs
from hetfab.hls.build.semantic import SemanticGraphBuilder
from hetfab.overlay.model.schema import Relation
from hetfab.overlay.semantic.plan import plan_semantic_graphs

GRAPH, SHARE, REPEATS = "dblp", 0.01, 5
Change = tuple[Mapping[Relation, Edges], Mapping[Relation, Edges]]


def random_change(graph: HeteroGraph, share: float, rng: np.random.Generator) -> Change:
    """Edges to add and to remove, of each relation and its reverse."""
    names, done = reverse_pairs(graph), set()
    added, removed = {}, {}
    for relation, edges in graph.relations.items():
        if relation.name in done:
            continue
        count = round(share * len(edges.source) / 2)
        chosen = rng.choice(len(edges.source), count, replace=False)
        gone = Edges(edges.source[chosen], edges.destination[chosen])
        ends = (graph.counts[relation.source], graph.counts[relation.destination])
        source, destination = (rng.integers(0, end, count).astype(edges.source.dtype) for end in ends)
        added[relation], removed[relation] = Edges(source, destination), gone
        if relation.name in names:
            reverse = graph.relation(names[relation.name])
            added[reverse] = Edges(destination, source)
            removed[reverse] = Edges(gone.destination, gone.source)
            done.add(reverse.name)
    return added, removed


def milliseconds(begin: float) -> float:
    """Processor time of this thread since then."""
    return 1e3 * (time.thread_time() - begin)


def measure(graph: HeteroGraph, share: float) -> dict[str, Any]:
    """Times of updates and of rebuilds."""
    rng = np.random.default_rng(0)
    paths = [graph.metapath(name) for name in graph.metapaths]
    begin = time.thread_time()
    semantic = ChangingSemanticGraphs(graph, paths)
    first = milliseconds(begin)
    times: dict[str, list[float]] = {name: [] for name in ("change", "update", "list", "rebuild", "builder")}
    changed_rows: list[float] = []
    equal, edges = True, 0
    build_semantic_graphs(graph, paths)
    for _ in range(REPEATS):
        added, removed = random_change(semantic.graph, share, rng)
        edges = sum(len(each.source) for change in (added, removed) for each in change.values())
        begin = time.thread_time()
        changed = semantic.graph.with_edges(added, removed)
        times["change"].append(milliseconds(begin))
        begin = time.thread_time()
        rows = semantic.follow(changed, added, removed)
        times["update"].append(milliseconds(begin))
        changed_rows.append(sum(map(len, rows.values())) / sum(changed.counts[path[0].source] for path in paths))
        begin = time.thread_time()
        found = semantic.edges()
        times["list"].append(milliseconds(begin))
        begin = time.thread_time()
        expected = build_semantic_graphs(changed, paths).graphs
        times["rebuild"].append(milliseconds(begin))
        times["builder"].append(_builder_alone(changed))
        equal &= all(
            np.array_equal(ours, theirs)
            for path in paths
            for ours, theirs in zip(found[path], expected[path], strict=True)
        )
    medians = {f"{name}_ms": statistics.median(values) for name, values in times.items()}
    return {
        "edges": sum(len(each.source) for each in graph.relations.values()),
        "changed_edges": edges,
        "changed_rows_share": statistics.median(changed_rows),
        "equal": equal,
        "first_ms": first,
        **medians,
        "ratio": medians["rebuild_ms"] / medians["update_ms"],
        "ratio_with_change": medians["rebuild_ms"] / (medians["change_ms"] + medians["update_ms"]),
        "ratio_with_lists": medians["rebuild_ms"] / (medians["update_ms"] + medians["list_ms"]),
    }


def _builder_alone(graph: HeteroGraph) -> float:
    """Of a rebuild, the compiled builder's steps alone: relations in place, plan made, nothing copied."""
    relations = adjacencies(graph)
    plan = plan_semantic_graphs(graph.metapaths, relations, reverse_pairs(graph))
    builder = SemanticGraphBuilder(plan, {relation.name: found for relation, found in relations.items()})
    begin = time.thread_time()
    builder.build()
    return milliseconds(begin)


def main() -> None:
    """Runs the benchmark."""
    parser = argument_parser(__doc__)
    parser.add_argument("--graph", default=GRAPH, help=f"the public graph (default {GRAPH})")
    parser.add_argument("--share", type=float, default=SHARE, help=f"share of the edges (default {SHARE})")
    arguments = parser.parse_args()
    graph = read_graph(Path(os.environ["HETFAB_DATA"]) / arguments.graph / "graph.npz")
    found = measure(graph, arguments.share)
    title = f"Semantic graphs of {arguments.graph} after changes of {arguments.share:.1%} of the edges, measured"
    publish(Report(title, ["figure", "value"], list(map(list, found.items())), found), arguments.as_json)


if __name__ == "__main__":
    main()
