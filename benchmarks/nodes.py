# SPDX-License-Identifier: Apache-2.0
"""Time to predict 1 node, 100 nodes and all nodes on the emulated overlay, and on graphs of growing size.

Of a public model (with ``$HETFAB_DATA``): the times of nodes hold finding what they need, binding, loading and running;
those of all nodes the same for the whole graph. What is made once for a graph is made before: edges in the order of
destinations, semantic graphs, fusion weights. Of generated graphs: one node of an RGCN of two layers, with the same
mean degrees at every size. Medians of processor time of this thread; logits are compared with the full prediction.
"""

import os
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.large_graph import compiled_rgcn, large_graph
from benchmarks.model_measure import compiled_files
from benchmarks.report import Report, argument_parser, publish
from hetfab.driver.emulated import EmulatedTransport
from hetfab.driver.graph.graph_rows import GraphRows
from hetfab.driver.graph.npz import read_graph
from hetfab.driver.layer_runs import LayerRuns
from hetfab.driver.node_runs import NodeRuns
from hetfab.driver.session import Session
from hetfab.overlay.bind import bind
from hetfab.overlay.board import read_board
from hetfab.overlay.program import read_program

MODEL = "dblp_han"
SIZES = (10_000, 100_000, 1_000_000)
_EDGES_A_NODE = 20
_REPEATS = 9


def median_ms(work: Callable[[], object], repeats: int = _REPEATS) -> float:
    """Milliseconds of this thread, after a call that is not counted."""
    found = []
    for _ in range(repeats + 1):
        begin = time.thread_time()
        work()
        found.append(1e3 * (time.thread_time() - begin))
    return statistics.median(found[1:])


def model_figures(name: str, folder: Path, data: Path, board: str) -> dict[str, Any]:
    """Times of a public model."""
    graph = read_graph(data / name.partition("_")[0] / "graph.npz")
    program = read_program(compiled_files(name, folder, graph, data, board)[1])
    memory = read_board(program.design.board).assumed_contiguous_bytes
    rows = GraphRows(program, graph)
    arrays = rows.arrays()
    rng = np.random.default_rng(0)
    with EmulatedTransport(program.design) as transport:
        session = Session(transport, program.design)
        logits = session.run(bind(program, arrays)).logits
        layers = LayerRuns(rows, memory)
        fusion = layers.run(session, layers.plan()).fusion if layers.fusion_weights() else {}
        runs = NodeRuns(rows, memory, fusion)
        equal, vertices = True, []

        def predict(count: int) -> None:
            nonlocal equal
            nodes = rng.choice(len(logits), count, replace=False)
            found = runs.predict(session, nodes)
            equal &= bool(np.array_equal(found.result.logits, logits[nodes]))
            vertices.append(sum(found.vertices.values()))

        times = {count: median_ms(partial(predict, count)) for count in (1, 100)}
        full = median_ms(lambda: session.run(bind(program, arrays)), 3)
    return {
        "ms_1_node": times[1],
        "ms_100_nodes": times[100],
        "ms_full": full,
        "equal": equal,
        "vertices_1_node": statistics.median(vertices[: _REPEATS + 1]),
        "vertices_100_nodes": statistics.median(vertices[_REPEATS + 1 :]),
        "vertices": sum(graph.counts.values()),
    }


def growth() -> dict[str, float]:
    """Milliseconds of one node on generated graphs, by the number of nodes."""
    program = compiled_rgcn()
    memory = read_board(program.design.board).assumed_contiguous_bytes
    found = {}
    with EmulatedTransport(program.design) as transport:
        session = Session(transport, program.design)
        for size in SIZES:
            graph = large_graph(size, _EDGES_A_NODE * size)
            runs = NodeRuns(GraphRows(program, graph), memory)
            found[str(size)] = median_ms(partial(runs.predict, session, np.array([size // 4])))
    return found


def report(model: str, found: dict[str, Any], by_size: dict[str, float]) -> Report:
    """The figures as a table."""
    rows: list[list[object]] = [[f"{model} {name}", value] for name, value in found.items()]
    rows += [[f"ms of 1 node of {int(size):,}", value] for size, value in by_size.items()]
    values = {"model": model} | found | {"ms_1_node_by_nodes": by_size}
    return Report("Predictions of some nodes on the emulated overlay, measured", ["figure", "value"], rows, values)


def main() -> None:
    """Runs the benchmark."""
    parser = argument_parser(__doc__)
    parser.add_argument("--model", default=MODEL, help=f"the public model (default {MODEL})")
    parser.add_argument("--board", default="zcu104", help="board of the default design (default zcu104)")
    parser.add_argument("--folder", type=Path, help="where quantized models and programs are kept for further runs")
    arguments = parser.parse_args()
    data = os.environ.get("HETFAB_DATA")
    with tempfile.TemporaryDirectory() as scratch:
        folder = arguments.folder or Path(scratch)
        found = {} if data is None else model_figures(arguments.model, folder, Path(data), arguments.board)
    publish(report(arguments.model, found, growth()), arguments.as_json)


if __name__ == "__main__":
    main()
